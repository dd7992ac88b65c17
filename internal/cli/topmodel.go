// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"tetragon/api/v1/tetragon"
)

// What "tetra top" remembers at most; what comes beyond that is counted, but not shown.
const (
	topProcesses = 20_000
	topBinaries  = 5_000
)

// topModel is what "tetra top" shows: it takes events and answers of the agent, and makes lines. It belongs to one goroutine.
type topModel struct {
	where  string // what the events come from
	status string // why none come at present; empty: they do

	filter string
	typing bool
	paused bool

	events    rate
	binaries  map[string]*rate
	policies  map[string]*topPolicy
	hooks     []topHook
	processes map[string]*topProcess // by exec id
	lost      uint64
	losses    []string
}

// rate counts things, and how many there were in the last interval.
type rate struct {
	total, before uint64
	perSecond     float64
}

func (r *rate) tick(d time.Duration) {
	r.perSecond = float64(r.total-r.before) / d.Seconds()
	r.before = r.total
}

// goOn is the rate with a new total. A policy that was loaded anew counts from 0.
func (r rate) goOn(total uint64) rate {
	if total < r.total {
		r.before = 0
	}
	r.total = total
	return r
}

type topPolicy struct {
	events rate
	state  string
	memory uint64
}

// topHook is a hook of a policy, with what its program did.
type topHook struct {
	policy, attached              string
	matched                       rate
	runs, ns                      rate // of its program, for all hooks that it serves
	posted, limited, lost, missed uint64
}

type topProcess struct {
	id, parent        string
	pid               uint32
	binary, arguments string
	events            rate
	ended             bool
}

func newTopModel(where string) *topModel {
	return &topModel{
		where: where, binaries: map[string]*rate{}, policies: map[string]*topPolicy{}, processes: map[string]*topProcess{},
	}
}

// event takes one event.
func (m *topModel) event(ev *tetragon.GetEventsResponse) {
	m.events.total++
	var inner any
	switch e := ev.GetEvent().(type) {
	case *tetragon.GetEventsResponse_ProcessExec:
		inner = e.ProcessExec
	case *tetragon.GetEventsResponse_ProcessExit:
		inner = e.ProcessExit
	case *tetragon.GetEventsResponse_ProcessKprobe:
		inner = e.ProcessKprobe
	case *tetragon.GetEventsResponse_ProcessTracepoint:
		inner = e.ProcessTracepoint
	case *tetragon.GetEventsResponse_ProcessUprobe:
		inner = e.ProcessUprobe
	case *tetragon.GetEventsResponse_ProcessLsm:
		inner = e.ProcessLsm
	case *tetragon.GetEventsResponse_ProcessUsdt:
		inner = e.ProcessUsdt
	case *tetragon.GetEventsResponse_ProcessLoader:
		inner = e.ProcessLoader
	}
	if x, ok := inner.(interface{ GetPolicyName() string }); ok && x.GetPolicyName() != "" {
		m.policy(x.GetPolicyName()).events.total++
	}
	x, ok := inner.(interface {
		GetProcess() *tetragon.Process
		GetParent() *tetragon.Process
	})
	if !ok || x.GetProcess() == nil {
		return
	}
	m.process(x.GetParent())
	p := m.process(x.GetProcess())
	if p == nil {
		return
	}
	p.events.total++
	if ev.GetProcessExit() != nil {
		p.ended = true
	}
	b, known := m.binaries[p.binary]
	if !known && len(m.binaries) < topBinaries {
		b = new(rate)
		m.binaries[p.binary] = b
	}
	if b != nil {
		b.total++
	}
}

// process returns what is remembered of a process, nil if that is nothing.
func (m *topModel) process(p *tetragon.Process) *topProcess {
	if p == nil || p.GetExecId() == "" {
		return nil
	}
	t, known := m.processes[p.GetExecId()]
	if !known && len(m.processes) < topProcesses {
		t = &topProcess{id: p.GetExecId(), parent: p.GetParentExecId(), pid: p.GetPid().GetValue(), binary: p.GetBinary(), arguments: p.GetArguments()}
		m.processes[t.id] = t
	}
	return t
}

func (m *topModel) policy(name string) *topPolicy {
	p, ok := m.policies[name]
	if !ok {
		p = new(topPolicy)
		m.policies[name] = p
	}
	return p
}

// living takes the processes that lived before the first event.
func (m *topModel) living(list []*tetragon.ProcessInternal) {
	for _, p := range list {
		if p.GetColor() == "inUse" {
			m.process(p.GetProcess())
		}
	}
}

// answers takes what the agent says of policies and losses.
func (m *topModel) answers(ps []*tetragon.TracingPolicyStatus, h *tetragon.GetHealthStatusResponse) {
	before := map[string]topHook{}
	for i := range m.hooks {
		before[m.hooks[i].policy+"\x00"+m.hooks[i].attached] = m.hooks[i]
	}
	for name := range m.policies {
		m.policies[name].state = "gone"
	}
	m.hooks = m.hooks[:0]
	for _, p := range ps {
		t := m.policy(p.GetName())
		t.state = strings.ToLower(strings.TrimPrefix(p.GetState().String(), "TP_STATE_"))
		t.memory = p.GetKernelMemoryBytes()
		for _, h := range p.GetHooks() {
			what := cmp.Or(h.GetAttached(), h.GetFunction())
			x := topHook{policy: p.GetName(), attached: what, posted: h.GetPosted(), limited: h.GetLimited(), lost: h.GetLost(), missed: h.GetMissed()}
			was := before[p.GetName()+"\x00"+what]
			x.matched, x.runs, x.ns = was.matched.goOn(h.GetMatched()), was.runs.goOn(h.GetRuns()), was.ns.goOn(h.GetRunTimeNs())
			m.hooks = append(m.hooks, x)
		}
	}
	m.lost, m.losses = 0, nil
	for _, b := range h.GetBalance() {
		if strings.HasPrefix(b.GetStage(), "grpc#") {
			continue // those of one client are in "grpc" as well
		}
		for _, d := range b.GetDropped() {
			if d.GetCount() > 0 && lossy(d.GetReason()) {
				m.lost += d.GetCount()
				m.losses = append(m.losses, fmt.Sprintf("%s %s %d", b.GetStage(), d.GetReason(), d.GetCount()))
			}
		}
	}
}

// tick ends an interval.
func (m *topModel) tick(d time.Duration) {
	m.events.tick(d)
	for _, b := range m.binaries {
		b.tick(d)
	}
	for _, p := range m.policies {
		p.events.tick(d)
	}
	for i := range m.hooks {
		h := &m.hooks[i]
		h.matched.tick(d)
		h.runs.tick(d)
		h.ns.tick(d)
	}
	hasChild := map[string]bool{}
	for _, p := range m.processes {
		p.events.tick(d)
		hasChild[p.parent] = true
	}
	for id, p := range m.processes {
		if p.ended && p.events.perSecond == 0 && !hasChild[id] {
			delete(m.processes, id)
		}
	}
}

// key takes what was typed and says whether to go on.
func (m *topModel) key(in []byte) (goOn bool) {
	if len(in) > 1 && in[0] == 0x1b {
		return true // an arrow, or the like
	}
	for _, r := range string(in) {
		switch {
		case r == 3: // Ctrl-C
			return false
		case m.typing && r == 0x1b:
			m.typing, m.filter = false, ""
		case m.typing && (r == '\r' || r == '\n'):
			m.typing = false
		case m.typing && (r == 0x7f || r == 8):
			if rs := []rune(m.filter); len(rs) > 0 {
				m.filter = string(rs[:len(rs)-1])
			}
		case m.typing && unicode.IsPrint(r):
			m.filter += string(r)
		case m.typing:
		case r == 'q':
			return false
		case r == '/':
			m.typing = true
		case r == 'p':
			m.paused = !m.paused
		case r == 0x1b:
			m.filter = ""
		}
	}
	return true
}

func (m *topModel) wants(texts ...string) bool {
	return m.filter == "" || slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, m.filter) })
}

// lines is the picture, at most height lines of at most width characters.
func (m *topModel) lines(width, height int) []string {
	head := fmt.Sprintf("tetra top  %s  %.1f events/s  %d processes  %d lost", m.where, m.events.perSecond, len(m.processes), m.lost)
	if m.paused {
		head += "  (paused)"
	}
	if m.status != "" {
		head += "  " + m.status
	}
	out := []string{head}
	switch {
	case m.typing:
		out = append(out, "filter: "+m.filter+"_")
	case m.filter != "":
		out = append(out, "filter: "+m.filter+"  (Esc: all)")
	default:
		out = append(out, "q: quit  /: filter  p: pause")
	}
	for _, l := range m.losses {
		out = append(out, "lost: "+l)
	}
	share := max((height-len(out)-8)/4, 1) // of each table; the tree gets the rest
	out = m.table(out, fmt.Sprintf("%-32s %9s %9s %10s %s", "POLICY", "EVENTS/S", "EVENTS", "MEMORY", "STATE"), m.policyLines(), share)
	out = m.table(out, fmt.Sprintf("%-32s %9s %9s %9s %9s %9s %9s %9s %7s", "HOOK", "MATCHED/S", "MATCHED", "POSTED", "LIMITED", "LOST", "MISSED", "NS/CALL", "CPU%"), m.hookLines(), share)
	out = m.table(out, fmt.Sprintf("%-32s %9s %9s", "BINARY", "EVENTS/S", "EVENTS"), m.binaryLines(), share)
	out = m.table(out, fmt.Sprintf("%9s %8s %s", "EVENTS/S", "PID", "PROCESS"), m.treeLines(), max(height-len(out)-2, 1))
	out = out[:min(len(out), height)]
	for i, l := range out {
		out[i] = cut(printable(l), width)
	}
	return out
}

// table adds a table below a blank line, and says what there was no room for.
func (m *topModel) table(out []string, head string, rows []string, room int) []string {
	if len(rows) == 0 {
		return out
	}
	out = append(out, "", head)
	if len(rows) > room {
		more := len(rows) - room + 1
		rows = append(slices.Clone(rows[:room-1]), fmt.Sprintf("... %d more", more))
	}
	return append(out, rows...)
}

func cut(s string, width int) string {
	rs := []rune(s)
	if len(rs) <= width || width < 1 {
		return s
	}
	return string(rs[:width-1]) + "…"
}

func (m *topModel) policyLines() []string {
	var names []string
	for n := range m.policies {
		if m.wants(n) {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(m.policies[b].events.perSecond, m.policies[a].events.perSecond), cmp.Compare(a, b))
	})
	var out []string
	for _, n := range names {
		p := m.policies[n]
		out = append(out, fmt.Sprintf("%-32s %9.1f %9d %10d %s", cut(n, 32), p.events.perSecond, p.events.total, p.memory, p.state))
	}
	return out
}

func (m *topModel) hookLines() []string {
	hooks := slices.Clone(m.hooks)
	slices.SortStableFunc(hooks, func(a, b topHook) int { return cmp.Compare(b.matched.perSecond, a.matched.perSecond) })
	var out []string
	for i := range hooks {
		h := &hooks[i]
		if m.wants(h.policy, h.attached) {
			perCall, share := h.cost()
			out = append(out, fmt.Sprintf("%-32s %9.1f %9d %9d %9d %9d %9d %9s %7s", cut(h.attached, 32), h.matched.perSecond, h.matched.total,
				h.posted, h.limited, h.lost, h.missed, perCall, share))
		}
	}
	return out
}

// cost is what the program of a hook took in the last interval: nanoseconds a call, and percent of one CPU. Without numbers the
// kernel does not count.
func (h *topHook) cost() (perCall, share string) {
	if h.runs.perSecond == 0 {
		return "-", "-"
	}
	return fmt.Sprintf("%.0f", h.ns.perSecond/h.runs.perSecond), fmt.Sprintf("%.2f", h.ns.perSecond/1e7)
}

func (m *topModel) binaryLines() []string {
	var names []string
	for n := range m.binaries {
		if m.wants(n) {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		x, y := m.binaries[a], m.binaries[b]
		return cmp.Or(cmp.Compare(y.perSecond, x.perSecond), cmp.Compare(y.total, x.total), cmp.Compare(a, b))
	})
	var out []string
	for _, n := range names {
		out = append(out, fmt.Sprintf("%-32s %9.1f %9d", cut(n, 32), m.binaries[n].perSecond, m.binaries[n].total))
	}
	return out
}

// treeLines is the tree of the processes that the filter wants, with those above them.
func (m *topModel) treeLines() []string {
	shown := map[string]bool{}
	for id, p := range m.processes {
		if !m.wants(p.binary, p.arguments) {
			continue
		}
		for up := p; up != nil && !shown[id]; up, id = m.processes[up.parent], up.parent {
			shown[id] = true
		}
	}
	children := map[string][]*topProcess{}
	var roots []*topProcess
	for id := range shown {
		p := m.processes[id]
		if shown[p.parent] && p.parent != id {
			children[p.parent] = append(children[p.parent], p)
		} else {
			roots = append(roots, p)
		}
	}
	byPid := func(a, b *topProcess) int { return cmp.Or(cmp.Compare(a.pid, b.pid), cmp.Compare(a.id, b.id)) }
	var out []string
	var add func(ps []*topProcess, depth int)
	add = func(ps []*topProcess, depth int) {
		slices.SortFunc(ps, byPid)
		for _, p := range ps {
			end := ""
			if p.ended {
				end = " (ended)"
			}
			out = append(out, strings.TrimRight(fmt.Sprintf("%9.1f %8d %s%s %s", p.events.perSecond, p.pid, strings.Repeat("  ", min(depth, 20)),
				p.binary, p.arguments), " ")+end)
			add(children[p.id], depth+1)
		}
	}
	add(roots, 0)
	return out
}
