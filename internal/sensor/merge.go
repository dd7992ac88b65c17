// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"tetragon/internal/abi"
	"tetragon/internal/policy/plan"
)

// What fits one program.
const (
	hookRules  = abi.LimitHookRules
	trackedMax = 64 // BUF_SOCKS of bpf/abi/hook.h; the package's test compares them
)

// part is one policy's hook on an attach point.
type part struct {
	policy uint32
	plan   *plan.Plan
	hook   *plan.Hook
	stats  int // row of rule_stats of its first rule

	monitor bool // what it orders is not done, only counted
}

// merge makes the programs of one attach point out of the hooks that meet there: one, unless they have more rules than one
// program can hold. Parts are taken in the order of their policies' ids, so that the same policies give the same program,
// in whatever order they came. number gives a set of processes its number in the kernel.
//
// Programs have no id yet. The parts of program i are the second result's element i.
func merge(parts []part, number func(plan.Set) (int, error)) ([]*plan.Program, [][]part, error) {
	parts = slices.Clone(parts)
	slices.SortStableFunc(parts, func(a, b part) int { return cmp.Compare(a.policy, b.policy) })
	var progs []*plan.Program
	var members [][]part
	for len(parts) > 0 {
		n, rules := 0, 0
		for n < len(parts) && rules+len(parts[n].hook.Rules) <= hookRules {
			rules += len(parts[n].hook.Rules)
			n++
		}
		if n == 0 {
			return nil, nil, fmt.Errorf("merge %s: one hook has %d selectors, a program holds %d; split them over several hooks", parts[0].hook.Attach.Key(), len(parts[0].hook.Rules), hookRules)
		}
		p, err := mergeOne(parts[:n], number)
		if err != nil {
			return nil, nil, fmt.Errorf("merge %s: %w", parts[0].hook.Attach.Key(), err)
		}
		progs, members = append(progs, p), append(members, parts[:n])
		parts = parts[n:]
	}
	if len(progs) > 1 && progs[0].KeepsArgs() { // the first to run would drop what the others want
		return nil, nil, fmt.Errorf("merge %s: its policies have more than %d selectors, which is all that one function can have that keeps its arguments until it returns", progs[0].Attach.Key(), hookRules)
	}
	return progs, members, nil
}

func mergeOne(parts []part, number func(plan.Set) (int, error)) (*plan.Program, error) {
	p := &plan.Program{Attach: parts[0].hook.Attach}
	index := make(map[string]int)
	where := make([][]int, len(parts)) // part, value of its hook -> value of the program
	// Tracked sockets first: the kernel half keeps their addresses in a short table by the value's index.
	for _, tracked := range []bool{true, false} {
		for i, x := range parts {
			if where[i] == nil {
				where[i] = make([]int, len(x.hook.Values))
			}
			orders := ordersTracking(x.hook)
			for j := range x.hook.Values {
				if (x.hook.Values[j].Track || orders[j]) != tracked {
					continue
				}
				v := x.hook.Values[j]
				if v.Owner = 0; v.Track {
					v.Owner = x.policy
				}
				k := v.Key()
				at, ok := index[k]
				if !ok {
					at = len(p.Values)
					index[k] = at
					p.Values = append(p.Values, v)
				}
				where[i][j] = at
			}
		}
		if tracked && len(p.Values) > trackedMax {
			return nil, fmt.Errorf("its policies track %d sockets, %d are possible on one function", len(p.Values), trackedMax)
		}
	}
	for i, x := range parts {
		g := plan.Group{Policy: x.policy, Plan: x.plan, Hook: x.hook, First: len(p.Rules), Values: where[i]}
		for j := range x.hook.Rules {
			r, err := mergeRule(x.plan, &x.hook.Rules[j], where[i], number)
			if err != nil {
				return nil, fmt.Errorf("policy %s, selector %d: %w", x.plan.Policy, x.hook.Rules[j].Selector, err)
			}
			p.Rules = append(p.Rules, r)
		}
		p.Groups = append(p.Groups, g)
	}
	return p, nil
}

// ordersTracking says which values the rules of a hook order to track or to forget.
func ordersTracking(h *plan.Hook) map[int]bool {
	out := make(map[int]bool)
	for i := range h.Rules {
		for _, t := range h.Rules[i].Do.Track {
			out[t.Value] = true
		}
	}
	return out
}

// mergeRule makes a rule of a hook one of the program: values by the program's indices, sets by the kernel's numbers.
func mergeRule(pl *plan.Plan, r *plan.Rule, where []int, number func(plan.Set) (int, error)) (plan.Rule, error) {
	out := *r
	value := func(v *int) error {
		if *v < 0 || *v >= len(where) {
			return fmt.Errorf("value %d of %d is meant", *v, len(where))
		}
		*v = where[*v]
		return nil
	}
	out.Filters = slices.Clone(r.Filters)
	for i := range out.Filters {
		f := &out.Filters[i]
		switch {
		case f.Kind == plan.FilterClass:
			if f.Set < 0 || f.Set >= len(pl.Sets) {
				return out, fmt.Errorf("set %d of %d is meant", f.Set, len(pl.Sets))
			}
			n, err := number(pl.Sets[f.Set])
			if err != nil {
				return out, err
			}
			f.Set = n
		case f.Task != plan.TaskNone:
		case f.Kind == plan.FilterExpr:
			var err error
			f.Expr = f.Expr.With(func(v int) int {
				err = cmp.Or(err, value(&v))
				return v
			})
			if err != nil {
				return out, err
			}
		default:
			if err := value(&f.Value); err != nil {
				return out, err
			}
			if f.Kind == plan.FilterGained {
				if err := value(&f.Value2); err != nil {
					return out, err
				}
			}
		}
	}
	if r.Do.Set != nil {
		set := *r.Do.Set
		if err := value(&set.Value); err != nil {
			return out, err
		}
		out.Do.Set = &set
	}
	out.Do.Track = slices.Clone(r.Do.Track)
	kinds := map[bool]int{}
	for i := range out.Do.Track {
		if err := value(&out.Do.Track[i].Value); err != nil {
			return out, err
		}
		if kinds[out.Do.Track[i].Forget]++; kinds[out.Do.Track[i].Forget] > 1 {
			return out, errors.New("one selector tracks, or forgets, one socket; it names more")
		}
	}
	return out, nil
}

// needsClasses says whether a program asks what the kernel half keeps with each process.
func needsClasses(p *plan.Program) bool {
	for i := range p.Rules {
		if p.Rules[i].Do.Baseline || p.Rules[i].Do.Later != 0 || p.Rules[i].Do.Notify != nil { // whoever frees classes frees verdicts as well
			return true
		}
		for j := range p.Rules[i].Filters {
			f := &p.Rules[i].Filters[j]
			if f.Kind == plan.FilterClass {
				return true
			}
			switch f.Task {
			case plan.TaskCapEffectiveChanged, plan.TaskCapPermittedChanged, plan.TaskCapInheritableChanged, plan.TaskNsChanged, plan.TaskTracked:
				return true
			}
		}
	}
	return false
}

// setsOf lists the numbers of the sets that a program tests.
func setsOf(p *plan.Program) []int {
	var out []int
	for i := range p.Rules {
		for j := range p.Rules[i].Filters {
			if f := &p.Rules[i].Filters[j]; f.Kind == plan.FilterClass {
				out = append(out, f.Set)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// code is everything of a program that its instructions are made by, as text. Programs with equal code can stand for each
// other: what differs, names and policies, is in tables and in the plan.Program that their records are read with.
func code(p *plan.Program) string {
	var b strings.Builder
	a := &p.Attach
	fmt.Fprintf(&b, "%s params=%d regs=%t compat=%t\n", a.Key(), a.Params, a.Regs, a.Compat)
	for i := range p.Values {
		fmt.Fprintf(&b, "%s\n", p.Values[i].Key())
	}
	for i := range p.Rules {
		r := &p.Rules[i]
		for j := range r.Filters {
			f := r.Filters[j]
			f.Text = ""
			if f.Expr != nil {
				fmt.Fprintf(&b, "%s ", f.Expr)
				f.Expr = nil
			}
			fmt.Fprintf(&b, "%+v ", f)
		}
		d := r.Do
		notify := plan.Notify{}
		if d.Notify != nil {
			notify = *d.Notify
		}
		fmt.Fprintf(&b, "-> %t %d %d %d %t %t %t %v %t %t %t %x %x %t %t %v %x %d\n", d.Post, d.RateLimit, d.Aggregate, d.Scope, d.KernelStack, d.UserStack, d.ImaHash, d.Track, d.Baseline, len(d.Signals) > 0, d.Override, d.Later, d.From, d.Enforcer, d.Kills, notify, d.Forget, setAt(&d))
	}
	for i := range p.Groups {
		g := &p.Groups[i]
		fmt.Fprintf(&b, "group %d+%d shows", g.First, len(g.Hook.Rules))
		show := func(a *plan.Arg) {
			if a.Value >= 0 && a.Value < len(g.Values) {
				fmt.Fprintf(&b, " %d", g.Values[a.Value])
			}
		}
		for j := range g.Hook.Args {
			show(&g.Hook.Args[j])
		}
		for j := range g.Hook.Data {
			show(&g.Hook.Data[j])
		}
		if g.Hook.Return != nil {
			show(g.Hook.Return)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// setAt is which value a rule sets, -1: none. What to is in the table of rules.
func setAt(d *plan.Actions) int {
	if d.Set == nil {
		return -1
	}
	return d.Set.Value
}

// face is what the events of a program show of its policies, as text. A program whose face changes may still have records
// in the ring that were made under the old one.
func face(p *plan.Program) string {
	var b strings.Builder
	for i := range p.Groups {
		g := &p.Groups[i]
		h := g.Hook
		fmt.Fprintf(&b, "%s/%s %s %s %s/%s %q %q %q %v %v %v %d", g.Plan.Namespace, g.Plan.Policy, h.Name, h.Symbol, h.Subsys, h.TpEvent, h.Names, h.Message, h.Tags, h.Event, h.Args, h.Data, g.First)
		if h.Return != nil {
			fmt.Fprintf(&b, " %v", *h.Return)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// ruleRows makes what the kernel half does for each rule of a program.
func ruleRows(p *plan.Program, parts []part) []abi.Rule {
	out := make([]abi.Rule, 0, len(p.Rules))
	for i := range p.Groups {
		g := &p.Groups[i]
		for j := range g.Hook.Rules {
			d := &p.Rules[g.First+j].Do
			r := abi.Rule{
				Next: uint32(g.First + len(g.Hook.Rules)), Stat: uint32(parts[i].stats + j), Policy: g.Policy, Track: -1, Untrack: -1,
			}
			if d.Post {
				r.Flags |= abi.RulePost
			}
			if d.Baseline {
				r.Flags |= abi.RuleBaseline
			}
			if d.RateLimit > 0 {
				r.LimitMs = milliseconds(d.RateLimit)
				r.Values = shown(g)
				switch d.Scope {
				case plan.ScopeProcess:
					r.Flags |= abi.RuleScopeProcess
				case plan.ScopeGlobal:
					r.Flags |= abi.RuleScopeGlobal
				}
			}
			if d.Aggregate > 0 {
				r.Flags |= abi.RuleMerge
				r.LimitMs = milliseconds(d.Aggregate)
				r.Values = told(p, g)
			}
			for _, s := range d.Signals {
				r.Signals |= 1 << (s - 1)
			}
			if d.Enforcer { // whichever was ordered counts
				r.Signals = ^uint64(0)
			}
			if d.Override {
				r.Flags |= abi.RuleOverride
				r.Error = d.Error
				if d.Later != 0 {
					r.Flags |= abi.RuleLater
				}
			}
			if d.Set != nil {
				r.Flags |= abi.RuleSet
				r.Set = d.Set.To
			}
			if parts[i].monitor && d.Enforces() {
				r.Flags |= abi.RuleMonitor
			}
			for _, t := range d.Track {
				if t.Forget {
					r.Untrack = int16(t.Value)
				} else {
					r.Track = int16(t.Value)
				}
			}
			out = append(out, r)
		}
	}
	return out
}

// milliseconds is a time as rules have it, rounded up.
func milliseconds(d time.Duration) uint32 {
	return uint32(min((d+time.Millisecond-1)/time.Millisecond, math.MaxUint32))
}

// told is which values make a group's events, as a mask: calls in which they are all equal may be told together.
func told(p *plan.Program, g *plan.Group) uint64 {
	mask := uint64(1) << 63 // 0 would mean all
	add := func(a *plan.Arg) {
		if a.Value >= 0 && g.Values[a.Value] < 64 {
			mask |= 1 << g.Values[a.Value]
		}
	}
	for i := range g.Hook.Args {
		add(&g.Hook.Args[i])
	}
	for i := range g.Hook.Data {
		add(&g.Hook.Data[i])
	}
	if g.Hook.Return != nil {
		add(g.Hook.Return)
	}
	for _, v := range g.Values {
		if v >= 0 && v < 64 && p.Values[v].Track { // whose call it is
			mask |= 1 << v
		}
	}
	return mask
}

// shown is which values a group's events have as arguments, as a mask: those tell calls apart for a rate limit. What other
// policies read in the same call does not.
func shown(g *plan.Group) uint64 {
	var mask uint64
	for _, a := range g.Hook.Args {
		if a.Value >= 0 && g.Values[a.Value] < 64 {
			mask |= 1 << g.Values[a.Value]
		}
	}
	if mask == 0 {
		mask = 1 << 63 // 0 would mean all
	}
	return mask
}
