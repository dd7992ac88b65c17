// SPDX-License-Identifier: Apache-2.0

package enrich_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tetragon/internal/abi"
	"tetragon/internal/abi/abitest"
	"tetragon/internal/event"
	"tetragon/internal/event/enrich"
	"tetragon/internal/policy/plan"
)

// hooked is a program with one hook that has no values; do is what its only rule orders.
func hooked(do plan.Actions) func(uint32) *plan.Program {
	h := &plan.Hook{Event: plan.EventKprobe, Name: "f", Rules: []plan.Rule{{Do: do}}}
	p := &plan.Program{ID: 1, Groups: []plan.Group{{Plan: &plan.Plan{Policy: "p"}, Hook: h}}, Rules: h.Rules}
	return func(id uint32) *plan.Program {
		if id != p.ID {
			return nil
		}
		return p
	}
}

func hookCall(at uint64, values ...abitest.Value) []byte {
	return abitest.Hook(abi.Hook{H: abi.Head{Pid: 50, Ktime: 500, Time: at}, Tid: 51, Program: 1}, values, 1)
}

// TestHook_heldBack: what happens before the start-up snapshot is complete is told after it, and then in order.
func TestHook_heldBack(t *testing.T) {
	l := newLane(t, enrich.Options{Programs: hooked(plan.Actions{Post: true})})
	l.e.Begin(offset)
	l.e.Mapping(&enrich.Mapping{Pid: 50, Time: 700, Path: []byte("/lib/x")})
	if evs := l.feed(hookCall(600)); len(evs) != 0 {
		t.Fatalf("got %v before the snapshot", evs)
	}
	evs := l.feed(shellImage.snap(), snapEnd(900))
	var got []event.Kind
	for _, ev := range evs {
		got = append(got, ev.Kind)
		if ev.Kind == event.KindKprobe && (ev.Process.Binary != "/bin/sh" || ev.Time != offset+600 || ev.Hook.Policy != "p") {
			t.Errorf("got %+v of %+v", ev, ev.Process)
		}
	}
	if d := cmp.Diff([]event.Kind{event.KindExec, event.KindExec, event.KindKprobe, event.KindLoader}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	l.settled()
}

// TestHook_suppressed: what a rate limit held back is told with the event of its rule alone.
func TestHook_suppressed(t *testing.T) {
	l := started(t, enrich.Options{Programs: hooked(plan.Actions{Post: true})})
	for _, c := range []struct {
		name string
		tail []uint64
		want uint32
	}{
		{"nothing", nil, 0},
		{"of this rule", []uint64{9 << 32}, 9},
		{"of another rule", []uint64{9<<32 | 3}, 0},
		{"of two rules", []uint64{9<<32 | 3, 4 << 32}, 4},
		{"a great many", []uint64{0xffffffff << 32}, 0xffffffff},
	} {
		b := hookCall(600)
		for _, w := range c.tail {
			b = binary.LittleEndian.AppendUint64(b, w)
		}
		if got := l.feed(b)[0].Hook.Suppressed; got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

// TestHook_verdict: what became of what a rule ordered.
func TestHook_verdict(t *testing.T) {
	kill, usr1, deny := event.ActionSigkill, event.ActionSignal, event.ActionOverride
	all := plan.Actions{Post: true, Signals: []int{9, 10}, Override: true, Error: -1}
	for _, c := range []struct {
		name                   string
		do                     plan.Actions
		tail                   []uint64 // mask of those that monitor, signals that were sent
		done, wouldDo, notDone []event.Action
	}{
		{"nothing ordered", plan.Actions{Post: true}, nil, nil, nil, nil},
		{"done", all, []uint64{0, 1<<8 | 1<<9}, []event.Action{kill, usr1, deny}, nil, nil},
		{"monitored", all, []uint64{1, 0}, nil, []event.Action{kill, usr1, deny}, nil},
		{"another one sent", all, []uint64{1, 1 << 8}, nil, []event.Action{kill, usr1, deny}, nil},
		{"killed alone", all, []uint64{0, 1 << 8}, []event.Action{kill, deny}, nil, []event.Action{usr1}},
		{"a kernel thread", all, []uint64{0, 0}, []event.Action{deny}, nil, []event.Action{kill, usr1}},
		{"denied", plan.Actions{Post: true, Override: true, Error: -1}, []uint64{0, 0}, []event.Action{deny}, nil, nil},
	} {
		l := started(t, enrich.Options{Programs: hooked(c.do)})
		x := abi.Hook{H: abi.Head{Pid: 50, Ktime: 500, Time: 600}, Tid: 51, Program: 1}
		if c.tail != nil {
			x.H.Flags = abi.FlagVerdict
		}
		b := abitest.Hook(x, nil, 1)
		for _, w := range append(c.tail, 7<<32) {
			b = binary.LittleEndian.AppendUint64(b, w)
		}
		h := l.feed(b)[0].Hook
		if d := cmp.Diff([][]event.Action{c.done, c.wouldDo, c.notDone}, [][]event.Action{h.Done, h.WouldDo, h.NotDone}); d != "" || h.Suppressed != 7 {
			t.Errorf("%s: held back %d, (-want +got):\n%s", c.name, h.Suppressed, d)
		}
	}
}

func TestHook_ancestors(t *testing.T) {
	for _, want := range []bool{false, true} {
		l := started(t, enrich.Options{Programs: hooked(plan.Actions{Post: true}), KprobeAncestors: want})
		l.feed(fork(100, 1000, shell))
		call := abitest.Hook(abi.Hook{H: abi.Head{Pid: 100, Ktime: 1000, Time: 1100}, Tid: 100, Program: 1}, nil, 1)
		ev := l.feed(call)[0]
		if (len(ev.Ancestors) > 0) != want || ev.Parent == nil || ev.Parent.Key != shell {
			t.Errorf("ancestors %t: got %v, parent %v", want, ev.Ancestors, ev.Parent)
		}
	}
}

// TestMapping_image: which image of a pid a mapping belongs to.
func TestMapping_image(t *testing.T) {
	l := started(t, enrich.Options{})
	x := image{pid: 100, start: 1000, ktime: 2000, parent: shell, flags: abi.FlagClone, texts: abitest.Texts{Name: "/bin/first"}}
	y := image{pid: 100, start: 1000, ktime: 3000, parent: event.Key{Pid: 100, Ktime: 2000}, texts: abitest.Texts{Name: "/bin/second"}}
	l.feed(fork(100, 1000, shell), x.exec(), y.exec())
	look := func(when string) {
		for _, c := range []struct {
			name     string
			at, exec uint64
			want     string
		}{
			{"while the first exec maps its program", 1990, 1980, "/bin/first"},
			{"in the life of the first", 2500, 1980, "/bin/first"},
			{"while the second maps its program", 2990, 2980, "/bin/second"},
			{"when the second is told", 3000, 2980, "/bin/second"},
			{"in the life of the second", 4000, 2980, "/bin/second"},
			{"no exec was seen", 2500, 0, "/bin/first"},
		} {
			l.e.Begin(offset)
			l.e.Mapping(&enrich.Mapping{Pid: 100, Time: c.at, Exec: c.exec, Path: []byte("/lib/x"), BuildID: []byte{1}})
			ev := l.e.Events()[0]
			if ev.Kind != event.KindLoader || ev.Process.Binary != c.want || ev.Tid != 100 || ev.Time != int64(c.at)+offset {
				t.Errorf("%s, %s: got %+v of %s, want %s", c.name, when, ev, ev.Process.Binary, c.want)
			}
			if string(ev.Loader.Path) != "/lib/x" || string(ev.Loader.BuildID) != "\x01" {
				t.Errorf("%s: got %+v", c.name, ev.Loader)
			}
		}
	}
	look("alive")
	l.feed(exit(100, 3000, 5000, 0))
	look("dead")
	l.e.Begin(offset)
	l.e.Mapping(&enrich.Mapping{Pid: 101, Time: 1})
	if ev := l.e.Events()[0]; !ev.Process.Placeholder || ev.Process.Key.Pid != 101 {
		t.Errorf("unknown process: got %+v", ev.Process)
	}
	l.settled()
}

func TestHook_stacks(t *testing.T) {
	proc := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(proc, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("kallsyms", "ffffffffa0000000 t bpf_prog_1234_library\t[bpf]\nffffffff81003000 T bpf_trace_run2\nffffffff81002000 t second\nffffffff81001000 T first\nffffffff81001000 T alias\nffffffff81001800 D data\n"+
		"ffffffffc0000000 t inmod\t[mod]\nbad line\n")
	write("50/maps", "00400000-00500000 r-xp 00000000 fd:01 1 /bin/sh\n7f0000000000-7f0000010000 r-xp 00001000 fd:01 2                  /usr/lib/my libc.so\n7f1000000000-7f1000010000 rw-p 00000000 00:00 0 \n")
	stacks := []abitest.Value{
		{Kind: abi.ValueKernelStack, Fixed: [9]uint64{0xffffffffa0000001, 0xffffffff81003001, 0xffffffff81002001, 0xffffffff81001900, 0xffffffffc0000010, 0x10, 0xfffffffff0000000, 0xffffffff81003001, 0}},
		{Kind: abi.ValueUserStack, Fixed: [4]uint64{0x7f0000000010, 0x400123, 0x7f1000000001, 0}},
	}
	kernel := []event.Frame{
		{Address: 0xffffffff81002001, Offset: 1, Symbol: "second"}, {Address: 0xffffffff81001900, Offset: 0x900, Symbol: "first"},
		{Address: 0xffffffffc0000010, Offset: 0x10, Symbol: "inmod"},
		{Address: 0xffffffff81003001, Offset: 1, Symbol: "bpf_trace_run2"}, // not what runs the hook
	}
	user := []event.Frame{
		{Address: 0x7f0000000010, Offset: 0x1010, Module: "/usr/lib/my libc.so"}, {Address: 0x400123, Offset: 0x123, Module: "/bin/sh"},
		{Address: 0x7f1000000001},
	}
	for _, c := range []struct {
		do           plan.Actions
		kernel, user []event.Frame
	}{
		{plan.Actions{Post: true}, nil, nil},
		{plan.Actions{Post: true, KernelStack: true}, kernel, nil},
		{plan.Actions{Post: true, KernelStack: true, UserStack: true}, kernel, user},
	} {
		l := started(t, enrich.Options{Programs: hooked(c.do), Proc: proc})
		h := l.feed(hookCall(1000, stacks...))[0].Hook
		if d := cmp.Diff([][]event.Frame{c.kernel, c.user}, [][]event.Frame{h.KernelStack, h.UserStack}); d != "" {
			t.Errorf("%+v (-want +got):\n%s", c.do, d)
		}
	}
}

// TestHook_toldBefore: of the second record of one call only those policies hear that the first program had not.
func TestHook_toldBefore(t *testing.T) {
	h := &plan.Hook{Event: plan.EventKprobe, Name: "f", Rules: []plan.Rule{{Do: plan.Actions{Post: true}}}}
	program := func(id uint32, policies ...uint32) *plan.Program {
		p := &plan.Program{ID: id}
		for i, n := range policies {
			p.Groups = append(p.Groups, plan.Group{Policy: n, Plan: &plan.Plan{Policy: fmt.Sprint("p", n)}, Hook: h, First: i})
		}
		return p
	}
	programs := map[uint32]*plan.Program{1: program(1, 1, 2), 2: program(2, 1, 2, 3), 3: program(3, 1)}
	before := map[uint32]*plan.Program{2: programs[1], 3: programs[1]}
	l := started(t, enrich.Options{
		Programs: func(id uint32) *plan.Program { return programs[id] },
		Told: func(program, tid uint32, time uint64, value func(int) []byte) *plan.Program {
			if tid != 51 || time != 600 {
				t.Errorf("asked for thread %d at %d", tid, time)
			}
			return before[program]
		},
	})
	for _, c := range []struct {
		program uint32
		mask    uint64
		want    string
	}{{1, 3, "p1 p2"}, {2, 7, "p3"}, {2, 3, ""}, {3, 1, ""}} {
		var got []string
		for _, ev := range l.feed(abitest.Hook(abi.Hook{H: abi.Head{Pid: 50, Ktime: 500, Time: 600}, Tid: 51, Program: c.program}, nil, c.mask)) {
			got = append(got, ev.Hook.Policy)
		}
		if d := strings.Join(got, " "); d != c.want {
			t.Errorf("program %d, mask %x: told %q, want %q", c.program, c.mask, d, c.want)
		}
	}
	l.settled()
	// A program that stays when its policy is replaced is read by the new texts.
	programs[1] = program(1, 7, 8)
	if evs := l.feed(abitest.Hook(abi.Hook{H: abi.Head{Pid: 50, Ktime: 500, Time: 600}, Tid: 51, Program: 1}, nil, 1)); len(evs) != 1 || evs[0].Hook.Policy != "p7" {
		t.Errorf("after its policy was replaced: %v", evs)
	}
	delete(programs, 1)
	if evs := l.feed(abitest.Hook(abi.Hook{H: abi.Head{Pid: 50, Ktime: 500, Time: 600}, Tid: 51, Program: 1}, nil, 1)); len(evs) != 1 || evs[0].Hook.Policy != "p7" {
		t.Errorf("after it was forgotten: %v", evs)
	}
}

// mergedCalls is a record of n equal calls.
func mergedCalls(n, first, last uint64) []byte {
	b := hookCall(last)
	binary.LittleEndian.PutUint16(b, abi.KindHookMerged)
	for _, w := range []uint64{n, first, last, 0, 0} { // the kernel half's record has a tail of nothing
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// TestHook_merged: calls that were counted are told as the event of one, with their number; it is no twin of any other, and a
// rate limit has nothing to do with it.
func TestHook_merged(t *testing.T) {
	told := func(uint32, uint32, uint64, func(int) []byte) *plan.Program {
		t.Error("asked whether another program told it")
		return nil
	}
	l := started(t, enrich.Options{Programs: hooked(plan.Actions{Post: true, Aggregate: time.Minute}), Told: told})
	ev := l.feed(mergedCalls(1<<32, 600, 700))[0]
	want := event.Merged{Count: 1 << 32, First: offset + 600, Last: offset + 700}
	if h := ev.Hook; h.Merged != want || h.Suppressed != 0 || h.Policy != "p" || ev.Time != offset+700 || ev.Process.Binary != "/bin/sh" {
		t.Errorf("got %+v of %+v at %d, want %+v", h, ev.Process, ev.Time, want)
	}
	l.settled()
}

// TestHook_mergedEnd: of a process whose calls are counted it is told when it ends or does an exec, once; of others it is not.
func TestHook_mergedEnd(t *testing.T) {
	for _, c := range []struct {
		name string
		do   plan.Actions
		call []byte
		want []uint32
	}{
		{"counted", plan.Actions{Post: true, Aggregate: time.Minute}, hookCall(600), []uint32{50}},
		{"not counted", plan.Actions{Post: true}, hookCall(600), nil},
		{"told of several", plan.Actions{Post: true, Aggregate: time.Minute}, mergedCalls(3, 600, 700), nil},
	} {
		var got []uint32
		l := started(t, enrich.Options{Programs: hooked(c.do), Ended: func(pid uint32) { got = append(got, pid) }})
		l.feed(c.call)
		l.feed(exit(50, 500, 800, 0))
		l.feed(exit(50, 500, 800, 0))
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}
