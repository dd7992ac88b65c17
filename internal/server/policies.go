// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"tetragon/api/v1/tetragon"
	"tetragon/internal/policy/registry"
)

// Policies is the policies of the agent. *registry.Registry is.
type Policies interface {
	Add(domain string, t registry.Text, replace bool) error
	Delete(registry.Key) error
	Configure(k registry.Key, enable *bool, m *registry.Mode) error
	List(domain string) []registry.Status
	Domains() []string
}

// key is what a request names; the domain of the API is the usual one.
func key(domain, namespace, name string) registry.Key {
	if domain == "" {
		domain = registry.DomainGRPC
	}
	return registry.Key{Domain: domain, Namespace: namespace, Name: name}
}

// policyError gives an error the code by which a client can tell what to do. The text is the whole of it, with all
// diagnostics.
func policyError(err error) error {
	if err == nil {
		return nil
	}
	code := codes.Unknown
	switch {
	case errors.Is(err, registry.ErrInvalid):
		code = codes.InvalidArgument
	case errors.Is(err, registry.ErrExists):
		code = codes.AlreadyExists
	case errors.Is(err, registry.ErrNotFound):
		code = codes.NotFound
	case errors.Is(err, registry.ErrState):
		code = codes.FailedPrecondition
	case errors.Is(err, registry.ErrClosed):
		return unavailable()
	}
	return status.Error(code, valid(err.Error()))
}

// AddTracingPolicy implements the RPC.
func (s sensors) AddTracingPolicy(_ context.Context, req *tetragon.AddTracingPolicyRequest) (*tetragon.AddTracingPolicyResponse, error) {
	vars := req.GetVariables()
	t := registry.Text{
		Name: req.GetFile(), YAML: []byte(req.GetYaml()),
		Getenv: func(name string) (string, bool) { v, ok := vars[name]; return v, ok },
	}
	if m := req.GetMode(); m != tetragon.TracingPolicyMode_TP_MODE_UNKNOWN {
		if t.Mode = modeFrom(m); t.Mode != registry.ModeEnforce && t.Mode != registry.ModeMonitor {
			return nil, status.Errorf(codes.InvalidArgument, "a mode to begin with is enforce or monitor, not %s", m)
		}
	}
	err := s.server.opts.Policies.Add(key(req.GetDomain(), "", "").Domain, t, req.GetReplace())
	return &tetragon.AddTracingPolicyResponse{}, policyError(err)
}

// DeleteTracingPolicy implements the RPC.
func (s sensors) DeleteTracingPolicy(_ context.Context, req *tetragon.DeleteTracingPolicyRequest) (*tetragon.DeleteTracingPolicyResponse, error) {
	err := s.server.opts.Policies.Delete(key(req.GetDomain(), req.GetNamespace(), req.GetName()))
	return &tetragon.DeleteTracingPolicyResponse{}, policyError(err)
}

// ConfigureTracingPolicy implements the RPC.
func (s sensors) ConfigureTracingPolicy(_ context.Context, req *tetragon.ConfigureTracingPolicyRequest) (*tetragon.ConfigureTracingPolicyResponse, error) {
	var mode *registry.Mode
	if req.Mode != nil {
		mode = new(modeFrom(req.GetMode()))
	}
	err := s.server.opts.Policies.Configure(key(req.GetDomain(), req.GetNamespace(), req.GetName()), req.Enable, mode)
	return &tetragon.ConfigureTracingPolicyResponse{}, policyError(err)
}

func modeFrom(m tetragon.TracingPolicyMode) registry.Mode {
	switch m {
	case tetragon.TracingPolicyMode_TP_MODE_ENFORCE:
		return registry.ModeEnforce
	case tetragon.TracingPolicyMode_TP_MODE_MONITOR:
		return registry.ModeMonitor
	case tetragon.TracingPolicyMode_TP_MODE_MONITOR_ONLY:
		return registry.ModeMonitorOnly
	}
	return registry.ModeUnknown
}

// EnableTracingPolicy implements the RPC.
func (s sensors) EnableTracingPolicy(_ context.Context, req *tetragon.EnableTracingPolicyRequest) (*tetragon.EnableTracingPolicyResponse, error) {
	err := s.server.opts.Policies.Configure(key(req.GetDomain(), req.GetNamespace(), req.GetName()), new(true), nil)
	return &tetragon.EnableTracingPolicyResponse{}, policyError(err)
}

// DisableTracingPolicy implements the RPC.
func (s sensors) DisableTracingPolicy(_ context.Context, req *tetragon.DisableTracingPolicyRequest) (*tetragon.DisableTracingPolicyResponse, error) {
	err := s.server.opts.Policies.Configure(key(req.GetDomain(), req.GetNamespace(), req.GetName()), new(false), nil)
	return &tetragon.DisableTracingPolicyResponse{}, policyError(err)
}

// ListDomains implements the RPC.
func (s sensors) ListDomains(context.Context, *tetragon.ListDomainsRequest) (*tetragon.ListDomainsResponse, error) {
	return &tetragon.ListDomainsResponse{Domains: s.server.opts.Policies.Domains()}, nil
}

// ListTracingPolicies implements the RPC.
func (s sensors) ListTracingPolicies(_ context.Context, req *tetragon.ListTracingPoliciesRequest) (*tetragon.ListTracingPoliciesResponse, error) {
	res := &tetragon.ListTracingPoliciesResponse{}
	for _, p := range s.server.opts.Policies.List(req.GetDomain()) {
		res.Policies = append(res.Policies, policyStatus(&p))
	}
	return res, nil
}

func policyStatus(p *registry.Status) *tetragon.TracingPolicyStatus {
	out := &tetragon.TracingPolicyStatus{
		Id: p.ID, Name: valid(p.Key.Name), Namespace: valid(p.Key.Namespace), Domain: valid(p.Key.Domain), File: valid(p.File),
		Sensors: p.Sensors, State: tetragon.TracingPolicyState(p.State), Mode: tetragon.TracingPolicyMode(p.Mode),
		Error: valid(p.Error), KernelMemoryBytes: p.KernelBytes,
		Enabled: p.State == registry.StateEnabled || p.State == registry.StatePartial,
	}
	for _, w := range p.Warnings {
		out.Warnings = append(out.Warnings, valid(w))
	}
	for _, h := range p.Hooks {
		out.HookStatuses = append(out.HookStatuses, &tetragon.HookStatus{
			Section: h.Section, HookIdx: uint32(h.Index), State: tetragon.HookState(h.State), HookDescription: valid(h.Description),
		})
	}
	if p.Plan == nil {
		return out
	}
	if p.Stats != nil {
		out.Stats = policyStats(p.Stats)
	}
	for i := range p.Plan.Hooks {
		h := &p.Plan.Hooks[i]
		x := &tetragon.TracingPolicyHook{Section: h.Section, HookIdx: uint32(h.Index), Function: valid(h.Name), Inactive: valid(h.Inactive)}
		if h.Subsys != "" {
			x.Function = valid(h.Subsys + "/" + h.TpEvent)
		}
		if h.Inactive == "" {
			x.Attached = valid(h.Attach.String())
			x.Equivalent = h.Attach.Backend.Equivalent()
		}
		for _, c := range h.Caveats {
			x.Caveats = append(x.Caveats, valid(c))
		}
		for _, t := range h.Tried {
			x.Tried = append(x.Tried, valid(t.Backend.Asked()+": "+t.Why))
		}
		if i < len(p.Stats) {
			st := &p.Stats[i]
			for _, r := range st.Rules {
				x.Matched, x.Posted, x.Nopost = x.Matched+r.Matched, x.Posted+r.Posted, x.Nopost+r.NoPost
				x.Limited, x.Lost, x.Merged = x.Limited+r.Limited, x.Lost+r.Lost, x.Merged+r.Merged
				x.Enforced += r.Signal + r.Override + r.Set + r.Notify
				x.Monitored += r.MonitorSignal + r.MonitorOverride + r.MonitorSet + r.MonitorNotify
			}
			x.Missed, x.HooksOfProgram, x.KernelMemoryBytes = st.Missed, uint32(st.Sharing), st.Bytes
			x.Runs, x.RunTimeNs = st.Runs, uint64(max(st.Time.Nanoseconds(), 0))
		}
		out.Hooks = append(out.Hooks, x)
	}
	return out
}

// add adds what a selector did.
func add(to *tetragon.TracingPolicyActionCounters, r *registry.RuleStats) {
	to.Post, to.Nopost = to.Post+r.Posted, to.Nopost+r.NoPost
	to.Signal, to.MonitorSignal = to.Signal+r.Signal, to.MonitorSignal+r.MonitorSignal
	to.Override, to.MonitorOverride = to.Override+r.Override, to.MonitorOverride+r.MonitorOverride
	to.NotifyEnforcer, to.MonitorNotifyEnforcer = to.NotifyEnforcer+r.Notify, to.MonitorNotifyEnforcer+r.MonitorNotify
	to.NotifyEnforcerOverwritten, to.NotifyEnforcerUnused = to.NotifyEnforcerOverwritten+r.Overwritten, to.NotifyEnforcerUnused+r.Unused
	to.Set, to.MonitorSet = to.Set+r.Set, to.MonitorSet+r.MonitorSet
}

// policyStats sums up what the selectors of a policy did.
func policyStats(hooks []registry.HookStats) *tetragon.TracingPolicyStats {
	out := &tetragon.TracingPolicyStats{ActionCounters: &tetragon.TracingPolicyActionCounters{}}
	for i := range hooks {
		h := &hooks[i]
		for _, r := range h.Rules {
			add(out.ActionCounters, &r)
			one := &tetragon.TracingPolicyActionCounters{}
			add(one, &r)
			out.SelectorActionCounters = append(out.SelectorActionCounters, &tetragon.TracingPolicySelectorActionCounters{
				Hook: valid(registry.HookName(h.Hook)), HookIndex: wrapperspb.UInt32(uint32(h.Hook.Index)),
				SelectorIndex: wrapperspb.UInt32(uint32(r.Selector)), SelectorLabel: valid(r.Label),
				ActionCounters: one,
			})
		}
	}
	return out
}

// policyRefusal says why a call about policies is not answered; empty if it is.
func (s *Server) policyRefusal(method string) string {
	name := method[strings.LastIndexByte(method, '/')+1:]
	switch method {
	case tetragon.FineGuidanceSensors_EnableTracingPolicy_FullMethodName, tetragon.FineGuidanceSensors_DisableTracingPolicy_FullMethodName:
		if !s.opts.DeprecatedPolicyRPC {
			return name + " is deprecated and off; use ConfigureTracingPolicy, or start the agent with --enable-deprecated-tracingpolicy-grpc"
		}
	case tetragon.FineGuidanceSensors_AddTracingPolicy_FullMethodName, tetragon.FineGuidanceSensors_DeleteTracingPolicy_FullMethodName,
		tetragon.FineGuidanceSensors_ListTracingPolicies_FullMethodName, tetragon.FineGuidanceSensors_ConfigureTracingPolicy_FullMethodName,
		tetragon.FineGuidanceSensors_ListDomains_FullMethodName:
	default:
		return ""
	}
	if s.opts.Policies == nil {
		return name + ": this agent runs no policies"
	}
	return ""
}
