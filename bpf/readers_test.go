// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"tetragon/internal/abi"
)

// lab calls functions of the library from the system call that runs a program, in the context of the test itself.
type lab struct {
	*library
	t      testing.TB
	kernel *btf.Spec
	progs  map[string]*ebpf.Program
	user   []byte // user memory that is there, and behind it is none
}

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{library: loadLibrary(t), t: t, progs: make(map[string]*ebpf.Program)}
	var err error
	if l.kernel, err = btf.LoadKernelSpec(); err != nil {
		t.Fatal(err)
	}
	const size = 1 << 20
	all, err := unix.Mmap(-1, 0, size+4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mprotect(all[size:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	l.user = all[:size]
	t.Cleanup(func() {
		for _, p := range l.progs {
			p.Close()
		}
		_ = unix.Munmap(all)
	})
	return l
}

// at puts bytes into user memory, at off, and says where they are.
func (l *lab) at(off int, b []byte) uint64 {
	copy(l.user[off:], b)
	return uint64(uintptr(unsafe.Pointer(&l.user[0]))) + uint64(off)
}

// nowhere is an address where nothing is.
const nowhere = 0x1000

// member is the offset of a member of a kernel struct, "a.b" for one of a member; anonymous structs are looked through.
func (l *lab) member(typ, path string) int32 {
	l.t.Helper()
	off, err := l.find(typ, path)
	if err != nil {
		l.t.Fatal(err)
	}
	return off
}

func (l *lab) find(typ, path string) (int32, error) {
	var s *btf.Struct
	if err := l.kernel.TypeByName(typ, &s); err != nil {
		return 0, fmt.Errorf("struct %s: %w", typ, err)
	}
	var t btf.Type = s
	off := uint32(0)
	for _, name := range strings.Split(path, ".") {
		m, o, ok := memberOf(btf.UnderlyingType(t), name)
		if !ok {
			return 0, fmt.Errorf("struct %s has no %s", typ, path)
		}
		off, t = off+o, m
	}
	return int32(off), nil
}

func memberOf(t btf.Type, name string) (btf.Type, uint32, bool) {
	var ms []btf.Member
	switch t := t.(type) {
	case *btf.Struct:
		ms = t.Members
	case *btf.Union:
		ms = t.Members
	}
	for _, m := range ms {
		if m.Name == name {
			return m.Type, m.Offset.Bytes(), true
		}
		if m.Name == "" {
			if x, off, ok := memberOf(btf.UnderlyingType(m.Type), name); ok {
				return x, off + m.Offset.Bytes(), true
			}
		}
	}
	return nil, 0, false
}

// where an address begins.
type origin int

const (
	given    origin = iota // the number itself
	fileOf                 // struct file of a descriptor
	taskOf                 // the current task_struct
	credOf                 // its cred
	inKernel               // kernel memory that the test has written: see lab.object
)

// object writes bytes into kernel memory; an address with origin inKernel counts from its beginning.
func (l *lab) object(b []byte) {
	l.t.Helper()
	v := l.tables.Variables["slots"]
	all := make([]byte, v.Size())
	copy(all, b)
	if err := v.Set(all); err != nil {
		l.t.Fatal(err)
	}
}

// address is where a reader is sent: an origin, loads through kernel memory, and what is added at the end.
type address struct {
	from  origin
	n     uint64
	loads []int32 // value = *(u64 *)(value + off), for each
	plus  int32
}

func (a address) load(off ...int32) address {
	a.loads = append(append([]int32(nil), a.loads...), off...)
	return a
}

func (a address) add(off int32) address { a.plus += off; return a }

func num(n uint64) address { return address{n: n} }

// emit leaves an address in R8; n is where its number is in the context.
func (l *lab) emit(a address, n int16) asm.Instructions {
	var ins asm.Instructions
	scratch := func() asm.Instructions {
		return asm.Instructions{asm.Mov.Reg(asm.R1, asm.R10), asm.Add.Imm(asm.R1, -8), asm.Mov.Imm(asm.R2, 8)}
	}
	switch a.from {
	case given:
		ins = append(ins, asm.LoadMem(asm.R8, asm.R9, n, asm.DWord))
	case fileOf:
		ins = append(ins, asm.LoadMem(asm.R1, asm.R9, n, asm.DWord), asm.Call.Label("fd_file"), asm.Mov.Reg(asm.R8, asm.R0))
	case taskOf:
		ins = append(ins, asm.FnGetCurrentTask.Call(), asm.Mov.Reg(asm.R8, asm.R0))
	case credOf:
		ins = append(ins, asm.Call.Label("task_cred"), asm.Mov.Reg(asm.R8, asm.R0))
	case inKernel:
		// A pointer becomes a number by reading the stack where it lies.
		v := l.spec.Variables["slots"]
		ins = append(ins, asm.LoadMapValue(asm.R1, 0, v.Offset).WithReference(v.SectionName), asm.StoreMem(asm.R10, -16, asm.R1, asm.DWord))
		ins = append(ins, scratch()...)
		ins = append(ins, asm.Mov.Reg(asm.R3, asm.R10), asm.Add.Imm(asm.R3, -16), asm.FnProbeReadKernel.Call(),
			asm.LoadMem(asm.R8, asm.R10, -8, asm.DWord))
	}
	for _, off := range a.loads {
		ins = append(ins, asm.StoreImm(asm.R10, -8, 0, asm.Word), asm.StoreImm(asm.R10, -4, 0, asm.Word))
		ins = append(ins, scratch()...)
		ins = append(ins, asm.Mov.Reg(asm.R3, asm.R8), asm.Add.Imm(asm.R3, off), asm.FnProbeReadKernel.Call(), asm.LoadMem(asm.R8, asm.R10, -8, asm.DWord))
	}
	return append(ins, asm.Add.Imm(asm.R8, a.plus))
}

const valueIndex = 7 // of the value that a reader appends, in these tests

// result is what a call leaves behind.
type result struct {
	r      int64  // of the function that was called last
	row    uint32 // buffer
	buf    []byte
	values []value
}

type value struct {
	abi.Value
	payload []byte
}

// call takes a buffer, calls a function with it and what follows, and gives it back. kind says which arguments the function
// has before the address: "buf" buffer, "index" buffer and index of the value, "path" buffer, and arg_path is called
// with the result, "" none.
func (l *lab) call(name, kind string, a address, more ...uint64) result {
	l.t.Helper()
	key := fmt.Sprint(name, kind, a.from, a.loads, a.plus, len(more))
	p := l.progs[key]
	out := l.spec.Variables["library_any"]
	if p == nil {
		main := asm.Instructions{asm.Mov.Reg(asm.R9, asm.R1), asm.Call.Label("buf_take"), asm.Mov.Reg(asm.R7, asm.R0)}
		main = append(main, l.emit(a, 0)...)
		reg := asm.R1
		put := func(ins asm.Instruction) {
			main = append(main, ins)
			reg++
		}
		if kind != "" {
			put(asm.Mov.Reg(reg, asm.R7))
		}
		if kind == "index" {
			put(asm.Mov.Imm(reg, valueIndex))
		}
		if reg <= asm.R5 && l.params(name) >= int(reg-asm.R1)+1 {
			put(asm.Mov.Reg(reg, asm.R8))
		}
		for i := range more {
			put(asm.LoadMem(reg, asm.R9, int16(8*(i+1)), asm.DWord))
		}
		main = append(main, asm.Call.Label(name))
		if kind == "path" {
			main = append(main, asm.Mov.Reg(asm.R8, asm.R0), asm.Mov.Reg(asm.R1, asm.R7), asm.Mov.Imm(asm.R2, valueIndex),
				asm.Mov.Reg(asm.R3, asm.R8), asm.Call.Label("arg_path"), asm.Mov.Reg(asm.R0, asm.R8))
		}
		main = append(main, asm.LoadMapValue(asm.R1, 0, out.Offset).WithReference(out.SectionName),
			asm.StoreMem(asm.R1, 0, asm.R0, asm.DWord), asm.Mov.Reg(asm.R1, asm.R7), asm.Call.Label("buf_give"),
			asm.Mov.Reg(asm.R0, asm.R7), asm.Return())
		var err error
		if p, err = l.load(l.program(ebpf.RawTracepoint, main)); err != nil {
			l.t.Fatal(err)
		}
		l.progs[key] = p
	}
	row, err := p.Run(&ebpf.RunOptions{Context: append([]uint64{a.n}, more...)})
	if err != nil {
		l.t.Fatal(err)
	}
	res := result{row: row}
	if err := l.tables.Variables["library_any"].Get(&res.r); err != nil {
		l.t.Fatal(err)
	}
	if res.buf, err = l.tables.Maps["hook_bufs"].LookupBytes(row); err != nil {
		l.t.Fatal(err)
	}
	res.values = l.values(res.buf)
	return res
}

// offset is that of a member of struct hook_buf.
func (l *lab) offset(name string) uint32 {
	l.t.Helper()
	var s *btf.Struct
	if err := l.spec.Types.TypeByName("hook_buf", &s); err != nil {
		l.t.Fatal(err)
	}
	for _, m := range s.Members {
		if m.Name == name {
			return m.Offset.Bytes()
		}
	}
	l.t.Fatalf("struct hook_buf has no %s", name)
	return 0
}

func (l *lab) values(buf []byte) []value {
	r := buf[l.offset("r"):]
	n := int(binary.NativeEndian.Uint16(r[unsafe.Offsetof(abi.Hook{}.Values):]))
	return parseValues(l.t, r[abi.HookSize:], n)
}

func parseValues(t testing.TB, b []byte, n int) []value {
	t.Helper()
	var out []value
	for range n {
		v := value{Value: *(*abi.Value)(unsafe.Pointer(&b[0]))}
		v.payload = bytes.Clone(b[abi.ValueSize : abi.ValueSize+v.Len])
		out = append(out, v)
		b = b[abi.ValueSize+(v.Len+7)&^7:]
	}
	return out
}

// one is the value that a reader appended, with its place checked.
func (l *lab) one(res result, kind uint8, flags uint8) []byte {
	l.t.Helper()
	if len(res.values) != 1 {
		l.t.Fatalf("%d values", len(res.values))
	}
	v := res.values[0]
	if v.Index != valueIndex || v.Kind != kind || v.Flags != flags {
		l.t.Fatalf("index %d, kind %d, flags %d; want %d, %d, %d", v.Index, v.Kind, v.Flags, valueIndex, kind, flags)
	}
	return v.payload
}

// placed is what lies at the place that a reader returned.
func (res result) placed(t testing.TB) []byte {
	t.Helper()
	off, n := res.r>>32, res.r&0xffffffff
	if res.r < 0 || off+n > int64(len(res.buf)) {
		t.Fatalf("place %#x", res.r)
	}
	return res.buf[off : off+n]
}

// as reads a struct from a payload.
func as[T any](t testing.TB, b []byte) T {
	t.Helper()
	var v T
	if len(b) < int(unsafe.Sizeof(v)) {
		t.Fatalf("%d bytes are no %T", len(b), v)
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v)), b)
	return v
}

func TestReaders_numbers(t *testing.T) {
	l := newLab(t)
	res := l.call("arg_int", "index", num(1<<63+5))
	if got := l.one(res, abi.ValueInt, 0); binary.NativeEndian.Uint64(got) != 1<<63+5 || !bytes.Equal(got, res.placed(t)) {
		t.Errorf("got %x", got)
	}
	res = l.call("arg_int_error", "index", num(3))
	if got := l.one(res, abi.ValueInt, abi.ValueFlagError); binary.NativeEndian.Uint64(got) != 3 || res.r != -1 {
		t.Errorf("got %x, %d", got, res.r)
	}
	caps := l.call("arg_cred", "index", address{from: credOf})
	c := as[abi.ValCred](t, l.one(caps, abi.ValueCred, 0))
	res = l.call("arg_words", "index", address{from: credOf}.add(l.member("cred", "cap_inheritable")), 40)
	for i, want := range c.Caps {
		if got := binary.NativeEndian.Uint64(l.one(res, abi.ValueWords, 0)[8*i:]); got != want {
			t.Errorf("word %d: got %x, want %x", i, got, want)
		}
	}
	if l.one(l.call("arg_words", "index", num(nowhere), 8), abi.ValueWords, abi.ValueFlagError); t.Failed() {
		t.Error("words at a bad address")
	}
}

func TestReaders_strings(t *testing.T) {
	l := newLab(t)
	long := strings.Repeat("0123456789abcdef", 300)
	for _, c := range []struct {
		name, text, want string
		flags            uint8
	}{
		{"empty", "", "", 0},
		{"short", "/etc/passwd", "/etc/passwd", 0},
		{"seven", "1234567", "1234567", 0},
		{"eight", "12345678", "12345678", 0},
		{"not text", "\xff\xfe\x01", "\xff\xfe\x01", 0},
		{"longest", long[:4096], long[:4096], 0},
		{"too long", long[:4097], long[:4096], abi.ValueFlagCut},
		{"much too long", long, long[:4096], abi.ValueFlagCut},
	} {
		for _, where := range []string{"user", "kernel"} {
			t.Run(c.name+"/"+where, func(t *testing.T) {
				a := num(l.at(0, []byte(c.text+"\x00")))
				if where == "kernel" {
					l.object([]byte(c.text + "\x00"))
					a = address{from: inKernel}
				}
				res := l.call("arg_string", "index", a)
				if got := l.one(res, abi.ValueString, c.flags); string(got) != c.want || string(res.placed(t)) != c.want {
					t.Errorf("got %d bytes %.40q, want %d bytes %.40q", len(got), got, len(c.want), c.want)
				}
			})
		}
	}
	for _, n := range []uint64{0, nowhere, 1<<63 | nowhere, 1 << 47, 1<<64 - 8} {
		if res := l.call("arg_string", "index", num(n)); res.r != -1 {
			t.Errorf("string at %#x: %d", n, res.r)
		} else {
			l.one(res, abi.ValueString, abi.ValueFlagError)
		}
	}
	comm := l.call("arg_string", "index", address{from: taskOf}.add(l.member("task_struct", "comm")))
	want, err := os.ReadFile("/proc/thread-self/comm")
	if err != nil {
		t.Fatal(err)
	}
	if got := string(l.one(comm, abi.ValueString, 0)); got != strings.TrimSpace(string(want)) {
		t.Errorf("comm: got %q, want %q", got, want)
	}
	// The type of a file system begins with its name, as struct filename does.
	f := open(t, filepath.Join(t.TempDir(), "f"))
	res := l.call("arg_filename", "index", address{from: fileOf, n: uint64(f.Fd())}.load(
		l.member("file", "f_inode"), l.member("inode", "i_sb"), l.member("super_block", "s_type")).add(
		l.member("file_system_type", "name")-l.member("filename", "name")))
	if got := string(l.one(res, abi.ValueString, 0)); !strings.Contains(string(must(os.ReadFile("/proc/filesystems"))), "\t"+got+"\n") {
		t.Errorf("file system: got %q", got)
	}
	l.one(l.call("arg_filename", "index", num(0)), abi.ValueString, abi.ValueFlagError)
	res = l.call("arg_netdev", "index", address{from: taskOf}.load(
		l.member("task_struct", "nsproxy"), l.member("nsproxy", "net_ns"), l.member("net", "loopback_dev")))
	if got := string(l.one(res, abi.ValueString, 0)); got != "lo" {
		t.Errorf("device: got %q", got)
	}
	l.one(l.call("arg_netdev", "index", num(0)), abi.ValueString, abi.ValueFlagError)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func open(t testing.TB, name string) *os.File {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestReaders_dataloc(t *testing.T) {
	l := newLab(t)
	l.object(append(make([]byte, 24), "hello\x00\x00world\x00"...))
	for _, c := range []struct {
		off, size uint64
		want      string
	}{
		{24, 6, "hello"}, {24, 7, "hello"}, {31, 6, "world"}, {24, 0, ""}, {24, 3, "he"},
	} {
		res := l.call("arg_dataloc", "index", address{from: inKernel}, c.size<<16|c.off)
		if got := string(l.one(res, abi.ValueString, 0)); got != c.want {
			t.Errorf("%d bytes at %d: got %q, want %q", c.size, c.off, got, c.want)
		}
	}
	l.one(l.call("arg_dataloc", "index", num(nowhere), 6<<16|8), abi.ValueString, abi.ValueFlagError)
}

func TestReaders_bytes(t *testing.T) {
	l := newLab(t)
	data := make([]byte, 400000)
	for i := range data {
		data[i] = byte(i * 7 / 3)
	}
	at := l.at(0, data)
	for _, c := range []struct {
		size  uint64
		n     int
		flags uint8
	}{
		{0, 0, 0}, {1, 1, 0}, {4094, 4094, 0}, {4095, 4095, 0}, {4096, 4095, abi.ValueFlagCut}, {300000, 4095, abi.ValueFlagCut},
		{^uint64(0), 0, 0}, {1 << 63, 0, 0},
	} {
		res := l.call("arg_bytes", "index", num(at), c.size)
		got := l.one(res, abi.ValueBytes, c.flags)
		size := c.size
		if int64(size) < 0 {
			size = 0
		}
		if binary.NativeEndian.Uint64(got) != size || !bytes.Equal(got[8:], data[:c.n]) || !bytes.Equal(res.placed(t), data[:c.n]) {
			t.Errorf("size %d: got %d bytes of %d", c.size, len(got)-8, binary.NativeEndian.Uint64(got))
		}
	}
	l.one(l.call("arg_bytes", "index", num(nowhere), 8), abi.ValueBytes, abi.ValueFlagError)
	l.one(l.call("arg_bytes", "index", num(nowhere), 0), abi.ValueBytes, 0)
	l.object([]byte("of the kernel"))
	if got := l.one(l.call("arg_bytes", "index", address{from: inKernel}, 13), abi.ValueBytes, 0); string(got[8:]) != "of the kernel" {
		t.Errorf("kernel memory: %q", got)
	}
}

// vectors makes an array of struct iovec behind the data.
func (l *lab) vectors(at int, parts [][2]uint64) uint64 {
	var b []byte
	for _, p := range parts {
		b = binary.NativeEndian.AppendUint64(b, p[0])
		b = binary.NativeEndian.AppendUint64(b, p[1])
	}
	return l.at(at, b)
}

func TestReaders_vectors(t *testing.T) {
	l := newLab(t)
	data := make([]byte, 20000)
	for i := range data {
		data[i] = byte(i*11 + i>>8)
	}
	at := l.at(0, data)
	many := make([][2]uint64, 1024)
	var manyText []byte
	for i := range many {
		many[i] = [2]uint64{at + uint64(i), 3}
		manyText = append(manyText, data[i:i+3]...)
	}
	for _, c := range []struct {
		name  string
		parts [][2]uint64
		limit uint64
		total uint64
		want  []byte
	}{
		{"none", nil, 0, 0, nil},
		{"one", [][2]uint64{{at, 5}}, 0, 5, data[:5]},
		{"three", [][2]uint64{{at + 10, 5}, {at, 0}, {at + 2, 3}}, 0, 8, append(bytes.Clone(data[10:15]), data[2:5]...)},
		{"limit", [][2]uint64{{at + 10, 5}, {at, 100}}, 8, 8, append(bytes.Clone(data[10:15]), data[:3]...)},
		{"limit behind", [][2]uint64{{at, 5}}, 100, 5, data[:5]},
		{"failed", [][2]uint64{{at, 5}}, ^uint64(0) - 4, 0, nil},
		{"long", [][2]uint64{{at, 4094}, {at + 4094, 2}, {at, 9000}}, 0, 13096, data[:4095]},
		{"as many as can be", many, 0, 3072, manyText},
	} {
		t.Run(c.name, func(t *testing.T) {
			vec := l.vectors(100000, c.parts)
			res := l.call("arg_iovec", "index", num(vec), uint64(len(c.parts)), c.limit)
			flags := uint8(0)
			if c.total > uint64(len(c.want)) {
				flags = abi.ValueFlagCut
			}
			got := l.one(res, abi.ValueBytes, flags)
			if n := binary.NativeEndian.Uint64(got); n != c.total || !bytes.Equal(got[8:], c.want) || !bytes.Equal(res.placed(t), c.want) {
				t.Errorf("got %d of %d bytes, want %d of %d", len(got)-8, n, len(c.want), c.total)
			}
		})
	}
	l.one(l.call("arg_iovec", "index", num(l.vectors(100000, [][2]uint64{{nowhere, 5}})), 1, 0), abi.ValueBytes, abi.ValueFlagError)
	l.one(l.call("arg_iovec", "index", num(nowhere), 1, 0), abi.ValueBytes, abi.ValueFlagError)
	l.one(l.call("arg_iovec", "index", num(0), 1, 0), abi.ValueBytes, abi.ValueFlagError)
}

func TestReaders_iterators(t *testing.T) {
	l := newLab(t)
	data := []byte("the quick brown fox jumps over the lazy dog")
	at := l.at(0, data)
	vec := l.vectors(1000, [][2]uint64{{at, 4}, {at + 4, 6}, {at + 10, 100}})
	var kinds *btf.Enum
	if err := l.kernel.TypeByName("iter_type", &kinds); err != nil {
		t.Fatal(err)
	}
	kind := make(map[string]uint64)
	for _, v := range kinds.Values {
		kind[v.Name] = v.Value
	}
	iov := "__iov"
	if _, err := l.find("iov_iter", iov); err != nil {
		iov = "iov"
	}
	for _, c := range []struct {
		name, kind  string
		skip, count uint64
		want        string
	}{
		{"vectors", "ITER_IOVEC", 0, 43, "the quick brown fox jumps over the lazy dog"},
		{"begun", "ITER_IOVEC", 2, 10, "e quick br"},
		{"at a border", "ITER_IOVEC", 4, 6, "quick "},
		{"behind a border", "ITER_IOVEC", 5, 3, "uic"},
		{"nothing left", "ITER_IOVEC", 4, 0, ""},
		{"one buffer", "ITER_UBUF", 4, 5, "quick"},
		{"pages", "ITER_BVEC", 0, 10, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, ok := kind[c.kind]
			if !ok {
				t.Skipf("the kernel has no %s", c.kind)
			}
			b := make([]byte, 128)
			put := func(name string, v uint64) { binary.NativeEndian.PutUint64(b[l.member("iov_iter", name):], v) }
			put("iov_offset", c.skip)
			switch c.kind {
			case "ITER_UBUF":
				put("ubuf", at)
			case "ITER_IOVEC":
				put(iov, vec)
				put("nr_segs", 3)
			}
			put("count", c.count)
			b[l.member("iov_iter", "iter_type")] = byte(k)
			l.object(b)
			got := l.one(l.call("arg_iov_iter", "index", address{from: inKernel}), abi.ValueBytes, 0)
			if binary.NativeEndian.Uint64(got) != uint64(len(c.want)) || string(got[8:]) != c.want {
				t.Errorf("got %q of %d, want %q", got[8:], binary.NativeEndian.Uint64(got), c.want)
			}
		})
	}
	l.one(l.call("arg_iov_iter", "index", num(0)), abi.ValueBytes, abi.ValueFlagError)
}

func TestReaders_find(t *testing.T) {
	l := newLab(t)
	needles := l.tables.Maps["needles"]
	find := func(text, needle string, fold uint64) bool {
		t.Helper()
		var row [4 + 256]byte
		binary.NativeEndian.PutUint32(row[:], uint32(len(needle)))
		copy(row[4:], needle)
		if err := needles.Put(uint32(3), row[:]); err != nil {
			t.Fatal(err)
		}
		// The text lies at the end of the room for values, where nothing may be read behind it.
		buf := make([]byte, needlesBuf(l))
		off := int(l.offset("slack")) - 64
		copy(buf[off:], text)
		for row := range uint32(l.tables.Maps["hook_bufs"].MaxEntries()) {
			if err := l.tables.Maps["hook_bufs"].Put(row, buf); err != nil {
				t.Fatal(err)
			}
		}
		return l.call("str_find", "buf", num(uint64(off)<<32|uint64(len(text))), 3, fold).r == 1
	}
	for _, c := range []struct {
		text, needle string
		fold, want   bool
	}{
		{"hello world", "world", false, true},
		{"hello world", "hello", false, true},
		{"hello world", "o w", false, true},
		{"hello world", "worlds", false, false},
		{"hello world", "hello world!", false, false},
		{"hello world", "hello world", false, true},
		{"hello", "", false, true},
		{"", "", false, true},
		{"", "a", false, false},
		{"Hello World", "hello world", false, false},
		{"Hello World", "hello world", true, true},
		{"aZ[`{@", "az[`{@", true, true},
		{"@[`{", "`{", true, true},
		{"\xc1\xdb", "\xe1", true, false},
		{"aaaaaaaaaaaaaaab", "aaaaaaab", false, true},
		{"aaaaaaaaaaaaaaab", "aaaaaaaaab", false, true},
		{strings.Repeat("x", 4096-256) + strings.Repeat("y", 256), strings.Repeat("y", 256), false, true},
		{strings.Repeat("x", 4096-255) + strings.Repeat("y", 255), strings.Repeat("y", 256), false, false},
	} {
		fold := uint64(0)
		if c.fold {
			fold = 1
		}
		if got := find(c.text, c.needle, fold); got != c.want {
			t.Errorf("%.30q in %.30q, fold %v: %v", c.needle, c.text, c.fold, got)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		text := make([]byte, r.IntN(60))
		for i := range text {
			text[i] = "abAB"[r.IntN(4)]
		}
		needle := make([]byte, 1+r.IntN(12))
		for i := range needle {
			needle[i] = "ab"[r.IntN(2)]
		}
		fold := uint64(r.IntN(2))
		want := strings.Contains(string(text), string(needle))
		if fold == 1 {
			want = strings.Contains(strings.ToLower(string(text)), string(needle))
		}
		if got := find(string(text), string(needle), fold); got != want {
			t.Fatalf("%q in %q, fold %d: %v", needle, text, fold, got)
		}
	}
}

func needlesBuf(l *lab) uint32 { return l.spec.Maps["hook_bufs"].ValueSize }

// pathOf reads the path of a descriptor in each way that there is, and makes sure that all agree.
func (l *lab) pathOf(fd int) (abi.ValFile, string, uint8) {
	l.t.Helper()
	file := address{from: fileOf, n: uint64(fd)}
	slot := address{from: taskOf}.load(l.member("task_struct", "files"), l.member("files_struct", "fdt"), l.member("fdtable", "fd")).add(int32(8 * fd))
	var first value
	for i, c := range []struct {
		name string
		a    address
	}{
		{"path_file", file},
		{"path_fd", num(uint64(fd))},
		{"path_kiocb", slot.add(-l.member("kiocb", "ki_filp"))},
		{"path_binprm", slot.add(-l.member("linux_binprm", "file"))},
		{"path_path", file.add(l.member("file", "f_path"))},
	} {
		res := l.call(c.name, "path", c.a)
		if len(res.values) != 1 {
			l.t.Fatalf("%s: %d values", c.name, len(res.values))
		}
		v := res.values[0]
		if v.Kind != abi.ValueFile || v.Index != valueIndex || res.r != int64(len(v.payload)-abi.ValFileSize) {
			l.t.Fatalf("%s: %+v, result %d", c.name, v.Value, res.r)
		}
		end := int(l.offset("after"))
		if lies := res.buf[end-int(res.r) : end]; string(lies) != string(v.payload[abi.ValFileSize:]) {
			l.t.Errorf("%s: in its room lies %q, in the record %q", c.name, lies, v.payload[abi.ValFileSize:])
		}
		if i == 0 {
			first = v
		} else {
			want := bytes.Clone(first.payload)
			if c.name == "path_path" {
				copy(want[4:8], []byte{0, 0, 0, 0}) // no open file, no flags
			}
			if v.Flags != first.Flags || !bytes.Equal(v.payload, want) {
				l.t.Errorf("%s: %q, path_file %q", c.name, v.payload, first.payload)
			}
		}
	}
	return as[abi.ValFile](l.t, first.payload), string(first.payload[abi.ValFileSize:]), first.Flags
}

func TestReaders_paths(t *testing.T) {
	l := newLab(t)
	// A mount of its own, so that the kind of file system makes no difference.
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("needs mounts: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	fd := func(n int, err error) int {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(n) })
		return n
	}
	pair := func(f func(p []int) error) int {
		t.Helper()
		var p [2]int
		if err := f(p[:]); err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(p[1])
		return fd(p[0], nil)
	}
	long := filepath.Join(dir, strings.Repeat("n", 255), strings.Repeat("m", 200))
	deep := dir
	for i := range 200 {
		deep = filepath.Join(deep, strconv.Itoa(i))
	}
	for _, d := range []string{long, deep, filepath.Join(dir, "gone", "sub")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	gone := fd(unix.Open(filepath.Join(dir, "gone", "sub"), unix.O_RDONLY|unix.O_DIRECTORY, 0))
	if err := os.RemoveAll(filepath.Join(dir, "gone")); err != nil {
		t.Fatal(err)
	}
	unlinked := fd(unix.Open(filepath.Join(dir, "unlinked"), unix.O_RDWR|unix.O_CREAT, 0o640))
	if err := os.Remove(filepath.Join(dir, "unlinked")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		fd   int
		path string
		mode uint32
	}{
		{"root", fd(unix.Open("/", unix.O_RDONLY, 0)), "/", 0o40000},
		{"mount", fd(unix.Open(dir, unix.O_RDONLY, 0)), dir, 0o40000},
		{"file", fd(unix.Open(filepath.Join(dir, "x"), unix.O_RDWR|unix.O_CREAT, 0o4755)), filepath.Join(dir, "x"), 0o104755},
		{"long names", fd(unix.Open(filepath.Join(long, "f"), unix.O_RDWR|unix.O_CREAT, 0o600)), filepath.Join(long, "f"), 0o100600},
		{"deep", fd(unix.Open(deep, unix.O_RDONLY, 0)), deep, 0o40755},
		{"unlinked", unlinked, filepath.Join(dir, "unlinked") + " (deleted)", 0o100640},
		{"directory gone", gone, "", 0o40755},
		{"proc", fd(unix.Open("/proc/version", unix.O_RDONLY, 0)), "/proc/version", 0o100444},
		{"memfd", fd(unix.MemfdCreate("pay load", 0)), "/memfd:pay load (deleted)", 0o100777},
		{"pipe", pair(func(p []int) error { return unix.Pipe(p) }), "", 0o10600},
		{"socket", fd(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)), "", 0o140777},
		{"anonymous", fd(unix.Eventfd(0, 0)), "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			l.t = t
			v, path, flags := l.pathOf(c.fd)
			link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", c.fd))
			if err != nil {
				t.Fatal(err)
			}
			want := c.path
			if c.name == "directory gone" {
				want = link
			}
			if path != want {
				t.Errorf("got %q, want %q", path, want)
			}
			if want != "" && path != link {
				t.Errorf("got %q, the kernel says %q", path, link)
			}
			var st unix.Stat_t
			if err := unix.Fstat(c.fd, &st); err != nil {
				t.Fatal(err)
			}
			if v.Mode != st.Mode&0xffff {
				t.Errorf("mode %o, the kernel says %o", v.Mode, st.Mode)
			}
			if fl, err := unix.FcntlInt(uintptr(c.fd), unix.F_GETFL, 0); err != nil || v.Flags&0o3777 != uint32(fl)&0o3777 {
				t.Errorf("flags %o, the kernel says %o", v.Flags, fl)
			}
			if flags != 0 {
				t.Errorf("flags of the value %d", flags)
			}
		})
	}
	l.t = t
	t.Run("dentry", func(t *testing.T) {
		l.t = t
		f := fd(unix.Open(filepath.Join(deep, "leaf"), unix.O_RDWR|unix.O_CREAT, 0o600))
		res := l.call("path_dentry", "path", address{from: fileOf, n: uint64(f)}.load(l.member("file", "f_path")+l.member("path", "dentry")))
		if got, want := string(res.values[0].payload[abi.ValFileSize:]), strings.TrimPrefix(deep, dir)+"/leaf"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("too deep", func(t *testing.T) {
		l.t = t
		at := fd(unix.Open(dir, unix.O_RDONLY, 0))
		name := strings.Repeat("d", 250)
		for range 20 {
			if err := unix.Mkdirat(at, name, 0o755); err != nil {
				t.Fatal(err)
			}
			at = fd(unix.Openat(at, name, unix.O_RDONLY, 0))
		}
		_, path, flags := l.pathOf(at)
		if flags != abi.ValueFlagCut || len(path) != 4096 || !strings.HasSuffix(path, "/"+name) {
			t.Errorf("flags %d, %d bytes", flags, len(path))
		}
	})
	for _, name := range []string{"path_file", "path_path", "path_dentry", "path_kiocb", "path_binprm"} {
		for _, n := range []uint64{0, nowhere, 1<<63 | nowhere} {
			res := l.call(name, "path", num(n))
			if res.r != -1 || res.values[0].Flags != abi.ValueFlagError || res.values[0].Kind != abi.ValueFile {
				t.Errorf("%s at %#x: %d, %+v", name, n, res.r, res.values)
			}
		}
	}
	for _, n := range []uint64{1 << 20, 0xffffffff, 1 << 40} {
		if res := l.call("path_fd", "path", num(n)); n != 1<<40 && res.r != -1 {
			t.Errorf("descriptor %d: %d", n, res.r)
		}
	}
}

// A path is what the task sees from its own root.
func TestReaders_pathInChroot(t *testing.T) {
	l := newLab(t)
	dir := t.TempDir()
	f := open(t, filepath.Join(dir, "inside"))
	outside := open(t, filepath.Join(t.TempDir(), "outside"))
	l.call("path_fd", "path", num(0)) // compiled before the root changes
	done := make(chan [2]string)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its root
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			done <- [2]string{err.Error(), ""}
			return
		}
		if err := unix.Chroot(dir); err != nil {
			done <- [2]string{err.Error(), ""}
			return
		}
		in := l.call("path_fd", "path", num(uint64(f.Fd())))
		out := l.call("path_fd", "path", num(uint64(outside.Fd())))
		done <- [2]string{string(in.values[0].payload[abi.ValFileSize:]), string(out.values[0].payload[abi.ValFileSize:])}
	}()
	got := <-done
	if got[0] != "/inside" {
		t.Errorf("inside: got %q", got[0])
	}
	if !strings.HasSuffix(got[1], "/outside") {
		t.Errorf("outside: got %q", got[1])
	}
}
