// SPDX-License-Identifier: Apache-2.0

package gen

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/asm"

	"tetragon/bpf"
	"tetragon/internal/abi"
	"tetragon/internal/policy/digest"
	"tetragon/internal/policy/plan"
	"tetragon/internal/policy/simulate"
)

// sum is a digest whose last bytes are n.
func sum(n int) string { return fmt.Sprintf("sha256:%064x", n) }

func byHash(not bool, sums ...int) plan.Filter {
	f := plan.Filter{Kind: plan.FilterDigest, Field: plan.FieldHash, Not: not}
	for _, n := range sums {
		f.Strings = append(f.Strings, sum(n))
	}
	return f
}

// digestProgram looks at a path first, then at digests; its last rule only tells the hash.
func digestProgram(rules ...[]plan.Filter) *plan.Program {
	file := plan.Source{Kind: plan.SourceArg, Steps: []plan.Step{{Off: 64, Size: 8}}}
	p := &plan.Program{
		Attach: plan.Attach{Backend: plan.BackendLSM, Symbol: "bprm_check_security", Params: 1, Hash: &file},
		Values: []plan.Value{{Source: plan.Source{Kind: plan.SourceArg}, Type: plan.TypeBinprm}},
	}
	for _, fs := range rules {
		p.Rules = append(p.Rules, plan.Rule{Filters: fs, Do: plan.Actions{Override: true, Error: -13}})
	}
	p.Rules = append(p.Rules, plan.Rule{Do: plan.Actions{Post: true, ImaHash: true}})
	hook := &plan.Hook{Args: []plan.Arg{{Value: 0, Type: "linux_binprm"}}, Rules: p.Rules}
	p.Groups = []plan.Group{{Hook: hook, Values: []int{0}}}
	return p
}

// Rows of the table say which rules a file lets live as the simulation does, and what is in no row has none of the digests.
func TestDigests_likeSimulate(t *testing.T) {
	var many [][]plan.Filter
	for i := range 70 {
		many = append(many, []plan.Filter{byHash(i%3 == 0, i, i+1)})
	}
	for name, p := range map[string]*plan.Program{
		"one":   digestProgram([]plan.Filter{byHash(false, 1, 2)}),
		"both":  digestProgram([]plan.Filter{byHash(false, 1, 2), byHash(true, 2, 3)}, []plan.Filter{byHash(true, 1)}),
		"words": digestProgram(many...),
	} {
		t.Run(name, func(t *testing.T) {
			rows := make(map[[digest.KeySize]byte][]uint64)
			for _, r := range Digests(p) {
				rows[r.Key] = r.Rules
			}
			b := &body{all: firstRules(len(p.Rules))}
			for n := range 75 {
				d, err := digest.Parse(sum(n))
				if err != nil {
					t.Fatal(err)
				}
				want := simulate.Match(p.Rules, []simulate.Value{{Hash: sum(n)}}, nil)
				got, ok := rows[d.Key()]
				if !ok {
					s := b.passing(digestUses(p, plan.FieldHash), func(u *use) bool { return u.f.Not })
					got = s[:len(want)]
				}
				if !slices.Equal(got, want) {
					t.Errorf("digest %d: rules %x live, want %x", n, got, want)
				}
			}
		})
	}
}

// While a file is read no buffer is held: so many calls may sleep at a time that none would be left, and calls without one pass.
// What orders a denial needs none after it.
func TestBody_sleepsWithoutBuffer(t *testing.T) {
	lib, err := bpf.LoadHooks()
	if err != nil {
		t.Fatal(err)
	}
	layout, err := ReadLayout(lib)
	if err != nil {
		t.Fatal(err)
	}
	p := digestProgram([]plan.Filter{
		byHash(false, 1), {Kind: plan.FilterPrefix, Strings: []string{"/tmp/"}},
		{Kind: plan.FilterDigest, Field: plan.FieldVerity, Not: true, Strings: []string{"fsverity:" + sum(2)}},
	})
	spec, err := Body(p, lib.Programs["library"], Options{Layout: layout})
	if err != nil {
		t.Fatal(err)
	}
	if spec.Flags&sleepable == 0 {
		t.Error("the program does not sleep")
	}
	var calls []string
	for _, ins := range spec.Instructions[:functions(spec.Instructions)[0].end] {
		switch {
		case ins.IsBuiltinCall() && asm.BuiltinFunc(ins.Constant) == asm.FnImaFileHash:
			calls = append(calls, "hash")
		case ins.IsFunctionCall() && slices.Contains([]string{"buf_take", "buf_give", "verity_key", "path_binprm", "enforce_count", "hash_put"}, ins.Reference()):
			calls = append(calls, ins.Reference())
		}
	}
	const want = "buf_take path_binprm verity_key buf_give hash enforce_count buf_take"
	if got := strings.Join(calls, " "); !strings.HasPrefix(got, want+" ") || strings.Count(got, "buf_take") != 2 {
		t.Errorf("the program calls %s; it should begin with %s", got, want)
	}
}

// A file may have as long a digest as the kernel half has room for.
func TestDigest_sameInKernelHalf(t *testing.T) {
	if n := len(abi.ValIma{}.Digest); n != digest.Max {
		t.Errorf("%d bytes here, %d in the kernel half", digest.Max, n)
	}
}
