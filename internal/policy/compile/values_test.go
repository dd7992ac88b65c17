// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"tetragon/internal/policy"
	"tetragon/internal/policy/compile"
	"tetragon/internal/policy/plan"
)

// numberTypes are the types of numbers, with what they can be.
var numberTypes = []struct {
	name   string
	bits   int
	signed bool
}{
	{"int8", 8, true}, {"uint8", 8, false}, {"int16", 16, true}, {"uint16", 16, false}, {"int32", 32, true}, {"uint32", 32, false},
	{"int64", 64, true}, {"uint64", 64, false}, {"size_t", 64, false}, {"int", 32, true}, {"long", 64, true}, {"ulong", 64, false},
}

// limits are the smallest and the largest number of a width.
func limits(bits int, signed bool) (lo, hi *big.Int) {
	one := big.NewInt(1)
	if !signed {
		return big.NewInt(0), new(big.Int).Sub(new(big.Int).Lsh(one, uint(bits)), one)
	}
	half := new(big.Int).Lsh(one, uint(bits-1))
	return new(big.Int).Neg(half), new(big.Int).Sub(half, one)
}

// pattern is the 64-bit word that a number is kept as.
func pattern(n *big.Int) uint64 {
	if n.Sign() >= 0 {
		return n.Uint64()
	}
	return uint64(n.Int64())
}

// TestNumbers compares what becomes of operators on numbers with what they mean, for the values at which mistakes are made.
func TestNumbers(t *testing.T) {
	f := recorded(t, "6.12")
	for _, typ := range numberTypes {
		lo, hi := limits(typ.bits, typ.signed)
		at := func(base *big.Int, d int64) *big.Int { return new(big.Int).Add(base, big.NewInt(d)) }
		interesting := []*big.Int{lo, at(lo, 1), at(hi, -1), hi, big.NewInt(0), big.NewInt(1), big.NewInt(7)}
		if typ.signed {
			interesting = append(interesting, big.NewInt(-1), big.NewInt(-7))
		}
		for _, op := range []string{"Equal", "NotEqual", "GT", "LT", "InMap", "NotInMap", "InRange", "NotInRange"} {
			for _, a := range interesting {
				for _, b := range interesting {
					values := []string{a.String(), b.String()}
					means := func(n *big.Int) bool { return n.Cmp(a) == 0 || n.Cmp(b) == 0 }
					switch op {
					case "GT":
						means = func(n *big.Int) bool { return n.Cmp(a) > 0 || n.Cmp(b) > 0 }
					case "LT":
						means = func(n *big.Int) bool { return n.Cmp(a) < 0 || n.Cmp(b) < 0 }
					case "InRange", "NotInRange", "InMap", "NotInMap":
						if a.Cmp(b) > 0 {
							continue
						}
						values = []string{fmt.Sprintf("%s:%s", a, b)}
						means = func(n *big.Int) bool { return n.Cmp(a) >= 0 && n.Cmp(b) <= 0 }
					}
					flt := filterOf(t, f, typ.name, op, values)
					for _, n := range interesting {
						w := pattern(n)
						got := slices.ContainsFunc(flt.Ranges, func(r plan.Range) bool { return r.Lo <= w && w <= r.Hi }) != flt.Not
						if want := means(n) != (strings.HasPrefix(op, "Not")); got != want {
							t.Fatalf("%s: %s %s %v is %t: %+v", typ.name, n, op, values, got, flt)
						}
					}
				}
			}
		}
	}
}

// filterOf compiles one filter on an argument of a system call, whose registers are as wide as any type.
func filterOf(t *testing.T, f compile.Facts, typ, op string, values []string) plan.Filter {
	t.Helper()
	m := policy.ArgMatch{Operator: policy.Text{Value: op}}
	for _, v := range values {
		m.Values = append(m.Values, policy.Text{Value: v})
	}
	common := policy.Common{Args: []policy.Arg{{Type: policy.Text{Value: typ}}}, Selectors: []policy.Selector{{Args: []policy.ArgMatch{m}}}}
	pol := &policy.Policy{Kind: policy.KindCluster, Kprobes: []policy.Kprobe{{Common: common, Call: policy.Text{Value: "sys_write"}, Syscall: policy.Bool{Value: true}}}}
	p, d := compile.Compile(pol, f, compile.Options{})
	if p == nil {
		t.Fatalf("%s %s %v: %s", typ, op, values, d)
	}
	return p.Hooks[0].Rules[0].Filters[0]
}

func TestNormal(t *testing.T) {
	const top = 1<<64 - 1
	for _, tt := range []struct{ in, want []plan.Range }{
		{nil, nil},
		{[]plan.Range{{Lo: 5, Hi: 5}, {Lo: 1, Hi: 2}, {Lo: 3, Hi: 3}}, []plan.Range{{Lo: 1, Hi: 3}, {Lo: 5, Hi: 5}}},
		{[]plan.Range{{Lo: 1, Hi: top}, {Lo: 0, Hi: 0}, {Lo: 7, Hi: 9}}, []plan.Range{{Lo: 0, Hi: top}}},
		{[]plan.Range{{Lo: top, Hi: top}, {Lo: top - 1, Hi: top - 1}}, []plan.Range{{Lo: top - 1, Hi: top}}},
	} {
		if got := compile.Normal(slices.Clone(tt.in)); !slices.Equal(got, tt.want) {
			t.Errorf("%v: %v, want %v", tt.in, got, tt.want)
		}
	}
}
