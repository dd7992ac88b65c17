// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"slices"
	"strings"

	"tetragon/internal/kernel"
	"tetragon/internal/policy/plan"
)

// access says how what a hook may look at is reached.
type access struct {
	param func(i int) reached // parameter, or field of a tracepoint
	count int                 // how many parameters there are; -1: nobody knows
	proto *kernel.Func        // nil: unknown, or of no use for types
	ret   reached
	names func(i int) string // of fields; nil: none
	field func(i int) *kernel.Field
}

// maxRegs is how many parameters travel in registers, and so how many trampolines and breakpoints see.
const maxRegs = 6

// needsReturn says whether the hook looks at what the function returns.
func (h *hook) needsReturn() bool {
	if h.kprobe == nil {
		return false
	}
	copies := func(i int) bool { return h.common.Args[i].ReturnCopy.Value }
	for i := range h.common.Args {
		if copies(i) {
			return true
		}
	}
	return h.kprobe.Return.Value
}

// resolve chooses where each hook's program runs.
func (c *compiler) resolve() {
	hooks := c.hooks
	c.hooks = nil
	for _, h := range hooks {
		c.hooks = append(c.hooks, h)
		h.plan = plan.Hook{Section: h.section, Index: h.index, Event: plan.EventKprobe, Name: h.call, Message: h.common.Message.Value}
		for _, t := range h.common.Tags {
			h.plan.Tags = append(h.plan.Tags, t.Value)
		}
		if h.tp != nil {
			c.resolveTracepoint(h)
		} else {
			c.resolveFunction(h)
		}
	}
}

// tried notes a back-end that was not chosen.
func (h *hook) tried(b plan.Backend, format string, args ...any) {
	h.plan.Tried = append(h.plan.Tried, plan.Attempt{Backend: b, Why: fmt.Sprintf(format, args...)})
}

func (c *compiler) resolveFunction(h *hook) {
	regs := strings.HasPrefix(h.call, prefixX64) || strings.HasPrefix(h.call, prefixI386)
	proto := c.f.Func(h.call)
	exit := h.needsReturn()
	trampoline, probe := plan.BackendFentry, plan.BackendKprobe
	if exit {
		trampoline, probe = plan.BackendFexit, plan.BackendKretprobe
	}
	if proto == nil && !regs && h.kprobe.CallNotFound.Value {
		h.inactive("this kernel has no function %s", h.call)
		return
	}
	h.access = access{count: -1, proto: proto, param: func(i int) reached { return reached{source: arg(int64(i))} }, ret: reached{source: plan.Source{Kind: plan.SourceReturn}}}
	if proto != nil {
		h.access.count = len(proto.Params)
	}
	h.plan.Attach = plan.Attach{Symbol: h.call, Params: max(h.access.count, 0)}
	if regs {
		h.access.count, h.access.proto = 6, nil
		h.access.param = func(i int) reached { return reached{source: reg(int64(i))} }
		h.plan.Attach.Regs, h.plan.Attach.Compat = true, strings.HasPrefix(h.call, prefixI386)
	}

	switch why := c.f.Lacks(kernel.Fentry); {
	case proto == nil:
		h.tried(trampoline, "the kernel's types have no function %s", h.call)
	case why != "":
		h.tried(trampoline, "%s", why)
	case !c.f.Traceable(h.call):
		h.tried(trampoline, "the kernel does not let %s be traced", h.call)
	case len(proto.Params) > maxRegs:
		h.tried(trampoline, "it has %d parameters, of which only %d travel in registers", len(proto.Params), maxRegs)
	case exit && proto.Return.Type == "void" && h.kprobe.Return.Value:
		c.d.Error(h.kprobe.Return.Place, "void-return", "%s returns nothing", h.call).WithNote("%s", proto)
		h.dead = true
		return
	default:
		h.plan.Attach.Backend = trampoline
		return
	}
	switch why := c.f.Lacks(kernel.Kprobe); {
	case why != "":
		h.tried(probe, "%s", why)
	case proto == nil && (regs || !c.known(h.call)):
		h.tried(probe, "the kernel has no function %s", h.call)
	case !c.f.Traceable(h.call):
		h.tried(probe, "the kernel does not let %s be traced", h.call)
	case exit:
		h.tried(probe, "arguments and return value together need a trampoline")
	default:
		h.plan.Attach.Backend = probe
		return
	}
	if regs && c.byNumber(h, exit) {
		return
	}
	if es := equivalents[h.call]; len(es) > 0 {
		c.useEquivalents(h, es, exit)
		return
	}
	h.tried(plan.BackendNone, "nothing stands for %s on a kernel without trampolines and kprobes", h.call)
	c.impossible(h)
}

// known says whether the kernel lists a function that its types do not have.
func (c *compiler) known(name string) bool {
	_, err := c.f.Functions(nothing)
	return err == nil && c.f.Traceable(name)
}

// impossible refuses a hook that this kernel cannot have, or lets it be inactive.
func (c *compiler) impossible(h *hook) {
	var notes []string
	for _, t := range h.plan.Tried {
		name := t.Backend.String()
		if t.Backend == plan.BackendNone {
			name = "equivalent"
		}
		notes = append(notes, name+": "+t.Why)
	}
	if h.kprobe != nil && h.kprobe.CallNotFound.Value || c.o.AllowMissing {
		h.inactive("%s", strings.Join(notes, "; "))
		return
	}
	h.dead = true
	d := c.d.Error(h.at, "cannot-hook", "%s cannot be hooked on kernel %s", h.what(), c.f.KernelRelease())
	for _, n := range notes {
		d.WithNote("%s", n)
	}
	d.WithHint("ignore: {callNotFound: true} lets the policy load without this hook")
}

func (h *hook) what() string {
	if h.tp != nil {
		return h.tp.Subsystem.Value + "/" + h.tp.Event.Value
	}
	return h.call
}

// inactive keeps a hook in the plan, with the reason why it does not run.
func (h *hook) inactive(format string, args ...any) {
	h.dead = true
	h.plan.Inactive = fmt.Sprintf(format, args...)
}

// byNumber hooks a system call at the tracepoints that all of them pass.
func (c *compiler) byNumber(h *hook, exit bool) bool {
	abi, name := "x64", strings.TrimPrefix(h.call, prefixX64)
	if h.plan.Attach.Compat {
		abi, name = "i386", strings.TrimPrefix(h.call, prefixI386)
	}
	nr, ok := c.f.Syscall(abi, strings.TrimPrefix(name, "sys_"))
	if !ok {
		return false
	}
	b := plan.BackendSysEnter
	if exit {
		b = plan.BackendSysExit
	}
	h.plan.Attach = plan.Attach{Backend: b, Symbol: h.call, Params: 6, Regs: true, Compat: h.plan.Attach.Compat, Calls: []plan.Call{{ABI: abi, Nr: nr}}}
	return true
}

// useEquivalents puts the hook on what stands for its function: on the first one itself, on the others copies of it.
func (c *compiler) useEquivalents(h *hook, es []equivalent, exit bool) {
	for _, e := range es {
		if why := c.lacks(&e); why != "" {
			h.tried(e.backend, "%s", why)
			if e.needs == kernel.Modules && c.f.Lacks(kernel.Modules) != "" { // then there is nothing to be seen
				h.inactive("%s", why)
			} else {
				c.impossible(h)
			}
			return
		}
	}
	tried := h.plan.Tried
	for i := range es {
		e := &es[i]
		to := h
		if i > 0 {
			twin := *h
			to = &twin
			to.plan.Tried = slices.Clone(tried)
			c.hooks = append(c.hooks, to)
		}
		c.useEquivalent(to, e, exit)
	}
}

func (c *compiler) lacks(e *equivalent) string {
	if e.needs != "" {
		if why := c.f.Lacks(e.needs); why != "" {
			return why
		}
	}
	if e.backend == plan.BackendTp && c.f.RawTracepoint(e.symbol) == nil {
		return "the kernel has no tracepoint " + e.symbol
	}
	return ""
}

func (c *compiler) useEquivalent(h *hook, e *equivalent, exit bool) {
	a := plan.Attach{Backend: e.backend, Symbol: e.symbol, When: e.when}
	if e.backend == plan.BackendSysEnter && exit {
		a.Backend = plan.BackendSysExit
	}
	if len(e.calls) > 0 {
		a.Symbol, a.Params, a.Regs = strings.Join(e.calls, "+"), 6, true
		for _, n := range e.calls {
			if nr, ok := c.f.Syscall("x64", n); ok {
				a.Calls = append(a.Calls, plan.Call{ABI: "x64", Nr: nr})
			}
			if nr, ok := c.f.Syscall("i386", n); ok {
				a.Calls = append(a.Calls, plan.Call{ABI: "i386", Nr: nr})
			}
		}
		for _, n := range e.calls32 {
			if nr, ok := c.f.Syscall("i386", n); ok {
				a.Calls = append(a.Calls, plan.Call{ABI: "i386", Nr: nr})
			}
		}
	}
	h.plan.Attach = a
	h.plan.Caveats = append(slices.Clone(h.plan.Caveats), e.caveats...)
	proto := h.access.proto
	h.access = access{count: -1, proto: proto, param: func(i int) reached {
		r, ok := e.params[i]
		if !ok {
			return reached{why: fmt.Sprintf("parameter %d of %s is not to be had at %s", i, h.call, a.Backend)}
		}
		if len(r.source.Steps) == 1 && r.source.Steps[0].Off < 0 { // the family of a sock
			m, err := c.f.Follow("sock", "__sk_common.skc_family")
			if err != nil {
				return reached{why: err.Error()}
			}
			r.source.Steps = stepsOf(m)
		}
		return r
	}}
	if proto != nil {
		h.access.count = len(proto.Params)
	}
	switch {
	case e.ret != nil:
		h.access.ret = *e.ret
	case a.Backend == plan.BackendSysExit:
		h.access.ret = reached{source: plan.Source{Kind: plan.SourceErr}}
	default:
		h.access.ret = reached{why: fmt.Sprintf("the return value of %s is not to be had at %s", h.call, a.Backend)}
	}
}

func stepsOf(m *kernel.Member) []plan.Step {
	var out []plan.Step
	for _, s := range m.Steps {
		out = append(out, plan.Step{Off: s.Off, Size: uint8(s.Size), Signed: s.Signed, Addr: s.Size == 0})
	}
	return out
}

// commonFields is how many fields every tracepoint's record begins with.
const commonFields = 4

func (c *compiler) resolveTracepoint(h *hook) {
	t := h.tp
	h.plan.Event, h.plan.Subsys, h.plan.TpEvent = plan.EventTracepoint, t.Subsystem.Value, t.Event.Value
	h.plan.Name = t.Subsystem.Value + "/" + t.Event.Value
	if t.Raw.Value {
		proto := c.f.RawTracepoint(t.Event.Value)
		if proto == nil {
			h.dead = true
			c.d.Error(t.Event.Place, "unknown-tracepoint", "the kernel has no raw tracepoint %s", t.Event.Value)
			return
		}
		h.plan.Attach = plan.Attach{Backend: plan.BackendRawTp, Symbol: t.Event.Value, Params: len(proto.Params)}
		h.access = access{count: len(proto.Params), proto: proto, param: func(i int) reached { return reached{source: arg(int64(i))} }}
		return
	}
	if t.Subsystem.Value == "syscalls" && c.resolveSyscallTracepoint(h) {
		return
	}
	format, err := c.f.Format(t.Subsystem.Value, t.Event.Value)
	if err != nil {
		if c.resolveSyscalls(h) {
			return
		}
		h.dead = true
		h.tried(plan.BackendTracepoint, "%v", err)
		c.d.Error(t.Event.Place, "unknown-tracepoint", "%s cannot be hooked: %v", h.what(), err).
			WithHint("raw: true hooks it without tracefs, with the arguments of its prototype")
		return
	}
	onlyID := true
	for i := range h.common.Args {
		onlyID = onlyID && h.common.Args[i].Index.Value == commonFields
	}
	if onlyID && c.resolveSyscalls(h) {
		h.access.field = fieldOf(format)
		return
	}
	h.plan.Attach = plan.Attach{Backend: plan.BackendTracepoint, Symbol: h.plan.Name}
	h.access = access{count: len(format.Fields), field: fieldOf(format), param: func(i int) reached {
		x := &format.Fields[i]
		if x.Elems > 0 {
			return reached{source: plan.Source{Kind: plan.SourceFieldAddr, Off: int32(x.Off)}}
		}
		return reached{source: plan.Source{Kind: plan.SourceField, Off: int32(x.Off), Size: uint8(x.Size), Signed: x.Signed}}
	}}
}

func fieldOf(f *kernel.Format) func(int) *kernel.Field {
	return func(i int) *kernel.Field {
		if i < 0 || i >= len(f.Fields) {
			return nil
		}
		return &f.Fields[i]
	}
}

// resolveSyscalls puts raw_syscalls, whose record is made for nothing, on the raw tracepoint.
func (c *compiler) resolveSyscalls(h *hook) bool {
	name := h.tp.Event.Value
	if h.tp.Subsystem.Value != "raw_syscalls" || name != "sys_enter" && name != "sys_exit" {
		return false
	}
	h.plan.Attach = plan.Attach{Backend: plan.BackendRawTp, Symbol: name, Params: 2}
	h.access = access{count: -1, param: func(i int) reached {
		switch {
		case i == commonFields:
			return reached{source: plan.Source{Kind: plan.SourceSyscall}}
		case i == commonFields+1 && name == "sys_exit":
			return reached{source: arg(1)}
		}
		return reached{why: "the arguments of the call are in the tracepoint's record, which needs tracefs"}
	}}
	return true
}

// resolveSyscallTracepoint puts syscalls/sys_enter_NAME and sys_exit_NAME on the function of the call where that can be
// hooked: the tracepoint would make every call of the machine slower, and this one three times as slow.
func (c *compiler) resolveSyscallTracepoint(h *hook) bool {
	t := h.tp
	name, entry := strings.CutPrefix(t.Event.Value, "sys_enter_")
	exit := false
	if !entry {
		if name, exit = strings.CutPrefix(t.Event.Value, "sys_exit_"); !exit {
			return false
		}
	}
	nr, ok := c.f.Syscall("x64", name)
	if !ok {
		return false
	}
	call := prefixX64 + "sys_" + name
	format, _ := c.f.Format(t.Subsystem.Value, t.Event.Value)
	h.access = access{count: 6 + commonFields + 1, param: func(i int) reached {
		switch {
		case i == commonFields:
			return reached{source: constant(int64(nr))}
		case i > commonFields && exit:
			return reached{source: plan.Source{Kind: plan.SourceReturn}}
		case i > commonFields:
			return reached{source: reg(int64(i - commonFields - 1))}
		}
		return reached{why: "the fields that all tracepoints have are not in what this kernel offers cheaply; use the process of the event"}
	}}
	if format != nil {
		h.access.field, h.access.count = fieldOf(format), len(format.Fields)
	}
	h.plan.Attach = plan.Attach{Symbol: call, Params: 1, Regs: true}
	switch why := c.f.Lacks(kernel.Fentry); {
	case why != "":
		h.tried(plan.BackendFentry, "%s", why)
	case c.f.Func(call) == nil || !c.f.Traceable(call):
		h.tried(plan.BackendFentry, "the kernel does not let %s be traced", call)
	default:
		h.plan.Attach.Backend = plan.BackendFentry
		if exit {
			h.plan.Attach.Backend = plan.BackendFexit
		}
		return true
	}
	h.plan.Attach.Backend = plan.BackendSysEnter
	if exit {
		h.plan.Attach.Backend = plan.BackendSysExit
	}
	h.plan.Attach.Params = 6
	h.plan.Attach.Calls = []plan.Call{{ABI: "x64", Nr: nr}}
	return true
}
