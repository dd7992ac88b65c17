// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"gopkg.in/yaml.v3"

	"tetragon/api/v1/tetragon"
	"tetragon/internal/event"
)

var update = flag.Bool("update", false, "rewrite the wanted lines in testdata")

// TestEncoder_golden encodes the events of each file in testdata: options, the events as YAML with the names of the
// event model, and the lines wanted.
func TestEncoder_golden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in testdata (%v)", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var opts Options
			var evs []event.Event
			var want *txtar.File
			for i := range ar.Files {
				switch f := &ar.Files[i]; f.Name {
				case "options.yaml":
					parseYAML(t, f.Data, &opts)
				case "events.yaml":
					parseYAML(t, f.Data, &evs)
				case "want.jsonl":
					want = f
				default:
					t.Fatalf("%s holds %q, which the test does not know", file, f.Name)
				}
			}
			if want == nil || len(evs) == 0 {
				t.Fatalf("%s lacks events.yaml or want.jsonl", file)
			}
			e := New(opts)
			var got []byte
			for i := range evs {
				line := e.AppendJSON(nil, &evs[i])
				checkForms(t, line, e.AppendWire(nil, &evs[i]))
				if again := e.AppendJSON(nil, &evs[i]); !bytes.Equal(line, again) {
					t.Errorf("the second encoding differs from the first:\n%s", gocmp.Diff(string(line), string(again)))
				}
				got = append(append(got, line...), '\n')
			}
			if *update {
				want.Data = got
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := gocmp.Diff(string(want.Data), string(got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", file, diff)
			}
		})
	}
}

func parseYAML(t *testing.T, b []byte, into any) {
	t.Helper()
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		t.Fatal(err)
	}
}

// checkForms: line is what protojson writes for the message, and wire is the same message.
func checkForms(t *testing.T, line, wire []byte) {
	t.Helper()
	var fromLine, fromWire tetragon.GetEventsResponse
	if err := protojson.Unmarshal(line, &fromLine); err != nil {
		t.Fatalf("protojson refuses the line: %v\n%s", err, line)
	}
	if err := proto.Unmarshal(wire, &fromWire); err != nil {
		t.Fatalf("protobuf refuses the wire form: %v\n%s", err, line)
	}
	if diff := gocmp.Diff(&fromLine, &fromWire, protocmp.Transform()); diff != "" {
		t.Errorf("the two forms differ (-JSON +wire):\n%s", diff)
	}
	canonical, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(&fromLine)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(line), string(compacted(t, canonical)); got != want {
		t.Errorf("not what protojson writes:\n got %s\nwant %s", got, want)
	}
}

// TestEncoder_recordedLines takes recorded events of upstream apart and makes them again: the lines must be the same,
// key by key and in the same order. It runs where the recordings are at hand.
func TestEncoder_recordedLines(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "..", "..", "shared", "corpus", "golden-*", "*", "raw.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("recordings: not beside this repository; testdata stands for them")
	}
	counts := map[event.Kind]int{}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			var m tetragon.GetEventsResponse
			if err := protojson.Unmarshal(s.Bytes(), &m); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			ev, ok := unmake(&m)
			if !ok {
				continue
			}
			e := New(Options{NodeName: m.NodeName, ClusterName: m.ClusterName, Cred: bytes.Contains(s.Bytes(), []byte(`"cap":`)), KeepFragments: true})
			want := string(compacted(t, s.Bytes()))
			switch x := m.GetProcessExit(); {
			case x != nil: // upstream reads its clock twice
				want = strings.Replace(want, `"time":`+string(appendTime(nil, x.Time.AsTime().UnixNano())),
					`"time":`+string(appendTime(nil, ev.Time)), 1)
			case ev.Kind == event.KindLoader: // upstream leaves out the time
				want = strings.TrimSuffix(want, "}") + `,"time":` + string(appendTime(nil, ev.Time)) + "}"
			}
			counts[ev.Kind]++
			got := e.AppendJSON(nil, ev)
			if string(got) != want {
				t.Errorf("%s:\n%s", file, gocmp.Diff(want, string(got)))
			}
			checkForms(t, got, e.AppendWire(nil, ev))
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []event.Kind{event.KindExec, event.KindExit, event.KindKprobe, event.KindLoader} {
		if counts[k] == 0 {
			t.Errorf("no recorded event of kind %d", k)
		}
	}
	t.Logf("lines by kind: %v", counts)
}

// unmake turns a message back into the event that it says.
func unmake(m *tetragon.GetEventsResponse) (*event.Event, bool) {
	ev := &event.Event{}
	if m.Time != nil {
		ev.Time = m.Time.AsTime().UnixNano()
	}
	switch {
	case m.GetProcessKprobe() != nil:
		unmakeKprobe(ev, m.GetProcessKprobe())
	case m.GetProcessLoader() != nil:
		x := m.GetProcessLoader()
		ev.Kind, ev.Time, ev.Loader = event.KindLoader, 1, &event.Loader{Path: []byte(x.Path), BuildID: x.Buildid}
		ev.Process, ev.Parent = unmakeProcess(x.Process), unmakeProcess(x.Parent)
	case m.GetProcessExec() != nil:
		ev.Kind = event.KindExec
		ev.Process, ev.Parent = unmakeProcess(m.GetProcessExec().Process), unmakeProcess(m.GetProcessExec().Parent)
	case m.GetProcessExit() != nil:
		x := m.GetProcessExit()
		ev.Kind = event.KindExit
		ev.Process, ev.Parent = unmakeProcess(x.Process), unmakeProcess(x.Parent)
		ev.Exit = event.Exit{Status: x.Status, Signal: uint8(max(0, slices.Index(signalNames[:], x.Signal)))}
	default:
		return nil, false
	}
	return ev, true
}

func unmakeProcess(p *tetragon.Process) *event.Process {
	if p == nil {
		return nil
	}
	q := &event.Process{
		Key: unmakeID(p.ExecId), Parent: unmakeID(p.ParentExecId), StartTime: p.StartTime.AsTime().UnixNano(),
		UID: p.Uid.GetValue(), AUID: p.Auid.GetValue(), Binary: p.Binary, Arguments: p.Arguments, Cwd: p.Cwd,
		Docker: p.Docker, InInitTree: p.InInitTree.GetValue(), Refcnt: p.Refcnt, Placeholder: p.ExecId == "",
	}
	for _, w := range strings.Fields(p.Flags) {
		for bit := event.Flags(1); bit != 0; bit <<= 1 {
			if bit.String() == w {
				q.Flags |= bit
			}
		}
	}
	sets := [3]uint64{}
	for i, list := range [][]tetragon.CapabilitiesType{p.GetCap().GetPermitted(), p.GetCap().GetEffective(), p.GetCap().GetInheritable()} {
		for _, c := range list {
			sets[i] |= 1 << c
		}
	}
	c := p.ProcessCredentials
	q.Creds = event.Creds{
		UID: c.GetUid().GetValue(), GID: c.GetGid().GetValue(), EUID: c.GetEuid().GetValue(), EGID: c.GetEgid().GetValue(),
		SUID: c.GetSuid().GetValue(), SGID: c.GetSgid().GetValue(), FSUID: c.GetFsuid().GetValue(), FSGID: c.GetFsgid().GetValue(),
		Permitted: sets[0], Effective: sets[1], Inheritable: sets[2],
	}
	if b := p.BinaryProperties; b != nil {
		q.Binprm = event.BinaryProperties{
			Setuid: b.Setuid != nil, Setgid: b.Setgid != nil, Unlinked: b.File.GetInode() != nil,
			Inode: b.File.GetInode().GetNumber(), Links: b.File.GetInode().GetLinks().GetValue(), Path: b.File.GetPath(),
		}
		for _, r := range b.PrivilegesChanged {
			q.Binprm.PrivilegesChanged |= 1 << (r - 1)
		}
	}
	return q
}

func unmakeID(id string) event.Key {
	b, err := base64.StdEncoding.DecodeString(id)
	if err != nil || len(b) == 0 {
		return event.Key{}
	}
	var k event.Key
	words := strings.Split(string(b), ":")
	if _, err := fmt.Sscan(words[len(words)-2], &k.Ktime); err != nil {
		panic(err)
	}
	if _, err := fmt.Sscan(words[len(words)-1], &k.Pid); err != nil {
		panic(err)
	}
	return k
}

func TestExecID_format(t *testing.T) {
	tests := []struct {
		name, node string
		key        event.Key
		want       string
	}{
		{"exec", "node-a", event.Key{Pid: 31415, Ktime: 905112334455667}, "bm9kZS1hOjkwNTExMjMzNDQ1NTY2NzozMTQxNQ=="},
		{"kernel", "node-a", event.KernelKey, "bm9kZS1hOjE6MA=="},
		{"unknown parent", "node-a", event.Key{Pid: 7}, "bm9kZS1hOjA6Nw=="},
		{"no node", "", event.Key{Pid: 1, Ktime: 2}, "OjI6MQ=="},
		{"largest", "x", event.Key{Pid: 1<<32 - 1, Ktime: 1<<64 - 1}, "eDoxODQ0Njc0NDA3MzcwOTU1MTYxNTo0Mjk0OTY3Mjk1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := ExecID(tt.node, tt.key); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	for n := range 9 { // each remainder of the name's length
		node, k := strings.Repeat("n", n), event.Key{Pid: 10, Ktime: 99}
		want := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s:%d:%d", node, k.Ktime, k.Pid))
		if got := ExecID(node, k); got != want {
			t.Errorf("node of %d bytes: got %q, want %q", n, got, want)
		}
	}
}

func TestSignalName_numbers(t *testing.T) {
	for n, want := range map[uint8]string{0: "", 1: "SIGHUP", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM", 16: "SIGSTKFLT", 29: "SIGIO", 31: "SIGSYS", 32: "", 64: "", 255: ""} {
		if got := signalName(n); got != want {
			t.Errorf("signal %d: got %q, want %q", n, got, want)
		}
	}
}

// TestEncoder_keepsFragments: with KeepFragments a process is encoded once, and Reset makes it be encoded anew.
func TestEncoder_keepsFragments(t *testing.T) {
	ev := sampleExit()
	e := New(Options{NodeName: "node-a", KeepFragments: true})
	first := e.AppendJSON(nil, ev)
	if ev.Process.Encoded.JSON == nil || ev.Parent.Encoded.JSON == nil || ev.Process.Encoded.Wire != nil {
		t.Fatalf("after JSON: kept %q and %q", ev.Process.Encoded.JSON, ev.Process.Encoded.Wire)
	}
	e.AppendWire(nil, ev)
	if ev.Process.Encoded.Wire == nil {
		t.Fatal("after wire: no wire fragment kept")
	}
	ev.Process.Docker = "0123456789abcdef0123456789abcde"
	if got := e.AppendJSON(nil, ev); !bytes.Equal(got, first) {
		t.Errorf("the kept fragment was not used:\n%s", got)
	}
	ev.Process.Encoded.Reset()
	if got := e.AppendJSON(nil, ev); !bytes.Contains(got, []byte(`"docker":"0123456789abcdef0123456789abcde"`)) {
		t.Errorf("after Reset the old fragment was used:\n%s", got)
	}

	loose := sampleExit()
	if got := New(Options{NodeName: "node-a"}).AppendJSON(nil, loose); !bytes.Equal(got, first) {
		t.Errorf("without KeepFragments (-want +got):\n%s", gocmp.Diff(string(first), string(got)))
	}
	if loose.Process.Encoded.JSON != nil || loose.Parent.Encoded.JSON != nil {
		t.Error("fragments were kept although not asked for")
	}
}

// TestEncoder_execOnlyProperties: what the exec did is said once, and not kept for later events.
func TestEncoder_execOnlyProperties(t *testing.T) {
	ev := sampleExec()
	ev.Process.Binprm = event.BinaryProperties{Setuid: true}
	e := New(Options{Cred: true, KeepFragments: true})
	for i := range 2 {
		line := string(e.AppendJSON(nil, ev))
		if !strings.Contains(line, `"binary_properties":{"setuid":0}`) || !strings.Contains(line, `"refcnt":1`) {
			t.Errorf("exec %d lacks its properties:\n%s", i, line)
		}
	}
	exit := *ev
	exit.Kind = event.KindExit
	if line := string(e.AppendJSON(nil, &exit)); strings.Contains(line, "binary_properties") || strings.Contains(line, "refcnt") {
		t.Errorf("exit repeats the exec's properties:\n%s", line)
	}
	if line := string(New(Options{}).AppendJSON(nil, ev)); strings.Contains(line, "binary_properties") {
		t.Errorf("properties without Cred:\n%s", line)
	}
}

// TestCache_collisions: values that drive each other out of the cache never show each other's fragments.
func TestCache_collisions(t *testing.T) {
	e := New(Options{Cred: true, Ns: true})
	ev := sampleExec()
	for i := range uint64(500) {
		for _, n := range []uint64{i, i / 2, 0} {
			ev.Process.Creds.Permitted, ev.Process.Creds.Effective = 1<<(n%64), 1<<(n/8%64)
			ev.Process.Ns.Mnt = uint32(4026531840 + n)
			line := e.AppendJSON(nil, ev)
			var m tetragon.GetEventsResponse
			if err := protojson.Unmarshal(line, &m); err != nil {
				t.Fatal(err)
			}
			p := m.GetProcessExec().Process
			if got, want := p.Cap.Permitted[0], tetragon.CapabilitiesType(n%64); got != want {
				t.Fatalf("%d: permitted %v, want %v", n, got, want)
			}
			if got, want := p.Cap.Effective[0], tetragon.CapabilitiesType(n/8%64); got != want {
				t.Fatalf("%d: effective %v, want %v", n, got, want)
			}
			if got, want := p.Ns.Mnt.Inum, ev.Process.Ns.Mnt; got != want {
				t.Fatalf("%d: mount namespace %v, want %v", n, got, want)
			}
		}
	}
}

// FuzzEncoder gives all texts of an event to the fuzzer: the line stays one line of valid JSON and the forms agree.
func FuzzEncoder(f *testing.F) {
	for i, s := range fillStrings {
		f.Add(s, fillStrings[(i+3)%len(fillStrings)], s, int64(i)*1e15, uint64(i)<<60, uint32(i))
	}
	f.Fuzz(func(t *testing.T, binary, args, node string, at int64, caps uint64, n uint32) {
		p := &event.Process{
			Key: event.Key{Pid: n, Ktime: caps}, StartTime: at, Binary: binary, Arguments: args, Cwd: node, Docker: args, User: binary,
			Flags: event.Flags(n), UID: n, Env: []event.EnvVar{{Key: args, Value: binary}},
			Creds:  event.Creds{EUID: n, SecureBits: n, Permitted: caps, Inheritable: ^caps},
			Ns:     event.Namespaces{Mnt: n, Time: n & 1},
			Binprm: event.BinaryProperties{Path: binary, PrivilegesChanged: event.PrivilegeChange(n), Unlinked: n&2 != 0, Inode: caps},
		}
		e := New(Options{NodeName: node, ClusterName: args, Cred: true, Ns: true, Username: true, KeepFragments: n&1 == 0})
		for _, k := range []event.Kind{event.KindExec, event.KindExit, event.KindLoss, event.KindUnknown} {
			ev := &event.Event{
				Kind: k, Time: at, Process: p, Parent: p, Ancestors: []*event.Process{p, p}, Exit: event.Exit{Status: n, Signal: uint8(n)},
				Losses: []event.Loss{{What: binary, Reason: args, Count: caps, Since: at}},
			}
			line := e.AppendJSON(nil, ev)
			if bytes.IndexByte(line, '\n') >= 0 || !utf8.Valid(line) || !json.Valid(line) {
				t.Fatalf("not one line of JSON: %q", line)
			}
			checkForms(t, line, e.AppendWire(nil, ev))
		}
	})
}

// TestEncoder_noAllocation: whatever is asked for, nothing is allocated once fragments are kept, nor without keeping any.
func TestEncoder_throttle(t *testing.T) {
	e := New(Options{NodeName: "node-a"})
	for stop, want := range map[bool]string{
		false: `{"process_throttle":{"type":"THROTTLE_START","cgroup":"a.scope"},"node_name":"node-a","time":"1970-01-01T00:00:01Z"}`,
		true:  `{"process_throttle":{"type":"THROTTLE_STOP","cgroup":"a.scope"},"node_name":"node-a","time":"1970-01-01T00:00:01Z"}`,
	} {
		ev := &event.Event{Kind: event.KindThrottle, Time: 1e9, Throttle: event.Throttle{Cgroup: "a.scope", Stop: stop}}
		if got := string(e.AppendJSON(nil, ev)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestEncoder_noAllocation(t *testing.T) {
	buf := make([]byte, 0, 1<<16)
	exec, exit := sampleExec(), sampleExit()
	setuid := sampleExec()
	setuid.Process.Binprm = event.BinaryProperties{Setuid: true, PrivilegesChanged: event.RaisedSetuid, Unlinked: true, Path: "/x"}
	setuid.Ancestors = []*event.Process{exec.Process, exec.Parent}
	loss := &event.Event{Kind: event.KindLoss, Losses: []event.Loss{{What: "exec", Reason: "ring_full", Count: 3}}}
	throttle := &event.Event{Kind: event.KindThrottle, Throttle: event.Throttle{Cgroup: "a.scope"}}
	for _, keep := range []bool{true, false} {
		e := New(Options{NodeName: "node-a", Cred: true, Ns: true, Username: true, KeepFragments: keep})
		for name, ev := range map[string]*event.Event{"exec": exec, "exit": exit, "setuid": setuid, "loss": loss, "throttle": throttle} {
			for _, p := range slices.Concat([]*event.Process{ev.Process, ev.Parent}, ev.Ancestors) {
				if p != nil {
					p.Encoded.Reset()
				}
			}
			if n := testing.AllocsPerRun(100, func() { e.AppendJSON(buf, ev) }); n != 0 {
				t.Errorf("%s, keep %v: AppendJSON allocates %v times", name, keep, n)
			}
			if n := testing.AllocsPerRun(100, func() { e.AppendWire(buf, ev) }); n != 0 {
				t.Errorf("%s, keep %v: AppendWire allocates %v times", name, keep, n)
			}
		}
	}
}

func sampleProcess(pid uint32) *event.Process {
	return &event.Process{
		Key: event.Key{Pid: pid, Ktime: 905_112_334_455_667}, Parent: event.Key{Pid: 31400, Ktime: 905_100_000_000_123},
		StartTime: 1_777_889_472_345_678_901, UID: 0, AUID: 1000, Flags: event.FlagExecve | event.FlagClone | event.FlagRootCwd,
		Binary: "/usr/bin/rsync", Arguments: `-a --delete "/srv/my files/" backup:/srv/`, Cwd: "/",
		Creds: event.Creds{Permitted: 1<<41 - 1, Effective: 1<<41 - 1},
		Ns: event.Namespaces{
			UTS: 4026531838, IPC: 4026531839, Mnt: 4026531841, Pid: 4026531836, PidForChildren: 4026531836,
			Net: 4026531840, Time: 4026531834, TimeForChildren: 4026531834, Cgroup: 4026531835, User: 4026531837,
		},
	}
}

func sampleExec() *event.Event {
	return &event.Event{
		Kind: event.KindExec, Tid: 31415, Time: 1_777_889_472_345_677_950, Process: sampleProcess(31415), Parent: sampleProcess(31400),
	}
}

func sampleExit() *event.Event {
	ev := sampleExec()
	ev.Kind, ev.Exit = event.KindExit, event.Exit{Status: 23}
	return ev
}

func BenchmarkEncode(b *testing.B) {
	type appender func(e *Encoder, b []byte, ev *event.Event) []byte
	bench := func(name string, opts Options, ev *event.Event, fresh bool, f appender) {
		b.Run(name, func(b *testing.B) {
			opts.NodeName, opts.KeepFragments = "node-a", true
			e := New(opts)
			buf := f(e, nil, ev)
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				if fresh {
					ev.Process.Encoded.Reset()
				}
				buf = f(e, buf[:0], ev)
			}
		})
	}
	all := Options{Cred: true, Ns: true}
	setuid := sampleExec()
	setuid.Process.Binprm = event.BinaryProperties{Setuid: true, PrivilegesChanged: event.RaisedSetuid}
	bench("exit_cached", Options{}, sampleExit(), false, (*Encoder).AppendJSON)
	bench("exit_cached_wire", Options{}, sampleExit(), false, (*Encoder).AppendWire)
	bench("exit_cached_all", all, sampleExit(), false, (*Encoder).AppendJSON)
	bench("exec_cached", Options{}, sampleExec(), false, (*Encoder).AppendJSON)
	bench("exec_new", Options{}, sampleExec(), true, (*Encoder).AppendJSON)
	bench("exec_new_wire", Options{}, sampleExec(), true, (*Encoder).AppendWire)
	bench("exec_new_all", all, sampleExec(), true, (*Encoder).AppendJSON)
	bench("exec_setuid_all", all, setuid, false, (*Encoder).AppendJSON)
}

// BenchmarkProtojson is the library's way to the same line, for comparison.
func BenchmarkProtojson(b *testing.B) {
	b.Run("exit", func(b *testing.B) {
		var m tetragon.GetEventsResponse
		if err := proto.Unmarshal(New(Options{NodeName: "node-a"}).AppendWire(nil, sampleExit()), &m); err != nil {
			b.Fatal(err)
		}
		o := protojson.MarshalOptions{UseProtoNames: true}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := o.Marshal(&m); err != nil {
				b.Fatal(err)
			}
		}
	})
}
