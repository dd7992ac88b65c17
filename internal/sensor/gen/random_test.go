// SPDX-License-Identifier: Apache-2.0

package gen

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"strings"

	"tetragon/internal/policy/expr"
	"tetragon/internal/policy/plan"
)

// random makes programs, and arguments that are close to what the programs compare them with. Every kind of filter and of
// value has its interesting values here, once.
type random struct{ *rand.Rand }

func (r random) oneOf(n uint64, more ...uint64) uint64 {
	if i := r.IntN(len(more) + 1); i > 0 {
		return more[i-1]
	}
	return n
}

// word is an interesting word.
func (r random) word() uint64 {
	edges := []uint64{
		0, 1, 2, 7, 8, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, math.MaxInt32, math.MaxInt32 + 1, math.MaxUint32,
		math.MaxUint32 + 1, math.MaxInt64, 1 << 63, math.MaxUint64, math.MaxUint64 - 1, math.MaxUint64 - math.MaxInt32,
	}
	switch r.IntN(4) {
	case 0:
		return r.Uint64()
	case 1:
		return uint64(r.IntN(40))
	}
	return edges[r.IntN(len(edges))] + uint64(r.IntN(3)) - 1
}

// extend is what a value of so many bits looks like as a word.
func extend(w uint64, bits uint8, signed bool) uint64 {
	s := 64 - uint(bits)
	if signed {
		return uint64(int64(w<<s) >> s)
	}
	return w << s >> s
}

// text is an interesting string: short alphabets collide, lengths are around words.
func (r random) text() string {
	var n int
	switch r.IntN(6) {
	case 0:
		n = r.IntN(4)
	case 1, 2:
		n = 7 + r.IntN(3)
	case 3:
		n = 15 + r.IntN(4)
	case 4:
		n = r.IntN(40)
	default:
		n = 120 + r.IntN(20)
	}
	var b strings.Builder
	for range n {
		b.WriteByte("ab/\xff"[r.IntN(4)])
	}
	return b.String()
}

// like is a string that has something of s.
func (r random) like(s string) string {
	switch r.IntN(6) {
	case 0:
		return s
	case 1:
		return s + r.text()
	case 2:
		return r.text() + s
	case 3:
		return s[:r.IntN(len(s)+1)]
	case 4:
		return s[r.IntN(len(s)+1):]
	}
	return r.text()
}

func (r random) addr() netip.Addr {
	if r.IntN(2) == 0 {
		return netip.AddrFrom4([4]byte{10, byte(r.IntN(2)), byte(r.IntN(3)), byte(r.Uint32())})
	}
	a := [16]byte{0x20, 1, 0xd, 0xb8}
	for _, i := range []int{7, 8, 15} {
		a[i] = byte(r.IntN(3))
	}
	return netip.AddrFrom16(a)
}

// The kinds of values that the programs have.
const (
	valueInt = iota
	valueString
	valueSockaddr
	valueFile
	valueKinds
)

// program makes a program of so many rules over so many values.
func (r random) program(values, rules int, kinds ...int) *plan.Program {
	p := &plan.Program{ID: 1, Attach: plan.Attach{Backend: plan.BackendRawTp, Symbol: "library"}}
	for i := range values {
		v := plan.Value{Source: plan.Source{Kind: plan.SourceArg, N: int64(i)}}
		switch kinds[r.IntN(len(kinds))] {
		case valueInt:
			v.Type, v.Bits, v.Signed = plan.TypeInt, []uint8{8, 16, 32, 64}[r.IntN(4)], r.IntN(2) == 0
		case valueString:
			v.Type = plan.TypeString
		case valueSockaddr:
			v.Type = plan.TypeSockaddr
		case valueFile:
			v.Type = plan.TypeFd
		}
		p.Values = append(p.Values, v)
	}
	h := &plan.Hook{}
	for range rules {
		var rule plan.Rule
		for range r.IntN(4) {
			rule.Filters = append(rule.Filters, r.filter(p))
		}
		h.Rules = append(h.Rules, rule)
	}
	p.Rules = h.Rules
	p.Groups = []plan.Group{{Policy: 1, Plan: &plan.Plan{}, Hook: h}}
	return p
}

func (r random) filter(p *plan.Program) plan.Filter {
	i := r.IntN(len(p.Values))
	v := &p.Values[i]
	f := plan.Filter{Value: i, Not: r.IntN(3) == 0}
	switch v.Type {
	case plan.TypeInt:
		if r.IntN(4) == 0 {
			f.Kind, f.Expr = plan.FilterExpr, r.expression(p, 4)
			break
		}
		r.number(&f, func() uint64 { return extend(r.word(), v.Bits, v.Signed) })
	case plan.TypeString:
		r.strings(&f)
	case plan.TypeFd:
		if r.IntN(4) == 0 {
			f.Field, f.Kind = plan.FieldFileType, plan.FilterRanges
			for range 1 + r.IntN(2) {
				m := r.oneOf(0o100000, 0o40000, 0o10000, 0o140000)
				f.Ranges = append(f.Ranges, plan.Range{Lo: m, Hi: m})
			}
			break
		}
		r.strings(&f)
	case plan.TypeSockaddr:
		switch r.IntN(3) {
		case 0:
			f.Field = plan.FieldFamily
			r.number(&f, func() uint64 { return r.oneOf(2, 10, 1) })
		case 1:
			f.Field = plan.FieldSport
			r.number(&f, func() uint64 { return uint64(1020 + r.IntN(6)) })
		default:
			f.Field, f.Kind = plan.FieldSaddr, plan.FilterAddrs
			for range 1 + r.IntN(3) {
				a := r.addr()
				f.Prefixes = append(f.Prefixes, netip.PrefixFrom(a, r.IntN(a.BitLen()+1)))
			}
		}
	}
	return f
}

// expression is one that is true or false.
func (r random) expression(p *plan.Program, depth int) *expr.Node {
	two := func(op expr.Op, t expr.Type, a, b *expr.Node) *expr.Node {
		return &expr.Node{Op: op, Type: t, Args: []*expr.Node{a, b}}
	}
	if depth > 0 && r.IntN(3) == 0 {
		op := []expr.Op{expr.OpAnd, expr.OpOr, expr.OpXor, expr.OpEq}[r.IntN(4)]
		return two(op, expr.Bool, r.expression(p, depth-1), r.expression(p, depth-1))
	}
	t := []expr.Type{expr.Int, expr.Uint, expr.Int32, expr.Uint32}[r.IntN(4)]
	op := []expr.Op{expr.OpEq, expr.OpLess}[r.IntN(2)]
	return two(op, expr.Bool, r.operand(p, t, depth), r.operand(p, t, depth))
}

func (r random) operand(p *plan.Program, t expr.Type, depth int) *expr.Node {
	if depth > 0 && r.IntN(2) == 0 {
		op := []expr.Op{expr.OpAdd, expr.OpSub, expr.OpAnd, expr.OpOr, expr.OpXor}[r.IntN(5)]
		return &expr.Node{Op: op, Type: t, Args: []*expr.Node{r.operand(p, t, depth-1), r.operand(p, t, depth-1)}}
	}
	i := r.IntN(len(p.Values))
	if r.IntN(3) == 0 || p.Values[i].Type != plan.TypeInt {
		return &expr.Node{Op: expr.OpConst, Type: t, N: t.Extend(r.word())}
	}
	return &expr.Node{Op: expr.OpWrap, Type: t, Args: []*expr.Node{{Op: expr.OpArg, Type: expr.Int, Arg: i}}}
}

func (r random) number(f *plan.Filter, word func() uint64) {
	if r.IntN(4) == 0 {
		f.Kind, f.Mask = plan.FilterBits, r.word()
		return
	}
	f.Kind = plan.FilterRanges
	for range r.IntN(5) {
		x := plan.Range{Lo: word()}
		x.Hi = x.Lo
		if r.IntN(2) == 0 {
			if x.Hi = word(); x.Hi < x.Lo {
				x.Lo, x.Hi = x.Hi, x.Lo
			}
		}
		f.Ranges = append(f.Ranges, x)
	}
}

func (r random) strings(f *plan.Filter) {
	f.Kind = []plan.FilterKind{
		plan.FilterEqual, plan.FilterPrefix, plan.FilterSuffix, plan.FilterContains, plan.FilterContainsFold,
	}[r.IntN(5)]
	for range r.IntN(4) {
		s := r.text()
		if f.Kind == plan.FilterContains || f.Kind == plan.FilterContainsFold {
			s = s[:min(len(s), 1+r.IntN(9))]
			if s == "" {
				s = "a"
			}
		}
		if len(f.Strings) > 0 && r.IntN(2) == 0 {
			s = r.like(f.Strings[0])
		}
		f.Strings = append(f.Strings, s)
	}
}

// near picks something that the filters on a value compare it with.
func (r random) near(p *plan.Program, value int) *plan.Filter {
	var fs []*plan.Filter
	for i := range p.Rules {
		for j := range p.Rules[i].Filters {
			if f := &p.Rules[i].Filters[j]; f.Value == value && f.Task == plan.TaskNone && f.Kind != plan.FilterClass {
				fs = append(fs, f)
			}
		}
	}
	if len(fs) == 0 {
		return &plan.Filter{}
	}
	return fs[r.IntN(len(fs))]
}

// wordFor is a word that may just match.
func (r random) wordFor(f *plan.Filter) uint64 {
	if len(f.Ranges) > 0 && r.IntN(4) > 0 {
		x := f.Ranges[r.IntN(len(f.Ranges))]
		return r.oneOf(x.Lo, x.Hi, x.Lo-1, x.Hi+1)
	}
	if f.Mask != 0 && r.IntN(2) == 0 {
		return f.Mask & r.Uint64()
	}
	return r.word()
}

// textFor is a string that may just match.
func (r random) textFor(f *plan.Filter) string {
	if len(f.Strings) > 0 && r.IntN(5) > 0 {
		s := f.Strings[r.IntN(len(f.Strings))]
		if f.Kind == plan.FilterContainsFold && r.IntN(2) == 0 {
			s = strings.ToUpper(s)
		}
		return r.like(s)
	}
	return r.text()
}

func (r random) addrFor(f *plan.Filter) netip.Addr {
	if len(f.Prefixes) > 0 && r.IntN(3) > 0 {
		return f.Prefixes[r.IntN(len(f.Prefixes))].Addr()
	}
	return r.addr()
}
