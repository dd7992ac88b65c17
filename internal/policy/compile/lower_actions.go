// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"tetragon/internal/kernel"
	"tetragon/internal/policy"
	"tetragon/internal/policy/plan"
)

// lowerActions says what each rule orders.
func (c *compiler) lowerActions() {
	for _, h := range c.alive() {
		for i := range h.plan.Rules {
			r := &h.plan.Rules[i]
			r.Do.Post, r.Do.Last, r.Do.LastReturn = true, "Post", "Post"
			if i < len(h.selectors) {
				s := &h.selectors[i]
				c.lowerList(h, s.Actions, &r.Do, &r.Do.Last, "matchActions")
				if len(s.ReturnActions) > 0 && h.ret == nil {
					c.d.Error(s.ReturnActions[0].Place, "no-return", "matchReturnActions needs return: true and returnArg")
				}
				c.lowerList(h, s.ReturnActions, &r.Do, &r.Do.LastReturn, "matchReturnActions")
				if !r.Do.Post && r.Do.RateLimit > 0 {
					c.d.Warn(s.Place, "unused-rate-limit", "NoPost leaves nothing for rateLimit to limit")
				}
			}
			c.returnArgAction(h, r)
			if h.enforcer {
				c.enforce(h, &r.Do)
			}
			if i < len(h.selectors) {
				c.checkAggregate(&h.selectors[i], &r.Do)
			}
			tracks := [2]int{}
			for _, t := range r.Do.Track {
				n := 0
				if t.Forget {
					n = 1
				}
				if tracks[n]++; tracks[n] > 1 {
					c.d.Error(where(h, i), "too-many-actions", "one selector can track one socket and forget one, with returnArgAction")
				}
			}
		}
	}
}

// checkAggregate refuses what a rule orders beside counting equal calls in the kernel, and would be done or told for each call.
func (c *compiler) checkAggregate(s *policy.Selector, do *plan.Actions) {
	if do.Aggregate == 0 {
		return
	}
	at := s.Place
	for _, a := range slices.Concat(s.Actions, s.ReturnActions) {
		if a.Aggregate.Value != "" {
			at = a.Aggregate.Place
		}
	}
	for _, x := range []struct {
		has  bool
		what string
	}{
		{do.RateLimit > 0, "rateLimit"},
		{do.KernelStack || do.UserStack, "stack traces"},
		{do.ImaHash, "imaHash"},
		{do.Enforces(), "actions that change what happens"},
		{len(do.URLs)+len(do.Names) > 0, "GetUrl and DnsLookup"},
		{do.Baseline, "matchNamespaceChanges and matchCapabilityChanges"},
		{!do.Post, "NoPost"},
	} {
		if x.has {
			c.d.Error(at, "aggregate", "aggregate beside %s is not yet supported", x.what)
		}
	}
}

// where is the place of a rule: its selector, if the hook has any.
func where(h *hook, rule int) policy.Place {
	if rule < len(h.selectors) {
		return h.selectors[rule].Place
	}
	return h.at
}

func (c *compiler) lowerList(h *hook, as []policy.Action, do *plan.Actions, last *string, what string) {
	for i := range as {
		a := &as[i]
		*last = a.Action.Value
		post := a.Action.Value == "Post"
		if a.RateLimit.Value != "" && !post {
			c.d.Error(a.RateLimit.Place, "rate-limit", "rateLimit goes with Post, not %s", a.Action.Value)
		}
		if (a.KernelStackTrace.Value || a.UserStackTrace.Value) && !post {
			c.d.Error(a.Place, "stack-trace", "stack traces go with Post, not %s", a.Action.Value)
		}
		switch a.Action.Value {
		case "Post":
			c.post(h, a, do)
		case "NoPost":
			do.Post = false
		case "TrackSock", "UntrackSock":
			c.track(h, a, do)
		case "Sigkill":
			signal(sigkill, do)
		case "Signal":
			signal(int(a.ArgSig.Value), do)
		case "Override":
			c.override(h, a, do)
		case "Set":
			c.setArg(h, a, do)
		case "GetUrl":
			if c.mayAsk(a.ArgURL, true) && !slices.Contains(do.URLs, a.ArgURL.Value) {
				do.URLs = append(do.URLs, a.ArgURL.Value)
			}
		case "DnsLookup":
			if c.mayAsk(a.ArgFqdn, false) && !slices.Contains(do.Names, a.ArgFqdn.Value) {
				do.Names = append(do.Names, a.ArgFqdn.Value)
			}
		case "NotifyEnforcer":
			c.notify(a, do)
		case "CleanupEnforcerNotification":
			do.Forget = c.enforcerVerdict()
		default:
			c.d.Error(a.Action.Place, "unknown-action", "there is no action %q", a.Action.Value)
		}
	}
}

// mayAsk says whether the agent may ask the host of a URL, or about a name.
func (c *compiler) mayAsk(t policy.Text, page bool) bool {
	host, port := t.Value, ""
	if page {
		var err error
		if host, port, err = policy.URLHost(t.Value); err != nil {
			c.d.Error(t.Place, "bad-url", "%q cannot be got: %v", t.Value, err).WithHint("http://example.com/path")
			return false
		}
	} else if !hostName.MatchString(host) || len(host) > 253 {
		c.d.Error(t.Place, "bad-host", "%q is no name that can be looked up", t.Value).WithHint("example.com")
		return false
	}
	key := host
	if page {
		key = net.JoinHostPort(host, port)
	}
	switch {
	case c.o.MayAsk == nil:
		c.d.Warn(t.Place, "action-host", "the agent asks %s only if it is told that it may", key).WithHint("--action-hosts=%s", key)
	case !c.o.MayAsk(host, port):
		c.d.Error(t.Place, "action-host", "the agent may not ask %s", key).WithHint("start the agent with --action-hosts=%s", key)
		return false
	}
	return true
}

// hostName is a name that can be looked up.
var hostName = regexp.MustCompile(`^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?$`)

func (c *compiler) post(h *hook, a *policy.Action, do *plan.Actions) {
	if a.RateLimit.Value != "" {
		d, err := parseRate(a.RateLimit.Value)
		if err != "" {
			c.d.Error(a.RateLimit.Place, "rate-limit", "%s", err).WithHint("a number, with s, m or h behind it")
		}
		do.RateLimit = d
		switch a.RateLimitScope.Value {
		case "", "thread":
		case "process":
			do.Scope = plan.ScopeProcess
		case "global":
			do.Scope = plan.ScopeGlobal
		default:
			c.d.Error(a.RateLimitScope.Place, "rate-limit", "rateLimitScope is thread, process or global, not %q", a.RateLimitScope.Value)
		}
	} else if a.RateLimitScope.Value != "" {
		c.d.Warn(a.RateLimitScope.Place, "unused-rate-limit", "rateLimitScope without rateLimit limits nothing")
	}
	if a.Aggregate.Value != "" {
		d, err := parseRate(a.Aggregate.Value)
		switch {
		case err != "":
			c.d.Error(a.Aggregate.Place, "aggregate", "%s", err).WithHint("a number, with s, m or h behind it")
		case d == 0:
			c.d.Error(a.Aggregate.Place, "aggregate", "in no time nothing can be counted").WithHint("a number above 0, with s, m or h behind it")
		}
		do.Aggregate = d
	}
	do.ImaHash = do.ImaHash || a.ImaHash.Value
	do.KernelStack = do.KernelStack || a.KernelStackTrace.Value
	do.UserStack = do.UserStack || a.UserStackTrace.Value
	if a.KernelStackTrace.Value || a.UserStackTrace.Value {
		if h.plan.Attach.Backend.Cgroup() {
			c.d.Error(a.Place, "stack-trace", "%s has no stack to show", h.plan.Attach.Backend)
		}
	}
}

// maxRate is what the kernel half can hold, in milliseconds.
const maxRate = 1<<32 - 1

// parseRate reads "5", "5s", "1m", "2h".
func parseRate(s string) (time.Duration, string) {
	unit := time.Second
	text := strings.TrimSpace(s)
	if n := len(text); n > 0 {
		switch text[n-1] {
		case 's', 'S':
			text = text[:n-1]
		case 'm', 'M':
			unit, text = time.Minute, text[:n-1]
		case 'h', 'H':
			unit, text = time.Hour, text[:n-1]
		}
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, strconv.Quote(s) + " is no time"
	}
	if n*uint64(unit/time.Millisecond) > maxRate {
		return 0, strconv.Quote(s) + " is longer than 49 days"
	}
	return time.Duration(n) * unit, ""
}

func (c *compiler) track(h *hook, a *policy.Action, do *plan.Actions) {
	i := a.ArgSock.Value
	if i < 0 || int(i) >= len(h.args) {
		c.d.Error(a.Place, "arg-sock", "the hook has no args[%d]", i)
		return
	}
	t := &h.args[i]
	if t.row == nil || t.row.typ != plan.TypeSock && t.row.typ != plan.TypeSocket {
		c.d.Error(a.Place, "arg-sock", "args[%d] is no sock and no socket", i)
		return
	}
	if t.value >= 0 {
		do.Track = append(do.Track, plan.Track{Value: t.value, Forget: a.Action.Value == "UntrackSock"})
	}
}

// setArg makes a rule change an argument of a static probe, of which the parser knows that the hook has it. It must lie in
// memory, where the program looks at it again.
func (c *compiler) setArg(h *hook, a *policy.Action, do *plan.Actions) {
	n := a.ArgIndex.Value
	switch {
	case do.Set != nil:
		c.d.Error(a.Place, "too-many-actions", "a selector has one Set")
		return
	case c.f.Lacks(kernel.WriteUser) != "":
		c.d.Error(a.Place, "cannot-set", "kernel %s cannot do Set: %s", c.f.KernelRelease(), c.f.Lacks(kernel.WriteUser))
		return
	}
	v := h.args[n].value
	if v < 0 {
		return // told
	}
	s := &h.plan.Values[v].Source
	if i := len(s.Steps) - 1; i != 0 || s.Steps[0].Addr || s.Steps[0].Size != 4 || !s.Steps[0].User {
		c.d.Error(a.ArgIndex.Place, "cannot-set", "args[%d] is not 4 bytes in the memory of the process, so it cannot be set", n).
			WithNote("its arguments are at %s", h.user.place.Args)
		return
	}
	do.Set = &plan.Set4{Value: v, To: uint32(a.ArgValue.Value)}
}

func (c *compiler) returnArgAction(h *hook, r *plan.Rule) {
	if h.kprobe == nil || h.kprobe.ReturnArgAction.Value == "" {
		return
	}
	a := h.kprobe.ReturnArgAction
	forget := strings.EqualFold(a.Value, "UntrackSock")
	if !forget && !strings.EqualFold(a.Value, "TrackSock") {
		c.d.Error(a.Place, "return-arg-action", "ReturnArgAction type '%s' unsupported", a.Value).
			WithHint("omit returnArgAction or use 'TrackSock'/'UntrackSock'")
		return
	}
	if h.ret == nil {
		c.d.Error(a.Place, "no-return", "returnArgAction needs return: true and returnArg")
		return
	}
	if h.ret.row == nil || h.ret.row.typ != plan.TypeSock && h.ret.row.typ != plan.TypeSocket {
		c.d.Error(a.Place, "arg-sock", "the return value is no sock and no socket")
		return
	}
	if h.ret.value >= 0 {
		r.Do.Track = append(r.Do.Track, plan.Track{Value: h.ret.value, Forget: forget})
	}
}

// multiFrom is from how many functions on a list shares one program. Attaching trampolines takes time for each; one
// program on many functions costs 135 instructions more a call.
const multiFrom = 17

// mergeLists puts the hooks of a long list on one program: those that are the same but for the function.
func (c *compiler) mergeLists() {
	groups := make(map[string][]*hook)
	for _, h := range c.alive() {
		b := h.plan.Attach.Backend
		entry := b == plan.BackendFentry || b == plan.BackendKprobe
		if h.kprobe == nil || h.section != "kprobes" || !strings.HasPrefix(h.kprobe.Call.Value, "list:") || !entry || h.plan.Attach.Module != "" || h.wantsRegisters() || len(h.guards) > 0 {
			continue
		}
		k := fmt.Sprint(h.index, h.plan.Attach.Regs, h.plan.Attach.Compat)
		for i := range h.plan.Values { // parameters of other widths are read in another way
			k += "|" + h.plan.Values[i].Key()
		}
		groups[k] = append(groups[k], h)
	}
	for _, hs := range groups {
		if len(hs) < multiFrom {
			continue
		}
		why := c.f.Lacks(kernel.KprobeMulti)
		switch {
		case c.o.DisableKprobeMulti:
			why = "the agent's settings forbid it"
		case c.opts.noMulti:
			why = "the policy's option disable-kprobe-multi forbids it"
		}
		if why != "" {
			for _, h := range hs {
				h.tried(plan.BackendKprobeMulti, "%s", why)
			}
			continue
		}
		first := hs[0]
		var symbols, names []string
		for _, h := range hs {
			symbols, names = append(symbols, h.plan.Attach.Symbol), append(names, h.call)
			h.merged = h != first
		}
		first.tried(first.plan.Attach.Backend, "the list has %d functions; attaching each of them takes long", len(hs))
		a := &first.plan.Attach
		*a = plan.Attach{Backend: plan.BackendKprobeMulti, Symbol: first.kprobe.Call.Value, Symbols: symbols, Regs: a.Regs, Compat: a.Compat}
		first.plan.Name, first.plan.Names = first.kprobe.Call.Value, names
	}
}
