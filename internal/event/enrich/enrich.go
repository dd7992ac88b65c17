// SPDX-License-Identifier: Apache-2.0

// Package enrich makes events of records: it keeps the process table in step with them and joins each event with its
// process, parent and ancestors.
//
// It takes decoded records from event/decode, in the order of the ring, and hands events to the sinks. Until the start-up
// snapshot is complete it holds everything back, then tells the processes that lived before, parents first, and after
// them what happened meanwhile; from then on nothing waits.
//
// Not here: byte layouts (decode), how an event is written (encode), what is let through (filter).
//
// A record makes at most one event, that of a hook one for each policy; a record that makes none is counted under the
// reason why. A process whose record
// was lost is taken from a later full snapshot of the kernel's own state, under the key that the kernel gave it.
// Not safe for concurrent use: one goroutine calls everything here.
package enrich

import (
	"bytes"
	"path"
	"slices"

	"tetragon/internal/abi"
	"tetragon/internal/event"
	"tetragon/internal/event/decode"
	"tetragon/internal/metrics"
	"tetragon/internal/policy/plan"
	"tetragon/internal/process"
)

// Options of an Enricher.
type Options struct {
	Table  *process.Table
	Ledger *metrics.Ledger

	RealPath  bool     // say the real path of a binary where it differs
	Env       bool     // keep the environment
	EnvNames  []string // only these variables; all when empty
	Ancestors bool
	// Programs finds the program whose record carries the id; nil if it is not known any more.
	Programs func(id uint32) *plan.Program
	// Told, if set, finds the program that has told a record's call before; see sensor.Twins. It is asked once for each
	// record of a hook; value returns the bytes of one of the program's values, nil if the record has none.
	Told func(program, tid uint32, time uint64, value func(i int) []byte) *plan.Program
	// Ancestors for the events of policies too.
	KprobeAncestors, TracepointAncestors, UprobeAncestors, UsdtAncestors, LoaderAncestors, LSMAncestors bool
	Proc                                                                                                string // where procfs is; "/proc" when empty
	Passwd                                                                                              string // passwd file for login names; none when empty

	// RedactArgs and RedactEnv, if set, take secrets out before anything is stored. The first argument is the binary.
	RedactArgs, RedactEnv func(binary, text string) string
	// Ask, if set, gets pages and looks up names that rules order with their events. It must not wait.
	Ask Asker
	// Ended, if set, is told which of the processes whose equal calls are counted has ended, or is another one now. It must not
	// wait.
	Ended func(pid uint32)
	// HostNs, if set, is told the namespaces of pid 1 before the first event is made.
	HostNs func(event.Namespaces)
}

// Asker does what rules order that concerns other machines.
type Asker interface {
	Get(url string)
	Lookup(name string)
}

// The reasons why a record makes no event.
const (
	absorbed       = iota // it only changed the table
	duplicate             // a snapshot of a process that is known
	unknownProgram        // of a hook: nobody knows the program that sent it
	noRule                // of a hook: it names no rule of the program
	toldBefore            // of a hook: another program has told all of it, whose place this one takes
	numReasons     = iota
)

// Enricher makes events of records.
type Enricher struct {
	opts     Options
	tab      *process.Table
	stage    *metrics.Stage
	names    map[string]bool
	passwd   *passwd
	nameless uint64

	offset int64 // wall clock = boot clock + offset
	hostNs event.Namespaces

	starting bool             // the first snapshot is not complete
	found    []*process.Entry // processes of the first snapshot
	held     [][]byte         // other records that came meanwhile
	heldMaps []Mapping
	past     []pastRecord // what an earlier agent's ring still held, in its order

	moved map[event.Key]string // containers of processes that moved before they were told of

	asked     uint64 // boot-clock time when the last full snapshot was asked for
	snapshots uint64 // full snapshots seen so far
	began     uint64 // boot-clock time of the first record of the present one; 0 outside one

	pieces pieces
	events []event.Event
	buf    []byte
	cwd    []byte

	merged map[uint32]bool // processes whose equal calls are counted

	layouts map[uint32]*layout
	alike   uint64 // last number of an event.Hook.Alike

	layout   *layout // the last one of this batch; nil: none
	layoutID uint32
	long     longValues
	values   []decode.Value     // of the record at hand, by index; Kind 0: not there
	valueAt  func(i int) []byte // valueData, made once
	ima      *abi.ValIma        // hash of the file that the record at hand is about; nil: it tells none
	stacks   [2]decode.Value    // likewise, of the kernel and of the process
	symbols  symbols
	modules  modules
	mapsOf   uint32 // process that maps is of
	maps     []region

	// What the events of a batch point to.
	hooks     batch[event.Hook]
	loaders   batch[event.Loader]
	throttled map[uint64]string // cgroups that are held back, by id: their names
	args      batch[event.Arg]
	socks     batch[event.Sock]
	texts     batch[byte]
	strangers batch[event.Process]
}

// New returns an Enricher that waits for the first snapshot.
func New(o Options) *Enricher {
	e := &Enricher{opts: o, tab: o.Table, starting: true, throttled: make(map[uint64]string), moved: make(map[event.Key]string)}
	e.stage = o.Ledger.Stage("enrich", "state_only", "already_known", "unknown_program", "no_rule", "told_before")
	e.valueAt = e.valueData
	if len(o.EnvNames) > 0 {
		e.names = make(map[string]bool)
		for _, n := range o.EnvNames {
			e.names[n] = true
		}
	}
	if o.Passwd != "" {
		e.passwd = &passwd{path: o.Passwd}
	}
	return e
}

// Begin starts a batch. offset is what the wall clock is ahead of the boot clock now, ns.
func (e *Enricher) Begin(offset int64) {
	e.offset = offset
	clear(e.events)
	e.events = e.events[:0]
	e.tab.Reuse()
	e.hooks.reset()
	e.loaders.reset()
	e.args.reset()
	e.socks.reset()
	e.texts.reset()
	e.strangers.reset()
	e.maps, e.layout = nil, nil
	e.long.age()
	e.symbols.age()
	e.modules.age()
}

// Events returns the events of the batch; they are valid until the next Begin.
func (e *Enricher) Events() []event.Event { return e.events }

// Started says whether the first snapshot is complete.
func (e *Enricher) Started() bool { return !e.starting }

// StartEmpty ends the starting phase without a snapshot, on a kernel that cannot make one.
func (e *Enricher) StartEmpty() {
	e.stage.Seen(1)
	e.start()
}

// Recover makes ready for a full snapshot, whose records fill in what lost ones would have told. now is the boot clock,
// ns: what an older snapshot looked at before then may still come.
func (e *Enricher) Recover(now uint64) { e.asked, e.began = now, 0 }

// Lost tells of losses, in the stream of events.
func (e *Enricher) Lost(ls []event.Loss) {
	e.stage.Seen(1)
	e.emit(event.Event{Kind: event.KindLoss, Time: latest(ls), Losses: ls})
}

// latest is the time of the youngest loss: that is what the event is about.
func latest(ls []event.Loss) int64 {
	var at int64
	for i := range ls {
		at = max(at, ls[i].Until)
	}
	return at
}

// pastRecord is a record that an earlier agent had no time to read.
type pastRecord struct {
	raw  []byte
	both bool // the present kernel half may have told the same
}

// bothWithin is how far apart two kernel halves may date the same thing: they are asked one after the other.
const bothWithin = 50_000_000

// Past takes in a record of a process that an earlier agent's kernel half made when nobody read it. It comes before all that
// Record takes, and before the first snapshot. both says that the present kernel half was there as well, perhaps.
func (e *Enricher) Past(r *decode.Record, both bool) {
	e.stage.Seen(1)
	e.past = append(e.past, pastRecord{aligned(r.Raw), both})
}

// aligned copies a record to an address that decode accepts: the allocator aligns what is a multiple of 8 long to 8.
func aligned(raw []byte) []byte {
	c := make([]byte, (len(raw)+7)&^7)
	return c[:copy(c, raw)]
}

// Record takes in one record, which is not kept beyond the call.
func (e *Enricher) Record(r *decode.Record) {
	e.stage.Seen(1)
	if e.starting {
		switch r.Kind {
		case abi.KindSnapshot:
			e.found = append(e.found, e.fromSnapshot(r))
			return
		case abi.KindSnapEnd:
			e.start()
			return
		}
		e.held = append(e.held, aligned(r.Raw))
		return
	}
	e.record(r)
}

// start ends the starting phase.
func (e *Enricher) start() {
	e.starting = false
	// A second snapshot, made because the end of the first was lost, tells everything again.
	seen := make(map[event.Key]bool, len(e.found))
	e.found = slices.DeleteFunc(e.found, func(p *process.Entry) bool {
		again := seen[p.Key]
		seen[p.Key] = true
		if again {
			e.drop(duplicate)
		}
		return again
	})
	e.kernel()
	for _, p := range e.found {
		if p.Key.Pid == 1 {
			e.hostNs = p.Ns
			if e.opts.HostNs != nil {
				e.opts.HostNs(p.Ns)
			}
		}
	}
	// What lived before the earlier agent's records comes before them; what they tell of comes from them, and is right there.
	early, late := e.splitByPast()
	for _, p := range parentsFirst(early) {
		e.setUser(p)
		e.insert(p)
	}
	var r decode.Record
	for i := range e.past {
		if decode.Decode(e.past[i].raw, &r) != nil { // it has been decoded once already
			continue
		}
		if e.past[i].both && e.toldAgain(&r) {
			e.drop(duplicate)
			continue
		}
		e.record(&r)
	}
	for _, p := range parentsFirst(late) {
		e.setUser(p)
		e.insert(p)
	}
	e.found, e.past = nil, nil
	e.drop(absorbed) // the end mark
	for _, raw := range e.held {
		if decode.Decode(raw, &r) == nil { // it has been decoded once already
			e.record(&r)
		}
	}
	e.held = nil
	for i := range e.heldMaps {
		e.mapping(&e.heldMaps[i])
	}
	e.heldMaps = nil
}

// splitByPast parts the processes of the snapshot in those that were there before the past records, and those that came
// while they were made but are told by none of them.
func (e *Enricher) splitByPast() (early, late []*process.Entry) {
	if len(e.past) == 0 {
		return e.found, nil
	}
	born := make(map[event.Key]bool)
	var first uint64
	var r decode.Record
	for i := range e.past {
		if decode.Decode(e.past[i].raw, &r) != nil {
			continue
		}
		if first == 0 || r.Time < first {
			first = r.Time
		}
		if (r.Kind == abi.KindExec || r.Kind == abi.KindFork) && !(e.past[i].both && e.toldAgain(&r)) {
			born[event.Key{Pid: r.Pid, Ktime: r.Ktime}] = true
		}
	}
	for _, p := range e.found {
		switch {
		case born[p.Key]:
			e.drop(duplicate)
		case p.Key.Ktime < first:
			early = append(early, p)
		default:
			late = append(late, p)
		}
	}
	return early, late
}

// toldAgain says whether a record of the present kernel half tells the same as one of the past.
func (e *Enricher) toldAgain(past *decode.Record) bool {
	var r decode.Record
	for _, raw := range e.held {
		if decode.Decode(raw, &r) == nil && r.Kind == past.Kind && r.Pid == past.Pid && r.Time >= past.Time && r.Time-past.Time < bothWithin {
			return true
		}
	}
	return false
}

// kernel puts in the pseudo process that is the parent of pids 1 and 2, and tells of it.
func (e *Enricher) kernel() {
	k := &process.Entry{Process: event.Process{
		Key: event.KernelKey, Parent: event.KernelKey, StartTime: e.wall(1), AUID: unset,
		Flags: event.FlagProcFS, Binary: "<kernel>",
	}}
	e.tab.Add(k)
	e.stage.Seen(1)
	e.emit(event.Event{Kind: event.KindExec, Time: k.StartTime, Process: &k.Process, Parent: &k.Process})
}

const unset = 4294967295 // an id that is not set

// parentsFirst orders processes so that each comes after its parent, and otherwise by start.
func parentsFirst(ps []*process.Entry) []*process.Entry {
	slices.SortStableFunc(ps, func(a, b *process.Entry) int {
		switch {
		case a.Start != b.Start && a.Start < b.Start:
			return -1
		case a.Start != b.Start:
			return 1
		}
		return int(int64(a.Key.Pid) - int64(b.Key.Pid))
	})
	// A parent may be younger: whoever is orphaned is given to pid 1 or to a subreaper.
	byPid := make(map[uint32]*process.Entry, len(ps))
	for _, p := range ps {
		byPid[p.Key.Pid] = p
	}
	out := make([]*process.Entry, 0, len(ps))
	done := make(map[*process.Entry]bool, len(ps))
	for _, p := range ps {
		var chain []*process.Entry
		for q := p; q != nil && !done[q]; q = byPid[q.Parent.Pid] {
			done[q] = true
			chain = append(chain, q)
		}
		for i := len(chain) - 1; i >= 0; i-- {
			out = append(out, chain[i])
		}
	}
	return out
}

// insert puts in a process from a snapshot and tells of it, unless it is a kernel thread or never did an exec that was
// to be told.
func (e *Enricher) insert(p *process.Entry) {
	if p.Parent.Ktime == 0 {
		if pp := e.tab.Live(p.Parent.Pid); pp != nil {
			p.Parent = pp.Key
			p.InInitTree = p.InInitTree || pp.InInitTree
			if p.InInitTree {
				p.Flags |= event.FlagInInitTree
			}
		}
	}
	e.tab.Add(p)
	if p.Kthread {
		e.drop(absorbed)
		return
	}
	e.told(event.KindExec, p.StartTime, p)
}

func (e *Enricher) record(r *decode.Record) {
	switch r.Kind {
	case abi.KindExec:
		e.exec(r)
		e.mergedEnd(r.Pid)
	case abi.KindFork:
		e.fork(r)
	case abi.KindExit:
		e.exit(r)
		e.mergedEnd(r.Pid)
	case abi.KindData:
		e.pieces.add(event.Key{Pid: r.Pid, Ktime: r.Ktime}, r.Data)
		e.drop(absorbed)
	case abi.KindCgroup:
		e.cgroup(r)
	case abi.KindThrottle:
		e.throttle(r)
	case abi.KindHook, abi.KindHookMerged:
		e.hook(r)
		e.long.done()
	case abi.KindHookData:
		e.long.add(r)
		e.drop(absorbed)
	case abi.KindSnapshot:
		e.recover(r)
	case abi.KindSnapEnd:
		if r.Time >= e.asked {
			e.recovered()
		}
		e.drop(absorbed)
	}
}

func (e *Enricher) drop(reason int) { e.stage.Drop(reason, 1) }

func (e *Enricher) wall(boot uint64) int64 { return int64(boot) + e.offset }

// told makes an event of a process and its relatives.
func (e *Enricher) told(kind event.Kind, at int64, p *process.Entry) {
	ev := event.Event{Kind: kind, Time: at, Tid: p.Key.Pid, Process: &p.Process}
	if pp := e.tab.Parent(p); pp != nil {
		ev.Parent = &pp.Process
		if e.opts.Ancestors {
			ev.Ancestors = e.ancestors(pp)
		}
	}
	e.emit(ev)
}

func (e *Enricher) emit(ev event.Event) { *e.next() = ev }

// next adds an event that says nothing yet, to be filled in.
func (e *Enricher) next() *event.Event {
	e.stage.Deliver(1)
	n := len(e.events)
	if n == cap(e.events) {
		e.events = append(e.events, event.Event{})
	} else {
		e.events = e.events[:n+1] // Begin has cleared it
	}
	return &e.events[n]
}

// ancestors lists them from the grandparent up to pid 1 or 2. A chain longer than that of any real machine ends: two
// entries cannot refer to each other, but a bug must not hang the lane.
func (e *Enricher) ancestors(p *process.Entry) []*event.Process {
	var out []*event.Process
	for i := 0; i < 1024 && p.Key.Pid > 2; i++ {
		p = e.tab.Parent(p)
		if p == nil || p.Key.Pid == 0 {
			break
		}
		out = append(out, &p.Process)
	}
	return out
}

func (e *Enricher) exec(r *decode.Record) {
	x := r.Exec
	prev := e.tab.Live(r.Pid)
	if prev != nil && prev.Key == (event.Key{Pid: r.Pid, Ktime: r.Ktime}) {
		// A snapshot looked at the process between the exec and the sending of this record.
		e.pieces.take(prev.Key)
		e.drop(duplicate)
		return
	}
	p := e.tab.Make()
	p.Start = x.Start
	p.Key = event.Key{Pid: r.Pid, Ktime: r.Ktime}
	p.Parent = event.Key{Pid: x.ParentPid, Ktime: x.ParentKtime}
	p.Flags = event.FlagExecve
	clone := r.Flags&abi.FlagClone != 0
	if prev != nil && prev.Start != 0 && x.Start != 0 && prev.Start != x.Start {
		prev = nil // another user of the pid, whose end was lost
	}
	if r.Flags&abi.FlagNew != 0 {
		// The kernel half had no state: a thread that took its leader's place, on a kernel that does not let us see
		// it coming. We know what it was.
		switch {
		case prev != nil && prev.Flags&event.FlagExecve != 0 && prev.Refcnt == 1:
			p.Parent, clone = prev.Parent, true
		case prev != nil:
			p.Parent = prev.Key
		default:
			if pp := e.tab.Live(x.ParentPid); pp != nil && (pp.Start == x.ParentStart || pp.Start == 0) {
				p.Parent = pp.Key
			} else if x.ParentPid == 0 {
				p.Parent = event.KernelKey
			}
		}
	} else if x.ParentKtime == 0 {
		if x.ParentPid == 0 {
			p.Parent = event.KernelKey
		} else if prev != nil && clone { // the kernel half met the child before it met the parent
			p.Parent = prev.Parent
		}
	}
	if clone {
		p.Flags |= event.FlagClone
	}
	p.InInitTree = r.Flags&abi.FlagInTree != 0 || (prev != nil && prev.InInitTree)
	e.fill(p, r)
	p.StartTime = e.wall(r.Ktime)
	e.tab.Add(p)
	e.told(event.KindExec, p.StartTime, p)
}

var privileges = [...]struct {
	bit  uint32
	says event.PrivilegeChange
}{{abi.PrivRaisedFilecap, event.RaisedFileCap}, {abi.PrivRaisedSetuid, event.RaisedSetuid}, {abi.PrivRaisedSetgid, event.RaisedSetgid}}

var recordFlags = [...]struct {
	bit  uint16
	says event.Flags
}{
	{abi.FlagRootCwd, event.FlagRootCwd}, {abi.FlagCutCwd, event.FlagUnresolvedCwd}, {abi.FlagBadName, event.FlagErrorFilename},
	{abi.FlagBadArgs, event.FlagErrorArgs}, {abi.FlagBadCwd, event.FlagErrorCwd}, {abi.FlagBadEnv, event.FlagErrorEnvs},
	{abi.FlagBadCgroup, event.FlagErrorCgroup},
}

// fill sets what an exec and a snapshot have in common.
func (e *Enricher) fill(p *process.Entry, r *decode.Record) {
	x := r.Exec
	p.UID, p.AUID, p.NsPid = x.Ids[4], x.Auid, x.Nspid
	p.Creds = event.Creds{
		UID: x.Ids[0], GID: x.Ids[1], SUID: x.Ids[2], SGID: x.Ids[3], EUID: x.Ids[4], EGID: x.Ids[5], FSUID: x.Ids[6], FSGID: x.Ids[7],
		SecureBits: x.Securebits, Inheritable: x.Caps[0], Permitted: x.Caps[1], Effective: x.Caps[2],
	}
	p.Ns = event.Namespaces{
		UTS: x.Ns[abi.NsUts], IPC: x.Ns[abi.NsIpc], Mnt: x.Ns[abi.NsMnt], Pid: x.Ns[abi.NsPid], PidForChildren: x.Ns[abi.NsPidChildren],
		Net: x.Ns[abi.NsNet], Time: x.Ns[abi.NsTime], TimeForChildren: x.Ns[abi.NsTimeChildren], Cgroup: x.Ns[abi.NsCgroup], User: x.Ns[abi.NsUser],
	}
	p.Binprm.Setuid, p.Binprm.Setgid = x.Priv&abi.PrivSetuid != 0, x.Priv&abi.PrivSetgid != 0
	if x.Priv != 0 {
		for _, c := range privileges {
			if x.Priv&c.bit != 0 {
				p.Binprm.PrivilegesChanged |= c.says
			}
		}
	}
	if x.Inode != 0 && x.Nlink == 0 {
		p.Binprm.Unlinked, p.Binprm.Inode, p.Binprm.Links = true, x.Inode, 0
	}

	if r.Flags&^(abi.FlagNew|abi.FlagClone|abi.FlagExeced) != 0 {
		for _, f := range recordFlags {
			if r.Flags&f.bit != 0 {
				p.Flags |= f.says
			}
		}
	}
	if p.InInitTree {
		p.Flags |= event.FlagInInitTree
	}

	args, env := r.Args, r.Env
	var l *long
	if int(x.ArgsTotal) > len(r.Args) || int(x.EnvTotal) > len(r.Env) {
		l = e.pieces.take(p.Key)
	}
	if int(x.ArgsTotal) > len(r.Args) {
		if l != nil && len(l.args) > 0 {
			args = l.args
			p.Flags |= event.FlagDataArgs
		}
		if len(args) < int(x.ArgsTotal) {
			p.Flags |= event.FlagTruncArgs
		}
	}
	if e.opts.Env && l != nil && len(l.env) > 0 {
		env = l.env
	}

	// All of a process's text is one string: one allocation, and the fields are parts of it.
	e.cwd = e.cwd[:0]
	if r.Flags&abi.FlagBadCwd == 0 {
		e.cwd = decode.AppendPath(e.cwd, r.Cwd)
	}
	b := appendBinary(e.buf[:0], r, e.cwd)
	nBinary := len(b)
	nReal := nBinary
	if e.opts.RealPath && len(r.Path) > 0 && r.Kind == abi.KindExec && r.Flags&(abi.FlagScript|abi.FlagCutPath) == 0 {
		b = decode.AppendPath(b, r.Path)
		nReal = len(b)
		if bytes.Equal(b[nBinary:], b[:nBinary]) || x.Nlink == 0 {
			b, nReal = b[:nBinary], nBinary
		}
	}
	b = append(b, e.cwd...)
	nCwd := len(b)
	id := containerID(r.Cgroup)
	b = append(b, id...)
	nID := len(b)
	b = appendArgs(b, args)
	e.buf = b
	text := string(b)
	p.Binary, p.Binprm.Path, p.Cwd, p.Docker, p.Arguments = text[:nBinary], text[nBinary:nReal], text[nReal:nCwd], text[nCwd:nID], text[nID:]
	if len(r.Name) >= 255 {
		p.Flags |= event.FlagDataFilename
	}
	if e.opts.RedactArgs != nil {
		p.Arguments = e.opts.RedactArgs(p.Binary, p.Arguments)
	}
	if e.opts.Env && len(env) > 0 {
		var redact func(string) string
		if e.opts.RedactEnv != nil {
			redact = func(s string) string { return e.opts.RedactEnv(p.Binary, s) }
		}
		p.Env = environment(env, e.names, redact)
	}
	e.setUser(p)
}

// setUser names the user of a process that has pid 1's idea of users and files. Until pid 1 is known, it names nobody.
func (e *Enricher) setUser(p *process.Entry) {
	if e.passwd != nil && e.hostNs.Mnt != 0 && p.Ns.Mnt == e.hostNs.Mnt && p.Ns.User == e.hostNs.User {
		p.User = e.passwd.name(p.UID, p.StartTime)
		if p.User == "" {
			e.nameless++
		}
	}
}

// Nameless is how many processes should have had a login name, and their user has none.
func (e *Enricher) Nameless() uint64 { return e.nameless }

// appendBinary writes the path of what is executed: the name given to execve, made absolute and clean. A name that goes
// through a descriptor or /proc says nothing lasting; there, it is the path of the file itself.
func appendBinary(b []byte, r *decode.Record, cwd []byte) []byte {
	if r.Kind == abi.KindSnapshot {
		switch {
		case r.Flags&abi.FlagKthread != 0:
			return append(append(append(b, '['), r.Name...), ']')
		case len(r.Path) == 0:
			return append(b, r.Name...) // a leader that left before its threads: only its name is left
		}
		return appendReal(b, r)
	}
	through := bytes.HasPrefix(r.Name, []byte("/proc/")) || bytes.HasPrefix(r.Name, []byte("/dev/fd/"))
	switch {
	case through && len(r.Path) > 0 && r.Flags&abi.FlagScript == 0:
		return appendReal(b, r)
	case len(r.Name) > 0 && r.Name[0] == '/':
		if clean(r.Name) {
			return append(b, r.Name...)
		}
		return append(b, path.Clean(string(r.Name))...)
	case len(r.Name) == 0:
		return append(b, cwd...)
	}
	return append(b, path.Join(string(cwd), string(r.Name))...)
}

// appendReal writes the path of the file, with the kernel's own mark if it has no name any more.
func appendReal(b []byte, r *decode.Record) []byte {
	b = decode.AppendPath(b, r.Path)
	if r.Exec.Nlink == 0 {
		b = append(b, " (deleted)"...)
	}
	return b
}

// clean says whether path.Clean would leave an absolute path alone.
func clean(p []byte) bool {
	for i := 1; i < len(p); i++ {
		if p[i-1] == '/' && (p[i] == '/' || p[i] == '.') {
			return false
		}
	}
	return len(p) == 1 || p[len(p)-1] != '/'
}

func (e *Enricher) fork(r *decode.Record) {
	e.drop(absorbed)
	f := r.Fork
	k := event.Key{Pid: r.Pid, Ktime: r.Ktime}
	if l := e.tab.Live(r.Pid); l != nil && l.Start == k.Ktime {
		return // a snapshot, or an exec before it, was faster
	}
	parent := e.tab.Get(event.Key{Pid: f.ParentPid, Ktime: f.ParentKtime})
	if parent == nil {
		parent = e.tab.Live(f.ParentPid)
	}
	p := e.tab.Make()
	p.Start = r.Ktime
	if parent != nil {
		room := p.Encoded
		p.Process = parent.Process
		p.Encoded = room
		p.Binprm = event.BinaryProperties{}
		p.Parent = parent.Key
		p.Placeholder = false
	} else {
		p.Parent = event.Key{Pid: f.ParentPid, Ktime: f.ParentKtime}
		p.AUID = unset
	}
	p.Key = k
	if len(e.moved) > 0 {
		if id, ok := e.moved[k]; ok {
			p.Docker = id
			delete(e.moved, k)
		}
	}
	p.StartTime = e.wall(r.Ktime)
	p.Flags = event.FlagExecve
	p.Refcnt = 1
	p.NsPid = f.Nspid
	p.InInitTree = f.Nspid == 1 || (parent != nil && parent.InInitTree)
	if p.InInitTree {
		p.Flags |= event.FlagInInitTree
	}
	e.tab.Add(p)
}

func (e *Enricher) exit(r *decode.Record) {
	k := event.Key{Pid: r.Pid, Ktime: r.Ktime}
	p := e.tab.Get(k)
	// The kernel half met it after its exec: the key is of its fork.
	if p == nil && (r.Flags&abi.FlagNew != 0 || r.Ktime == r.Exit.Start) {
		if l := e.tab.Live(r.Pid); l != nil && l.Start == r.Exit.Start {
			p = l
		}
	}
	if p == nil {
		p = &process.Entry{Process: event.Process{Key: k, StartTime: e.wall(r.Ktime), Placeholder: true}}
		if r.Flags&abi.FlagNew != 0 {
			p.Flags = event.FlagUnknownProcess
		}
	}
	at := e.wall(r.Time)
	e.told(event.KindExit, at, p)
	ev := &e.events[len(e.events)-1]
	ev.Exit = exitOf(r.Exit.Code)
	if p.Placeholder {
		ev.Parent = nil
		return
	}
	e.tab.Exit(p)
}

// exitOf reads a wait status: the low seven bits are a signal, bit 7 says that core was dumped.
func exitOf(code uint32) event.Exit {
	if sig := uint8(code & 0x7f); sig != 0 {
		return event.Exit{Signal: sig}
	}
	return event.Exit{Status: code >> 8 & 0xff}
}

// movedMost is how many processes are remembered that moved before they were told of.
const movedMost = 256

func (e *Enricher) cgroup(r *decode.Record) {
	e.drop(absorbed)
	k := event.Key{Pid: r.Pid, Ktime: r.Ktime}
	id := string(containerID(r.Cgroup))
	p := e.tab.Get(k)
	switch {
	case p == nil:
		// It has ended: the kernel tells of a move that comes too late. Or it is being born: it can be moved before its parent
		// comes to tell of the fork.
		if len(e.moved) >= movedMost {
			clear(e.moved)
		}
		e.moved[k] = id
	case p.Docker != id:
		p.Docker = id
		p.Encoded.Reset()
	}
}

// fromSnapshot makes a process of a snapshot.
func (e *Enricher) fromSnapshot(r *decode.Record) *process.Entry {
	x := r.Exec
	p := &process.Entry{Start: x.Start}
	p.Key = event.Key{Pid: r.Pid, Ktime: r.Ktime}
	p.Parent = event.Key{Pid: x.ParentPid, Ktime: x.ParentKtime}
	if x.ParentPid == 0 {
		p.Parent = event.KernelKey
	}
	p.Flags = event.FlagProcFS
	p.Kthread = r.Flags&abi.FlagKthread != 0
	p.InInitTree = r.Flags&abi.FlagInTree != 0
	e.fill(p, r)
	p.StartTime = e.wall(r.Ktime)
	return p
}

// recover takes in one process of a full snapshot that was made because records were lost.
func (e *Enricher) recover(r *decode.Record) {
	if e.began == 0 && r.Time >= e.asked {
		e.began = r.Time
		e.snapshots++
	}
	k := event.Key{Pid: r.Pid, Ktime: r.Ktime}
	if p := e.tab.Get(k); p != nil {
		if e.began != 0 {
			e.tab.Mark(p, e.snapshots)
		}
		e.drop(duplicate)
		return
	}
	if l := e.tab.Live(r.Pid); l != nil && l.Key.Ktime > r.Ktime {
		e.drop(duplicate) // it has done another exec since the snapshot looked at it
		return
	}
	p := e.fromSnapshot(r)
	if p.Parent.Ktime == 0 {
		if pp := e.tab.Live(p.Parent.Pid); pp != nil && pp.Start == r.Exec.ParentStart {
			p.Parent = pp.Key
		}
	}
	if e.began != 0 {
		e.tab.Mark(p, e.snapshots)
	}
	if r.Flags&abi.FlagClone != 0 { // only its fork was lost, and a fork makes no event
		p.Flags = event.FlagExecve | p.Flags&^event.FlagProcFS
		p.Refcnt = 1
		e.tab.Add(p)
		e.drop(absorbed)
		return
	}
	e.tab.Add(p)
	if p.Kthread {
		e.drop(absorbed)
		return
	}
	e.told(event.KindExec, p.StartTime, p)
}

// recovered ends a full snapshot: whoever is in the table and was not seen has ended, and the record of that was lost.
func (e *Enricher) recovered() {
	if e.began == 0 {
		return
	}
	var gone []*process.Entry
	e.tab.Unmarked(e.snapshots, e.began, func(p *process.Entry) { gone = append(gone, p) })
	for _, p := range gone {
		e.tab.Exit(p)
	}
	e.began = 0
}
