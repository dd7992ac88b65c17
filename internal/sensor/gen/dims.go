// SPDX-License-Identifier: Apache-2.0

package gen

import (
	"cmp"
	"math"
	"slices"
	"sort"

	"github.com/cilium/ebpf/asm"

	"tetragon/internal/policy/plan"
)

// Costs order the dimensions; only their order matters.
const (
	costInt    = 1  // in a register
	costLoaded = 2  // through memory, or a helper call
	costClass  = 3  // task storage
	costTask   = 4  // several loads
	costExpr   = 5  // several numbers
	costBuffer = 10 // from here on a buffer is needed
	costStruct = 11
	costString = 12
	costPath   = 13
	costVerity = 30 // behind searching
	costHash   = 40 // from here on no buffer may be held: the program sleeps
)

// dim is one thing that is looked at, with all filters of all rules that look at it.
type dim struct {
	cost  int
	users ruleSet
	once  bool // each call meets at most one keep
	emit  func(next string)
}

// use is one filter of one rule.
type use struct {
	rule int
	f    *plan.Filter
}

func usersOf(us []use) ruleSet {
	var s ruleSet
	for _, u := range us {
		s.add(u.rule)
	}
	return s
}

// passing is the set of rules that a dimension lets live if ok says which of its filters hold.
func (b *body) passing(us []use, ok func(u *use) bool) ruleSet {
	var dead ruleSet
	for i := range us {
		if !ok(&us[i]) {
			dead.add(us[i].rule)
		}
	}
	return b.all.without(dead)
}

// dims sorts all filters of all rules into dimensions.
func (b *body) dims() []dim {
	type key struct {
		task  plan.Task
		value int
		kind  plan.FilterKind
		word  int
		of    plan.Verdict
	}
	groups, exprs, inExpr := make(map[key][]use), make(map[string]int), make(map[int]bool)
	var order []key
	for r := range b.p.Rules {
		for i := range b.p.Rules[r].Filters {
			f := &b.p.Rules[r].Filters[i]
			var k key
			switch {
			case f.Kind == plan.FilterClass:
				k = key{kind: f.Kind, word: int(f.Of)*setWords + f.Set/64, value: -1}
			case f.Task != plan.TaskNone:
				k = key{task: f.Task, value: -1, of: f.Verdict}
			case f.Kind == plan.FilterExpr:
				text := f.Expr.String()
				if _, ok := exprs[text]; !ok {
					exprs[text] = len(exprs)
				}
				k = key{kind: f.Kind, value: -1, word: exprs[text]}
			case f.Kind == plan.FilterDigest:
				k = key{kind: f.Kind, value: -1, word: int(f.Field)}
			case f.Kind == plan.FilterGained:
				k = key{kind: f.Kind, value: f.Value, word: f.Value2}
			default:
				k = key{value: f.Value}
			}
			if groups[k] == nil {
				order = append(order, k)
			}
			groups[k] = append(groups[k], use{r, f})
		}
	}
	var ds []dim
	var hashes []use
	next := 0
	for _, k := range order {
		us := groups[k]
		d := dim{users: usersOf(us)}
		switch {
		case k.kind == plan.FilterClass:
			d.cost, d.emit = costClass, func(next string) { b.class(k.word, us, next) }
		case k.task != plan.TaskNone:
			d.cost = costTask
			if k.task == plan.TaskPid {
				d.cost = costLoaded
			}
			d.emit = func(next string) { b.task(k.task, us, next) }
		case k.kind == plan.FilterExpr:
			d.cost = costExpr
			for _, v := range us[0].f.Expr.Uses() {
				b.addSlot(v, 2, &next)
				inExpr[v] = true
			}
			d.emit = func(next string) { b.expression(us[0].f.Expr, us, next) }
		case k.kind == plan.FilterDigest && plan.Field(k.word) == plan.FieldVerity:
			d.cost, d.emit = costVerity, func(next string) { b.verity(us, next) }
		case k.kind == plan.FilterDigest:
			hashes = us
			continue
		case k.kind == plan.FilterGained:
			d.cost = costLoaded
			b.keepInt(k.value, &next)
			b.keepInt(k.word, &next)
			d.emit = func(next string) { b.gained(k.value, k.word, us, next) }
		case b.p.Values[k.value].Type == plan.TypeInt:
			d.cost = costInt
			if b.keepInt(k.value, &next) {
				d.cost = costLoaded
			}
			d.once = !slices.ContainsFunc(us, func(u use) bool { return u.f.Kind != plan.FilterRanges })
			d.emit = func(next string) { b.integers(k.value, us, next) }
		default:
			b.addSlot(k.value, 1, &next)
			d.cost = costOf(b.p.Values[k.value].Type, us)
			d.emit = func(next string) { b.buffered(k.value, us, next) }
		}
		ds = append(ds, d)
	}
	if d, ok := b.hashDim(hashes, &next); ok {
		ds = append(ds, d)
	}
	// Integers that are kept must be known to be unknown before the first of them may be skipped.
	for _, v := range sortedValues(b.slots) {
		if !b.inBuffer(v) {
			b.c.add(storeImm64(asm.R10, b.slotAt(v)-8, intUnknown))
			if inExpr[v] { // bound: kernels before 6.3 do not follow what is known of it, and refuse to load what was not stored
				b.c.add(storeImm64(asm.R10, b.slotAt(v), 0))
			}
		}
	}
	slices.SortStableFunc(ds, func(x, y dim) int { return cmp.Compare(x.cost, y.cost) })
	return ds
}

// setWords is SET_WORDS of bpf/abi/hook.h; the package's test compares them.
const setWords = 4

func costOf(t plan.Type, us []use) int {
	cost := costStruct
	if isPath(t) {
		cost = costPath
	} else if _, ok := members[t]; !ok {
		cost = costString
	}
	for _, u := range us { // searching is the most expensive of all
		if u.f.Kind == plan.FilterContains || u.f.Kind == plan.FilterContainsFold {
			cost += 10
			break
		}
	}
	return cost
}

// keepInt gives an integer that is loaded through memory a place on the stack, and says whether it is one.
func (b *body) keepInt(v int, next *int) bool {
	s := &b.p.Values[v].Source
	loaded := len(s.Steps) > 0 || s.Kind == plan.SourceFdFile || s.Kind == plan.SourceTask || s.Kind == plan.SourceCred
	if loaded {
		b.addSlot(v, 2, next)
	}
	return loaded
}

// inBuffer says whether a value's slot holds a place in the buffer.
func (b *body) inBuffer(v int) bool { return b.p.Values[v].Type != plan.TypeInt }

func sortedValues(m map[int]int) []int {
	var vs []int
	for v := range m {
		vs = append(vs, v)
	}
	sort.Ints(vs)
	return vs
}

// kill leaves only the rules alive that do not look at something that could not be read.
func (b *body) kill(us []use, next string) {
	b.keep(b.all.without(usersOf(us)), next)
}

// integers compares an integer value.
func (b *body) integers(v int, us []use, next string) {
	c := b.c
	bad, any := c.label(), c.label()
	b.integer(v, bad)
	c.add(asm.Mov.Reg(asm.R8, asm.R1))
	b.compare(us, any)
	c.here(bad)
	b.kill(us, next)
	c.here(any)
	c.jump(next)
}

// compare compares the word in R8 with the ranges and bits of filters, and goes to next. R0 to R2 are lost.
func (b *body) compare(us []use, next string) {
	c := b.c
	byMask := make(map[uint64][]use)
	var masks []uint64
	var ranges []use
	for _, u := range us {
		switch u.f.Kind {
		case plan.FilterBits:
			if byMask[u.f.Mask] == nil {
				masks = append(masks, u.f.Mask)
			}
			byMask[u.f.Mask] = append(byMask[u.f.Mask], u)
		case plan.FilterRanges:
			ranges = append(ranges, u)
		default:
			b.fail("a filter of kind %d on a number", u.f.Kind)
		}
	}
	slices.Sort(masks)
	for i, m := range masks {
		us := byMask[m]
		after := next
		if i < len(masks)-1 || len(ranges) > 0 {
			after = c.label()
		}
		none := c.label()
		c.add(asm.Mov.Reg(asm.R1, asm.R8))
		b.andImm(asm.R1, m)
		c.add(asm.JEq.Imm(asm.R1, 0, none))
		b.keep(b.passing(us, func(u *use) bool { return !u.f.Not }), after)
		c.here(none)
		b.keep(b.passing(us, func(u *use) bool { return u.f.Not }), after)
		if after != next {
			c.here(after)
		}
	}
	if len(ranges) == 0 {
		if len(masks) == 0 {
			c.jump(next)
		}
		return
	}
	b.leaves(next, func(leaf func(ruleSet) string) {
		search(c, asm.R8, b.intervals(ranges), leaf)
	})
}

// intervals cuts the line of words at the ends of all ranges, with the rules that each piece lets live.
func (b *body) intervals(us []use) []interval[ruleSet] {
	type edge struct {
		at  uint64
		use int
		in  bool
	}
	var edges []edge
	inside := make([]int, len(us)) // how many ranges of the filter hold the point
	for i, u := range us {
		for _, r := range u.f.Ranges {
			if r.Lo > r.Hi {
				continue
			}
			edges = append(edges, edge{r.Lo, i, true})
			if r.Hi != math.MaxUint64 {
				edges = append(edges, edge{r.Hi + 1, i, false})
			}
		}
	}
	sort.Slice(edges, func(i, j int) bool { return edges[i].at < edges[j].at })
	// How many filters of each rule do not hold; a rule lives if none.
	failing := make(map[int]int)
	live := b.all
	update := func(i int, holds bool) {
		r := us[i].rule
		if holds {
			failing[r]--
			if failing[r] == 0 {
				live.add(r)
			}
			return
		}
		failing[r]++
		live[r/64] &^= 1 << (r % 64)
	}
	for i := range us {
		if !us[i].f.Not {
			update(i, false)
		}
	}
	var iv []interval[ruleSet]
	at := uint64(0)
	for e := 0; ; {
		for ; e < len(edges) && edges[e].at == at; e++ {
			i := edges[e].use
			was := inside[i] > 0
			if edges[e].in {
				inside[i]++
			} else {
				inside[i]--
			}
			if now := inside[i] > 0; now != was {
				update(i, now != us[i].f.Not)
			}
		}
		iv = append(iv, interval[ruleSet]{at, live})
		if e == len(edges) {
			return merge(iv)
		}
		at = edges[e].at
	}
}

// leaves emits a decision tree and behind it what each of its leaves does.
func (b *body) leaves(next string, tree func(leaf func(ruleSet) string)) {
	labels := make(map[ruleSet]string)
	var order []ruleSet
	tree(func(s ruleSet) string {
		switch {
		case s == b.all && !b.lazy:
			return next
		case s.empty():
			return b.out
		}
		if labels[s] == "" {
			labels[s] = b.c.label()
			order = append(order, s)
		}
		return labels[s]
	})
	for _, s := range order {
		b.c.here(labels[s])
		b.keep(s, next)
	}
}

// taskReaders are the library's functions for properties of the current task.
var taskReaders = map[plan.Task]string{
	plan.TaskNsPid: "task_nspid_now", plan.TaskCapEffective: "task_cap_effective", plan.TaskCapPermitted: "task_cap_permitted",
	plan.TaskCapInheritable: "task_cap_inheritable", plan.TaskHostUserNS: "task_host_userns", plan.TaskNsChanged: "task_ns_changed",
	plan.TaskTracked: "task_tracked", plan.TaskNsUts: "task_ns_uts", plan.TaskNsIpc: "task_ns_ipc", plan.TaskNsMnt: "task_ns_mnt",
	plan.TaskNsPidNs: "task_ns_pid", plan.TaskNsPidForChildren: "task_ns_pid_for_children", plan.TaskNsNet: "task_ns_net",
	plan.TaskNsTime: "task_ns_time", plan.TaskNsTimeForChildren: "task_ns_time_for_children", plan.TaskNsCgroup: "task_ns_cgroup",
	plan.TaskNsUser: "task_ns_user", plan.TaskHost: "task_host",
}

// capChanges are the numbers of task_cap_changed's capability sets.
var capChanges = map[plan.Task]int32{
	plan.TaskCapEffectiveChanged: 0, plan.TaskCapPermittedChanged: 1, plan.TaskCapInheritableChanged: 2,
}

// task compares a property of the current task.
func (b *body) task(t plan.Task, us []use, next string) {
	c := b.c
	n, changed := capChanges[t]
	switch {
	case t == plan.TaskPid:
		c.add(asm.FnGetCurrentPidTgid.Call(), asm.RSh.Imm(asm.R0, 32))
	case changed:
		c.add(asm.Mov.Imm(asm.R1, n), call("task_cap_changed"))
	case t == plan.TaskVerdict:
		c.add(verdict(us[0].f.Verdict), call("verdict_there"))
	case taskReaders[t] != "":
		c.add(call(taskReaders[t]))
	default:
		b.fail("nothing reads property %d of a task", t)
		return
	}
	c.add(asm.Mov.Reg(asm.R8, asm.R0))
	b.compare(us, next)
}

// class tests sets that the process is in. Bit 0 of a word says that the process is known.
func (b *body) class(word int, us []use, next string) {
	c := b.c
	b.classWord(word)
	unknown, known := c.label(), c.label()
	if slices.ContainsFunc(us, func(u use) bool { return u.f.Not }) { // who is in a set is known
		c.add(asm.Mov.Reg(asm.R1, asm.R8), asm.And.Imm(asm.R1, 1), asm.JEq.Imm(asm.R1, 0, unknown))
	}
	byBit := make(map[int][]use)
	var bits []int
	for _, u := range us {
		n := u.f.Set % 64
		if byBit[n] == nil {
			bits = append(bits, n)
		}
		byBit[n] = append(byBit[n], u)
	}
	sort.Ints(bits)
	for i, n := range bits {
		us := byBit[n]
		after := known
		if i < len(bits)-1 {
			after = c.label()
		}
		none := c.label()
		c.add(asm.Mov.Reg(asm.R1, asm.R8))
		b.andImm(asm.R1, 1<<n)
		c.add(asm.JEq.Imm(asm.R1, 0, none))
		b.keep(b.passing(us, func(u *use) bool { return !u.f.Not }), after)
		c.here(none)
		b.keep(b.passing(us, func(u *use) bool { return u.f.Not }), after)
		if after != known {
			c.here(after)
		}
	}
	c.here(unknown)
	b.kill(us, next)
	c.here(known)
	c.jump(next)
}

// classWord leaves a word of the process's class in R8; 0 if it has none.
func (b *body) classWord(word int) {
	c := b.c
	if b.o.Layout.leader == 0 || b.p.Attach.Hash != nil { // what sleeps must take care that the leader stays
		c.add(asm.Mov.Imm(asm.R1, int32(word)), call("class_word"), asm.Mov.Reg(asm.R8, asm.R0))
		return
	}
	none := c.label()
	c.add(
		asm.FnGetCurrentTaskBtf.Call(),
		asm.LoadMapPtr(asm.R1, 0).WithReference("classes"),
		asm.LoadMem(asm.R2, asm.R0, b.o.Layout.leader, asm.DWord),
		asm.Mov.Imm(asm.R3, 0), asm.Mov.Imm(asm.R4, 0), asm.Mov.Imm(asm.R8, 0),
		asm.FnTaskStorageGet.Call(),
		asm.JEq.Imm(asm.R0, 0, none),
		asm.LoadMem(asm.R8, asm.R0, int16(8*word), asm.DWord),
	)
	c.here(none)
}

// gained tests whether one set of bits has some that another has not.
func (b *body) gained(old, now int, us []use, next string) {
	c := b.c
	bad, none := c.label(), c.label()
	b.integer(old, bad)
	c.add(asm.Mov.Reg(asm.R8, asm.R1))
	b.integer(now, bad)
	c.add(asm.Xor.Imm(asm.R8, -1), asm.And.Reg(asm.R1, asm.R8), asm.JEq.Imm(asm.R1, 0, none))
	b.keep(b.passing(us, func(u *use) bool { return !u.f.Not }), next)
	c.here(none)
	b.keep(b.passing(us, func(u *use) bool { return u.f.Not }), next)
	c.here(bad)
	b.kill(us, next)
}

// buffered reads a value into the buffer and compares it there.
func (b *body) buffered(v int, us []use, next string) {
	c := b.c
	path := isPath(b.p.Values[v].Type)
	bad, done := c.label(), c.label()
	b.readInto(v)
	c.add(asm.JSLT.Imm(asm.R0, 0, bad), asm.Mov.Reg(asm.R8, asm.R0))
	// R7 becomes the place, R8 the length.
	if path {
		c.add(asm.JGT.Imm(asm.R8, b.o.Layout.pathEnd-b.o.Layout.path, bad)) // bound: a path lies within its room
		c.add(asm.StoreMem(asm.R10, auxAt, asm.R8, asm.DWord))
		b.bufPtr()
		// bound: the sum's parts are positive; a difference of addresses would be unbounded to the verifier
		c.add(asm.Mov.Imm(asm.R1, b.o.Layout.pathEnd), asm.Sub.Reg(asm.R1, asm.R8), asm.Add.Reg(asm.R7, asm.R1))
	} else {
		c.add(asm.StoreMem(asm.R10, b.slotAt(v), asm.R0, asm.DWord))
		b.bufPtr()
		c.add(
			asm.Mov.Reg(asm.R1, asm.R8), asm.RSh.Imm(asm.R1, 32),
			asm.Mov.Reg32(asm.R8, asm.R8),
			asm.JGT.Imm(asm.R1, b.o.Layout.slack-64, bad), // bound: what is behind a value within the values' room is in the buffer
			asm.JLT.Imm(asm.R1, b.o.Layout.values, bad),
			asm.JGT.Imm(asm.R8, maxString, bad),
			asm.Add.Reg(asm.R7, asm.R1),
		)
		if b.p.Values[v].Type == plan.TypeSockaddrUn { // its family comes before its path
			c.add(asm.JLT.Imm(asm.R8, 8, bad))
		}
	}
	b.parts(v, us, done)
	c.here(bad)
	if path {
		c.add(asm.Mov.Imm(asm.R3, -1))
		b.appendPath(v)
	} else {
		c.add(storeImm64(asm.R10, b.slotAt(v), -1))
	}
	b.kill(us, next)
	c.here(done)
	if path {
		c.add(asm.LoadMem(asm.R3, asm.R10, auxAt, asm.DWord))
		b.appendPath(v)
	}
	c.jump(next)
}

// maxString is the longest string that is compared: PATH_MAX.
const maxString = 4096

// parts compares the fields of a value and its text, one after the other.
func (b *body) parts(v int, us []use, next string) {
	c := b.c
	t := b.p.Values[v].Type
	byField := make(map[plan.Field][]use)
	var forward, backward []use
	var contains []use
	for _, u := range us {
		switch u.f.Kind {
		case plan.FilterEqual, plan.FilterPrefix:
			forward = append(forward, u)
		case plan.FilterSuffix:
			backward = append(backward, u)
		case plan.FilterContains, plan.FilterContainsFold:
			contains = append(contains, u)
		case plan.FilterRanges, plan.FilterBits, plan.FilterAddrs:
			byField[u.f.Field] = append(byField[u.f.Field], u)
		default:
			b.fail("a filter of kind %d on a value that is no number", u.f.Kind)
		}
	}
	var fields []plan.Field
	for f := range byField {
		fields = append(fields, f)
	}
	slices.Sort(fields)
	type part struct {
		us   []use
		emit func(next string)
	}
	var parts []part
	for _, f := range fields {
		us := byField[f]
		parts = append(parts, part{us, func(next string) { b.fieldPart(t, f, us, next) }})
	}
	strs := len(forward)+len(backward)+len(contains) > 0
	if strs && t == plan.TypeSockaddrUn {
		parts = append(parts, part{slices.Concat(forward, backward, contains), func(next string) {
			c.add(asm.Add.Imm(asm.R7, 8), asm.Sub.Imm(asm.R8, 8))
			c.jump(next)
		}})
	}
	if len(contains) > 0 {
		// Searching calls the library, which leaves R7 and R8 alone.
		parts = append(parts, part{contains, func(next string) { b.containsPart(v, contains, next) }})
	}
	if len(forward) > 0 {
		parts = append(parts, part{forward, func(next string) { b.text(v, forward, false, next) }})
	}
	if len(backward) > 0 {
		parts = append(parts, part{backward, func(next string) { b.text(v, backward, true, next) }})
	}
	if len(backward) > 0 && !isPath(t) {
		// bound: before anything is known of the length. Once it is used in an address, the verifier follows each way of
		// having compared it by itself, to all that comes after.
		c.add(asm.Mov.Reg(asm.R1, asm.R7), asm.Add.Reg(asm.R1, asm.R8), asm.StoreMem(asm.R10, endAt, asm.R1, asm.DWord))
	}
	for i, p := range parts {
		after := next
		if i < len(parts)-1 {
			after = c.label()
		}
		if strs && t == plan.TypeSockaddrUn && i == len(fields) {
			p.emit(after) // moves the place: may not be skipped
		} else {
			b.ifNone(usersOf(p.us), after)
			p.emit(after)
		}
		if after != next {
			c.here(after)
		}
	}
}

// fieldPart compares a field of what lies at R7.
func (b *body) fieldPart(t plan.Type, f plan.Field, us []use, next string) {
	c := b.c
	if f == plan.FieldFileType {
		b.modePart(us, next)
		return
	}
	x := b.o.Layout.fields[t][f]
	if x.size == 0 {
		b.fail("a value of type %d has no field %d", t, f)
		return
	}
	if f == plan.FieldSaddr || f == plan.FieldDaddr {
		b.addrPart(t, x, us, next)
		return
	}
	size, ok := sizes[uint8(x.size)]
	if !ok {
		b.fail("field %d has %d bytes", f, x.size)
		return
	}
	c.add(asm.StoreMem(asm.R10, keyAt, asm.R8, asm.DWord), asm.LoadMem(asm.R8, asm.R7, x.off, size))
	back := c.label()
	b.compare(us, back)
	c.here(back)
	c.add(asm.LoadMem(asm.R8, asm.R10, keyAt, asm.DWord))
	c.jump(next)
}

const modeMask = 0o170000 // S_IFMT

// modePart compares the type of the file that was walked last.
func (b *body) modePart(us []use, next string) {
	c := b.c
	l := b.o.Layout
	c.add(asm.StoreMem(asm.R10, keyAt, asm.R8, asm.DWord))
	b.bufTo0()
	c.add(asm.LoadMem(asm.R8, asm.R0, int16(l.mode), asm.Word), asm.And.Imm(asm.R8, modeMask))
	back := c.label()
	b.compare(us, back)
	c.here(back)
	c.add(asm.LoadMem(asm.R8, asm.R10, keyAt, asm.DWord))
	c.jump(next)
}

// Address families, from include/linux/socket.h.
const (
	afInet  = 2
	afInet6 = 10
)

// addrPart compares an IP address. Filters on one are false for all other families.
func (b *body) addrPart(t plan.Type, x field, us []use, next string) {
	c := b.c
	fam := b.o.Layout.fields[t][plan.FieldFamily]
	v4, v6 := c.label(), c.label()
	c.add(
		asm.LoadMem(asm.R1, asm.R7, fam.off, asm.Half),
		asm.JEq.Imm(asm.R1, afInet, v4),
		asm.JEq.Imm(asm.R1, afInet6, v6),
	)
	b.kill(us, next)

	c.here(v4)
	c.add(asm.LoadMem(asm.R1, asm.R7, x.off, asm.Word), asm.HostTo(asm.BE, asm.R1, asm.Word))
	as4 := make([]plan.Filter, len(us))
	us4 := make([]use, len(us))
	for i, u := range us {
		as4[i] = plan.Filter{Kind: plan.FilterRanges, Not: u.f.Not, Ranges: ranges4(u.f)}
		us4[i] = use{u.rule, &as4[i]}
	}
	b.leaves(next, func(leaf func(ruleSet) string) { search(c, asm.R1, b.intervals(us4), leaf) })

	c.here(v6)
	b.patterns(us, next, patterns6, &wordTree{c: c, fixed: true, load: func(n int) {
		c.add(asm.LoadMem(asm.R1, asm.R7, x.off+int16(8*n), asm.DWord), asm.HostTo(asm.BE, asm.R1, asm.DWord))
	}})
}

// ranges4 are the IPv4 addresses of a filter.
func ranges4(f *plan.Filter) []plan.Range {
	var rs []plan.Range
	for _, p := range f.Prefixes {
		if !p.Addr().Is4() {
			continue
		}
		a := p.Masked().Addr().As4()
		lo := uint64(a[0])<<24 | uint64(a[1])<<16 | uint64(a[2])<<8 | uint64(a[3])
		rs = append(rs, plan.Range{Lo: lo, Hi: lo | (1<<(32-p.Bits()) - 1)})
	}
	return rs
}

// patterns6 are the IPv6 addresses of a filter.
func patterns6(f *plan.Filter) []pattern {
	var ps []pattern
	for _, p := range f.Prefixes {
		if !p.Addr().Is6() {
			continue
		}
		a := p.Masked().Addr().As16()
		n := p.Bits()
		var x pattern
		w := be64(a[:8])
		if n > 64 {
			x.words = []uint64{w}
			w, n = be64(a[8:]), n-64
		}
		hi := w
		if n < 64 {
			hi |= math.MaxUint64 >> n
		}
		x.last = plan.Range{Lo: w, Hi: hi}
		ps = append(ps, x)
	}
	return ps
}

// text compares the string at R7, of length R8, from its beginning or from its end.
func (b *body) text(v int, us []use, backward bool, next string) {
	c := b.c
	t := &wordTree{c: c, lenReg: asm.R8, load: func(n int) {
		c.add(asm.LoadMem(asm.R1, asm.R7, int16(8*n), asm.DWord), asm.HostTo(asm.BE, asm.R1, asm.DWord))
	}}
	if backward {
		// Nothing looks at the beginning after this.
		if isPath(b.p.Values[v].Type) { // bound: its end is at a constant place, which the sum does not show
			b.bufTo0()
			c.add(asm.Mov.Reg(asm.R7, asm.R0), asm.Add.Imm(asm.R7, b.o.Layout.pathEnd))
		} else {
			c.add(asm.LoadMem(asm.R7, asm.R10, endAt, asm.DWord))
		}
		t.load = func(n int) {
			c.add(asm.LoadMem(asm.R1, asm.R7, int16(-8*(n+1)), asm.DWord), asm.HostTo(asm.LE, asm.R1, asm.DWord))
		}
	}
	b.patterns(us, next, func(f *plan.Filter) []pattern {
		var ps []pattern
		for _, s := range f.Strings {
			text := []byte(s)
			if backward {
				text = reversed(s)
			}
			if len(text) > maxString {
				continue // no value is so long
			}
			ps = append(ps, stringPattern(text, f.Kind == plan.FilterEqual))
		}
		return ps
	}, t)
}

// patterns emits a tree over the patterns of all filters: a filter holds if one of its patterns matches (or, with Not, none).
func (b *body) patterns(us []use, next string, of func(*plan.Filter) []pattern, t *wordTree) {
	var ps []pattern
	ids := make(map[string]int)
	var holders [][]int // pattern -> uses
	for i := range us {
		for _, p := range of(us[i].f) {
			k := p.key()
			id, ok := ids[k]
			if !ok {
				id = len(ps)
				ids[k] = id
				p.id = id
				ps = append(ps, p)
				holders = append(holders, nil)
			}
			if n := len(holders[id]); n == 0 || holders[id][n-1] != i {
				holders[id] = append(holders[id], i)
			}
		}
	}
	b.leaves(next, func(leaf func(ruleSet) string) {
		t.decide = func(matched []int) string {
			hit := make(map[int]bool)
			for _, id := range matched {
				for _, i := range holders[id] {
					hit[i] = true
				}
			}
			var dead ruleSet
			for i := range us {
				if hit[i] == us[i].f.Not {
					dead.add(us[i].rule)
				}
			}
			return leaf(b.all.without(dead))
		}
		t.node(0, ps, nil)
	})
}

// needleKey is what Options.Needles knows a string by.
func needleKey(k plan.FilterKind, s string) string {
	if k == plan.FilterContainsFold {
		b := []byte(s) // ASCII only, and whatever bytes there are
		for i, c := range b {
			if 'A' <= c && c <= 'Z' {
				b[i] = c + 'a' - 'A'
			}
		}
		return string(b)
	}
	return s
}

// Needles lists the strings that a program searches for, as Options.Needles must number them.
func Needles(p *plan.Program) []string {
	var out []string
	for i := range p.Rules {
		for j := range p.Rules[i].Filters {
			f := &p.Rules[i].Filters[j]
			if f.Kind == plan.FilterContains || f.Kind == plan.FilterContainsFold {
				for _, s := range f.Strings {
					out = append(out, needleKey(f.Kind, s))
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// containsPart searches for strings in a value.
func (b *body) containsPart(v int, us []use, next string) {
	c := b.c
	for i, u := range us {
		after := next
		if i < len(us)-1 {
			after = c.label()
		}
		one := ruleSet{}
		one.add(u.rule)
		b.ifNone(one, after)
		found := c.label()
		for _, s := range u.f.Strings {
			n, ok := b.o.Needles[needleKey(u.f.Kind, s)]
			if !ok {
				b.fail("the string %q has no number", s)
				return
			}
			fold := int32(0)
			if u.f.Kind == plan.FilterContainsFold {
				fold = 1
			}
			c.add(asm.LoadMem(asm.R1, asm.R10, bufAt, asm.Word))
			b.placeOf(v)
			c.add(asm.Mov.Imm(asm.R3, int32(n)), asm.Mov.Imm(asm.R4, fold), call("str_find"), asm.JNE.Imm(asm.R0, 0, found))
		}
		one2 := []use{u}
		b.keep(b.passing(one2, func(u *use) bool { return u.f.Not }), after)
		if len(u.f.Strings) > 0 {
			c.here(found)
			b.keep(b.passing(one2, func(u *use) bool { return !u.f.Not }), after)
		}
		if after != next {
			c.here(after)
		}
	}
}

// placeOf leaves the place of a value's text in R2.
func (b *body) placeOf(v int) {
	c := b.c
	switch t := b.p.Values[v].Type; {
	case isPath(t): // at the end of its room
		c.add(asm.Mov.Imm(asm.R2, b.o.Layout.pathEnd), asm.Sub.Reg(asm.R2, asm.R8), asm.LSh.Imm(asm.R2, 32), asm.Or.Reg(asm.R2, asm.R8))
	case t == plan.TypeSockaddrUn:
		c.add(asm.LoadMem(asm.R2, asm.R10, b.slotAt(v), asm.DWord), asm.LoadImm(asm.R3, 8<<32-8, asm.DWord), asm.Add.Reg(asm.R2, asm.R3))
	default:
		c.add(asm.LoadMem(asm.R2, asm.R10, b.slotAt(v), asm.DWord))
	}
}
