// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"strings"
	"testing"

	"tetragon/internal/policy"
	"tetragon/internal/policy/expr"
)

// TestExpression has what expressions can be, and what they cannot; the latter with a part of what is said of them.
func TestExpression(t *testing.T) {
	var args []policy.Arg
	for _, n := range []string{"int", "uint32", "int64", "uint64", "string", "long"} {
		args = append(args, policy.Arg{Type: policy.Text{Value: n}})
	}
	for text, want := range map[string]string{
		"true":                          "",
		"!false && (true || !true)":     "",
		"arg0 == int32(1)":              "",
		"arg0==int32(-1)":               "",
		"arg1 <= uint32(0x10u)":         "",
		"arg2 + 5 - arg5 > -7":          "",
		"arg3 != 18446744073709551615u": "",
		"and(arg2, 6) == 2 || xor(arg3, not(arg3)) == or(1u, 2u)": "",
		"true == (arg2 < 1)": "",

		"":                                      "ends",
		"arg2":                                  "of type int",
		"arg0 == 1":                             "int32 and int",
		"arg0 == int32(1u)":                     "does not take [uint]",
		"arg2 * 2 == 4":                         "* 2 == 4",
		"arg2 / 2 == 4":                         "/ 2",
		"arg2 == 1 ? true : false":              "? true",
		"arg4 == \"x\"":                         "type string",
		"arg6 == 1":                             "no args[6]",
		"arg99999999999999999999 == 1":          "no args[",
		"foo == 1":                              "not understood",
		"foo(1) == 1":                           "no function foo",
		"arg2 == 9223372036854775808":           "64 bits",
		"arg3 == -1u":                           "without a sign",
		"true < false":                          "bool",
		"true + true == true":                   "two numbers",
		"arg2 && true":                          "joins",
		"!arg2":                                 "takes a bool",
		"(arg2 == 1":                            "ends",
		"arg2 == 1)":                            "\")\"",
		"and(arg2 1) == 1":                      "1) == 1",
		"and(arg2, arg3) == 1":                  "does not take [int uint]",
		"not(true)":                             "does not take [bool]",
		"a.b == 1":                              "a.b",
		"[1] == 1":                              "[1]",
		"1 == 1 == true":                        "== true",
		"--1 == 1":                              "64 bits",
		"- arg2 == 5":                           "0 - arg2",
		"-(arg2) == 5":                          "0 - (",
		strings.Repeat("(", expr.MaxText) + "1": "can have",
		strings.Repeat("(", expr.MaxText-1):     "ends",
	} {
		p := &parser{d: &policy.Diagnostics{}, wrong: map[policy.Place]bool{}, within: map[string]bool{}}
		p.checkExpression(policy.Place{Line: 1}, text, args)
		switch got := p.d.String(); {
		case want == "" && got != "":
			t.Errorf("%s: %s", text, got)
		case want != "" && !strings.Contains(got, want):
			t.Errorf("%.60s: %q, want something of %q", text, got, want)
		}
	}
}
