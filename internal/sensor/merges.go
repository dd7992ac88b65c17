// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"tetragon/internal/abi"
	"tetragon/internal/kernel"
	"tetragon/internal/policy/plan"
)

// merges has the kernel half tell what it counted of equal calls (bpf/stage/merge.h): when a window is over, when a process
// has ended, when programs go. It begins with the first policy that asks for it.
type merges struct {
	t    *tables
	prog *ebpf.Program
	log  func(msg string, args ...any)
	stop chan struct{}
	done chan struct{}
	used atomic.Bool // a program counts

	mu    sync.Mutex // one sweep at a time, which the kernel half relies on
	turn  uint64
	over  bool // no sweep any more
	empty int  // sweeps in a row since no program counts

	endedMu sync.Mutex
	ended   map[uint32]bool // processes that have ended since the last sweep
	full    uint64          // calls that were told for want of room, at the last look
}

// sweepEvery is how late a window's end may be noticed.
const sweepEvery = time.Second

// sweepRetry is how long a sweep waits for room in the ring, and how often it tries.
const (
	sweepRetry = 5 * time.Millisecond
	sweepTries = 400
)

func merging(p *plan.Program) bool {
	return slices.ContainsFunc(p.Rules, func(r plan.Rule) bool { return r.Do.Aggregate > 0 })
}

// startMerges makes what programs need that count. m.mu is held.
func (m *Manager) startMerges(f *kernel.Facts) error {
	if m.merges.Load() != nil {
		return nil
	}
	t := m.tables
	for _, name := range []string{"merges", "merges_ended"} {
		if err := t.grow(name); err != nil {
			return err
		}
	}
	// The next agent accounts for what has not been told when this one is killed.
	if err := t.pins.pinMap(t.coll.Maps["merges"], "merges"); err != nil {
		return err
	}
	j := &job{what: "the program that tells of merged calls", spec: t.lib.Programs["merge_sweep"].Copy()}
	if err := t.load([]*job{j}, f, m.o.Verbose); err != nil {
		return err
	}
	x := &merges{
		t: t, prog: j.prog, log: m.o.Log.Warn, stop: make(chan struct{}), done: make(chan struct{}), ended: make(map[uint32]bool),
	}
	m.merges.Store(x)
	go x.run()
	return nil
}

func (x *merges) run() {
	defer close(x.done)
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-x.stop:
			return
		case <-tick.C:
		}
		if err := x.regular(); err != nil {
			x.log("tell of merged calls", "err", err)
		}
	}
}

// regular is the sweep that comes by the clock.
func (x *merges) regular() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	const enough = 3 // one closes what is there, one deletes it, one has nothing to do
	if x.used.Load() {
		x.empty = 0
	} else if x.empty++; x.empty > enough {
		return nil
	}
	x.endedMu.Lock()
	pids := x.ended
	x.ended = make(map[uint32]bool)
	x.endedMu.Unlock()
	ended := x.t.coll.Maps["merges_ended"]
	for pid := range pids {
		if err := ended.Put(pid, uint32(0)); err != nil { // no room: the end of the window comes as well
			delete(pids, pid)
		}
	}
	_, err := x.sweep(0, false)
	for pid := range pids {
		_ = ended.Delete(pid)
	}
	if full := x.t.get64(x.t.variable("merge_full", 0, 8)); full > x.full {
		x.log("calls are told one by one: too many different ones are being merged", "calls", full-x.full, "rows", abi.LimitMergeRows)
		x.full = full
	}
	return err
}

// sweep runs the program once, and returns how much it had to leave for want of room in the ring. x.mu is held.
func (x *merges) sweep(program uint32, all bool) (left uint32, err error) {
	if x.over {
		return 0, nil
	}
	quiesce() // whoever found open what the last sweep closed has ended now
	x.turn++
	c := []uint64{bootTime(), uint64(program), x.turn, 0}
	if all {
		c[3] = 1
	}
	if left, err = x.prog.Run(&ebpf.RunOptions{Context: c}); err != nil {
		return 0, fmt.Errorf("tell of merged calls: %w", err)
	}
	return left, nil
}

// flush tells at once what programs counted that do not run any more. The ring is being read meanwhile.
func (x *merges) flush(programs []uint32) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, id := range programs {
		for range sweepTries {
			left, err := x.sweep(id, false)
			if err != nil {
				x.log("tell of merged calls", "err", err)
			}
			if left == 0 || err != nil {
				break
			}
			time.Sleep(sweepRetry)
		}
	}
}

// end ends the sweeps. What is in the table stays there.
func (x *merges) end() error {
	close(x.stop)
	<-x.done
	x.mu.Lock()
	defer x.mu.Unlock()
	x.over = true
	return x.prog.Close()
}

// endMerges ends them. m.mu is held.
func (m *Manager) endMerges() error {
	x := m.merges.Swap(nil)
	if x == nil {
		return nil
	}
	return x.end()
}

// pause makes programs post every call, or merge again.
func (x *merges) pause(yes bool) {
	var v uint32
	if yes {
		v = 1
	}
	x.t.set32(x.t.variable("merge_paused", 0, 4), v)
	if yes {
		quiesce()
	}
}

// MergedEnded says that a process has ended, or is another one from now on: what was counted of it is told soon. Never waits.
func (m *Manager) MergedEnded(pid uint32) {
	x := m.merges.Load()
	if x == nil {
		return
	}
	x.endedMu.Lock()
	defer x.endedMu.Unlock()
	if len(x.ended) < abi.LimitMergeEnded {
		x.ended[pid] = true
	}
}

// Merged is how many calls were counted instead of told, and of how many of them has been told since. Never waits.
func (m *Manager) Merged() (counted, told uint64) {
	x := m.merges.Load()
	if x == nil {
		return 0, 0
	}
	told = x.t.get64(x.t.variable("merge_told", 0, 8)) // first: it never is the larger one then, but for calls under way
	return max(x.t.get64(x.t.variable("merge_counted", 0, 8)), told), told
}

// TellMerged tells of all that was counted. It returns false if the ring has no room for the rest: read it, and call again.
func (m *Manager) TellMerged() (bool, error) {
	x := m.merges.Load()
	if x == nil {
		return true, nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	left, err := x.sweep(0, true)
	return left == 0, err
}

// Merged is how many calls the earlier agent's programs had counted, and nobody was told of.
func (r *Prior) Merged() (uint64, error) {
	m := r.adopt("merges", layoutMerges)
	if m == nil {
		return 0, nil
	}
	var sum uint64
	var k, v []byte
	it := m.Iterate()
	for it.Next(&k, &v) {
		if n := binary.NativeEndian.Uint64(v); n>>62 == 0 { // else it has been told
			sum += n
		}
	}
	if err := it.Err(); err != nil {
		return sum, fmt.Errorf("read what an earlier agent merged: %w", err)
	}
	return sum, nil
}
