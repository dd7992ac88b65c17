// SPDX-License-Identifier: Apache-2.0

package read

import (
	"encoding/binary"
	"sync/atomic"
	"testing"
	"unsafe"
)

// fake is a ring as the kernel would map it, with the writer's side in the test's hands.
type fake struct {
	ring
	words []uint64
	prod  atomic.Uint64
	cons  atomic.Uint64
}

func newFake(size uint64) *fake {
	f := &fake{words: make([]uint64, 2*size/8)}
	f.ring = ring{consumer: &f.cons, producer: &f.prod, size: size}
	f.data = unsafe.Slice((*byte)(unsafe.Pointer(&f.words[0])), 2*size)
	return f
}

// write appends a record as bpf_ringbuf_reserve and submit do, and shows it in both mappings.
func (f *fake) write(text string, state uint32) {
	at := f.prod.Load() & (f.size - 1)
	both := func(i uint64, b byte) {
		f.data[i%f.size], f.data[i%f.size+f.size] = b, b
	}
	var head [recordHeader]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(text))|state)
	for i, b := range append(head[:], text...) {
		both(at+uint64(i), b)
	}
	f.prod.Add((uint64(len(text)) + recordHeader + 7) &^ 7)
}

func (f *fake) read(t *testing.T) []string {
	t.Helper()
	var out []string
	for f.next(func(b []byte) {
		if uintptr(unsafe.Pointer(unsafe.SliceData(b)))%8 != 0 {
			t.Errorf("record %q is not aligned to 8 bytes", b)
		}
		out = append(out, string(b))
	}) {
	}
	return out
}

func TestRing_handsOutWhatWasWritten(t *testing.T) {
	f := newFake(64)
	for round := range 40 { // many times round, so that records cross the end of the ring
		f.write("one", 0)
		f.write("given up", recordDiscard)
		f.write("three and more", 0)
		if got := f.read(t); len(got) != 2 || got[0] != "one" || got[1] != "three and more" {
			t.Fatalf("round %d: got %q", round, got)
		}
		if f.available() != 0 || f.cons.Load() != f.prod.Load() {
			t.Fatalf("round %d: %d bytes are not given back", round, f.prod.Load()-f.cons.Load())
		}
	}
}

func TestRing_waitsForARecordThatIsBeingWritten(t *testing.T) {
	f := newFake(64)
	f.write("slow", recordBusy)
	f.write("later", 0)
	if got := f.read(t); len(got) != 0 {
		t.Fatalf("got %q before the oldest was complete", got)
	}
	binary.LittleEndian.PutUint32(f.data, uint32(len("slow"))) // submitted
	if got := f.read(t); len(got) != 2 || got[0] != "slow" || got[1] != "later" {
		t.Fatalf("got %q, want both in order", got)
	}
}

func TestRing_allocatesNothing(t *testing.T) {
	f := newFake(4096)
	n := 0
	take := func(b []byte) { n += len(b) }
	if got := testing.AllocsPerRun(100, func() {
		f.prod.Add(0)
		f.next(take)
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func BenchmarkRing(b *testing.B) {
	f := newFake(1 << 20)
	for range 1000 {
		f.write("a record of a hundred bytes or so, which is less than an exec and more than a fork or an exit is here", 0)
	}
	end := f.prod.Load()
	b.Run("next", func(b *testing.B) {
		b.ReportAllocs()
		take := func([]byte) {}
		for b.Loop() {
			if !f.next(take) {
				f.pos = 0
				f.prod.Store(end)
			}
		}
	})
}
