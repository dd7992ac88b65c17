// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"tetragon/api/v1/tetragon"
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
		"| `FineGuidanceSensors.GetEvents` | there |", "| `FineGuidanceSensors.RuntimeHook` | UNIMPLEMENTED: ", "| `tetra getevents` | there |", "| `tetra explain` | there |",
		"| `tetra cri` | not here: ", "| `export-filename` | there |", "| `tetragon_events_total` | there |", "| `binary_regex` | there |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q", want)
		}
	}
}

// TestEventsReference wants every field and value of the messages of events, with a meaning for every field.
func TestEventsReference(t *testing.T) {
	text, err := eventsReference("../../api/v1/tetragon")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []protoreflect.FileDescriptor{
		tetragon.File_tetragon_events_proto, tetragon.File_tetragon_tetragon_proto, tetragon.File_tetragon_capabilities_proto, tetragon.File_tetragon_bpf_proto,
	} {
		for i := range f.Messages().Len() {
			m := f.Messages().Get(i)
			_, part, ok := strings.Cut(text, "\n## "+string(m.Name())+"\n")
			if part, _, _ = strings.Cut(part, "\n## "); !ok {
				t.Errorf("lacks the message %s", m.Name())
			}
			for j := range m.Fields().Len() {
				x := m.Fields().Get(j)
				if !regexp.MustCompile(fmt.Sprintf("\\| `%s` \\| [^|]+ \\| %d \\|", x.Name(), x.Number())).MatchString(part) {
					t.Errorf("%s: lacks the field %s", m.Name(), x.Name())
				}
			}
		}
		for i := range f.Enums().Len() {
			e := f.Enums().Get(i)
			for j := range e.Values().Len() {
				if !strings.Contains(text, fmt.Sprintf("| `%s` | %d |", e.Values().Get(j).Name(), e.Values().Get(j).Number())) {
					t.Errorf("%s: lacks the value %s", e.Name(), e.Values().Get(j).Name())
				}
			}
		}
	}
}

// TestFresh wants the references in the tree to be what this program writes.
func TestFresh(t *testing.T) {
	all, err := pages("../../api/v1/tetragon")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range all {
		b, err := os.ReadFile("../../docs/reference/" + name)
		if err != nil || string(b) != text {
			t.Errorf("docs/reference/%s is not what the tables say (%v); run make generate", name, err)
		}
	}
}
