// SPDX-License-Identifier: Apache-2.0

package export

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"syscall"
	"time"

	"tetragon/internal/metrics"
)

// WriterOptions are those of standard output.
type WriterOptions struct {
	W          io.Writer
	Name       string  // of the stage in the ledger; empty: "stdout"
	Filter     Matcher // nil: everything
	Fields     Pruner  // nil: events are whole
	QueueBytes int     // 0: 4 MiB

	// Render makes text of an event in wire format and appends it, ends of lines included. nil: JSON lines.
	Render func(b, event []byte) []byte
}

const writerChunk = 64 << 10

// AddWriter adds a sink that writes to an open file, such as standard output. Each write holds whole lines.
func (s *Set) AddWriter(o WriterOptions) error {
	if o.Name == "" {
		o.Name = "stdout"
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = 4 << 20
	}
	k := &sink{
		name: o.Name, format: lines, match: o.Filter, prune: o.Fields, losses: true,
		q:        newQueue(writerChunk, o.QueueBytes, int(^uint(0)>>1), s.now),
		finished: make(chan struct{}),
	}
	if o.Render != nil {
		k.format = wire
	}
	k.owed.start(s.now())
	k.healthy.Store(true)
	k.stages = []*metrics.Stage{s.opts.Ledger.Stage(o.Name, reasons[:]...)}
	if err := s.add(k); err != nil {
		s.opts.Ledger.Remove(k.stages[0])
		return err
	}
	w := &writer{sink: k, w: o.W, render: o.Render, log: s.log, now: s.now}
	go w.run()
	return nil
}

type writer struct {
	sink   *sink
	w      io.Writer
	render func(b, event []byte) []byte
	log    *slog.Logger
	now    func() time.Time

	text     []byte // rendered
	ends     []int  // where each event ends in it
	torn     []byte // rest of an event that was written in part
	pipe     bool   // the other end is gone for good
	logged   time.Time
	unlogged int // errors since
}

func (w *writer) run() {
	defer close(w.sink.finished)
	for {
		c, last := w.sink.q.pop()
		if last {
			return
		}
		if c == nil {
			<-w.sink.q.wake
			continue
		}
		lost, err := w.write(c)
		if err != nil {
			w.complain(err)
			w.sink.refused.Add(uint64(lost))
		}
		w.sink.healthy.Store(err == nil)
		w.sink.settle(c, writeError, lost)
	}
}

// write writes a chunk and returns how many of its events did not get out whole.
func (w *writer) write(c *chunk) (lost int, err error) {
	if w.pipe {
		return c.n, syscall.EPIPE
	}
	if len(w.torn) > 0 {
		n, err := w.w.Write(w.torn)
		w.torn = w.torn[n:]
		if err != nil {
			return c.n, w.fail(err)
		}
	}
	text := c.buf
	if w.render != nil {
		text = w.rendered(c.buf)
	}
	n, err := w.w.Write(text)
	if err == nil {
		return 0, nil
	}
	// What was begun is finished before anything else, so that no line is ever broken.
	whole, end := w.whole(text, n)
	if n > end {
		rest := bytes.IndexByte(text[n:], '\n') + 1
		if w.render != nil {
			rest = w.ends[whole] - n
		}
		w.torn = append(w.torn[:0], text[n:n+rest]...)
	}
	return c.n - whole, w.fail(err)
}

// whole says how many events text[:n] holds, and where the last of them ends.
func (w *writer) whole(text []byte, n int) (events, end int) {
	if w.render == nil {
		return countLines(text[:n]), bytes.LastIndexByte(text[:n], '\n') + 1
	}
	for events < len(w.ends) && w.ends[events] <= n {
		end = w.ends[events]
		events++
	}
	return events, end
}

func (w *writer) rendered(b []byte) []byte {
	w.text, w.ends = w.text[:0], w.ends[:0]
	for len(b) > 0 {
		n := int(binary.LittleEndian.Uint32(b))
		w.text = w.render(w.text, b[4:4+n])
		w.ends = append(w.ends, len(w.text))
		b = b[4+n:]
	}
	return w.text
}

func (w *writer) fail(err error) error {
	w.pipe = errors.Is(err, syscall.EPIPE)
	return err
}

// complain logs at most once a minute.
func (w *writer) complain(err error) {
	w.unlogged++
	now := w.now()
	if !w.logged.IsZero() && now.Sub(w.logged) < time.Minute {
		return
	}
	w.log.Warn(fmt.Sprintf("write events to %s", w.sink.name), "err", err, "times", w.unlogged)
	w.logged, w.unlogged = now, 0
}
