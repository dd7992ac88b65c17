// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"tetragon/internal/abi"
	"tetragon/internal/kernel"
	"tetragon/internal/policy/plan"
	"tetragon/internal/sensor/gen"
)

// setTable numbers the sets of processes that rules ask for. Equal sets have one number; a number is not given to another
// set while a program tests it.
type setTable struct {
	byKey map[string]int
	rows  map[int]*setRow
	last  int
	seeds map[uint64]int // numbers of an earlier agent, by the hash of the key
}

type setRow struct {
	key   string
	set   plan.Set
	users int
}

func newSetTable() *setTable {
	return &setTable{byKey: make(map[string]int), rows: make(map[int]*setRow)}
}

// setKey is everything that makes two sets differ, as text.
func setKey(s plan.Set) string {
	return fmt.Sprintf("%d\x00%s\x00%v", s.Kind, strings.Join(s.Paths, "\x00"), s.Pids)
}

// number finds the number of a set, a new one if need be. Somebody must use it before forget is called.
func (t *setTable) number(s plan.Set) (int, error) {
	k := setKey(s)
	if n, ok := t.byKey[k]; ok {
		return n, nil
	}
	if len(t.rows) == gen.MaxSets {
		return 0, fmt.Errorf("tell processes apart: all policies name %d different sets of binaries or pids already, which is all that there is room for", gen.MaxSets)
	}
	if n, ok := t.seeds[setHash(k)]; ok && t.rows[n] == nil {
		t.byKey[k], t.rows[n] = n, &setRow{key: k, set: s}
		return n, nil
	}
	// Bit 0 of each word says that the process is known; a number rests as long as possible before it is used again.
	for n := t.last; ; {
		if n = (n + 1) % (gen.MaxSets / 63 * 64); n%64 != 0 && t.rows[n] == nil {
			t.byKey[k], t.rows[n], t.last = n, &setRow{key: k, set: s}, n
			return n, nil
		}
	}
}

// setHash is what a set is known by to another agent.
func setHash(key string) uint64 {
	h := sha256.Sum256([]byte(key))
	return binary.NativeEndian.Uint64(h[:])
}

// seeded lists the sets that have the number which an earlier agent gave them.
func (t *setTable) seeded() map[int]string {
	out := make(map[int]string)
	for n, r := range t.rows {
		if s, ok := t.seeds[setHash(r.key)]; ok && s == n {
			out[n] = r.key
		}
	}
	return out
}

func (t *setTable) use(numbers []int) {
	for _, n := range numbers {
		t.rows[n].users++
	}
}

func (t *setTable) leave(numbers []int) {
	for _, n := range numbers {
		t.rows[n].users--
	}
}

// forget drops the sets that nobody uses.
func (t *setTable) forget() {
	for n, r := range t.rows {
		if r.users == 0 {
			delete(t.rows, n)
			delete(t.byKey, r.key)
		}
	}
}

// classes are the programs that keep with each process which sets it is in, and what it was at its exec. They run only
// while some program asks for that.
type classes struct {
	turn  uint32
	sets  map[int]string // number -> key of the sets that they know
	links []link.Link    // of fork and exec
	progs []*ebpf.Program
	iter  *link.Iter

	adopts bool // what an earlier agent's programs keep is to be taken over
}

// knows says whether the sets of these numbers are among those that the programs know.
func (c *classes) knows(t *setTable, numbers map[int]bool) bool {
	if c == nil {
		return false
	}
	for n := range numbers {
		if c.sets[n] != t.rows[n].key {
			return false
		}
	}
	return true
}

// loadClasses loads and attaches programs for these sets. They do nothing until it is their turn.
func (t *tables) loadClasses(turn uint32, sets *setTable, numbers map[int]bool, f *kernel.Facts, verbose bool) (_ *classes, err error) {
	c := &classes{turn: turn, sets: make(map[int]string)}
	defer func() {
		if err != nil {
			_ = c.close()
		}
	}()
	known := make(map[int]plan.Set)
	for n := range numbers {
		c.sets[n], known[n] = sets.rows[n].key, sets.rows[n].set
	}
	var jobs []*job
	names := []string{"class_fork", "class_exec", "class_exit"}
	attached := len(names)
	for _, name := range append(names, "class_all") {
		spec := t.lib.Programs[name].Copy()
		if name != "class_exit" { // it decides nothing
			var err error
			if spec, err = gen.Classify(known, t.lib.Programs[name], gen.Options{Layout: t.layout}); err != nil {
				return nil, err
			}
		}
		jobs = append(jobs, &job{what: "the program " + name, spec: spec, own: map[string]any{"class_turn": turn}})
	}
	if err := t.load(jobs, f, verbose); err != nil {
		return nil, fmt.Errorf("follow which binary processes run: %w", err)
	}
	for _, j := range jobs {
		c.progs = append(c.progs, j.prog)
	}
	for i, p := range c.progs[:attached] {
		l, err := link.AttachTracing(link.TracingOptions{Program: p})
		if err != nil {
			return nil, fmt.Errorf("follow which binary processes run: attach: %w", err)
		}
		c.links = append(c.links, l)
		if err := t.pins.pinLink(l, "class_%d_%d", turn, i); err != nil {
			return nil, err
		}
	}
	if c.iter, err = link.AttachIter(link.IterOptions{Program: c.progs[attached]}); err != nil {
		return nil, fmt.Errorf("follow which binary processes run: attach the task iterator: %w", err)
	}
	return c, nil
}

// maxPasses bounds how often classes are handed on to children; each pass reaches at least one generation more.
const maxPasses = 64

// run finds the classes of all that lives. Of sets that the programs before these knew, old, what is known of parents and
// ancestors stays: some of those may be gone by now.
func (c *classes) run(t *tables, old *classes) error {
	var kept [abi.LimitSetWords]uint64
	if old != nil {
		for n, k := range c.sets {
			if old.sets[n] == k {
				kept[n/64] |= 1 << (n % 64)
			}
		}
	}
	for i, w := range kept {
		t.set64(t.variable("class_kept", i, 8), w)
	}
	pass, changed := t.variable("class_pass", 0, 4), t.variable("class_changed", 0, 4)
	if c.adopts {
		t.set32(pass, 2)
		if err := c.walk(); err != nil {
			return err
		}
	}
	t.set32(pass, 0)
	if err := c.walk(); err != nil {
		return err
	}
	t.set32(pass, 1)
	for range maxPasses {
		t.set32(changed, 0)
		if err := c.walk(); err != nil {
			return err
		}
		if t.get32(changed) == 0 {
			return nil
		}
	}
	return nil // processes that come and go change it again and again; all that are older than this are right
}

func (c *classes) walk() error {
	r, err := c.iter.Open()
	if err != nil {
		return fmt.Errorf("look which binary each process runs: open the task iterator: %w", err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("look which binary each process runs: run the task iterator: %w", err)
	}
	return nil
}

func (c *classes) close() error {
	var errs []error
	if c.iter != nil {
		errs = append(errs, c.iter.Close())
	}
	for i := len(c.links) - 1; i >= 0; i-- {
		errs = append(errs, drop(c.links[i]))
	}
	for _, p := range c.progs {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}
