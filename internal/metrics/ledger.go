// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
)

// Ledger is the account of everything that goes up the event lane: at each stage
//
//	seen = delivered + dropped by each named reason + pending
//
// Stages are added while the lane is built and are listed in that order. A Ledger is safe for concurrent use.
type Ledger struct {
	mu sync.Mutex

	stages []*Stage
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger { return &Ledger{} }

// Stage adds a stage. A stage that drops names its reasons here; Drop takes their index.
func (l *Ledger) Stage(name string, reasons ...string) *Stage {
	s := &Stage{name: name, reasons: reasons, dropped: make([]atomic.Uint64, len(reasons))}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stages = append(l.stages, s)
	return s
}

// Remove takes a stage out, for a subscriber that has gone. Its balance is the caller's to report first.
func (l *Ledger) Remove(s *Stage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.stages {
		if l.stages[i] == s {
			l.stages = append(l.stages[:i:i], l.stages[i+1:]...)
			return
		}
	}
}

// Stage counts one step of the lane. Safe for concurrent use.
type Stage struct {
	name    string
	reasons []string

	seen, delivered atomic.Uint64
	dropped         []atomic.Uint64
}

// Seen counts n things that entered.
func (s *Stage) Seen(n uint64) { s.seen.Add(n) }

// Deliver counts n things that left for the next stage.
func (s *Stage) Deliver(n uint64) { s.delivered.Add(n) }

// Drop counts n things that went no further. reason is an index into the reasons given to Ledger.Stage.
func (s *Stage) Drop(reason int, n uint64) { s.dropped[reason].Add(n) }

// Set overwrites the counts of a stage that lives elsewhere, such as the kernel's. dropped follows the stage's reasons.
func (s *Stage) Set(seen, delivered uint64, dropped []uint64) {
	s.seen.Store(seen)
	s.delivered.Store(delivered)
	for i := range dropped {
		s.dropped[i].Store(dropped[i])
	}
}

// Balance is a reading of one stage.
type Balance struct {
	Stage           string
	Seen, Delivered uint64
	Dropped         []Drop // one for each reason, zero counts included
	Pending         int64  // seen, and neither delivered nor dropped yet
}

// Drop is the count of one reason.
type Drop struct {
	Reason string
	Count  uint64
}

// Read returns the balance of the stage. Counts are read one after the other: while the lane runs, Pending may be off
// by what moved meanwhile.
func (s *Stage) Read() Balance {
	b := Balance{Stage: s.name, Dropped: make([]Drop, len(s.reasons))}
	out := uint64(0)
	for i := range s.reasons {
		b.Dropped[i] = Drop{s.reasons[i], s.dropped[i].Load()}
		out += b.Dropped[i].Count
	}
	b.Delivered = s.delivered.Load()
	b.Seen = s.seen.Load()
	b.Pending = int64(b.Seen - b.Delivered - out)
	return b
}

// Read returns the balance of every stage, in the order of the lane.
func (l *Ledger) Read() []Balance {
	l.mu.Lock()
	stages := append([]*Stage(nil), l.stages...)
	l.mu.Unlock()
	bs := make([]Balance, len(stages))
	for i, s := range stages {
		bs[i] = s.Read()
	}
	return bs
}

// String writes a balance as one line.
func (b Balance) String() string {
	var sb strings.Builder
	fmt.Fprintf(&sb, "%-18s seen %d delivered %d", b.Stage, b.Seen, b.Delivered)
	for _, d := range b.Dropped {
		if d.Count > 0 {
			fmt.Fprintf(&sb, " dropped[%s] %d", d.Reason, d.Count)
		}
	}
	if b.Pending != 0 {
		fmt.Fprintf(&sb, " pending %d", b.Pending)
	}
	return sb.String()
}

// Print writes the balance of every stage, one a line.
func (l *Ledger) Print(w io.Writer) error {
	for _, b := range l.Read() {
		if _, err := fmt.Fprintln(w, b); err != nil {
			return err
		}
	}
	return nil
}
