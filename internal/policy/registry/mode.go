// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"tetragon/internal/policy"
)

// modeOf says what mode a policy has when it is loaded, and what is odd about the one that it asks for. Unlike upstream it
// looks at all hooks, at actions of the return and at macros: what is enforced there is enforced too.
// over, if it is one, stands in the place of the mode that the policy asks for.
func modeOf(p *policy.Policy, over Mode) (m Mode, warning string) {
	asked := ""
	for _, o := range p.Options {
		if o.Name.Value == "policy-mode" {
			asked = o.Value.Value
		}
	}
	if over != ModeUnknown {
		asked = over.String()
	}
	if !enforces(p) {
		if asked != "" {
			warning = "the mode that is asked for has no effect: nothing in this policy enforces, so its mode is monitor_only"
		}
		return ModeMonitorOnly, warning
	}
	if asked == "monitor" {
		return ModeMonitor, ""
	}
	return ModeEnforce, ""
}

func enforces(p *policy.Policy) bool {
	var lists [][]policy.Selector
	for _, ks := range [][]policy.Kprobe{p.Kprobes, p.Fentries} {
		for i := range ks {
			lists = append(lists, ks[i].Selectors)
		}
	}
	for i := range p.Tracepoints {
		lists = append(lists, p.Tracepoints[i].Selectors)
	}
	for i := range p.Uprobes {
		lists = append(lists, p.Uprobes[i].Selectors)
	}
	for i := range p.Usdts {
		lists = append(lists, p.Usdts[i].Selectors)
	}
	for i := range p.LsmHooks {
		lists = append(lists, p.LsmHooks[i].Selectors)
	}
	for i := range p.Macros {
		lists = append(lists, []policy.Selector{p.Macros[i].Selector})
	}
	for _, sels := range lists {
		for i := range sels {
			for _, as := range [][]policy.Action{sels[i].Actions, sels[i].ReturnActions} {
				for j := range as {
					if policy.Enforcing[as[j].Action.Value] {
						return true
					}
				}
			}
		}
	}
	return false
}
