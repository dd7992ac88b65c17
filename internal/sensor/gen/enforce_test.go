// SPDX-License-Identifier: Apache-2.0

package gen

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"

	"tetragon/internal/abi"
	"tetragon/internal/policy/plan"
)

// TestBody_whoDecides: of each policy the first rule that is alive is carried out, and no other, whatever words of the mask
// they are in. The rules only monitor, so that what would be sent is counted, and nothing is.
func TestBody_whoDecides(t *testing.T) {
	h := newHarness(t)
	r := rand.New(rand.NewPCG(4, 8))
	for _, n := range []int{1, 2, 63, 64, 65, 130, maxRules} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			p := &plan.Program{ID: 1, Attach: plan.Attach{Backend: plan.BackendRawTp, Symbol: "library", Params: 1}}
			for first := 0; first < n; {
				size := min(1+r.IntN(70), n-first)
				hook := &plan.Hook{Rules: make([]plan.Rule, size)}
				for range size {
					do := plan.Actions{Last: "NoPost"}
					if r.IntN(3) > 0 {
						do.Signals = []int{10}
					}
					p.Rules = append(p.Rules, plan.Rule{Do: do})
				}
				p.Groups = append(p.Groups, plan.Group{Policy: uint32(first), Hook: hook, First: first})
				first += size
			}
			p.Rules[n-1].Do.Signals = []int{10} // otherwise there may be nothing to enforce
			for g := range p.Groups {
				for i := range p.Groups[g].Hook.Rules {
					at := p.Groups[g].First + i
					row := abi.Rule{Next: uint32(p.Groups[g].First + len(p.Groups[g].Hook.Rules)), Stat: uint32(at), Track: -1, Untrack: -1}
					if len(p.Rules[at].Do.Signals) > 0 {
						row.Flags, row.Signals = abi.RuleMonitor, 1<<9
					}
					if err := h.tables.Maps["rules"].Put(uint32(at), &row); err != nil {
						t.Fatal(err)
					}
				}
			}
			spec, err := Body(p, h.lib.Programs["library"], Options{Layout: h.layout})
			if err != nil {
				t.Fatal(err)
			}
			prog := h.load(t, spec)
			for range 20 {
				var live ruleSet
				for i := range n {
					if r.IntN(4) == 0 {
						live.add(i)
					}
				}
				h.whoDecides(t, p, prog, live)
			}
		})
	}
}

func (h *harness) whoDecides(t *testing.T, p *plan.Program, prog *ebpf.Program, live ruleSet) {
	t.Helper()
	zero := make([]abi.RuleStat, ebpf.MustPossibleCPU())
	for i := range p.Rules {
		if err := h.tables.Maps["rule_stats"].Put(uint32(i), zero); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.slot(0, live); err != nil {
		t.Fatal(err)
	}
	if _, err := prog.Run(&ebpf.RunOptions{Context: []uint64{0}}); err != nil {
		t.Fatal(err)
	}
	for g := range p.Groups {
		decided := false
		for i := p.Groups[g].First; i < p.Groups[g].First+len(p.Groups[g].Hook.Rules); i++ {
			first := live.has(i) && !decided
			decided = decided || live.has(i)
			var got abi.RuleStat
			var each []abi.RuleStat
			if err := h.tables.Maps["rule_stats"].Lookup(uint32(i), &each); err != nil {
				t.Fatal(err)
			}
			for _, s := range each {
				got.Matched += s.Matched
				got.MonitorSignal += s.MonitorSignal
				got.Signal += s.Signal
			}
			want := abi.RuleStat{}
			if first {
				want.Matched = 1
				if len(p.Rules[i].Do.Signals) > 0 {
					want.MonitorSignal = 1
				}
			}
			if got != want {
				t.Fatalf("rule %d of %d, alive %t, the first %t: got %+v, want %+v", i, len(p.Rules), live.has(i), first, got, want)
			}
		}
	}
}

// TestVerdict_holdsForItsCall has one program order what another one finds, as long as the first has not seen a call that it
// orders nothing for. The kernel runs both in the system call of this thread.
func TestVerdict_holdsForItsCall(t *testing.T) {
	h := newHarness(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const id, other = 0x1234567890abcdef, 77
	number := plan.Value{Source: plan.Source{Kind: plan.SourceArg}, Type: plan.TypeInt, Bits: 32}
	rule := func(v plan.Verdict, n uint64) plan.Rule {
		return plan.Rule{
			Filters: []plan.Filter{{Kind: plan.FilterRanges, Ranges: []plan.Range{{Lo: n, Hi: n}}}},
			Do:      plan.Actions{Override: true, Error: -13, Later: v},
		}
	}
	orders := &plan.Program{
		ID: 1, Attach: plan.Attach{Backend: plan.BackendRawTp, Symbol: "library", Params: 1}, Values: []plan.Value{number},
		Rules: []plan.Rule{rule(id, 1), rule(other, 2)},
		Groups: []plan.Group{
			{Policy: 1, Hook: &plan.Hook{Rules: make([]plan.Rule, 1)}}, {Policy: 2, Hook: &plan.Hook{Rules: make([]plan.Rule, 1)}, First: 1},
		},
	}
	for i := range orders.Rules {
		row := abi.Rule{Next: uint32(i + 1), Stat: uint32(i), Track: -1, Untrack: -1, Flags: abi.RuleOverride | abi.RuleLater, Error: -13}
		if err := h.tables.Maps["rules"].Put(uint32(i), &row); err != nil {
			t.Fatal(err)
		}
	}
	spec, err := Body(orders, h.lib.Programs["library"], Options{Layout: h.layout})
	if err != nil {
		t.Fatal(err)
	}
	ordering := h.load(t, spec)
	finds := h.body(t, &plan.Program{
		ID: 2, Attach: plan.Attach{Backend: plan.BackendRawTp, Symbol: "library", Params: 1},
		Rules: []plan.Rule{{Filters: []plan.Filter{{Kind: plan.FilterRanges, Not: true, Task: plan.TaskVerdict, Verdict: id, Ranges: []plan.Range{{}}}}}},
	})
	for i, c := range []struct {
		arg   uint64
		live  ruleSet
		there bool
		kept  uint32 // of both
	}{
		{3, firstRules(2), false, 0},
		{1, firstRules(2), true, 1},
		{1, firstRules(2), true, 1},
		{3, ruleSet{}, true, 1}, // it is silent
		{2, firstRules(2), false, 1},
		{1, ruleSet{2}, false, 0}, // its policy is off
		{1, ruleSet{1}, true, 1},
		{3, firstRules(2), false, 0},
	} {
		if err := h.slot(0, c.live); err != nil {
			t.Fatal(err)
		}
		if _, err := ordering.Run(&ebpf.RunOptions{Context: []uint64{c.arg}}); err != nil {
			t.Fatal(err)
		}
		if err := h.slot(0, firstRules(1)); err != nil {
			t.Fatal(err)
		}
		found := h.run(t, finds, 0)
		if found.has(0) != c.there {
			t.Errorf("step %d: there %t, want %t", i, found.has(0), c.there)
		}
		if all, cells := h.ordered(t); all != c.kept || cells != c.kept {
			t.Errorf("step %d: %d are counted, %d in the cells of threads, want %d", i, all, cells, c.kept)
		}
	}
}

// ordered is how many verdicts are counted, and how many of them in the cells of threads.
func (h *harness) ordered(t *testing.T) (all, cells uint32) {
	t.Helper()
	var o [1 + abi.LimitOrderCells]uint32
	if err := h.tables.Maps["orders"].Lookup(uint32(0), &o); err != nil {
		t.Fatal(err)
	}
	for _, n := range o[1:] {
		cells += n
	}
	return o[0], cells
}
