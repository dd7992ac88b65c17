// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// The grammar:
//
//	or    = and { "||" and }            cmp   = sum [ ("==" | "!=" | "<" | "<=" | ">" | ">=") sum ]
//	and   = cmp { "&&" cmp }            sum   = unary { ("+" | "-") unary }
//	unary = "!" unary | atom            atom  = number | "true" | "false" | argN | NAME "(" or { "," or } ")" | "(" or ")"

// token is the next thing in an expression. A sign is no part of a number, as the grammar has other uses for it.
var token = regexp.MustCompile(`^(0[xX][0-9a-fA-F]+[uU]?|[0-9]+[uU]?|[A-Za-z_][A-Za-z0-9_]*|&&|\|\||==|!=|<=|>=|[-+<>!(),])`)

// MaxText bounds the text, and with it how deep expressions are nested.
const MaxText = 4096

// ErrTold is what a typeOf of Parse returns for an argument of which everything was said already. Parse returns it as it is.
var ErrTold = errors.New("the argument has no type")

// Parse reads an expression that is true or false. typeOf says which type args[i] has, or why it cannot be used. The error is
// ErrTold or an *Error.
func Parse(text string, typeOf func(i int) (Type, error)) (*Node, error) {
	if len(text) > MaxText {
		return nil, &Error{Text: text, End: 1, Why: fmt.Sprintf("an expression can have %d bytes, this one has %d", MaxText, len(text))}
	}
	p := &parser{text: text, typeOf: typeOf}
	p.skip()
	n, err := p.or()
	switch {
	case err != nil:
		return nil, err
	case p.at < len(text):
		return nil, p.unexpected()
	case n.Type != Bool:
		return nil, p.wrong(0, "it is of type %s, and says nothing that is true or false", n.Type)
	case n.Registers() > MaxRegisters:
		return nil, &Error{Text: text, End: len(text), Hint: "make several selectors, or several entries of matchArgs, of it",
			Why: fmt.Sprintf("it is nested too deep: %d results must be kept at a time, %d can be", n.Registers(), MaxRegisters)}
	}
	return n, nil
}

type parser struct {
	text   string
	at     int // where the next token begins
	end    int // where the last one ended
	typeOf func(i int) (Type, error)
}

func (p *parser) skip() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

// peek returns the next token; "" at the end, or at what is none.
func (p *parser) peek() string { return token.FindString(p.text[p.at:]) }

func (p *parser) next() string {
	n := p.peek()
	p.at += len(n)
	p.end = p.at
	p.skip()
	return n
}

// take steps over a token if it is the next.
func (p *parser) take(tokens ...string) string {
	n := p.peek()
	for _, t := range tokens {
		if n == t {
			return p.next()
		}
	}
	return ""
}

// wrong marks what was read since from.
func (p *parser) wrong(from int, format string, args ...any) error {
	return &Error{Text: p.text, At: from, End: max(p.end, from), Why: fmt.Sprintf(format, args...)}
}

// types is wrong for operands of types that do not go together.
func (p *parser) types(from int, format string, args ...any) error {
	return &Error{Text: p.text, At: from, End: p.end, Why: fmt.Sprintf(format, args...),
		Hint: "numbers are of type int, and with a u behind them uint: int32(1) and uint32(1u) have 32 bits"}
}

func (p *parser) unexpected() error {
	rest := strings.TrimSpace(p.text[p.at:])
	if rest == "" {
		return &Error{Text: p.text, At: len(p.text), End: len(p.text), Why: "it ends where something should follow"}
	}
	n := len(p.peek())
	return &Error{Text: p.text, At: p.at, End: p.at + max(n, 1), Why: fmt.Sprintf("%q is not understood", short(rest))}
}

func short(s string) string {
	const most = 40
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

func binary(op Op, t Type, a, b *Node) *Node { return &Node{Op: op, Type: t, Args: []*Node{a, b}} }

func negated(n *Node) *Node { return binary(OpXor, Bool, n, &Node{Op: OpConst, Type: Bool, N: 1}) }

func (p *parser) or() (*Node, error) { return p.logic(p.and, "||", OpOr) }

func (p *parser) and() (*Node, error) { return p.logic(p.cmp, "&&", OpAnd) }

func (p *parser) logic(part func() (*Node, error), word string, op Op) (*Node, error) {
	from := p.at
	n, err := part()
	for err == nil && p.take(word) != "" {
		var m *Node
		if m, err = part(); err != nil {
			break
		}
		if n.Type != Bool || m.Type != Bool {
			return nil, p.wrong(from, "%s joins two of type bool, not %s and %s", word, n.Type, m.Type)
		}
		n = binary(op, Bool, n, m)
	}
	return n, err
}

func (p *parser) cmp() (*Node, error) {
	from := p.at
	n, err := p.sum()
	if err != nil {
		return nil, err
	}
	op := p.take("==", "!=", "<=", ">=", "<", ">")
	if op == "" {
		return n, nil
	}
	m, err := p.sum()
	switch {
	case err != nil:
		return nil, err
	case n.Type != m.Type:
		return nil, p.types(from, "%s compares two of one type, not %s and %s", op, n.Type, m.Type)
	case n.Type == Bool && op != "==" && op != "!=":
		return nil, p.wrong(from, "%s does not compare values of type bool", op)
	}
	switch op {
	case "==":
		return binary(OpEq, Bool, n, m), nil
	case "!=":
		return negated(binary(OpEq, Bool, n, m)), nil
	case "<":
		return binary(OpLess, Bool, n, m), nil
	case ">":
		return binary(OpLess, Bool, m, n), nil
	case "<=":
		return negated(binary(OpLess, Bool, m, n)), nil
	}
	return negated(binary(OpLess, Bool, n, m)), nil
}

func (p *parser) sum() (*Node, error) {
	from := p.at
	n, err := p.unary()
	for err == nil {
		word := p.take("+", "-")
		if word == "" {
			break
		}
		var m *Node
		if m, err = p.unary(); err != nil {
			break
		}
		if n.Type != m.Type || n.Type == Bool {
			return nil, p.types(from, "%s takes two numbers of one type, not %s and %s", word, n.Type, m.Type)
		}
		op := OpAdd
		if word == "-" {
			op = OpSub
		}
		n = binary(op, n.Type, n, m)
	}
	return n, err
}

func (p *parser) unary() (*Node, error) {
	from := p.at
	if p.take("!") == "" {
		return p.atom()
	}
	n, err := p.unary()
	if err != nil {
		return nil, err
	}
	if n.Type != Bool {
		return nil, p.wrong(from, "! takes a bool, not %s", n.Type)
	}
	return negated(n), nil
}

// argName is a variable: an argument by its place in args.
var argName = regexp.MustCompile(`^arg([0-9]+)$`)

func (p *parser) atom() (*Node, error) {
	from := p.at
	n := p.next()
	switch {
	case n == "(":
		x, err := p.or()
		if err == nil && p.take(")") == "" {
			err = p.unexpected()
		}
		return x, err
	case n == "true":
		return &Node{Op: OpConst, Type: Bool, N: 1}, nil
	case n == "false":
		return &Node{Op: OpConst, Type: Bool}, nil
	case n == "-" || n != "" && '0' <= n[0] && n[0] <= '9':
		return p.number(from, n)
	case n != "" && p.peek() == "(":
		return p.function(from, n)
	}
	if m := argName.FindStringSubmatch(n); m != nil {
		return p.variable(from, m[1])
	}
	p.at = from
	return nil, p.unexpected()
}

func (p *parser) number(from int, n string) (*Node, error) {
	sign := ""
	if n == "-" {
		sign = "-"
		if next := p.peek(); next == "" || next[0] < '0' || next[0] > '9' {
			err := &Error{Text: p.text, At: from, End: from + 1, Why: "- stands before a number of 64 bits or between two values"}
			if argName.MatchString(next) || next == "(" {
				err.Hint = "0 - " + next + " is the negative"
			}
			return nil, err
		}
		n = p.next()
	}
	digits := strings.TrimRight(n, "uU")
	if digits != n {
		v, err := strconv.ParseUint(digits, 0, 64)
		if err != nil || sign != "" {
			return nil, p.wrong(from, "%s%s is no number of 64 bits without a sign", sign, n)
		}
		return &Node{Op: OpConst, Type: Uint, N: v}, nil
	}
	v, err := strconv.ParseInt(sign+n, 0, 64)
	if err != nil {
		return nil, p.wrong(from, "%s%s is no number of 64 bits", sign, n)
	}
	return &Node{Op: OpConst, Type: Int, N: uint64(v)}, nil
}

func (p *parser) variable(from int, place string) (*Node, error) {
	i, err := strconv.Atoi(place)
	if err != nil {
		return nil, p.wrong(from, "the hook has no args[%s]", place)
	}
	t, err := p.typeOf(i)
	switch {
	case errors.Is(err, ErrTold):
		return nil, err
	case err != nil:
		return nil, p.wrong(from, "%v", err)
	}
	return &Node{Op: OpArg, Type: t, Arg: i}, nil
}

func (p *parser) function(from int, name string) (*Node, error) {
	p.take("(")
	var args []*Node
	var types []Type
	for p.take(")") == "" {
		if len(args) > 0 && p.take(",") == "" {
			return nil, p.unexpected()
		}
		n, err := p.or()
		if err != nil {
			return nil, err
		}
		args, types = append(args, n), append(types, n.Type)
	}
	is := func(want ...Type) bool { return fmt.Sprint(types) == fmt.Sprint(want) }
	switch name {
	case "int32":
		if is(Int) {
			return wrap(Int32, args[0]), nil
		}
	case "uint32":
		if is(Uint) {
			return wrap(Uint32, args[0]), nil
		}
	case "and", "or", "xor":
		if len(types) == 2 && types[0] == types[1] && types[0] != Bool {
			return binary(map[string]Op{"and": OpAnd, "or": OpOr, "xor": OpXor}[name], types[0], args[0], args[1]), nil
		}
	case "not":
		if len(types) == 1 && types[0] != Bool {
			return binary(OpXor, types[0], args[0], &Node{Op: OpConst, Type: types[0], N: types[0].Extend(^uint64(0))}), nil
		}
	default:
		return nil, p.wrong(from, "there is no function %s; there are int32, uint32, and, or, xor, not", short(name))
	}
	return nil, p.types(from, "%s does not take %v", name, types)
}

// wrap makes a number one of another type. Constants become others.
func wrap(t Type, n *Node) *Node {
	if n.Op == OpConst {
		return &Node{Op: OpConst, Type: t, N: t.Extend(n.N)}
	}
	return &Node{Op: OpWrap, Type: t, Args: []*Node{n}}
}
