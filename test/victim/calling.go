// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// callNumbers are the system calls that scripts name.
func callNumbers() map[string]uintptr {
	return map[string]uintptr{
		"access": unix.SYS_ACCESS, "capset": unix.SYS_CAPSET, "chdir": unix.SYS_CHDIR, "close": unix.SYS_CLOSE, "dup": unix.SYS_DUP,
		"fchmod": unix.SYS_FCHMOD, "ftruncate": unix.SYS_FTRUNCATE, "getpriority": unix.SYS_GETPRIORITY, "lseek": unix.SYS_LSEEK, "mkdir": unix.SYS_MKDIR,
		"prctl": unix.SYS_PRCTL, "rmdir": unix.SYS_RMDIR, "setfsgid": unix.SYS_SETFSGID, "setfsuid": unix.SYS_SETFSUID,
		"setgid": unix.SYS_SETGID, "setregid": unix.SYS_SETREGID, "setresgid": unix.SYS_SETRESGID,
		"setresuid": unix.SYS_SETRESUID, "setreuid": unix.SYS_SETREUID, "setuid": unix.SYS_SETUID,
		"truncate": unix.SYS_TRUNCATE, "umask": unix.SYS_UMASK, "unlink": unix.SYS_UNLINK, "write": unix.SYS_WRITE,
		"writev": unix.SYS_WRITEV,
	}
}

// callArgs turns words into arguments: numbers, s=TEXT for the address of a terminated text, or v=ADDRESS,BYTES for that of
// one vector. keep holds what the addresses point to.
func callArgs(words []string) (args [6]uintptr, keep []*byte, err error) {
	if len(words) > len(args) {
		return args, nil, errors.New("a system call has six arguments at most")
	}
	for i, w := range words {
		if text, ok := strings.CutPrefix(w, "s="); ok {
			p, err := unix.BytePtrFromString(text)
			if err != nil {
				return args, nil, err
			}
			keep = append(keep, p)
			args[i] = uintptr(unsafe.Pointer(p))
			continue
		}
		if text, ok := strings.CutPrefix(w, "v="); ok {
			var v [2]uint64
			if _, err := fmt.Sscanf(text, "%d,%d", &v[0], &v[1]); err != nil {
				return args, nil, fmt.Errorf("argument %q: want v=ADDRESS,BYTES", w)
			}
			p := (*byte)(unsafe.Pointer(&v))
			keep = append(keep, p)
			args[i] = uintptr(unsafe.Pointer(p))
			continue
		}
		if n, err := strconv.ParseInt(w, 0, 64); err == nil {
			args[i] = uintptr(n)
			continue
		}
		n, err := strconv.ParseUint(w, 0, 64)
		if err != nil {
			return args, nil, fmt.Errorf("argument %q: want a number, s=TEXT or v=ADDRESS,BYTES", w)
		}
		args[i] = uintptr(n)
	}
	return args, keep, nil
}

// call makes a system call, once, or many times, or by several threads.
func call(words []string) error {
	fs := flag.NewFlagSet("syscall", flag.ContinueOnError)
	times := fs.Int("n", 1, "how often")
	threads := fs.Int("threads", 1, "how many threads do so")
	on := fs.Bool("on", false, "go on until the input ends, some times a second")
	rate := fs.Int("rate", 0, "how often a second each thread does so, a few milliseconds' worth at a time; 0: as fast as it goes")
	stay := fs.Bool("stay", false, "afterwards live on until the input ends")
	if err := fs.Parse(words); err != nil {
		return err
	}
	if fs.NArg() == 0 {
		return errors.New("want a system call")
	}
	nr, ok := callNumbers()[fs.Arg(0)]
	if !ok {
		n, err := strconv.ParseUint(fs.Arg(0), 0, 32)
		if err != nil {
			return fmt.Errorf("no system call %q", fs.Arg(0))
		}
		nr = uintptr(n)
	}
	a, keep, err := callArgs(fs.Args()[1:])
	if err != nil {
		return err
	}
	type result struct {
		tid   int
		ret   uintptr
		errno syscall.Errno
	}
	results := make([]result, *threads)
	var ended atomic.Bool
	say("PID", os.Getpid())
	if *on {
		say("READY", 1)
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			ended.Store(true)
		}()
	}
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			runtime.LockOSThread() // it ends with the goroutine: each has its own
			r := &results[i]
			r.tid = unix.Gettid()
			begin := time.Now()
			for i := 0; i < *times || *on && !ended.Load(); i++ {
				r.ret, _, r.errno = syscall.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
				if *on {
					time.Sleep(20 * time.Millisecond)
				}
				if *rate > 0 && i%max(*rate/500, 1) == 0 { // who is late catches up: the rate holds over the whole time
					time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(*rate))))
				}
			}
		})
	}
	wg.Wait()
	runtime.KeepAlive(keep)
	if *stay {
		say("READY", 1)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
	for i, r := range results {
		say("TID"+strconv.Itoa(i), r.tid)
	}
	say("RET", int64(results[0].ret))
	say("ERRNO", int(results[0].errno))
	return nil
}

// compatCall makes a 32-bit system call from this 64-bit program, as any program may: int 0x80.
func compatCall(words []string) error {
	if len(words) == 0 || len(words) > 6 {
		return errors.New("want a number and at most five arguments")
	}
	var v [6]uintptr
	for i, w := range words {
		n, err := strconv.ParseInt(w, 0, 64)
		if err != nil {
			return err
		}
		v[i] = uintptr(uint32(n))
	}
	say("PID", os.Getpid())
	runtime.LockOSThread()
	say("TID", unix.Gettid())
	say("RET", int32(int80(v[0], v[1], v[2], v[3], v[4], v[5])))
	return nil
}

// thenCall does something to this process and makes one system call that a script can look for: lseek on no file.
func thenCall(what func() error) error {
	runtime.LockOSThread()
	say("PID", os.Getpid())
	if err := what(); err != nil {
		return err
	}
	_, _, errno := syscall.Syscall(unix.SYS_LSEEK, ^uintptr(0), 4711, 0)
	say("ERRNO", int(errno))
	return nil
}

// changeNamespace enters a new namespace, and calls.
func changeNamespace(args []string) error {
	flags := map[string]int{
		"uts": unix.CLONE_NEWUTS, "ipc": unix.CLONE_NEWIPC, "net": unix.CLONE_NEWNET, "mnt": unix.CLONE_NEWNS,
		"cgroup": unix.CLONE_NEWCGROUP,
	}
	if len(args) != 1 || flags[args[0]] == 0 {
		return errors.New("want uts, ipc, net, mnt or cgroup")
	}
	return thenCall(func() error { return unix.Unshare(flags[args[0]]) })
}

// changeCapabilities drops one capability, by number, from the effective set, and calls.
func changeCapabilities(args []string) error {
	n, err := number(args)
	if err != nil {
		return err
	}
	return thenCall(func() error {
		h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var d [2]unix.CapUserData
		if err := unix.Capget(&h, &d[0]); err != nil {
			return err
		}
		d[n/32].Effective &^= 1 << (n % 32)
		return unix.Capset(&h, &d[0])
	})
}

// seeks makes n calls that a script can look for, slowly enough that much can happen between them, and waits.
func seeks(args []string) error {
	n, err := number(args)
	if err != nil {
		return err
	}
	say("CALLS_PID", os.Getpid())
	say("READY", 1)
	for range n {
		_, _, _ = syscall.Syscall(unix.SYS_LSEEK, ^uintptr(0), 1, 4711)
		time.Sleep(5 * time.Millisecond)
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// asUser runs a program as another user, without capabilities.
func asUser(args []string) error {
	if len(args) < 2 {
		return errors.New("want a user id and a program")
	}
	id, err := number(args)
	if err != nil {
		return err
	}
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(id), Gid: uint32(id)}}
	return cmd.Run()
}

// A program of two instructions for BPF: r0 = 0; exit.
var nothing = [2]uint64{0x00000000000000b7, 0x0000000000000095}

func bpf(cmd int, attr unsafe.Pointer, size uintptr) (int, error) {
	fd, _, errno := syscall.Syscall(unix.SYS_BPF, uintptr(cmd), uintptr(attr), size)
	if errno != 0 {
		return 0, fmt.Errorf("bpf: %w", errno)
	}
	return int(fd), nil
}

// bpfLoad loads a socket filter that does nothing.
func bpfLoad([]string) error {
	license, err := unix.BytePtrFromString("GPL")
	if err != nil {
		return err
	}
	attr := struct {
		kind, insnCount uint32
		insns, license  uintptr
		logLevel, logSz uint32
		log             uint64
		version, flags  uint32
		name            [16]byte
	}{
		kind: unix.BPF_PROG_TYPE_SOCKET_FILTER, insnCount: 2, insns: uintptr(unsafe.Pointer(&nothing)),
		license: uintptr(unsafe.Pointer(license)),
	}
	copy(attr.name[:], "scenario_prog")
	say("PID", os.Getpid())
	fd, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	runtime.KeepAlive(license)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// bpfMap makes a hash map.
func bpfMap([]string) error {
	attr := struct {
		kind, key, value, entries, flags, inner, node uint32
		name                                          [16]byte
	}{kind: unix.BPF_MAP_TYPE_HASH, key: 4, value: 8, entries: 16}
	copy(attr.name[:], "scenario_map")
	say("PID", os.Getpid())
	fd, err := bpf(unix.BPF_MAP_CREATE, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// perfOpen opens a perf event of this process that counts nothing.
func perfOpen([]string) error {
	say("PID", os.Getpid())
	attr := unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_DUMMY, Size: unix.PERF_ATTR_SIZE_VER7, Bits: unix.PerfBitDisabled,
	}
	fd, err := unix.PerfEventOpen(&attr, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}
