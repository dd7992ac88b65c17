// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"encoding/hex"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"tetragon/internal/policy"
)

// hookKind is a kind of hook, as the rules tell them apart.
type hookKind uint8

const (
	kprobe hookKind = iota
	fentry
	tracepoint
	rawTracepoint
	uprobe
	usdt
	lsm
	hookKinds
)

var hookKindNames = [hookKinds]string{"a kprobe", "a fentry", "a tracepoint", "a raw tracepoint", "a uprobe", "a static probe", "an LSM hook"}

func (k hookKind) String() string { return hookKindNames[k] }

// returns says whether hooks of a kind can see a function return.
func (k hookKind) returns() bool { return k == kprobe || k == fentry || k == uprobe }

// hook is what the rules look at of a hook of any kind.
type hook struct {
	kind       hookKind
	common     *policy.Common
	data       []policy.Arg
	ret        policy.Bool
	returnArg  *policy.Arg
	returnCopy bool
	call       policy.Text
	syscall    bool
	btfPath    bool
}

// hooks lists all hooks of a policy.
func hooks(pol *policy.Policy) []hook {
	var out []hook
	for i := range pol.Kprobes {
		out = append(out, kprobeHook(kprobe, &pol.Kprobes[i]))
	}
	for i := range pol.Fentries {
		out = append(out, kprobeHook(fentry, &pol.Fentries[i]))
	}
	for i := range pol.Tracepoints {
		t := &pol.Tracepoints[i]
		h := hook{kind: tracepoint, common: &t.Common}
		if t.Raw.Value {
			h.kind = rawTracepoint
		}
		out = append(out, h)
	}
	for i := range pol.Uprobes {
		u := &pol.Uprobes[i]
		out = append(out, hook{
			kind: uprobe, common: &u.Common, data: u.Data, ret: u.Return, returnArg: u.ReturnArg, btfPath: u.BTFPath.Value != "",
		})
	}
	for i := range pol.Usdts {
		out = append(out, hook{kind: usdt, common: &pol.Usdts[i].Common, btfPath: pol.Usdts[i].BTFPath.Value != ""})
	}
	for i := range pol.LsmHooks {
		out = append(out, hook{kind: lsm, common: &pol.LsmHooks[i].Common})
	}
	return out
}

func kprobeHook(kind hookKind, k *policy.Kprobe) hook {
	return hook{
		kind: kind, common: &k.Common, data: k.Data, ret: k.Return, returnArg: k.ReturnArg, call: k.Call, syscall: k.Syscall.Value,
	}
}

// symbol is a name of a function, also of those that the compiler made of others ("name.isra.0").
var symbol = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.$]*$`)

func (p *parser) checkHooks(pol *policy.Policy) {
	for _, h := range hooks(pol) {
		p.checkCommon(h.common)
		p.checkArgs(&h)
		p.checkReturn(&h)
		for i := range h.common.Selectors {
			p.checkHookSelector(pol, &h, &h.common.Selectors[i])
		}
	}
	eachSelector(pol, p.checkSelector)
	for _, ks := range [][]policy.Kprobe{pol.Kprobes, pol.Fentries} {
		for i := range ks {
			p.checkKprobe(&ks[i])
		}
	}
	for i := range pol.Uprobes {
		p.checkUprobe(&pol.Uprobes[i])
	}
	for i := range pol.LsmHooks {
		name := pol.LsmHooks[i].Hook
		for _, prefix := range []string{"security_", "bpf_lsm_"} {
			if rest, ok := strings.CutPrefix(name.Value, prefix); ok {
				p.error(name.Place, "bad-symbol", "LSM hooks are named without %s", prefix).WithHint("hook: %s", rest)
			}
		}
		if name.Value != "" && !symbol.MatchString(name.Value) {
			p.error(name.Place, "bad-symbol", "%q is no LSM hook", clip(name.Value))
		}
	}
}

// Upstream cuts messages and tags that are longer, in bytes. This program does not.
const (
	cutMessage = 256
	cutTag     = 128
)

func (p *parser) checkCommon(c *policy.Common) {
	m := c.Message
	switch n := len(m.Value); {
	case n == 1:
		p.error(m.Place, "message", "a message has two characters at least")
	case n > cutMessage:
		p.warn(m.Place, "message", "the message has %d bytes; upstream cuts it behind %d, this program does not", n, cutMessage)
	}
	for _, t := range c.Tags {
		switch n := len(t.Value); {
		case p.failed(t.Place):
		case n < 2:
			p.error(t.Place, "tag", "a tag has two characters at least")
		case n > cutTag:
			p.warn(t.Place, "tag", "the tag has %d bytes; upstream cuts it behind %d, this program does not", n, cutTag)
		}
	}
}

// How many arguments the hooks can have whose arguments are counted by the calling convention.
const maxUserArgs = 5

// checkArgs checks args and data.
func (p *parser) checkArgs(h *hook) {
	for i := range h.common.Args {
		a := &h.common.Args[i]
		p.checkArg(h, a)
		if !a.Index.Set && !p.failed(a.Index.Place) {
			p.error(a.Index.Place, "missing-field", "index is missing")
		}
		if a.Source.Value != "" {
			p.error(a.Source.Place, "arg-source", "source is for entries of data; arguments come from the hook").WithHint("move the entry to data")
		}
		p.checkArgType(h, a)
		if (h.kind == uprobe || h.kind == lsm) && a.Index.Value >= maxUserArgs {
			p.error(a.Index.Place, "arg-index", "%s has arguments 0 to %d", h.kind, maxUserArgs-1)
		}
		h.returnCopy = h.returnCopy || a.ReturnCopy.Value
		if a.ReturnCopy.Value && !h.kind.returns() {
			p.error(a.ReturnCopy.Place, "return-copy", "%s does not return: there is nothing to copy then", h.kind)
		}
	}
	for i := range h.data {
		a := &h.data[i]
		p.checkArg(h, a)
		if a.Source.Value == "" && !p.failed(a.Source.Place) {
			p.error(a.Source.Place, "missing-field", "source is missing").WithHint("current_task or pt_regs")
		}
		if a.Resolve.Value == "" && !p.failed(a.Resolve.Place) {
			p.error(a.Resolve.Place, "missing-field", "resolve is missing").WithHint("a member of task_struct, or a register")
		}
		if a.ReturnCopy.Value {
			p.error(a.ReturnCopy.Place, "return-copy", "returnCopy is for arguments, not for data")
		}
	}
	switch n := len(h.common.Args) + len(h.data); {
	case h.kind != uprobe && h.kind != usdt && h.kind != lsm:
	case n > maxUserArgs:
		p.error(h.common.Place, "too-many", "%s can have %d arguments, here are %d", h.kind, maxUserArgs, n)
	}
}

// checkArg checks what holds for arguments, data and return values.
func (p *parser) checkArg(h *hook, a *policy.Arg) {
	r := a.Resolve
	switch {
	case r.Value == "" || p.failed(r.Place):
		if a.BTFType.Value != "" {
			p.error(a.BTFType.Place, "unused-field", "btfType says where resolve begins; there is no resolve")
		}
	case a.Source.Value == "pt_regs":
		if !isRegister(r.Value) {
			p.error(r.Place, "unknown-register", "there is no register %q", clip(r.Value)).WithHint("rax, rdi, r8, x0, ...: small letters, without %%")
		}
	case !memberPath(r.Value):
		p.error(r.Place, "bad-resolve", "%q is no way to a member", clip(r.Value)).WithHint("member.member[0].member")
	case (h.kind == uprobe || h.kind == usdt) && a.Source.Value == "" && (a.BTFType.Value == "" || !h.btfPath):
		p.error(r.Place, "bad-resolve", "resolve on %s needs btfType, and btfPath of the hook", h.kind)
	case h.kind == tracepoint:
		p.error(r.Place, "bad-resolve", "fields of a tracepoint are plain: there is nothing to resolve").WithHint("raw: true gives the kernel's own objects")
	}
	if a.BTFTypeModule.Value != "" && a.BTFType.Value == "" {
		p.error(a.BTFTypeModule.Place, "unused-field", "btfTypeModule says which module has btfType; there is no btfType")
	}
}

// checkArgType checks which types go with which hooks.
func (p *parser) checkArgType(h *hook, a *policy.Arg) {
	t := a.Type
	if p.failed(t.Place) {
		return
	}
	at := t.Place
	switch {
	case t.Value == "auto" && (h.kind == kprobe || h.kind == fentry || h.kind == rawTracepoint || h.kind == usdt):
		p.error(at, "arg-auto", "the argument has no type; types are found out for fields of tracepoints, parameters of LSM hooks and data").WithHint("type: int, string, file, ...")
	case t.Value == "auto" && a.Resolve.Value == "" && h.kind == uprobe:
		p.error(at, "arg-auto", "the argument has no type").WithHint("type: int, string, ...")
	case t.Value == "syscall64" && h.kind != tracepoint && h.kind != rawTracepoint:
		p.error(at, "arg-type", "type syscall64 is for tracepoints, not for %s", h.kind)
	case t.Value == "data_loc" && h.kind != tracepoint:
		p.error(at, "arg-type", "type data_loc is for tracepoints, not for %s", h.kind)
	case t.Value == "const_buf":
		p.error(at, "arg-type", "const_buf is found out for arrays of a tracepoint; it cannot be asked for").WithHint("leave the type out, of a tracepoint that is not raw")
	case t.Value == "bpf_cmd" && h.kind != kprobe && h.kind != fentry:
		p.error(at, "arg-type", "type bpf_cmd is for kprobes and fentries, not for %s", h.kind)
	case h.kind == usdt && !slices.Contains(usdtTypes, t.Value):
		p.error(at, "arg-type", "%s has integers and strings; %s is neither", h.kind, t.Value)
	}
}

// usdtTypes are what arguments of static probes can be.
var usdtTypes = strings.Fields(`int sint8 int8 uint8 sint16 int16 uint16 uint32 sint32 int32 ulong uint64 size_t long sint64 int64 string nop`)

// checkReturn checks the return value and what is done with it.
func (p *parser) checkReturn(h *hook) {
	a := h.returnArg
	if h.ret.Value && a == nil {
		at := h.common.Place.At(".returnArg")
		p.error(at, "no-return-arg", "ReturnArg not specified with Return=true").WithHint("returnArg: {index: 0, type: int}")
	}
	if a == nil {
		return
	}
	p.checkArg(h, a)
	if !h.ret.Value {
		p.warn(a.Place, "unused-field", "returnArg has no effect without return: true")
	}
	switch t := a.Type; {
	case p.failed(t.Place):
	case t.Value == "auto":
		p.error(t.Place, "return-type", "the return value has no type").WithHint("type: int, uint64, sock, ...")
	case t.Value == "bpf_cmd" || t.Value == "syscall64" || t.Value == "const_buf" || t.Value == "data_loc":
		p.error(t.Place, "return-type", "a return value cannot be of type %s", t.Value)
	}
	for _, x := range []struct {
		name string
		at   policy.Place
		set  bool
	}{
		{"source", a.Source.Place, a.Source.Value != ""}, {"returnCopy", a.ReturnCopy.Place, a.ReturnCopy.Value},
		{"sizeArgIndex", a.SizeArgIndex.Place, a.SizeArgIndex.Value != 0}, {"maxData", a.MaxData.Place, a.MaxData.Value},
		{"resolve", a.Resolve.Place, a.Resolve.Value != ""},
	} {
		if x.set {
			p.error(x.at, "unused-field", "%s has no effect on a return value", x.name)
		}
	}
}

func (p *parser) checkKprobe(k *policy.Kprobe) {
	if c := k.Call; c.Value != "" && !strings.HasPrefix(c.Value, "list:") && !symbol.MatchString(c.Value) && !p.failed(c.Place) {
		p.error(c.Place, "bad-symbol", "%q is no name of a function", clip(c.Value))
	}
	a := &k.ReturnArgAction
	if a.Value == "" || p.failed(a.Place) {
		return
	}
	const fix = "omit returnArgAction or use 'TrackSock'/'UntrackSock'"
	named := ""
	for _, n := range actions.names {
		if strings.EqualFold(n, a.Value) {
			named = n
		}
	}
	switch {
	case named == "":
		p.error(a.Place, "return-arg-action", "ReturnArgAction type '%s' unsupported", clip(a.Value)).WithHint("%s", fix)
	case named != "TrackSock" && named != "UntrackSock":
		p.error(a.Place, "return-arg-action", "%s cannot be done with a return value; %s", named, fix)
	case !k.Return.Value:
		p.error(a.Place, "no-return", "returnArgAction needs return: true and returnArg")
	case k.ReturnArg != nil && k.ReturnArg.Type.Value != "sock" && k.ReturnArg.Type.Value != "socket" && !p.failed(k.ReturnArg.Type.Place):
		p.error(a.Place, "arg-sock", "%s needs a returnArg of type sock or socket", named)
	}
	a.Value = named
}

// digestBytes are the algorithms of binaryDigests with the length of what they make; 0: any.
var digestBytes = map[string]int{"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64, "build-id": 0}

func (p *parser) checkUprobe(u *policy.Uprobe) {
	ways, n := 0, 0
	for _, k := range []int{len(u.Symbols), len(u.Offsets), len(u.Addrs)} {
		if k > 0 {
			ways++
			n = k
		}
	}
	switch {
	case ways > 1:
		p.error(u.Place, "uprobe-address", "the hook has more than one of symbols, addrs or offsets defined").WithHint("leave one of them")
	case ways == 0:
		p.error(u.Place, "uprobe-address", "the hook says not where in the program it is").WithHint("symbols, offsets or addrs")
	case len(u.RefCtrOffset) > 0 && len(u.RefCtrOffset) != n:
		p.error(u.RefCtrOffset[0].Place, "uprobe-address", "there are %d refCtrOffsets for %d places", len(u.RefCtrOffset), n)
	}
	for _, s := range u.Symbols {
		name, off, plus := strings.Cut(s.Value, "+")
		if p.failed(s.Place) {
			continue
		}
		if _, err := strconv.ParseUint(off, 0, 64); name == "" || plus && err != nil {
			p.error(s.Place, "bad-symbol", "%q is no symbol", clip(s.Value)).WithHint("NAME or NAME+OFFSET")
		}
	}
	for _, d := range u.Digests {
		algo, sum, _ := strings.Cut(strings.TrimSpace(d.Value), ":")
		want, known := digestBytes[strings.ToLower(algo)]
		raw, err := hex.DecodeString(sum)
		switch {
		case p.failed(d.Place):
		case !known:
			p.error(d.Place, "bad-digest", "there is no digest %q", clip(algo)).WithHint("sha1:, sha256:, sha384:, sha512: or build-id: before hexadecimal digits")
		case err != nil || len(raw) == 0:
			p.error(d.Place, "bad-digest", "%q is no hexadecimal number of whole bytes", clip(sum))
		case want > 0 && len(raw) != want:
			p.error(d.Place, "bad-digest", "%s has %d bytes, not %d", algo, want, len(raw))
		}
	}
	if u.DigestFailure.Set && len(u.Digests) == 0 {
		p.error(u.DigestFailure.Place, "unused-field", "digestVerificationFailure has no effect without binaryDigests")
	}
}

// memberPath says whether a text is a way through members: "a.b[3].c", "[1].a".
func memberPath(s string) bool { return memberWay.MatchString(s) }

var memberWay = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*|\[[0-9]+\])(\[[0-9]+\])*(\.[A-Za-z_][A-Za-z0-9_]*(\[[0-9]+\])*)*$`)

// isRegister says whether a name is one of a register, on the machines that policies are written for.
func isRegister(name string) bool {
	_, x86 := policy.Registers[name]
	return x86 || armRegister.MatchString(name)
}

// armRegister is a register of arm64: x0 to x31, their lower halves, and where the program is.
var armRegister = regexp.MustCompile(`^(x([12]?[0-9]|3[01])|w([12]?[0-9]|30)|sp|pc)$`)
