// SPDX-License-Identifier: Apache-2.0

package process

import (
	"math/rand/v2"
	"testing"

	"tetragon/internal/event"
)

// check holds the table to what it promises of itself.
func (t *Table) check(tb testing.TB) {
	tb.Helper()
	refs, alive := map[*Entry]int32{}, map[*Entry]int32{}
	dead := 0
	for k, e := range t.byKey {
		if e.Key != k {
			tb.Fatalf("key %v leads to %v", k, e.Key)
		}
		if e.removed {
			tb.Fatalf("%v is in the table and removed", k)
		}
		if e.parent != nil {
			refs[e.parent]++
			if !e.dead {
				alive[e.parent]++
			}
		}
		switch {
		case e.dead:
			dead++
			if !e.queued && e.refs == 0 {
				tb.Fatalf("%v is dead, has no children, and nothing will remove it", k)
			}
		case t.live[k.Pid] != e:
			tb.Fatalf("%v lives and is not the image of its pid", k)
		}
	}
	for e, n := range refs {
		if e.refs != n {
			tb.Fatalf("%v counts %d children, has %d", e.Key, e.refs, n)
		}
	}
	for pid, e := range t.live {
		if e.Key.Pid != pid || e.dead || t.byKey[e.Key] != e {
			tb.Fatalf("pid %d is %+v", pid, e)
		}
	}
	for k, e := range t.byKey {
		if e.refs != refs[e] || e.alive != alive[e] {
			tb.Fatalf("%v counts %d children, %d alive, has %d, %d", k, e.refs, e.alive, refs[e], alive[e])
		}
	}
	s := t.Stats()
	if s.Dead != dead || s.Live != len(t.live) || s.Live+s.Dead != len(t.byKey) {
		tb.Fatalf("counts %+v, want live %d dead %d of %d", s, len(t.live), dead, len(t.byKey))
	}
	// At worst, all of the tail is dead and beyond the reach of the limit.
	if s.Dead > t.opts.Dead+t.opts.Tail+1 {
		tb.Fatalf("%d dead, the limit is %d", s.Dead, t.opts.Dead)
	}
	if len(t.elders) > 2*s.Dead+1024+1 || len(t.free) > maxFree {
		tb.Fatalf("%d elders, %d free", len(t.elders), len(t.free))
	}
	for _, es := range [][]*Entry{t.free, t.gone} {
		for _, e := range es {
			if !e.removed || e.queued || e.refs != 0 || e.parent != nil {
				tb.Fatalf("to be used again, but in use: %+v", e)
			}
		}
	}
}

// actor does things to a table as the lane does, and keeps what events would hold.
type actor struct {
	tb    testing.TB
	tab   *Table
	clock uint64
	known []event.Key // all keys ever, for stale look-ups
	held  map[*Entry]event.Key
}

func (a *actor) add(pid uint32, parent event.Key) {
	a.clock++
	e := a.tab.Make()
	if e.refs != 0 || e.dead || e.removed || e.queued || e.Key != (event.Key{}) || len(e.Encoded.JSON) != 0 {
		a.tb.Fatalf("Make returned an entry that is not empty: %+v", e)
	}
	if k, ok := a.held[e]; ok {
		a.tb.Fatalf("an event still holds the entry that was %v", k)
	}
	e.Key, e.Parent = event.Key{Pid: pid, Ktime: a.clock}, parent
	e.Encoded.JSON = append(e.Encoded.JSON, "{}"...)
	a.tab.Add(e)
	a.held[e] = e.Key
	a.known = append(a.known, e.Key)
}

// step does what two numbers say.
func (a *actor) step(op, arg uint8) {
	pid := uint32(arg % 32)
	some := event.Key{Pid: 9999, Ktime: uint64(arg)}
	if len(a.known) > 0 {
		back := int(arg)%len(a.known) + 1
		some = a.known[len(a.known)-back]
	}
	switch op % 8 {
	case 0, 1: // a fork by somebody who may be dead or gone
		a.add(pid, some)
	case 2: // a fork by a living one
		if p := a.tab.Live(pid); p != nil {
			a.add(uint32(op)%32, p.Key)
		}
	case 3: // an exec
		if p := a.tab.Live(pid); p != nil {
			a.add(pid, p.Key)
		}
	case 4: // an exec after a fork
		if p := a.tab.Live(pid); p != nil {
			a.add(pid, p.Parent)
		}
	case 5, 6:
		if p := a.tab.Get(some); p != nil {
			a.held[p] = p.Key
			if pp := a.tab.Parent(p); pp != nil {
				if pp.Key != p.Parent {
					a.tb.Fatalf("the parent of %v is %v, got %v", p.Key, p.Parent, pp.Key)
				}
				a.held[pp] = pp.Key
			}
			a.tab.Exit(p)
		}
	case 7: // the next batch
		for e, k := range a.held {
			if e.Key != k {
				a.tb.Fatalf("an event held %v, which became %v", k, e.Key)
			}
		}
		clear(a.held)
		a.tab.Reuse()
	}
}

func newActor(tb testing.TB) *actor {
	return &actor{tb: tb, tab: New(Options{Dead: 20, Tail: 5}), held: map[*Entry]event.Key{}}
}

func TestTable_random(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		a := newActor(t)
		for range 3000 {
			a.step(uint8(rng.UintN(256)), uint8(rng.UintN(256)))
			a.tab.check(t)
		}
		if a.tab.stats.Evicted == 0 || a.tab.stats.EarlyLost == 0 || len(a.tab.free)+len(a.tab.gone) == 0 {
			t.Errorf("seed %d: the steps did not lead everywhere: %+v", seed, a.tab.Stats())
		}
	}
}

func FuzzTable(f *testing.F) {
	f.Add([]byte{0, 1, 3, 1, 5, 0, 7, 0, 0, 1})
	f.Fuzz(func(t *testing.T, steps []byte) {
		a := newActor(t)
		for ; len(steps) >= 2; steps = steps[2:] {
			a.step(steps[0], steps[1])
			a.tab.check(t)
		}
	})
}

func TestTable_knownTwice(t *testing.T) {
	tab := New(Options{})
	a, again := entry(10, 1, event.KernelKey), entry(10, 1, event.KernelKey)
	tab.Add(a)
	tab.Add(again)
	if tab.Live(10) != a || tab.Get(a.Key) != a || !a.Alive() {
		t.Error("the second took the place of the first")
	}
	tab.check(t)
}

// A parent that comes after its child, from a snapshot after a loss, does not count the child.
func TestTable_parentComesLate(t *testing.T) {
	tab := New(Options{Tail: 1})
	p := entry(10, 1, event.KernelKey)
	c := entry(11, 2, p.Key)
	tab.Add(c)
	tab.Add(p)
	if tab.Parent(c) != p {
		t.Error("the parent is not found")
	}
	for i, e := range []*Entry{c, entry(12, 3, event.KernelKey), entry(13, 4, event.KernelKey)} {
		if i > 0 {
			tab.Add(e)
		}
		tab.Exit(e)
		tab.check(t)
	}
	if p.refs != 0 || !p.Alive() {
		t.Errorf("the parent counts %d children, alive %v", p.refs, p.Alive())
	}
}

// Nothing is allocated for a life in a table that is warm.
func TestTable_allocatesNothing(t *testing.T) {
	tab := New(Options{Tail: 8})
	shell := entry(5, 5, event.KernelKey)
	tab.Add(shell)
	at := uint64(10)
	life := func() {
		tab.Reuse()
		for range 2 { // fork and exec
			e := tab.Make()
			at++
			e.Key, e.Parent = event.Key{Pid: 100, Ktime: at}, shell.Key
			tab.Add(e)
		}
		tab.Exit(tab.Live(100))
	}
	for range 1000 {
		life()
	}
	if n := testing.AllocsPerRun(1000, life); n != 0 {
		t.Errorf("%v allocations a life", n)
	}
}
