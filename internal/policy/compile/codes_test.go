// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tetragon/internal/policy"
	"tetragon/internal/policy/compile"
)

// ofTheParser are codes that the parser tells before a compiler can, and that only a policy made by hand shows here.
var ofTheParser = strings.Fields(`arg-sock arg-source bad-option bad-pattern data-source empty-value follow-children list-abi list-name
	macro-clash match-index nested-macro no-return no-values operator-args rate-limit return-arg-action return-copy return-type unknown-action
	unknown-list unknown-macro unknown-option bad-value`)

// TestCodes wants a golden file for each code that the compiler tells.
func TestCodes(t *testing.T) {
	var program, goldens strings.Builder
	for pattern, to := range map[string]*strings.Builder{"*.go": &program, "testdata/*.txtar": &goldens} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			to.Write(b)
		}
	}
	shown := goldens.String()
	for _, c := range ofTheParser {
		shown += "[" + c + "]\n"
	}
	n := 0
	for _, m := range regexp.MustCompile(`(?:Error|Warn)\([^,\n]+, "([a-z-]+)"`).FindAllStringSubmatch(program.String(), -1) {
		n++
		if c := m[1]; c != "too-many-selectors" && !strings.Contains(shown, "["+c+"]\n") {
			t.Errorf("%s: no golden shows it", c)
		}
	}
	if n < 60 {
		t.Errorf("only %d places tell something: the pattern is wrong", n)
	}
}

// TestCompile_selectors: hundreds of selectors are fine, and thousands of values; there is a bound all the same, and it is told.
func TestCompile_selectors(t *testing.T) {
	f := recorded(t, "6.12")
	for _, n := range []int{512, 513} {
		k := policy.Kprobe{Call: policy.Text{Value: "security_file_open"}}
		k.Args = []policy.Arg{{Type: policy.Text{Value: "file"}}}
		for range n {
			m := policy.ArgMatch{Operator: policy.Text{Value: "Prefix"}}
			for range 10 {
				m.Values = append(m.Values, policy.Text{Value: "/etc/"})
			}
			k.Selectors = append(k.Selectors, policy.Selector{Args: []policy.ArgMatch{m}})
		}
		p, d := compile.Compile(&policy.Policy{Kind: policy.KindCluster, Kprobes: []policy.Kprobe{k}}, f, compile.Options{})
		if (p != nil) != (n == 512) {
			t.Errorf("%d selectors: %s", n, d)
		}
		if p == nil && !strings.Contains(d.String(), "[too-many-selectors]") {
			t.Error(d)
		}
		if p != nil && len(p.Hooks[0].Rules) != n {
			t.Errorf("%d rules", len(p.Hooks[0].Rules))
		}
	}
}

// TestCompile_handmade: a policy that no parser has seen is refused or compiled, and never makes the compiler panic.
func TestCompile_handmade(t *testing.T) {
	text := func(s string) policy.Text { return policy.Text{Value: s} }
	f := recorded(t, "6.12")
	for _, op := range []string{"", "Equal", "Prefix", "InMap", "Nonsense", "CelExpr"} {
		for _, typ := range []string{"", "auto", "nonsense", "int", "file", "const_buf", "data_loc", "syscall64"} {
			sel := policy.Selector{
				Macros: []policy.Text{text("none")},
				Args:   []policy.ArgMatch{{Operator: text(op), Args: []policy.Int{{Value: 7}}}, {Operator: text(op)}},
				Data:   []policy.ArgMatch{{Operator: text(op), Index: policy.Int{Value: -1}}}, ReturnArgs: []policy.ArgMatch{{Operator: text(op)}},
				PIDs: []policy.PIDMatch{{Operator: text(op), Values: []policy.Int{{Value: -1}}}}, Binaries: []policy.BinaryMatch{{Operator: text(op)}},
				Namespaces: []policy.NamespaceMatch{{}}, NamespaceChanges: []policy.NamespaceMatch{{}}, Capabilities: []policy.CapabilityMatch{{}},
				CapabilityChanges: []policy.CapabilityMatch{{}},
				Actions:           []policy.Action{{Action: text("TrackSock"), ArgSock: policy.Int{Value: -1}}, {Action: text("")}},
			}
			args := []policy.Arg{{Type: text(typ), Index: policy.Int{Value: 1}}, {Type: text(typ), Index: policy.Int{Value: -1}, Resolve: text("a[")}}
			common := policy.Common{Args: args, Selectors: []policy.Selector{sel, {Args: sel.Args[1:]}}}
			pol := &policy.Policy{
				Kprobes: []policy.Kprobe{
					{Common: common, Call: text("security_file_open"), Data: args, Return: policy.Bool{Value: true}, ReturnArg: &args[0], ReturnArgAction: text("x")},
					{Common: common, Call: text("list:")}, {Call: text("")}, {Call: text("__x64_"), Syscall: policy.Bool{Value: true}},
				},
				Tracepoints: []policy.Tracepoint{
					{Common: common, Subsystem: text("raw_syscalls"), Event: text("sys_enter")}, {Common: common, Subsystem: text("../x"), Event: text("..")},
					{Common: common, Subsystem: text("sched"), Event: text("sched_process_exec"), Raw: policy.Bool{Value: true}},
					{Common: common, Subsystem: text("task"), Event: text("task_rename")}, {Common: common, Subsystem: text("syscalls"), Event: text("sys_enter_openat")},
				},
			}
			if p, d := compile.Compile(pol, f, compile.Options{}); p != nil {
				t.Errorf("%q on %q is accepted: %s\n%s", op, typ, p, d)
			}
		}
	}
}
