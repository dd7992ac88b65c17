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
}

// Selector is what one selector of a policy has done.
type Selector struct {
	Hook         string // "kprobe:tcp_connect"
	HookIndex    int
	Index        int
	Label        string
	Post, NoPost uint64

	Signal, MonitorSignal, Override, MonitorOverride uint64
}

// policyStates are those that are always told.
var policyStates = []string{"load_error", "error", "disabled", "enabled", "skipped", "partially_enabled"}

func (m *Metrics) policies() []Policy {
	if m.opts.Policies == nil {
		return nil
	}
	return m.opts.Policies()
}

func readPolicyStates(m *Metrics, send func(float64, ...string)) {
	n := make(map[string]int)
	for _, p := range m.policies() {
		n[p.State]++
	}
	for _, s := range policyStates {
		send(float64(n[s]), s)
	}
}

// Policies of one name in two domains have one series: the contract has no label for the domain, and a series that comes
// twice would spoil the whole scrape.
func readPolicyMemory(m *Metrics, send func(float64, ...string)) {
	type key struct{ name, namespace string }
	var order []key
	sum := make(map[key]uint64)
	for _, p := range m.policies() {
		k := key{p.Name, p.Namespace}
		if _, ok := sum[k]; !ok {
			order = append(order, k)
		}
		sum[k] += p.KernelBytes
	}
	for _, k := range order {
		send(float64(sum[k]), k.name, k.namespace)
	}
}

func readSelectors(m *Metrics, send func(float64, ...string)) {
	var order [][]string
	sum := make(map[string]uint64)
	add := func(n uint64, labels ...string) {
		if n == 0 {
			return
		}
		k := fmt.Sprintf("%q", labels)
		if _, ok := sum[k]; !ok {
			order = append(order, labels)
		}
		sum[k] += n
	}
	for _, p := range m.policies() {
		for _, s := range p.Selectors {
			labels := []string{p.Name, p.Namespace, s.Hook, strconv.Itoa(s.HookIndex), strconv.Itoa(s.Index), s.Label}
			add(s.Post, append(labels[:6:6], "post")...)
			add(s.NoPost, append(labels[:6:6], "nopost")...)
			add(s.Signal, append(labels[:6:6], "signal")...)
			add(s.MonitorSignal, append(labels[:6:6], "monitor_signal")...)
			add(s.Override, append(labels[:6:6], "override")...)
			add(s.MonitorOverride, append(labels[:6:6], "monitor_override")...)
		}
	}
	for _, labels := range order {
		k := fmt.Sprintf("%q", labels) // before send, which may change them
		send(float64(sum[k]), labels...)
	}
}
