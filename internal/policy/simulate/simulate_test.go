// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tetragon/internal/policy/plan"
)

func ranges(r ...uint64) []plan.Range {
	var out []plan.Range
	for i := 0; i < len(r); i += 2 {
		out = append(out, plan.Range{Lo: r[i], Hi: r[i+1]})
	}
	return out
}

func prefixes(s ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, x := range s {
		out = append(out, netip.MustParsePrefix(x))
	}
	return out
}

func inet(family uint16, saddr, daddr string) Value {
	v := Value{Net: Net{Family: family}}
	SetAddr(&v.Net.Saddr, netip.MustParseAddr(saddr))
	SetAddr(&v.Net.Daddr, netip.MustParseAddr(daddr))
	return v
}

const minus1 = math.MaxUint64

// TestHolds has each kind of filter, on values that pass it and others that do not. With Not, what passes must fail and the
// other way round, but for values that could not be read or have no address: these fail in any case.
func TestHolds(t *testing.T) {
	num := func(n uint64) Value { return Value{Int: n} }
	str := func(s string) Value { return Value{Text: []byte(s)} }
	sock := Value{Net: Net{Family: 2, SockType: 1, Protocol: 6, State: 7, Sport: 1023, Dport: 443}}
	for _, c := range []struct {
		name          string
		f             plan.Filter
		yes, no, none []Value // none: fail in any case
	}{
		{"one number", plan.Filter{Kind: plan.FilterRanges, Ranges: ranges(5, 5)}, []Value{num(5)}, []Value{num(4), num(6), num(0)}, nil},
		{"ranges", plan.Filter{Kind: plan.FilterRanges, Ranges: ranges(1, 3, 8, 9)},
			[]Value{num(1), num(3), num(8), num(9)}, []Value{num(0), num(4), num(7), num(10)}, nil},
		{"negative numbers are large", plan.Filter{Kind: plan.FilterRanges, Ranges: ranges(1<<63, minus1)},
			[]Value{num(minus1), num(1 << 63)}, []Value{num(0), num(math.MaxInt64)}, nil},
		{"all numbers", plan.Filter{Kind: plan.FilterRanges, Ranges: ranges(0, minus1)}, []Value{num(0), num(minus1)}, nil, nil},
		{"a range backwards", plan.Filter{Kind: plan.FilterRanges, Ranges: ranges(3, 1)}, nil, []Value{num(1), num(2), num(3)}, nil},
		{"no range", plan.Filter{Kind: plan.FilterRanges}, nil, []Value{num(0), num(7)}, nil},
		{"bits", plan.Filter{Kind: plan.FilterBits, Mask: 6}, []Value{num(2), num(4), num(7), num(minus1)}, []Value{num(0), num(1), num(8)}, nil},
		{"no bits", plan.Filter{Kind: plan.FilterBits}, nil, []Value{num(0), num(minus1)}, nil},
		{"equal", plan.Filter{Kind: plan.FilterEqual, Strings: []string{"/a", "/bb"}},
			[]Value{str("/a"), str("/bb")}, []Value{str(""), str("/"), str("/aa"), str("/A"), str("/a\x00")}, nil},
		{"equal to nothing", plan.Filter{Kind: plan.FilterEqual, Strings: []string{""}}, []Value{str(""), {}}, []Value{str("a")}, nil},
		{"no string", plan.Filter{Kind: plan.FilterEqual}, nil, []Value{str(""), str("a")}, nil},
		{"prefix", plan.Filter{Kind: plan.FilterPrefix, Strings: []string{"/etc/", "/b"}},
			[]Value{str("/etc/"), str("/etc/x"), str("/b"), str("/bin")}, []Value{str(""), str("/etc"), str("x/etc/"), str("/Etc/")}, nil},
		{"any prefix", plan.Filter{Kind: plan.FilterPrefix, Strings: []string{""}}, []Value{str(""), str("a")}, nil, nil},
		{"suffix", plan.Filter{Kind: plan.FilterSuffix, Strings: []string{".so", "\xff"}},
			[]Value{str(".so"), str("a.so"), str("\xff"), str("a\xff")}, []Value{str(""), str("so"), str(".so.1"), str(".SO")}, nil},
		{"contains", plan.Filter{Kind: plan.FilterContains, Strings: []string{"aa", "\x00"}},
			[]Value{str("aa"), str("baab"), str("b\x00")}, []Value{str(""), str("a"), str("aba"), str("AA")}, nil},
		{"contains, either case", plan.Filter{Kind: plan.FilterContainsFold, Strings: []string{"aB", "\xc3\x84"}},
			[]Value{str("ab"), str("xABx"), str("\xc3\x84")}, []Value{str(""), str("a"), str("b a"), str("\xc3\xa4"), str("[b")}, nil},
		{"source address", plan.Filter{Kind: plan.FilterAddrs, Field: plan.FieldSaddr, Prefixes: prefixes("10.0.0.0/8", "2001:db8::/33")},
			[]Value{inet(2, "10.0.0.0", "1.1.1.1"), inet(2, "10.255.255.255", "1.1.1.1"), inet(10, "2001:db8::1", "::")},
			[]Value{inet(2, "11.0.0.0", "10.1.1.1"), inet(10, "2001:db8:8000::1", "2001:db8::1"), inet(10, "::ffff:10.0.0.1", "::")},
			[]Value{inet(0, "10.0.0.0", "10.0.0.1"), inet(1, "10.0.0.0", "10.0.0.1")}},
		{"target address", plan.Filter{Kind: plan.FilterAddrs, Field: plan.FieldDaddr, Prefixes: prefixes("10.0.0.1/32", "::1/128")},
			[]Value{inet(2, "1.1.1.1", "10.0.0.1"), inet(10, "::", "::1")}, []Value{inet(2, "10.0.0.1", "10.0.0.2"), inet(10, "::1", "::2")},
			[]Value{inet(17, "10.0.0.1", "10.0.0.1")}},
		{"host bits do not count", plan.Filter{Kind: plan.FilterAddrs, Field: plan.FieldDaddr, Prefixes: prefixes("10.1.2.3/8")},
			[]Value{inet(2, "1.1.1.1", "10.9.9.9")}, nil, nil},
		{"all of one family", plan.Filter{Kind: plan.FilterAddrs, Field: plan.FieldSaddr, Prefixes: prefixes("0.0.0.0/0")},
			[]Value{inet(2, "0.0.0.0", "1.1.1.1"), inet(2, "255.255.255.255", "1.1.1.1")}, []Value{inet(10, "::", "::")}, []Value{inet(16, "0.0.0.0", "0.0.0.0")}},
		{"an address of a field that is none", plan.Filter{Kind: plan.FilterAddrs, Field: plan.FieldSport, Prefixes: prefixes("0.0.0.0/0")},
			nil, nil, []Value{sock}},
		{"family", plan.Filter{Kind: plan.FilterRanges, Field: plan.FieldFamily, Ranges: ranges(2, 2)}, []Value{sock}, []Value{{}}, nil},
		{"type", plan.Filter{Kind: plan.FilterRanges, Field: plan.FieldSockType, Ranges: ranges(1, 1)}, []Value{sock}, []Value{{}}, nil},
		{"protocol", plan.Filter{Kind: plan.FilterRanges, Field: plan.FieldProtocol, Ranges: ranges(6, 6)}, []Value{sock}, []Value{{}}, nil},
		{"state", plan.Filter{Kind: plan.FilterRanges, Field: plan.FieldState, Ranges: ranges(7, 7)}, []Value{sock}, []Value{{}}, nil},
		{"source port", plan.Filter{Kind: plan.FilterRanges, Field: plan.FieldSport, Ranges: ranges(1, 1023)}, []Value{sock}, []Value{{}}, nil},
		{"target port", plan.Filter{Kind: plan.FilterRanges, Field: plan.FieldDport, Ranges: ranges(443, 443)}, []Value{sock}, []Value{{}}, nil},
		{"file type", plan.Filter{Kind: plan.FilterRanges, Field: plan.FieldFileType, Ranges: ranges(0o140000, 0o140000)},
			[]Value{{Mode: 0o140777}}, []Value{{Mode: 0o100644}, {Mode: 0o777}}, nil},
		{"bits of a field", plan.Filter{Kind: plan.FilterBits, Field: plan.FieldDport, Mask: 1}, []Value{sock}, []Value{{}}, nil},
		{"a field that is no number", plan.Filter{Kind: plan.FilterRanges, Field: plan.FieldSaddr, Ranges: ranges(0, minus1)}, nil, nil, []Value{sock}},
		{"an unknown kind", plan.Filter{}, nil, nil, []Value{num(0)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			check := func(v Value, not, want bool) {
				t.Helper()
				f := c.f
				f.Not = not
				if got := Holds(&f, []Value{v}, &Task{}); got != want {
					t.Errorf("%+v, not %t: %t, want %t", v, not, got, want)
				}
			}
			for _, v := range c.yes {
				check(v, false, true)
				check(v, true, false)
			}
			for _, v := range c.no {
				check(v, false, false)
				check(v, true, true)
			}
			bad := append(slices.Clone(c.yes), c.no...)
			for i := range bad {
				bad[i].Bad = true
			}
			for _, v := range append(bad, c.none...) {
				check(v, false, false)
				check(v, true, false)
			}
		})
	}
}

func TestHolds_gained(t *testing.T) {
	for _, c := range []struct {
		old, now Value
		yes, no  bool // without and with Not
	}{
		{Value{Int: 1}, Value{Int: 3}, true, false},
		{Value{Int: 3}, Value{Int: 1}, false, true},
		{Value{Int: 2}, Value{Int: 1}, true, false},
		{Value{Int: 0}, Value{Int: 0}, false, true},
		{Value{Bad: true}, Value{Int: 1}, false, false},
		{Value{Int: 1}, Value{Bad: true, Int: 2}, false, false},
	} {
		vs := []Value{c.now, c.old}
		for not, want := range map[bool]bool{false: c.yes, true: c.no} {
			f := plan.Filter{Kind: plan.FilterGained, Value: 1, Value2: 0, Not: not}
			if got := Holds(&f, vs, &Task{}); got != want {
				t.Errorf("from %+v to %+v, not %t: %t", c.old, c.now, not, got)
			}
		}
	}
	if f := (plan.Filter{Kind: plan.FilterGained, Value: 0, Value2: 7}); Holds(&f, []Value{{Int: 1}}, &Task{}) {
		t.Error("holds without a second value")
	}
}

// TestHolds_task has every property of a task, so that none is taken for another.
func TestHolds_task(t *testing.T) {
	task := &Task{}
	for i := range task.Fields {
		task.Fields[i] = 100 + uint64(i)
	}
	for p := plan.TaskPid; p < plan.TaskFieldCount; p++ {
		n := 100 + uint64(p)
		for _, c := range []struct {
			f    plan.Filter
			want bool
		}{
			{plan.Filter{Kind: plan.FilterRanges, Ranges: ranges(n, n)}, true},
			{plan.Filter{Kind: plan.FilterRanges, Ranges: ranges(n+1, n+1)}, false},
			{plan.Filter{Kind: plan.FilterRanges, Ranges: ranges(n, n), Not: true}, false},
			{plan.Filter{Kind: plan.FilterBits, Mask: n}, true},
			{plan.Filter{Kind: plan.FilterBits, Mask: ^n}, false},
			{plan.Filter{Kind: plan.FilterBits, Mask: ^n, Not: true}, true},
			{plan.Filter{Kind: plan.FilterEqual, Strings: []string{""}}, false},
		} {
			c.f.Task = p
			if got := Holds(&c.f, nil, task); got != c.want {
				t.Errorf("property %d, %+v: %t", p, c.f, got)
			}
		}
	}
	if f := (plan.Filter{Kind: plan.FilterRanges, Ranges: ranges(0, minus1), Task: plan.TaskFieldCount}); Holds(&f, nil, task) {
		t.Error("a property that there is not holds")
	}
}

func TestHolds_class(t *testing.T) {
	words := [][]uint64{
		plan.OfSelf:     {1 | 1<<5, 1 << 3, 1 | 1<<63, 1},
		plan.OfLine:     {1 | 1<<6, 1, 1, 1},
		plan.OfParent:   {0, 0, 0, 0},
		plan.OfAncestor: {1, 1},
	}
	for _, c := range []struct {
		of      plan.Relation
		set     int
		yes, no bool
	}{
		{plan.OfSelf, 5, true, false},
		{plan.OfSelf, 6, false, true},
		{plan.OfSelf, 64 + 3, false, false}, // bit 0 of its word is clear: not known
		{plan.OfSelf, 128 + 63, true, false},
		{plan.OfLine, 5, false, true},
		{plan.OfLine, 6, true, false},
		{plan.OfParent, 5, false, false},
		{plan.OfAncestor, 70, false, true},
		{plan.OfAncestor, 200, false, false},
		{plan.OfSelf, -1, false, false},
		{9, 5, false, false},
	} {
		for not, want := range map[bool]bool{false: c.yes, true: c.no} {
			f := plan.Filter{Kind: plan.FilterClass, Of: c.of, Set: c.set, Not: not}
			if got := Holds(&f, nil, &Task{Class: Words(words)}); got != want {
				t.Errorf("relation %d, set %d, not %t: %t", c.of, c.set, not, got)
			}
			if Holds(&f, nil, &Task{}) {
				t.Errorf("relation %d, set %d, not %t: holds for an unknown process", c.of, c.set, not)
			}
		}
	}
}

func TestMatch(t *testing.T) {
	equal := func(value int, n uint64) plan.Filter {
		return plan.Filter{Kind: plan.FilterRanges, Value: value, Ranges: ranges(n, n)}
	}
	var rules []plan.Rule
	for i := range 130 {
		rules = append(rules, plan.Rule{Filters: []plan.Filter{equal(0, uint64(i)), equal(1, 7)}})
	}
	rules[3].Filters = nil                         // holds always
	rules[65].Filters = []plan.Filter{equal(1, 7)} // of the second word
	rules[129].Filters = append([]plan.Filter{}, rules[3].Filters...)
	for _, c := range []struct {
		values []Value
		want   string
	}{
		{[]Value{{Int: 1}, {Int: 7}}, "[1 3 65 129]"},
		{[]Value{{Int: 128}, {Int: 7}}, "[3 65 128 129]"},
		{[]Value{{Int: 1}, {Int: 8}}, "[3 129]"},
		{[]Value{{Int: 1}}, "[3 129]"},
		{nil, "[3 129]"},
	} {
		m := Match(rules, c.values, nil)
		if len(m) != 3 {
			t.Fatalf("%d words", len(m))
		}
		var got []int
		for i := range 192 {
			if m[i/64]>>(i%64)&1 == 1 {
				got = append(got, i)
			}
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%+v: %v, want %s", c.values, got, c.want)
		}
	}
	if m := Match(nil, nil, nil); len(m) != 0 {
		t.Errorf("no rules: %v", m)
	}
}

func TestFirst(t *testing.T) {
	hook := func(n int) *plan.Hook { return &plan.Hook{Rules: make([]plan.Rule, n)} }
	groups := []plan.Group{{First: 0, Hook: hook(3)}, {First: 3, Hook: hook(60)}, {First: 63, Hook: hook(2)}, {First: 65, Hook: hook(1)}}
	for _, c := range []struct {
		mask []uint64
		want string
	}{
		{[]uint64{0, 0}, "[-1 -1 -1 -1]"},
		{[]uint64{0b110, 0}, "[1 -1 -1 -1]"},
		{[]uint64{0b1100, 0}, "[2 3 -1 -1]"},
		{[]uint64{1 << 63, 3}, "[-1 -1 63 65]"},
		{[]uint64{0, 1}, "[-1 -1 64 -1]"},
		{[]uint64{minus1, minus1}, "[0 3 63 65]"},
		{nil, "[-1 -1 -1 -1]"},
	} {
		if got := fmt.Sprint(First(c.mask, groups)); got != c.want {
			t.Errorf("%b: %s, want %s", c.mask, got, c.want)
		}
	}
}

func TestExtend(t *testing.T) {
	for _, c := range []struct {
		n      uint64
		bits   uint8
		signed bool
		want   uint64
	}{
		{0xff, 8, true, minus1}, {0xff, 8, false, 0xff}, {0x17f, 8, true, 0x7f}, {0x8000, 16, true, minus1 - 0x7fff},
		{0x80000000, 32, true, minus1 - math.MaxInt32}, {0x1_80000000, 32, false, 0x80000000}, {minus1, 64, true, minus1}, {minus1, 64, false, minus1},
	} {
		if got := Extend(c.n, c.bits, c.signed); got != c.want {
			t.Errorf("%x of %d bits, signed %t: %x, want %x", c.n, c.bits, c.signed, got, c.want)
		}
	}
}

// FuzzMatch holds Match to what follows from it: a filter and its opposite never both hold, and one of them does if the value
// could be read and has an address.
func FuzzMatch(f *testing.F) {
	f.Add(uint8(1), uint8(0), uint64(5), uint64(0), uint64(9), "a", "b", uint16(2))
	f.Add(uint8(6), uint8(0), uint64(0), uint64(0), uint64(0), "abc", "BC", uint16(10))
	f.Add(uint8(8), uint8(5), uint64(0), uint64(0), uint64(0), "abc", "BC", uint16(10))
	f.Fuzz(func(t *testing.T, kind, field uint8, n, lo, hi uint64, s, want string, family uint16) {
		v := Value{Int: n, Text: []byte(s), Net: Net{Family: family}}
		copy(v.Net.Saddr[:], s)
		fl := plan.Filter{
			Kind: plan.FilterKind(kind), Field: plan.Field(field), Ranges: ranges(lo, hi), Mask: lo,
			Strings: []string{want}, Prefixes: prefixes("10.0.0.0/8", "fe80::/10"),
		}
		a := Match([]plan.Rule{{Filters: []plan.Filter{fl}}}, []Value{v}, nil)[0]
		fl.Not = true
		b := Match([]plan.Rule{{Filters: []plan.Filter{fl}}}, []Value{v}, nil)[0]
		if a+b > 1 {
			t.Error("a filter and its opposite both hold")
		}
		if kind >= uint8(plan.FilterEqual) && kind <= uint8(plan.FilterContainsFold) && a+b != 1 {
			t.Error("neither a filter on a string nor its opposite holds")
		}
		if kind == uint8(plan.FilterPrefix) && (a == 1) != strings.HasPrefix(s, want) {
			t.Errorf("%q begins with %q: %d", s, want, a)
		}
	})
}
