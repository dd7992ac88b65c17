// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"tetragon/internal/abi"
)

// merger runs calls that are merged, and the program that tells of them.
type merger struct {
	*caller
	sweep *ebpf.Program
	turn  uint64
}

func newMerger(t *testing.T) *merger {
	m := &merger{caller: newCaller(t)}
	var err error
	if m.sweep, err = m.load(m.spec.Programs["merge_sweep"].Copy()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.sweep.Close() })
	return m
}

const hour = 3600 * 1000

// merging is a rule that merges the calls in which these values are equal; 0: all of them.
func merging(next, ms uint32, values uint64) abi.Rule {
	r := post(next)
	r.Flags |= abi.RuleMerge
	r.LimitMs, r.Values = ms, values
	return r
}

// tell runs the sweep, and returns what it tells and how much it had to leave. Programs that were under way have ended.
func (m *merger) tell(program uint64, all bool) (told []merged, left uint32) {
	m.t.Helper()
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, 1, 0, 0); errno != 0 {
		m.t.Skipf("membarrier: %v", errno)
	}
	m.turn++
	x := []uint64{bootNow(m.t), program, m.turn, 0}
	if all {
		x[3] = 1
	}
	left, err := m.sweep.Run(&ebpf.RunOptions{Context: x})
	if err != nil {
		m.t.Fatal(err)
	}
	return m.told(), left
}

type merged struct {
	abi.Hook
	values []value
	mask   []uint64
	abi.Merged
}

// told takes what was merged out of the ring, and leaves out posted calls.
func (m *merger) told() (out []merged) {
	m.t.Helper()
	for {
		m.ring.SetDeadline(time.Now().Add(-time.Second))
		rec, err := m.ring.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return out
		}
		if err != nil {
			m.t.Fatal(err)
		}
		b := rec.RawSample
		if as[abi.Head](m.t, b).Kind != abi.KindHookMerged {
			continue
		}
		if len(b) != abi.HookMergedSize {
			m.t.Fatalf("%d bytes", len(b))
		}
		r := merged{Hook: as[abi.Hook](m.t, b)}
		at := abi.HookSize
		for range r.Values {
			v := as[abi.Value](m.t, b[at:])
			at += abi.ValueSize + int(v.Len+7)&^7
		}
		r.values = parseValues(m.t, b[abi.HookSize:at], int(r.Values))
		for range r.Words {
			r.mask = append(r.mask, binary.NativeEndian.Uint64(b[at:]))
			at += 8
		}
		r.Merged = as[abi.Merged](m.t, b[at:])
		out = append(out, r)
	}
}

func (m *merger) entries() int {
	m.t.Helper()
	n := 0
	var k, v []byte
	it := m.tables.Maps["merges"].Iterate()
	for it.Next(&k, &v) {
		n++
	}
	if err := it.Err(); err != nil {
		m.t.Fatal(err)
	}
	return n
}

func (m *merger) variable(name string) (n uint64) {
	m.t.Helper()
	if err := m.tables.Variables[name].Get(&n); err != nil {
		m.t.Fatal(err)
	}
	return n
}

func bootNow(t testing.TB) uint64 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		t.Fatal(err)
	}
	return uint64(ts.Nano())
}

func TestMerge_equalCalls(t *testing.T) {
	m := newMerger(t)
	m.rules(post(1), merging(2, hour, 0))
	posted := int32(0)
	before := bootNow(t)
	for range 5 {
		posted += m.run(callContext{a: 1, b: 2}, 1)
	}
	if posted != 1 {
		t.Errorf("%d of 5 equal calls are posted", posted)
	}
	if s := m.stat(1); s.Matched != 5 || s.Posted != 1 || s.Merged != 4 {
		t.Errorf("counters: %+v", s)
	}
	if told, _ := m.tell(0, false); len(told) != 0 {
		t.Errorf("told before the window is over: %+v", told)
	}
	told, left := m.tell(0, true)
	if len(told) != 1 || left != 0 {
		t.Fatalf("told %d times, left %d", len(told), left)
	}
	r := told[0]
	if r.Count != 4 || r.H.Pid != uint32(os.Getpid()) || r.Program != programID || r.Tid == 0 || len(r.mask) != 1 || r.mask[0] != 2 {
		t.Errorf("got %+v", r)
	}
	if r.First < before || r.Last < r.First || r.Last > bootNow(t) || r.H.Time != r.Last {
		t.Errorf("first %d, last %d, time %d", r.First, r.Last, r.H.Time)
	}
	if len(r.values) != 2 || binary.NativeEndian.Uint64(r.values[0].payload) != 1 || binary.NativeEndian.Uint64(r.values[1].payload) != 2 {
		t.Errorf("values: %+v", r.values)
	}
	// What was told begins anew: a first call, and what is counted after it.
	if n := m.run(callContext{a: 1, b: 2}, 1); n != 1 {
		t.Errorf("the first call of a new window: %d", n)
	}
	m.run(callContext{a: 1, b: 2}, 1)
	if told, _ := m.tell(0, true); len(told) != 1 || told[0].Count != 1 {
		t.Errorf("the second window: %+v", told)
	}
	// Nobody calls any more: the entry is closed, and gone with the sweep after that.
	if n := m.entries(); n != 1 {
		t.Errorf("%d entries", n)
	}
	if told, _ := m.tell(0, false); len(told) != 0 || m.entries() != 0 {
		t.Errorf("told %+v, %d entries", told, m.entries())
	}
	if c, told := m.variable("merge_counted"), m.variable("merge_told"); c != 5 || told != 5 {
		t.Errorf("counted %d, told %d", c, told)
	}
}

func TestMerge_whatIsEqual(t *testing.T) {
	text := []byte("a text of which the end differs, after more than forty bytes: 1")
	fits, tooLong := uint64(abi.LimitMergeBytes-8-8-16-16), uint64(abi.LimitMergeBytes)
	for _, x := range []struct {
		name   string
		rule   abi.Rule
		calls  func(m *merger) []callContext
		posted int32
	}{
		{"different values", merging(1, hour, 0), func(*merger) []callContext { return []callContext{{a: 1}, {a: 2}, {b: 1}, {a: 1}} }, 3},
		{"only one value counts", merging(1, hour, 1), func(*merger) []callContext { return []callContext{{a: 1, b: 1}, {a: 1, b: 2}, {a: 2}} }, 2},
		{"the end of a text", merging(1, hour, 0), func(m *merger) []callContext {
			other := append([]byte(nil), text...)
			other[len(other)-1] = '2'
			n := uint64(len(text))
			return []callContext{{long: m.at(0, text), size: n}, {long: m.at(1000, other), size: n}, {long: m.at(2000, text), size: n}}
		}, 2},
		{"as much as fits", merging(1, hour, 0), func(m *merger) []callContext {
			c := callContext{long: m.at(0, make([]byte, fits)), size: fits}
			return []callContext{c, c, c}
		}, 1},
		{"too long", merging(1, hour, 0), func(m *merger) []callContext {
			c := callContext{long: m.at(0, make([]byte, tooLong)), size: tooLong}
			return []callContext{c, c, c}
		}, 3},
		{"in records of their own", merging(1, hour, 0), func(m *merger) []callContext {
			c := callContext{long: m.at(0, make([]byte, 5000)), size: 5000}
			return []callContext{c, c}
		}, 2},
	} {
		t.Run(x.name, func(t *testing.T) {
			m := newMerger(t)
			m.rules(x.rule)
			calls := x.calls(m)
			posted := int32(0)
			for _, c := range calls {
				posted += m.run(c, 0)
			}
			if posted != x.posted {
				t.Errorf("%d posted, want %d", posted, x.posted)
			}
			told, _ := m.tell(0, true)
			sum := uint64(posted)
			for _, r := range told {
				sum += r.Count
			}
			if sum != uint64(len(calls)) {
				t.Errorf("%d posted and %+v: want %d calls", posted, told, len(calls))
			}
		})
	}
}

func TestMerge_values(t *testing.T) {
	m := newMerger(t)
	m.rules(merging(1, hour, 2))
	m.run(callContext{a: 1, b: 7}, 0)
	m.run(callContext{a: 2, b: 7}, 0)
	told, _ := m.tell(0, true)
	if len(told) != 1 || len(told[0].values) != 1 || told[0].values[0].Index != 1 || binary.NativeEndian.Uint64(told[0].values[0].payload) != 7 {
		t.Errorf("only what the calls have in common is told: %+v", told)
	}
}

// The window is the rule's; other programs and pauses are no reason to wait for it, or to count.
func TestMerge_sweep(t *testing.T) {
	m := newMerger(t)
	m.rules(merging(1, 1, 0))
	for range 3 {
		m.run(callContext{}, 0)
	}
	time.Sleep(2 * time.Millisecond) // a window is a time; there is nothing else to wait for
	if told, _ := m.tell(programID+1, false); len(told) != 0 {
		t.Errorf("another program's were wanted: %+v", told)
	}
	if told, _ := m.tell(0, false); len(told) != 1 || told[0].Count != 2 {
		t.Errorf("after the window: %+v", told)
	}
	m.rules(merging(1, hour, 0))
	m.run(callContext{a: 1}, 0)
	m.run(callContext{a: 1}, 0)
	if told, _ := m.tell(programID, false); len(told) != 1 || told[0].Count != 1 {
		t.Errorf("the program's: %+v", told)
	}
	m.run(callContext{a: 1}, 0)
	m.run(callContext{a: 1}, 0)
	if err := m.tables.Maps["merges_ended"].Put(uint32(os.Getpid()), uint32(1)); err != nil {
		t.Fatal(err)
	}
	if told, _ := m.tell(0, false); len(told) != 1 || told[0].Count != 1 {
		t.Errorf("the process has ended: %+v", told)
	}
	if err := m.tables.Variables["merge_paused"].Set(uint32(1)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if n := m.run(callContext{a: 2}, 0); n != 1 {
			t.Errorf("in a pause: %d", n)
		}
	}
}

func TestMerge_full(t *testing.T) {
	m := newMerger(t)
	m.rules(merging(1, hour, 0))
	const more = 100
	for i := range uint64(abi.LimitMergeRows + more) {
		if n := m.run(callContext{a: i}, 0); n != 1 {
			t.Fatalf("call %d: %d", i, n)
		}
		if i%1000 == 0 {
			m.told()
		}
	}
	if n := m.run(callContext{a: abi.LimitMergeRows + more}, 0); n != 1 {
		t.Errorf("again, without room: %d", n)
	}
	if n := m.run(callContext{}, 0); n != 0 {
		t.Errorf("again, with room: %d", n)
	}
	if n := m.variable("merge_full"); n != more+1 {
		t.Errorf("%d had no room, want %d", n, more+1)
	}
}

// TestMerge_ringFull: what the ring has no room for is told later.
func TestMerge_ringFull(t *testing.T) {
	m := newMerger(t)
	m.rules(merging(1, hour, 0), post(2))
	const different = 100
	for i := range uint64(different) {
		m.run(callContext{a: i}, 0)
		m.run(callContext{a: i}, 0)
	}
	m.told()
	for m.run(callContext{}, 1) == 1 { // until the ring is full
	}
	m.turn++
	left, err := m.sweep.Run(&ebpf.RunOptions{Context: []uint64{bootNow(t), 0, m.turn, 1}})
	if err != nil || left == 0 {
		t.Fatalf("left %d, %v", left, err)
	}
	first := m.told()
	second, left := m.tell(0, true)
	if len(first)+len(second) != different || left != 0 {
		t.Errorf("told %d, then %d, left %d: want %d", len(first), len(second), left, different)
	}
}

// TestMerge_exact: threads call, and sweeps tell, delete and make room at the same time. Each call is posted or counted.
func TestMerge_exact(t *testing.T) {
	m := newMerger(t)
	m.rules(merging(1, hour, 0))
	m.run(callContext{}, 0) // writes what all calls have in common
	sum := atomic.Int64{}
	sum.Add(-1)
	const threads, calls, different = 4, 4000, 8
	var wg sync.WaitGroup
	var failed atomic.Int64
	for i := range threads {
		wg.Go(func() {
			for j := range calls {
				n, err := m.prog.Run(&ebpf.RunOptions{Context: []uint64{uint64((i + j) % different), 0, 0, 0, 0}})
				if err != nil || int32(n) < 0 {
					failed.Add(1)
				}
				sum.Add(int64(n))
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	told, sweeps := uint64(0), 0
	for more := true; more; sweeps++ {
		select {
		case <-done:
			more = false
		default:
		}
		rs, _ := m.tell(0, true)
		for _, r := range rs {
			told += r.Count
		}
	}
	posted := uint64(sum.Load() + 1)
	if failed.Load() > 0 || posted+told != threads*calls {
		t.Errorf("%d posted and %d merged in %d sweeps, want %d; %d failed", posted, told, sweeps, threads*calls, failed.Load())
	}
	if told == 0 || sweeps < 3 {
		t.Errorf("%d merged, %d sweeps: this shows nothing", told, sweeps)
	}
	t.Logf("%d posted and %d merged in %d sweeps", posted, told, sweeps)
	if s := m.stat(0); s.Posted+s.Merged != threads*calls+1 {
		t.Errorf("counters: %+v", s)
	}
}
