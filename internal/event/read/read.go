// SPDX-License-Identifier: Apache-2.0

// Package read takes raw records out of the kernel's ring, without allocation, copy, or a wake-up per record.
//
// It stands between the kernel half and event/decode. The kernel half does not wake the reader: it looks by itself every
// few milliseconds, less often when nothing comes, and is woken only when the ring fills up meanwhile.
//
// Not here: what a record holds (decode), what the ring had no room for (sensor counts it).
//
// Not safe for concurrent use: one goroutine calls everything, Close after the last Next.
package read

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Options of a Reader.
type Options struct {
	Ring  *ebpf.Map
	Busy  time.Duration    // how long to sleep between looks while records come; 40 ms when 0, less for a small ring
	Idle  time.Duration    // at most so long when none come; 50 ms when 0
	Sleep func(bool) error // told before sleeping long: the kernel half wakes only a sleeper
	Batch int              // at most so many records a call; 1024 when 0
}

// Reader reads the ring.
type Reader struct {
	opts Options
	ring *ring
	file *os.File // the ring's descriptor, with the runtime's poller
	conn syscall.RawConn
	wait time.Duration

	empty int  // looks in a row that found nothing
	more  bool // the last batch ended before the ring was empty
}

// New opens the ring for reading. Close it.
func New(o Options) (*Reader, error) {
	if o.Idle == 0 {
		o.Idle = 50 * time.Millisecond
	}
	if o.Batch == 0 {
		o.Batch = 1024 // about a megabyte of lines: what the sinks' queues reuse without asking for memory
	}
	size := int(o.Ring.MaxEntries())
	if o.Busy == 0 {
		// A wake-up of the lane costs as much as the processing of five process lives, so it comes as seldom as people do
		// not notice and the ring allows: no machine fills one with more than 100 MB/s (forks, execs and exits of all
		// CPUs make 60), that is 10 ns a byte.
		o.Busy = min(40*time.Millisecond, time.Duration(size)*10)
	}
	// A descriptor of our own: the poller closes it, and wants it non-blocking.
	fd, err := unix.FcntlInt(uintptr(o.Ring.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the ring: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("open the ring: %w", err)
	}
	f := os.NewFile(uintptr(fd), "ring")
	r := &Reader{opts: o, file: f, wait: o.Busy}
	if r.conn, err = f.SyscallConn(); err == nil {
		err = f.SetReadDeadline(time.Now()) // fails if the poller does not take it
	}
	if err == nil {
		r.ring, err = mapRing(fd, size)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open the ring: %w", err)
	}
	return r, nil
}

// Next waits until it is time to look, or the ring fills up, and hands each record that is there to f. The bytes are in
// the ring itself, aligned to 8, and valid during the call of f. It returns how many there were; more is true when it
// stopped at the limit of a batch.
func (r *Reader) Next(f func([]byte)) (n int, more bool, err error) {
	switch avail := r.ring.available(); {
	case r.more || avail >= r.ring.size/4:
	case avail > 0 || r.wait == r.opts.Busy:
		time.Sleep(r.opts.Busy) // let a batch gather
	default:
		// Idle: a record that comes now does not end the wait, a ring that fills up does.
		if err := r.idle(); err != nil {
			return 0, false, err
		}
	}
	n, more, _ = r.Rest(f)
	r.more = more
	if n > 0 {
		r.wait, r.empty = r.opts.Busy, 0
	} else if r.empty++; r.empty > 2 {
		r.wait = min(r.wait*2, r.opts.Idle)
	}
	return n, more, nil
}

// idle waits for a wake-up, or for r.wait.
func (r *Reader) idle() error {
	if err := r.opts.Sleep(true); err != nil {
		return err
	}
	if err := r.file.SetReadDeadline(time.Now().Add(r.wait)); err != nil {
		return fmt.Errorf("wait for the ring: %w", err)
	}
	asked := false
	err := r.conn.Read(func(uintptr) bool {
		woken := asked
		asked = true
		return woken
	})
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("wait for the ring: %w", err)
	}
	return nil
}

// Rest hands what is in the ring now to f, without waiting.
func (r *Reader) Rest(f func([]byte)) (n int, more bool, err error) {
	for n < r.opts.Batch {
		if !r.ring.next(f) {
			return n, false, nil
		}
		n++
	}
	return n, true, nil
}

// Roomy says whether less than half of the ring is taken, so that what is in it may stay a while.
func (r *Reader) Roomy() bool { return r.ring.available() < r.ring.size/2 }

// Close gives everything back.
func (r *Reader) Close() error {
	return errors.Join(r.ring.unmap(), r.file.Close())
}
