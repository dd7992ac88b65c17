// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"tetragon/internal/kernel"
)

// TestGuards_allShown wants each row of the table to name a system call, functions that the recorded kernels have, and to be
// among the calls of the scenario that shows them to deny.
func TestGuards_allShown(t *testing.T) {
	script, err := os.ReadFile("../../../test/scenario/enforce_guards.txtar")
	if err != nil {
		t.Fatal(err)
	}
	f, err := kernel.OpenRecorded("testdata/kernels/6.12.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	shown := make(map[string]bool)
	for _, m := range regexp.MustCompile(`\bsys_(\w+)`).FindAllStringSubmatch(string(script), -1) {
		shown[kernel.SyscallOf("x64", m[1])] = true
	}
	c := &compiler{f: f}
	for name, row := range guards {
		if _, ok := f.Syscall("x64", name); !ok {
			t.Errorf("%s: there is no such system call", name)
		}
		if !shown[name] {
			t.Errorf("%s: test/scenario/enforce_guards.txtar does not have it", name)
		}
		h := &hook{call: prefixX64 + "sys_" + name}
		if _, why := c.guardsOf(h); why != "" {
			t.Errorf("%s: %s", name, why)
		}
		for _, m := range row.mind {
			if strings.TrimSpace(m) == "" {
				t.Errorf("%s: an empty caveat", name)
			}
		}
	}
}
