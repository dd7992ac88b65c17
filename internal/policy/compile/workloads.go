// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"tetragon/internal/policy"
	"tetragon/internal/policy/plan"
)

// workloads is which processes a policy or a selector is for, as its three label selectors say.
type workloads struct {
	pod, container, host *policy.LabelSelector
}

func anything(s *policy.LabelSelector) bool {
	return s != nil && len(s.MatchLabels) == 0 && len(s.Expressions) == 0
}

// lowerWorkloads gives the filter that a choice of workloads comes to; nil: all processes are meant, or it was refused. A choice
// that this program cannot make is refused: a policy never holds for more processes than it says.
func (c *compiler) lowerWorkloads(w workloads) *plan.Filter {
	switch {
	case w.pod == nil && w.container == nil && w.host == nil, anything(w.pod) && anything(w.container) && anything(w.host):
		return nil
	case w.pod == nil && w.container == nil:
		return &plan.Filter{Kind: plan.FilterRanges, Task: plan.TaskHost, Ranges: []plan.Range{{Lo: 1, Hi: 1}}, Text: "hostSelector: it is in no container"}
	}
	for _, s := range []struct {
		l    *policy.LabelSelector
		name string
	}{{w.pod, "podSelector"}, {w.container, "containerSelector"}} {
		if s.l != nil {
			c.d.Error(s.l.Place, "no-kubernetes", "%s needs to know which pods there are, and this version does not follow Kubernetes yet: policyfilter is disabled", s.name).
				WithHint("hostSelector: {} alone chooses the processes that are in no container; without a selector the policy holds for all")
		}
	}
	return nil
}

// checkWorkloads refuses policies that are for pods, whatever their hooks.
func (c *compiler) checkWorkloads() {
	p := c.pol
	if p.Kind == policy.KindNamespaced {
		c.d.Error(p.Place, "no-kubernetes", "a policy for one namespace needs to know which pods are in it, and this version does not follow Kubernetes yet: policyfilter is disabled").
			WithHint("kind: TracingPolicy holds for all processes")
	}
	if p.NodeSelector != nil {
		c.d.Warn(p.NodeSelector.Place, "node-selector", "nodeSelector only counts in policies that come from Kubernetes: this one is loaded whatever the node's labels").
			WithHint("take it out, and load the policy on the nodes that it is for")
	}
	c.forPolicy = c.lowerWorkloads(workloads{p.PodSelector, p.ContainerSelector, p.HostSelector})
}
