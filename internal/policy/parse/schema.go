// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"math"

	"tetragon/internal/policy"
)

// This is the policy language: what may stand where. What ties fields to each other is in the check_*.go files.

// document is what stands at the top. Its parts are kept apart from the model where the model has no place for them.
type document struct {
	policy.Place
	apiVersion, kind policy.Text
	meta             metadata
	spec             policy.Policy
}

type metadata struct {
	policy.Place
	name, namespace policy.Text
	labels, notes   map[string]string
}

var documentFields = []field[document]{
	{name: "apiVersion", to: func(d *document) any { return &d.apiVersion }},
	{name: "kind", to: func(d *document) any { return &d.kind }, rule: rule{need: true}},
	{name: "metadata", rule: rule{need: true}, sub: []field[document]{
		{name: "name", to: func(d *document) any { return &d.meta.name }, rule: rule{need: true, full: true}},
		{name: "namespace", to: func(d *document) any { return &d.meta.namespace }},
		{name: "labels", to: func(d *document) any { return &d.meta.labels }},
		{name: "annotations", to: func(d *document) any { return &d.meta.notes }},
		// What the API server adds to an object, and so comes back from it.
		{name: "creationTimestamp", rule: rule{ignored: true}},
		{name: "deletionGracePeriodSeconds", rule: rule{ignored: true}},
		{name: "deletionTimestamp", rule: rule{ignored: true}},
		{name: "finalizers", rule: rule{ignored: true}},
		{name: "generateName", rule: rule{ignored: true}},
		{name: "generation", rule: rule{ignored: true}},
		{name: "managedFields", rule: rule{ignored: true}},
		{name: "ownerReferences", rule: rule{ignored: true}},
		{name: "resourceVersion", rule: rule{ignored: true}},
		{name: "selfLink", rule: rule{ignored: true}},
		{name: "uid", rule: rule{ignored: true}},
	}},
	{name: "spec", to: nil, rule: rule{need: true}, sub: specFields},
}

var specFields = []field[document]{
	{name: "kprobes", to: func(d *document) any { return &d.spec.Kprobes }},
	{name: "fentries", to: func(d *document) any { return &d.spec.Fentries }},
	{name: "tracepoints", to: func(d *document) any { return &d.spec.Tracepoints }},
	{name: "uprobes", to: func(d *document) any { return &d.spec.Uprobes }},
	{name: "usdts", to: func(d *document) any { return &d.spec.Usdts }},
	{name: "lsmhooks", to: func(d *document) any { return &d.spec.LsmHooks }},
	{name: "loader", to: func(d *document) any { return &d.spec.Loader }},
	{name: "enforcers", to: func(d *document) any { return &d.spec.Enforcers }, rule: rule{most: 1}},
	{name: "lists", to: func(d *document) any { return &d.spec.Lists }},
	{name: "options", to: func(d *document) any { return &d.spec.Options }},
	{name: "selectorsMacros", to: func(d *document) any { return &d.spec.Macros }},
	{name: "podSelector", to: func(d *document) any { return &d.spec.PodSelector }},
	{name: "containerSelector", to: func(d *document) any { return &d.spec.ContainerSelector }},
	{name: "hostSelector", to: func(d *document) any { return &d.spec.HostSelector }},
	{name: "nodeSelector", to: func(d *document) any { return &d.spec.NodeSelector }},
}

// maxTags is the schema's.
const maxTags = 16

// hookFields are what all hooks have, in front of what each has for itself.
func hookFields[T any](of func(*T) *policy.Common, own ...field[T]) []field[T] {
	return append([]field[T]{
		{name: "message", to: func(t *T) any { return &of(t).Message }},
		{name: "tags", to: func(t *T) any { return &of(t).Tags }, rule: rule{most: maxTags}},
		{name: "args", to: func(t *T) any { return &of(t).Args }},
		{name: "selectors", to: func(t *T) any { return &of(t).Selectors }},
	}, own...)
}

var kprobeFields = hookFields(func(k *policy.Kprobe) *policy.Common { return &k.Common },
	field[policy.Kprobe]{name: "call", to: func(k *policy.Kprobe) any { return &k.Call }, rule: rule{need: true, full: true}},
	field[policy.Kprobe]{name: "syscall", to: func(k *policy.Kprobe) any { return &k.Syscall }, rule: rule{yes: true}},
	field[policy.Kprobe]{name: "return", to: func(k *policy.Kprobe) any { return &k.Return }},
	field[policy.Kprobe]{name: "returnArg", to: func(k *policy.Kprobe) any { return &k.ReturnArg }},
	field[policy.Kprobe]{name: "returnArgAction", to: func(k *policy.Kprobe) any { return &k.ReturnArgAction }},
	field[policy.Kprobe]{name: "data", to: func(k *policy.Kprobe) any { return &k.Data }},
	field[policy.Kprobe]{name: "ignore", sub: []field[policy.Kprobe]{
		{name: "callNotFound", to: func(k *policy.Kprobe) any { return &k.CallNotFound }},
	}},
)

var tracepointFields = hookFields(func(t *policy.Tracepoint) *policy.Common { return &t.Common },
	field[policy.Tracepoint]{name: "subsystem", to: func(t *policy.Tracepoint) any { return &t.Subsystem }, rule: rule{need: true, full: true}},
	field[policy.Tracepoint]{name: "event", to: func(t *policy.Tracepoint) any { return &t.Event }, rule: rule{need: true, full: true}},
	field[policy.Tracepoint]{name: "raw", to: func(t *policy.Tracepoint) any { return &t.Raw }},
)

var uprobeFields = hookFields(func(u *policy.Uprobe) *policy.Common { return &u.Common },
	field[policy.Uprobe]{name: "path", to: func(u *policy.Uprobe) any { return &u.Path }, rule: rule{need: true, full: true}},
	field[policy.Uprobe]{name: "btfPath", to: func(u *policy.Uprobe) any { return &u.BTFPath }},
	field[policy.Uprobe]{name: "symbols", to: func(u *policy.Uprobe) any { return &u.Symbols }},
	field[policy.Uprobe]{name: "offsets", to: func(u *policy.Uprobe) any { return &u.Offsets }, rule: rule{wide: true}},
	field[policy.Uprobe]{name: "addrs", to: func(u *policy.Uprobe) any { return &u.Addrs }, rule: rule{wide: true}},
	field[policy.Uprobe]{name: "refCtrOffsets", to: func(u *policy.Uprobe) any { return &u.RefCtrOffset }, rule: rule{wide: true}},
	field[policy.Uprobe]{name: "data", to: func(u *policy.Uprobe) any { return &u.Data }},
	field[policy.Uprobe]{name: "return", to: func(u *policy.Uprobe) any { return &u.Return }},
	field[policy.Uprobe]{name: "returnArg", to: func(u *policy.Uprobe) any { return &u.ReturnArg }},
	field[policy.Uprobe]{name: "binaryDigests", to: func(u *policy.Uprobe) any { return &u.Digests }},
	field[policy.Uprobe]{name: "ignore", sub: []field[policy.Uprobe]{
		{name: "digestVerificationFailure", to: func(u *policy.Uprobe) any { return &u.DigestFailure }},
	}},
)

var usdtFields = hookFields(func(u *policy.Usdt) *policy.Common { return &u.Common },
	field[policy.Usdt]{name: "path", to: func(u *policy.Usdt) any { return &u.Path }, rule: rule{need: true, full: true}},
	field[policy.Usdt]{name: "btfPath", to: func(u *policy.Usdt) any { return &u.BTFPath }},
	field[policy.Usdt]{name: "provider", to: func(u *policy.Usdt) any { return &u.Provider }, rule: rule{need: true, full: true}},
	field[policy.Usdt]{name: "name", to: func(u *policy.Usdt) any { return &u.Name }, rule: rule{need: true, full: true}},
)

var lsmFields = hookFields(func(l *policy.LsmHook) *policy.Common { return &l.Common },
	field[policy.LsmHook]{name: "hook", to: func(l *policy.LsmHook) any { return &l.Hook }, rule: rule{need: true, full: true}},
)

var enforcerFields = []field[policy.Enforcer]{
	{name: "calls", to: func(e *policy.Enforcer) any { return &e.Calls }, rule: rule{need: true, full: true}},
}

var listFields = []field[policy.List]{
	{name: "name", to: func(l *policy.List) any { return &l.Name }, rule: rule{need: true, full: true}},
	{name: "type", to: func(l *policy.List) any { return &l.Type }, rule: rule{enum: &listTypes}},
	{name: "values", to: func(l *policy.List) any { return &l.Values }},
	{name: "pattern", to: func(l *policy.List) any { return &l.Pattern }},
	// An internal mark of upstream's that its schema shows; this program expands all lists, whatever it says.
	{name: "validated", rule: rule{internal: true}},
}

var optionFields = []field[policy.Option]{
	{name: "name", to: func(o *policy.Option) any { return &o.Name }, rule: rule{need: true, full: true}},
	{name: "value", to: func(o *policy.Option) any { return &o.Value }},
}

// maxSizeArg is the schema's bound of sizeArgIndex.
const maxSizeArg = 15

var argFields = []field[policy.Arg]{
	{name: "index", to: func(a *policy.Arg) any { return &a.Index }},
	{name: "type", to: func(a *policy.Arg) any { return &a.Type }, rule: rule{enum: &argTypes, std: "auto"}},
	{name: "label", to: func(a *policy.Arg) any { return &a.Label }},
	{name: "sizeArgIndex", to: func(a *policy.Arg) any { return &a.SizeArgIndex }, rule: rule{max: maxSizeArg}},
	{name: "returnCopy", to: func(a *policy.Arg) any { return &a.ReturnCopy }},
	{name: "maxData", to: func(a *policy.Arg) any { return &a.MaxData }},
	{name: "resolve", to: func(a *policy.Arg) any { return &a.Resolve }},
	{name: "source", to: func(a *policy.Arg) any { return &a.Source }, rule: rule{enum: &dataSources}},
	{name: "btfType", to: func(a *policy.Arg) any { return &a.BTFType }},
	{name: "btfTypeModule", to: func(a *policy.Arg) any { return &a.BTFTypeModule }},
}

var selectorFields = []field[policy.Selector]{
	{name: "label", to: func(s *policy.Selector) any { return &s.Label }},
	{name: "macros", to: func(s *policy.Selector) any { return &s.Macros }},
	{name: "matchPIDs", to: func(s *policy.Selector) any { return &s.PIDs }},
	{name: "matchBinaries", to: func(s *policy.Selector) any { return &s.Binaries }},
	{name: "matchParentBinaries", to: func(s *policy.Selector) any { return &s.ParentBinaries }},
	{name: "matchArgs", to: func(s *policy.Selector) any { return &s.Args }},
	{name: "matchData", to: func(s *policy.Selector) any { return &s.Data }},
	{name: "matchReturnArgs", to: func(s *policy.Selector) any { return &s.ReturnArgs }},
	{name: "matchNamespaces", to: func(s *policy.Selector) any { return namespaces{&s.Namespaces} }},
	{name: "matchNamespaceChanges", to: func(s *policy.Selector) any { return namespaceChanges{&s.NamespaceChanges} }},
	{name: "matchCapabilities", to: func(s *policy.Selector) any { return &s.Capabilities }},
	{name: "matchCapabilityChanges", to: func(s *policy.Selector) any { return &s.CapabilityChanges }},
	{name: "matchWorkloads", to: func(s *policy.Selector) any { return &s.Workloads }},
	{name: "matchActions", to: func(s *policy.Selector) any { return &s.Actions }},
	{name: "matchReturnActions", to: func(s *policy.Selector) any { return &s.ReturnActions }},
}

// One type of the model for two of the schema: changes have no namespace, but values of that name.
type (
	namespaces       struct{ to *[]policy.NamespaceMatch }
	namespaceChanges struct{ to *[]policy.NamespaceMatch }
)

var pidFields = []field[policy.PIDMatch]{
	{name: "operator", to: func(m *policy.PIDMatch) any { return &m.Operator }, rule: rule{need: true, enum: &inOperators}},
	{name: "values", to: func(m *policy.PIDMatch) any { return &m.Values }, rule: rule{need: true, full: true}},
	{name: "isNamespacePID", to: func(m *policy.PIDMatch) any { return &m.IsNamespacePID }},
	{name: "followForks", to: func(m *policy.PIDMatch) any { return &m.FollowForks }},
}

var binaryFields = []field[policy.BinaryMatch]{
	{name: "operator", to: func(m *policy.BinaryMatch) any { return &m.Operator }, rule: rule{need: true, enum: &binaryOperators}},
	{name: "values", to: func(m *policy.BinaryMatch) any { return &m.Values }, rule: rule{need: true, full: true}},
	{name: "followChildren", to: func(m *policy.BinaryMatch) any { return &m.FollowChildren }},
}

var argMatchFields = []field[policy.ArgMatch]{
	{name: "index", to: func(m *policy.ArgMatch) any { return &m.Index }},
	{name: "args", to: func(m *policy.ArgMatch) any { return &m.Args }},
	{name: "operator", to: func(m *policy.ArgMatch) any { return &m.Operator }, rule: rule{need: true, enum: &argOperators}},
	{name: "values", to: func(m *policy.ArgMatch) any { return &m.Values }},
}

var namespaceFields = []field[policy.NamespaceMatch]{
	{name: "namespace", to: func(m *policy.NamespaceMatch) any { return &m.Namespace }, rule: rule{need: true, enum: &namespaceNames}},
	{name: "operator", to: func(m *policy.NamespaceMatch) any { return &m.Operator }, rule: rule{need: true, enum: &inOperators}},
	{name: "values", to: func(m *policy.NamespaceMatch) any { return &m.Values }, rule: rule{need: true, full: true}},
}

var namespaceChangeFields = []field[policy.NamespaceMatch]{
	{name: "operator", to: func(m *policy.NamespaceMatch) any { return &m.Operator }, rule: rule{need: true, enum: &inOperators}},
	{name: "values", to: func(m *policy.NamespaceMatch) any { return &m.Values }, rule: rule{need: true, full: true, enum: &namespaceNames}},
}

var capabilityFields = []field[policy.CapabilityMatch]{
	{name: "type", to: func(m *policy.CapabilityMatch) any { return &m.Type }, rule: rule{enum: &capabilitySets, std: "Effective"}},
	{name: "operator", to: func(m *policy.CapabilityMatch) any { return &m.Operator }, rule: rule{need: true, enum: &inOperators}},
	{name: "isNamespaceCapability", to: func(m *policy.CapabilityMatch) any { return &m.IsNamespaceCapability }},
	{name: "values", to: func(m *policy.CapabilityMatch) any { return &m.Values }, rule: rule{need: true, full: true, enum: &capabilities}},
}

var workloadFields = []field[policy.WorkloadMatch]{
	{name: "podSelector", to: func(m *policy.WorkloadMatch) any { return &m.PodSelector }},
	{name: "containerSelector", to: func(m *policy.WorkloadMatch) any { return &m.ContainerSelector }},
	{name: "hostSelector", to: func(m *policy.WorkloadMatch) any { return &m.HostSelector }},
}

// maxRegs is how many assignments an Override can make.
const maxRegs = 18

var actionFields = []field[policy.Action]{
	{name: "action", to: func(a *policy.Action) any { return &a.Action }, rule: rule{need: true, enum: &actions}},
	{name: "argError", to: func(a *policy.Action) any { return &a.ArgError }, rule: rule{min: math.MinInt32, max: math.MaxInt32}},
	{name: "argSig", to: func(a *policy.Action) any { return &a.ArgSig }, rule: rule{max: maxSignal}},
	{name: "argSock", to: func(a *policy.Action) any { return &a.ArgSock }},
	{name: "argIndex", to: func(a *policy.Action) any { return &a.ArgIndex }},
	{name: "argValue", to: func(a *policy.Action) any { return &a.ArgValue }},
	{name: "argUrl", to: func(a *policy.Action) any { return &a.ArgURL }},
	{name: "argFqdn", to: func(a *policy.Action) any { return &a.ArgFqdn }},
	{name: "argRegs", to: func(a *policy.Action) any { return &a.ArgRegs }, rule: rule{most: maxRegs}},
	{name: "argNewSymbol", to: func(a *policy.Action) any { return &a.ArgNewSymbol }},
	{name: "argNewAddr", to: func(a *policy.Action) any { return &a.ArgNewAddr }, rule: rule{wide: true}},
	{name: "argNewOffset", to: func(a *policy.Action) any { return &a.ArgNewOffset }, rule: rule{wide: true}},
	{name: "rateLimit", to: func(a *policy.Action) any { return &a.RateLimit }},
	{name: "rateLimitScope", to: func(a *policy.Action) any { return &a.RateLimitScope }, rule: rule{enum: &rateScopes}},
	{name: "kernelStackTrace", to: func(a *policy.Action) any { return &a.KernelStackTrace }},
	{name: "userStackTrace", to: func(a *policy.Action) any { return &a.UserStackTrace }},
	{name: "imaHash", to: func(a *policy.Action) any { return &a.ImaHash }},
}
