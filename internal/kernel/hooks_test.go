// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
)

// TestSyscalls compares the tables with those of golang.org/x/sys, which come from the kernel's headers.
func TestSyscalls(t *testing.T) {
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", "golang.org/x/sys/unix").Output()
	if err != nil {
		t.Skipf("needs the go command: %v", err)
	}
	for file, table := range map[string]map[string]int{"zsysnum_linux_amd64.go": syscallsX64, "zsysnum_linux_386.go": syscallsI386} {
		text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), file))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, m := range regexp.MustCompile(`(?m)^\s+SYS_([A-Z0-9_]+)\s+= (\d+)$`).FindAllStringSubmatch(string(text), -1) {
			name := strings.ToLower(m[1])
			want, err := strconv.Atoi(m[2])
			if err != nil {
				t.Fatal(err)
			}
			got, ok := table[name]
			if !ok && name[0] != '_' { // Go's names have no underscore in front
				got, ok = table["_"+name]
			}
			n++
			if !ok || got != want {
				t.Errorf("%s: %s is %d (%t), want %d", file, name, got, ok, want)
			}
		}
		if n < 350 {
			t.Errorf("%s: only %d calls were compared", file, n)
		}
	}
}

func TestSyscallOf(t *testing.T) {
	for _, tt := range []struct{ abi, symbol, call string }{
		{"x64", "openat", "openat"}, {"x64", "newuname", "uname"}, {"x64", "newstat", "stat"}, {"x64", "umount", "umount2"},
		{"i386", "setuid", "setuid32"}, {"i386", "setuid16", "setuid"}, {"i386", "openat", "openat"}, {"i386", "newuname", "uname"},
	} {
		if got := SyscallOf(tt.abi, tt.symbol); got != tt.call {
			t.Errorf("%s: %s serves %s, not %s", tt.abi, tt.symbol, tt.call, got)
		}
	}
	for _, tt := range []struct{ abi, call, symbol string }{
		{"x64", "uname", "newuname"}, {"x64", "openat", "openat"}, {"i386", "setuid", "setuid16"}, {"i386", "setuid32", "setuid"},
	} {
		if got := SymbolOf(tt.abi, tt.call); got != tt.symbol {
			t.Errorf("%s: %s is served by %s, not %s", tt.abi, tt.call, tt.symbol, got)
		}
	}
}

func TestParseFormat(t *testing.T) {
	const text = `name: sys_enter_openat
ID: 680
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

	field:int __syscall_nr;	offset:8;	size:4;	signed:1;
	field:const char * filename;	offset:24;	size:8;	signed:0;
	field:char comm[16];	offset:32;	size:16;	signed:0;
	field:__data_loc char[] name;	offset:48;	size:4;	signed:0;
	field:unsigned long args[6];	offset:56;	size:48;	signed:0;

print fmt: "filename: 0x%08lx", ((unsigned long)(REC->filename))
`
	f, err := ParseFormat([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := &Format{ID: 680, Fields: []Field{
		{Name: "common_type", Type: "unsigned short", Size: 2},
		{Name: "common_pid", Type: "int", Off: 4, Size: 4, Signed: true},
		{Name: "__syscall_nr", Type: "int", Off: 8, Size: 4, Signed: true},
		{Name: "filename", Type: "const char *", Off: 24, Size: 8},
		{Name: "comm", Type: "char[16]", Off: 32, Size: 16, Elems: 16},
		{Name: "name", Type: "__data_loc char[]", Off: 48, Size: 4, DataLoc: true},
		{Name: "args", Type: "unsigned long[6]", Off: 56, Size: 48, Elems: 6},
	}}
	if d := cmp.Diff(want, f); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	for _, bad := range []string{"", "ID: 3\n", "\tfield:x;\toffset:0;\tsize:1;\tsigned:0;\n"} {
		if _, err := ParseFormat([]byte(bad)); err == nil {
			t.Errorf("%q is a format", bad)
		}
	}
}

func FuzzParseFormat(f *testing.F) {
	f.Add([]byte("\tfield:char comm[16];\toffset:32;\tsize:16;\tsigned:0;\n"))
	f.Add([]byte("\tfield:__data_loc char[] n;\toffset:8;\tsize:4;\tsigned:1;\n"))
	f.Fuzz(func(t *testing.T, text []byte) { _, _ = ParseFormat(text) })
}

func TestFollow(t *testing.T) {
	f := &Facts{Types: smallTypes(t)}
	for _, tt := range []struct {
		path  string
		steps []Step
		typ   string
		bits  int
		err   string
	}{
		{path: "flags", steps: []Step{{Off: 0, Size: 8}}, typ: "unsigned long", bits: 64},
		{path: "cred", steps: []Step{{Off: 8, Size: 8}}, typ: "const struct cred *", bits: 64},
		{path: "cred.uid", steps: []Step{{Off: 8, Size: 8}, {Off: 8, Size: 4}}, typ: "kuid_t", bits: 32},
		{path: "cred.uid.val", steps: []Step{{Off: 8, Size: 8}, {Off: 8, Size: 4, Signed: true}}, typ: "int", bits: 32},
		{path: "right", steps: []Step{{Off: 16, Size: 8}}, typ: "unsigned long", bits: 64}, // in a union without a name
		{path: "list[3]", steps: []Step{{Off: 36, Size: 4, Signed: true}}, typ: "int", bits: 32},
		{path: "list", steps: []Step{{Off: 24}}, typ: "int[4]"},
		{path: "self.self.flags", steps: []Step{{Off: 40, Size: 8}, {Off: 40, Size: 8}, {Off: 0, Size: 8}}, typ: "unsigned long", bits: 64},
		{path: "list[4]", err: "4 elements"},
		{path: "nothing", err: "no member nothing; it has flags, cred, left, right, list, self"},
		{path: "flags.x", err: "no member x"},
		{path: "", err: "empty"},
		{path: "cred..uid", err: "no name"},
		{path: "list[x]", err: "no index"},
		{path: "list[1", err: "not closed"},
		{path: "list.[1]", err: "without a dot"},
		{path: "cred.", err: "no name"},
		{path: strings.Repeat("self.", 11) + "flags", err: "more than 10"},
	} {
		m, err := f.Follow("struct task", tt.path)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: %v, want %q in it", tt.path, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", tt.path, err)
			continue
		}
		if d := cmp.Diff(tt.steps, m.Steps); d != "" || m.Type != tt.typ || m.Bits != tt.bits {
			t.Errorf("%q: %s %d\n%s", tt.path, m.Type, m.Bits, d)
		}
	}
	if _, err := f.Follow("nowhere", "a"); err == nil {
		t.Error("a type that is not there has members")
	}
}

// TestFollowIn_shapes: bit fields, flexible arrays, unions, and pointers that are taken for arrays.
func TestFollowIn_shapes(t *testing.T) {
	i32, u32, u64 := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}, &btf.Int{Name: "unsigned int", Size: 4}, &btf.Int{Name: "u64", Size: 8}
	char := &btf.Int{Name: "char", Size: 1, Encoding: btf.Char}
	text := &btf.Pointer{Target: char}
	bits := &btf.Struct{Name: "bits", Size: 24, Members: []btf.Member{
		{Name: "a", Type: u32, BitfieldSize: 1}, {Name: "b", Type: i32, Offset: 1, BitfieldSize: 7}, {Name: "c", Type: u32, Offset: 12, BitfieldSize: 8},
		{Name: "d", Type: u64, Offset: 64 + 30, BitfieldSize: 4}, {Name: "e", Type: u64, Offset: 60, BitfieldSize: 10},
		{Name: "", Type: &btf.Union{Size: 8, Members: []btf.Member{
			{Name: "x", Type: u64}, {Name: "", Type: &btf.Struct{Size: 8, Members: []btf.Member{{Name: "lo", Type: u32}, {Name: "hi", Type: u32, Offset: 32, BitfieldSize: 3}}}},
		}}, Offset: 128},
	}}
	flex := &btf.Struct{Name: "flex", Size: 16, Members: []btf.Member{
		{Name: "n", Type: u64}, {Name: "bits", Type: &btf.Pointer{Target: bits}, Offset: 64}, {Name: "tail", Type: &btf.Array{Index: u32, Type: text}, Offset: 128},
	}}
	large := &btf.Struct{Name: "large", Size: 80}
	for i := range 20 {
		large.Members = append(large.Members, btf.Member{Name: fmt.Sprintf("member_%d", i), Type: u32, Offset: btf.Bits(32 * i)})
	}
	b, err := btf.NewBuilder([]btf.Type{bits, flex, large, text, &btf.Typedef{Name: "flex_t", Type: flex}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	types, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		root, path string
		steps      []Step
		bits       int
		err        string
	}{
		{root: "bits", path: "a", steps: []Step{{Size: 1, Bits: 1}}, bits: 1},
		{root: "bits", path: "b", steps: []Step{{Size: 1, Bits: 7, Shift: 1, Signed: true}}, bits: 7},
		{root: "bits", path: "c", steps: []Step{{Size: 4, Bits: 8, Shift: 12}}, bits: 8}, // over a byte's end
		{root: "bits", path: "d", steps: []Step{{Off: 8, Size: 8, Bits: 4, Shift: 30}}, bits: 4},
		{root: "bits", path: "e", err: "more than one word"},
		{root: "bits", path: "x", steps: []Step{{Off: 16, Size: 8}}, bits: 64},
		{root: "bits", path: "hi", steps: []Step{{Off: 20, Size: 1, Bits: 3}}, bits: 3},
		{root: "bits", path: "a.z", err: "no member z"},
		{root: "flex", path: "tail[7]", steps: []Step{{Off: 72, Size: 8}}, bits: 64},
		{root: "flex_t", path: "bits.hi", steps: []Step{{Off: 8, Size: 8}, {Off: 20, Size: 1, Bits: 3}}, bits: 3},
		{root: "flex", path: "bits[2].hi", steps: []Step{{Off: 8, Size: 8}, {Off: 68, Size: 1, Bits: 3}}, bits: 3},
		{root: "flex", path: "[2].n", steps: []Step{{Off: 32, Size: 8}}, bits: 64},
		{root: "struct flex *", path: "n", steps: []Step{{Size: 8}, {Size: 8}}, bits: 64},
		{root: "struct flex *", path: "[3].n", steps: []Step{{Off: 24, Size: 8}, {Size: 8}}, bits: 64},
		{root: "char *", path: "[1]", steps: []Step{{Off: 8, Size: 8}}, bits: 64},
		{root: "char", path: "x", err: "no struct"},
		{root: "large", path: "membr_13", err: "of its 20 the nearest are member_13, "},
	} {
		m, err := FollowIn(types, tt.root, tt.path)
		if tt.err != "" || err != nil {
			if err == nil || tt.err == "" || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s from %s: %v, want %q in it", tt.path, tt.root, err, tt.err)
			}
			continue
		}
		if d := cmp.Diff(tt.steps, m.Steps); d != "" || m.Bits != tt.bits {
			t.Errorf("%s from %s: %d bits\n%s", tt.path, tt.root, m.Bits, d)
		}
	}
	if _, err := (&Facts{Types: types}).FollowModule("mod", "flex", "n"); err == nil || !strings.Contains(err.Error(), "module mod") {
		t.Errorf("recorded facts: %v", err)
	}
}

func TestFunc_slots(t *testing.T) {
	f := &Func{Params: []Param{{Bits: 64}, {Size: 16}, {Bits: 32}, {Size: 24}, {Bits: 64}}}
	for i, want := range []struct {
		slot int
		ok   bool
	}{{0, true}, {1, false}, {3, true}, {4, false}, {4, true}, {5, true}} {
		if slot, ok := f.Slot(i); slot != want.slot || ok != want.ok {
			t.Errorf("parameter %d: %d %t, want %v", i, slot, ok, want)
		}
	}
}
