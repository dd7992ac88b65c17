// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"tetragon/internal/abi"
	"tetragon/internal/policy/plan"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func arg(n int64, t plan.Type) plan.Value {
	v := plan.Value{Source: plan.Source{Kind: plan.SourceArg, N: n}, Type: t}
	if t == plan.TypeInt {
		v.Bits, v.Signed = 32, true
	}
	return v
}

func equal(value int, n uint64) plan.Filter {
	return plan.Filter{Kind: plan.FilterRanges, Value: value, Ranges: []plan.Range{{Lo: n, Hi: n}}}
}

var post = plan.Actions{Post: true, Last: "Post", LastReturn: "Post"}

// hookOn is a hook of a policy with one value for each argument.
func hookOn(symbol string, values []plan.Value, rules ...plan.Rule) plan.Hook {
	h := plan.Hook{
		Section: "kprobes", Event: plan.EventKprobe, Name: symbol,
		Attach: plan.Attach{Backend: plan.BackendFentry, Symbol: symbol, Params: 4}, Values: values, Rules: rules,
	}
	for i := range values {
		h.Args = append(h.Args, plan.Arg{Value: i, Index: i, Type: "x"})
	}
	return h
}

// mergeCases are policies that meet; each has a golden file that shows them and what becomes of them.
var mergeCases = map[string][]plan.Plan{
	"values_shared": {
		{Policy: "a", Hooks: []plan.Hook{hookOn("f", []plan.Value{arg(0, plan.TypeFile), arg(1, plan.TypeInt)},
			plan.Rule{Filters: []plan.Filter{{Kind: plan.FilterPrefix, Value: 0, Strings: []string{"/etc/"}}, equal(1, 4)}, Do: post},
			plan.Rule{Selector: 1, Filters: []plan.Filter{equal(1, 2)}, Do: plan.Actions{Last: "NoPost", LastReturn: "Post"}},
		)}},
		{Policy: "b", Hooks: []plan.Hook{hookOn("f", []plan.Value{arg(1, plan.TypeInt), arg(0, plan.TypeFile), arg(0, plan.TypePath)},
			plan.Rule{Filters: []plan.Filter{equal(0, 7), {Kind: plan.FilterSuffix, Value: 1, Strings: []string{".so"}}, {Kind: plan.FilterEqual, Value: 2, Strings: []string{"/x"}}}, Do: post},
		)}},
	},
	"one_policy_twice": {
		{Policy: "a", Hooks: []plan.Hook{
			hookOn("f", []plan.Value{arg(0, plan.TypeInt)}, plan.Rule{Filters: []plan.Filter{equal(0, 1)}, Do: post}),
			hookOn("f", []plan.Value{arg(2, plan.TypeString)}, plan.Rule{Do: post}),
		}},
	},
	"tracked_sockets": {
		{Policy: "a", Hooks: []plan.Hook{hookOn("f", []plan.Value{arg(1, plan.TypeInt), {Source: plan.Source{Kind: plan.SourceArg}, Type: plan.TypeSock, Track: true}},
			plan.Rule{Do: plan.Actions{Post: true, Last: "TrackSock", LastReturn: "Post", Track: []plan.Track{{Value: 1}}}})}},
		{Policy: "b", Hooks: []plan.Hook{hookOn("f", []plan.Value{arg(0, plan.TypeSock)},
			plan.Rule{Filters: []plan.Filter{{Kind: plan.FilterAddrs, Value: 0, Field: plan.FieldDaddr, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}, Do: post})}},
		{Policy: "c", Hooks: []plan.Hook{hookOn("f", []plan.Value{arg(0, plan.TypeSock), arg(0, plan.TypeSock)},
			plan.Rule{Do: plan.Actions{Last: "UntrackSock", LastReturn: "Post", Track: []plan.Track{{Value: 1, Forget: true}}}})}},
	},
	"sets_and_tasks": {
		{
			Policy: "a", Sets: []plan.Set{{Kind: plan.SetPaths, Paths: []string{"/bin/a"}}, {Kind: plan.SetPids, Pids: []uint32{7}}},
			Hooks: []plan.Hook{hookOn("f", []plan.Value{arg(0, plan.TypeInt), arg(1, plan.TypeInt)}, plan.Rule{
				Filters: []plan.Filter{
					{Kind: plan.FilterClass, Set: 1}, {Kind: plan.FilterClass, Set: 0, Of: plan.OfLine, Not: true},
					{Kind: plan.FilterRanges, Task: plan.TaskPid, Ranges: []plan.Range{{Lo: 1, Hi: 1}}}, {Kind: plan.FilterGained, Value: 0, Value2: 1},
				}, Do: post,
			})},
		},
		{
			Policy: "b", Sets: []plan.Set{{Kind: plan.SetPaths, Paths: []string{"/bin/b"}}, {Kind: plan.SetPaths, Paths: []string{"/bin/a"}}},
			Hooks: []plan.Hook{hookOn("f", []plan.Value{arg(1, plan.TypeInt), arg(0, plan.TypeInt)}, plan.Rule{
				Filters: []plan.Filter{{Kind: plan.FilterClass, Set: 1}, {Kind: plan.FilterClass, Set: 0, Of: plan.OfParent}, {Kind: plan.FilterGained, Value: 0, Value2: 1}}, Do: post,
			})},
		},
	},
	"actions": {
		{Policy: "a", Hooks: []plan.Hook{hookOn("f", []plan.Value{arg(0, plan.TypeInt)},
			plan.Rule{Filters: []plan.Filter{equal(0, 1)}, Do: plan.Actions{Post: true, Last: "Post", LastReturn: "Post", RateLimit: time.Minute, Scope: plan.ScopeGlobal}},
			plan.Rule{Selector: 1, Label: "second", Do: plan.Actions{Post: true, Last: "Post", LastReturn: "Post", RateLimit: 1, Scope: plan.ScopeProcess, KernelStack: true, Baseline: true}},
		)}},
		{Policy: "b", Hooks: []plan.Hook{hookOn("f", []plan.Value{arg(0, plan.TypeInt)}, plan.Rule{Do: plan.Actions{Last: "NoPost", LastReturn: "Post"}})}},
	},
	"enforced": {
		{Policy: "a", Hooks: []plan.Hook{hookOn("f", []plan.Value{arg(0, plan.TypeInt)},
			plan.Rule{Filters: []plan.Filter{equal(0, 1)}, Do: plan.Actions{Last: "Sigkill", LastReturn: "Post", Signals: []int{9, 10}, Override: true, Error: -13}},
			plan.Rule{Selector: 1, Do: post},
		)}},
		{Policy: "watches", Monitor: true, Hooks: []plan.Hook{hookOn("f", []plan.Value{arg(0, plan.TypeInt)},
			plan.Rule{Filters: []plan.Filter{equal(0, 1)}, Do: plan.Actions{Post: true, Last: "Override", LastReturn: "Post", Override: true, Error: -1}},
			plan.Rule{Selector: 1, Do: post},
		)}},
	},
}

// merged prints programs: what they read and decide, whose it is, and the rows of the table of rules.
func merged(progs []*plan.Program, members [][]part) string {
	var b strings.Builder
	for i, p := range progs {
		x := plan.Plan{Policy: "(all)", Hooks: []plan.Hook{{Section: "merged", Attach: p.Attach, Values: p.Values, Rules: p.Rules}}}
		b.WriteString(x.String())
		for _, g := range p.Groups {
			fmt.Fprintf(&b, "group of policy %d (%s): rules %d to %d, values %v\n", g.Policy, g.Plan.Policy, g.First, g.First+len(g.Hook.Rules)-1, g.Values)
		}
		for _, v := range p.Values {
			if v.Owner != 0 {
				fmt.Fprintf(&b, "the owner that policy %d knows is told\n", v.Owner)
			}
		}
		for j, r := range ruleRows(p, members[i]) {
			fmt.Fprintf(&b, "row %d %+v\n", j, r)
		}
	}
	return b.String()
}

func numbered() func(plan.Set) (int, error) { return newSetTable().number }

func TestMerge(t *testing.T) {
	for name, plans := range mergeCases {
		t.Run(name, func(t *testing.T) {
			a := &txtar.Archive{Comment: []byte("Policies that meet at one attach point, and the program that they become.\n")}
			var parts, backwards []part
			stat := 0
			for i := range plans {
				p := &plans[i]
				a.Files = append(a.Files, txtar.File{Name: "plan " + p.Policy, Data: []byte(p.String())})
				for j := range p.Hooks {
					parts = append(parts, part{policy: uint32(i + 1), plan: p, hook: &p.Hooks[j], stats: stat, monitor: p.Monitor})
					stat += len(p.Hooks[j].Rules)
				}
			}
			for i := len(plans) - 1; i >= 0; i-- {
				for _, x := range parts {
					if x.plan == &plans[i] {
						backwards = append(backwards, x)
					}
				}
			}
			// Sets get their numbers once, in whatever order policies come.
			number := numbered()
			progs, members, err := merge(parts, number)
			if err != nil {
				t.Fatal(err)
			}
			out := merged(progs, members)
			again, members2, err := merge(backwards, number)
			if err != nil {
				t.Fatal(err)
			}
			if got := merged(again, members2); got != out {
				t.Errorf("in another order: got\n%s\nwant\n%s", got, out)
			}
			a.Files = append(a.Files, txtar.File{Name: "program", Data: []byte(out)})
			path := filepath.Join("testdata", "merge_"+name+".txtar")
			got := string(txtar.Format(a))
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
			}
		})
	}
}

// Plans are not changed by being merged: the same plan is merged again and again.
func TestMerge_leavesPlans(t *testing.T) {
	for name, plans := range mergeCases {
		before := make([]string, len(plans))
		var parts []part
		for i := range plans {
			before[i] = fmt.Sprintf("%+v", plans[i])
			for j := range plans[i].Hooks {
				parts = append(parts, part{policy: uint32(9 - i), plan: &plans[i], hook: &plans[i].Hooks[j]})
			}
		}
		if _, _, err := merge(parts, numbered()); err != nil {
			t.Fatal(err)
		}
		for i := range plans {
			if after := fmt.Sprintf("%+v", plans[i]); after != before[i] {
				t.Errorf("%s: was %s\nis %s", name, before[i], after)
			}
		}
	}
}

func TestMerge_limits(t *testing.T) {
	many := func(policy string, rules int) *plan.Plan {
		h := hookOn("f", []plan.Value{arg(0, plan.TypeInt)})
		for i := range rules {
			h.Rules = append(h.Rules, plan.Rule{Selector: i, Filters: []plan.Filter{equal(0, uint64(i))}, Do: post})
		}
		return &plan.Plan{Policy: policy, Hooks: []plan.Hook{h}}
	}
	parts := func(ps ...*plan.Plan) []part {
		var out []part
		for i, p := range ps {
			out = append(out, part{policy: uint32(i + 1), plan: p, hook: &p.Hooks[0]})
		}
		return out
	}
	if progs, _, err := merge(parts(many("a", 200), many("b", 312)), nil); err != nil || len(progs) != 1 || len(progs[0].Rules) != abi.LimitHookRules {
		t.Errorf("as many rules as fit: %d programs, %v", len(progs), err)
	}
	progs, members, err := merge(parts(many("a", 200), many("b", 313), many("c", 5)), nil)
	if err != nil || len(progs) != 2 || len(progs[0].Rules) != 200 || len(progs[1].Rules) != 318 || len(members[1]) != 2 {
		t.Errorf("one rule more: %d programs, %v", len(progs), err)
	}
	if _, _, err := merge(parts(many("a", 513)), nil); err == nil || !strings.Contains(err.Error(), "513 selectors, a program holds 512") {
		t.Errorf("one hook with too many: %v", err)
	}
	socks := &plan.Plan{Policy: "s", Hooks: []plan.Hook{hookOn("f", nil, plan.Rule{Do: post})}}
	for i := range trackedMax + 1 {
		v := arg(int64(i), plan.TypeSock)
		v.Track = true
		socks.Hooks[0].Values = append(socks.Hooks[0].Values, v)
	}
	if _, _, err := merge(parts(socks), nil); err == nil || !strings.Contains(err.Error(), "track 65 sockets, 64 are possible") {
		t.Errorf("too many sockets: %v", err)
	}
	two := &plan.Plan{Policy: "t", Hooks: []plan.Hook{hookOn("f", []plan.Value{arg(0, plan.TypeSock), arg(1, plan.TypeSock)},
		plan.Rule{Do: plan.Actions{Track: []plan.Track{{Value: 0}, {Value: 1}}}})}}
	if _, _, err := merge(parts(two), nil); err == nil || !strings.Contains(err.Error(), "one selector tracks, or forgets, one socket") {
		t.Errorf("two sockets by one selector: %v", err)
	}
}

// Programs that differ only in what is told of them have equal code.
func TestCode(t *testing.T) {
	one := func(change func(p *plan.Plan)) string {
		p := mergeCases["values_shared"][0]
		p.Hooks = []plan.Hook{p.Hooks[0]}
		p.Hooks[0].Rules = append([]plan.Rule(nil), p.Hooks[0].Rules...)
		p.Hooks[0].Args = append([]plan.Arg(nil), p.Hooks[0].Args...)
		change(&p)
		progs, _, err := merge([]part{{policy: 1, plan: &p, hook: &p.Hooks[0]}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return code(progs[0])
	}
	same := one(func(*plan.Plan) {})
	for name, c := range map[string]struct {
		change func(p *plan.Plan)
		equal  bool
	}{
		"name":    {func(p *plan.Plan) { p.Policy = "z" }, true},
		"message": {func(p *plan.Plan) { p.Hooks[0].Message = "z" }, true},
		"label":   {func(p *plan.Plan) { p.Hooks[0].Args[0].Label = "z" }, true},
		"filter": {func(p *plan.Plan) {
			p.Hooks[0].Rules[0].Filters = []plan.Filter{equal(1, 5)}
		}, false},
		"action": {func(p *plan.Plan) { p.Hooks[0].Rules[0].Do.UserStack = true }, false},
		"shown":  {func(p *plan.Plan) { p.Hooks[0].Args = p.Hooks[0].Args[:1] }, false},
		"point":  {func(p *plan.Plan) { p.Hooks[0].Attach.Symbol = "g" }, false},
		"read":   {func(p *plan.Plan) { p.Hooks[0].Values = []plan.Value{arg(0, plan.TypeFile), arg(2, plan.TypeInt)} }, false},
	} {
		if got := one(c.change) == same; got != c.equal {
			t.Errorf("%s: equal code: %t, want %t", name, got, c.equal)
		}
	}
}
