// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"math/bits"
	"slices"
	"strings"

	"tetragon/internal/abi"
	"tetragon/internal/event"
	"tetragon/internal/event/decode"
	"tetragon/internal/policy/plan"
	"tetragon/internal/process"
)

// layout is what must be known of a program to make events of its records. It is made once.
type layout struct {
	program *plan.Program
	values  int
	groups  []group
	stacks  bool // a rule asks for one
}

// group is one policy's hook.
type group struct {
	policy     uint32
	kind       event.Kind
	first, end int        // its rules in the program
	hook       event.Hook // what all its events have in common
	names      []string   // kprobe.multi: name of the function, by its place
	rules      []orders
	args, data []arg
	ret        *arg
	owners     []int // values that may say who owns a socket
}

// orders is what an event tells of the rule that made it.
type orders struct {
	action, returned       event.Action
	kernelStack, userStack bool
	hash                   bool // of the file
	merges                 bool // equal calls are counted

	urls, names []string // that are asked for when the event is told

	enforces []event.Action
	signals  []uint64       // for each of enforces the signal, as a bit; 0: an override
	later    []event.Action // what others carry out
	all      []event.Action // both
}

// arg is where an argument comes from, and how it is written.
type arg struct {
	value int // in the program; -1: nowhere
	kind  event.ArgKind
	label string
}

// maxLayouts bounds the layouts that are kept. Programs come and go with policies; those in use are made again.
const maxLayouts = 4096

// layoutOf returns the layout of a program, nil if nobody knows it. Within a batch it is asked for once.
func (e *Enricher) layoutOf(id uint32) *layout {
	if e.layout == nil || e.layoutID != id {
		e.layout, e.layoutID = e.findLayout(id), id
	}
	return e.layout
}

func (e *Enricher) findLayout(id uint32) *layout {
	if e.opts.Programs == nil {
		return nil
	}
	p := e.opts.Programs(id)
	// A program that stays may have new texts, when its policy was replaced.
	if l := e.layouts[id]; l != nil && (l.program == p || p == nil) {
		return l
	}
	if p == nil {
		return nil
	}
	if e.layouts == nil || len(e.layouts) >= maxLayouts {
		e.layouts = make(map[uint32]*layout)
	}
	l := newLayout(p)
	for i := range l.groups {
		l.groups[i].hook.Alike = e.alike + 1
		e.alike += 1 + uint64(len(l.groups[i].names)) // one for each name that it may have
	}
	e.layouts[id] = l
	return l
}

func newLayout(p *plan.Program) *layout {
	l := &layout{program: p, values: len(p.Values), groups: make([]group, len(p.Groups))}
	for i := range p.Groups {
		g, h := &p.Groups[i], p.Groups[i].Hook
		to := &l.groups[i]
		*to = group{
			policy: g.Policy, kind: event.KindKprobe, first: g.First, end: g.First + len(h.Rules), names: h.Names,
			hook: event.Hook{Policy: g.Plan.Policy, Function: h.Name, Subsys: h.Subsys, Event: h.TpEvent, Message: h.Message, Tags: h.Tags},
			args: layArgs(g, h.Args), data: layArgs(g, h.Data),
		}
		switch h.Event {
		case plan.EventTracepoint:
			to.kind = event.KindTracepoint
		case plan.EventLSM:
			to.kind = event.KindLSM
		case plan.EventUprobe, plan.EventUsdt:
			to.kind = event.KindUprobe
			if h.Event == plan.EventUsdt {
				to.kind = event.KindUsdt
			}
			to.hook.Function = h.Symbol
			if u := h.Attach.User; u != nil {
				to.hook.Path, to.hook.RefCtr = u.Path, u.RefCtr
				if h.Symbol == "" {
					to.hook.Offset = u.Offset
				}
			}
		}
		switch {
		case h.Return == nil:
		case h.Event == plan.EventUprobe: // its event has no place for the return value but among the arguments
			if h.Return.Value >= 0 {
				to.args = append(to.args, layArg(g, h.Return))
			}
		default:
			ret := layArg(g, h.Return)
			to.ret = &ret
		}
		for j := range h.Rules {
			do := &h.Rules[j].Do
			o := orders{action: actionOf(do.Last), returned: actionOf(do.LastReturn), kernelStack: do.KernelStack, userStack: do.UserStack, hash: do.ImaHash, merges: do.Aggregate > 0, urls: do.URLs, names: do.Names}
			for _, n := range do.Signals {
				act := event.ActionSignal
				if n == sigkill {
					act = event.ActionSigkill
				}
				o.enforces, o.signals = append(o.enforces, act), append(o.signals, 1<<(n-1))
			}
			switch {
			case do.Override && do.Later != 0:
				o.later = append(o.later, event.ActionOverride)
			case do.Override:
				o.enforces, o.signals = append(o.enforces, event.ActionOverride), append(o.signals, 0)
			}
			if do.Set != nil {
				o.enforces, o.signals = append(o.enforces, event.ActionSet), append(o.signals, 0)
			}
			if do.Notify != nil {
				o.later = append(o.later, event.ActionNotifyEnforcer)
			}
			o.all = slices.Concat(o.enforces, o.later)
			to.rules = append(to.rules, o)
			l.stacks = l.stacks || o.kernelStack || o.userStack
		}
		for _, v := range g.Values {
			if v >= 0 && v < len(p.Values) && p.Values[v].Track {
				to.owners = append(to.owners, v)
			}
		}
	}
	return l
}

func layArgs(g *plan.Group, args []plan.Arg) []arg {
	var out []arg
	for i := range args {
		if args[i].Value >= 0 {
			out = append(out, layArg(g, &args[i]))
		}
	}
	return out
}

func layArg(g *plan.Group, a *plan.Arg) arg {
	out := arg{value: -1, kind: argKinds[a.Type], label: a.Label}
	if a.Value >= 0 && a.Value < len(g.Values) {
		out.value = g.Values[a.Value]
	}
	return out
}

// argKinds says how values of a policy's types are written.
var argKinds = map[string]event.ArgKind{
	"int": event.ArgInt, "int32": event.ArgInt, "sint32": event.ArgInt, "int16": event.ArgInt, "sint16": event.ArgInt,
	"int8": event.ArgInt, "sint8": event.ArgInt, "uint32": event.ArgUint, "uint16": event.ArgUint, "uint8": event.ArgUint,
	"int64": event.ArgLong, "sint64": event.ArgLong, "long": event.ArgLong, "uint64": event.ArgSize, "ulong": event.ArgSize,
	"size_t": event.ArgSize, "const_buf": event.ArgSize, "bpf_cmd": event.ArgBpfCmd, "capability": event.ArgCapability,
	"syscall64": event.ArgSyscall, "kernel_cap_t": event.ArgKernelCap, "cap_inheritable": event.ArgCapInheritable,
	"cap_permitted": event.ArgCapPermitted, "cap_effective": event.ArgCapEffective, "string": event.ArgString,
	"filename": event.ArgString, "net_device": event.ArgString, "data_loc": event.ArgString, "char_buf": event.ArgBytes,
	"char_iovec": event.ArgBytes, "iov_iter": event.ArgBytes, "file": event.ArgFile, "fd": event.ArgFile, "kiocb": event.ArgFile,
	"path": event.ArgPath, "dentry": event.ArgPath, "linux_binprm": event.ArgBinprm, "sock": event.ArgSock, "socket": event.ArgSock,
	"skb": event.ArgSkb, "sockaddr": event.ArgSockaddr, "sockaddr_un": event.ArgSockaddrUn, "cred": event.ArgCred,
	"user_namespace": event.ArgUserNS, "bpf_attr": event.ArgBpfAttr, "bpf_prog": event.ArgBpfProg, "bpf_map": event.ArgBpfMap,
	"perf_event": event.ArgPerfEvent, "module": event.ArgModule, "load_info": event.ArgModule,
}

var actions = map[string]event.Action{
	"": event.ActionPost, "post": event.ActionPost, "sigkill": event.ActionSigkill, "override": event.ActionOverride,
	"geturl": event.ActionGetURL, "dnslookup": event.ActionDNSLookup, "nopost": event.ActionNoPost, "signal": event.ActionSignal,
	"tracksock": event.ActionTrackSock, "untracksock": event.ActionUntrackSock, "notifyenforcer": event.ActionNotifyEnforcer,
	"cleanupenforcernotification": event.ActionCleanup, "set": event.ActionSet,
}

func actionOf(name string) event.Action { return actions[strings.ToLower(name)] }

// hook makes one event for each policy that wants to hear of a call.
func (e *Enricher) hook(r *decode.Record) {
	l := e.layoutOf(r.Hook.Program)
	if l == nil {
		e.drop(unknownProgram)
		return
	}
	e.values = grow(e.values, l.values)
	clear(e.values)
	if l.stacks {
		e.stacks = [2]decode.Value{}
	}
	e.ima = nil
	for at := 0; ; {
		v, next, ok := r.Values(at)
		if !ok {
			break
		}
		switch at = next; {
		case v.Kind == abi.ValueKernelStack:
			e.stacks[0] = v
		case v.Kind == abi.ValueUserStack:
			e.stacks[1] = v
		case v.Kind == abi.ValueIma:
			e.ima = v.Ima()
		case int(v.Index) < len(e.values):
			e.values[v.Index] = v
		}
	}
	var before *plan.Program
	if e.opts.Told != nil && r.Kind == abi.KindHook {
		before = e.opts.Told(r.Hook.Program, r.Hook.Tid, r.Time, e.valueAt)
	}
	told, nothing := false, noRule
	for i := range l.groups {
		g := &l.groups[i]
		rule := firstBit(r, g.first, g.end)
		if rule < 0 {
			continue
		}
		if before != nil && slices.ContainsFunc(before.Groups, func(b plan.Group) bool { return b.Policy == g.policy }) {
			nothing = toldBefore
			continue
		}
		if told {
			e.stage.Seen(1) // the record makes more than one
		}
		told = true
		e.hit(r, g, rule)
	}
	if !told {
		e.drop(nothing)
	}
}

// maxMerged bounds the processes of which it is known that their calls are counted. Of others it is told when the window is over.
const maxMerged = 16384

// merging remembers that equal calls of a process are counted from now on.
func (e *Enricher) merging(pid uint32) {
	if e.merged == nil {
		e.merged = make(map[uint32]bool)
	}
	if len(e.merged) < maxMerged {
		e.merged[pid] = true
	}
}

// mergedEnd says that no more equal calls of a process will come.
func (e *Enricher) mergedEnd(pid uint32) {
	if e.merged[pid] {
		delete(e.merged, pid)
		if e.opts.Ended != nil {
			e.opts.Ended(pid)
		}
	}
}

// valueData is the bytes of a value of the record at hand; nil if it could not be read, or came in records of its own.
func (e *Enricher) valueData(i int) []byte {
	if i >= len(e.values) || e.values[i].Kind == 0 || e.values[i].Flags&(abi.ValueFlagError|abi.ValueFlagAhead) != 0 {
		return nil
	}
	return e.values[i].Data
}

// firstBit returns the lowest bit of the record's mask that is set in [from, to), or -1.
func firstBit(r *decode.Record, from, to int) int {
	for to = min(to, 64*abi.LimitHookWords); from < to; from = (from | 63) + 1 {
		if w := r.Mask(from/64) >> (from % 64); w != 0 {
			if bit := from + bits.TrailingZeros64(w); bit < to {
				return bit
			}
			return -1
		}
	}
	return -1
}

// hit makes the event of one policy, whose rule is the one that decided.
func (e *Enricher) hit(r *decode.Record, g *group, rule int) {
	o := &g.rules[rule-g.first]
	pid, ktime, tid := r.Pid, r.Ktime, r.Hook.Tid
	for _, i := range g.owners {
		if v := &e.values[i]; v.Kind == abi.ValueSock {
			if s := v.Sock(); s != nil && s.OwnerPid != 0 {
				pid, ktime, tid = s.OwnerPid, s.OwnerKtime, s.OwnerTid
			}
		}
	}
	h := &e.hooks.take(1)[0]
	*h = g.hook
	if i := int(r.Hook.Which); i < len(g.names) {
		h.Function = g.names[i]
		h.Alike += 1 + uint64(i)
	}
	h.Action, h.ReturnAction, h.Suppressed = o.action, o.returned, r.Held(rule)
	switch {
	case r.Kind == abi.KindHookMerged:
		h.Merged = event.Merged{Count: r.Merged.Count, First: e.wall(r.Merged.First), Last: e.wall(r.Merged.Last)}
	case o.merges:
		e.merging(r.Pid)
	}
	if len(o.all) > 0 {
		o.verdict(h, r.Monitored(rule), r.Sent(), r.Flags&abi.FlagUnset != 0)
	}
	h.Args, h.Data = e.arguments(r, g.args), e.arguments(r, g.data)
	if g.ret != nil && g.ret.value >= 0 {
		h.Return = &e.args.take(1)[0]
		e.argument(r, h.Return, g.ret)
	}
	if o.kernelStack {
		h.KernelStack = e.kernelStack(&e.stacks[0])
	}
	if o.userStack {
		h.UserStack = e.userStack(&e.stacks[1], r.Pid)
	}
	if o.hash && e.ima != nil {
		h.ImaHash = imaHash(e.ima)
	}
	ancestors := e.opts.KprobeAncestors
	switch g.kind {
	case event.KindTracepoint:
		ancestors = e.opts.TracepointAncestors
	case event.KindUprobe:
		ancestors = e.opts.UprobeAncestors
	case event.KindUsdt:
		ancestors = e.opts.UsdtAncestors
	case event.KindLSM:
		ancestors = e.opts.LSMAncestors
	}
	if e.opts.Ask != nil {
		for _, u := range o.urls {
			e.opts.Ask.Get(u)
		}
		for _, n := range o.names {
			e.opts.Ask.Lookup(n)
		}
	}
	ev := e.next()
	ev.Kind, ev.Time, ev.Tid, ev.Hook = g.kind, e.wall(r.Time), tid, h
	e.join(ev, e.who(pid, ktime), pid, ktime, ancestors)
}

// sigkill is the signal that has an action of its own.
const sigkill = 9

// verdict tells what became of what a rule ordered. unset: what was to be set could not be written.
func (o *orders) verdict(h *event.Hook, monitored bool, sent uint64, unset bool) {
	if monitored {
		h.WouldDo = o.all
		return
	}
	h.Done, h.Ordered = o.enforces, o.later
	failed := func(i int) bool { return o.signals[i]&^sent != 0 || unset && o.enforces[i] == event.ActionSet }
	for i := range o.signals {
		if !failed(i) {
			continue
		}
		h.Done = nil
		for j := range o.signals { // rare: the process cannot be sent signals, is killed anyway, or its memory is not there
			if !failed(j) {
				h.Done = append(h.Done, o.enforces[j])
			} else {
				h.NotDone = append(h.NotDone, o.enforces[j])
			}
		}
		return
	}
}

// who finds a process by its key, or by its pid where the kernel half did not know the rest. nil: nobody knows it.
func (e *Enricher) who(pid uint32, ktime uint64) *process.Entry {
	if ktime == 0 {
		return e.tab.Live(pid)
	}
	return e.tab.Get(event.Key{Pid: pid, Ktime: ktime})
}

// join sets the processes of an event. If p is nil, the event has a placeholder.
func (e *Enricher) join(ev *event.Event, p *process.Entry, pid uint32, ktime uint64, ancestors bool) {
	if p == nil {
		stranger := &e.strangers.take(1)[0]
		*stranger = event.Process{Key: event.Key{Pid: pid, Ktime: ktime}, Placeholder: true}
		if ktime == 0 {
			stranger.Flags = event.FlagUnknownProcess
		} else {
			stranger.StartTime = e.wall(ktime)
		}
		ev.Process = stranger
		return
	}
	ev.Process, ev.Refs = &p.Process, p.Refs()
	if pp := e.tab.Parent(p); pp != nil {
		ev.Parent = &pp.Process
		if ancestors {
			ev.Ancestors = e.ancestors(pp)
		}
	}
}

// arguments reads values as arguments. An array of words is as many arguments.
func (e *Enricher) arguments(r *decode.Record, args []arg) []event.Arg {
	if len(args) == 0 {
		return nil
	}
	n := len(args)
	for i := range args {
		if v := e.value(&args[i]); v != nil && v.Kind == abi.ValueWords && v.Flags&abi.ValueFlagError == 0 {
			n += v.Words() - 1
		}
	}
	out := e.args.take(n)[:0]
	for i := range args {
		v := e.value(&args[i])
		if v == nil || v.Kind != abi.ValueWords || v.Flags&abi.ValueFlagError != 0 {
			out = out[:len(out)+1]
			e.argument(r, &out[len(out)-1], &args[i])
			continue
		}
		for j := range v.Words() {
			out = append(out, event.Arg{Kind: event.ArgSize, Label: args[i].label, Int: v.Word(j)})
		}
	}
	return out
}

func (e *Enricher) value(a *arg) *decode.Value {
	if a.value < 0 || a.value >= len(e.values) {
		return nil
	}
	return &e.values[a.value]
}

// argument reads one value.
func (e *Enricher) argument(r *decode.Record, to *event.Arg, a *arg) {
	*to = event.Arg{Kind: a.kind, Label: a.label}
	v := e.value(a)
	if v == nil || v.Kind == abi.ValueNone {
		to.Kind, to.Fault = event.ArgError, event.FaultRoom
		return
	}
	if v.Flags&abi.ValueFlagError != 0 {
		e.fault(to, v)
		return
	}
	to.Cut = v.Flags&abi.ValueFlagCut != 0
	ok := false
	switch a.kind {
	case event.ArgInt, event.ArgUint, event.ArgLong, event.ArgSize, event.ArgCapability, event.ArgKernelCap, event.ArgCapInheritable,
		event.ArgCapPermitted, event.ArgCapEffective, event.ArgBpfCmd, event.ArgSyscall:
		if v.Kind == abi.ValueInt {
			to.Int, ok = v.Int()
		}
	case event.ArgString:
		if v.Kind == abi.ValueString {
			to.Text, ok = e.keep(v.Data), true
		}
	case event.ArgBytes:
		switch {
		case v.Kind != abi.ValueBytes:
		case isAhead(v):
			to.Text, to.Int, ok = e.longBytes(r, v)
		default:
			to.Text, to.Int, ok = v.Bytes()
			to.Text = e.keep(to.Text)
		}
	case event.ArgFile, event.ArgPath, event.ArgBinprm:
		if v.Kind == abi.ValueFile {
			if f, path := v.File(); f != nil {
				to.Int, to.Text, ok = uint64(f.Mode), e.keep(path), true
			}
		}
	default:
		ok = e.object(to, v)
	}
	if !ok {
		to.Kind, to.Fault = event.ArgError, event.FaultBasic
	}
}

// pageFault stands for bytes that could not be read. Clients know it.
var pageFault = []byte("CharBufErrorPageFault")

// fault tells what could not be read.
func (e *Enricher) fault(to *event.Arg, v *decode.Value) {
	step, ok := v.Int()
	switch {
	case v.Kind == abi.ValueInt && ok:
		to.Kind, to.Fault = event.ArgError, event.FaultStep+event.Fault(min(step, 255-uint64(event.FaultStep)))
	case to.Kind == event.ArgBytes:
		to.Text, to.Int = pageFault, uint64(len(pageFault))
	default:
		to.Kind, to.Fault = event.ArgError, event.FaultBasic
	}
}

// object reads a value that has parts.
func (e *Enricher) object(to *event.Arg, v *decode.Value) bool {
	switch {
	case to.Kind == event.ArgSock && v.Kind == abi.ValueSock:
		if s := v.Sock(); s != nil {
			o := &e.socks.take(1)[0]
			*o = event.Sock{
				Cookie: s.Cookie, Mark: s.Mark, Priority: s.Priority, Family: s.Family, Type: s.Type, Protocol: s.Protocol,
				State: s.State, Sport: s.Sport, Dport: s.Dport, Saddr: s.Saddr, Daddr: s.Daddr,
			}
			to.Object = o
		}
	case to.Kind == event.ArgSkb && v.Kind == abi.ValueSkb:
		if s := v.Skb(); s != nil {
			to.Object = &event.Skb{
				Hash: s.Hash, Len: s.Len, Priority: s.Priority, Mark: s.Mark, SecPathLen: s.SecPathLen, SecPathOlen: s.SecPathOlen,
				Family: s.Family, Protocol: s.Protocol, Sport: s.Sport, Dport: s.Dport, Saddr: s.Saddr, Daddr: s.Daddr,
			}
		}
	case to.Kind == event.ArgSockaddr && v.Kind == abi.ValueSockaddr:
		if s := v.Sockaddr(); s != nil {
			to.Object = &event.Sockaddr{Family: s.Family, Port: s.Port, Addr: s.Addr}
		}
	case to.Kind == event.ArgSockaddrUn && v.Kind == abi.ValueSockaddrUn:
		family, path, ok := v.SockaddrUn()
		to.Int, to.Text = family, e.keep(path)
		return ok
	case to.Kind == event.ArgCred && v.Kind == abi.ValueCred:
		if c := v.Cred(); c != nil {
			to.Object = &event.Cred{Creds: event.Creds{
				UID: c.Ids[0], GID: c.Ids[1], SUID: c.Ids[2], SGID: c.Ids[3], EUID: c.Ids[4], EGID: c.Ids[5], FSUID: c.Ids[6],
				FSGID: c.Ids[7], SecureBits: c.Securebits, Inheritable: c.Caps[0], Permitted: c.Caps[1], Effective: c.Caps[2],
			}, NS: userNS(&c.Ns)}
		}
	case to.Kind == event.ArgUserNS && v.Kind == abi.ValueUserNs:
		if n := v.UserNS(); n != nil {
			o := userNS(n)
			to.Object = &o
		}
	case (to.Kind == event.ArgBpfAttr || to.Kind == event.ArgBpfProg) && v.Kind == abi.ValueBpfProg:
		if p := v.BpfProg(); p != nil {
			to.Object = &event.BpfProg{Type: p.Type, Insns: p.Insns, Name: p.Name}
		}
	case to.Kind == event.ArgBpfMap && v.Kind == abi.ValueBpfMap:
		if m := v.BpfMap(); m != nil {
			to.Object = &event.BpfMap{Type: m.Type, KeySize: m.KeySize, ValueSize: m.ValueSize, MaxEntries: m.MaxEntries, Name: m.Name}
		}
	case to.Kind == event.ArgPerfEvent && v.Kind == abi.ValuePerfEvent:
		if p, name := v.PerfEvent(); p != nil {
			to.Object, to.Text = &event.PerfEvent{Type: p.Type, Config: p.Config, Offset: p.Offset}, e.keep(name)
		}
	case to.Kind == event.ArgModule && v.Kind == abi.ValueModule:
		if m, name := v.Module(); m != nil {
			o := &event.Module{Taints: m.Taints}
			if m.HasSig != 0 {
				o.Signature = event.SignatureBad
				if m.SigOk != 0 {
					o.Signature = event.SignatureGood
				}
			}
			to.Object, to.Text = o, e.keep(name)
		}
	}
	return to.Object != nil
}

func userNS(n *abi.ValUserNs) event.UserNS {
	return event.UserNS{Level: n.Level, UID: n.Uid, GID: n.Gid, Inum: n.Inum}
}

// keep copies what lies in the ring, for the life of the batch.
func (e *Enricher) keep(b []byte) []byte {
	to := e.texts.take(len(b))
	copy(to, b)
	return to
}

// grow returns s with n elements, whatever they hold.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// batch is memory for the life of a batch. Taken is never moved; all is given back at once.
type batch[T any] struct {
	chunks [][]T
	chunk  int // in use
	at     int // used of it
	spare  int // batches in a row that left the last chunk alone
}

// How large chunks are, in elements, and how many batches a chunk may be idle.
const (
	chunkSize = 256
	textChunk = 64 << 10
	patience  = 64
)

// take returns n elements, which hold what an earlier batch left in them.
func (b *batch[T]) take(n int) []T {
	if b.chunk < len(b.chunks) && n <= len(b.chunks[b.chunk])-b.at {
		b.at += n
		return b.chunks[b.chunk][b.at-n : b.at : b.at]
	}
	return b.next(n)
}

func (b *batch[T]) next(n int) []T {
	if b.at > 0 {
		b.chunk, b.at = b.chunk+1, 0
	}
	if b.chunk == len(b.chunks) {
		size := chunkSize
		if _, text := any(b).(*batch[byte]); text {
			size = textChunk
		}
		b.chunks = append(b.chunks, make([]T, max(n, size)))
	} else if n > len(b.chunks[b.chunk]) {
		b.chunks[b.chunk] = make([]T, n)
	}
	b.at = n
	return b.chunks[b.chunk][:n:n]
}

// reset takes everything back. What a storm needed is let go bit by bit.
func (b *batch[T]) reset() {
	if b.chunk+1 < len(b.chunks) {
		if b.spare++; b.spare > patience {
			b.chunks[len(b.chunks)-1] = nil
			b.chunks, b.spare = b.chunks[:len(b.chunks)-1], 0
		}
	} else {
		b.spare = 0
	}
	b.chunk, b.at = 0, 0
}
