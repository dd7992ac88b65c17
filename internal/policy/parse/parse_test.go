// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"tetragon/internal/policy"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// golden is one file of testdata: a policy, the variables that are set for it, and what must come of it: diagnostics, the
// model, or both. A file whose name ends in .bad.txtar must be refused, others must not.
type golden struct {
	path    string
	archive *txtar.Archive
	parts   map[string]string
}

func goldens(t testing.TB) []golden {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal("no goldens", err)
	}
	var out []golden
	for _, p := range paths {
		a, err := txtar.ParseFile(p)
		if err != nil {
			t.Fatal(err)
		}
		g := golden{path: p, archive: a, parts: make(map[string]string)}
		for _, f := range a.Files {
			g.parts[f.Name] = string(f.Data)
		}
		if g.parts["policy.yaml"] == "" {
			if _, ok := g.parts["policy.yaml"]; !ok {
				t.Fatalf("%s: no policy.yaml", p)
			}
		}
		out = append(out, g)
	}
	return out
}

// getenv reads "NAME=value" lines.
func (g *golden) getenv() func(string) (string, bool) {
	m := make(map[string]string)
	for _, l := range strings.Split(g.parts["env"], "\n") {
		if k, v, ok := strings.Cut(l, "="); ok {
			m[k] = v
		}
	}
	return func(n string) (string, bool) { v, ok := m[n]; return v, ok }
}

func TestYAML(t *testing.T) {
	for _, g := range goldens(t) {
		t.Run(strings.TrimSuffix(filepath.Base(g.path), ".txtar"), func(t *testing.T) {
			pol, diags := YAML("policy.yaml", []byte(g.parts["policy.yaml"]), Options{Getenv: g.getenv()})
			bad := strings.HasSuffix(g.path, ".bad.txtar")
			if bad != diags.Bad() || bad != (pol == nil) {
				t.Errorf("refused: %t, a policy: %t\n%s", diags.Bad(), pol != nil, diags)
			}
			got := map[string]string{"diagnostics": diags.String()}
			if pol != nil {
				got["model"] = dump(pol)
			}
			if *update {
				g.write(t, got)
				return
			}
			for name, text := range got {
				if want, ok := g.parts[name]; ok || name == "diagnostics" {
					if d := cmp.Diff(strings.Split(want, "\n"), strings.Split(text, "\n")); d != "" {
						t.Errorf("%s: -want +got; -update rewrites it\n%s", name, d)
					}
				}
			}
			if _, ok := g.parts["model"]; ok && pol == nil {
				t.Error("a refused policy has no model")
			}
		})
	}
}

// write rewrites a golden: its diagnostics if there are any, its model if it has one.
func (g *golden) write(t *testing.T, got map[string]string) {
	t.Helper()
	a := &txtar.Archive{Comment: g.archive.Comment}
	for _, f := range g.archive.Files {
		switch f.Name {
		case "diagnostics", "model":
		default:
			a.Files = append(a.Files, f)
		}
	}
	for _, name := range []string{"diagnostics", "model"} {
		if _, had := g.parts[name]; got[name] != "" && (name == "diagnostics" || had) {
			a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(got[name])})
		}
	}
	if err := os.WriteFile(g.path, txtar.Format(a), 0o644); err != nil {
		t.Fatal(err)
	}
}

// dump prints a policy: a line for each scalar that is there or has a default, with its place.
func dump(pol *policy.Policy) string {
	var b strings.Builder
	fmt.Fprintf(&b, "kind %d name %q namespace %q labels %v annotations %v\n", pol.Kind, pol.Name, pol.Namespace, pol.Labels, pol.Notes)
	v := reflect.ValueOf(*pol)
	for i := range v.NumField() {
		switch v.Type().Field(i).Name {
		case "Place", "Labels", "Notes", "File", "Kind", "Name", "Namespace":
		default:
			dumpValue(&b, v.Field(i))
		}
	}
	return b.String()
}

func dumpValue(b *strings.Builder, v reflect.Value) {
	line := func(at policy.Place, text string) {
		fmt.Fprintf(b, "%d:%d %s = %s\n", at.Line, at.Column, at.Path, text)
	}
	switch x := v.Interface().(type) {
	case policy.Place:
		return
	case policy.Text:
		if x.Value != "" {
			line(x.Place, fmt.Sprintf("%q", x.Value))
		}
		return
	case policy.Int:
		if x.Set {
			line(x.Place, fmt.Sprint(x.Value))
		}
		return
	case policy.Bool:
		if x.Set {
			line(x.Place, fmt.Sprint(x.Value))
		} else if x.Value {
			line(x.Place, "true by default")
		}
		return
	case *policy.LabelSelector:
		if x != nil {
			line(x.Place, fmt.Sprintf("%v %+v", x.MatchLabels, x.Expressions))
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			dumpValue(b, v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			dumpValue(b, v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			dumpValue(b, v.Field(i))
		}
	}
}
