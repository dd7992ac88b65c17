// SPDX-License-Identifier: Apache-2.0

package gen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"tetragon/internal/abi"
	"tetragon/internal/policy/plan"
	"tetragon/internal/policy/simulate"
)

// The limits that the generator knows are those of the kernel half.
func TestLimits_sameInKernelHalf(t *testing.T) {
	for _, x := range []struct {
		name      string
		here, abi int
	}{
		{"rules", maxRules, abi.LimitHookRules}, {"words", ruleWords, abi.LimitHookWords}, {"slot", slotSize, abi.SlotStateSize},
		{"sets", setWords, abi.LimitSetWords}, {"kernel stack", valKernelStack, abi.ValueKernelStack}, {"user stack", valUserStack, abi.ValueUserStack},
		{"programs for system calls", sysBodies, abi.LimitSysBodies}, {"no error", noError, abi.LimitEnforceNone},
	} {
		if x.here != x.abi {
			t.Errorf("%s: %d here, %d in the kernel half", x.name, x.here, x.abi)
		}
	}
}

// trial is arguments for a program, and the values that its readers will find.
type trial struct {
	args   []uint64
	values []simulate.Value
	pin    runtime.Pinner
}

// put gives bytes an address that the kernel half can read.
func (c *trial) put(b []byte) uint64 {
	c.pin.Pin(&b[0])
	return uint64(uintptr(unsafe.Pointer(&b[0])))
}

// files are open files by their paths.
type files struct {
	dir  string
	open map[string]*os.File
}

// newFiles are closed when the test ends, or the fuzzing.
func newFiles(t testing.TB) *files {
	f := &files{dir: t.TempDir(), open: make(map[string]*os.File)}
	t.Cleanup(func() {
		for _, x := range f.open {
			x.Close()
		}
	})
	return f
}

func (f *files) fd(t testing.TB, name string) (uint64, string) {
	t.Helper()
	name = strings.Trim(strings.ReplaceAll(name, "/", "x"), ".")
	if name == "" {
		name = "n"
	}
	path := filepath.Join(f.dir, name[:min(len(name), 200)])
	if f.open[path] == nil {
		x, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		f.open[path] = x
	}
	return uint64(f.open[path].Fd()), path
}

// trial makes up a call that is close to what the program compares.
func (r random) trial(t testing.TB, p *plan.Program, fs *files) *trial {
	t.Helper()
	c := &trial{args: make([]uint64, len(p.Values)), values: make([]simulate.Value, len(p.Values))}
	for i := range p.Values {
		f := r.near(p, i)
		v := &c.values[i]
		switch p.Values[i].Type {
		case plan.TypeInt:
			c.args[i] = r.wordFor(f)
			v.Int = extend(c.args[i], p.Values[i].Bits, p.Values[i].Signed)
		case plan.TypeString:
			v.Text = []byte(r.textFor(f))
			c.args[i] = c.put(append(slices.Clone(v.Text), 0))
		case plan.TypeSockaddr:
			c.args[i] = c.put(r.sockaddr(f, v))
		case plan.TypeFd:
			var path string
			c.args[i], path = fs.fd(t, strings.TrimPrefix(r.textFor(f), fs.dir))
			v.Text, v.Mode = []byte(path), 0o100644
		}
		if p.Values[i].Type != plan.TypeInt && r.IntN(10) == 0 {
			c.args[i], *v = 100_000, simulate.Value{Bad: true} // no address, and no descriptor
		}
	}
	return c
}

// sockaddr is a struct sockaddr_in or sockaddr_in6, or one of another family.
func (r random) sockaddr(f *plan.Filter, v *simulate.Value) []byte {
	a, b := r.addrFor(f), make([]byte, 28)
	n := &v.Net
	n.Sport = uint16(r.wordFor(f))
	binary.BigEndian.PutUint16(b[2:], n.Sport)
	if a.Is4() {
		n.Family = afInet
		x := a.As4()
		copy(b[4:], x[:])
		copy(n.Saddr[:], x[:])
	} else {
		n.Family = afInet6
		x := a.As16()
		copy(b[8:], x[:])
		n.Saddr = x
	}
	if r.IntN(6) == 0 {
		*n = simulate.Net{Family: 16}
	}
	binary.LittleEndian.PutUint16(b, n.Family)
	return b
}

// inDir makes filters on paths fit the directory that the files are in.
func inDir(p *plan.Program, dir string) {
	for i := range p.Rules {
		for j := range p.Rules[i].Filters {
			f := &p.Rules[i].Filters[j]
			if p.Values[f.Value].Type == plan.TypeFd && (f.Kind == plan.FilterPrefix || f.Kind == plan.FilterEqual) {
				for k := range f.Strings {
					f.Strings[k] = dir + "/" + f.Strings[k]
				}
			}
		}
	}
}

// compare runs calls through a random program and through the evaluator.
func compare(t testing.TB, h *harness, fs *files, seed uint64, rules, calls int) (ran int) {
	t.Helper()
	r := random{rand.New(rand.NewPCG(seed, 1))}
	p := r.program(1+r.IntN(4), rules, valueInt, valueString, valueSockaddr, valueFile)
	inDir(p, fs.dir)
	if len(Needles(p)) > 250 {
		return 0
	}
	if _, err := Body(p, h.lib.Programs["library"], h.options(p)); errors.Is(err, errTooLarge) {
		return 0 // and said so
	}
	prog := h.body(t, p)
	defer prog.Close()
	for range calls {
		c := r.trial(t, p, fs)
		got := h.run(t, prog, c.args...)
		var want ruleSet
		copy(want[:], simulate.Match(p.Rules, c.values, nil))
		c.pin.Unpin()
		if got == want {
			continue
		}
		for i := range p.Rules {
			if got.has(i) != want.has(i) {
				t.Errorf("rule %d is live %t in the kernel, %t in the evaluator: %+v", i, got.has(i), want.has(i), p.Rules[i].Filters)
			}
		}
		t.Fatalf("seed %d: arguments %x are %+v", seed, c.args, c.values)
	}
	return calls
}

// The kernel half decides as the evaluator does: random programs over all kinds of values and filters, and calls that are
// close to what they compare. Nothing is hooked: the programs are run by hand.
func TestBody_likeSimulate(t *testing.T) {
	h := newHarness(t)
	fs := newFiles(t)
	ran := 0
	for seed := range uint64(150) {
		rules := 1 + int(seed%8)
		if seed%10 == 0 {
			rules = 65 + int(seed)%200
		}
		ran += compare(t, h, fs, seed, rules, 40)
	}
	if ran < 4000 {
		t.Errorf("only %d calls were compared", ran)
	}
}

func FuzzBody_likeSimulate(f *testing.F) {
	for _, seed := range []uint64{1, 7, 1 << 40} {
		f.Add(seed, uint16(seed%90))
	}
	h := newHarness(f)
	fs := newFiles(f)
	f.Fuzz(func(t *testing.T, seed uint64, rules uint16) {
		compare(t, h, fs, seed, 1+int(rules%300), 10)
	})
}

// What a call costs does not depend on how many rules compare one number: the search grows with the logarithm, and a call
// that no rule wants leaves before anything is fetched for the others.
func TestBody_rejectIsFlat(t *testing.T) {
	h := newHarness(t)
	size := func(rules int) int {
		p := &plan.Program{ID: 1, Attach: plan.Attach{Backend: plan.BackendRawTp, Symbol: "library"}}
		p.Values = []plan.Value{{Source: plan.Source{Kind: plan.SourceArg}, Type: plan.TypeInt, Bits: 32}}
		hook := &plan.Hook{}
		for i := range rules {
			hook.Rules = append(hook.Rules, plan.Rule{Filters: []plan.Filter{{Kind: plan.FilterRanges, Ranges: []plan.Range{{Lo: uint64(2*i + 10), Hi: uint64(2*i + 10)}}}}})
		}
		p.Rules = hook.Rules
		p.Groups = []plan.Group{{Policy: 1, Plan: &plan.Plan{}, Hook: hook}}
		prog := h.body(t, p)
		if got := h.run(t, prog, 7); got != (ruleSet{}) {
			t.Errorf("%d rules: %x is live", rules, got)
		}
		var want ruleSet
		want.add(rules - 1)
		if got := h.run(t, prog, uint64(2*(rules-1)+10)); got != want {
			t.Errorf("%d rules: the last one is not live alone: %x", rules, got)
		}
		info, err := prog.Info()
		if err != nil {
			t.Fatal(err)
		}
		n, _ := info.VerifiedInstructions()
		return int(n)
	}
	one, many := size(1), size(maxRules)
	t.Logf("verified instructions: %d for one rule, %d for %d", one, many, maxRules)
	if many > 50_000 {
		t.Errorf("%d rules: the verifier looks at %d instructions", maxRules, many)
	}
}

// Thousands of values are more than a jump reaches over: the tree goes on by relays, and decides likewise.
func TestBody_thousandsOfValues(t *testing.T) {
	h := newHarness(t)
	for _, c := range []struct {
		name string
		kind plan.FilterKind
		n    int
	}{{"equal", plan.FilterEqual, 12_000}, {"prefix", plan.FilterPrefix, 8_000}, {"suffix", plan.FilterSuffix, 3_000}} {
		t.Run(c.name, func(t *testing.T) {
			p := &plan.Program{ID: 1, Attach: plan.Attach{Backend: plan.BackendRawTp, Symbol: "library"}}
			p.Values = []plan.Value{{Source: plan.Source{Kind: plan.SourceArg}, Type: plan.TypeString}}
			f := plan.Filter{Kind: c.kind}
			for i := range c.n {
				f.Strings = append(f.Strings, fmt.Sprintf("/srv/%05d/%d", i*7919%c.n, i))
			}
			hook := &plan.Hook{Rules: []plan.Rule{{Filters: []plan.Filter{f}}}}
			p.Rules = hook.Rules
			p.Groups = []plan.Group{{Policy: 1, Plan: &plan.Plan{}, Hook: hook}}
			prog := h.body(t, p)
			t.Logf("%d strings: %d instructions verified", c.n, verified(t, prog))
			r := rand.New(rand.NewPCG(1, uint64(c.n)))
			for range 500 {
				s := f.Strings[r.IntN(c.n)]
				if r.IntN(2) == 0 {
					b := []byte(s)
					b[r.IntN(len(b))] ^= 1
					s = string(b)
				}
				var x trial
				at := x.put(append([]byte(s), 0))
				got := h.run(t, prog, at)
				x.pin.Unpin()
				var want ruleSet
				copy(want[:], simulate.Match(p.Rules, []simulate.Value{{Text: []byte(s)}}, nil))
				if got != want {
					t.Fatalf("%q: the kernel half says %t, the evaluator %t", s, got.has(0), want.has(0))
				}
			}
		})
	}
}
