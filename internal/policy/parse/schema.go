// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"math"
	"strings"

	"tetragon/internal/policy"
)

// This is the policy language: what may stand where, and what it means. What ties fields to each other is in the check_*.go files.

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
	{name: "apiVersion", to: func(d *document) any { return &d.apiVersion },
		doc: "Version of the language: cilium.io/v1alpha1. Another one is read as this one, with a warning."},
	{name: "kind", to: func(d *document) any { return &d.kind }, rule: rule{need: true},
		doc: "TracingPolicy for the whole machine, TracingPolicyNamespaced for the pods of one namespace: refused so far, as this version does not follow Kubernetes yet."},
	{name: "metadata", rule: rule{need: true}, doc: "What the policy is called, and where it belongs.", sub: []field[document]{
		{name: "name", to: func(d *document) any { return &d.meta.name }, rule: rule{need: true, full: true},
			doc: "Name of the policy, as events and tetra tracingpolicy list show it: small letters, digits, - and . between them."},
		{name: "namespace", to: func(d *document) any { return &d.meta.namespace },
			doc: "Namespace of a TracingPolicyNamespaced, which must have one; a TracingPolicy must have none."},
		{name: "labels", to: func(d *document) any { return &d.meta.labels },
			doc: "Labels of the object. They are kept, and do not change what the policy does."},
		{name: "annotations", to: func(d *document) any { return &d.meta.notes },
			doc: "Notes on the object, such as a description. They do not change what the policy does."},
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
	{name: "spec", to: nil, rule: rule{need: true}, sub: specFields,
		doc: "What the policy watches and does. It has hooks of one section: kprobes, fentries, tracepoints, uprobes, usdts or lsmhooks."},
}

var specFields = []field[document]{
	{name: "kprobes", to: func(d *document) any { return &d.spec.Kprobes },
		doc: "Hooks on functions of the kernel and on system calls. Each makes events of kind process_kprobe."},
	{name: "fentries", to: func(d *document) any { return &d.spec.Fentries },
		doc: "Hooks on functions of the kernel by trampolines; they take the fields of kprobes, but cannot enforce. Events are of kind process_kprobe."},
	{name: "tracepoints", to: func(d *document) any { return &d.spec.Tracepoints },
		doc: "Hooks on tracepoints of the kernel. Each makes events of kind process_tracepoint."},
	{name: "uprobes", to: func(d *document) any { return &d.spec.Uprobes },
		doc: "Hooks on functions of programs and libraries. Each makes events of kind process_uprobe. Not in a TracingPolicyNamespaced."},
	{name: "usdts", to: func(d *document) any { return &d.spec.Usdts },
		doc: "Hooks on static probes (USDT) that are built into programs. Each makes events of kind process_usdt. Not in a TracingPolicyNamespaced."},
	{name: "lsmhooks", to: func(d *document) any { return &d.spec.LsmHooks },
		doc: "Hooks on the decisions of the kernel's security modules (LSM). Each makes events of kind process_lsm."},
	{name: "loader", to: func(d *document) any { return &d.spec.Loader },
		doc: "Tell of each program and library that is mapped to be executed, as events of kind process_loader. Not in a TracingPolicyNamespaced."},
	{name: "enforcers", to: func(d *document) any { return &d.spec.Enforcers }, rule: rule{most: 1},
		doc: "Functions that are denied when another hook of this policy orders it by the action NotifyEnforcer."},
	{name: "lists", to: func(d *document) any { return &d.spec.Lists },
		doc: "Lists of functions or system calls, for \"list:NAME\" in the call of a hook, the calls of an enforcer, and values of InMap."},
	{name: "options", to: func(d *document) any { return &d.spec.Options },
		doc: "Settings of this policy, by name."},
	{name: "selectorsMacros", to: func(d *document) any { return &d.spec.Macros },
		doc: "Parts of selectors that have a name, for selectors that would say the same otherwise."},
	{name: "podSelector", to: func(d *document) any { return &d.spec.PodSelector },
		doc: "Pods that the policy is for, by their labels. Refused so far: this version does not follow Kubernetes yet."},
	{name: "containerSelector", to: func(d *document) any { return &d.spec.ContainerSelector },
		doc: "Containers that the policy is for: by their name, or by repo of their image. Refused so far: this version does not follow Kubernetes yet."},
	{name: "hostSelector", to: func(d *document) any { return &d.spec.HostSelector },
		doc: "{} makes the policy for the processes that are in no container. Not in a TracingPolicyNamespaced."},
	{name: "nodeSelector", to: func(d *document) any { return &d.spec.NodeSelector },
		doc: "Nodes that the policy is for, by their labels. It has no effect so far, which a warning says."},
}

// maxTags is the schema's.
const maxTags = 16

// hookFields are what all hooks have, in front of what each has for itself.
func hookFields[T any](of func(*T) *policy.Common, own ...field[T]) []field[T] {
	return append([]field[T]{
		{name: "message", to: func(t *T) any { return &of(t).Message },
			doc: "Text that stands in each event of the hook."},
		{name: "tags", to: func(t *T) any { return &of(t).Tags }, rule: rule{most: maxTags},
			doc: "Words that stand in each event of the hook, to sort events by."},
		{name: "args", to: func(t *T) any { return &of(t).Args },
			doc: "Arguments of the call that are read and stand in the event, in this order."},
		{name: "selectors", to: func(t *T) any { return &of(t).Selectors },
			doc: "What calls the hook is for, and what is done about them. The first selector that matches counts; without selectors all calls are told."},
	}, own...)
}

var kprobeFields = hookFields(func(k *policy.Kprobe) *policy.Common { return &k.Common },
	field[policy.Kprobe]{name: "call", to: func(k *policy.Kprobe) any { return &k.Call }, rule: rule{need: true, full: true},
		doc: "The function: of the kernel (security_file_open), of a system call (sys_openat), or all of a list (list:NAME)."},
	field[policy.Kprobe]{name: "syscall", to: func(k *policy.Kprobe) any { return &k.Syscall }, rule: rule{yes: true},
		doc: "The call is a system call: sys_ in front of its name becomes the machine's own prefix, and the arguments are those of the system call. Say false for all other functions."},
	field[policy.Kprobe]{name: "return", to: func(k *policy.Kprobe) any { return &k.Return },
		doc: "Wait for the return of the function and tell of call and return in one event. Needs returnArg."},
	field[policy.Kprobe]{name: "returnArg", to: func(k *policy.Kprobe) any { return &k.ReturnArg },
		doc: "What the function returns. Its type must be said."},
	field[policy.Kprobe]{name: "returnArgAction", to: func(k *policy.Kprobe) any { return &k.ReturnArgAction },
		doc: "Follow the socket that the function returns: TrackSock, or UntrackSock to end it."},
	field[policy.Kprobe]{name: "data", to: func(k *policy.Kprobe) any { return &k.Data },
		doc: "More than arguments: what is in registers or in the kernel's record of the task. Each needs source and resolve."},
	field[policy.Kprobe]{name: "ignore", doc: "Mistakes that are no mistakes for this hook.", sub: []field[policy.Kprobe]{
		{name: "callNotFound", to: func(k *policy.Kprobe) any { return &k.CallNotFound },
			doc: "A function that the kernel has not is left out instead of refusing the policy."},
	}},
)

var tracepointFields = hookFields(func(t *policy.Tracepoint) *policy.Common { return &t.Common },
	field[policy.Tracepoint]{name: "subsystem", to: func(t *policy.Tracepoint) any { return &t.Subsystem }, rule: rule{need: true, full: true},
		doc: "Group of the tracepoint: the directory below events in tracefs."},
	field[policy.Tracepoint]{name: "event", to: func(t *policy.Tracepoint) any { return &t.Event }, rule: rule{need: true, full: true},
		doc: "Name of the tracepoint in its group."},
	field[policy.Tracepoint]{name: "raw", to: func(t *policy.Tracepoint) any { return &t.Raw },
		doc: "Hook the tracepoint before the kernel makes its record. The index of an argument is then its position in the tracepoint's prototype."},
)

var uprobeFields = hookFields(func(u *policy.Uprobe) *policy.Common { return &u.Common },
	field[policy.Uprobe]{name: "path", to: func(u *policy.Uprobe) any { return &u.Path }, rule: rule{need: true, full: true},
		doc: "The program or library, as the agent finds it among the files of the host."},
	field[policy.Uprobe]{name: "btfPath", to: func(u *policy.Uprobe) any { return &u.BTFPath },
		doc: "File with types (BTF) of the program, for resolve on its arguments."},
	field[policy.Uprobe]{name: "symbols", to: func(u *policy.Uprobe) any { return &u.Symbols },
		doc: "Functions to hook: NAME, or NAME+OFFSET. One of symbols, offsets and addrs must be there."},
	field[policy.Uprobe]{name: "offsets", to: func(u *policy.Uprobe) any { return &u.Offsets }, rule: rule{wide: true},
		doc: "Places to hook, counted from the start of the file. One of symbols, offsets and addrs must be there."},
	field[policy.Uprobe]{name: "addrs", to: func(u *policy.Uprobe) any { return &u.Addrs }, rule: rule{wide: true},
		doc: "Places to hook, by virtual address in the file. One of symbols, offsets and addrs must be there."},
	field[policy.Uprobe]{name: "refCtrOffsets", to: func(u *policy.Uprobe) any { return &u.RefCtrOffset }, rule: rule{wide: true},
		doc: "Places in the file of counters that the program looks at, one for each symbol, offset or address."},
	field[policy.Uprobe]{name: "data", to: func(u *policy.Uprobe) any { return &u.Data },
		doc: "More than arguments: what is in registers or in the kernel's record of the task. Each needs source and resolve."},
	field[policy.Uprobe]{name: "return", to: func(u *policy.Uprobe) any { return &u.Return },
		doc: "Wait for the return of the function. Needs returnArg."},
	field[policy.Uprobe]{name: "returnArg", to: func(u *policy.Uprobe) any { return &u.ReturnArg },
		doc: "What the function returns. Its type must be said."},
	field[policy.Uprobe]{name: "binaryDigests", to: func(u *policy.Uprobe) any { return &u.Digests },
		doc: "Digests, as ALGORITHM:HEX, one of which the file must have: sha1, sha256, sha384, sha512 or build-id."},
	field[policy.Uprobe]{name: "ignore", doc: "Mistakes that are no mistakes for this hook.", sub: []field[policy.Uprobe]{
		{name: "digestVerificationFailure", to: func(u *policy.Uprobe) any { return &u.DigestFailure },
			doc: "A file with none of the digests is not hooked, instead of refusing the policy."},
	}},
)

var usdtFields = hookFields(func(u *policy.Usdt) *policy.Common { return &u.Common },
	field[policy.Usdt]{name: "path", to: func(u *policy.Usdt) any { return &u.Path }, rule: rule{need: true, full: true},
		doc: "The program or library, as the agent finds it among the files of the host."},
	field[policy.Usdt]{name: "btfPath", to: func(u *policy.Usdt) any { return &u.BTFPath },
		doc: "File with types (BTF) of the program, for resolve on its arguments."},
	field[policy.Usdt]{name: "provider", to: func(u *policy.Usdt) any { return &u.Provider }, rule: rule{need: true, full: true},
		doc: "Provider of the static probe, as the file's notes name it."},
	field[policy.Usdt]{name: "name", to: func(u *policy.Usdt) any { return &u.Name }, rule: rule{need: true, full: true},
		doc: "Name of the static probe. All places of it are hooked."},
)

var lsmFields = hookFields(func(l *policy.LsmHook) *policy.Common { return &l.Common },
	field[policy.LsmHook]{name: "hook", to: func(l *policy.LsmHook) any { return &l.Hook }, rule: rule{need: true, full: true},
		doc: "Name of the hook without prefix, such as file_open or bprm_check_security."},
)

var enforcerFields = []field[policy.Enforcer]{
	{name: "calls", to: func(e *policy.Enforcer) any { return &e.Calls }, rule: rule{need: true, full: true},
		doc: "Functions that can be denied: system calls (sys_openat), functions whose name begins with security_, or all of a list (list:NAME)."},
}

var listFields = []field[policy.List]{
	{name: "name", to: func(l *policy.List) any { return &l.Name }, rule: rule{need: true, full: true},
		doc: "Name of the list; \"list:NAME\" refers to it."},
	{name: "type", to: func(l *policy.List) any { return &l.Type }, rule: rule{enum: &listTypes},
		doc: "What the values are, or how they are made. Without a type they are functions of the kernel, as they are written."},
	{name: "values", to: func(l *policy.List) any { return &l.Values },
		doc: "Functions, or system calls as sys_NAME or ABI/sys_NAME. None for lists that are generated."},
	{name: "pattern", to: func(l *policy.List) any { return &l.Pattern },
		doc: "Regular expression for generated_ftrace: functions whose names match are on the list."},
	// An internal mark of upstream's that its schema shows; this program expands all lists, whatever it says.
	{name: "validated", rule: rule{internal: true},
		doc: "Has no effect."},
}

var optionFields = []field[policy.Option]{
	{name: "name", to: func(o *policy.Option) any { return &o.Name }, rule: rule{need: true, full: true},
		doc: "Name of the option: " + strings.Join(optionNames(), ", ") + "."},
	{name: "value", to: func(o *policy.Option) any { return &o.Value },
		doc: "Value of the option, as a text."},
}

// maxSizeArg is the schema's bound of sizeArgIndex.
const maxSizeArg = 15

var argFields = []field[policy.Arg]{
	{name: "index", to: func(a *policy.Arg) any { return &a.Index },
		doc: "Position of the argument, from 0. On tracepoints the position of the field in the format file, where the first of its own is mostly 4. Of no meaning in data."},
	{name: "type", to: func(a *policy.Arg) any { return &a.Type }, rule: rule{enum: &argTypes, std: "auto"},
		doc: "What the argument is, and so how it is read and shown. On kprobes, fentries, raw tracepoints and usdts it must be said."},
	{name: "label", to: func(a *policy.Arg) any { return &a.Label },
		doc: "Text that stands with the argument in the event."},
	{name: "sizeArgIndex", to: func(a *policy.Arg) any { return &a.SizeArgIndex }, rule: rule{max: maxSizeArg},
		doc: "Which argument says how long a char_buf or char_iovec is, counted from 1; 0: none."},
	{name: "returnCopy", to: func(a *policy.Arg) any { return &a.ReturnCopy },
		doc: "Read the buffer when the function returns, as long as its return value says."},
	{name: "maxData", to: func(a *policy.Arg) any { return &a.MaxData },
		doc: "Read more of a char_buf than fits into one record."},
	{name: "resolve", to: func(a *policy.Arg) any { return &a.Resolve },
		doc: "Path of members from the argument to what is to be read, such as f_inode.i_mode; the name of a register with source pt_regs."},
	{name: "source", to: func(a *policy.Arg) any { return &a.Source }, rule: rule{enum: &dataSources},
		doc: "Where an entry of data comes from: the kernel's record of the task, or registers."},
	{name: "btfType", to: func(a *policy.Arg) any { return &a.BTFType },
		doc: "Name of the structure that resolve begins at, instead of the argument's own type."},
	{name: "btfTypeModule", to: func(a *policy.Arg) any { return &a.BTFTypeModule },
		doc: "Module of the kernel that has the type of btfType."},
}

var selectorFields = []field[policy.Selector]{
	{name: "label", to: func(s *policy.Selector) any { return &s.Label },
		doc: "Name of the selector, which tetra policy explain shows."},
	{name: "macros", to: func(s *policy.Selector) any { return &s.Macros },
		doc: "Names of macros whose filters and actions are part of this selector."},
	{name: "matchPIDs", to: func(s *policy.Selector) any { return &s.PIDs },
		doc: "Processes by their ids."},
	{name: "matchBinaries", to: func(s *policy.Selector) any { return &s.Binaries },
		doc: "Processes by the path of the program that they execute."},
	{name: "matchParentBinaries", to: func(s *policy.Selector) any { return &s.ParentBinaries },
		doc: "Processes by the path of the program that their parent executes."},
	{name: "matchArgs", to: func(s *policy.Selector) any { return &s.Args },
		doc: "Calls by their arguments. All entries must match."},
	{name: "matchData", to: func(s *policy.Selector) any { return &s.Data },
		doc: "Calls by entries of data. All entries must match."},
	{name: "matchReturnArgs", to: func(s *policy.Selector) any { return &s.ReturnArgs },
		doc: "Calls by what the function returns. Needs return: true."},
	{name: "matchNamespaces", to: func(s *policy.Selector) any { return namespaces{&s.Namespaces} },
		doc: "Processes by the namespaces of the kernel that they are in. All entries must match."},
	{name: "matchNamespaceChanges", to: func(s *policy.Selector) any { return namespaceChanges{&s.NamespaceChanges} },
		doc: "Processes that have entered other namespaces since they were executed."},
	{name: "matchCapabilities", to: func(s *policy.Selector) any { return &s.Capabilities },
		doc: "Processes by their capabilities."},
	{name: "matchCapabilityChanges", to: func(s *policy.Selector) any { return &s.CapabilityChanges },
		doc: "Processes whose capabilities have changed since they were executed."},
	{name: "matchWorkloads", to: func(s *policy.Selector) any { return &s.Workloads },
		doc: "Processes by where they run."},
	{name: "matchActions", to: func(s *policy.Selector) any { return &s.Actions },
		doc: "What is done when all filters of the selector match. Without actions an event is made."},
	{name: "matchReturnActions", to: func(s *policy.Selector) any { return &s.ReturnActions },
		doc: "What is done when the function returns and the selector matches. Needs return: true."},
}

// One type of the model for two of the schema: changes have no namespace, but values of that name.
type (
	namespaces       struct{ to *[]policy.NamespaceMatch }
	namespaceChanges struct{ to *[]policy.NamespaceMatch }
)

var pidFields = []field[policy.PIDMatch]{
	{name: "operator", to: func(m *policy.PIDMatch) any { return &m.Operator }, rule: rule{need: true, enum: &inOperators},
		doc: "In: one of the values. NotIn: none of them."},
	{name: "values", to: func(m *policy.PIDMatch) any { return &m.Values }, rule: rule{need: true, full: true},
		doc: "Process ids."},
	{name: "isNamespacePID", to: func(m *policy.PIDMatch) any { return &m.IsNamespacePID },
		doc: "The values are ids in the process's own namespace of ids, instead of the host's."},
	{name: "followForks", to: func(m *policy.PIDMatch) any { return &m.FollowForks },
		doc: "Descendants of the processes match like themselves."},
}

var binaryFields = []field[policy.BinaryMatch]{
	{name: "operator", to: func(m *policy.BinaryMatch) any { return &m.Operator }, rule: rule{need: true, enum: &binaryOperators},
		doc: "In and NotIn compare the whole path, Prefix and Postfix its start and end; operators with Not match if none of the values does."},
	{name: "values", to: func(m *policy.BinaryMatch) any { return &m.Values }, rule: rule{need: true, full: true},
		doc: "Paths, or parts of paths, as the process sees them. A script has the path of its interpreter."},
	{name: "followChildren", to: func(m *policy.BinaryMatch) any { return &m.FollowChildren },
		doc: "Descendants of the processes match like themselves. With In and NotIn."},
}

var argMatchFields = []field[policy.ArgMatch]{
	{name: "index", to: func(m *policy.ArgMatch) any { return &m.Index },
		doc: "Which argument: the index that an entry of args has; in matchData a position in data."},
	{name: "args", to: func(m *policy.ArgMatch) any { return &m.Args },
		doc: "Which argument, by its position in args, instead of index. CapabilitiesGained takes two."},
	{name: "operator", to: func(m *policy.ArgMatch) any { return &m.Operator }, rule: rule{need: true, enum: &argOperators},
		doc: "How the argument and the values are compared. Which operators go with which types is in docs/language.md."},
	{name: "values", to: func(m *policy.ArgMatch) any { return &m.Values },
		doc: "What the argument is compared with; one that matches is enough. Operators with Not match if none of the values does."},
}

var namespaceFields = []field[policy.NamespaceMatch]{
	{name: "namespace", to: func(m *policy.NamespaceMatch) any { return &m.Namespace }, rule: rule{need: true, enum: &namespaceNames},
		doc: "Which of the namespaces of a process."},
	{name: "operator", to: func(m *policy.NamespaceMatch) any { return &m.Operator }, rule: rule{need: true, enum: &inOperators},
		doc: "In: one of the values. NotIn: none of them."},
	{name: "values", to: func(m *policy.NamespaceMatch) any { return &m.Values }, rule: rule{need: true, full: true},
		doc: "Numbers of namespaces (inodes), or host_ns for that of the host."},
}

var namespaceChangeFields = []field[policy.NamespaceMatch]{
	{name: "operator", to: func(m *policy.NamespaceMatch) any { return &m.Operator }, rule: rule{need: true, enum: &inOperators},
		doc: "In: one of these was changed. NotIn: another one was changed."},
	{name: "values", to: func(m *policy.NamespaceMatch) any { return &m.Values }, rule: rule{need: true, full: true, enum: &namespaceNames},
		doc: "Names of namespaces."},
}

var capabilityFields = []field[policy.CapabilityMatch]{
	{name: "type", to: func(m *policy.CapabilityMatch) any { return &m.Type }, rule: rule{enum: &capabilitySets, std: "Effective"},
		doc: "Which set of capabilities."},
	{name: "operator", to: func(m *policy.CapabilityMatch) any { return &m.Operator }, rule: rule{need: true, enum: &inOperators},
		doc: "In: one of the values. NotIn: none of them."},
	{name: "isNamespaceCapability", to: func(m *policy.CapabilityMatch) any { return &m.IsNamespaceCapability },
		doc: "Only processes that are in another user namespace than the host's."},
	{name: "values", to: func(m *policy.CapabilityMatch) any { return &m.Values }, rule: rule{need: true, full: true, enum: &capabilities},
		doc: "Names of capabilities."},
}

var workloadFields = []field[policy.WorkloadMatch]{
	{name: "podSelector", to: func(m *policy.WorkloadMatch) any { return &m.PodSelector },
		doc: "Pods by their labels. Refused so far: this version does not follow Kubernetes yet."},
	{name: "containerSelector", to: func(m *policy.WorkloadMatch) any { return &m.ContainerSelector },
		doc: "Containers by name or repo. Refused so far: this version does not follow Kubernetes yet."},
	{name: "hostSelector", to: func(m *policy.WorkloadMatch) any { return &m.HostSelector },
		doc: "{} stands for processes that are in no container."},
}

// maxRegs is how many assignments an Override can make.
const maxRegs = 18

var actionFields = []field[policy.Action]{
	{name: "action", to: func(a *policy.Action) any { return &a.Action }, rule: rule{need: true, enum: &actions},
		doc: "What is done. Sigkill, Signal, Override, NotifyEnforcer and Set change what happens, but in mode monitor; the others do not."},
	{name: "argError", to: func(a *policy.Action) any { return &a.ArgError }, rule: rule{min: math.MinInt32, max: math.MaxInt32},
		doc: "What the function returns instead of running, by Override and NotifyEnforcer: an error as a negative number, -1 for EPERM."},
	{name: "argSig", to: func(a *policy.Action) any { return &a.ArgSig }, rule: rule{max: maxSignal},
		doc: "Number of the signal, of Signal and NotifyEnforcer."},
	{name: "argSock", to: func(a *policy.Action) any { return &a.ArgSock },
		doc: "Which argument is the socket of TrackSock or UntrackSock, by its position in args."},
	{name: "argIndex", to: func(a *policy.Action) any { return &a.ArgIndex },
		doc: "Which argument Set changes, by its position in args."},
	{name: "argValue", to: func(a *policy.Action) any { return &a.ArgValue },
		doc: "What Set writes."},
	{name: "argUrl", to: func(a *policy.Action) any { return &a.ArgURL },
		doc: "Address that GetUrl asks."},
	{name: "argFqdn", to: func(a *policy.Action) any { return &a.ArgFqdn },
		doc: "Name that DnsLookup asks for."},
	{name: "argRegs", to: func(a *policy.Action) any { return &a.ArgRegs }, rule: rule{most: maxRegs},
		doc: "Registers that Override changes in a user program. Not done so far: Override on a uprobe is refused, or kills where option override-fallback says so."},
	{name: "argNewSymbol", to: func(a *policy.Action) any { return &a.ArgNewSymbol },
		doc: "Function where Override lets a user program go on. Not done so far: Override on a uprobe is refused, or kills where option override-fallback says so."},
	{name: "argNewAddr", to: func(a *policy.Action) any { return &a.ArgNewAddr }, rule: rule{wide: true},
		doc: "Address where Override lets a user program go on. Not done so far: Override on a uprobe is refused, or kills where option override-fallback says so."},
	{name: "argNewOffset", to: func(a *policy.Action) any { return &a.ArgNewOffset }, rule: rule{wide: true},
		doc: "Place in the file where Override lets a user program go on. Not done so far: Override on a uprobe is refused, or kills where option override-fallback says so."},
	{name: "rateLimit", to: func(a *policy.Action) any { return &a.RateLimit },
		doc: "Time for which Post is silent about a repetition: a number with s, m or h. Other actions go on."},
	{name: "rateLimitScope", to: func(a *policy.Action) any { return &a.RateLimitScope }, rule: rule{enum: &rateScopes},
		doc: "Whose repetitions rateLimit counts: those of the thread, of the process, or of all. The thread's if it is not said."},
	{name: "aggregate", to: func(a *policy.Action) any { return &a.Aggregate },
		doc: "Time for which Post counts equal calls of a process in the kernel, instead of telling each: a number with s, m or h. Ours, not upstream's."},
	{name: "kernelStackTrace", to: func(a *policy.Action) any { return &a.KernelStackTrace },
		doc: "Post has the stack of the kernel in the event. On kprobes and fentries."},
	{name: "userStackTrace", to: func(a *policy.Action) any { return &a.UserStackTrace },
		doc: "Post has the stack of the program in the event. On kprobes and fentries."},
	{name: "imaHash", to: func(a *policy.Action) any { return &a.ImaHash },
		doc: "Post has the hash of the file in the event, as IMA makes it. On hooks of LSM."},
}
