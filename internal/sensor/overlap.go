// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"bytes"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tetragon/internal/abi"
	"tetragon/internal/policy/plan"
)

// window is the time in which old programs and their successor at an attach point are both on. A call that passes both
// then is told by both.
type window struct {
	point    uint32 // number of the attach point
	from, on uint64 // boot clock: the new programs were switched on between these
	off      uint64 // the old ones were still on
	until    uint64 // the last record of an old one has this time at the latest
	programs []uint32
}

// pair says whether a record of a program at time b tells the call that program first told at time a. Nothing was told of
// their thread in between.
func (w *window) pair(first *plan.Program, program uint32, a, b uint64) bool {
	old := oldFirst(first.Attach.Backend)
	if (program > first.ID) != old { // it runs before first
		return false
	}
	if !old {
		// The new program was on, as it told something, and stays on: it would have told a later call before the old one did.
		return true
	}
	// The new one was on when the old one told its call, so it told the same; or the old one was on when the new one told its
	// call, and had told it. Else it would be one call that lasted all the overlap: swap waits until there is none.
	return a > w.on || b < w.off
}

// has says whether a record lies in the window.
func (w *window) has(program uint32, time uint64) bool {
	return w.from <= time && time <= w.until && slices.Contains(w.programs, program)
}

// windows are those of which there may still be records in the ring: nearly always none.
type windows struct {
	some atomic.Bool // there are any

	mu     sync.Mutex
	list   []*window
	points map[string]uint32 // numbers of attach points, while there are windows
	last   uint32
}

// begin opens a window for these programs, a little back in time: a thread may have passed the old one already and be on
// its way to the new one.
func (ws *windows) begin(key string, programs []uint32) *window {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.points == nil {
		ws.points = make(map[string]uint32)
	}
	if ws.points[key] == 0 {
		ws.last++
		ws.points[key] = ws.last
	}
	w := &window{
		point: ws.points[key], from: bootTime() - uint64(twinDelay), programs: programs,
		on: math.MaxUint64, off: math.MaxUint64, until: math.MaxUint64,
	}
	ws.list = append(ws.list, w)
	ws.some.Store(true)
	return w
}

// on notes that the new programs are on.
func (ws *windows) on(list []*window) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range list {
		w.on = bootTime()
	}
}

// off notes that the old programs are about to be switched off.
func (ws *windows) off(list []*window) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range list {
		w.off = bootTime()
	}
}

// end closes windows; calls that were under way may still be told with a time shortly after. They are forgotten when the
// ring cannot hold such records any more.
func (ws *windows) end(list []*window) {
	if len(list) == 0 {
		return
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	now := bootTime()
	for _, w := range list {
		w.until = now + uint64(twinDelay)
	}
	time.AfterFunc(ringDelay, func() {
		ws.mu.Lock()
		defer ws.mu.Unlock()
		ws.list = slices.DeleteFunc(ws.list, func(w *window) bool { return slices.Contains(list, w) })
		if len(ws.list) == 0 {
			ws.points = nil
			ws.some.Store(false)
		}
	})
}

// twinDelay is how long a program may take from its first instruction to its record, at the very most. In a guest whose
// host is busy a processor stands still for tens of milliseconds.
const twinDelay = time.Second

// Twins finds the second of two records that tell the same call. It belongs to the goroutine that reads the ring, and wants
// to see every record of a hook, in the ring's order.
type Twins struct {
	m    *Manager
	last map[twinKey]telling // of each thread in a window, if its twin has not come
}

type twinKey struct{ point, tid uint32 }

type telling struct {
	program uint32
	time    uint64
	values  [][]byte // copies, by index in the program
}

// NewTwins makes a finder of twins.
func NewTwins(m *Manager) *Twins { return &Twins{m: m} }

// Told is the program that has told this record's call before, or nil. Then the record is news only for policies that
// are not in that program's groups; for all others it is to be dropped. Nothing comes between the two records of a call in
// its thread, and which of the two programs runs first is known: so a thread that makes the same call over and over is
// told of each. value returns what the record has of one of the program's values, nil if it has none. Nearly always the
// answer is no at the price of one load.
func (t *Twins) Told(program, tid uint32, time uint64, value func(i int) []byte) *plan.Program {
	ws := &t.m.windows
	if !ws.some.Load() {
		t.last = nil
		return nil
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	i := slices.IndexFunc(ws.list, func(w *window) bool { return w.has(program, time) })
	if i < 0 {
		return nil
	}
	p := t.m.Program(program)
	if p == nil {
		return nil
	}
	k := twinKey{ws.list[i].point, tid}
	if x, ok := t.last[k]; ok && x.program != program {
		first := t.m.Program(x.program)
		for _, w := range ws.list[i:] {
			if first != nil && w.has(program, time) && w.has(x.program, x.time) && w.pair(first, program, x.time, time) &&
				sameCall(first, x.values, p, value) {
				delete(t.last, k)
				return first
			}
		}
	}
	if t.last == nil {
		t.last = make(map[twinKey]telling)
	}
	x := telling{program: program, time: time, values: make([][]byte, len(p.Values))}
	for i := range x.values {
		x.values[i] = bytes.Clone(value(i))
	}
	t.last[k] = x
	return nil
}

// sameCall says whether what two programs read may be of one call. Programs whose rules differ may each tell another call
// of a thread in the overlap: then something that both read differs. Where they read nothing alike it cannot be known;
// better told twice than not at all.
func sameCall(a *plan.Program, of [][]byte, b *plan.Program, value func(i int) []byte) bool {
	read, compared := [2]bool{}, false
	at := make(map[string]int, len(of))
	for i := range of {
		at[a.Values[i].Key()] = i
		read[0] = read[0] || of[i] != nil
	}
	for j := range b.Values {
		v := value(j)
		if v == nil {
			continue
		}
		read[1] = true
		if i, ok := at[b.Values[j].Key()]; ok && of[i] != nil {
			if !sameData(&b.Values[j], of[i], v) {
				return false
			}
			compared = true
		}
	}
	return compared || !read[0] || !read[1]
}

// sameData compares what two programs read of a value. Who owns a socket may have changed between them: the first may have
// ordered that.
func sameData(v *plan.Value, a, b []byte) bool {
	const from, to = int(unsafe.Offsetof(abi.ValSock{}.OwnerKtime)), int(unsafe.Offsetof(abi.ValSock{}.OwnerTid)) + 4
	if (v.Type == plan.TypeSock || v.Type == plan.TypeSocket) && len(a) >= to && len(b) >= to {
		return bytes.Equal(a[:from], b[:from]) && bytes.Equal(a[to:], b[to:])
	}
	return bytes.Equal(a, b)
}

// oldFirst says in which order the kernel runs the programs of one attach point: in the order in which they were attached,
// or the newest first. Of kretprobes the newest is told of the call first, too, but the returns come off a stack.
func oldFirst(b plan.Backend) bool {
	switch b {
	case plan.BackendFentry, plan.BackendFexit, plan.BackendFmodRet, plan.BackendLSM, plan.BackendKprobe, plan.BackendKprobeMulti,
		plan.BackendUprobe, plan.BackendUretprobe:
		return false
	}
	return true
}

// bootTime is the clock of records.
func bootTime() uint64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return uint64(t.Nano())
}

// membarrierGlobal is MEMBARRIER_CMD_GLOBAL of include/uapi/linux/membarrier.h.
const membarrierGlobal = 1

// quiesce returns when every program that was running when it was called has come to its end. The kernel does for this
// command what it does before it frees a program: it waits until every CPU has done something else (synchronize_rcu).
func quiesce() {
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0); errno != 0 {
		time.Sleep(20 * time.Millisecond) // a kernel without it, or with CPUs that are left alone
	}
}
