// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"tetragon/internal/abi"
	"tetragon/internal/kernel"
	"tetragon/internal/policy/plan"
	"tetragon/internal/sensor/gen"
)

// ManagerOptions of a manager.
type ManagerOptions struct {
	Base *Base
	// Facts are asked for when programs are loaded, and not kept.
	Facts   func() (*kernel.Facts, error)
	Log     *slog.Logger
	Grace   time.Duration // how long a hook without policies stays attached, silent; DefaultGrace when 0, none when negative
	Verbose bool          // an error of the verifier holds its whole log
}

// DefaultGrace spares a policy that is deleted and added again, as by a restarted controller, the price of detaching and
// attaching, which is the largest that there is.
const DefaultGrace = 5 * time.Minute

// Manager owns all policy hooks in the kernel. At each attach point one program runs for all policies there.
//
// A change loads and attaches new programs beside the old ones, silent, and then switches from one to the other. Whatever
// fails before that is undone; the switch cannot fail. Methods may be called from any goroutine; changes wait for each other.
type Manager struct {
	o ManagerOptions

	mu       sync.Mutex
	tables   *tables // nil until there is a policy
	policies map[uint32]*policyState
	points   map[string][]*program // by attach point; those that run for policies
	idle     []*program            // attached and silent, in case that a policy comes back
	sys      [sysDirs]*dispatcher
	sets     *setTable
	classes  *classes // nil while nobody needs them
	users    users
	entries  [2]*ebpf.Program // keep arguments of user programs; the second is for several places
	turn     uint32           // of the classes
	ids      uint32           // last policy
	programs uint32           // last program
	closed   bool

	plans   sync.Map // id of a program -> *plan.Program
	windows windows
	retired retired
	merges  atomic.Pointer[merges] // nil until a policy has equal calls counted
}

// policyState is one policy.
type policyState struct {
	id      uint32
	plan    *plan.Plan
	enabled bool
	monitor bool              // what it orders is not done, only counted
	parts   map[string][]part // by attach point
}

// program is what runs at one attach point.
type program struct {
	p     *plan.Program
	code  string
	rules []abi.Rule // as they are in the table

	slot, base int
	needles    []string
	table      uint64 // kernel memory of the table of digests that it alone has
	numbers    map[string]int
	sets       []int

	prog  *ebpf.Program // nil for system calls, whose copies the dispatchers have
	touch *ebpf.Program // of user programs: touches what prog reads; nil: that reads nothing
	link  io.Closer

	silent time.Time // since when it is idle
	timer  *time.Timer
}

// NewManager makes a manager. The kernel is not touched before the first policy.
func NewManager(o ManagerOptions) *Manager {
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	m := &Manager{
		o: o, policies: make(map[uint32]*policyState), points: make(map[string][]*program), sets: newSetTable(),
	}
	for dir := range m.sys {
		m.sys[dir] = newDispatcher(dir)
	}
	m.retired.m = m
	m.users.log = o.Log
	if o.Base != nil {
		m.users.pins = o.Base.pins
	}
	return m
}

// ErrNoPolicy says that there is no policy of that id.
var ErrNoPolicy = errors.New("no such policy")

// ErrClosed says that the manager has been closed.
var ErrClosed = errors.New("the sensor is being closed")

// Add makes the kernel work by a plan. When it returns without an error all of its hooks are on; with one, nothing has
// changed.
func (m *Manager) Add(p *plan.Plan) (uint32, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := m.ids + 1
	if err := m.change(id, &policyState{id: id, plan: p, enabled: true, monitor: p.Monitor}); err != nil {
		return 0, err
	}
	m.ids = id
	return id, nil
}

// Replace puts a plan in the place of another one. Each call of a hooked function is judged by the old plan or by the new
// one; counters of hooks that both have go on. A policy that is off stays off.
func (m *Manager) Replace(id uint32, p *plan.Plan) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.policies[id]
	if old == nil {
		return fmt.Errorf("replace policy %d: %w", id, ErrNoPolicy)
	}
	return m.change(id, &policyState{id: id, plan: p, enabled: old.enabled, monitor: p.Monitor})
}

// Remove ends a policy. No record is made for it after Remove has returned, but some may still be in the ring.
func (m *Manager) Remove(id uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.policies[id] == nil {
		return fmt.Errorf("remove policy %d: %w", id, ErrNoPolicy)
	}
	return m.change(id, nil)
}

// Enable switches a policy on. Nothing is loaded.
func (m *Manager) Enable(id uint32) error { return m.turnTo(id, true) }

// Disable switches a policy off: its hooks stay, and do nothing for it.
func (m *Manager) Disable(id uint32) error { return m.turnTo(id, false) }

func (m *Manager) turnTo(id uint32, on bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	s := m.policies[id]
	if s == nil {
		return fmt.Errorf("switch policy %d: %w", id, ErrNoPolicy)
	}
	s.enabled = on
	var counted []uint32
	for _, k := range keys(s.parts) {
		for _, p := range m.points[k] {
			m.tables.enable(p.slot, m.enabledOf(p, m.policies))
			if !on && merging(p.p) {
				counted = append(counted, p.p.ID)
			}
		}
	}
	if len(counted) > 0 {
		m.merges.Load().flush(counted)
	}
	return nil
}

// SetMode says whether what a policy orders is done, or only told and counted. Nothing is loaded: its rows in the table of
// rules change, one store each.
func (m *Manager) SetMode(id uint32, monitor bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	s := m.policies[id]
	if s == nil {
		return fmt.Errorf("set the mode of policy %d: %w", id, ErrNoPolicy)
	}
	was := s.monitor
	if err := m.modeTo(s, id, monitor); err != nil {
		return errors.Join(err, m.modeTo(s, id, was)) // never one hook that denies and another that only tells
	}
	return nil
}

// modeTo is SetMode up to the first failure.
func (m *Manager) modeTo(s *policyState, id uint32, monitor bool) error {
	s.monitor = monitor
	for _, k := range keys(s.parts) {
		for i := range s.parts[k] {
			s.parts[k][i].monitor = monitor
		}
		for _, p := range m.points[k] {
			if err := m.setMode(p, id, monitor); err != nil {
				return err
			}
		}
	}
	return nil
}

// setMode writes the mode of a policy into its rules in a program.
func (m *Manager) setMode(p *program, id uint32, monitor bool) error {
	for i := range p.p.Groups {
		g := &p.p.Groups[i]
		if g.Policy != id {
			continue
		}
		for r := g.First; r < g.First+len(g.Hook.Rules); r++ {
			row := &p.rules[r]
			row.Flags &^= abi.RuleMonitor
			if monitor && p.p.Rules[r].Do.Enforces() {
				row.Flags |= abi.RuleMonitor
			}
		}
		if err := m.tables.writeRules(p.base+g.First, p.rules[g.First:g.First+len(g.Hook.Rules)]); err != nil {
			return err
		}
	}
	return nil
}

// enabledOf is the rules of a program whose policies are on.
func (m *Manager) enabledOf(p *program, policies map[uint32]*policyState) (words ruleWords) {
	for i := range p.p.Groups {
		g := &p.p.Groups[i]
		if s := policies[g.Policy]; s == nil || !s.enabled {
			continue
		}
		for r := g.First; r < g.First+len(g.Hook.Rules); r++ {
			words[r/64] |= 1 << (r % 64)
		}
	}
	return words
}

// Program is the program of that id, as a record of it is to be read; nil if there is none. It is remembered for a while
// after its end, as its last records are still in the ring then. Never waits.
func (m *Manager) Program(id uint32) *plan.Program {
	p, _ := m.plans.Load(id)
	if p == nil {
		return nil
	}
	return p.(*plan.Program)
}

// undo is what a change has done so far, to be undone in reverse.
type undo []func()

func (u *undo) add(f func()) { *u = append(*u, f) }

func (u *undo) run() {
	for i := len(*u) - 1; i >= 0; i-- {
		(*u)[i]()
	}
	*u = nil
}

// pointChange is what a change does at one attach point.
type pointChange struct {
	key  string
	old  []*program
	next []*program // those that are also in old stay as they are
}

// change puts a policy's new state in the place of its old one; nil: it ends. m.mu is held.
func (m *Manager) change(id uint32, next *policyState) (err error) {
	if m.closed {
		return ErrClosed
	}
	if m.tables == nil {
		if m.tables, err = newTables(m.o.Base); err != nil {
			m.tables = nil
			return err
		}
		f, err := m.o.Facts()
		if err != nil {
			return err
		}
		if !m.tables.hashed { // else the library knows where classes are
			m.tables.layout.ForKernel(f.Types)
		}
		m.sets.seeds = m.o.Base.pins.Prior().seeds()
	}
	var u undo
	var fresh []*program
	defer func() {
		if err == nil {
			return
		}
		u.run()
		// What is attached already is silent. Nobody waits for its end.
		r := retirement{}
		for _, p := range fresh {
			if p.link != nil {
				r.programs = append(r.programs, p)
				m.sets.use(p.sets)
			}
		}
		m.retired.add(r)
		m.sets.forget()
	}()
	old := m.policies[id]
	var freed []span // rows of counters that nobody needs afterwards
	if next != nil {
		if err := m.takeStats(&u, next, old); err != nil {
			return err
		}
	}
	freed = lostStats(old, next)

	changes, made, revived, err := m.mergePoints(&u, id, old, next)
	if err != nil {
		return err
	}
	fresh = made
	all := m.after(changes)
	var heads [sysDirs]map[call]*body
	var bodies [sysDirs][]*body
	for dir, d := range m.sys {
		var progs []*program
		for _, p := range all {
			if k, ok := dirOf(p.p.Attach.Backend); ok && k == dir {
				progs = append(progs, p)
			}
		}
		if heads[dir], bodies[dir], err = d.chains(progs); err != nil {
			return err
		}
	}
	if m.classes == nil && slices.ContainsFunc(all, func(p *program) bool { return needsClasses(p.p) }) {
		// What was kept when somebody last asked for it is out of date.
		if err := m.tables.renewClasses(); err != nil {
			return err
		}
	}
	for _, p := range fresh {
		if err := m.tables.growFor(p.p); err != nil {
			return err
		}
		if merging(p.p) {
			f, err := m.o.Facts()
			if err != nil {
				return err
			}
			if err := m.startMerges(f); err != nil {
				return err
			}
		}
	}
	if err := m.oneCounter(fresh); err != nil {
		return err
	}
	if err := m.loadAll(&u, fresh, bodies); err != nil {
		return err
	}
	oldClasses, err := m.classify(&u, all)
	if err != nil {
		return err
	}
	if err := m.attachAll(&u, fresh, heads); err != nil {
		return err
	}
	for _, p := range revived {
		// Nobody works by these rows while it is silent.
		if err := m.tables.writeRules(p.base, p.rules); err != nil {
			return err
		}
	}

	// From here on nothing fails.
	policies := m.policies
	if next != nil {
		policies[id] = next
	} else {
		delete(policies, id)
	}
	m.swap(changes, policies, heads, retirement{rows: freed, classes: oldClasses})
	for _, p := range fresh {
		m.sets.use(p.sets)
	}
	m.sets.forget()
	m.dropClasses()
	return nil
}

// takeStats gives each rule of a policy a row of counters, that of the policy's old state if it is the same hook still.
func (m *Manager) takeStats(u *undo, next, old *policyState) error {
	next.parts = make(map[string][]part)
	for i := range next.plan.Hooks {
		h := &next.plan.Hooks[i]
		if h.Inactive != "" {
			continue
		}
		if len(h.Rules) == 0 {
			return fmt.Errorf("add policy %s: its hook on %s has no rules", next.plan.Policy, h.Name)
		}
		k := h.Attach.Key()
		x := part{policy: next.id, plan: next.plan, hook: h, monitor: next.monitor}
		if o := sameHook(old, k, len(next.parts[k]), h); o != nil {
			x.stats = o.stats
		} else {
			row, ok := m.tables.stats.take(len(h.Rules))
			if !ok {
				return m.full("rules", m.tables.stats.left(), len(h.Rules))
			}
			u.add(func() { m.tables.stats.give(row, len(h.Rules)) })
			if err := m.tables.clearStats(row, len(h.Rules)); err != nil {
				return err
			}
			x.stats = row
		}
		next.parts[k] = append(next.parts[k], x)
	}
	return nil
}

// sameHook finds the n-th hook of a policy's state at an attach point, if it has as many rules as h.
func sameHook(old *policyState, key string, n int, h *plan.Hook) *part {
	if old == nil || n >= len(old.parts[key]) || len(old.parts[key][n].hook.Rules) != len(h.Rules) {
		return nil
	}
	return &old.parts[key][n]
}

// lostStats lists the rows of counters that a policy's old state has and its new one has not.
func lostStats(old, next *policyState) []span {
	kept := make(map[int]bool)
	if next != nil {
		for _, xs := range next.parts {
			for _, x := range xs {
				kept[x.stats] = true
			}
		}
	}
	var out []span
	if old != nil {
		for _, xs := range old.parts {
			for _, x := range xs {
				if !kept[x.stats] {
					out = append(out, span{x.stats, len(x.hook.Rules)})
				}
			}
		}
	}
	return out
}

func (m *Manager) full(what string, left, want int) error {
	err := fmt.Errorf("add a policy: %w: %d %s are needed, %d are left", errFull, want, what, left)
	if n := m.retired.waiting(); n > 0 {
		return fmt.Errorf("%w; %d programs are being detached, try again in a while", err, n)
	}
	return err
}

// mergePoints finds out what is to run at each attach point that the change concerns: programs that are there already,
// idle ones that come back, and fresh ones, which get their places in the tables.
func (m *Manager) mergePoints(u *undo, id uint32, old, next *policyState) (changes []pointChange, fresh, revived []*program, err error) {
	concerned := make(map[string]bool)
	for _, s := range []*policyState{old, next} {
		if s != nil {
			for k := range s.parts {
				concerned[k] = true
			}
		}
	}
	for _, key := range keys(concerned) {
		var parts []part
		for pid, s := range m.policies {
			if pid != id {
				parts = append(parts, s.parts[key]...)
			}
		}
		if next != nil {
			parts = append(parts, next.parts[key]...)
		}
		c := pointChange{key: key, old: m.points[key]}
		progs, members, err := merge(parts, m.sets.number)
		if err != nil {
			return nil, nil, nil, err
		}
		for i, p := range progs {
			text, rules := code(p), ruleRows(p, members[i])
			if x := findCode(c.old, text); x != nil && slices.Equal(x.rules, rules) {
				p.ID = x.p.ID
				was := x.p
				x.p = p
				u.add(func() { x.p = was })
				c.next = append(c.next, x)
				continue
			}
			if x := m.comesBack(text, p); x != nil && !slices.Contains(revived, x) {
				p.ID = x.p.ID
				was, wasRules := x.p, x.rules
				x.p, x.rules = p, rules
				u.add(func() { x.p, x.rules = was, wasRules })
				revived = append(revived, x)
				c.next = append(c.next, x)
				continue
			}
			x, err := m.place(u, p, text, rules)
			if err != nil {
				return nil, nil, nil, err
			}
			fresh = append(fresh, x)
			c.next = append(c.next, x)
		}
		changes = append(changes, c)
	}
	return changes, fresh, revived, nil
}

func findCode(ps []*program, text string) *program {
	for _, p := range ps {
		if p.code == text {
			return p
		}
	}
	return nil
}

// ringDelay is longer than a record stays in the ring.
const ringDelay = 2 * time.Second

// comesBack finds an idle program that does what p wants. If its old records would be told as those of another policy it
// must have been idle for so long that there are none.
func (m *Manager) comesBack(text string, p *plan.Program) *program {
	x := findCode(m.idle, text)
	if x == nil || face(x.p) != face(p) && time.Since(x.silent) < ringDelay {
		return nil
	}
	return x
}

// place gives a program an id and its places in the tables.
func (m *Manager) place(u *undo, p *plan.Program, text string, rules []abi.Rule) (*program, error) {
	t := m.tables
	m.programs++ // an id that a failed change had is not used again
	p.ID = m.programs
	x := &program{p: p, code: text, rules: rules, sets: setsOf(p), numbers: make(map[string]int)}
	var ok bool
	if x.slot, ok = t.slots.take(1); !ok {
		return nil, m.full("programs", 0, 1)
	}
	if x.base, ok = t.rules.take(len(rules)); !ok {
		t.slots.give(x.slot, 1)
		return nil, m.full("rules", t.rules.left(), len(rules))
	}
	u.add(func() {
		if x.link == nil {
			m.free(x)
		}
	})
	for _, s := range gen.Needles(p) {
		n, err := t.addNeedle(s)
		if err != nil {
			return nil, err
		}
		x.needles = append(x.needles, s)
		x.numbers[s] = n
	}
	t.enable(x.slot, ruleWords{})
	return x, t.writeRules(x.base, rules)
}

// free gives back a program's places in the tables. Nothing runs it any more.
func (m *Manager) free(x *program) {
	t := m.tables
	t.enable(x.slot, ruleWords{})
	t.slots.give(x.slot, 1)
	t.rules.give(x.base, len(x.rules))
	for _, s := range x.needles {
		t.dropNeedle(s)
	}
}

// after lists the programs that there are when the changes are done, also the idle ones.
func (m *Manager) after(changes []pointChange) []*program {
	changed := make(map[string]*pointChange, len(changes))
	for i := range changes {
		changed[changes[i].key] = &changes[i]
	}
	var out []*program
	for _, k := range keys(m.points) {
		if changed[k] == nil {
			out = append(out, m.points[k]...)
		}
	}
	for i := range changes {
		out = append(out, changes[i].next...)
		for _, p := range changes[i].old {
			if len(changes[i].next) == 0 && m.rests(p) {
				out = append(out, p)
			}
		}
	}
	for _, p := range m.idle {
		if changed[p.p.Attach.Key()] == nil {
			out = append(out, p)
		}
	}
	return out
}

// loadAll generates and loads all programs that are new.
func (m *Manager) loadAll(u *undo, fresh []*program, bodies [sysDirs][]*body) error {
	var jobs []*job
	done := make(map[*job]func(*ebpf.Program))
	owner := make(map[*job]*program)
	add := func(p *program, o gen.Options, to func(*ebpf.Program)) error {
		o.Layout, o.Slot, o.Base, o.Needles = m.tables.layout, p.slot, p.base, p.numbers
		if p.p.KeepsArgs() {
			o.Point = pointOf64(&p.p.Attach)
		}
		spec, err := gen.Body(p.p, m.tables.lib.Programs["library"], o)
		if err != nil {
			return err
		}
		spec.Name = programName(&p.p.Attach)
		j := &job{what: pointOf(&p.p.Attach), spec: spec}
		if p.p.Attach.Hash != nil {
			j.own = map[string]any{"sleeps": true}
			j.digests = gen.Digests(p.p)
		}
		jobs = append(jobs, j)
		done[j], owner[j] = to, p
		return nil
	}
	for _, p := range fresh {
		if _, sys := dirOf(p.p.Attach.Backend); !sys {
			if err := add(p, gen.Options{}, func(e *ebpf.Program) { p.prog = e }); err != nil {
				return err
			}
			if gen.Touches(p.p) {
				if err := add(p, gen.Options{Touch: true}, func(e *ebpf.Program) { p.touch = e }); err != nil {
					return err
				}
			}
		}
	}
	for dir, d := range m.sys {
		for _, b := range bodies[dir] {
			var ok bool
			if b.index, ok = d.index.take(1); !ok {
				return m.full("programs for system calls", 0, 1)
			}
			u.add(func() { d.index.give(b.index, 1) })
			if err := add(b.of, gen.Options{Chain: b.index, Compat: b.compat}, func(e *ebpf.Program) { b.prog = e }); err != nil {
				return err
			}
		}
	}
	for _, p := range fresh {
		a := &p.p.Attach
		if !p.p.KeepsArgs() || m.entries[entryOf(a)] != nil || slices.ContainsFunc(jobs, func(j *job) bool { return j.what == entryName(a) }) {
			continue
		}
		spec, err := gen.Entry(m.tables.lib.Programs["library"], a.User.Multi)
		if err != nil {
			return err
		}
		j := &job{what: entryName(a), spec: spec}
		jobs = append(jobs, j)
		done[j] = func(e *ebpf.Program) { m.entries[entryOf(a)] = e }
	}
	for dir, d := range m.sys {
		if len(bodies[dir]) > 0 && d.prog == nil {
			j := &job{what: "the program for system calls", spec: m.tables.lib.Programs[dispatchers[dir].prog].Copy()}
			jobs = append(jobs, j)
			done[j] = func(e *ebpf.Program) { d.prog = e }
		}
	}
	if len(jobs) == 0 {
		return nil
	}
	f, err := m.o.Facts()
	if err != nil {
		return err
	}
	if err := m.tables.load(jobs, f, m.o.Verbose); err != nil {
		return err
	}
	for _, j := range jobs {
		done[j](j.prog)
		if p := owner[j]; p != nil {
			p.table += j.table
		}
		u.add(func() {
			if p := owner[j]; p == nil || p.link == nil {
				_ = j.prog.Close()
				done[j](nil)
			}
		})
	}
	return nil
}

// entryName names the program that keeps arguments, for errors.
func entryName(a *plan.Attach) string {
	return fmt.Sprintf("the program that keeps arguments (uprobe %d)", entryOf(a))
}

// programName is what the kernel knows a program by: 15 characters.
func programName(a *plan.Attach) string {
	name := a.Symbol
	switch {
	case len(a.Symbols) > 0:
		name = a.Symbols[0]
	case len(a.Calls) > 0:
		name = fmt.Sprintf("sys_%d", a.Calls[0].Nr)
	case a.User != nil:
		name = cmp.Or(a.User.Symbol, a.User.Probe, a.User.Path)
	case name == "":
		name = a.Backend.String()
	}
	out := []byte("t_" + name)
	for i, c := range out {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			out[i] = '_'
		}
	}
	return string(out[:min(len(out), 15)])
}

// attach attaches a program.
func (m *Manager) attach(p *program) (io.Closer, error) {
	a := &p.p.Attach
	if !isUser(a.Backend) {
		return attach(a, p.prog)
	}
	var entry *ebpf.Program
	if p.p.KeepsArgs() {
		entry = m.entries[entryOf(a)]
	}
	l, err := m.users.attach(a, p.prog, p.touch, entry)
	if err != nil {
		return nil, fmt.Errorf("attach %s: %w", pointOf(a), err)
	}
	return l, nil
}

// entryOf is which program keeps the arguments of a function.
func entryOf(a *plan.Attach) int {
	if a.User.Multi {
		return 1
	}
	return 0
}

// attachAll attaches what is new. Nothing of it does anything yet.
func (m *Manager) attachAll(u *undo, fresh []*program, heads [sysDirs]map[call]*body) error {
	defer m.users.settle()
	for _, p := range fresh {
		if p.prog == nil {
			continue
		}
		l, err := m.attach(p)
		if err != nil {
			return err
		}
		p.link = l                            // undone by whoever sees that there is one
		if lasting, ok := l.(link.Link); ok { // the others have pinned what they hold
			if err := m.o.Base.pins.pinLink(lasting, "hook_%06d", p.p.ID); err != nil {
				return err
			}
		}
	}
	for dir, d := range m.sys {
		names := dispatchers[dir]
		table := m.tables.coll.Maps[names.table]
		seen := make(map[*body]bool)
		for _, b := range heads[dir] {
			for ; b != nil; b = b.next {
				if seen[b] || d.bodies[b.key] == b {
					continue
				}
				seen[b] = true
				if err := table.Put(uint32(b.index), b.prog); err != nil {
					return fmt.Errorf("attach %s: %w", pointOf(&b.of.p.Attach), err)
				}
				u.add(func() { _ = table.Delete(uint32(b.index)) })
				after := 0
				if b.next != nil {
					after = b.next.index
				}
				m.tables.next(dir, b.index, after)
			}
		}
		if len(heads[dir]) == 0 || d.link != nil {
			continue
		}
		l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: names.tracepoint, Program: d.prog})
		if err != nil {
			return fmt.Errorf("attach to tracepoint %s: %w", names.tracepoint, err)
		}
		d.link = l
		u.add(func() { _ = drop(l); d.link = nil })
		if err := m.o.Base.pins.pinLink(l, "%s_%d", names.prog, m.programs); err != nil {
			return err
		}
	}
	return nil
}

// classify makes the kernel half keep with each process what the programs ask for. If other programs do so from now on it
// returns those that did before.
func (m *Manager) classify(u *undo, progs []*program) (*classes, error) {
	needed := false
	numbers := make(map[int]bool)
	for _, p := range progs {
		needed = needed || needsClasses(p.p)
		for _, n := range p.sets {
			numbers[n] = true
		}
	}
	if !needed || m.classes != nil && m.classes.knows(m.sets, numbers) {
		return nil, nil
	}
	f, err := m.o.Facts()
	if err != nil {
		return nil, err
	}
	t := m.tables
	m.turn++
	prior := m.o.Base.pins.Prior()
	adopted := &classes{sets: m.sets.seeded()}
	if m.classes != nil || prior == nil || prior.removed || len(m.sets.seeds) == 0 || prior.maps[t.classes()] == nil {
		adopted = nil
		if err := t.before(nil); err != nil {
			return nil, err
		}
	} else if err := t.before(prior.maps[t.classes()]); err != nil {
		return nil, err
	}
	c, err := t.loadClasses(m.turn, m.sets, numbers, f, m.o.Verbose)
	if err != nil {
		return nil, err
	}
	was := m.classes
	now := t.variable("class_now", 0, 4)
	before := t.get32(now)
	t.set32(now, c.turn)
	m.classes = c
	u.add(func() {
		t.set32(now, before)
		m.classes = was
		if err := c.close(); err != nil {
			m.o.Log.Warn("detach the programs that follow processes", "err", err)
		}
	})
	if err := t.noteSets(m.sets); err != nil {
		return was, err
	}
	if adopted != nil {
		c.adopts = true
		return was, c.run(t, adopted)
	}
	return was, c.run(t, was)
}

// dropClasses ends what nobody asks for any more.
func (m *Manager) dropClasses() {
	if m.classes == nil {
		return
	}
	for _, ps := range m.points {
		for _, p := range ps {
			if needsClasses(p.p) {
				return
			}
		}
	}
	for _, p := range m.idle {
		if needsClasses(p.p) {
			return
		}
	}
	m.retired.add(retirement{classes: m.classes})
	m.classes = nil
}

// swap switches from old programs to new ones. A call that is under way meets the old program, the new one, or, for the
// shortest time, both; never none.
func (m *Manager) swap(changes []pointChange, policies map[uint32]*policyState, heads [sysDirs]map[call]*body, r retirement) {
	t := m.tables
	var gone []*program
	handover := false
	var overlaps []*window
	x, counted := m.merges.Load(), []uint32(nil)
	for i := range changes {
		c := &changes[i]
		for _, p := range c.old {
			if merging(p.p) && !slices.Contains(c.next, p) {
				counted = append(counted, p.p.ID)
			}
		}
	}
	if x != nil && (len(counted) > 0 || slices.ContainsFunc(changes, func(c pointChange) bool {
		return slices.ContainsFunc(c.next, func(p *program) bool { return merging(p.p) })
	})) {
		x.pause(true)
		defer x.pause(false)
	}
	for i := range changes {
		c := &changes[i]
		var out []*program
		for _, p := range c.old {
			if !slices.Contains(c.next, p) {
				out = append(out, p)
			}
		}
		if len(out) > 0 && len(c.next) > 0 {
			if _, sys := dirOf(out[0].p.Attach.Backend); !sys {
				handover = true
				var ids []uint32
				for _, p := range slices.Concat(out, c.next) {
					ids = append(ids, p.p.ID)
				}
				overlaps = append(overlaps, m.windows.begin(c.key, ids))
			}
		}
		for _, p := range c.next {
			m.plans.Store(p.p.ID, p.p)
			if p.timer != nil {
				p.timer.Stop()
				p.timer = nil
			}
			m.idle = slices.DeleteFunc(m.idle, func(x *program) bool { return x == p })
			t.enable(p.slot, m.enabledOf(p, policies))
		}
		if len(c.next) > 0 {
			m.points[c.key] = c.next
			// What is idle here and did not come back would only take up one of the few places of a function.
			m.idle = slices.DeleteFunc(m.idle, func(x *program) bool {
				if x.p.Attach.Key() != c.key {
					return false
				}
				gone = append(gone, x)
				return true
			})
			gone = append(gone, out...)
			continue
		}
		delete(m.points, c.key)
		for _, p := range out {
			if !m.rests(p) {
				gone = append(gone, p)
				continue
			}
			t.enable(p.slot, ruleWords{})
			m.rest(p)
		}
	}
	for dir, d := range m.sys {
		for _, bs := range heads[dir] {
			for b := bs; b != nil; b = b.next {
				d.bodies[b.key] = b
			}
		}
		r.bodies = append(r.bodies, d.install(t, heads[dir])...)
		if len(heads[dir]) == 0 && d.link != nil {
			r.links, r.progs = append(r.links, d.link), append(r.progs, d.prog)
			d.link, d.prog = nil, nil
		}
	}
	m.windows.on(overlaps)
	if handover {
		// Whoever passed the new program while it was silent must have passed the old one before that falls silent; and no call
		// passes the old one before the new one was on, and the new one after the old one is off: see window.pair.
		quiesce()
	}
	m.windows.off(overlaps)
	for _, p := range gone {
		// A program for system calls that nothing leads to any more finishes what it has begun.
		if _, sys := dirOf(p.p.Attach.Backend); !sys || !m.replaced(p) {
			t.enable(p.slot, ruleWords{})
		}
		if p.timer != nil {
			p.timer.Stop()
		}
	}
	m.windows.end(overlaps)
	if len(counted) > 0 {
		x.flush(counted)
	}
	if x != nil {
		x.used.Store(slices.ContainsFunc(slices.Concat(slices.Collect(maps.Values(m.points))...), func(p *program) bool { return merging(p.p) }))
	}
	r.programs = append(r.programs, gone...)
	m.retired.add(r)
}

// replaced says whether another program runs where p ran.
func (m *Manager) replaced(p *program) bool { return len(m.points[p.p.Attach.Key()]) > 0 }

// rests says whether a program stays attached when its last policy has gone. Those for system calls do not: they come and go
// quickly, and every system call of the machine pays for the tracepoint that leads to them.
func (m *Manager) rests(p *program) bool {
	_, sys := dirOf(p.p.Attach.Backend)
	return m.o.Grace > 0 && !sys
}

// rest keeps a silent program attached for the grace time.
func (m *Manager) rest(p *program) {
	p.silent = time.Now()
	m.idle = append(m.idle, p)
	p.timer = time.AfterFunc(m.o.Grace, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !m.closed && slices.Contains(m.idle, p) {
			m.expire(p)
		}
	})
}

// expire ends a program that has been idle for long enough.
func (m *Manager) expire(p *program) {
	m.idle = slices.DeleteFunc(m.idle, func(x *program) bool { return x == p })
	m.retired.add(retirement{programs: []*program{p}})
	m.dropClasses()
}

// Detach silences all hooks at once. What is in the ring stays there to be read.
func (m *Manager) Detach() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	if m.tables == nil {
		return
	}
	for _, ps := range m.points {
		for _, p := range ps {
			m.tables.enable(p.slot, ruleWords{})
		}
	}
}

// Leave closes everything here; what is pinned goes on without us, as it is now.
func (m *Manager) Leave() error {
	m.mu.Lock()
	m.closed = true
	for _, p := range m.idle {
		if p.timer != nil {
			p.timer.Stop()
		}
	}
	m.mu.Unlock()
	err := m.retired.wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tables == nil {
		return err
	}
	errs := []error{err}
	for _, p := range slices.Concat(slices.Concat(slices.Collect(maps.Values(m.points))...), m.idle) {
		switch l := p.link.(type) {
		case nil:
		case *userHook:
			errs = append(errs, l.leave())
		default:
			errs = append(errs, l.Close())
		}
		if p.prog != nil {
			errs = append(errs, p.prog.Close())
		}
	}
	for _, d := range m.sys {
		if d.link != nil {
			errs = append(errs, d.link.Close(), d.prog.Close())
		}
		for _, b := range d.bodies {
			errs = append(errs, b.prog.Close())
		}
	}
	if c := m.classes; c != nil {
		for _, l := range c.links {
			errs = append(errs, l.Close())
		}
		for _, p := range c.progs {
			errs = append(errs, p.Close())
		}
		errs = append(errs, c.iter.Close())
	}
	errs = append(errs, m.endMerges())
	m.tables.close()
	m.tables = nil
	return errors.Join(errs...)
}

// Close detaches and frees everything. Detaching from many functions takes a while.
func (m *Manager) Close() error {
	m.Detach()
	m.mu.Lock()
	if m.tables == nil {
		m.mu.Unlock()
		return nil
	}
	r := retirement{classes: m.classes}
	m.classes = nil
	for _, k := range keys(m.points) {
		r.programs = append(r.programs, m.points[k]...)
	}
	for _, p := range m.idle {
		if p.timer != nil {
			p.timer.Stop()
		}
		r.programs = append(r.programs, p)
	}
	m.points, m.idle, m.policies = map[string][]*program{}, nil, map[uint32]*policyState{}
	for _, d := range m.sys {
		r.bodies = append(r.bodies, d.install(m.tables, nil)...)
		if d.link != nil {
			r.links, r.progs = append(r.links, d.link), append(r.progs, d.prog)
			d.link, d.prog = nil, nil
		}
	}
	m.retired.add(r)
	m.mu.Unlock()
	err := m.retired.wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, p := range m.entries {
		if p != nil {
			err = errors.Join(err, p.Close())
		}
		m.entries[i] = nil
	}
	err = errors.Join(err, m.endMerges())
	m.tables.close()
	m.tables = nil
	return err
}
