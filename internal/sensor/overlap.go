// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// window is the time in which old programs and their successor at an attach point are both on. A call that passes both
// then is told by both.
type window struct {
	id          uint32
	from, until uint64 // boot clock
	programs    []uint32
}

// windows are those of which there may still be records in the ring: nearly always none.
type windows struct {
	some atomic.Bool // there are any

	mu   sync.Mutex
	list []*window
	last uint32
}

// begin opens a window for these programs.
func (ws *windows) begin(programs []uint32) *window {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.last++
	w := &window{id: ws.last, from: bootTime(), until: math.MaxUint64, programs: programs}
	ws.list = append(ws.list, w)
	ws.some.Store(true)
	return w
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
		ws.some.Store(len(ws.list) > 0)
	})
}

// twinDelay is how long a program may take from its first instruction to its record, at the very most.
const twinDelay = 10 * time.Millisecond

// Twin says whether a record of this program with this time may be one of two that tell the same call, because a new
// program was taking the place of an old one at that moment. Records with the same window, of the same thread, but of
// different programs, are twins if their times differ by less than 100 microseconds: the second of them is to be dropped,
// for those policies that both programs have (Group.Policy), and then the first has had its twin. Nearly always it says no
// at the price of one load.
func (m *Manager) Twin(program uint32, time uint64) (window uint32, ok bool) {
	ws := &m.windows
	if !ws.some.Load() {
		return 0, false
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.list {
		if w.from <= time && time <= w.until && slices.Contains(w.programs, program) {
			return w.id, true
		}
	}
	return 0, false
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
