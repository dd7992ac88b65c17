// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"cmp"
	"fmt"
	"slices"

	"tetragon/internal/policy/plan"
	"tetragon/internal/sensor"
)

// HookState is what became of one hook of a policy. The numbers are those of the wire contract.
type HookState uint8

// States of hooks. Zero is unknown.
const (
	HookUnknown HookState = iota
	HookLoaded
	HookDigestRejected
	HookNotFound
	HookPartlyNotFound
)

// HookStatus is what became of one hook as the policy has it. One on a list of functions is one.
type HookStatus struct {
	Section     string
	Index       int
	State       HookState
	Description string
}

// HookStats is what one hook of a plan has done.
type HookStats = sensor.HookStats

// RuleStats is what one selector has done.
type RuleStats = sensor.RuleStats

// Status is all that is known of one policy.
type Status struct {
	ID          uint64
	Key         Key
	File        string
	State       State
	Mode        Mode
	Error       string
	Warnings    []string
	Sensors     []string // what upstream would call the parts that it is made of
	KernelBytes uint64
	Plan        *plan.Plan // nil: it was never compiled; not to be changed
	Hooks       []HookStatus
	Stats       []HookStats // one for each of Plan.Hooks; nil: it is not loaded
}

// List tells of all policies of a domain, in the order in which they were added; of all domains if it is empty.
func (r *Registry) List(domain string) []Status {
	r.mu.Lock()
	var out []Status
	var ids []uint32
	for _, e := range r.entries {
		if domain != "" && e.key.Domain != domain {
			continue
		}
		out = append(out, Status{
			ID: e.id, Key: e.key, File: e.text.Name, State: e.state, Mode: e.mode, Error: e.err, Warnings: e.warnings, Plan: e.plan,
		})
		ids = append(ids, e.sensor)
	}
	r.mu.Unlock()
	for i := range out {
		s := &out[i]
		if s.Plan == nil {
			continue
		}
		s.Hooks, s.Sensors = hookStatuses(s.Plan), sensorNames(s.Plan)
		if ids[i] == 0 {
			continue
		}
		// It may be gone by now; then there is nothing to count.
		if st, err := r.o.Sensors.Stats(ids[i]); err == nil {
			s.Stats, s.KernelBytes = st, r.o.Sensors.KernelBytes(ids[i])
		}
	}
	return out
}

// Text returns a policy as it came.
func (r *Registry) Text(k Key) (Text, error) {
	e, err := r.lookUp(k)
	if err != nil {
		return Text{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return e.text, nil
}

// HookName is what statistics call a hook.
func HookName(h *plan.Hook) string {
	switch {
	case h.Event == plan.EventTracepoint:
		return fmt.Sprintf("tracepoint:%s/%s", h.Subsys, h.TpEvent)
	case h.Event == plan.EventUprobe:
		return fmt.Sprintf("uprobe:%s/%s", h.Attach.User.Path, cmp.Or(h.Symbol, plan.OffsetName(h.Attach.User.Offset)))
	case h.Event == plan.EventUsdt:
		return fmt.Sprintf("usdt:%s/%s", h.Subsys, h.TpEvent)
	case h.Section == "fentries":
		return "fentry:" + h.Name
	case h.Event == plan.EventLSM:
		return "lsm:" + h.Name
	}
	return "kprobe:" + h.Name
}

// hookStatuses sums up the hooks of a plan by what the policy wrote: a hook on a list has several in the plan.
func hookStatuses(p *plan.Plan) []HookStatus {
	type at struct {
		section string
		index   int
	}
	var order []at
	hooks := make(map[at][]*plan.Hook)
	for i := range p.Hooks {
		h := &p.Hooks[i]
		k := at{h.Section, h.Index}
		if hooks[k] == nil {
			order = append(order, k)
		}
		hooks[k] = append(hooks[k], h)
	}
	var out []HookStatus
	for _, k := range order {
		s := HookStatus{Section: k.section, Index: k.index, State: HookLoaded, Description: describe(hooks[k])}
		gone, rejected := 0, 0
		for _, h := range hooks[k] {
			if h.Inactive != "" {
				gone++
			}
			if h.Rejected {
				rejected++
			}
		}
		switch {
		case rejected > 0: // all places of an entry are in one file
			s.State = HookDigestRejected
		case gone == len(hooks[k]):
			s.State = HookNotFound
		case gone > 0:
			s.State = HookPartlyNotFound
		}
		out = append(out, s)
	}
	return out
}

// describe names what a hook of the policy is on.
func describe(hs []*plan.Hook) string {
	n := 0
	for _, h := range hs {
		n += max(len(h.Names), 1)
	}
	if n == 1 {
		return HookName(hs[0])
	}
	return fmt.Sprintf("%s and %d more", HookName(hs[0]), n-1)
}

// sensorNames are the names that upstream gives to what runs a policy.
func sensorNames(p *plan.Plan) []string {
	var out []string
	for i := range p.Hooks {
		name := "generic_kprobe"
		switch {
		case p.Hooks[i].Event == plan.EventTracepoint:
			name = "generic_tracepoint"
		case p.Hooks[i].Event == plan.EventUprobe:
			name = "generic_uprobe"
		case p.Hooks[i].Event == plan.EventUsdt:
			name = "generic_usdt"
		case p.Hooks[i].Section == "fentries":
			name = "generic_fentry"
		case p.Hooks[i].Event == plan.EventLSM:
			name = "generic_lsm"
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	if p.Loader {
		out = append(out, "__loader__")
	}
	slices.Sort(out)
	return out
}
