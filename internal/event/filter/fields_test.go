// SPDX-License-Identifier: Apache-2.0

package filter_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"tetragon/api/v1/tetragon"
	"tetragon/internal/event"
	"tetragon/internal/event/encode"
	"tetragon/internal/event/filter"
)

func fields(t *testing.T, text string) *filter.Fields {
	t.Helper()
	list, err := filter.ParseFieldFilters(text)
	if err != nil {
		t.Fatalf("parse %s: %v", text, err)
	}
	f, err := filter.NewFields(list)
	if err != nil {
		t.Fatalf("compile %s: %v", text, err)
	}
	return f
}

const (
	execLine = `{"process_exec":{"process":{"pid":10,"binary":"/a\"},{","pod":{"name":"p","pod_labels":{"app":"x"}}},` +
		`"parent":{"pid":5,"binary":"/b"},"ancestors":[{"pid":1,"binary":"/c"},{"pid":0}]},"node_name":"n","time":"1970-01-01T00:00:01Z"}`
	kprobeLine = `{"process_kprobe":{"process":{"pid":10},"function_name":"f","args":[{"int_arg":4,"label":"a"},` +
		`{"file_arg":{"path":"/x","permission":"r"}}],"policy_name":"p"},"node_name":"n"}`
	lossLine = `{"rate_limit_info":{"number_of_dropped_process_events":"7"},"node_name":"n"}`
)

func TestFields(t *testing.T) {
	tests := []struct{ name, filters, event, want string }{
		{"include", `{"fields":"process.pid,parent.binary"}`, execLine,
			`{"process_exec":{"process":{"pid":10},"parent":{"binary":"/b"}},"node_name":"n","time":"1970-01-01T00:00:01Z"}`},
		{"exclude", `{"fields":"process,ancestors.pid","action":"EXCLUDE"}`, execLine,
			`{"process_exec":{"parent":{"pid":5,"binary":"/b"},"ancestors":[{"binary":"/c"},{}]},"node_name":"n","time":"1970-01-01T00:00:01Z"}`},
		{"names of JSON", `{"fields":"functionName,policy_name"}`, kprobeLine, `{"process_kprobe":{"function_name":"f","policy_name":"p"},"node_name":"n"}`},
		{"in lists", `{"fields":"args.label,args.fileArg.path"}`, kprobeLine,
			`{"process_kprobe":{"args":[{"label":"a"},{"file_arg":{"path":"/x"}}]},"node_name":"n"}`},
		{"two includes intersect", `{"fields":"process,parent"}{"fields":"process.pid,ancestors"}`, execLine,
			`{"process_exec":{"process":{"pid":10}},"node_name":"n","time":"1970-01-01T00:00:01Z"}`},
		{"include, then exclude", `{"fields":"process"} {"fields":"process.pod.pod_labels,process.binary","action":"EXCLUDE"}`, execLine,
			`{"process_exec":{"process":{"pid":10,"pod":{"name":"p"}}},"node_name":"n","time":"1970-01-01T00:00:01Z"}`},
		{"part and whole", `{"fields":"process.pid,process"}`, kprobeLine, `{"process_kprobe":{"process":{"pid":10}},"node_name":"n"}`},
		{"nothing of a message", `{"fields":"process.binary"}`, kprobeLine, `{"process_kprobe":{"process":{}},"node_name":"n"}`},
		{"nothing of an event", `{"fields":"parent"}`, kprobeLine, `{"process_kprobe":{},"node_name":"n"}`},
		{"no fields", `{"fields":""}`, kprobeLine, kprobeLine},
		{"other event", `{"event_set":["PROCESS_EXEC"],"fields":"process"}`, kprobeLine, kprobeLine},
		{"all but", `{"event_set":["PROCESS_EXEC"],"invert_event_set":true,"fields":"policy_name"}`, kprobeLine, `{"process_kprobe":{"policy_name":"p"},"node_name":"n"}`},
		{"losses stay", `{"fields":"process"}`, lossLine, lossLine},
		{"losses by name", `{"event_set":["RATE_LIMIT_INFO"],"fields":"process"}`, lossLine, `{"rate_limit_info":{},"node_name":"n"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := fields(t, tt.filters)
			if got := string(f.AppendJSON([]byte("x"), []byte(tt.event))); got != "x"+tt.want {
				t.Errorf("JSON\ngot  %s\nwant x%s", got, tt.want)
			}
			in, want := new(tetragon.GetEventsResponse), new(tetragon.GetEventsResponse)
			if err := protojson.Unmarshal([]byte(tt.event), in); err != nil {
				t.Fatal(err)
			}
			if err := protojson.Unmarshal([]byte(tt.want), want); err != nil {
				t.Fatal(err)
			}
			got, err := f.Prune(in)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
				t.Errorf("wire: %s", d)
			}
		})
	}
}

// TestFields_bothFormsAlike prunes events of the encoder in both forms, by paths that chance chose.
func TestFields_bothFormsAlike(t *testing.T) {
	enc := encode.New(encode.Options{NodeName: "node", Cred: true})
	ev := internal["exec"]
	ev.Time = 1e18
	hook := event.Event{Kind: event.KindKprobe, Tid: 10, Process: ev.Process, Parent: ev.Parent, Hook: &event.Hook{
		Policy: "p", Function: "f\\\"", Tags: []string{"a", "]"}, Args: []event.Arg{{Kind: event.ArgInt, Int: 3, Label: "{"},
			{Kind: event.ArgFile, Text: []byte("/x,\""), Int: 0o100644}, {Kind: event.ArgCred, Object: &event.Cred{}}},
	}}
	rng := rand.New(rand.NewPCG(1, 2))
	types := tetragon.File_tetragon_events_proto.Messages().ByName("GetEventsResponse").Oneofs().ByName("event").Fields()
	path := func() string {
		var names []string
		for d := types.Get(rng.IntN(types.Len())).Message(); d != nil && d.Fields().Len() > 0 && (len(names) == 0 || rng.IntN(2) > 0); {
			f := d.Fields().Get(rng.IntN(d.Fields().Len()))
			names = append(names, string(f.Name()))
			if d = f.Message(); f.IsMap() || d != nil && d.FullName().Parent() == protoreflect.FullName("google.protobuf") {
				d = nil
			}
		}
		return strings.Join(names, ".")
	}
	for range 400 {
		var list []*tetragon.FieldFilter
		for range 1 + rng.IntN(3) {
			m := &tetragon.FieldFilter{Fields: &fieldmaskpb.FieldMask{}, Action: tetragon.FieldFilterAction(rng.IntN(2))}
			for range 1 + rng.IntN(12) {
				m.Fields.Paths = append(m.Fields.Paths, path())
			}
			list = append(list, m)
		}
		f, err := filter.NewFields(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range []*event.Event{&ev, &hook} {
			line, wire := f.AppendJSON(nil, enc.AppendJSON(nil, e)), f.AppendWire(nil, enc.AppendWire(nil, e))
			a, b := new(tetragon.GetEventsResponse), new(tetragon.GetEventsResponse)
			if err := protojson.Unmarshal(line, a); err != nil {
				t.Fatalf("%v: %s: %v", list, line, err)
			}
			if err := proto.Unmarshal(wire, b); err != nil {
				t.Fatalf("%v: %v", list, err)
			}
			if d := cmp.Diff(a, b, protocmp.Transform()); d != "" {
				t.Fatalf("%v: JSON and wire differ: %s", list, d)
			}
		}
	}
}

func TestFields_warnings(t *testing.T) {
	for text, want := range map[string]string{
		`{"fields":"process.pid"}`:                                              ``,
		`{"fields":"process.bogus,process.pid"}`:                                `field filter 1: "process.bogus" is a field of none`,
		`{"fields":"process_exec.process"}`:                                     `paths begin below the event`,
		`{"fields":"process.pid.value"}`:                                        `"process.pid.value" is a field of none`,
		`{"fields":"process"}{"fields":"parent"}`:                               `field filters 1 and 2 both INCLUDE`,
		`{"fields":"process"}{"fields":"parent","action":"EXCLUDE"}`:            ``,
		`{"event_set":[1],"fields":"process"}{"event_set":[5],"fields":"time"}`: ``,
		`{"event_set":[1],"fields":"time"}`:                                     `"time" is a field of none`,
		`{"event_set":[1]}`:                                                     `names no fields`,
	} {
		if got := strings.Join(fields(t, text).Warnings(), "\n"); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: warnings %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]string{
		`{"redact":["--pass (\\S+)"]}`:    ``,
		`{"redact":["--pass \\S+"]}`:      `"--pass \\S+" masks nothing, because only groups are masked`,
		`{"binary_regex":["x"]}`:          `has no redact expressions`,
		`{"match":[{}],"redact":["(x)"]}`: `match is ignored`,
	} {
		r, err := filter.ParseRedaction(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(r.Warnings(), "\n"); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: warnings %q, want %q", text, got, want)
		}
	}
}

func TestParseFieldFilters_refuses(t *testing.T) {
	for text, want := range map[string]string{
		`{"fields":["process"]}`:      "fields: not a string of paths",
		`{"fields":"a","action":"X"}`: "action",
		`{"field":"a"}`:               `unknown field "field"`,
		`{"event_set":["NO"]}`:        "invalid value for enum field",
		`[{}]`:                        "a JSON array",
	} {
		if _, err := filter.ParseFieldFilters(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

func TestMatch_cel(t *testing.T) {
	enc := encode.New(encode.Options{NodeName: "node", Cred: true})
	var told []error
	o := filter.Options{Message: enc.Message, Complain: func(err error) { told = append(told, err) }}
	tests := []struct {
		expression string
		want       []string
	}{
		{`process_exec.process.binary == "/usr/bin/curl"`, []string{"exec"}},
		{`process_exec.process.pid == 10u && process_exec.parent.arguments.startsWith("-c")`, []string{"exec"}},
		{`process_exec.process.binary != "/usr/bin/curl"`, []string{"probe"}}, // not those of other types
		{`process_exit.process.binary.endsWith("ls") || process_exec.ancestors.exists(a, a.binary == "/usr/sbin/sshd")`, []string{"exec", "exit"}},
		{`process_kprobe.policy_name == "watch" && process_kprobe.process.pod.namespace in ["shop"]`, []string{"kprobe"}},
		{`process_kprobe.process.pod.pod_labels["tier"] == "front"`, []string{"kprobe"}},
		{`process_exec.process.cap.effective.exists(c, c == tetragon.CapabilitiesType.CAP_SYS_ADMIN)`, []string{"exec"}},
		{`process_throttle.cgroup == "x" && ip("10.0.0.1") == ip("10.0.0.1") && cidr("10.0.0.0/8").containsIP("10.1.2.3")`, []string{"throttle"}},
	}
	for _, tt := range tests {
		t.Run(tt.expression, func(t *testing.T) {
			list := []*tetragon.Filter{{CelExpression: []string{tt.expression}}}
			f, err := filter.New(list, nil, o)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, name := range all {
				if f.MatchProto(wire(t, name)) {
					got = append(got, name)
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("of clients: %s", d)
			}
			for name, ev := range internal {
				want := f.MatchProto(enc.Message(&ev))
				if got := f.Match(&ev); got != want {
					t.Errorf("in the lane, %s: %t, want %t", name, got, want)
				}
			}
		})
	}
	if len(told) > 0 {
		t.Errorf("failed: %v", told)
	}
}

// TestMatch_celFails: an expression that fails matches nothing, also not by a later one, and says so once.
func TestMatch_celFails(t *testing.T) {
	for name, expression := range map[string]string{
		"no such key": `process_exec.process.pod.pod_labels["x"] == "y"`,
		"too costly": `process_exec.process.arguments.matches("zzz") || [1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, ` +
			`[1,2,3,4,5,6,7,8,9].all(c, [1,2,3,4,5,6,7,8,9].all(d, [1,2,3,4,5,6,7,8,9].all(e, a+b+c+d+e > 0)))))`,
	} {
		var told []error
		f, err := filter.New([]*tetragon.Filter{{CelExpression: []string{expression, `process_exec.process.pid > 0u`}}}, nil,
			filter.Options{Complain: func(err error) { told = append(told, err) }})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if f.MatchProto(wire(t, "exec")) {
				t.Errorf("%s: matches", name)
			}
		}
		if len(told) != 1 {
			t.Errorf("%s: told %v, want one error", name, told)
		}
	}
}
