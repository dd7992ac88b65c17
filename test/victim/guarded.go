// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// magic is in the last argument of the calls that a policy is to deny: few calls have that many. denied is what it returns.
const (
	magic  = 0x4711
	denied = syscall.Errno(77)
)

// guardedCalls are system calls and arguments with which each asks whether it may go on.
type guardedCalls struct {
	order []string
	calls map[string]guardedCall
	keep  []any // what arguments point to
}

type guardedCall struct {
	nr   uintptr
	args []uintptr
}

func (g *guardedCalls) add(name string, nr uintptr, args ...uintptr) {
	g.order = append(g.order, name)
	g.calls[name] = guardedCall{nr, args}
}

// text is the address of a terminated text.
func (g *guardedCalls) text(s string) uintptr {
	p, err := unix.BytePtrFromString(s)
	if err != nil {
		panic("bug: " + err.Error())
	}
	g.keep = append(g.keep, p)
	return uintptr(unsafe.Pointer(p))
}

// room is the address of n zero bytes.
func (g *guardedCalls) room(n int) uintptr {
	b := make([]byte, n)
	g.keep = append(g.keep, b)
	return uintptr(unsafe.Pointer(&b[0]))
}

// guarded makes each of them once.
func guarded(args []string) error {
	if len(args) == 0 || len(args) > 1 && args[1] != "in-place" {
		return errors.New("want a directory, and maybe in-place")
	}
	inPlace := len(args) > 1
	runtime.LockOSThread() // and it is never used again: some calls change what it may do, if they are not denied
	g := &guardedCalls{calls: make(map[string]guardedCall)}
	done, err := g.prepare(args[0])
	if err != nil {
		return err
	}
	defer done()
	var missed []string
	for _, name := range g.order {
		c := g.calls[name]
		var a [6]uintptr
		copy(a[:], c.args)
		if len(c.args) < len(a) {
			a[5] = magic
		}
		ret, _, errno := syscall.RawSyscall6(c.nr, a[0], a[1], a[2], a[3], a[4], a[5])
		if slices.Contains([]string{"fork", "vfork", "clone", "clone3"}, name) && errno == 0 && ret == 0 {
			_, _, _ = syscall.RawSyscall(unix.SYS_EXIT, 0, 0, 0) // the child
		}
		want := denied
		if strings.HasPrefix(name, "process_vm_") || name == "pidfd_getfd" && !inPlace { // these return nothing else
			want = unix.EPERM
		}
		if errno != want {
			missed = append(missed, fmt.Sprintf("%s(%d)", name, errno))
		}
	}
	runtime.KeepAlive(g)
	say("PID", os.Getpid())
	say("CALLS", len(g.order))
	say("MISSED", strings.Join(missed, ","))
	return nil
}

const atCwd = ^uintptr(99) // AT_FDCWD

// prepare makes what the calls work on, below dir, and lists them.
func (g *guardedCalls) prepare(dir string) (done func(), err error) {
	for _, d := range []string{"d", "empty", "m"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	path := func(name string) uintptr { return g.text(filepath.Join(dir, name)) }
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, []byte(strings.Repeat("x", 4096)), 0o755); err != nil {
		return nil, err
	}
	_ = os.Remove(filepath.Join(dir, "l"))
	if err := os.Symlink("f", filepath.Join(dir, "l")); err != nil {
		return nil, err
	}
	fd, err := unix.Open(file, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	out, err := unix.Open(filepath.Join(dir, "out"), unix.O_RDWR|unix.O_CREAT, 0o644)
	if err != nil {
		return nil, err
	}
	at, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Mount("none", filepath.Join(dir, "m"), "tmpfs", 0, ""); err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	done = func() { _ = unix.Unmount(filepath.Join(dir, "m"), 0) }

	g.add("open", unix.SYS_OPEN, path("f"), unix.O_RDONLY)
	g.add("openat", unix.SYS_OPENAT, atCwd, path("made"), unix.O_CREAT|unix.O_WRONLY, 0o644)
	how := unix.OpenHow{Flags: unix.O_RDONLY}
	g.keep = append(g.keep, &how)
	g.add("openat2", unix.SYS_OPENAT2, atCwd, path("f"), uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how))
	g.add("creat", unix.SYS_CREAT, path("made"), 0o644)
	if h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, file, 0); err == nil {
		b := make([]byte, 8+h.Size())
		*(*uint32)(unsafe.Pointer(&b[0])), *(*int32)(unsafe.Pointer(&b[4])) = uint32(h.Size()), h.Type()
		copy(b[8:], h.Bytes())
		g.keep = append(g.keep, b)
		g.add("open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, uintptr(at), uintptr(unsafe.Pointer(&b[0])), unix.O_RDONLY)
	}
	g.add("execve", unix.SYS_EXECVE, g.text("/bin/true"), g.room(8), g.room(8))
	g.add("execveat", unix.SYS_EXECVEAT, atCwd, g.text("/bin/true"), g.room(8), g.room(8), 0)

	g.add("unlink", unix.SYS_UNLINK, path("f"))
	g.add("unlinkat", unix.SYS_UNLINKAT, atCwd, path("f"), 0)
	g.add("rmdir", unix.SYS_RMDIR, path("empty"))
	g.add("mkdir", unix.SYS_MKDIR, path("made"), 0o755)
	g.add("mkdirat", unix.SYS_MKDIRAT, atCwd, path("made"), 0o755)
	g.add("mknod", unix.SYS_MKNOD, path("made"), unix.S_IFIFO|0o644, 0)
	g.add("mknodat", unix.SYS_MKNODAT, atCwd, path("made"), unix.S_IFREG|0o644, 0)
	g.add("symlink", unix.SYS_SYMLINK, g.text("f"), path("made"))
	g.add("symlinkat", unix.SYS_SYMLINKAT, g.text("f"), atCwd, path("made"))
	g.add("link", unix.SYS_LINK, path("f"), path("made"))
	g.add("linkat", unix.SYS_LINKAT, atCwd, path("f"), atCwd, path("made"), 0)
	g.add("rename", unix.SYS_RENAME, path("f"), path("made"))
	g.add("renameat", unix.SYS_RENAMEAT, atCwd, path("f"), atCwd, path("made"))
	g.add("renameat2", unix.SYS_RENAMEAT2, atCwd, path("f"), atCwd, path("made"), 0)

	g.add("chmod", unix.SYS_CHMOD, path("f"), 0o644)
	g.add("fchmod", unix.SYS_FCHMOD, uintptr(fd), 0o644)
	g.add("fchmodat", unix.SYS_FCHMODAT, atCwd, path("f"), 0o644)
	g.add("chown", unix.SYS_CHOWN, path("f"), 0, 0)
	g.add("lchown", unix.SYS_LCHOWN, path("f"), 0, 0)
	g.add("fchown", unix.SYS_FCHOWN, uintptr(fd), 0, 0)
	g.add("fchownat", unix.SYS_FCHOWNAT, atCwd, path("f"), 0, 0, 0)
	g.add("truncate", unix.SYS_TRUNCATE, path("f"), 1)
	g.add("ftruncate", unix.SYS_FTRUNCATE, uintptr(out), 1)
	g.add("utimensat", unix.SYS_UTIMENSAT, atCwd, path("f"), 0, 0)
	g.add("stat", unix.SYS_STAT, path("f"), g.room(256))
	g.add("lstat", unix.SYS_LSTAT, path("f"), g.room(256))
	g.add("fstat", unix.SYS_FSTAT, uintptr(fd), g.room(256))
	g.add("newfstatat", unix.SYS_NEWFSTATAT, atCwd, path("f"), g.room(256), 0)
	g.add("statx", unix.SYS_STATX, atCwd, path("f"), 0, unix.STATX_ALL, g.room(512))
	g.add("readlink", unix.SYS_READLINK, path("l"), g.room(256), 256)
	g.add("readlinkat", unix.SYS_READLINKAT, atCwd, path("l"), g.room(256), 256)
	g.add("statfs", unix.SYS_STATFS, path("f"), g.room(256))
	g.add("fstatfs", unix.SYS_FSTATFS, uintptr(fd), g.room(256))
	key := g.text("trusted.scenario")
	g.add("setxattr", unix.SYS_SETXATTR, path("f"), key, g.text("x"), 1, 0)
	g.add("lsetxattr", unix.SYS_LSETXATTR, path("f"), key, g.text("x"), 1, 0)
	g.add("fsetxattr", unix.SYS_FSETXATTR, uintptr(fd), key, g.text("x"), 1, 0)
	g.add("removexattr", unix.SYS_REMOVEXATTR, path("f"), key)
	g.add("lremovexattr", unix.SYS_LREMOVEXATTR, path("f"), key)
	g.add("fremovexattr", unix.SYS_FREMOVEXATTR, uintptr(fd), key)

	vec := []unix.Iovec{{Base: &make([]byte, 8)[0], Len: 8}}
	g.keep = append(g.keep, vec)
	iov := uintptr(unsafe.Pointer(&vec[0]))
	g.add("read", unix.SYS_READ, uintptr(fd), g.room(8), 8)
	g.add("pread64", unix.SYS_PREAD64, uintptr(fd), g.room(8), 8, 0)
	g.add("readv", unix.SYS_READV, uintptr(fd), iov, 1)
	g.add("write", unix.SYS_WRITE, uintptr(out), g.room(8), 8)
	g.add("pwrite64", unix.SYS_PWRITE64, uintptr(out), g.room(8), 8, 0)
	g.add("writev", unix.SYS_WRITEV, uintptr(out), iov, 1)
	g.add("getdents64", unix.SYS_GETDENTS64, uintptr(at), g.room(4096), 4096)
	g.add("ioctl", unix.SYS_IOCTL, uintptr(fd), unix.TIOCINQ, g.room(8))
	g.add("fcntl", unix.SYS_FCNTL, uintptr(fd), unix.F_GETFL, 0)
	g.add("flock", unix.SYS_FLOCK, uintptr(fd), unix.LOCK_SH)
	g.add("mmap", unix.SYS_MMAP, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uintptr(0), magic<<12)
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return done, err
	}
	g.add("mprotect", unix.SYS_MPROTECT, uintptr(unsafe.Pointer(&page[0])), 4096, unix.PROT_READ)
	g.sockets()
	g.processes()

	g.add("mount", unix.SYS_MOUNT, g.text("none"), path("d"), g.text("tmpfs"), 0, 0)
	g.add("umount2", unix.SYS_UMOUNT2, path("m"), 0)
	g.add("pivot_root", unix.SYS_PIVOT_ROOT, path("d"), path("d"))
	g.add("chroot", unix.SYS_CHROOT, path("d"))
	g.add("init_module", unix.SYS_INIT_MODULE, g.room(4096), 4096, g.text(""))
	g.add("finit_module", unix.SYS_FINIT_MODULE, uintptr(fd), g.text(""), 0)
	g.add("kexec_load", unix.SYS_KEXEC_LOAD, 0, 0, 0, 0)
	g.add("bpf", unix.SYS_BPF, 0, g.room(128), 128)
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}
	g.keep = append(g.keep, &attr)
	g.add("perf_event_open", unix.SYS_PERF_EVENT_OPEN, uintptr(unsafe.Pointer(&attr)), 0, ^uintptr(0), ^uintptr(0), 0)
	g.add("syslog", unix.SYS_SYSLOG, 10, 0, 0) // SYSLOG_ACTION_SIZE_BUFFER
	var now unix.Timeval
	if err := unix.Gettimeofday(&now); err != nil {
		return done, err
	}
	g.keep = append(g.keep, &now)
	g.add("settimeofday", unix.SYS_SETTIMEOFDAY, uintptr(unsafe.Pointer(&now)), 0)
	return done, nil
}

func (g *guardedCalls) sockets() {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return
	}
	tcp, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return
	}
	a, s := uintptr(pair[0]), uintptr(tcp)
	addr := []byte{unix.AF_INET, 0, 0, 9, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	g.keep = append(g.keep, addr)
	to := uintptr(unsafe.Pointer(&addr[0]))
	vec := []unix.Iovec{{Base: &make([]byte, 8)[0], Len: 8}}
	msg := &struct {
		unix.Msghdr
		got uint32
		_   uint32
	}{Msghdr: unix.Msghdr{Iov: &vec[0], Iovlen: 1}}
	g.keep = append(g.keep, vec, msg)
	m := uintptr(unsafe.Pointer(msg))
	number := func(n byte) uintptr {
		p := g.room(8)
		g.keep[len(g.keep)-1].([]byte)[0] = n
		return p
	}
	g.add("socket", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
	g.add("socketpair", unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_STREAM, 0, g.room(8))
	g.add("bind", unix.SYS_BIND, s, to, 16)
	g.add("connect", unix.SYS_CONNECT, s, to, 16)
	g.add("listen", unix.SYS_LISTEN, s, 1)
	g.add("accept", unix.SYS_ACCEPT, s, 0, 0)
	g.add("accept4", unix.SYS_ACCEPT4, s, 0, 0, 0)
	g.add("sendto", unix.SYS_SENDTO, a, g.room(8), 8, 0, 0, magic)
	g.add("sendmsg", unix.SYS_SENDMSG, a, m, 0)
	g.add("sendmmsg", unix.SYS_SENDMMSG, a, m, 1, 0)
	g.add("recvfrom", unix.SYS_RECVFROM, a, g.room(8), 8, 0, 0, magic)
	g.add("recvmsg", unix.SYS_RECVMSG, a, m, 0)
	g.add("recvmmsg", unix.SYS_RECVMMSG, a, m, 1, 0, 0)
	g.add("getsockname", unix.SYS_GETSOCKNAME, s, g.room(128), number(128))
	g.add("getpeername", unix.SYS_GETPEERNAME, a, g.room(128), number(128))
	g.add("setsockopt", unix.SYS_SETSOCKOPT, s, unix.SOL_SOCKET, unix.SO_REUSEADDR, number(1), 4)
	g.add("getsockopt", unix.SYS_GETSOCKOPT, s, unix.SOL_SOCKET, unix.SO_REUSEADDR, g.room(8), number(4))
	g.add("shutdown", unix.SYS_SHUTDOWN, a, unix.SHUT_RD)
}

func (g *guardedCalls) processes() {
	self, parent := uintptr(os.Getpid()), uintptr(os.Getppid())
	g.add("clone", unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0)
	clone3 := make([]uint64, 8)
	clone3[4] = uint64(unix.SIGCHLD) // exit_signal
	g.keep = append(g.keep, clone3)
	g.add("clone3", unix.SYS_CLONE3, uintptr(unsafe.Pointer(&clone3[0])), 64)
	g.add("fork", unix.SYS_FORK)
	g.add("vfork", unix.SYS_VFORK)
	g.add("kill", unix.SYS_KILL, self, 0)
	g.add("tkill", unix.SYS_TKILL, self, 0)
	g.add("tgkill", unix.SYS_TGKILL, self, self, 0)
	g.add("ptrace", unix.SYS_PTRACE, unix.PTRACE_TRACEME, 0, 0, 0)
	vec := []unix.Iovec{{Base: &make([]byte, 8)[0], Len: 8}}
	g.keep = append(g.keep, vec)
	iov := uintptr(unsafe.Pointer(&vec[0]))
	// These have six arguments, and want no flags: the policy knows them by their numbers of pieces.
	g.add("process_vm_readv", unix.SYS_PROCESS_VM_READV, parent, iov, 1, iov, 1, 0)
	g.add("process_vm_writev", unix.SYS_PROCESS_VM_WRITEV, parent, iov, 1, iov, 1, 0)
	if fd, err := unix.PidfdOpen(int(parent), 0); err == nil {
		g.add("pidfd_getfd", unix.SYS_PIDFD_GETFD, uintptr(fd), 0, 0)
	}
	g.add("setpgid", unix.SYS_SETPGID, 0, 0)
	g.add("setpriority", unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, 0)
	g.add("sched_setscheduler", unix.SYS_SCHED_SETSCHEDULER, 0, 0, g.room(8))
	mask := g.room(128)
	for i := range 128 {
		g.keep[len(g.keep)-1].([]byte)[i] = 0xff
	}
	g.add("sched_setaffinity", unix.SYS_SCHED_SETAFFINITY, 0, 128, mask)
	limit := &unix.Rlimit{}
	_ = unix.Getrlimit(unix.RLIMIT_CORE, limit)
	g.keep = append(g.keep, limit)
	g.add("setrlimit", unix.SYS_SETRLIMIT, unix.RLIMIT_CORE, uintptr(unsafe.Pointer(limit)))

	// One of the ids changes: a call that would change nothing asks nobody.
	same := ^uintptr(0)
	g.add("setuid", unix.SYS_SETUID, 1)
	g.add("setreuid", unix.SYS_SETREUID, same, 1)
	g.add("setresuid", unix.SYS_SETRESUID, same, same, 1)
	g.add("setgid", unix.SYS_SETGID, 1)
	g.add("setregid", unix.SYS_SETREGID, same, 1)
	g.add("setresgid", unix.SYS_SETRESGID, same, same, 1)
	g.add("setgroups", unix.SYS_SETGROUPS, 0, 0)
	head := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	caps := make([]unix.CapUserData, 2)
	_ = unix.Capget(head, &caps[0])
	g.keep = append(g.keep, head, caps)
	g.add("capset", unix.SYS_CAPSET, uintptr(unsafe.Pointer(head)), uintptr(unsafe.Pointer(&caps[0])))
}
