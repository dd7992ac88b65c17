// SPDX-License-Identifier: Apache-2.0

package event

// Hook is a call that a policy wanted to hear of.
type Hook struct {
	Policy   string // name of the policy
	Function string // of KindKprobe: what the policy hooked; of KindUprobe: the symbol, empty if it named none
	Subsys   string // of KindTracepoint; of KindUsdt: the provider
	Event    string // of KindTracepoint; of KindUsdt: the name of the probe
	Path     string // of KindUprobe and KindUsdt: the program
	Offset   uint64 // of KindUprobe: in the file, if the policy named no symbol
	RefCtr   uint64 // of KindUprobe: offset in the file of the counter of those who watch
	Message  string
	Tags     []string
	Alike    uint64 // hooks with the same number, not 0, have all of the above in common

	Action       Action // last one of the rule that matched
	ReturnAction Action // likewise of the return

	// What the rule ordered of what changes the process: what was done, what the mode of the policy held back, and what could
	// not be done, such as a second signal to a process that is killed.
	Done, WouldDo, NotDone []Action
	Ordered                []Action // what is done later in the call, if it comes to that

	Args   []Arg
	Data   []Arg
	Return *Arg // nil: not asked for

	KernelStack, UserStack []Frame // innermost first

	ImaHash string // of KindLSM: "sha256:" and the digest of the file; empty: not asked for, or IMA has none

	Suppressed uint32 // events that the rate limit held back since the last one

	Merged Merged // equal calls after the one that was told, which the event tells of; Count 0: it tells of a call
}

// Merged are equal calls that were counted and not told one by one.
type Merged struct {
	Count       uint64
	First, Last int64 // ns
}

// Enforced says whether the rule ordered anything that changes the process.
func (h *Hook) Enforced() bool { return len(h.Done)+len(h.WouldDo)+len(h.NotDone)+len(h.Ordered) > 0 }

// Loader is a file that became part of a process's code.
type Loader struct {
	Path    []byte
	BuildID []byte
}

// Action is what a rule ordered. The numbers are those of the wire contract.
type Action uint8

// The actions.
const (
	ActionUnknown        Action = 0
	ActionPost           Action = 1
	ActionSigkill        Action = 3
	ActionOverride       Action = 5
	ActionGetURL         Action = 7
	ActionDNSLookup      Action = 8
	ActionNoPost         Action = 9
	ActionSignal         Action = 10
	ActionTrackSock      Action = 11
	ActionUntrackSock    Action = 12
	ActionNotifyEnforcer Action = 13
	ActionCleanup        Action = 14
	ActionSet            Action = 15
)

// ArgKind says how an argument is written, and which fields of an Arg are set.
type ArgKind uint8

// Kinds of arguments. Zero is none.
const (
	ArgNone           ArgKind = iota
	ArgInt                    // Int
	ArgUint                   // Int
	ArgLong                   // Int
	ArgSize                   // Int
	ArgCapability             // Int: its number
	ArgKernelCap              // Int: a set, bit n for capability n
	ArgCapInheritable         // Int
	ArgCapPermitted           // Int
	ArgCapEffective           // Int
	ArgBpfCmd                 // Int
	ArgSyscall                // Int: the number, bit 31 set for 32-bit callers
	ArgString                 // Text
	ArgBytes                  // Text; Int: how many bytes there were
	ArgFile                   // Text: the path; Int: the mode, 0 unknown; Cut
	ArgPath                   // likewise
	ArgBinprm                 // likewise
	ArgSock                   // Object: *Sock
	ArgSkb                    // *Skb
	ArgSockaddr               // *Sockaddr
	ArgSockaddrUn             // Text: the path as the kernel has it; Int: the family
	ArgCred                   // *Cred
	ArgUserNS                 // *UserNS
	ArgBpfAttr                // *BpfProg
	ArgBpfProg                // *BpfProg
	ArgBpfMap                 // *BpfMap
	ArgPerfEvent              // *PerfEvent; Text: the function that is probed
	ArgModule                 // *Module; Text: its name
	ArgError                  // could not be read: Fault
	ArgKinds          = iota  // how many there are
)

// Arg is one argument of a hook.
type Arg struct {
	Kind   ArgKind
	Cut    bool  // Text is not all there was
	Fault  Fault // of ArgError
	Label  string
	Int    uint64 // 64-bit pattern
	Text   []byte
	Object any
}

// Fault is why an argument could not be read: FaultBasic, FaultRoom, or FaultStep plus the step of the way to it.
type Fault uint8

// The faults.
const (
	FaultBasic Fault = iota // bad address
	FaultRoom               // no room was left in the record
	FaultStep
)

// Frame is one return address.
type Frame struct {
	Address uint64
	Offset  uint64 // from the start of the symbol, or of the module
	Symbol  string
	Module  string // file of a frame in user space
	BuildID string // of that file
	// SymbolOffset is from the start of the symbol, of a frame in user space.
	SymbolOffset uint64
}

// Sock is a socket.
type Sock struct {
	Cookie         uint64
	Mark, Priority uint32
	Family, Type   uint16
	Protocol       uint16
	State          uint8
	Sport, Dport   uint16
	Saddr, Daddr   [16]byte // 4 bytes are used for AF_INET
}

// Skb is a packet.
type Skb struct {
	Hash, Len, Priority, Mark uint32
	SecPathLen, SecPathOlen   uint32
	Family                    uint16 // 0: neither IPv4 nor IPv6
	Protocol                  uint16 // of the transport header
	Sport, Dport              uint16
	Saddr, Daddr              [16]byte
}

// Sockaddr is an address.
type Sockaddr struct {
	Family, Port uint16
	Addr         [16]byte
}

// UserNS is a user namespace.
type UserNS struct {
	Level    int32
	UID, GID uint32 // of its owner
	Inum     uint32
}

// Cred is a set of credentials.
type Cred struct {
	Creds
	NS UserNS
}

// BpfProg is a BPF program.
type BpfProg struct {
	Type, Insns uint32
	Name        [16]byte // ends at the first zero
}

// BpfMap is a BPF map.
type BpfMap struct {
	Type, KeySize, ValueSize, MaxEntries uint32
	Name                                 [16]byte
}

// PerfEvent is a perf event.
type PerfEvent struct {
	Type   uint32
	Config uint64
	Offset uint64 // of the probe
}

// Module is a kernel module.
type Module struct {
	Taints    uint64
	Signature Signature
}

// Signature is what is known of a module's signature.
type Signature uint8

// What can be known.
const (
	SignatureUnknown Signature = iota
	SignatureBad
	SignatureGood
)
