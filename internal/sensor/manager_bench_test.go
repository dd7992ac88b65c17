// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"fmt"
	"testing"
	"time"

	"tetragon/internal/policy/plan"
)

// manyPlan has n hooks at as many attach points, each with what a usual policy has: two integers, a string, a filter on each.
func manyPlan(n int) *plan.Plan {
	p := &plan.Plan{Policy: "many"}
	for i := range n {
		p.Hooks = append(p.Hooks, plan.Hook{
			Section: "kprobes", Event: plan.EventKprobe, Name: fmt.Sprintf("f%d", i),
			Attach: plan.Attach{
				Backend: plan.BackendTp, Symbol: "cgroup_mkdir",
				When: []plan.Condition{{Source: plan.Source{Kind: plan.SourceArg, N: 0}, Ranges: []plan.Range{{Lo: uint64(i), Hi: uint64(i)}}}},
			},
			Values: []plan.Value{
				{Source: plan.Source{Kind: plan.SourceArg, N: 0}, Type: plan.TypeInt, Bits: 64},
				{Source: plan.Source{Kind: plan.SourceArg, N: 1}, Type: plan.TypeString},
				{Source: plan.Source{Kind: plan.SourceArg, N: 0}, Type: plan.TypeFile},
			},
			Args: []plan.Arg{{Value: 0, Type: "uint64"}, {Value: 1, Type: "string"}, {Value: 2, Type: "file"}},
			Rules: []plan.Rule{{
				Filters: []plan.Filter{
					{Kind: plan.FilterRanges, Value: 0, Ranges: []plan.Range{{Lo: 5, Hi: 7}}},
					{Kind: plan.FilterPrefix, Value: 1, Strings: []string{"/etc/", "/usr/"}},
				},
				Do: plan.Actions{Post: true, Last: "Post"},
			}},
		})
	}
	return p
}

// The price of a policy: at most 30 ms for each hook of a small one, at most 5 s for 500 hooks, at most 64 KiB for a hook.
func TestManager_price(t *testing.T) {
	for _, c := range []struct {
		hooks int
		limit time.Duration
	}{{10, 300 * time.Millisecond}, {500, 5 * time.Second}} {
		t.Run(fmt.Sprint(c.hooks), func(t *testing.T) {
			g := newRig(t, ManagerOptions{})
			if _, err := g.m.Add(sysPlan("first", plan.BackendSysEnter, odd, odd)); err != nil { // makes the tables
				t.Fatal(err)
			}
			begin := time.Now()
			id, err := g.m.Add(manyPlan(c.hooks))
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(begin)
			n := g.m.KernelBytes(id)
			t.Logf("%d hooks: %v, %d bytes for each; tables %d bytes", c.hooks, took, int(n)/c.hooks, g.m.TableBytes())
			if took > c.limit && !testing.Short() {
				t.Errorf("took %v, want at most %v", took, c.limit)
			}
			if int(n)/c.hooks > 64<<10 {
				t.Errorf("%d bytes for each hook, want at most 64 KiB", int(n)/c.hooks)
			}
			begin = time.Now()
			if err := g.m.Remove(id); err != nil {
				t.Fatal(err)
			}
			t.Logf("removed in %v", time.Since(begin))
			begin = time.Now()
			if err := g.m.retired.wait(); err != nil {
				t.Fatal(err)
			}
			t.Logf("detached in %v", time.Since(begin))
		})
	}
}
