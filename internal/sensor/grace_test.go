// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"errors"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"tetragon/internal/policy/plan"
)

// A hook without policies stays for a while, silent, and comes back without being loaded; another one takes its place.
func TestManager_grace(t *testing.T) {
	for _, b := range []plan.Backend{plan.BackendTp, plan.BackendFentry} {
		t.Run(b.String(), func(t *testing.T) {
			needBackend(t, b)
			g := newRig(t, ManagerOptions{Grace: time.Hour})
			add := func(p *plan.Plan) (id, prog uint32) {
				t.Helper()
				id, err := g.m.Add(p)
				if err != nil {
					t.Fatal(err)
				}
				s, err := g.m.Stats(id)
				if err != nil {
					t.Fatal(err)
				}
				return id, s[0].Program
			}
			remove := func(id uint32) {
				t.Helper()
				if err := g.m.Remove(id); err != nil {
					t.Fatal(err)
				}
			}
			expect := func(want map[string][]uint64) {
				t.Helper()
				provoke(odd)
				if got := g.told(); !equalTold(got, want) {
					t.Fatalf("got %x, want %x", got, want)
				}
			}
			id, prog := add(sysPlan("a", b, odd, odd))
			expect(map[string][]uint64{"a": {odd}})
			remove(id)
			expect(nil)
			if len(g.m.idle) != 1 {
				t.Fatalf("%d programs are idle, want 1", len(g.m.idle))
			}
			again, same := add(sysPlan("a", b, odd, odd))
			if same != prog || again == id {
				t.Errorf("the policy came back as %d with program %d; was %d with %d: want another policy, the same program", again, same, id, prog)
			}
			expect(map[string][]uint64{"a": {odd}})
			if s, err := g.m.Stats(again); err != nil || s[0].Rules[0].Posted != 1 {
				t.Errorf("counters of a policy that came back: %+v, %v; want those of a new one", s, err)
			}
			remove(again)
			// Under another name: its old records may still be in the ring, and are not those of the new policy.
			id, other := add(sysPlan("b", b, odd, odd))
			if other == prog {
				t.Error("the program of one policy was taken for another at once")
			}
			expect(map[string][]uint64{"b": {odd}})
			if len(g.m.idle) != 0 {
				t.Errorf("%d programs are idle though another one runs at their attach point", len(g.m.idle))
			}
			remove(id)
			g.m.mu.Lock()
			g.m.idle[0].silent = time.Now().Add(-ringDelay)
			g.m.mu.Unlock()
			if id, same = add(sysPlan("c", b, odd, odd)); same != other {
				t.Error("after a while it is taken")
			}
			expect(map[string][]uint64{"c": {odd}})
			remove(id)
			g.m.mu.Lock()
			idle := g.m.idle[0]
			idle.timer.Stop()
			idle.timer.Reset(time.Millisecond)
			g.m.mu.Unlock()
			for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
				g.m.mu.Lock()
				n := len(g.m.idle)
				g.m.mu.Unlock()
				if n == 0 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("the grace time does not end")
				}
			}
			if err := g.m.retired.wait(); err != nil {
				t.Fatal(err)
			}
			g.clean()
		})
	}
}

// No system call pays for policies that are gone.
func TestManager_noGraceForCalls(t *testing.T) {
	g := newRig(t, ManagerOptions{Grace: time.Hour})
	id, err := g.m.Add(sysPlan("a", plan.BackendSysEnter, odd, odd))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.m.Remove(id); err != nil {
		t.Fatal(err)
	}
	if err := g.m.retired.wait(); err != nil {
		t.Fatal(err)
	}
	if g.m.sys[sysEnter].link != nil {
		t.Error("the tracepoint of all system calls is attached to for nothing")
	}
	g.clean()
}

// Records of a program that is gone are still understood for a while.
func TestManager_remembersPrograms(t *testing.T) {
	g := newRig(t, ManagerOptions{})
	id, err := g.m.Add(sysPlan("a", plan.BackendTp, odd, odd))
	if err != nil {
		t.Fatal(err)
	}
	s, err := g.m.Stats(id)
	if err != nil {
		t.Fatal(err)
	}
	provoke(odd)
	if err := g.m.Remove(id); err != nil {
		t.Fatal(err)
	}
	if err := g.m.retired.wait(); err != nil {
		t.Fatal(err)
	}
	if got := g.told(); !equalTold(got, map[string][]uint64{"a": {odd}}) {
		t.Errorf("got %x", got)
	}
	for deadline := time.Now().Add(20 * time.Second); g.m.Program(s[0].Program) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the program is remembered for ever")
		}
	}
	if g.m.Program(0) != nil {
		t.Error("program 0")
	}
}

// Close leaves nothing in the kernel and no descriptor here, whatever is attached, idle, or on its way out.
func TestManager_closeLeavesNothing(t *testing.T) {
	g := newRig(t, ManagerOptions{})
	fill := func() *Manager {
		m := NewManager(ManagerOptions{Base: g.base, Facts: g.m.o.Facts, Grace: time.Hour})
		for _, b := range []plan.Backend{plan.BackendTp, plan.BackendRawTp, plan.BackendSysEnter, plan.BackendSysExit} {
			id, err := m.Add(sysPlan("gone", b, odd, odd+5))
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Remove(id); err != nil {
				t.Fatal(err)
			}
			if b == plan.BackendTp {
				continue // one stays idle
			}
			if _, err := m.Add(sysPlan("a", b, odd, odd)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := m.Add(classPlan("c", plan.Set{Kind: plan.SetPaths, Paths: []string{"/x"}}, plan.OfSelf)); err != nil {
			t.Fatal(err)
		}
		return m
	}
	if err := fill().Close(); err != nil { // what is opened once is open then
		t.Fatal(err)
	}
	before := descriptors(t)
	m := fill()
	var progs []ebpf.ProgramID
	all := append([]*ebpf.Program{m.sys[0].prog, m.sys[1].prog}, m.classes.progs...)
	for _, p := range m.after(nil) {
		all = append(all, m.loaded(p)...)
	}
	for _, p := range all {
		info, err := p.Info()
		if err != nil {
			t.Fatal(err)
		}
		id, ok := info.ID()
		if !ok {
			t.Fatal("a program has no id")
		}
		progs = append(progs, id)
	}
	if len(progs) != 2+4+4 { // dispatchers, classes, one at each attach point
		t.Errorf("%d programs are loaded", len(progs))
	}
	var maps []ebpf.MapID
	for name, x := range m.tables.coll.Maps {
		if name == "events" || name == "procs" || name == ".data.account" {
			continue // the base sensor's
		}
		info, err := x.Info()
		if err != nil {
			t.Fatal(err)
		}
		id, ok := info.ID()
		if !ok {
			t.Fatalf("%s has no id", name)
		}
		maps = append(maps, id)
	}
	for range 2 {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Add(sysPlan("late", plan.BackendTp, odd, odd)); !errors.Is(err, ErrClosed) {
		t.Errorf("a policy for what is closed: %v", err)
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
	m = nil
	gone(t, "program", len(progs), func(i int) error {
		p, err := ebpf.NewProgramFromID(progs[i])
		if err == nil {
			_ = p.Close()
		}
		return err
	})
	gone(t, "map", len(maps), func(i int) error {
		x, err := ebpf.NewMapFromID(maps[i])
		if err == nil {
			_ = x.Close()
		}
		return err
	})
}

// Detach silences everything at once, and what it has silenced stays so.
func TestManager_detach(t *testing.T) {
	g := newRig(t, ManagerOptions{})
	var ids []uint32
	for _, b := range []plan.Backend{plan.BackendTp, plan.BackendSysEnter} {
		id, err := g.m.Add(sysPlan("a", b, odd, odd))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	provoke(odd)
	g.m.Detach()
	provoke(odd)
	if err := g.m.Enable(ids[0]); err == nil {
		t.Error("a policy was switched on in what is being closed")
	}
	provoke(odd)
	if got := g.told(); !equalTold(got, map[string][]uint64{"a": {odd, odd}}) {
		t.Errorf("got %x, want the two of before", got)
	}
	for _, id := range ids {
		if s, err := g.m.Stats(id); err != nil || s[0].Rules[0].Posted != 1 {
			t.Errorf("counters are told to the end: %+v, %v", s, err)
		}
	}
}
