// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"tetragon/internal/abi"
)

// caller runs whole calls: values, then hook_finish.
type caller struct {
	*lab
	prog *ebpf.Program
	ring *ringbuf.Reader
}

// What a caller's program gets: two numbers, address and size of long bytes (0: none), a descriptor of a socket (0: none).
// struct hook_call it finds in the kernel memory of lab.object, for want of room.
type callContext struct {
	a, b, long, size, sock uint64
	call                   abi.HookCall
}

const (
	programID = 4242
	ruleBase  = 100
	statBase  = 200
)

func newCaller(t *testing.T) *caller {
	c := &caller{lab: newLab(t)}
	main := asm.Instructions{
		asm.Mov.Reg(asm.R9, asm.R1), asm.Call.Label("buf_take"), asm.JSLT.Imm(asm.R0, 0, "out"), asm.Mov.Reg(asm.R7, asm.R0),
	}
	slots := c.spec.Variables["slots"]
	main = append(main, asm.LoadMapValue(asm.R8, 0, slots.Offset).WithReference(slots.SectionName))
	for at := int16(-abi.HookCallSize); at < 0; at += 8 {
		main = append(main, asm.LoadMem(asm.R1, asm.R8, abi.HookCallSize+at, asm.DWord), asm.StoreMem(asm.R10, at, asm.R1, asm.DWord))
	}
	main = append(main, asm.StoreMem(asm.R10, -abi.HookCallSize+8, asm.R7, asm.Word))
	for i := range int16(2) {
		main = append(main, asm.Mov.Reg(asm.R1, asm.R7), asm.Mov.Imm(asm.R2, int32(i)), asm.LoadMem(asm.R3, asm.R9, 8*i, asm.DWord), asm.Call.Label("arg_int"))
	}
	main = append(main,
		asm.LoadMem(asm.R3, asm.R9, 16, asm.DWord), asm.JEq.Imm(asm.R3, 0, "nolong"),
		asm.Mov.Reg(asm.R1, asm.R7), asm.Mov.Imm(asm.R2, 2), asm.LoadMem(asm.R4, asm.R9, 24, asm.DWord), asm.Call.Label("arg_bytes_max"),
		asm.LoadMem(asm.R1, asm.R9, 32, asm.DWord).WithSymbol("nolong"), asm.JEq.Imm(asm.R1, 0, "nosock"),
	)
	main = append(main, c.emit(c.sockOf(0), 32)...)
	main = append(main,
		asm.Mov.Reg(asm.R1, asm.R7), asm.Mov.Imm(asm.R2, 3), asm.Mov.Reg(asm.R3, asm.R8), asm.Mov.Imm(asm.R4, 9), asm.Call.Label("arg_sock"),
		asm.Mov.Reg(asm.R1, asm.R10).WithSymbol("nosock"), asm.Add.Imm(asm.R1, -abi.HookCallSize), asm.Call.Label("hook_finish"), asm.Mov.Reg(asm.R6, asm.R0),
		asm.Mov.Reg(asm.R1, asm.R7), asm.Call.Label("buf_give"), asm.Mov.Reg(asm.R0, asm.R6), asm.Return(),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("out"), asm.Return(),
	)
	var err error
	if c.prog, err = c.load(c.program(ebpf.RawTracepoint, main)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.prog.Close() })
	if c.ring, err = ringbuf.NewReader(c.tables.Maps["events"]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.ring.Close() })
	return c
}

func raw[T any](v *T) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)) }

// rules writes rules 0 to len-1 of the program; each one's counters are the row of its number.
func (c *caller) rules(rs ...abi.Rule) {
	c.t.Helper()
	for i := range rs {
		rs[i].Stat = statBase + uint32(i)
		if err := c.tables.Maps["rules"].Put(uint32(ruleBase+i), raw(&rs[i])); err != nil {
			c.t.Fatal(err)
		}
		zero := make([][]byte, ebpf.MustPossibleCPU())
		for j := range zero {
			zero[j] = make([]byte, abi.RuleStatSize)
		}
		if err := c.tables.Maps["rule_stats"].Put(uint32(statBase+i), zero); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *caller) stat(rule int) (sum abi.RuleStat) {
	c.t.Helper()
	var each [][]byte
	if err := c.tables.Maps["rule_stats"].Lookup(uint32(statBase+rule), &each); err != nil {
		c.t.Fatal(err)
	}
	for _, b := range each {
		s := as[abi.RuleStat](c.t, b)
		sum.Matched += s.Matched
		sum.Posted += s.Posted
		sum.Limited += s.Limited
		sum.Nopost += s.Nopost
		sum.Lost += s.Lost
		sum.Merged += s.Merged
	}
	return sum
}

// run makes a call in which these rules are alive, and returns how many post.
func (c *caller) run(x callContext, live ...int) int32 {
	c.t.Helper()
	x.call.Program, x.call.Base = programID, ruleBase
	if x.call.Words == 0 {
		x.call.Words = 1
	}
	for _, r := range live {
		x.call.Live[r/64] |= 1 << (r % 64)
	}
	c.object(raw(&x.call))
	n, err := c.prog.Run(&ebpf.RunOptions{Context: []uint64{x.a, x.b, x.long, x.size, x.sock}})
	if err != nil {
		c.t.Fatal(err)
	}
	return int32(n)
}

type record struct {
	abi.Hook
	values []value
	mask   []uint64
}

// records takes what is in the ring: calls, and pieces of long values.
func (c *caller) records() (calls []record, pieces []abi.HookData) {
	c.t.Helper()
	for {
		c.ring.SetDeadline(time.Now().Add(-time.Second))
		rec, err := c.ring.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return calls, pieces
		}
		if err != nil {
			c.t.Fatal(err)
		}
		b := rec.RawSample
		switch h := as[abi.Head](c.t, b); h.Kind {
		case abi.KindHook:
			r := record{Hook: as[abi.Hook](c.t, b)}
			r.values = parseValues(c.t, b[abi.HookSize:], int(r.Values))
			at := len(b) - 8*int(r.Words)
			for ; at < len(b); at += 8 {
				r.mask = append(r.mask, binary.NativeEndian.Uint64(b[at:]))
			}
			calls = append(calls, r)
		case abi.KindHookData:
			pieces = append(pieces, as[abi.HookData](c.t, b))
		default:
			c.t.Fatalf("a record of kind %d", h.Kind)
		}
	}
}

// posted are the rules in the mask of the only record that there is; nil if there is none.
func (c *caller) posted() []int {
	c.t.Helper()
	rs, _ := c.records()
	if len(rs) == 0 {
		return nil
	}
	if len(rs) != 1 {
		c.t.Fatalf("%d records", len(rs))
	}
	out := []int{}
	for w, m := range rs[0].mask {
		for b := range 64 {
			if m>>b&1 == 1 {
				out = append(out, w*64+b)
			}
		}
	}
	return out
}

// post is a rule that posts, the last of its group being next-1.
func post(next uint32) abi.Rule {
	return abi.Rule{Flags: abi.RulePost, Next: next, Track: -1, Untrack: -1}
}

func equal(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestFinish_record(t *testing.T) {
	c := newCaller(t)
	var proc struct {
		ktime, parent  uint64
		pid, procFlags uint32
	}
	proc.ktime = 987654321
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	if err := c.tables.Maps["procs"].Put(uint32(pidfd), raw(&proc)); err != nil {
		t.Fatal(err)
	}
	c.rules(post(1))
	var before, after unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &before)
	if n := c.run(callContext{a: 11, b: 22}, 0); n != 1 {
		t.Fatalf("%d rules post", n)
	}
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &after)
	rs, _ := c.records()
	if len(rs) != 1 {
		t.Fatalf("%d records", len(rs))
	}
	r := rs[0]
	if r.H.Pid != uint32(os.Getpid()) || r.H.Ktime != proc.ktime || r.H.Flags != 0 || r.Program != programID || r.Words != 1 || r.Which != 0 || r.Tid == 0 {
		t.Errorf("got %+v", r.Hook)
	}
	if at := int64(r.H.Time); at < before.Nano() || at > after.Nano() {
		t.Errorf("time %d is not between %d and %d", at, before.Nano(), after.Nano())
	}
	if len(r.values) != 2 || r.values[1].Index != 1 || binary.NativeEndian.Uint64(r.values[1].payload) != 22 || len(r.mask) != 1 || r.mask[0] != 1 {
		t.Errorf("got %+v, mask %x", r.values, r.mask)
	}
	var counts [abi.KindKinds]abi.Count
	if err := c.tables.Variables["counts"].Get(&counts); err != nil {
		t.Fatal(err)
	}
	if k := counts[abi.KindHook]; k.Seen != 1 || k.Lost != 0 {
		t.Errorf("account: %+v", k)
	}
	if s := c.stat(0); s != (abi.RuleStat{Matched: 1, Posted: 1}) {
		t.Errorf("counters: %+v", s)
	}
}

func TestFinish_groups(t *testing.T) {
	c := newCaller(t)
	silent := func(next uint32) abi.Rule { r := post(next); r.Flags = 0; return r }
	var many []abi.Rule
	for i := range 500 { // groups of 50, across the borders of words
		many = append(many, post(uint32(i/50*50+50)))
	}
	for _, x := range []struct {
		name  string
		rules []abi.Rule
		live  []int
	}{
		{"one", []abi.Rule{post(1)}, []int{0}},
		{"none", []abi.Rule{post(1)}, nil},
		{"the first of a group", []abi.Rule{post(3), post(3), post(3)}, []int{1, 2}},
		{"two groups", []abi.Rule{post(2), post(2), post(4), post(4)}, []int{0, 1, 3}},
		{"silent", []abi.Rule{silent(1)}, []int{0}},
		{"silent before", []abi.Rule{silent(2), post(2)}, []int{0, 1}},
		{"silent beside", []abi.Rule{silent(1), post(2)}, []int{0, 1}},
		{"many", many, []int{0, 49, 50, 99, 120, 130, 199, 200, 255, 256, 320, 449, 499}},
		{"the last", many, []int{499}},
	} {
		t.Run(x.name, func(t *testing.T) {
			c.t = t
			c.rules(x.rules...)
			n := c.run(callContext{call: abi.HookCall{Words: uint8((len(x.rules) + 63) / 64)}}, x.live...)
			got := c.posted()
			want := firstOfGroups(x.rules, x.live)
			if !equal(got, want) || int(n) != len(got) {
				t.Errorf("got %v (%d), want %v", got, n, want)
			}
			for i := range x.rules {
				s := c.stat(i)
				if s.Matched != s.Posted+s.Nopost {
					t.Errorf("rule %d: %+v", i, s)
				}
			}
		})
	}
}

// firstOfGroups says which of these rules post: the first of each group, if it is one that posts.
func firstOfGroups(rules []abi.Rule, live []int) []int {
	var out []int
	next := 0
	for _, r := range live {
		if r < next {
			continue
		}
		next = int(rules[r].Next)
		if rules[r].Flags&abi.RulePost != 0 {
			out = append(out, r)
		}
	}
	return out
}

func TestFinish_limits(t *testing.T) {
	c := newCaller(t)
	limited := func(ms uint32, flags uint32, values uint64) abi.Rule {
		r := post(1)
		r.LimitMs, r.Flags, r.Values = ms, abi.RulePost|flags, values
		return r
	}
	clear := func() {
		t.Helper()
		m := c.tables.Maps["limits"]
		var keys [][]byte
		var k, v []byte
		for it := m.Iterate(); it.Next(&k, &v); {
			keys = append(keys, bytes.Clone(k))
		}
		for _, k := range keys {
			if err := m.Delete(k); err != nil {
				t.Fatal(err)
			}
		}
	}
	const hour = 3600 * 1000
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, x := range []struct {
		name  string
		rule  abi.Rule
		calls [][2]uint64
		want  []int32
	}{
		{"equal calls", limited(hour, 0, 0), [][2]uint64{{1, 2}, {1, 2}, {1, 2}}, []int32{1, 0, 0}},
		{"different values", limited(hour, 0, 0), [][2]uint64{{1, 2}, {1, 3}, {2, 2}, {1, 2}}, []int32{1, 1, 1, 0}},
		{"one value counts", limited(hour, 0, 1), [][2]uint64{{1, 2}, {1, 3}, {2, 2}}, []int32{1, 0, 1}},
		{"process", limited(hour, abi.RuleScopeProcess, 0), [][2]uint64{{1, 2}, {1, 2}}, []int32{1, 0}},
		{"global", limited(hour, abi.RuleScopeGlobal, 0), [][2]uint64{{1, 2}, {1, 2}}, []int32{1, 0}},
		{"no limit", limited(0, 0, 0), [][2]uint64{{1, 2}, {1, 2}}, []int32{1, 1}},
	} {
		t.Run(x.name, func(t *testing.T) {
			runtime.LockOSThread() // a limit's default scope is the thread
			defer runtime.UnlockOSThread()
			c.t = t
			clear()
			c.rules(x.rule)
			sum := int32(0)
			for i, v := range x.calls {
				n := c.run(callContext{a: v[0], b: v[1]}, 0)
				if n != x.want[i] {
					t.Errorf("call %d: %d", i, n)
				}
				sum += n
			}
			if s := c.stat(0); s.Matched != uint64(len(x.calls)) || s.Posted != uint64(sum) || s.Limited != s.Matched-s.Posted {
				t.Errorf("counters: %+v", s)
			}
			c.records()
		})
	}
	c.t = t
	clear()
	c.rules(limited(1, 0, 0))
	if n := c.run(callContext{}, 0); n != 1 {
		t.Errorf("first: %d", n)
	}
	time.Sleep(2 * time.Millisecond) // the limit is a time; there is nothing else to wait for
	if n := c.run(callContext{}, 0); n != 1 {
		t.Errorf("after the window: %d", n)
	}
	c.records()
	// What comes first in a long value counts, what comes later does not.
	clear()
	c.rules(limited(hour, 0, 0))
	text := bytes.Repeat([]byte{'x'}, 100)
	at := c.at(0, text)
	long := callContext{long: at, size: 100}
	first := c.run(long, 0)
	c.user[90] = 'y'
	later := c.run(long, 0)
	c.user[30] = 'y'
	early := c.run(long, 0)
	if first != 1 || later != 0 || early != 1 {
		t.Errorf("long value: %d %d %d", first, later, early)
	}
}

func TestFinish_sockets(t *testing.T) {
	c := newCaller(t)
	track := abi.Rule{Next: 1, Policy: 9, Track: 3, Untrack: -1}
	untrack := abi.Rule{Flags: abi.RulePost, Next: 2, Policy: 9, Track: -1, Untrack: 3}
	c.rules(track, untrack, post(3))
	fd, _ := connected(t, unix.AF_INET, unix.SOCK_STREAM)
	owner := func() abi.ValSock {
		t.Helper()
		c.run(callContext{sock: uint64(fd)}, 2)
		rs, _ := c.records()
		return as[abi.ValSock](t, rs[len(rs)-1].values[2].payload)
	}
	if v := owner(); v.OwnerPid != 0 {
		t.Errorf("before: %+v", v)
	}
	c.run(callContext{sock: uint64(fd)}, 0)
	if v := owner(); v.OwnerPid != uint32(os.Getpid()) || v.OwnerTid == 0 {
		t.Errorf("tracked: %+v", v)
	}
	c.run(callContext{sock: uint64(fd)}, 1)
	if v := owner(); v.OwnerPid != 0 {
		t.Errorf("forgotten: %+v", v)
	}
}

func TestFinish_baseline(t *testing.T) {
	c := newCaller(t)
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	old := abi.TaskClass{Flags: abi.ClassBaseline}
	old.Ns[abi.NsMnt] = 1
	known := func() abi.TaskClass {
		t.Helper()
		b := make([]byte, abi.TaskClassSize)
		if err := c.tables.Maps["classes"].Lookup(uint32(pidfd), &b); err != nil {
			t.Fatal(err)
		}
		return as[abi.TaskClass](t, b)
	}
	if err := c.tables.Maps["classes"].Put(uint32(pidfd), raw(&old)); err != nil {
		t.Fatal(err)
	}
	plain := post(1)
	renew := post(2)
	renew.Flags |= abi.RuleBaseline
	c.rules(plain, renew)
	c.run(callContext{}, 0)
	if known() != old {
		t.Error("a rule that does not ask for it renews the baseline")
	}
	c.run(callContext{}, 1)
	if got := known(); uint64(got.Ns[abi.NsMnt]) != namespace(t, "mnt") || got.Caps[0] == 0 {
		t.Errorf("got %+v", got)
	}
}

func TestFinish_longValues(t *testing.T) {
	c := newCaller(t)
	c.rules(post(1))
	data := make([]byte, 400000)
	for i := range data {
		data[i] = byte(i*13 + i>>9)
	}
	at := c.at(0, data)
	last := uint64(0)
	for _, x := range []struct {
		size, sent uint64
		flags      uint8
	}{
		{10, 10, 0}, {4095, 4095, 0}, {4096, 4096, abi.ValueFlagAhead}, {4049, 4049, 0}, {100000, 100000, abi.ValueFlagAhead},
		{327360, 327360, abi.ValueFlagAhead}, {327361, 327360, abi.ValueFlagAhead | abi.ValueFlagCut}, {400000, 327360, abi.ValueFlagAhead | abi.ValueFlagCut},
	} {
		if n := c.run(callContext{long: at, size: x.size}, 0); n != 1 {
			t.Fatalf("size %d: %d", x.size, n)
		}
		rs, pieces := c.records()
		v := rs[0].values[2]
		if v.Kind != abi.ValueBytes || v.Flags != x.flags || binary.NativeEndian.Uint64(v.payload) != x.size {
			t.Errorf("size %d: %+v", x.size, v.Value)
			continue
		}
		var got []byte
		if x.flags&abi.ValueFlagAhead == 0 {
			got = v.payload[8:]
		} else {
			id := binary.NativeEndian.Uint64(v.payload[8:])
			if len(v.payload) != 16 || last != 0 && id <= last {
				t.Errorf("size %d: id %d after %d", x.size, id, last)
			}
			last = id
			for i, p := range pieces {
				if p.Id != id || int(p.Index) != i || p.H.Pid != rs[0].H.Pid || p.H.Ktime != rs[0].H.Ktime {
					t.Fatalf("piece %d: id %d, index %d", i, p.Id, p.Index)
				}
				got = append(got, p.Data[:p.Len]...)
			}
		}
		if !bytes.Equal(got, data[:x.sent]) {
			t.Errorf("size %d: %d bytes were sent", x.size, len(got))
		}
	}
	if n := c.run(callContext{long: nowhere, size: 5000}, 0); n != 1 {
		t.Fatal(n)
	}
	rs, _ := c.records()
	if v := rs[0].values[2]; v.Flags != abi.ValueFlagError {
		t.Errorf("bad address: %+v", v.Value)
	}
}

// A call that finds the ring full is lost, and counted, and so is one that finds no buffer.
func TestFinish_losses(t *testing.T) {
	c := newCaller(t)
	c.rules(post(1))
	data := c.at(0, make([]byte, 4000))
	account := func() abi.Count {
		t.Helper()
		var counts [abi.KindKinds]abi.Count
		if err := c.tables.Variables["counts"].Get(&counts); err != nil {
			t.Fatal(err)
		}
		return counts[abi.KindHook]
	}
	calls, posted := uint64(0), uint64(0)
	for range 1200 { // of 4 KiB each: more than the ring holds
		posted += uint64(c.run(callContext{long: data, size: 4000}, 0))
		calls++
	}
	s, k := c.stat(0), account()
	if s.Matched != calls || s.Posted != posted || s.Lost != calls-posted || s.Lost == 0 {
		t.Errorf("counters: %+v of %d calls, %d posted", s, calls, posted)
	}
	if k.Seen != calls || k.Lost != s.Lost || k.LostLast == 0 {
		t.Errorf("account: %+v", k)
	}
	rs, _ := c.records()
	if uint64(len(rs)) != posted {
		t.Errorf("%d records, %d were posted", len(rs), posted)
	}

	bufs := c.tables.Maps["hook_bufs"]
	busy := make([]byte, bufs.ValueSize())
	busy[0] = 1
	for row := range bufs.MaxEntries() {
		if err := bufs.Put(row, busy); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.run(callContext{}, 0); n != -1 {
		t.Errorf("without a buffer: %d", n)
	}
	if got := account(); got.Seen != k.Seen+1 || got.Lost != k.Lost+1 {
		t.Errorf("account: %+v after %+v", got, k)
	}
	// One that is given back is found, whosever it is.
	busy[0] = 0
	if err := bufs.Put(bufs.MaxEntries()-1, busy); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if n := c.run(callContext{}, 0); n != 1 {
			t.Errorf("with one buffer: %d", n)
		}
	}
}

// Whoever finds the ring a quarter full wakes the reader that sleeps, once.
func TestFinish_wakes(t *testing.T) {
	c := newCaller(t)
	c.rules(post(1))
	data := c.at(0, make([]byte, 4000))
	sleeps := c.tables.Variables["reader_sleeps"]
	if err := sleeps.Set(uint32(1)); err != nil {
		t.Fatal(err)
	}
	asleep := func() bool {
		t.Helper()
		var v uint32
		if err := sleeps.Get(&v); err != nil {
			t.Fatal(err)
		}
		return v == 1
	}
	var wake uint32
	if err := c.spec.Variables["wake_bytes"].Get(&wake); err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; asleep() && n < 1000; n++ {
		c.run(callContext{long: data, size: 4000}, 0)
	}
	const size = abi.HookSize + 2*16 + 8 + 8 + 4000 + 8 + 8 // with its ring header
	if got := uint32(n-1) * size; got < wake || got > wake+size {
		t.Errorf("woken by record %d, when %d bytes lay in the ring; it should be above %d", n, got, wake)
	}
	c.ring.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.ring.Read(); err != nil {
		t.Error(err)
	}
}
