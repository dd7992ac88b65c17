// SPDX-License-Identifier: Apache-2.0

package export_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tetragon/internal/event"
	"tetragon/internal/event/export"
	"tetragon/internal/metrics"
)

// fake encodes an event as the name of its binary, and counts how often it was asked to.
type fake struct{ json, wire atomic.Int64 }

func (f *fake) AppendJSON(b []byte, ev *event.Event) []byte {
	f.json.Add(1)
	return text(append(b, 'j', ':'), ev)
}

func (f *fake) AppendWire(b []byte, ev *event.Event) []byte {
	f.wire.Add(1)
	return text(append(b, 'w', ':'), ev)
}

func text(b []byte, ev *event.Event) []byte {
	if ev.Kind == event.KindLoss {
		b = append(b, "loss"...)
		for _, l := range ev.Losses {
			b = append(b, ' ')
			b = append(b, l.What...)
			b = append(b, '/')
			b = append(b, l.Reason...)
			b = append(b, '=')
			b = strconv.AppendUint(b, l.Count, 10)
		}
		return b
	}
	return append(b, ev.Process.Binary...)
}

// clock is a time that tests move.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.ns.Store(time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) Now() time.Time          { return time.Unix(0, c.ns.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// bench is a set of sinks with what stands around it.
type bench struct {
	*export.Set
	enc    *fake
	ledger *metrics.Ledger
	lane   *metrics.Lane
	clock  *clock
	log    *syncBuffer
}

func newBench(t testing.TB) *bench { return newBenchOf(t, export.Options{}) }

func newBenchOf(t testing.TB, o export.Options) *bench {
	b := &bench{enc: new(fake), ledger: metrics.NewLedger(), lane: new(metrics.Lane), clock: newClock(), log: new(syncBuffer)}
	o.Encoder, o.Ledger, o.Lane, o.Now = b.enc, b.ledger, b.lane, b.clock.Now
	o.Log = slog.New(slog.NewTextHandler(b.log, nil))
	b.Set = export.NewSet(o)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = b.Close(ctx)
	})
	return b
}

func (b *bench) balance(t testing.TB, stage string) metrics.Balance {
	t.Helper()
	for _, s := range b.ledger.Read() {
		if s.Stage == stage {
			return s
		}
	}
	t.Fatalf("no stage %q in the ledger", stage)
	return metrics.Balance{}
}

// drops returns a stage's drops that are not zero.
func drops(b metrics.Balance) map[string]uint64 {
	m := map[string]uint64{}
	for _, d := range b.Dropped {
		if d.Count > 0 {
			m[d.Reason] = d.Count
		}
	}
	return m
}

// checkBalance wants seen, delivered and drops, and nothing pending.
func (b *bench) checkBalance(t testing.TB, stage string, seen, delivered uint64, dropped map[string]uint64) {
	t.Helper()
	type counts struct {
		Seen, Delivered uint64
		Pending         int64
		Dropped         map[string]uint64
	}
	if dropped == nil {
		dropped = map[string]uint64{}
	}
	got := b.balance(t, stage)
	if d := cmp.Diff(counts{seen, delivered, 0, dropped}, counts{got.Seen, got.Delivered, got.Pending, drops(got)}); d != "" {
		t.Errorf("balance of %s (-want +got):\n%s", stage, d)
	}
}

// checkStreams wants so many bytes taken by what waits for streams.
func (b *bench) checkStreams(t testing.TB, bytes int) {
	t.Helper()
	for _, q := range b.Queues() {
		if q.Sink == "grpc" && q.Bytes != bytes {
			t.Errorf("streams hold %d bytes, want %d", q.Bytes, bytes)
		}
	}
}

func (b *bench) close(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Error(err)
	}
}

func events(binaries ...string) []event.Event {
	evs := make([]event.Event, len(binaries))
	for i, name := range binaries {
		evs[i] = event.Event{Kind: event.KindExec, Process: &event.Process{Binary: name}, Time: int64(i+1) * 1e9}
	}
	return evs
}

// numbered returns the events name0, name1, ...
func numbered(name string, n int) []event.Event {
	names := make([]string, n)
	for i := range names {
		names[i] = name + strconv.Itoa(i)
	}
	return events(names...)
}

func loss(n uint64) event.Event {
	return event.Event{Kind: event.KindLoss, Losses: []event.Loss{{What: "exec", Reason: "ring_full", Count: n}}}
}

// contains matches events whose binary contains it.
type contains string

func (c contains) Match(ev *event.Event) bool { return strings.Contains(ev.Process.Binary, string(c)) }

// syncBuffer is a buffer for two goroutines. Writes wait while it is held.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// until waits for a condition; the test's own deadline is the limit.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); runtime.Gosched() {
		if time.Since(start) > time.Minute {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestBatch_encodesOncePerFormat(t *testing.T) {
	b := newBench(t)
	var out, out2 syncBuffer
	if err := errors.Join(
		b.AddWriter(export.WriterOptions{W: &out}),
		b.AddWriter(export.WriterOptions{W: &out2, Name: "second", Filter: contains("a")}),
	); err != nil {
		t.Fatal(err)
	}
	b.Batch(events("a", "b"))
	if n := b.enc.wire.Load(); n != 0 {
		t.Errorf("wire format made %d times for nobody", n)
	}
	var subs []*export.Subscription
	for range 2 {
		sub, err := b.Subscribe(export.SubscribeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		subs = append(subs, sub)
	}
	b.Batch(events("c", "ca"))
	for _, sub := range subs {
		for _, want := range []string{"w:c", "w:ca"} {
			got, err := sub.Next(t.Context())
			if err != nil || string(got) != want {
				t.Errorf("next = %q, %v, want %q", got, err, want)
			}
		}
		sub.Close()
	}
	b.close(t)
	if j, w := b.enc.json.Load(), b.enc.wire.Load(); j != 4 || w != 2 {
		t.Errorf("encoded %d times as JSON and %d times in wire format, want 4 and 2", j, w)
	}
	if d := cmp.Diff("j:a\nj:b\nj:c\nj:ca\n", out.String()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff("j:a\nj:ca\n", out2.String()); d != "" {
		t.Error(d)
	}
	b.checkBalance(t, "stdout", 4, 4, nil)
	b.checkBalance(t, "second", 4, 2, map[string]uint64{"filtered": 2})
}

// cut leaves out the first two bytes.
type cut struct{}

func (cut) AppendJSON(b, event []byte) []byte { return append(append(b, 'J'), event[2:]...) }
func (cut) AppendWire(b, event []byte) []byte { return append(append(b, 'W'), event[2:]...) }

// TestBatch_prunesForOneSinkOnly: sinks with field filters and without share what is encoded, in either order.
func TestBatch_prunesForOneSinkOnly(t *testing.T) {
	for _, pruned := range [][3]bool{{true, false, true}, {false, true, false}} {
		b := newBench(t)
		var outs [3]syncBuffer
		var subs [3]*export.Subscription
		for i, p := range pruned {
			var f export.Pruner
			if p {
				f = cut{}
			}
			if err := b.AddWriter(export.WriterOptions{W: &outs[i], Name: strconv.Itoa(i), Fields: f}); err != nil {
				t.Fatal(err)
			}
			var err error
			if subs[i], err = b.Subscribe(export.SubscribeOptions{Fields: f}); err != nil {
				t.Fatal(err)
			}
		}
		b.Batch(events("a", "b"))
		for i, p := range pruned {
			for _, want := range []string{"a", "b"} {
				if p {
					want = "W" + want
				} else {
					want = "w:" + want
				}
				if got, err := subs[i].Next(t.Context()); err != nil || string(got) != want {
					t.Errorf("%v: stream %d got %q, %v, want %q", pruned, i, got, err, want)
				}
			}
			subs[i].Close()
		}
		b.close(t)
		for i, p := range pruned {
			want := "j:a\nj:b\n"
			if p {
				want = "Ja\nJb\n"
			}
			if got := outs[i].String(); got != want {
				t.Errorf("%v: writer %d got %q, want %q", pruned, i, got, want)
			}
		}
		if j, w := b.enc.json.Load(), b.enc.wire.Load(); j != 2 || w != 2 {
			t.Errorf("%v: encoded %d times as JSON and %d times in wire format, want 2 and 2", pruned, j, w)
		}
	}
}

func TestBatch_reusesNothingOfTheCaller(t *testing.T) {
	b := newBench(t)
	sub, err := b.Subscribe(export.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	evs := events("first")
	b.Batch(evs)
	evs[0] = event.Event{}
	if got, err := sub.Next(t.Context()); string(got) != "w:first" || err != nil {
		t.Errorf("next = %q, %v", got, err)
	}
}

func TestLosses_passFiltersButNotToSubscribers(t *testing.T) {
	b := newBench(t)
	var out syncBuffer
	if err := b.AddWriter(export.WriterOptions{W: &out, Filter: contains("x")}); err != nil {
		t.Fatal(err)
	}
	sub, err := b.Subscribe(export.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	b.Batch(append([]event.Event{loss(3)}, events("x", "y")...))
	if got, err := sub.Next(t.Context()); string(got) != "w:x" || err != nil {
		t.Errorf("subscriber got %q, %v, want the event behind the loss", got, err)
	}
	b.close(t)
	if d := cmp.Diff("j:loss exec/ring_full=3\nj:x\n", out.String()); d != "" {
		t.Error(d)
	}
}

func TestWriter_rendersWireFormat(t *testing.T) {
	b := newBench(t)
	var out syncBuffer
	err := b.AddWriter(export.WriterOptions{W: &out, Render: func(b, ev []byte) []byte {
		return append(append(append(b, '<'), ev...), ">\n more\n"...)
	}})
	if err != nil {
		t.Fatal(err)
	}
	b.Batch(events("a", "b"))
	b.close(t)
	if d := cmp.Diff("<w:a>\n more\n<w:b>\n more\n", out.String()); d != "" {
		t.Error(d)
	}
}

// halting writes n bytes, then fails until it is let go.
type halting struct {
	syncBuffer
	left int
	err  error
}

func (h *halting) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil || len(p) <= h.left {
		h.left -= len(p)
		return h.buf.Write(p)
	}
	n, _ := h.buf.Write(p[:h.left])
	h.left = 0
	return n, h.err
}

func (h *halting) heal() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = nil
}

func TestWriter_finishesTheLineThatFailed(t *testing.T) {
	b := newBench(t)
	out := &halting{left: 7, err: errors.New("no room")}
	if err := b.AddWriter(export.WriterOptions{W: out}); err != nil {
		t.Fatal(err)
	}
	b.Batch(events("a", "bbbb", "c")) // "j:a\n" and half of "j:bbbb\n" fit
	until(t, "the failure is counted", func() bool { return drops(b.balance(t, "stdout"))["write_error"] == 2 })
	out.heal()
	b.Batch(events("d"))
	until(t, "writing works again", func() bool { return b.balance(t, "stdout").Delivered == 2 })
	b.clock.advance(time.Second)
	b.Batch(nil)
	b.close(t)
	if d := cmp.Diff("j:a\nj:bbbb\nj:d\nj:loss event/write_error=2\n", out.String()); d != "" {
		t.Error(d)
	}
	b.checkBalance(t, "stdout", 5, 3, map[string]uint64{"write_error": 2})
	if n := strings.Count(b.log.String(), "no room"); n != 1 {
		t.Errorf("failure logged %d times: %s", n, b.log.String())
	}
}

func TestWriter_stuckLosesItsOwnOnly(t *testing.T) {
	b := newBench(t)
	var stuck, fine syncBuffer
	if err := errors.Join(
		b.AddWriter(export.WriterOptions{W: &stuck, Name: "stuck", QueueBytes: 1}),
		b.AddWriter(export.WriterOptions{W: &fine, Name: "fine"}),
	); err != nil {
		t.Fatal(err)
	}
	if b.Behind() {
		t.Error("a sink is behind before the first event")
	}
	stuck.mu.Lock()
	const n = 30000 // more than the one chunk that the queue may have
	for range 3 {
		b.Batch(numbered("event", n/3))
	}
	if !b.Behind() {
		t.Error("the stuck sink is not behind")
	}
	b.clock.advance(time.Second)
	if b.Behind() {
		t.Error("a sink that stands still is waited for")
	}
	until(t, "the other one has all", func() bool { return b.balance(t, "fine").Delivered == n })
	if got := drops(b.balance(t, "stuck"))["queue_full"]; got == 0 || got >= n {
		t.Errorf("stuck sink dropped %d of %d", got, n)
	}
	stuck.mu.Unlock()
	until(t, "the stuck one goes on", func() bool { return b.balance(t, "stuck").Pending == 0 })
	until(t, "none is behind", func() bool { return !b.Behind() })
	b.Batch(nil) // says what was lost
	b.close(t)
	full := drops(b.balance(t, "stuck"))["queue_full"]
	b.checkBalance(t, "stuck", n+1, n+1-full, map[string]uint64{"queue_full": full})
	if want := fmt.Sprintf("j:loss exec/queue_full=%d\n", full); !strings.HasSuffix(stuck.String(), want) {
		t.Errorf("output does not end with %q", want)
	}
	if got := strings.Count(stuck.String(), "\n"); uint64(got) != n+1-full {
		t.Errorf("%d lines written, %d delivered", got, n+1-full)
	}
}

func TestClose_givesUpAtItsDeadline(t *testing.T) {
	b := newBench(t)
	var stuck syncBuffer
	if err := b.AddWriter(export.WriterOptions{W: &stuck}); err != nil {
		t.Fatal(err)
	}
	stuck.mu.Lock()
	defer stuck.mu.Unlock()
	b.Batch(events("a", "b"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("close = %v", err)
	}
	b.checkBalance(t, "stdout", 2, 0, map[string]uint64{"closed": 2})
	if _, err := b.Subscribe(export.SubscribeOptions{}); !errors.Is(err, export.ErrClosed) {
		t.Errorf("subscribe after close = %v", err)
	}
	if err := b.AddWriter(export.WriterOptions{W: &stuck}); !errors.Is(err, export.ErrClosed) {
		t.Errorf("add after close = %v", err)
	}
}

func TestSubscription_slowOneLosesItsOwnOnly(t *testing.T) {
	b := newBench(t)
	slow, err := b.Subscribe(export.SubscribeOptions{Queue: 10})
	if err != nil {
		t.Fatal(err)
	}
	fast, err := b.Subscribe(export.SubscribeOptions{Queue: 1000})
	if err != nil {
		t.Fatal(err)
	}
	b.Batch(numbered("e", 7))
	b.Batch(numbered("f", 93))
	for range 100 {
		if _, err := fast.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := drops(slow.Balance()); got["queue_full"] != 90 {
		t.Errorf("slow one dropped %v, want 90", got)
	}
	var got []string
	for range 10 {
		ev, err := slow.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(ev))
	}
	if d := cmp.Diff("w:e0 w:e1 w:e2 w:e3 w:e4 w:e5 w:e6 w:f0 w:f1 w:f2", strings.Join(got, " ")); d != "" {
		t.Error(d)
	}
	if n := b.lane.Overflowed.Load(); n != 90 {
		t.Errorf("metric counts %d overflows, want 90", n)
	}
	slow.Close()
	slow.Close()
	fast.Close()
	for _, s := range b.ledger.Read() {
		if strings.HasPrefix(s.Stage, "grpc#") {
			t.Errorf("stage %s stays behind", s.Stage)
		}
	}
	sum := b.balance(t, "grpc")
	if sum.Seen != 200 || sum.Pending != 0 || drops(sum)["queue_full"] != 90 {
		t.Errorf("all subscribers: %v", sum)
	}
	b.Batch(events("nobody"))
	if got := b.balance(t, "grpc").Seen; got != 200 {
		t.Errorf("event for nobody was seen")
	}
}

func TestSubscription_boundedBytes(t *testing.T) {
	b := newBench(t)
	sub, err := b.Subscribe(export.SubscribeOptions{QueueBytes: 100 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	large := strings.Repeat("x", 50<<10)
	for range 10 {
		b.Batch(events(large))
	}
	if got := drops(sub.Balance())["queue_full"]; got != 8 {
		t.Errorf("dropped %d, want 8 of 10", got)
	}
	for range 2 {
		if ev, err := sub.Next(t.Context()); err != nil || len(ev) != len(large)+2 {
			t.Fatalf("next: %d bytes, %v", len(ev), err)
		}
	}
}

// TestSubscription_leaves: what a client took before it left is delivered, to the event, and nothing else is.
func TestSubscription_leaves(t *testing.T) {
	for _, tt := range []struct {
		name      string
		next      int // calls of Next
		delivered uint64
	}{
		{"takes nothing", 0, 0},
		{"the last was not sent", 4, 3},
		{"all but the last", 10, 9},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			sub, err := b.Subscribe(export.SubscribeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			b.Batch(numbered("e", 10))
			for range tt.next {
				if _, err := sub.Next(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			sub.Close()
			b.Batch(events("nobody"))
			b.checkBalance(t, "grpc", 10, tt.delivered, map[string]uint64{"left": 10 - tt.delivered})
			b.checkStreams(t, 0)
		})
	}
}

// TestSubscription_sharedMemory: a stream that stands still gets half of the memory, a second one a third, and whoever
// comes then still gets something; all is given back.
func TestSubscription_sharedMemory(t *testing.T) {
	const all, each = 12 << 20, 64 << 10
	b := newBenchOf(t, export.Options{StreamBytes: all})
	large := events(strings.Repeat("x", each))
	var subs []*export.Subscription
	for i := range 3 {
		sub, err := b.Subscribe(export.SubscribeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		subs = append(subs, sub)
		for range 2 * all / each {
			b.Batch(large)
		}
		got := int(sub.Balance().Pending) * each
		if i == 0 && (got < all/2*8/10 || got > all/2) {
			t.Errorf("the first stream got %d bytes, want half of %d", got, all)
		}
		if got == 0 {
			t.Errorf("stream %d got nothing", i)
		}
	}
	for _, q := range b.Queues() {
		if q.Sink == "grpc" && q.Bytes > all+3*2*each {
			t.Errorf("streams hold %d bytes of %d", q.Bytes, all)
		}
	}
	for _, sub := range subs {
		sub.Close()
	}
	b.Batch(large)
	b.checkStreams(t, 0)
}

// TestBehind_waitsForStreamsUntilTheyLose: the lane waits for a stream that is late, and not for one that is slow.
func TestBehind_waitsForStreamsUntilTheyLose(t *testing.T) {
	b := newBenchOf(t, export.Options{StreamBytes: 1 << 20})
	sub, err := b.Subscribe(export.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	evs := numbered(strings.Repeat("x", 1000), 40)
	next := func() {
		if _, err := sub.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	b.Batch(evs)
	next() // it is there
	if b.Behind() {
		t.Error("is waited for with little in its queue")
	}
	for range 8 {
		b.Batch(evs)
	}
	if !b.Behind() {
		t.Error("is not waited for with most of its queue full")
	}
	for drops(sub.Balance())["queue_full"] == 0 {
		b.Batch(evs)
	}
	if b.Behind() {
		t.Error("is waited for though it has lost events")
	}
	for sub.Balance().Pending > 40 { // chunks are counted when they are empty
		next()
	}
	for range 9 {
		b.Batch(evs)
	}
	next()
	if !b.Behind() {
		t.Error("is not waited for again after it has caught up")
	}
}

func TestSubscription_end(t *testing.T) {
	b := newBench(t)
	sub, err := b.Subscribe(export.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sub.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("next with a dead context = %v", err)
	}
	b.Batch(events("last"))
	done := make(chan error)
	go func() { done <- b.Close(t.Context()) }()
	if ev, err := sub.Next(t.Context()); string(ev) != "w:last" || err != nil {
		t.Errorf("next = %q, %v", ev, err)
	}
	if _, err := sub.Next(t.Context()); !errors.Is(err, export.ErrClosed) {
		t.Errorf("next after the last = %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	b.checkBalance(t, "grpc", 1, 1, nil)
}

func TestSet_subscribersComeAndGo(t *testing.T) {
	b := newBench(t)
	var wg sync.WaitGroup
	var stop atomic.Bool
	for range 8 {
		wg.Go(func() {
			for !stop.Load() {
				sub, err := b.Subscribe(export.SubscribeOptions{Queue: 5})
				if err != nil {
					t.Error(err)
					return
				}
				for range 3 {
					if ev, err := sub.Next(t.Context()); err != nil || !strings.HasPrefix(string(ev), "w:e") {
						t.Errorf("next = %q, %v", ev, err)
					}
				}
				sub.Close()
			}
		})
	}
	evs := numbered("e", 20)
	for range 300 {
		b.Batch(evs)
		runtime.Gosched()
	}
	stop.Store(true)
	finished := make(chan struct{})
	go func() { wg.Wait(); close(finished) }()
	for waiting := true; waiting; {
		select {
		case <-finished:
			waiting = false
		default:
			b.Batch(evs)
		}
	}
	if got := b.balance(t, "grpc"); got.Pending != 0 {
		t.Errorf("after all have gone: %v", got)
	}
}

func TestBatch_noAllocations(t *testing.T) {
	b := newBench(t)
	if err := b.AddWriter(export.WriterOptions{W: discard{}}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.AddFile(export.FileOptions{Path: t.TempDir() + "/log", RateLimit: -1, MaxSizeMB: 1000}); err != nil {
		t.Fatal(err)
	}
	sub, err := b.Subscribe(export.SubscribeOptions{Filter: contains("event")})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	evs := numbered("event", 100)
	ctx := t.Context()
	got := testing.AllocsPerRun(200, func() {
		b.Batch(evs)
		for range evs {
			if _, err := sub.Next(ctx); err != nil {
				t.Fatal(err)
			}
		}
	})
	if perEvent := got / float64(len(evs)); perEvent > 0.05 { // a chunk now and then, when the disk is slow
		t.Errorf("%g allocations an event", perEvent)
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkBatch(b *testing.B) {
	sinks := []struct {
		name string
		add  func(*bench) error
	}{
		{"file", func(s *bench) error {
			_, err := s.AddFile(export.FileOptions{Path: b.TempDir() + "/log", RateLimit: -1, MaxSizeMB: 10, MaxBackups: 1})
			return err
		}},
		{"discard", func(s *bench) error { return s.AddWriter(export.WriterOptions{W: discard{}}) }},
	}
	evs := numbered(strings.Repeat("x", 1000), 500)
	for _, tt := range sinks {
		b.Run(tt.name, func(b *testing.B) {
			s := newBench(b)
			if err := tt.add(s); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetBytes(1000)
			for n := 0; n < b.N; n += len(evs) {
				s.Batch(evs)
			}
		})
	}
}
