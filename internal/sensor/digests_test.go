// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"tetragon/internal/kernel"
	"tetragon/internal/policy/plan"
	"tetragon/internal/sensor/gen"
)

// A table of digests has what it was made of, and changes no more.
func TestDigestTable(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("feature bpf: not root")
	}
	rows := make([]gen.DigestRow, 5000)
	for i := range rows {
		rows[i].Key[8], rows[i].Key[9] = byte(i), byte(i>>8)
		rows[i].Rules = []uint64{uint64(i), 7}
	}
	m, err := digestTable(rows)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for i := range rows {
		var got [2]uint64
		if err := m.Lookup(rows[i].Key, &got); err != nil || !slices.Equal(got[:], rows[i].Rules) {
			t.Fatalf("row %d: got %x, %v, want %x", i, got, err, rows[i].Rules)
		}
	}
	if err := m.Delete(rows[0].Key); err == nil {
		t.Error("a row can be taken away")
	}
}

// Files are told apart by their hashes by a hook with one rule and by one with many, of 5,000 digests, and by that of fs-verity
// where the kernel has it; with the hash in the record and without.
func TestManager_digests(t *testing.T) {
	g := newRig(t, ManagerOptions{})
	facts, err := g.m.o.Facts()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []kernel.Feature{kernel.BpfLSM, kernel.ImaHash} {
		if why := facts.Lacks(x); why != "" {
			t.Skipf("feature %s: %s", x, why)
		}
	}
	at, err := facts.Follow("linux_binprm", "file")
	if err != nil || len(at.Steps) != 1 {
		t.Fatalf("the member file of linux_binprm: %+v, %v", at, err)
	}
	file := plan.Source{Kind: plan.SourceArg, Steps: []plan.Step{{Off: at.Steps[0].Off, Size: 8}}}
	program, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bad := append(slices.Clone(program), 'x')
	denied, free := write("denied", bad), write("free", program)
	for _, n := range []int{1, 70} {
		for _, tells := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d rules, tells %t", n, tells), func(t *testing.T) {
				h := plan.Hook{
					Section: "lsmhooks", Event: plan.EventLSM, Name: "bprm_check_security",
					Attach: plan.Attach{Backend: plan.BackendLSM, Symbol: "bprm_check_security", Params: 1, Hash: &file},
					Values: []plan.Value{{Source: plan.Source{Kind: plan.SourceArg}, Type: plan.TypeBinprm}},
					Args:   []plan.Arg{{Value: 0, Type: "linux_binprm"}},
				}
				for i := range n {
					f := plan.Filter{Kind: plan.FilterDigest, Field: plan.FieldHash, Strings: []string{fmt.Sprintf("sha256:%064x", i)}}
					if i == n-1 {
						f.Strings = append(f.Strings, fmt.Sprintf("sha256:%x", sha256.Sum256(bad)))
						for j := range 5000 {
							f.Strings = append(f.Strings, fmt.Sprintf("sha256:%064x", j))
						}
					}
					r := plan.Rule{Filters: []plan.Filter{f, {Kind: plan.FilterPrefix, Strings: []string{dir + "/"}}}, Do: plan.Actions{Post: tells, ImaHash: tells, Override: true, Error: -13}}
					if facts.Lacks(kernel.Verity) == "" && i%2 == 0 {
						r.Filters = append(r.Filters, plan.Filter{Kind: plan.FilterDigest, Field: plan.FieldVerity, Not: true, Strings: []string{fmt.Sprintf("fsverity:sha256:%064x", i)}})
					}
					h.Rules = append(h.Rules, r)
				}
				id, err := g.m.Add(&plan.Plan{Policy: "a", Hooks: []plan.Hook{h}})
				if err != nil {
					t.Fatal(err)
				}
				if err := exec.Command(denied).Run(); err == nil {
					t.Error("a program whose digest is named is executed")
				}
				if err := exec.Command(free).Run(); err != nil {
					t.Errorf("a program whose digest is not named: %v", err)
				}
				if s, err := g.m.Stats(id); err != nil || s[0].Bytes < 5000*72 {
					t.Errorf("the hook's memory: %+v, %v; want the table counted as well", s, err)
				}
				if err := g.m.Remove(id); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}
