// SPDX-License-Identifier: Apache-2.0

package process

import (
	"testing"

	"tetragon/internal/event"
)

func entry(pid uint32, ktime uint64, parent event.Key) *Entry {
	return &Entry{Process: event.Process{Key: event.Key{Pid: pid, Ktime: ktime}, Parent: parent}}
}

// kept says which of the keys are in the table.
func kept(t *Table, ks ...event.Key) []bool {
	out := make([]bool, len(ks))
	for i, k := range ks {
		out[i] = t.Get(k) != nil
	}
	return out
}

func TestTable_deadParentStaysWhileChildIsThere(t *testing.T) {
	tab := New(Options{Tail: 1})
	p := entry(10, 1, event.KernelKey)
	c := entry(11, 2, p.Key)
	tab.Add(p)
	tab.Add(c)
	tab.Exit(p)
	for i := range uint32(10) { // stragglers push everything else out of the tail
		e := entry(100+i, uint64(i)+10, event.KernelKey)
		tab.Add(e)
		tab.Exit(e)
	}
	if got := kept(tab, p.Key, c.Key); !got[0] || !got[1] {
		t.Fatalf("parent, child kept: %v, want both", got)
	}
	tab.Exit(c)
	for i := range uint32(2) {
		e := entry(200+i, uint64(i)+100, event.KernelKey)
		tab.Add(e)
		tab.Exit(e)
	}
	if got := kept(tab, p.Key, c.Key); got[0] || got[1] {
		t.Fatalf("parent, child kept after both died: %v, want neither", got)
	}
}

func TestTable_execReplacesTheImage(t *testing.T) {
	tab := New(Options{})
	a := entry(10, 1, event.KernelKey)
	b := entry(10, 2, a.Key)
	tab.Add(a)
	tab.Add(b)
	if a.Alive() || !b.Alive() || tab.Live(10) != b {
		t.Fatalf("first alive %v, second alive %v, live is the second: %v", a.Alive(), b.Alive(), tab.Live(10) == b)
	}
	tab.Exit(a) // a late exit of the old image changes nothing
	if tab.Live(10) != b {
		t.Fatal("the exit of the old image took the new one away")
	}
}

// A chain in which each process forks and then dies holds every ancestor; only the bound limits it.
func TestTable_boundedWhateverIsReferred(t *testing.T) {
	tab := New(Options{Dead: 100, Tail: 10})
	prev := entry(1, 1, event.KernelKey)
	tab.Add(prev)
	for i := range uint64(10000) {
		e := entry(uint32(i)+2, i+2, prev.Key)
		tab.Add(e)
		tab.Exit(prev)
		prev = e
	}
	s := tab.Stats()
	if s.Dead > 101 || s.Live != 1 || len(tab.byKey) != s.Dead+s.Live {
		t.Errorf("live %d dead %d entries %d, want 1, at most 101, and their sum", s.Live, s.Dead, len(tab.byKey))
	}
	if len(tab.elders) > 2000 {
		t.Errorf("%d elders queued", len(tab.elders))
	}
	if s.EarlyLost == 0 {
		t.Error("nothing was counted as lost early")
	}
	// Less may be wanted later, and more again.
	tab.Keep(20)
	if s := tab.Stats(); s.Dead > 21 || s.Live != 1 || tab.Capacity() != 20 {
		t.Errorf("live %d dead %d after Keep(20)", s.Live, s.Dead)
	}
	tab.Keep(0)
	if tab.Capacity() != 20 {
		t.Errorf("Keep(0) made it %d", tab.Capacity())
	}
}

func TestTable_storm(t *testing.T) {
	tab := New(Options{})
	shell := entry(5, 5, event.KernelKey)
	tab.Add(shell)
	for i := range uint64(50000) {
		pid := uint32(1000 + i%30000)
		f := entry(pid, 2*i+10, shell.Key)
		e := entry(pid, 2*i+11, shell.Key)
		tab.Add(f)
		tab.Add(e)
		tab.Exit(e)
	}
	s := tab.Stats()
	if s.Live != 1 || s.Dead > 256 {
		t.Errorf("live %d dead %d, want 1 and at most the tail", s.Live, s.Dead)
	}
	if shell.refs != int32(s.Dead) {
		t.Errorf("shell has %d children in the table, want %d", shell.refs, s.Dead)
	}
}

func TestTable_unmarked(t *testing.T) {
	tab := New(Options{})
	a, b, young := entry(1, 1, event.KernelKey), entry(2, 2, event.KernelKey), entry(3, 300, event.KernelKey)
	for _, e := range []*Entry{a, b, young} {
		tab.Add(e)
	}
	tab.Mark(a, 7)
	var lost []uint32
	tab.Unmarked(7, 100, func(e *Entry) { lost = append(lost, e.Key.Pid) })
	if len(lost) != 1 || lost[0] != 2 {
		t.Errorf("lost %v, want only 2", lost)
	}
}

func BenchmarkTable(b *testing.B) {
	tab := New(Options{})
	shell := entry(5, 5, event.KernelKey)
	tab.Add(shell)
	b.Run("life", func(b *testing.B) {
		b.ReportAllocs()
		i := uint64(10)
		for b.Loop() {
			e := entry(uint32(i), i, shell.Key)
			tab.Add(e)
			tab.Exit(e)
			i++
		}
	})
}

// TestTable_image: what happened belongs to the image of then, also after a later exec, and after the end.
func TestTable_image(t *testing.T) {
	tab := New(Options{Dead: 100, Tail: 4})
	add := func(tab *Table, pid uint32, ktime uint64, parent event.Key) *Entry {
		e := entry(pid, ktime, parent)
		tab.Add(e)
		return e
	}
	parent := add(tab, 1, 1, event.Key{})
	forked := add(tab, 50, 100, parent.Key)
	first := add(tab, 50, 200, parent.Key) // exec after the fork
	second := add(tab, 50, 300, first.Key) // exec without one
	check := func(when string, at, exec uint64, want *Entry) {
		t.Helper()
		if got := tab.Image(50, at, exec); got != want {
			t.Errorf("%s: at %d, exec %d: got %+v, want %+v", when, at, exec, got, want)
		}
	}
	for _, when := range []string{"alive", "dead"} {
		check(when, 90, 0, nil)
		check(when, 150, 0, forked)
		check(when, 190, 180, first) // mapped before the exec was told
		check(when, 200, 180, first)
		check(when, 250, 180, first)
		check(when, 299, 280, second)
		check(when, 350, 280, second)
		check(when, 350, 340, nil) // an exec of which nobody has told
		tab.Exit(second)
	}
	next := add(tab, 50, 10e9, parent.Key) // another user of the pid
	check("used again", 350, 280, second)
	check("used again", 11e9, 0, next)
	for pid := range uint32(6) { // out of the tail
		tab.Exit(add(tab, 60+pid, 500, parent.Key))
	}
	check("forgotten", 350, 280, nil)
	if got := tab.Image(51, 1, 0); got != nil {
		t.Errorf("a pid that nobody had: got %+v", got)
	}
}
