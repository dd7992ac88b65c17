// SPDX-License-Identifier: Apache-2.0

// Package gen makes the eBPF programs of policy hooks: it turns a plan.Program into instructions.
//
// A body is a generated main function and the functions of the C library (bpf/arg, bpf/stage) that it calls. The main
// function keeps a mask of live rules, one bit each, and ANDs one dimension after the other into it, the cheapest first,
// leaving as soon as nothing is left. Every comparison of every policy on one thing is one decision tree: sorted break
// points with a constant mask at each leaf. So the cost of a call that no rule wants does not depend on their number.
//
// Registers of a main function: R9 is the context all the way, R6 the live rules if they fit one word (else they are on
// the stack), R7 and R8 the place and the length of what is being compared.
//
// Not here: what is compared (policy/compile), maps and attaching (sensor), the same decisions in Go (policy/simulate).
package gen

import (
	"fmt"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// maxJump is how far a conditional jump reaches, in instructions, with a margin.
const maxJump = 32000

// code is a program under construction. Labels are resolved at the end, so several may name one place.
type code struct {
	ins    asm.Instructions
	labels map[string]int // label -> index of the instruction that it names
	next   int
}

func newCode() *code { return &code{labels: make(map[string]int)} }

func (c *code) add(ins ...asm.Instruction) { c.ins = append(c.ins, ins...) }

// label makes a new name for a place.
func (c *code) label() string {
	c.next++
	return "L" + strconv.Itoa(c.next)
}

// here says that the next instruction is the one that the label names.
func (c *code) here(label string) { c.labels[label] = len(c.ins) }

func (c *code) jump(label string) { c.add(asm.Ja.Label(label)) }

// imm loads a constant, in the shortest form.
func (c *code) imm(dst asm.Register, v uint64) {
	if int64(v) == int64(int32(v)) {
		c.add(asm.Mov.Imm(dst, int32(v)))
		return
	}
	c.add(asm.LoadImm(dst, int64(v), asm.DWord))
}

// jumpImm jumps if dst op v; R0 is lost if v is a large constant.
func (c *code) jumpImm(op asm.JumpOp, dst asm.Register, v uint64, label string) {
	if int64(v) == int64(int32(v)) {
		c.add(op.Imm(dst, int32(v), label))
		return
	}
	c.add(asm.LoadImm(asm.R0, int64(v), asm.DWord), op.Reg(dst, asm.R0, label))
}

// storeImm64 stores a number of 32 bits, extended to 64. The library makes no such instruction, the kernel has it.
func storeImm64(dst asm.Register, off int16, v int64) asm.Instruction {
	return asm.Instruction{OpCode: asm.StoreImmOp(asm.DWord), Dst: dst, Offset: off, Constant: v}
}

// finish leaves out what nothing reaches, which the verifier refuses, and resolves the labels: each place gets one name.
func (c *code) finish() (asm.Instructions, error) {
	if err := c.prune(); err != nil {
		return nil, err
	}
	canon := make(map[int]string, len(c.labels))
	for l, at := range c.labels {
		if have, ok := canon[at]; !ok || l < have {
			canon[at] = l
		}
	}
	at := make([]int, len(c.ins)+1) // in raw instructions
	for i := range c.ins {
		at[i+1] = at[i] + int(c.ins[i].Width())
	}
	return c.ins, c.resolve(canon, at)
}

// prune leaves out instructions that nothing reaches, and jumps to the next one.
func (c *code) prune() error {
	for {
		reached := make([]bool, len(c.ins))
		todo := []int{0}
		for len(todo) > 0 {
			i := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			for i < len(c.ins) && !reached[i] {
				reached[i] = true
				ins := &c.ins[i]
				if isJump(ins) {
					to, ok := c.labels[ins.Reference()]
					if !ok {
						return fmt.Errorf("jump to unknown label %q", ins.Reference())
					}
					todo = append(todo, to)
				}
				if op := ins.OpCode; op.Class().IsJump() && (op.JumpOp() == asm.Exit || op.JumpOp() == asm.Ja) {
					break
				}
				i++
			}
			if i == len(c.ins) {
				return fmt.Errorf("the end is reached without an exit")
			}
		}
		to := make([]int, len(c.ins)+1)
		kept := make(asm.Instructions, 0, len(c.ins))
		for i := range c.ins {
			to[i] = len(kept)
			ins := &c.ins[i]
			if !reached[i] || ins.OpCode.Class().IsJump() && ins.OpCode.JumpOp() == asm.Ja && c.labels[ins.Reference()] == i+1 {
				continue
			}
			kept = append(kept, *ins)
		}
		to[len(c.ins)] = len(kept)
		for l, at := range c.labels {
			c.labels[l] = to[at]
		}
		if len(kept) == len(c.ins) {
			return nil
		}
		c.ins = kept
	}
}

func (c *code) resolve(canon map[int]string, at []int) error {
	used := make(map[int]bool)
	for i := range c.ins {
		ins := &c.ins[i]
		ref := ins.Reference()
		if ref == "" || !isJump(ins) {
			continue
		}
		to, ok := c.labels[ref]
		if !ok {
			return fmt.Errorf("jump to unknown label %s", ref)
		}
		if to >= len(c.ins) {
			return fmt.Errorf("label %s is behind the end", ref)
		}
		if d := at[to] - at[i]; d > maxJump || d < -maxJump {
			return errTooLarge
		}
		*ins = ins.WithReference(canon[to])
		used[to] = true
	}
	for to := range used {
		c.ins[to] = c.ins[to].WithSymbol(canon[to])
	}
	return nil
}

// errTooLarge says that the comparisons of one attach point do not fit one program.
var errTooLarge = fmt.Errorf("too many values are compared on one hook: they do not fit a program of %d instructions; "+
	"split them over several hooks or use ranges and prefixes", maxJump)

func isJump(ins *asm.Instruction) bool {
	class := ins.OpCode.Class()
	return (class == asm.JumpClass || class == asm.Jump32Class) && !ins.IsFunctionCall() && !ins.IsBuiltinCall() &&
		ins.OpCode.JumpOp() != asm.Exit && ins.OpCode.JumpOp() != asm.Call
}

// function is a range of a program's instructions.
type function struct {
	name       string
	begin, end int
}

// functions splits a program at the functions that it is made of; the first is its main function.
func functions(ins asm.Instructions) []function {
	var fs []function
	for i := range ins {
		if btf.FuncMetadata(&ins[i]) == nil {
			continue
		}
		if len(fs) > 0 {
			fs[len(fs)-1].end = i
		}
		fs = append(fs, function{name: ins[i].Symbol(), begin: i, end: len(ins)})
	}
	return fs
}

// splice puts generated instructions in the place of the function `name` of a program, and leaves out the functions that
// nothing calls any more, and what is in those that are never called. The kernel wants type and line information on the
// first instruction of every function.
func splice(lib *ebpf.ProgramSpec, name string, gen asm.Instructions, never ...string) (*ebpf.ProgramSpec, error) {
	fs := functions(lib.Instructions)
	bodies := make(map[string]asm.Instructions, len(fs))
	for _, f := range fs {
		bodies[f.name] = lib.Instructions[f.begin:f.end]
	}
	old, ok := bodies[name]
	if !ok || len(gen) == 0 {
		return nil, fmt.Errorf("program %s has no function %s", lib.Name, name)
	}
	own := make(asm.Instructions, len(gen))
	copy(own, gen)
	if own[0].Symbol() != "" {
		return nil, fmt.Errorf("function %s: its first instruction is the target of a jump", name)
	}
	own[0] = likeFirst(own[0], name, &old[0])
	bodies[name] = own
	for _, f := range never {
		old, ok := bodies[f]
		if !ok {
			return nil, fmt.Errorf("program %s has no function %s", lib.Name, f)
		}
		bodies[f] = asm.Instructions{likeFirst(asm.Mov.Imm(asm.R0, 0), f, &old[0]), asm.Return()}
	}

	spec := lib.Copy()
	spec.Instructions = nil
	todo, seen := []string{fs[0].name}, map[string]bool{fs[0].name: true}
	for len(todo) > 0 {
		f := todo[0]
		todo = todo[1:]
		body, ok := bodies[f]
		if !ok {
			return nil, fmt.Errorf("program %s has no function %s", lib.Name, f)
		}
		spec.Instructions = append(spec.Instructions, body...)
		for i := range body {
			if ref := body[i].Reference(); body[i].IsFunctionReference() && !seen[ref] {
				seen[ref] = true
				todo = append(todo, ref)
			}
		}
	}
	return spec, nil
}

// likeFirst makes an instruction the first of a function, in the place of another one.
func likeFirst(ins asm.Instruction, name string, old *asm.Instruction) asm.Instruction {
	return btf.WithFuncMetadata(ins.WithSymbol(name), btf.FuncMetadata(old)).WithSource(old.Source())
}
