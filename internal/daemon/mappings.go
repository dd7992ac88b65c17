// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"log/slog"
	"sync"

	"tetragon/internal/event/mmap"
	"tetragon/internal/metrics"
)

// mappings is the watch of executable mappings: open only while a policy wants it, because each mapping then costs the
// kernel a path.
type mappings struct {
	log   *slog.Logger
	stage *metrics.Stage
	open  func() (*mmap.Reader, error)

	mu     sync.Mutex
	reader *mmap.Reader
	ending []*mmap.Reader
	ended  mmap.Stats // of those that are closed
}

func newMappings(ledger *metrics.Ledger, log *slog.Logger, proc string) *mappings {
	return &mappings{
		log: log, stage: ledger.Stage("loader", "duplicate", "no_file", "bad_record", "ring_full"),
		open: func() (*mmap.Reader, error) { return mmap.New(mmap.Options{Proc: proc}) },
	}
}

// want begins or ends the watch. It may be called from any goroutine.
func (m *mappings) want(yes bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case yes && m.reader == nil:
		r, err := m.open()
		if err != nil {
			return err
		}
		m.reader = r
	case !yes && m.reader != nil:
		// Whoever deletes a policy does not hear of what is mapped afterwards, although the lane reads later.
		r := m.reader
		m.ending, m.reader = append(m.ending, r), nil
		return r.Stop()
	}
	return nil
}

// watching says whether mappings come.
func (m *mappings) watching() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reader != nil || len(m.ending) > 0
}

// next hands out what was mapped. All records of the ring that are older must have been handed out before. Only the lane
// calls it; last says that it is the end.
func (m *mappings) next(last bool, f func(mmap.Mapping)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if last && m.reader != nil {
		m.ending = append(m.ending, m.reader)
		m.reader = nil
	}
	if m.reader == nil && len(m.ending) == 0 {
		return
	}
	for _, r := range m.ending {
		if _, err := r.Rest(f); err != nil {
			m.log.Warn("read the last executable mappings", "err", err)
		}
		m.ended = sumMappings(m.ended, r.Stats())
		if err := r.Close(); err != nil {
			m.log.Warn("close the watch of executable mappings", "err", err)
		}
	}
	m.ending = nil
	s := m.ended
	if m.reader != nil {
		if _, err := m.reader.Next(f); err != nil {
			m.log.Warn("read executable mappings", "err", err)
		}
		s = sumMappings(s, m.reader.Stats())
	}
	m.stage.Set(s.Seen, s.Delivered, []uint64{s.Duplicate, s.NoFile, s.Bad, s.Lost})
}

func sumMappings(a, b mmap.Stats) mmap.Stats {
	return mmap.Stats{
		Seen: a.Seen + b.Seen, Delivered: a.Delivered + b.Delivered, Duplicate: a.Duplicate + b.Duplicate,
		NoFile: a.NoFile + b.NoFile, Bad: a.Bad + b.Bad, Lost: a.Lost + b.Lost,
	}
}
