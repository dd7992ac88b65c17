// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"runtime"
	"strconv"

	"tetragon/api/v1/tetragon"
	"tetragon/internal/event"
)

// hookScratch holds the messages of an event that a policy made, and what they point to.
type hookScratch struct {
	kprobe     ProcessKprobe
	tracepoint ProcessTracepoint
	uprobe     ProcessUprobe
	usdt       ProcessUsdt
	loader     ProcessLoader
	lsm        ProcessLsm
	enforced   Enforcement
	merged     Aggregation

	ret   KprobeArgument
	parts []*argParts // for each argument of an event one, as they are asked for
	used  int
	text  []byte // texts made for this event
}

// argParts is the room for what one argument points to.
type argParts struct {
	skb       KprobeSkb
	path      KprobePath
	file      KprobeFile
	binprm    KprobeLinuxBinprm
	cut       KprobeTruncatedBytes
	sock      KprobeSock
	bpfAttr   KprobeBpfAttr
	bpfProg   KprobeBpfProg
	bpfMap    KprobeBpfMap
	perf      KprobePerfEvent
	capname   KprobeCapability
	creds     ProcessCredentials
	caps      Fragment // of creds, copied: two arguments may want one place of the cache
	userNS    UserNamespace
	ns        Namespace
	module    KernelModule
	syscall   SyscallId
	sockaddr  KprobeSockaddr
	sockaddrU KprobeSockaddrUn
	err       KprobeError
}

func (s *hookScratch) part() *argParts {
	if s.used == len(s.parts) {
		s.parts = append(s.parts, new(argParts))
	}
	s.used++
	return s.parts[s.used-1]
}

func (e *Encoder) buildKprobe(ev *event.Event, f form) {
	h, x := ev.Hook, &e.hook.kprobe
	e.hook.used, e.hook.text = 0, e.hook.text[:0]
	x.Process, x.Parent = e.hit(ev, f), e.fragment(ev.Parent, f)
	x.Ancestors = e.fragments(x.Ancestors[:0], ev.Ancestors, f)
	x.FunctionName, x.PolicyName, x.Message, x.Tags = h.Function, h.Policy, h.Message, h.Tags
	x.Action, x.ReturnAction = tetragon.KprobeAction(h.Action), tetragon.KprobeAction(h.ReturnAction)
	x.Args = e.arguments(x.Args[:0], h.Args, false)
	x.Data = e.arguments(x.Data[:0], h.Data, false)
	x.Return = nil
	if h.Return != nil && h.Return.Kind != event.ArgNone {
		e.argument(&e.hook.ret, h.Return, false)
		x.Return = &e.hook.ret
	}
	x.KernelStackTrace = e.frames(x.KernelStackTrace[:0], h.KernelStack)
	x.UserStackTrace = e.frames(x.UserStackTrace[:0], h.UserStack)
	x.Suppressed = uint64(h.Suppressed)
	x.Enforcement, x.Aggregated = e.enforcement(h), e.aggregation(h)
}

// enforcement is what became of what a policy ordered; nil if it ordered nothing.
func (e *Encoder) enforcement(h *event.Hook) *Enforcement {
	if !h.Enforced() {
		return nil
	}
	x := &e.hook.enforced
	for _, l := range []struct {
		to   *[]tetragon.KprobeAction
		from []event.Action
	}{{&x.Done, h.Done}, {&x.WouldDo, h.WouldDo}, {&x.NotDone, h.NotDone}, {&x.Ordered, h.Ordered}} {
		*l.to = (*l.to)[:0]
		for _, a := range l.from {
			*l.to = append(*l.to, tetragon.KprobeAction(a))
		}
	}
	return x
}

// aggregation is how many calls the event tells of; nil: one.
func (e *Encoder) aggregation(h *event.Hook) *Aggregation {
	if h.Merged.Count == 0 {
		return nil
	}
	e.hook.merged = Aggregation{Count: h.Merged.Count, First: Known(h.Merged.First), Last: Known(h.Merged.Last)}
	return &e.hook.merged
}

func (e *Encoder) buildTracepoint(ev *event.Event, f form) {
	h, x := ev.Hook, &e.hook.tracepoint
	e.hook.used, e.hook.text = 0, e.hook.text[:0]
	x.Process, x.Parent = e.hit(ev, f), e.fragment(ev.Parent, f)
	x.Ancestors = e.fragments(x.Ancestors[:0], ev.Ancestors, f)
	x.Subsys, x.Event, x.PolicyName, x.Message, x.Tags = h.Subsys, h.Event, h.Policy, h.Message, h.Tags
	x.Action = tetragon.KprobeAction(h.Action)
	x.Args = e.arguments(x.Args[:0], h.Args, true)
	x.Suppressed = uint64(h.Suppressed)
	x.Enforcement, x.Aggregated = e.enforcement(h), e.aggregation(h)
}

func (e *Encoder) buildLsm(ev *event.Event, f form) {
	h, x := ev.Hook, &e.hook.lsm
	e.hook.used, e.hook.text = 0, e.hook.text[:0]
	x.Process, x.Parent = e.hit(ev, f), e.fragment(ev.Parent, f)
	x.Ancestors = e.fragments(x.Ancestors[:0], ev.Ancestors, f)
	x.FunctionName, x.PolicyName, x.Message, x.Tags = h.Function, h.Policy, h.Message, h.Tags
	x.Action = tetragon.KprobeAction(h.Action)
	x.Args = e.arguments(x.Args[:0], h.Args, false)
	x.ImaHash = h.ImaHash
	x.Suppressed = uint64(h.Suppressed)
	x.Enforcement, x.Aggregated = e.enforcement(h), e.aggregation(h)
}

func (e *Encoder) buildUprobe(ev *event.Event, f form) {
	h, x := ev.Hook, &e.hook.uprobe
	e.hook.used, e.hook.text = 0, e.hook.text[:0]
	x.Process, x.Parent = e.hit(ev, f), e.fragment(ev.Parent, f)
	x.Ancestors = e.fragments(x.Ancestors[:0], ev.Ancestors, f)
	x.Path, x.Symbol, x.Offset, x.RefCtrOffset = h.Path, h.Function, h.Offset, h.RefCtr
	x.PolicyName, x.Message, x.Tags = h.Policy, h.Message, h.Tags
	x.Action = tetragon.KprobeAction(h.Action)
	x.Args = e.arguments(x.Args[:0], h.Args, false)
	x.Data = e.arguments(x.Data[:0], h.Data, false)
	x.Suppressed = uint64(h.Suppressed)
	x.Enforcement, x.Aggregated = e.enforcement(h), e.aggregation(h)
}

func (e *Encoder) buildUsdt(ev *event.Event, f form) {
	h, x := ev.Hook, &e.hook.usdt
	e.hook.used, e.hook.text = 0, e.hook.text[:0]
	x.Process, x.Parent = e.hit(ev, f), e.fragment(ev.Parent, f)
	x.Ancestors = e.fragments(x.Ancestors[:0], ev.Ancestors, f)
	x.Path, x.Provider, x.Name = h.Path, h.Subsys, h.Event
	x.PolicyName, x.Message, x.Tags = h.Policy, h.Message, h.Tags
	x.Action = tetragon.KprobeAction(h.Action)
	x.Args = e.arguments(x.Args[:0], h.Args, false)
	x.Suppressed = uint64(h.Suppressed)
	x.Enforcement, x.Aggregated = e.enforcement(h), e.aggregation(h)
}

func (e *Encoder) buildLoader(ev *event.Event, f form) {
	x := &e.hook.loader
	x.Process, x.Parent = e.fragment(ev.Process, f), e.fragment(ev.Parent, f)
	x.Ancestors = e.fragments(x.Ancestors[:0], ev.Ancestors, f)
	x.Path, x.Buildid = ev.Loader.Path, ev.Loader.BuildID
}

// hit returns the Process message for an event of a hook: there it has the thread that hit the hook, and the references
// of that moment, at least one (events.md 7.6, 7.7).
func (e *Encoder) hit(ev *event.Event, f form) Fragment {
	p, tid, refs := ev.Process, ev.Tid, max(ev.Refs, 1)
	if p == nil || p.Placeholder || p.Refcnt == refs && tid == p.Key.Pid {
		return e.fragment(p, f)
	}
	if !e.opts.KeepFragments {
		m := e.buildProcess(p, false)
		m.Refcnt, m.Tid = refs, Some(tid)
		return pack(e.loosely(m, f), f)
	}
	kept, at := e.fragment(p, f), len(e.loose)
	if f == formWire {
		// What comes later in a message stands for what came before.
		e.loose = append(e.loose, kept.Wire...)
		e.loose = append(e.loose, 0x68) // field 13
		e.loose = binary.AppendUvarint(e.loose, uint64(refs))
		if tid != p.Key.Pid {
			e.loose = append(e.loose, 0x82, 0x01) // field 16
			e.loose = appendWrapperWire(e.loose, uint64(tid))
		}
		return Fragment{Wire: e.loose[at:len(e.loose):len(e.loose)]}
	}
	n := &p.Encoded
	if n.TidEnd == 0 {
		findCuts(p)
	}
	e.loose = append(e.loose, kept.JSON[:n.Refcnt]...)
	e.loose = append(e.loose, `,"refcnt":`...)
	e.loose = strconv.AppendUint(e.loose, uint64(refs), 10)
	e.loose = append(e.loose, kept.JSON[n.RefcntEnd:n.Tid]...)
	e.loose = strconv.AppendUint(e.loose, uint64(tid), 10)
	e.loose = append(e.loose, kept.JSON[n.TidEnd:]...)
	return Fragment{JSON: e.loose[at:len(e.loose):len(e.loose)]}
}

// findCuts finds where the message of p has, or would have, its references and its thread. A comma and a quote that begin
// a key cannot stand within a text, where each quote is escaped.
func findCuts(p *event.Process) {
	n := &p.Encoded
	digits := func(i int) int {
		for n.JSON[i] >= '0' && n.JSON[i] <= '9' {
			i++
		}
		return i
	}
	const tidKey, refcntKey = `,"tid":`, `,"refcnt":`
	tid := bytes.Index(n.JSON, []byte(tidKey))
	n.Tid = uint32(tid + len(tidKey))
	n.TidEnd = uint32(digits(tid + len(tidKey)))
	if refcnt := bytes.Index(n.JSON[:tid], []byte(refcntKey)); refcnt >= 0 {
		n.Refcnt, n.RefcntEnd = uint32(refcnt), uint32(digits(refcnt+len(refcntKey)))
		return
	}
	refcnt := tid
	for _, key := range []string{`,"cap":`, `,"ns":`} { // what can stand between the two
		if i := bytes.Index(n.JSON[:refcnt], []byte(key)); i >= 0 {
			refcnt = i
		}
	}
	n.Refcnt, n.RefcntEnd = uint32(refcnt), uint32(refcnt)
}

func (e *Encoder) frames(to []StackTraceEntry, from []event.Frame) []StackTraceEntry {
	for i := range from {
		x := StackTraceEntry{Offset: from[i].Offset, Symbol: from[i].Symbol, Module: from[i].Module, BuildId: from[i].BuildID, SymbolOffset: from[i].SymbolOffset}
		if e.opts.StackAddresses {
			x.Address = from[i].Address
		}
		if x == (StackTraceEntry{}) {
			continue // nothing is known of it
		}
		to = append(to, x)
	}
	return to
}

func (e *Encoder) arguments(to []KprobeArgument, from []event.Arg, tracepoint bool) []KprobeArgument {
	for i := range from {
		if from[i].Kind == event.ArgNone {
			continue
		}
		if len(to) < cap(to) {
			to = to[:len(to)+1]
		} else {
			to = append(to, KprobeArgument{})
		}
		e.argument(&to[len(to)-1], &from[i], tracepoint)
	}
	return to
}

// argument builds one argument. Of what m holds only the member that m.Arg names is looked at, so the others may stay
// what they were.
func (e *Encoder) argument(m *KprobeArgument, a *event.Arg, tracepoint bool) {
	m.Label = a.Label
	switch a.Kind {
	case event.ArgInt:
		m.Arg, m.IntArg = KprobeArgumentIntArg, int32(a.Int)
	case event.ArgUint:
		m.Arg, m.UintArg = KprobeArgumentUintArg, uint32(a.Int)
	case event.ArgLong:
		m.Arg, m.LongArg = KprobeArgumentLongArg, int64(a.Int)
	case event.ArgSize:
		m.Arg, m.SizeArg = KprobeArgumentSizeArg, a.Int
	case event.ArgString:
		m.Arg, m.StringArg = KprobeArgumentStringArg, a.Text
	case event.ArgKernelCap:
		m.Arg, m.KernelCapTArg = KprobeArgumentKernelCapTArg, e.hex(a.Int)
	case event.ArgCapInheritable:
		m.Arg, m.CapInheritableArg = KprobeArgumentCapInheritableArg, e.hex(a.Int)
	case event.ArgCapPermitted:
		m.Arg, m.CapPermittedArg = KprobeArgumentCapPermittedArg, e.hex(a.Int)
	case event.ArgCapEffective:
		m.Arg, m.CapEffectiveArg = KprobeArgumentCapEffectiveArg, e.hex(a.Int)
	case event.ArgBpfCmd:
		m.Arg, m.BpfCmdArg = KprobeArgumentBpfCmdArg, tetragon.BpfCmd(int32(a.Int))
	case event.ArgBytes:
		if a.Int > uint64(len(a.Text)) && !tracepoint {
			p := e.hook.part()
			p.cut = KprobeTruncatedBytes{BytesArg: a.Text, OrigSize: a.Int}
			m.Arg, m.TruncatedBytesArg = KprobeArgumentTruncatedBytesArg, &p.cut
		} else {
			m.Arg, m.BytesArg = KprobeArgumentBytesArg, a.Text
		}
	case event.ArgFile, event.ArgPath, event.ArgBinprm:
		e.file(m, a)
	case event.ArgSock, event.ArgSkb, event.ArgSockaddr, event.ArgSockaddrUn:
		e.network(m, a, tracepoint)
	default:
		e.object(m, a)
	}
}

// object builds arguments that are seldom asked for.
func (e *Encoder) object(m *KprobeArgument, a *event.Arg) {
	p := e.hook.part()
	switch a.Kind {
	case event.ArgCapability:
		p.capname = KprobeCapability{Value: OptI32{int32(a.Int), true}, Name: tetragon.CapabilitiesType_name[int32(a.Int)]}
		m.Arg, m.CapabilityArg = KprobeArgumentCapabilityArg, &p.capname
		return
	case event.ArgSyscall:
		p.syscall = SyscallId{Id: uint32(a.Int) &^ (1 << 31), Abi: abis[a.Int>>31&1]}
		m.Arg, m.SyscallId = KprobeArgumentSyscallId, &p.syscall
		return
	case event.ArgError:
		p.err = KprobeError{Message: faultText(a.Fault)}
		m.Arg, m.ErrorArg = KprobeArgumentErrorArg, &p.err
		return
	}
	switch o := a.Object.(type) {
	case *event.Cred:
		caps := e.capabilities(capSets{o.Permitted, o.Effective, o.Inheritable})
		p.caps.JSON, p.caps.Wire = append(p.caps.JSON[:0], caps.JSON...), append(p.caps.Wire[:0], caps.Wire...)
		if p.caps.Wire == nil {
			p.caps.Wire = []byte{} // present, even when it is empty
		}
		p.creds = ProcessCredentials{
			Uid: Some(o.UID), Gid: Some(o.GID), Euid: Some(o.EUID), Egid: Some(o.EGID), Suid: Some(o.SUID), Sgid: Some(o.SGID),
			Fsuid: Some(o.FSUID), Fsgid: Some(o.FSGID), Securebits: p.creds.Securebits[:0],
			Caps:   p.caps,
			UserNs: p.userNamespace(&o.NS),
		}
		for left := o.SecureBits; left != 0; left &= left - 1 {
			p.creds.Securebits = append(p.creds.Securebits, tetragon.SecureBitsType(left&-left))
		}
		m.Arg, m.ProcessCredentialsArg = KprobeArgumentProcessCredentialsArg, &p.creds
	case *event.UserNS:
		m.Arg, m.UserNsArg = KprobeArgumentUserNsArg, p.userNamespace(o)
	case *event.BpfProg:
		kind, name := progType(o.Type), cString(o.Name[:])
		if a.Kind == event.ArgBpfAttr {
			p.bpfAttr = KprobeBpfAttr{ProgType: kind, InsnCnt: o.Insns, ProgName: name}
			m.Arg, m.BpfAttrArg = KprobeArgumentBpfAttrArg, &p.bpfAttr
		} else {
			p.bpfProg = KprobeBpfProg{ProgType: kind, InsnCnt: o.Insns, ProgName: name}
			m.Arg, m.BpfProgArg = KprobeArgumentBpfProgArg, &p.bpfProg
		}
	case *event.BpfMap:
		p.bpfMap = KprobeBpfMap{
			MapType: word(mapTypes[:], o.Type), KeySize: o.KeySize, ValueSize: o.ValueSize, MaxEntries: o.MaxEntries,
			MapName: cString(o.Name[:]),
		}
		m.Arg, m.BpfMapArg = KprobeArgumentBpfMapArg, &p.bpfMap
	case *event.PerfEvent:
		p.perf = KprobePerfEvent{KprobeFunc: a.Text, Type: word(perfTypes[:], o.Type), Config: o.Config, ProbeOffset: o.Offset}
		m.Arg, m.PerfEventArg = KprobeArgumentPerfEventArg, &p.perf
	case *event.Module:
		p.module = KernelModule{Name: a.Text, Tainted: p.module.Tainted[:0]}
		if o.Signature != event.SignatureUnknown {
			p.module.SignatureOk = OptBool{o.Signature == event.SignatureGood, true}
		}
		for left := o.Taints; left != 0; left &= left - 1 {
			p.module.Tainted = append(p.module.Tainted, tetragon.TaintedBitsType(int32(left&-left)))
		}
		m.Arg, m.ModuleArg = KprobeArgumentModuleArg, &p.module
	default: // bug: an argument whose kind and object do not fit; still one valid argument
		p.err = KprobeError{Message: faultText(event.FaultBasic)}
		m.Arg, m.ErrorArg = KprobeArgumentErrorArg, &p.err
	}
}

func (p *argParts) userNamespace(ns *event.UserNS) *UserNamespace {
	p.ns = Namespace{Inum: ns.Inum, IsHost: ns.Level == 0}
	p.userNS = UserNamespace{Level: OptI32{ns.Level, true}, Uid: Some(ns.UID), Gid: Some(ns.GID), Ns: &p.ns}
	return &p.userNS
}

// file builds what has a path and a mode.
func (e *Encoder) file(m *KprobeArgument, a *event.Arg) {
	p, flags, mode := e.hook.part(), "", e.permission(uint32(a.Int))
	if a.Cut {
		flags = "unresolvedPathComponents"
	}
	switch a.Kind {
	case event.ArgFile:
		p.file = KprobeFile{Path: a.Text, Flags: flags, Permission: mode}
		m.Arg, m.FileArg = KprobeArgumentFileArg, &p.file
	case event.ArgPath:
		p.path = KprobePath{Path: a.Text, Flags: flags, Permission: mode}
		m.Arg, m.PathArg = KprobeArgumentPathArg, &p.path
	default:
		p.binprm = KprobeLinuxBinprm{Path: a.Text, Flags: flags, Permission: mode}
		m.Arg, m.LinuxBinprmArg = KprobeArgumentLinuxBinprmArg, &p.binprm
	}
}

func (e *Encoder) network(m *KprobeArgument, a *event.Arg, tracepoint bool) {
	p := e.hook.part()
	family := familyName
	if tracepoint {
		family = shortFamilyName
	}
	if a.Kind == event.ArgSockaddrUn {
		p.sockaddrU = KprobeSockaddrUn{Family: shortFamilyName(uint16(a.Int)), Path: e.socketPath(a.Text)}
		m.Arg, m.SockaddrunArg = KprobeArgumentSockaddrunArg, &p.sockaddrU
		return
	}
	switch o := a.Object.(type) {
	case *event.Sock:
		p.sock = KprobeSock{
			Family: family(o.Family), Type: word(sockTypes[:], uint32(o.Type)), Protocol: protocolName(o.Protocol), Mark: o.Mark,
			Priority: o.Priority, Saddr: e.address(o.Family, &o.Saddr), Daddr: e.address(o.Family, &o.Daddr),
			Sport: uint32(o.Sport), Dport: uint32(o.Dport), Cookie: o.Cookie, State: word(tcpStates[:], uint32(o.State)),
		}
		m.Arg, m.SockArg = KprobeArgumentSockArg, &p.sock
	case *event.Skb:
		p.skb = KprobeSkb{
			Hash: o.Hash, Len: o.Len, Priority: o.Priority, Mark: o.Mark, Saddr: e.address(o.Family, &o.Saddr),
			Daddr: e.address(o.Family, &o.Daddr), Sport: uint32(o.Sport), Dport: uint32(o.Dport), Proto: uint32(o.Protocol),
			SecPathLen: o.SecPathLen, SecPathOlen: o.SecPathOlen, Protocol: protocolName(o.Protocol), Family: family(o.Family),
		}
		m.Arg, m.SkbArg = KprobeArgumentSkbArg, &p.skb
	case *event.Sockaddr:
		p.sockaddr = KprobeSockaddr{Family: family(o.Family), Addr: e.address(o.Family, &o.Addr), Port: uint32(o.Port)}
		m.Arg, m.SockaddrArg = KprobeArgumentSockaddrArg, &p.sockaddr
	default:
		p.err = KprobeError{Message: faultText(event.FaultBasic)}
		m.Arg, m.ErrorArg = KprobeArgumentErrorArg, &p.err
	}
}

// made returns what was added to e.hook.text since at. What is added later does not change it.
func (e *Encoder) made(at int) []byte { return e.hook.text[at:len(e.hook.text):len(e.hook.text)] }

// hex writes a set of capabilities as 16 digits.
func (e *Encoder) hex(n uint64) []byte {
	at := len(e.hook.text)
	for i := 60; i >= 0; i -= 4 {
		e.hook.text = append(e.hook.text, hexDigits[n>>i&15])
	}
	return e.made(at)
}

// Families whose addresses are known.
const (
	afUnix  = 1
	afInet  = 2
	afInet6 = 10
)

// address writes an IP address; other families have none.
func (e *Encoder) address(family uint16, a *[16]byte) []byte {
	at := len(e.hook.text)
	switch family {
	case afInet:
		e.hook.text = netip.AddrFrom4([4]byte(a[:4])).AppendTo(e.hook.text)
	case afInet6:
		e.hook.text = netip.AddrFrom16(*a).AppendTo(e.hook.text)
	}
	return e.made(at)
}

// socketPath writes the name of a unix socket: an abstract one begins with a zero byte, and shows an @ there.
func (e *Encoder) socketPath(path []byte) []byte {
	if bytes.IndexByte(path, 0) < 0 {
		return path
	}
	at := len(e.hook.text)
	if path[0] == 0 {
		e.hook.text = append(e.hook.text, '@')
		for _, c := range path[1:] {
			if c != 0 {
				e.hook.text = append(e.hook.text, c)
			}
		}
	} else {
		e.hook.text = append(e.hook.text, cString(path)...)
	}
	return e.made(at)
}

// Bits of a mode.
const (
	modeType = 0o170000
	modeUID  = 0o4000
	modeGID  = 0o2000
	modeVTX  = 0o1000
)

// permission writes a mode as ls -l does. Where the type is not known it has no letter.
func (e *Encoder) permission(mode uint32) []byte {
	at := len(e.hook.text)
	b := e.hook.text
	if c := "\x00pc\x00d\x00b\x00-\x00l\x00s\x00\x00\x00"[mode&modeType>>12&15]; c != 0 {
		b = append(b, c)
	}
	for i := 8; i >= 0; i-- {
		c := byte('-')
		if mode>>i&1 != 0 {
			c = "xwr"[i%3]
		}
		b = append(b, c)
	}
	special := func(bit uint32, back int, set, alone byte) {
		if mode&bit == 0 {
			return
		}
		if c := &b[len(b)-back]; *c == 'x' {
			*c = set
		} else {
			*c = alone
		}
	}
	special(modeUID, 7, 's', 'S')
	special(modeGID, 4, 's', 'S')
	special(modeVTX, 1, 't', 'T')
	e.hook.text = b
	return e.made(at)
}

// cString ends b at its first zero byte.
func cString(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}

// faults are the texts of errors; those of clients look for them.
const (
	faultBasic = "Bad address for basic type"
	faultRoom  = "No room left in the record"
	faultStep  = "Bad address encountered during resolve dereference at depth "
)

func faultText(f event.Fault) string {
	switch f {
	case event.FaultBasic:
		return faultBasic
	case event.FaultRoom:
		return faultRoom
	}
	return faultStep + strconv.Itoa(int(f-event.FaultStep))
}

// abis are those of a machine: its own, and the narrow one.
var abis = func() [2]string {
	switch runtime.GOARCH {
	case "amd64":
		return [2]string{"x64", "i386"}
	case "arm64":
		return [2]string{"arm64", "arm32"}
	}
	return [2]string{"unknown", "unknown"}
}()

// word is the name of a number, or its digits.
func word(names []string, n uint32) string {
	if uint64(n) < uint64(len(names)) && names[n] != "" {
		return names[n]
	}
	return strconv.FormatUint(uint64(n), 10)
}

func familyName(n uint16) string { return word(families[:], uint32(n)) }

// shortFamilyName knows few families, and tells no numbers (events.md 9.3).
func shortFamilyName(n uint16) string {
	switch n {
	case afUnix, afInet, afInet6:
		return families[n]
	}
	return ""
}

func protocolName(n uint16) string {
	if n == 262 {
		return "IPPROTO_MPTCP"
	}
	return word(protocols[:], uint32(n))
}

// progType knows one type fewer than the API.
func progType(n uint32) string {
	if n < 32 {
		return tetragon.BpfProgramType_name[int32(n)]
	}
	return strconv.FormatUint(uint64(n), 10)
}

var families = [...]string{
	0: "AF_UNSPEC", 1: "AF_UNIX", 2: "AF_INET", 3: "AF_AX25", 4: "AF_IPX", 5: "AF_APPLETALK", 6: "AF_NETROM", 7: "AF_BRIDGE",
	8: "AF_ATMPVC", 9: "AF_X25", 10: "AF_INET6", 11: "AF_ROSE", 12: "AF_DECnet", 13: "AF_NETBEUI", 14: "AF_SECURITY",
	15: "AF_KEY", 16: "AF_NETLINK", 17: "AF_PACKET", 18: "AF_ASH", 19: "AF_ECONET", 20: "AF_ATMSVC", 21: "AF_RDS",
	23: "AF_IRDA", 24: "AF_PPPOX", 25: "AF_WANPIPE", 26: "AF_LLC", 27: "AF_IB", 28: "AF_MPLS", 29: "AF_CAN", 30: "AF_TIPC",
	31: "AF_BLUETOOTH", 32: "AF_IUCV", 33: "AF_RXRPC", 34: "AF_ISDN", 35: "AF_PHONET", 36: "AF_IEEE802154", 37: "AF_CAIF",
	38: "AF_ALG", 39: "AF_NFC", 40: "AF_VSOCK", 41: "AF_KCM", 42: "AF_QIPCRTR", 43: "AF_SMC", 44: "AF_XDP", 45: "AF_MCTP",
}

var sockTypes = [...]string{
	1: "SOCK_STREAM", 2: "SOCK_DGRAM", 3: "SOCK_RAW", 4: "SOCK_RDM", 5: "SOCK_SEQPACKET", 6: "SOCK_DCCP", 7: "SOCK_PACKET",
}

var protocols = [...]string{
	0: "IPPROTO_IP", 1: "IPPROTO_ICMP", 2: "IPPROTO_IGMP", 4: "IPPROTO_IPIP", 6: "IPPROTO_TCP", 8: "IPPROTO_EGP", 12: "IPPROTO_PUP",
	17: "IPPROTO_UDP", 22: "IPPROTO_IDP", 29: "IPPROTO_TP", 33: "IPPROTO_DCCP", 41: "IPPROTO_IPV6", 46: "IPPROTO_RSVP",
	47: "IPPROTO_GRE", 50: "IPPROTO_ESP", 51: "IPPROTO_AH", 92: "IPPROTO_MTP", 94: "IPPROTO_BEETPH", 98: "IPPROTO_ENCAP",
	103: "IPPROTO_PIM", 108: "IPPROTO_COMP", 132: "IPPROTO_SCTP", 136: "IPPROTO_UDPLITE", 137: "IPPROTO_MPLS",
	143: "IPPROTO_ETHERNET", 255: "IPPROTO_RAW",
}

var tcpStates = [...]string{
	1: "TCP_ESTABLISHED", 2: "TCP_SYN_SENT", 3: "TCP_SYN_RECV", 4: "TCP_FIN_WAIT1", 5: "TCP_FIN_WAIT2", 6: "TCP_TIME_WAIT",
	7: "TCP_CLOSE", 8: "TCP_CLOSE_WAIT", 9: "TCP_LAST_ACK", 10: "TCP_LISTEN", 11: "TCP_CLOSING", 12: "TCP_NEW_SYN_RECV",
}

var mapTypes = [...]string{
	0: "BPF_MAP_TYPE_UNSPEC", 1: "BPF_MAP_TYPE_HASH", 2: "BPF_MAP_TYPE_ARRAY", 3: "BPF_MAP_TYPE_PROG_ARRAY",
	4: "BPF_MAP_TYPE_PERF_EVENT_ARRAY", 5: "BPF_MAP_TYPE_PERCPU_HASH", 6: "BPF_MAP_TYPE_PERCPU_ARRAY",
	7: "BPF_MAP_TYPE_STACK_TRACE", 8: "BPF_MAP_TYPE_CGROUP_ARRAY", 9: "BPF_MAP_TYPE_LRU_HASH", 10: "BPF_MAP_TYPE_LRU_PERCPU_HASH",
	11: "BPF_MAP_TYPE_LPM_TRIE", 12: "BPF_MAP_TYPE_ARRAY_OF_MAPS", 13: "BPF_MAP_TYPE_HASH_OF_MAPS", 14: "BPF_MAP_TYPE_DEVMAP",
	15: "BPF_MAP_TYPE_SOCKMAP", 16: "BPF_MAP_TYPE_CPUMAP", 17: "BPF_MAP_TYPE_XSKMAP", 18: "BPF_MAP_TYPE_SOCKHASH",
	19: "BPF_MAP_TYPE_CGROUP_STORAGE", 20: "BPF_MAP_TYPE_REUSEPORT_SOCKARRAY", 21: "BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE",
	22: "BPF_MAP_TYPE_QUEUE", 23: "BPF_MAP_TYPE_STACK", 24: "BPF_MAP_TYPE_SK_STORAGE", 25: "BPF_MAP_TYPE_DEVMAP_HASH",
	26: "BPF_MAP_TYPE_STRUCT_OPS", 27: "BPF_MAP_TYPE_RINGBUF", 28: "BPF_MAP_TYPE_INODE_STORAGE", 29: "BPF_MAP_TYPE_TASK_STORAGE",
	30: "BPF_MAP_TYPE_BLOOM_FILTER",
}

var perfTypes = [...]string{
	"PERF_TYPE_HARDWARE", "PERF_TYPE_SOFTWARE", "PERF_TYPE_TRACEPOINT", "PERF_TYPE_HW_CACHE", "PERF_TYPE_RAW",
	"PERF_TYPE_BREAKPOINT", "PERF_TYPE_MAX",
}
