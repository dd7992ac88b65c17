// SPDX-License-Identifier: Apache-2.0

package export

import (
	"sync"
	"sync/atomic"
	"time"
)

// A queue holds encoded events between the lane and one sink. It is bounded in bytes and in events, so that a sink that
// stands still costs no more than it was given; queues of streams share a pool. Events lie one after the other in chunks of a fixed size, which are
// reused, those of a burst too: what a flood allocates makes the collector run in the middle of it, for a third of the
// flood's cost (decision 0014). Chunks that nobody needs for two collections are given back.
//
// Producer (the lane) and consumer (the sink's goroutine) are one goroutine each. The producer fills a chunk of its own
// and takes the lock once a chunk or batch, not once an event. The last chunk, when it still has room, is taken back at
// the next batch: small batches do not leave half-empty chunks behind.
type queue struct {
	chunkBytes int
	maxBytes   int
	maxEvents  int
	pool       *pool         // of all streams; nil: the queue has maxBytes for itself
	wake       chan struct{} // a token when there is something to take, or the queue was closed

	now func() time.Time

	// Of the producer.
	open *chunk // being filled; nil between batches
	room int    // events that may still be added in this batch

	mu sync.Mutex

	ready  []*chunk // oldest first
	base   []*chunk // what ready is a part of
	out    *chunk   // the consumer's, nil: none
	free   sync.Pool
	bytes  int       // capacity of all chunks in use; changed by grow
	events int       // in ready, and in the chunk that the consumer works on
	moved  time.Time // when the consumer last took a chunk or gave one back
	closed bool      // takes nothing more
	gone   bool      // and nobody will take what is in it
}

// chunk holds whole events, in the framing of its sink.
type chunk struct {
	buf      []byte
	n        int          // events
	capacity int          // as counted in queue.bytes
	taken    atomic.Int64 // events that the consumer is done with, where it takes them one by one
}

// pool is the memory that all streams share for what waits. Each may have as much as nobody has: one that falls behind gets
// half of it, two a third each, and there is always something left for the next (as buffers of switches are shared: Choudhury
// and Hahne, Dynamic Queue Length Thresholds, 1998). What a stream gets in any case is leastRoom.
type pool struct {
	size int
	used atomic.Int64
}

const leastRoom = 64 << 10

// limit is how many bytes the queue may have.
func (q *queue) limit() int {
	if q.pool == nil {
		return q.maxBytes
	}
	return min(q.maxBytes, max(q.pool.size-int(q.pool.used.Load()), leastRoom))
}

// grow counts bytes that are used, or not any more.
// Requires: q.mu held.
func (q *queue) grow(n int) {
	q.bytes += n
	if q.pool != nil {
		q.pool.used.Add(int64(n))
	}
}

func newQueue(chunkBytes, maxBytes, maxEvents int, now func() time.Time) *queue {
	return &queue{
		chunkBytes: chunkBytes,
		maxBytes:   max(maxBytes, chunkBytes),
		maxEvents:  maxEvents,
		now:        now,
		wake:       make(chan struct{}, 1),
	}
}

// verdict says whether an event may be added.
type verdict uint8

const (
	accepted verdict = iota
	full
	shut
)

// reserve makes sure that one more event can be added to q.open. Producer only.
func (q *queue) reserve() verdict {
	if q.open != nil && q.room > 0 && len(q.open.buf) < q.chunkBytes-q.chunkBytes/8 {
		return accepted
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return shut
	}
	if q.open != nil && q.room <= 0 {
		return full
	}
	if q.open != nil {
		q.push()
		q.signal()
	}
	q.room = q.maxEvents - q.events
	if q.room <= 0 {
		return full
	}
	if last := len(q.ready) - 1; last >= 0 && len(q.ready[last].buf) < q.chunkBytes-q.chunkBytes/8 {
		q.open = q.ready[last]
		q.ready = q.ready[:last]
		q.events -= q.open.n
		return accepted
	}
	if q.bytes+q.chunkBytes > q.limit() {
		return full
	}
	if c, ok := q.free.Get().(*chunk); ok {
		q.open = c
	} else {
		q.open = &chunk{buf: make([]byte, 0, q.chunkBytes), capacity: q.chunkBytes}
	}
	q.grow(q.open.capacity)
	return accepted
}

// commit counts the event that was just added to q.open. Producer only.
func (q *queue) commit() {
	q.open.n++
	q.room--
}

// flush hands what was added to the consumer. It returns how many events nobody will take. Producer only.
func (q *queue) flush() (lost int) {
	if q.open == nil {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.gone {
		lost = q.open.n
		q.grow(-q.open.capacity)
		q.open = nil
		return lost
	}
	q.push()
	q.signal()
	return 0
}

// push moves the open chunk to ready.
// Requires: q.mu held, q.open not nil.
func (q *queue) push() {
	c := q.open
	q.open = nil
	q.grow(cap(c.buf) - c.capacity) // it has grown when an event was larger than what was left
	c.capacity = cap(c.buf)
	if c.n == 0 {
		q.recycle(c)
		return
	}
	q.events += c.n
	if len(q.ready) == cap(q.ready) && len(q.ready) <= cap(q.base)/2 {
		q.ready = append(q.base[:0], q.ready...) // there is room in front
	}
	q.ready = append(q.ready, c)
	if cap(q.ready) > cap(q.base) {
		q.base = q.ready[:0]
	}
}

// recycle puts a chunk away, or leaves it to the garbage collector.
// Requires: q.mu held.
func (q *queue) recycle(c *chunk) {
	q.grow(-c.capacity)
	if c.capacity != q.chunkBytes || q.gone {
		return
	}
	c.buf, c.n = c.buf[:0], 0
	c.taken.Store(0)
	q.free.Put(c)
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// pop returns the oldest chunk, which is the consumer's until release. It returns nil when there is none, with last set
// when there will never be one again.
func (q *queue) pop() (c *chunk, last bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.ready) == 0 || q.gone {
		q.gone = q.gone || q.closed
		return nil, q.gone
	}
	c, q.moved = q.ready[0], q.now()
	q.out, q.ready[0] = c, nil
	if q.ready = q.ready[1:]; len(q.ready) == 0 {
		q.ready = q.base[:0]
	}
	return c, false
}

// release gives a chunk back. false says that its events were counted by abandon meanwhile.
func (q *queue) release(c *chunk) (counts bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.gone {
		return false
	}
	q.events -= c.n
	q.out = nil
	q.recycle(c)
	q.moved = q.now()
	return true
}

// close lets the consumer have what is there and takes nothing more.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.signal()
}

// abandon ends the queue at once. It returns how many events nobody took, and how many of the consumer's chunk it was done
// with.
func (q *queue) abandon() (left, taken int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.gone {
		if q.out != nil {
			taken = int(q.out.taken.Load())
		}
		left = q.events - taken
	}
	// The lane may be filling a chunk; flush gives that back.
	open := 0
	for _, c := range q.ready {
		open += c.capacity
	}
	if q.out != nil {
		open += q.out.capacity
	}
	q.grow(-open)
	q.closed, q.gone = true, true
	q.ready, q.out, q.events = nil, nil, 0
	q.signal()
	return left, taken
}

// stuckAfter is how long a consumer may take for a chunk before it is not waited for any more.
const stuckAfter = 250 * time.Millisecond

// behind says whether more than half of what the queue may have is taken, by a consumer that gets on with it.
func (q *queue) behind() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes > q.limit()/2 && !q.gone && q.now().Sub(q.moved) < stuckAfter
}

// upToDate says whether next to nothing waits.
func (q *queue) upToDate() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes <= max(q.limit()/16, q.chunkBytes)
}

// busy says whether events wait, those of the consumer's chunk included.
func (q *queue) busy() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.events > 0
}

// state tells of the queue from outside.
func (q *queue) state(name string) Queue {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Queue{Sink: name, Events: q.events, Bytes: q.bytes, MaxBytes: q.limit()}
}
