// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"slices"
	"strings"

	"tetragon/internal/kernel"
	"tetragon/internal/policy"
	"tetragon/internal/policy/plan"
)

// optionFallback is the option of a policy that has Sigkill in the place of an Override that the kernel cannot do.
const optionFallback = "override-fallback"

// sigkill is SIGKILL, from include/uapi/asm-generic/signal.h.
const sigkill = 9

// signal makes a rule send a signal, of which the parser knows that there is one, to the current process.
func signal(n int, do *plan.Actions) {
	if !slices.Contains(do.Signals, n) {
		do.Signals = append(do.Signals, n)
		slices.Sort(do.Signals)
	}
}

// minError is the least number that the kernel takes for an error.
const minError = -4095

// overrides says whether a selector of the hook makes the function return something.
func (c *compiler) overrides(h *hook) bool {
	if h.enforcer {
		return c.notifies(func(a *policy.Action) bool { return a.ArgError.Value != 0 })
	}
	for i := range h.selectors {
		if slices.ContainsFunc(h.selectors[i].Actions, func(a policy.Action) bool { return a.Action.Value == "Override" }) {
			return true
		}
	}
	return false
}

// enforces says whether a selector of the hook orders more than to be told.
func (h *hook) enforces() bool {
	if h.enforcer {
		return true
	}
	for i := range h.selectors {
		for _, as := range [][]policy.Action{h.selectors[i].Actions, h.selectors[i].ReturnActions} {
			if slices.ContainsFunc(as, func(a policy.Action) bool { return policy.Enforcing[a.Action.Value] }) {
				return true
			}
		}
	}
	return false
}

// byOverride puts a hook that overrides where the kernel lets a program do so. If there is no such place it is refused, or
// left to be hooked in another way, if the policy says that it then kills.
func (c *compiler) byOverride(h *hook, proto *kernel.Func, exit bool) {
	guard, regs := strings.HasPrefix(h.call, "security_"), h.plan.Attach.Regs
	why := c.noTrampoline(h, proto, kernel.FmodRet)
	switch {
	case exit:
		c.d.Error(h.kprobe.Return.Place, "not-yet-supported", "Override on a hook that tells the return value is not supported yet: its event is made when the call is over, too late to deny it").
			WithHint("make two hooks: one with Override, one with return: true")
		h.dead = true
		return
	case why != "":
	case regs && c.f.Lacks(kernel.FmodCall) != "":
		why = c.f.Lacks(kernel.FmodCall)
	case regs:
		h.plan.Attach.Backend = plan.BackendFmodRet
		if h.enforcer && c.opts.method == methodReturn {
			h.plan.Caveats = append(h.plan.Caveats, "fmod_ret stands for "+methodReturn+": the call does not take place either, and returns the error")
		}
		return
	case !guard:
		why = fmt.Sprintf("the kernel lets no program return in the place of %s", h.call)
	case proto.Return.Type != "int":
		why = fmt.Sprintf("%s returns %s, which is no error", h.call, proto.Return.Type)
	case slices.Contains(yesOrNo, strings.TrimPrefix(h.call, "security_")):
		why = fmt.Sprintf("%s answers yes or no, which is no error", h.call)
	default:
		h.plan.Attach.Backend = plan.BackendFmodRet
		return
	}
	h.tried(plan.BackendFmodRet, "%s", why)
	switch {
	case !regs || c.f.Lacks(kernel.FmodRet) != "":
	case h.enforcer && c.opts.method != "":
		h.tried(plan.BackendFmodRet, "option %s: %s asks that %s is denied at its entry", optionMethod, c.opts.method, h.systemCall())
	default:
		var none string
		if h.guards, none = c.guardsOf(h); none == "" {
			c.byGuards(h)
			return
		}
		h.tried(plan.BackendFmodRet, "%s", none)
	}
	if ways := denials[h.call]; len(ways) > 0 && !regs {
		none := otherFamilies(h)
		if none == "" && c.useWays(h, ways, exit) {
			return
		}
		if none != "" {
			h.tried(ways[0][0].backend, "%s", none)
		}
	}
	if c.opts.fallback {
		h.killInstead = true
		if h.enforcer {
			c.killsInstead(h)
		}
		return
	}
	h.dead = true
	d := c.d.Error(h.at, "cannot-override", "%s cannot be overridden on kernel %s", h.what(), c.f.KernelRelease())
	for _, t := range h.plan.Tried {
		d.WithNote("%s: %s", t.Backend.Asked(), t.Why)
	}
	d.WithHint("override the security_... function that guards it; or let option %s: sigkill kill instead", optionFallback)
}

// ofFamilies are operators that only addresses of IP pass; Family is looked at by itself.
var ofFamilies = []string{"SAddr", "SPort", "SPortPriv", "DAddr", "DPort", "DPortPriv", "Protocol"}

// otherFamilies says which selector denies more than programs of cgroups can: they are asked about IPv4 and IPv6 alone.
// Empty: none does.
func otherFamilies(h *hook) string {
	if h.enforcer {
		return "it denies IPv4 and IPv6 alone; an enforcer denies whatever comes next"
	}
	for i := range h.selectors {
		s := &h.selectors[i]
		if !slices.ContainsFunc(s.Actions, func(a policy.Action) bool { return a.Action.Value == "Override" }) {
			continue
		}
		if !slices.ContainsFunc(s.Args, func(m policy.ArgMatch) bool {
			if m.Operator.Value != "Family" {
				return slices.Contains(ofFamilies, m.Operator.Value)
			}
			return !slices.ContainsFunc(m.Values, func(v policy.Text) bool {
				return !slices.Contains([]string{"AF_INET", "AF_INET6", "2", "10"}, v.Value)
			})
		}) {
			return fmt.Sprintf("it denies IPv4 and IPv6 alone, and selectors[%d] is about other addresses as well: add operator Family with AF_INET and AF_INET6", i)
		}
	}
	return ""
}

// byGuards leaves a hook on a system call to be hooked in another way, and says who denies what it orders.
func (c *compiler) byGuards(h *hook) {
	name := h.systemCall()
	h.verdict = c.verdict("%s[%d] %s", h.section, h.index, h.plan.Attach.Symbol)
	var names []string
	for _, g := range h.guards {
		names = append(names, g.Name)
	}
	h.plan.Caveats = append(h.plan.Caveats, fmt.Sprintf("%s is denied where it asks %s, not at its entry; an error comes back as from there", name, strings.Join(names, " and ")))
	h.plan.Caveats = append(h.plan.Caveats, guards[name].mind...)
}

// killsInstead says what the option of the policy comes to.
func (c *compiler) killsInstead(h *hook) {
	mind := fmt.Sprintf("%s cannot be overridden on this kernel: the process is killed instead, and the call takes place", h.what())
	if !slices.Contains(h.plan.Caveats, mind) {
		h.plan.Caveats = append(h.plan.Caveats, mind)
	}
}

// override makes a rule return an error in the place of the call.
func (c *compiler) override(h *hook, a *policy.Action, do *plan.Actions) {
	if h.user != nil {
		if h.killInstead = c.opts.fallback; !h.killInstead {
			c.d.Error(a.Action.Place, "cannot-override", "%s cannot be overridden: to change the registers of a user program is not supported yet", h.what()).
				WithHint("Sigkill ends the process; option %s: sigkill does so where nothing else is possible", optionFallback)
			return
		}
	}
	if h.killInstead {
		signal(sigkill, do)
		c.killsInstead(h)
		return
	}
	n := a.ArgError.Value
	if n >= 0 || n < minError {
		at := a.ArgError.Place
		if !a.ArgError.Set {
			at = a.Place
		}
		c.d.Error(at, "override-error", "%s denies by an error from %d to -1; %d would let it happen", h.what(), minError, n).WithHint("argError: -1")
		return
	}
	if do.Override {
		c.d.Error(a.Place, "too-many-actions", "a selector has one Override")
		return
	}
	do.Override, do.Error = true, int32(n)
	if len(h.guards) > 0 {
		do.Later = h.verdict
	}
}
