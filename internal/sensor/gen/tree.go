// SPDX-License-Identifier: Apache-2.0

package gen

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"

	"github.com/cilium/ebpf/asm"

	"tetragon/internal/policy/plan"
)

// interval is a range of a word in which every value leads to the same leaf; it begins at Lo and ends before the next.
type interval[L comparable] struct {
	lo   uint64
	leaf L
}

// search emits a binary search for the word in reg over sorted intervals that begin at 0, and jumps to leaf(L).
func search[L comparable](c *code, reg asm.Register, iv []interval[L], leaf func(L) string) {
	searchOn(c, reg, iv, leaf, func() {})
}

// searchOn is search, which calls land where code of leaves can stand, near the jumps to them.
func searchOn[L comparable](c *code, reg asm.Register, iv []interval[L], leaf func(L) string, land func()) {
	if len(iv) <= 3 {
		defer land()
	}
	switch {
	case len(iv) == 1:
		c.jump(leaf(iv[0].leaf))
		return
	case len(iv) == 3 && iv[0].leaf == iv[2].leaf && iv[1].lo+1 == iv[2].lo: // one value among others
		c.jumpImm(asm.JEq, reg, iv[1].lo, leaf(iv[1].leaf))
		c.jump(leaf(iv[0].leaf))
		return
	case len(iv) == 2:
		c.jumpImm(asm.JGE, reg, iv[1].lo, leaf(iv[1].leaf))
		c.jump(leaf(iv[0].leaf))
		return
	}
	mid := len(iv) / 2
	right := c.label()
	c.jumpImm(asm.JGE, reg, iv[mid].lo, right)
	searchOn(c, reg, iv[:mid], leaf, land)
	c.here(right)
	searchOn(c, reg, iv[mid:], leaf, land)
}

// split cuts the 64-bit line at all ends of the ranges.
func split(rs []plan.Range) []uint64 {
	points := []uint64{0}
	for _, r := range rs {
		points = append(points, r.Lo)
		if r.Hi != math.MaxUint64 {
			points = append(points, r.Hi+1)
		}
	}
	slices.Sort(points)
	return slices.Compact(points)
}

func inRanges(rs []plan.Range, v uint64) bool {
	for _, r := range rs {
		if v >= r.Lo && v <= r.Hi {
			return true
		}
	}
	return false
}

// merge joins neighbours with the same leaf.
func merge[L comparable](iv []interval[L]) []interval[L] {
	out := iv[:0]
	for _, x := range iv {
		if len(out) > 0 && out[len(out)-1].leaf == x.leaf {
			continue
		}
		out = append(out, x)
	}
	return out
}

// pattern is something that a sequence of words may match: words that must be equal, then a range of the last one, then
// a range of the length in bytes of the whole.
type pattern struct {
	id     int // bit in a set of patterns
	words  []uint64
	last   plan.Range
	length plan.Range
}

// stringPattern matches strings that are equal to s, or begin with it.
func stringPattern(s []byte, equal bool) pattern {
	p := pattern{last: plan.Range{Hi: math.MaxUint64}, length: plan.Range{Lo: uint64(len(s)), Hi: math.MaxUint64}}
	if equal {
		p.length.Hi = p.length.Lo
	}
	for len(s) > 8 {
		p.words = append(p.words, be64(s))
		s = s[8:]
	}
	if len(s) > 0 {
		var lo, hi [8]byte
		copy(lo[:], s)
		copy(hi[:], s)
		for i := len(s); i < 8; i++ {
			hi[i] = 0xff
		}
		p.last = plan.Range{Lo: be64(lo[:]), Hi: be64(hi[:])}
	}
	return p
}

// key tells patterns apart.
func (p *pattern) key() string { return fmt.Sprint(p.words, p.last, p.length) }

func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

// wordTree emits the decision tree over patterns. load puts word n into R1; the length of the string is in lenReg. At each
// end, decide is called with the sorted ids of the patterns that match, and gives the label to go to.
type wordTree struct {
	c      *code
	load   func(n int)
	lenReg asm.Register
	fixed  bool // the length is of no interest
	decide func(matched []int) string
}

func (t *wordTree) node(n int, ps []pattern, before []pattern) {
	if len(ps) == 0 {
		t.end(before)
		return
	}
	c := t.c
	t.load(n)
	var rs []plan.Range
	for i := range ps {
		rs = append(rs, wordRange(&ps[i], n))
	}
	type way struct { // where an interval leads
		ended, going string // ids as text, to be comparable
	}
	type target struct{ ended, going []pattern }
	targets := make(map[way]target)
	var iv []interval[way]
	// Those whose range has begun and not ended: few, of thousands.
	var here []int
	begins := make([]int, len(ps))
	for i := range begins {
		begins[i] = i
	}
	slices.SortStableFunc(begins, func(a, b int) int { return cmp.Compare(rs[a].Lo, rs[b].Lo) })
	for _, lo := range split(rs) {
		here = slices.DeleteFunc(here, func(i int) bool { return rs[i].Hi < lo })
		for len(begins) > 0 && rs[begins[0]].Lo <= lo {
			here = append(here, begins[0])
			begins = begins[1:]
		}
		slices.Sort(here)
		var to target
		var w way
		for _, i := range here {
			if len(ps[i].words) == n {
				to.ended = append(to.ended, ps[i])
				w.ended += strconv.Itoa(ps[i].id) + ","
			} else {
				to.going = append(to.going, ps[i])
				w.going += strconv.Itoa(ps[i].id) + ","
			}
		}
		targets[w] = to
		iv = append(iv, interval[way]{lo, w})
	}
	iv = merge(iv)
	uses := make(map[way]int)
	for _, x := range iv {
		uses[x.leaf]++
	}
	labels := make(map[way]string)
	var near, shared []way // whose code is missing yet: where one interval leads, and where several do
	emit := func(ws []way) {
		for _, w := range ws {
			to := targets[w]
			c.here(labels[w])
			t.node(n+1, to.going, append(slices.Clone(before), to.ended...))
		}
	}
	searchOn(c, asm.R1, iv, func(w way) string {
		if labels[w] == "" {
			labels[w] = c.label()
			if uses[w] == 1 {
				near = append(near, w)
			} else {
				shared = append(shared, w)
			}
		}
		return labels[w]
	}, func() {
		ws := near
		near = nil
		emit(ws)
	})
	emit(shared)
}

// wordRange is what word n of a pattern allows.
func wordRange(p *pattern, n int) plan.Range {
	if n < len(p.words) {
		return plan.Range{Lo: p.words[n], Hi: p.words[n]}
	}
	return p.last
}

// end emits the last decision: by length.
func (t *wordTree) end(ps []pattern) {
	ids := func(in func(*pattern) bool) []int {
		var m []int
		for i := range ps {
			if in(&ps[i]) {
				m = append(m, ps[i].id)
			}
		}
		sort.Ints(m)
		return m
	}
	if t.fixed || len(ps) == 0 {
		t.c.jump(t.decide(ids(func(*pattern) bool { return true })))
		return
	}
	var rs []plan.Range
	for i := range ps {
		rs = append(rs, ps[i].length)
	}
	var iv []interval[string]
	for _, lo := range split(rs) {
		iv = append(iv, interval[string]{lo, t.decide(ids(func(p *pattern) bool { return inRanges([]plan.Range{p.length}, lo) }))})
	}
	search(t.c, t.lenReg, merge(iv), func(l string) string { return l })
}

// reversed gives the bytes of s from the last to the first.
func reversed(s string) []byte {
	b := []byte(s)
	slices.Reverse(b)
	return b
}
