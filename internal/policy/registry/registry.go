// SPDX-License-Identifier: Apache-2.0

// Package registry keeps the policies of a running agent: what each says, in which state it is, and what it has done.
//
// It is where the policy lane is driven from: server and daemon ask it to add, switch and delete policies, and it takes
// each through parsing, compiling and loading, and remembers what came of it.
//
// Not here: the steps themselves (policy/parse, policy/compile, sensor), which it knows as functions and small interfaces.
//
// A policy is known by domain, namespace and name together. Changes wait for each other; List never waits for a change. A
// change that fails leaves what was there before, but for a policy that could not be compiled or loaded, which stays on the
// list, with the reason, until it is deleted or added again. Safe for concurrent use.
package registry

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"tetragon/internal/policy"
	"tetragon/internal/policy/plan"
	"tetragon/internal/sensor"
)

// Domains that policies come from; clients of the API may choose others.
const (
	DomainStatic  = "static" // files, at start
	DomainGRPC    = "grpc"   // the API, unless the client says otherwise
	DomainSensors = "sensors"
)

// Key is what a policy is known by.
type Key struct{ Domain, Namespace, Name string }

// String names the policy for people: the domain only where it is not the usual one.
func (k Key) String() string {
	s := k.Name
	if k.Namespace != "" {
		s = k.Namespace + "/" + s
	}
	if k.Domain != DomainGRPC {
		s += " (domain " + k.Domain + ")"
	}
	return s
}

// State is where a policy is in its life. The numbers are those of the wire contract.
type State uint8

// States. Zero is unknown.
const (
	StateUnknown State = iota
	StateEnabled
	StateDisabled
	StateLoadError // compiling or loading failed; nothing of it is in the kernel
	StateError     // taking it out of the kernel failed
	StateLoading
	StateUnloading
	StateSkipped // not for this node
	StatePartial // some of its hooks are not there
)

var stateNames = [...]string{"unknown", "enabled", "disabled", "load_error", "error", "loading", "unloading", "skipped", "partially_enabled"}

// String returns the name that lists show.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// Mode says whether a policy enforces. The numbers are those of the wire contract.
type Mode uint8

// Modes. Zero is unknown.
const (
	ModeUnknown Mode = iota
	ModeEnforce
	ModeMonitor
	ModeMonitorOnly // there is nothing in it that could be enforced
)

var modeNames = [...]string{"unknown", "enforce", "monitor", "monitor_only"}

// String returns the name that lists show.
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return "unknown"
}

// What a caller can decide on.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("already exists")
	ErrInvalid  = errors.New("invalid") // what was asked cannot be, whatever happens
	ErrState    = errors.New("not in this state")
	ErrClosed   = sensor.ErrClosed // the agent is stopping
)

// refusal is an error that says which of them it is, without saying it.
type refusal struct {
	kind error
	text string
}

func (r *refusal) Error() string        { return r.text }
func (r *refusal) Is(target error) bool { return target == r.kind }

func refuse(kind error, format string, args ...any) error {
	return &refusal{kind, fmt.Sprintf(format, args...)}
}

// Sensors makes the kernel work by plans. *sensor.Manager does.
type Sensors interface {
	Add(p *plan.Plan) (uint32, error)
	Replace(id uint32, p *plan.Plan) error
	SetMode(id uint32, monitor bool) error
	Enable(id uint32) error
	Disable(id uint32) error
	Remove(id uint32) error
	Stats(id uint32) ([]sensor.HookStats, error)
	KernelBytes(id uint32) uint64
}

// Text is a policy as it came.
type Text struct {
	Name   string // of the file; for diagnostics, may be empty
	YAML   []byte
	Getenv func(string) (string, bool) // for ${NAME}; nil: no variable is defined
	Mode   Mode                        // to begin with, in the place of the one that the policy asks for; ModeUnknown: that one
}

// Options of a Registry.
type Options struct {
	Sensors Sensors
	// Parse reads a text. The policy is nil if there are mistakes.
	Parse func(Text) (*policy.Policy, *policy.Diagnostics)
	// Compile makes a plan of a domain's policy for this kernel. The plan is nil if there are mistakes; the error is about the kernel.
	Compile func(domain string, p *policy.Policy) (*plan.Plan, *policy.Diagnostics, error)
	// Loader is told, before a plan is loaded and after one is gone, whether any policy wants to hear of executable mappings.
	// Its error is a reason not to load. Nil: such policies are refused.
	Loader func(wanted bool) error
	// Store keeps what comes by the API; nil: it is forgotten when the agent ends.
	Store *Store
	Log   *slog.Logger
}

// Registry is the policies of an agent.
type Registry struct {
	o Options

	changing sync.Mutex // held through a change, however long it takes

	mu      sync.Mutex // never held while the kernel works
	entries []*entry   // in the order in which they were added
	ids     uint64
}

// entry is one policy. Its fields are guarded by Registry.mu.
type entry struct {
	id       uint64
	key      Key
	text     Text
	state    State
	mode     Mode
	err      string
	warnings []string
	plan     *plan.Plan // nil: was never compiled
	sensor   uint32     // 0: not loaded
}

// New returns a registry without policies.
func New(o Options) *Registry {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Registry{o: o}
}

func (r *Registry) find(k Key) *entry {
	for _, e := range r.entries {
		if e.key == k {
			return e
		}
	}
	return nil
}

// lookUp finds the policy that a change is about.
func (r *Registry) lookUp(k Key) (*entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.find(k); e != nil {
		return e, nil
	}
	var others []string
	for _, e := range r.entries {
		if e.key.Name == k.Name {
			others = append(others, e.key.where())
		}
	}
	if len(others) > 0 {
		return nil, refuse(ErrNotFound, "policy %s: not found in %s; there is one in %s", k.Name, k.where(), strings.Join(others, " and in "))
	}
	return nil, refuse(ErrNotFound, "policy %s: not found", k)
}

func (k Key) where() string {
	s := "domain " + k.Domain
	if k.Namespace != "" {
		s += ", namespace " + k.Namespace
	}
	return s
}

// set changes an entry under the lock.
func (r *Registry) set(e *entry, f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// checkDomain refuses what is none.
func checkDomain(d string) error {
	if d == DomainSensors {
		return refuse(ErrInvalid, "domain %q is reserved; choose another", d)
	}
	if len(d) > 253 || strings.ContainsFunc(d, func(c rune) bool { return c <= ' ' || c == '/' || c == ':' || c == 0x7f }) {
		return refuse(ErrInvalid, "domain %q is no name: up to 253 characters without blanks, slashes and colons", d)
	}
	return nil
}

// Add takes a policy all the way into the kernel. The error holds all that is wrong with it. A policy of the same key must
// not be there, unless it is one that could not be loaded, or replace says that this one takes its place: then one of the
// two works at any moment, and the old one stays if the new one fails.
func (r *Registry) Add(domain string, t Text, replace bool) error {
	return r.add(domain, t, replace, r.o.Store)
}

// add is Add. The policy is kept in a store, if that is not nil; one that cannot be kept is not added.
func (r *Registry) add(domain string, t Text, replace bool, to *Store) error {
	if err := checkDomain(domain); err != nil {
		return err
	}
	p, d := r.o.Parse(t)
	if d != nil && d.Bad() && d.Sound != nil {
		if _, more, err := r.o.Compile(domain, d.Sound); err == nil {
			d.Add(more)
		}
	}
	if err := d.Err(); err != nil {
		return refuse(ErrInvalid, "%v", err)
	}
	r.changing.Lock()
	defer r.changing.Unlock()
	key := Key{domain, p.Namespace, p.Name}
	r.mu.Lock()
	old := r.find(key)
	r.mu.Unlock()
	if old != nil && old.sensor != 0 && replace {
		return r.replace(old, p, t, d, to)
	}
	if old != nil && old.state != StateLoadError && old.state != StateSkipped {
		return refuse(ErrExists, "policy %s: already exists, in state %s; delete it first, or replace it", key, old.state)
	}
	e := &entry{key: key, text: t, state: StateLoading}
	r.mu.Lock()
	r.ids++
	e.id = r.ids
	if i := slices.Index(r.entries, old); i >= 0 {
		r.entries[i] = e
	} else {
		r.entries = append(r.entries, e)
	}
	r.mu.Unlock()
	if err := r.load(e, p, d); err != nil {
		return err
	}
	if err := to.put(key, t.YAML, true, e.mode); err != nil {
		return errors.Join(fmt.Errorf("add policy %s, which is taken out again: %w", key, err), r.end(e))
	}
	return nil
}

// AddBroken puts a policy on the list that cannot even be read, under the name of its file, so that whoever looks sees that it
// is missing. One that is on the list already, as Add leaves it when it cannot be loaded, stays as it is.
func (r *Registry) AddBroken(domain string, t Text, cause error) {
	r.changing.Lock()
	defer r.changing.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.ContainsFunc(r.entries, func(e *entry) bool { return e.key.Domain == domain && e.text.Name == t.Name }) {
		return
	}
	key := Key{Domain: domain, Name: t.Name}
	r.ids++
	r.entries = append(r.entries, &entry{id: r.ids, key: key, text: t, state: StateLoadError, err: cause.Error()})
}

// load compiles and loads a new entry.
func (r *Registry) load(e *entry, p *policy.Policy, parsed *policy.Diagnostics) error {
	pl, warnings, err := r.compile(e.key.Domain, p, parsed)
	mode, modeWarning := modeOf(p, e.text.Mode)
	if modeWarning != "" {
		warnings = append(warnings, modeWarning)
	}
	if pl != nil {
		pl.Monitor = mode == ModeMonitor
	}
	var id uint32
	if err == nil && pl.Loader {
		err = r.wantLoader(true)
	}
	if err == nil {
		if id, err = r.o.Sensors.Add(pl); err != nil {
			err = fmt.Errorf("load policy %s: %w", e.key, err)
		}
	}
	r.set(e, func() {
		e.plan, e.mode, e.warnings = pl, mode, warnings
		if err != nil {
			e.state, e.err = StateLoadError, err.Error()
			return
		}
		e.sensor, e.state, e.err = id, enabledState(pl), ""
	})
	r.settleLoader()
	if err != nil {
		return err
	}
	r.log(e)
	return nil
}

// replace puts a policy in the place of one that is loaded.
func (r *Registry) replace(e *entry, p *policy.Policy, t Text, parsed *policy.Diagnostics, to *Store) error {
	pl, warnings, err := r.compile(e.key.Domain, p, parsed)
	if err != nil {
		return err
	}
	mode, modeWarning := modeOf(p, t.Mode)
	if modeWarning != "" {
		warnings = append(warnings, modeWarning)
	}
	pl.Monitor = mode == ModeMonitor
	if pl.Loader && e.state != StateDisabled {
		if err := r.wantLoader(true); err != nil {
			return err
		}
	}
	if err := r.o.Sensors.Replace(e.sensor, pl); err != nil {
		r.settleLoader()
		return fmt.Errorf("replace policy %s, which stays as it was: %w", e.key, err)
	}
	if err := to.put(e.key, t.YAML, e.state != StateDisabled, mode); err != nil {
		was := *e.plan
		was.Monitor = e.mode == ModeMonitor // it may have been set since
		back := r.o.Sensors.Replace(e.sensor, &was)
		r.settleLoader()
		return errors.Join(fmt.Errorf("replace policy %s, which stays as it was: %w", e.key, err), back)
	}
	r.set(e, func() {
		e.plan, e.mode, e.warnings, e.text, e.err = pl, mode, warnings, t, ""
		if e.state != StateDisabled {
			e.state = enabledState(pl)
		}
	})
	r.settleLoader()
	r.log(e)
	return nil
}

// compile adds what compiling says to what parsing said.
func (r *Registry) compile(domain string, p *policy.Policy, parsed *policy.Diagnostics) (*plan.Plan, []string, error) {
	pl, d, err := r.o.Compile(domain, p)
	all := policy.Diagnostics{File: p.File}
	for _, x := range []*policy.Diagnostics{parsed, d} {
		if x != nil {
			all.List = append(all.List, x.List...)
		}
	}
	all.Sort()
	if err == nil {
		if bad := all.Err(); bad != nil {
			err = refuse(ErrInvalid, "%v", bad)
		}
	}
	var warnings []string
	for i := range all.List {
		if all.List[i].Warning {
			one := policy.Diagnostics{File: p.File, List: all.List[i : i+1]}
			warnings = append(warnings, strings.TrimSuffix(one.String(), "\n"))
		}
	}
	return pl, warnings, err
}

func (r *Registry) wantLoader(yes bool) error {
	if r.o.Loader == nil {
		if yes {
			return errors.New("watch executable mappings: not supported here")
		}
		return nil
	}
	return r.o.Loader(yes)
}

// settleLoader ends the watch of mappings when nobody wants it any more. r.changing is held.
func (r *Registry) settleLoader() {
	r.mu.Lock()
	wanted := false
	for _, e := range r.entries {
		wanted = wanted || e.sensor != 0 && e.plan.Loader && (e.state == StateEnabled || e.state == StatePartial)
	}
	r.mu.Unlock()
	if wanted {
		return
	}
	if err := r.wantLoader(false); err != nil {
		r.o.Log.Warn("end the watch of executable mappings", "err", err)
	}
}

func enabledState(p *plan.Plan) State {
	for i := range p.Hooks {
		if p.Hooks[i].Inactive != "" {
			return StatePartial
		}
	}
	return StateEnabled
}

// log tells what became of a policy that is loaded.
func (r *Registry) log(e *entry) {
	r.o.Log.Info("policy loaded", "policy", e.key.String(), "state", e.state.String(), "hooks", len(e.plan.Hooks))
	for _, w := range e.warnings {
		r.o.Log.Warn("policy warning", "policy", e.key.String(), "warning", w)
	}
}

// Delete ends a policy, whatever its state.
func (r *Registry) Delete(k Key) error {
	restore, err := r.o.Store.drop(k)
	if err != nil {
		return err
	}
	if err := r.remove(k); err != nil {
		return errors.Join(err, restore())
	}
	return nil
}

// remove is Delete without the store.
func (r *Registry) remove(k Key) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	e, err := r.lookUp(k)
	if err != nil {
		return err
	}
	return r.end(e)
}

// end takes a policy out. r.changing is held.
func (r *Registry) end(e *entry) error {
	if e.sensor != 0 {
		was := e.state
		r.set(e, func() { e.state = StateUnloading })
		if err := r.o.Sensors.Remove(e.sensor); err != nil {
			err = fmt.Errorf("delete policy %s, which was %s: %w", e.key, was, err)
			r.set(e, func() { e.state, e.err = StateError, err.Error() })
			return err
		}
	}
	r.mu.Lock()
	r.entries = slices.DeleteFunc(r.entries, func(x *entry) bool { return x == e })
	r.mu.Unlock()
	r.settleLoader()
	r.o.Log.Info("policy deleted", "policy", e.key.String())
	return nil
}

// Enable switches a policy on that was switched off.
func (r *Registry) Enable(k Key) error { return r.Configure(k, new(true), nil) }

// Disable switches a policy off. Its hooks stay in the kernel for when it comes back, and do nothing for it.
func (r *Registry) Disable(k Key) error { return r.Configure(k, new(false), nil) }

// SetMode changes whether a policy enforces.
func (r *Registry) SetMode(k Key, m Mode) error { return r.Configure(k, nil, &m) }

// Configure changes a policy's mode, then switches it on or off; nil leaves each as it is. The mode is looked at before
// anything changes.
func (r *Registry) Configure(k Key, enable *bool, m *Mode) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	e, err := r.lookUp(k)
	if err != nil {
		return err
	}
	if e.state == StateSkipped {
		return refuse(ErrState, "policy %s: is skipped", k)
	}
	if m != nil {
		if err := e.mayHave(*m); err != nil {
			return err
		}
	}
	if m != nil && *m != e.mode {
		if err := r.o.Sensors.SetMode(e.sensor, *m == ModeMonitor); err != nil {
			return fmt.Errorf("set the mode of policy %s: %w", k, err)
		}
		was := e.mode
		r.set(e, func() { e.mode = *m })
		if enable == nil {
			if err := r.o.Store.put(k, e.text.YAML, e.state != StateDisabled, *m); err != nil {
				r.set(e, func() { e.mode = was })
				return errors.Join(fmt.Errorf("set the mode of policy %s, which stays as it was: %w", k, err), r.o.Sensors.SetMode(e.sensor, was == ModeMonitor))
			}
		}
		r.o.Log.Info("policy mode set", "policy", k.String(), "state", m.String())
	}
	if enable == nil {
		return nil
	}
	if err := r.turn(e, *enable); err != nil {
		return err
	}
	if err := r.o.Store.put(k, e.text.YAML, *enable, e.mode); err != nil {
		return errors.Join(fmt.Errorf("switch policy %s, which stays as it was: %w", k, err), r.turn(e, !*enable))
	}
	return nil
}

// mayHave says whether a policy can be given a mode.
func (e *entry) mayHave(m Mode) error {
	switch {
	case m != ModeEnforce && m != ModeMonitor:
		return refuse(ErrInvalid, "policy %s: a mode to set is enforce or monitor", e.key)
	case e.mode == ModeMonitorOnly:
		return refuse(ErrInvalid, "policy %s: its mode is monitor_only, as nothing in it enforces; it cannot be set", e.key)
	case e.sensor == 0:
		return refuse(ErrState, "policy %s: it is not loaded, so its mode cannot be set", e.key)
	}
	return nil
}

func (r *Registry) turn(e *entry, on bool) error {
	switch {
	case on && e.state != StateDisabled:
		return refuse(ErrState, "policy %s: only a disabled policy can be enabled; it is %s", e.key, e.state)
	case !on && e.state != StateEnabled && e.state != StatePartial:
		return refuse(ErrState, "policy %s: only an enabled policy can be disabled; it is %s", e.key, e.state)
	case on:
		r.set(e, func() { e.state = StateLoading })
		var err error
		if e.plan.Loader {
			err = r.wantLoader(true)
		}
		if err == nil {
			err = r.o.Sensors.Enable(e.sensor)
		}
		r.set(e, func() {
			e.state = enabledState(e.plan)
			if err != nil {
				e.state = StateDisabled
			}
		})
		if err != nil {
			r.settleLoader()
			return fmt.Errorf("enable policy %s: %w", e.key, err)
		}
		r.o.Log.Info("policy enabled", "policy", e.key.String())
		return nil
	}
	was := e.state
	r.set(e, func() { e.state = StateUnloading })
	err := r.o.Sensors.Disable(e.sensor)
	r.set(e, func() {
		e.state = StateDisabled
		if err != nil {
			e.state, e.err = StateError, fmt.Sprintf("disable, when it was %s: %v", was, err)
		}
	})
	if err != nil {
		return fmt.Errorf("disable policy %s: %w", e.key, err)
	}
	r.settleLoader()
	r.o.Log.Info("policy disabled", "policy", e.key.String())
	return nil
}

// Domains lists the domains that hold policies, sorted.
func (r *Registry) Domains() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, e := range r.entries {
		if !slices.Contains(out, e.key.Domain) {
			out = append(out, e.key.Domain)
		}
	}
	slices.Sort(out)
	return out
}
