// SPDX-License-Identifier: Apache-2.0

package read

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring is a BPF ring buffer in our memory. The library's reader asks the poller before it looks, copies each record and
// takes a lock for it; that is right for a reader that is woken for each record, and was a quarter of the lane's cost here.
//
// kernel: the layout is ABI (include/uapi/linux/bpf.h, kernel/bpf/ringbuf.c): one page that holds the consumer's
// position, one that holds the producer's, then the data, mapped twice in a row so that no record is ever in two parts.
// A record is a header of 8 bytes, of which the first 4 are length and state, and its bytes, rounded up to 8.
type ring struct {
	consumer, producer *atomic.Uint64
	data               []byte
	size               uint64
	pos                uint64 // consumer's position

	writable, readonly []byte // the mappings
}

const (
	recordHeader  = 8
	recordBusy    = 1 << 31 // still being written
	recordDiscard = 1 << 30 // given up by its writer
)

func mapRing(fd, size int) (*ring, error) {
	page := os.Getpagesize()
	w, err := unix.Mmap(fd, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the consumer's page: %w", err)
	}
	r, err := unix.Mmap(fd, int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		_ = unix.Munmap(w)
		return nil, fmt.Errorf("map the data: %w", err)
	}
	g := &ring{
		consumer: (*atomic.Uint64)(unsafe.Pointer(&w[0])), producer: (*atomic.Uint64)(unsafe.Pointer(&r[0])),
		data: r[page:], size: uint64(size), writable: w, readonly: r,
	}
	g.pos = g.consumer.Load()
	return g, nil
}

// available is the number of bytes that have been reserved and not yet been consumed.
func (g *ring) available() uint64 { return g.producer.Load() - g.pos }

// next hands the oldest record to f and frees its place. It returns false when there is none, or when the oldest is
// still being written.
func (g *ring) next(f func([]byte)) bool {
	for g.pos < g.producer.Load() {
		at := g.pos & (g.size - 1)
		head := (*atomic.Uint32)(unsafe.Pointer(&g.data[at])).Load()
		if head&recordBusy != 0 {
			return false
		}
		n := uint64(head &^ (recordBusy | recordDiscard))
		if n > g.size {
			n = 0 // not a ring of ours: the kernel never writes this; a zero length moves on by one header
		}
		from := at + recordHeader
		given := head&recordDiscard == 0
		if given {
			f(g.data[from : from+n : from+n])
		}
		g.pos += (n + recordHeader + 7) &^ 7
		g.consumer.Store(g.pos)
		if given {
			return true
		}
	}
	return false
}

func (g *ring) unmap() error {
	err := unix.Munmap(g.readonly)
	if werr := unix.Munmap(g.writable); err == nil {
		err = werr
	}
	return err
}
