// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"tetragon/api/v1/tetragon"
	"tetragon/internal/event"
)

// MatchProto is Match for an event as clients see it.
func (f *Filter) MatchProto(ev *tetragon.GetEventsResponse) bool {
	if len(f.allow) == 0 && len(f.deny) == 0 {
		return true
	}
	s := fromProto(ev)
	return f.match(&s)
}

// EventType returns the type of an event; UNDEF if it is none that is known.
func EventType(ev *tetragon.GetEventsResponse) tetragon.EventType {
	t, _ := content(ev)
	return t
}

// content returns the type of an event and the message inside it.
func content(ev *tetragon.GetEventsResponse) (tetragon.EventType, any) {
	switch e := ev.GetEvent().(type) {
	case *tetragon.GetEventsResponse_ProcessExec:
		return tetragon.EventType_PROCESS_EXEC, e.ProcessExec
	case *tetragon.GetEventsResponse_ProcessExit:
		return tetragon.EventType_PROCESS_EXIT, e.ProcessExit
	case *tetragon.GetEventsResponse_ProcessKprobe:
		return tetragon.EventType_PROCESS_KPROBE, e.ProcessKprobe
	case *tetragon.GetEventsResponse_ProcessTracepoint:
		return tetragon.EventType_PROCESS_TRACEPOINT, e.ProcessTracepoint
	case *tetragon.GetEventsResponse_ProcessLoader:
		return tetragon.EventType_PROCESS_LOADER, e.ProcessLoader
	case *tetragon.GetEventsResponse_ProcessUprobe:
		return tetragon.EventType_PROCESS_UPROBE, e.ProcessUprobe
	case *tetragon.GetEventsResponse_ProcessThrottle:
		return tetragon.EventType_PROCESS_THROTTLE, e.ProcessThrottle
	case *tetragon.GetEventsResponse_ProcessLsm:
		return tetragon.EventType_PROCESS_LSM, e.ProcessLsm
	case *tetragon.GetEventsResponse_ProcessUsdt:
		return tetragon.EventType_PROCESS_USDT, e.ProcessUsdt
	case *tetragon.GetEventsResponse_Test:
		return tetragon.EventType_TEST, e.Test
	case *tetragon.GetEventsResponse_RateLimitInfo:
		return tetragon.EventType_RATE_LIMIT_INFO, e.RateLimitInfo
	}
	return tetragon.EventType_UNDEF, nil
}

func fromProto(ev *tetragon.GetEventsResponse) subject {
	t, msg := content(ev)
	s := subject{message: ev, eventType: t}
	if m, ok := msg.(interface {
		GetProcess() *tetragon.Process
		GetParent() *tetragon.Process
		GetAncestors() []*tetragon.Process
	}); ok {
		s.process, s.pod = process(m.GetProcess())
		s.parent, s.parentPod = process(m.GetParent())
		s.hasCaps = m.GetProcess().GetCap() != nil
		for _, a := range m.GetAncestors() {
			if p, _ := process(a); p != nil {
				s.ancestors = append(s.ancestors, p)
			}
		}
	}
	if m, ok := msg.(interface{ GetPolicyName() string }); ok {
		s.policy = m.GetPolicyName()
	}
	return s
}

// process converts the part that rules look at.
func process(m *tetragon.Process) (*event.Process, *pod) {
	if m == nil {
		return nil, nil
	}
	p := &event.Process{
		Key:        event.Key{Pid: m.GetPid().GetValue()},
		Binary:     m.GetBinary(),
		Arguments:  m.GetArguments(),
		Docker:     m.GetDocker(),
		InInitTree: m.GetInInitTree().GetValue(),
	}
	c := m.GetCap()
	p.Creds.Permitted = capBits(c.GetPermitted())
	p.Creds.Effective = capBits(c.GetEffective())
	p.Creds.Inheritable = capBits(c.GetInheritable())
	d := m.GetPod()
	if d == nil {
		return p, nil
	}
	return p, &pod{
		namespace: d.GetNamespace(), name: d.GetName(), container: d.GetContainer().GetName(), labels: d.GetPodLabels(),
		execProbe: d.GetContainer().GetMaybeExecProbe(),
	}
}

func capBits(caps []tetragon.CapabilitiesType) (bits uint64) {
	for _, c := range caps {
		bits |= 1 << uint(c&63)
	}
	return bits
}
