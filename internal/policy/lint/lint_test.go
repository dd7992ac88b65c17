// SPDX-License-Identifier: Apache-2.0

package lint_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"tetragon/internal/kernel"
	"tetragon/internal/policy"
	"tetragon/internal/policy/compile"
	"tetragon/internal/policy/lint"
	"tetragon/internal/policy/parse"
)

var update = flag.Bool("update", false, "rewrite the golden files and docs/lint.md")

// check lints a policy as on Debian's 6.12.
func check(t *testing.T, facts compile.Facts, text []byte) *policy.Diagnostics {
	t.Helper()
	p, d := parse.YAML("", text, parse.Options{})
	if p == nil {
		t.Fatal(d)
	}
	pl, d := compile.Compile(p, facts, compile.Options{})
	if pl == nil {
		t.Fatal(d)
	}
	return lint.Check(p, pl)
}

func recorded(t *testing.T) *kernel.Recorded {
	t.Helper()
	f, err := kernel.OpenRecorded("../compile/testdata/kernels/6.12.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestLint goes through testdata: each file has a policy and what is told of it; "clean" is one of which nothing is.
func TestLint(t *testing.T) {
	facts := recorded(t)
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	var all strings.Builder
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(a.Files) != 2 || a.Files[1].Name != "lint" {
				t.Fatal("want a policy and a part named lint")
			}
			got := check(t, facts, a.Files[0].Data).String()
			all.WriteString(got)
			if *update {
				a.Files[1].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(string(a.Files[1].Data), got); d != "" {
				t.Errorf("-want +got, if it is right run with -update:\n%s", d)
			}
		})
	}
	all.WriteString(late(t, facts))
	for _, x := range lint.Lints() {
		if !strings.Contains(all.String(), "["+x.Code+"]") {
			t.Errorf("%s: no golden file shows it", x.Code)
		}
	}
}

// late is what is told of selectors that kill, and of one that denies as well. The plan is that of one which only tells: what is
// ordered does not show in what is looked at.
func late(t *testing.T, facts compile.Facts) string {
	t.Helper()
	text := `apiVersion: cilium.io/v1alpha1
kind: TracingPolicy
metadata: {name: late}
spec:
  kprobes:
  - call: security_file_open
    syscall: false
    args: [{index: 0, type: file}]
    selectors:
    - matchArgs: [{index: 0, operator: Equal, values: [/etc/shadow]}]
      matchActions: [{action: Sigkill}]
    - matchArgs: [{index: 0, operator: Equal, values: [/etc/passwd]}]
      matchActions: [{action: Override, argError: -1}, {action: Sigkill}]
`
	p, d := parse.YAML("", []byte(text), parse.Options{})
	if p == nil {
		t.Fatal(d)
	}
	for _, as := range []string{"{action: Sigkill}", "{action: Override, argError: -1}"} {
		text = strings.ReplaceAll(text, as, "{action: Post}")
	}
	plain, _ := parse.YAML("", []byte(text), parse.Options{})
	pl, d := compile.Compile(plain, facts, compile.Options{})
	if pl == nil {
		t.Fatal(d)
	}
	got := lint.Check(p, pl)
	if len(got.List) != 1 || got.List[0].Line != 11 {
		t.Errorf("late enforcement: %s", got)
	}
	return got.String()
}

// TestLints_documented holds docs/lint.md to the table.
func TestLints_documented(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# What tetra policy lint tells

<!-- made by go test ./internal/policy/lint -update; do not edit -->

` + "`tetra policy lint FILE...`" + ` tells what is legal in a policy and probably not meant. It compiles the policy for this kernel, or for a
recorded one (` + "`--kernel`" + `), as ` + "`tetra policy check`" + ` does, and looks at what comes out. Nothing of it keeps a policy from being loaded;
with ` + "`--strict`" + ` a finding makes the exit code 1, for checks of policies before they are rolled out.

The costs are predictions: see the decision on [generated programs](decisions/0012-generated-programs.md).

| Code | Told when | Why it matters |
|---|---|---|
`)
	codes := []string{}
	for _, x := range lint.Lints() {
		codes = append(codes, x.Code)
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", x.Code, x.What, x.Why)
	}
	if !slices.IsSorted(codes) {
		t.Errorf("the table is not sorted: %v", codes)
	}
	b.WriteString("\n## Three policies that enforce\n\nWhat `tetra policy explain` and `tetra policy lint` say of three of the ready-made ones, on Debian's 6.12.\n")
	for _, name := range []string{"deny-user-namespaces", "deny-egress", "kill-fileless-execution"} {
		text, err := os.ReadFile("../../../policies/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		p, d := parse.YAML("", text, parse.Options{})
		if p == nil {
			t.Fatal(d)
		}
		pl, d := compile.Compile(p, recorded(t), compile.Options{})
		if pl == nil {
			t.Fatal(d)
		}
		told := lint.Check(p, pl).String()
		if told == "" {
			told = "nothing\n"
		}
		fmt.Fprintf(&b, "\n### %s\n\n```\n%s```\n\nlint:\n\n```\n%s```\n", name, pl.Explain(), told)
	}
	const file = "../../../docs/lint.md"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("docs/lint.md: -document +table, if it is right run with -update:\n%s", d)
	}
}
