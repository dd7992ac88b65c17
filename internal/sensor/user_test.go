// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	kfeatures "github.com/cilium/ebpf/features"

	"tetragon/internal/elf"
	"tetragon/internal/elf/elftest"
	"tetragon/internal/policy/plan"
)

// watchers runs a small program, whose status is how many watch its probe.
func watchers(t *testing.T, path string) int {
	t.Helper()
	err := exec.Command(path).Run()
	var status *exec.ExitError
	if err != nil && !errors.As(err, &status) {
		t.Fatal(err)
	}
	if status != nil {
		return status.ExitCode()
	}
	return 0
}

func put(t *testing.T, path string, p elftest.Program) elftest.Places {
	t.Helper()
	b, at := p.Bytes()
	if err := os.WriteFile(path+".new", b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return at
}

// TestUsers attaches by one link for many and by single ones: what the program counts tells who is there. Nothing stays
// when a hook is closed, whatever became of its file.
func TestUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	if _, err := os.Stat("/sys/bus/event_source/devices/uprobe/type"); err != nil {
		t.Skip("the kernel has no uprobes")
	}
	for _, multi := range []bool{false, true} {
		t.Run(fmt.Sprintf("multi=%t", multi), func(t *testing.T) {
			spec := &ebpf.ProgramSpec{Name: "test", Type: ebpf.Kprobe, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}}
			if multi {
				if err := kfeatures.HaveBPFLinkUprobeMulti(); err != nil {
					t.Skip("the kernel has no uprobe.multi")
				}
				spec.AttachType = ebpf.AttachTraceUprobeMulti
			}
			prog, err := ebpf.NewProgram(spec)
			if err != nil {
				t.Fatal(err)
			}
			defer prog.Close()
			u := &users{log: slog.New(slog.DiscardHandler)}
			path := filepath.Join(t.TempDir(), "prog")
			probe := &plan.Attach{Backend: plan.BackendUprobe, User: &plan.Place{
				Path: path, Probe: elftest.Provider + ":" + elftest.Name, Args: elftest.Args, Multi: multi,
			}}
			var hooks []func() error
			attach := func(a *plan.Attach) {
				t.Helper()
				l, err := u.attach(a, prog, nil, nil)
				if err != nil {
					t.Fatal(err)
				}
				u.settle()
				hooks = append(hooks, l.Close)
			}
			want := func(what string, n int) {
				t.Helper()
				if got := watchers(t, path); got != n {
					t.Errorf("%s: %d watch, want %d", what, got, n)
				}
			}
			wait := func(offset uint64) {
				t.Helper()
				for {
					u.mu.Lock()
					all := true
					for _, h := range u.hooks[path] {
						all = all && len(h.holds) > 0 && h.holds[len(h.holds)-1].first == offset
					}
					u.mu.Unlock()
					if all {
						return
					}
					time.Sleep(10 * time.Millisecond) // the test's own time limit ends it
				}
			}
			attach(probe) // the file is not there yet
			at := put(t, path, elftest.Program{})
			wait(at.Probe)
			want("a file that came", 1)
			attach(probe)
			want("another hook on the same place, which the kernel counts once", 1)
			attach(&plan.Attach{Backend: plan.BackendUretprobe, User: &plan.Place{Path: path, Symbol: "greet", RefCtr: at.Semaphore, Multi: multi}})
			want("a return, with the same counter", 2)
			if err := hooks[2](); err != nil {
				t.Error(err)
			}
			want("the return is gone", 1)
			at = put(t, path, elftest.Program{Pad: 1000})
			wait(at.Probe)
			want("another file in its place", 1)
			if err := hooks[0](); err != nil {
				t.Error(err)
			}
			want("one is gone", 1)
			put(t, path, elftest.Program{Args: "8@%rdx"})
			want("a file whose probe passes its arguments elsewhere", 0)
			if err := hooks[1](); err != nil {
				t.Error(err)
			}
			put(t, path, elftest.Program{})
			want("all are gone", 0)
			if u.stop != nil || len(u.hooks) > 0 {
				t.Error("somebody still looks out for files")
			}
			if _, err := u.attach(&plan.Attach{Backend: plan.BackendUprobe, User: &plan.Place{Path: path, Symbol: "greets", Multi: multi}}, prog, nil, nil); err == nil {
				t.Error("a symbol that is not there is hooked")
			}
			u.settle()
		})
	}
}

// TestUsers_many says how long it takes to load and attach many hooks; nothing is asserted of the time.
func TestUsers_many(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	if _, err := os.Stat("/sys/bus/event_source/devices/uprobe/type"); err != nil {
		t.Skip("the kernel has no uprobes")
	}
	g := newRig(t, ManagerOptions{})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	multi := kfeatures.HaveBPFLinkUprobeMulti() == nil
	const many = 500
	pl := &plan.Plan{Policy: "many"}
	for _, n := range f.Functions() {
		if fn, err := f.Function(n); err != nil || fn.Size == 0 || !strings.HasPrefix(n, "debug/") && !strings.HasPrefix(n, "encoding/") && !strings.HasPrefix(n, "net") {
			continue
		}
		pl.Hooks = append(pl.Hooks, plan.Hook{
			Section: "uprobes", Event: plan.EventUprobe, Name: n, Symbol: n,
			Attach: plan.Attach{Backend: plan.BackendUprobe, User: &plan.Place{Path: self, Symbol: n, Multi: multi}},
			Values: []plan.Value{{Source: plan.Source{Kind: plan.SourceArg}, Type: plan.TypeInt, Bits: 32}},
			Rules: []plan.Rule{{
				Filters: []plan.Filter{{Kind: plan.FilterRanges, Ranges: []plan.Range{{Lo: 77777, Hi: 77777}}}}, Do: plan.Actions{Post: true, Last: "Post"},
			}},
		})
		if len(pl.Hooks) == many {
			break
		}
	}
	if len(pl.Hooks) < many {
		t.Fatalf("the test has %d functions to hook, of %d", len(pl.Hooks), many)
	}
	begin := time.Now()
	id, err := g.m.Add(pl)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d hooks, multi %t: loaded in %s, %d bytes", many, multi, time.Since(begin).Round(time.Millisecond), g.m.KernelBytes(id))
	begin = time.Now()
	if err := g.m.Remove(id); err != nil {
		t.Fatal(err)
	}
	if err := g.m.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("gone in %s", time.Since(begin).Round(time.Millisecond))
}
