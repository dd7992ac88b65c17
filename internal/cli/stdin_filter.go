// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"tetragon/api/v1/tetragon"
)

// localFilters makes of a request what the agent would make of it, for events that come without one.
func localFilters(req *tetragon.GetEventsRequest) (
	match func(*tetragon.GetEventsResponse) bool, project func(*tetragon.GetEventsResponse) error, err error,
) {
	if len(req.GetFieldFilters()) > 0 {
		return nil, nil, hint(errors.New("--include-fields and --exclude-fields need an agent"),
			"jq can leave out fields of events from standard input")
	}
	var all []func(*tetragon.GetEventsResponse) bool
	for _, f := range req.GetAllowList() {
		fs, err := localFilter(f)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, fs...)
	}
	match = func(ev *tetragon.GetEventsResponse) bool {
		for _, f := range all {
			if !f(ev) {
				return false
			}
		}
		return true
	}
	return match, func(*tetragon.GetEventsResponse) error { return nil }, nil
}

// localFilter returns the conditions of one filter, which must all hold. It knows what geteventsFlags.request sets.
func localFilter(f *tetragon.Filter) ([]func(*tetragon.GetEventsResponse) bool, error) {
	var out []func(*tetragon.GetEventsResponse) bool
	if len(f.GetCelExpression()) > 0 {
		return nil, errors.New("--cel-expression needs an agent; it cannot filter events from standard input")
	}
	if types := f.GetEventSet(); len(types) > 0 {
		out = append(out, func(ev *tetragon.GetEventsResponse) bool {
			d := ev.ProtoReflect().Descriptor().Oneofs().ByName("event")
			field := ev.ProtoReflect().WhichOneof(d)
			return field != nil && slices.Contains(types, tetragon.EventType(field.Number()))
		})
	}
	if names := f.GetPolicyNames(); len(names) > 0 {
		out = append(out, func(ev *tetragon.GetEventsResponse) bool {
			p, ok := inner(ev).(interface{ GetPolicyName() string })
			return ok && slices.Contains(names, p.GetPolicyName())
		})
	}
	if names := f.GetNamespace(); len(names) > 0 {
		out = append(out, func(ev *tetragon.GetEventsResponse) bool {
			p := process(ev)
			return p != nil && slices.Contains(names, p.GetPod().GetNamespace())
		})
	}
	for _, c := range []struct {
		flag string
		res  []string
		text func(*tetragon.Process) (string, bool)
	}{
		{"process", f.GetBinaryRegex(), func(p *tetragon.Process) (string, bool) { return p.GetBinary(), true }},
		{"pod", f.GetPodRegex(), func(p *tetragon.Process) (string, bool) {
			return p.GetPod().GetName(), p.GetPod() != nil
		}},
		{"namespace-regex", f.GetNamespaceRegex(), func(p *tetragon.Process) (string, bool) {
			return p.GetPod().GetNamespace(), p.GetPod() != nil
		}},
		{"containers", f.GetContainerNameRegex(), func(p *tetragon.Process) (string, bool) {
			return p.GetPod().GetContainer().GetName(), p.GetPod().GetContainer() != nil
		}},
	} {
		if len(c.res) == 0 {
			continue
		}
		var res []*regexp.Regexp
		for _, text := range c.res {
			re, err := regexp.Compile(text)
			if err != nil {
				return nil, fmt.Errorf("--%s: %w", c.flag, err)
			}
			res = append(res, re)
		}
		out = append(out, func(ev *tetragon.GetEventsResponse) bool {
			p := process(ev)
			if p == nil {
				return false
			}
			text, ok := c.text(p)
			return ok && slices.ContainsFunc(res, func(re *regexp.Regexp) bool { return re.MatchString(text) })
		})
	}
	return out, nil
}

// inner returns the message of the event itself.
func inner(ev *tetragon.GetEventsResponse) any {
	r := ev.ProtoReflect()
	if field := r.WhichOneof(r.Descriptor().Oneofs().ByName("event")); field != nil {
		return r.Get(field).Message().Interface()
	}
	return nil
}

func process(ev *tetragon.GetEventsResponse) *tetragon.Process {
	if p, ok := inner(ev).(interface{ GetProcess() *tetragon.Process }); ok {
		return p.GetProcess()
	}
	return nil
}
