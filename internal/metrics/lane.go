// SPDX-License-Identifier: Apache-2.0

package metrics

import "sync/atomic"

// Op is the operation code of a record, as upstream numbers them in labels.
type Op uint8

// The operation codes. Records of all policy hooks are of one kind, and so of one code.
const (
	OpUndefined  Op = 0
	OpExec       Op = 5
	OpExit       Op = 7
	OpHook       Op = 13
	OpTracepoint Op = 14
	OpUprobe     Op = 15
	OpLsm        Op = 16
	OpClone      Op = 23
	OpData       Op = 24
	OpCgroup     Op = 25
	OpLoader     Op = 26
	OpThrottle   Op = 27
	OpUsdt       Op = 28

	numOps = 32
)

// allOps are the codes that have series from the start.
var allOps = []Op{
	OpUndefined, OpExec, OpExit, OpHook, OpTracepoint, OpUprobe, OpLsm, OpClone, OpData, OpCgroup, OpLoader, OpThrottle, OpUsdt,
}

// HandlerError is why a record was refused.
type HandlerError uint8

// The reasons, in the order of handlerErrorWords.
const (
	HandlerUnknownOp HandlerError = iota
	HandlerEmpty
	HandlerFailed

	numHandlerErrors = iota
)

// SendError is why the kernel side could not send a record.
type SendError uint8

// The reasons, in the order of sendErrorWords.
const (
	SendUnknown SendError = iota
	SendENOENT
	SendE2BIG
	SendEBUSY
	SendEINVAL
	SendENOSPC
	SendEAGAIN

	numSendErrors = iota
)

// Error is an inconsistency that the lane met.
type Error uint8

// The errors, in the order of errorWords.
const (
	ErrorPidTidMismatchExec Error = iota
	ErrorPidTidMismatchClone
	ErrorPidTidMismatchExit
	ErrorFinalizeProcessInfo
	ErrorUsername

	numErrors = iota
)

// EventType is the type of a produced event, as an index.
type EventType uint8

// The event types, in the order of eventTypeWords.
const (
	EventUnknown EventType = iota
	EventExec
	EventExit
	EventLoss
	EventKprobe
	EventTracepoint
	EventLoader
	EventUprobe
	EventThrottle
	EventLsm
	EventUsdt

	numEventTypes = iota
)

// Lane is what the event lane counts for Prometheus beside its ledger. Each field is added to, or stored, by whom its
// comment names; all of it is read when a scrape comes. The zero value is ready.
type Lane struct {
	Received   atomic.Uint64 // reader: records read from the ring
	Lost       atomic.Uint64 // reader: records lost by perf buffers; stays 0
	ReadErrors atomic.Uint64 // reader

	MsgOps  [numOps]atomic.Uint64                   // decoder: records by Op
	Broken  [numOps][numHandlerErrors]atomic.Uint64 // decoder: records refused
	Latency [numOps]Histogram                       // lane: how long a record took, if that is measured; microseconds
	Missed  [numOps][numSendErrors]atomic.Uint64    // sensor: records that the kernel side could not send
	Errors  [numErrors]atomic.Uint64                // by Error
	Flags   [32]atomic.Uint64                       // enricher, by bit number: see CountFlags

	ProcessCacheSize       atomic.Int64  // enricher: processes in the table
	ProcessCacheCapacity   atomic.Int64  // enricher: how many fit
	ProcessCacheEvictions  atomic.Uint64 // enricher: processes removed
	ProcessCacheMissGet    atomic.Uint64 // enricher: look-ups without result
	ProcessCacheMissRemove atomic.Uint64 // enricher: removals without result

	Exported      atomic.Uint64 // file export: events handed to it
	ExportedBytes atomic.Uint64 // file export: bytes written
	LastExported  atomic.Int64  // file export: time of the last event, nanoseconds since the epoch
	RateLimited   atomic.Uint64 // file export: events over the limit
	Overflowed    atomic.Uint64 // subscribers: events dropped because a queue was full

	ThrottleStarts atomic.Uint64 // lane: cgroups that began to be held back
	ThrottleStops  atomic.Uint64 // lane: and that were let go

	NoProcess atomic.Uint64      // lane: events of no process
	Events    EventCounts        // lane: events produced
	Policies  Counts[PolicyHook] // lane: those of them that policies made
	Syscalls  Counts[string]     // lane: those of the tracepoint of all system calls, by name of the call
}

// CountFlags counts each word of a process's flags.
func (l *Lane) CountFlags(flags uint32) {
	for bit := range l.Flags {
		if flags&(1<<bit) != 0 {
			l.Flags[bit].Add(1)
		}
	}
}
