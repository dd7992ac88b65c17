// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"tetragon/internal/kernel"
	"tetragon/internal/policy/compile"
	"tetragon/internal/policy/parse"
	"tetragon/internal/policy/plan"
)

// bare is a kernel of which trampolines and kprobes are taken away.
type bare struct{ compile.Facts }

func (b bare) Lacks(x kernel.Feature) string {
	switch x {
	case kernel.Fentry, kernel.Kprobe, kernel.KprobeMulti:
		return "taken away for the test"
	}
	return b.Facts.Lacks(x)
}

// typeOf gives a policy's type for a parameter.
func typeOf(p *kernel.Param) string {
	c := strings.ReplaceAll(p.Type, "const ", "")
	for of, t := range map[string]string{
		"struct file *": "file", "struct sock *": "sock", "struct socket *": "socket", "struct sockaddr *": "sockaddr",
		"struct sockaddr_unsized *": "sockaddr", "struct cred *": "cred", "union bpf_attr *": "bpf_attr", "struct bpf_map *": "bpf_map",
		"struct perf_event *": "perf_event", "struct linux_binprm *": "linux_binprm", "kernel_cap_t *": "kernel_cap_t",
		"struct user_namespace *": "user_namespace", "struct module *": "module", "struct sk_buff *": "skb", "char *": "string",
	} {
		if c == of {
			return t
		}
	}
	switch {
	case p.Int && p.Bits == 64:
		return "uint64"
	case p.Int && p.Signed:
		return "int"
	case p.Int:
		return "uint32"
	}
	return "uint64"
}

// policyFor hooks a function with all parameters that its equivalent shows, and with its return value.
func policyFor(name string, proto *kernel.Func, withReturn bool) string {
	params, returns := compile.Shown(name)
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: cilium.io/v1alpha1\nkind: TracingPolicy\nmetadata: {name: row}\nspec:\n  kprobes:\n  - call: %s\n    syscall: false\n    args:\n", name)
	n := 0
	for _, i := range params {
		if proto == nil || i < len(proto.Params) {
			t := "uint64"
			if proto != nil {
				t = typeOf(&proto.Params[i])
			}
			fmt.Fprintf(&b, "    - {index: %d, type: %s}\n", i, t)
			n++
		}
	}
	text := b.String()
	if n == 0 {
		text = strings.TrimSuffix(text, "    args:\n")
	}
	if returns && withReturn && proto != nil && proto.Return.Type != "void" {
		t := typeOf(&proto.Return)
		text += fmt.Sprintf("    return: true\n    returnArg: {index: 0, type: %s}\n", t)
	}
	return text
}

// TestEquivalents holds each row of the table, with the kernel's own types: what stands for the function, for each of its
// parameters and for its return value. Rows that a kernel's tracepoints do not allow are taken from another kernel.
func TestEquivalents(t *testing.T) {
	const golden = "testdata/rows/equivalents.txtar"
	old, err := txtar.ParseFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]string)
	for _, f := range old.Files {
		want[f.Name] = string(f.Data)
	}
	got := &txtar.Archive{Comment: old.Comment}
	facts := []bare{{recorded(t, "6.18-bare")}, {recorded(t, "6.12")}, {recorded(t, "6.1")}}
	for _, name := range compile.Stands() {
		t.Run(name, func(t *testing.T) {
			var why string
			for _, f := range facts {
				proto := f.Func(name)
				if proto == nil {
					continue
				}
				params, _ := compile.Shown(name)
				for _, i := range params {
					if i >= len(proto.Params) {
						t.Errorf("the table has parameter %d, the function has not: %s", i, proto)
					}
				}
				for _, withReturn := range []bool{false, true} {
					src := policyFor(name, proto, withReturn)
					if withReturn && !strings.Contains(src, "return: true") {
						continue
					}
					pol, d := parse.YAML("", []byte(src), parse.Options{})
					if pol == nil {
						t.Fatalf("%s\n%s", src, d)
					}
					p, d := compile.Compile(pol, f, compile.Options{})
					if p == nil {
						t.Fatalf("%s\n%s", src, d)
					}
					if p.Hooks[0].Inactive != "" {
						why = p.Hooks[0].Inactive
						break
					}
					text := p.String()
					for i := range p.Hooks {
						if h := &p.Hooks[i]; h.Name != name || len(h.Tried) != 2 || h.Attach.Backend < plan.BackendSysEnter {
							t.Errorf("hook %d: %s on %s, %d tried", i, h.Name, h.Attach.Backend, len(h.Tried))
						}
					}
					key := name
					if withReturn {
						key += " with its return value"
					}
					if !*update && text != want[key] {
						t.Errorf("-want +got:\n%s", lineDiff(want[key], text))
					}
					got.Files = append(got.Files, txtar.File{Name: key, Data: []byte(text)})
					why = ""
				}
				if why == "" {
					return
				}
			}
			t.Errorf("no recorded kernel shows it: %s", why)
		})
	}
	if *update {
		if err := os.WriteFile(golden, txtar.Format(got), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if len(got.Files) != len(want) {
		t.Errorf("%s has %d rows, the table gives %d", golden, len(want), len(got.Files))
	}
}

// TestEquivalents_neverBesideTheFunction: where a function can be hooked, nothing else is.
func TestEquivalents_neverBesideTheFunction(t *testing.T) {
	for _, k := range []string{"6.12", "6.1"} {
		f := recorded(t, k)
		for _, name := range compile.Stands() {
			pol, d := parse.YAML("", []byte(policyFor(name, f.Func(name), false)), parse.Options{})
			if pol == nil {
				t.Fatal(d)
			}
			p, d := compile.Compile(pol, f, compile.Options{})
			switch {
			case p == nil && f.Func(name) == nil && strings.Contains(d.String(), "[call-not-found]"):
			case p == nil:
				t.Errorf("kernel %s: %s: %s", k, name, d)
			case len(p.Hooks) != 1 || p.Hooks[0].Attach.Backend != plan.BackendFentry || p.Hooks[0].Attach.Symbol != name || len(p.Hooks[0].Caveats) > 0:
				t.Errorf("kernel %s: %s", k, p)
			}
		}
	}
}
