// SPDX-License-Identifier: Apache-2.0

package decode

import (
	"errors"
	"testing"
	"unsafe"

	"tetragon/internal/abi"
)

// aligned copies b to memory that starts at a multiple of 8, as ring memory does.
func aligned(b []byte) []byte {
	w := make([]uint64, (len(b)+7)/8+1)
	a := unsafe.Slice((*byte)(unsafe.Pointer(&w[0])), len(w)*8)[:len(b)]
	copy(a, b)
	return a
}

func execRecord(e abi.Exec, strings string) []byte {
	return aligned(append(unsafe.Slice((*byte)(unsafe.Pointer(&e)), abi.ExecSize), strings...))
}

func TestDecode_exec(t *testing.T) {
	e := abi.Exec{NameLen: 2, PathLen: 3, CwdLen: 2, ArgsLen: 4, EnvLen: 1, CgroupLen: 2}
	e.H = abi.Head{Kind: abi.KindExec, Flags: abi.FlagClone, Pid: 7, Time: 8, Ktime: 9}
	var r Record
	if err := Decode(execRecord(e, "nnppPccaa\x00aegg"), &r); err != nil {
		t.Fatal(err)
	}
	got := []string{string(r.Name), string(r.Path), string(r.Cwd), string(r.Args), string(r.Env), string(r.Cgroup)}
	for i, want := range []string{"nn", "ppP", "cc", "aa\x00a", "e", "gg"} {
		if got[i] != want {
			t.Errorf("string %d: got %q, want %q", i, got[i], want)
		}
	}
	if r.Pid != 7 || r.Time != 8 || r.Ktime != 9 || r.Flags != abi.FlagClone {
		t.Errorf("head: got %+v", r)
	}
}

func TestDecode_refusesWhatDoesNotAddUp(t *testing.T) {
	long := abi.Exec{H: abi.Head{Kind: abi.KindExec}, NameLen: 10}
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"empty":        {nil, ErrShort},
		"no kind":      {make([]byte, abi.HeadSize), ErrKind},
		"short exec":   {append([]byte{abi.KindExec}, make([]byte, abi.HeadSize)...), ErrShort},
		"short exit":   {append([]byte{abi.KindExit}, make([]byte, abi.HeadSize)...), ErrShort},
		"short string": {execRecord(long, "123456789"), ErrLengths},
	} {
		t.Run(name, func(t *testing.T) {
			var r Record
			if err := Decode(aligned(c.b), &r); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestAppendPath(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "/"},
		{"\x04true\x03bin\x03usr", "/usr/bin/true"},
		{"\x09memfd:foo", "/memfd:foo"},
		{"\x01a\xffb", "/a"}, // a length that overruns ends it
	} {
		if got := string(AppendPath(nil, []byte(c.in))); got != c.want {
			t.Errorf("AppendPath(%q): got %q, want %q", c.in, got, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	e := abi.Exec{H: abi.Head{Kind: abi.KindExec}, NameLen: 2, CwdLen: 3}
	f.Add(execRecord(e, "ab\x02cd"))
	f.Add([]byte{abi.KindExit})
	for k := range byte(abi.KindKinds + 1) {
		f.Add(append([]byte{k}, make([]byte, 4096)...))
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		var r Record
		b = aligned(b)
		if Decode(b, &r) == nil {
			AppendPath(nil, r.Path)
			AppendPath(nil, r.Cwd)
		}
	})
}

func TestDecode_allocatesNothing(t *testing.T) {
	b := execRecord(abi.Exec{H: abi.Head{Kind: abi.KindExec}, NameLen: 2}, "ab")
	var r Record
	if n := testing.AllocsPerRun(100, func() {
		if err := Decode(b, &r); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecode(b *testing.B) {
	rec := execRecord(abi.Exec{H: abi.Head{Kind: abi.KindExec}, NameLen: 13, CwdLen: 5, ArgsLen: 20}, "/usr/bin/true\x04root01234567890123456789")
	var r Record
	b.Run("exec", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := Decode(rec, &r); err != nil {
				b.Fatal(err)
			}
		}
	})
}
