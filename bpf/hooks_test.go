// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"

	"tetragon/bpf"
	"tetragon/internal/abi"
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
		if errors.As(err, &ve) && len(ve.Log) > 0 {
			return nil, fmt.Errorf("%w\n%s", err, strings.Join(ve.Log[max(0, len(ve.Log)-40):], "\n"))
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
		main = append(main, asm.Mov.Reg(asm.R1, asm.R10), asm.Add.Imm(asm.R1, -abi.HookCallSize))
		for at := int16(-abi.HookCallSize); at < 0; at += 4 {
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
		if why := l.mayRefuse(name, err); why != "" {
			t.Run(name, func(t *testing.T) { t.Skip(why) })
			continue
		}
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

// mayRefuse says which helper a kernel lacks that only this function needs, and that not every kernel has; empty: it is
// another error, or none.
func (l *library) mayRefuse(name string, err error) string {
	if name != "enforce_set" || err == nil {
		return ""
	}
	return missingHelper.FindString(err.Error())
}

// callAll is a main function with so much stack of its own that calls every library function that this kernel takes.
func (l *library) callAll(stack int32, result int32) asm.Instructions {
	main := asm.Instructions{
		asm.Mov.Imm(asm.R6, 0), asm.StoreMem(asm.R10, int16(-stack), asm.R6, asm.DWord),
	}
	for at := int16(-abi.HookCallSize); at < 0; at += 8 {
		main = append(main, asm.StoreMem(asm.R10, at, asm.R6, asm.DWord))
	}
	set, noSet := l.load(l.program(ebpf.RawTracepoint, l.callOnce("enforce_set")))
	if noSet == nil {
		set.Close()
	}
	for _, name := range l.global() {
		if l.mayRefuse(name, noSet) != "" {
			continue
		}
		if name == "hook_finish" {
			main = append(main, asm.Mov.Reg(asm.R1, asm.R10), asm.Add.Imm(asm.R1, -abi.HookCallSize))
		} else {
			for i := range l.params(name) {
				main = append(main, asm.Mov.Imm(asm.R1+asm.Register(i), 0))
			}
		}
		main = append(main, asm.Call.Label(name))
	}
	return append(main, asm.Mov.Imm(asm.R0, result), asm.Return())
}

// mainStack is how much stack a generated main function may use, of the 512 bytes that all functions under way share. The
// kernel counts in steps of 32, and bpf_loop's own stack not at all.
const mainStack = 352

var missingHelper = regexp.MustCompile(`(unknown func|cannot use helper) bpf_\w+`)

// TestLibrary_programTypes loads all of the library in each type of program that a hook may be.
func TestLibrary_programTypes(t *testing.T) {
	l := loadLibrary(t)
	for _, c := range []struct {
		name   string
		typ    ebpf.ProgramType
		attach ebpf.AttachType
		to     string
		result int32
	}{
		{"raw_tracepoint", ebpf.RawTracepoint, ebpf.AttachNone, "", 0},
		{"tracepoint", ebpf.TracePoint, ebpf.AttachNone, "", 0},
		{"kprobe", ebpf.Kprobe, ebpf.AttachNone, "", 0},
		{"fentry", ebpf.Tracing, ebpf.AttachTraceFEntry, "security_file_open", 0},
		{"fexit", ebpf.Tracing, ebpf.AttachTraceFExit, "security_file_open", 0},
		{"sock_ops", ebpf.SockOps, ebpf.AttachCGroupSockOps, "", 1},
		{"cgroup/sock_create", ebpf.CGroupSock, ebpf.AttachCGroupInetSockCreate, "", 1},
		{"cgroup/connect4", ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Connect, "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := l.program(c.typ, l.callAll(mainStack, c.result))
			spec.AttachType, spec.AttachTo = c.attach, c.to
			p, err := l.load(spec)
			if c.typ == ebpf.Tracing && (errors.Is(err, os.ErrPermission) || errors.Is(err, ebpf.ErrNotSupported)) {
				t.Skipf("the kernel has no trampolines (fentry): %v", err)
			}
			if c.typ == ebpf.SockOps || c.typ == ebpf.CGroupSock || c.typ == ebpf.CGroupSockAddr {
				// These stand for functions that cannot be hooked, which on such kernels they can.
				if m := missingHelper.FindString(fmt.Sprint(err)); m != "" {
					t.Skipf("the kernel does not let such programs use what tells processes apart: %s", m)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			p.Close()
		})
	}
}

// TestPrograms_verified loads the programs that are attached as they are.
func TestPrograms_verified(t *testing.T) {
	l := loadLibrary(t)
	for _, name := range []string{"class_fork", "class_exec", "class_all", "sys_enter_all", "sys_exit_all"} {
		spec := l.spec.Programs[name].Copy()
		p, err := l.load(spec)
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
