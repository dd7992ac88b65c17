// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"tetragon/internal/policy/plan"
)

// Truth is what is known of a condition when not all is told. Zero is No.
type Truth uint8

// Truths.
const (
	No Truth = iota
	Yes
	Unknown
)

func (t Truth) String() string { return [...]string{"no", "yes", "unknown"}[min(t, Unknown)] }

// Verdict is what a plan would do with the call that an event was made of.
type Verdict struct {
	Kind   string // of the event: "process_kprobe"
	Loader bool   // it is one of executable mappings, and the plan asks for these
	Hooks  []HookVerdict
}

// HookVerdict is what one hook would do. An event can be of several hooks: a policy may hook a function twice.
type HookVerdict struct {
	Hook  int // in the plan
	Name  string
	Rules []RuleVerdict
	First int      // the rule that decides; -1: none matches
	Sure  bool     // what the event does not tell makes no difference to First
	Posts bool     // the rule that decides posts
	Does  string   // to the process that calls, in words; empty: nothing
	Acts  bool     // ... and does it; false: the policy is in mode monitor and would have
	Notes []string // what was taken for granted
}

// RuleVerdict is whether a rule matches, and why.
type RuleVerdict struct {
	Selector int
	Label    string
	Matches  Truth
	Filters  []FilterVerdict
}

// FilterVerdict is whether one filter holds.
type FilterVerdict struct {
	Text  string
	Holds Truth
	Why   string // Unknown: what the event does not tell
}

// Event says what a plan would do with the call behind a recorded event, which is one line of an export. What an event does
// not tell is Unknown, and is followed through: a rule with a filter that fails does not match, whatever the others say.
//
// Arguments are told apart by their place in the event, as the recording policy had them. Rate limits and the tracking of
// sockets need more than one event and are left out.
func Event(p *plan.Plan, line []byte) (*Verdict, error) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		return nil, fmt.Errorf("read event: %w", err)
	}
	v := &Verdict{}
	var c *call
	switch {
	case e.Kprobe != nil:
		v.Kind, c = "process_kprobe", e.Kprobe
	case e.Tracepoint != nil:
		v.Kind, c = "process_tracepoint", e.Tracepoint
	case e.Uprobe != nil:
		v.Kind, c = "process_uprobe", e.Uprobe
	case e.Usdt != nil:
		v.Kind, c = "process_usdt", e.Usdt
	case e.LSM != nil:
		v.Kind, c = "process_lsm", e.LSM
	case e.Loader != nil:
		v.Kind, v.Loader = "process_loader", p.Loader
		return v, nil
	default:
		return v, nil
	}
	for i := range p.Hooks {
		if h := &p.Hooks[i]; h.Guards == "" && c.of(v.Kind, h) {
			v.Hooks = append(v.Hooks, judge(p, i, c))
		}
	}
	return v, nil
}

// of says whether a call can be one of a hook.
func (c *call) of(kind string, h *plan.Hook) bool {
	u := h.Attach.User
	switch kind {
	case "process_uprobe":
		if h.Event != plan.EventUprobe || u == nil || u.Path != c.Path || c.Symbol != h.Symbol {
			return false
		}
		return h.Symbol != "" || c.Offset == fmt.Sprint(u.Offset)
	case "process_usdt":
		return h.Event == plan.EventUsdt && u != nil && u.Path == c.Path && c.Provider == h.Subsys && c.Probe == h.TpEvent
	case "process_lsm":
		return h.Event == plan.EventLSM && c.Function == h.Name
	case "process_kprobe":
		return h.Event == plan.EventKprobe && (c.Function == h.Name || slices.Contains(h.Names, c.Function))
	}
	return h.Event == plan.EventTracepoint && c.Subsys == h.Subsys && c.Event == h.TpEvent
}

func judge(p *plan.Plan, hook int, c *call) HookVerdict {
	h := &p.Hooks[hook]
	t := &told{plan: p, hook: h, call: c, values: make([]Value, len(h.Values)), known: make([]bool, len(h.Values))}
	t.read()
	name := c.Function
	switch {
	case h.Event == plan.EventUprobe || h.Event == plan.EventUsdt:
		name = h.Name
	case name == "":
		name = c.Subsys + "/" + c.Event
	}
	v := HookVerdict{Hook: hook, Name: name, First: -1, Sure: true}
	for i := range h.Rules {
		r := t.rule(&h.Rules[i])
		v.Rules = append(v.Rules, r)
		if v.First >= 0 || r.Matches == No {
			continue
		}
		if r.Matches == Unknown {
			v.Sure = false
			continue
		}
		v.First, v.Posts = i, h.Rules[i].Do.Post
		v.Does, v.Acts = h.Orders(i), !p.Monitor || !h.Rules[i].Do.Enforces()
		if h.Rules[i].Do.RateLimit > 0 {
			t.note("the event is the first within its rate limit")
		}
		if h.Rules[i].Do.Aggregate > 0 {
			t.note("the event is the first of those that are counted together")
		}
	}
	if h.Inactive != "" {
		t.note("the hook is not attached: %s", h.Inactive)
	}
	v.Notes = t.notes
	return v
}

func (t *told) rule(r *plan.Rule) RuleVerdict {
	v := RuleVerdict{Selector: r.Selector, Label: r.Label, Matches: Yes}
	for i := range r.Filters {
		f := FilterVerdict{Text: r.Filters[i].Text}
		f.Holds, f.Why = t.holds(&r.Filters[i])
		v.Filters = append(v.Filters, f)
		switch {
		case f.Holds == No:
			v.Matches = No
		case f.Holds == Unknown && v.Matches == Yes:
			v.Matches = Unknown
		}
	}
	return v
}

// holds says whether a filter holds, as far as the event tells.
func (t *told) holds(f *plan.Filter) (Truth, string) {
	var task Task
	switch {
	case f.Kind == plan.FilterClass:
		in, why := t.class(f)
		if why != "" {
			return Unknown, why
		}
		task.Class = func(plan.Relation, int) (bool, bool) { return in, true }
	case f.Kind == plan.FilterDigest:
		switch {
		case f.Field == plan.FieldVerity:
			return Unknown, "no event has the digest of fs-verity"
		case t.call.Hash == "" || f.Value < 0 || f.Value >= len(t.values):
			return Unknown, "the event does not have the hash of the file (imaHash)"
		}
		t.values[f.Value].Hash = t.call.Hash
	case f.Task != plan.TaskNone:
		n, why := t.task(f.Task)
		if why != "" {
			return Unknown, why
		}
		task.Fields[f.Task] = n
	default:
		for _, i := range f.ValuesUsed() {
			if i < 0 || i >= len(t.known) || !t.known[i] {
				return Unknown, "the event does not have the value"
			}
		}
	}
	if Holds(f, t.values, &task) {
		return Yes, ""
	}
	return No, ""
}

// String prints a verdict, one line for each hook and rule.
func (v *Verdict) String() string {
	var b strings.Builder
	if v.Loader {
		b.WriteString("loader: posts\n")
	}
	for i := range v.Hooks {
		v.Hooks[i].print(&b)
	}
	return b.String()
}

func (v *HookVerdict) print(b *strings.Builder) {
	what := "no selector matches"
	if v.First >= 0 {
		what = "selector " + v.Rules[v.First].name() + " matches, posts"
		if !v.Posts {
			what = "selector " + v.Rules[v.First].name() + " matches, does not post"
		}
	}
	if !v.Sure {
		what += "; not sure, as the event does not tell all"
	}
	fmt.Fprintf(b, "%s: %s\n", v.Name, what)
	for i := range v.Rules {
		r := &v.Rules[i]
		fmt.Fprintf(b, "  selector %s: %s\n", r.name(), r.Matches)
		for _, f := range r.Filters {
			fmt.Fprintf(b, "    %s: %s", f.Text, f.Holds)
			if f.Why != "" {
				fmt.Fprintf(b, ", %s", f.Why)
			}
			b.WriteByte('\n')
		}
	}
	for _, n := range v.Notes {
		fmt.Fprintf(b, "  note: %s\n", n)
	}
}

func (r *RuleVerdict) name() string {
	if r.Label != "" {
		return fmt.Sprintf("%d (%s)", r.Selector, r.Label)
	}
	return fmt.Sprint(r.Selector)
}
