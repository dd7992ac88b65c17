// SPDX-License-Identifier: Apache-2.0

// Package plan is the compiled policy: what is hooked, how values are read, which rules decide, what they order.
//
// It is the only value that the two lanes share. policy/compile makes a Plan out of a policy and the kernel's facts; sensor
// merges the hooks of all plans that meet on one attach point into Programs, makes the kernel run them, and gives the same
// Programs to event/decode as the layout of the records that come back.
//
// It is plain data: no YAML, no kernel, no instructions. It prints itself.
//
// Not here: how a plan is made (policy/compile), evaluated in Go (policy/simulate), or turned into programs (sensor).
package plan

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"tetragon/internal/policy/expr"
)

// Plan is one policy compiled for one kernel.
type Plan struct {
	Policy    string // metadata.name
	Namespace string // empty for a cluster-wide policy
	Kernel    string // release that it was compiled for
	Section   string // "kprobes", "tracepoints", ...; empty if the policy has no hooks
	Hooks     []Hook
	Loader    bool  // executable mappings are told (process_loader)
	Monitor   bool  // what enforces is only told, until somebody changes the mode
	Sets      []Set // sets of processes that the rules refer to
}

// EventKind is the event that a hook makes.
type EventKind uint8

// Kinds of events. Zero is unknown.
const (
	EventUnknown EventKind = iota
	EventKprobe
	EventTracepoint
	EventLSM
	EventUprobe
	EventUsdt
)

// Hook is one hook of one policy on one attach point. A list in the policy gives one Hook for each of its functions, but
// for BackendKprobeMulti, where one Hook has all.
type Hook struct {
	Section string // of the policy: "kprobes", "fentries", "tracepoints", "uprobes", "usdts"
	Index   int    // in the section
	Event   EventKind
	Name    string   // function_name of the event: what the policy asked for, with the prefix of system calls
	Names   []string // BackendKprobeMulti: the name for each of Attach.Symbols; nil for others
	Subsys  string   // tracepoints: subsystem and event as the policy names them; static probes: provider and name
	TpEvent string
	Symbol  string // uprobes: of the event; empty if the policy names a place by number
	Message string
	Tags    []string

	Attach   Attach
	Guards   string    // system call that is denied here because another hook of the policy says so; empty: it is none of these
	Inactive string    // why it is not attached; empty if it is
	Rejected bool      // Inactive: its program has another digest
	Tried    []Attempt // back-ends that were considered before Attach, and why not
	Caveats  []string  // how an equivalent differs from what was asked for

	Values []Value // what is read; rules and arguments refer to it by index
	Args   []Arg   // of the event, in order
	Data   []Arg   // "data" of the event
	Return *Arg    // nil: the return value is not part of the event
	Rules  []Rule  // in the order of the selectors; at least one; the first that matches decides
}

// Attempt is a back-end that was not chosen.
type Attempt struct {
	Backend Backend
	Why     string
}

// Arg is one argument of the event.
type Arg struct {
	Value int    // index in Hook.Values; -1: written as nothing ("nop")
	Type  string // as the policy says: "int", "file", ...; decides how the value is written
	Label string
	Index int // "index" in the policy
}

// Backend is a way of running a program at an attach point.
type Backend uint8

// Back-ends, in the order of preference. Numbers are internal.
const (
	BackendNone        Backend = iota
	BackendFentry              // trampoline at the entry of a function
	BackendFexit               // trampoline at its exit, which sees arguments and return value
	BackendKprobeMulti         // one program on many functions
	BackendKprobe
	BackendKretprobe   // with the arguments kept from the entry
	BackendRawTp       // raw tracepoint
	BackendTracepoint  // tracepoint with its record
	BackendUprobe      // breakpoint in a user program
	BackendUretprobe   // at the return of a function of a user program
	BackendSysEnter    // equivalent: system call entry, by number
	BackendSysExit     // equivalent: system call exit, by number; sees arguments and result
	BackendSockOps     // equivalent: TCP_CONNECT_CB at the cgroup root
	BackendSockCreate  // equivalent: cgroup sock_create
	BackendSockRelease // equivalent: cgroup sock_release
	BackendTp          // equivalent: raw tracepoint, of which conditions on the arguments choose some calls
	BackendFmodRet     // trampoline at the entry of a function, which may return in its place
	BackendLSM         // hook of the security modules, which may deny
	BackendConnect4    // equivalent: cgroup connect4, which may deny
	BackendConnect6
	BackendBind4 // equivalent: cgroup bind4, which may deny
	BackendBind6
	BackendCount
)

var backendNames = [BackendCount]string{
	"none", "fentry", "fexit", "kprobe.multi", "kprobe", "kretprobe", "raw_tracepoint", "tracepoint", "uprobe", "uretprobe",
	"sys_enter", "sys_exit",
	"sock_ops", "cgroup/sock_create", "cgroup/sock_release", "tp", "fmod_ret", "lsm",
	"cgroup/connect4", "cgroup/connect6", "cgroup/bind4", "cgroup/bind6",
}

// String returns the name that status and explain print.
func (b Backend) String() string {
	if b < BackendCount {
		return backendNames[b]
	}
	return "unknown"
}

// Equivalent says whether the back-end stands for a function that the kernel lets nobody hook.
func (b Backend) Equivalent() bool {
	return b >= BackendSysEnter && b <= BackendTp || b >= BackendConnect4 && b <= BackendBind6
}

// Cgroup says whether programs of the back-end are attached to a cgroup.
func (b Backend) Cgroup() bool {
	return b >= BackendSockOps && b <= BackendSockRelease || b >= BackendConnect4 && b <= BackendBind6
}

// Denies says whether a program there can have the call return an error instead of taking place.
func (b Backend) Denies() bool {
	return b == BackendFmodRet || b == BackendLSM || b >= BackendConnect4 && b <= BackendBind6
}

// Attach says where a program runs. Hooks with the same Key share one program.
type Attach struct {
	Backend Backend
	Symbol  string   // function; for BackendRawTp, BackendTp: name of the tracepoint; BackendTracepoint: "subsys/event"
	Module  string   // kernel module that has Symbol; empty: the kernel itself
	Symbols []string // BackendKprobeMulti: all functions; the record says which one by its place here
	Params  int      // number of parameters of Symbol; the return value is at this place in the context of an fexit program
	Regs    bool     // Symbol is a system call: its only parameter is struct pt_regs *
	Compat  bool     // Regs are those of a 32-bit call

	// BackendUprobe, BackendUretprobe: where in which file. Symbols and static probes are looked up when the program is
	// attached, again whenever another file takes the place of the old one.
	User *Place

	// BackendLSM: where the file is whose hash some rule tells or compares: a parameter, or a member of what it points to. To
	// make a hash is to read the file, for which the program sleeps. nil: none wants any.
	Hash *Source

	// Equivalents: the calls that are meant; nil for others. A call is meant if any of them fits.
	Calls []Call
	// Conditions on the raw arguments that all must hold before anything else, e.g. "newstate is TCP_FIN_WAIT1".
	When []Condition
}

// Call is a system call that stands for the function that was asked for.
type Call struct {
	ABI string // "x64" or "i386"
	Nr  int
}

// Condition holds if (source & Mask) is in Ranges (xor Not); Mask 0 means all bits.
type Condition struct {
	Source Source
	Mask   uint64
	Ranges []Range
	Not    bool
}

// Place is where in a user program a hook is: one of Symbol, Probe, or Offset alone.
type Place struct {
	Path   string // absolute
	Symbol string // of a function
	Offset uint64 // from Symbol; without one, from the beginning of the file
	RefCtr uint64 // offset in the file of a counter that the program looks at; 0: none
	Probe  string // static probe, "provider:name": all of its places whose arguments are where Args says
	Args   string // as the file's note says
	Multi  bool   // all places by one link (uprobe.multi)
	// Digests: the file must have one of them, "ALGORITHM:hex" in lower case, whenever it is attached to; none: any will do.
	Digests []string
}

// Key names the attach point; hooks with equal keys are merged into one program.
func (a *Attach) Key() string { return a.key() }

// FromUser says whether user space chose the number that a source brings. If it is taken for an address, only what lies in
// user memory may be read there: a process could name any place of the kernel.
func (a *Attach) FromUser(s *Source) bool {
	if a.User != nil {
		return true
	}
	for _, st := range slices.Backward(s.Steps) {
		if !st.Addr {
			return st.User // it lay where user space can write, or not
		}
	}
	switch s.Kind {
	case SourceReg:
		return true
	case SourceRegister, SourceReturn, SourceErr:
		return a.Regs || a.Backend == BackendSysEnter || a.Backend == BackendSysExit
	case SourceField:
		return a.Backend == BackendTracepoint && strings.HasPrefix(a.Symbol, "syscalls/")
	}
	return false
}

// SourceKind says where a raw value comes from.
type SourceKind uint8

// Sources. Zero is unknown.
const (
	SourceUnknown   SourceKind = iota
	SourceArg                  // parameter N of the function, or of the raw tracepoint
	SourceReg                  // argument N (0..5) of the system call (Attach.Regs, BackendSysEnter, BackendSysExit)
	SourceReturn               // return value of the function or system call
	SourceField                // field of a tracepoint's record: Off, Size, Signed
	SourceFieldAddr            // address of the byte at Off of a tracepoint's record
	SourceConst                // N itself
	SourceTask                 // address of the current task_struct
	SourceSyscall              // number of the system call, bit 31 set for 32-bit callers (BackendSysEnter, BackendSysExit, raw_syscalls)
	SourceFdFile               // address of the struct file behind the descriptor in argument N of the system call, -1: that it returned (0: none)
	SourceErr                  // equivalents: the return value if it is negative, else N
	SourceCred                 // address of the current task's cred
	SourceRegister             // register at offset Off of struct pt_regs: at the entry of the function (BackendKprobe, BackendUprobe), or of user space (Attach.Regs)
)

// Source is where a raw 64-bit value comes from: a start, then loads through memory.
type Source struct {
	Kind   SourceKind
	N      int64
	Off    int32 // SourceField, SourceFieldAddr, SourceRegister
	Index  int32 // SourceRegister: another one, of which Scale times is added, if Scale is not 0
	Scale  uint8
	Size   uint8 // bytes: SourceField
	Bits   uint8 // low bits that count of what it starts with; 0: all
	Signed bool  // SourceField, and with Bits: how it is extended
	Steps  []Step
}

// Step is one load: value = *(size *)(value + Off).
type Step struct {
	Off    int64
	Size   uint8 // 1, 2, 4 or 8 bytes
	Signed bool
	User   bool  // user memory
	Addr   bool  // no load: value += Off (last step of a member that is a struct or an array)
	Bits   uint8 // a bit field: so many bits of what is loaded are meant; 0: all
	Shift  uint8 // ... above so many others
	Halves bool  // capset's data: low word at Off, high word at Off+12 (user memory)
}

// Type says how a raw value is read: which reader of the kernel half, and the layout of what comes back.
// The names are those of the readers: arg_NAME in bpf/arg.
type Type uint8

// Types of values. Zero is unknown.
const (
	TypeUnknown    Type = iota
	TypeInt             // the raw value itself, cut to Value.Bits and extended
	TypeString          // address of a terminated string, kernel or user memory
	TypeBytes           // address of bytes; Value.Size gives their number
	TypeIovec           // address of struct iovec, Value.Size their number
	TypeIovIter         // struct iov_iter *
	TypeFilename        // struct filename *
	TypeFile            // struct file *
	TypePath            // struct path *
	TypeFd              // descriptor of the current task
	TypeDentry          // struct dentry *
	TypeKiocb           // struct kiocb *
	TypeBinprm          // struct linux_binprm *
	TypeSock            // struct sock *
	TypeSocket          // struct socket *
	TypeSkb             // struct sk_buff *
	TypeSockaddr        // struct sockaddr *, kernel or user memory
	TypeSockaddrUn      // struct sockaddr_un *
	TypeNetDevice       // struct net_device *
	TypeCred            // struct cred *
	TypeUserNS          // struct user_namespace *
	TypeBpfAttr         // union bpf_attr * of BPF_PROG_LOAD, kernel or user memory
	TypeBpfMapAttr      // union bpf_attr * of BPF_MAP_CREATE, told as a bpf_map
	TypeBpfProg         // struct bpf_prog *
	TypeBpfMap          // struct bpf_map *
	TypePerfEvent       // struct perf_event *
	TypePerfAttr        // struct perf_event_attr *, kernel or user memory, told as a perf_event
	TypeModule          // struct module *
	TypeLoadInfo        // struct load_info *
	TypeDataLoc         // address of the record + __data_loc word in Value.Size: string
	TypeWords           // address of Value.Bytes bytes of unsigned long
	TypeCount
)

// Value is one thing that is read in a call.
type Value struct {
	Source Source
	Type   Type
	Bits   uint8   // TypeInt: 8, 16, 32 or 64
	Signed bool    // TypeInt
	Size   *Source // TypeBytes: number of bytes; TypeIovec: of vectors; TypeIovIter: nil; TypeDataLoc: the word
	Bytes  int32   // TypeWords: how many bytes
	Max    bool    // TypeBytes: maxData
	Exit   bool    // TypeBytes, TypeIovec: returnCopy, the number of bytes is the return value
	Track  bool    // TypeSock, TypeSocket: the policy tracks sockets; the owner is told with it
	Owner  uint32  // Track: id of the policy, set when hooks are merged into programs
}

// Rule is one selector.
type Rule struct {
	Selector int    // index in the policy; 0 if the hook has none
	Label    string // for statistics
	Filters  []Filter
	Do       Actions
}

// Actions is what a rule orders when it is the first of its hook that matches.
type Actions struct {
	Post        bool
	Last        string        // last action of the list as written, e.g. "Post", "NoPost", "TrackSock": the event's action
	LastReturn  string        // likewise of matchReturnActions and returnArgAction; "Post" if there are none
	RateLimit   time.Duration // 0: none
	Scope       Scope
	Aggregate   time.Duration // equal calls of a process are counted for so long, and told together; 0: each is told
	KernelStack bool
	UserStack   bool
	ImaHash     bool // of the file at Attach.Hash, as IMA makes it
	Track       []Track
	Signals     []int // to the current process, sorted, unique
	Override    bool  // the call does not take place, and returns Error
	Error       int32
	Later       Verdict  // Override: the program itself cannot; the error is kept under this name for the hooks that have it in From
	Enforcer    bool     // what is kept under From is carried out, signals too, and is over
	Kills       bool     // Enforcer: an error that is kept kills, as the call cannot be denied
	Notify      *Notify  // something is ordered of the policy's enforcer; nil: nothing
	Forget      Verdict  // what was ordered under this name is over
	From        Verdict  // Override: the error is what is kept under this name
	Set         *Set4    // a value of the process is changed before it goes on; nil: none
	URLs        []string // pages that the agent gets when it tells the event
	Names       []string // ... names that it looks up
	Baseline    bool     // matchNamespaceChanges or matchCapabilityChanges: what was found becomes the new baseline
}

// Enforces says whether anything is ordered that changes what the process does.
func (a *Actions) Enforces() bool {
	return len(a.Signals) > 0 || a.Override || a.Enforcer || a.Notify != nil || a.Set != nil
}

// Notify is what a thread's next call of an enforcer comes to.
type Notify struct {
	To     Verdict
	Error  int32 // 0: the call takes place
	Signal int   // 0: none
}

// Verdict names what one program orders and another one carries out, later in the same thread; 0: none. The name of the same
// order of the same policy is the same in every agent, so that programs of several generations understand each other.
type Verdict uint64

// Set4 writes 4 bytes to where a value of the hook was loaded from, in the memory of the process.
type Set4 struct {
	Value int
	To    uint32
}

// Scope is what a rate limit counts by.
type Scope uint8

// Scopes of rate limits.
const (
	ScopeThread Scope = iota
	ScopeProcess
	ScopeGlobal
)

// Track remembers, or forgets, who owns the socket in a value.
type Track struct {
	Value  int
	Forget bool
}

// FilterKind is a way of comparing.
type FilterKind uint8

// Kinds of filters. All are total: every value passes or does not.
const (
	FilterUnknown      FilterKind = iota
	FilterRanges                  // the integer is in one of Ranges
	FilterBits                    // the integer has one of the bits of Mask
	FilterEqual                   // the string is one of Strings
	FilterPrefix                  // it starts with one of them
	FilterSuffix                  // it ends with one of them
	FilterContains                // it contains one of them
	FilterContainsFold            // likewise, ASCII letters of either case
	FilterAddrs                   // the address is in one of Prefixes; false for other families, also if Not
	FilterGained                  // Value2 has a bit that Value has not
	FilterExpr                    // Expr is true, of Values that are integers; false if one of them could not be read, also if Not
	FilterClass                   // the process is in set Set by relation Of; false for unknown processes, also if Not
	// FilterDigest: the digest of the file at Attach.Hash, by Field, is one of Strings. A file that cannot be digested has none
	// of them: true then if Not. Where there is no file it is false, also if Not.
	FilterDigest
)

// Field is a part of a value that a filter looks at.
type Field uint8

// Fields. FieldWhole is the value itself.
const (
	FieldWhole Field = iota
	FieldFamily
	FieldSockType
	FieldProtocol
	FieldState
	FieldSaddr
	FieldDaddr
	FieldSport
	FieldDport
	FieldFileType // S_IFMT bits of the mode
	FieldHash     // of the bytes of the file, as IMA makes it: "sha256:hex"
	FieldVerity   // as fs-verity keeps it: "fsverity:sha256:hex"
)

// Task is a property of the current task that a filter looks at.
type Task uint8

// Properties of tasks. TaskNone: the filter looks at a value instead.
const (
	TaskNone         Task = iota
	TaskPid               // thread group id in the initial pid namespace
	TaskNsPid             // in its own pid namespace; 0 in the initial one
	TaskCapEffective      // capability sets of the current credentials
	TaskCapPermitted
	TaskCapInheritable
	TaskHostUserNS          // 1 in the user namespace of pid 1, else 0
	TaskCapEffectiveChanged // bits that differ from those at exec
	TaskCapPermittedChanged
	TaskCapInheritableChanged
	TaskNsChanged // bit n set: namespace n (order of the wire contract, 12.5) differs from that at exec; known ones only
	TaskTracked   // 1 if a baseline is known, else 0
	TaskNsUts     // inode numbers of namespaces, ten in the order of the wire contract
	TaskNsIpc
	TaskNsMnt
	TaskNsPidNs
	TaskNsPidForChildren
	TaskNsNet
	TaskNsTime
	TaskNsTimeForChildren
	TaskNsCgroup
	TaskNsUser
	TaskHost    // 1 if it is in no cgroup of a container, nor below one, else 0
	TaskVerdict // 1 if something was ordered under Filter.Verdict that holds for the call under way, else 0
	TaskFieldCount
)

// Filter is one condition of a rule; all of a rule's must hold. If the value could not be read it is false, also if Not.
type Filter struct {
	Kind     FilterKind
	Not      bool
	Task     Task    // TaskNone: Value
	Verdict  Verdict // TaskVerdict
	Value    int     // index in Values
	Value2   int     // FilterGained: the new set
	Field    Field   // of Value
	Ranges   []Range
	Mask     uint64
	Strings  []string
	Prefixes []netip.Prefix
	Expr     *expr.Node // FilterExpr: it names indices in Values
	Set      int        // FilterClass: index in Plan.Sets; in a Program: number of the set in the kernel
	Of       Relation
	Text     string // as the policy says, for explain: `args[0] Prefix "/etc"`
}

// Range is an inclusive range of the 64-bit pattern of an integer, compared unsigned. Negative numbers are large.
type Range struct{ Lo, Hi uint64 }

// Relation is whose binary a class is about.
type Relation uint8

// Relations.
const (
	OfSelf     Relation = iota // the binary of the process
	OfLine                     // of the process or of any ancestor
	OfParent                   // of its parent, or the one before the last exec
	OfAncestor                 // of any ancestor
)

// SetKind says what a set of processes is made by.
type SetKind uint8

// Kinds of sets. Zero is unknown.
const (
	SetUnknown SetKind = iota
	SetPaths           // the real path of the binary is one of Paths
	SetPrefix          // it starts with one of them
	SetSuffix          // it ends with one of them
	SetPids            // the thread group id is one of Pids
	SetNsPids          // likewise, in the process's own pid namespace; never so in the initial one
)

// Set is a set of processes. The kernel half keeps with each process which sets it is in.
type Set struct {
	Kind  SetKind
	Paths []string // sorted, unique
	Pids  []uint32
}

// Program is what runs at one attach point: the hooks of all policies there, merged.
type Program struct {
	ID     uint32 // unique for the life of the agent; each record carries it
	Attach Attach
	Values []Value
	Groups []Group
	Rules  []Rule // of all groups; Filters refer to Program.Values and to the kernel's set numbers
}

// KeepsArgs says whether what a function of a user program was given must be kept until it returns.
func (p *Program) KeepsArgs() bool {
	if p.Attach.Backend != BackendUretprobe {
		return false
	}
	for i := range p.Values {
		v := &p.Values[i]
		if v.Source.Kind == SourceArg || v.Size != nil && v.Size.Kind == SourceArg {
			return true
		}
	}
	return false
}

// Group is one policy's hook within a program.
type Group struct {
	Policy uint32 // id of the policy
	Plan   *Plan
	Hook   *Hook
	First  int   // its rules are Rules[First : First+len(Hook.Rules)]
	Values []int // index in Program.Values of each of Hook.Values
}

// ValuesUsed lists the values that a filter looks at: none if it looks at the task, or at the file itself.
func (f *Filter) ValuesUsed() []int {
	switch {
	case f.Task != TaskNone || f.Kind == FilterClass || f.Kind == FilterDigest:
		return nil
	case f.Kind == FilterExpr:
		return f.Expr.Uses()
	case f.Kind == FilterGained:
		return []int{f.Value, f.Value2}
	}
	return []int{f.Value}
}
