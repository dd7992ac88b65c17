// SPDX-License-Identifier: Apache-2.0

package gen

import (
	"maps"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"tetragon/internal/policy/plan"
)

// maxVerified bounds what the verifier looks at for one hook's program. Kernels differ much in what they need, so this runs
// on all of them.
const maxVerified = 50_000

// Every reader, every property of tasks, and stacks pass the verifier, together with the end of a call, within the bound.
func TestBody_everyReaderIsVerified(t *testing.T) {
	h := newHarness(t)
	for _, typ := range slices.Sorted(maps.Keys(readers)) {
		v := plan.Value{Source: plan.Source{Kind: plan.SourceArg}, Type: typ, Bytes: 48, Track: true, Owner: 1}
		switch typ {
		case plan.TypeBytes, plan.TypeIovec, plan.TypeDataLoc:
			v.Size = &plan.Source{Kind: plan.SourceArg, N: 1}
		}
		t.Run(readers[typ], func(t *testing.T) { h.verify(t, v, plan.Filter{}) })
	}
	number := plan.Value{Source: plan.Source{Kind: plan.SourceArg}, Type: plan.TypeInt, Bits: 32}
	for task := plan.TaskPid; task < plan.TaskFieldCount; task++ {
		name := taskReaders[task]
		if name == "" {
			name = map[plan.Task]string{plan.TaskPid: "task_pid", plan.TaskVerdict: "verdict_there"}[task]
		}
		if name == "" {
			name = "task_cap_changed"
		}
		t.Run(name, func(t *testing.T) {
			h.verify(t, number, plan.Filter{Kind: plan.FilterBits, Task: task, Mask: 3})
		})
	}
	t.Run("class_word", func(t *testing.T) { h.verify(t, number, plan.Filter{Kind: plan.FilterClass, Set: 65, Not: true}) })
	text := plan.Value{Source: plan.Source{Kind: plan.SourceArg}, Type: plan.TypeString}
	t.Run("str_find", func(t *testing.T) {
		h.verify(t, text, plan.Filter{Kind: plan.FilterContainsFold, Strings: []string{"x"}})
	})
	deep := number
	deep.Source = plan.Source{Kind: plan.SourceTask, Steps: []plan.Step{{Off: 8, Size: 8}, {Off: 4, Size: 4, Signed: true}}}
	t.Run("steps", func(t *testing.T) {
		h.verify(t, deep, plan.Filter{Kind: plan.FilterRanges, Ranges: []plan.Range{{Lo: 1, Hi: 2}}})
	})
}

// verify loads a program with one value and one filter, as it would be attached.
func (h *harness) verify(t *testing.T, v plan.Value, f plan.Filter) {
	t.Helper()
	hook := &plan.Hook{Args: []plan.Arg{{Value: 0}}, Rules: []plan.Rule{{Do: plan.Actions{Post: true, KernelStack: true, UserStack: true}}}}
	if f.Kind != plan.FilterUnknown {
		hook.Rules[0].Filters = []plan.Filter{f}
	}
	if v.Type == plan.TypeSock {
		hook.Rules[0].Do.Track = []plan.Track{{Value: 0}}
	}
	hook.Rules = append(hook.Rules, plan.Rule{Do: plan.Actions{Post: true}})
	p := &plan.Program{
		ID: 1, Attach: plan.Attach{Backend: plan.BackendRawTp, Symbol: "library"}, Values: []plan.Value{v}, Rules: hook.Rules,
		Groups: []plan.Group{{Policy: 1, Plan: &plan.Plan{}, Hook: hook, Values: []int{0}}},
	}
	o := h.options(p)
	o.Test = false
	spec, err := Body(p, h.lib.Programs["library"], o)
	if err != nil {
		t.Fatal(err)
	}
	n := verified(t, h.load(t, spec))
	t.Logf("verified instructions: %d", n)
	if n > maxVerified {
		t.Errorf("the verifier looks at %d instructions", n)
	}
}

func verified(t *testing.T, p *ebpf.Program) int {
	t.Helper()
	info, err := p.Info()
	if err != nil {
		t.Fatal(err)
	}
	n, ok := info.VerifiedInstructions()
	if !ok {
		t.Skip("needs a kernel that tells verified instructions (5.16)")
	}
	return int(n)
}

// Sets of processes of every kind pass the verifier in every program that classifies.
func TestClassify_isVerified(t *testing.T) {
	h := newHarness(t)
	sets := map[int]plan.Set{
		1:   {Kind: plan.SetPaths, Paths: []string{"/usr/bin/bash", "/usr/bin/dash", "/usr/sbin/a-name-of-more-than-16-bytes"}},
		2:   {Kind: plan.SetPrefix, Paths: []string{"/usr/", "/opt/x"}},
		63:  {Kind: plan.SetSuffix, Paths: []string{"sh", "/python3"}},
		65:  {Kind: plan.SetPids, Pids: []uint32{1, 4000}},
		129: {Kind: plan.SetNsPids, Pids: []uint32{1}},
	}
	for _, name := range []string{"class_exec", "class_all"} {
		spec, err := Classify(sets, h.lib.Programs[name], Options{Layout: h.layout})
		if err != nil {
			t.Fatal(err)
		}
		n := verified(t, h.load(t, spec))
		t.Logf("%s: verified instructions: %d", name, n)
		if n > maxVerified {
			t.Errorf("%s: the verifier looks at %d instructions", name, n)
		}
	}
	for _, n := range []int{0, 64, 256, -1} {
		if _, err := Classify(map[int]plan.Set{n: {Kind: plan.SetPaths}}, h.lib.Programs["class_all"], Options{Layout: h.layout}); err == nil {
			t.Errorf("number %d of a set is accepted", n)
		}
	}
}
