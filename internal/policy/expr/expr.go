// SPDX-License-Identifier: Apache-2.0

// Package expr reads and evaluates the expressions of the operator CelExpr: the part of CEL that a program in the kernel can
// decide.
//
// policy/parse checks expressions with it, policy/compile puts them into plans, policy/simulate evaluates them, and sensor/gen
// makes instructions of them. All see one tree of a few operations.
//
// Not here: where values come from, instructions.
//
// A tree that Parse returns is well typed, and evaluating it is total: numbers wrap. Safe for concurrent use.
package expr

import (
	"fmt"
	"strconv"
	"strings"
)

// Type is the type of an expression. Zero is none.
type Type string

// The types. Numbers are kept as 64-bit patterns, extended by their type.
const (
	Bool   Type = "bool" // 0 or 1
	Int    Type = "int"
	Uint   Type = "uint"
	Int32  Type = "int32"
	Uint32 Type = "uint32"
)

// Signed says how numbers of the type are compared.
func (t Type) Signed() bool { return t == Int || t == Int32 }

// Extend makes a pattern one of the type.
func (t Type) Extend(n uint64) uint64 {
	switch t {
	case Int32:
		return uint64(int64(int32(n)))
	case Uint32:
		return uint64(uint32(n))
	}
	return n
}

// OfArg is the type that an argument of a policy's type has in expressions; none: it cannot be used.
func OfArg(policyType string) Type {
	switch policyType {
	case "int", "int32", "sint32":
		return Int32
	case "uint32":
		return Uint32
	case "int64", "sint64", "long":
		return Int
	case "uint64", "ulong":
		return Uint
	}
	return ""
}

// Op is an operation. What CEL has more is made of these.
type Op uint8

// The operations. Zero is none.
const (
	OpNone  Op = iota
	OpConst    // N
	OpArg      // value Arg
	OpAdd
	OpSub
	OpAnd // bit by bit, also of truths
	OpOr
	OpXor
	OpWrap // to the width of Type
	OpEq
	OpLess // by the type of its operands
)

// Node is an expression.
type Node struct {
	Op   Op
	Type Type
	Args []*Node
	N    uint64
	Arg  int // place in the hook's args; in a plan: index of the value
}

// Eval evaluates an expression over values. ok is false if one that it names could not be read.
func (n *Node) Eval(value func(i int) (uint64, bool)) (result uint64, ok bool) {
	var x [2]uint64
	for i, a := range n.Args {
		if x[i], ok = a.Eval(value); !ok {
			return 0, false
		}
	}
	truth := func(b bool) uint64 {
		if b {
			return 1
		}
		return 0
	}
	switch n.Op {
	case OpConst:
		result = n.N
	case OpArg:
		if result, ok = value(n.Arg); !ok {
			return 0, false
		}
	case OpAdd:
		result = x[0] + x[1]
	case OpSub:
		result = x[0] - x[1]
	case OpAnd:
		result = x[0] & x[1]
	case OpOr:
		result = x[0] | x[1]
	case OpXor:
		result = x[0] ^ x[1]
	case OpWrap:
		result = x[0]
	case OpEq:
		result = truth(x[0] == x[1])
	case OpLess:
		result = truth(x[0] < x[1])
		if n.Args[0].Type.Signed() {
			result = truth(int64(x[0]) < int64(x[1]))
		}
	}
	return n.Type.Extend(result), true
}

// Uses lists what an expression names, each once, in the order of its first place.
func (n *Node) Uses() []int {
	var out []int
	seen := make(map[int]bool)
	n.each(func(x *Node) {
		if x.Op == OpArg && !seen[x.Arg] {
			seen[x.Arg] = true
			out = append(out, x.Arg)
		}
	})
	return out
}

func (n *Node) each(f func(*Node)) {
	f(n)
	for _, a := range n.Args {
		a.each(f)
	}
}

// With copies an expression, with other numbers for what it names.
func (n *Node) With(number func(i int) int) *Node {
	out := *n
	out.Args = nil
	for _, a := range n.Args {
		out.Args = append(out.Args, a.With(number))
	}
	if n.Op == OpArg {
		out.Arg = number(n.Arg)
	}
	return &out
}

// MaxRegisters is how many intermediate results an expression may need at a time: a program has so many registers to spare.
const MaxRegisters = 6

// Registers is how many intermediate results must be kept at a time, if the deeper operand is evaluated first.
func (n *Node) Registers() int {
	need := 1
	if len(n.Args) > 0 {
		need = n.Args[0].Registers()
	}
	if len(n.Args) == 2 {
		switch other := n.Args[1].Registers(); {
		case other == need:
			need++
		case other > need:
			need = other
		}
	}
	return need
}

var opNames = [...]string{OpAdd: "+", OpSub: "-", OpAnd: "&", OpOr: "|", OpXor: "^", OpEq: "==", OpLess: "<"}

// String prints the operations, with v for values.
func (n *Node) String() string {
	switch n.Op {
	case OpConst:
		if n.Type.Signed() {
			return strconv.FormatInt(int64(n.N), 10)
		}
		return strconv.FormatUint(n.N, 10)
	case OpArg:
		return "v" + strconv.Itoa(n.Arg)
	case OpWrap:
		return fmt.Sprintf("%s(%s)", n.Type, n.Args[0])
	}
	if int(n.Op) >= len(opNames) || len(n.Args) != 2 {
		return "unknown"
	}
	kind := ""
	if n.Op == OpLess && !n.Args[0].Type.Signed() {
		kind = "u"
	}
	return fmt.Sprintf("(%s %s%s %s)", n.Args[0], opNames[n.Op], kind, n.Args[1])
}

// Error is what is wrong with an expression, and where.
type Error struct {
	Text    string // the expression
	At, End int    // bytes of it that are meant
	Why     string
	Hint    string
}

func (e *Error) Error() string { return e.Why }

// Where is the place in the expression: "column 7", or with its line if it has several.
func (e *Error) Where() string {
	before := e.Text[:e.At]
	column := e.At - strings.LastIndexByte(before, '\n')
	if !strings.Contains(strings.TrimRight(e.Text, "\n"), "\n") {
		return fmt.Sprintf("column %d", column)
	}
	return fmt.Sprintf("line %d, column %d", strings.Count(before, "\n")+1, column)
}

// maxMarked is how much of a line is shown.
const maxMarked = 100

// Mark shows the line with the mistake, and below it a mark under what is meant.
func (e *Error) Mark() []string {
	begin := strings.LastIndexByte(e.Text[:e.At], '\n') + 1
	line, _, _ := strings.Cut(e.Text[begin:], "\n")
	at, end := e.At-begin, min(max(e.End-begin, e.At-begin+1), max(len(line), e.At-begin+1))
	if cut := at - maxMarked/2; cut > 0 && len(line) > maxMarked {
		line, at, end = line[cut:], at-cut, end-cut
	}
	if len(line) > maxMarked {
		line, end = line[:maxMarked], max(min(end, maxMarked), at+1)
	}
	clean := func(s string) string { // so that the mark stays below its place
		return strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' {
				return '?'
			}
			return r
		}, s)
	}
	return []string{clean(line), strings.Repeat(" ", at) + "^" + strings.Repeat("~", end-at-1)}
}
