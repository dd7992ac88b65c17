// SPDX-License-Identifier: Apache-2.0

package mmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernel: bits of struct perf_event_attr that x/sys does not name (include/uapi/linux/perf_event.h).
const bitBuildID = 1 << 34

// Where things are in the first page of a ring (struct perf_event_mmap_page).
const (
	offHead = 1024
	offTail = 1032
)

// ring is the perf ring buffer of one CPU.
//
// kernel: one page with the positions, then the data, a power of two in pages. Records are aligned to 8 and may wrap.
// The kernel writes head after the data; we write tail after we are done with what is before it.
type ring struct {
	fd         int
	mem        []byte
	data       []byte
	head, tail *atomic.Uint64
	end        uint64 // as far as we look in this round
	pos        uint64 // next record
	size       uint64 // of it
	fresh      bool   // end is not yet read in this round
}

func attr(bytes int) *unix.PerfEventAttr {
	return &unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_DUMMY, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Sample_type: unix.PERF_SAMPLE_TID | unix.PERF_SAMPLE_TIME,
		// Mappings of code only: those of data need mmap_data. Execs, because an exec ends all mappings.
		Bits: unix.PerfBitMmap | unix.PerfBitMmap2 | bitBuildID | unix.PerfBitComm | unix.PerfBitCommExec |
			unix.PerfBitSampleIDAll | unix.PerfBitUseClockID | unix.PerfBitWatermark,
		Wakeup:  uint32(bytes), // never: the lane looks by itself
		Clockid: unix.CLOCK_BOOTTIME,
	}
}

func openRing(cpu, bytes int) (*ring, error) {
	fd, err := unix.PerfEventOpen(attr(bytes), -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.E2BIG):
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return nil, fmt.Errorf("%w; give the agent CAP_PERFMON or CAP_SYS_ADMIN", err)
	case err != nil:
		return nil, err
	}
	page := os.Getpagesize()
	mem, err := unix.Mmap(fd, 0, page+bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("map the ring: %w", err)
	}
	g := newRing(mem, page)
	g.fd = fd
	return g, nil
}

// newRing lays a ring over memory: a page, then data.
func newRing(mem []byte, page int) *ring {
	return &ring{
		fd: -1, mem: mem, data: mem[page:], fresh: true,
		head: (*atomic.Uint64)(unsafe.Pointer(&mem[offHead])), tail: (*atomic.Uint64)(unsafe.Pointer(&mem[offTail])),
	}
}

// stop makes the kernel write no more records.
func (g *ring) stop() error {
	return unix.IoctlSetInt(g.fd, unix.PERF_EVENT_IOC_DISABLE, 0)
}

func (g *ring) close() error {
	err := unix.Munmap(g.mem)
	return errors.Join(err, unix.Close(g.fd))
}

// peek gives the next record with its header. It is valid until free.
func (g *ring) peek() ([]byte, bool) {
	if g.fresh {
		g.end, g.fresh = g.head.Load(), false
	}
	size := uint64(len(g.data))
	if g.end-g.pos > size { // not the kernel's doing: start over at what is there
		g.pos = g.end
	}
	if g.end-g.pos < headerSize {
		return nil, false
	}
	at := g.pos % size
	n := uint64(binary.LittleEndian.Uint16(g.data[at+6:])) // bound: records are aligned to 8, so a header never wraps
	if n < headerSize || n%8 != 0 || n > g.end-g.pos {
		g.pos = g.end
		return nil, false
	}
	g.size = n
	if at+n <= size {
		return g.data[at : at+n : at+n], true
	}
	whole := make([]byte, n)
	copy(whole[copy(whole, g.data[at:]):], g.data)
	return whole, true
}

// advance goes on to the record after the one that peek gave.
func (g *ring) advance() { g.pos += g.size }

// free gives the room of all records before the next one back to the kernel, and lets peek look for more.
func (g *ring) free() {
	g.tail.Store(g.pos)
	g.fresh = true
}
