// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"tetragon/internal/policy/plan"
)

// The programs of cgroups hear of sockets of this process, wherever in the hierarchy it is.
func TestManager_cgroup(t *testing.T) {
	if _, err := cgroupRoot("/proc/self/mountinfo"); err != nil {
		t.Skip("feature cgroup2: ", err)
	}
	for _, c := range []struct {
		backend plan.Backend
		want    int // for one connection to an address where nobody listens
	}{{plan.BackendSockOps, 1}, {plan.BackendSockCreate, 1}, {plan.BackendSockRelease, 1}} {
		t.Run(c.backend.String(), func(t *testing.T) {
			g := newRig(t, ManagerOptions{})
			h := plan.Hook{
				Section: "kprobes", Event: plan.EventKprobe, Name: "f", Attach: plan.Attach{Backend: c.backend},
				Values: []plan.Value{{Source: plan.Source{Kind: plan.SourceArg}, Type: plan.TypeSock}},
				Args:   []plan.Arg{{Value: 0, Type: "sock"}},
				Rules: []plan.Rule{{
					Filters: []plan.Filter{
						{Kind: plan.FilterRanges, Task: plan.TaskPid, Ranges: []plan.Range{{Lo: uint64(os.Getpid()), Hi: uint64(os.Getpid())}}},
						{Kind: plan.FilterRanges, Value: 0, Field: plan.FieldFamily, Ranges: []plan.Range{{Lo: unix.AF_INET, Hi: unix.AF_INET}}},
					},
					Do: plan.Actions{Post: true},
				}},
			}
			id, err := g.m.Add(&plan.Plan{Policy: "a", Hooks: []plan.Hook{h}})
			if err != nil && (strings.Contains(err.Error(), "unknown func") || strings.Contains(err.Error(), "cannot use helper")) {
				// 6.1 does not let them ask who runs, 6.12 not for what is kept with a task. 6.18 does.
				t.Skipf("feature %s_task: this kernel's programs of that type know no current task", c.backend)
			}
			if err != nil {
				t.Fatal(err)
			}
			connect := func() {
				if c, err := net.Dial("tcp4", "127.0.0.1:1"); err == nil {
					_ = c.Close()
				}
			}
			connect()
			if got := len(g.told()["a"]); got != c.want {
				t.Errorf("one connection was told %d times, want %d", got, c.want)
			}
			if err := g.m.Remove(id); err != nil {
				t.Fatal(err)
			}
			connect()
			if got := g.told(); len(got) > 0 {
				t.Errorf("told %v after the end", got)
			}
		})
	}
}

// A function that is full: the error says how many programs it takes.
func TestAttach_full(t *testing.T) {
	needBackend(t, plan.BackendFentry)
	g := newRig(t, ManagerOptions{})
	var err error
	n := 0
	for ; n <= 2*trampolines && err == nil; n++ {
		var p *ebpf.Program
		if p, err = ebpf.NewProgram(&ebpf.ProgramSpec{
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}, License: "Dual BSD/GPL",
			Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFEntry, AttachTo: getpgid,
		}); err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		var l link.Link
		if l, err = link.AttachTracing(link.TracingOptions{Program: p}); err == nil {
			defer l.Close()
		}
	}
	if n-1 != trampolines {
		t.Errorf("a function takes %d programs, we say %d (%v)", n-1, trampolines, err)
	}
	_, err = g.m.Add(sysPlan("a", plan.BackendFentry, odd, odd))
	if err == nil || !strings.HasPrefix(err.Error(), "attach fentry to "+getpgid+": ") || !strings.Contains(err.Error(), fmt.Sprintf("a function takes %d programs", trampolines)) {
		t.Errorf("got %v", err)
	}
	if err := g.m.retired.wait(); err != nil {
		t.Fatal(err)
	}
	g.clean()
}

// What the verifier says is one line, and all of it if somebody asks.
func TestLoad_refusal(t *testing.T) {
	g := newRig(t, ManagerOptions{})
	bad := sysPlan("bad", plan.BackendRawTp, odd, odd)
	bad.Hooks[0].Values[1].Source.N = 12 // behind the end of the tracepoint's arguments
	_, err := g.m.Add(bad)
	if err == nil || strings.Count(err.Error(), "\n") < 5 {
		t.Errorf("the whole log: got %v", err)
	}
	g.m.o.Verbose = false
	_, err = g.m.Add(bad)
	const want = "load raw_tracepoint to sys_enter: refused by the kernel's verifier: invalid bpf_context access off=96 size=8 (permission denied); --verbose=1 shows its whole log"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestCgroupRoot(t *testing.T) {
	for name, c := range map[string]struct{ mounts, want string }{
		"unified":      {"30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw", "/sys/fs/cgroup"},
		"hybrid":       {"30 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n31 24 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw", "/sys/fs/cgroup/unified"},
		"a part first": {"30 24 0:26 /a/b /run/x rw - cgroup2 cgroup2 rw\n31 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw", "/sys/fs/cgroup"},
		"a part only":  {"30 24 0:26 /a/b /run/x rw - cgroup2 cgroup2 rw", "/run/x"},
		"a blank":      {`30 24 0:26 / /sys/a\040b rw - cgroup2 cgroup2 rw`, "/sys/a b"},
		"none":         {"30 24 0:26 / /proc rw - proc proc rw\nnonsense\n", ""},
	} {
		path := filepath.Join(t.TempDir(), "mountinfo")
		if err := os.WriteFile(path, []byte(c.mounts), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := cgroupRoot(path)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, c.want)
		}
	}
}

// A program at the return of a function sees the result.
func TestAttach_kretprobe(t *testing.T) {
	needBackend(t, plan.BackendKretprobe)
	g := newRig(t, ManagerOptions{})
	p := sysPlan("a", plan.BackendKprobe, odd, odd)
	h := &p.Hooks[0]
	h.Attach = plan.Attach{Backend: plan.BackendKretprobe, Symbol: getpgid, Params: 1, Regs: true}
	h.Values = []plan.Value{{Source: plan.Source{Kind: plan.SourceReturn}, Type: plan.TypeInt, Bits: 32, Signed: true}}
	result := -int64(unix.ESRCH)
	h.Rules[0].Filters[1].Ranges = []plan.Range{{Lo: uint64(result), Hi: uint64(result)}}
	if _, err := g.m.Add(p); err != nil {
		t.Fatal(err)
	}
	provoke(odd)         // no such process
	provoke(os.Getpid()) // is there
	if got := g.told(); !equalTold(got, map[string][]uint64{"a": {uint64(result)}}) {
		t.Errorf("got %x", got)
	}
}

// The kernel runs the programs of a function in the order that Twins relies on. Each writes its number behind the others'.
func TestAttach_order(t *testing.T) {
	for _, b := range []plan.Backend{plan.BackendKprobe, plan.BackendKretprobe} {
		t.Run(b.String(), func(t *testing.T) {
			needBackend(t, b)
			m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = m.Close() }()
			attach := map[plan.Backend]func(string, *ebpf.Program, *link.KprobeOptions) (link.Link, error){
				plan.BackendKprobe: link.Kprobe, plan.BackendKretprobe: link.Kretprobe,
			}[b]
			for n := range 2 {
				p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.Kprobe, License: "Dual BSD/GPL", Instructions: asm.Instructions{
					asm.LoadMapValue(asm.R1, m.FD(), 0),
					asm.LoadMem(asm.R2, asm.R1, 0, asm.DWord),
					asm.Mul.Imm(asm.R2, 10),
					asm.Add.Imm(asm.R2, int32(n+1)),
					asm.StoreMem(asm.R1, 0, asm.R2, asm.DWord),
					asm.Mov.Imm(asm.R0, 0),
					asm.Return(),
				}})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = p.Close() }()
				l, err := attach(getpgid, p, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = l.Close() }()
			}
			if err := m.Put(uint32(0), uint64(0)); err != nil {
				t.Fatal(err)
			}
			provoke(odd)
			var got uint64
			if err := m.Lookup(uint32(0), &got); err != nil {
				t.Fatal(err)
			}
			want := uint64(21)
			if oldFirst(b) {
				want = 12
			}
			if got%100 != want {
				t.Errorf("the programs ran as %d, want %d", got, want)
			}
		})
	}
}
