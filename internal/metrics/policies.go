// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"fmt"
	"strconv"
)

// Policy is what is told of one policy.
type Policy struct {
	Name, Namespace string
	State           string // as lists show it
	KernelBytes     uint64
	Selectors       []Selector
	Programs        []Program // one for each hook that is served
}

// Selector is what one selector of a policy has done.
type Selector struct {
	Hook         string // "kprobe:tcp_connect"
	HookIndex    int
	Index        int
	Label        string
	Post, NoPost uint64

	Signal, MonitorSignal, Override, MonitorOverride, Set, MonitorSet, Notify, MonitorNotify uint64

	Overwritten, Unused uint64 // orders to an enforcer that nothing came of
}

// Program is what serves a hook. Hooks of several policies at one place share it; what it does is then told of each.
type Program struct {
	ID       uint32
	Attach   string // where: "tcp_connect"
	Section  string // of the policy: "kprobes"
	Runs     uint64
	Seconds  float64
	Missed   uint64 // not run, because it ran on that CPU already
	LinkMiss uint64 // not run, because the kernel was in a probe already
	Bytes    uint64
}

// policyStates are those that are always told.
var policyStates = []string{"load_error", "error", "disabled", "enabled", "skipped", "partially_enabled"}

func policyTable() []Metric {
	overhead := []string{"policy_namespace", "policy", "sensor", "attach", "section"}
	place := []string{"attach"}
	return []Metric{
		gauge("tetragon_tracingpolicy_loaded", []string{"state"}, "Policies, by state.", readPolicyStates),
		gauge("tetragon_tracingpolicy_kernel_memory_bytes", []string{"policy", "policy_namespace"},
			"Kernel memory of a policy, without the tables that all share.", readPolicyMemory),
		counter("tetragon_tracingpolicy_selector_actions_total",
			[]string{"policy", "policy_namespace", "hook", "hook_index", "selector_index", "selector_label", "action"},
			"What the selectors of a policy did.", readSelectors),
		counter("tetragon_enforcer_missed_notifications_total", []string{"reason", "policy", "info"},
			"Orders to an enforcer that nothing came of: another one took their place (overwritten), or they were taken back (no_action). info: the hook that did so.",
			readOrders),
		counter("tetragon_missed_prog_probes_total", []string{"policy", "attach"},
			"Calls that a program did not see, because it was running on that CPU already.",
			readPrograms(func(p *Policy, x *Program) (float64, []string) { return float64(x.Missed), []string{p.Name, x.Attach} })),
		counter("tetragon_missed_link_probes_total", []string{"policy", "attach"},
			"Calls that a program did not see, because the kernel was in a probe already.",
			readPrograms(func(p *Policy, x *Program) (float64, []string) {
				return float64(x.LinkMiss), []string{p.Name, x.Attach}
			})),
		counter("tetragon_overhead_program_seconds_total", overhead,
			"Time in the programs that serve a policy; one that serves several counts for each. Only while kernel.bpf_stats_enabled is 1.",
			readPrograms(func(p *Policy, x *Program) (float64, []string) { return x.Seconds, overheadLabels(p, x) })),
		counter("tetragon_overhead_program_runs_total", overhead, "Runs of the programs that serve a policy, likewise.",
			readPrograms(func(p *Policy, x *Program) (float64, []string) { return float64(x.Runs), overheadLabels(p, x) })),
		ours(counter("tetragon_hook_seconds_total", place,
			"Time in the programs of a place, for all policies together. Only while kernel.bpf_stats_enabled is 1.",
			readPlaces(func(x *Program) float64 { return x.Seconds }))),
		ours(counter("tetragon_hook_runs_total", place, "Runs of the programs of a place, likewise.",
			readPlaces(func(x *Program) float64 { return float64(x.Runs) }))),
		ours(gauge("tetragon_hook_kernel_memory_bytes", place, "Kernel memory of the programs of a place.",
			readPlaces(func(x *Program) float64 { return float64(x.Bytes) }))),
	}
}

func overheadLabels(p *Policy, x *Program) []string {
	return []string{p.Namespace, p.Name, "generic_" + x.Section, x.Attach, x.Section}
}

// sums adds up what has the same labels. Policies of one name in two domains have one series: the contract has no label
// for the domain, and a series that comes twice would spoil the whole scrape.
type sums struct {
	order [][]string
	at    map[string]int
	sum   []float64
}

func (s *sums) add(v float64, labels ...string) {
	k := fmt.Sprintf("%q", labels)
	i, ok := s.at[k]
	if !ok {
		if s.at == nil {
			s.at = map[string]int{}
		}
		i = len(s.order)
		s.at[k] = i
		s.order, s.sum = append(s.order, labels), append(s.sum, 0)
	}
	s.sum[i] += v
}

func (s *sums) send(send sender) {
	for i, labels := range s.order {
		send(s.sum[i], labels...)
	}
}

func (m *Metrics) policies() []Policy {
	if m.opts.Policies == nil {
		return nil
	}
	return m.opts.Policies()
}

func readPolicyStates(m *Metrics, send sender) {
	n := make(map[string]int)
	for _, p := range m.policies() {
		n[p.State]++
	}
	for _, s := range policyStates {
		send(float64(n[s]), s)
	}
}

func readPolicyMemory(m *Metrics, send sender) {
	var s sums
	for _, p := range m.policies() {
		s.add(float64(p.KernelBytes), p.Name, p.Namespace)
	}
	s.send(send)
}

func readSelectors(m *Metrics, send sender) {
	var all sums
	for _, p := range m.policies() {
		for _, s := range p.Selectors {
			labels := []string{p.Name, p.Namespace, s.Hook, strconv.Itoa(s.HookIndex), strconv.Itoa(s.Index), s.Label}
			for _, x := range []struct {
				n    uint64
				what string
			}{
				{s.Post, "post"}, {s.NoPost, "nopost"}, {s.Signal, "signal"}, {s.MonitorSignal, "monitor_signal"},
				{s.Override, "override"}, {s.MonitorOverride, "monitor_override"}, {s.Set, "set"}, {s.MonitorSet, "monitor_set"},
				{s.Notify, "notify_enforcer"}, {s.MonitorNotify, "monitor_notify_enforcer"},
			} {
				if x.n > 0 {
					all.add(float64(x.n), append(labels[:6:6], x.what)...)
				}
			}
		}
	}
	all.send(send)
}

func readOrders(m *Metrics, send sender) {
	var all sums
	for _, p := range m.policies() {
		for _, s := range p.Selectors {
			if s.Overwritten > 0 {
				all.add(float64(s.Overwritten), "overwritten", p.Name, s.Hook)
			}
			if s.Unused > 0 {
				all.add(float64(s.Unused), "no_action", p.Name, s.Hook)
			}
		}
	}
	all.send(send)
}

// readPrograms sends one figure of each program for each policy that it serves, once.
func readPrograms(get func(*Policy, *Program) (float64, []string)) reader {
	return func(m *Metrics, send sender) {
		var all sums
		ps := m.policies()
		for i := range ps {
			p, seen := &ps[i], map[uint32]bool{}
			for j := range p.Programs {
				x := &p.Programs[j]
				if seen[x.ID] {
					continue
				}
				seen[x.ID] = true
				v, labels := get(p, x)
				all.add(v, labels...)
			}
		}
		all.send(send)
	}
}

// readPlaces sends one figure of each program, once.
func readPlaces(get func(*Program) float64) reader {
	return func(m *Metrics, send sender) {
		var all sums
		seen := map[uint32]bool{}
		for _, p := range m.policies() {
			for j := range p.Programs {
				if x := &p.Programs[j]; !seen[x.ID] {
					seen[x.ID] = true
					all.add(get(x), x.Attach)
				}
			}
		}
		all.send(send)
	}
}
