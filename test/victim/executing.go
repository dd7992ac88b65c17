// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func becomes(args []string) error {
	if len(args) == 0 {
		return errors.New("want a program")
	}
	say("PID", os.Getpid())
	return syscall.Exec(args[0], args, os.Environ())
}

// threadExec has a thread other than the first call execve. The kernel then gives that thread the first one's pid.
func threadExec(args []string) error {
	if len(args) == 0 {
		return errors.New("want a program")
	}
	runtime.LockOSThread() // this is the first thread; so the other goroutine is on another
	failed := make(chan error)
	go func() {
		runtime.LockOSThread()
		say("PID", os.Getpid())
		say("TID", unix.Gettid())
		failed <- syscall.Exec(args[0], args, os.Environ())
	}()
	return <-failed
}

// program gives the bytes of this program.
func program() ([]byte, error) { return os.ReadFile("/proc/self/exe") }

// execFD becomes the program behind an open file.
func execFD(fd int, args []string) error {
	argv, err := syscall.SlicePtrFromStrings(append([]string{"victim", "exit", "0"}, args...))
	if err != nil {
		return err
	}
	envv, err := syscall.SlicePtrFromStrings([]string{"HOME=/root"})
	if err != nil {
		return err
	}
	empty, err := syscall.BytePtrFromString("")
	if err != nil {
		return err
	}
	_, _, errno := syscall.Syscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(empty)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])), unix.AT_EMPTY_PATH, 0)
	return fmt.Errorf("execveat: %w", errno)
}

// sayFile prints what the kernel knows of an open file.
func sayFile(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	say("PID", os.Getpid())
	say("INODE", st.Ino)
	say("LINKS", st.Nlink)
	return nil
}

func memfdExec(args []string) error {
	fd, err := unix.MemfdCreate("scenario-memfd", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	data, err := program()
	if err != nil {
		return err
	}
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil {
			return err
		}
		data = data[n:]
	}
	if err := sayFile(fd); err != nil {
		return err
	}
	return execFD(fd, args)
}

func deletedExec(args []string) error {
	path := filepath.Join(filepath.Dir(self()), "deleted-victim")
	data, err := program()
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, data, 0o755); err != nil {
		return err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	if err := sayFile(fd); err != nil {
		return err
	}
	say("WAS", path)
	return execFD(fd, args)
}

// longArgs runs itself with n bytes of arguments, which end in "the-end". Each argument is of 1,000 bytes, the space
// before it included.
func longArgs(args []string) error {
	n, err := number(args)
	if err != nil {
		return err
	}
	const piece = 1000
	argv := []string{self(), "exit", "0"}
	have := len("exit 0")
	for have+piece+len(" the-end") <= n {
		argv = append(argv, strings.Repeat("x", piece-1))
		have += piece
	}
	if rest := n - have - len(" the-end"); rest > 1 {
		argv = append(argv, strings.Repeat("y", rest-1))
		have += rest
	}
	argv = append(argv, "the-end")
	say("LENGTH", have+len(" the-end"))
	return run(argv)
}

// emptyArgv gives execve an argv without elements. Since 5.18 the kernel puts an empty string there.
func emptyArgv([]string) error {
	if len(os.Args) > 1 && os.Args[1] == "empty-argv" && len(os.Args) == 2 {
		return run([]string{self(), "empty-argv", "now"})
	}
	path, err := syscall.BytePtrFromString(self())
	if err != nil {
		return err
	}
	argv, envv := []*byte{nil}, []*byte{nil}
	_, _, errno := syscall.Syscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])))
	return fmt.Errorf("execve: %w", errno)
}

func badUTF8([]string) error {
	path := filepath.Join(filepath.Dir(self()), "bad-\xff\xfe-name")
	data, err := program()
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, data, 0o755); err != nil {
		return err
	}
	defer func() { _ = os.Remove(path) }()
	return run([]string{path, "exit", "0", "\xc3\x28", "ok", "\xed\xa0\x80"})
}

func escapes([]string) error {
	return run([]string{self(), "exit", "0", "\x1b[31mred\x1b[0m", "two\nlines", "tab\there", "bell\a", "\x1b]0;title\a", `quo"te`, `back\slash`})
}

func failedExec([]string) error {
	dir := filepath.Dir(self())
	text := filepath.Join(dir, "no-program")
	if err := os.WriteFile(text, []byte("\x00no program\n"), 0o755); err != nil {
		return err
	}
	plain := filepath.Join(dir, "not-executable")
	if err := os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o644); err != nil {
		return err
	}
	say("PID", os.Getpid())
	for _, p := range []string{filepath.Join(dir, "missing"), text, plain, dir} {
		err := exec.Command(p, "failed-exec").Run()
		if err == nil {
			return fmt.Errorf("%s was executed", p)
		}
		fmt.Printf("refused %s: %v\n", p, err)
	}
	return nil
}
