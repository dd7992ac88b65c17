// SPDX-License-Identifier: Apache-2.0

// Package mmap tells which files processes map as code: programs, their interpreters, shared libraries.
//
// The kernel says this by itself to whoever opens a dummy perf event on each CPU and asks for mmap2 records with build
// ids; no BPF program is involved. The package stands beside event/read and before event/enrich, which joins a mapping
// with its process. Keep a Reader open only while some loaded plan has Loader: each costs the kernel a path walk for each
// mapping.
//
// How to use it: in each turn of the lane first drain the BPF ring, then call Next, then take the events. What Next hands
// out is a little older (Options.Delay) than the call, so that the exec of its process has come through the ring: the
// kernel maps a program before it tells of the exec. The image that a mapping belongs to is the last one of Pid that
// began at or before Time; if that began before Exec, which is when an exec of Pid got past the point of no return, it is
// the one after it. Call Rest instead of Next once, at the end.
//
// Not here: who the process is (event/enrich), what was mapped before New (the kernel does not tell).
//
// Each mapping that the kernel had room for is handed out, or counted under one reason; see Stats. Not safe for
// concurrent use: one goroutine calls everything.
package mmap

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Options of a Reader. The zero value is good.
type Options struct {
	Delay time.Duration // how old a mapping must be to be handed out; 20 ms when 0
	Bytes int           // of all rings together, at most; 8 MiB when 0
	Proc  string        // where procfs is; "/proc" when empty

	Online string // file with the CPUs that are online; sysfs's when empty
}

// Mapping is a file that became part of a process's code. The bytes are valid during the call that hands it out.
type Mapping struct {
	Pid, Tid uint32
	Time     uint64 // boot clock, ns
	Exec     uint64 // boot clock, ns, of the pid's last exec before Time; 0 if none was seen
	Path     []byte // from the root of the process, " (deleted)" appended when unlinked
	BuildID  []byte // empty if the file has none
	Prot     uint32 // PROT_READ, ...
	Flags    uint32 // MAP_SHARED, ...
}

// Stats is the account of a Reader: Seen = Delivered + Duplicate + NoFile + Bad + Lost + what waits.
type Stats struct {
	Seen      uint64
	Delivered uint64
	Duplicate uint64 // the process has mapped this file before
	NoFile    uint64 // no file: code made at run time, the kernel's own pages
	Bad       uint64 // a record that does not add up
	Lost      uint64 // the ring was full
}

// Reader reads the rings of all CPUs. Close it.
type Reader struct {
	opts    Options
	rings   []*ring
	watched map[int]bool // CPUs
	looked  time.Time    // when they were last looked for
	seen    *lru
	execs   *execs
	stats   Stats
	batch   []record
	ids     notes
}

// ErrUnsupported says that the kernel does not tell build ids of mappings; it needs 5.12 or later.
var ErrUnsupported = errors.New("the kernel does not tell build ids of mappings")

// ringBytes is the room of one CPU's ring when there are few of them: mappings of 40 ms in a storm of execs, four times.
const (
	ringBytes    = 256 << 10
	minRingBytes = 32 << 10
)

// New opens an event and a ring on each CPU that is online.
func New(o Options) (*Reader, error) {
	if o.Delay == 0 {
		o.Delay = 20 * time.Millisecond
	}
	if o.Bytes == 0 {
		o.Bytes = 8 << 20
	}
	if o.Proc == "" {
		o.Proc = "/proc"
	}
	if o.Online == "" {
		o.Online = "/sys/devices/system/cpu/online"
	}
	r := &Reader{
		opts: o, seen: newLRU(dedupEntries), execs: newExecs(execEntries), ids: notes{proc: o.Proc}, watched: make(map[int]bool),
	}
	if err := r.watch(); err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

// watch opens a ring on each CPU that is online and has none.
func (r *Reader) watch() error {
	r.looked = time.Now()
	text, err := os.ReadFile(r.opts.Online)
	if err != nil {
		return fmt.Errorf("open the mapping events: %w", err)
	}
	cpus, err := parseCPUs(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("open the mapping events: CPUs online: %w", err)
	}
	size := ringBytes
	for size > minRingBytes && size*len(cpus) > r.opts.Bytes {
		size /= 2
	}
	for cpu := range r.watched {
		if !slices.Contains(cpus, cpu) {
			delete(r.watched, cpu) // what its ring holds is still read; when it comes back it gets a new one
		}
	}
	for _, cpu := range cpus {
		if r.watched[cpu] {
			continue
		}
		g, err := openRing(cpu, size)
		if errors.Is(err, unix.ENODEV) { // it went offline meanwhile
			continue
		}
		if err != nil {
			return fmt.Errorf("open the mapping events of CPU %d: %w", cpu, err)
		}
		r.rings, r.watched[cpu] = append(r.rings, g), true
	}
	return nil
}

// lookEvery is how often Next looks for CPUs that have come online.
const lookEvery = time.Second

// Stop ends the watch: what is mapped after it returns is not told. What was mapped before is still to be had by Rest.
func (r *Reader) Stop() error {
	var errs []error
	for _, g := range r.rings {
		if err := g.stop(); err != nil {
			errs = append(errs, fmt.Errorf("stop the mapping events: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Close closes the rings. What is in them is gone; see Rest.
func (r *Reader) Close() error {
	var errs []error
	for _, g := range r.rings {
		errs = append(errs, g.close())
	}
	r.rings = nil
	return errors.Join(errs...)
}

// Stats returns the account so far.
func (r *Reader) Stats() Stats { return r.stats }

// Next hands each mapping that is older than Options.Delay to f, oldest first, and returns how many. It does not wait.
func (r *Reader) Next(f func(Mapping)) (int, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, fmt.Errorf("read the boot clock: %w", err)
	}
	n := r.until(uint64(now.Nano()-r.opts.Delay.Nanoseconds()), f)
	if time.Since(r.looked) < lookEvery {
		return n, nil
	}
	return n, r.watch()
}

// Rest hands out everything that is there.
func (r *Reader) Rest(f func(Mapping)) (int, error) { return r.until(^uint64(0), f), nil }

// until hands out what is not younger than a time. Each ring is in order of time, all of them together are not.
func (r *Reader) until(limit uint64, f func(Mapping)) int {
	r.batch = r.batch[:0]
	for _, g := range r.rings {
		for {
			raw, ok := g.peek()
			if !ok {
				break
			}
			rec, err := parse(raw)
			if err == nil && rec.time > limit {
				break
			}
			g.advance()
			if err != nil {
				r.stats.Seen++
				r.stats.Bad++
				continue
			}
			rec.tail = len(r.batch)
			r.batch = append(r.batch, rec)
		}
	}
	slices.SortFunc(r.batch, func(a, b record) int {
		if a.time != b.time {
			if a.time < b.time {
				return -1
			}
			return 1
		}
		return a.tail - b.tail
	})
	n := 0
	for i := range r.batch {
		if r.take(&r.batch[i], f) {
			n++
		}
	}
	for _, g := range r.rings {
		g.free()
	}
	return n
}

// take books one record and hands it on if it is news.
func (r *Reader) take(rec *record, f func(Mapping)) bool {
	switch rec.kind {
	case recordLost:
		r.stats.Seen += rec.lost
		r.stats.Lost += rec.lost
		return false
	case recordExec:
		r.execs.put(rec.pid, rec.time)
		return false
	case recordMapping:
	default:
		return false // the kernel may tell more than we asked for
	}
	r.stats.Seen++
	if !isFile(rec.path) {
		r.stats.NoFile++
		return false
	}
	exec := r.execs.get(rec.pid)
	if !r.seen.add(rec.pid, rec.path, rec.time, exec) {
		r.stats.Duplicate++
		return false
	}
	m := Mapping{
		Pid: rec.pid, Tid: rec.tid, Time: rec.time, Exec: exec, Path: rec.path, BuildID: rec.buildID, Prot: rec.prot,
		Flags: rec.flags,
	}
	if !rec.hasID {
		// The kernel looks into pages that are in memory only. We may read; the process may be gone.
		m.BuildID = r.ids.of(rec)
	}
	r.stats.Delivered++
	f(m)
	return true
}

// isFile tells files from what the kernel gives names to that are none: "[vdso]", "//anon", "anon_inode:...".
func isFile(path []byte) bool {
	return len(path) > 1 && path[0] == '/' && !bytes.HasPrefix(path, []byte("//"))
}

// parseCPUs reads "0-3,5".
func parseCPUs(s string) ([]int, error) {
	var out []int
	for _, part := range strings.Split(s, ",") {
		from, to, ok := strings.Cut(part, "-")
		a, err := strconv.Atoi(from)
		if err != nil {
			return nil, err
		}
		b := a
		if ok {
			if b, err = strconv.Atoi(to); err != nil {
				return nil, err
			}
		}
		if b < a || b > 1<<16 {
			return nil, fmt.Errorf("%q is no range of CPUs", part)
		}
		for ; a <= b; a++ {
			out = append(out, a)
		}
	}
	return out, nil
}
