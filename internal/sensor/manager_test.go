// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
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

// value is a value of the record by its index in the program, nil if it is no integer of it.
func (x *rec) value(i int) []byte {
	n, ok := x.ints[uint16(i)]
	if !ok {
		return nil
	}
	return binary.NativeEndian.AppendUint64(nil, n)
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

// provoke makes the system calls that the policies of these tests ask for.
func provoke(arg int) {
	_, _ = unix.Getpgid(arg)
	_, _ = unix.Setitimer(unix.ITIMER_VIRTUAL, unix.Itimerval{Interval: unix.Timeval{Sec: int64(arg)}, Value: unix.Timeval{Sec: 1 << 40}})
}

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
	case plan.BackendTp: // itimer_state(int which, const struct itimerspec64 *value, ...), whose interval comes first
		h.Attach = plan.Attach{Backend: b, Symbol: "itimer_state"}
		arg.Source = plan.Source{Kind: plan.SourceArg, N: 1, Steps: []plan.Step{{Size: 8}}}
		h.Values = []plan.Value{arg}
	case plan.BackendTracepoint:
		h.Attach = plan.Attach{Backend: b, Symbol: "syscalls/sys_enter_getpgid"}
		arg.Source = plan.Source{Kind: plan.SourceField, Off: 16, Size: 8}
		h.Values = []plan.Value{arg}
	case plan.BackendFentry, plan.BackendFexit, plan.BackendKprobe:
		h.Attach = plan.Attach{Backend: b, Symbol: getpgid, Params: 1, Regs: true}
		h.Values = []plan.Value{arg}
	case plan.BackendKprobeMulti:
		h.Attach = plan.Attach{Backend: b, Symbols: []string{"__x64_sys_getsid", getpgid}, Params: 1, Regs: true}
		h.Values = []plan.Value{arg}
	case plan.BackendSysEnter, plan.BackendSysExit:
		h.Attach = plan.Attach{Backend: b, Calls: []plan.Call{{ABI: "x64", Nr: unix.SYS_GETPGID}}}
		h.Values = []plan.Value{arg}
	}
	h.Rules = []plan.Rule{{Filters: filters, Do: plan.Actions{Post: true, Last: "Post"}}}
	return &plan.Plan{Policy: name, Hooks: []plan.Hook{h}}
}

// features are those that must be found, or the test fails where it would be skipped: SENSOR_FEATURES="fentry kprobe".
func features() []string { return strings.Fields(os.Getenv("SENSOR_FEATURES")) }

// needBackend skips a test where the kernel lacks what a back-end needs, which is found out with a program that does nothing.
func needBackend(t *testing.T, b plan.Backend) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("feature bpf: not root")
	}
	spec := &ebpf.ProgramSpec{
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}, License: "Dual BSD/GPL", Type: ebpf.RawTracepoint,
	}
	a := plan.Attach{Backend: b, Symbol: getpgid, Symbols: []string{getpgid}}
	feature := strings.ReplaceAll(b.String(), ".", "_")
	switch b {
	case plan.BackendFentry:
		spec.Type, spec.AttachType, spec.AttachTo = ebpf.Tracing, ebpf.AttachTraceFEntry, getpgid
	case plan.BackendFexit:
		spec.Type, spec.AttachType, spec.AttachTo = ebpf.Tracing, ebpf.AttachTraceFExit, getpgid
	case plan.BackendKprobe, plan.BackendKretprobe:
		spec.Type = ebpf.Kprobe
	case plan.BackendKprobeMulti:
		spec.Type, spec.AttachType = ebpf.Kprobe, ebpf.AttachTraceKprobeMulti
	case plan.BackendTracepoint:
		spec.Type, a.Symbol = ebpf.TracePoint, "syscalls/sys_enter_getpgid"
	default:
		return
	}
	p, err := ebpf.NewProgram(spec)
	if err == nil {
		defer p.Close()
		var l link.Link
		if l, err = attach(&a, p); err == nil {
			_ = l.Close()
		}
	}
	switch {
	case err == nil:
	case slices.Contains(features(), feature):
		t.Fatalf("feature %s must be here: %v", feature, err)
	default:
		t.Skipf("feature %s: %v", feature, err)
	}
}

// getpgid is the function of the system call that these tests make.
const getpgid = "__x64_sys_getpgid"

var everywhere = []plan.Backend{
	plan.BackendFentry, plan.BackendFexit, plan.BackendKprobe, plan.BackendKprobeMulti, plan.BackendRawTp, plan.BackendTp, plan.BackendTracepoint, plan.BackendSysEnter, plan.BackendSysExit,
}

// A policy's life, on each back-end that this kernel has.
func TestManager_life(t *testing.T) {
	for _, b := range everywhere {
		t.Run(b.String(), func(t *testing.T) {
			needBackend(t, b)
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
		"enter_bodies": {g.m.sys[0].index.left(), abi.LimitSysBodies - 1}, "exit_bodies": {g.m.sys[1].index.left(), abi.LimitSysBodies - 1},
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

// A change that fails half-way leaves nothing behind, and what was there goes on.
func TestManager_undo(t *testing.T) {
	g := newRig(t, ManagerOptions{})
	if _, err := g.m.Add(sysPlan("stays", plan.BackendRawTp, odd, odd)); err != nil {
		t.Fatal(err)
	}
	replaced, err := g.m.Add(sysPlan("replaced", plan.BackendSysEnter, odd, odd))
	if err != nil {
		t.Fatal(err)
	}
	state := func() string {
		if err := g.m.retired.wait(); err != nil {
			t.Fatal(err)
		}
		tb := g.m.tables
		return fmt.Sprintf("%d descriptors, slots %v, rules %v, stats %v, needles %v, bodies %v %v, sets %d, classes %t, idle %d, enter %sexit %s",
			descriptors(t), tb.slots.free, tb.rules.free, tb.stats.free, tb.needleRows.free, g.m.sys[0].index.free, g.m.sys[1].index.free,
			len(g.m.sets.rows), g.m.classes != nil, len(g.m.idle), g.m.sys[0], g.m.sys[1])
	}
	// A plan with one of everything, of which the last hook is bad.
	plans := func(bad func(h *plan.Hook)) *plan.Plan {
		p := sysPlan("bad", plan.BackendRawTp, odd, odd)
		for _, x := range []*plan.Plan{
			sysPlan("bad", plan.BackendSysExit, odd, odd), sysPlan("bad", plan.BackendSysEnter, odd, odd+1), sysPlan("bad", plan.BackendRawTp, odd, odd),
		} {
			p.Hooks = append(p.Hooks, x.Hooks...)
		}
		p.Sets = []plan.Set{{Kind: plan.SetPaths, Paths: []string{"/bin/x"}}}
		h := &p.Hooks[0]
		h.Rules[0].Filters = append(h.Rules[0].Filters, plan.Filter{Kind: plan.FilterClass})
		h.Values = append(h.Values, plan.Value{Source: plan.Source{Kind: plan.SourceArg}, Type: plan.TypeString})
		h.Rules[0].Filters = append(h.Rules[0].Filters, plan.Filter{Kind: plan.FilterContains, Value: 2, Strings: []string{"needle"}})
		last := &p.Hooks[len(p.Hooks)-1]
		last.Attach.Symbol = "sched_process_fork"
		bad(last)
		return p
	}
	good := plans(func(*plan.Hook) {})
	id, err := g.m.Add(good) // what is opened once is open then, and the plan is good but for what is made bad below
	if err != nil {
		t.Fatal(err)
	}
	if err := g.m.Remove(id); err != nil {
		t.Fatal(err)
	}
	before := state()
	for _, c := range []struct {
		name string
		bad  func(h *plan.Hook)
		want string
	}{
		{"attach", func(h *plan.Hook) { h.Attach.Symbol = "no_such_tracepoint" }, "attach raw_tracepoint to no_such_tracepoint: "},
		{"generate", func(h *plan.Hook) { h.Values[0].Source.Kind = plan.SourceReturn + 99 }, "generate a program for raw_tracepoint:sched_process_fork: "},
		{"verify", func(h *plan.Hook) { // reads behind the end of the tracepoint's arguments
			h.Values[1].Source.N = 12
		}, "load raw_tracepoint to sched_process_fork: "},
		{"merge", func(h *plan.Hook) { h.Rules[0].Filters[1].Value = 7 }, "merge raw_tracepoint:sched_process_fork: policy bad, selector 0: value 7 of 2 is meant"},
		{"no rules", func(h *plan.Hook) { h.Rules = nil }, "add policy bad: "},
		{"system call", func(h *plan.Hook) {
			h.Attach = plan.Attach{Backend: plan.BackendSysEnter, Calls: []plan.Call{{ABI: "x64", Nr: 512}}}
		}, "hook system call 512: numbers below 512 are possible"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for what, change := range map[string]func() error{
				"add":     func() error { _, err := g.m.Add(plans(c.bad)); return err },
				"replace": func() error { return g.m.Replace(replaced, plans(c.bad)) },
			} {
				err := change()
				if err == nil || !strings.HasPrefix(err.Error(), c.want) {
					t.Errorf("%s: got %v, want %s...", what, err, c.want)
				}
				t.Log(err)
				if after := state(); after != before {
					t.Errorf("%s: now  %s\nbefore %s", what, after, before)
				}
				g.take()
				provoke(odd)
				if got, want := g.told(), map[string][]uint64{"stays": {odd}, "replaced": {odd}}; !equalTold(got, want) {
					t.Errorf("%s: the others: got %x, want %x", what, got, want)
				}
			}
		})
	}
}
