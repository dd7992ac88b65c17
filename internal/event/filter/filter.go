// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"tetragon/api/v1/tetragon"
	"tetragon/internal/event"
)

// Options say what the agent, or the file that is read, offers.
type Options struct {
	Ancestors []tetragon.EventType // types whose events carry ancestors
	Cred      bool                 // processes carry capabilities
	PidSet    bool                 // pid_set is allowed

	// Message returns an event as clients see it, for CEL expressions. It is called by whoever calls Match. nil: only
	// MatchProto can evaluate them.
	Message func(*event.Event) *tetragon.GetEventsResponse

	Complain func(error) // told once of each CEL expression that fails on an event; nil: not told
}

// Everything are the options for events of which it is not known how they were made, such as those in a file.
func Everything() Options { return Options{Ancestors: processTypes[:], Cred: true, PidSet: true} }

// processTypes are the types whose events can carry ancestors.
var processTypes = [...]tetragon.EventType{
	tetragon.EventType_PROCESS_EXEC, tetragon.EventType_PROCESS_EXIT, tetragon.EventType_PROCESS_KPROBE,
	tetragon.EventType_PROCESS_TRACEPOINT, tetragon.EventType_PROCESS_LOADER, tetragon.EventType_PROCESS_UPROBE,
	tetragon.EventType_PROCESS_LSM, tetragon.EventType_PROCESS_USDT,
}

// Filter is an allow list and a deny list. It belongs to one goroutine.
type Filter struct {
	allow, deny []rules
	learns      bool    // has a pid_set, which must be shown every event
	subject     subject // of the event being matched; here, because it would be allocated on each call
}

// rules are the attributes of one filter message; all must match.
type rules []rule

type rule func(s *subject) bool

// New compiles two lists of filters. An event matches if a filter of the allow list does, or there is none, and no
// filter of the deny list does.
func New(allow, deny []*tetragon.Filter, o Options) (*Filter, error) {
	f := new(Filter)
	for _, list := range []struct {
		name string
		from []*tetragon.Filter
		to   *[]rules
	}{{"allow list", allow, &f.allow}, {"deny list", deny, &f.deny}} {
		for i, m := range list.from {
			r, err := compile(m, o)
			if err != nil {
				return nil, fmt.Errorf("%s: filter %d: %w", list.name, i+1, err)
			}
			*list.to = append(*list.to, r)
			f.learns = f.learns || len(m.GetPidSet()) > 0
		}
	}
	return f, nil
}

// Match says whether the event passes both lists. It neither changes nor keeps it.
func (f *Filter) Match(ev *event.Event) bool {
	if len(f.allow) == 0 && len(f.deny) == 0 {
		return true
	}
	s := &f.subject
	*s = subject{event: ev, process: ev.Process, parent: ev.Parent, ancestors: ev.Ancestors}
	switch ev.Kind {
	case event.KindExec:
		s.eventType = tetragon.EventType_PROCESS_EXEC
	case event.KindExit:
		s.eventType = tetragon.EventType_PROCESS_EXIT
	case event.KindKprobe:
		s.eventType, s.policy = tetragon.EventType_PROCESS_KPROBE, ev.Hook.Policy
	case event.KindTracepoint:
		s.eventType, s.policy = tetragon.EventType_PROCESS_TRACEPOINT, ev.Hook.Policy
	case event.KindLoader:
		s.eventType = tetragon.EventType_PROCESS_LOADER
	case event.KindThrottle:
		s.eventType = tetragon.EventType_PROCESS_THROTTLE
	case event.KindLoss:
		s.eventType = tetragon.EventType_RATE_LIMIT_INFO
	}
	s.hasCaps = ev.Process != nil && !ev.Process.Placeholder
	matches := f.match(s)
	*s = subject{} // keeps no process alive
	return matches
}

func (f *Filter) match(s *subject) bool {
	allowed := len(f.allow) == 0 || f.any(f.allow, s)
	if !allowed && !f.learns {
		return false
	}
	return !f.any(f.deny, s) && allowed
}

// any says whether one of the filters matches.
func (f *Filter) any(list []rules, s *subject) bool {
	found := false
	for _, r := range list {
		if r.match(s) {
			found = true
			if !f.learns {
				break
			}
		}
	}
	return found
}

func (r rules) match(s *subject) bool {
	for _, rule := range r {
		if !rule(s) {
			return false
		}
	}
	return true
}

// subject is what rules look at.
type subject struct {
	event     *event.Event                // of the lane
	message   *tetragon.GetEventsResponse // of a client
	eventType tetragon.EventType
	process   *event.Process // nil: the event has none
	parent    *event.Process
	ancestors []*event.Process
	hasCaps   bool   // process.Creds is known
	pod       *pod   // nil: none
	parentPod *pod   // of parent
	policy    string // name of the policy that made the event
}

// pod is what rules look at of a pod.
type pod struct {
	namespace, name, container string
	labels                     map[string]string
	execProbe                  bool
}

// compile makes rules of a filter. pid_set comes first, because it must see every event; then what is cheap.
func compile(m *tetragon.Filter, o Options) (rules, error) {
	var rs rules
	var errs []error
	add := func(name string, r rule, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		} else if r != nil {
			rs = append(rs, r)
		}
	}
	r, err := pidSetRule(m.GetPidSet(), o)
	add("pid_set", r, err)
	r, err = eventSetRule(m.GetEventSet())
	add("event_set", r, err)
	add("pid", pidRule(m.GetPid()), nil)
	if v := m.GetInInitTree(); v != nil {
		add("in_init_tree", initTreeRule(v.GetValue()), nil)
	}
	if v := m.GetHealthCheck(); v != nil {
		add("health_check", healthCheckRule(v.GetValue()), nil)
	}
	add("namespace", namespaceRule(m.GetNamespace()), nil)
	add("policy_names", policyRule(m.GetPolicyNames()), nil)
	if m.GetCapabilities() != nil {
		r, err = capabilitiesRule(m.GetCapabilities(), o)
		add("capabilities", r, err)
	}
	r, err = labelsRule(m.GetLabels())
	add("labels", r, err)
	if len(m.GetAncestorBinaryRegex()) > 0 {
		add("ancestor_binary_regex", nil, checkAncestors(m.GetEventSet(), o))
	}
	for _, a := range regexAttributes {
		r, err = regexRule(a.values(m), a.texts)
		add(a.name, r, err)
	}
	r, err = celRule(m.GetCelExpression(), o)
	add("cel_expression", r, err)
	return rs, errors.Join(errs...)
}

// regexAttributes are the attributes whose values are regular expressions, and the texts that these look at.
var regexAttributes = []struct {
	name   string
	values func(*tetragon.Filter) []string
	texts  func(s *subject, match func(string) bool) bool
}{
	{"binary_regex", (*tetragon.Filter).GetBinaryRegex, func(s *subject, match func(string) bool) bool {
		return s.process != nil && match(s.process.Binary)
	}},
	{"arguments_regex", (*tetragon.Filter).GetArgumentsRegex, func(s *subject, match func(string) bool) bool {
		return s.process != nil && match(s.process.Arguments)
	}},
	{"parent_binary_regex", (*tetragon.Filter).GetParentBinaryRegex, func(s *subject, match func(string) bool) bool {
		return s.process != nil && s.parent != nil && match(s.parent.Binary)
	}},
	{"parent_arguments_regex", (*tetragon.Filter).GetParentArgumentsRegex, func(s *subject, match func(string) bool) bool {
		return s.process != nil && s.parent != nil && match(s.parent.Arguments)
	}},
	{"ancestor_binary_regex", (*tetragon.Filter).GetAncestorBinaryRegex, func(s *subject, match func(string) bool) bool {
		if s.process == nil {
			return false
		}
		for _, a := range s.ancestors {
			if match(a.Binary) {
				return true
			}
		}
		return false
	}},
	{"container_id", (*tetragon.Filter).GetContainerId, func(s *subject, match func(string) bool) bool {
		return s.process != nil && match(s.process.Docker)
	}},
	{"namespace_regex", (*tetragon.Filter).GetNamespaceRegex, func(s *subject, match func(string) bool) bool {
		return s.pod != nil && match(s.pod.namespace)
	}},
	{"pod_regex", (*tetragon.Filter).GetPodRegex, func(s *subject, match func(string) bool) bool {
		return s.pod != nil && match(s.pod.name)
	}},
	{"container_name_regex", (*tetragon.Filter).GetContainerNameRegex, func(s *subject, match func(string) bool) bool {
		return s.pod != nil && match(s.pod.container)
	}},
}

// regexRule matches if any of the expressions does. nil if there are none.
func regexRule(values []string, texts func(*subject, func(string) bool) bool) (rule, error) {
	if len(values) == 0 {
		return nil, nil
	}
	var words []string // expressions without operators, which need no engine
	var exprs []*regexp.Regexp
	for _, v := range values {
		re, err := regexp.Compile(v)
		if err != nil {
			return nil, err
		}
		if word, whole := re.LiteralPrefix(); whole {
			words = append(words, word)
		} else {
			exprs = append(exprs, re)
		}
	}
	match := func(text string) bool {
		for _, w := range words {
			if strings.Contains(text, w) {
				return true
			}
		}
		for _, re := range exprs {
			if re.MatchString(text) {
				return true
			}
		}
		return false
	}
	return func(s *subject) bool { return texts(s, match) }, nil
}

func checkAncestors(types []tetragon.EventType, o Options) error {
	if len(types) == 0 {
		types = processTypes[:]
	}
	for _, t := range types {
		if !slices.Contains(o.Ancestors, t) {
			return fmt.Errorf("ancestors are not enabled for %s event type, cannot configure ancestor filter", t)
		}
	}
	return nil
}

func eventSetRule(types []tetragon.EventType) (rule, error) {
	if len(types) == 0 {
		return nil, nil
	}
	for _, t := range types {
		if _, known := tetragon.EventType_name[int32(t)]; !known {
			return nil, fmt.Errorf("unknown event type %d", t)
		}
	}
	return func(s *subject) bool { return slices.Contains(types, s.eventType) }, nil
}

func pidRule(pids []uint32) rule {
	if len(pids) == 0 {
		return nil
	}
	return func(s *subject) bool { return s.process != nil && slices.Contains(pids, s.process.Key.Pid) }
}

func pidSetRule(pids []uint32, o Options) (rule, error) {
	if len(pids) == 0 {
		return nil, nil
	}
	if !o.PidSet {
		return nil, errors.New("not enabled in the configuration; see enable-pid-set-filter")
	}
	known := map[uint32]struct{}{} // never larger than the number of pids that there can be
	for _, p := range pids {
		known[p] = struct{}{}
	}
	return func(s *subject) bool {
		if s.process == nil {
			return false
		}
		_, ok := known[s.process.Key.Pid]
		if !ok && s.parent != nil {
			if _, ok = known[s.parent.Key.Pid]; ok {
				known[s.process.Key.Pid] = struct{}{}
			}
		}
		return ok
	}, nil
}

func initTreeRule(want bool) rule {
	return func(s *subject) bool { return s.process != nil && s.process.InInitTree == want }
}

func healthCheckRule(want bool) rule {
	return func(s *subject) bool {
		return (s.pod != nil && s.pod.execProbe || s.parentPod != nil && s.parentPod.execProbe) == want
	}
}

func namespaceRule(names []string) rule {
	if len(names) == 0 {
		return nil
	}
	return func(s *subject) bool {
		if s.process == nil {
			return false
		}
		if s.pod == nil {
			return slices.Contains(names, "")
		}
		return slices.Contains(names, s.pod.namespace)
	}
}

// policyRule also knows USDT events, which carry the name of their policy like the others.
func policyRule(names []string) rule {
	if len(names) == 0 {
		return nil
	}
	return func(s *subject) bool { return s.process != nil && s.policy != "" && slices.Contains(names, s.policy) }
}

// capabilitiesRule matches if each of the given sets does.
func capabilitiesRule(m *tetragon.CapFilter, o Options) (rule, error) {
	if !o.Cred {
		return nil, errors.New("processes carry no capabilities; see enable-process-cred")
	}
	var tests []func(c *event.Creds) bool
	var errs []error
	for _, set := range []struct {
		name string
		m    *tetragon.CapFilterSet
		of   func(c *event.Creds) uint64
	}{
		{"permitted", m.GetPermitted(), func(c *event.Creds) uint64 { return c.Permitted }},
		{"effective", m.GetEffective(), func(c *event.Creds) uint64 { return c.Effective }},
		{"inheritable", m.GetInheritable(), func(c *event.Creds) uint64 { return c.Inheritable }},
	} {
		if set.m == nil {
			continue
		}
		test, err := capSetTest(set.m)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", set.name, err))
			continue
		}
		tests = append(tests, func(c *event.Creds) bool { return test(set.of(c)) })
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return func(s *subject) bool {
		if s.process == nil || !s.hasCaps {
			return false
		}
		for _, test := range tests {
			if !test(&s.process.Creds) {
				return false
			}
		}
		return true
	}, nil
}

// capSetTest is a test on one set of capabilities, which must be described in exactly one way.
func capSetTest(m *tetragon.CapFilterSet) (func(have uint64) bool, error) {
	given := 0
	var want uint64
	var err error
	for _, list := range [][]tetragon.CapabilitiesType{m.GetAny(), m.GetAll(), m.GetExactly(), m.GetNone()} {
		if len(list) == 0 {
			continue
		}
		given++
		for _, c := range list {
			if _, known := tetragon.CapabilitiesType_name[int32(c)]; !known {
				err = errors.Join(err, fmt.Errorf("unknown capability %d", c))
				continue
			}
			want |= 1 << uint(c)
		}
	}
	if given != 1 {
		err = errors.Join(err, fmt.Errorf("%d of any, all, exactly and none given; give one", given))
	}
	if err != nil {
		return nil, err
	}
	switch {
	case len(m.GetAny()) > 0:
		return func(have uint64) bool { return have&want != 0 }, nil
	case len(m.GetAll()) > 0:
		return func(have uint64) bool { return have&want == want }, nil
	case len(m.GetExactly()) > 0:
		return func(have uint64) bool { return have == want }, nil
	}
	return func(have uint64) bool { return have&want == 0 }, nil
}
