// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"slices"
	"strings"

	"tetragon/internal/policy"
	"tetragon/internal/policy/plan"
)

// An enforcer is a list of calls at which is carried out what NotifyEnforcer has ordered anywhere before, in the same thread.
// Each of its calls becomes a hook of section "enforcers", whose one rule finds the verdict.

// optionMethod is the option that says in which way an enforcer denies. Either of its values asks that calls are denied at
// their entry, in the way that it names: then nothing that they ask stands in for them.
const (
	optionMethod = "override-method"
	methodReturn = "override-return"
)

// expandEnforcers makes a hook for each call of the enforcer.
func (c *compiler) expandEnforcers() {
	for i := range c.pol.Enforcers {
		e := &c.pol.Enforcers[i]
		seen := make(map[string]bool)
		for j := range e.Calls {
			k := &policy.Kprobe{Call: e.Calls[j]}
			k.Syscall.Value = !strings.HasPrefix(k.Call.Value, "security_") && !strings.HasPrefix(k.Call.Value, "list:")
			before := len(c.hooks)
			c.expandCall("enforcers", i, k)
			added := slices.Clone(c.hooks[before:])
			c.hooks = c.hooks[:before]
			for _, h := range added {
				if !strings.HasPrefix(h.call, "security_") && !strings.Contains(h.call, "sys_") {
					c.d.Error(h.at, "enforcer-call", "an enforcer cannot stand at %q", h.call)
					continue
				}
				if c.opts.method == methodReturn && strings.HasPrefix(h.call, "security_") {
					c.d.Error(h.at, "cannot-override", "%s is no system call, so option %s: %s does not go with it", h.call, optionMethod, methodReturn).
						WithHint("%s: fmod-ret, or no such option", optionMethod)
					continue
				}
				if seen[h.call] {
					c.d.Warn(h.at, "duplicate-call", "the enforcer has %s twice", h.call)
					continue
				}
				seen[h.call] = true
				h.enforcer = true
				c.hooks = append(c.hooks, h)
			}
		}
		if !c.notifies(func(*policy.Action) bool { return true }) {
			c.d.Warn(e.Place, "unused-enforcer", "nothing notifies the enforcer: it does nothing").WithHint("some hook must have action NotifyEnforcer")
		}
	}
}

// notifies says whether any selector of the policy orders the enforcer to do what `such` asks for.
func (c *compiler) notifies(such func(*policy.Action) bool) bool {
	var lists [][]policy.Selector
	for _, ks := range [][]policy.Kprobe{c.pol.Kprobes, c.pol.Fentries} {
		for i := range ks {
			lists = append(lists, ks[i].Selectors)
		}
	}
	for i := range c.pol.Tracepoints {
		lists = append(lists, c.pol.Tracepoints[i].Selectors)
	}
	for i := range c.pol.Macros {
		lists = append(lists, []policy.Selector{c.pol.Macros[i].Selector})
	}
	for _, l := range lists {
		for i := range l {
			for j := range l[i].Actions {
				if a := &l[i].Actions[j]; a.Action.Value == "NotifyEnforcer" && such(a) {
					return true
				}
			}
		}
	}
	return false
}

// enforcerVerdict names what is ordered of the policy's enforcer.
func (c *compiler) enforcerVerdict() plan.Verdict {
	return c.verdict("enforcers")
}

// notify makes a rule order something of the enforcer.
func (c *compiler) notify(a *policy.Action, do *plan.Actions) {
	n := a.ArgError.Value
	switch {
	case do.Notify != nil:
		c.d.Error(a.Place, "too-many-actions", "a selector has one NotifyEnforcer")
		return
	case n > 0 || n < minError:
		c.d.Error(a.ArgError.Place, "override-error", "an enforcer denies by an error from %d to -1; %d would let it happen", minError, n).WithHint("argError: -1")
		return
	case n == 0 && a.ArgSig.Value == 0:
		c.d.Error(a.Place, "override-error", "NotifyEnforcer orders nothing: neither argError nor argSig").WithHint("argError: -1")
		return
	}
	do.Notify = &plan.Notify{To: c.enforcerVerdict(), Error: int32(n)}
	if s := a.ArgSig.Value; s != 0 {
		do.Notify.Signal = int(s)
	}
}

// enforce makes the rule of a call of the enforcer.
func (c *compiler) enforce(h *hook, do *plan.Actions) {
	*do = plan.Actions{Enforcer: true, From: c.enforcerVerdict(), Last: "NotifyEnforcer", LastReturn: "Post"}
	switch {
	case h.killInstead:
		do.Kills = true
	case c.overrides(h):
		do.Override = true
		if len(h.guards) > 0 {
			do.Later = h.verdict
		}
	}
}
