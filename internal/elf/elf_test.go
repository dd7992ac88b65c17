// SPDX-License-Identifier: Apache-2.0

package elf_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"tetragon/internal/elf"
	"tetragon/internal/elf/elftest"
)

func made(t testing.TB, p elftest.Program) (*elf.File, elftest.Places) {
	t.Helper()
	b, at := p.Bytes()
	f, err := elf.New(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return f, at
}

func TestFile(t *testing.T) {
	f, at := made(t, elftest.Program{Pad: 5})
	fn, err := f.Function("greet")
	if err != nil {
		t.Fatal(err)
	}
	if off, err := f.Offset(fn.Addr); err != nil || off != at.Greet {
		t.Errorf("greet is at %#x (%v), want %#x", off, err, at.Greet)
	}
	if !f.HasCode(at.Greet) || f.HasCode(at.Semaphore) {
		t.Error("code and data are not told apart")
	}
	if _, err := f.Offset(0x402000); err == nil {
		t.Error("data has an offset of code")
	}
	if f.BuildID() != "deadbeef" || f.Machine() != "amd64" || f.Go() {
		t.Errorf("build id %q, machine %s, made by Go %t", f.BuildID(), f.Machine(), f.Go())
	}
	for name, want := range map[string]string{
		"greets": "there is no symbol greets; did you mean greet?",
		"GREET":  "there is no symbol GREET; did you mean greet?",
		"other":  "there is no symbol other among the 2 of the file",
	} {
		if _, err := f.Function(name); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	f, _ = made(t, elftest.Program{Stripped: true})
	if _, err := f.Function("greet"); err == nil || !strings.Contains(err.Error(), "stripped") {
		t.Errorf("a stripped file: %v", err)
	}
}

func TestFile_digests(t *testing.T) {
	b, _ := elftest.Program{}.Bytes()
	f, _ := made(t, elftest.Program{})
	sum := fmt.Sprintf("sha256:%x", sha256.Sum256(b))
	zeros := "sha256:" + strings.Repeat("0", 64)
	for _, x := range []struct {
		digests []string
		ok      bool
		other   string
	}{
		{[]string{sum}, true, ""},
		{[]string{zeros, sum}, true, ""},
		{[]string{zeros, "build-id:deadbeef"}, true, ""},
		{[]string{zeros, "build-id:deadbeee"}, false, sum + ", build-id:deadbeef"},
		{[]string{zeros}, false, sum},
		{[]string{"build-id:dead"}, false, "build-id:deadbeef"},
	} {
		if ok, other, err := f.Is(x.digests); err != nil || ok != x.ok || other != x.other {
			t.Errorf("%v: %t %q %v, want %t %q", x.digests, ok, other, err, x.ok, x.other)
		}
	}
	if _, _, err := f.Is([]string{"md5:00"}); err == nil {
		t.Error("an algorithm that there is not gives no error")
	}
}

func TestProbes(t *testing.T) {
	for _, p := range []elftest.Program{{}, {Pad: 100}, {Base: 0x1000}} {
		f, at := made(t, p)
		ps, err := f.FindProbes(elftest.Provider, elftest.Name)
		want := []elf.Probe{{Provider: elftest.Provider, Name: elftest.Name, Offset: at.Probe, Semaphore: at.Semaphore, Args: elftest.Args}}
		if err != nil || !slices.Equal(ps, want) {
			t.Errorf("%+v: %+v, %v, want %+v", p, ps, err, want)
		}
	}
	f, _ := made(t, elftest.Program{})
	none, _ := made(t, elftest.Program{NoProbe: true})
	for _, x := range []struct {
		f              *elf.File
		provider, name string
		want           string
	}{
		{f, "scenario", "pass", "there is no static probe scenario:pass; scenario has passed"},
		{f, "other", "passed", "there is no static probe other:passed; the file has scenario:passed"},
		{none, "scenario", "passed", "there is no static probe scenario:passed: the file has none at all (no section .note.stapsdt)"},
	} {
		if _, err := x.f.FindProbes(x.provider, x.name); err == nil || err.Error() != x.want {
			t.Errorf("%v, want %s", err, x.want)
		}
	}
}

func TestParseArgs(t *testing.T) {
	for _, x := range []struct {
		machine, text string
		want          []elf.Arg
		err           string
	}{
		{"amd64", "", nil, ""},
		{"amd64", "-4@%edi 8@%rsi", []elf.Arg{{Size: 4, Signed: true, Base: "edi"}, {Size: 8, Base: "rsi"}}, ""},
		{"amd64", "-4@$-5 1@$0x10", []elf.Arg{{Size: 4, Signed: true, Const: -5}, {Size: 1, Const: 16}}, ""},
		{"amd64", "8@-16(%rbp)", []elf.Arg{{Size: 8, Base: "rbp", Mem: true, Disp: -16, Scale: 1}}, ""},
		{"amd64", "2@(%rax)", []elf.Arg{{Size: 2, Base: "rax", Mem: true, Scale: 1}}, ""},
		{"amd64", "4@8(%rax,%rbx,4)", []elf.Arg{{Size: 4, Base: "rax", Mem: true, Disp: 8, Index: "rbx", Scale: 4}}, ""},
		{"amd64", "4@(%rax,%rbx)", []elf.Arg{{Size: 4, Base: "rax", Mem: true, Index: "rbx", Scale: 1}}, ""},
		{"amd64", "%rdi", []elf.Arg{{Size: 8, Signed: true, Base: "rdi"}}, ""},
		{"amd64", "8f@%xmm0", []elf.Arg{{Size: 8, Float: true, Base: "xmm0"}}, ""},
		{"amd64", "8@global(%rip)", nil, `"8@global(%rip)": it is at a symbol (global)`},
		{"amd64", "8@16(%rip)", nil, `"8@16(%rip)": it is at a place that moves with the program (%rip)`},
		{"amd64", "-4@%edi 3@%rsi", nil, `"3@%rsi": a size of 3 bytes is not possible`},
		{"amd64", "4@(%rax,%rbx,3)", nil, `"4@(%rax,%rbx,3)": "3" is no scale`},
		{"amd64", "4@nonsense", nil, `"4@nonsense": it is neither a number, nor a register, nor memory at a register`},
		{"arm64", "-4@w0 8@[sp, 16] 8@[x19]", []elf.Arg{
			{Size: 4, Signed: true, Base: "w0"}, {Size: 8, Base: "sp", Mem: true, Disp: 16, Scale: 1}, {Size: 8, Base: "x19", Mem: true, Scale: 1},
		}, ""},
		{"arm64", "-4@5 4@[x0, x1, lsl 2] 8@[x2, -8]", []elf.Arg{
			{Size: 4, Signed: true, Const: 5}, {Size: 4, Base: "x0", Mem: true, Index: "x1", Scale: 4}, {Size: 8, Base: "x2", Mem: true, Disp: -8, Scale: 1},
		}, ""},
		{"arm64", "4@[x0", nil, `"4@[x0": its bracket is not closed`},
		{"amd64", strings.Repeat("4@$1 ", 13), slices.Repeat([]elf.Arg{{Size: 4, Const: 1}}, 12), ""},
	} {
		got := elf.ParseArgs(x.machine, x.text)
		if n := len(got); n > 0 && got[n-1].Bad != "" {
			if got[n-1].Bad != x.err {
				t.Errorf("%s %q: %s, want %q", x.machine, x.text, got[n-1].Bad, x.err)
			}
			continue
		}
		if x.err != "" || !reflect.DeepEqual(got, x.want) {
			t.Errorf("%s %q: %+v, want %+v %s", x.machine, x.text, got, x.want, x.err)
		}
	}
}

// TestOpen_self reads the program that the test is: one that Go made.
func TestOpen_self(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !f.Go() {
		t.Error("it is not seen that Go made it")
	}
	fn, err := f.Function("tetragon/internal/elf_test.TestOpen_self")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Offset(fn.Addr); err != nil {
		t.Error(err)
	}
	for name, content := range map[string]string{"empty": "", "script": "#!/bin/sh\n"} {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := elf.Open(file); err == nil || !strings.Contains(err.Error(), "no ELF file") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := elf.Open(t.TempDir()); err == nil {
		t.Error("a directory is opened")
	}
}

func FuzzParseArgs(f *testing.F) {
	f.Add(elftest.Args)
	f.Add("-4@w0 8@[sp, 16] 4@[x0, x1, lsl 2]")
	f.Fuzz(func(t *testing.T, text string) {
		for _, m := range []string{"amd64", "arm64"} {
			as := elf.ParseArgs(m, text)
			for i := range as {
				if as[i].Bad == "" && (as[i].Mem && as[i].Base == "" && m == "arm64" || as[i].Size == 0) {
					t.Errorf("%s %q: %+v", m, text, as[i])
				}
			}
		}
	})
}

func FuzzFile(f *testing.F) {
	for _, p := range []elftest.Program{{}, {Stripped: true}, {NoProbe: true, Pad: 3}} {
		b, _ := p.Bytes()
		f.Add(b)
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		x, err := elf.New(bytes.NewReader(b))
		if err != nil {
			return
		}
		_ = x.BuildID()
		_ = x.Go()
		for _, p := range x.Probes() {
			_ = elf.ParseArgs(x.Machine(), p.Args)
		}
		if fn, err := x.Function("greet"); err == nil {
			_, _ = x.Offset(fn.Addr)
		}
	})
}
