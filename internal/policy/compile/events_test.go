// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tetragon/internal/abi"
	"tetragon/internal/policy/compile"
	"tetragon/internal/policy/parse"
)

// provocations make calls of functions, for each of which something stands on kernels where they cannot be hooked.
var provocations = []struct {
	calls []string // that must be told
	do    func(t *testing.T)
}{
	{strings.Fields("tcp_connect tcp_set_state tcp_close tcp_create_openreq_child sk_alloc sk_free"), dial},
	{strings.Fields("security_socket_connect security_socket_bind security_socket_listen security_socket_create inet_csk_accept"), dial},
	{strings.Fields("security_file_open fd_install security_file_permission security_mmap_file security_file_truncate"), useFile},
	{strings.Fields("__sys_setresuid __sys_setresgid __sys_setfsuid"), setIDs},
	{strings.Fields("security_capset commit_creds"), setCaps},
	{strings.Fields("security_bprm_check security_bprm_committing_creds wake_up_new_task acct_process"), run},
	{strings.Fields("create_user_ns"), unshare},
	{strings.Fields("security_bpf_map_create security_bpf_map_alloc security_bpf"), makeMap},
	{strings.Fields("security_perf_event_alloc"), openPerf},
}

// TestLoad_events provokes calls and wants each of them told, on any kernel: by the function where it can be hooked, else by what
// stands for it.
func TestLoad_events(t *testing.T) {
	m, facts, r := liveRing(t)
	for _, p := range provocations {
		t.Run(p.calls[0], func(t *testing.T) {
			var src strings.Builder
			src.WriteString("apiVersion: cilium.io/v1alpha1\nkind: TracingPolicy\nmetadata: {name: calls}\nspec:\n  kprobes:\n")
			want := make(map[string]int)
			for _, c := range p.calls {
				if facts.Func(c) == nil {
					continue // of another kernel
				}
				want[c] = 0
				fmt.Fprintf(&src, "  - call: %s\n    syscall: false\n    selectors:\n    - matchPIDs: [{operator: In, followForks: true, values: [%d]}]\n", c, os.Getpid())
			}
			pol, d := parse.YAML("", []byte(src.String()), parse.Options{})
			if pol == nil {
				t.Fatal(d)
			}
			pl, d := compile.Compile(pol, facts, compile.Options{})
			if pl == nil {
				t.Fatal(d)
			}
			id, err := m.Add(pl)
			if err != nil {
				t.Fatalf("%v\n%s", err, pl)
			}
			p.do(t)
			// Records are in the ring when the call returns, but for what runs after it; all hooks are asked for some seconds.
			for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				for more := true; more; {
					if _, more, err = r.Rest(func(raw []byte) {
						var h abi.Hook
						if err := binary.Read(bytes.NewReader(raw), binary.NativeEndian, &h); err != nil || h.H.Kind != abi.KindHook {
							return
						}
						pr := m.Program(h.Program)
						if pr == nil {
							t.Error("a record of no program")
							return
						}
						for _, g := range pr.Groups {
							if posts(t, raw, &h, g.First, len(g.Hook.Rules)) {
								want[g.Hook.Name]++
							}
						}
					}); err != nil {
						t.Fatal(err)
					}
				}
				missing := 0
				for _, n := range want {
					if n == 0 {
						missing++
					}
				}
				if missing == 0 || time.Now().After(end) {
					break
				}
			}
			for c, n := range want {
				if n == 0 {
					t.Errorf("%s is not told", c)
				}
			}
			t.Log(want)
			if t.Failed() {
				t.Log(pl)
			}
			if err := m.Remove(id); err != nil {
				t.Error(err)
			}
		})
	}
}

// posts says whether a record is for one of some rules.
func posts(t *testing.T, raw []byte, h *abi.Hook, first, n int) bool {
	t.Helper()
	at := abi.HookSize
	for range h.Values {
		var v abi.Value
		if err := binary.Read(bytes.NewReader(raw[at:]), binary.NativeEndian, &v); err != nil {
			t.Fatal(err)
		}
		at += abi.ValueSize + int(v.Len+7)&^7
	}
	for i := first; i < first+n && i/64 < int(h.Words); i++ {
		if binary.NativeEndian.Uint64(raw[at+8*(i/64):])>>(i%64)&1 == 1 {
			return true
		}
	}
	return false
}

func dial(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := l.Accept(); err == nil {
			_, _ = c.Write([]byte("hello"))
			_ = c.Close()
		}
	}()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	var b [16]byte
	_, _ = c.Read(b[:])
	_ = c.Close()
	<-done
	// A socket that was never connected is freed at once.
	if fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); err == nil {
		_ = unix.Close(fd)
	}
}

func useFile(t *testing.T) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, _ = f.WriteString("some text")
	_ = f.Truncate(4)
	if b, err := unix.Mmap(int(f.Fd()), 0, 4, unix.PROT_READ, unix.MAP_SHARED); err == nil {
		_ = unix.Munmap(b)
	}
}

func setIDs(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const same = ^uintptr(0) // leaves the id as it is
	_, _, _ = unix.RawSyscall(unix.SYS_SETRESUID, same, same, same)
	_, _, _ = unix.RawSyscall(unix.SYS_SETRESGID, same, same, same)
	_, _, _ = unix.RawSyscall(unix.SYS_SETFSUID, same, 0, 0)
}

func setCaps(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&h, &d[0]); err != nil {
		t.Fatal(err)
	}
	if err := unix.Capset(&h, &d[0]); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T) {
	t.Helper()
	if err := exec.Command("/proc/self/exe", "-test.run", "^$").Run(); err != nil {
		t.Fatal(err)
	}
}

func unshare(t *testing.T) {
	t.Helper()
	c := exec.Command("/proc/self/exe", "-test.run", "^$")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	if err := c.Run(); err != nil {
		t.Log(err) // the attempt is told
	}
}

func makeMap(t *testing.T) {
	t.Helper()
	attr := struct{ typ, key, value, max uint32 }{2, 4, 4, 1} // an array
	fd, _, errno := unix.Syscall(unix.SYS_BPF, 0, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		t.Fatal(errno)
	}
	_ = unix.Close(int(fd))
}

func openPerf(t *testing.T) {
	t.Helper()
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_DUMMY}
	fd, err := unix.PerfEventOpen(&attr, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(fd)
}
