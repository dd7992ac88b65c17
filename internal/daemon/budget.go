// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/bits"
	"runtime/debug"
	rtm "runtime/metrics"
	"strings"
	"sync/atomic"
	"time"

	"tetragon/internal/config"
	"tetragon/internal/event/export"
	"tetragon/internal/metrics"
	"tetragon/internal/policy/registry"
	"tetragon/internal/sensor"
)

// sizes are what the agent's buffers and tables may take at most.
type sizes struct {
	ring      int // bytes
	dead      int // ended processes to remember
	fileQueue int // bytes, each
	outQueue  int
	streams   int // bytes, all streams together; 0: as it comes
	streamed  int // events, each stream; 0: no limit but the bytes
}

// What the parts of a budget are, where the configuration does not give a size itself. The rest is for the heap, which has
// the living processes, and for policies.
const (
	ringShare   = 16 // a 16th of the budget, at most sensor.DefaultRingBytes
	deadShare   = 8
	queueShare  = 16
	streamShare = 8
	deadBytes   = 1 << 10 // of an ended process with its names, as BenchmarkTable and profiles of a busy machine have it

	leastRing, leastQueue, leastDead = 256 << 10, 256 << 10, 1024
)

// plannedSizes divides the budget. Sizes that the configuration gives are taken as they are.
func plannedSizes(cfg *config.Config, cpus int) sizes {
	s := sizes{ring: ringBytes(cfg, cpus), dead: cfg.ProcessCacheSize}
	if cfg.IsSet("event-queue-size") {
		s.streamed = int(min(cfg.EventQueueSize, math.MaxInt))
	}
	total := uint64(cfg.MemoryBudget)
	if total == 0 {
		return s
	}
	share := func(part uint64, least, most int) int { return int(min(max(total/part, uint64(least)), uint64(most))) }
	if cfg.RBSize == 0 && cfg.RBSizeTotal == 0 {
		s.ring = 1 << (bits.Len(uint(share(ringShare, leastRing, sensor.DefaultRingBytes))) - 1)
	}
	if !cfg.IsSet("process-cache-size") {
		s.dead = share(deadShare*deadBytes, leastDead, cfg.ProcessCacheSize)
	}
	s.fileQueue = share(queueShare, leastQueue, export.DefaultFileBytes)
	s.outQueue = share(queueShare, leastQueue, 4<<20)
	s.streams = share(streamShare, leastQueue, export.DefaultStreamBytes)
	return s
}

// budget keeps the agent within its memory. When the heap comes near to what is left for it, this happens in this order:
// the collector runs more often (the runtime does that), the kernel's types are given back, ended processes are forgotten
// earlier. Queues do not grow beyond what was planned at the start, so a sink that is slow loses its own events. Living
// processes and policies stay: without them events would be wrong, or missing.
type budget struct {
	total    uint64 // 0: no limit
	base     *sensor.Base
	manager  *sensor.Manager
	policies *registry.Registry
	facts    *factsKeeper
	log      *slog.Logger

	planned int          // ended processes, when there is room
	dead    atomic.Int64 // now; the lane obeys
	tight   bool
	told    bool // that what is beside the heap is too much
}

// Shares of the heap's limit, in percent: from when on it is tight, and until when.
const tightFrom, tightUntil = 90, 70

// parts says who has how much.
func (b *budget) parts() []metrics.Part {
	ring, maps := uint64(b.base.Ring().MaxEntries()), b.base.MapBytes()
	var programs uint64
	for _, s := range b.policies.List("") {
		programs += s.KernelBytes
	}
	return []metrics.Part{
		{Name: "heap", Bytes: heapBytes()},
		{Name: "binary", Bytes: binaryBytes()},
		{Name: "kernel_ring", Bytes: ring},
		{Name: "kernel_maps", Bytes: maps - min(maps, ring)},
		{Name: "kernel_programs", Bytes: b.base.ProgramBytes()},
		{Name: "kernel_policy_tables", Bytes: b.manager.TableBytes()},
		{Name: "kernel_policy_programs", Bytes: programs},
	}
}

// heapBytes is what the runtime has of the system's memory: what its limit is about.
func heapBytes() uint64 {
	s := []rtm.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	rtm.Read(s)
	all, back := s[0].Value.Uint64(), s[1].Value.Uint64()
	return all - min(all, back)
}

// String is a line for people.
func (b *budget) String() string {
	var sum uint64
	var words []string
	for _, p := range b.parts() {
		sum += p.Bytes
		words = append(words, fmt.Sprintf("%s %s", strings.ReplaceAll(p.Name, "_", " "), mebibytes(p.Bytes)))
	}
	of := "no budget"
	if b.total > 0 {
		of = "a budget of " + mebibytes(b.total)
		if b.dead.Load() < int64(b.planned) {
			of += fmt.Sprintf("; it is tight: %d ended processes are remembered instead of %d", b.dead.Load(), b.planned)
		}
	}
	return fmt.Sprintf("memory: %s of %s: %s", mebibytes(sum), of, strings.Join(words, ", "))
}

func mebibytes(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// budgetEvery is how often the parts are looked at.
const budgetEvery = 5 * time.Second

// run looks after the budget until ctx ends.
func (b *budget) run(ctx context.Context) {
	if b.total == 0 {
		return
	}
	t := time.NewTicker(budgetEvery)
	defer t.Stop()
	for {
		var rest, heap uint64
		for _, p := range b.parts() {
			if p.Name == "heap" {
				heap = p.Bytes
			} else {
				rest += p.Bytes
			}
		}
		b.look(heap, rest)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// look compares what there is with the budget, and does what the order says.
func (b *budget) look(heap, rest uint64) {
	const leastHeap = 16 << 20 // below that the collector would do nothing but collect
	limit := uint64(leastHeap)
	if b.total > rest+leastHeap {
		limit, b.told = b.total-rest, false
	} else if !b.told {
		b.told = true
		b.log.Warn("the memory budget is too small for what is loaded", "hint", "give more with memory-budget, or load fewer policies",
			"budget", mebibytes(b.total), "beside_heap", mebibytes(rest))
	}
	debug.SetMemoryLimit(int64(min(limit, math.MaxInt64)))
	switch {
	case heap > limit/100*tightFrom:
		b.facts.drop()
		if now := b.dead.Load(); now > leastDead {
			b.dead.Store(max(now/2, leastDead))
		}
		if !b.tight {
			b.log.Warn("memory is tight: ended processes are forgotten earlier", "hint", "memory-budget", "heap", mebibytes(heap), "limit", mebibytes(limit))
		}
		b.tight = true
	case heap < limit/100*tightUntil && b.dead.Load() < int64(b.planned):
		b.dead.Store(min(b.dead.Load()*2, int64(b.planned)))
		if b.dead.Load() == int64(b.planned) {
			b.tight = false
			b.log.Info("memory is not tight any more", "heap", mebibytes(heap), "limit", mebibytes(limit))
		}
	}
}
