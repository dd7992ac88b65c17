// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"strings"
	"testing"
)

// FuzzYAML holds every text to what a caller relies on: there is a policy, or a mistake that says where it is.
func FuzzYAML(f *testing.F) {
	for _, g := range goldens(f) {
		f.Add(g.parts["policy.yaml"])
	}
	f.Add("a: &a [*a]\n")
	f.Add("a: &a {<<: *a}\nspec: *a\n")
	f.Add("kind: TracingPolicy\nspec: &a {kprobes: [*a]}\n")
	f.Add("kind: TracingPolicyNamespaced\nmetadata:\n") // what is not there still has a place
	env := func(n string) (string, bool) { return "1,2 3", n != "NO" }
	f.Fuzz(func(t *testing.T, text string) {
		pol, diags := YAML("", []byte(text), Options{Getenv: env})
		if (pol == nil) != diags.Bad() {
			t.Fatalf("a policy: %t, refused: %t", pol != nil, diags.Bad())
		}
		lines := strings.Count(text, "\n") + 2
		for _, d := range diags.List {
			if d.Line < 1 || d.Line > lines || d.Column < 1 || d.Code == "" || d.Text == "" {
				t.Errorf("%+v", d)
			}
		}
		if pol != nil && dump(pol) == "" {
			t.Error("nothing in the policy")
		}
	})
}

// TestYAML_tooLarge makes texts that are larger or deeper than any policy, some of them out of a few lines.
func TestYAML_tooLarge(t *testing.T) {
	head := "kind: TracingPolicy\nmetadata: {name: p}\nspec:\n  kprobes:\n  - call: sys_read\n    selectors:\n"
	var bomb strings.Builder
	bomb.WriteString("kind: TracingPolicy\nmetadata: {name: p}\nspec:\n  kprobes:\n  - call: sys_a\n    tags: &t [" + strings.Repeat("aa, ", 999) + "aa]\n")
	for range 500 {
		bomb.WriteString("  - {call: sys_a, tags: *t}\n")
	}
	for name, text := range map[string]string{
		"bytes":   head + strings.Repeat("# comment\n", maxText/10+1),
		"aliases": bomb.String(),
		"depth":   "kind: TracingPolicy\nmetadata: {name: p}\nspec: &a\n  kprobes:\n  - returnArg: *a\n    ignore: *a\n",
	} {
		t.Run(name, func(t *testing.T) {
			pol, diags := YAML("", []byte(text), Options{})
			if pol != nil {
				t.Error("accepted")
			}
			if name != "depth" && !strings.Contains(diags.String(), "[too-large]") {
				t.Errorf("%.500s", diags)
			}
		})
	}
}
