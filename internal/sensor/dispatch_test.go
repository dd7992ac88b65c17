// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"slices"
	"strings"
	"testing"

	"tetragon/internal/policy/plan"
)

// sysProgram is a program for system calls that is nowhere.
func sysProgram(id uint32, calls ...plan.Call) *program {
	return &program{p: &plan.Program{ID: id, Attach: plan.Attach{Backend: plan.BackendSysEnter, Calls: calls}}}
}

// Chains of system calls: who runs for which call, in which order, and how many copies of a program that takes.
func TestChains(t *testing.T) {
	x := func(n int) plan.Call { return plan.Call{ABI: "x64", Nr: n} }
	i := func(n int) plan.Call { return plan.Call{ABI: "i386", Nr: n} }
	p1, p2, p3 := sysProgram(1, x(1), x(2), i(3)), sysProgram(2, x(2), x(4)), sysProgram(3, x(4), x(1))
	d := newDispatcher(sysEnter)
	for _, c := range []struct {
		name   string
		progs  []*program
		chains string
		fresh  string // bodies that have to be loaded
	}{
		{"one", []*program{p1}, "x64/1: 1; x64/2: 1; i386/3: 1;", "1.false 1.true"},
		{"a newer one runs first, the older one stays as it is", []*program{p1, p2}, "x64/1: 1; x64/2: 2 1; x64/4: 2; i386/3: 1;", "2.false>1.false 2.false"},
		{"in any order", []*program{p3, p1, p2}, "x64/1: 3 1; x64/2: 2 1; x64/4: 3 2; i386/3: 1;", "3.false>1.false 3.false>2.false"},
		{"the oldest leaves: those before it need new copies, others not", []*program{p2, p3}, "x64/1: 3; x64/2: 2; x64/4: 3 2;", "3.false"},
		{"none", nil, "", ""},
	} {
		heads, fresh, err := d.chains(c.progs)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, b := range fresh {
			names = append(names, b.key)
			d.bodies[b.key] = b
		}
		slices.Sort(names)
		want := strings.Fields(c.fresh)
		slices.Sort(want)
		if !slices.Equal(names, want) {
			t.Errorf("%s: loads %v, want %v", c.name, names, want)
		}
		d.first = heads
		if got := strings.TrimSpace(strings.ReplaceAll(d.String(), "\n", "; ")); got != c.chains {
			t.Errorf("%s: got %s, want %s", c.name, got, c.chains)
		}
		used := map[*body]bool{}
		for _, b := range heads {
			for ; b != nil; b = b.next {
				used[b] = true
			}
		}
		for k, b := range d.bodies {
			if !used[b] {
				delete(d.bodies, k)
			}
		}
	}
	var many []*program
	for n := range uint32(maxChain + 1) {
		many = append(many, sysProgram(n+1, x(7)))
	}
	if _, _, err := d.chains(many[1:]); err != nil {
		t.Errorf("as many programs as fit: %v", err)
	}
	if _, _, err := d.chains(many); err == nil || !strings.Contains(err.Error(), "33 different programs want it, 32 can") {
		t.Errorf("one program more: %v", err)
	}
	if _, _, err := d.chains([]*program{sysProgram(1, plan.Call{ABI: "x32", Nr: 1})}); err == nil {
		t.Error("an ABI that nobody knows")
	}
}

// Policies on different sets of system calls that overlap: each hears of its own, whichever comes and goes.
func TestManager_overlappingCalls(t *testing.T) {
	g := newRig(t, ManagerOptions{})
	// getpgid is in all of them, so that the test can provoke it.
	with := func(name string, nrs ...int) *plan.Plan {
		p := sysPlan(name, plan.BackendSysEnter, odd, odd+0xffff)
		for _, n := range nrs {
			p.Hooks[0].Attach.Calls = append(p.Hooks[0].Attach.Calls, plan.Call{ABI: "x64", Nr: n}, plan.Call{ABI: "i386", Nr: n})
		}
		return p
	}
	ids := map[string]uint32{}
	n := odd
	check := func(want ...string) {
		t.Helper()
		n++
		provoke(n)
		told := map[string][]uint64{}
		for _, w := range want {
			told[w] = []uint64{uint64(n)}
		}
		if got := g.told(); !equalTold(got, told) {
			t.Fatalf("got %x, want %v\n%s", got, want, g.m.sys[0])
		}
	}
	add := func(p *plan.Plan) {
		t.Helper()
		id, err := g.m.Add(p)
		if err != nil {
			t.Fatal(err)
		}
		ids[p.Policy] = id
	}
	remove := func(name string) {
		t.Helper()
		if err := g.m.Remove(ids[name]); err != nil {
			t.Fatal(err)
		}
	}
	add(with("a", 500))
	check("a")
	add(with("b", 500, 501))
	check("a", "b")
	add(with("c", 502))
	check("a", "b", "c")
	add(with("d"))
	check("a", "b", "c", "d")
	remove("b")
	check("a", "c", "d")
	add(with("b", 501, 502, 503))
	check("a", "b", "c", "d")
	remove("a")
	check("b", "c", "d")
	remove("d")
	remove("c")
	check("b")
	if g.m.sys[sysEnter].link == nil || g.m.sys[sysExit].link != nil {
		t.Error("the tracepoint at the entry is used, that at the exit is not; the links say otherwise")
	}
	remove("b")
	check()
	if err := g.m.retired.wait(); err != nil {
		t.Fatal(err)
	}
	if g.m.sys[sysEnter].link != nil {
		t.Error("the tracepoint is attached to for nothing: every system call pays for that")
	}
	g.clean()
}
