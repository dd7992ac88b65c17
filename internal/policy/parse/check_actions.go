// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"tetragon/internal/policy"
)

// actionRule says what goes with an action.
type actionRule struct {
	args []string        // its own fields
	need string          // one that it must have
	on   [hookKinds]bool // on which hooks
	ret  bool            // in matchReturnActions
}

// Where actions can be. What has no effect somewhere is refused there.
var (
	everywhere = [hookKinds]bool{kprobe: true, fentry: true, tracepoint: true, rawTracepoint: true, uprobe: true, usdt: true, lsm: true}
	notFentry  = [hookKinds]bool{kprobe: true, tracepoint: true, rawTracepoint: true, uprobe: true, usdt: true, lsm: true}
	inKernel   = [hookKinds]bool{kprobe: true, fentry: true, tracepoint: true, rawTracepoint: true}
)

// postFields are the attributes of Post.
var postFields = []string{"rateLimit", "rateLimitScope", "aggregate", "kernelStackTrace", "userStackTrace", "imaHash"}

var overrideFields = []string{"argError", "argRegs", "argNewSymbol", "argNewAddr", "argNewOffset"}

var actionRules = map[string]actionRule{
	"Post":                        {args: postFields, on: everywhere, ret: true},
	"NoPost":                      {on: everywhere, ret: true},
	"Sigkill":                     {on: notFentry, ret: true},
	"Signal":                      {args: []string{"argSig"}, need: "argSig", on: notFentry, ret: true},
	"Override":                    {args: overrideFields, on: [hookKinds]bool{kprobe: true, uprobe: true, lsm: true}},
	"GetUrl":                      {args: []string{"argUrl"}, need: "argUrl", on: inKernel, ret: true},
	"DnsLookup":                   {args: []string{"argFqdn"}, need: "argFqdn", on: inKernel, ret: true},
	"TrackSock":                   {args: []string{"argSock"}, on: inKernel, ret: true},
	"UntrackSock":                 {args: []string{"argSock"}, on: inKernel, ret: true},
	"NotifyEnforcer":              {args: []string{"argError", "argSig"}, on: [hookKinds]bool{kprobe: true, tracepoint: true, rawTracepoint: true}},
	"CleanupEnforcerNotification": {on: inKernel},
	"Set":                         {args: []string{"argIndex", "argValue"}, need: "argIndex", on: [hookKinds]bool{usdt: true}},
}

// attribute is a field of an action that the text has.
type attribute struct {
	name string
	at   policy.Place
}

func attributes(a *policy.Action) []attribute {
	var out []attribute
	add := func(name string, at policy.Place, set bool) {
		if set {
			out = append(out, attribute{name, at})
		}
	}
	add("argError", a.ArgError.Place, a.ArgError.Set)
	add("argSig", a.ArgSig.Place, a.ArgSig.Set)
	add("argSock", a.ArgSock.Place, a.ArgSock.Set)
	add("argIndex", a.ArgIndex.Place, a.ArgIndex.Set)
	add("argValue", a.ArgValue.Place, a.ArgValue.Set)
	add("argUrl", a.ArgURL.Place, a.ArgURL.Value != "")
	add("argFqdn", a.ArgFqdn.Place, a.ArgFqdn.Value != "")
	if len(a.ArgRegs) > 0 {
		add("argRegs", a.ArgRegs[0].Place, true)
	}
	add("argNewSymbol", a.ArgNewSymbol.Place, a.ArgNewSymbol.Value != "")
	add("argNewAddr", a.ArgNewAddr.Place, a.ArgNewAddr.Set)
	add("argNewOffset", a.ArgNewOffset.Place, a.ArgNewOffset.Set)
	add("rateLimit", a.RateLimit.Place, a.RateLimit.Value != "")
	add("rateLimitScope", a.RateLimitScope.Place, a.RateLimitScope.Value != "")
	add("aggregate", a.Aggregate.Place, a.Aggregate.Value != "")
	add("kernelStackTrace", a.KernelStackTrace.Place, a.KernelStackTrace.Value)
	add("userStackTrace", a.UserStackTrace.Place, a.UserStackTrace.Value)
	add("imaHash", a.ImaHash.Place, a.ImaHash.Value)
	return out
}

// maxSignal is the last of the kernel's signals.
const maxSignal = 64

// checkAction checks what holds for an action wherever it stands.
func (p *parser) checkAction(a *policy.Action) {
	r, ok := actionRules[a.Action.Value]
	if !ok {
		return // told
	}
	has := attributes(a)
	for _, x := range has {
		if slices.Contains(r.args, x.name) {
			continue
		}
		d := p.error(x.at, "action-field", "%s does not go with %s", x.name, a.Action.Value)
		if slices.Contains(postFields, x.name) {
			d.WithHint("it is an attribute of Post")
		}
	}
	if r.need != "" && !slices.ContainsFunc(has, func(x attribute) bool { return x.name == r.need }) {
		if at := a.Place.At(".%s", r.need); !p.failedWithin(at.Path) {
			p.error(at, "missing-field", "%s needs %s", a.Action.Value, r.need)
		}
	}
	if a.Action.Value == "Signal" && a.ArgSig.Set && a.ArgSig.Value == 0 {
		p.error(a.ArgSig.Place, "out-of-range", "signal 0 does nothing; signals are 1 to %d", maxSignal)
	}
	if v := a.ArgError; a.Action.Value == "NotifyEnforcer" && (v.Value < math.MinInt16 || v.Value > math.MaxInt16) {
		p.error(v.Place, "out-of-range", "an enforcer takes errors of 16 bits, not %d", v.Value)
	}
	p.checkRate(a)
	if t := a.Aggregate; t.Value != "" && !p.failed(t.Place) {
		switch text := timeMistake(t.Value); {
		case text == noTime:
			p.error(t.Place, "aggregate", "%q is %s", clip(t.Value), text).WithHint("a number, with s, m or h behind it")
		case text != "":
			p.error(t.Place, "aggregate", "%s is %s", clip(t.Value), text)
		}
	}
	p.checkOverride(a)
}

var rate = regexp.MustCompile(`^\s*([0-9]+)([smhSMH]?)\s*$`)

// maxRate is what upstream can hold, in seconds: 2^32-1 ms.
const maxRate = math.MaxUint32 / 1000

func (p *parser) checkRate(a *policy.Action) {
	l := a.RateLimit
	if l.Value == "" {
		if a.RateLimitScope.Value != "" {
			p.error(a.RateLimitScope.Place, "rate-limit", "rateLimitScope has no effect without rateLimit")
		}
		return
	}
	if p.failed(l.Place) {
		return
	}
	switch text := timeMistake(l.Value); {
	case text == noTime:
		p.error(l.Place, "rate-limit", "%q is %s", clip(l.Value), text).WithHint("a number, with s, m or h behind it")
	case text != "":
		p.error(l.Place, "rate-limit", "%s is %s", clip(l.Value), text)
	}
}

const noTime = "no time"

// timeMistake says what is wrong with a time; nothing if it is one.
func timeMistake(s string) string {
	m := rate.FindStringSubmatch(s)
	if m == nil {
		return noTime
	}
	n, err := strconv.ParseUint(m[1], 10, 64)
	unit := map[string]uint64{"": 1, "s": 1, "m": 60, "h": 3600}[strings.ToLower(m[2])]
	if err != nil || n > maxRate/unit {
		return "longer than 49 days"
	}
	return ""
}

// register is one assignment of argRegs: "DST = EXPR".
var assignment = regexp.MustCompile(`^\s*([a-z0-9]+)\s*=\s*(.*?)\s*$`)

// regExpr is what is assigned: a number, a register with an offset, or the memory at one.
var regExpr = regexp.MustCompile(`^(?:(-?(?:0x[0-9a-fA-F]+|[0-9]+))|(-?(?:0x[0-9a-fA-F]+|[0-9]+))?(?:%([a-z0-9]+)|\(%([a-z0-9]+)\)))$`)

func (p *parser) checkOverride(a *policy.Action) {
	if a.Action.Value != "Override" {
		return
	}
	ways := 0
	for _, set := range []bool{a.ArgNewSymbol.Value != "", a.ArgNewAddr.Set, a.ArgNewOffset.Set} {
		if set {
			ways++
		}
	}
	if ways > 1 {
		p.error(a.Place, "override", "the action has more than one of argNewSymbol, argNewAddr or argNewOffset defined").WithHint("leave one of them")
	}
	for _, r := range a.ArgRegs {
		if p.failed(r.Place) {
			continue
		}
		m := assignment.FindStringSubmatch(r.Value)
		if m == nil {
			p.error(r.Place, "override", "%q is no assignment", clip(r.Value)).WithHint("rax=11, rip=(%%rsp), rsp=8%%rsp")
			continue
		}
		e := regExpr.FindStringSubmatch(m[2])
		if e == nil {
			p.error(r.Place, "override", "%q cannot be assigned to a register", clip(m[2])).WithHint("a number, %%REG, OFFSET%%REG, (%%REG) or OFFSET(%%REG)")
			continue
		}
		for _, name := range []string{m[1], e[3], e[4]} {
			if name != "" && !isRegister(name) {
				p.error(r.Place, "unknown-register", "there is no register %q", clip(name))
			}
		}
		for _, n := range []string{e[1], e[2]} {
			if n == "" {
				continue
			}
			if _, err := strconv.ParseInt(n, 0, 64); err != nil {
				p.error(r.Place, "override", "%q is no number of 64 bits", clip(n))
			}
		}
	}
}

// checkHookActions checks which actions can be ordered at a hook.
func (p *parser) checkHookActions(pol *policy.Policy, h *hook, as []policy.Action, ret bool) {
	overrides := 0
	for i := range as {
		a := &as[i]
		name := a.Action.Value
		r, ok := actionRules[name]
		if !ok {
			continue
		}
		switch {
		case !r.on[h.kind]:
			x := p.error(a.Action.Place, "action-hook", "%s cannot do %s", h.kind, name)
			if h.kind == fentry && actionRules[name].on[kprobe] {
				x.WithHint("a kprobe can")
			}
		case ret && !r.ret:
			p.error(a.Action.Place, "action-hook", "%s cannot be done when the function returns", name).WithHint("put it into matchActions")
		}
		stacks := a.KernelStackTrace
		if !stacks.Value {
			stacks = a.UserStackTrace
		}
		if stacks.Value && name == "Post" && h.kind != kprobe && h.kind != fentry {
			p.error(stacks.Place, "action-hook", "%s has no stack traces", h.kind).WithHint("kprobes and fentries have")
		}
		if a.ImaHash.Value && name == "Post" && h.kind != lsm {
			p.error(a.ImaHash.Place, "action-hook", "%s has no hashes of files", h.kind).WithHint("LSM hooks have")
		}
		switch name {
		case "NotifyEnforcer", "CleanupEnforcerNotification":
			if len(pol.Enforcers) == 0 {
				p.error(a.Action.Place, "no-enforcer", "%s needs an enforcer; the policy has none", name).WithHint("add spec.enforcers")
			}
		case "Override":
			overrides++
			p.checkHookOverride(h, a, overrides)
		case "Set":
			if n := a.ArgIndex; n.Set && n.Value >= int64(len(h.common.Args)) {
				p.error(n.Place, "match-index", "the hook has no args[%d]", n.Value)
			}
		case "TrackSock", "UntrackSock":
			p.checkTrack(h, a, ret)
		}
	}
}

func (p *parser) checkTrack(h *hook, a *policy.Action, ret bool) {
	if ret { // 0 is the return value
		if t := h.returnArg; t != nil && (a.ArgSock.Value != 0 || t.Type.Value != "sock" && t.Type.Value != "socket") && !p.failed(t.Type.Place) {
			p.error(a.Place, "arg-sock", "%s at the return needs a returnArg of type sock or socket, and argSock: 0", a.Action.Value)
		}
		return
	}
	i := a.ArgSock.Value
	if i >= int64(len(h.common.Args)) {
		p.error(a.ArgSock.Place, "arg-sock", "the hook has no args[%d]", i)
		return
	}
	if t := h.common.Args[i].Type; t.Value != "sock" && t.Value != "socket" && !p.failed(t.Place) {
		p.error(a.ArgSock.Place, "arg-sock", "args[%d] is of type %s; %s needs a sock or socket", i, t.Value, a.Action.Value)
	}
}

// minError is the least number that the kernel takes for an error (MAX_ERRNO).
const minError = -4095

func (p *parser) checkHookOverride(h *hook, a *policy.Action, nth int) {
	v := a.ArgError
	switch h.kind {
	case lsm:
		if v.Value < minError || v.Value > 0 {
			p.error(v.Place, "out-of-range", "an LSM hook returns %d to 0, not %d", minError, v.Value)
		}
	case uprobe:
		if nth > 1 {
			p.error(a.Place, "override", "a selector on a uprobe can have one Override")
		}
	case kprobe:
		c := h.call.Value
		if c != "" && !h.syscall && !strings.HasPrefix(c, "security_") && !strings.HasPrefix(c, "list:") {
			p.error(a.Action.Place, "override", "%s cannot be overridden: it is no system call and no security_... function", clip(c))
		}
	}
	if h.kind == uprobe {
		return
	}
	for _, x := range attributes(a) {
		if x.name == "argRegs" || strings.HasPrefix(x.name, "argNew") {
			p.error(x.at, "override", "%s is for uprobes", x.name)
		}
	}
}
