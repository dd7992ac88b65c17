// SPDX-License-Identifier: Apache-2.0

package gen

import (
	"github.com/cilium/ebpf/asm"

	"tetragon/internal/policy/plan"
)

// readers are the library's functions that append a value to the record, or walk to a path.
var readers = map[plan.Type]string{
	plan.TypeString: "arg_string", plan.TypeBytes: "arg_bytes", plan.TypeIovec: "arg_iovec", plan.TypeIovIter: "arg_iov_iter",
	plan.TypeFilename: "arg_filename", plan.TypeSock: "arg_sock", plan.TypeSocket: "arg_socket", plan.TypeSkb: "arg_skb",
	plan.TypeSockaddr: "arg_sockaddr", plan.TypeSockaddrUn: "arg_sockaddr_un", plan.TypeNetDevice: "arg_netdev",
	plan.TypeCred: "arg_cred", plan.TypeUserNS: "arg_user_ns", plan.TypeBpfAttr: "arg_bpf_attr",
	plan.TypeBpfMapAttr: "arg_bpf_map_attr", plan.TypeBpfProg: "arg_bpf_prog", plan.TypeBpfMap: "arg_bpf_map",
	plan.TypePerfEvent: "arg_perf_event", plan.TypePerfAttr: "arg_perf_attr", plan.TypeModule: "arg_module",
	plan.TypeLoadInfo: "arg_load_info", plan.TypeDataLoc: "arg_dataloc", plan.TypeWords: "arg_words",

	plan.TypeFile: "path_file", plan.TypePath: "path_path", plan.TypeFd: "path_fd", plan.TypeDentry: "path_dentry",
	plan.TypeKiocb: "path_kiocb", plan.TypeBinprm: "path_binprm",
}

// isPath says whether a value is a path, which is walked first and then put into the record.
func isPath(t plan.Type) bool {
	switch t {
	case plan.TypeFile, plan.TypePath, plan.TypeFd, plan.TypeDentry, plan.TypeKiocb, plan.TypeBinprm:
		return true
	}
	return false
}

// readInto calls the reader of a value. R0 becomes what the reader says: negative if it could not read.
func (b *body) readInto(i int) {
	c := b.c
	v := &b.p.Values[i]
	name, ok := readers[v.Type]
	if !ok {
		b.fail("nothing reads a value of type %d", v.Type)
		return
	}
	bad, done := c.label(), c.label()
	if isPath(v.Type) {
		b.source(&v.Source, bad)
		b.userOnly(v)
		c.add(asm.Mov.Reg(asm.R2, asm.R1), asm.LoadMem(asm.R1, asm.R10, bufAt, asm.Word), call(name))
		c.jump(done)
		c.here(bad)
		c.add(asm.Mov.Imm(asm.R0, -1))
		c.here(done)
		return
	}
	// A second source is read first and kept while the first one is.
	second := false
	switch {
	case v.Exit:
		b.result0()
		second = true
	case v.Size != nil:
		b.source(v.Size, bad)
		second = true
	}
	if second {
		c.add(asm.StoreMem(asm.R10, sizeAt, asm.R1, asm.DWord))
	}
	if v.Max {
		name = "arg_bytes_max"
	}
	b.source(&v.Source, bad)
	b.userOnly(v)
	c.add(asm.Mov.Reg(asm.R3, asm.R1), asm.LoadMem(asm.R1, asm.R10, bufAt, asm.Word), asm.Mov.Imm(asm.R2, int32(i)))
	switch v.Type {
	case plan.TypeSock, plan.TypeSocket:
		owner := int32(0)
		if v.Track {
			owner = int32(v.Owner)
		}
		c.add(asm.Mov.Imm(asm.R4, owner))
	case plan.TypeBytes, plan.TypeDataLoc:
		if !second {
			b.fail("a buffer has no size")
			return
		}
		c.add(asm.LoadMem(asm.R4, asm.R10, sizeAt, asm.DWord))
	case plan.TypeIovec:
		if v.Exit { // the return value limits the bytes, Size the vectors
			c.add(asm.LoadMem(asm.R5, asm.R10, sizeAt, asm.DWord), asm.StoreMem(asm.R10, limitAt, asm.R5, asm.DWord))
			if v.Size != nil {
				c.add(asm.StoreMem(asm.R10, auxAt, asm.R3, asm.DWord))
				b.source(v.Size, bad)
				c.add(asm.Mov.Reg(asm.R4, asm.R1), asm.LoadMem(asm.R3, asm.R10, auxAt, asm.DWord),
					asm.LoadMem(asm.R1, asm.R10, bufAt, asm.Word), asm.Mov.Imm(asm.R2, int32(i)))
			} else {
				c.add(asm.Mov.Imm(asm.R4, 1024))
			}
			c.add(asm.LoadMem(asm.R5, asm.R10, limitAt, asm.DWord))
		} else {
			c.add(asm.LoadMem(asm.R4, asm.R10, sizeAt, asm.DWord), asm.Mov.Imm(asm.R5, 0))
		}
	case plan.TypeWords:
		c.add(asm.Mov.Imm(asm.R4, v.Bytes))
	}
	c.add(call(name))
	c.jump(done)
	c.here(bad)
	c.add(asm.LoadMem(asm.R1, asm.R10, bufAt, asm.Word), asm.Mov.Imm(asm.R2, int32(i)), asm.Mov.Imm(asm.R3, 0), call("arg_int_error"),
		asm.Mov.Imm(asm.R0, -1))
	c.here(done)
}

// userOnly makes nothing of a kernel address in R1 if user space chose it: a program may pass what it likes, and the kernel's
// memory is not told. The reader then says that nothing can be read.
func (b *body) userOnly(v *plan.Value) {
	if v.Type == plan.TypeFd || !b.p.Attach.FromUser(&v.Source) {
		return
	}
	mine := b.c.label()
	b.c.add(asm.JSGE.Imm(asm.R1, 0, mine), asm.Mov.Imm(asm.R1, 0))
	b.c.here(mine)
}

// appendPath puts the path that was walked last, whose length is in R3, into the record as value i.
func (b *body) appendPath(i int) {
	c := b.c
	c.add(asm.LoadMem(asm.R1, asm.R10, bufAt, asm.Word), asm.Mov.Imm(asm.R2, int32(i)), call("arg_path"))
	if _, ok := b.slots[i]; ok {
		c.add(storeImm64(asm.R10, b.slotAt(i), 1)) // it is there, whatever it says
	}
}

// wanted is the set of rules for which value i must be in the record.
func (b *body) wanted(i int) ruleSet {
	var s ruleSet
	for g := range b.p.Groups {
		group := &b.p.Groups[g]
		h := group.Hook
		in := func(v int) bool { return v >= 0 && v < len(group.Values) && group.Values[v] == i }
		shown := false
		for _, as := range [][]plan.Arg{h.Args, h.Data} {
			for _, a := range as {
				shown = shown || in(a.Value)
			}
		}
		if h.Return != nil {
			shown = shown || in(h.Return.Value)
		}
		for r := range h.Rules {
			rule := &b.p.Rules[group.First+r]
			want := shown && rule.Do.Post
			for _, t := range rule.Do.Track {
				want = want || t.Value == i // of the program: merging has rewritten it
			}
			if want {
				s.add(group.First + r)
			}
		}
	}
	return s
}

// gather appends every value to the record that a live rule wants and that no filter has read already.
func (b *body) gather() {
	c := b.c
	for i := range b.p.Values {
		who := b.wanted(i)
		if who.empty() {
			continue
		}
		next := c.label()
		b.ifNone(who, next)
		v := &b.p.Values[i]
		if v.Type == plan.TypeInt {
			bad := c.label()
			b.integer(i, bad)
			c.add(asm.Mov.Reg(asm.R3, asm.R1), asm.LoadMem(asm.R1, asm.R10, bufAt, asm.Word), asm.Mov.Imm(asm.R2, int32(i)), call("arg_int"))
			c.jump(next)
			c.here(bad)
			c.add(asm.LoadMem(asm.R1, asm.R10, bufAt, asm.Word), asm.Mov.Imm(asm.R2, int32(i)))
			if len(v.Source.Steps) > 0 {
				c.add(asm.LoadMem(asm.R3, asm.R10, stepNAt, asm.DWord))
			} else {
				c.add(asm.Mov.Imm(asm.R3, 0))
			}
			c.add(call("arg_int_error"))
		} else {
			if _, ok := b.slots[i]; ok {
				c.add(asm.LoadMem(asm.R1, asm.R10, b.slotAt(i), asm.DWord), asm.JNE.Imm(asm.R1, 0, next))
			}
			b.readInto(i)
			if isPath(v.Type) {
				c.add(asm.Mov.Reg(asm.R3, asm.R0))
				b.appendPath(i)
			}
		}
		c.here(next)
	}
	b.stacks()
	b.tellHash()
}

// stackBytes is the room for 127 frames, the kernel's default limit (sysctl kernel.perf_event_max_stack).
const stackBytes = 127 * 8

// Kinds of values and a flag, as in bpf/abi/hook.h and include/uapi/linux/bpf.h; the package's test compares the former.
const (
	valKernelStack = 16
	valUserStack   = 17
	userStackFlag  = 1 << 8 // BPF_F_USER_STACK
)

// stacks appends the stacks that live rules want.
func (b *body) stacks() {
	c := b.c
	for _, s := range []struct {
		want  func(*plan.Actions) bool
		kind  int32
		flags int32
	}{
		{func(a *plan.Actions) bool { return a.KernelStack }, valKernelStack, 0},
		{func(a *plan.Actions) bool { return a.UserStack }, valUserStack, userStackFlag},
	} {
		var who ruleSet
		for i := range b.p.Rules {
			if b.p.Rules[i].Do.Post && s.want(&b.p.Rules[i].Do) {
				who.add(i)
			}
		}
		if who.empty() {
			continue
		}
		if b.p.Attach.Backend.Cgroup() {
			b.fail("%s has no stack to show", b.p.Attach.Backend)
			return
		}
		next := c.label()
		b.ifNone(who, next)
		b.bufPtr()
		c.add(
			asm.Mov.Reg(asm.R1, asm.R9), asm.Mov.Reg(asm.R2, asm.R7), asm.Add.Imm(asm.R2, b.o.Layout.path),
			asm.Mov.Imm(asm.R3, stackBytes), asm.Mov.Imm(asm.R4, s.flags), asm.FnGetStack.Call(),
			asm.Mov.Reg(asm.R3, asm.R0), asm.LoadMem(asm.R1, asm.R10, bufAt, asm.Word), asm.Mov.Imm(asm.R2, s.kind), call("stack_put"),
		)
		c.here(next)
	}
}
