// SPDX-License-Identifier: Apache-2.0

package gen

import (
	"math"

	"github.com/cilium/ebpf/asm"

	"tetragon/internal/policy/expr"
)

// Registers for the intermediate results of an expression, which calls nothing: R6 holds the live rules, R9 the context, R0
// and R5 are used within one operation.
var exprRegisters = [expr.MaxRegisters]asm.Register{asm.R1, asm.R2, asm.R3, asm.R4, asm.R7, asm.R8}

// expression evaluates an expression. The values that it names are read first, and kept on the stack; what follows has no
// branches, as the verifier would follow every combination of them.
func (b *body) expression(n *expr.Node, us []use, next string) {
	c := b.c
	bad, no := c.label(), c.label()
	for _, v := range n.Uses() {
		b.integer(v, bad)
	}
	if n.Registers() > len(exprRegisters) {
		b.fail("an expression needs %d intermediate results, %d are possible", n.Registers(), len(exprRegisters))
		return
	}
	r := b.evaluate(n, exprRegisters[:])
	c.add(asm.JEq.Imm(r, 0, no))
	b.keep(b.passing(us, func(u *use) bool { return !u.f.Not }), next)
	c.here(no)
	b.keep(b.passing(us, func(u *use) bool { return u.f.Not }), next)
	c.here(bad)
	b.kill(us, next)
}

// evaluate leaves what an expression is in the first of the free registers, and returns that.
func (b *body) evaluate(n *expr.Node, free []asm.Register) asm.Register {
	c := b.c
	dst := free[0]
	switch n.Op {
	case expr.OpConst:
		c.imm(dst, n.N)
		return dst
	case expr.OpArg:
		c.add(asm.LoadMem(dst, asm.R10, b.slotAt(n.Arg), asm.DWord))
		return dst
	case expr.OpWrap:
		b.evaluate(n.Args[0], free)
		b.wrap(dst, n.Type)
		return dst
	}
	// The deeper operand first: so it has all registers.
	first, second := 0, 1
	if n.Args[1].Registers() > n.Args[0].Registers() {
		first, second = 1, 0
	}
	var x [2]asm.Register
	x[first] = b.evaluate(n.Args[first], free)
	x[second] = b.evaluate(n.Args[second], free[1:])
	switch n.Op {
	case expr.OpAdd:
		c.add(asm.Add.Reg(x[0], x[1]))
	case expr.OpSub:
		c.add(asm.Sub.Reg(x[0], x[1]))
	case expr.OpAnd:
		c.add(asm.And.Reg(x[0], x[1]))
	case expr.OpOr:
		c.add(asm.Or.Reg(x[0], x[1]))
	case expr.OpXor:
		c.add(asm.Xor.Reg(x[0], x[1]))
	case expr.OpEq: // a^b and its negative both begin with a zero bit if it is zero, and not otherwise
		c.add(asm.Xor.Reg(x[0], x[1]), asm.Mov.Reg(x[1], x[0]), asm.Neg.Imm(x[1], 0), asm.Or.Reg(x[0], x[1]),
			asm.RSh.Imm(x[0], 63), asm.Xor.Imm(x[0], 1))
	case expr.OpLess: // the borrow of a-b: (^a & b) | ((^a | b) & (a-b))
		if n.Args[0].Type.Signed() {
			c.imm(asm.R0, math.MaxInt64+1)
			c.add(asm.Xor.Reg(x[0], asm.R0), asm.Xor.Reg(x[1], asm.R0))
		}
		c.add(asm.Mov.Reg(asm.R5, x[0]), asm.Xor.Imm(asm.R5, -1), asm.Sub.Reg(x[0], x[1]),
			asm.Mov.Reg(asm.R0, asm.R5), asm.And.Reg(asm.R0, x[1]), asm.Or.Reg(asm.R5, x[1]),
			asm.And.Reg(x[0], asm.R5), asm.Or.Reg(x[0], asm.R0), asm.RSh.Imm(x[0], 63))
	default:
		b.fail("an expression has operation %d", n.Op)
	}
	b.wrap(x[0], n.Type)
	if x[0] != dst {
		c.add(asm.Mov.Reg(dst, x[0]))
	}
	return dst
}

// wrap makes the number in a register one of a type.
func (b *body) wrap(r asm.Register, t expr.Type) {
	switch t {
	case expr.Int32:
		b.c.add(asm.LSh.Imm(r, 32), asm.ArSh.Imm(r, 32))
	case expr.Uint32:
		b.c.add(asm.Mov.Reg32(r, r))
	}
}
