// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"tetragon/internal/kernel"
	"tetragon/internal/nearest"
	"tetragon/internal/policy/plan"
)

// access says how what a hook may look at is reached.
type access struct {
	param func(i int) reached // parameter, or field of a tracepoint
	count int                 // how many parameters there are; -1: nobody knows
	proto *kernel.Func        // nil: unknown, or of no use for types
	ret   reached
	field func(i int) *kernel.Field // of a tracepoint's record; nil: none
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
		if h.lsm != nil {
			h.plan.Event, h.plan.Name = plan.EventLSM, h.lsm.Hook.Value
		}
		switch {
		case h.tp != nil:
			c.resolveTracepoint(h)
		case h.user != nil:
			c.resolveUser(h)
		default:
			c.resolveFunction(h)
		}
	}
}

// tried notes a back-end that was not chosen.
func (h *hook) tried(b plan.Backend, format string, args ...any) {
	h.plan.Tried = append(h.plan.Tried, plan.Attempt{Backend: b, Why: fmt.Sprintf(format, args...)})
}

func (c *compiler) resolveFunction(h *hook) {
	abi, isCall := "", false
	switch {
	case strings.HasPrefix(h.call, prefixX64):
		abi, isCall = "x64", true
	case strings.HasPrefix(h.call, prefixI386):
		abi, isCall = "i386", true
	}
	// A hook that says syscall: false means the function itself, whose one parameter is the registers.
	regs := isCall && (h.kprobe.Syscall.Value || h.fromList)
	symbol := h.call
	proto := c.f.Func(symbol)
	if proto == nil && abi == "i386" { // calls whose arguments the kernel has to convert
		if p := c.f.Func("__ia32_compat_" + strings.TrimPrefix(symbol, prefixI386)); p != nil {
			symbol, proto = p.Name, p
		}
	}
	if proto == nil && abi == "x64" { // calls without arguments are other names of the functions behind them
		if p := c.f.Func("__do_" + strings.TrimPrefix(symbol, prefixX64)); p != nil && len(p.Params) == 1 {
			symbol, proto = p.Name, p
			h.plan.Caveats = append(h.plan.Caveats, "calls of 32-bit programs go through the same function")
		}
	}
	exit := h.needsReturn()
	h.access = access{
		count: -1, proto: proto, param: func(i int) reached { return reached{source: arg(int64(i))} },
		ret: reached{source: result()},
	}
	h.plan.Attach = plan.Attach{Symbol: symbol}
	if proto != nil {
		h.access.count, h.plan.Attach.Params, h.plan.Attach.Module = len(proto.Params), len(proto.Params), proto.Module
		h.access.param = func(i int) reached {
			slot, ok := proto.Slot(i)
			if !ok {
				return reached{why: fmt.Sprintf("parameter %d of %s is a struct, which does not travel in one register", i, h.call)}
			}
			return reached{source: arg(int64(slot))}
		}
	}
	if regs {
		h.access.count, h.access.proto = syscallArgs, nil
		h.access.param = func(i int) reached { return reached{source: reg(int64(i))} }
		h.plan.Attach.Regs, h.plan.Attach.Compat = true, abi == "i386"
	}
	if regs && !strings.Contains(h.call, "sys_") { // that it is none was told
		h.dead = true
		return
	}

	if h.lsm != nil && c.byLSM(h) {
		return
	}
	if c.overrides(h) {
		if proto == nil && !c.known(symbol) && c.f.Lacks(kernel.Fentry) == "" {
			c.notFound(h, regs)
			return
		}
		c.byOverride(h, proto, exit)
		if h.dead || h.plan.Attach.Backend != plan.BackendNone {
			return
		}
	}
	ways := equivalents[h.call]
	if why := c.f.Lacks(kernel.Modules); why != "" && len(ways) > 0 && ways[0][0].needs == kernel.Modules {
		// Then nothing is lost: the function is never called.
		h.tried(plan.BackendNone, "%s", why)
		c.inactive(h, why+": "+h.call+" is never called")
		return
	}
	if c.byTrampoline(h, proto, exit) || h.dead || c.byKprobe(h, proto, exit) {
		return
	}
	// System calls can be told apart by number even if nothing tells the names of their functions.
	byNumber := regs && c.f.Lacks(kernel.Fentry) != "" && c.f.Lacks(kernel.Kprobe) != ""
	if byNumber {
		_, byNumber = c.f.Syscall(abi, callOf(h.call, abi))
	}
	switch {
	case proto == nil && !byNumber && !c.known(symbol):
		c.notFound(h, regs)
		return
	case regs && c.byNumber(h, abi, exit):
		return
	case len(ways) > 0 && c.useWays(h, ways, exit):
		return
	case len(ways) == 0:
		h.tried(plan.BackendNone, "nothing that is known stands for %s", h.call)
	}
	c.impossible(h)
}

// syscallArgs is how many arguments a system call has at most.
const syscallArgs = 6

// byTrampoline hooks a function by fentry or fexit.
func (c *compiler) byTrampoline(h *hook, proto *kernel.Func, exit bool) bool {
	b := plan.BackendFentry
	if exit {
		b = plan.BackendFexit
	}
	switch why := c.noTrampoline(h, proto, kernel.Fentry); {
	case why != "":
		h.tried(b, "%s", why)
	case exit && proto.Return.Type == "void" && h.kprobe.Return.Value:
		c.d.Error(h.kprobe.Return.Place, "void-return", "%s returns nothing", h.call).WithNote("%s, from the kernel's types", proto)
		h.dead = true
	default:
		h.plan.Attach.Backend = b
		return true
	}
	return false
}

// noTrampoline says why a function cannot have a trampoline of the kind that a feature stands for; empty if it can.
func (c *compiler) noTrampoline(h *hook, proto *kernel.Func, feature kernel.Feature) string {
	symbol := h.plan.Attach.Symbol
	slots := 0
	if proto != nil {
		slots, _ = proto.Slot(len(proto.Params))
	}
	wide := func(p kernel.Param) bool { return p.Bits == 0 && (p.Size > 16 || !c.atLeast(6, 1)) }
	switch why := c.f.Lacks(feature); {
	case why != "":
		return why
	case proto == nil:
		return "the kernel's types have no function " + symbol
	case proto.Same > 0:
		return fmt.Sprintf("%d functions are called %s, in different files of the kernel", proto.Same+1, symbol)
	case !c.f.Traceable(symbol):
		return fmt.Sprintf("the kernel does not let %s be traced", symbol)
	case slots > maxRegs:
		return fmt.Sprintf("the parameters of %s take %d registers, of %d", symbol, slots, maxRegs)
	case h.wantsRegisters() && !h.plan.Attach.Regs:
		return "a trampoline does not see the registers"
	case slices.ContainsFunc(proto.Params, wide):
		return fmt.Sprintf("a parameter of %s is a struct, which trampolines of this kernel do not pass on", symbol)
	}
	return ""
}

// atLeast compares the kernel's release.
func (c *compiler) atLeast(major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(c.f.KernelRelease(), "%d.%d", &a, &b); n < 2 {
		return false
	}
	return a > major || a == major && b >= minor
}

// byKprobe hooks a function by a breakpoint.
func (c *compiler) byKprobe(h *hook, proto *kernel.Func, exit bool) bool {
	b := plan.BackendKprobe
	if exit {
		b = plan.BackendKretprobe
	}
	symbol := h.plan.Attach.Symbol
	switch why := c.f.Lacks(kernel.Kprobe); {
	case why != "":
		h.tried(b, "%s", why)
	case proto == nil && !c.known(symbol):
		h.tried(b, "the kernel has no function %s", symbol)
	case proto != nil && proto.Same > 0:
		h.tried(b, "%d functions are called %s", proto.Same+1, symbol)
	case !c.f.Traceable(symbol):
		h.tried(b, "the kernel does not let %s be traced", symbol)
	case exit && h.wantsRegisters():
		h.tried(b, "a breakpoint at the exit does not see the registers of the entry")
	case exit && h.wantsArgs():
		h.tried(b, "a breakpoint at the exit does not see the arguments")
	default:
		h.plan.Attach.Backend = b
		if !exit && !h.plan.Attach.Regs && h.access.count < 0 {
			h.access.count = maxRegs
		}
		return true
	}
	return false
}

// wantsArgs says whether an argument of the call is read.
func (h *hook) wantsArgs() bool {
	for i := range h.common.Args {
		if h.common.Args[i].Type.Value != "nop" {
			return true
		}
	}
	return false
}

// known says whether the kernel lists a function that its types do not have.
func (c *compiler) known(name string) bool {
	_, err := c.f.Functions(nothing)
	return err == nil && c.f.Traceable(name)
}

// notFound refuses a hook on a function that this kernel does not have, or lets it be inactive.
func (c *compiler) notFound(h *hook, regs bool) {
	why := fmt.Sprintf("kernel %s has no function %s", c.f.KernelRelease(), h.plan.Attach.Symbol)
	if c.mayMiss(h) || h.enforces() && h.kprobe.CallNotFound.Value { // nobody can call what is not there
		c.inactive(h, why)
		return
	}
	h.dead = true
	d := c.d.Error(h.at, "call-not-found", "%s", why)
	bare := strings.TrimPrefix(h.call, prefixX64)
	switch {
	case regs && c.f.Func(bare) != nil:
		d.WithHint("say syscall: false; %s is a function, not a system call", bare)
	case !regs && strings.HasPrefix(h.call, "sys_") && c.f.Func(prefixX64+h.call) != nil:
		d.WithHint("say syscall: true; %s is a system call", h.call)
	case c.f.Func("security_"+h.call) != nil:
		d.WithHint("did you mean security_%s?", h.call)
	default:
		if meant := c.meant(h.plan.Attach.Symbol); meant != "" {
			d.WithHint("did you mean %s?", strings.TrimPrefix(meant, prefixX64))
			return
		}
		d.WithHint("functions are renamed, inlined and removed from kernel to kernel; ignore: {callNotFound: true} lets the policy load without this hook")
	}
}

// meant is the function that a mistyped name is of; "" if none is near, or the kernel does not list its functions.
func (c *compiler) meant(name string) string {
	const sure = 4 // letters that are taken to be right: a kernel has 60,000 functions
	if len(name) <= sure {
		return ""
	}
	near, err := c.f.Functions(regexp.MustCompile("^" + regexp.QuoteMeta(name[:sure])))
	if err != nil {
		return ""
	}
	meant := nearest.Name(name, near)
	if meant == "" || nearest.Distance(name, meant) > max(1, len(name)/6) {
		return ""
	}
	return meant
}

// checkLeft refuses a policy of which nothing is left that enforces, though it is written to.
func (c *compiler) checkLeft() {
	if slices.ContainsFunc(c.alive(), (*hook).enforces) {
		return
	}
	for _, h := range c.hooks {
		if h.plan.Inactive != "" && h.enforces() {
			const nothing = "%s, and no other hook of the policy enforces"
			if h.plan.Rejected {
				c.d.Error(h.at, "other-digest", nothing, h.plan.Inactive).
					WithHint("such a policy would do nothing: do not load it here, or name the digest of the file that is there")
				continue
			}
			c.d.Error(h.at, "call-not-found", nothing, h.plan.Inactive).
				WithHint("such a policy would do nothing: do not load it on this kernel, or name the function that the kernel has instead")
		}
	}
}

// mayMiss says whether a hook may be left out. One that enforces never is: whoever relies on it would not be told.
func (c *compiler) mayMiss(h *hook) bool {
	if h.enforces() {
		return false
	}
	return h.kprobe != nil && h.kprobe.CallNotFound.Value || c.o.AllowMissing
}

// impossible refuses a hook that this kernel cannot have, or lets it be inactive.
func (c *compiler) impossible(h *hook) {
	var notes []string
	for _, t := range h.plan.Tried {
		notes = append(notes, t.Backend.Asked()+": "+t.Why)
	}
	if c.mayMiss(h) {
		c.inactive(h, strings.Join(notes, "; "))
		return
	}
	h.dead = true
	d := c.d.Error(h.at, "cannot-hook", "%s cannot be hooked on kernel %s", h.what(), c.f.KernelRelease())
	for _, n := range notes {
		d.WithNote("%s", n)
	}
	if h.kprobe != nil && !h.enforces() {
		d.WithHint("ignore: {callNotFound: true} lets the policy load without this hook")
	}
}

func (h *hook) what() string {
	switch {
	case h.tp != nil:
		return h.tp.Subsystem.Value + "/" + h.tp.Event.Value
	case h.lsm != nil:
		return h.lsm.Hook.Value
	}
	return h.call
}

// inactive keeps a hook in the plan, with the reason why it does not run.
func (c *compiler) inactive(h *hook, why string) {
	h.dead = true
	h.plan.Inactive = why
	h.plan.Attach, h.plan.Rules = plan.Attach{}, []plan.Rule{{Do: plan.Actions{Post: true, Last: "Post", LastReturn: "Post"}}}
	if h.user != nil { // it is named by where it would be
		h.plan.Attach.User = &h.user.place
		if h.user.place.Symbol != "" {
			h.plan.Symbol = h.call
		}
	}
	c.d.Warn(h.at, "inactive", "%s is not hooked: %s", h.what(), why)
}

// callOf is the name of the system call that a function serves.
func callOf(function, abi string) string {
	name := strings.TrimPrefix(strings.TrimPrefix(function, prefixX64), prefixI386)
	return kernel.SyscallOf(abi, strings.TrimPrefix(strings.TrimPrefix(name, "compat_"), "sys_"))
}

// byNumber hooks a system call at the tracepoints that all of them pass.
func (c *compiler) byNumber(h *hook, abi string, exit bool) bool {
	name := callOf(h.call, abi)
	b := plan.BackendSysEnter
	if exit {
		b = plan.BackendSysExit
	}
	nr, ok := c.f.Syscall(abi, name)
	if !ok {
		h.tried(b, "ABI %s has no system call %s", abi, name)
		return false
	}
	h.plan.Caveats = nil
	h.plan.Attach = plan.Attach{Backend: b, Symbol: h.call, Params: syscallArgs, Regs: true, Compat: abi == "i386", Calls: []plan.Call{{ABI: abi, Nr: nr}}}
	return true
}

// useWays puts the hook on the first way to see its calls that this kernel has and that shows what the policy asks for.
func (c *compiler) useWays(h *hook, ways []way, exit bool) bool {
	for _, w := range ways {
		var to []*hook
		why, backend := "", plan.BackendNone
		for i := range w {
			var x *hook
			if x, why = c.onEquivalent(h, &w[i], exit); why != "" {
				backend = w[i].backend
				break
			}
			to = append(to, x)
		}
		if why != "" {
			h.tried(backend, "%s", why)
			continue
		}
		// Hooks share what they have tried; the first takes the place of the one that was asked for.
		for _, x := range to {
			x.plan.Tried = slices.Clone(h.plan.Tried)
		}
		*h = *to[0]
		c.hooks = append(c.hooks, to[1:]...)
		return true
	}
	return false
}

// onEquivalent makes the hook that an equivalent is, or says why it does not do.
func (c *compiler) onEquivalent(h *hook, e *equivalent, exit bool) (*hook, string) {
	if e.needs != "" {
		if why := c.f.Lacks(e.needs); why != "" {
			return nil, why
		}
	}
	a := plan.Attach{Backend: e.backend, Symbol: e.symbol}
	switch e.backend {
	case plan.BackendTp:
		tp := c.f.RawTracepoint(e.symbol)
		if tp == nil {
			return nil, "the kernel has no tracepoint " + e.symbol
		}
		if len(tp.Params) < e.tpParams {
			return nil, fmt.Sprintf("tracepoint %s of this kernel has no parameter %d", e.symbol, e.tpParams-1)
		}
		a.Params = len(tp.Params)
	case plan.BackendSysEnter, plan.BackendSysExit:
		if exit {
			a.Backend = plan.BackendSysExit
		}
		a.Symbol, a.Params, a.Regs = strings.Join(e.calls, "+"), syscallArgs, true
		for _, n := range e.calls {
			abis := []string{"x64", "i386"}
			if abi, name, one := strings.Cut(n, "/"); one {
				abis, n = []string{abi}, name
			}
			for _, abi := range abis {
				if nr, ok := c.f.Syscall(abi, n); ok {
					a.Calls = append(a.Calls, plan.Call{ABI: abi, Nr: nr})
				}
			}
		}
	}
	when := e.when
	if a.Backend == plan.BackendSysExit {
		when = append(slices.Clone(when), e.whenExit...)
	}
	for _, w := range when {
		x := w.Condition
		steps, err := c.through(w.via)
		if err != nil {
			return nil, err.Error()
		}
		x.Source.Steps = append(slices.Clone(x.Source.Steps), steps...)
		a.When = append(a.When, x)
	}

	if h.wantsRegisters() {
		return nil, "the registers of the function are not to be had there"
	}
	x := *h
	x.plan.Attach = a
	x.plan.Caveats = slices.Clone(e.caveats)
	x.access = access{count: h.access.count, proto: h.access.proto, param: func(i int) reached {
		r, ok := e.params[i]
		if !ok {
			return reached{why: fmt.Sprintf("parameter %d of %s is not to be had there", i, h.call)}
		}
		return c.reach(r)
	}}
	for i := range h.common.Args {
		t := &h.common.Args[i]
		for _, n := range []int64{t.Index.Value, t.SizeArgIndex.Value - 1} {
			if n < 0 || t.Type.Value == "nop" || h.access.count >= 0 && n >= int64(h.access.count) {
				continue
			}
			if r := x.access.param(int(n)); r.why != "" {
				return nil, r.why
			}
		}
	}
	switch {
	case e.noReturn != "":
		x.access.ret = reached{why: e.noReturn}
	case e.ret != nil:
		x.access.ret = c.reach(*e.ret)
	default:
		x.access.ret = reached{source: plan.Source{Kind: plan.SourceErr}}
		if exit {
			x.plan.Caveats = append(x.plan.Caveats, "the return value is the error of the whole call, or 0")
		}
	}
	if why := x.access.ret.why; why != "" && h.kprobe.Return.Value {
		if x.needsResult() {
			return nil, "the return value is not to be had there: " + why
		}
		x.noReturn = true
		x.plan.Caveats = append(x.plan.Caveats, "the return value is not to be had: "+why)
	}
	return &x, ""
}

// needsResult says whether a selector or an action looks at the return value.
func (h *hook) needsResult() bool {
	for i := range h.selectors {
		if len(h.selectors[i].ReturnArgs) > 0 {
			return true
		}
	}
	return h.kprobe.ReturnArgAction.Value != ""
}

// reach follows what stands for a parameter through the kernel's types.
func (c *compiler) reach(r reached) reached {
	steps, err := c.through(r.via)
	if err != nil {
		return reached{why: err.Error()}
	}
	if len(steps) > 0 {
		r.source.Steps = append(slices.Clone(r.source.Steps), steps...)
		r.via = nil
	}
	return r
}

// through makes the loads of a row of ways through the kernel's types.
func (c *compiler) through(via []string) ([]plan.Step, error) {
	var out []plan.Step
	for _, w := range via {
		root, path, _ := strings.Cut(w, ".")
		m, err := c.f.Follow(root, path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w, err)
		}
		out = append(out, stepsOf(m)...)
	}
	return out, nil
}

func stepsOf(m *kernel.Member) []plan.Step {
	var out []plan.Step
	for _, s := range m.Steps {
		out = append(out, plan.Step{Off: s.Off, Size: uint8(s.Size), Signed: s.Signed, Addr: s.Size == 0, Bits: uint8(s.Bits), Shift: uint8(s.Shift)})
	}
	return out
}

// commonFields is how many fields every tracepoint's record begins with.
const commonFields = 4

func (c *compiler) resolveTracepoint(h *hook) {
	t := h.tp
	h.plan.Event, h.plan.Subsys, h.plan.TpEvent = plan.EventTracepoint, t.Subsystem.Value, t.Event.Value
	h.plan.Name = t.Subsystem.Value + "/" + t.Event.Value
	switch {
	case t.Raw.Value:
		c.resolveRaw(h)
	case t.Subsystem.Value == "syscalls" && c.resolveCallTracepoint(h), c.resolveRawCalls(h):
	default:
		c.resolveRecord(h)
	}
}

// noTracepoint refuses a tracepoint that the kernel does not have, or lets its hook be inactive.
func (c *compiler) noTracepoint(h *hook, b plan.Backend, why, hint string) {
	h.tried(b, "%s", why)
	if c.mayMiss(h) {
		c.inactive(h, why)
		return
	}
	h.dead = true
	d := c.d.Error(h.tp.Event.Place, "unknown-tracepoint", "%s cannot be hooked: %s", h.what(), why)
	if hint != "" {
		d.WithHint("%s", hint)
	}
}

// resolveRaw hooks a tracepoint with the arguments of its prototype.
func (c *compiler) resolveRaw(h *hook) {
	proto := c.f.RawTracepoint(h.tp.Event.Value)
	if proto == nil {
		c.noTracepoint(h, plan.BackendRawTp, "the kernel has no raw tracepoint "+h.tp.Event.Value, "")
		return
	}
	h.plan.Attach = plan.Attach{Backend: plan.BackendRawTp, Symbol: h.tp.Event.Value, Params: len(proto.Params)}
	h.access = access{count: len(proto.Params), proto: proto, param: func(i int) reached { return reached{source: arg(int64(i))} }}
}

// resolveRecord hooks a tracepoint with the record that its format describes.
func (c *compiler) resolveRecord(h *hook) {
	format, err := c.f.Format(h.tp.Subsystem.Value, h.tp.Event.Value)
	if err != nil {
		hint := ""
		if c.f.RawTracepoint(h.tp.Event.Value) != nil {
			hint = "raw: true hooks it with the arguments of its prototype: " + c.f.RawTracepoint(h.tp.Event.Value).String()
		}
		c.noTracepoint(h, plan.BackendTracepoint, err.Error(), hint)
		return
	}
	h.plan.Attach = plan.Attach{Backend: plan.BackendTracepoint, Symbol: h.plan.Name}
	h.access = access{count: len(format.Fields), field: fieldOf(format), param: func(i int) reached {
		x := &format.Fields[i]
		if x.Elems > 0 {
			return reached{source: plan.Source{Kind: plan.SourceFieldAddr, Off: int32(x.Off)}}
		}
		switch x.Size {
		case 1, 2, 4, 8:
			return reached{source: plan.Source{Kind: plan.SourceField, Off: int32(x.Off), Size: uint8(x.Size), Signed: x.Signed}}
		}
		return reached{why: fmt.Sprintf("field %s has %d bytes, which is no number", x.Name, x.Size)}
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

// commonRecord is what every tracepoint's record begins with. Where no record is made there is none of it.
func commonRecord(rest ...kernel.Field) *kernel.Format {
	f := &kernel.Format{Fields: make([]kernel.Field, commonFields)}
	for i, n := range []string{"common_type", "common_flags", "common_preempt_count", "common_pid"} {
		f.Fields[i] = kernel.Field{Name: n, Type: "int", Size: 4, Signed: true}
	}
	f.Fields = append(f.Fields, rest...)
	return f
}

var noCommon = reached{why: "this field is only in a record, which is not made here; the event's process says who it was"}

// resolveRawCalls puts raw_syscalls, whose record would be made for nothing, on the raw tracepoint.
func (c *compiler) resolveRawCalls(h *hook) bool {
	name := h.tp.Event.Value
	if h.tp.Subsystem.Value != "raw_syscalls" || name != "sys_enter" && name != "sys_exit" {
		return false
	}
	if c.f.RawTracepoint(name) == nil {
		h.tried(plan.BackendRawTp, "the kernel has no raw tracepoint %s", name)
		return false
	}
	format := commonRecord(kernel.Field{Name: "id", Type: "long", Size: 8, Signed: true})
	if name == "sys_enter" {
		format.Fields = append(format.Fields, kernel.Field{Name: "args", Type: "unsigned long[6]", Size: 48, Elems: syscallArgs})
	} else {
		format.Fields = append(format.Fields, kernel.Field{Name: "ret", Type: "long", Size: 8, Signed: true})
	}
	h.plan.Attach = plan.Attach{Backend: plan.BackendRawTp, Symbol: name, Params: 2}
	h.access = access{count: len(format.Fields), field: fieldOf(format), param: func(i int) reached {
		switch {
		case i == commonFields:
			return reached{source: plan.Source{Kind: plan.SourceSyscall}}
		case i == commonFields+1 && name == "sys_exit":
			return reached{source: arg(1)}
		case i == commonFields+1:
			r := reached{source: reg(0)}
			for n := int64(1); n < syscallArgs; n++ {
				r.rest = append(r.rest, reg(n))
			}
			return r
		}
		return noCommon
	}}
	return true
}

// resolveCallTracepoint puts syscalls/sys_enter_NAME and sys_exit_NAME on the function of the call where that can be
// hooked: the tracepoint would make every call of the machine slower, and this one three times as slow.
func (c *compiler) resolveCallTracepoint(h *hook) bool {
	t := h.tp
	name, entry := strings.CutPrefix(t.Event.Value, "sys_enter_")
	if !entry {
		exit := false
		if name, exit = strings.CutPrefix(t.Event.Value, "sys_exit_"); !exit {
			return false
		}
	}
	nr, ok := c.f.Syscall("x64", kernel.SyscallOf("x64", name))
	if !ok {
		return false
	}
	format, err := c.f.Format(t.Subsystem.Value, t.Event.Value)
	if err != nil {
		if c.f.Lacks(kernel.Tracepoint) == "" {
			return false // it has formats, but not this one: the tracepoint has another name
		}
		format = commonRecord(kernel.Field{Name: "__syscall_nr", Type: "int", Size: 4, Signed: true})
		if !entry {
			format.Fields = append(format.Fields, kernel.Field{Name: "ret", Type: "long", Size: 8, Signed: true})
		}
		for i := 0; entry && i < syscallArgs; i++ {
			format.Fields = append(format.Fields, kernel.Field{Name: fmt.Sprintf("arg%d", i), Type: "unsigned long", Size: 8})
		}
	}
	h.access = access{count: len(format.Fields), field: fieldOf(format), param: func(i int) reached {
		switch {
		case i < commonFields:
			return noCommon
		case i == commonFields:
			return reached{source: constant(int64(nr))}
		case !entry:
			return reached{source: result()}
		}
		return reached{source: reg(int64(i - commonFields - 1))}
	}}
	call := prefixX64 + "sys_" + name
	if c.f.Func(call) == nil {
		call = prefixX64 + "sys_" + kernel.SymbolOf("x64", name)
	}
	trampoline, number := plan.BackendFentry, plan.BackendSysEnter
	if !entry {
		trampoline, number = plan.BackendFexit, plan.BackendSysExit
	}
	h.plan.Attach = plan.Attach{Symbol: call, Params: 1, Regs: true}
	switch why := c.f.Lacks(kernel.Fentry); {
	case why != "":
		h.tried(trampoline, "%s", why)
	case c.f.Func(call) == nil || !c.f.Traceable(call):
		h.tried(trampoline, "the kernel does not let %s be traced", call)
	default:
		h.plan.Attach.Backend = trampoline
		return true
	}
	h.plan.Attach.Backend, h.plan.Attach.Params = number, syscallArgs
	h.plan.Attach.Calls = []plan.Call{{ABI: "x64", Nr: nr}}
	return true
}
