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
	f.Add(hookRecord(2, 1))
	f.Add(mergedRecord(3))
	for k := range byte(abi.KindKinds + 1) {
		f.Add(append([]byte{k}, make([]byte, 4096)...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Record
		b = aligned(b)
		if Decode(b, &r) != nil {
			return
		}
		AppendPath(nil, r.Path)
		AppendPath(nil, r.Cwd)
		if r.Kind == abi.KindHook || r.Kind == abi.KindHookMerged {
			readHook(t, &r)
		}
	})
}

// hookRecord is the record of a call with two values, which says that it has so many values and words.
func hookRecord(values, words uint16) []byte {
	h := abi.Hook{H: abi.Head{Kind: abi.KindHook, Pid: 7}, Tid: 8, Program: 9, Values: values, Words: words}
	b := append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(&h)), abi.HookSize)...)
	for _, v := range []struct {
		abi.Value
		data string
	}{
		{abi.Value{Index: 1, Kind: abi.ValueInt, Len: 8}, "\x05\x00\x00\x00\x00\x00\x00\x00"},
		{abi.Value{Index: 3, Kind: abi.ValueString, Flags: abi.ValueFlagCut, Len: 3}, "abc\x00\x00\x00\x00\x00"},
	} {
		b = append(b, unsafe.Slice((*byte)(unsafe.Pointer(&v.Value)), abi.ValueSize)...)
		b = append(b, v.data...)
	}
	return aligned(append(b, 0xff, 0, 0, 0, 0, 0, 0, 0x80))
}

// readHook looks at all of a record, by every way of reading it.
func readHook(t *testing.T, r *Record) {
	n := 0
	for at := 0; ; n++ {
		v, next, ok := r.Values(at)
		if !ok {
			break
		}
		at = next
		v.Int()
		v.Bytes()
		v.Ahead()
		v.SockaddrUn()
		v.Ima()
		v.File()
		v.PerfEvent()
		v.Module()
		_, _, _, _, _, _, _ = v.Sock(), v.Skb(), v.Sockaddr(), v.Cred(), v.UserNS(), v.BpfProg(), v.BpfMap()
		for i := range v.Words() {
			v.Word(i)
		}
	}
	if n != int(r.Hook.Values) {
		t.Errorf("%d values, the head says %d", n, r.Hook.Values)
	}
	for i := range int(r.Hook.Words) + 1 {
		r.Mask(i)
	}
}

func TestDecode_hook(t *testing.T) {
	var r Record
	if err := Decode(hookRecord(2, 1), &r); err != nil {
		t.Fatal(err)
	}
	first, at, _ := r.Values(0)
	second, at, _ := r.Values(at)
	if n, ok := first.Int(); first.Index != 1 || first.Kind != abi.ValueInt || !ok || n != 5 {
		t.Errorf("first value: got %+v", first)
	}
	if second.Index != 3 || second.Flags != abi.ValueFlagCut || string(second.Data) != "abc" {
		t.Errorf("second value: got %+v", second)
	}
	if _, _, ok := r.Values(at); ok {
		t.Error("there is a third value")
	}
	if r.Mask(0) != 0x80000000000000ff || r.Mask(1) != 0 {
		t.Errorf("mask: got %#x, %#x", r.Mask(0), r.Mask(1))
	}
	if r.Hook.Tid != 8 || r.Hook.Program != 9 || r.Pid != 7 {
		t.Errorf("head: got %+v", r.Hook)
	}
}

// mergedRecord tells of calls that were counted: a call's record and how many there were, cut to that many of its words.
func mergedRecord(words int) []byte {
	b := hookRecord(2, 1)
	b[0] = abi.KindHookMerged
	b = append(b, 1, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0)
	return aligned(b[:len(b)-32+8*words])
}

func TestDecode_merged(t *testing.T) {
	var r Record
	if err := Decode(mergedRecord(4), &r); err != nil {
		t.Fatal(err)
	}
	if *r.Merged != (abi.Merged{Count: 257, First: 2, Last: 3}) || r.Mask(0) != 0x80000000000000ff || r.Held(0) != 0 {
		t.Errorf("got %+v, mask %#x, %d held back", r.Merged, r.Mask(0), r.Held(0))
	}
	if err := Decode(mergedRecord(2), &r); !errors.Is(err, ErrLengths) {
		t.Errorf("cut: got %v", err)
	}
}

func TestDecode_hookThatDoesNotAddUp(t *testing.T) {
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"short head":      {hookRecord(2, 1)[:abi.HookSize-1], ErrShort},
		"cut value":       {hookRecord(2, 0)[:abi.HookSize+abi.ValueSize+7], ErrLengths},
		"cut last value":  {hookRecord(2, 0)[:abi.HookSize+2*abi.ValueSize+15], ErrLengths},
		"missing value":   {hookRecord(3, 1), ErrLengths},
		"many values":     {hookRecord(65535, 1), ErrLengths},
		"missing words":   {hookRecord(2, 2), ErrLengths},
		"many words":      {hookRecord(2, 65535), ErrLengths},
		"mask cut by one": {hookRecord(2, 1)[:len(hookRecord(2, 1))-1], ErrLengths},
	} {
		t.Run(name, func(t *testing.T) {
			var r Record
			if err := Decode(aligned(c.b), &r); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
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
