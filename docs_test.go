// SPDX-License-Identifier: Apache-2.0

package repo

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The documents that make claims about the tree. Each claim below is held against the thing itself.

// texts reads every Markdown file.
func texts(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, p := range files(t) {
		if path.Ext(p) != ".md" {
			continue
		}
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		out[p] = string(b)
	}
	return out
}

// verbs are the targets of the Makefile that `make` lists.
func verbs(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^([a-z]+):[^#\n]*## `).FindAllStringSubmatch(string(b), -1) {
		out = append(out, m[1])
	}
	if len(out) == 0 {
		t.Fatal("Makefile: no verbs found")
	}
	return out
}

// TestDocs_verbs wants every `make VERB` that a document names to be there.
func TestDocs_verbs(t *testing.T) {
	known := verbs(t)
	// In code only: prose may make things.
	code := regexp.MustCompile("(?m)`make ([a-z]+)[^`]*`|^    make ([a-z]+)")
	for p, text := range texts(t) {
		for _, m := range code.FindAllStringSubmatch(text, -1) {
			if v := m[1] + m[2]; !slices.Contains(known, v) {
				t.Errorf("%s: make %s: the Makefile has no such verb, only %v", p, v, known)
			}
		}
	}
}

// TestDocs_contributingNamesEveryVerb wants a developer to find each verb explained.
func TestDocs_contributingNamesEveryVerb(t *testing.T) {
	text := texts(t)["CONTRIBUTING.md"]
	for _, v := range verbs(t) {
		if !strings.Contains(text, "`make "+v) && v != "help" {
			t.Errorf("CONTRIBUTING.md: make %s is not explained", v)
		}
	}
}

// treePath is a word in backquotes that names something in this repository.
var treePath = regexp.MustCompile("`((?:\\.\\./)*(?:api|bpf|cmd|docs|internal|test|tools|hook|lib|abi|scenario)/[A-Za-z0-9_./-]*|[A-Za-z_]+\\.(?:md|go|txt))`")

// TestDocs_paths wants every file and folder that a document names to be there, from the root or beside the document.
func TestDocs_paths(t *testing.T) {
	for p, text := range texts(t) {
		for _, m := range treePath.FindAllStringSubmatch(text, -1) {
			if !anywhere(m[1], ".", path.Dir(p), "bpf", "docs", "internal") {
				t.Errorf("%s: %s: not there", p, m[1])
			}
		}
	}
}

func anywhere(name string, dirs ...string) bool {
	for _, d := range dirs {
		if _, err := os.Stat(filepath.Join(d, name)); err == nil {
			return true
		}
	}
	return false
}

// TestDocs_treeMap wants the map in README.md to hold every folder of the root.
func TestDocs_treeMap(t *testing.T) {
	text := texts(t)["README.md"]
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") || e.Name() == "bin" {
			continue
		}
		if !regexp.MustCompile("(?m)^\\| `" + e.Name() + "/").MatchString(text) {
			t.Errorf("README.md: the map of the tree lacks %s/", e.Name())
		}
	}
}

// TestDocs_architectureNamesEveryPackage wants a paragraph on each package of the product.
func TestDocs_architectureNamesEveryPackage(t *testing.T) {
	text := texts(t)["ARCHITECTURE.md"]
	for pkg := range allowed(t) {
		if strings.HasPrefix(pkg, "tools/") || strings.HasPrefix(pkg, "cmd/") || pkg == "test/victim" || strings.HasSuffix(pkg, "test") {
			continue // not steps of the product
		}
		if !strings.Contains(text, "**`"+pkg+"`**") {
			t.Errorf("ARCHITECTURE.md: no paragraph that begins with the package %s", pkg)
		}
	}
}

// TestDocs_scenarios wants every scenario that a document names to be there.
func TestDocs_scenarios(t *testing.T) {
	name := regexp.MustCompile("`([a-z0-9_]+)\\.txtar`")
	for p, text := range texts(t) {
		for _, m := range name.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat("test/scenario/" + m[1] + ".txtar"); err != nil {
				t.Errorf("%s: scenario %s: not there", p, m[1])
			}
		}
	}
}

// TestDocs_tests wants every Go test that a document names to be there.
func TestDocs_tests(t *testing.T) {
	have := map[string]bool{}
	fn := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Za-z0-9_]+)\(`)
	for _, f := range goFiles(t) {
		if f.test {
			for _, m := range fn.FindAllStringSubmatch(string(f.text), -1) {
				have[m[1]] = true
			}
		}
	}
	name := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9_]*)`")
	for p, text := range texts(t) {
		for _, m := range name.FindAllStringSubmatch(text, -1) {
			if !have[m[1]] {
				t.Errorf("%s: test %s: not there", p, m[1])
			}
		}
	}
}

// flagTable finds the keys of the configuration in its table, without importing the package: rules of the tree need none
// of its code.
var flagTable = regexp.MustCompile(`key: "([a-z0-9-]+)"`)

// TestDocs_flags wants every flag of the agent that a document names in code to be one.
func TestDocs_flags(t *testing.T) {
	b, err := os.ReadFile("internal/config/keys.go")
	if err != nil {
		t.Fatal(err)
	}
	known := []string{"help", "print-config"}
	for _, m := range flagTable.FindAllStringSubmatch(string(b), -1) {
		known = append(known, m[1])
	}
	cliFlags := regexp.MustCompile(`Var(?:P)?\(&[a-z.A-Z]+, "([a-z-]+)"`)
	for _, f := range goFiles(t) {
		if f.pkg == "cli" && !f.test {
			for _, m := range cliFlags.FindAllStringSubmatch(string(f.text), -1) {
				known = append(known, m[1])
			}
		}
	}
	flag := regexp.MustCompile("`--([a-z][a-z0-9-]+)[^`]*`|tetragon --([a-z][a-z0-9-]+)")
	for p, text := range texts(t) {
		if strings.HasPrefix(p, "tools/") || strings.HasPrefix(p, "test/scenario/") {
			continue // they have flags of their own
		}
		for _, m := range flag.FindAllStringSubmatch(text, -1) {
			if f := m[1] + m[2]; !slices.Contains(known, f) && f != "processes" { // an older spelling, normalized
				t.Errorf("%s: flag --%s: neither the agent nor tetra has it", p, f)
			}
		}
	}
}

// TestDocs_decisions wants decisions to be numbered without a gap, and each to say what is needed to reopen it.
func TestDocs_decisions(t *testing.T) {
	var numbers, want []string
	for p, text := range texts(t) {
		if path.Dir(p) != "docs/decisions" {
			continue
		}
		n, _, _ := strings.Cut(path.Base(p), "-")
		numbers = append(numbers, n)
		if !strings.HasPrefix(text, "# "+n+": ") {
			t.Errorf("%s: want a heading that begins with %q", p, "# "+n+": ")
		}
		for _, part := range []string{"**Question.**", "**Chosen.**", "**Not chosen.**", "**What would make us change.**"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s: lacks %s", p, part)
			}
		}
		if lines := strings.Count(text, "\n"); lines > 60 {
			t.Errorf("%s: %d lines; a decision fits a page", p, lines)
		}
	}
	slices.Sort(numbers)
	for i := range numbers {
		want = append(want, fmt.Sprintf("%04d", i+1))
	}
	if d := cmp.Diff(want, numbers); d != "" {
		t.Errorf("docs/decisions: numbers (-want +got):\n%s", d)
	}
}

// TestDocs_filters wants the jq filters in docs/observability.md to be those that the scenarios run.
func TestDocs_filters(t *testing.T) {
	spaces := regexp.MustCompile(`\s+`)
	same := func(s string) string { return strings.TrimSpace(spaces.ReplaceAllString(s, " ")) }
	shown := regexp.MustCompile(`(?s)jq -r '(.*?)'`).FindAllStringSubmatch(texts(t)["docs/observability.md"], -1)
	var got, want []string
	for _, m := range shown {
		got = append(got, same(m[1]))
	}
	for _, name := range []string{
		"doc_bpf", "doc_modules", "doc_library", "doc_tmp_execs", "doc_sudo", "doc_suid", "doc_setuid", "doc_sshd", "doc_egress",
		"policy_file_capabilities", "policy_user_namespaces", "policy_capset", "policy_fileless", "policy_deleted",
	} {
		b, err := os.ReadFile("test/scenario/" + name + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		_, filter, ok := strings.Cut(string(b), ".jq --\n")
		if !ok {
			t.Fatalf("%s: holds no filter", name)
		}
		want = append(want, same(filter))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("docs/observability.md: filters (-scenarios +shown):\n%s", d)
	}
}
