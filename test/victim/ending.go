// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func exitWith(args []string) error {
	n, err := number(args)
	if err != nil {
		return err
	}
	os.Exit(n)
	return nil
}

// killChild kills a child that does not handle signals; it may leave a core file.
func killChild(args []string) error {
	sig, err := number(args)
	if err != nil {
		return err
	}
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unlimited) // without, the core bit is not set; scripts look at CORE=
	cmd := command([]string{"/bin/sleep", "3600"})
	if err := cmd.Start(); err != nil {
		return err
	}
	say("PPID", os.Getpid())
	say("PID", cmd.Process.Pid)
	if err := cmd.Process.Signal(syscall.Signal(sig)); err != nil {
		return err
	}
	return wait(cmd)
}

// leaderExitsFirst runs a child whose first thread ends long before its last one.
func leaderExitsFirst(args []string) error {
	if len(args) == 1 {
		return run([]string{self(), "leader-exits-first", args[0], "now"})
	}
	status, err := number(args)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if unix.Gettid() != os.Getpid() {
		return errors.New("not on the first thread")
	}
	go func() {
		stat := fmt.Sprintf("/proc/self/task/%d/stat", os.Getpid())
		for begin := time.Now(); time.Since(begin) < patience; time.Sleep(time.Millisecond) {
			text, err := os.ReadFile(stat)
			_, state, _ := strings.Cut(string(text), ") ")
			if err == nil && strings.HasPrefix(state, "Z") {
				os.Exit(status)
			}
		}
		os.Exit(99)
	}()
	// Ends this thread only. As a blocking call, so that the runtime gives its processor to others.
	_, _, errno := syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
	return errno
}

// threads exits while n others wait.
func threads(args []string) error {
	n, err := number(args)
	if err != nil {
		return err
	}
	up := make(chan struct{})
	for range n {
		go func() {
			runtime.LockOSThread()
			up <- struct{}{}
			select {}
		}()
	}
	for range n {
		<-up
	}
	say("PID", os.Getpid())
	return nil
}
