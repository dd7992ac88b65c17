// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"tetragon/internal/policy"
)

// Expressions of the operator CelExpr: the part of CEL that a program in the kernel can decide. This checks their grammar
// and types; nothing executes them yet (policy/compile says so).
//
//	or    = and { "||" and }            cmp   = sum [ ("==" | "!=" | "<" | "<=" | ">" | ">=") sum ]
//	and   = cmp { "&&" cmp }            sum   = unary { ("+" | "-") unary }
//	unary = "!" unary | atom            atom  = number | "true" | "false" | argN | NAME "(" or { "," or } ")" | "(" or ")"

// celType is the type of an expression. Zero is none.
type celType string

const (
	celBool   celType = "bool"
	celInt    celType = "int"
	celUint   celType = "uint"
	celInt32  celType = "int32"
	celUint32 celType = "uint32"
)

// celArgs are the types that arguments have in expressions.
var celArgs = map[string]celType{
	"int": celInt32, "int32": celInt32, "sint32": celInt32, "uint32": celUint32, "int64": celInt, "sint64": celInt, "long": celInt,
	"uint64": celUint, "ulong": celUint,
}

// celToken is the next thing in an expression. Numbers keep a sign in front of them, as the grammar has no other use for it.
var celToken = regexp.MustCompile(`^\s*(0[xX][0-9a-fA-F]+[uU]?|[0-9]+[uU]?|[A-Za-z_][A-Za-z0-9_]*|&&|\|\||==|!=|<=|>=|[-+<>!(),])`)

// maxExpression bounds the text, and with it how deep expressions are nested.
const maxExpression = 4096

// checkExpression checks an expression over the arguments of a hook.
func (p *parser) checkExpression(at policy.Place, text string, args []policy.Arg) {
	if len(text) > maxExpression {
		p.error(at, "bad-expression", "an expression can have %d bytes, this one has %d", maxExpression, len(text))
		return
	}
	c := &cel{rest: text, args: args}
	t, err := c.or()
	switch {
	case err != nil:
	case strings.TrimSpace(c.rest) != "":
		err = c.unexpected()
	case t != celBool:
		err = fmt.Errorf("it is of type %s, and says nothing that is true or false", t)
	}
	if err != nil && !errors.Is(err, errArgTold) {
		x := p.error(at, "bad-expression", "%q: %v", clip(text), err)
		if strings.Contains(err.Error(), "of one type") {
			x.WithHint("numbers are of type int, and with a u behind them uint: int32(1) and uint32(1u) have 32 bits")
		}
	}
}

// errArgTold is for an argument of which it was told that it has no type.
var errArgTold = errors.New("the argument has no type")

type cel struct {
	rest string
	args []policy.Arg
}

// peek returns the next token; "" at the end, or at what is none.
func (c *cel) peek() string {
	m := celToken.FindStringSubmatch(c.rest)
	if m == nil {
		return ""
	}
	return m[1]
}

func (c *cel) next() string {
	m := celToken.FindStringSubmatch(c.rest)
	if m == nil {
		return ""
	}
	c.rest = c.rest[len(m[0]):]
	return m[1]
}

// take steps over a token if it is the next.
func (c *cel) take(tokens ...string) string {
	n := c.peek()
	for _, t := range tokens {
		if n == t {
			return c.next()
		}
	}
	return ""
}

func (c *cel) unexpected() error {
	rest := strings.TrimSpace(c.rest)
	if rest == "" {
		return errors.New("it ends where something should follow")
	}
	return fmt.Errorf("%q is not understood", clip(rest))
}

func (c *cel) or() (celType, error) { return c.logic(c.and, "||") }

func (c *cel) and() (celType, error) { return c.logic(c.cmp, "&&") }

func (c *cel) logic(part func() (celType, error), op string) (celType, error) {
	t, err := part()
	for err == nil && c.take(op) != "" {
		var u celType
		if u, err = part(); err == nil && (t != celBool || u != celBool) {
			err = fmt.Errorf("%s joins two of type bool, not %s and %s", op, t, u)
		}
	}
	return t, err
}

func (c *cel) cmp() (celType, error) {
	t, err := c.sum()
	if err != nil {
		return t, err
	}
	op := c.take("==", "!=", "<=", ">=", "<", ">")
	if op == "" {
		return t, nil
	}
	u, err := c.sum()
	switch {
	case err != nil:
	case t != u:
		err = fmt.Errorf("%s compares two of one type, not %s and %s", op, t, u)
	case t == celBool && op != "==" && op != "!=":
		err = fmt.Errorf("%s does not compare values of type bool", op)
	}
	return celBool, err
}

func (c *cel) sum() (celType, error) {
	t, err := c.unary()
	for err == nil {
		op := c.take("+", "-")
		if op == "" {
			break
		}
		var u celType
		if u, err = c.unary(); err == nil && (t != u || t == celBool) {
			err = fmt.Errorf("%s takes two numbers of one type, not %s and %s", op, t, u)
		}
	}
	return t, err
}

func (c *cel) unary() (celType, error) {
	if c.take("!") == "" {
		return c.atom()
	}
	t, err := c.unary()
	if err == nil && t != celBool {
		err = fmt.Errorf("! takes a bool, not %s", t)
	}
	return t, err
}

// celArg is a variable: an argument by its place in args.
var celArg = regexp.MustCompile(`^arg([0-9]+)$`)

func (c *cel) atom() (celType, error) {
	before := c.rest
	n := c.next()
	switch {
	case n == "(":
		t, err := c.or()
		if err == nil && c.take(")") == "" {
			err = c.unexpected()
		}
		return t, err
	case n == "true" || n == "false":
		return celBool, nil
	case n == "-" || n != "" && '0' <= n[0] && n[0] <= '9':
		return c.number(n)
	case n != "" && c.peek() == "(":
		return c.function(n)
	}
	if m := celArg.FindStringSubmatch(n); m != nil {
		return c.variable(m[1])
	}
	c.rest = before
	return "", c.unexpected()
}

func (c *cel) number(n string) (celType, error) {
	sign := ""
	if n == "-" {
		sign, n = "-", c.next()
	}
	digits := strings.TrimRight(n, "uU")
	if digits != n {
		if _, err := strconv.ParseUint(digits, 0, 64); err != nil || sign != "" {
			return "", fmt.Errorf("%s%s is no number of 64 bits without a sign", sign, n)
		}
		return celUint, nil
	}
	if _, err := strconv.ParseInt(sign+n, 0, 64); err != nil {
		return "", fmt.Errorf("%s%s is no number of 64 bits", sign, n)
	}
	return celInt, nil
}

func (c *cel) variable(place string) (celType, error) {
	i, err := strconv.Atoi(place)
	if err != nil || i >= len(c.args) {
		return "", fmt.Errorf("the hook has no args[%s]", place)
	}
	name := c.args[i].Type.Value
	if name == "" || name == "auto" {
		return "", errArgTold
	}
	t, ok := celArgs[name]
	if !ok {
		return "", fmt.Errorf("args[%d] is of type %s; expressions know int, int32, uint32, int64, long, uint64 and ulong", i, name)
	}
	return t, nil
}

func (c *cel) function(name string) (celType, error) {
	c.take("(")
	var types []celType
	for c.take(")") == "" {
		if len(types) > 0 && c.take(",") == "" {
			return "", c.unexpected()
		}
		t, err := c.or()
		if err != nil {
			return "", err
		}
		types = append(types, t)
	}
	is := func(want ...celType) bool { return fmt.Sprint(types) == fmt.Sprint(want) }
	switch name {
	case "int32":
		if is(celInt) {
			return celInt32, nil
		}
	case "uint32":
		if is(celUint) {
			return celUint32, nil
		}
	case "and", "or", "xor":
		if len(types) == 2 && types[0] == types[1] && types[0] != celBool {
			return types[0], nil
		}
	case "not":
		if len(types) == 1 && types[0] != celBool {
			return types[0], nil
		}
	default:
		return "", fmt.Errorf("there is no function %s; there are int32, uint32, and, or, xor, not", clip(name))
	}
	return "", fmt.Errorf("%s does not take %v", name, types)
}
