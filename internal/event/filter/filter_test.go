// SPDX-License-Identifier: Apache-2.0

package filter_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"tetragon/api/v1/tetragon"
	"tetragon/internal/event"
	"tetragon/internal/event/filter"
)

const (
	chown    = 1 << 0
	dac      = 1 << 1
	sysAdmin = 1 << 21
)

// The events that the tables ask about, by name.
var internal = map[string]event.Event{
	"exec": {
		Kind: event.KindExec,
		Process: &event.Process{
			Key: event.Key{Pid: 10}, Binary: "/usr/bin/curl", Arguments: "-s https://example.org", Docker: "0123456789abcdef",
			InInitTree: true, Creds: event.Creds{Permitted: chown | dac, Effective: sysAdmin},
		},
		Parent:    &event.Process{Key: event.Key{Pid: 5}, Binary: "/bin/bash", Arguments: "-c script"},
		Ancestors: []*event.Process{{Binary: "/usr/sbin/sshd"}, {Binary: "/usr/lib/systemd/systemd"}},
	},
	"exit": {
		Kind:    event.KindExit,
		Process: &event.Process{Key: event.Key{Pid: 11}, Binary: "/bin/ls"},
	},
	"placeholder": {
		Kind:    event.KindExit,
		Process: &event.Process{Key: event.Key{Pid: 12}, Placeholder: true},
	},
	"loss": {Kind: event.KindLoss},
}

// The same as clients see them, and some that only clients know.
var onWire = map[string]string{
	"exec": `{"process_exec":{"process":{"pid":10,"binary":"/usr/bin/curl","arguments":"-s https://example.org",
		"docker":"0123456789abcdef","in_init_tree":true,"cap":{"permitted":["CAP_CHOWN","DAC_OVERRIDE"],"effective":["CAP_SYS_ADMIN"]}},
		"parent":{"pid":5,"binary":"/bin/bash","arguments":"-c script"},
		"ancestors":[{"binary":"/usr/sbin/sshd"},{"binary":"/usr/lib/systemd/systemd"}]}}`,
	"exit":        `{"process_exit":{"process":{"pid":11,"binary":"/bin/ls","cap":{}}}}`,
	"placeholder": `{"process_exit":{"process":{"pid":12}}}`,
	"loss":        `{"rate_limit_info":{}}`,
	"kprobe": `{"process_kprobe":{"process":{"pid":20,"binary":"/app","pod":{"namespace":"shop","name":"web-1","container":{"name":"app"},
		"pod_labels":{"app":"web","tier":"front"}}},"policy_name":"watch"}}`,
	"probe": `{"process_exec":{"process":{"pid":21,"pod":{"namespace":"kube-system","name":"dns-1"}},
		"parent":{"pid":20,"pod":{"container":{"maybe_exec_probe":true}}}}}`,
	"usdt":     `{"process_usdt":{"process":{"pid":22},"policy_name":"watch"}}`,
	"throttle": `{"process_throttle":{"cgroup":"x"}}`,
}

func wire(t *testing.T, name string) *tetragon.GetEventsResponse {
	t.Helper()
	m := new(tetragon.GetEventsResponse)
	if err := protojson.Unmarshal([]byte(onWire[name]), m); err != nil {
		t.Fatalf("event %s: %v", name, err)
	}
	return m
}

func parse(t *testing.T, text string) []*tetragon.Filter {
	t.Helper()
	list, err := filter.ParseList(text)
	if err != nil {
		t.Fatalf("parse %s: %v", text, err)
	}
	return list
}

var all = []string{"exec", "exit", "kprobe", "loss", "placeholder", "probe", "throttle", "usdt"}

// TestMatch_policies: events that policies made, in the lane.
func TestMatch_policies(t *testing.T) {
	p := &event.Process{Key: event.Key{Pid: 20}, Binary: "/app"}
	for _, c := range []struct {
		filter string
		want   [4]bool // kprobe, tracepoint, loader, throttle
	}{
		{`{"event_set":["PROCESS_KPROBE"]}`, [4]bool{true, false, false, false}},
		{`{"event_set":["PROCESS_TRACEPOINT","PROCESS_LOADER"]}`, [4]bool{false, true, true, false}},
		{`{"event_set":["PROCESS_THROTTLE"]}`, [4]bool{false, false, false, true}},
		{`{"policy_names":["watch"]}`, [4]bool{true, false, false, false}},
		{`{"policy_names":["look","watch"]}`, [4]bool{true, true, false, false}},
		{`{"policy_names":["look"],"event_set":["PROCESS_KPROBE"]}`, [4]bool{}},
		{`{"binary_regex":["^/app$"]}`, [4]bool{true, true, true, false}},
	} {
		f, err := filter.New(parse(t, c.filter), nil, filter.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var got [4]bool
		for i, ev := range []*event.Event{
			{Kind: event.KindKprobe, Process: p, Hook: &event.Hook{Policy: "watch"}},
			{Kind: event.KindTracepoint, Process: p, Hook: &event.Hook{Policy: "look"}},
			{Kind: event.KindLoader, Process: p, Loader: &event.Loader{}},
			{Kind: event.KindThrottle, Throttle: event.Throttle{Cgroup: "a.scope"}},
		} {
			got[i] = f.Match(ev)
		}
		if got != c.want {
			t.Errorf("%s: got %v, want %v", c.filter, got, c.want)
		}
	}
}

func TestMatch(t *testing.T) {
	tests := []struct {
		name, allow, deny string
		want              string // names of the events that match, in the order of all
	}{
		{"nothing", ``, ``, strings.Join(all, " ")},
		{"no attributes", `{}`, ``, strings.Join(all, " ")},
		{"no attributes denied", ``, `{}`, ``},
		{"binary", `{"binary_regex":["curl$"]}`, ``, "exec"},
		{"binary word", `{"binary_regex":["bin/"]}`, ``, "exec exit"},
		{"binary case", `{"binary_regex":["CURL"]}`, ``, ""},
		{"binary or", `{"binary_regex":["^/bin/","curl"]}`, ``, "exec exit"},
		{"binary anchored", `{"binaryRegex":["^/usr/bin/curl$"]}`, ``, "exec"},
		{"binary anything", `{"binary_regex":[""]}`, ``, "exec exit kprobe placeholder probe usdt"},
		{"parent binary", `{"parent_binary_regex":["bash"]}`, ``, "exec"},
		{"arguments", `{"arguments_regex":["https?://"]}`, ``, "exec"},
		{"parent arguments", `{"parent_arguments_regex":["^-c"]}`, ``, "exec"},
		{"ancestor", `{"ancestor_binary_regex":["systemd$"]}`, ``, "exec"},
		{"ancestor is not parent", `{"ancestor_binary_regex":["bash"]}`, ``, ""},
		{"event set", `{"event_set":["PROCESS_EXIT","RATE_LIMIT_INFO"]}`, ``, "exit loss placeholder"},
		{"pid", `{"pid":[10,12]}`, ``, "exec placeholder"},
		{"pid set", `{"pid_set":[5]}`, ``, "exec"},
		{"no pod", `{"namespace":[""]}`, ``, "exec exit placeholder usdt"},
		{"namespace", `{"namespace":["shop","x"]}`, ``, "kprobe"},
		{"namespace or no pod", `{"namespace":["shop",""]}`, ``, "exec exit kprobe placeholder usdt"},
		{"namespace regex", `{"namespace_regex":[".*"]}`, ``, "kprobe probe"},
		{"pod", `{"pod_regex":["^web"]}`, ``, "kprobe"},
		{"container", `{"container_name_regex":["app"]}`, ``, "kprobe"},
		{"label", `{"labels":["app=web"]}`, ``, "kprobe"},
		{"label or", `{"labels":["app=db","tier in (front, back)"]}`, ``, "kprobe"},
		{"label and", `{"labels":["app=web,tier=back"]}`, ``, ""},
		{"label not", `{"labels":["app!=web"]}`, ``, "probe"},
		{"label there", `{"labels":["tier"]}`, ``, "kprobe"},
		{"label missing", `{"labels":["!tier"]}`, ``, "probe"},
		{"label notin", `{"labels":["tier notin (back),app==web"]}`, ``, "kprobe"},
		{"label anything", `{"labels":[""]}`, ``, "kprobe probe"},
		{"probe", `{"health_check":true}`, ``, "probe"},
		{"no probe", `{"health_check":false}`, ``, "exec exit kprobe loss placeholder throttle usdt"},
		{"container id", `{"container_id":["^0123"]}`, ``, "exec"},
		{"init tree", `{"in_init_tree":true}`, ``, "exec"},
		{"not init tree", `{"in_init_tree":false}`, ``, "exit kprobe placeholder probe usdt"},
		{"policy", `{"policy_names":["watch"]}`, ``, "kprobe usdt"},
		{"policy of none", `{"policy_names":[""]}`, ``, ""},
		{"cap any", `{"capabilities":{"permitted":{"any":["CAP_CHOWN","CAP_KILL"]}}}`, ``, "exec"},
		{"cap all", `{"capabilities":{"permitted":{"all":["CAP_CHOWN","CAP_KILL"]}}}`, ``, ""},
		{"cap exactly", `{"capabilities":{"permitted":{"exactly":["CAP_CHOWN","DAC_OVERRIDE"]}}}`, ``, "exec"},
		{"cap not exactly", `{"capabilities":{"permitted":{"exactly":["CAP_CHOWN"]}}}`, ``, ""},
		{"cap none", `{"capabilities":{"inheritable":{"none":["CAP_CHOWN"]}}}`, ``, "exec exit"},
		{"cap and", `{"capabilities":{"permitted":{"any":["CAP_CHOWN"]},"effective":{"none":["CAP_SYS_ADMIN"]}}}`, ``, ""},
		{"cap empty", `{"capabilities":{}}`, ``, "exec exit"},
		{"and", `{"binary_regex":["bin/"],"event_set":["PROCESS_EXIT"]}`, ``, "exit"},
		{"or", `{"pid":[11]} {"pid":[10]}`, ``, "exec exit"},
		{"deny", ``, `{"binary_regex":["curl"]}`, "exit kprobe loss placeholder probe throttle usdt"},
		{"deny wins", `{"binary_regex":["bin/"]}`, `{"pid":[11]}{"pid":[99]}`, "exec"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := filter.New(parse(t, tt.allow), parse(t, tt.deny), filter.Everything())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, name := range all {
				matches := f.MatchProto(wire(t, name))
				if matches {
					got = append(got, name)
				}
				if ev, ok := internal[name]; ok && f.Match(&ev) != matches {
					t.Errorf("%s: the event matches: %t, as clients see it: %t", name, !matches, matches)
				}
			}
			if d := cmp.Diff(tt.want, strings.Join(got, " ")); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestMatch_pidSetLearnsDescendants(t *testing.T) {
	// The second filter alone would let the events go past the first.
	f, err := filter.New(parse(t, `{"pid":[3,4]} {"pid_set":[1]}`), nil, filter.Everything())
	if err != nil {
		t.Fatal(err)
	}
	of := func(pid, parent uint32) *event.Event {
		return &event.Event{
			Kind:    event.KindExec,
			Process: &event.Process{Key: event.Key{Pid: pid}}, Parent: &event.Process{Key: event.Key{Pid: parent}},
		}
	}
	for _, tt := range []struct {
		pid, parent uint32
		want        bool
	}{{9, 3, false}, {1, 0, true}, {3, 1, true}, {4, 2, true}, {9, 3, true}, {9, 1000, true}, {8, 7, false}} {
		if got := f.Match(of(tt.pid, tt.parent)); got != tt.want {
			t.Errorf("pid %d of %d: %t, want %t", tt.pid, tt.parent, got, tt.want)
		}
	}
}

func TestNew_refuses(t *testing.T) {
	tests := []struct {
		name, allow, deny string
		o                 filter.Options
		want              []string
	}{
		{"bad regex", `{} {"pod_regex":["a","["]}`, ``, filter.Everything(), []string{"allow list: filter 2: pod_regex: ", "missing closing ]"}},
		{"two bad ones", `{"pod_regex":["["],"binary_regex":["("]}`, ``, filter.Everything(), []string{"pod_regex", "binary_regex"}},
		{"deny list", ``, `{"binary_regex":["("]}`, filter.Everything(), []string{"deny list: filter 1: binary_regex"}},
		{"cel without event", `{"cel_expression":["true"]}`, ``, filter.Everything(), []string{`cel_expression: "true": it speaks of no event`}},
		{"cel text", `{"cel_expression":["process_exec.process.binary"]}`, ``, filter.Everything(), []string{"it is of type string; write a condition"}},
		{"cel no such field", `{"cel_expression":["process_exec.bogus == 1"]}`, ``, filter.Everything(), []string{"undefined field 'bogus'"}},
		{"cel syntax", `{"cel_expression":["process_exec.process.pid =="]}`, ``, filter.Everything(), []string{"Syntax error"}},
		{"pid set", `{"pid_set":[1]}`, ``, filter.Options{}, []string{"pid_set: not enabled", "enable-pid-set-filter"}},
		{"caps", `{"capabilities":{}}`, ``, filter.Options{}, []string{"capabilities: ", "enable-process-cred"}},
		{"caps two ways", `{"capabilities":{"permitted":{"any":[1],"all":[2]}}}`, ``, filter.Everything(),
			[]string{"capabilities: permitted: 2 of any, all, exactly and none given; give one"}},
		{"caps no way", `{"capabilities":{"effective":{}}}`, ``, filter.Everything(), []string{"effective: 0 of any"}},
		{"unknown cap", `{"capabilities":{"effective":{"all":[63]}}}`, ``, filter.Everything(), []string{"unknown capability 63"}},
		{"unknown type", `{"event_set":[7]}`, ``, filter.Everything(), []string{"event_set: unknown event type 7"}},
		{"ancestors of all", `{"ancestor_binary_regex":["x"]}`, ``,
			filter.Options{Ancestors: []tetragon.EventType{tetragon.EventType_PROCESS_EXEC, tetragon.EventType_PROCESS_EXIT}},
			[]string{"ancestors are not enabled for PROCESS_KPROBE event type, cannot configure ancestor filter"}},
		{"ancestors", `{"ancestor_binary_regex":["x"],"event_set":["PROCESS_EXEC"]}`, ``, filter.Options{},
			[]string{"ancestors are not enabled for PROCESS_EXEC event type, cannot configure ancestor filter"}},
		{"labels", `{"labels":["a in b"]}`, ``, filter.Everything(), []string{`labels: label selector "a in b": values of "a"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := filter.New(parse(t, tt.allow), parse(t, tt.deny), tt.o)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not hold %q", err, want)
				}
			}
		})
	}
	o := filter.Options{Ancestors: []tetragon.EventType{tetragon.EventType_PROCESS_EXEC}}
	if _, err := filter.New(parse(t, `{"ancestor_binary_regex":["x"],"event_set":["PROCESS_EXEC"]}`), nil, o); err != nil {
		t.Errorf("ancestors of the one type that has them: %v", err)
	}
}

func TestNew_labelSelectors(t *testing.T) {
	for _, bad := range []string{
		"=a", "a b", "a,,b", "a=b c", "a in", "a in (", "a in (b", "a in (b c)", "a ni (b)", "/a", "a/", "-a", "a=-b", "!", "a>1",
		"a,", strings.Repeat("a", 64),
	} {
		if _, err := filter.New([]*tetragon.Filter{{Labels: []string{bad}}}, nil, filter.Everything()); err == nil {
			t.Errorf("selector %q is accepted", bad)
		}
	}
	for _, good := range []string{"", "a", " a = b , !c ", "example.org/a=", "a in ()", "a notin (b, c),d!=e", "in in (in)"} {
		if _, err := filter.New([]*tetragon.Filter{{Labels: []string{good}}}, nil, filter.Everything()); err != nil {
			t.Errorf("selector %q: %v", good, err)
		}
	}
}

func TestMatch_noAllocations(t *testing.T) {
	f, err := filter.New(
		parse(t, `{"binary_regex":["^/usr/.*/cur[lm]"],"event_set":["PROCESS_EXEC"],"in_init_tree":true,"namespace":[""]}`),
		parse(t, `{"arguments_regex":["secret"]}{"ancestor_binary_regex":["cron"],"capabilities":{"effective":{"any":["CAP_BPF"]}}}`),
		filter.Everything())
	if err != nil {
		t.Fatal(err)
	}
	ev := internal["exec"]
	if !f.Match(&ev) {
		t.Fatal("the event does not match")
	}
	if n := testing.AllocsPerRun(1000, func() { f.Match(&ev) }); n != 0 {
		t.Errorf("%g allocations an event", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	list := func(text string) []*tetragon.Filter {
		l, err := filter.ParseList(text)
		if err != nil {
			b.Fatal(err)
		}
		return l
	}
	for name, text := range map[string]string{
		"word": `{"binary_regex":["/tmp/"]}`, "anchored": `{"binary_regex":["^/tmp/"]}`, "type": `{"event_set":["PROCESS_EXIT"]}`,
	} {
		b.Run(name, func(b *testing.B) {
			f, err := filter.New(nil, list(text), filter.Options{})
			if err != nil {
				b.Fatal(err)
			}
			ev := internal["exec"]
			b.ReportAllocs()
			for b.Loop() {
				f.Match(&ev)
			}
		})
	}
}

func TestParseList(t *testing.T) {
	tests := []struct {
		name, text string
		n          int
		err        string
	}{
		{"empty", "", 0, ""},
		{"blank", " \n\t", 0, ""},
		{"lines", "{\"pid\":[1]}\n{\"pid\":[2]}\n", 2, ""},
		{"no space", `{"pid":[1]}{}{"healthCheck":true}`, 3, ""},
		{"array", `[{"pid":[1]}]`, 0, "object 1: a JSON array"},
		{"unknown key", `{} {"binary":["x"]}`, 0, `object 2: (line 1:2): unknown field "binary"`},
		{"bad value", `{"pid":["x"]}`, 0, "object 1: (line 1:9): invalid value for uint32"},
		{"bad enum", `{"event_set":["PROCESS_BIRTH"]}`, 0, "PROCESS_BIRTH"},
		{"no object", `{} 5`, 0, "object 2: not a JSON object"},
		{"open end", `{"pid":[1]`, 0, "object 1: the text ends within it"},
		{"comma", `{},{}`, 0, "object 2: invalid character ','"},
		{"text", `curl`, 0, "object 1: invalid character 'c'"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			list, err := filter.ParseList(tt.text)
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if len(list) != tt.n {
				t.Errorf("%d filters, want %d", len(list), tt.n)
			}
		})
	}
}

func TestRedactor(t *testing.T) {
	tests := []struct{ name, filters, binary, text, want string }{
		{"no filters", ``, "/bin/x", "--pass a", "--pass a"},
		{"group", `{"redact":["--pass[= ](\\S+)"]}`, "/bin/x", "a --pass=b --pass c d", "a --pass=***** --pass ***** d"},
		{"no group", `{"redact":["--pass \\S+"]}`, "/bin/x", "--pass a", "--pass a"},
		{"several groups", `{"redact":["(\\w+):(\\w+)@"]}`, "/bin/x", "u:p@h", "*****:*****@h"},
		{"nested", `{"redact":["((a)b)(c)"]}`, "/bin/x", "xabcx", "x**********x"},
		{"absent group", `{"redact":["k=(?:\"(.*)\"|(\\S+))"]}`, "/bin/x", `k=v k="w x"`, `k=***** k="*****"`},
		{"empty group", `{"redact":["k=(\\d*)"]}`, "/bin/x", "k=", "k=*****"},
		{"groups in a repetition", `{"redact":["(?:(a)|(b))+!"]}`, "/bin/x", "ba!", "**********!"},
		{"other binary", `{"binary_regex":["curl$"],"redact":["(a)"]}`, "/bin/x", "a", "a"},
		{"binary", `{"binary_regex":["wget","curl$"],"redact":["(a)"]}`, "/bin/curl", "a", "*****"},
		{"in order", `{"redact":["x(a)","\\*(b)"]}{"redact":["(c)"]}`, "/bin/x", "xabc", "x***************"},
		{"match is ignored", `{"match":[{"pid":[1]}],"redact":["(a)"]}`, "/bin/x", "a", "*****"},
		{"borders of the match", `{"redact":["(?:^|-)(a)"]}`, "/bin/x", "b-a a", "b-***** a"},
		{"invalid text", `{"redact":["=(.+)"]}`, "/bin/x", "k=\xff\xfe", "k=*****"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := filter.ParseRedaction(tt.filters)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Arguments(tt.binary, tt.text); got != tt.want {
				t.Errorf("arguments %q, want %q", got, tt.want)
			}
			if got := r.Environment(tt.binary, tt.text); got != tt.want {
				t.Errorf("environment %q, want %q", got, tt.want)
			}
		})
	}
}

func TestParseRedaction_refuses(t *testing.T) {
	for text, want := range map[string]string{
		`{"redact":["("]}`:                 "object 1: redact: ",
		`{} {"binary_regex":["("]}`:        "object 2: binary_regex: ",
		`{"secret":["x"]}`:                 `unknown field "secret"`,
		`{"redact":["x"]`:                  "the text ends within it",
		`{"match":[{"no":1}],"redact":[]}`: `unknown field "no"`,
	} {
		if _, err := filter.ParseRedaction(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

// FuzzRequest takes any request of a client: it is refused, or it filters.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		`{"allow_list":[{"binary_regex":["a"],"pid":[1]}],"field_filters":[{"action":1}]}`,
		`{"deny_list":[{"cel_expression":["process_exit.status == 1u"]}],"aggregation_options":{"window_size":"1s"}}`,
	} {
		m := new(tetragon.GetEventsRequest)
		if err := protojson.Unmarshal([]byte(s), m); err != nil {
			f.Fatal(err)
		}
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		req := new(tetragon.GetEventsRequest)
		if proto.Unmarshal(b, req) != nil {
			return
		}
		m, err := filter.New(req.GetAllowList(), req.GetDenyList(), filter.Everything())
		fields, err2 := filter.NewFields(req.GetFieldFilters())
		if err != nil || err2 != nil {
			return
		}
		for _, name := range all {
			ev := wire(t, name)
			m.MatchProto(ev)
			if _, err := fields.Prune(ev); err != nil {
				t.Errorf("prune %s: %v", name, err)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		``, `{}`, `{"binary_regex":["a"]}{"labels":["a in (b)"],"capabilities":{"effective":{"any":["CAP_BPF"]}}}`,
		`{"redact":["(a|b)*"],"binary_regex":["x"]}`, `{"labels":["!a,b!=c,d notin (e,f)"]}`, `[{}]`,
		`{"fields":"process.binary,args","action":"EXCLUDE"}`, `{"cel_expression":["process_exec.process.pid==1u"]}`,
	} {
		f.Add(s, "text")
	}
	f.Fuzz(func(_ *testing.T, filters, text string) {
		if list, err := filter.ParseList(filters); err == nil {
			if m, err := filter.New(list, list, filter.Everything()); err == nil {
				for _, ev := range internal {
					m.Match(&ev)
				}
				m.MatchProto(&tetragon.GetEventsResponse{})
			}
		}
		if list, err := filter.ParseFieldFilters(filters); err == nil {
			if p, err := filter.NewFields(list); err == nil && p != nil {
				p.AppendJSON(nil, []byte(text))
				p.AppendWire(nil, []byte(text))
			}
		}
		if r, err := filter.ParseRedaction(filters); err == nil {
			r.Arguments(text, text)
		}
	})
}
