// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"tetragon/internal/nearest"
	"tetragon/internal/policy"
	"tetragon/internal/policy/plan"
)

// width is the set of numbers that a value can be.
type width struct {
	bits   uint8
	signed bool
}

// number reads a number of this width in any base that Go knows, as the 64-bit pattern that the kernel half compares.
func (w width) number(s string) (uint64, error) {
	s = strings.TrimSpace(s)
	if w.signed {
		n, err := strconv.ParseInt(s, 0, int(w.bits))
		if err == nil {
			return uint64(n), nil
		}
		return 0, w.why(s)
	}
	n, err := strconv.ParseUint(s, 0, int(w.bits))
	if err == nil {
		return n, nil
	}
	return 0, w.why(s)
}

func (w width) why(s string) error {
	lo, hi := w.limits()
	if w.signed {
		return fmt.Errorf("%q is no number from %d to %d", s, int64(lo), int64(hi))
	}
	return fmt.Errorf("%q is no number from %d to %d", s, lo, hi)
}

// limits are the smallest and the largest number, as patterns.
func (w width) limits() (lo, hi uint64) {
	if w.signed {
		return uint64(int64(-1) << (w.bits - 1)), 1<<(w.bits-1) - 1
	}
	return 0, math.MaxUint64 >> (64 - w.bits)
}

// less compares two patterns as numbers of this width.
func (w width) less(a, b uint64) bool {
	if w.signed {
		return int64(a) < int64(b)
	}
	return a < b
}

// ranges gives the patterns of the numbers from lo to hi; negative numbers have large patterns.
func (w width) ranges(lo, hi uint64) []plan.Range {
	if w.signed && int64(lo) < 0 && int64(hi) >= 0 {
		return []plan.Range{{Lo: 0, Hi: hi}, {Lo: lo, Hi: math.MaxUint64}}
	}
	return []plan.Range{{Lo: lo, Hi: hi}}
}

// span reads "min:max".
func (w width) span(s string) (lo, hi uint64, err error) {
	a, b, _ := strings.Cut(s, ":")
	if lo, err = w.number(a); err != nil {
		return
	}
	if hi, err = w.number(b); err != nil {
		return
	}
	if w.less(hi, lo) {
		err = errBackwards(fmt.Sprintf("%s ends before it begins", s))
	}
	return
}

// errBackwards says that a range ends before it begins.
type errBackwards string

func (e errBackwards) Error() string { return string(e) }

// normal sorts ranges and joins those that meet.
func normal(rs []plan.Range) []plan.Range {
	slices.SortFunc(rs, func(a, b plan.Range) int { return cmp.Compare(a.Lo, b.Lo) })
	var out []plan.Range
	for _, r := range rs {
		if n := len(out); n > 0 && (out[n-1].Hi == math.MaxUint64 || r.Lo <= out[n-1].Hi+1) {
			out[n-1].Hi = max(out[n-1].Hi, r.Hi)
			continue
		}
		out = append(out, r)
	}
	return out
}

// numbers lowers the operators on numbers.
func (c *compiler) numbers(m *policy.ArgMatch, w width, named map[string]uint64) (plan.Filter, bool) {
	f := plan.Filter{Kind: plan.FilterRanges}
	op := m.Operator.Value
	bad := func(v policy.Text, err error) { c.d.Error(v.Place, "bad-value", "%v", err) }
	one := func(v policy.Text) (uint64, bool) {
		if n, is := named[v.Value]; is {
			return n, true
		}
		n, err := w.number(v.Value)
		if err != nil {
			bad(v, err)
			return 0, false
		}
		return n, true
	}
	lo, hi := w.limits()
	switch op {
	case "Equal", "NotEqual", "InMap", "NotInMap":
		f.Not = strings.HasPrefix(op, "Not")
		for _, v := range m.Values {
			if strings.Contains(v.Value, ":") && strings.HasSuffix(op, "InMap") {
				a, b, err := w.span(v.Value)
				var backwards errBackwards
				switch {
				case errors.As(err, &backwards): // upstream turns it round
					c.d.Warn(v.Place, "backwards", "%v; it is taken the other way round", err)
					a, b = b, a
				case err != nil:
					bad(v, err)
					continue
				}
				f.Ranges = append(f.Ranges, w.ranges(a, b)...)
				continue
			}
			if n, good := one(v); good {
				f.Ranges = append(f.Ranges, plan.Range{Lo: n, Hi: n})
			}
		}
	case "InRange", "NotInRange":
		f.Not = strings.HasPrefix(op, "Not")
		for _, v := range m.Values {
			if !strings.Contains(v.Value, ":") {
				bad(v, fmt.Errorf("%q is no range; write min:max", v.Value))
				continue
			}
			a, b, err := w.span(v.Value)
			if err != nil {
				bad(v, err)
				continue
			}
			f.Ranges = append(f.Ranges, w.ranges(a, b)...)
		}
	case "GT", "GreaterThan":
		least, any := uint64(0), false
		for _, v := range m.Values {
			if n, good := one(v); good && (!any || w.less(n, least)) {
				least, any = n, true
			}
		}
		if any && w.less(least, hi) {
			f.Ranges = w.ranges(least+1, hi)
		} else if any {
			c.d.Warn(m.Place, "never", "no number of this type is greater")
		}
	case "LT", "LessThan":
		most, any := uint64(0), false
		for _, v := range m.Values {
			if n, good := one(v); good && (!any || w.less(most, n)) {
				most, any = n, true
			}
		}
		if any && w.less(lo, most) {
			f.Ranges = w.ranges(lo, most-1)
		} else if any {
			c.d.Warn(m.Place, "never", "no number of this type is less")
		}
	case "Mask":
		f.Kind = plan.FilterBits
		for _, v := range m.Values {
			n, good := one(v)
			if good && n == 0 {
				c.d.Warn(v.Place, "never", "no number has a bit of the mask 0")
			}
			f.Mask |= n
		}
	default:
		return f, false
	}
	if len(m.Values) == 0 {
		c.noValues(m)
	}
	return f, true
}

func (c *compiler) noValues(m *policy.ArgMatch) {
	c.d.Error(m.Place, "no-values", "operator %s needs values", m.Operator.Value)
}

// capMask reads a set of capabilities: a number, or names with commas.
func capMask(s string) (uint64, error) {
	if n, err := strconv.ParseUint(strings.TrimSpace(s), 0, 64); err == nil {
		return n, nil
	}
	var mask uint64
	for _, name := range strings.Split(s, ",") {
		n, err := capNumber(name)
		if err != nil {
			return 0, err
		}
		mask |= 1 << n
	}
	return mask, nil
}

func capNumber(name string) (int, error) {
	n := slices.Index(policy.Capabilities, strings.ToUpper(strings.TrimSpace(name)))
	if n < 0 {
		return 0, fmt.Errorf("there is no capability %q", name)
	}
	return n, nil
}

// capSet lowers the operators on sets of capabilities.
func (c *compiler) capSet(m *policy.ArgMatch) (plan.Filter, bool) {
	f := plan.Filter{Kind: plan.FilterRanges, Not: m.Operator.Value == "NotEqual"}
	switch m.Operator.Value {
	case "Equal", "NotEqual":
	case "Mask":
		f.Kind = plan.FilterBits
	case "GT", "GreaterThan", "LT", "LessThan":
		named := make(map[string]uint64)
		for _, v := range m.Values { // sets by name are numbers as well
			if n, err := capMask(v.Value); err == nil {
				named[v.Value] = n
			}
		}
		return c.numbers(m, width{bits: 64}, named)
	default:
		return f, false
	}
	if len(m.Values) == 0 {
		c.noValues(m)
	}
	for _, v := range m.Values {
		n, err := capMask(v.Value)
		if err != nil {
			c.d.Error(v.Place, "bad-value", "%v", err)
			continue
		}
		f.Mask |= n
		f.Ranges = append(f.Ranges, plan.Range{Lo: n, Hi: n})
	}
	if f.Kind == plan.FilterBits {
		f.Ranges = nil
	} else {
		f.Mask = 0
	}
	return f, true
}

// textOps are the operators on strings.
var textOps = map[string]struct {
	kind plan.FilterKind
	not  bool
}{
	"Equal": {plan.FilterEqual, false}, "NotEqual": {plan.FilterEqual, true},
	"Prefix": {plan.FilterPrefix, false}, "NotPrefix": {plan.FilterPrefix, true},
	"Postfix": {plan.FilterSuffix, false}, "NotPostfix": {plan.FilterSuffix, true},
	"SubString": {plan.FilterContains, false}, "SubStringIgnCase": {plan.FilterContainsFold, false},
}

const (
	maxText   = 4096
	maxNeedle = 255
)

// text lowers the operators on strings.
func (c *compiler) text(m *policy.ArgMatch, typ string) (plan.Filter, bool) {
	op, ok := textOps[m.Operator.Value]
	if !ok {
		return plan.Filter{}, false
	}
	f := plan.Filter{Kind: op.kind, Not: op.not}
	if len(m.Values) == 0 {
		c.noValues(m)
	}
	limit := maxText
	if op.kind == plan.FilterContains || op.kind == plan.FilterContainsFold {
		limit = maxNeedle
	}
	for _, v := range m.Values {
		s := v.Value
		if typ == "string" || typ == "data_loc" || typ == "filename" {
			s = strings.TrimRight(s, "\x00")
		}
		if typ == "sockaddr_un" && strings.HasPrefix(s, "@") { // as events show abstract names
			s = "\x00" + s[1:]
		}
		switch {
		case s == "" && op.kind != plan.FilterEqual:
			c.d.Error(v.Place, "empty-value", "an empty string is in every string")
		case len(s) > limit:
			c.d.Error(v.Place, "long-value", "the string has %d bytes; %d are possible here", len(s), limit)
		default:
			f.Strings = append(f.Strings, s)
		}
	}
	return f, true
}

// addrs lowers SAddr and its kin.
func (c *compiler) addrs(m *policy.ArgMatch, f *plan.Filter) {
	f.Kind = plan.FilterAddrs
	if len(m.Values) == 0 {
		c.noValues(m)
	}
	for _, v := range m.Values {
		s := strings.TrimSpace(v.Value)
		if p, err := netip.ParsePrefix(s); err == nil {
			f.Prefixes = append(f.Prefixes, p.Masked())
			continue
		}
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			c.d.Error(v.Place, "bad-value", "%q is no IP address and no CIDR", v.Value).WithHint("like 10.0.0.0/8 or 2001:db8::1")
			continue
		}
		f.Prefixes = append(f.Prefixes, netip.PrefixFrom(a, a.BitLen()))
	}
}

// netOp is an operator on a part of sockets, packets and addresses.
type netOp struct {
	name  string
	field plan.Field
	not   bool
}

var netOps = []netOp{
	{"SAddr", plan.FieldSaddr, false}, {"NotSAddr", plan.FieldSaddr, true}, {"DAddr", plan.FieldDaddr, false}, {"NotDAddr", plan.FieldDaddr, true},
	{"SPort", plan.FieldSport, false}, {"NotSPort", plan.FieldSport, true}, {"DPort", plan.FieldDport, false}, {"NotDPort", plan.FieldDport, true},
	{"SPortPriv", plan.FieldSport, false}, {"NotSportPriv", plan.FieldSport, true},
	{"DPortPriv", plan.FieldDport, false}, {"NotDPortPriv", plan.FieldDport, true},
	{"Protocol", plan.FieldProtocol, false}, {"Family", plan.FieldFamily, false}, {"State", plan.FieldState, false},
}

// netOpsOf names those that a type has.
func netOpsOf(typ string) []string {
	var out []string
	for _, op := range netOps {
		if slices.Contains(netFields[typ], op.field) {
			out = append(out, op.name)
		}
	}
	return out
}

// netFields are the fields that a type has.
var netFields = map[string][]plan.Field{
	"sock":        {plan.FieldSaddr, plan.FieldDaddr, plan.FieldSport, plan.FieldDport, plan.FieldProtocol, plan.FieldFamily, plan.FieldState},
	"socket":      {plan.FieldSaddr, plan.FieldDaddr, plan.FieldSport, plan.FieldDport, plan.FieldProtocol, plan.FieldFamily, plan.FieldState},
	"skb":         {plan.FieldSaddr, plan.FieldDaddr, plan.FieldSport, plan.FieldDport, plan.FieldProtocol, plan.FieldFamily},
	"sockaddr":    {plan.FieldSaddr, plan.FieldSport, plan.FieldFamily},
	"sockaddr_un": {plan.FieldFamily},
}

// nameSet are the names that numbers of one kind have.
type nameSet struct {
	prefix, example string
	numbers         map[string]uint64
}

// fieldNames are the names of what operators compare.
var fieldNames = map[plan.Field]nameSet{
	plan.FieldFamily:   {"AF_", "AF_INET", familyNumbers()},
	plan.FieldProtocol: {"IPPROTO_", "IPPROTO_TCP", protocols},
	plan.FieldState:    {"TCP_", "TCP_ESTABLISHED", states},
}

// near finds the name that somebody meant, who may have left out what all of them begin with.
func (s nameSet) near(word string) string {
	var rest []string
	for n := range s.numbers {
		rest = append(rest, strings.TrimPrefix(n, s.prefix))
	}
	slices.Sort(rest)
	if n := nearest.Name(strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(word)), s.prefix), rest); n != "" {
		return s.prefix + n
	}
	return ""
}

func familyNumbers() map[string]uint64 {
	out := make(map[string]uint64)
	for i, n := range families {
		out[n] = uint64(i)
	}
	return out
}

// net lowers the operators on sockets and their kin.
func (c *compiler) net(m *policy.ArgMatch, typ string) (plan.Filter, bool) {
	if !slices.Contains(netOpsOf(typ), m.Operator.Value) {
		return plan.Filter{}, false
	}
	op := netOps[slices.IndexFunc(netOps, func(o netOp) bool { return o.name == m.Operator.Value })]
	f := plan.Filter{Kind: plan.FilterRanges, Field: op.field, Not: op.not}
	switch {
	case op.field == plan.FieldSaddr || op.field == plan.FieldDaddr:
		c.addrs(m, &f)
		return f, true
	case strings.HasSuffix(m.Operator.Value, "Priv"):
		f.Ranges = []plan.Range{{Lo: 0, Hi: 1023}}
		if len(m.Values) > 0 {
			c.d.Error(m.Place, "bad-value", "operator %s has no values", m.Operator.Value)
		}
		return f, true
	}
	named := fieldNames[op.field]
	if len(m.Values) == 0 {
		c.noValues(m)
	}
	w := width{bits: 16}
	for _, v := range m.Values {
		if n, is := named.numbers[v.Value]; is {
			f.Ranges = append(f.Ranges, plan.Range{Lo: n, Hi: n})
			continue
		}
		lo, hi, err := uint64(0), uint64(0), error(nil)
		if strings.Contains(v.Value, ":") {
			lo, hi, err = w.span(v.Value)
		} else {
			lo, err = w.number(v.Value)
			hi = lo
		}
		if err != nil {
			if named.numbers == nil {
				c.d.Error(v.Place, "bad-value", "%v", err)
				continue
			}
			x := c.d.Error(v.Place, "bad-value", "%q is no number and no name that is known", v.Value)
			if near := named.near(v.Value); near != "" {
				x.WithHint("did you mean %s?", near)
			} else {
				x.WithHint("a number, or a name such as %s", named.example)
			}
			continue
		}
		f.Ranges = append(f.Ranges, plan.Range{Lo: lo, Hi: hi})
	}
	return f, true
}
