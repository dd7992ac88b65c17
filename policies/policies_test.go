// SPDX-License-Identifier: Apache-2.0

package policies_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tetragon/internal/policy"
	"tetragon/internal/policy/parse"
	"tetragon/policies"
)

// TestAll wants each policy to be one, under a name of its own, with the scenario that it names as its proof.
func TestAll(t *testing.T) {
	found, err := filepath.Glob("*.yaml")
	if err != nil || len(found) != len(policies.Names()) {
		t.Errorf("%d files, %d policies, %v", len(found), len(policies.Names()), err)
	}
	proof := regexp.MustCompile(`(?m)^# Proof: (test/scenario/[a-z_]+\.txtar)$`)
	seen := map[string]string{}
	for _, n := range policies.Names() {
		text, err := policies.Text(n)
		if err != nil {
			t.Fatal(err)
		}
		p, d := parse.YAML(n+".yaml", text, parse.Options{})
		if len(d.List) > 0 {
			t.Errorf("%s", d)
		}
		if p == nil {
			continue
		}
		if other, ok := seen[p.Name]; ok {
			t.Errorf("%s and %s have one name: %s", n, other, p.Name)
		}
		seen[p.Name] = n
		// What enforces begins in mode monitor, and is not among those that "all" loads.
		monitors := slices.ContainsFunc(p.Options, func(o policy.Option) bool { return o.Name.Value == "policy-mode" && o.Value.Value == "monitor" })
		if orders := regexp.MustCompile(`action: (Override|Sigkill|Signal)`).Match(text); orders != policies.Enforces(n) || orders != monitors {
			t.Errorf("%s: orders %t, is named as one that does %t, begins in mode monitor %t", n, orders, policies.Enforces(n), monitors)
		}
		if !bytes.HasPrefix(text, []byte("# SPDX-License-Identifier: Apache-2.0\n")) {
			t.Errorf("%s: no licence in the first line", n)
		}
		if m := proof.FindSubmatch(text); m == nil {
			t.Errorf("%s: names no scenario that proves it", n)
		} else if _, err := os.Stat(filepath.Join("..", string(m[1]))); err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
}

func TestSelect(t *testing.T) {
	all := slices.DeleteFunc(policies.Names(), policies.Enforces)
	if !slices.IsSorted(all) || len(all) < 3 {
		t.Fatalf("names %v", all)
	}
	tests := []struct {
		words []string
		want  []string
		err   string
	}{
		{nil, nil, ""},
		{[]string{"all"}, all, ""},
		{[]string{all[2], all[0], all[2]}, []string{all[0], all[2]}, ""},
		{[]string{"all", all[1]}, all, ""},
		{[]string{all[0], "../x"}, nil, `there is no ready-made policy "../x"; there are ` + all[0]},
	}
	for _, tt := range tests {
		got, err := policies.Select(tt.words)
		if d := cmp.Diff(tt.want, got); d != "" || (err == nil) != (tt.err == "") || err != nil && !bytes.HasPrefix([]byte(err.Error()), []byte(tt.err)) {
			t.Errorf("%v: %v, %s", tt.words, err, fmt.Sprint(d))
		}
	}
}
