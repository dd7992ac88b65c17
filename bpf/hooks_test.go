// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"errors"
	"os"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"

	"tetragon/bpf"
)

// maxVerified is how many instructions the verifier may look at for any function of the library, on any kernel: each hook
// that uses it pays for it when it is loaded.
const maxVerified = 50000

// library is the compiled library with its maps made.
type library struct {
	spec   *ebpf.CollectionSpec
	tables *ebpf.Collection
	cache  *btf.Cache
	funcs  map[string]asm.Instructions
}

func loadLibrary(t testing.TB) *library {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: loads programs")
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	l := &library{cache: btf.NewCache(), funcs: make(map[string]asm.Instructions)}
	var err error
	if l.spec, err = bpf.LoadHooks(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"library", "class_exec"} {
		ins := l.spec.Programs[p].Instructions
		begin := 0
		for i := 1; i <= len(ins); i++ {
			if i == len(ins) || btf.FuncMetadata(&ins[i]) != nil {
				l.funcs[ins[begin].Symbol()] = ins[begin:i]
				begin = i
			}
		}
	}
	maps := l.spec.Copy()
	maps.Programs = nil
	maps.Maps["hook_bufs"].MaxEntries = uint32(4 * ebpf.MustPossibleCPU())
	if l.tables, err = ebpf.NewCollectionWithOptions(maps, ebpf.CollectionOptions{Cache: l.cache}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.tables.Close)
	return l
}

// params counts the parameters of a library function.
func (l *library) params(name string) int {
	return len(btf.FuncMetadata(&l.funcs[name][0]).Type.(*btf.FuncProto).Params)
}

// global lists the functions that generated programs may call.
func (l *library) global() []string {
	var out []string
	for name, ins := range l.funcs {
		if f := btf.FuncMetadata(&ins[0]); f.Linkage == btf.GlobalFunc && name != "library" && name != "class_exec" {
			out = append(out, name)
		}
	}
	sort.Strings(out)
	return out
}

// program puts a main function before the library functions that it needs.
func (l *library) program(typ ebpf.ProgramType, main asm.Instructions) *ebpf.ProgramSpec {
	spec := l.spec.Programs["library"].Copy()
	spec.Name, spec.Type, spec.AttachTo, spec.AttachType, spec.SectionName = "probe", typ, "", ebpf.AttachNone, ""
	head := l.funcs["library"][0]
	main = slices.Clone(main)
	main[0] = btf.WithFuncMetadata(main[0].WithSymbol("library"), btf.FuncMetadata(&head)).WithSource(head.Source())
	spec.Instructions = nil
	bodies := []asm.Instructions{main}
	seen := map[string]bool{"library": true}
	for len(bodies) > 0 {
		b := bodies[0]
		bodies = bodies[1:]
		spec.Instructions = append(spec.Instructions, b...)
		for i := range b {
			if ref := b[i].Reference(); b[i].IsFunctionReference() && !seen[ref] {
				seen[ref] = true
				bodies = append(bodies, l.funcs[ref])
			}
		}
	}
	return spec
}

func (l *library) load(spec *ebpf.ProgramSpec) (*ebpf.Program, error) {
	one := &ebpf.CollectionSpec{
		Maps: l.spec.Copy().Maps, Programs: map[string]*ebpf.ProgramSpec{"probe": spec}, Types: l.spec.Types, ByteOrder: l.spec.ByteOrder,
	}
	for name, m := range l.tables.Maps {
		one.Maps[name].MaxEntries = m.MaxEntries()
	}
	coll, err := ebpf.NewCollectionWithOptions(one, ebpf.CollectionOptions{
		MapReplacements: l.tables.Maps, Cache: l.cache, Programs: ebpf.ProgramOptions{LogSizeStart: 1 << 20},
	})
	if err != nil {
		var ve *ebpf.VerifierError
		if errors.As(err, &ve) && len(ve.Log) > 40 {
			ve.Log = ve.Log[len(ve.Log)-40:]
			return nil, errors.New(strings.Join(ve.Log, "\n"))
		}
		return nil, err
	}
	defer coll.Close()
	return coll.DetachProgram("probe"), nil
}

// callOnce is a main function that calls one library function with the numbers in its context.
func (l *library) callOnce(name string) asm.Instructions {
	main := asm.Instructions{asm.Mov.Reg(asm.R9, asm.R1)}
	if name == "hook_finish" {
		main = append(main, asm.Mov.Reg(asm.R1, asm.R10), asm.Add.Imm(asm.R1, -80))
		for at := int16(-80); at < 0; at += 4 {
			main = append(main, asm.StoreImm(asm.R10, at, 0, asm.Word))
		}
	} else {
		for i := range l.params(name) {
			main = append(main, asm.LoadMem(asm.R1+asm.Register(i), asm.R9, int16(8*i), asm.DWord))
		}
	}
	return append(main, asm.Call.Label(name), asm.Mov.Imm(asm.R0, 0), asm.Return())
}

// TestLibrary_verified loads each function of the library by itself.
func TestLibrary_verified(t *testing.T) {
	l := loadLibrary(t)
	names := l.global()
	if len(names) < 50 {
		t.Fatalf("only %d functions: %v", len(names), names)
	}
	for _, name := range names {
		p, err := l.load(l.program(ebpf.RawTracepoint, l.callOnce(name)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if info, err := p.Info(); err == nil {
			n, _ := info.VerifiedInstructions()
			t.Logf("%-26s %6d", name, n)
			if n > maxVerified {
				t.Errorf("%s: the verifier looks at %d instructions, more than %d", name, n, maxVerified)
			}
		}
		p.Close()
	}
}
