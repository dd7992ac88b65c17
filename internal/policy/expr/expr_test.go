// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

// args are the arguments that tests write expressions over, and what they are.
var args = []struct {
	t Type
	n int64
}{{Int32, -1}, {Uint32, math.MaxUint32}, {Int, -7}, {Uint, -1}, {Int, 40}}

func typeOf(i int) (Type, error) {
	if i >= len(args) {
		return "", fmt.Errorf("no argument %d", i)
	}
	return args[i].t, nil
}

func TestEval(t *testing.T) {
	for text, want := range map[string]bool{
		"true": true, "!true": false, "true && false || true": true, "false == false": true, "true != true": false,
		"arg0 == int32(-1)": true, "arg0 < int32(0)": true, "arg1 > uint32(7u)": true, "arg0 + int32(1) == int32(0)": true,
		"arg1 + uint32(1u) == uint32(0u)": true, "arg0 - int32(2147483647) - int32(1) == int32(2147483647)": true,
		"arg2 < -6": true, "arg2 <= -7": true, "arg2 >= -7": true, "arg2 > -7": false, "arg2 + arg4 == 33": true,
		"arg3 == 18446744073709551615u": true, "arg3 > 1u": true, "arg3 + 2u == 1u": true, "int32(arg4) == int32(40)": true,
		"int32(4294967295) == int32(-1)": true, "uint32(arg3) == uint32(0xffffffffu)": true,
		"and(arg4, 8) == 8": true, "or(arg4, 1) == 41": true, "xor(arg4, arg4) == 0": true, "not(0) == -1": true,
		"not(uint32(0u)) == arg1": true, "not(arg3) == 0u": true, "not(arg0) == int32(0)": true,
		"(arg2 == -7) == (arg4 == 40)": true, "9223372036854775807 + 1 < 0": true, "-9223372036854775808 < arg2": true,
	} {
		n, err := Parse(text, typeOf)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, ok := n.Eval(func(i int) (uint64, bool) { return args[i].t.Extend(uint64(args[i].n)), true })
		if !ok || got != 0 != want {
			t.Errorf("%s (%s): %d %t", text, n, got, ok)
		}
		if len(n.Uses()) > 0 {
			if _, ok := n.Eval(func(int) (uint64, bool) { return 0, false }); ok {
				t.Errorf("%s: true or false of what could not be read", text)
			}
			if m := n.With(func(i int) int { return i + 10 }); m.Uses()[0] != n.Uses()[0]+10 || n.String() == m.String() {
				t.Errorf("%s: renumbered it is %s", text, m)
			}
		}
	}
}

// TestError_mark: the part that is wrong is marked, in its line.
func TestError_mark(t *testing.T) {
	for _, tt := range []struct{ text, where, line, mark string }{
		{"arg2 == 1 && arg0 == 1", "column 14", "arg2 == 1 && arg0 == 1", "             ^~~~~~~~~"},
		{"arg2 == 1 &&\n  foo(arg2) == 1", "line 2, column 3", "  foo(arg2) == 1", "  ^~~~~~~~~"},
		{"arg2 * 2 == 4", "column 6", "arg2 * 2 == 4", "     ^"},
		{"arg2 ==", "column 8", "arg2 ==", "       ^"},
		{"", "column 1", "", "^"},
		{"arg9 == 1", "column 1", "arg9 == 1", "^~~~"},
		{"arg2 == \t1u", "column 1", "arg2 == ?1u", "^~~~~~~~~~~"},
		{strings.Repeat("1 + ", 100) + "1u == 1", "column 1", strings.Repeat("1 + ", 25), "^" + strings.Repeat("~", 99)},
		{strings.Repeat("(true) && ", 30) + "arg2 == 1u", "column 301", strings.Repeat("(true) && ", 5) + "arg2 == 1u", strings.Repeat(" ", 50) + "^~~~~~~~~~"},
	} {
		_, err := Parse(tt.text, typeOf)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%q: %v", tt.text, err)
			continue
		}
		if got := e.Mark(); e.Where() != tt.where || got[0] != tt.line || got[1] != tt.mark {
			t.Errorf("%q: %s\n%s\n%s\n%v", tt.text, e.Where(), got[0], got[1], e)
		}
	}
}

func TestRegisters(t *testing.T) {
	chain, tree := "arg2", "arg2"
	for range 50 {
		chain += " + arg4"
	}
	for range 4 {
		tree = "(" + tree + ") + (" + tree + ")"
	}
	for text, want := range map[string]int{"true": 1, "arg2 == 1": 2, chain + " == 1": 2, tree + " == 1": 5, "1 == " + chain: 2} {
		n, err := Parse(text, typeOf)
		if err != nil || n.Registers() != want {
			t.Errorf("%.40s: %v, %s, want %d registers", text, err, n, want)
		}
	}
	tree = "(" + tree + ") + (" + tree + ")"
	if _, err := Parse("("+tree+") + ("+tree+") == 1", typeOf); err == nil || !strings.Contains(err.Error(), "too deep") {
		t.Errorf("seven registers: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"arg0 == int32(1) && !(and(arg2, 6) < 7)", "\n(", "1\xff", "arg2 - -1 == 3u"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := Parse(text, typeOf)
		if err != nil {
			var e *Error
			if errors.As(err, &e) {
				e.Mark()
				e.Where()
			}
			return
		}
		n.Eval(func(int) (uint64, bool) { return 0, true })
		_, _ = n.Registers(), n.String()
	})
}
