// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"tetragon/bpf"
	"tetragon/internal/abi"
	"tetragon/internal/policy/plan"
	"tetragon/internal/sensor/gen"
)

// ruleWords is a set of rules of one program.
type ruleWords = [abi.LimitHookWords]uint64

// rows hands out ranges of the rows of a table.
type rows struct {
	free []span // sorted, never touching
}

type span struct{ first, n int }

func newRows(first, n int) *rows { return &rows{free: []span{{first, n}}} }

// take finds n rows that follow each other.
func (r *rows) take(n int) (int, bool) {
	for i := range r.free {
		s := &r.free[i]
		if s.n < n {
			continue
		}
		first := s.first
		s.first, s.n = s.first+n, s.n-n
		if s.n == 0 {
			r.free = slices.Delete(r.free, i, i+1)
		}
		return first, true
	}
	return 0, false
}

// give takes n rows back.
func (r *rows) give(first, n int) {
	if n == 0 {
		return
	}
	i, _ := slices.BinarySearchFunc(r.free, first, func(s span, f int) int { return s.first - f })
	r.free = slices.Insert(r.free, i, span{first, n})
	if i+1 < len(r.free) && r.free[i].first+r.free[i].n == r.free[i+1].first {
		r.free[i].n += r.free[i+1].n
		r.free = slices.Delete(r.free, i+1, i+2)
	}
	if i > 0 && r.free[i-1].first+r.free[i-1].n == r.free[i].first {
		r.free[i-1].n += r.free[i].n
		r.free = slices.Delete(r.free, i, i+1)
	}
}

// left says how many rows are free.
func (r *rows) left() int {
	n := 0
	for _, s := range r.free {
		n += s.n
	}
	return n
}

// tables are the maps that all hook programs share.
type tables struct {
	pins   *Pins
	lib    *ebpf.CollectionSpec // the library; programs are made of copies of its own
	layout *gen.Layout
	coll   *ebpf.Collection
	hashed bool // classes are in a table, not in task storage
	bss    *ebpf.Memory
	sets   *ebpf.Map         // for the next agent: number of a set -> what it is
	sizes  map[string]uint32 // of the maps as they were made

	slots, rules, stats *rows
	needles             map[string]*needle
	needleRows          *rows
}

type needle struct{ row, users int }

// newTables makes the maps. Those that the base sensor has are taken from it: one ring, one account.
func newTables(b *Base) (*tables, error) {
	lib, err := bpf.LoadHooks()
	if err != nil {
		return nil, fmt.Errorf("read the embedded object: %w", err)
	}
	t := &tables{
		lib: lib, slots: newRows(0, abi.LimitHookSlots), rules: newRows(0, abi.LimitRuleRows), stats: newRows(0, abi.LimitRuleRows),
		pins: b.pins, needles: make(map[string]*needle), needleRows: newRows(0, abi.LimitNeedleRows), sizes: make(map[string]uint32),
	}
	if t.layout, err = gen.ReadLayout(lib); err != nil {
		return nil, err
	}
	if err := lib.Variables["cgrp_subsys"].Set(b.cgroups); err != nil {
		return nil, fmt.Errorf("set constant cgrp_subsys: %w", err)
	}
	if t.hashed = b.spare; t.hashed {
		if err := lib.Variables["class_hash"].Set(true); err != nil {
			return nil, fmt.Errorf("set constant class_hash: %w", err)
		}
	} else {
		lib.Maps["classes_hash"].MaxEntries = 1
		lib.Maps["verdicts_hash"].MaxEntries = 1
	}
	spec := lib.Copy()
	// Until a policy asks for classes, and unless there is something of an earlier agent to be read.
	spec.Maps["classes_hash"].MaxEntries, spec.Maps["classes_hash_before"].MaxEntries = 1, 1
	spec.Programs = nil
	replace := make(map[string]*ebpf.Map)
	for _, name := range []string{"events", "procs", ".data.account"} {
		m := b.coll.Maps[name]
		if m == nil {
			return nil, fmt.Errorf("find the map %s of the base sensor: not there", name)
		}
		spec.Maps[name].MaxEntries = m.MaxEntries()
		replace[name] = m
	}
	// What an earlier agent's programs have ordered ours carry out: a call may be under way for as long as it likes.
	if prior := b.pins.Prior(); prior != nil && !prior.removed {
		if kept, counted := prior.adopt(t.verdicts(), layoutVerdicts), prior.adopt("orders", layoutVerdicts); kept != nil && counted != nil {
			replace[t.verdicts()], replace["orders"] = kept, counted
		}
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count the CPUs: %w", err)
	}
	spec.Maps["hook_bufs"].MaxEntries = uint32(abi.LimitBufLevels * cpus)
	if err := spec.Variables["wake_bytes"].Set(b.coll.Maps["events"].MaxEntries() / 4); err != nil {
		return nil, fmt.Errorf("set constant wake_bytes: %w", err)
	}
	for _, name := range large {
		spec.Maps[name].MaxEntries = smallRows
	}
	for name, m := range spec.Maps {
		t.sizes[name] = m.MaxEntries
	}
	if t.coll, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replace}); err != nil {
		return nil, fmt.Errorf("make the tables of policies: %w", err)
	}
	// A table of programs is emptied when nobody has it open any more: what runs by it only does not count.
	for _, name := range []string{"enter_bodies", "exit_bodies", t.classes(), t.verdicts(), "orders"} {
		if err := t.pins.pinMap(t.coll.Maps[name], name); err != nil {
			t.coll.Close()
			return nil, err
		}
	}
	if t.pins.Lasting() {
		if t.sets, err = ebpf.NewMap(&ebpf.MapSpec{Name: "sets", Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: gen.MaxSets * 2}); err == nil {
			err = t.pins.pinMap(t.sets, "sets")
		}
		if err != nil {
			t.coll.Close()
			return nil, fmt.Errorf("make the map of sets: %w", err)
		}
	}
	if t.bss, err = t.coll.Maps[".bss"].Memory(); err != nil {
		t.coll.Close()
		return nil, fmt.Errorf("map the switches of policies: %w", err)
	}
	return t, nil
}

func (t *tables) close() {
	t.coll.Close()
	if t.sets != nil {
		_ = t.sets.Close()
	}
}

// large are tables that take megabytes, and that only programs with rate limits, tracked sockets, kept arguments or merged calls use. They
// are small until such a program comes: programs that are loaded before have no use for the rows.
var large = []string{"limits", "socks", "entries", "merges", "merges_ended"}

const smallRows = 64

// grow makes a large table that is small still. Programs that are loaded from now on work with it.
func (t *tables) grow(name string) error {
	spec := t.lib.Maps[name].Copy()
	if t.sizes[name] == spec.MaxEntries {
		return nil
	}
	m, err := ebpf.NewMap(spec)
	if err != nil {
		return fmt.Errorf("make the table %s: %w", name, err)
	}
	_ = t.coll.Maps[name].Close()
	t.coll.Maps[name], t.sizes[name] = m, spec.MaxEntries
	return nil
}

// growFor makes the tables that a program uses.
func (t *tables) growFor(p *plan.Program) error {
	for i := range p.Rules {
		d := &p.Rules[i].Do
		if d.RateLimit > 0 {
			if err := t.grow("limits"); err != nil {
				return err
			}
		}
		if len(d.Track) > 0 {
			if err := t.grow("socks"); err != nil {
				return err
			}
		}
	}
	if p.KeepsArgs() {
		if err := t.grow("entries"); err != nil {
			return err
		}
	}
	for i := range p.Values {
		if p.Values[i].Owner != 0 {
			return t.grow("socks")
		}
	}
	return nil
}

// classes is the name of the map that classes are kept in here.
func (t *tables) classes() string {
	if t.hashed {
		return "classes_hash"
	}
	return "classes"
}

// verdicts is the name of the map that verdicts are kept in here.
func (t *tables) verdicts() string {
	if t.hashed {
		return "verdicts_hash"
	}
	return "verdicts"
}

// renewClasses makes what is kept with each process anew, empty. Programs that are loaded from now on work with it.
func (t *tables) renewClasses() error {
	m, err := ebpf.NewMap(t.lib.Maps[t.classes()].Copy())
	if err != nil {
		return fmt.Errorf("make the classes of processes: %w", err)
	}
	_ = t.coll.Maps[t.classes()].Close()
	t.coll.Maps[t.classes()], t.sizes[t.classes()] = m, m.MaxEntries()
	return t.pins.pinMap(m, t.classes())
}

// before puts a map in the place of what an earlier agent's programs keep with processes: theirs, or an empty one. Programs
// that are loaded from now on read it.
func (t *tables) before(m *ebpf.Map) (err error) {
	name := t.classes() + "_before"
	if m != nil {
		m, err = m.Clone()
	} else {
		spec := t.lib.Maps[name].Copy()
		if t.hashed {
			spec.MaxEntries = 1
		}
		m, err = ebpf.NewMap(spec)
	}
	if err != nil {
		return fmt.Errorf("open the classes of an earlier agent: %w", err)
	}
	_ = t.coll.Maps[name].Close()
	t.coll.Maps[name], t.sizes[name] = m, m.MaxEntries()
	return nil
}

// noteSets tells the next agent which number each set has.
func (t *tables) noteSets(sets *setTable) error {
	if t.sets == nil {
		return nil
	}
	var n uint32
	var h uint64
	for it := t.sets.Iterate(); it.Next(&n, &h); {
		if r := sets.rows[int(n)]; r == nil || setHash(r.key) != h {
			if err := t.sets.Delete(n); err != nil {
				return fmt.Errorf("note the sets of processes: %w", err)
			}
		}
	}
	for n, r := range sets.rows {
		if err := t.sets.Put(uint32(n), setHash(r.key)); err != nil {
			return fmt.Errorf("note the sets of processes: %w", err)
		}
	}
	return nil
}

// bytes is the kernel memory of the tables.
func (t *tables) bytes() uint64 {
	var sum uint64
	for name, m := range t.coll.Maps {
		if name == "events" || name == "procs" || name == ".data.account" {
			continue // the base sensor's
		}
		if info, err := m.Info(); err == nil {
			n, _ := info.Memlock()
			sum += n
		}
	}
	return sum
}

// variable finds element i of size bytes of a global.
func (t *tables) variable(name string, i, size int) int64 {
	return int64(t.lib.Variables[name].Offset) + int64(i*size)
}

// set writes a global's bytes. All are within the mapping, so that nothing can fail; a copy of up to eight aligned bytes is
// one store.
func (t *tables) set(at int64, b []byte) {
	if n, err := t.bss.WriteAt(b, at); err != nil || n != len(b) {
		panic(fmt.Sprintf("bug: write %d bytes of globals at %d: %v", len(b), at, err))
	}
}

// enable writes which rules of a slot are on.
func (t *tables) enable(slot int, words ruleWords) {
	for i, w := range words {
		t.set64(t.variable("slots", slot, abi.SlotStateSize)+int64(8*i), w)
	}
}

func (t *tables) set16(at int64, v uint16) {
	t.set(at, binary.NativeEndian.AppendUint16(nil, v))
}

func (t *tables) set32(at int64, v uint32) {
	t.set(at, binary.NativeEndian.AppendUint32(nil, v))
}

func (t *tables) set64(at int64, v uint64) {
	t.set(at, binary.NativeEndian.AppendUint64(nil, v))
}

func (t *tables) get32(at int64) uint32 {
	var b [4]byte
	if _, err := t.bss.ReadAt(b[:], at); err != nil {
		panic(fmt.Sprintf("bug: read globals at %d: %v", at, err))
	}
	return binary.NativeEndian.Uint32(b[:])
}

func (t *tables) get64(at int64) uint64 {
	var b [8]byte
	if _, err := t.bss.ReadAt(b[:], at); err != nil {
		panic(fmt.Sprintf("bug: read globals at %d: %v", at, err))
	}
	return binary.NativeEndian.Uint64(b[:])
}

// want sets whether a system call goes to the bodies.
func (t *tables) want(dir, compat, nr int, yes bool) {
	var b [8]byte
	at := t.variable("sys_wanted", (dir*2+compat)*abi.LimitSysNumbers/64+nr/64, 8)
	if _, err := t.bss.ReadAt(b[:], at); err != nil {
		panic(fmt.Sprintf("bug: read the wanted system calls: %v", err))
	}
	w := binary.NativeEndian.Uint64(b[:])
	if yes {
		w |= 1 << (nr % 64)
	} else {
		w &^= 1 << (nr % 64)
	}
	t.set64(at, w)
}

// first sets the body that comes first for a system call.
func (t *tables) first(dir, compat, nr, body int) {
	t.set16(t.variable("body_first", (dir*2+compat)*abi.LimitSysNumbers+nr, 2), uint16(body))
}

// next sets the body that comes after a body.
func (t *tables) next(dir, body, after int) {
	t.set16(t.variable("body_next", dir*abi.LimitSysBodies+body, 2), uint16(after))
}

// writeRules fills the rules of one program.
func (t *tables) writeRules(base int, rs []abi.Rule) error {
	for i := range rs {
		if err := t.coll.Maps["rules"].Put(uint32(base+i), &rs[i]); err != nil {
			return fmt.Errorf("write rule %d: %w", base+i, err)
		}
	}
	return nil
}

// clearStats sets counters to 0.
func (t *tables) clearStats(first, n int) error {
	m := t.coll.Maps["rule_stats"]
	zero := make([]abi.RuleStat, ebpf.MustPossibleCPU())
	for i := range n {
		if err := m.Put(uint32(first+i), zero); err != nil {
			return fmt.Errorf("clear the counters of rule %d: %w", first+i, err)
		}
	}
	return nil
}

// stat reads the counters of one rule, of all CPUs together.
func (t *tables) stat(row int) (RuleStats, error) {
	var sum RuleStats
	var each []abi.RuleStat
	if err := t.coll.Maps["rule_stats"].Lookup(uint32(row), &each); err != nil {
		return sum, fmt.Errorf("read the counters of rule %d: %w", row, err)
	}
	for _, s := range each {
		sum.Matched += s.Matched
		sum.Posted += s.Posted
		sum.Limited += s.Limited
		sum.NoPost += s.Nopost
		sum.Lost += s.Lost
		sum.Signal += s.Signal
		sum.MonitorSignal += s.MonitorSignal
		sum.Override += s.Override
		sum.MonitorOverride += s.MonitorOverride
		sum.Notify += s.Notify
		sum.MonitorNotify += s.MonitorNotify
		sum.Overwritten += s.NotifyOverwritten
		sum.Unused += s.NotifyUnused
		sum.Merged += s.Merged
		sum.Set += s.Set
		sum.MonitorSet += s.MonitorSet
	}
	return sum, nil
}

// addNeedle gives a string that is searched for a row; equal strings share one.
func (t *tables) addNeedle(s string) (int, error) {
	if n := t.needles[s]; n != nil {
		n.users++
		return n.row, nil
	}
	if len(s) > abi.LimitNeedleMax {
		return 0, fmt.Errorf("search for %.20q...: it has %d bytes, %d are possible", s, len(s), abi.LimitNeedleMax)
	}
	row, ok := t.needleRows.take(1)
	if !ok {
		return 0, fmt.Errorf("search for %q: all policies search for %d strings already, which is all that there is room for", s, len(t.needles))
	}
	var v [4 + abi.LimitNeedleMax]byte
	binary.NativeEndian.PutUint32(v[:], uint32(len(s)))
	copy(v[4:], s)
	if err := t.coll.Maps["needles"].Put(uint32(row), v[:]); err != nil {
		t.needleRows.give(row, 1)
		return 0, fmt.Errorf("search for %q: %w", s, err)
	}
	t.needles[s] = &needle{row, 1}
	return row, nil
}

func (t *tables) dropNeedle(s string) {
	n := t.needles[s]
	if n.users--; n.users == 0 {
		t.needleRows.give(n.row, 1)
		delete(t.needles, s)
	}
}

// errFull says that there is no room for more programs or rules.
var errFull = errors.New("no room for more")
