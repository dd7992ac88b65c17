// SPDX-License-Identifier: Apache-2.0

package gen

import (
	"slices"

	"github.com/cilium/ebpf/asm"

	"tetragon/internal/policy/digest"
	"tetragon/internal/policy/plan"
)

// DigestMap is the map that a program looks digests up in: its own, made of Digests.
const DigestMap = "digests"

// DigestRow is a row of it: which rules a file with this digest lets live.
type DigestRow struct {
	Key   [digest.KeySize]byte
	Rules []uint64
}

// Digests lists what a program compares digests with; none: it compares none.
func Digests(p *plan.Program) []DigestRow {
	var out []DigestRow
	all := firstRules(len(p.Rules))
	for _, field := range []plan.Field{plan.FieldHash, plan.FieldVerity} {
		us := digestUses(p, field)
		var texts []string
		for _, u := range us {
			texts = append(texts, u.f.Strings...)
		}
		slices.Sort(texts)
		in := make([]map[string]bool, len(us))
		for i, u := range us {
			in[i] = make(map[string]bool, len(u.f.Strings))
			for _, s := range u.f.Strings {
				in[i][s] = true
			}
		}
		for _, s := range slices.Compact(texts) {
			d, err := digest.Parse(s)
			if err != nil {
				continue // the compiler lets none through
			}
			live := all
			for i, u := range us {
				if in[i][s] == u.f.Not {
					live[u.rule/64] &^= 1 << (u.rule % 64)
				}
			}
			out = append(out, DigestRow{Key: d.Key(), Rules: live[:(len(p.Rules)+63)/64]})
		}
	}
	return out
}

func digestUses(p *plan.Program, field plan.Field) []use {
	var us []use
	for r := range p.Rules {
		for i := range p.Rules[r].Filters {
			if f := &p.Rules[r].Filters[i]; f.Kind == plan.FilterDigest && f.Field == field {
				us = append(us, use{r, f})
			}
		}
	}
	return us
}

// file loads the file that the hook is about, or goes to none. The kernel wants a pointer of which it knows the type: loads go
// through memory by themselves here.
func (b *body) file(none string) {
	h := b.p.Attach.Hash
	if h == nil || b.p.Attach.Backend != plan.BackendLSM {
		b.fail("%s has no file to be hashed", b.p.Attach.Backend)
		return
	}
	c := b.c
	c.add(asm.LoadMem(asm.R1, asm.R9, int16(8*h.N), asm.DWord))
	for _, s := range h.Steps {
		c.add(asm.LoadMem(asm.R1, asm.R1, int16(s.Off), asm.DWord))
	}
	c.add(asm.JEq.Imm(asm.R1, 0, none)) // memory of no file is mapped
}

// look looks up the key whose address is in R2, and lets those rules live that its row says. Without a row the file has none of
// the digests.
func (b *body) look(us []use, other, next string) {
	c := b.c
	c.add(asm.LoadMapPtr(asm.R1, 0).WithReference(DigestMap), asm.FnMapLookupElem.Call(), asm.JEq.Imm(asm.R0, 0, other))
	if b.words == 1 {
		c.add(asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord), asm.And.Reg(asm.R6, asm.R1), asm.JNE.Imm(asm.R6, 0, next))
	} else {
		c.add(asm.Mov.Imm(asm.R2, 0))
		for w := range b.words {
			c.add(
				asm.LoadMem(asm.R1, asm.R10, liveAt(w), asm.DWord), asm.LoadMem(asm.R3, asm.R0, int16(8*w), asm.DWord),
				asm.And.Reg(asm.R1, asm.R3), asm.StoreMem(asm.R10, liveAt(w), asm.R1, asm.DWord), asm.Or.Reg(asm.R2, asm.R1),
			)
		}
		c.add(asm.JNE.Imm(asm.R2, 0, next))
	}
	c.jump(b.out)
	c.here(other)
	b.keep(b.passing(us, func(u *use) bool { return u.f.Not }), next)
}

// verity compares the digest that fs-verity keeps with the file.
func (b *body) verity(us []use, next string) {
	c := b.c
	none, other := c.label(), c.label()
	b.file(none)
	c.add(asm.LoadMem(asm.R2, asm.R10, bufAt, asm.Word), call("verity_key"), asm.JSLT.Imm(asm.R0, 0, other))
	b.bufPtr()
	c.add(asm.Mov.Reg(asm.R2, asm.R7), asm.Add.Imm(asm.R2, b.o.Layout.path))
	b.look(us, other, next)
	c.here(none)
	b.kill(us, next)
}

// hashes says whether a rule tells the hash of the file.
func (b *body) hashes(i int) bool {
	do := &b.p.Rules[i].Do
	return do.Post && do.ImaHash && !b.o.Test
}

// hashDim is the last thing that is looked at: the hash of the file, for which the kernel may have to read all of it. Rules that
// only tell it have it made here as well, while no buffer is held.
func (b *body) hashDim(us []use, next *int) (dim, bool) {
	d := dim{cost: costHash, users: usersOf(us), emit: func(next string) { b.hashed(us, next) }}
	tells := false
	for i := range b.p.Rules {
		if b.hashes(i) {
			tells = true
			d.users.add(i)
		}
	}
	if d.users.empty() {
		return dim{}, false
	}
	b.hash = b.wordsOnStack(digest.KeySize/8, next)
	if tells { // bound: kernels before 6.3 let nobody load what was not stored on every way
		b.noHash()
	}
	return d, true
}

// wordsOnStack gives n words that follow each other, and the place of the first.
func (b *body) wordsOnStack(n int, next *int) int16 {
	if *next += n; *next > maxSlot {
		b.fail("its policies filter on more values than fit (%d words of stack); drop filters or policies from this hook", maxSlot)
	}
	return int16(slotsAt - 8*(*next-1))
}

// noAlgorithm is the algorithm of a hash that could not be made.
const noAlgorithm = -1

// noHash says that there is none.
func (b *body) noHash() {
	b.c.add(storeImm64(asm.R10, b.hash, noAlgorithm))
	for i := range digest.Max / 8 {
		b.c.add(storeImm64(asm.R10, b.hash+8+int16(8*i), 0))
	}
}

// hashed makes the hash of the file and compares it.
func (b *body) hashed(us []use, next string) {
	c := b.c
	none, other := c.label(), c.label()
	if len(us) == 0 {
		none, other = next, next
	}
	b.file(none)
	b.noHash() // what is behind a short one counts as well
	c.add(
		asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, int32(b.hash)+8),
		asm.Mov.Imm(asm.R3, digest.Max), asm.FnImaFileHash.Call(),
		asm.JSLT.Imm(asm.R0, 0, other), asm.StoreMem(asm.R10, b.hash, asm.R0, asm.DWord),
	)
	if len(us) == 0 {
		c.jump(next)
		return
	}
	c.add(asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, int32(b.hash)))
	b.look(us, other, next)
	c.here(none)
	b.kill(us, next)
}

// tellHash appends the hash of the file for the rules that tell it.
func (b *body) tellHash() {
	var who ruleSet
	for i := range b.p.Rules {
		if b.hashes(i) {
			who.add(i)
		}
	}
	if who.empty() {
		return
	}
	c := b.c
	next := c.label()
	b.ifNone(who, next)
	b.bufPtr()
	c.add(asm.Add.Imm(asm.R7, b.o.Layout.path))
	for i := range digest.Max / 8 {
		c.add(asm.LoadMem(asm.R1, asm.R10, b.hash+8+int16(8*i), asm.DWord), asm.StoreMem(asm.R7, int16(8*i), asm.R1, asm.DWord))
	}
	c.add(asm.LoadMem(asm.R2, asm.R10, b.hash, asm.DWord), asm.LoadMem(asm.R1, asm.R10, bufAt, asm.Word), call("hash_put"))
	c.here(next)
}
