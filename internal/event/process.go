// SPDX-License-Identifier: Apache-2.0

package event

// Process is what is known of one image of one thread group. A new exec makes a new Process. All fields but Encoded are
// set before the Process is first handed on and do not change afterwards, so fragments made from it stay valid; a stage
// that must change one (a process moved into a container) calls Encoded.Reset.
type Process struct {
	Key       Key
	Parent    Key   // KernelKey for pids 1 and 2; Ktime 0 when the kernel did not know the parent
	StartTime int64 // exec time, or fork time when there was no exec since

	UID   uint32 // effective uid at exec
	AUID  uint32 // audit login uid; 4294967295 when unset
	NsPid uint32 // thread group id in its own pid namespace; 0 when that is the initial one

	Flags      Flags
	Binary     string // absolute path as executed; may hold invalid UTF-8, which the encoder repairs
	Arguments  string // rendered by the quoting rule of events.md 7.2
	Cwd        string
	Docker     string // first 31 characters of the container id
	User       string // login name, where asked for
	InInitTree bool
	Refcnt     uint32 // debug value of the wire contract (events.md 7.6)
	Env        []EnvVar

	Creds  Creds
	Ns     Namespaces
	Binprm BinaryProperties

	// Placeholder marks a process of which only the pid and the start time are known.
	Placeholder bool

	// Encoded holds what event/encode remembers of this process.
	Encoded Encoded
}

// EnvVar is one entry of the environment. An entry without '=' has the Key "invalid".
type EnvVar struct{ Key, Value string }

// Creds are the credentials at exec, ids in the initial user namespace.
type Creds struct {
	UID, GID, EUID, EGID, SUID, SGID, FSUID, FSGID uint32
	SecureBits                                     uint32
	Permitted, Effective, Inheritable              uint64 // bit n = capability n
}

// Namespaces holds inode numbers; 0 where the kernel has no such namespace.
type Namespaces struct {
	UTS, IPC, Mnt, Pid, PidForChildren, Net, Time, TimeForChildren, Cgroup, User uint32
}

// PrivilegeChange is a set of reasons why an exec raised privileges.
type PrivilegeChange uint8

// The reasons, in the order in which they are written.
const (
	RaisedFileCap PrivilegeChange = 1 << iota
	RaisedSetuid
	RaisedSetgid
)

// BinaryProperties is what an exec says of the file that it ran.
type BinaryProperties struct {
	Setuid, Setgid    bool // the file's mode changed the effective uid or gid, to Creds.EUID or Creds.EGID
	PrivilegesChanged PrivilegeChange
	Unlinked          bool   // the file has no name left: memfd, shm, deleted
	Inode             uint64 // of the file; only written when Unlinked
	Links             uint32
	Path              string // real path of the file, when it is not Process.Binary
}

// Any says whether there is anything to write.
func (p *BinaryProperties) Any() bool {
	return p.Setuid || p.Setgid || p.PrivilegesChanged != 0 || p.Unlinked || p.Path != ""
}

// Encoded is the encoder's memory of a process: the Process message as it stands in every event, ready to be copied.
// Owned by event/encode; others only call Reset. A form that is empty has not been made yet.
type Encoded struct {
	JSON []byte // the object, braces included
	Wire []byte // the message's bytes, without tag and length
	Made uint64 // number of the JSON, another one for each that was made

	// Where JSON holds what differs in the events of hooks; 0: not looked for.
	Refcnt, RefcntEnd, Tid, TidEnd uint32
}

// Reset forgets the fragments, because a field changed, but keeps their room for new ones.
func (e *Encoded) Reset() { e.JSON, e.Wire, e.TidEnd = e.JSON[:0], e.Wire[:0], 0 }
