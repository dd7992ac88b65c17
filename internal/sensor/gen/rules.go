// SPDX-License-Identifier: Apache-2.0

package gen

import (
	"math/bits"

	"github.com/cilium/ebpf/asm"
)

// As in bpf/abi/hook.h; the package's test compares them.
const (
	maxRules  = 512
	ruleWords = maxRules / 64
	slotSize  = 8 * ruleWords
)

// ruleSet is a set of rules of one program.
type ruleSet [ruleWords]uint64

func (s *ruleSet) add(r int) { s[r/64] |= 1 << (r % 64) }

func (s ruleSet) has(r int) bool { return s[r/64]&(1<<(r%64)) != 0 }

func (s ruleSet) empty() bool { return s == ruleSet{} }

func (s ruleSet) or(o ruleSet) ruleSet {
	for i := range s {
		s[i] |= o[i]
	}
	return s
}

func (s ruleSet) without(o ruleSet) ruleSet {
	for i := range s {
		s[i] &^= o[i]
	}
	return s
}

func (s ruleSet) len() int {
	n := 0
	for i := range s {
		n += bits.OnesCount64(s[i])
	}
	return n
}

// firstRules is the set of rules 0 to n-1.
func firstRules(n int) ruleSet {
	var s ruleSet
	for i := range n {
		s.add(i)
	}
	return s
}

// The live rules are in R6 if there are at most 64, else on the stack, at liveAt. If there are many they are fetched only
// behind the first comparison where possible: most calls end there, with nothing left of any rule.

//
// bound: the verifier must not know what is in them. Where it can tell from the masks so far that none of some rules is
// alive, it foresees a branch, must then tell apart what led there, and follows each way through the comparisons to the end
// by itself: exponentially many. So each word is blurred by a number that it does not know, twice, which changes nothing.

// blur makes the verifier forget what is in reg. R0 is lost.
func (b *body) blur(reg asm.Register) {
	if b.all.len() > 1 {
		b.c.add(asm.LoadMem(asm.R0, asm.R10, blurAt, asm.DWord), asm.Xor.Reg(reg, asm.R0), asm.Xor.Reg(reg, asm.R0))
	}
}

// unknown puts a number that the verifier does not know where blur takes it: in two halves, which it does not follow.
func (b *body) unknown(reg asm.Register) {
	if b.all.len() > 1 {
		b.c.add(asm.StoreMem(asm.R10, blurAt, reg, asm.Word), asm.StoreMem(asm.R10, blurAt+4, reg, asm.Word))
	}
}

// base leaves the address of the slot's rules in reg.
func (b *body) base(reg asm.Register) {
	v := b.o.Layout.slots
	b.c.add(asm.LoadMapValue(reg, 0, v.offset+uint32(b.o.Slot*slotSize)).WithReference(v.section))
}

// load fetches the live rules.
func (b *body) load() {
	c := b.c
	b.base(asm.R1)
	for w := range b.words {
		if b.words == 1 {
			c.add(asm.LoadMem(asm.R6, asm.R1, 0, asm.DWord))
			b.unknown(asm.R6)
			return
		}
		c.add(asm.LoadMem(asm.R2, asm.R1, int16(8*w), asm.DWord), asm.StoreMem(asm.R10, liveAt(w), asm.R2, asm.DWord))
		if w == 0 {
			b.unknown(asm.R2)
		}
	}
}

// keep leaves only the rules of s alive and goes on at next, or out if none is left. R0 to R2 are lost.
func (b *body) keep(s ruleSet, next string) {
	c := b.c
	dead := b.all.without(s)
	switch {
	case dead == b.all:
		c.jump(b.out)
		return
	case b.lazy:
		b.fetch(s)
		c.add(asm.JNE.Imm(asm.R2, 0, next))
		c.jump(b.out)
		return
	case dead.empty():
		c.jump(next)
		return
	}
	if b.words == 1 {
		b.andImm(asm.R6, s[0]|^b.all[0])
		b.blur(asm.R6)
		c.add(asm.JNE.Imm(asm.R6, 0, next))
		c.jump(b.out)
		return
	}
	c.add(asm.Mov.Imm(asm.R2, 0))
	for w := range b.words {
		if dead[w] == b.all[w] {
			c.add(asm.Mov.Imm(asm.R1, 0))
			b.blur(asm.R1)
			c.add(asm.StoreMem(asm.R10, liveAt(w), asm.R1, asm.DWord))
			continue
		}
		c.add(asm.LoadMem(asm.R1, asm.R10, liveAt(w), asm.DWord))
		if dead[w] != 0 {
			b.andImm(asm.R1, s[w]|^b.all[w])
			b.blur(asm.R1)
			c.add(asm.StoreMem(asm.R10, liveAt(w), asm.R1, asm.DWord))
		}
		c.add(asm.Or.Reg(asm.R2, asm.R1))
	}
	c.add(asm.JNE.Imm(asm.R2, 0, next))
	c.jump(b.out)
}

// fetch gets the live rules of s from the slot, and leaves in R2 whether there are any. R0 to R3 are lost.
func (b *body) fetch(s ruleSet) {
	c := b.c
	b.base(asm.R3)
	c.add(asm.LoadMem(asm.R1, asm.R3, 0, asm.DWord), asm.Mov.Imm(asm.R2, 0))
	b.unknown(asm.R1)
	for w := range b.words {
		if s[w]&b.all[w] == 0 {
			c.add(asm.Mov.Imm(asm.R1, 0))
			b.blur(asm.R1)
			c.add(asm.StoreMem(asm.R10, liveAt(w), asm.R1, asm.DWord))
			continue
		}
		c.add(asm.LoadMem(asm.R1, asm.R3, int16(8*w), asm.DWord))
		if s[w]&b.all[w] != b.all[w] {
			b.andImm(asm.R1, s[w]|^b.all[w])
			b.blur(asm.R1)
		}
		c.add(asm.StoreMem(asm.R10, liveAt(w), asm.R1, asm.DWord), asm.Or.Reg(asm.R2, asm.R1))
	}
}

// andImm ands a constant into dst; R0 is lost.
func (b *body) andImm(dst asm.Register, v uint64) {
	if int64(v) == int64(int32(v)) {
		b.c.add(asm.And.Imm(dst, int32(v)))
		return
	}
	b.c.add(asm.LoadImm(asm.R0, int64(v), asm.DWord), asm.And.Reg(dst, asm.R0))
}

// ifNone jumps if none of the rules of s is alive. R1 and R2 are lost.
func (b *body) ifNone(s ruleSet, label string) {
	if s == b.all {
		return // then some rule is alive
	}
	c := b.c
	if b.words == 1 {
		c.add(asm.Mov.Reg(asm.R1, asm.R6))
		b.andImm(asm.R1, s[0])
		c.add(asm.JEq.Imm(asm.R1, 0, label))
		return
	}
	c.add(asm.Mov.Imm(asm.R2, 0))
	for w := range b.words {
		if s[w] == 0 {
			continue
		}
		c.add(asm.LoadMem(asm.R1, asm.R10, liveAt(w), asm.DWord))
		b.andImm(asm.R1, s[w])
		c.add(asm.Or.Reg(asm.R2, asm.R1))
	}
	c.add(asm.JEq.Imm(asm.R2, 0, label))
}
