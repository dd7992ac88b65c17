// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"tetragon/api/v1/tetragon"
	"tetragon/internal/policy/plan"
	"tetragon/internal/policy/registry"
	"tetragon/internal/sensor"
	"tetragon/internal/server"
)

// policies notes what it is asked, and answers with what it is told.
type policies struct {
	asked []string
	err   error
	list  []registry.Status
}

func (p *policies) note(format string, args ...any) error {
	p.asked = append(p.asked, fmt.Sprintf(format, args...))
	return p.err
}

func (p *policies) Add(domain string, t registry.Text, replace bool) error {
	v, ok := t.Getenv("A")
	_, home := t.Getenv("HOME") // of the agent, which is nobody's business
	return p.note("add %s %s %q replace=%t A=%s,%t HOME=%t", domain, t.Name, t.YAML, replace, v, ok, home)
}

func (p *policies) Delete(k registry.Key) error { return p.note("delete %s", k) }

func (p *policies) Configure(k registry.Key, enable *bool, m *registry.Mode) error {
	s := fmt.Sprintf("configure %s", k)
	if enable != nil {
		s += fmt.Sprintf(" enable=%t", *enable)
	}
	if m != nil {
		s += " mode=" + m.String()
	}
	return p.note("%s", s)
}

func (p *policies) List(domain string) []registry.Status {
	_ = p.note("list %s", domain)
	return p.list
}

func (p *policies) Domains() []string { return []string{"a", "b"} }

func TestPolicies(t *testing.T) {
	p := &policies{}
	a := start(t, server.Options{Policies: p, DeprecatedPolicyRPC: true})
	c, ctx := a.client(t), t.Context()
	calls := []func() error{
		func() error {
			_, err := c.AddTracingPolicy(ctx, &tetragon.AddTracingPolicyRequest{Yaml: "x: y", File: "f.yaml", Variables: map[string]string{"A": "1"}})
			return err
		},
		func() error {
			_, err := c.AddTracingPolicy(ctx, &tetragon.AddTracingPolicyRequest{Domain: "d", Replace: true})
			return err
		},
		func() error {
			_, err := c.DeleteTracingPolicy(ctx, &tetragon.DeleteTracingPolicyRequest{Name: "n", Namespace: "s"})
			return err
		},
		func() error {
			_, err := c.ConfigureTracingPolicy(ctx, &tetragon.ConfigureTracingPolicyRequest{Name: "n", Domain: "d", Enable: new(false), Mode: tetragon.TracingPolicyMode_TP_MODE_MONITOR.Enum()})
			return err
		},
		func() error {
			_, err := c.ConfigureTracingPolicy(ctx, &tetragon.ConfigureTracingPolicyRequest{Name: "n"})
			return err
		},
		func() error {
			_, err := c.EnableTracingPolicy(ctx, &tetragon.EnableTracingPolicyRequest{Name: "n"})
			return err
		},
		func() error {
			_, err := c.DisableTracingPolicy(ctx, &tetragon.DisableTracingPolicyRequest{Name: "n"})
			return err
		},
	}
	for _, call := range calls {
		if err := call(); err != nil {
			t.Error(err)
		}
	}
	want := []string{
		`add grpc f.yaml "x: y" replace=false A=1,true HOME=false`,
		`add d  "" replace=true A=,false HOME=false`,
		"delete s/n",
		"configure n (domain d) enable=false mode=monitor",
		"configure n",
		"configure n enable=true",
		"configure n enable=false",
	}
	if d := cmp.Diff(want, p.asked); d != "" {
		t.Errorf("asked (-want +got):\n%s", d)
	}
	if d, err := c.ListDomains(ctx, &tetragon.ListDomainsRequest{}); err != nil || cmp.Diff([]string{"a", "b"}, d.GetDomains()) != "" {
		t.Errorf("domains %v, %v", d, err)
	}
}

func TestPolicies_codes(t *testing.T) {
	p := &policies{}
	a := start(t, server.Options{Policies: p})
	c := a.client(t)
	for err, want := range map[error]codes.Code{
		registry.ErrInvalid: codes.InvalidArgument, registry.ErrExists: codes.AlreadyExists, registry.ErrNotFound: codes.NotFound,
		registry.ErrState: codes.FailedPrecondition, sensor.ErrClosed: codes.Unavailable, errors.New("else"): codes.Unknown,
	} {
		p.err = fmt.Errorf("two\nlines: %w", err)
		_, got := c.DeleteTracingPolicy(t.Context(), &tetragon.DeleteTracingPolicyRequest{})
		if status.Code(got) != want {
			t.Errorf("%v: code %s, want %s", err, status.Code(got), want)
		}
		if text := status.Convert(got).Message(); want != codes.Unavailable && !strings.HasPrefix(text, "two\nlines: ") {
			t.Errorf("%v: text %q", err, text)
		}
	}
}

func TestListTracingPolicies(t *testing.T) {
	pl := &plan.Plan{Policy: "p", Hooks: []plan.Hook{
		{
			Section: "kprobes", Name: "tcp_connect", Event: plan.EventKprobe, Caveats: []string{"as if"},
			Attach: plan.Attach{Backend: plan.BackendSockOps}, Tried: []plan.Attempt{{Backend: plan.BackendFentry, Why: "no trampolines"}},
		},
		{Section: "tracepoints", Index: 1, Name: "x", Subsys: "sched", TpEvent: "x", Event: plan.EventTracepoint, Inactive: "not there"},
	}}
	p := &policies{list: []registry.Status{
		{
			ID: 7, Key: registry.Key{Domain: "grpc", Namespace: "s", Name: "p\xff"}, File: "p.yaml", State: registry.StatePartial, Mode: registry.ModeMonitorOnly,
			Warnings: []string{"w"}, Sensors: []string{"generic_kprobe"}, KernelBytes: 4711, Plan: pl,
			Hooks: []registry.HookStatus{{Section: "kprobes", State: registry.HookLoaded, Description: "kprobe:tcp_connect"}, {Section: "tracepoints", Index: 1, State: registry.HookNotFound}},
			Stats: []sensor.HookStats{
				{Hook: &pl.Hooks[0], Sharing: 2, Missed: 9, Bytes: 4096, Runs: 100, Time: 12 * time.Microsecond, Rules: []sensor.RuleStats{{Matched: 10, Posted: 4, Limited: 1, Lost: 5}, {Selector: 1, Label: "l", Matched: 3, NoPost: 3}}},
				{Hook: &pl.Hooks[1]},
			},
		},
		{ID: 8, Key: registry.Key{Domain: "static", Name: "bad"}, State: registry.StateLoadError, Error: "f:1:2: no\nf:3:4: no"},
	}}
	a := start(t, server.Options{Policies: p})
	got, err := a.client(t).ListTracingPolicies(t.Context(), &tetragon.ListTracingPoliciesRequest{Domain: "d"})
	if err != nil {
		t.Fatal(err)
	}
	want := new(tetragon.ListTracingPoliciesResponse)
	if err := protojson.Unmarshal([]byte(`{"policies":[
	 {"id":7,"name":"p\ufffd","namespace":"s","domain":"grpc","file":"p.yaml","state":"TP_STATE_PARTIALLY_ENABLED","enabled":true,"mode":"TP_MODE_MONITOR_ONLY",
	  "warnings":["w"],"sensors":["generic_kprobe"],"kernel_memory_bytes":4711,
	  "hook_statuses":[{"section":"kprobes","state":"STATUS_LOADED","hook_description":"kprobe:tcp_connect"},
	   {"section":"tracepoints","hook_idx":1,"state":"STATUS_CALL_NOT_FOUND"}],
	  "stats":{"action_counters":{"post":4,"nopost":3},"selector_action_counters":[
	   {"hook":"kprobe:tcp_connect","hook_index":0,"selector_index":0,"action_counters":{"post":4}},
	   {"hook":"kprobe:tcp_connect","hook_index":0,"selector_index":1,"selector_label":"l","action_counters":{"nopost":3}}]},
	  "hooks":[
	   {"section":"kprobes","function":"tcp_connect","attached":"sock_ops","equivalent":true,"caveats":["as if"],"tried":["fentry: no trampolines"],
	    "matched":13,"posted":4,"nopost":3,"limited":1,"lost":5,"missed":9,"hooks_of_program":2,"kernel_memory_bytes":4096,"runs":100,"run_time_ns":12000},
	   {"section":"tracepoints","hook_idx":1,"function":"sched/x","inactive":"not there"}]},
	 {"id":8,"name":"bad","domain":"static","state":"TP_STATE_LOAD_ERROR","error":"f:1:2: no\nf:3:4: no"}]}`), want); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(proto.Message(want), proto.Message(got), protocmp.Transform()); d != "" {
		t.Errorf("list (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"list d"}, p.asked); d != "" {
		t.Errorf("asked (-want +got):\n%s", d)
	}
}

// TestPolicies_refused: what is off, and what was given up, is refused by name.
func TestPolicies_refused(t *testing.T) {
	with, without := start(t, server.Options{Policies: &policies{err: fs.ErrInvalid}}).client(t), start(t, server.Options{}).client(t)
	ctx := t.Context()
	tests := []struct {
		name string
		call func() error
		want string
	}{
		{"enable", func() error { _, err := with.EnableTracingPolicy(ctx, nil); return err }, "EnableTracingPolicy is deprecated and off; use ConfigureTracingPolicy, or start the agent with --enable-deprecated-tracingpolicy-grpc"},
		{"disable", func() error { _, err := with.DisableTracingPolicy(ctx, nil); return err }, "--enable-deprecated-tracingpolicy-grpc"},
		{"list sensors", func() error { _, err := with.ListSensors(ctx, nil); return err }, "ListSensors is deprecated"},
		{"add", func() error { _, err := without.AddTracingPolicy(ctx, nil); return err }, "AddTracingPolicy: this agent runs no policies"},
		{"list", func() error { _, err := without.ListTracingPolicies(ctx, nil); return err }, "ListTracingPolicies: this agent runs no policies"},
		{"domains", func() error { _, err := without.ListDomains(ctx, nil); return err }, "ListDomains: this agent runs no policies"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.call(); status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}
