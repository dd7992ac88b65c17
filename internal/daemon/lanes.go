// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tetragon/internal/abi"
	"tetragon/internal/event"
	"tetragon/internal/event/decode"
	"tetragon/internal/event/enrich"
	"tetragon/internal/event/export"
	"tetragon/internal/event/mmap"
	"tetragon/internal/event/read"
	"tetragon/internal/metrics"
	"tetragon/internal/process"
	"tetragon/internal/sensor"
)

// accountEvery is how often the kernel half's account is read, and so how soon a loss is told.
const accountEvery = 200 * time.Millisecond

// calmEvery is how often cgroups that are held back are looked at.
const calmEvery = time.Second

// reasonThrottled is why records of a cgroup that makes too many are not told.
const reasonThrottled = "throttled"

type laneOptions struct {
	base     *sensor.Base
	hooks    *sensor.Manager
	table    *process.Table
	ledger   *metrics.Ledger
	counters *metrics.Lane
	log      *slog.Logger

	limited       bool // there is a limit for cgroups
	countBinaries bool // for metrics that somebody may read
	latency       bool // measure how long each record takes

	pins *sensor.Pins
}

// lane is the event lane: one goroutine, from the ring to the queues of the sinks.
type lane struct {
	laneOptions
	reader   *read.Reader
	enricher *enrich.Enricher
	mappings *mappings
	sinks    *export.Set

	kernel, decoded *metrics.Stage
	merged          *metrics.Stage // calls that were counted instead of told; delivered: an event told how many
	rec             decode.Record

	accounted time.Time     // when the account was last read
	last      sensor.Counts // what it said
	lastBoot  uint64        // boot clock then
	unfixed   bool          // records were lost since the last full snapshot
	asks      chan func()   // what others want to know of what the lane owns, see do
	ended     chan struct{} // closed when the lane takes no more of them
	snapshots chan error    // results of snapshots under way
	running   atomic.Bool   // a snapshot is under way

	keepDead *atomic.Int64 // how many ended processes to remember; nil: as the table has it

	past past          // of an earlier agent
	took chan struct{} // closed by others when our hooks do what the earlier agent's did
	over chan struct{} // closed by us when we need nothing of the earlier agent any more

	leave    atomic.Bool // the kernel half goes on when the lane ends
	stopping bool        // what is in the ring is the last

	syscalls map[syscallKey]string // names of system calls that were counted

	held     [abi.KindKinds]uint64 // records that were held back by --cgroup-rate, at the last look
	released uint64                // when it was last looked whether that ends, boot clock

	settled uint64 // records received at the last look
	stormy  bool   // there were many since memory was last given back
	calm    int    // looks in a row that found few
}

// what names each kind of record in the ledger and in the export.
var what = [abi.KindKinds]string{
	abi.KindFork: "fork", abi.KindExec: "exec", abi.KindExit: "exit", abi.KindCgroup: "cgroup", abi.KindData: "data",
	abi.KindSnapshot: "snapshot", abi.KindSnapEnd: "snapshot_end",
	abi.KindHook: "hook", abi.KindHookData: "hook_data", abi.KindThrottle: "throttle", abi.KindHookMerged: "hook_merged",
}

// ops are the numbers of the kinds in the metrics of the wire contract.
var ops = [abi.KindKinds]metrics.Op{
	abi.KindFork: metrics.OpClone, abi.KindExec: metrics.OpExec, abi.KindExit: metrics.OpExit, abi.KindCgroup: metrics.OpCgroup,
	abi.KindData: metrics.OpData, abi.KindHook: metrics.OpHook, abi.KindHookData: metrics.OpData,
	abi.KindThrottle: metrics.OpThrottle, abi.KindHookMerged: metrics.OpHook,
}

func newLane(o laneOptions) *lane {
	l := &lane{laneOptions: o, snapshots: make(chan error, 1), took: make(chan struct{}), over: make(chan struct{}),
		asks: make(chan func()), ended: make(chan struct{})}
	var reasons []string
	for k := 1; k < abi.KindKinds; k++ {
		reasons = append(reasons, "ring_full_"+what[k])
	}
	reasons = append(reasons, reasonAway, reasonThrottled)
	l.kernel = o.ledger.Stage("kernel", reasons...)
	l.merged = o.ledger.Stage("merge", reasonAway)
	l.decoded = o.ledger.Stage("decode", "bad_record")
	return l
}

// run is the lane. It returns when ctx ends and everything that had happened by then is with the sinks.
func (l *lane) run(ctx context.Context) error {
	if err := l.readPast(); err != nil {
		l.log.Warn("read what an earlier agent left", "err", err)
	}
	took := l.took
	if l.base.HasSnapshot() {
		l.snapshot(false)
	} else {
		l.enricher.Begin(bootOffset())
		l.enricher.StartEmpty()
		l.sinks.Batch(l.enricher.Events())
	}
	defer close(l.ended)
	for ctx.Err() == nil {
		if err := l.batch(l.reader.Next); err != nil {
			return err
		}
		select {
		case f := <-l.asks:
			f()
		case <-took:
			took = nil
			l.endPast()
			close(l.over)
		case err := <-l.snapshots:
			if err != nil {
				l.log.Warn("look at what lives", "err", err)
				if !l.enricher.Started() { // else it would hold events back for ever
					l.enricher.Begin(bootOffset())
					l.enricher.StartEmpty()
					l.sinks.Batch(l.enricher.Events())
					l.unfixed = true // look again, once
				}
			}
		default:
		}
	}

	// Stop: nothing new, then what is there.
	l.stopping = true
	if !l.leave.Load() {
		l.hooks.Detach()
		if err := l.base.Detach(); err != nil {
			l.log.Warn("detach", "err", err)
		}
	}
	for all := false; !all; {
		var err error
		if all, err = l.hooks.TellMerged(); err != nil {
			l.log.Warn("tell of merged calls", "err", err)
			break
		}
		if err := l.rest(); err != nil {
			return err
		}
	}
	if err := l.rest(); err != nil {
		return err
	}
	l.enricher.Begin(bootOffset())
	if !l.enricher.Started() { // stopped before the first snapshot was complete: what was held back goes out
		l.enricher.StartEmpty()
	}
	l.mappings.next(true, l.mapping)
	l.accounted = time.Time{}
	err := l.account()
	l.sinks.Batch(l.enricher.Events())
	return err
}

// rest reads the ring until it is empty.
func (l *lane) rest() error {
	for more := true; more; {
		n := 0
		err := l.batch(func(f func([]byte)) (int, bool, error) {
			var err error
			n, more, err = l.reader.Rest(f)
			return n, more, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// batch is one turn of the lane.
func (l *lane) batch(next func(func([]byte)) (int, bool, error)) error {
	l.enricher.Begin(bootOffset())
	n, more, err := next(l.record)
	if err != nil {
		l.counters.ReadErrors.Add(1)
		return fmt.Errorf("read the ring: %w", err)
	}
	if n > 0 {
		l.counters.Received.Add(uint64(n))
	}
	if !more { // a mapping comes after the exec that made it
		l.mappings.next(false, l.mapping)
	}
	if err := l.account(); err != nil {
		return err
	}
	evs := l.enricher.Events()
	if l.countBinaries {
		l.count(evs)
	}
	l.sinks.Batch(evs) // an empty batch too: sinks tell of their own losses then
	if more {
		runtime.Gosched() // let the sinks write, and give back the memory that the next batch needs
		for i := 0; i < maxWaits && l.mayWait() && l.sinks.Behind() && l.reader.Roomy(); i++ {
			time.Sleep(waitForSinks)
		}
	}
	return nil
}

// In a flood, records wait in the ring for a sink that is behind, as long as the ring has room and at most so long a batch:
// a record is a tenth of the line that is made of it.
const (
	waitForSinks = time.Millisecond
	maxWaits     = 20
	maxWaiting   = 500 * time.Millisecond // how old a record may become; much less than what the sensors allow for
)

// mayWait says whether nothing but the sinks would gain from going on at once.
func (l *lane) mayWait() bool {
	return !l.stopping && !l.mappings.watching() && bootNow() < l.rec.Time+uint64(maxWaiting)
}

// record takes one raw record.
func (l *lane) record(raw []byte) {
	l.decoded.Seen(1)
	if err := decode.Decode(raw, &l.rec); err != nil {
		l.decoded.Drop(0, 1)
		l.broken(raw, err)
		return
	}
	l.decoded.Deliver(1)
	op := ops[l.rec.Kind]
	l.counters.MsgOps[op].Add(1)
	if !l.latency {
		l.enricher.Record(&l.rec)
		return
	}
	began := time.Now()
	l.enricher.Record(&l.rec)
	l.counters.Latency[op].Observe(time.Since(began))
}

// broken counts a record that was refused.
func (l *lane) broken(raw []byte, err error) {
	switch {
	case len(raw) == 0:
		l.counters.Broken[metrics.OpUndefined][metrics.HandlerEmpty].Add(1)
	case errors.Is(err, decode.ErrKind):
		l.counters.Broken[metrics.OpUndefined][metrics.HandlerUnknownOp].Add(1)
	case errors.Is(err, decode.ErrShort) && len(raw) < abi.HeadSize:
		l.counters.Broken[metrics.OpUndefined][metrics.HandlerFailed].Add(1)
	default:
		l.counters.Broken[ops[l.rec.Kind]][metrics.HandlerFailed].Add(1)
	}
}

// mapping takes one executable mapping.
func (l *lane) mapping(m mmap.Mapping) {
	l.counters.MsgOps[metrics.OpLoader].Add(1)
	l.enricher.Mapping(&enrich.Mapping{Pid: m.Pid, Time: m.Time, Exec: m.Exec, Path: m.Path, BuildID: m.BuildID})
}

// account reads the kernel half's account from time to time. What was lost since the last reading is told as an event,
// and what the lost records would have said of living processes is asked from the kernel's own state.
func (l *lane) account() error {
	now := time.Now()
	if now.Sub(l.accounted) < accountEvery {
		return nil
	}
	l.accounted = now
	l.trim()
	c, err := l.base.Counts()
	if err != nil {
		return err
	}
	held := l.held
	if l.limited {
		if l.held, err = l.base.Held(); err != nil {
			return err
		}
		if err := l.release(); err != nil {
			return err
		}
	}
	l.accountMerged()
	if c != l.last || held != l.held || l.past.untold() {
		if err := l.settle(&c); err != nil {
			return err
		}
	}
	if l.keepDead != nil {
		l.table.Keep(int(l.keepDead.Load()))
	}
	if err := l.pins.Beat(&c); err != nil {
		return err
	}
	s := l.table.Stats()
	l.counters.ProcessCacheSize.Store(int64(s.Live + s.Dead))
	l.counters.ProcessCacheCapacity.Store(int64(l.table.Capacity()))
	l.counters.ProcessCacheEvictions.Store(s.Evicted)
	l.counters.ProcessCacheMissGet.Store(s.Misses)
	l.counters.Errors[metrics.ErrorUsername].Store(l.enricher.Nameless())

	if l.unfixed && l.base.HasSnapshot() && !l.running.Load() {
		l.unfixed = false
		l.enricher.Recover(bootNow())
		l.snapshot(true)
	}
	return nil
}

// accountMerged books what was merged.
func (l *lane) accountMerged() {
	counted, told := l.hooks.Merged()
	if l.leave.Load() && l.stopping {
		counted = told // the rest is the next agent's
	}
	l.merged.Set(counted+l.past.merged, told, []uint64{l.past.merged})
}

// release lets records of cgroups through that keep to their limit again. What of their processes was not told is asked from
// the kernel's own state.
func (l *lane) release() error {
	now := bootNow()
	if now < l.released+uint64(calmEvery) {
		return nil
	}
	l.released = now
	for _, id := range l.enricher.Throttled() {
		over, err := l.base.Calm(id, now)
		if err != nil {
			return err
		}
		if over {
			l.enricher.Unthrottle(id, now)
			l.unfixed = true
		}
	}
	return nil
}

// trim gives memory back to the system some seconds after a storm. The runtime would keep what the storm needed, and an
// agent is judged by what it holds when nothing happens.
func (l *lane) trim() {
	const many, looks = 400, 10 // records in one look; looks, 2 s
	now := l.counters.Received.Load()
	recent := now - l.settled
	l.settled = now
	switch {
	case recent > many:
		l.stormy, l.calm = true, 0
	case l.stormy:
		if l.calm++; l.calm >= looks {
			l.stormy, l.calm = false, 0
			runtime.GC() // the first collection only marks pooled buffers, the second frees them
			giveBack()
		}
	}
}

// settle books a new reading.
func (l *lane) settle(c *sensor.Counts) error {
	var seen, sent uint64
	dropped := make([]uint64, abi.KindKinds+1) // the last two: of an earlier agent, and held back
	lost := false
	var missed [len(l.counters.Missed)]uint64 // some kinds share a number
	for k := 1; k < abi.KindKinds; k++ {
		seen += c[k].Seen
		sent += c[k].Seen - c[k].Lost
		dropped[k-1] = c[k].Lost
		missed[ops[k]] += c[k].Lost
		if c[k].Lost > l.last[k].Lost {
			lost = true
			if !ofHooks(k) { // those say nothing that the kernel half still knows
				l.unfixed = true
			}
		}
	}
	for _, n := range l.held {
		seen += n
		dropped[abi.KindKinds] += n
	}
	for op, n := range missed {
		l.counters.Missed[op][metrics.SendEAGAIN].Store(n)
	}
	if l.leave.Load() && l.stopping {
		// What the kernel half sends from now on is the next agent's.
		sent = l.decoded.Read().Seen - l.past.read
		seen = sent
		for _, n := range dropped {
			seen += n
		}
	}
	dropped[abi.KindKinds-1] = l.past.away()
	l.kernel.Set(seen+l.past.read+l.past.away(), sent+l.past.read, dropped)
	l.tellAway()
	before := l.lastBoot
	l.lastBoot = bootNow()
	last := l.last
	l.last = *c
	if !lost {
		return nil
	}
	first, err := l.base.TakeLossTimes()
	if err != nil {
		return err
	}
	var losses []event.Loss
	offset := bootOffset()
	for k := 1; k < abi.KindKinds; k++ {
		n := c[k].Lost - last[k].Lost
		if n == 0 {
			continue
		}
		since := first[k]
		if since == 0 || since > c[k].LostLast {
			since = before // another loss has been dated meanwhile: no earlier than the last reading
		}
		losses = append(losses, event.Loss{
			What: what[k], Reason: "ring_full", Count: n, Since: int64(since) + offset, Until: int64(c[k].LostLast) + offset,
		})
	}
	l.enricher.Lost(losses)
	l.log.Warn("records were lost: the ring was full", "losses", fmt.Sprint(losses), "hint", "a larger ring: --rb-size-total")
	return nil
}

// snapshot starts to look at what lives, beside the lane, which must go on reading for it to end.
func (l *lane) snapshot(all bool) {
	l.running.Store(true)
	go func() {
		err := l.base.Snapshot(all)
		l.running.Store(false)
		select {
		case l.snapshots <- err:
		default: // the lane has ended
		}
	}()
}

// bootNow is the boot clock, ns.
func bootNow() uint64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0 // kernel: it has had this clock since 2.6.39
	}
	return uint64(t.Nano())
}

// bootOffset is what the wall clock is ahead of the boot clock, ns.
func bootOffset() int64 { return time.Now().UnixNano() - int64(bootNow()) }
