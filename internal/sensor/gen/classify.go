// SPDX-License-Identifier: Apache-2.0

package gen

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"tetragon/internal/policy/plan"
)

// classifyName is the placeholder in the library: int classify(u32 buf, u64 len, u64 pid, u64 nspid).
const classifyName = "classify"

// MaxSets is how many sets of processes there can be at a time. Their numbers are those below setWords*64 that are no
// multiple of 64: bit 0 of each word says that the process is known.
const MaxSets = setWords * 63

// Classify puts the decision which sets a process is in into a library program that makes it. sets are those with their
// numbers. All paths are compared in one tree, whatever their number.
func Classify(sets map[int]plan.Set, lib *ebpf.ProgramSpec, o Options) (*ebpf.ProgramSpec, error) {
	k := &classifier{c: newCode(), l: o.Layout}
	for n := range sets {
		if n <= 0 || n >= setWords*64 || n%64 == 0 {
			return nil, fmt.Errorf("generate the classes of processes: %d is no number of a set", n)
		}
	}
	k.emit(sets)
	ins, err := k.c.finish()
	if err != nil {
		return nil, fmt.Errorf("generate the classes of processes: %w", err)
	}
	return splice(lib, classifyName, ins)
}

type classifier struct {
	c *code
	l *Layout
}

// Places on the stack of classify.
const (
	kBuf   = -8
	kPid   = -16
	kNsPid = -24
)

// emit writes the function: R6 is the buffer, R7 and R8 the place and the length of the path.
func (k *classifier) emit(sets map[int]plan.Set) {
	c := k.c
	out := c.label()
	c.add(
		asm.StoreMem(asm.R10, kBuf, asm.R1, asm.Word),
		asm.Mov.Reg(asm.R8, asm.R2),
		asm.StoreMem(asm.R10, kPid, asm.R3, asm.DWord),
		asm.StoreMem(asm.R10, kNsPid, asm.R4, asm.DWord),
		asm.LoadMapPtr(asm.R1, 0).WithReference("hook_bufs"),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, kBuf),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, out),
		asm.Mov.Reg(asm.R6, asm.R0),
	)
	for w := range setWords {
		c.add(storeImm64(asm.R6, int16(k.l.sets)+int16(8*w), 0))
	}
	pids, noPath := c.label(), c.label()
	var forward, backward []pattern
	held := make(map[bool][]ruleSet) // by direction: pattern -> sets
	ids := make(map[bool]map[string]int)
	add := func(back bool, p pattern, set int, to *[]pattern) {
		if ids[back] == nil {
			ids[back] = make(map[string]int)
		}
		id, ok := ids[back][p.key()]
		if !ok {
			id = len(*to)
			p.id = id
			ids[back][p.key()] = id
			*to = append(*to, p)
			held[back] = append(held[back], ruleSet{})
		}
		held[back][id].add(set)
	}
	var pidUses, nsUses []pidUse
	for _, n := range slices.Sorted(maps.Keys(sets)) {
		s := sets[n]
		switch s.Kind {
		case plan.SetPaths, plan.SetPrefix:
			for _, p := range s.Paths {
				add(false, stringPattern([]byte(p), s.Kind == plan.SetPaths), n, &forward)
			}
		case plan.SetSuffix:
			for _, p := range s.Paths {
				add(true, stringPattern(reversed(p), false), n, &backward)
			}
		case plan.SetPids:
			pidUses = append(pidUses, pidUse{n, s.Pids})
		case plan.SetNsPids:
			nsUses = append(nsUses, pidUse{n, s.Pids})
		}
	}
	c.add(asm.JGT.Imm(asm.R8, k.l.pathEnd-k.l.path, noPath)) // bound: a path lies within its room; -1 has none
	if len(forward) > 0 {
		next := c.label()
		c.add(asm.Mov.Imm(asm.R1, k.l.pathEnd), asm.Sub.Reg(asm.R1, asm.R8), asm.Mov.Reg(asm.R7, asm.R6), asm.Add.Reg(asm.R7, asm.R1))
		k.tree(forward, held[false], next, func(n int) {
			c.add(asm.LoadMem(asm.R1, asm.R7, int16(8*n), asm.DWord), asm.HostTo(asm.BE, asm.R1, asm.DWord))
		})
		c.here(next)
	}
	if len(backward) > 0 {
		c.add(asm.Mov.Reg(asm.R7, asm.R6), asm.Add.Imm(asm.R7, k.l.pathEnd))
		k.tree(backward, held[true], pids, func(n int) {
			c.add(asm.LoadMem(asm.R1, asm.R7, int16(-8*(n+1)), asm.DWord), asm.HostTo(asm.LE, asm.R1, asm.DWord))
		})
	}
	c.here(pids)
	c.here(noPath)
	k.pids(pidUses, kPid)
	k.pids(nsUses, kNsPid)
	c.here(out)
	c.add(asm.Mov.Imm(asm.R0, 0), asm.Return())
}

type pidUse struct {
	set  int
	pids []uint32
}

func (k *classifier) pids(us []pidUse, at int16) {
	if len(us) == 0 {
		return
	}
	c := k.c
	in := make(map[uint64]ruleSet)
	var points []plan.Range
	for _, u := range us {
		for _, p := range u.pids {
			s := in[uint64(p)]
			s.add(u.set)
			in[uint64(p)] = s
			points = append(points, plan.Range{Lo: uint64(p), Hi: uint64(p)})
		}
	}
	var iv []interval[ruleSet]
	for _, lo := range split(points) {
		iv = append(iv, interval[ruleSet]{lo, in[lo]})
	}
	next := c.label()
	c.add(asm.LoadMem(asm.R1, asm.R10, at, asm.DWord))
	k.leaves(next, func(leaf func(ruleSet) string) { search(c, asm.R1, merge(iv), leaf) })
	c.here(next)
}

func (k *classifier) tree(ps []pattern, held []ruleSet, next string, load func(int)) {
	k.leaves(next, func(leaf func(ruleSet) string) {
		t := &wordTree{c: k.c, lenReg: asm.R8, load: load, decide: func(matched []int) string {
			var s ruleSet
			for _, id := range matched {
				s = s.or(held[id])
			}
			return leaf(s)
		}}
		t.node(0, ps, nil)
	})
}

// leaves emits a tree and behind it what its leaves do: note the sets, go on at next.
func (k *classifier) leaves(next string, tree func(leaf func(ruleSet) string)) {
	c := k.c
	labels := make(map[ruleSet]string)
	var order []ruleSet
	tree(func(s ruleSet) string {
		if s.empty() {
			return next
		}
		if labels[s] == "" {
			labels[s] = c.label()
			order = append(order, s)
		}
		return labels[s]
	})
	for _, s := range order {
		c.here(labels[s])
		for w := range setWords {
			if s[w] == 0 {
				continue
			}
			at := int16(k.l.sets) + int16(8*w)
			c.add(asm.LoadMem(asm.R1, asm.R6, at, asm.DWord))
			c.imm(asm.R0, s[w])
			c.add(asm.Or.Reg(asm.R1, asm.R0), asm.StoreMem(asm.R6, at, asm.R1, asm.DWord))
		}
		c.jump(next)
	}
}
