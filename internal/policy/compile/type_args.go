// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"tetragon/internal/kernel"
	"tetragon/internal/policy"
	"tetragon/internal/policy/plan"
)

// nothing matches no name: it is asked to learn whether the kernel lists its functions at all.
var nothing = regexp.MustCompile(`^$`)

// typeRow is what a type of the policy language means.
type typeRow struct {
	name   string
	typ    plan.Type
	bits   uint8
	signed bool
	load   bool // the parameter is the address of the number
	// C is what the kernel's types may call a parameter of this type; empty: anything.
	c []string
}

// types is the table of argument types.
var types = []typeRow{
	{name: "int", typ: plan.TypeInt, bits: 32, signed: true}, {name: "int32", typ: plan.TypeInt, bits: 32, signed: true},
	{name: "sint32", typ: plan.TypeInt, bits: 32, signed: true}, {name: "uint32", typ: plan.TypeInt, bits: 32},
	{name: "int64", typ: plan.TypeInt, bits: 64, signed: true}, {name: "sint64", typ: plan.TypeInt, bits: 64, signed: true},
	{name: "long", typ: plan.TypeInt, bits: 64, signed: true}, {name: "uint64", typ: plan.TypeInt, bits: 64},
	{name: "ulong", typ: plan.TypeInt, bits: 64}, {name: "size_t", typ: plan.TypeInt, bits: 64},
	{name: "int16", typ: plan.TypeInt, bits: 16, signed: true}, {name: "sint16", typ: plan.TypeInt, bits: 16, signed: true},
	{name: "int8", typ: plan.TypeInt, bits: 8, signed: true}, {name: "sint8", typ: plan.TypeInt, bits: 8, signed: true},
	{name: "uint16", typ: plan.TypeInt, bits: 16}, {name: "uint8", typ: plan.TypeInt, bits: 8},
	{name: "bpf_cmd", typ: plan.TypeInt, bits: 32, signed: true}, {name: "capability", typ: plan.TypeInt, bits: 32, signed: true},
	{name: "syscall64", typ: plan.TypeInt, bits: 64},
	{name: "kernel_cap_t", typ: plan.TypeInt, bits: 64, load: true, c: []string{"kernel_cap_t *"}},
	{name: "cap_inheritable", typ: plan.TypeInt, bits: 64, load: true, c: []string{"kernel_cap_t *"}},
	{name: "cap_permitted", typ: plan.TypeInt, bits: 64, load: true, c: []string{"kernel_cap_t *"}},
	{name: "cap_effective", typ: plan.TypeInt, bits: 64, load: true, c: []string{"kernel_cap_t *"}},

	{name: "string", typ: plan.TypeString, c: []string{"char *"}}, {name: "char_buf", typ: plan.TypeBytes, c: []string{"char *", "void *"}},
	{name: "char_iovec", typ: plan.TypeIovec, c: []string{"struct iovec *"}}, {name: "iov_iter", typ: plan.TypeIovIter, c: []string{"struct iov_iter *"}},
	{name: "filename", typ: plan.TypeFilename, c: []string{"struct filename *"}}, {name: "net_device", typ: plan.TypeNetDevice, c: []string{"struct net_device *"}},
	{name: "data_loc", typ: plan.TypeDataLoc}, {name: "const_buf", typ: plan.TypeWords},

	{name: "file", typ: plan.TypeFile, c: []string{"struct file *"}}, {name: "path", typ: plan.TypePath, c: []string{"struct path *"}},
	{name: "fd", typ: plan.TypeFd}, {name: "dentry", typ: plan.TypeDentry, c: []string{"struct dentry *"}},
	{name: "kiocb", typ: plan.TypeKiocb, c: []string{"struct kiocb *"}}, {name: "linux_binprm", typ: plan.TypeBinprm, c: []string{"struct linux_binprm *"}},

	{name: "sock", typ: plan.TypeSock, c: []string{"struct sock *"}}, {name: "socket", typ: plan.TypeSocket, c: []string{"struct socket *"}},
	{name: "skb", typ: plan.TypeSkb, c: []string{"struct sk_buff *"}}, {name: "sockaddr", typ: plan.TypeSockaddr, c: []string{"struct sockaddr *", "struct sockaddr_unsized *"}},
	{name: "sockaddr_un", typ: plan.TypeSockaddrUn, c: []string{"struct sockaddr_un *", "struct sockaddr *", "struct sockaddr_unsized *"}},

	{name: "cred", typ: plan.TypeCred, c: []string{"struct cred *"}}, {name: "user_namespace", typ: plan.TypeUserNS, c: []string{"struct user_namespace *"}},
	{name: "bpf_attr", typ: plan.TypeBpfAttr, c: []string{"union bpf_attr *"}}, {name: "bpf_prog", typ: plan.TypeBpfProg, c: []string{"struct bpf_prog *"}},
	{name: "bpf_map", typ: plan.TypeBpfMap, c: []string{"struct bpf_map *"}}, {name: "perf_event", typ: plan.TypePerfEvent, c: []string{"struct perf_event *"}},
	{name: "module", typ: plan.TypeModule, c: []string{"struct module *"}}, {name: "load_info", typ: plan.TypeLoadInfo, c: []string{"struct load_info *"}},
}

// autoParam is the type of a parameter as the kernel declares it; "auto" if it does not follow.
func autoParam(proto *kernel.Func, i int) string {
	if proto == nil || i >= len(proto.Params) {
		return "auto"
	}
	p := proto.Params[i]
	for j := range types {
		if len(types[j].c) > 0 && slices.Contains(types[j].c, strings.TrimPrefix(p.Type, "const ")) {
			return types[j].name
		}
	}
	if !p.Int {
		return "auto"
	}
	return numberType(p.Bits, p.Signed)
}

// numberType is the type of a number of so many bits.
func numberType(bits int, signed bool) string {
	if signed {
		return fmt.Sprintf("int%d", bits)
	}
	return fmt.Sprintf("uint%d", bits)
}

func rowOf(name string) *typeRow {
	for i := range types {
		if types[i].name == name {
			return &types[i]
		}
	}
	return nil
}

// typed is an argument whose type and source are known.
type typed struct {
	arg   *policy.Arg
	row   *typeRow // nil for "nop"
	value int      // index in plan.Hook.Values; -1: none
	rest  []int    // likewise, of further elements of an array
}

// typeArgs gives every argument of every hook a value.
func (c *compiler) typeArgs() {
	for _, h := range c.alive() {
		h.tracks = c.tracksSocks()
		for i := range h.common.Args {
			h.args = append(h.args, c.typeArg(h, &h.common.Args[i]))
		}
		if h.kprobe == nil {
			continue
		}
		for i := range h.kprobe.Data {
			h.data = append(h.data, c.typeData(h, &h.kprobe.Data[i]))
		}
		if h.kprobe.Return.Value && h.kprobe.ReturnArg != nil && !h.noReturn {
			t := c.typeReturn(h, h.kprobe.ReturnArg)
			h.ret = &t
		}
	}
	for _, h := range c.alive() {
		for _, t := range h.args {
			h.plan.Args = append(h.plan.Args, t.planArg())
			for _, v := range t.rest {
				a := t.planArg()
				a.Value = v
				h.plan.Args = append(h.plan.Args, a)
			}
		}
		for _, t := range h.data {
			h.plan.Data = append(h.plan.Data, t.planArg())
		}
		if h.ret != nil {
			a := h.ret.planArg()
			h.plan.Return = &a
		}
	}
}

func (t *typed) planArg() plan.Arg {
	name := "nop"
	if t.row != nil {
		name = t.row.name
	}
	return plan.Arg{Value: t.value, Type: name, Label: t.arg.Label.Value, Index: int(t.arg.Index.Value)}
}

// tracksSocks says whether some hook of the policy remembers who owns a socket.
func (c *compiler) tracksSocks() bool {
	for _, ks := range [][]policy.Kprobe{c.pol.Kprobes, c.pol.Fentries} {
		for i := range ks {
			if strings.EqualFold(ks[i].ReturnArgAction.Value, "TrackSock") {
				return true
			}
			for j := range ks[i].Selectors {
				for _, as := range [][]policy.Action{ks[i].Selectors[j].Actions, ks[i].Selectors[j].ReturnActions} {
					for k := range as {
						if strings.EqualFold(as[k].Action.Value, "TrackSock") {
							return true
						}
					}
				}
			}
		}
	}
	return false
}

// addValue gives a value its place among the hook's, once.
func (h *hook) addValue(v plan.Value) int {
	k := v.Key()
	for i := range h.plan.Values {
		if h.plan.Values[i].Key() == k {
			return i
		}
	}
	h.plan.Values = append(h.plan.Values, v)
	return len(h.plan.Values) - 1
}

func (c *compiler) typeArg(h *hook, a *policy.Arg) typed {
	t := typed{arg: a, value: -1}
	name := a.Type.Value
	i := int(a.Index.Value)
	if a.Source.Value != "" {
		c.d.Error(a.Source.Place, "arg-source", "an argument has no source").WithHint("data has: move it there")
		return t
	}
	if name == "nop" {
		return t
	}
	if i < 0 || h.access.count >= 0 && i >= h.access.count {
		d := c.d.Error(a.Index.Place, "arg-index", "%s has no parameter %d", h.what(), i)
		if h.access.proto != nil {
			d.WithNote("%s, from the kernel's types", h.access.proto)
		}
		return t
	}
	r := h.access.param(i)
	if r.why != "" {
		c.d.Error(a.Index.Place, "arg-unreachable", "%s", r.why)
		return t
	}
	var field *kernel.Field
	if h.access.field != nil {
		field = h.access.field(i)
	}
	if field != nil {
		if name == "auto" && a.Resolve.Value == "" {
			var hint string
			if name, hint = autoField(field); hint != "" {
				c.d.Error(a.Place, "arg-auto", "the type of field %s (%s) does not follow from its format", field.Name, field.Type).WithHint("%s", hint)
				return t
			}
		} else if name == "const_buf" {
			c.d.Error(a.Type.Place, "arg-type", "type const_buf is derived, not given").WithHint("leave the type out, or say auto")
			return t
		}
		if field.DataLoc && (name == "data_loc" || name == "string") {
			word := plan.Source{Kind: plan.SourceField, Off: int32(field.Off), Size: 4}
			t.row = rowOf("data_loc")
			t.value = h.addValue(plan.Value{Source: plan.Source{Kind: plan.SourceFieldAddr}, Type: plan.TypeDataLoc, Size: &word})
			return t
		}
	}
	if a.Resolve.Value != "" && h.user != nil { // the parser wants btfType and btfPath
		return c.follow(h, a, a.BTFType.Value, r.source, t)
	}
	if a.Resolve.Value != "" {
		return c.typeResolved(h, a, r, t)
	}
	if name == "auto" && h.lsm != nil {
		name = autoParam(h.access.proto, i)
	}
	switch {
	case name == "auto":
		c.d.Error(a.Place, "arg-auto", "argument %d of %s needs a type", i, h.what()).WithHint("type: int, string, file, ...")
		return t
	case name == "syscall64" && h.tp == nil:
		c.d.Error(a.Type.Place, "arg-type", "type syscall64 is for tracepoints")
		return t
	case name == "data_loc":
		c.d.Error(a.Type.Place, "arg-type", "type data_loc is for fields of tracepoints that are declared __data_loc")
		return t
	}
	if t.row = rowOf(name); t.row == nil {
		c.d.Error(a.Type.Place, "arg-type", "there is no type %q", name)
		return t
	}
	if t.row.typ == plan.TypeWords && len(r.rest) > 0 { // an element each
		t.row = rowOf("uint64")
		t.value = h.addValue(plan.Value{Source: r.source, Type: plan.TypeInt, Bits: 64})
		for _, s := range r.rest {
			t.rest = append(t.rest, h.addValue(plan.Value{Source: s, Type: plan.TypeInt, Bits: 64}))
		}
		return t
	}
	if t.row.typ == plan.TypeWords && field == nil {
		c.d.Error(a.Type.Place, "arg-type", "type const_buf is for fields of tracepoints")
		return t
	}
	if !c.userType(h, a, t.row) || field != nil && !c.checkField(a, t.row, field) {
		t.row = nil
		return t
	}
	c.checkParam(h, a, t.row, i, r)
	v := plan.Value{Source: r.source, Type: t.row.typ, Bits: t.row.bits, Signed: t.row.signed}
	if r.typ != plan.TypeUnknown {
		v.Type = r.typ
	}
	if t.row.load && !r.final {
		v.Source.Steps = append(slices.Clone(v.Source.Steps), plan.Step{Size: 8})
	}
	if v.Type == plan.TypeInt && !t.row.load {
		if h.access.proto != nil && i < len(h.access.proto.Params) {
			narrow(&v, &h.access.proto.Params[i])
		}
		if v.Source.Kind == plan.SourceSyscall && name != "syscall64" { // without the bit that tells 32-bit callers
			v.Source.Bits = 31
		}
	}
	if v.Type == plan.TypeWords {
		v.Bytes = int32(field.Size)
	}
	if !c.sizeArg(h, a, &v) {
		return t
	}
	c.finishValue(h, &v)
	t.value = h.addValue(v)
	return t
}

// narrow makes a number as wide as what the kernel passes, if the policy takes it for wider: the rest of the register is
// left over from something else.
func narrow(v *plan.Value, p *kernel.Param) {
	if p.Int && p.Bits > 0 && p.Bits < int(v.Bits) {
		v.Bits, v.Signed = uint8(p.Bits), p.Signed
	}
}

// finishValue completes a value of any origin.
func (c *compiler) finishValue(h *hook, v *plan.Value) {
	if v.Type == plan.TypeSock || v.Type == plan.TypeSocket {
		v.Track = h.tracks
	}
	if v.Type != plan.TypeInt {
		v.Bits, v.Signed = 0, false
	}
}

// sizeArg finds where the size of a buffer is.
func (c *compiler) sizeArg(h *hook, a *policy.Arg, v *plan.Value) bool {
	buffer := v.Type == plan.TypeBytes || v.Type == plan.TypeIovec
	if !buffer {
		if a.SizeArgIndex.Set && a.SizeArgIndex.Value > 0 {
			c.d.Warn(a.SizeArgIndex.Place, "unused-size", "type %s has no use for sizeArgIndex", a.Type.Value)
		}
		if a.ReturnCopy.Value {
			c.d.Error(a.ReturnCopy.Place, "return-copy", "returnCopy is for char_buf and char_iovec, not %s", a.Type.Value)
			return false
		}
		if a.MaxData.Value {
			c.d.Warn(a.MaxData.Place, "unused-max-data", "type %s has no use for maxData", a.Type.Value)
		}
		return true
	}
	v.Exit = a.ReturnCopy.Value
	if a.MaxData.Value {
		switch {
		case v.Exit || v.Type != plan.TypeBytes || h.tp != nil && !h.tp.Raw.Value:
			c.d.Warn(a.MaxData.Place, "unused-max-data", "maxData has no effect here: it is for char_buf without returnCopy, not of tracepoints")
		default:
			v.Max = true
		}
	}
	if n := a.SizeArgIndex.Value; n > 0 {
		i := int(n) - 1
		if h.access.count >= 0 && i >= h.access.count {
			c.d.Error(a.SizeArgIndex.Place, "size-arg-index", "%s has no parameter %d", h.what(), i).WithHint("sizeArgIndex counts from 1")
			return false
		}
		r := h.access.param(i)
		if r.why != "" {
			c.d.Error(a.SizeArgIndex.Place, "arg-unreachable", "%s", r.why)
			return false
		}
		src := r.source
		if p := h.access.proto; p != nil && i < len(p.Params) && p.Params[i].Int && p.Params[i].Bits < 64 && src.Kind == plan.SourceArg && len(src.Steps) == 0 {
			src.Bits, src.Signed = uint8(p.Params[i].Bits), p.Params[i].Signed
		}
		v.Size = &src
	}
	if v.Size == nil && !v.Exit {
		c.d.Error(a.Place, "no-size", "type %s needs to know how long it is", a.Type.Value).
			WithHint("sizeArgIndex: N names the parameter that says it, counted from 1; or returnCopy: true takes the return value")
		return false
	}
	return true
}

// autoField gives the type that follows from a field's format, or a hint what to say.
func autoField(f *kernel.Field) (name, hint string) {
	switch {
	case f.DataLoc:
		return "data_loc", ""
	case f.Elems > 0 && f.Size/f.Elems == 8 && (strings.Contains(f.Type, "long") || strings.Contains(f.Type, "64")):
		return "const_buf", ""
	case f.Elems > 0 && strings.HasPrefix(f.Type, "char["):
		return "string", ""
	case strings.HasPrefix(f.Type, "size_t"):
		return "size_t", ""
	case strings.HasSuffix(f.Type, "*"):
		return "", "type: string for a terminated one, char_buf with sizeArgIndex, or uint64 for the address"
	case f.Size == 8 && f.Signed:
		return "int64", ""
	case f.Size == 8:
		return "uint64", ""
	case f.Size == 4 && f.Signed:
		return "int32", ""
	case f.Size == 4:
		return "uint32", ""
	}
	return "", "type: int8, uint8, int16 or uint16"
}

// checkParam compares a declared type with what the kernel's types say. It warns: the kernel's types may say less than the
// author knows.
func (c *compiler) checkParam(h *hook, a *policy.Arg, row *typeRow, i int, r reached) {
	if h.access.proto == nil || r.typ != plan.TypeUnknown || i >= len(h.access.proto.Params) {
		return
	}
	p := h.access.proto.Params[i]
	if row.fits(&p) {
		return
	}
	d := c.d.Warn(a.Type.Place, "arg-type", "argument %d of %s is %s, not %q", i, h.what(), p.Type, row.name).
		WithNote("%s, from the kernel's types", h.access.proto)
	for j := range types {
		if len(types[j].c) > 0 && types[j].fits(&p) {
			d.WithHint("type: %s", types[j].name)
			break
		}
	}
}

func (r *typeRow) fits(p *kernel.Param) bool {
	if len(r.c) == 0 {
		return r.typ != plan.TypeInt || p.Int || r.bits == 64
	}
	t := strings.ReplaceAll(p.Type, "const ", "")
	for _, c := range r.c {
		if t == c || strings.HasSuffix(t, " "+c) {
			return true
		}
	}
	return false
}

// objects are the types of the kernel whose name alone tells how to read them.
var objects = map[string]string{
	"file": "file", "path": "path", "dentry": "dentry", "cred": "cred", "sock": "sock", "socket": "socket", "kernel_cap_t": "kernel_cap_t",
	"linux_binprm": "linux_binprm", "module": "module", "sk_buff": "skb", "user_namespace": "user_namespace", "net_device": "net_device",
	"bpf_map": "bpf_map", "bpf_prog": "bpf_prog", "filename": "filename", "kiocb": "kiocb", "perf_event": "perf_event",
}

// typeResolved follows a path of members from an argument.
func (c *compiler) typeResolved(h *hook, a *policy.Arg, r reached, t typed) typed {
	root := a.BTFType.Value
	if root == "" && h.access.proto != nil && a.Index.Value >= 0 && int(a.Index.Value) < len(h.access.proto.Params) {
		p := h.access.proto.Params[a.Index.Value]
		root = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(strings.ReplaceAll(p.Type, "const ", "")), "*"))
	}
	if root == "" {
		c.d.Error(a.Resolve.Place, "resolve", "the kernel's types do not say what argument %d of %s is", a.Index.Value, h.what()).
			WithHint("btfType names the struct that resolve begins with")
		return t
	}
	if r.final || r.typ != plan.TypeUnknown {
		c.d.Error(a.Resolve.Place, "resolve", "there is nothing to follow from argument %d: what stands for it is in the memory of the process", a.Index.Value)
		return t
	}
	return c.follow(h, a, root, r.source, t)
}

func (c *compiler) follow(h *hook, a *policy.Arg, root string, from plan.Source, t typed) typed {
	m, err := c.member(h, a, root)
	if err != nil {
		c.d.Error(a.Resolve.Place, "resolve", "%s cannot be followed from %s: %v", a.Resolve.Value, root, err)
		return t
	}
	name := a.Type.Value
	if name == "auto" {
		if name = memberType(m); name == "" || name == "uint64" && !m.Int || name == "string" {
			c.d.Error(a.Place, "arg-auto", "%s is %s: it needs a type", a.Resolve.Value, m.Type)
			return t
		}
	}
	if t.row = rowOf(name); t.row == nil {
		c.d.Error(a.Type.Place, "arg-type", "there is no type %q", name)
		return t
	}
	if !c.userType(h, a, t.row) {
		t.row = nil
		return t
	}
	v := plan.Value{Source: from, Type: t.row.typ, Bits: t.row.bits, Signed: t.row.signed}
	steps := stepsOf(m)
	if !c.checkMember(a, t.row, m) {
		t.row = nil
		return t
	}
	if t.row.typ == plan.TypeInt && m.Int {
		v.Bits, v.Signed = uint8(wholeBits(m.Bits)), m.Signed
		if int(t.row.bits) < m.Bits {
			c.d.Warn(a.Type.Place, "arg-width", "%s has %d bits, %q has %d", a.Resolve.Value, m.Bits, name, t.row.bits)
		}
	}
	if from.Kind == plan.SourceReg || h.user != nil && from.Kind != plan.SourceTask { // what a user program has, and what a system call is given points into the memory of the process
		for i := range steps {
			steps[i].User = !steps[i].Addr
		}
	}
	v.Source.Steps = append(slices.Clone(v.Source.Steps), steps...)
	if !c.sizeArg(h, a, &v) {
		return t
	}
	c.finishValue(h, &v)
	t.value = h.addValue(v)
	return t
}

// member follows resolve: in the module that btfTypeModule names; else in the kernel, and for a type that the kernel does not
// have in the module that has the function.
func (c *compiler) member(h *hook, a *policy.Arg, root string) (*kernel.Member, error) {
	if h.user != nil && a.Source.Value == "" {
		types, err := c.userTypes(h)
		if err != nil {
			return nil, err
		}
		return types.Follow(root, a.Resolve.Value)
	}
	if m := a.BTFTypeModule.Value; m != "" {
		return c.f.FollowModule(m, root, a.Resolve.Value)
	}
	m, err := c.f.Follow(root, a.Resolve.Value)
	if err != nil && h.plan.Attach.Module != "" {
		if own, ownErr := c.f.FollowModule(h.plan.Attach.Module, root, a.Resolve.Value); ownErr == nil {
			return own, nil
		}
	}
	return m, err
}

// wholeBits is the narrowest number that a bit field fits.
func wholeBits(n int) int {
	for _, w := range []int{8, 16, 32} {
		if n <= w {
			return w
		}
	}
	return 64
}

func (c *compiler) typeData(h *hook, a *policy.Arg) typed {
	t := typed{arg: a, value: -1}
	switch a.Source.Value {
	case "current_task":
		if a.Resolve.Value == "" {
			c.d.Error(a.Place, "resolve", "data needs resolve: which member of the task")
			return t
		}
		root := "task_struct"
		if a.BTFType.Value != "" {
			root = a.BTFType.Value
		}
		return c.follow(h, a, root, plan.Source{Kind: plan.SourceTask}, t)
	case "pt_regs":
		return c.typeRegister(h, a, t)
	default:
		c.d.Error(a.Place, "data-source", "data comes from current_task or pt_regs, not %q", a.Source.Value)
	}
	return t
}

func (c *compiler) typeReturn(h *hook, a *policy.Arg) typed {
	t := typed{arg: a, value: -1}
	name := a.Type.Value
	if t.row = rowOf(name); t.row == nil || name == "bpf_cmd" {
		c.d.Error(a.Place, "return-type", "the return value of %s needs a type, and it is not %q", h.what(), name)
		return t
	}
	if !c.userType(h, a, t.row) {
		t.row = nil
		return t
	}
	r := h.access.ret
	if r.why != "" {
		c.d.Error(a.Place, "arg-unreachable", "%s", r.why)
		return t
	}
	v := plan.Value{Source: r.source, Type: t.row.typ, Bits: t.row.bits, Signed: t.row.signed}
	if t.row.load && !r.final {
		v.Source.Steps = append(slices.Clone(v.Source.Steps), plan.Step{Size: 8})
	}
	if h.access.proto != nil && v.Type == plan.TypeInt && !t.row.load {
		narrow(&v, &h.access.proto.Return)
	}
	if v.Type == plan.TypeBytes || v.Type == plan.TypeIovec || v.Type == plan.TypeWords || v.Type == plan.TypeDataLoc {
		c.d.Error(a.Type.Place, "return-type", "a return value cannot be a %s", name)
		return t
	}
	c.finishValue(h, &v)
	t.value = h.addValue(v)
	return t
}

// register is where a register is read, by its name.
func register(name string) (plan.Source, bool) {
	r, ok := policy.Registers[name]
	return plan.Source{Kind: plan.SourceRegister, Off: r.Off, Bits: r.Bits}, ok
}

// wantsRegisters says whether an entry of data is a register.
func (h *hook) wantsRegisters() bool {
	if h.kprobe == nil {
		return false
	}
	for i := range h.kprobe.Data {
		if h.kprobe.Data[i].Source.Value == "pt_regs" {
			return true
		}
	}
	return false
}

// typeRegister makes data of a register: at the entry of the function, or of user space if it is a system call.
func (c *compiler) typeRegister(h *hook, a *policy.Arg, t typed) typed {
	src, ok := register(a.Resolve.Value)
	if !ok {
		c.d.Error(a.Resolve.Place, "unknown-register", "x86-64 has no register %q", a.Resolve.Value).WithHint("rax, edi, r8, r9d, ...")
		return t
	}
	name := a.Type.Value
	if name == "auto" {
		name = map[uint8]string{0: "uint64", 8: "uint8", 16: "uint16", 32: "uint32"}[src.Bits]
	}
	if t.row = rowOf(name); t.row == nil || t.row.typ == plan.TypeWords || t.row.typ == plan.TypeDataLoc {
		c.d.Error(a.Type.Place, "arg-type", "a register cannot be a %q", name)
		t.row = nil
		return t
	}
	if !c.userType(h, a, t.row) {
		t.row = nil
		return t
	}
	v := plan.Value{Source: src, Type: t.row.typ, Bits: t.row.bits, Signed: t.row.signed}
	if v.Type == plan.TypeInt && t.row.load {
		v.Source.Steps = []plan.Step{{Size: 8}}
	}
	if !c.sizeArg(h, a, &v) {
		return t
	}
	c.finishValue(h, &v)
	t.value = h.addValue(v)
	return t
}
