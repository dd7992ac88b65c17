// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"strings"
	"sync"
	"sync/atomic"
)

// Op is the operation code of a record, as upstream numbers them in labels.
type Op uint8

// The operation codes. Records of all policy hooks are of one kind, and so of one code.
const (
	OpUndefined Op = 0
	OpExec      Op = 5
	OpExit      Op = 7
	OpHook      Op = 13
	OpClone     Op = 23
	OpData      Op = 24
	OpCgroup    Op = 25
	OpLoader    Op = 26

	numOps = 32
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
	EventUsdt

	numEventTypes = iota
)

// Lane is what the event lane counts for Prometheus beside its ledger. Each field is added to, or stored, by whom its
// comment names; all of it is read when a scrape comes. The zero value is ready.
type Lane struct {
	Received   atomic.Uint64 // reader: records read from the ring
	Lost       atomic.Uint64 // reader: records lost by perf buffers; stays 0
	ReadErrors atomic.Uint64 // reader

	MsgOps [numOps]atomic.Uint64                // decoder: records by Op
	Missed [numOps][numSendErrors]atomic.Uint64 // sensor: records that the kernel side could not send
	Errors [numErrors]atomic.Uint64             // by Error
	Flags  [32]atomic.Uint64                    // enricher, by bit number: see CountFlags

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

	Events   EventCounts  // lane: events produced
	Policies PolicyCounts // lane: those of them that policies made
}

// CountFlags counts each word of a process's flags.
func (l *Lane) CountFlags(flags uint32) {
	for bit := range l.Flags {
		if flags&(1<<bit) != 0 {
			l.Flags[bit].Add(1)
		}
	}
}

// EventCounts counts events by type and binary. The number of binaries that it tells apart is bounded, because
// whoever may run programs could otherwise make the agent grow by names.
type EventCounts struct {
	mu sync.Mutex

	off      bool
	noBinary bool
	byBinary map[string]*[numEventTypes]uint64
	other    [numEventTypes]uint64 // of binaries beyond the bound, or of all when binaries are not told apart
	bytes    int
}

// The bounds of EventCounts, and how events beyond them are labelled.
const (
	maxBinaries    = 4096
	maxBinaryBytes = 1 << 20
	otherBinary    = "(other)"
)

// Count counts an event.
func (c *EventCounts) Count(t EventType, binary string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.off {
		return
	}
	if t >= numEventTypes {
		t = EventUnknown
	}
	if c.noBinary {
		c.other[t]++
		return
	}
	n := c.byBinary[binary]
	if n == nil {
		// Two names that become one when repaired must not make two series of one name.
		binary = printable(binary)
		n = c.byBinary[binary]
	}
	if n == nil {
		if binary == otherBinary || len(c.byBinary) >= maxBinaries || c.bytes+len(binary) > maxBinaryBytes {
			c.other[t]++
			return
		}
		if c.byBinary == nil {
			c.byBinary = map[string]*[numEventTypes]uint64{}
		}
		n = new([numEventTypes]uint64)
		c.byBinary[strings.Clone(binary)] = n
		c.bytes += len(binary)
	}
	n[t]++
}

// each calls f for every count that is not zero.
func (c *EventCounts) each(f func(t EventType, binary string, n uint64)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := func(binary string, ns *[numEventTypes]uint64) {
		for t, n := range ns {
			if n > 0 {
				f(EventType(t), binary, n)
			}
		}
	}
	for binary, ns := range c.byBinary {
		counts(binary, ns)
	}
	if c.noBinary {
		counts("", &c.other)
	} else {
		counts(otherBinary, &c.other)
	}
}

// configure switches counting off, or binaries.
func (c *EventCounts) configure(on, binaries bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off, c.noBinary = !on, !binaries
}
