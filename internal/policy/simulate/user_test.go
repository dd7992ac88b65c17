// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"testing"

	"tetragon/internal/policy/plan"
)

// TestEvent_userPrograms finds the hook of an event of a user program by its place, and what was returned behind what was
// given.
func TestEvent_userPrograms(t *testing.T) {
	eq := func(v int, n uint64) []plan.Rule {
		return []plan.Rule{{Filters: []plan.Filter{{Kind: plan.FilterRanges, Value: v, Ranges: ranges(n, n), Text: "a number"}}, Do: plan.Actions{Post: true}}}
	}
	ints := []plan.Value{{Type: plan.TypeInt}, {Type: plan.TypeInt}}
	args := []plan.Arg{{Value: 0, Type: "int"}}
	p := &plan.Plan{Policy: "test", Hooks: []plan.Hook{
		{
			Event: plan.EventUprobe, Name: "greet", Symbol: "greet", Attach: plan.Attach{User: &plan.Place{Path: "/prog", Symbol: "greet"}},
			Values: ints, Args: args, Return: &plan.Arg{Value: 1, Type: "int"}, Rules: eq(1, 4712),
		},
		{Event: plan.EventUprobe, Name: "0x1000", Attach: plan.Attach{User: &plan.Place{Path: "/prog", Offset: 4096}}, Rules: []plan.Rule{{Do: plan.Actions{Post: true}}}},
		{
			Event: plan.EventUsdt, Name: "a:b", Subsys: "a", TpEvent: "b", Attach: plan.Attach{User: &plan.Place{Path: "/prog", Probe: "a:b"}},
			Values: ints[:1], Args: args, Rules: eq(0, 5),
		},
	}}
	for line, want := range map[string][2]int{ // hook, rule
		`{"process_uprobe":{"path":"/prog","symbol":"greet","args":[{"int_arg":4711},{"int_arg":4712}]}}`: {0, 0},
		`{"process_uprobe":{"path":"/prog","symbol":"greet","args":[{"int_arg":4711},{"int_arg":1}]}}`:    {0, -1},
		`{"process_uprobe":{"path":"/prog","offset":"4096"}}`:                                             {1, 0},
		`{"process_uprobe":{"path":"/prog","offset":"4097"}}`:                                             {-1, -1},
		`{"process_uprobe":{"path":"/other","symbol":"greet"}}`:                                           {-1, -1},
		`{"process_usdt":{"path":"/prog","provider":"a","name":"b","args":[{"int_arg":5}]}}`:              {2, 0},
		`{"process_usdt":{"path":"/prog","provider":"a","name":"b","args":[{"int_arg":6}]}}`:              {2, -1},
		`{"process_usdt":{"path":"/prog","provider":"a","name":"c","args":[{"int_arg":5}]}}`:              {-1, -1},
	} {
		v, err := Event(p, []byte(line))
		if err != nil {
			t.Fatal(err)
		}
		got := [2]int{-1, -1}
		for _, h := range v.Hooks {
			got = [2]int{h.Hook, h.First}
		}
		if len(v.Hooks) > 1 || got != want {
			t.Errorf("%s: hook and rule %v of %d, want %v", line, got, len(v.Hooks), want)
		}
	}
}
