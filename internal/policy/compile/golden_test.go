// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"tetragon/internal/elf"
	"tetragon/internal/elf/elftest"
	"tetragon/internal/kernel"
	"tetragon/internal/policy/compile"
	"tetragon/internal/policy/parse"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// kernels are those that were recorded, by TestRecordKernel of internal/kernel: two stock ones, and one without
// trampolines, kprobes, tracefs and modules.
var kernels = []string{"6.12", "6.1", "6.18-bare"}

// recorded reads a recorded kernel.
func recorded(t testing.TB, name string) *kernel.Recorded {
	t.Helper()
	r, err := kernel.OpenRecorded(filepath.Join("testdata/kernels", name+".json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// variables are those that the policies of tests name.
func variables(name string) (string, bool) {
	v, ok := map[string]string{"PODCIDR": "10.244.0.0/16", "SERVICECIDR": "10.96.0.0/12"}[name]
	return v, ok
}

// TestGolden holds what becomes of policies. A file is a policy.yaml and, for each kernel that it names, KERNEL.plan or
// KERNEL.diagnostics (both if there are warnings). A file *.bad.txtar is refused on each kernel that it names. Options are
// said in a part "options", a word each.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	facts := make(map[string]*kernel.Recorded)
	for _, k := range kernels {
		facts[k] = recorded(t, k)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var src []byte
			var o compile.Options
			named := make(map[string]bool)
			kept := a.Files[:0:0]
			for _, f := range a.Files {
				switch {
				case f.Name == "policy.yaml":
					src = f.Data
				case f.Name == "options":
					o.AllowMissing = bytes.Contains(f.Data, []byte("allow-missing"))
					o.DisableKprobeMulti = bytes.Contains(f.Data, []byte("disable-kprobe-multi"))
				default:
					k := strings.TrimSuffix(strings.TrimSuffix(f.Name, ".plan"), ".diagnostics")
					if facts[k] == nil {
						t.Fatalf("%s: no kernel %q was recorded", f.Name, k)
					}
					named[k] = true
					continue
				}
				kept = append(kept, f)
			}
			bad := strings.HasSuffix(file, ".bad.txtar")
			got := &txtar.Archive{Comment: a.Comment, Files: kept}
			for _, k := range kernels {
				if !named[k] {
					continue
				}
				plan, diags, ok := compiled(t, src, facts[k], o)
				if ok == bad {
					t.Errorf("kernel %s: accepted %t, want %t:\n%s", k, ok, !bad, diags)
				}
				if plan != "" {
					got.Files = append(got.Files, txtar.File{Name: k + ".plan", Data: []byte(plan)})
				}
				if diags != "" {
					got.Files = append(got.Files, txtar.File{Name: k + ".diagnostics", Data: []byte(diags)})
				}
			}
			if len(named) == 0 {
				t.Fatal("the file names no kernel: add an empty part such as 6.12.plan, and run with -update")
			}
			text := txtar.Format(got)
			if *update {
				if err := os.WriteFile(file, text, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := txtar.Format(a); !bytes.Equal(text, want) {
				t.Errorf("-want +got, if it is right run with -update:\n%s", lineDiff(string(want), string(text)))
			}
		})
	}
}

// compiled parses and compiles, and gives plan and diagnostics as text.
func compiled(t *testing.T, src []byte, f compile.Facts, o compile.Options) (plan, diags string, ok bool) {
	t.Helper()
	pol, d := parse.YAML("", src, parse.Options{Getenv: variables})
	if pol == nil {
		return "", d.String(), false
	}
	o.Open, o.OpenTypes = openProgram, openTypes(f)
	p, d := compile.Compile(pol, f, o)
	if p == nil {
		return "", d.String(), false
	}
	return p.String(), d.String(), true
}

// openTypes gives the types that policies of tests name: /types has those of the kernel, and there are no others.
func openTypes(f compile.Facts) func(string) (compile.Types, error) {
	return func(path string) (compile.Types, error) {
		if path != "/types" {
			return nil, fmt.Errorf("read the types (BTF) of %s: %w", path, os.ErrNotExist)
		}
		return f, nil
	}
}

// openProgram gives the programs that policies of tests hook: /prog is a small one, /stripped is the same without symbols,
// in /indirect the function is one that chooses, /go is one that Go made, /text is none. There are no others.
func openProgram(path string) (*elf.File, error) {
	switch path {
	case "/prog", "/stripped", "/indirect":
		b, _ := elftest.Program{Stripped: path == "/stripped", Indirect: path == "/indirect"}.Bytes()
		return elf.New(bytes.NewReader(b))
	case "/odd":
		b, _ := elftest.Program{Args: "8f@%xmm0 4@global(%rip) -4@%st0 4@8(%eax)"}.Bytes()
		return elf.New(bytes.NewReader(b))
	case "/text":
		return elf.New(strings.NewReader("#!/bin/sh\n"))
	case "/go":
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		return elf.Open(self)
	}
	return nil, os.ErrNotExist
}

// lineDiff tells which lines differ, the simple way.
func lineDiff(want, got string) string {
	var b strings.Builder
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for len(w) > 0 || len(g) > 0 {
		switch {
		case len(w) > 0 && len(g) > 0 && w[0] == g[0]:
			w, g = w[1:], g[1:]
		case len(w) > 0 && (len(g) == 0 || !slices.Contains(g, w[0])):
			fmt.Fprintf(&b, "- %s\n", w[0])
			w = w[1:]
		case len(g) > 0:
			fmt.Fprintf(&b, "+ %s\n", g[0])
			g = g[1:]
		default:
			w = w[1:]
		}
	}
	return b.String()
}

// policyFiles lists the policies that are delivered, and those of upstream's library if they are at hand.
func policyFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{
		"../../../policies/*.yaml", "../../../../shared/corpus/policylibrary/*.yaml", "../../../../shared/corpus/policylibrary/*/*.yaml",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		t.Fatal("there are no policies")
	}
	return files
}

// TestPolicies compiles the policies that are delivered, and those of upstream's library, which lie beside the repository
// where this is developed, on all kernels.
func TestPolicies(t *testing.T) {
	files := policyFiles(t)
	for _, k := range kernels {
		f := recorded(t, k)
		for _, file := range files {
			t.Run(k+"/"+filepath.Base(file), func(t *testing.T) {
				src, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				plan, diags, ok := compiled(t, src, f, compile.Options{})
				if !ok && f.Lacks(kernel.FmodRet) != "" && strings.Contains(diags, "[cannot-override]") {
					return // what denies is never half there
				}
				if !ok {
					t.Fatalf("refused:\n%s", diags)
				}
				for _, line := range strings.Split(diags, "\n") {
					// What is not there has another name there (bpf), or cannot happen there (modules).
					if strings.Contains(line, "warning: ") && !strings.Contains(line, "[inactive]") {
						t.Errorf("%s", line)
					}
				}
				t.Logf("%s%s", plan, diags)
			})
		}
	}
}
