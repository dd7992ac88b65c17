// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"go/ast"
	goparser "go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// codeWord is the form of a code.
var codeWord = regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)

// codesIn finds the codes that the program in a folder tells: the second arguments of calls of Error and Warn of whatever
// spelling, and fields called code.
func codesIn(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(dir + "/*.go")
	if err != nil || len(paths) == 0 {
		t.Fatal("no program", dir, err)
	}
	found := make(map[string]bool)
	add := func(e ast.Expr) {
		if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
			if s, err := strconv.Unquote(l.Value); err == nil && codeWord.MatchString(s) {
				found[s] = true
			}
		}
	}
	for _, p := range paths {
		if strings.HasSuffix(p, "_test.go") {
			continue
		}
		f, err := goparser.ParseFile(token.NewFileSet(), p, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if s, ok := n.Fun.(*ast.SelectorExpr); ok && len(n.Args) >= 3 {
					switch strings.ToLower(s.Sel.Name) {
					case "error", "warn":
						add(n.Args[1])
					}
				}
			case *ast.KeyValueExpr:
				if k, ok := n.Key.(*ast.Ident); ok && k.Name == "code" {
					add(n.Value)
				}
			}
			return true
		})
	}
	return slices.Sorted(maps.Keys(found))
}

func names(cs []Code) []string {
	var out []string
	for _, c := range cs {
		out = append(out, c.Name)
	}
	return out
}

func TestCodes_areThoseThatAreTold(t *testing.T) {
	if d := cmp.Diff(codesIn(t, "."), names(codes)); d != "" {
		t.Errorf("codes.go and what the program tells differ: -told +table\n%s", d)
	}
}

// TestCodes_haveGoldens wants a case in testdata for each code.
func TestCodes_haveGoldens(t *testing.T) {
	var all strings.Builder
	for _, g := range goldens(t) {
		all.WriteString(g.parts["diagnostics"])
	}
	for _, c := range codes {
		if !strings.Contains(all.String(), "["+c.Name+"]\n") && c.Name != "too-large" { // of which TestYAML_tooLarge makes some
			t.Errorf("%s: no golden shows it", c.Name)
		}
	}
}

// TestCodes_documented holds docs/diagnostics.md to the table, and to the codes of the compiler.
func TestCodes_documented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/diagnostics.md")
	if err != nil {
		t.Fatal(err)
	}
	first, second, ok := strings.Cut(string(text), "\n## The policy on a kernel\n")
	if !ok {
		t.Fatal("docs/diagnostics.md has no part of the compiler")
	}
	row := regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| (.+) \\|$")
	var got []Code
	for _, m := range row.FindAllStringSubmatch(first, -1) {
		got = append(got, Code{m[1], m[2]})
	}
	if d := cmp.Diff(codes, got); d != "" {
		t.Errorf("docs/diagnostics.md: -codes.go +document\n%s", d)
	}
	var compiled []string
	for _, m := range row.FindAllStringSubmatch(second, -1) {
		compiled = append(compiled, m[1])
	}
	told := slices.DeleteFunc(codesIn(t, "../compile"), func(c string) bool { return slices.Contains(names(codes), c) })
	if d := cmp.Diff(told, compiled); d != "" {
		t.Errorf("docs/diagnostics.md, codes that only the compiler tells: -policy/compile +document\n%s", d)
	}
}
