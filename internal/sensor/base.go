// SPDX-License-Identifier: Apache-2.0

// Package sensor loads the kernel half and attaches it.
//
// It takes compiled objects from bpf, facts from kernel and plans from policy/compile, and gives the daemon a ring, counters
// and a snapshot of what lives already. Base is what always runs: the lives of processes. Manager runs the hooks of
// policies: it merges those that meet at one attach point (merge.go) into one program, has it generated (sensor/gen),
// loads it (load.go), attaches it (attach.go, dispatch.go for system calls, classes.go for what is kept with processes),
// and switches from one state to the next (manager.go, overlap.go, retire.go).
//
// Not here: reading the ring (event/read), meaning (event/enrich), what instructions a plan becomes (sensor/gen).
//
// A change is made as a whole or not at all: what fails half-way is undone. Everything is closed with Close, and by the
// kernel when the agent dies. Methods may be called from any goroutine.
package sensor

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"

	"tetragon/bpf"
	"tetragon/internal/abi"
	"tetragon/internal/kernel"
)

// Options of the base sensor.
type Options struct {
	Facts     *kernel.Facts
	RingBytes int  // size of the ring; rounded up to a power of two; DefaultRingBytes when 0
	Ns        bool // collect namespaces at exec
	RealPath  bool // collect the real path of what is executed
	Env       bool // collect environments
	Rate      Rate
	Verbose   bool // an error of the verifier holds its whole log
	Pins      *Pins
}

// DefaultRingBytes holds what two busy cores make in about 100 ms.
const DefaultRingBytes = 4 << 20

// Base is the base sensor: fork, exec, exit, changes of cgroup.
type Base struct {
	coll    *ebpf.Collection
	pins    *Pins
	cgroups int32 // Facts.Cgroups.Subsys
	spare   bool  // task storage cannot be relied on, see lib/class.h
	links   []link.Link
	iter    *link.Iter
	missing []string
	rate    Rate

	mu   sync.Mutex // one snapshot at a time
	take sync.Mutex // one reader of the counters at a time
}

// hook is a program of the base sensor and the tracepoint that it needs.
type hook struct {
	prog, tracepoint string
	without          string // what is lost without it; empty: the agent is useless
}

// In this order: a process whose fork is seen, but not its exec, would keep the key that its fork gave it, and an earlier
// agent's records know it by another one.
var hooks = []hook{
	{"proc_exec", "sched_process_exec", ""},
	{"proc_fork", "sched_process_fork", ""},
	{"proc_exit", "sched_process_exit", ""},
	{"proc_prepare", "sched_prepare_exec", "raised capabilities are told from the credentials after the exec alone, and an exec by a thread other than the first takes its parent from user space"},
	{"cgrp_attach", "cgroup_attach_task", "a process that moves into a container without an exec is not seen to"},
}

const snapshotProg = "task_snapshot"

// Load loads the base sensor; nothing is attached yet.
func Load(o Options) (*Base, error) {
	spec, err := bpf.LoadBase()
	if err != nil {
		return nil, fmt.Errorf("read the embedded object: %w", err)
	}
	// Since 5.11 maps are charged to the memory cgroup; before, to this limit. Without the right to raise it the load
	// itself shows whether it mattered.
	limitErr := rlimit.RemoveMemlock()

	b := &Base{pins: o.Pins, rate: o.Rate, cgroups: o.Facts.Cgroups.Subsys, spare: !o.Facts.HasType("bpf_task_storage_get_recur")}
	for _, h := range hooks {
		if o.Facts.HasTracepoint(h.tracepoint) {
			continue
		}
		if h.without == "" {
			return nil, fmt.Errorf("find tracepoint %s: kernel %s has none with type information; it needs 5.17 or later with CONFIG_DEBUG_INFO_BTF=y", h.tracepoint, o.Facts.Release)
		}
		delete(spec.Programs, h.prog)
		b.missing = append(b.missing, fmt.Sprintf("the kernel has no tracepoint %s: %s", h.tracepoint, h.without))
	}
	if o.RingBytes == 0 {
		o.RingBytes = DefaultRingBytes
	}
	spec.Maps["events"].MaxEntries = RingSize(o.RingBytes)
	if o.Rate.Records > 0 {
		spec.Maps["rates"].MaxEntries = rateEntries
	}
	for name, v := range map[string]any{
		"rate_records":   o.Rate.Records,
		"rate_window":    uint64(o.Rate.Window),
		"want_ns":        o.Ns,
		"want_file":      o.RealPath,
		"want_env":       o.Env,
		"cgrp_subsys":    o.Facts.Cgroups.Subsys,
		"cgrp_hierarchy": o.Facts.Cgroups.Hierarchy,
		"wake_bytes":     spec.Maps["events"].MaxEntries / 4,
	} {
		if err := spec.Variables[name].Set(v); err != nil {
			return nil, fmt.Errorf("set constant %s: %w", name, err)
		}
	}
	opts := ebpf.CollectionOptions{Cache: o.Facts.Cache}
	if m := o.Pins.Prior().adopt("procs", layoutProcs); m != nil {
		opts.MapReplacements = map[string]*ebpf.Map{"procs_before": m}
	}
	if opts.Cache == nil {
		opts.Programs.KernelTypes = o.Facts.Types
	}
	b.coll, err = ebpf.NewCollectionWithOptions(spec, opts)
	if err != nil && refused(err) == snapshotProg {
		// Everything else works without it.
		b.missing = append(b.missing, "the kernel refuses the task iterator: processes that live already are known from their next exec on: "+firstLine(err))
		delete(spec.Programs, snapshotProg)
		b.coll, err = ebpf.NewCollectionWithOptions(spec, opts)
	}
	if err != nil {
		var ve *ebpf.VerifierError
		if o.Verbose && errors.As(err, &ve) {
			return nil, fmt.Errorf("load the base sensor: %+v", ve)
		}
		if errors.Is(err, ebpf.ErrNotSupported) || limitErr == nil {
			return nil, fmt.Errorf("load the base sensor: %w", err)
		}
		return nil, fmt.Errorf("load the base sensor: %w (the memory lock limit could not be raised either: %w; run with CAP_SYS_RESOURCE or LimitMEMLOCK=infinity)", err, limitErr)
	}
	for _, m := range []struct{ name, as string }{{"events", "events"}, {"procs", "procs"}, {".data.account", "account"}} {
		if err := b.pins.pinMap(b.coll.Maps[m.name], m.as); err != nil {
			b.coll.Close()
			return nil, err
		}
	}
	return b, nil
}

// RingSize rounds n up to what the kernel accepts as the size of a ring: a power of two, and at least a page.
func RingSize(n int) uint32 {
	if n <= 4096 {
		return 4096
	}
	if n >= 1<<30 {
		return 1 << 30
	}
	return 1 << bits.Len32(uint32(n-1))
}

// refused names the program that the kernel did not accept, if that is what err says.
func refused(err error) string {
	var ve *ebpf.VerifierError
	if errors.As(err, &ve) {
		for _, p := range []string{snapshotProg} {
			if strings.Contains(err.Error(), "program "+p+":") {
				return p
			}
		}
	}
	return ""
}

// firstLine shortens an error to what fits a sentence.
func firstLine(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	return s
}

// Attach starts the flow of records.
func (b *Base) Attach() error {
	for _, h := range hooks {
		p := b.coll.Programs[h.prog]
		if p == nil {
			continue
		}
		l, err := link.AttachTracing(link.TracingOptions{Program: p})
		if err != nil {
			if h.without != "" {
				b.missing = append(b.missing, fmt.Sprintf("the kernel does not let a program be attached to tracepoint %s (%v): %s", h.tracepoint, err, h.without))
				continue
			}
			return fmt.Errorf("attach %s to tracepoint %s: %w", h.prog, h.tracepoint, err)
		}
		b.links = append(b.links, l)
		if err := b.pins.pinLink(l, "base_%s", h.prog); err != nil {
			return err
		}
	}
	if p := b.coll.Programs[snapshotProg]; p != nil {
		it, err := link.AttachIter(link.IterOptions{Program: p})
		if err != nil {
			return fmt.Errorf("attach the task iterator: %w", err)
		}
		b.iter = it
	}
	return nil
}

// Missing says what the kernel lacks, one sentence each. Complete after Attach.
func (b *Base) Missing() []string { return b.missing }

// HasSnapshot says whether Snapshot works on this kernel.
func (b *Base) HasSnapshot() bool { return b.iter != nil }

// Ring is the map that records come through.
func (b *Base) Ring() *ebpf.Map { return b.coll.Maps["events"] }

// Snapshot makes the kernel half tell the processes that live: those that it does not know yet, or all. Their records
// and an end mark are in the ring, or counted as lost, when it returns; somebody must read the ring meanwhile.
func (b *Base) Snapshot(all bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.iter == nil {
		return errors.New("look at what lives: nothing is attached, or not any more")
	}
	var v uint32
	if all {
		v = 1
	}
	if err := b.coll.Variables["snapshot_all"].Set(v); err != nil {
		return fmt.Errorf("set what the snapshot tells: %w", err)
	}
	r, err := b.iter.Open()
	if err != nil {
		return fmt.Errorf("open the task iterator: %w", err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("run the task iterator: %w", err)
	}
	return nil
}

// Sleeps tells the kernel half whether the reader of the ring sleeps.
func (b *Base) Sleeps(yes bool) error {
	var v uint32
	if yes {
		v = 1
	}
	return b.coll.Variables["reader_sleeps"].Set(v)
}

// Counts is one reading of the kernel half's account, a row for each kind of record (abi.Kind...).
type Counts [abi.KindKinds]abi.Count

// Counts reads the account.
func (b *Base) Counts() (Counts, error) {
	b.take.Lock()
	defer b.take.Unlock()
	var c Counts
	if err := b.coll.Variables["counts"].Get(&c); err != nil {
		return c, fmt.Errorf("read the counters: %w", err)
	}
	return c, nil
}

// TakeLossTimes returns, for each kind of record, the boot-clock time of the first loss since the last call, or 0.
func (b *Base) TakeLossTimes() ([abi.KindKinds]uint64, error) {
	b.take.Lock()
	defer b.take.Unlock()
	var first, zero [abi.KindKinds]uint64
	v := b.coll.Variables["lost_first"]
	if err := v.Get(&first); err != nil {
		return first, fmt.Errorf("read the times of losses: %w", err)
	}
	if err := v.Set(zero); err != nil {
		return first, fmt.Errorf("reset the times of losses: %w", err)
	}
	return first, nil
}

// VerifiedInstructions says how many instructions the verifier looked at, by program: the price of loading it.
func (b *Base) VerifiedInstructions() map[string]uint32 {
	out := make(map[string]uint32)
	for name, p := range b.coll.Programs {
		if info, err := p.Info(); err == nil {
			if n, ok := info.VerifiedInstructions(); ok {
				out[name] = n
			}
		}
	}
	return out
}

// MapBytes is the kernel memory of the sensor's maps, as the kernel accounts it.
func (b *Base) MapBytes() uint64 {
	var sum uint64
	for _, m := range b.coll.Maps {
		if info, err := m.Info(); err == nil {
			if n, ok := info.Memlock(); ok {
				sum += n
			}
		}
	}
	return sum
}

// ProgramBytes is the kernel memory of the sensor's own programs; those of policies are theirs.
func (b *Base) ProgramBytes() uint64 {
	var sum uint64
	for _, p := range b.coll.Programs {
		sum += programBytes(p)
	}
	return sum
}

// Detach ends the flow of records; what is in the ring stays there to be read.
func (b *Base) Detach() error { return b.end(func(l link.Link) error { return drop(l) }) }

// Leave closes everything here; what is pinned goes on without us.
func (b *Base) Leave() error {
	err := b.end(link.Link.Close)
	b.coll.Close()
	return err
}

// end ends each link, and what is ours in any case.
func (b *Base) end(one func(link.Link) error) error {
	var errs []error
	for i := len(b.links) - 1; i >= 0; i-- {
		errs = append(errs, one(b.links[i]))
	}
	b.links = nil
	// A snapshot that has begun ends first; it takes some milliseconds.
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.iter != nil {
		errs = append(errs, b.iter.Close())
		b.iter = nil
	}
	return errors.Join(errs...)
}

// Close detaches and frees everything.
func (b *Base) Close() error {
	err := b.Detach()
	b.coll.Close()
	return err
}
