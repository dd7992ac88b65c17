// SPDX-License-Identifier: Apache-2.0

package export

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tetragon/internal/event"
	"tetragon/internal/metrics"
)

// Encoder writes an event. Both methods append to b and do not keep ev.
type Encoder interface {
	AppendJSON(b []byte, ev *event.Event) []byte // one line, without its end
	AppendWire(b []byte, ev *event.Event) []byte // a GetEventsResponse in protobuf's wire format
}

// Matcher says whether a sink wants an event. It is called in the lane.
type Matcher interface {
	Match(ev *event.Event) bool
}

// Pruner leaves fields out of encoded events. Both methods append to b and do not keep what they are given.
type Pruner interface {
	AppendJSON(b, event []byte) []byte // a line as Encoder writes it
	AppendWire(b, event []byte) []byte
}

// Options of a Set.
type Options struct {
	Encoder     Encoder
	Ledger      *metrics.Ledger
	Lane        *metrics.Lane // counters for Prometheus; nil: not counted
	Log         *slog.Logger  // nil: silent
	StreamBytes int           // that may wait for all subscribers together; 0: DefaultStreamBytes
	Now         func() time.Time
}

// DefaultStreamBytes is most of a second of 50,000 events, for each of two clients.
const DefaultStreamBytes = 64 << 20

// streamStage is the stage of all subscribers together.
const streamStage = "grpc"

// Set is all sinks. Batch and Close belong to the lane; the rest is safe for concurrent use.
type Set struct {
	opts Options
	lane *metrics.Lane
	log  *slog.Logger
	now  func() time.Time

	all     *metrics.Stage // of all subscribers together, also of those that have gone
	next    atomic.Uint64  // number of the last subscriber
	streams pool           // what waits for them

	sinks atomic.Pointer[[]*sink] // replaced, never changed

	mu sync.Mutex // held to replace sinks

	closed bool

	whole [numFormats][]byte // scratch: an event that was encoded only to be pruned
}

// NewSet returns a set without sinks. Events of a batch that no sink takes are not counted here.
func NewSet(o Options) *Set {
	s := &Set{opts: o, lane: o.Lane, log: o.Log, now: o.Now}
	if s.lane == nil {
		s.lane = new(metrics.Lane)
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.sinks.Store(new([]*sink))
	s.streams.size = o.StreamBytes
	if s.streams.size <= 0 {
		s.streams.size = DefaultStreamBytes
	}
	s.all = o.Ledger.Stage(streamStage, reasons[:]...)
	return s
}

// ErrClosed says that the sink, or the whole set, was closed.
var ErrClosed = errors.New("event stream closed")

func (s *Set) add(k *sink) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	sinks := append(slices.Clone(*s.sinks.Load()), k)
	s.sinks.Store(&sinks)
	return nil
}

func (s *Set) remove(k *sink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sinks := slices.DeleteFunc(slices.Clone(*s.sinks.Load()), func(o *sink) bool { return o == k })
	s.sinks.Store(&sinks)
}

// Batch gives events to all sinks. It keeps neither the slice nor the events, and never waits. Lane only; also to be
// called with no events from time to time, so that reports of losses come out.
func (s *Set) Batch(evs []event.Event) {
	sinks := *s.sinks.Load()
	if len(sinks) == 0 {
		return
	}
	now := s.now()
	for _, k := range sinks {
		k.choose(now)
		k.slow = k.slow && !k.q.upToDate()
	}
	for i := range evs {
		s.give(&evs[i], sinks, now)
	}
	for _, k := range sinks {
		k.report(s.opts.Encoder, now, false)
		k.flush(s.lane)
	}
}

// Behind says whether a sink has more than half of its queue to write, and is writing: a lane that has somewhere else to leave
// events for a while loses none then. What stands still is not waited for, as a terminal that nobody reads, nor is a stream
// that has lost events: that one is slow, and not late. Lane only.
func (s *Set) Behind() bool {
	for _, k := range *s.sinks.Load() {
		if k.q.behind() && !k.slow {
			return true
		}
	}
	return false
}

// Choice is what a sink takes.
type Choice struct {
	Filter    Matcher // nil: everything
	Fields    Pruner  // nil: events are whole
	RateLimit int     // events a minute; negative: no limit
}

// Choose changes what a file or standard output takes, by the name of the sink, from the next batch on.
func (s *Set) Choose(name string, c Choice) {
	for _, k := range *s.sinks.Load() {
		if k.name == name {
			k.next.Store(&c)
		}
	}
}

// choose takes over a change. Lane only.
func (k *sink) choose(now time.Time) {
	if k.next.Load() == nil {
		return
	}
	if c := k.next.Swap(nil); c != nil {
		k.match, k.prune, k.limit = c.Filter, c.Fields, newLimiter(c.RateLimit, now)
	}
}

// Queue is what waits for one sink.
type Queue struct {
	Sink            string
	Events          int
	Bytes, MaxBytes int
}

// Queues tells what waits for each sink; all streams are one.
func (s *Set) Queues() []Queue {
	var out []Queue
	streams := Queue{Sink: streamStage, MaxBytes: s.streams.size}
	for _, k := range *s.sinks.Load() {
		q := k.q.state(k.name)
		if k.q.pool == nil {
			out = append(out, q)
			continue
		}
		streams.Events += q.Events
		streams.Bytes += q.Bytes
	}
	return append(out, streams)
}

// give encodes one event into the queues of the sinks that want it. Where two sinks share a format, the second copies
// what was encoded for the first.
func (s *Set) give(ev *event.Event, sinks []*sink, now time.Time) {
	var done [numFormats][]byte
	for _, k := range sinks {
		if !k.wants(ev, now) {
			continue
		}
		c := k.q.open
		at := len(c.buf)
		if k.format == wire {
			c.buf = append(c.buf, 0, 0, 0, 0) // the length, see frame
		}
		from := len(c.buf)
		switch {
		case k.prune != nil:
			if done[k.format] == nil {
				s.whole[k.format] = s.encode(s.whole[k.format][:0], k.format, ev)
				done[k.format] = s.whole[k.format]
			}
			c.buf = k.pruned(c.buf, done[k.format])
		case done[k.format] != nil:
			c.buf = append(c.buf, done[k.format]...)
		default:
			c.buf = s.encode(c.buf, k.format, ev)
		}
		if len(c.buf) == from { // an empty line would be a broken line
			c.buf = c.buf[:at]
			k.count.dropped[notEncodable]++
			continue
		}
		if k.prune == nil {
			done[k.format] = c.buf[from:]
		}
		k.finish(c, at)
		if k.exporter {
			k.count.lastTime = max(k.count.lastTime, ev.Time)
		}
	}
}

// encode adds an event to b.
func (s *Set) encode(b []byte, f format, ev *event.Event) []byte {
	if f == wire {
		return s.opts.Encoder.AppendWire(b, ev)
	}
	return s.opts.Encoder.AppendJSON(b, ev)
}

// pruned adds an encoded event to b without the fields that the sink does not want.
func (k *sink) pruned(b, event []byte) []byte {
	switch {
	case len(event) == 0: // it could not be encoded
		return b
	case k.format == wire:
		return k.prune.AppendWire(b, event)
	}
	return k.prune.AppendJSON(b, event)
}

// Close takes nothing more, writes out what waits until ctx ends, and closes the sinks. What is left then is counted as
// dropped. Streams get at most a second. Call it after the last Batch.
func (s *Set) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	sinks := *s.sinks.Load()
	s.sinks.Store(new([]*sink))
	s.mu.Unlock()

	now := s.now()
	for _, k := range sinks {
		k.report(s.opts.Encoder, now, true)
		k.flush(s.lane)
		k.q.close()
	}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var errs []error
	for _, k := range sinks {
		errs = append(errs, k.end(ctx, short))
	}
	return errors.Join(errs...)
}

// format is how the events in a queue are written.
type format uint8

const (
	lines      format = iota // JSON, each with its end of line
	wire                     // protobuf, each behind four bytes of length
	numFormats = iota
)

// The reasons why a sink drops an event, as indices into its stage.
const (
	filtered     = iota // its filters refuse it
	rateLimit           // more than the limit allows in this minute
	queueFull           // the sink did not keep up
	writeError          // the file or pipe refused it
	closed              // the agent stopped first
	left                // the client left first
	notEncodable        // the encoder wrote nothing
	numReasons   = iota
)

// QueueFull is the reason for events that a sink which does not keep up loses.
const QueueFull = "queue_full"

var reasons = [numReasons]string{
	filtered: "filtered", rateLimit: "rate_limit", queueFull: QueueFull, writeError: "write_error", closed: "closed", left: "left",
	notEncodable: "not_encodable",
}

// sink is one way out: what it wants, and the queue between the lane and the goroutine that serves it.
type sink struct {
	name     string
	format   format
	match    Matcher  // nil: everything
	prune    Pruner   // nil: events are whole
	limit    *limiter // nil: none
	losses   bool     // takes loss events, and reports its own
	exporter bool     // counts in the metrics of the file export
	q        *queue
	stages   []*metrics.Stage
	finished chan struct{} // closed when the consumer has ended; nil for a subscriber

	// Of the lane.
	count counts
	owed  debts
	slow  bool // a stream that has lost events since it last kept up

	next atomic.Pointer[Choice] // what the sink takes from the next batch on; nil: nothing has changed

	refused atomic.Uint64 // events dropped by write errors so far
	healthy atomic.Bool   // the last write went well
}

// counts are collected over a batch, to touch the shared counters once.
type counts struct {
	seen     uint64
	dropped  [numReasons]uint64
	taken    uint64
	lastTime int64
}

// wants decides whether the event goes into the queue, and counts it if not.
// Ensures: if true, k.q.open has room for it.
func (k *sink) wants(ev *event.Event, now time.Time) bool {
	if ev.Kind == event.KindLoss {
		if !k.losses {
			return false
		}
	} else {
		if k.match != nil && !k.match.Match(ev) {
			k.count.seen++
			k.count.dropped[filtered]++
			return false
		}
		if k.limit != nil && !k.limit.allow(now) {
			k.count.seen++
			k.drop(rateLimit, ev)
			return false
		}
	}
	k.count.seen++
	switch k.q.reserve() {
	case accepted:
		return true
	case full:
		k.slow = k.finished == nil
		k.drop(queueFull, ev)
	case shut:
		k.count.dropped[k.ended()]++
	}
	return false
}

func (k *sink) drop(reason int, ev *event.Event) {
	k.count.dropped[reason]++
	k.owed.add(reason, ev)
}

// finish completes the event that starts at c.buf[at].
func (k *sink) finish(c *chunk, at int) {
	if k.format == wire {
		frame(c.buf[at:])
	} else {
		c.buf = append(c.buf, '\n')
	}
	k.q.commit()
	k.count.taken++
}

// flush lets the consumer have the batch and moves its counts to the ledger.
func (k *sink) flush(lane *metrics.Lane) {
	if lost := k.q.flush(); lost > 0 {
		k.count.dropped[k.ended()] += uint64(lost)
	}
	c := &k.count
	if c.seen == 0 {
		return
	}
	for _, st := range k.stages {
		st.Seen(c.seen)
		for r, n := range c.dropped {
			if n > 0 {
				st.Drop(r, n)
			}
		}
	}
	if k.exporter {
		lane.Exported.Add(c.taken)
		lane.RateLimited.Add(c.dropped[rateLimit])
		if c.lastTime > lane.LastExported.Load() {
			lane.LastExported.Store(c.lastTime)
		}
	}
	if k.format == wire && !k.losses {
		lane.Overflowed.Add(c.dropped[queueFull])
	}
	*c = counts{}
}

// settle counts what became of a chunk, unless that was counted already.
func (k *sink) settle(c *chunk, reason int, lost int) {
	n := c.n // release recycles the chunk
	if !k.q.release(c) {
		return
	}
	for _, st := range k.stages {
		st.Deliver(uint64(n - lost))
		if lost > 0 {
			st.Drop(reason, uint64(lost))
		}
	}
}

// end waits for the consumer to finish with what is in the queue; a subscriber has only until short ends.
func (k *sink) end(ctx, short context.Context) error {
	if k.finished == nil {
		for k.q.busy() {
			select {
			case <-short.Done():
				k.abandon(closed)
			case <-time.After(time.Millisecond): // the client's pace is not ours to be told of
			}
		}
		return nil
	}
	select {
	case <-k.finished:
		return nil
	case <-ctx.Done():
	}
	if left := k.abandon(closed); left > 0 {
		return fmt.Errorf("close %s: %d events not written: %w", k.name, left, ctx.Err())
	}
	return nil
}

// abandon drops what is in the queue, for a reason, and counts what was taken of it before.
func (k *sink) abandon(reason int) int {
	rest, taken := k.q.abandon()
	for _, st := range k.stages {
		if taken > 0 {
			st.Deliver(uint64(taken))
		}
		if rest > 0 {
			st.Drop(reason, uint64(rest))
		}
	}
	return rest
}

// ended is the reason for what comes when the sink takes nothing any more: streams end before the set does only when the
// client leaves.
func (k *sink) ended() int {
	if k.finished == nil {
		return left
	}
	return closed
}

// countLines returns the number of lines in b.
func countLines(b []byte) int { return bytes.Count(b, []byte{'\n'}) }
