// SPDX-License-Identifier: Apache-2.0

// Package read takes raw records out of the kernel's ring, without allocation and without a wake-up per record.
//
// It stands between the kernel half and event/decode. The kernel half does not wake the reader: it looks by itself every
// few milliseconds, less often when nothing comes, and is woken only when the ring fills up.
//
// Not here: what a record holds (decode), what the ring had no room for (sensor counts it).
//
// Not safe for concurrent use, but for Close.
package read

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// Options of a Reader.
type Options struct {
	Ring  *ebpf.Map
	Busy  time.Duration    // how long to sleep between looks while records come; 20 ms when 0, less for a small ring
	Idle  time.Duration    // at most so long when none come; 50 ms when 0
	Sleep func(bool) error // told before and after sleeping: the kernel half wakes only a sleeper
	Batch int              // at most so many records a call; 4096 when 0
}

// Reader reads the ring.
type Reader struct {
	opts Options
	ring *ringbuf.Reader
	rec  ringbuf.Record
	wait time.Duration

	empty int // looks in a row that found nothing
}

// past is a deadline that makes the ring's reader take what is there and not wait.
var past = time.Unix(1, 0)

// New opens the ring for reading. Close it.
func New(o Options) (*Reader, error) {
	if o.Idle == 0 {
		o.Idle = 50 * time.Millisecond
	}
	if o.Batch == 0 {
		o.Batch = 4096
	}
	r, err := ringbuf.NewReader(o.Ring)
	if err != nil {
		return nil, fmt.Errorf("map the ring: %w", err)
	}
	if o.Busy == 0 {
		// A wake-up of the lane costs as much as the processing of five process lives. No machine fills a ring with more
		// than 100 MB/s (forks, execs and exits of all CPUs make 60), so half a ring takes 5 ns a byte.
		o.Busy = min(20*time.Millisecond, time.Duration(r.BufferSize())*5)
	}
	// The buffer is grown here once for the largest record, so that it stays where it is and stays aligned.
	return &Reader{opts: o, ring: r, wait: o.Busy, rec: ringbuf.Record{RawSample: make([]byte, 0, 64<<10)}}, nil
}

// ErrClosed is returned after Close.
var ErrClosed = os.ErrClosed

// Next waits until it is time to look, or the ring fills up, and hands each record that is there to f. The bytes are
// aligned to 8 and valid during the call of f. It returns how many there were; more is true when it stopped at the
// limit of a batch and should be called again at once.
func (r *Reader) Next(f func([]byte)) (n int, more bool, err error) {
	switch avail := r.ring.AvailableBytes(); {
	case avail >= r.ring.BufferSize()/4:
		r.ring.SetDeadline(past)
	case avail > 0 || r.wait == r.opts.Busy:
		// Let a batch gather. Not in the poller: it would return at once if there is data, and a blocked system call
		// keeps the runtime's monitor awake, which costs more than the batch.
		time.Sleep(r.opts.Busy)
		r.ring.SetDeadline(past)
	default:
		// Idle: a record that comes now does not end the wait, a ring that fills up does.
		if err := r.opts.Sleep(true); err != nil {
			return 0, false, err
		}
		r.ring.SetDeadline(time.Now().Add(r.wait))
	}
	n, more, err = r.drain(f)
	if n > 0 {
		r.wait, r.empty = r.opts.Busy, 0
	} else if r.empty++; r.empty > 2 {
		r.wait = min(r.wait*2, r.opts.Idle)
	}
	return n, more, err
}

// Rest hands what is in the ring now to f, without waiting.
func (r *Reader) Rest(f func([]byte)) (n int, more bool, err error) {
	r.ring.SetDeadline(past)
	return r.drain(f)
}

func (r *Reader) drain(f func([]byte)) (n int, more bool, err error) {
	for n < r.opts.Batch {
		err := r.ring.ReadInto(&r.rec)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return n, false, nil
		case errors.Is(err, ringbuf.ErrClosed):
			return n, false, ErrClosed
		case err != nil:
			return n, false, err
		}
		n++
		f(r.rec.RawSample)
	}
	return n, true, nil
}

// Close ends a waiting Next with ErrClosed.
func (r *Reader) Close() error { return r.ring.Close() }
