// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The ports between guest and host, and what goes over the one for state.
const (
	portStdout = "vmlab.stdout"
	portStderr = "vmlab.stderr"
	portState  = "vmlab.state"
	portFiles  = "vmlab.files"

	stateStarted = "started"
	stateEnded   = "ended"
)

var ports = []string{portStdout, portStderr, portState, portFiles}

// job is what the guest does.
type job struct {
	Args   []string // the command
	Env    []string
	Mounts []mount

	Systemd bool // process 1 is systemd
}

type mount struct{ Serial, Path string }

// guestMain is process 1 of the guest, twice: in the initial file system it finds the disks and goes over to the real
// root, where it starts anew, so that process 1 has a binary with a path like on any machine.
func guestMain() {
	var err error
	if os.Args[0] == "/init" {
		err = enterRoot()
	} else {
		err = runJob()
	}
	fmt.Fprintf(os.Stderr, "vmlab: guest: %v\n", err)
	halt()
}

func halt() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {} // process 1 may not return
}

const guestInit, guestJob = "/sbin/vmlab-init", "/etc/vmlab.json"

// guestUnit makes systemd run the job when it has booted.
const (
	guestService = "/etc/systemd/system/vmlab.service"
	guestUnit    = `[Unit]
Description=the command of vmlab
After=multi-user.target
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=` + guestInit + `
[Install]
WantedBy=default.target
`
)

func enterRoot() error {
	for _, m := range []struct{ kind, path string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := mountFS(m.kind, m.path, "", 0); err != nil {
			return err
		}
	}
	mods, err := filepath.Glob("/modules/*")
	if err != nil {
		return err
	}
	for _, m := range mods {
		f, err := os.Open(m)
		if err != nil {
			return err
		}
		if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load module %s: %w", m, err)
		}
		_ = f.Close()
	}
	text, err := os.ReadFile("/job.json")
	if err != nil {
		return err
	}
	var j job
	if err := json.Unmarshal(text, &j); err != nil {
		return err
	}
	for _, m := range append([]mount{{"root", "/new"}, {"modules", "/new/lib/modules"}}, j.newRootMounts()...) {
		dev, err := findDisk(m.Serial)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(m.Path, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(dev, m.Path, "ext4", unix.MS_NOATIME, ""); err != nil {
			return fmt.Errorf("mount disk %s on %s: %w", m.Serial, m.Path, err)
		}
	}
	if err := copyFile("/init", "/new"+guestInit, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile("/new"+guestJob, text, 0o644); err != nil {
		return err
	}
	for _, p := range []string{"/proc", "/sys", "/dev"} {
		if err := unix.Mount(p, "/new"+p, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", p, err)
		}
	}
	if err := os.Chdir("/new"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if j.Systemd {
		if err := os.WriteFile(guestService, []byte(guestUnit), 0o644); err != nil {
			return err
		}
		return unix.Exec("/lib/systemd/systemd", []string{"/lib/systemd/systemd"}, os.Environ())
	}
	return unix.Exec(guestInit, []string{guestInit}, os.Environ())
}

func (j *job) newRootMounts() []mount {
	var ms []mount
	for _, m := range j.Mounts {
		ms = append(ms, mount{m.Serial, "/new" + m.Path})
	}
	return ms
}

// findDisk waits for the disk with a serial; drivers find them in their own time.
func findDisk(serial string) (string, error) {
	for range 200 {
		names, _ := filepath.Glob("/sys/block/vd*/serial")
		for _, n := range names {
			if text, err := os.ReadFile(n); err == nil && strings.TrimSpace(string(text)) == serial {
				return "/dev/" + filepath.Base(filepath.Dir(n)), nil
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return "", fmt.Errorf("find disk %s: not there", serial)
}

func mountFS(kind, path, data string, flags uintptr) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(kind, path, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", kind, path, err)
	}
	return nil
}

func copyFile(from, to string, mode fs.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, mode)
}

// runJob sets up the machine as a booted Debian would be, runs the command and ends the machine.
func runJob() error {
	text, err := os.ReadFile(guestJob)
	if err != nil {
		return err
	}
	var j job
	if err := json.Unmarshal(text, &j); err != nil {
		return err
	}
	if !j.Systemd {
		if err := setUp(); err != nil {
			return err
		}
	}
	return j.run()
}

// setUp makes of process 1 a booted machine.
func setUp() error {
	for _, m := range []struct {
		kind, path, data string
	}{
		{"tmpfs", "/run", "mode=755"}, {"devpts", "/dev/pts", "gid=5,mode=620,ptmxmode=666"}, {"tmpfs", "/dev/shm", ""},
		{"securityfs", "/sys/kernel/security", ""}, {"tracefs", "/sys/kernel/tracing", ""},
		{"debugfs", "/sys/kernel/debug", ""}, {"bpf", "/sys/fs/bpf", ""}, {"cgroup2", "/sys/fs/cgroup", ""},
	} {
		if err := mountFS(m.kind, m.path, m.data, 0); err != nil {
			return err
		}
	}
	for from, to := range map[string]string{"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(to, from); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	_ = unix.Sethostname([]byte("vm"))
	if out, err := exec.Command("/sbin/ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("bring up lo: %w: %s", err, out)
	}
	return nil
}

// run runs the command and ends the machine.
func (j *job) run() error {
	var err error
	open := map[string]*os.File{}
	for _, p := range ports {
		if open[p], err = openPort(p); err != nil {
			return err
		}
	}
	env := append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LOGNAME=root",
		"SHELL=/bin/bash", "TERM=dumb", "LANG=C.UTF-8",
	}, j.Env...)
	_ = os.Setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin") // where exec looks
	cmd := exec.Command(j.Args[0], j.Args[1:]...)
	cmd.Env, cmd.Dir = env, "/root"
	cmd.Stdout, cmd.Stderr = open[portStdout], open[portStderr]
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	fmt.Fprintln(open[portState], stateStarted)
	code := 0
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(open[portStderr], "vmlab: start %s: %v\n", j.Args[0], err)
		code = 127
	} else {
		code = reapUntil(cmd.Process.Pid)
	}
	ferr := sendFiles(open[portFiles], "/out")
	if ferr != nil {
		fmt.Fprintf(open[portStderr], "vmlab: send /out: %v\n", ferr)
	}
	fmt.Fprintln(open[portState], stateEnded, code)
	for _, p := range open {
		_ = p.Close() // waits until the host has it
	}
	halt()
	return nil
}

// reapUntil does what process 1 is for, and gives the exit status of the one child that matters.
func reapUntil(pid int) int {
	for {
		var ws unix.WaitStatus
		p, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 126
		case p == pid && ws.Exited():
			return ws.ExitStatus()
		case p == pid && ws.Signaled():
			return 128 + int(ws.Signal())
		}
	}
}

func openPort(name string) (*os.File, error) {
	for range 200 {
		paths, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, p := range paths {
			if text, err := os.ReadFile(p); err == nil && strings.TrimSpace(string(text)) == name {
				return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(p)), os.O_WRONLY, 0)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, fmt.Errorf("find port %s: not there", name)
}

// sendFiles writes a tar archive of the regular files below dir.
func sendFiles(w io.Writer, dir string) error {
	t := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return t.WriteHeader(&tar.Header{Name: rel, Typeflag: tar.TypeDir, Mode: 0o755})
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := t.WriteHeader(&tar.Header{Name: rel, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(data))}); err != nil {
				return err
			}
			_, err = t.Write(data)
			return err
		}
		return nil
	})
	return errors.Join(err, t.Close())
}
