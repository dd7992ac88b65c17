// SPDX-License-Identifier: Apache-2.0

package gen

import (
	"runtime"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"tetragon/internal/policy/plan"
)

// entryArgs is how many arguments are kept: ENTRY_ARGS of bpf/arg/user.h.
const entryArgs = 6

// entryKey leaves what kept arguments are found by in R1 and R2: the function, and where the stack was at its entry.
func (b *body) entryKey() {
	r := registersOf[runtime.GOARCH]
	b.c.imm(asm.R1, b.o.Point)
	b.c.add(asm.LoadMem(asm.R2, asm.R9, r.stack, asm.DWord), asm.Add.Imm(asm.R2, -r.pushed))
}

// sleepable is BPF_F_SLEEPABLE of include/uapi/linux/bpf.h.
const sleepable = 1 << 4

// Where in a page a text is taken to reach into the next one, and the size of a page.
const (
	pageSize  = 4096
	nearlyEnd = pageSize - 256
)

// Touches says whether a program reads memory of user programs, and so wants another one before it that touches it.
func Touches(p *plan.Program) bool {
	return p.Attach.User != nil && slices.ContainsFunc(p.Values, touched)
}

func touched(v plan.Value) bool {
	return v.Type != plan.TypeInt && !isPath(v.Type) || slices.ContainsFunc(v.Source.Steps, func(s plan.Step) bool { return s.User })
}

// touch has the kernel bring in the memory of the user program that is going to be read: what a program has not touched
// itself before it passes it on, such as a constant, often is not there yet, and readers cannot wait. This program can; it
// runs before the other one and holds nothing meanwhile. What is not there afterwards is told as an error.
func (b *body) touch() {
	c := b.c
	for i := range b.p.Values {
		v := &b.p.Values[i]
		if !touched(*v) {
			continue
		}
		next := c.label()
		one := func() {
			c.add(asm.Mov.Reg(asm.R3, asm.R1), asm.Mov.Reg(asm.R1, asm.R10), asm.Add.Imm(asm.R1, stepAt), asm.Mov.Imm(asm.R2, 1),
				asm.FnCopyFromUser.Call())
		}
		b.source(&v.Source, next)
		if v.Type == plan.TypeInt {
			c.here(next)
			continue
		}
		c.add(asm.StoreMem(asm.R10, auxAt, asm.R1, asm.DWord))
		one()
		c.add(asm.LoadMem(asm.R1, asm.R10, auxAt, asm.DWord), asm.Mov.Reg(asm.R2, asm.R1), asm.And.Imm(asm.R2, pageSize-1),
			asm.JLT.Imm(asm.R2, nearlyEnd, next), asm.Add.Imm(asm.R1, pageSize-nearlyEnd))
		one()
		c.here(next)
	}
}

// Places on the stack of the program that keeps arguments: struct entry_key and struct entry of bpf/arg/user.h.
const (
	entryKeyAt = -24
	entryAt    = entryKeyAt - 8*entryArgs
)

// Entry makes the program that keeps what functions of user programs are given. It is the same for all: the cookie says
// which function. multi: it is attached by a link for several places.
func Entry(lib *ebpf.ProgramSpec, multi bool) (*ebpf.ProgramSpec, error) {
	r := registersOf[runtime.GOARCH]
	c := newCode()
	c.add(
		asm.Mov.Reg(asm.R9, asm.R1),
		asm.FnGetAttachCookie.Call(), asm.StoreMem(asm.R10, entryKeyAt+16, asm.R0, asm.DWord),
		asm.FnGetCurrentPidTgid.Call(), asm.StoreMem(asm.R10, entryKeyAt, asm.R0, asm.DWord),
		asm.LoadMem(asm.R1, asm.R9, r.stack, asm.DWord), asm.StoreMem(asm.R10, entryKeyAt+8, asm.R1, asm.DWord),
	)
	for i := range entryArgs {
		c.add(asm.LoadMem(asm.R1, asm.R9, r.call[i], asm.DWord), asm.StoreMem(asm.R10, int16(entryAt+8*i), asm.R1, asm.DWord))
	}
	c.add(
		asm.LoadMapPtr(asm.R1, 0).WithReference("entries"),
		asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, entryKeyAt),
		asm.Mov.Reg(asm.R3, asm.R10), asm.Add.Imm(asm.R3, entryAt),
		asm.Mov.Imm(asm.R4, 0), asm.FnMapUpdateElem.Call(),
		asm.Mov.Imm(asm.R0, 0), asm.Return(),
	)
	ins, err := c.finish()
	if err != nil {
		return nil, err
	}
	spec, err := splice(lib, functions(lib.Instructions)[0].name, ins)
	if err != nil {
		return nil, err
	}
	spec.Name, spec.Type, spec.AttachTo, spec.AttachType = "t_entry", ebpf.Kprobe, "", ebpf.AttachNone
	if multi {
		spec.AttachType = ebpf.AttachTraceUprobeMulti
	}
	return spec, nil
}
