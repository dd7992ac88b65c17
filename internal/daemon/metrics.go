// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"

	"tetragon/internal/event"
	"tetragon/internal/event/export"
	"tetragon/internal/kernel"
	"tetragon/internal/metrics"
	"tetragon/internal/policy/plan"
	"tetragon/internal/policy/registry"
)

// count keeps the metrics of events that the wire contract names.
func (l *lane) count(evs []event.Event) {
	for i := range evs {
		ev := &evs[i]
		if ev.Process == nil {
			l.counters.NoProcess.Add(1)
			switch ev.Kind {
			case event.KindLoss:
				l.counters.Events.Count(metrics.EventLoss, "")
			case event.KindThrottle:
				l.counters.Events.Count(metrics.EventThrottle, "")
				if ev.Throttle.Stop {
					l.counters.ThrottleStops.Add(1)
				} else {
					l.counters.ThrottleStarts.Add(1)
				}
			}
			continue
		}
		binary := ev.Process.Binary
		if ev.Process.Placeholder { // known by pid and time only
			l.counters.Errors[metrics.ErrorFinalizeProcessInfo].Add(1)
		}
		switch ev.Kind {
		case event.KindExec:
			l.counters.Events.Count(metrics.EventExec, binary)
			l.counters.CountFlags(uint32(ev.Process.Flags))
		case event.KindExit:
			l.counters.Events.Count(metrics.EventExit, binary)
		case event.KindKprobe:
			l.counters.Events.Count(metrics.EventKprobe, binary)
			l.countHook(ev, metrics.HookName{Kind: "kprobe", Name: ev.Hook.Function})
		case event.KindLSM:
			l.counters.Events.Count(metrics.EventLsm, binary)
			l.countHook(ev, metrics.HookName{Kind: "lsm", Name: ev.Hook.Function})
		case event.KindTracepoint:
			l.counters.Events.Count(metrics.EventTracepoint, binary)
			l.countHook(ev, metrics.HookName{Kind: "tracepoint", Subsys: ev.Hook.Subsys, Name: ev.Hook.Event})
			if ev.Hook.Subsys == "raw_syscalls" && ev.Hook.Event == "sys_enter" {
				l.countSyscall(ev)
			}
		case event.KindUprobe:
			l.counters.Events.Count(metrics.EventUprobe, binary)
			l.countHook(ev, metrics.HookName{Kind: "uprobe", Subsys: ev.Hook.Path, Name: placeName(ev.Hook)})
		case event.KindUsdt:
			l.counters.Events.Count(metrics.EventUsdt, binary)
			l.countHook(ev, metrics.HookName{Kind: "usdt", Subsys: ev.Hook.Subsys, Name: ev.Hook.Event})
		case event.KindLoader:
			l.counters.Events.Count(metrics.EventLoader, binary)
		default:
			l.counters.Events.Count(metrics.EventUnknown, binary)
		}
	}
}

func (l *lane) countHook(ev *event.Event, h metrics.HookName) {
	l.counters.Policies.Count(metrics.PolicyHook{Policy: ev.Hook.Policy, Hook: h}, ev.Process.Binary)
}

// placeName names the place of a uprobe: its symbol, or its offset in the file.
func placeName(h *event.Hook) string {
	if h.Function != "" {
		return h.Function
	}
	return plan.OffsetName(h.Offset)
}

type syscallKey struct {
	abi string
	nr  int
}

// countSyscall counts an event that says which system call it is about.
func (l *lane) countSyscall(ev *event.Event) {
	for i := range ev.Hook.Args {
		a := &ev.Hook.Args[i]
		if a.Kind != event.ArgSyscall {
			continue
		}
		abi, nr := "x64", int(a.Int&^(1<<31))
		if a.Int&(1<<31) != 0 {
			abi = "i386"
		}
		k := syscallKey{abi, nr}
		name := l.syscalls[k]
		if name == "" {
			if name = kernel.SyscallName(abi, nr); name == "" {
				return // a number that no call has
			}
			if l.syscalls == nil {
				l.syscalls = map[syscallKey]string{}
			}
			l.syscalls[k] = name
		}
		l.counters.Syscalls.Count(name, ev.Process.Binary)
		return
	}
}

// policyMetrics is what metrics tell of policies.
func policyMetrics(list []registry.Status) []metrics.Policy {
	var out []metrics.Policy
	for i := range list {
		s := &list[i]
		p := metrics.Policy{Name: s.Key.Name, Namespace: s.Key.Namespace, State: s.State.String(), KernelBytes: s.KernelBytes}
		for j := range s.Stats {
			h := &s.Stats[j]
			for _, r := range h.Rules {
				p.Selectors = append(p.Selectors, metrics.Selector{
					Hook: registry.HookName(h.Hook), HookIndex: h.Hook.Index, Index: r.Selector, Label: r.Label, Post: r.Posted, NoPost: r.NoPost,
					Signal: r.Signal, MonitorSignal: r.MonitorSignal, Override: r.Override, MonitorOverride: r.MonitorOverride,
					Set: r.Set, MonitorSet: r.MonitorSet, Notify: r.Notify, MonitorNotify: r.MonitorNotify,
					Overwritten: r.Overwritten, Unused: r.Unused,
				})
			}
			if h.Program != 0 {
				p.Programs = append(p.Programs, metrics.Program{
					ID: h.Program, Attach: attachName(&h.Hook.Attach), Section: h.Hook.Section, Runs: h.Runs, Seconds: h.Time.Seconds(),
					Missed: h.Missed, LinkMiss: h.LinkMissed, Bytes: h.Bytes,
				})
			}
		}
		out = append(out, p)
	}
	return out
}

// attachName names a place in labels: short, and the same as long as the place is the same.
func attachName(a *plan.Attach) string {
	switch {
	case a.Symbol != "":
		return a.Symbol
	case a.User != nil:
		return a.User.String()
	case len(a.Symbols) > 0:
		return fmt.Sprintf("%s and %d more", a.Symbols[0], len(a.Symbols)-1)
	}
	return a.Backend.String()
}

// queueMetrics is what metrics tell of the sinks.
func queueMetrics(sinks *export.Set) []metrics.Queue {
	var out []metrics.Queue
	for _, q := range sinks.Queues() {
		out = append(out, metrics.Queue{Sink: q.Sink, Events: q.Events, Bytes: q.Bytes, MaxBytes: q.MaxBytes})
	}
	return out
}
