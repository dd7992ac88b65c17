// SPDX-License-Identifier: Apache-2.0

package gen

import (
	"runtime"

	"github.com/cilium/ebpf/asm"

	"tetragon/internal/policy/plan"
)

// registers holds the offsets in struct pt_regs of what a call passes.
type registers struct {
	syscall [6]int16 // arguments of a system call, as the entry code saves them
	compat  [6]int16 // of a 32-bit one
	call    []int16  // arguments of a function
	number  int16    // number of the system call under way
	result  int16
	stack   int16 // the stack pointer
	pushed  int32 // what the entry of a function has on the stack more than its return
}

// kernel: struct pt_regs, arch/x86/include/asm/ptrace.h and arch/arm64/include/asm/ptrace.h; they are part of the ABI.
var registersOf = map[string]registers{
	"amd64": {
		syscall: [6]int16{112, 104, 96, 56, 72, 64}, // di si dx r10 r8 r9
		compat:  [6]int16{40, 88, 96, 104, 112, 32}, // bx cx dx si di bp
		call:    []int16{112, 104, 96, 88, 72, 64},  // di si dx cx r8 r9
		number:  120,                                // orig_ax
		result:  80,                                 // ax
		stack:   152,                                // sp
		pushed:  8,                                  // the return address
	},
	"arm64": {
		syscall: [6]int16{0, 8, 16, 24, 32, 40},
		compat:  [6]int16{0, 8, 16, 24, 32, 40},
		call:    []int16{0, 8, 16, 24, 32, 40, 48, 56},
		number:  64, // x8; syscallno lies behind it
		result:  0,
		stack:   248,
	},
}

// source leaves a raw value in R1, or goes to fail with the number of the load that failed at stepNAt. R0 to R5 are lost.
func (b *body) source(s *plan.Source, fail string) {
	b.start(s, fail)
	if s.Bits > 0 {
		b.cut(int(s.Bits), s.Signed)
	}
	b.steps(s, fail)
}

// start leaves the value that a source begins with in R1.
func (b *body) start(s *plan.Source, fail string) {
	c := b.c
	a := &b.p.Attach
	switch s.Kind {
	case plan.SourceConst:
		c.imm(asm.R1, uint64(s.N))
	case plan.SourceArg:
		b.argument(int(s.N))
	case plan.SourceReg:
		b.register(int(s.N), fail)
	case plan.SourceReturn:
		b.result0()
	case plan.SourceErr:
		b.result0()
		neg := c.label()
		if a.Backend != plan.BackendSysExit { // an int, extended
			c.add(asm.LSh.Imm(asm.R1, 32), asm.ArSh.Imm(asm.R1, 32))
		}
		c.add(asm.JSLT.Imm(asm.R1, 0, neg))
		c.imm(asm.R1, uint64(s.N))
		c.here(neg)
	case plan.SourceField:
		b.fieldOf(s)
	case plan.SourceFieldAddr:
		b.contextAddress()
		c.add(asm.Add.Imm(asm.R1, s.Off))
	case plan.SourceTask:
		c.add(asm.FnGetCurrentTask.Call(), asm.Mov.Reg(asm.R1, asm.R0))
	case plan.SourceCred:
		c.add(call("task_cred"), asm.Mov.Reg(asm.R1, asm.R0))
	case plan.SourceSyscall:
		b.syscallNumber(fail)
	case plan.SourceRegister:
		b.savedRegister(s.Off, fail)
		if s.Scale != 0 {
			c.add(asm.StoreMem(asm.R10, auxAt, asm.R1, asm.DWord))
			b.savedRegister(s.Index, fail)
			c.add(asm.Mul.Imm(asm.R1, int32(s.Scale)), asm.LoadMem(asm.R2, asm.R10, auxAt, asm.DWord), asm.Add.Reg(asm.R1, asm.R2))
		}
	case plan.SourceFdFile:
		if s.N < 0 { // an error is no descriptor, and so has no file
			b.result0()
		} else {
			b.register(int(s.N), fail)
		}
		c.add(asm.Mov.Reg32(asm.R1, asm.R1), call("fd_file"), asm.Mov.Reg(asm.R1, asm.R0))
	default:
		b.fail("a value has no source")
	}
}

// argument leaves parameter n of the function or tracepoint in R1.
func (b *body) argument(n int) {
	c := b.c
	switch b.p.Attach.Backend {
	case plan.BackendFentry, plan.BackendFexit, plan.BackendFmodRet:
		// A plain load would give a typed pointer, which no function of the library takes.
		c.add(
			asm.Mov.Reg(asm.R1, asm.R9), asm.Mov.Imm(asm.R2, int32(n)), asm.Mov.Reg(asm.R3, asm.R10), asm.Add.Imm(asm.R3, stepAt),
			asm.FnGetFuncArg.Call(), asm.LoadMem(asm.R1, asm.R10, stepAt, asm.DWord),
		)
	case plan.BackendKprobe, plan.BackendKprobeMulti, plan.BackendUprobe:
		r := registersOf[runtime.GOARCH].call
		if n >= len(r) {
			b.fail("parameter %d is not in a register", n)
			return
		}
		c.add(asm.LoadMem(asm.R1, asm.R9, r[n], asm.DWord))
	case plan.BackendUretprobe:
		if n >= entryArgs {
			b.fail("parameter %d is not kept", n)
			return
		}
		b.entryKey()
		c.add(asm.Mov.Imm(asm.R3, int32(n)), call("entry_arg"), asm.Mov.Reg(asm.R1, asm.R0))
	case plan.BackendRawTp, plan.BackendTp:
		c.add(asm.LoadMem(asm.R1, asm.R9, int16(8*n), asm.DWord))
	case plan.BackendSockOps:
		// kernel: struct bpf_sock_ops_kern { struct sock *sk; ... }
		b.contextAddress()
		b.read(asm.R1, 0, 8, false, b.out)
		c.add(asm.LoadMem(asm.R1, asm.R10, stepAt, asm.DWord))
	case plan.BackendLSM: // likewise; not all kernels have that function for these programs
		b.contextAddress()
		b.read(asm.R1, int64(8*n), 8, false, b.out)
		c.add(asm.LoadMem(asm.R1, asm.R10, stepAt, asm.DWord))
	case plan.BackendSockCreate, plan.BackendSockRelease, // kernel: the context of these programs is the struct sock
		plan.BackendConnect4, plan.BackendConnect6, plan.BackendBind4, plan.BackendBind6: // kernel: ... a struct bpf_sock_addr_kern
		b.contextAddress()
	default:
		b.fail("%s has no parameters", b.p.Attach.Backend)
	}
}

// contextAddress leaves the address of the context in R1, as a number: the stack holds it, and reading the stack as memory
// makes the verifier forget what it is.
func (b *body) contextAddress() {
	c := b.c
	c.add(asm.StoreMem(asm.R10, auxAt, asm.R9, asm.DWord), asm.Mov.Reg(asm.R1, asm.R10), asm.Add.Imm(asm.R1, auxAt))
	b.readPtr(asm.R1, 8)
	c.add(asm.LoadMem(asm.R1, asm.R10, stepAt, asm.DWord))
}

// readPtr copies size bytes from the address in reg, which may be a pointer, to stepAt. The read does not fail.
func (b *body) readPtr(reg asm.Register, size int32) {
	b.c.add(
		asm.Mov.Reg(asm.R3, reg), asm.Mov.Reg(asm.R1, asm.R10), asm.Add.Imm(asm.R1, stepAt), asm.Mov.Imm(asm.R2, size),
		asm.FnProbeReadKernel.Call(),
	)
}

// read copies size bytes from address reg+off to stepAt, or goes to fail.
func (b *body) read(reg asm.Register, off int64, size int32, user bool, fail string) {
	c := b.c
	c.add(asm.Mov.Reg(asm.R3, reg))
	if off != 0 {
		if off != int64(int32(off)) {
			b.fail("an offset of %d bytes is out of reach", off)
			return
		}
		c.add(asm.Add.Imm(asm.R3, int32(off)))
	}
	fn := asm.FnProbeReadKernel
	if user {
		if fn = asm.FnProbeReadUser; b.o.Touch {
			fn = asm.FnCopyFromUser
		}
	}
	c.add(asm.Mov.Reg(asm.R1, asm.R10), asm.Add.Imm(asm.R1, stepAt), asm.Mov.Imm(asm.R2, size), fn.Call(), asm.JNE.Imm(asm.R0, 0, fail))
}

// register leaves argument n of the system call in R1.
func (b *body) register(n int, fail string) {
	c := b.c
	a := &b.p.Attach
	if n < 0 || n > 5 {
		b.fail("a system call has six arguments, not %d", n+1)
		return
	}
	compat := a.Compat || b.o.Compat
	off := registersOf[runtime.GOARCH].syscall[n]
	if compat {
		off = registersOf[runtime.GOARCH].compat[n]
	}
	switch a.Backend {
	case plan.BackendFentry, plan.BackendFexit, plan.BackendFmodRet: // typed: loads go through memory by themselves
		c.add(asm.LoadMem(asm.R1, asm.R9, 0, asm.DWord), asm.LoadMem(asm.R1, asm.R1, off, asm.DWord))
	case plan.BackendKprobe, plan.BackendKprobeMulti:
		b.argument(0)
		b.read(asm.R1, int64(off), 8, false, fail)
		c.add(asm.LoadMem(asm.R1, asm.R10, stepAt, asm.DWord))
	case plan.BackendRawTp: // of callers of either kind
		native, done := c.label(), c.label()
		c.add(call("task_compat"), asm.JEq.Imm(asm.R0, 0, native), asm.LoadMem(asm.R1, asm.R9, 0, asm.DWord))
		b.read(asm.R1, int64(registersOf[runtime.GOARCH].compat[n]), 8, false, fail)
		c.add(asm.LoadMem(asm.R1, asm.R10, stepAt, asm.Word))
		c.jump(done)
		c.here(native)
		c.add(asm.LoadMem(asm.R1, asm.R9, 0, asm.DWord))
		b.read(asm.R1, int64(off), 8, false, fail)
		c.add(asm.LoadMem(asm.R1, asm.R10, stepAt, asm.DWord))
		c.here(done)
	case plan.BackendSysEnter, plan.BackendSysExit:
		c.add(asm.LoadMem(asm.R1, asm.R9, 0, asm.DWord))
		b.read(asm.R1, int64(off), 8, false, fail)
		c.add(asm.LoadMem(asm.R1, asm.R10, stepAt, asm.DWord))
	default:
		b.fail("%s has no system call", a.Backend)
		return
	}
	if compat {
		c.add(asm.Mov.Reg32(asm.R1, asm.R1))
	}
}

// savedRegister leaves the register at an offset of struct pt_regs in R1: that of user space if the hook is a system call.
func (b *body) savedRegister(off int32, fail string) {
	c := b.c
	a := &b.p.Attach
	if off < 0 || off > 160 || off%8 != 0 { // kernel: struct pt_regs ends with ss
		b.fail("there is no register at offset %d", off)
		return
	}
	switch {
	case a.Backend == plan.BackendKprobe && !a.Regs, a.Backend == plan.BackendUprobe:
		c.add(asm.LoadMem(asm.R1, asm.R9, int16(off), asm.DWord))
	case (a.Backend == plan.BackendFentry || a.Backend == plan.BackendFexit || a.Backend == plan.BackendFmodRet) && a.Regs:
		c.add(asm.LoadMem(asm.R1, asm.R9, 0, asm.DWord), asm.LoadMem(asm.R1, asm.R1, int16(off), asm.DWord))
	case (a.Backend == plan.BackendKprobe || a.Backend == plan.BackendKprobeMulti) && a.Regs:
		b.argument(0)
		b.read(asm.R1, int64(off), 8, false, fail)
		c.add(asm.LoadMem(asm.R1, asm.R10, stepAt, asm.DWord))
	case a.Backend == plan.BackendSysEnter || a.Backend == plan.BackendSysExit:
		c.add(asm.LoadMem(asm.R1, asm.R9, 0, asm.DWord))
		b.read(asm.R1, int64(off), 8, false, fail)
		c.add(asm.LoadMem(asm.R1, asm.R10, stepAt, asm.DWord))
	default:
		b.fail("%s has no registers", a.Backend)
	}
}

// result0 leaves the return value in R1.
func (b *body) result0() {
	c := b.c
	switch b.p.Attach.Backend {
	case plan.BackendFexit:
		c.add(
			asm.Mov.Reg(asm.R1, asm.R9), asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, stepAt),
			asm.FnGetFuncRet.Call(), asm.LoadMem(asm.R1, asm.R10, stepAt, asm.DWord),
		)
	case plan.BackendSysExit, plan.BackendRawTp:
		c.add(asm.LoadMem(asm.R1, asm.R9, 8, asm.DWord))
	case plan.BackendKretprobe, plan.BackendUretprobe:
		c.add(asm.LoadMem(asm.R1, asm.R9, registersOf[runtime.GOARCH].result, asm.DWord))
	default:
		b.fail("%s sees no return value", b.p.Attach.Backend)
	}
}

// fieldOf leaves a field of a tracepoint's record in R1.
func (b *body) fieldOf(s *plan.Source) {
	c := b.c
	if b.p.Attach.Backend != plan.BackendTracepoint {
		b.fail("%s has no record with fields", b.p.Attach.Backend)
		return
	}
	size, ok := sizes[s.Size]
	if !ok || s.Off%int32(s.Size) != 0 {
		b.fail("a field of %d bytes at offset %d cannot be loaded", s.Size, s.Off)
		return
	}
	c.add(asm.LoadMem(asm.R1, asm.R9, int16(s.Off), size))
	if s.Signed {
		b.cut(int(s.Size)*8, true)
	}
}

var sizes = map[uint8]asm.Size{1: asm.Byte, 2: asm.Half, 4: asm.Word, 8: asm.DWord}

// syscallNumber leaves the number of the system call in R1, with bit 31 set for 32-bit callers.
func (b *body) syscallNumber(fail string) {
	c := b.c
	a := &b.p.Attach
	entry := a.Backend == plan.BackendSysEnter || a.Symbol == "sys_enter"
	if entry {
		c.add(asm.LoadMem(asm.R1, asm.R9, 8, asm.DWord))
	} else {
		c.add(asm.LoadMem(asm.R1, asm.R9, 0, asm.DWord))
		b.read(asm.R1, int64(registersOf[runtime.GOARCH].number), 8, false, fail)
		c.add(asm.LoadMem(asm.R1, asm.R10, stepAt, asm.DWord))
	}
	c.add(asm.Mov.Reg32(asm.R1, asm.R1))
	switch {
	case a.Backend == plan.BackendSysEnter || a.Backend == plan.BackendSysExit:
		if b.o.Compat {
			c.add(asm.LoadImm(asm.R2, 1<<31, asm.DWord), asm.Or.Reg(asm.R1, asm.R2))
		}
	default:
		c.add(
			asm.StoreMem(asm.R10, auxAt, asm.R1, asm.DWord), call("task_compat"), asm.LSh.Imm(asm.R0, 31),
			asm.LoadMem(asm.R1, asm.R10, auxAt, asm.DWord), asm.Or.Reg(asm.R1, asm.R0),
		)
	}
}

// steps follows a source through memory.
func (b *body) steps(s *plan.Source, fail string) {
	c := b.c
	for i := range s.Steps {
		st := &s.Steps[i]
		if st.Addr {
			c.add(asm.Add.Imm(asm.R1, int32(st.Off)))
			continue
		}
		bad := c.label()
		if st.Halves { // two words of 32 bits, 12 bytes apart: struct __user_cap_data_struct[2]
			c.add(asm.StoreMem(asm.R10, auxAt, asm.R1, asm.DWord))
			b.read(asm.R1, st.Off, 4, st.User, bad)
			c.add(asm.LoadMem(asm.R2, asm.R10, stepAt, asm.Word), asm.LoadMem(asm.R1, asm.R10, auxAt, asm.DWord),
				asm.StoreMem(asm.R10, auxAt, asm.R2, asm.DWord))
			b.read(asm.R1, st.Off+12, 4, st.User, bad)
			c.add(asm.LoadMem(asm.R1, asm.R10, stepAt, asm.Word), asm.LSh.Imm(asm.R1, 32),
				asm.LoadMem(asm.R2, asm.R10, auxAt, asm.DWord), asm.Or.Reg(asm.R1, asm.R2))
		} else {
			size, ok := sizes[st.Size]
			if !ok {
				b.fail("a load of %d bytes is not possible", st.Size)
				return
			}
			b.read(asm.R1, st.Off, int32(st.Size), st.User, bad)
			c.add(asm.LoadMem(asm.R1, asm.R10, stepAt, size))
			switch {
			case st.Bits > 0:
				b.bitField(int(st.Shift), int(st.Bits), st.Signed)
			case st.Signed:
				b.cut(int(st.Size)*8, true)
			}
		}
		on := c.label()
		c.jump(on)
		c.here(bad)
		c.add(storeImm64(asm.R10, stepNAt, int64(i+1)))
		c.jump(fail)
		c.here(on)
	}
}

// bitField leaves so many bits of R1, from bit shift on, in R1, extended.
func (b *body) bitField(shift, bits int, signed bool) {
	down := asm.RSh
	if signed {
		down = asm.ArSh
	}
	b.c.add(asm.LSh.Imm(asm.R1, int32(64-shift-bits)), down.Imm(asm.R1, int32(64-bits)))
}

// cut reduces R1 to so many bits and extends it.
func (b *body) cut(bits int, signed bool) {
	c := b.c
	switch {
	case bits >= 64:
	case bits == 32 && !signed:
		c.add(asm.Mov.Reg32(asm.R1, asm.R1))
	case signed:
		c.add(asm.LSh.Imm(asm.R1, int32(64-bits)), asm.ArSh.Imm(asm.R1, int32(64-bits)))
	default:
		b.andImm(asm.R1, 1<<bits-1)
	}
}

// integer leaves an integer value in R1, or goes to fail. A value that is loaded through memory and that filters look at
// is loaded once: another thread may change what the second load would see.
func (b *body) integer(i int, fail string) {
	c := b.c
	v := &b.p.Values[i]
	if _, kept := b.slots[i]; !kept {
		b.source(&v.Source, fail)
		b.cut(int(v.Bits), v.Signed)
		return
	}
	at := b.slotAt(i)
	read, done, bad := c.label(), c.label(), c.label()
	c.add(asm.LoadMem(asm.R1, asm.R10, at-8, asm.DWord), asm.JEq.Imm(asm.R1, intUnknown, read), asm.JEq.Imm(asm.R1, intBad, fail),
		asm.LoadMem(asm.R1, asm.R10, at, asm.DWord))
	c.jump(done)
	c.here(read)
	b.source(&v.Source, bad)
	b.cut(int(v.Bits), v.Signed)
	c.add(asm.StoreMem(asm.R10, at, asm.R1, asm.DWord), storeImm64(asm.R10, at-8, intKnown))
	c.jump(done)
	c.here(bad)
	c.add(storeImm64(asm.R10, at-8, intBad))
	c.jump(fail)
	c.here(done)
}

// What is known of an integer that is kept.
const (
	intUnknown = iota
	intKnown
	intBad
)
