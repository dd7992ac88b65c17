// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"tetragon/internal/abi"
)

// kernelAddress is where the memory of origin inKernel lies.
func (l *lab) kernelAddress() uint64 {
	l.t.Helper()
	return binary.NativeEndian.Uint64(l.one(l.call("arg_int", "index", address{from: inKernel}), abi.ValueInt, 0))
}

// status reads fields of /proc/thread-self/status.
func status(t testing.TB) map[string][]string {
	t.Helper()
	f, err := os.Open("/proc/thread-self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := make(map[string][]string)
	for s := bufio.NewScanner(f); s.Scan(); {
		k, v, _ := strings.Cut(s.Text(), ":")
		out[k] = strings.Fields(v)
	}
	return out
}

func namespace(t testing.TB, name string) uint64 {
	t.Helper()
	link, err := os.Readlink("/proc/thread-self/ns/" + name)
	if err != nil {
		return 0 // the kernel has none
	}
	_, n, _ := strings.Cut(strings.TrimSuffix(link, "]"), "[")
	i, err := strconv.ParseUint(n, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestReaders_credentials(t *testing.T) {
	l := newLab(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := status(t)
	v := as[abi.ValCred](t, l.one(l.call("arg_cred", "index", address{from: credOf}), abi.ValueCred, 0))
	for i, k := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if got := fmt.Sprintf("%016x", v.Caps[i]); got != s[k][0] {
			t.Errorf("%s: %s, the kernel says %s", k, got, s[k][0])
		}
	}
	// Real, effective, saved, file system; here: uid gid suid sgid euid egid fsuid fsgid.
	for i, at := range []int{0, 4, 2, 6} {
		if fmt.Sprint(v.Ids[at]) != s["Uid"][i] || fmt.Sprint(v.Ids[at+1]) != s["Gid"][i] {
			t.Errorf("ids %v, the kernel says %v %v", v.Ids, s["Uid"], s["Gid"])
		}
	}
	if bits, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0); err != nil || int(v.Securebits) != bits {
		t.Errorf("secure bits %x, the kernel says %x", v.Securebits, bits)
	}
	if uint64(v.Ns.Inum) != namespace(t, "user") || v.Ns.Level != 0 {
		t.Errorf("user namespace %+v", v.Ns)
	}
	ns := as[abi.ValUserNs](t, l.one(l.call("arg_user_ns", "index", address{from: credOf}.load(l.member("cred", "user_ns"))), abi.ValueUserNs, 0))
	if ns != v.Ns {
		t.Errorf("got %+v, in the cred %+v", ns, v.Ns)
	}
	for _, n := range []uint64{0, 1<<63 | nowhere} {
		l.one(l.call("arg_cred", "index", num(n)), abi.ValueCred, abi.ValueFlagError)
	}
	l.one(l.call("arg_user_ns", "index", num(0)), abi.ValueUserNs, abi.ValueFlagError)
}

func TestReaders_task(t *testing.T) {
	l := newLab(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := status(t)
	hex := func(k string) uint64 { return must(strconv.ParseUint(s[k][0], 16, 64)) }
	nspid := uint64(0)
	if ids := s["NStgid"]; len(ids) > 1 {
		nspid = must(strconv.ParseUint(ids[len(ids)-1], 10, 64))
	}
	for name, want := range map[string]uint64{
		"task_nspid_now": nspid, "task_cap_effective": hex("CapEff"), "task_cap_permitted": hex("CapPrm"), "task_cap_inheritable": hex("CapInh"),
		"task_host_userns": 1, "task_host": 1, "task_compat": 0, "task_tracked": 0, "task_ns_changed": 0,
		"task_ns_uts": namespace(t, "uts"), "task_ns_ipc": namespace(t, "ipc"), "task_ns_mnt": namespace(t, "mnt"), "task_ns_pid": namespace(t, "pid"),
		"task_ns_pid_for_children": namespace(t, "pid_for_children"), "task_ns_net": namespace(t, "net"), "task_ns_time": namespace(t, "time"),
		"task_ns_time_for_children": namespace(t, "time_for_children"), "task_ns_cgroup": namespace(t, "cgroup"), "task_ns_user": namespace(t, "user"),
	} {
		if got := uint64(l.call(name, "", num(0)).r); got != want {
			t.Errorf("%s: got %d, want %d", name, got, want)
		}
	}
	for which := range uint64(4) {
		if got := l.call("task_cap_changed", "", num(which)).r; got != 0 {
			t.Errorf("task_cap_changed(%d) without a baseline: %x", which, got)
		}
	}
	for n := range uint64(17) {
		if got := l.call("class_word", "", num(n)).r; got != 0 {
			t.Errorf("class_word(%d) of an unknown process: %x", n, got)
		}
	}

	// Now it is known.
	var c abi.TaskClass
	for i, words := range []*[4]uint64{&c.Self, &c.Line, &c.Parent, &c.Ancestor} {
		for w := range words {
			words[w] = uint64(100*i+w)<<1 | 1
		}
	}
	c.Caps = [3]uint64{hex("CapEff") ^ 0xf0, hex("CapPrm") ^ 0xf, hex("CapInh")}
	c.Flags = abi.ClassBaseline
	for i, name := range []string{"uts", "ipc", "mnt", "pid", "pid_for_children", "net", "time", "time_for_children", "cgroup", "user"} {
		c.Ns[i] = uint32(namespace(t, name))
	}
	c.Ns[abi.NsMnt]++
	c.Ns[abi.NsUser]--
	c.Ns[abi.NsNet] = 0 // unknown
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	if err := l.tables.Maps["classes"].Put(uint32(pidfd), unsafe.Slice((*byte)(unsafe.Pointer(&c)), unsafe.Sizeof(c))); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint64{"task_tracked": 1, "task_ns_changed": 1<<abi.NsMnt | 1<<abi.NsUser} {
		if got := uint64(l.call(name, "", num(0)).r); got != want {
			t.Errorf("%s: got %#x, want %#x", name, got, want)
		}
	}
	for which, want := range []uint64{0xf0, 0xf, 0, 0} {
		if got := uint64(l.call("task_cap_changed", "", num(uint64(which))).r); got != want {
			t.Errorf("task_cap_changed(%d): got %#x, want %#x", which, got, want)
		}
	}
	for n := range uint64(17) {
		want := (100*(n/4)+n%4)<<1 | 1
		if n == 16 {
			want = 0
		}
		if got := uint64(l.call("class_word", "", num(n)).r); got != want {
			t.Errorf("class_word(%d): got %#x, want %#x", n, got, want)
		}
	}
	l.call("baseline_set", "", num(0))
	if l.call("task_ns_changed", "", num(0)).r != 0 || l.call("task_cap_changed", "", num(0)).r != 0 {
		t.Error("the baseline was not renewed")
	}
}

func TestReaders_descriptors(t *testing.T) {
	l := newLab(t)
	f := open(t, t.TempDir()+"/x")
	if got := uint64(l.call("fd_file", "", num(uint64(f.Fd()))).r); got>>63 != 1 {
		t.Errorf("got %#x", got)
	}
	for _, n := range []uint64{1 << 20, 1<<32 - 1} {
		if got := l.call("fd_file", "", num(n)).r; got != 0 {
			t.Errorf("descriptor %d: %#x", n, got)
		}
	}
}

func TestReaders_bpf(t *testing.T) {
	l := newLab(t)
	attr := make([]byte, 120)
	binary.NativeEndian.PutUint32(attr, 5)
	binary.NativeEndian.PutUint32(attr[4:], 1234)
	copy(attr[48:], "probe_name")
	v := as[abi.ValBpfProg](t, l.one(l.call("arg_bpf_attr", "index", num(l.at(0, attr))), abi.ValueBpfProg, 0))
	if v.Type != 5 || v.Insns != 1234 || string(v.Name[:11]) != "probe_name\x00" {
		t.Errorf("user: got %+v", v)
	}
	l.object(attr)
	if same := as[abi.ValBpfProg](t, l.one(l.call("arg_bpf_attr", "index", address{from: inKernel}), abi.ValueBpfProg, 0)); same != v {
		t.Errorf("kernel: got %+v", same)
	}
	// A caller that knows no names passes an attribute that ends before.
	short := l.at(len(l.user)-8, attr[:8])
	v = as[abi.ValBpfProg](t, l.one(l.call("arg_bpf_attr", "index", num(short)), abi.ValueBpfProg, 0))
	if v.Type != 5 || v.Insns != 1234 || v.Name[0] != 0 {
		t.Errorf("short: got %+v", v)
	}
	for i, n := range []uint32{2, 4, 8, 16} {
		binary.NativeEndian.PutUint32(attr[4*i:], n)
	}
	copy(attr[28:], "map_name\x00")
	m := as[abi.ValBpfMap](t, l.one(l.call("arg_bpf_map_attr", "index", num(l.at(0, attr))), abi.ValueBpfMap, 0))
	if m.Type != 2 || m.KeySize != 4 || m.ValueSize != 8 || m.MaxEntries != 16 || string(m.Name[:9]) != "map_name\x00" {
		t.Errorf("map attribute: got %+v", m)
	}
	for _, name := range []string{"arg_bpf_attr", "arg_bpf_prog"} {
		for _, n := range []uint64{0, 1<<63 | nowhere} {
			l.one(l.call(name, "index", num(n)), abi.ValueBpfProg, abi.ValueFlagError)
		}
	}
	for _, name := range []string{"arg_bpf_map_attr", "arg_bpf_map"} {
		for _, n := range []uint64{0, 1<<63 | nowhere} {
			l.one(l.call(name, "index", num(n)), abi.ValueBpfMap, abi.ValueFlagError)
		}
	}

	limits := l.tables.Maps["limits"]
	m = as[abi.ValBpfMap](t, l.one(l.call("arg_bpf_map", "index",
		address{from: fileOf, n: uint64(limits.FD())}.load(l.member("file", "private_data"))), abi.ValueBpfMap, 0))
	if m.Type != uint32(ebpf.LRUHash) || m.KeySize != limits.KeySize() || m.ValueSize != limits.ValueSize() || m.MaxEntries != limits.MaxEntries() ||
		string(m.Name[:7]) != "limits\x00" {
		t.Errorf("map: got %+v", m)
	}
	var some *ebpf.Program
	for _, p := range l.progs {
		some = p
	}
	v = as[abi.ValBpfProg](t, l.one(l.call("arg_bpf_prog", "index",
		address{from: fileOf, n: uint64(some.FD())}.load(l.member("file", "private_data"))), abi.ValueBpfProg, 0))
	if v.Type != uint32(ebpf.RawTracepoint) || v.Insns == 0 || string(v.Name[:6]) != "probe\x00" {
		t.Errorf("program: got %+v", v)
	}
}

func TestReaders_perf(t *testing.T) {
	l := newLab(t)
	attr := make([]byte, 128)
	put := func(typ uint32, config, func_, offset uint64) uint64 {
		binary.NativeEndian.PutUint32(attr, typ)
		binary.NativeEndian.PutUint64(attr[8:], config)
		binary.NativeEndian.PutUint64(attr[56:], func_)
		binary.NativeEndian.PutUint64(attr[64:], offset)
		return l.at(0, attr)
	}
	name := l.at(1000, []byte("tcp_connect\x00"))
	for _, c := range []struct {
		name   string
		at     uint64
		want   abi.ValPerfEvent
		called string
	}{
		{"probe", put(6, 1, name, 16), abi.ValPerfEvent{Type: 6, Config: 1, Offset: 16}, "tcp_connect"},
	} {
		got := l.one(l.call("arg_perf_attr", "index", num(c.at)), abi.ValuePerfEvent, 0)
		if as[abi.ValPerfEvent](t, got) != c.want || string(got[abi.ValPerfEventSize:]) != c.called {
			t.Errorf("%s: got %+v %q", c.name, as[abi.ValPerfEvent](t, got), got[abi.ValPerfEventSize:])
		}
	}
	got := l.one(l.call("arg_perf_attr", "index", num(put(6, 0, nowhere, 0))), abi.ValuePerfEvent, 0)
	if len(got) != abi.ValPerfEventSize {
		t.Errorf("a name that cannot be read: %q", got[abi.ValPerfEventSize:])
	}
	got = l.one(l.call("arg_perf_attr", "index", num(put(1, 9, name, 0))), abi.ValuePerfEvent, 0)
	if len(got) != abi.ValPerfEventSize || as[abi.ValPerfEvent](t, got).Config != 9 {
		t.Errorf("not a probe: %x", got)
	}
	for _, r := range []string{"arg_perf_attr", "arg_perf_event"} {
		l.one(l.call(r, "index", num(0)), abi.ValuePerfEvent, abi.ValueFlagError)
	}
	fd, err := unix.PerfEventOpen(&unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_DUMMY, Size: 112}, 0, -1, -1, 0)
	if err != nil {
		t.Skipf("needs performance events: %v", err)
	}
	defer unix.Close(fd)
	got = l.one(l.call("arg_perf_event", "index", address{from: fileOf, n: uint64(fd)}.load(l.member("file", "private_data"))), abi.ValuePerfEvent, 0)
	if v := as[abi.ValPerfEvent](t, got); v.Type != unix.PERF_TYPE_SOFTWARE || v.Config != unix.PERF_COUNT_SW_DUMMY || len(got) != abi.ValPerfEventSize {
		t.Errorf("event: got %+v", v)
	}
}

func TestReaders_modules(t *testing.T) {
	l := newLab(t)
	for _, r := range []string{"arg_module", "arg_load_info"} {
		l.one(l.call(r, "index", num(0)), abi.ValueModule, abi.ValueFlagError)
	}
	if _, err := l.find("load_info", "name"); err != nil {
		t.Skipf("needs modules: %v", err)
	}
	b := make([]byte, 8192)
	base := l.kernelAddress()
	copy(b[l.member("module", "name"):], "dummy_module\x00")
	binary.NativeEndian.PutUint64(b[l.member("module", "taints"):], 1<<12)
	l.object(b)
	got := l.one(l.call("arg_module", "index", address{from: inKernel}), abi.ValueModule, 0)
	if v := as[abi.ValModule](t, got); v.Taints != 1<<12 || v.HasSig != 0 || string(got[abi.ValModuleSize:]) != "dummy_module" {
		t.Errorf("module: got %+v %q", v, got[abi.ValModuleSize:])
	}
	const info = 4096
	binary.NativeEndian.PutUint64(b[info+l.member("load_info", "name"):], base+uint64(l.member("module", "name")))
	binary.NativeEndian.PutUint64(b[info+l.member("load_info", "mod"):], base)
	sig, err := l.find("load_info", "sig_ok")
	if err == nil {
		b[info+sig] = 1
	}
	l.object(b)
	got = l.one(l.call("arg_load_info", "index", address{from: inKernel}.add(info)), abi.ValueModule, 0)
	if v := as[abi.ValModule](t, got); v.Taints != 1<<12 || v.HasSig != v.SigOk || (v.SigOk == 1) != (err == nil) || string(got[abi.ValModuleSize:]) != "dummy_module" {
		t.Errorf("load_info: got %+v %q", v, got[abi.ValModuleSize:])
	}
}
