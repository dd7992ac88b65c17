// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"tetragon/internal/event/read"
	"tetragon/internal/kernel"
	"tetragon/internal/policy/compile"
	"tetragon/internal/policy/parse"
	"tetragon/internal/sensor"
)

// live makes a manager of policies on the running kernel.
func live(t *testing.T) (*sensor.Manager, *kernel.Facts) {
	t.Helper()
	m, facts, _ := liveRing(t)
	return m, facts
}

// liveRing is live, with the ring that records come from.
func liveRing(t *testing.T) (*sensor.Manager, *kernel.Facts, *read.Reader) {
	t.Helper()
	facts, err := kernel.Read(kernel.Options{})
	if err != nil {
		t.Skipf("needs feature bpf: %v", err)
	}
	base, err := sensor.Load(sensor.Options{Facts: facts})
	if err != nil {
		t.Skipf("needs feature bpf: %v", err)
	}
	r, err := read.New(read.Options{Ring: base.Ring(), Sleep: base.Sleeps})
	if err != nil {
		t.Fatal(err)
	}
	m := sensor.NewManager(sensor.ManagerOptions{
		Base: base, Facts: func() (*kernel.Facts, error) { return facts, nil }, Log: slog.New(slog.DiscardHandler), Verbose: true, Grace: -1,
	})
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		_ = r.Close()
		_ = base.Close()
	})
	return m, facts, r
}

// TestLoad_policies loads and attaches on the running kernel, whichever it is: the policies that are delivered, those of
// upstream's library where they are at hand, and those of the golden files as far as this kernel can have them.
func TestLoad_policies(t *testing.T) {
	m, facts := live(t)
	texts := make(map[string][]byte)
	for _, file := range policyFiles(t) {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[file] = src
	}
	goldens, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(goldens) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range goldens {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Files {
			if f.Name == "policy.yaml" && !strings.HasSuffix(file, ".bad.txtar") {
				texts[file] = f.Data
			}
		}
	}
	for _, file := range slices.Sorted(maps.Keys(texts)) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			golden := strings.HasSuffix(file, ".txtar")
			pol, d := parse.YAML(file, texts[file], parse.Options{Getenv: variables})
			if pol == nil {
				t.Fatal(d)
			}
			p, d := compile.Compile(pol, facts, compile.Options{AllowMissing: golden})
			if p == nil {
				if golden && facts.Lacks(kernel.Fentry) != "" {
					return // made for kernels that have all
				}
				if facts.Lacks(kernel.FmodRet) != "" && strings.Contains(d.String(), "[cannot-override]") {
					return // what denies is never half there
				}
				t.Fatal(d)
			}
			id, err := m.Add(p)
			if err != nil {
				t.Fatalf("%v\n%s", err, p)
			}
			if err := m.Remove(id); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLoad_rows loads each row of the table of equivalents on the running kernel: by what stands for the function, or, where
// it can be hooked, by the function itself.
func TestLoad_rows(t *testing.T) {
	m, facts := live(t)
	for _, name := range compile.Stands() {
		for _, withReturn := range []bool{false, true} {
			src := policyFor(name, facts.Func(name), withReturn)
			pol, d := parse.YAML("", []byte(src), parse.Options{})
			if pol == nil {
				t.Fatal(d)
			}
			p, d := compile.Compile(pol, facts, compile.Options{})
			if p == nil {
				if facts.Func(name) != nil {
					t.Errorf("%s: %s", name, d)
				}
				continue // this kernel does not have it
			}
			id, err := m.Add(p)
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, p)
				continue
			}
			if err := m.Remove(id); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
