// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"fmt"
	"io"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"tetragon/internal/policy/plan"
)

// HookStats is what one hook of a policy has done.
type HookStats struct {
	Hook    *plan.Hook
	Program uint32 // that runs it now; 0: the hook is inactive
	Sharing int    // policies' hooks that this program runs, this one included
	Rules   []RuleStats

	// Of the program, for all that share it. Runs and Time only while the kernel measures (sysctl kernel.bpf_stats_enabled).
	Runs   uint64
	Time   time.Duration
	Missed uint64 // calls for which the program did not run, because it was running on that CPU already
	Bytes  uint64 // kernel memory

	LinkMissed uint64 // calls that the kernel kept from the program, because it was in a probe already
}

// RuleStats is what one rule (selector) has done.
type RuleStats struct {
	Selector int
	Label    string
	Matched  uint64 // calls for which it was the first of its hook to match
	Posted   uint64
	Limited  uint64 // not posted because of a rate limit
	Merged   uint64 // not posted but counted, to be told together
	NoPost   uint64 // not posted because it says so
	Lost     uint64 // not posted because there was no room

	Signal, MonitorSignal     uint64 // calls whose process was sent signals; would have been, but for the mode
	Notify, MonitorNotify     uint64 // calls after which an enforcer does something; would have done
	Overwritten, Unused       uint64 // of what was ordered of an enforcer: replaced by another order; taken back
	Override, MonitorOverride uint64 // calls that were denied; would have been
	Set, MonitorSet           uint64 // calls in which an argument was changed; would have been
}

// Stats tells of each hook of a policy, in the order of the plan. Counters begin with Add, and go on over Replace for
// hooks that stay.
func (m *Manager) Stats(id uint32) ([]HookStats, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.policies[id]
	if s == nil {
		return nil, fmt.Errorf("tell of policy %d: %w", id, ErrNoPolicy)
	}
	at := make(map[*plan.Hook]*part)
	for _, xs := range s.parts {
		for i := range xs {
			at[xs[i].hook] = &xs[i]
		}
	}
	out := make([]HookStats, len(s.plan.Hooks))
	for i := range s.plan.Hooks {
		h := &s.plan.Hooks[i]
		o := &out[i]
		o.Hook = h
		x := at[h]
		if x == nil {
			continue
		}
		for j := range h.Rules {
			r, err := m.tables.stat(x.stats + j)
			if err != nil {
				return nil, err
			}
			r.Selector, r.Label = h.Rules[j].Selector, h.Rules[j].Label
			o.Rules = append(o.Rules, r)
		}
		p := m.programOf(h)
		if p == nil {
			continue
		}
		o.Program, o.Sharing = p.p.ID, len(p.p.Groups)
		o.Bytes += p.table
		for _, e := range m.loaded(p) {
			o.Bytes += programBytes(e)
			if st, err := e.Stats(); err == nil {
				o.Runs, o.Time, o.Missed = o.Runs+st.RunCount, o.Time+st.Runtime, o.Missed+st.RecursionMisses
			}
		}
		o.LinkMissed = linkMisses(p.link)
	}
	return out, nil
}

// linkMisses is what the kernel counts at the link itself, where it does: at kprobes, from 6.7 on.
func linkMisses(c io.Closer) uint64 {
	l, ok := c.(link.Link)
	if !ok {
		return 0
	}
	info, err := l.Info()
	if err != nil {
		return 0
	}
	if m := info.KprobeMulti(); m != nil {
		return m.Missed
	}
	if e := info.PerfEvent(); e != nil {
		if k := e.Kprobe(); k != nil {
			return k.Missed
		}
	}
	return 0
}

// programOf finds the program that runs a hook.
func (m *Manager) programOf(h *plan.Hook) *program {
	for _, p := range m.points[h.Attach.Key()] {
		for i := range p.p.Groups {
			if p.p.Groups[i].Hook == h {
				return p
			}
		}
	}
	return nil
}

// loaded lists what a program is in the kernel: one program, or for system calls any number of copies.
func (m *Manager) loaded(p *program) []*ebpf.Program {
	if p.prog != nil {
		return []*ebpf.Program{p.prog}
	}
	var out []*ebpf.Program
	for _, d := range m.sys {
		for _, k := range keys(d.bodies) {
			if b := d.bodies[k]; b.of == p {
				out = append(out, b.prog)
			}
		}
	}
	return out
}

// KernelBytes is the kernel memory of a policy: its programs, of those that it shares its share. The tables that all policies
// have together are not in it; see TableBytes.
func (m *Manager) KernelBytes(id uint32) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.policies[id]
	if s == nil {
		return 0
	}
	var sum uint64
	for _, k := range keys(s.parts) {
		for _, p := range m.points[k] {
			mine := 0
			for i := range p.p.Groups {
				if p.p.Groups[i].Policy == id {
					mine++
				}
			}
			sum += p.table * uint64(mine) / uint64(len(p.p.Groups))
			for _, e := range m.loaded(p) {
				sum += programBytes(e) * uint64(mine) / uint64(len(p.p.Groups))
			}
		}
	}
	return sum
}

// TableBytes is the kernel memory of the tables that all policies share; 0 before the first.
func (m *Manager) TableBytes() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tables == nil {
		return 0
	}
	return m.tables.bytes()
}
