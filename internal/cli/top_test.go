// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"tetragon/api/v1/tetragon"
)

func execEvent(id, parent string, pid uint32, binary string) *tetragon.GetEventsResponse {
	return &tetragon.GetEventsResponse{Event: &tetragon.GetEventsResponse_ProcessExec{ProcessExec: &tetragon.ProcessExec{
		Process: &tetragon.Process{ExecId: id, ParentExecId: parent, Pid: wrapperspb.UInt32(pid), Binary: binary},
	}}}
}

func TestTopModel_bounded(t *testing.T) {
	m := newTopModel("here")
	const many = topProcesses + 100
	for i := range many {
		m.event(execEvent(fmt.Sprint(i), "", uint32(i), fmt.Sprint("/bin/", i)))
	}
	if len(m.processes) != topProcesses || len(m.binaries) != topBinaries || m.events.total != many {
		t.Errorf("%d processes, %d binaries, %d events", len(m.processes), len(m.binaries), m.events.total)
	}
	for _, size := range [][2]int{{1, 1}, {20, 5}, {80, 24}, {300, 100}} {
		lines := m.lines(size[0], size[1])
		if len(lines) > size[1] {
			t.Errorf("%d lines in a window of %d", len(lines), size[1])
		}
		for _, l := range lines {
			if n := len([]rune(l)); n > size[0] {
				t.Errorf("a line of %d characters in a window of %d", n, size[0])
			}
		}
	}
}

// TestDocs_top: the pane in docs/operations.md has the head lines that this program writes.
func TestDocs_top(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	m := newTopModel("here")
	m.event(execEvent("1", "", 1, "/x"))
	m.answers([]*tetragon.TracingPolicyStatus{{Name: "p", Hooks: []*tetragon.TracingPolicyHook{{Attached: "f"}}}}, nil)
	heads := 0
	for _, l := range m.lines(200, 50) {
		if _, err := strconv.Atoi(strings.Fields(l + " 0")[0]); err == nil || l != strings.ToUpper(l) && !strings.HasPrefix(l, "q: ") {
			continue // a row, not a head
		}
		heads++
		if !strings.Contains(string(text), "\n    "+l+"\n") {
			t.Errorf("docs/operations.md shows no %q", l)
		}
	}
	if heads < 5 {
		t.Errorf("only %d head lines found", heads)
	}
}

// TestTopModel_cost: what a call costs is that of the last interval, also after the policy was loaded anew, and is not made up.
func TestTopModel_cost(t *testing.T) {
	m := newTopModel("here")
	for i, step := range []struct {
		runs, ns       uint64
		perCall, share string
	}{
		{0, 0, "-", "-"},
		{1000, 500_000, "500", "0.05"},
		{1000, 500_000, "-", "-"}, // nobody counts any more, or nothing was called
		{3000, 2_500_000, "1000", "0.20"},
		{100, 20_000, "200", "0.00"},
	} {
		m.answers([]*tetragon.TracingPolicyStatus{{Name: "p", Hooks: []*tetragon.TracingPolicyHook{{Attached: "f", Runs: step.runs, RunTimeNs: step.ns}}}}, nil)
		m.tick(time.Second)
		if perCall, share := m.hooks[0].cost(); perCall != step.perCall || share != step.share {
			t.Errorf("step %d: %s ns a call and %s %%, want %s and %s", i, perCall, share, step.perCall, step.share)
		}
	}
}

func TestTopModel_endedLeave(t *testing.T) {
	m := newTopModel("here")
	m.event(execEvent("1", "", 1, "/parent"))
	m.event(execEvent("2", "1", 2, "/child"))
	exit := func(id string) {
		m.event(&tetragon.GetEventsResponse{Event: &tetragon.GetEventsResponse_ProcessExit{ProcessExit: &tetragon.ProcessExit{
			Process: &tetragon.Process{ExecId: id},
		}}})
	}
	tree := func() string { m.tick(time.Second); return strings.Join(m.treeLines(), "|") }
	exit("1")
	if got := tree(); got != "      2.0        1 /parent (ended)|      1.0        2   /child" {
		t.Errorf("tree %q", got)
	}
	exit("2")
	if got := tree(); !strings.HasSuffix(got, "/child (ended)") {
		t.Errorf("tree %q", got)
	}
	_ = tree() // the child leaves when nothing more comes of it, and then its parent
	if got := tree(); got != "" {
		t.Errorf("tree %q", got)
	}
}

func TestTopModel_keys(t *testing.T) {
	for in, want := range map[string]string{
		"/ab":             "true ab typing",
		"/ab\x7f":         "true a typing",
		"/ab\r":           "true ab",
		"/a\x1b":          "true ",
		"/q":              "true q typing",
		"p":               "true  paused",
		"q":               "false ",
		"/a\r\x1b[Ax\x03": "false a",
	} {
		m, goOn := newTopModel("here"), true
		for rest := in; rest != "" && goOn; {
			n := 1
			if strings.HasPrefix(rest, "\x1b[") {
				n = 3
			}
			goOn = m.key([]byte(rest[:n]))
			rest = rest[n:]
		}
		got := fmt.Sprint(goOn, " ", m.filter)
		if m.typing {
			got += " typing"
		}
		if m.paused {
			got += " paused"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
