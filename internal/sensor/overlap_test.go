// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"tetragon/internal/abi"
	"tetragon/internal/policy/plan"
)

// exchanged are the back-ends on which a policy may hear of a call of provoke.
var exchanged = []plan.Backend{
	plan.BackendFentry, plan.BackendFexit, plan.BackendKprobe, plan.BackendKprobeMulti, plan.BackendTp, plan.BackendTracepoint,
	plan.BackendSysEnter, plan.BackendSysExit,
}

// keepCalling makes a call every 20 microseconds in a thread of its own, until stop or the last one, and tells how many.
func keepCalling(stop *atomic.Bool, most int, arg func(n int) int) <-chan int {
	done := make(chan int)
	go func() {
		runtime.LockOSThread()
		n := 0
		for ; !stop.Load() && n < most; n++ {
			provoke(arg(n))
			for from := time.Now(); time.Since(from) < 20*time.Microsecond; {
			}
		}
		done <- n
	}()
	return done
}

// nothingLost ends the test if the ring had no room for a record of a hook.
func (g *rig) nothingLost() {
	g.t.Helper()
	counts, err := g.base.Counts()
	if err != nil {
		g.t.Fatal(err)
	}
	if lost := counts[abi.KindHook].Lost; lost > 0 {
		g.t.Fatalf("%d records were lost: the test reads too slowly", lost)
	}
}

// A policy on whose hook others come and go hears of each call exactly once, and so do those that are replaced.
func TestManager_noGap(t *testing.T) {
	for _, b := range exchanged {
		t.Run(b.String(), func(t *testing.T) {
			needBackend(t, b)
			g := newRig(t, ManagerOptions{})
			if _, err := g.m.Add(sysPlan("stays", b, odd, odd+0xffffff)); err != nil {
				t.Fatal(err)
			}
			replaced, err := g.m.Add(sysPlan("replaced", b, odd, odd+0xffffff))
			if err != nil {
				t.Fatal(err)
			}
			var stop atomic.Bool
			done := keepCalling(&stop, 200_000, func(n int) int { return odd + n })
			var changed atomic.Int64
			changing := make(chan error)
			go func() {
				for n := 0; !stop.Load(); n++ {
					id, err := g.m.Add(sysPlan("comes", b, odd+uint64(n%7), odd+0xffffff))
					if err == nil {
						err = g.m.Replace(replaced, sysPlan("replaced", b, odd, odd+0xffffff-uint64(n%5)))
					}
					if err == nil {
						err = g.m.Remove(id)
					}
					if err != nil {
						changing <- err
						return
					}
					changed.Add(3)
				}
				changing <- nil
			}()
			twins := NewTwins(g.m)
			seen := map[string][]uint8{"stays": make([]uint8, 200_000), "replaced": make([]uint8, 200_000)}
			dropped := 0
			read := func() {
				for _, x := range g.take() {
					p := g.m.Program(x.program)
					if p == nil {
						t.Fatalf("a record of program %d, which nobody knows", x.program)
					}
					before := twins.Told(x.program, x.tid, x.time, x.value)
					for i := range p.Groups {
						gr := &p.Groups[i]
						if x.mask[gr.First/64]>>(gr.First%64)&1 == 0 || seen[gr.Plan.Policy] == nil {
							continue
						}
						if before != nil && hasPolicy(before, gr.Policy) {
							dropped++
							continue
						}
						seen[gr.Plan.Policy][x.ints[uint16(gr.Values[0])]-odd]++
					}
				}
			}
			// A second, or as long as it takes under emulation for some changes.
			for begin := time.Now(); time.Since(begin) < time.Second || changed.Load() < 12 && time.Since(begin) < 90*time.Second; time.Sleep(5 * time.Millisecond) {
				read()
			}
			stop.Store(true)
			n := <-done
			if err := <-changing; err != nil {
				t.Fatal(err)
			}
			read()
			g.nothingLost()
			for name, s := range seen {
				var hist [4]int
				first := -1
				for i := range n {
					hist[min(s[i], 3)]++
					if s[i] != 1 && first < 0 {
						first = i
					}
				}
				if hist[1] != n {
					t.Errorf("%s: of %d calls %d were not told, %d twice, %d more often; the first is %d", name, n, hist[0], hist[2], hist[3], first)
				}
			}
			t.Logf("%d calls, %d changes, %d tellings dropped", n, changed.Load(), dropped)
			if changed.Load() < 12 {
				t.Errorf("only %d changes", changed.Load())
			}
		})
	}
}

func hasPolicy(p *plan.Program, id uint32) bool {
	for i := range p.Groups {
		if p.Groups[i].Policy == id {
			return true
		}
	}
	return false
}

// A policy that is replaced by one with other rules hears of each call by the old rules or by the new ones: what a thread
// does next is not taken for the same call. The rules want every other call, and then those between.
func TestManager_noGap_otherRules(t *testing.T) {
	for _, b := range exchanged {
		t.Run(b.String(), func(t *testing.T) {
			needBackend(t, b)
			g := newRig(t, ManagerOptions{})
			const between = 1 << 23
			half := func(n int) *plan.Plan {
				lo := uint64(odd + n%2*between)
				return sysPlan("changes", b, lo, lo+between-1)
			}
			id, err := g.m.Add(half(0))
			if err != nil {
				t.Fatal(err)
			}
			var stop atomic.Bool
			done := keepCalling(&stop, between, func(n int) int { return odd + n%2*between + n })
			var seen [between]uint8
			twins, dropped := NewTwins(g.m), 0
			read := func() {
				for _, x := range g.take() {
					p := g.m.Program(x.program)
					if p == nil {
						t.Fatalf("a record of program %d, which nobody knows", x.program)
					}
					if twins.Told(x.program, x.tid, x.time, x.value) != nil {
						dropped++
						continue
					}
					seen[(x.ints[uint16(p.Groups[0].Values[0])]-odd)%between]++
				}
			}
			// Nobody but this goroutine waits for the changes, which take long under emulation: records are read meanwhile.
			changing := make(chan error)
			go func() {
				for n := range 6 {
					if err := g.m.Replace(id, half(n+1)); err != nil {
						changing <- err
						return
					}
				}
				close(changing)
			}()
			for open := true; open; {
				select {
				case err, ok := <-changing:
					if open = ok; err != nil {
						t.Fatal(err)
					}
				case <-time.After(5 * time.Millisecond):
				}
				read()
			}
			stop.Store(true)
			n := <-done
			read()
			g.nothingLost()
			// A change may fall between two calls, each of which only the other rules want; the third is told by either.
			neither, twice := 0, 0
			for i, s := range seen[:n] {
				if s > 1 {
					twice++
				}
				if i > 1 && s+seen[i-1]+seen[i-2] == 0 {
					neither++
				}
			}
			if neither+twice+dropped > 0 {
				t.Errorf("of %d calls %d were told by neither rules, %d twice, %d records were dropped", n, neither, twice, dropped)
			}
			t.Logf("%d calls", n)
		})
	}
}

// Records of one call by two programs, in the order of either kind of back-end; several calls in a row; others that are no
// twins.
func TestTwins(t *testing.T) {
	m := NewManager(ManagerOptions{})
	for id := range uint32(4) {
		m.plans.Store(id, &plan.Program{ID: id, Attach: plan.Attach{Backend: plan.BackendRawTp}})
		m.plans.Store(10+id, &plan.Program{ID: 10 + id, Attach: plan.Attach{Backend: plan.BackendFentry}})
	}
	twins := NewTwins(m)
	none := func(int) []byte { return nil } // nothing was read
	w := m.windows.begin("x", []uint32{1, 2, 11, 12})
	at := bootTime() + 1000
	w.on, w.off = at+150_000, at+600_000
	us := func(n uint64) uint64 { return at + n*1000 }
	for _, c := range []struct {
		program, tid uint32
		time         uint64
		told         int // program that told it before; -1 none
	}{
		// The older program runs first: calls by the old one alone, by both, by the new one alone.
		{1, 7, us(0), -1}, {1, 7, us(10), -1}, {1, 7, us(20), -1}, {2, 7, us(21), 1}, {1, 7, us(30), -1}, {2, 7, us(31), 1},
		{2, 7, us(40), -1}, {2, 7, us(50), -1},
		// The newer program runs first.
		{11, 17, us(60), -1}, {11, 17, us(70), -1}, {12, 17, us(80), -1}, {11, 17, us(81), 12}, {12, 17, us(90), -1}, {11, 17, us(91), 12},
		{12, 17, us(100), -1}, {12, 17, us(110), -1},
		{1, 8, us(200), -1}, {2, 8, us(9999), 1}, // the thread was held up between the two, and the new one was on
		{1, 8, us(140), -1}, {2, 8, us(590), 1}, // the old one was on
		{1, 8, us(140), -1}, {2, 8, us(610), -1}, // two calls: the old one alone, the new one alone
		{12, 18, us(140), -1}, {11, 18, us(9999), 12}, // the old one's telling is always of the call that the new one told
		{1, 8, us(400), -1}, {2, 9, us(401), -1}, // of different threads
		{1, 9, us(500), -1}, {3, 9, us(501), -1}, {2, 9, us(502), 1}, // one of a program that is not concerned
	} {
		got := -1
		if p := twins.Told(c.program, c.tid, c.time, none); p != nil {
			got = int(p.ID)
		}
		if got != c.told {
			t.Errorf("%s: told by %d, want %d", fmt.Sprint(c), got, c.told)
		}
	}
	m.windows.end([]*window{w})
	if p := twins.Told(1, 8, bootTime()+uint64(time.Second), none); p != nil {
		t.Errorf("behind the window: told by %d", p.ID)
	}
	for deadline := time.Now().Add(20 * time.Second); m.windows.some.Load(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the window is not forgotten")
		}
	}
	twins.Told(1, 8, bootTime(), none)
	if len(twins.last) > 0 {
		t.Errorf("%d threads are remembered for nothing", len(twins.last))
	}
}

// Two records are of one call only if the values that both programs read say so.
func TestTwins_values(t *testing.T) {
	m := NewManager(ManagerOptions{})
	reads := func(id uint32, args ...int64) {
		p := &plan.Program{ID: id, Attach: plan.Attach{Backend: plan.BackendRawTp}}
		for _, n := range args {
			p.Values = append(p.Values, plan.Value{Source: plan.Source{Kind: plan.SourceReg, N: n}, Type: plan.TypeInt, Bits: 32})
		}
		m.plans.Store(id, p)
	}
	reads(1, 0, 1)
	reads(2, 1, 2)
	w := m.windows.begin("x", []uint32{1, 2})
	at := bootTime() + 1000
	w.on, w.off = at, at+1_000_000
	for _, c := range []struct {
		name     string
		old, new []string // "": not in the record
		twins    bool
	}{
		{"what both read is alike", []string{"a", "b"}, []string{"b", "c"}, true},
		{"what both read differs", []string{"a", "b"}, []string{"x", "c"}, false},
		{"places in the programs do not count", []string{"b", "a"}, []string{"b", "c"}, false},
		{"they read nothing alike", []string{"a", ""}, []string{"", "c"}, false},
		{"one read nothing", []string{"", ""}, []string{"b", "c"}, true},
	} {
		value := func(of []string) func(int) []byte {
			return func(i int) []byte {
				if of[i] == "" {
					return nil
				}
				return []byte(of[i])
			}
		}
		twins := NewTwins(m)
		if p := twins.Told(1, 7, at+10, value(c.old)); p != nil {
			t.Fatalf("%s: the first was told by %d", c.name, p.ID)
		}
		if p := twins.Told(2, 7, at+20, value(c.new)); (p != nil) != c.twins {
			t.Errorf("%s: twins: %t", c.name, p != nil)
		}
	}
}

// Who owns a socket may change between the two programs of a call, as the first one may order that.
func TestTwins_owner(t *testing.T) {
	sock := func(change int) []byte {
		b := make([]byte, unsafe.Sizeof(abi.ValSock{}))
		if change >= 0 {
			b[change]++
		}
		return b
	}
	for _, typ := range []plan.Type{plan.TypeSock, plan.TypeSocket, plan.TypeBytes} {
		for at := range len(sock(-1)) {
			owner := typ != plan.TypeBytes && at >= 8 && at < 24
			if got := sameData(&plan.Value{Type: typ}, sock(-1), sock(at)); got != owner {
				t.Errorf("type %d, byte %d differs: the same: %t", typ, at, got)
			}
		}
	}
}
