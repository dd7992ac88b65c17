// SPDX-License-Identifier: Apache-2.0

// Package event is the event model: what the agent knows of one thing that happened, and of the processes it happened to.
//
// It stands between event/decode, which makes events from kernel records, and all that follow (enrich, filter, encode,
// export). It is plain data: no protobuf, no bytes from the kernel, no clock.
//
// Not here: where the values come from (decode, process), how they are written (encode).
//
// All times are nanoseconds since the Unix epoch unless a name says otherwise; a Key's ktime is nanoseconds of the boot
// clock. Values are owned by the event lane, which is one goroutine; nothing here is safe for concurrent use.
package event

import "math/bits"

// Kind says what happened.
type Kind uint8

// The kinds of events. Zero is unknown.
const (
	KindUnknown Kind = iota
	KindExec
	KindExit
	KindLoss // events were lost; the event says how many, which and when
	KindKprobe
	KindTracepoint
	KindLoader   // a file became part of a process's code
	KindThrottle // records of a cgroup are held back, or no longer so
)

// Event is one thing that happened, joined with the processes it concerns. The lane reuses Events: a stage that wants to
// keep one beyond its call copies it.
type Event struct {
	Kind      Kind
	Tid       uint32 // thread that hit the hook, in the initial pid namespace; the process's pid for exec and exit
	Refs      uint32 // of KindKprobe and KindTracepoint: references to the process (events.md 7.6)
	Time      int64  // when it happened
	Process   *Process
	Parent    *Process   // nil when unknown
	Ancestors []*Process // from the grandparent up; nil unless asked for
	Exit      Exit       // of KindExit
	Losses    []Loss     // of KindLoss
	Hook      *Hook      // of KindKprobe and KindTracepoint
	Loader    *Loader    // of KindLoader
	Throttle  Throttle   // of KindThrottle
}

// Throttle is a cgroup whose forks and execs are more than may be told, or no longer so.
type Throttle struct {
	Cgroup string // name of the leaf
	Stop   bool
}

// Exit is how a thread group ended.
type Exit struct {
	Status uint32 // exit status; 0 when killed
	Signal uint8  // number of the signal that killed it; 0 when it exited by itself
}

// Loss is a number of records or events that did not come through one point of the lane.
type Loss struct {
	What   string // what was lost: "exec", "exit", "fork", "data", "cgroup", "snapshot"
	Reason string // a stable word from the ledger, for instance "ring_full"
	Count  uint64
	Since  int64 // no loss of this kind before this time went unreported
	Until  int64 // the count was read at this time
}

// Key identifies one image of one thread group for the life of the machine. The same pid gets a new Ktime at each exec.
type Key struct {
	Pid   uint32 // thread group id in the initial pid namespace
	Ktime uint64 // boot-clock time of the exec, or of the fork when there was no exec since
}

// KernelKey is the pseudo process that is the parent of pid 1 and pid 2.
var KernelKey = Key{Pid: 0, Ktime: 1}

// Flags are the words of the process's flags field. The bits are those of the wire contract (events.md 6.3).
type Flags uint32

// Flag bits. Numbers are never reused.
const (
	FlagExecve         Flags = 0x1
	FlagProcFS         Flags = 0x4
	FlagErrorEnvs      Flags = 0x8
	FlagTruncArgs      Flags = 0x10
	FlagMiss           Flags = 0x40
	FlagErrorFilename  Flags = 0x100
	FlagErrorArgs      Flags = 0x200
	FlagNoCwd          Flags = 0x800
	FlagRootCwd        Flags = 0x1000
	FlagErrorCwd       Flags = 0x2000
	FlagClone          Flags = 0x4000
	FlagErrorCgroup    Flags = 0x10000
	FlagErrorCgroupID  Flags = 0x200000
	FlagErrorSubsysCg  Flags = 0x40000
	FlagErrorSubsys    Flags = 0x80000
	FlagErrorCgroups   Flags = 0x100000
	FlagUnresolvedCwd  Flags = 0x400000
	FlagDataFilename   Flags = 0x800000
	FlagDataArgs       Flags = 0x1000000
	FlagInInitTree     Flags = 0x2000000
	FlagUnknownProcess Flags = 0x80000000 // ours: the whole string is "unknown"; see Process.Placeholder
)

// flagWords holds the words in the order in which they are written.
var flagWords = [...]struct {
	bit  Flags
	word string
}{
	{FlagExecve, "execve"}, {FlagProcFS, "procFS"}, {FlagErrorEnvs, "errorEnvs"}, {FlagTruncArgs, "truncArgs"},
	{FlagMiss, "miss"}, {FlagErrorFilename, "errorFilename"}, {FlagErrorArgs, "errorArgs"}, {FlagNoCwd, "nocwd"},
	{FlagRootCwd, "rootcwd"}, {FlagErrorCwd, "errorCWD"}, {FlagClone, "clone"}, {FlagErrorCgroup, "errorCgroupName"},
	{FlagErrorCgroupID, "errorCgroupID"}, {FlagErrorSubsysCg, "errorCgroupSubsysCgrp"},
	{FlagErrorSubsys, "errorCgroupSubsys"}, {FlagErrorCgroups, "errorCgroups"},
	{FlagUnresolvedCwd, "errorPathResolutionCwd"}, {FlagDataFilename, "dataFilename"}, {FlagDataArgs, "dataArgs"},
	{FlagInInitTree, "inInitTree"},
}

// Append adds the flags' words to b, separated by single spaces, in the order of the wire contract.
func (f Flags) Append(b []byte) []byte {
	if f&FlagUnknownProcess != 0 {
		return append(b, "unknown"...)
	}
	first := true
	for i := range flagWords {
		if f&flagWords[i].bit == 0 {
			continue
		}
		if !first {
			b = append(b, ' ')
		}
		b = append(b, flagWords[i].word...)
		first = false
	}
	return b
}

// String returns the words as Append writes them.
func (f Flags) String() string { return string(f.Append(nil)) }

// FlagWords returns the word of each bit, by bit number; bits without a word are empty.
func FlagWords() [32]string {
	var w [32]string
	for i := range flagWords {
		w[bits.TrailingZeros32(uint32(flagWords[i].bit))] = flagWords[i].word
	}
	return w
}
