// SPDX-License-Identifier: Apache-2.0

package export

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"sync"

	"tetragon/internal/metrics"
)

// SubscribeOptions say what a subscriber gets.
type SubscribeOptions struct {
	Queue      int     // events that may wait; 0: as many as there is memory for
	QueueBytes int     // bytes that may wait; 0: what there is in Options.StreamBytes
	Filter     Matcher // nil: everything
	Fields     Pruner  // nil: events are whole
}

const subscriberChunk = 16 << 10

// Subscription is one reader of the event stream. Next belongs to one goroutine; Close may be called from any.
type Subscription struct {
	set   *Set
	sink  *sink
	stage *metrics.Stage

	chunk *chunk // of the last pop; nil: none
	rest  []byte // of it, events that were not returned yet
	given bool   // an event of it is the caller's

	once sync.Once
}

// Subscribe adds a reader, which gets events from the next batch on. It must be closed.
func (s *Set) Subscribe(o SubscribeOptions) (*Subscription, error) {
	if o.Queue <= 0 {
		o.Queue = math.MaxInt
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = math.MaxInt
	}
	name := fmt.Sprintf("%s#%d", streamStage, s.next.Add(1))
	own := s.opts.Ledger.Stage(name, reasons[:]...)
	k := &sink{
		name: name, format: wire, match: o.Filter, prune: o.Fields, q: newQueue(subscriberChunk, o.QueueBytes, o.Queue, s.now),
		stages: []*metrics.Stage{own, s.all},
	}
	k.q.pool = &s.streams
	if err := s.add(k); err != nil {
		s.opts.Ledger.Remove(own)
		return nil, err
	}
	return &Subscription{set: s, sink: k, stage: own}, nil
}

// Next returns the next event as a GetEventsResponse in wire format. The bytes are valid until the next call, which also
// says that the event was delivered. After the set was closed it returns what waits, then ErrClosed.
func (s *Subscription) Next(ctx context.Context) ([]byte, error) {
	if s.given {
		s.given = false
		s.chunk.taken.Add(1)
	}
	for {
		if len(s.rest) > 0 {
			n := int(binary.LittleEndian.Uint32(s.rest))
			ev := s.rest[4 : 4+n]
			s.rest, s.given = s.rest[4+n:], true
			return ev, nil
		}
		if s.chunk != nil {
			s.sink.settle(s.chunk, closed, 0)
			s.chunk = nil
		}
		c, last := s.sink.q.pop()
		if last {
			return nil, ErrClosed
		}
		if c != nil {
			s.chunk, s.rest = c, c.buf
			continue
		}
		select {
		case <-s.sink.q.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Balance is what the subscriber saw, got and lost so far.
func (s *Subscription) Balance() metrics.Balance { return s.stage.Read() }

// Close ends the subscription: the subscriber has left. What it did not take is counted so, and what it has taken as
// delivered, but for the event of the last Next; its counts stay in those of all subscribers.
func (s *Subscription) Close() {
	s.once.Do(func() {
		s.set.remove(s.sink)
		s.sink.abandon(left)
		s.set.opts.Ledger.Remove(s.stage)
	})
}

// frame writes the length of an event into the four bytes in front of it.
func frame(b []byte) { binary.LittleEndian.PutUint32(b, uint32(len(b)-4)) }
