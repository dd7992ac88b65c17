// SPDX-License-Identifier: Apache-2.0

// Package process is the table of processes: an exact mirror of those that live, and of the dead those that somebody
// still refers to.
//
// event/enrich feeds it, in the order in which things happened, and looks up processes and parents in it.
//
// Not here: making a process out of a record (enrich), how it is written (encode).
//
// Memory is bounded: living processes by the kernel's own limit, dead ones by Options.Dead. An entry stays while it
// lives or a child of it is in the table, and a short while longer for stragglers; the oldest dead go first. Entries that
// were taken out are used again, but not before Reuse says that no event holds them any more.
// Not safe for concurrent use: the event lane owns it.
package process

import "tetragon/internal/event"

// Options of a table.
type Options struct {
	Dead int // at most so many dead processes are kept; 65536 when 0
	Tail int // dead processes that nobody refers to are kept until so many more have died; 256 when 0
}

// Entry is a process in the table.
type Entry struct {
	event.Process
	Start   uint64 // start_boottime of the thread group, ns: tells two users of one pid apart; 0 unknown
	Kthread bool   // a kernel thread

	parent  *Entry // which counts this entry in its refs; nil when it was not known
	refs    int32  // children in the table
	alive   int32  // of them, those that live
	dead    bool
	removed bool
	queued  bool   // in one of the table's queues
	mark    uint64 // the last full snapshot that saw it
}

// Refs is the number of references to the process as the wire contract counts them: its own while it lives, and one for
// each child that lives.
func (e *Entry) Refs() uint32 {
	if e.dead {
		return uint32(e.alive)
	}
	return uint32(e.alive) + 1
}

// Alive says whether the process is the present image of a living thread group.
func (e *Entry) Alive() bool { return !e.dead }

// Stats count what happened to the table.
type Stats struct {
	Live, Dead int
	Evicted    uint64 // dead entries removed, for whatever reason
	EarlyLost  uint64 // of these, entries that a child still referred to
	Misses     uint64 // look-ups that found nothing
}

// Table is the process table.
type Table struct {
	opts  Options
	byKey map[event.Key]*Entry
	live  map[uint32]*Entry
	nDead int
	// Dead entries in the order of their death: those that nobody referred to then, which is a ring of which the next
	// place is at, and those that a child did. An entry of either may have been removed since.
	tail   []*Entry
	at     int
	elders []*Entry

	recent     *Entry   // found last; processes are often looked up twice in a row
	gone, free []*Entry // removed since Reuse was called, and before
	stats      Stats
}

// New returns an empty table.
func New(o Options) *Table {
	if o.Dead == 0 {
		o.Dead = 65536
	}
	if o.Tail == 0 {
		o.Tail = 256
	}
	return &Table{
		opts: o, byKey: make(map[event.Key]*Entry, 1024), live: make(map[uint32]*Entry, 1024), tail: make([]*Entry, o.Tail),
	}
}

// Make returns an empty entry to be filled and added.
func (t *Table) Make() *Entry {
	last := len(t.free) - 1
	if last < 0 {
		return new(Entry)
	}
	e := t.free[last]
	t.free = t.free[:last]
	kept := e.Encoded
	kept.Reset()
	*e = Entry{Process: event.Process{Encoded: kept}}
	return e
}

// maxFree entries wait to be used again; more were needed by a burst.
const maxFree = 1024

// Reuse says that nothing outside the table refers to entries that are not in it: Make may return them.
func (t *Table) Reuse() {
	n := min(len(t.gone), maxFree-len(t.free))
	t.free = append(t.free, t.gone[:n]...)
	clear(t.gone)
	t.gone = t.gone[:0]
}

// Get returns the process with this key, dead or alive, or nil.
func (t *Table) Get(k event.Key) *Entry {
	e := t.find(k)
	if e == nil {
		t.stats.Misses++
	}
	return e
}

func (t *Table) find(k event.Key) *Entry {
	if t.recent != nil && t.recent.Key == k {
		return t.recent
	}
	e := t.byKey[k]
	if e != nil {
		t.recent = e
	}
	return e
}

// Live returns the present image of pid, or nil.
func (t *Table) Live(pid uint32) *Entry { return t.live[pid] }

// execTakes is how long it may take at most from an exec's point of no return until it is told, ns: it reads the program
// from disk meanwhile. Another user of the pid begins later.
const execTakes = 5e9

// elderReach is how many of the youngest elders are looked at by Image.
const elderReach = 256

// Image returns the image of pid that something belongs to which happened at a time, by the boot clock, or nil: the last
// one that began by then. exec is when the last exec of pid before that time got past the point of no return, 0 if it
// did none: an image that began before it is not meant, but the one after it. Processes that ended are found among those
// that did last.
func (t *Table) Image(pid uint32, at, exec uint64) *Entry {
	last := t.live[pid]
	if last != nil && last.Key.Ktime <= at && last.Key.Ktime >= exec {
		return last // the living one is the youngest
	}
	var next *Entry
	look := func(e *Entry) {
		switch {
		case e == nil || e.removed || e.Key.Pid != pid:
		case e.Key.Ktime > at:
			if next == nil || e.Key.Ktime < next.Key.Ktime {
				next = e
			}
		case last == nil || last.Key.Ktime > at || e.Key.Ktime > last.Key.Ktime:
			last = e
		}
	}
	look(last)
	for _, e := range t.tail {
		look(e)
	}
	for _, e := range t.elders[max(0, len(t.elders)-elderReach):] {
		look(e)
	}
	if last != nil && last.Key.Ktime <= at && last.Key.Ktime >= exec {
		return last
	}
	if next != nil && exec != 0 && next.Key.Ktime >= exec && next.Key.Ktime-exec < execTakes {
		return next
	}
	return nil
}

// Parent returns the parent of an entry that is or was in the table, dead or alive, or nil.
func (t *Table) Parent(e *Entry) *Entry {
	if p := e.parent; p != nil && !p.removed {
		return p
	}
	return t.Get(e.Parent)
}

// Add puts in a living process. If pid has an entry already, that one is dead from now on: it was replaced by an exec,
// or its end was lost. A process whose key is there already is not put in again.
func (t *Table) Add(e *Entry) {
	if _, known := t.byKey[e.Key]; known {
		return
	}
	t.byKey[e.Key] = e
	old := t.live[e.Key.Pid]
	p := old // an exec without a fork comes from what was before, one after a fork from the parent of that
	if p != nil && p.Key != e.Parent {
		p = p.parent
	}
	if p == nil || p.removed || p.Key != e.Parent {
		p = t.find(e.Parent)
	}
	if p != nil && p != e {
		e.parent = p
		p.refs++
		p.alive++
	}
	t.live[e.Key.Pid] = e
	if old != nil {
		t.bury(old)
	}
}

// Exit marks a process as dead.
func (t *Table) Exit(e *Entry) {
	if e.dead {
		return
	}
	if t.live[e.Key.Pid] == e {
		delete(t.live, e.Key.Pid)
	}
	t.bury(e)
}

func (t *Table) bury(e *Entry) {
	e.dead, e.queued = true, true
	t.nDead++
	if e.parent != nil {
		e.parent.alive--
	}
	if e.refs == 0 { // nobody will ask for it but a straggler
		old := t.tail[t.at]
		t.tail[t.at] = e
		if t.at++; t.at == len(t.tail) {
			t.at = 0
		}
		if old != nil {
			old.queued = false
			if old.refs == 0 { // else a late child refers to it: it goes with that
				t.remove(old)
			}
		}
	} else {
		t.elders = append(t.elders, e)
	}
	t.trim()
	// Most elders are removed when their last child is; what is left of them in the queue is dropped here, at a cost
	// that the burials since the last time have paid for.
	if len(t.elders) > 2*t.nDead+1024 {
		kept := t.elders[:0]
		for _, e := range t.elders {
			if !e.removed {
				kept = append(kept, e)
			}
		}
		clear(t.elders[len(kept):])
		t.elders = kept
	}
}

// trim removes the eldest of the dead until there are as many as may be.
func (t *Table) trim() {
	for t.nDead > t.opts.Dead && len(t.elders) > 0 {
		old := t.elders[0]
		t.elders[0] = nil
		t.elders = t.elders[1:]
		old.queued = false
		if !old.removed {
			t.stats.EarlyLost++
			t.remove(old)
		}
	}
}

// Keep changes how many dead processes are kept at most.
func (t *Table) Keep(dead int) {
	if dead > 0 && dead != t.opts.Dead {
		t.opts.Dead = dead
		t.trim()
	}
}

// remove takes a dead entry out, and with it the ancestors that only it held.
func (t *Table) remove(e *Entry) {
	for !e.removed {
		e.removed = true
		delete(t.byKey, e.Key)
		t.nDead--
		t.stats.Evicted++
		if t.recent == e {
			t.recent = nil
		}
		p := e.parent
		e.parent = nil // else a chain of removed ones would stay in memory
		// What a child or a queue still refers to is left to the garbage collector, and so is what holds much.
		if e.refs == 0 && !e.queued && cap(e.Encoded.JSON)+cap(e.Encoded.Wire) <= maxKept {
			t.gone = append(t.gone, e)
		}
		if p == nil {
			return
		}
		p.refs--
		if !p.dead || p.refs > 0 {
			return
		}
		e = p
	}
}

// maxKept bounds the encoded form that an entry keeps room for when it is used again.
const maxKept = 4096

// Mark notes that a full snapshot saw e.
func (t *Table) Mark(e *Entry, snapshot uint64) { e.mark = snapshot }

// Unmarked calls f for each living process that the given snapshot did not see and that began before it did, by the
// boot clock: their ends were lost.
func (t *Table) Unmarked(snapshot, began uint64, f func(*Entry)) {
	for _, e := range t.live {
		if e.mark != snapshot && e.Key.Ktime < began && e.Key != event.KernelKey {
			f(e)
		}
	}
}

// Each calls f for every entry, in no order.
func (t *Table) Each(f func(*Entry)) {
	for _, e := range t.byKey {
		f(e)
	}
}

// Capacity is how many dead processes are kept at most, beside the living.
func (t *Table) Capacity() int { return t.opts.Dead }

// Stats returns the counts.
func (t *Table) Stats() Stats {
	s := t.stats
	s.Live, s.Dead = len(t.live), t.nDead
	return s
}
