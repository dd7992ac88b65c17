// SPDX-License-Identifier: Apache-2.0

package tetragon_test

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"tetragon/api/v1/tetragon"
)

var update = flag.Bool("update", false, "rewrite testdata/contract.txt")

// protoFiles are the files of the API, in the order of the contract.
var protoFiles = []protoreflect.FileDescriptor{
	tetragon.File_tetragon_tetragon_proto,
	tetragon.File_tetragon_events_proto,
	tetragon.File_tetragon_sensors_proto,
	tetragon.File_tetragon_eventlogservice_proto,
	tetragon.File_tetragon_bpf_proto,
	tetragon.File_tetragon_capabilities_proto,
}

// ours is what we add to the contract: fields by full name, and the messages that only they use.
var ours = map[string]bool{
	"StackTraceEntry.build_id": true, "StackTraceEntry.symbol_offset": true,
	"RateLimitInfo.losses": true, "EventLoss": true,
	"GetHealthStatusResponse.balance": true, "StageBalance": true, "StageDrop": true,
	"GetHealthStatusResponse.notes":     true,
	"AddTracingPolicyRequest.variables": true, "AddTracingPolicyRequest.file": true, "AddTracingPolicyRequest.replace": true,
	"AddTracingPolicyRequest.mode": true, "Enforcement": true, "ProcessKprobe.enforcement": true, "ProcessTracepoint.enforcement": true,
	"ProcessKprobe.suppressed": true, "ProcessTracepoint.suppressed": true, "ProcessUprobe.suppressed": true, "ProcessUsdt.suppressed": true,
	"ProcessLsm.suppressed": true, "ProcessLsm.enforcement": true,
	"ProcessUprobe.enforcement": true, "ProcessUsdt.enforcement": true,
	"Aggregation": true, "ProcessKprobe.aggregated": true, "ProcessTracepoint.aggregated": true, "ProcessUprobe.aggregated": true,
	"ProcessUsdt.aggregated": true, "ProcessLsm.aggregated": true,
	"AddTracingPolicyRequest.VariablesEntry":                  true,
	"TracingPolicyActionCounters.notify_enforcer_overwritten": true, "TracingPolicyActionCounters.notify_enforcer_unused": true,
	"TracingPolicyStatus.warnings": true, "TracingPolicyStatus.hooks": true, "TracingPolicyStatus.file": true, "TracingPolicyHook": true,
}

// TestContract_unchanged holds the descriptors against the list in testdata. A line that changes or goes breaks clients;
// only new lines are fine, and then -update writes them.
func TestContract_unchanged(t *testing.T) {
	got := strings.Join(contract(nil), "\n") + "\n"
	const golden = "testdata/contract.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the API differs from %s (-want +got):\n%s", golden, diff)
	}
}

// TestContract_matchesSpecification holds the descriptors against the tables of the specification, where it is at hand.
func TestContract_matchesSpecification(t *testing.T) {
	spec := filepath.Join("..", "..", "..", "..", "shared", "spec", "events.md")
	text, err := os.ReadFile(spec)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("specification: not beside this repository; testdata/contract.txt stands for it")
	} else if err != nil {
		t.Fatal(err)
	}
	want, got := specContract(t, string(text)), contract(ours)
	if len(want) < 500 {
		t.Fatalf("read only %d facts from %s; has its form changed?", len(want), spec)
	}
	// The specification lists empty messages at the end of their file, so order counts only inside a message.
	slices.SortStableFunc(want, byOwner)
	slices.SortStableFunc(got, byOwner)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the API differs from the specification (-want +got):\n%s", diff)
	}
}

// TestExtensions_outOfTheWay: what we add must not take a number that upstream might give out.
func TestExtensions_outOfTheWay(t *testing.T) {
	found := 0
	for _, f := range protoFiles {
		eachMessage(f.Messages(), func(m protoreflect.MessageDescriptor) {
			for i := range m.Fields().Len() {
				fd := m.Fields().Get(i)
				if !ours[local(fd)] {
					continue
				}
				found++
				if fd.Number() < 1000 {
					t.Errorf("%s has number %d, want 1000 or more", fd.FullName(), fd.Number())
				}
				if i < m.Fields().Len()-1 && !ours[local(m.Fields().Get(i+1))] {
					t.Errorf("%s stands before fields of the contract; that changes the order of keys in JSON", fd.FullName())
				}
			}
		})
	}
	if found != 29 {
		t.Errorf("found %d fields of ours, want 29", found)
	}
}

// contract lists every fact of the API that clients rely on, one a line, but for what is in skip.
func contract(skip map[string]bool) []string {
	var out []string
	for _, f := range protoFiles {
		file := filepath.Base(f.Path())
		for i := range f.Enums().Len() {
			out = append(out, enumLines(file, f.Enums().Get(i))...)
		}
		eachMessage(f.Messages(), func(m protoreflect.MessageDescriptor) {
			if skip[local(m)] {
				return
			}
			out = append(out, file+" message "+local(m))
			out = append(out, reservedLines(file, local(m), m.ReservedRanges(), 1)...)
			for i := range m.Fields().Len() {
				if fd := m.Fields().Get(i); !skip[local(fd)] {
					out = append(out, file+" field "+fieldLine(fd))
				}
			}
			for i := range m.Enums().Len() {
				out = append(out, enumLines(file, m.Enums().Get(i))...)
			}
		})
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				m := s.Methods().Get(j)
				l := fmt.Sprintf("%s rpc %s(%s) ", file, local(m), local(m.Input()))
				if m.IsStreamingServer() {
					l += "stream "
				}
				l += local(m.Output())
				if m.Options().(*descriptorpb.MethodOptions).GetDeprecated() {
					l += " deprecated"
				}
				out = append(out, l)
			}
		}
	}
	return out
}

func enumLines(file string, e protoreflect.EnumDescriptor) []string {
	out := []string{file + " enum " + local(e)}
	out = append(out, reservedLines(file, local(e), e.ReservedRanges(), 0)...)
	for i := range e.Values().Len() {
		v := e.Values().Get(i)
		l := fmt.Sprintf("%s value %s.%s %d", file, local(e), v.Name(), v.Number())
		if v.Options().(*descriptorpb.EnumValueOptions).GetDeprecated() {
			l += " deprecated"
		}
		out = append(out, l)
	}
	return out
}

// reservedLines lists reserved ranges. The end of a range is excluded in messages (over = 1) and included in enums.
func reservedLines[N ~int32, R interface {
	Len() int
	Get(int) [2]N
}](file, name string, rs R, over N) []string {
	var out []string
	for i := range rs.Len() {
		r := rs.Get(i)
		out = append(out, fmt.Sprintf("%s reserved %s %d-%d", file, name, r[0], r[1]-over))
	}
	return out
}

func fieldLine(fd protoreflect.FieldDescriptor) string {
	l := fmt.Sprintf("%s %d %s", local(fd), fd.Number(), typeName(fd))
	switch od := fd.ContainingOneof(); {
	case fd.IsMap():
	case fd.IsList():
		l += " repeated"
	case fd.HasOptionalKeyword():
		l += " optional"
	case od != nil:
		l += " oneof " + string(od.Name())
	}
	if fd.Options().(*descriptorpb.FieldOptions).GetDeprecated() {
		l += " deprecated"
	}
	return l
}

func typeName(fd protoreflect.FieldDescriptor) string {
	switch {
	case fd.IsMap():
		return "map<" + typeName(fd.MapKey()) + "," + typeName(fd.MapValue()) + ">"
	case fd.Message() != nil:
		return strings.TrimPrefix(local(fd.Message()), local(fd.ContainingMessage())+".") // as in the .proto, where nested
	case fd.Enum() != nil:
		return local(fd.Enum())
	}
	return fd.Kind().String()
}

// local is a full name without its package.
func local(d protoreflect.Descriptor) string {
	s := string(d.FullName())
	s = strings.TrimPrefix(s, "google.protobuf.")
	return strings.TrimPrefix(s, "tetragon.")
}

func eachMessage(ms protoreflect.MessageDescriptors, f func(protoreflect.MessageDescriptor)) {
	for i := range ms.Len() {
		if m := ms.Get(i); !m.IsMapEntry() {
			f(m)
			eachMessage(m.Messages(), f)
		}
	}
}

// byOwner orders lines by file, then by the message, enum or service that they belong to.
func byOwner(a, b string) int { return strings.Compare(owner(a), owner(b)) }

func owner(line string) string {
	w := strings.Fields(line)
	name := w[2]
	if w[1] == "field" || w[1] == "value" || w[1] == "rpc" {
		name, _, _ = strings.Cut(name, "(")
		name = name[:strings.LastIndexByte(name, '.')]
	}
	return w[0] + " " + name
}

var (
	specFile    = regexp.MustCompile(`^### 4\.\d+ (\S+\.proto)$`)
	specMessage = regexp.MustCompile(`^\*\*([\w.]+)\*\*$`)
	specRow     = regexp.MustCompile(`^\| (\S+) \| (\d+) \| (\S+) \| (.*?) \|`)
	specEnum    = regexp.MustCompile(`^\*\*(\w+)\*\* \((\S+\.proto)(?:; reserved (.*))?\): (.*)\.$`)
	specService = regexp.MustCompile("^`service (\\w+)` \\((\\S+\\.proto)")
	specRPC     = regexp.MustCompile(`^\| (\w+) \| (\w+) \| ((?:stream )?\w+) \| (yes)? ?\|$`)
	specRange   = regexp.MustCompile(`(\d+) to (\d+)`)
)

// specContract reads the same lines as contract makes from sections 2 to 4 of the specification.
func specContract(t *testing.T, text string) []string {
	var out []string
	var section, file, message, service string
	reserved := func(file, name, ranges string) {
		for _, r := range specRange.FindAllStringSubmatch(ranges, -1) {
			out = append(out, fmt.Sprintf("%s reserved %s %s-%s", file, name, r[1], r[2]))
		}
	}
	for _, l := range strings.Split(text, "\n") {
		if strings.HasPrefix(l, "## ") {
			section = l[3:4]
		}
		switch section {
		case "2":
			if m := specService.FindStringSubmatch(l); m != nil {
				service, file = m[1], m[2]
			} else if m := specRPC.FindStringSubmatch(l); m != nil && m[1] != "RPC" {
				s := fmt.Sprintf("%s rpc %s.%s(%s) %s", file, service, m[1], m[2], m[3])
				if m[4] != "" {
					s += " deprecated"
				}
				out = append(out, s)
			}
		case "3":
			m := specEnum.FindStringSubmatch(l)
			if m == nil {
				continue
			}
			out = append(out, m[2]+" enum "+m[1])
			reserved(m[2], m[1], m[3])
			for _, v := range strings.Split(m[4], ", ") {
				name, number, ok := strings.Cut(v, "=")
				if !ok {
					t.Fatalf("enum %s: cannot read %q", m[1], v)
				}
				s := fmt.Sprintf("%s value %s.%s %s", m[2], m[1], name, strings.TrimSuffix(number, "†"))
				if strings.HasSuffix(number, "†") {
					s += " deprecated"
				}
				out = append(out, s)
			}
		case "4":
			if m := specFile.FindStringSubmatch(l); m != nil {
				file = m[1]
			} else if m := specMessage.FindStringSubmatch(l); m != nil {
				message = m[1]
				out = append(out, file+" message "+message)
				if message == "GetEventsResponse" {
					reserved(file, message, "2 to 4, 6 to 8, 13 to 26") // said in section 1.3
				}
			} else if m := specRow.FindStringSubmatch(l); m != nil {
				name, typ := strings.TrimSuffix(m[1], "†"), strings.NewReplacer("&lt;", "<", "&gt;", ">").Replace(m[3])
				s := fmt.Sprintf("%s field %s.%s %s %s", file, message, name, m[2], typ)
				if m[4] != "" {
					s += " " + m[4]
				}
				if name != m[1] {
					s += " deprecated"
				}
				out = append(out, s)
			} else if names, ok := strings.CutPrefix(l, "Empty messages: "); ok {
				for _, n := range strings.Split(strings.TrimRight(names, "."), ", ") {
					out = append(out, file+" message "+n)
				}
			}
		}
	}
	return out
}
