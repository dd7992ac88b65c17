// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"

	"tetragon/bpf"
	"tetragon/internal/abi"
	"tetragon/internal/policy/plan"
)

// Numbers of ours that the kernel half has too.
func TestTables_likeKernelHalf(t *testing.T) {
	lib, err := bpf.LoadHooks()
	if err != nil {
		t.Fatal(err)
	}
	var buf *btf.Struct
	if err := lib.Types.TypeByName("hook_buf", &buf); err != nil {
		t.Fatal(err)
	}
	for _, m := range buf.Members {
		if m.Name == "socks" {
			if n := m.Type.(*btf.Array).Nelems; n != trackedMax {
				t.Errorf("trackedMax is %d, the kernel half has %d", trackedMax, n)
			}
		}
	}
	for name, want := range map[string]uint32{
		"slots": abi.LimitHookSlots * abi.SlotStateSize, "body_first": 2 * 2 * 2 * abi.LimitSysNumbers, "body_next": 2 * 2 * abi.LimitSysBodies,
		"sys_wanted": 2 * 2 * abi.LimitSysNumbers / 8, "class_pass": 4, "class_changed": 4, "class_now": 4, "class_kept": 8 * abi.LimitSetWords,
	} {
		v := lib.Variables[name]
		if v == nil || v.SectionName != ".bss" || v.Size() != want {
			t.Errorf("variable %s: %+v, want %d bytes in .bss", name, v, want)
		} else if v.Offset%min(want, 8) != 0 {
			t.Errorf("variable %s: at %d, so that a write of it may not be one store", name, v.Offset)
		}
	}
	for name, want := range map[string]struct{ rows, size uint32 }{
		"rules": {abi.LimitRuleRows, abi.RuleSize}, "rule_stats": {abi.LimitRuleRows, abi.RuleStatSize}, "needles": {abi.LimitNeedleRows, 4 + abi.LimitNeedleMax},
		"enter_bodies": {abi.LimitSysBodies, 4}, "exit_bodies": {abi.LimitSysBodies, 4},
	} {
		if m := lib.Maps[name]; m == nil || m.MaxEntries != want.rows || m.ValueSize != want.size {
			t.Errorf("map %s: %v, want %d rows of %d bytes", name, m, want.rows, want.size)
		}
	}
}

// Any order of taking and giving: no row is given out twice, and in the end all are one again.
func TestRows(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	const n = 200
	r := newRows(10, n)
	var held []span
	var owner [10 + n]bool
	for range 20_000 {
		if rnd.IntN(2) == 0 {
			want := 1 + rnd.IntN(20)
			first, ok := r.take(want)
			if !ok {
				continue
			}
			for i := first; i < first+want; i++ {
				if i < 10 || owner[i] {
					t.Fatalf("row %d is given out twice, or was never there", i)
				}
				owner[i] = true
			}
			held = append(held, span{first, want})
		} else if len(held) > 0 {
			i := rnd.IntN(len(held))
			s := held[i]
			held = append(held[:i], held[i+1:]...)
			for k := s.first; k < s.first+s.n; k++ {
				owner[k] = false
			}
			r.give(s.first, s.n)
		}
		sum := 0
		for _, s := range held {
			sum += s.n
		}
		if r.left()+sum != n {
			t.Fatalf("%d rows are free and %d held, of %d", r.left(), sum, n)
		}
	}
	for _, s := range held {
		r.give(s.first, s.n)
	}
	if len(r.free) != 1 || r.free[0] != (span{10, n}) {
		t.Errorf("in the end %v are free", r.free)
	}
	if _, ok := r.take(n + 1); ok {
		t.Error("more rows were given out than there are")
	}
}

// What nobody uses takes no memory; a rate limit works when it comes to be used, beside programs that do not know it.
func TestManager_largeTables(t *testing.T) {
	g := newRig(t, ManagerOptions{})
	if _, err := g.m.Add(sysPlan("plain", plan.BackendTp, odd, odd)); err != nil {
		t.Fatal(err)
	}
	before := g.m.TableBytes()
	limited := sysPlan("limited", plan.BackendSysEnter, odd, odd+10)
	limited.Hooks[0].Rules[0].Do.RateLimit = time.Hour
	if _, err := g.m.Add(limited); err != nil {
		t.Fatal(err)
	}
	after := g.m.TableBytes()
	t.Logf("tables: %d bytes, %d with rate limits", before, after)
	if after < before+1<<20 {
		t.Errorf("tables take %d bytes without rate limits and %d with them", before, after)
	}
	for range 3 {
		provoke(odd)
		provoke(odd + 1)
	}
	if got, want := g.told(), map[string][]uint64{"plain": {odd, odd, odd}, "limited": {odd, odd + 1}}; !equalTold(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	// Another program with a limit has the same table.
	other := sysPlan("other", plan.BackendSysExit, odd, odd)
	other.Hooks[0].Rules[0].Do.RateLimit = time.Hour
	if _, err := g.m.Add(other); err != nil {
		t.Fatal(err)
	}
	if n := g.m.TableBytes(); n != after {
		t.Errorf("tables take %d bytes, with another program that has a limit %d", after, n)
	}
}
