// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

func TestSum(t *testing.T) {
	for _, tc := range []struct {
		name   string
		steps  []string
		want   string // last lines
		shows  []string
		hushes []string
	}{
		{"a command is a test", []string{"a: true"}, "1 passed, 0 failed\n", []string{"--- PASS: a"}, nil},
		{"a failing one", []string{"a: exit 3", "b: true"}, "failed: a\n1 passed, 1 failed\n", []string{"exit status 3"}, nil},
		{
			"tests and tests within",
			[]string{`u: printf '=== RUN TestA\n    x: chat\n=== RUN TestA/b\n    x: chat\n    --- PASS: TestA/b (0.1s)\n--- PASS: TestA (0.1s)\nPASS\nok pkg\n'`},
			"2 passed, 0 failed\n", []string{"    --- PASS: TestA/b", "ok pkg"}, []string{"=== RUN", "chat"},
		},
		{
			"a failing test says why",
			[]string{`u: printf '=== RUN TestA\n    x: why\n--- FAIL: TestA (0.1s)\n'; exit 1`},
			"failed: u: TestA\n0 passed, 1 failed\n", []string{"why"}, nil,
		},
		{
			"a skipped test says why",
			[]string{`u: printf '=== RUN TestA\n=== RUN TestA/b\n    x: needs lsm\n=== RUN TestA/c\n    x: hush\n--- PASS: TestA (0.1s)\n    --- SKIP: TestA/b (0.1s)\n    --- PASS: TestA/c (0.1s)\n'`},
			"1 skipped\n2 passed, 0 failed\n", []string{"needs lsm"}, []string{"hush"},
		},
		{
			"a failure without a test",
			[]string{`u: printf -- '--- PASS: TestA (0.1s)\nFAIL pkg [build failed]\n'; exit 1`},
			"failed: u\n1 passed, 1 failed\n", []string{"build failed"}, nil,
		},
		{
			"sums within do not count",
			[]string{`u: printf -- '--- PASS: TestA (0.1s)\n7 passed, 3 failed\n'`},
			"1 passed, 0 failed\n", nil, []string{"7 passed"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			s, err := runAll(context.Background(), tc.steps, 1, &out)
			if err != nil {
				t.Fatal(err)
			}
			s.print(&out)
			if !strings.HasSuffix(out.String(), "\n"+tc.want) {
				t.Errorf("want it to end in %q:\n%s", tc.want, &out)
			}
			for _, l := range tc.shows {
				if !strings.Contains(out.String(), l) {
					t.Errorf("want %q shown:\n%s", l, &out)
				}
			}
			for _, l := range tc.hushes {
				if strings.Contains(out.String(), l) {
					t.Errorf("want %q not shown:\n%s", l, &out)
				}
			}
		})
	}
}

func TestSum_mistakes(t *testing.T) {
	for _, steps := range [][]string{nil, {"no name"}} {
		if _, err := runAll(context.Background(), steps, 1, &bytes.Buffer{}); err == nil {
			t.Errorf("%q: no error", steps)
		}
	}
}

// TestSum_together runs steps at a time that wait for each other, and wants their lines in the order of the steps.
func TestSum_together(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	s, err := runAll(context.Background(), []string{
		"a: echo a1; while [ ! -e " + dir + "/b ]; do sleep 0.01; done; echo a2",
		"b: echo b1; touch " + dir + "/b; false",
		"c: echo c1",
	}, 2, &out)
	if err != nil {
		t.Fatal(err)
	}
	if s.passed != 2 || s.failed != 1 {
		t.Errorf("%d passed, %d failed, want 2 and 1", s.passed, s.failed)
	}
	last := -1
	for _, l := range []string{"a1", "a2", "b1", "c1"} {
		at := strings.Index(out.String(), l+"\n")
		if at <= last {
			t.Errorf("%q is missing or too early:\n%s", l, &out)
		}
		last = at
	}
}
