// SPDX-License-Identifier: Apache-2.0

package gen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"tetragon/internal/abi"
	"tetragon/internal/policy/plan"
	"tetragon/internal/policy/simulate"
)

// harmless are signals that this process may get: more than are sent in one call.
var harmless = []int{10, 12, 17, 18, 28, 40, 41, 42}

// order is what was ordered of an enforcer.
type order struct {
	err     int32
	signals uint64
}

// outcome is what a call comes to.
type outcome struct {
	ret           int32
	sent          uint64
	told          bool    // there is a record
	post, monitor ruleSet // in it
	stats         []abi.RuleStat
}

// follows says what a call comes to, after the comments of plan.Actions. monitored is by group. What is ordered is kept in orders.
func follows(p *plan.Program, monitored []bool, live ruleSet, orders map[plan.Verdict]order) outcome {
	out := outcome{stats: make([]abi.RuleStat, len(p.Rules))}
	if live.empty() {
		return out
	}
	wants := func(g, i int) uint64 {
		do := &p.Rules[i].Do
		mask := orders[do.From].signals
		for _, s := range do.Signals {
			mask |= 1 << (s - 1)
		}
		return mask
	}
	decides := simulate.First(live[:], p.Groups)
	var send uint64
	for g, i := range decides {
		if i >= 0 && !monitored[g] {
			send |= wants(g, i)
		}
	}
	for range 6 {
		out.sent |= send & -send
		send &= send - 1
	}
	for g, i := range decides {
		if i < 0 {
			continue
		}
		do, s := &p.Rules[i].Do, &out.stats[i]
		was, ordered := orders[do.From]
		err := do.Error
		if do.Enforcer {
			err = was.err
		}
		signals, denies := wants(g, i), do.Override && err != 0
		s.Matched++
		switch {
		case monitored[g]:
			s.MonitorSignal += one(signals != 0)
			s.MonitorOverride += one(denies)
			s.MonitorNotify += one(do.Notify != nil)
		default:
			s.Signal += one(signals&out.sent != 0)
			s.Override += one(denies)
			if denies && out.ret == 0 {
				out.ret = err
			}
			if n := do.Notify; n != nil {
				s.Notify++
				_, over := orders[n.To]
				s.NotifyOverwritten += one(over)
				x := order{err: n.Error}
				if n.Signal != 0 {
					x.signals = 1 << (n.Signal - 1)
				}
				orders[n.To] = x
			}
		}
		if do.Enforcer && ordered {
			delete(orders, do.From)
		}
		if _, there := orders[do.Forget]; there {
			s.NotifyUnused++
			delete(orders, do.Forget)
		}
		if !do.Post {
			s.Nopost++
			continue
		}
		s.Posted++
		out.told = true
		out.post.add(i)
		if monitored[g] && do.Enforces() {
			out.monitor.add(i)
		}
	}
	return out
}

func one(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// actions makes up what a rule orders, of the enforcer of policy g too.
func (r random) actions(g int) plan.Actions {
	do := plan.Actions{Post: r.IntN(3) > 0}
	for range r.IntN(4) {
		if s := harmless[r.IntN(len(harmless))]; !slices.Contains(do.Signals, s) {
			do.Signals = append(do.Signals, s)
		}
	}
	if r.IntN(3) == 0 {
		do.Override, do.Error = true, -int32(r.oneOf(1+uint64(r.IntN(4095)), 1, 4095))
	}
	switch r.IntN(4) {
	case 0:
		do.Notify = &plan.Notify{To: verdictOf(g), Error: -int32(r.IntN(3))}
		if do.Notify.Error == 0 || r.IntN(2) == 0 {
			do.Notify.Signal = harmless[r.IntN(len(harmless))]
		}
	case 1:
		do.Forget = verdictOf(g)
	}
	return do
}

func verdictOf(g int) plan.Verdict { return plan.Verdict(0xabc00000001 + g) }

// acting makes a program whose rules order something, and the one of the enforcers of its policies.
func (r random) acting() (hook, enforcer *plan.Program, monitored []bool) {
	at := plan.Attach{Backend: plan.BackendFmodRet, Symbol: "library", Params: 2}
	hook = &plan.Program{ID: 1, Attach: at}
	enforcer = &plan.Program{ID: 2, Attach: at}
	for g := range 1 + r.IntN(4) {
		monitored = append(monitored, r.IntN(4) == 0)
		group := plan.Group{Policy: uint32(g + 1), Plan: &plan.Plan{}, Hook: &plan.Hook{}, First: len(hook.Rules)}
		for range 1 + r.IntN(r.IntN(30)+3) {
			rule := plan.Rule{Do: r.actions(g)}
			hook.Rules = append(hook.Rules, rule)
			group.Hook.Rules = append(group.Hook.Rules, rule)
		}
		hook.Groups = append(hook.Groups, group)
		carries := plan.Rule{
			Filters: []plan.Filter{{Kind: plan.FilterRanges, Not: true, Task: plan.TaskVerdict, Verdict: verdictOf(g), Ranges: []plan.Range{{}}}},
			Do:      plan.Actions{Enforcer: true, Override: true, From: verdictOf(g), Post: r.IntN(2) == 0},
		}
		enforcer.Rules = append(enforcer.Rules, carries)
		enforcer.Groups = append(enforcer.Groups, plan.Group{Policy: uint32(g + 1), Plan: &plan.Plan{}, Hook: &plan.Hook{Rules: []plan.Rule{carries}}, First: g})
	}
	return hook, enforcer, monitored
}

// acts loads a program that denies as one that can be run by hand: what it returns is the same.
func (h *harness) acts(t testing.TB, p *plan.Program, monitored []bool, slot, base int) *ebpf.Program {
	t.Helper()
	for g := range p.Groups {
		for i := p.Groups[g].First; i < p.Groups[g].First+len(p.Groups[g].Hook.Rules); i++ {
			do := &p.Rules[i].Do
			row := abi.Rule{
				Next: uint32(p.Groups[g].First + len(p.Groups[g].Hook.Rules)), Stat: uint32(base + i), Policy: uint32(g + 1), Track: -1, Untrack: -1,
				Error: do.Error,
			}
			for _, s := range do.Signals {
				row.Signals |= 1 << (s - 1)
			}
			if do.Enforcer {
				row.Signals = ^uint64(0)
			}
			for _, f := range []struct {
				on   bool
				flag uint32
			}{{do.Post, abi.RulePost}, {do.Override, abi.RuleOverride}, {monitored[g] && do.Enforces(), abi.RuleMonitor}} {
				if f.on {
					row.Flags |= f.flag
				}
			}
			if err := h.tables.Maps["rules"].Put(uint32(base+i), &row); err != nil {
				t.Fatal(err)
			}
		}
	}
	spec, err := Body(p, h.lib.Programs["library"], Options{Layout: h.layout, Slot: slot, Base: base})
	if err != nil {
		t.Fatal(err)
	}
	spec.Type, spec.AttachType, spec.AttachTo = ebpf.RawTracepoint, ebpf.AttachNone, ""
	return h.load(t, spec)
}

// happens runs a program and says what came of it.
func (h *harness) happens(t testing.TB, p *plan.Program, prog *ebpf.Program, base int, ring *ringbuf.Reader) (out outcome) {
	t.Helper()
	zero := make([]abi.RuleStat, ebpf.MustPossibleCPU())
	for i := range p.Rules {
		if err := h.tables.Maps["rule_stats"].Put(uint32(base+i), zero); err != nil {
			t.Fatal(err)
		}
	}
	ret, err := prog.Run(&ebpf.RunOptions{Context: []uint64{0, 0}})
	if err != nil {
		t.Fatal(err)
	}
	out.ret = int32(ret)
	for i := range p.Rules {
		var sum abi.RuleStat
		var each []abi.RuleStat
		if err := h.tables.Maps["rule_stats"].Lookup(uint32(base+i), &each); err != nil {
			t.Fatal(err)
		}
		for _, s := range each {
			sum.Matched, sum.Posted, sum.Nopost = sum.Matched+s.Matched, sum.Posted+s.Posted, sum.Nopost+s.Nopost
			sum.Lost, sum.Limited = sum.Lost+s.Lost, sum.Limited+s.Limited
			sum.Signal, sum.MonitorSignal = sum.Signal+s.Signal, sum.MonitorSignal+s.MonitorSignal
			sum.Override, sum.MonitorOverride = sum.Override+s.Override, sum.MonitorOverride+s.MonitorOverride
			sum.Notify, sum.MonitorNotify = sum.Notify+s.Notify, sum.MonitorNotify+s.MonitorNotify
			sum.NotifyOverwritten, sum.NotifyUnused = sum.NotifyOverwritten+s.NotifyOverwritten, sum.NotifyUnused+s.NotifyUnused
		}
		out.stats = append(out.stats, sum)
	}
	enforces := (&body{p: p}).enforces()
	ring.SetDeadline(time.Now())
	for {
		rec, err := ring.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if out.told {
			t.Fatal("a call is told twice")
		}
		out.told = true
		words := (len(p.Rules) + 63) / 64
		word := func(i int) uint64 { return binary.LittleEndian.Uint64(rec.RawSample[abi.HookSize+8*i:]) }
		for w := range words {
			out.post[w] = word(w)
			if enforces {
				out.monitor[w] = word(words + w)
			}
		}
		if enforces { // otherwise there is nothing to be told of
			out.sent = word(2 * words)
		}
	}
}

// signalsSent waits for signals, and says which came.
func signalsSent(t testing.TB, got <-chan os.Signal, want uint64) (mask uint64) {
	t.Helper()
	for mask&want != want || want == 0 {
		wait := 10 * time.Second
		if want == 0 {
			wait = 0
		}
		select {
		case s := <-got:
			mask |= 1 << (s.(syscall.Signal) - 1)
		case <-time.After(wait):
			return mask
		}
	}
	return mask
}

// TestBody_outcome: what follows a match is what the actions say, for random programs of several policies, some of which only
// monitor, and their enforcers: what is returned, which signals come, what is counted, and what the record tells of it.
func TestBody_outcome(t *testing.T) {
	h := newHarness(t)
	runtime.LockOSThread() // orders to enforcers hold for a thread
	defer runtime.UnlockOSThread()
	ring, err := ringbuf.NewReader(h.tables.Maps["events"])
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	got := make(chan os.Signal, 64)
	for _, s := range harmless {
		signal.Notify(got, unix.Signal(s))
	}
	defer signal.Stop(got)
	const slotB, baseB = 2, 300
	calls, seen := 0, make(map[string]int)
	for seed := range uint64(120) {
		r := random{rand.New(rand.NewPCG(seed, 11))}
		hook, enforcer, monitored := r.acting()
		a, b := h.acts(t, hook, monitored, 0, 0), h.acts(t, enforcer, monitored, slotB, baseB)
		orders := make(map[plan.Verdict]order)
		state := make([]ruleSet, h.tables.Variables["slots"].Size()/slotSize)
		const steps = 30
		for step := range steps + 1 {
			p, prog, base := hook, a, 0
			if r.IntN(3) == 0 || step == steps { // at last nothing is left for the next programs
				p, prog, base = enforcer, b, baseB
			}
			state[0], state[slotB] = ruleSet{}, firstRules(len(enforcer.Rules))
			for i := range hook.Rules { // what filters do is compared elsewhere
				if r.IntN(3) == 0 {
					state[0].add(i)
				}
			}
			if err := h.tables.Variables["slots"].Set(state); err != nil {
				t.Fatal(err)
			}
			live := state[0]
			if p == enforcer {
				live = ruleSet{}
				for g := range p.Rules {
					if _, ok := orders[verdictOf(g)]; ok {
						live.add(g)
					}
				}
			}
			want := follows(p, monitored, live, orders)
			is := h.happens(t, p, prog, base, ring)
			if mask := signalsSent(t, got, want.sent); mask != want.sent {
				t.Fatalf("seed %d, step %d: signals %x came, want %x", seed, step, mask, want.sent)
			}
			if !want.told { // then nobody is told of signals
				is.sent = want.sent
			}
			if fmt.Sprintf("%+v", is) != fmt.Sprintf("%+v", want) {
				t.Fatalf("seed %d, step %d, live %x of\n%+v\ngot  %+v\nwant %+v", seed, step, live, p.Rules, is, want)
			}
			calls++
			seen["denied"] += int(one(want.ret != 0))
			seen["signalled"] += bits.OnesCount64(want.sent)
			for _, s := range want.stats {
				seen["overwritten"] += int(s.NotifyOverwritten)
				seen["taken back"] += int(s.NotifyUnused)
				seen["monitored"] += int(s.MonitorOverride + s.MonitorSignal)
			}
		}
		a.Close()
		b.Close()
	}
	t.Logf("%d calls: %v", calls, seen)
	for _, what := range []string{"denied", "signalled", "overwritten", "taken back", "monitored"} {
		if seen[what] < 50 {
			t.Errorf("only %d were %s", seen[what], what)
		}
	}
}
