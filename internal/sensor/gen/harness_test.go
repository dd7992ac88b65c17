// SPDX-License-Identifier: Apache-2.0

package gen

import (
	"errors"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"

	"tetragon/bpf"
	"tetragon/internal/policy/plan"
)

// harness loads generated programs that are run by hand, with arguments of our choice.
type harness struct {
	lib    *ebpf.CollectionSpec
	layout *Layout
	tables *ebpf.Collection // the library's maps
	cache  *btf.Cache
}

// needKernel skips a test where this process may not load programs.
func needKernel(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: loads programs")
	}
}

func newHarness(t testing.TB) *harness {
	t.Helper()
	needKernel(t)
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	h := &harness{cache: btf.NewCache()}
	var err error
	if h.lib, err = bpf.LoadHooks(); err != nil {
		t.Fatal(err)
	}
	if h.layout, err = ReadLayout(h.lib); err != nil {
		t.Fatal(err)
	}
	if types, err := h.cache.Kernel(); err == nil {
		h.layout.ForKernel(types)
	}
	maps := h.lib.Copy()
	maps.Programs = nil
	maps.Maps["hook_bufs"].MaxEntries = uint32(4 * ebpf.MustPossibleCPU())
	if h.tables, err = ebpf.NewCollectionWithOptions(maps, ebpf.CollectionOptions{Cache: h.cache}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.tables.Close)
	return h
}

// load makes a program runnable.
func (h *harness) load(t testing.TB, spec *ebpf.ProgramSpec) *ebpf.Program {
	t.Helper()
	spec.Name = "body"
	one := &ebpf.CollectionSpec{
		Maps: h.lib.Copy().Maps, Programs: map[string]*ebpf.ProgramSpec{"body": spec}, Types: h.lib.Types, ByteOrder: h.lib.ByteOrder,
	}
	for name, m := range h.tables.Maps {
		one.Maps[name].MaxEntries = m.MaxEntries()
	}
	coll, err := ebpf.NewCollectionWithOptions(one, ebpf.CollectionOptions{MapReplacements: h.tables.Maps, Cache: h.cache})
	if err != nil {
		var ve *ebpf.VerifierError
		if errors.As(err, &ve) {
			if n := len(ve.Log); n > 60 {
				ve.Log = ve.Log[n-60:]
			}
			t.Fatalf("%+v", ve)
		}
		t.Fatal(err)
	}
	p := coll.DetachProgram("body")
	coll.Close()
	t.Cleanup(func() { p.Close() })
	return p
}

// body generates a program for tests and loads it with all of its rules on.
func (h *harness) body(t testing.TB, p *plan.Program) *ebpf.Program {
	t.Helper()
	o := h.options(p)
	for s, i := range o.Needles {
		var row [4 + 256]byte
		row[0] = byte(len(s))
		copy(row[4:], s)
		if err := h.tables.Maps["needles"].Put(uint32(i), row[:]); err != nil {
			t.Fatal(err)
		}
	}
	spec, err := Body(p, h.lib.Programs["library"], o)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.slot(0, firstRules(len(p.Rules))); err != nil {
		t.Fatal(err)
	}
	return h.load(t, spec)
}

// options number the strings that a program searches for.
func (h *harness) options(p *plan.Program) Options {
	o := Options{Layout: h.layout, Test: true, Needles: make(map[string]int)}
	for i, s := range Needles(p) {
		o.Needles[s] = i
	}
	return o
}

// slot writes a slot's rules, and clears the others.
func (h *harness) slot(n int, s ruleSet) error {
	v := h.tables.Variables["slots"]
	state := make([]ruleSet, v.Size()/slotSize)
	state[n] = s
	return v.Set(state)
}

// run calls a program with arguments and returns the rules that it left alive.
func (h *harness) run(t testing.TB, p *ebpf.Program, args ...uint64) ruleSet {
	t.Helper()
	state := h.slots(t)
	state[1] = ruleSet{} // a call that no rule survives writes nothing
	if err := h.tables.Variables["slots"].Set(state); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(&ebpf.RunOptions{Context: args}); err != nil {
		t.Fatal(err)
	}
	return h.slots(t)[1]
}

func (h *harness) slots(t testing.TB) []ruleSet {
	t.Helper()
	v := h.tables.Variables["slots"]
	state := make([]ruleSet, v.Size()/slotSize)
	if err := v.Get(&state); err != nil {
		t.Fatal(err)
	}
	return state
}
