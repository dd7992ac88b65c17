// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// cpuTime is what this process has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// The price of a policy: at most 64 KiB of kernel memory for a hook. The times are for reading (`go test -v`): 300 ms for 10 hooks
// and 5 s for 500 are meant.
func TestManager_price(t *testing.T) {
	for _, hooks := range []int{10, 500} {
		t.Run(fmt.Sprint(hooks), func(t *testing.T) {
			if hooks > 100 && len(features()) > 0 {
				t.Skip("feature native: under emulation it takes minutes")
			}
			g := newRig(t, ManagerOptions{})
			if _, err := g.m.Add(sysPlan("first", plan.BackendSysEnter, odd, odd)); err != nil { // makes the tables
				t.Fatal(err)
			}
			begin, used := time.Now(), cpuTime(t)
			id, err := g.m.Add(manyPlan(hooks))
			if err != nil {
				t.Fatal(err)
			}
			took, used := time.Since(begin), cpuTime(t)-used
			n := g.m.KernelBytes(id)
			t.Logf("%d hooks: %v, %v of CPU time, %d bytes for each; tables %d bytes", hooks, took, used, int(n)/hooks, g.m.TableBytes())
			if int(n)/hooks > 64<<10 {
				t.Errorf("%d bytes for each hook, want at most 64 KiB", int(n)/hooks)
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
