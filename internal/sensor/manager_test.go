// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"bytes"
	"encoding/binary"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tetragon/internal/abi"
	"tetragon/internal/event/read"
	"tetragon/internal/kernel"
	"tetragon/internal/policy/plan"
)

// rig is a manager on this machine's own kernel, and what comes out of it.
type rig struct {
	t    *testing.T
	base *Base
	m    *Manager
	r    *read.Reader
}

// newRig needs nothing of the kernel but that programs can be loaded; back-ends are asked for by their users.
func newRig(t *testing.T, o ManagerOptions) *rig {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("feature amd64: the test knows its system calls")
	}
	base := load(t, Options{})
	r, err := read.New(read.Options{Ring: base.Ring(), Sleep: base.Sleeps})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	facts, err := kernel.Read(kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o.Base, o.Facts, o.Verbose = base, func() (*kernel.Facts, error) { return facts, nil }, true
	if o.Grace == 0 {
		o.Grace = -1
	}
	g := &rig{t: t, base: base, m: NewManager(o), r: r}
	t.Cleanup(func() {
		if err := g.m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	// System calls and their records belong to one thread.
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	return g
}

// rec is a record of a hook: the rules that post, and the integers among its values.
type rec struct {
	program uint32
	tid     uint32
	time    uint64
	mask    []uint64
	ints    map[uint16]uint64
}

// take reads the records of hooks that are in the ring.
func (g *rig) take() []rec {
	g.t.Helper()
	var out []rec
	for more := true; more; {
		var err error
		_, more, err = g.r.Rest(func(raw []byte) {
			var h abi.Hook
			if err := binary.Read(bytes.NewReader(raw), binary.NativeEndian, &h); err != nil || h.H.Kind != abi.KindHook {
				return
			}
			x := rec{program: h.Program, tid: h.Tid, time: h.H.Time, ints: map[uint16]uint64{}}
			at := abi.HookSize
			for range h.Values {
				var v abi.Value
				if err := binary.Read(bytes.NewReader(raw[at:]), binary.NativeEndian, &v); err != nil {
					g.t.Errorf("a record of our own kernel half: %v", err)
					return
				}
				at += abi.ValueSize
				if v.Kind == abi.ValueInt {
					x.ints[v.Index] = binary.NativeEndian.Uint64(raw[at:])
				}
				at += int(v.Len+7) &^ 7
			}
			for range h.Words {
				x.mask = append(x.mask, binary.NativeEndian.Uint64(raw[at:]))
				at += 8
			}
			out = append(out, x)
		})
		if err != nil {
			g.t.Fatal(err)
		}
	}
	return out
}

// told counts, by policy, the records that are in the ring, and tells which arguments they have.
func (g *rig) told() map[string][]uint64 {
	g.t.Helper()
	out := map[string][]uint64{}
	for _, x := range g.take() {
		p := g.m.Program(x.program)
		if p == nil {
			g.t.Errorf("a record of program %d, which nobody knows", x.program)
			continue
		}
		for i := range p.Groups {
			gr := &p.Groups[i]
			for r := range gr.Hook.Rules {
				if n := gr.First + r; x.mask[n/64]>>(n%64)&1 == 1 {
					out[gr.Plan.Policy] = append(out[gr.Plan.Policy], x.ints[uint16(gr.Values[gr.Hook.Args[0].Value])])
				}
			}
		}
	}
	return out
}

// provoke makes the system call that the policies of these tests ask for.
func provoke(arg int) { _, _ = unix.Getpgid(arg) }

// Bases of arguments that no other process uses.
const odd = 0x7abc0000

// sysPlan asks for calls of getpgid of this test, with arguments lo to hi, by one of the back-ends that every kernel has.
func sysPlan(name string, b plan.Backend, lo, hi uint64) *plan.Plan {
	own := plan.Filter{Kind: plan.FilterRanges, Task: plan.TaskPid, Ranges: []plan.Range{{Lo: uint64(os.Getpid()), Hi: uint64(os.Getpid())}}}
	h := plan.Hook{
		Section: "tracepoints", Event: plan.EventTracepoint, Name: name,
		Args: []plan.Arg{{Value: 0, Type: "int"}},
	}
	arg := plan.Value{Source: plan.Source{Kind: plan.SourceReg, N: 0}, Type: plan.TypeInt, Bits: 32}
	filters := []plan.Filter{own, {Kind: plan.FilterRanges, Value: 0, Ranges: []plan.Range{{Lo: lo, Hi: hi}}}}
	switch b {
	case plan.BackendRawTp:
		h.Attach = plan.Attach{Backend: b, Symbol: "sys_enter", Regs: true}
		h.Values = []plan.Value{arg, {Source: plan.Source{Kind: plan.SourceArg, N: 1}, Type: plan.TypeInt, Bits: 64}}
		filters = append(filters, plan.Filter{Kind: plan.FilterRanges, Value: 1, Ranges: []plan.Range{{Lo: unix.SYS_GETPGID, Hi: unix.SYS_GETPGID}}})
	case plan.BackendTracepoint:
		h.Attach = plan.Attach{Backend: b, Symbol: "syscalls/sys_enter_getpgid"}
		arg.Source = plan.Source{Kind: plan.SourceField, Off: 16, Size: 8}
		h.Values = []plan.Value{arg}
	case plan.BackendSysEnter, plan.BackendSysExit:
		h.Attach = plan.Attach{Backend: b, Calls: []plan.Call{{ABI: "x64", Nr: unix.SYS_GETPGID}}}
		h.Values = []plan.Value{arg}
	}
	h.Rules = []plan.Rule{{Filters: filters, Do: plan.Actions{Post: true, Last: "Post"}}}
	return &plan.Plan{Policy: name, Hooks: []plan.Hook{h}}
}

var everywhere = []plan.Backend{plan.BackendRawTp, plan.BackendTracepoint, plan.BackendSysEnter, plan.BackendSysExit}

// A policy's life, on each back-end that this kernel has for certain.
func TestManager_life(t *testing.T) {
	for _, b := range everywhere {
		t.Run(b.String(), func(t *testing.T) {
			g := newRig(t, ManagerOptions{})
			expect := func(step string, want map[string][]uint64) {
				t.Helper()
				g.take()
				provoke(odd + 1)
				provoke(odd + 2)
				provoke(odd + 1000)
				got := g.told()
				if !equalTold(got, want) {
					t.Fatalf("%s: got %x, want %x", step, got, want)
				}
			}
			id, err := g.m.Add(sysPlan("a", b, odd+1, odd+1))
			if err != nil {
				t.Fatal(err)
			}
			expect("added", map[string][]uint64{"a": {odd + 1}})
			other, err := g.m.Add(sysPlan("b", b, odd+1, odd+2))
			if err != nil {
				t.Fatal(err)
			}
			expect("two", map[string][]uint64{"a": {odd + 1}, "b": {odd + 1, odd + 2}})
			if err := g.m.Disable(id); err != nil {
				t.Fatal(err)
			}
			expect("one is off", map[string][]uint64{"b": {odd + 1, odd + 2}})
			if err := g.m.Replace(id, sysPlan("a", b, odd+2, odd+2)); err != nil {
				t.Fatal(err)
			}
			expect("replaced while it is off", map[string][]uint64{"b": {odd + 1, odd + 2}})
			if err := g.m.Enable(id); err != nil {
				t.Fatal(err)
			}
			expect("on again", map[string][]uint64{"a": {odd + 2}, "b": {odd + 1, odd + 2}})
			if err := g.m.Remove(other); err != nil {
				t.Fatal(err)
			}
			expect("the other is gone", map[string][]uint64{"a": {odd + 2}})
			stats, err := g.m.Stats(id)
			if err != nil {
				t.Fatal(err)
			}
			// Once replaced by a hook of the same shape the counters go on: 2 before, while it was off none, 2 since.
			if len(stats) != 1 || len(stats[0].Rules) != 1 || stats[0].Rules[0].Posted != 4 || stats[0].Rules[0].Matched != 4 || stats[0].Sharing != 1 {
				t.Errorf("statistics: %+v", stats)
			}
			if n := g.m.KernelBytes(id); n == 0 || n > 64<<10 {
				t.Errorf("%d bytes in the kernel, want at most 64 KiB", n)
			} else {
				t.Logf("%d bytes in the kernel", n)
			}
			if err := g.m.Remove(id); err != nil {
				t.Fatal(err)
			}
			expect("nothing", nil)
			if err := g.m.retired.wait(); err != nil {
				t.Fatal(err)
			}
			g.clean()
		})
	}
}

// clean checks that no row of any table is taken.
func (g *rig) clean() {
	g.t.Helper()
	t := g.m.tables
	for name, c := range map[string]struct{ left, all int }{
		"slots": {t.slots.left(), abi.LimitHookSlots}, "rules": {t.rules.left(), abi.LimitRuleRows},
		"rule_stats": {t.stats.left(), abi.LimitRuleRows}, "needles": {t.needleRows.left(), 256},
		"enter_bodies": {g.m.sys[0].index.left(), sysBodies - 1}, "exit_bodies": {g.m.sys[1].index.left(), sysBodies - 1},
		"sets": {-len(g.m.sets.rows), 0}, "points": {-len(g.m.points), 0}, "idle": {-len(g.m.idle), 0},
	} {
		if c.left != c.all {
			g.t.Errorf("%s: %d are free, want %d", name, c.left, c.all)
		}
	}
}

func equalTold(a, b map[string][]uint64) bool {
	if len(a) != len(b) {
		return false
	}
	for k := range a {
		if len(a[k]) != len(b[k]) {
			return false
		}
		for i := range a[k] {
			if a[k][i] != b[k][i] {
				return false
			}
		}
	}
	return true
}

var _ = time.Second
