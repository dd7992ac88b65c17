// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// openFile opens a file as asked and closes it. Directories that do not exist are its failure to report, not to hide.
func openFile(args []string) error {
	if len(args) == 0 {
		return errors.New("want a file")
	}
	flags := map[string]int{
		"read": unix.O_RDONLY, "write": unix.O_WRONLY, "create": unix.O_WRONLY | unix.O_CREAT, "path": unix.O_PATH,
	}
	how := unix.O_RDONLY
	if len(args) > 1 {
		how = flags[args[1]]
	}
	runtime.LockOSThread()
	say("PID", os.Getpid())
	say("TID", unix.Gettid())
	fd, err := unix.Open(args[0], how|unix.O_CLOEXEC, 0o640)
	if err != nil {
		fmt.Printf("refused %s: %v\n", args[0], err)
		return nil
	}
	if err := sayFile(fd); err != nil {
		return err
	}
	say("FD", fd)
	return unix.Close(fd)
}

// openFiles opens several files by one thread and tells what became of each.
func openFiles(args []string) error {
	runtime.LockOSThread()
	say("PID", os.Getpid())
	for i, name := range args {
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		var errno unix.Errno
		if err == nil {
			_ = unix.Close(fd)
		} else if !errors.As(err, &errno) {
			return err
		}
		say(fmt.Sprint("OPEN", i), int(errno))
	}
	return nil
}

// opens opens a file again and again, and tells how often that was possible.
func opens(args []string) error {
	if len(args) != 2 {
		return errors.New("want a file and a number")
	}
	n, err := number(args[1:])
	if err != nil {
		return err
	}
	went := 0
	for range n {
		fd, err := unix.Open(args[0], unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		went++
		if err := unix.Close(fd); err != nil {
			return err
		}
	}
	say("WENT", went)
	return nil
}

// payload is what writers write: the text, or n times a letter.
func payload(text string) []byte {
	if n, ok := strings.CutPrefix(text, "size="); ok {
		if n, err := strconv.Atoi(n); err == nil {
			return bytes.Repeat([]byte{'w'}, n)
		}
	}
	return []byte(text)
}

// withFile opens a file for writing and reading and hands its descriptor on.
func withFile(args []string, do func(fd int, rest []string) (int, error)) error {
	if len(args) < 2 {
		return errors.New("want a file and what to do with it")
	}
	fd, err := unix.Open(args[0], unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	say("PID", os.Getpid())
	say("FD", fd)
	n, err := do(fd, args[1:])
	if err != nil {
		return err
	}
	say("COUNT", n)
	return unix.Close(fd)
}

func writeFile(args []string) error {
	return withFile(args, func(fd int, rest []string) (int, error) { return unix.Write(fd, payload(rest[0])) })
}

func writeVectors(args []string) error {
	return withFile(args, func(fd int, rest []string) (int, error) {
		var iov [][]byte
		for _, r := range rest {
			iov = append(iov, payload(r))
		}
		return unix.Writev(fd, iov)
	})
}

// readFile reads into a buffer of the size that was asked for, once.
func readFile(args []string) error {
	return withFile(args, func(fd int, rest []string) (int, error) {
		n, err := number(rest)
		if err != nil {
			return 0, err
		}
		return unix.Read(fd, make([]byte, n))
	})
}

// mapFile maps a file as code or as data.
func mapFile(args []string) error {
	if len(args) != 2 {
		return errors.New("want a file and x or r")
	}
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	prot := unix.PROT_READ
	if args[1] == "x" {
		prot |= unix.PROT_EXEC
	}
	say("PID", os.Getpid())
	mem, err := unix.Mmap(int(f.Fd()), 0, 4096, prot, unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	return unix.Munmap(mem)
}
