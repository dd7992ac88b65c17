// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
	"testing"
)

// TestCoverage wants a reason for whatever is not there, and nothing that is said to be there to be missing.
func TestCoverage(t *testing.T) {
	text := coverage()
	for _, line := range strings.Split(text, "\n") {
		if strings.HasSuffix(line, "| not here |") || strings.HasSuffix(line, ": |") {
			t.Errorf("no reason is given: %s", line)
		}
	}
	for _, want := range []string{
		"| `FineGuidanceSensors.GetEvents` | there |", "| `FineGuidanceSensors.RuntimeHook` | UNIMPLEMENTED: ", "| `tetra getevents` | there |",
		"| `tetra cri` | not here: ", "| `export-filename` | there |", "| `tetragon_events_total` | there |", "| `binary_regex` | there |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q", want)
		}
	}
}

// TestFresh wants the references in the tree to be what this program writes.
func TestFresh(t *testing.T) {
	for name, text := range pages() {
		b, err := os.ReadFile("../../docs/reference/" + name)
		if err != nil || string(b) != text {
			t.Errorf("docs/reference/%s is not what the tables say (%v); run make generate", name, err)
		}
	}
}
