// SPDX-License-Identifier: Apache-2.0

// Package policy is the typed model of a TracingPolicy: what a user wrote, with the place of each part.
//
// policy/parse makes it out of YAML, policy/compile makes a plan out of it. It is plain data: closed sets, no YAML, no
// kernel. What the parser has accepted has the shape that the schema wants; whether it makes sense on a kernel is for the
// compiler to say, which is why every part knows where it stands in the text.
//
// Not here: reading (policy/parse), meaning (policy/compile).
package policy

import "fmt"

// Place is where something stands in the text of a policy.
type Place struct {
	Line, Column int    // from 1; those of the object around it if it is not in the text (a default)
	Path         string // "spec.kprobes[0].selectors[1].matchArgs[0].operator"
}

// At returns the place of a member that the text does not have, or that needs no place of its own.
func (p Place) At(format string, args ...any) Place {
	p.Path += fmt.Sprintf(format, args...)
	return p
}

// Text is a scalar with its place.
type Text struct {
	Place
	Value string
}

// Int is a number with its place. Set is false where the text has none.
type Int struct {
	Place
	Value int64
	Set   bool
}

// Bool is a truth value with its place. Set is false where the text has none; Value is the schema's default then.
type Bool struct {
	Place
	Value, Set bool
}

// Policy is one policy.
type Policy struct {
	Place
	File      string // name of the text, for diagnostics; may be empty
	Kind      Kind
	Name      string
	Namespace string // of a KindNamespaced
	Labels    map[string]string
	Notes     map[string]string // annotations

	Kprobes     []Kprobe
	Fentries    []Kprobe
	Tracepoints []Tracepoint
	Uprobes     []Uprobe
	Usdts       []Usdt
	LsmHooks    []LsmHook
	Enforcers   []Enforcer
	Loader      Bool
	Lists       []List
	Options     []Option
	Macros      []Macro // in the order of the text

	PodSelector, ContainerSelector, HostSelector, NodeSelector *LabelSelector
}

// Kind of a policy.
type Kind uint8

// Kinds. Zero is unknown.
const (
	KindUnknown Kind = iota
	KindCluster
	KindNamespaced
)

// Common is what all hooks have.
type Common struct {
	Place
	Message   Text
	Tags      []Text
	Args      []Arg
	Selectors []Selector
}

// Kprobe is an entry of kprobes or fentries.
type Kprobe struct {
	Common
	Call            Text // a function, or "list:NAME"
	Syscall         Bool // true if absent
	Return          Bool
	ReturnArg       *Arg
	ReturnArgAction Text
	Data            []Arg
	CallNotFound    Bool // ignore.callNotFound
}

// Tracepoint is an entry of tracepoints.
type Tracepoint struct {
	Common
	Subsystem, Event Text
	Raw              Bool
}

// Uprobe is an entry of uprobes.
type Uprobe struct {
	Common
	Path, BTFPath                Text
	Symbols                      []Text
	Offsets, Addrs, RefCtrOffset []Int
	Data                         []Arg
	Return                       Bool
	ReturnArg                    *Arg
	Digests                      []Text
	DigestFailure                Bool // ignore.digestVerificationFailure
}

// Usdt is an entry of usdts.
type Usdt struct {
	Common
	Path, BTFPath, Provider, Name Text
}

// LsmHook is an entry of lsmhooks.
type LsmHook struct {
	Common
	Hook Text
}

// Enforcer is an entry of enforcers.
type Enforcer struct {
	Place
	Calls []Text
}

// Arg is an argument, an entry of data, or a return value.
type Arg struct {
	Place
	Index                  Int
	Type                   Text // schema spelling; "auto" if absent
	Label                  Text
	SizeArgIndex           Int
	ReturnCopy, MaxData    Bool
	Resolve, Source        Text
	BTFType, BTFTypeModule Text
}

// Selector is one selector, or a macro's body. Macros are expanded by the compiler.
type Selector struct {
	Place
	Label                  Text
	Macros                 []Text
	PIDs                   []PIDMatch
	Binaries               []BinaryMatch
	ParentBinaries         []BinaryMatch
	Args, Data, ReturnArgs []ArgMatch
	Namespaces             []NamespaceMatch
	NamespaceChanges       []NamespaceMatch // Namespace is empty
	Capabilities           []CapabilityMatch
	CapabilityChanges      []CapabilityMatch
	Workloads              *WorkloadMatch
	Actions, ReturnActions []Action
}

// Macro is a named selector.
type Macro struct {
	Name Text
	Selector
}

// PIDMatch is an entry of matchPIDs.
type PIDMatch struct {
	Place
	Operator       Text // "In", "NotIn"
	Values         []Int
	IsNamespacePID Bool
	FollowForks    Bool
}

// BinaryMatch is an entry of matchBinaries or matchParentBinaries.
type BinaryMatch struct {
	Place
	Operator       Text // "In", "NotIn", "Prefix", "NotPrefix", "Postfix", "NotPostfix"
	Values         []Text
	FollowChildren Bool
}

// ArgMatch is an entry of matchArgs, matchData or matchReturnArgs.
type ArgMatch struct {
	Place
	Index    Int
	Args     []Int
	Operator Text // schema spelling, also where the text has a documented alias
	Values   []Text
}

// NamespaceMatch is an entry of matchNamespaces or matchNamespaceChanges.
type NamespaceMatch struct {
	Place
	Namespace Text // "Uts", "Ipc", "Mnt", "Pid", "PidForChildren", "Net", "Time", "TimeForChildren", "Cgroup", "User"
	Operator  Text // "In", "NotIn"
	Values    []Text
}

// CapabilityMatch is an entry of matchCapabilities or matchCapabilityChanges.
type CapabilityMatch struct {
	Place
	Type                  Text // "Effective" if absent; "Inheritable", "Permitted"
	Operator              Text // "In", "NotIn"
	IsNamespaceCapability Bool
	Values                []Text
}

// WorkloadMatch is matchWorkloads.
type WorkloadMatch struct {
	Place
	PodSelector, ContainerSelector, HostSelector *LabelSelector
}

// LabelSelector is a Kubernetes label selector.
type LabelSelector struct {
	Place
	MatchLabels map[string]string
	Expressions []LabelExpression
}

// LabelExpression is an entry of matchExpressions.
type LabelExpression struct {
	Key, Operator string
	Values        []string
}

// Action is an entry of matchActions or matchReturnActions.
type Action struct {
	Place
	Action                           Text // schema spelling
	ArgError, ArgSig, ArgSock        Int
	ArgIndex, ArgValue               Int
	ArgNewAddr, ArgNewOffset         Int
	ArgURL, ArgFqdn, ArgNewSymbol    Text
	ArgRegs                          []Text
	RateLimit, RateLimitScope        Text
	Aggregate                        Text
	KernelStackTrace, UserStackTrace Bool
	ImaHash                          Bool
}

// Enforcing are the actions that do more than tell.
var Enforcing = map[string]bool{"Sigkill": true, "Signal": true, "Override": true, "NotifyEnforcer": true, "Set": true}

// List is an entry of lists.
type List struct {
	Place
	Name    Text
	Type    Text // "", "syscalls", "generated_syscalls", "generated_ftrace"
	Values  []Text
	Pattern Text
}

// Option is an entry of options.
type Option struct {
	Place
	Name, Value Text
}
