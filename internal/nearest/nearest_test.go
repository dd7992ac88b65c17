// SPDX-License-Identifier: Apache-2.0

package nearest

import (
	"strings"
	"testing"
)

func TestName(t *testing.T) {
	names := []string{"kprobes", "tracepoints", "uprobes", "lists", strings.Repeat("x", 200)}
	for s, want := range map[string]string{
		"kprobe": "kprobes", "Kprobes": "kprobes", "kpobres": "kprobes", "uprobe": "uprobes", "tracepoint": "tracepoints",
		"selectors": "", "": "", "list": "lists", strings.Repeat("x", 199): "",
	} {
		if got := Name(s, names); got != want {
			t.Errorf("%q: %q, not %q", s, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, x := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3}} {
		if got := Distance(x.a, x.b); got != x.want {
			t.Errorf("%q %q: %d, not %d", x.a, x.b, got, x.want)
		}
	}
}
