// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"tetragon/internal/elf"
	"tetragon/internal/elf/elftest"
	"tetragon/internal/kernel"
	"tetragon/internal/policy/compile"
	"tetragon/internal/policy/parse"
)

// asked are the answers of explain --example for every field of a resource, by the paths.
func asked(t *testing.T, resource string) map[string]string {
	t.Helper()
	e, err := parse.Explain(resource)
	if err != nil {
		t.Fatal(err)
	}
	all, err := examplesOf(e.Kind)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	var walk func(path []string, f *parse.Field)
	walk = func(path []string, f *parse.Field) {
		at := parse.Explained{Kind: e.Kind, Path: path, Field: *f}
		out[strings.Join(path, ".")] = exampleOf(&at, all)
		for i := range f.Fields {
			walk(append(slices.Clone(path), f.Fields[i].Name), &f.Fields[i])
		}
	}
	walk(nil, &e.Field)
	return out
}

// TestExplain_examplesAreGood compiles all examples. User programs are one that is made here.
func TestExplain_examplesAreGood(t *testing.T) {
	k, err := kernel.OpenRecorded("../policy/compile/testdata/kernels/6.12.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	open := func(string) (*elf.File, error) {
		b, _ := elftest.Program{}.Bytes()
		return elf.New(bytes.NewReader(b))
	}
	entries, err := exampleFiles.ReadDir("examples")
	if err != nil || len(entries) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	// What examples are told of is what they are about: who loads policies has to allow these, or to put in a digest.
	told := []string{"node-selector", "action-host", "inactive"}
	names := map[string]bool{}
	for _, x := range entries {
		text, err := exampleFiles.ReadFile("examples/" + x.Name())
		if err != nil {
			t.Fatal(err)
		}
		there := strings.NewReplacer("readline", "greet", "libc\n", "scenario\n", "setjmp", "passed", ": mine", ": scenario", "asked", "passed").Replace(string(text))
		pol, d := parse.YAML(x.Name(), []byte(there), parse.Options{})
		if pol != nil {
			if names[pol.Name] {
				t.Errorf("%s: a second %s", x.Name(), pol.Name)
			}
			names[pol.Name] = true
			_, more := compile.Compile(pol, k, compile.Options{Open: open, OpenTypes: compile.OpenTypes})
			d.Add(more)
		}
		for _, m := range d.List {
			if !slices.Contains(told, m.Code) {
				t.Errorf("%s: %s: %s [%s]", x.Name(), m.Path, m.Text, m.Code)
			}
		}
	}
}

// TestExplain_examplesHaveFields wants an example for every section and for nearly every field.
func TestExplain_examplesHaveFields(t *testing.T) {
	refused := []string{"podSelector", "containerSelector", "argRegs", "argNewSymbol", "argNewAddr", "argNewOffset"}
	n := 0
	var without []string
	for path, text := range asked(t, "tracingpolicy") {
		n++
		parts := strings.Split(path, ".")
		has := !strings.HasPrefix(text, "# No example")
		switch {
		case slices.ContainsFunc(parts, func(p string) bool { return slices.Contains(refused, p) }):
			if has {
				t.Errorf("%s is refused and has an example", path)
			}
		case !has && len(parts) <= 2 && parts[0] == "spec":
			t.Errorf("%s has no example", path)
		case !has && strings.HasPrefix(text, "# No example has "+path+"; this one has spec.") && strings.Contains(text, "."+parts[len(parts)-1]+".\n"):
			// in another section
		case !has:
			without = append(without, path)
		}
	}
	slices.Sort(without)
	if len(without) > n/4 {
		t.Errorf("%d of %d fields have no example: %s", len(without), n, strings.Join(without, " "))
	}
}

// TestExplain_namespacedExamples wants examples of the other kind to be such.
func TestExplain_namespacedExamples(t *testing.T) {
	for path, text := range asked(t, "tgtpn") {
		if _, d := parse.YAML("", []byte(text), parse.Options{}); d.Bad() || !strings.Contains(text, "kind: TracingPolicyNamespaced\n") {
			t.Errorf("%s: %s\n%s", path, d, text)
		}
	}
}

func TestExplain_completion(t *testing.T) {
	for word, want := range map[string]string{
		"":                             "tracingpolicy tgtp tracingpolicynamespaced tgtpn",
		"tgtp":                         "tgtp tgtpn",
		"tgtp.sp":                      "tgtp.spec",
		"tgtp.spec.kprobes[0].returnA": "tgtp.spec.kprobes[0].returnArg tgtp.spec.kprobes[0].returnArgAction",
		"tgtp.nope.x":                  "",
		"x":                            "",
	} {
		if got := strings.Join(completeField(word), " "); got != want {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
	}
}
