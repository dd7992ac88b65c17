// SPDX-License-Identifier: Apache-2.0

package gen

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"tetragon/internal/policy/plan"
)

// Options is what a main function needs to know of the tables that user space keeps.
type Options struct {
	Layout  *Layout
	Slot    int            // row of the slot states: which rules are on
	Base    int            // row of the rule table that its rule 0 has
	Chain   int            // index in enter_bodies or exit_bodies (BackendSysEnter, BackendSysExit)
	Compat  bool           // these are 32-bit system calls (BackendSysEnter, BackendSysExit)
	Touch   bool           // instead of telling the call, see to it that what would be told is in memory; see touch
	Point   uint64         // what kept arguments are found by (BackendUretprobe)
	Needles map[string]int // number of each string that FilterContains and FilterContainsFold look for; see Needles
	Test    bool           // instead of sending a record, leave the live rules in the state of the slot behind Slot
}

// Places on the stack of a main function, below R10. The first is struct hook_call.
const (
	callAt  = -88
	bufAt   = callAt + 8
	wordsAt = callAt + 12 // a byte; then one that says that rules enforce
	errorAt = callAt + 14 // 16 bits: what the function has to return
	sentAt  = callAt + 16 // signals
	stepAt  = -96         // what a load through memory brought; signals that are wanted
	keyAt   = -104        // the length while something else is compared
	auxAt   = -112        // one value while another is read
	stepNAt = -120        // which load failed
	rowAt   = -124        // row of the buffer, as a key
	blurAt  = -136        // see blur
	sizeAt  = -144        // a size while the place is read
	limitAt = -152        // another one
	endAt   = -160        // address of the end of a string
	slotsAt = -168        // and down: see slotAt; few, as all functions that are under way share 512 bytes
	maxSlot = 24
)

func liveAt(word int) int16 { return int16(callAt + 24 + 8*word) }

// body is one main function under construction.
type body struct {
	c     *code
	p     *plan.Program
	o     Options
	words int
	all   ruleSet
	out   string // where a call goes that nobody wants
	leave string // ... if it holds nothing

	given string      // a call goes there that nobody wants and that holds a buffer, behind the one that was given back; empty: none was
	hash  int16       // place on the stack of the hash of the file, behind its algorithm; 0: none
	lazy  bool        // the live rules have not been fetched yet: whoever keeps some fetches them
	taken bool        // a buffer is held
	slots map[int]int // value -> slot
	err   error
}

// Body makes the program of one attach point out of a library program (any of its programs that references the functions
// that are needed). The result is named and attached by the caller; its type and target are set.
func Body(p *plan.Program, lib *ebpf.ProgramSpec, o Options) (*ebpf.ProgramSpec, error) {
	if len(p.Rules) == 0 || len(p.Rules) > maxRules {
		return nil, fmt.Errorf("generate a program for %s: it has %d rules; 1 to %d are possible", p.Attach.Key(), len(p.Rules), maxRules)
	}
	b := &body{
		c: newCode(), p: p, o: o, words: (len(p.Rules) + 63) / 64, all: firstRules(len(p.Rules)), slots: make(map[int]int),
	}
	b.emit()
	if b.err == nil {
		var ins asm.Instructions
		if ins, b.err = b.c.finish(); b.err == nil {
			var spec *ebpf.ProgramSpec
			if spec, b.err = splice(lib, functions(lib.Instructions)[0].name, ins, b.never()...); b.err == nil {
				attachTo(spec, &p.Attach)
				if o.Touch || p.Attach.Hash != nil {
					spec.Flags |= sleepable
				}
				return spec, nil
			}
		}
	}
	return nil, fmt.Errorf("generate a program for %s: %w", p.Attach.Key(), b.err)
}

// cgroupPrograms are the programs that are attached to a cgroup, by back-end.
var cgroupPrograms = map[plan.Backend]struct {
	typ ebpf.ProgramType
	at  ebpf.AttachType
}{
	plan.BackendSockOps:     {ebpf.SockOps, ebpf.AttachCGroupSockOps},
	plan.BackendSockCreate:  {ebpf.CGroupSock, ebpf.AttachCGroupInetSockCreate},
	plan.BackendSockRelease: {ebpf.CGroupSock, ebpf.AttachCgroupInetSockRelease},
	plan.BackendConnect4:    {ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Connect},
	plan.BackendConnect6:    {ebpf.CGroupSockAddr, ebpf.AttachCGroupInet6Connect},
	plan.BackendBind4:       {ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Bind},
	plan.BackendBind6:       {ebpf.CGroupSockAddr, ebpf.AttachCGroupInet6Bind},
}

// CgroupAttach is where programs of a back-end are attached to a cgroup; ok: they are.
func CgroupAttach(b plan.Backend) (at ebpf.AttachType, ok bool) {
	c, ok := cgroupPrograms[b]
	return c.at, ok
}

// attachTo sets type and target of a program.
func attachTo(spec *ebpf.ProgramSpec, a *plan.Attach) {
	spec.AttachTo, spec.AttachType = "", ebpf.AttachNone
	switch a.Backend {
	case plan.BackendFentry:
		spec.Type, spec.AttachType, spec.AttachTo = ebpf.Tracing, ebpf.AttachTraceFEntry, a.Symbol
	case plan.BackendFexit:
		spec.Type, spec.AttachType, spec.AttachTo = ebpf.Tracing, ebpf.AttachTraceFExit, a.Symbol
	case plan.BackendFmodRet:
		spec.Type, spec.AttachType, spec.AttachTo = ebpf.Tracing, ebpf.AttachModifyReturn, a.Symbol
	case plan.BackendLSM:
		spec.Type, spec.AttachType, spec.AttachTo = ebpf.LSM, ebpf.AttachLSMMac, a.Symbol
	case plan.BackendRawTp, plan.BackendTp, plan.BackendSysEnter, plan.BackendSysExit:
		spec.Type = ebpf.RawTracepoint
	case plan.BackendKprobeMulti:
		spec.Type, spec.AttachType = ebpf.Kprobe, ebpf.AttachTraceKprobeMulti
	case plan.BackendKprobe, plan.BackendKretprobe:
		spec.Type = ebpf.Kprobe
	case plan.BackendUprobe, plan.BackendUretprobe:
		if spec.Type = ebpf.Kprobe; a.User.Multi {
			spec.AttachType = ebpf.AttachTraceUprobeMulti
		}
	case plan.BackendTracepoint:
		spec.Type = ebpf.TracePoint
	default:
		c := cgroupPrograms[a.Backend]
		spec.Type, spec.AttachType = c.typ, c.at
	}
}

// exitCode is what a program of the back-end returns to let things go on.
func exitCode(b plan.Backend) int32 {
	if b.Cgroup() {
		return 1
	}
	return 0
}

// fail notes why the program cannot be made; the first reason stands.
func (b *body) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf(format, args...)
	}
}

func (b *body) emit() {
	c := b.c
	exit := c.label()
	b.out, b.leave = exit, exit
	keeps := b.p.KeepsArgs() && !b.o.Test && !b.o.Touch
	c.add(asm.Mov.Reg(asm.R9, asm.R1))
	b.noVerdict()
	if b.p.Attach.Backend == plan.BackendSockOps {
		c.add(asm.LoadMem(asm.R1, asm.R9, sockOpsOp, asm.Word), asm.JNE.Imm(asm.R1, tcpConnectCB, b.out))
	}
	for i := range b.p.Attach.When {
		b.condition(&b.p.Attach.When[i])
	}
	ds := b.dims()
	b.lazy = b.words > 1 && len(ds) > 0 && ds[0].once && ds[0].users == b.all && !b.keepsVerdicts()
	if !b.lazy {
		b.load()
		b.alive() // a silent program has none
	}
	b.newCall()
	dropped := c.label()
	if keeps {
		// race: the successor of this program runs first if it is on; it has dropped the entry then, and told the call.
		b.entryKey()
		c.add(call("entry_seen"), asm.JEq.Imm(asm.R0, 0, exit))
		b.out = dropped
	}
	for _, d := range ds {
		if b.o.Touch && d.cost >= costClass {
			break // they are sorted; the rest is for the program itself
		}
		switch {
		case d.cost >= costHash:
			b.giveBuffer()
		case d.cost >= costBuffer:
			b.takeBuffer()
		}
		next := c.label()
		b.ifNone(d.users, next)
		d.emit(next)
		c.here(next)
		b.lazy = false
	}
	switch {
	case b.o.Test:
		b.result()
	case b.o.Touch:
		b.touch()
	default:
		b.enforce()
		b.takeBuffer()
		b.gather()
		b.finishCall()
	}
	if b.taken {
		c.here(b.out)
		c.add(asm.LoadMem(asm.R1, asm.R10, bufAt, asm.Word), call("buf_give"))
	}
	if b.given != "" {
		c.jump(exit)
		c.here(b.given)
		c.add(asm.LoadMem(asm.R1, asm.R10, bufAt, asm.Word), call("buf_give"))
	}
	if keeps {
		c.here(dropped)
		b.entryKey()
		c.add(call("entry_drop"))
	}
	c.here(exit)
	b.exit()
}

// The context of a sock_ops program, from include/uapi/linux/bpf.h.
const (
	sockOpsOp    = 0 // struct bpf_sock_ops.op
	tcpConnectCB = 3 // BPF_SOCK_OPS_TCP_CONNECT_CB
)

// condition leaves if a condition of an equivalent does not hold.
func (b *body) condition(w *plan.Condition) {
	c := b.c
	b.source(&w.Source, b.out)
	if w.Mask != 0 {
		b.andImm(asm.R1, w.Mask)
	}
	c.add(asm.Mov.Reg(asm.R8, asm.R1))
	next := c.label()
	var iv []interval[bool]
	for _, lo := range split(w.Ranges) {
		iv = append(iv, interval[bool]{lo, inRanges(w.Ranges, lo) != w.Not})
	}
	search(c, asm.R8, merge(iv), func(ok bool) string {
		if ok {
			return next
		}
		return b.out
	})
	c.here(next)
}

// alive leaves if no rule is on.
func (b *body) alive() {
	c := b.c
	if b.words == 1 {
		c.add(asm.JEq.Imm(asm.R6, 0, b.out))
		return
	}
	c.add(asm.LoadMem(asm.R1, asm.R10, liveAt(0), asm.DWord))
	for w := 1; w < b.words; w++ {
		c.add(asm.LoadMem(asm.R2, asm.R10, liveAt(w), asm.DWord), asm.Or.Reg(asm.R1, asm.R2))
	}
	c.add(asm.JEq.Imm(asm.R1, 0, b.out))
}

// sysBodies is how many programs for system calls there can be, each way; the package's test compares it with bpf/abi/hook.h.
const sysBodies = 512

// exit ends the program, or goes on to the next one that wants the same system call.
func (b *body) exit() {
	c := b.c
	dir, bodies := -1, ""
	switch b.p.Attach.Backend {
	case plan.BackendSysEnter:
		dir, bodies = 0, "enter_bodies"
	case plan.BackendSysExit:
		dir, bodies = 1, "exit_bodies"
	}
	if dir >= 0 && !b.o.Test {
		last := c.label()
		v := b.o.Layout.bodyNext
		c.add(
			asm.LoadMapValue(asm.R1, 0, v.offset+uint32(2*(sysBodies*dir+b.o.Chain))).WithReference(v.section),
			asm.LoadMem(asm.R3, asm.R1, 0, asm.Half),
			asm.JEq.Imm(asm.R3, 0, last),
			asm.Mov.Reg(asm.R1, asm.R9),
			asm.LoadMapPtr(asm.R2, 0).WithReference(bodies),
			asm.FnTailCall.Call(),
		)
		c.here(last)
	}
	b.verdict()
	c.add(asm.Return())
}

// takeBuffer gets the place where values and the record are put together. From here on every way out gives it back.
func (b *body) takeBuffer() {
	if b.taken {
		return
	}
	c := b.c
	c.add(call("buf_take"), asm.JSLT.Imm(asm.R0, 0, b.out), asm.StoreMem(asm.R10, bufAt, asm.R0, asm.Word))
	for _, s := range sortedValues(b.slots) {
		if b.inBuffer(s) {
			c.add(storeImm64(asm.R10, b.slotAt(s), 0))
		}
	}
	b.taken = true
	b.out = c.label()
	if b.p.Attach.Backend == plan.BackendKprobeMulti {
		b.bufPtr()
		c.add(asm.Mov.Reg(asm.R1, asm.R9), asm.FnGetAttachCookie.Call(), asm.StoreMem(asm.R7, int16(b.o.Layout.which), asm.R0, asm.Word))
	}
}

// giveBuffer gives the buffer back in the midst of a call, before the program sleeps: so many calls may sleep at a time that none
// would be left. What has been read is read again if it is to be told.
func (b *body) giveBuffer() {
	if !b.taken {
		return
	}
	b.c.add(asm.LoadMem(asm.R1, asm.R10, bufAt, asm.Word), call("buf_give"))
	b.given, b.out, b.taken = b.out, b.leave, false
}

// bufPtr leaves the address of the buffer in R7. R0 to R5 are lost.
func (b *body) bufPtr() {
	b.bufTo0()
	b.c.add(asm.Mov.Reg(asm.R7, asm.R0))
}

// bufTo0 leaves the address of the buffer in R0. R1 to R5 are lost.
func (b *body) bufTo0() {
	c := b.c
	c.add(
		asm.LoadMem(asm.R1, asm.R10, bufAt, asm.Word),
		asm.StoreMem(asm.R10, rowAt, asm.R1, asm.Word),
		asm.LoadMapPtr(asm.R1, 0).WithReference("hook_bufs"),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, rowAt),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, b.out), // bound: the row exists
	)
}

// slotAt is the stack slot of a value that filters read: of one that is put into the buffer its place there, 0 until it is
// read, negative if it could not be; of an integer that is loaded through memory the value, and above it whether it is known.
func (b *body) slotAt(value int) int16 { return int16(slotsAt - 8*b.slots[value]) }

// addSlot gives a value n words on the stack.
func (b *body) addSlot(value, n int, next *int) {
	if _, ok := b.slots[value]; ok {
		return
	}
	b.slots[value] = *next
	*next += n
	if *next > maxSlot {
		b.fail("its policies filter on more values than fit (%d words of stack); drop filters or policies from this hook", maxSlot)
	}
}

// result leaves the live rules where a test finds them.
func (b *body) result() {
	c := b.c
	v := b.o.Layout.slots
	for w := range ruleWords {
		c.add(asm.LoadMapValue(asm.R1, 0, v.offset+uint32((b.o.Slot+1)*slotSize+8*w)).WithReference(v.section))
		switch {
		case w >= b.words:
			c.add(storeImm64(asm.R1, 0, 0))
		case b.words == 1:
			c.add(asm.StoreMem(asm.R1, 0, asm.R6, asm.DWord))
		default:
			c.add(asm.LoadMem(asm.R2, asm.R10, liveAt(w), asm.DWord), asm.StoreMem(asm.R1, 0, asm.R2, asm.DWord))
		}
	}
}

// finishCall hands the live rules to the library: actions, statistics, the record.
func (b *body) finishCall() {
	c := b.c
	c.add(
		asm.StoreImm(asm.R10, callAt, int64(int32(b.p.ID)), asm.Word),
		asm.StoreImm(asm.R10, callAt+4, int64(b.o.Base), asm.Word),
	)
	if b.words == 1 {
		c.add(asm.StoreMem(asm.R10, liveAt(0), asm.R6, asm.DWord))
	}
	for w := b.words; w < ruleWords; w++ {
		c.add(storeImm64(asm.R10, liveAt(w), 0))
	}
	c.add(asm.Mov.Reg(asm.R1, asm.R10), asm.Add.Imm(asm.R1, callAt), call("hook_finish"))
}

// never lists functions of the library that no rule of this program makes anybody call, though the library has calls. Each
// would be checked with the program: the kernel takes a third less time for one without them.
func (b *body) never() []string {
	limits, merges, tracks, baselines := false, false, false, false
	for i := range b.p.Rules {
		do := &b.p.Rules[i].Do
		limits = limits || do.RateLimit > 0
		merges = merges || do.Aggregate > 0
		tracks = tracks || len(do.Track) > 0
		baselines = baselines || do.Baseline
	}
	var out []string
	for _, f := range []struct {
		name string
		used bool
	}{{"limit_pass", limits}, {"merge_call", merges}, {"sock_track", tracks}, {"baseline_set", baselines}} {
		if !f.used {
			out = append(out, f.name)
		}
	}
	return out
}

// call calls a function of the library.
func call(name string) asm.Instruction { return asm.Call.Label(name) }
