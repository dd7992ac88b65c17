// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"math/bits"

	"tetragon/api/v1/tetragon"
	"tetragon/internal/event"
)

// processScratch holds a Process message and the messages and texts that it points to.
type processScratch struct {
	message          Process
	execID, parentID []byte
	flags            []byte
	flagsOf          event.Flags // that flags are the words of
	creds            ProcessCredentials
	binprm           BinaryProperties
	file             FileProperties
	inode            InodeProperties
	user             UserRecord
	caps             Capabilities
	ns               [10]Namespace
}

// buildProcess builds the Process message of p in e's scratch. Only an exec event's own process says what the exec did;
// it is then a copy of its own, which shows at least one reference (events.md 7.6).
func (e *Encoder) buildProcess(p *event.Process, executed bool) *Process {
	s := &e.process
	m := &s.message
	if p.Flags != s.flagsOf || len(s.flags) == 0 { // most processes have the same
		s.flagsOf, s.flags = p.Flags, p.Flags.Append(s.flags[:0])
	}
	if p.Placeholder {
		*m = Process{Pid: Some(p.Key.Pid), StartTime: Known(p.StartTime)}
		if p.Flags&event.FlagUnknownProcess != 0 {
			m.Flags = s.flags
		}
		return m
	}
	s.execID = e.ids.append(s.execID[:0], p.Key)
	s.parentID = e.ids.appendRecent(s.parentID[:0], p.Parent)
	*m = Process{
		ExecId: s.execID, Pid: Some(p.Key.Pid), Uid: Some(p.UID), Cwd: p.Cwd, Binary: p.Binary, Arguments: p.Arguments,
		Flags: s.flags, StartTime: Known(p.StartTime), Auid: Some(p.AUID), Docker: p.Docker, ParentExecId: s.parentID,
		Refcnt: p.Refcnt, Tid: Some(p.Key.Pid), InInitTree: OptBool{p.InInitTree, true},
		EnvironmentVariables: m.EnvironmentVariables[:0],
	}
	for i := range p.Env {
		m.EnvironmentVariables = append(m.EnvironmentVariables, EnvVar(p.Env[i]))
	}
	if e.opts.Cred {
		m.Cap = e.capabilities(capSets{p.Creds.Permitted, p.Creds.Effective, p.Creds.Inheritable})
		m.ProcessCredentials = s.buildCreds(&p.Creds)
	}
	if e.opts.Ns && p.Ns != (event.Namespaces{}) {
		m.Ns = e.namespaces(p.Ns)
	}
	if e.opts.Username && p.User != "" {
		s.user.Name = p.User
		m.User = &s.user
	}
	if executed {
		m.BinaryProperties = s.buildBinprm(p)
		m.Refcnt = max(m.Refcnt, 1)
	}
	return m
}

func (s *processScratch) buildCreds(c *event.Creds) *ProcessCredentials {
	s.creds = ProcessCredentials{
		Uid: Some(c.UID), Gid: Some(c.GID), Euid: Some(c.EUID), Egid: Some(c.EGID),
		Suid: Some(c.SUID), Sgid: Some(c.SGID), Fsuid: Some(c.FSUID), Fsgid: Some(c.FSGID),
		Securebits: s.creds.Securebits[:0],
	}
	for left := c.SecureBits; left != 0; left &= left - 1 {
		s.creds.Securebits = append(s.creds.Securebits, tetragon.SecureBitsType(left&-left))
	}
	return &s.creds
}

func (s *processScratch) buildBinprm(p *event.Process) *BinaryProperties {
	s.binprm = BinaryProperties{PrivilegesChanged: s.binprm.PrivilegesChanged[:0]}
	if p.Binprm.Setuid {
		s.binprm.Setuid = Some(p.Creds.EUID)
	}
	if p.Binprm.Setgid {
		s.binprm.Setgid = Some(p.Creds.EGID)
	}
	for _, c := range privilegeChanges {
		if p.Binprm.PrivilegesChanged&c.bit != 0 {
			s.binprm.PrivilegesChanged = append(s.binprm.PrivilegesChanged, c.name)
		}
	}
	if p.Binprm.Unlinked || p.Binprm.Path != "" {
		s.file = FileProperties{Path: p.Binprm.Path}
		s.binprm.File = &s.file
	}
	if p.Binprm.Unlinked {
		s.inode = InodeProperties{Number: p.Binprm.Inode, Links: Some(p.Binprm.Links)}
		s.file.Inode = &s.inode
	}
	return &s.binprm
}

var privilegeChanges = [...]struct {
	bit  event.PrivilegeChange
	name tetragon.ProcessPrivilegesChanged
}{
	{event.RaisedFileCap, tetragon.ProcessPrivilegesChanged_PRIVILEGES_RAISED_EXEC_FILE_CAP},
	{event.RaisedSetuid, tetragon.ProcessPrivilegesChanged_PRIVILEGES_RAISED_EXEC_FILE_SETUID},
	{event.RaisedSetgid, tetragon.ProcessPrivilegesChanged_PRIVILEGES_RAISED_EXEC_FILE_SETGID},
}

// capSets are the capabilities of a process, bit n for capability n.
type capSets struct{ permitted, effective, inheritable uint64 }

// capabilities returns the Capabilities message of sets.
func (e *Encoder) capabilities(sets capSets) Fragment {
	hash := sets.permitted ^ bits.RotateLeft64(sets.effective, 21) ^ bits.RotateLeft64(sets.inheritable, 42)
	place, found := e.caps.claim(sets, hash)
	if !found {
		m := &e.process.caps
		m.Permitted = appendCapabilities(m.Permitted[:0], sets.permitted)
		m.Effective = appendCapabilities(m.Effective[:0], sets.effective)
		m.Inheritable = appendCapabilities(m.Inheritable[:0], sets.inheritable)
		place.fill(m)
	}
	return place.fragment
}

func appendCapabilities(cs []tetragon.CapabilitiesType, set uint64) []tetragon.CapabilitiesType {
	for ; set != 0; set &= set - 1 {
		cs = append(cs, tetragon.CapabilitiesType(bits.TrailingZeros64(set)))
	}
	return cs
}

// namespaces returns the Namespaces message of ns.
func (e *Encoder) namespaces(ns event.Namespaces) Fragment {
	hash := uint64(ns.Mnt)<<32 ^ uint64(ns.Pid)<<16 ^ uint64(ns.Net) ^ uint64(ns.User)<<48 ^ uint64(ns.PidForChildren)<<8
	place, found := e.ns.claim(ns, hash)
	if !found {
		place.fill(e.buildNamespaces(&ns))
	}
	return place.fragment
}

func (e *Encoder) buildNamespaces(ns *event.Namespaces) *Namespaces {
	inums, host := listNamespaces(ns), listNamespaces(&e.opts.HostNs)
	s := &e.process.ns
	for i, n := range inums {
		s[i] = Namespace{Inum: n, IsHost: n != 0 && n == host[i]}
	}
	m := &Namespaces{
		Uts: &s[0], Ipc: &s[1], Mnt: &s[2], Pid: &s[3], PidForChildren: &s[4], Net: &s[5], Cgroup: &s[8], User: &s[9],
	}
	if ns.Time != 0 { // else the kernel has no time namespaces
		m.Time = &s[6]
	}
	if ns.TimeForChildren != 0 {
		m.TimeForChildren = &s[7]
	}
	return m
}

// listNamespaces returns the inode numbers in the order of the Namespaces message.
func listNamespaces(ns *event.Namespaces) [10]uint32 {
	return [...]uint32{
		ns.UTS, ns.IPC, ns.Mnt, ns.Pid, ns.PidForChildren, ns.Net, ns.Time, ns.TimeForChildren, ns.Cgroup, ns.User,
	}
}
