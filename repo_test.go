// SPDX-License-Identifier: Apache-2.0

// Package repo holds the tests of the repository as a whole: who may import whom, what every package says of itself,
// and words that do not belong into the tree.
//
// The rules are a statement of policy. Do not loosen one to make a build pass: move the code.
//
// Not here: anything that a linter checks (.golangci.yml).
package repo

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "tetragon"

// importOrder says which of our packages a package may import. Names are below internal/, but for api, bpf and cmd.
// "a, b < c" lets c import a and b; what is not said is forbidden, also by way of others. Test files may import more.
const importOrder = `
NONE < abi, config, event, metrics, api, bpf, policy/expr, policy/digest;
policy/expr < policy, policy/plan;
NONE < nearest;
nearest < kernel, config, elf, policy/parse, policy/compile;

# the policy lane, downwards
policy, policy/digest, policy/expr < policy/parse;
elf, kernel, policy, policy/digest, policy/expr, policy/plan < policy/compile;
policy/plan < policy/simulate;
policy, policy/plan < policy/lint;
bpf, policy/digest, policy/expr, policy/plan < sensor/gen;
NONE < policies;

# the event lane, upwards
metrics < event/read;
abi, event, process, policy/plan < event/decode;
event < process;
abi, event, event/decode, metrics, policy/digest, policy/plan, process < event/enrich;
event, kernel, metrics < event/mmap;
metrics, policy < request;
api, event < event/filter, event/encode;
event, event/encode, event/filter, metrics < event/export;

# into the kernel
abi, bpf, elf, kernel, metrics, policy/digest, policy/plan, sensor/gen < sensor;
elf, kernel, policy, policy/compile, policy/parse, policy/plan, sensor < policy/registry;

# composition
api, event, event/encode, event/export, event/filter, metrics, policy, policy/registry, process < server;
api, config, elf, event/encode, event/filter, kernel, metrics, policies, policy, policy/compile, policy/lint, policy/parse, policy/plan, policy/simulate < cli;
abi, api, bpf, config, elf, event, event/decode, event/encode, event/enrich, event/export, event/filter, event/mmap, event/read, kernel, metrics, policies, policy, policy/compile, policy/parse, policy/plan, policy/registry, process, request, sensor, server < daemon;
config, daemon, kernel < cmd/tetragon;
cli < cmd/tetra;

# not in the product
NONE < scenario, elf/elftest, tools/vmlab, tools/testsum;
elf/elftest < test/victim;
abi < abi/abitest;
bpf < tools/abigen;
api < tools/encgen;
api, cli, config, metrics, server < tools/docgen;
`

// heavy says who may import what is heavy or dangerous, outside tests.
var heavy = []struct {
	prefix string
	only   []string
}{
	{"github.com/cilium/ebpf", []string{"bpf", "kernel", "sensor", "sensor/gen", "event/read", "metrics", "scenario", "tools/abigen"}},
	{"google.golang.org/", []string{"api", "event/encode", "event/filter", "server", "cli", "tools/docgen", "tools/encgen"}},
	{"github.com/prometheus/", []string{"metrics"}},
	{"github.com/spf13/", []string{"cli"}},
	{"github.com/rogpeppe/go-internal", []string{"scenario"}},
	{"cel.dev/", []string{"event/filter"}},
	{"k8s.io/", nil},
	{"unsafe", []string{"abi", "api", "event/decode", "event/mmap", "event/read", "sensor", "test/victim"}},
	{"net/http", []string{"daemon", "metrics", "request"}},
	{"log", nil}, // log/slog is what we use
}

// goFile is a parsed file of ours.
type goFile struct {
	path      string
	pkg       string // short name: "event/read"
	test      bool
	generated bool
	text      []byte
	ast       *ast.File
	fset      *token.FileSet
}

// short gives the name of a package in the rules.
func short(dir string) string {
	dir = strings.TrimPrefix(dir, "internal/")
	if dir == "api" || strings.HasPrefix(dir, "api/") {
		return "api"
	}
	return dir
}

var generatedLine = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// goFiles parses every Go file of the tree.
func goFiles(t *testing.T) []goFile {
	t.Helper()
	var out []goFile
	for _, p := range files(t) {
		if !strings.HasSuffix(p, ".go") {
			continue
		}
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		f := goFile{path: p, pkg: short(path.Dir(p)), test: strings.HasSuffix(p, "_test.go"), text: text, fset: token.NewFileSet()}
		f.generated = generatedLine.Match(text)
		if f.ast, err = parser.ParseFile(f.fset, p, text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

// files lists what belongs to the repository, by slash-separated paths: not what was built, and not test data.
func files(t *testing.T) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != "." && (d.Name() == ".git" || d.Name() == "bin" || d.Name() == "testdata" || d.Name() == ".cache") {
			return filepath.SkipDir
		}
		if d.Type().IsRegular() {
			out = append(out, filepath.ToSlash(p))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// allowed reads importOrder: package -> what it may import.
func allowed(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	text := regexp.MustCompile(`#.*`).ReplaceAllString(importOrder, "")
	for _, rule := range strings.Split(text, ";") {
		if strings.TrimSpace(rule) == "" {
			continue
		}
		left, right, ok := strings.Cut(rule, "<")
		if !ok {
			t.Fatalf("bad rule %q", rule)
		}
		for _, who := range strings.Split(right, ",") {
			who = strings.TrimSpace(who)
			if out[who] == nil {
				out[who] = []string{}
			}
			for _, what := range strings.Split(left, ",") {
				if what = strings.TrimSpace(what); what != "NONE" {
					out[who] = append(out[who], what)
				}
			}
		}
	}
	return out
}

func TestImportOrder(t *testing.T) {
	rules := allowed(t)
	for _, f := range goFiles(t) {
		if f.pkg == "." || f.test {
			continue
		}
		may, known := rules[f.pkg]
		if !known {
			t.Errorf("%s: package %s is not in importOrder; say what it may import", f.path, f.pkg)
			continue
		}
		for _, imp := range imports(t, f) {
			of, ours := strings.CutPrefix(imp, module+"/")
			if !ours {
				continue
			}
			if of = short(of); of != f.pkg && !slices.Contains(may, of) {
				t.Errorf("%s: %s may not import %s", f.path, f.pkg, of)
			}
		}
	}
}

// TestImportOrder_acyclic keeps the rules themselves free of circles.
func TestImportOrder_acyclic(t *testing.T) {
	rules := allowed(t)
	done := map[string]bool{}
	var visit func(p string, below []string)
	visit = func(p string, below []string) {
		if slices.Contains(below, p) {
			t.Fatalf("circle: %s", strings.Join(append(below, p), " < "))
		}
		if done[p] {
			return
		}
		if _, ok := rules[p]; !ok {
			t.Errorf("%s is imported by rule, but has none itself", p)
		}
		for _, q := range rules[p] {
			visit(q, append(below, p))
		}
		done[p] = true
	}
	for p := range rules {
		visit(p, nil)
	}
}

func TestHeavyImports(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		for _, imp := range imports(t, f) {
			for _, h := range heavy {
				match := imp == h.prefix || strings.HasPrefix(imp, strings.TrimSuffix(h.prefix, "/")+"/") && h.prefix != "log"
				if match && !slices.Contains(h.only, f.pkg) {
					t.Errorf("%s: only %v may import %s", f.path, h.only, imp)
				}
			}
		}
	}
}

func imports(t *testing.T, f goFile) []string {
	t.Helper()
	var out []string
	for _, i := range f.ast.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// TestPackageDocs wants each package to say what it is for.
func TestPackageDocs(t *testing.T) {
	docs := map[string]string{}
	for _, f := range goFiles(t) {
		dir := path.Dir(f.path)
		if f.test && dir != "." {
			continue
		}
		docs[dir] += "" // seen
		if f.ast.Doc != nil && !f.generated {
			docs[dir] += f.ast.Doc.Text()
		}
	}
	for dir, doc := range docs {
		if short(dir) == "api" {
			continue // all generated
		}
		want := "Package " + path.Base(dir)
		switch {
		case dir == ".":
			want = "Package repo"
		case strings.HasPrefix(dir, "cmd/") || strings.HasPrefix(dir, "tools/") || dir == "test/victim":
			want = "Command " + path.Base(dir)
		}
		if !strings.Contains(doc, want) {
			t.Errorf("%s: no package comment that begins with %q", dir, want)
		} else if strings.HasPrefix(want, "Package") && strings.Count(doc, "\n") < 5 {
			t.Errorf("%s: the package comment is short: say what it does, between whom it stands, what it leaves to others, what always holds, who may call it", dir)
		}
	}
}

// TestLicences wants a licence on the first lines of what people write.
func TestLicences(t *testing.T) {
	for _, p := range files(t) {
		var want string
		head := 1
		switch {
		case strings.HasSuffix(p, ".go"):
			want = "// SPDX-License-Identifier: Apache-2.0"
		case strings.HasPrefix(p, "bpf/") && (strings.HasSuffix(p, ".c") || strings.HasSuffix(p, ".h")):
			want = "SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)" // in a comment of either kind
		case strings.HasSuffix(p, ".sh") || p == "Makefile" || strings.HasPrefix(p, ".ci/"):
			want, head = "# SPDX-License-Identifier: Apache-2.0", 2
		default:
			continue
		}
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if generatedLine.Match(text) {
			continue
		}
		lines := strings.SplitN(string(text), "\n", head+1)
		if !strings.Contains(strings.Join(lines[:min(head, len(lines))], "\n"), want) {
			t.Errorf("%s: want %q in the first %d lines", p, want, head)
		}
	}
}

// bannedNames are names that promise nothing.
var bannedNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "types", "base", "shared", "lib", "stuff"}

func TestNames(t *testing.T) {
	for _, p := range files(t) {
		if dir, _, _ := strings.Cut(p, "/"); dir == "bpf" { // C has a lib, by its own layout
			continue
		}
		for _, part := range strings.Split(path.Dir(p), "/") {
			if slices.Contains(bannedNames, part) {
				t.Errorf("%s: a folder %q says nothing of what is in it", p, part)
			}
		}
		if stem := strings.TrimSuffix(strings.TrimSuffix(path.Base(p), ".go"), "_test"); strings.HasSuffix(p, ".go") && stem != "base" && slices.Contains(bannedNames, stem) {
			t.Errorf("%s: a file %q says nothing of what is in it", p, stem)
		}
	}
	for _, f := range goFiles(t) {
		if strings.ContainsAny(f.ast.Name.Name, "_ABCDEFGHIJKLMNOPQRSTUVWXYZ") && !f.test {
			t.Errorf("%s: package %s: want one lower-case word", f.path, f.ast.Name.Name)
		}
	}
}

// bannedWords are things that no text of ours may hold, as regular expressions.
var bannedWords = []struct{ what, re string }{
	{"a path of somebody's machine", `(^|[\s"'=(:])/(work|home/[a-z]+|Users)/`},
	{"the name of a package registry", `(?i)\b(proxy\.golang\.org|sum\.golang\.org|registry\.npmjs|pypi\.org|deb\.debian\.org|docker\.io|quay\.io|ghcr\.io)\b`},
	{"a note without an issue", `\bTODO\b(?:[^(]|\([^#])|\bFIXME\b|\bXXX\b`},
	{"an import of upstream", `github\.com/cilium/tetragon[^"]*"$`},
}

func TestWords(t *testing.T) {
	for _, p := range files(t) {
		switch path.Ext(p) {
		case ".go", ".c", ".h", ".md", ".sh", ".yml", ".yaml", ".txt", ".txtar", ".proto", "":
		default:
			continue
		}
		if p == "repo_test.go" || p == "go.sum" {
			continue
		}
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(text, 0) >= 0 {
			continue
		}
		for i, line := range strings.Split(string(text), "\n") {
			for _, b := range bannedWords {
				if m := regexp.MustCompile(b.re).FindString(line); m != "" {
					t.Errorf("%s:%d: %s: %q", p, i+1, b.what, strings.TrimSpace(m))
				}
			}
		}
	}
}

// TestGo holds what the tree may not contain: hidden start-up work, exits below main, panics on outside input.
func TestGo(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.generated || f.test {
			continue
		}
		main := f.ast.Name.Name == "main"
		ast.Inspect(f.ast, func(n ast.Node) bool {
			at := func(n ast.Node) string { return fmt.Sprint(f.fset.Position(n.Pos())) }
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Name.Name == "init" && n.Recv == nil {
					t.Errorf("%s: init: do it where somebody asks for it", at(n))
				}
			case *ast.CallExpr:
				switch fun := n.Fun.(type) {
				case *ast.SelectorExpr:
					if x, ok := fun.X.(*ast.Ident); ok && x.Name == "os" && fun.Sel.Name == "Exit" && !main {
						t.Errorf("%s: os.Exit outside of main: return an error", at(n))
					}
				case *ast.Ident:
					if fun.Name != "panic" || len(n.Args) != 1 {
						break
					}
					if !strings.Contains(string(f.text[n.Pos()-f.ast.FileStart:n.End()-f.ast.FileStart]), `"bug: `) {
						t.Errorf("%s: panic: only for what cannot happen, with a text that begins with \"bug: \"", at(n))
					}
				}
			}
			return true
		})
	}
}

// TestDocs wants the documents that a visitor looks for, and no link in them that leads nowhere.
func TestDocs(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#]+)`)
	for _, p := range files(t) {
		if path.Ext(p) != ".md" {
			continue
		}
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(p), m[1])); err != nil {
				t.Errorf("%s: link to %s: not there", p, m[1])
			}
		}
	}
	for _, p := range []string{"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"} {
		if _, err := os.Stat(p); err != nil {
			t.Errorf("%s: not there", p)
		}
	}
}
