// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// self is this program by its absolute name.
func self() string {
	p, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return p
}

// wait prints how a child ended.
func wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	var status *exec.ExitError
	if err != nil && !errors.As(err, &status) {
		return err
	}
	ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		return errors.New("no wait status")
	}
	if ws.Signaled() {
		say("SIGNAL", int(ws.Signal()))
		say("CORE", ws.CoreDump())
	} else {
		say("STATUS", ws.ExitStatus())
	}
	return nil
}

// command is a child whose own output goes to standard error, so that it does not mix with facts. Relative names stay
// relative; a name without a slash is looked up.
func command(args []string) *exec.Cmd {
	path := args[0]
	if !strings.Contains(path, "/") {
		if p, err := exec.LookPath(path); err == nil {
			path = p
		}
	}
	return &exec.Cmd{Path: path, Args: args, Stdout: os.Stderr, Stderr: os.Stderr}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("want a program")
	}
	cmd := command(args)
	cmd.Stdout = os.Stdout // a victim's facts are ours
	if err := cmd.Start(); err != nil {
		return err
	}
	say("PPID", os.Getpid())
	say("PID", cmd.Process.Pid)
	return wait(cmd)
}

func spawn(args []string) error {
	n, err := number(args)
	if err != nil {
		return err
	}
	say("PPID", os.Getpid())
	for i := range n {
		cmd := command([]string{self(), "exit", "0", fmt.Sprintf("child-%d", i)})
		if err := cmd.Start(); err != nil {
			return err
		}
		say("PID"+strconv.Itoa(i), cmd.Process.Pid)
		if err := cmd.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// forkOnly forks by hand: whatever the standard library starts also executes something.
func forkOnly(args []string) error {
	status, err := number(args)
	if err != nil {
		return err
	}
	syscall.ForkLock.Lock()
	pid, _, errno := syscall.RawSyscall(syscall.SYS_FORK, 0, 0, 0)
	if pid == 0 && errno == 0 {
		// Only one thread is left and the runtime does not know it: nothing but system calls from here.
		for {
			_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, uintptr(status), 0, 0)
		}
	}
	syscall.ForkLock.Unlock()
	if errno != 0 {
		return fmt.Errorf("fork: %w", errno)
	}
	say("PPID", os.Getpid())
	say("PID", pid)
	var ws unix.WaitStatus
	if _, err := unix.Wait4(int(pid), &ws, 0, nil); err != nil {
		return err
	}
	say("STATUS", ws.ExitStatus())
	return nil
}

// storm executes n programs and prints how many of them ran. Each has the arguments "storm" and its number; shells count
// as two, because what they start counts as well.
func storm(args []string) error {
	if len(args) < 2 {
		return errors.New("want a number of programs and of workers")
	}
	n, err := number(args)
	if err != nil {
		return err
	}
	workers, err := number(args[1:])
	if err != nil {
		return err
	}
	var left, done, failed atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				i := left.Add(-1)
				if i < 0 {
					return
				}
				argv := []string{"/bin/true", "storm", strconv.FormatInt(i, 10)}
				took := int64(1)
				switch {
				case i%16 == 0 && left.Add(-1) >= 0: // a shell and its child
					argv = []string{"/bin/sh", "-c", "/bin/true storm " + strconv.FormatInt(i, 10) + "; true", "storm"}
					took = 2
				case i%64 == 1: // threads
					argv = []string{self(), "threads", "4", "storm", strconv.FormatInt(i, 10)}
				}
				if err := (&exec.Cmd{Path: argv[0], Args: argv}).Run(); err != nil {
					failed.Add(1)
				}
				done.Add(took)
			}
		})
	}
	wg.Wait()
	say("PPID", os.Getpid())
	say("EXECS", done.Load())
	if failed.Load() > 0 {
		return fmt.Errorf("%d programs failed", failed.Load())
	}
	return nil
}

const cgroupRoot = "/sys/fs/cgroup"

// inCgroup runs a program in a fresh cgroup below the root of the hierarchy.
func inCgroup(args []string) error {
	if len(args) < 2 {
		return errors.New("want a directory and a program")
	}
	var st unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &st); err != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
		return fmt.Errorf("%s is no cgroup v2 hierarchy", cgroupRoot)
	}
	dir := filepath.Join(cgroupRoot, args[0])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	defer removeCgroup(dir)
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := command(args[1:])
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
	if err := cmd.Start(); err != nil {
		return err
	}
	say("PID", cmd.Process.Pid)
	return wait(cmd)
}

// removeCgroup removes what inCgroup made, upwards, and leaves what is in use.
func removeCgroup(dir string) {
	for ; dir != cgroupRoot; dir = filepath.Dir(dir) {
		if os.Remove(dir) != nil {
			return
		}
	}
}

func unshare(args []string) error {
	if len(args) < 2 {
		return errors.New("want namespaces and a program")
	}
	flags := map[string]uintptr{
		"uts": syscall.CLONE_NEWUTS, "ipc": syscall.CLONE_NEWIPC, "mnt": syscall.CLONE_NEWNS, "pid": syscall.CLONE_NEWPID,
		"net": syscall.CLONE_NEWNET, "cgroup": unix.CLONE_NEWCGROUP,
	}
	cmd := command(args[1:])
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	for _, k := range strings.Split(args[0], ",") {
		f, ok := flags[k]
		if !ok {
			return fmt.Errorf("no namespace %q", k)
		}
		cmd.SysProcAttr.Cloneflags |= f
	}
	in, err := cmd.StdinPipe() // the program lives until we have looked
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	say("PID", cmd.Process.Pid)
	if err := sayNamespaces(cmd.Process.Pid); err != nil {
		return err
	}
	_ = in.Close()
	return wait(cmd)
}

// sayNamespaces prints the inode numbers as NS_UTS=... and so on.
func sayNamespaces(pid int) error {
	for _, k := range []string{"uts", "ipc", "mnt", "pid", "pid_for_children", "net", "time", "time_for_children", "cgroup", "user"} {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, k))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		_, inum, _ := strings.Cut(strings.TrimSuffix(link, "]"), "[")
		say("NS_"+strings.ToUpper(k), inum)
	}
	return nil
}

func list([]string) error {
	say("PID", os.Getpid())
	say("PPID", os.Getppid())
	for name, id := range map[string]int{"UID": os.Getuid(), "EUID": os.Geteuid(), "GID": os.Getgid(), "EGID": os.Getegid()} {
		say(name, id)
	}
	return sayNamespaces(os.Getpid())
}

// stay waits for the end of the input.
func stay([]string) error {
	say("PID", os.Getpid())
	say("READY", 1)
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// tree starts itself with one less, and so on; every one waits for the end of the input.
func tree(args []string) error {
	depth, err := number(args)
	if err != nil {
		return err
	}
	say("PID"+strconv.Itoa(depth), os.Getpid())
	if depth == 0 {
		say("READY", 1)
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
	cmd := exec.Command(self(), "tree", strconv.Itoa(depth-1))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}

// patience is how long a thing may take that only the kernel has to do.
const patience = 30 * time.Second
