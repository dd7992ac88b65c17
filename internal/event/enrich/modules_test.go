// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"debug/elf"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// place of a function of this very program: the offset in the file.
func offsetOf(t *testing.T, m *module, f any) uint64 {
	t.Helper()
	pc := uint64(reflect.ValueOf(f).Pointer())
	for _, l := range m.loads {
		if pc >= l.addr && pc < l.addr+l.size {
			return pc - l.addr + l.off
		}
	}
	t.Skipf("needs a program that runs where it is linked, this one has code at %#x", pc)
	return 0
}

//go:noinline
func landmark() int { return runtime.NumCPU() }

// TestReadModule_go: functions of this program are found by the Go runtime's own table, with and without an ELF one.
func TestReadModule_go(t *testing.T) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := readModule(f)
	at := offsetOf(t, m, landmark)
	want := "tetragon/internal/event/enrich.landmark"
	if p := m.find(at + 3); p.name != want || p.offset != 3 {
		t.Errorf("got %+v, want %s+3", p, want)
	}
	if m.buildID == "" {
		t.Error("no build id")
	}
	e, err := elf.NewFile(f)
	if err != nil {
		t.Fatal(err)
	}
	bare := &module{loads: m.loads}
	bare.goSymbols(e)
	if p := bare.find(at + 3); p.name != want || p.offset != 3 {
		t.Errorf("from the runtime's table: got %+v, want %s+3", p, want)
	}
	if p := bare.find(1 << 50); p.name != "" {
		t.Errorf("beyond the file: %+v", p)
	}
}

// TestReadModule_library: a library without its full table has the functions that it exports, and the id of its content.
func TestReadModule_library(t *testing.T) {
	var f *os.File
	for _, dir := range []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib", "/lib"} {
		if x, err := os.Open(filepath.Join(dir, "libc.so.6")); err == nil {
			f = x
			break
		}
	}
	if f == nil {
		t.Skip("needs libc.so.6")
	}
	defer f.Close()
	e, err := elf.NewFile(f)
	if err != nil {
		t.Fatal(err)
	}
	syms, err := e.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	m := readModule(f)
	if b, err := hex.DecodeString(m.buildID); err != nil || len(b) < 8 {
		t.Errorf("build id %q", m.buildID)
	}
	for _, s := range syms {
		if s.Name != "getpid" {
			continue
		}
		for _, l := range m.loads {
			if s.Value >= l.addr && s.Value < l.addr+l.size {
				if p := m.find(s.Value - l.addr + l.off + 1); !strings.HasSuffix(p.name, "getpid") || p.offset != 1 {
					t.Errorf("getpid is found as %+v", p)
				}
				return
			}
		}
	}
	t.Error("libc has no getpid")
}

// TestModules: a file is read once, another one of its name again, and what is no program is no trouble.
func TestModules(t *testing.T) {
	proc := t.TempDir()
	root := filepath.Join(proc, "7", "root", "bin")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	prog := filepath.Join(root, "prog")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(prog, self, 0o755); err != nil {
		t.Fatal(err)
	}
	m := modules{patient: time.Minute}
	r := &region{start: 1, end: 2, device: "0:1 1", file: "/bin/prog"}
	first := m.of(proc, 7, r)
	if first == nil || len(first.symbols) == 0 || m.of(proc, 7, r) != first {
		t.Fatal("not read, or twice")
	}
	if err := os.WriteFile(prog, []byte("\x7fELF and nothing else"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.device = "0:1 2"
	second := m.of(proc, 7, r)
	if second == nil || second == first || len(second.symbols) > 0 || second.find(0).name != "" {
		t.Errorf("of what is no program: %+v", second)
	}
	for _, name := range []string{"[vdso]", "", "/nowhere", "/bin"} {
		if x := m.of(proc, 7, &region{file: name}); x != nil {
			t.Errorf("%q: %+v", name, x)
		}
	}
	m.asked = m.asked.Add(-symbolsIdle * 2)
	if m.age(); m.byID != nil {
		t.Error("symbols are kept for ever")
	}
}

// TestModules_stuck: files that nobody answers for hold up no stack for long, are not asked for again, and are few.
func TestModules_stuck(t *testing.T) {
	proc := t.TempDir()
	root := filepath.Join(proc, "7", "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	var m modules
	var names []string
	for i := range maxReading + 2 {
		name := fmt.Sprintf("/pipe%d", i) // opening a pipe waits for somebody who writes
		if err := unix.Mkfifo(root+name, 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
		for range 2 {
			if x := m.of(proc, 7, &region{device: name, file: name}); x != nil {
				t.Errorf("%s: %+v", name, x)
			}
		}
	}
	if n := m.pending(); n != maxReading {
		t.Errorf("%d are being read, want %d", n, maxReading)
	}
	if m.forget(); m.pending() != maxReading {
		t.Error("what is being read is forgotten, and would be begun again")
	}
	for _, name := range names[:maxReading] {
		w, err := os.OpenFile(root+name, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
	for _, x := range m.byID {
		<-x.done
	}
	if n := m.pending(); n != 0 {
		t.Errorf("%d are still being read", n)
	}
}

// FuzzReadModule: whatever a program says of itself.
func FuzzReadModule(f *testing.F) {
	if b, err := exec.Command("head", "-c", "4096", "/proc/self/exe").Output(); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		name := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
		x, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		readModule(x).find(0)
	})
}
