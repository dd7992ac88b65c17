// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bufio"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// share is a host directory that the guest gets a copy of.
type share struct{ dir, path string }

// machine is one virtual machine and the command that it runs.
type machine struct {
	kernel      *kernel
	root        string // ext4 image
	icount      bool
	cpus, memMB int
	shares      []share
	outDir      string
	consoleFile string
	appendLine  string
	timeout     time.Duration
	verbose     bool
	job         job
}

// Boots before the lab gives up. Emulated kernels now and then die while they patch their own text; a machine that dies
// before the command starts says nothing about the command, nor does one of several CPUs that dies once while it runs.
const bootAttempts = 4

// A boot takes four to ten seconds on two cores; a machine that has not reached the command by then never will.
// With systemd it takes half a minute, and minutes on a busy host.
const bootTime, bootTimeSystemd = 2 * time.Minute, 8 * time.Minute

// The CPU: all that QEMU emulates, without what makes emulation slow (wide vectors, supervisor access checks).
const cpuModel = "max,-avx,-avx2,-fma,-f16c,-smap,-smep,-la57,-pku"

// The kernel's arguments. No mitigations and no address randomisation: fewer instructions, the same ones each time.
// An oops ends the machine at once instead of leaving a half-dead one. bpf in lsm= is what distributions leave out.
const kernelArgs = "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic mitigations=off nokaslr random.trust_cpu=on " +
	"tsc=reliable no_timer_check rcupdate.rcu_expedited=1 lsm=landlock,lockdown,yama,integrity,bpf"

var (
	errDiedEarly = errors.New("the machine died before the command started")
	errDied      = errors.New("the machine died under the command")
)

// run boots until the command has started and gives its exit status.
func (m *machine) run(ctx context.Context, c *cache) (int, error) {
	work, err := os.MkdirTemp(c.dir, ".run-")
	if err != nil {
		return 0, fmt.Errorf("make a work directory: %w", err)
	}
	defer os.RemoveAll(work)
	if m.consoleFile == "" {
		m.consoleFile = filepath.Join(work, "console")
	}
	for i, s := range m.shares {
		m.job.Mounts = append(m.job.Mounts, mount{Serial: fmt.Sprintf("share%d", i), Path: s.path})
	}
	initrd := filepath.Join(work, "initrd")
	if err := m.writeInitrd(initrd); err != nil {
		return 0, fmt.Errorf("make the initial file system: %w", err)
	}
	for attempt := 1; ; attempt++ {
		for i, s := range m.shares { // fresh ones for each attempt: a dead machine may have written
			if err := makeImage(ctx, s.dir, filepath.Join(work, fmt.Sprintf("share%d.ext4", i)), 256); err != nil {
				return 0, fmt.Errorf("copy %s for the guest: %w", s.dir, err)
			}
		}
		code, err := m.boot(ctx, work, initrd)
		if err == nil {
			return code, nil
		}
		console, _ := os.ReadFile(m.consoleFile)
		// kernel: with several CPUs under emulation it oopses now and then while it patches its text. What kills it each time is
		// no accident.
		accident := errors.Is(err, errDiedEarly) || errors.Is(err, errDied) && m.cpus > 1
		if accident && attempt < bootAttempts && ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "vmlab: %v (attempt %d of %d):\n%s\n", err, attempt, bootAttempts, tail(string(console), 4))
			continue
		}
		return 0, fmt.Errorf("kernel %s: %w\n--- end of the console\n%s", m.kernel.pkg, err, tail(string(console), 30))
	}
}

// boot runs the machine once.
func (m *machine) boot(ctx context.Context, work, initrd string) (int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, m.timeout, errTimeout)
	defer cancel()
	ctx, die := context.WithCancelCause(ctx)
	defer die(nil)

	args := []string{
		"-M", "q35,smm=off,vmport=off", "-cpu", cpuModel, "-smp", strconv.Itoa(m.cpus), "-m", strconv.Itoa(m.memMB),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none",
		"-chardev", "file,id=console,path=" + m.consoleFile, "-serial", "chardev:console",
		"-device", "virtio-serial-pci",
		"-kernel", m.kernel.vmlinuz, "-initrd", initrd, "-append", strings.TrimSpace(kernelArgs + " " + m.appendLine),
	}
	if m.icount {
		args = append(args, "-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off")
	} else {
		args = append(args, "-accel", "tcg,thread=multi")
	}
	disk := func(serial, image string, keep bool) {
		d := "if=none,format=raw,cache=unsafe,discard=unmap,id=" + serial + ",file=" + image
		if keep {
			d += ",snapshot=on"
		}
		args = append(args, "-drive", d, "-device", "virtio-blk-pci,drive="+serial+",serial="+serial)
	}
	disk("root", m.root, true)
	disk("modules", m.kernel.modules, true)
	for i := range m.shares {
		s := fmt.Sprintf("share%d", i)
		disk(s, filepath.Join(work, s+".ext4"), false)
	}

	// One pipe a port. QEMU opens its end anew through /proc, so the reader sees the end of file when QEMU is gone.
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64")
	var started, ended bool
	var code int
	ready := make(chan struct{})
	var wg sync.WaitGroup
	var outErr error
	readers := map[string]func(io.Reader) error{
		portStdout: func(r io.Reader) error { _, err := io.Copy(os.Stdout, r); return err },
		portStderr: func(r io.Reader) error { _, err := io.Copy(os.Stderr, r); return err },
		portFiles:  func(r io.Reader) error { outErr = m.takeFiles(r); _, err := io.Copy(io.Discard, r); return err },
		portState: func(r io.Reader) error {
			s := bufio.NewScanner(r)
			for s.Scan() {
				word, value, _ := strings.Cut(s.Text(), " ")
				switch word {
				case stateStarted:
					started = true
					close(ready)
				case stateEnded:
					n, err := strconv.Atoi(value)
					code, ended = n, err == nil
				}
			}
			return s.Err()
		},
	}
	var ends []*os.File
	for _, port := range ports {
		r, w, err := os.Pipe()
		if err != nil {
			return 0, err
		}
		fd := 3 + len(cmd.ExtraFiles)
		cmd.ExtraFiles = append(cmd.ExtraFiles, w)
		ends = append(ends, r, w)
		args = append(args, "-chardev", fmt.Sprintf("file,id=%s,path=/proc/self/fd/%d", port, fd),
			"-device", fmt.Sprintf("virtserialport,chardev=%s,name=%s", port, port))
		wg.Go(func() { _ = readers[port](r) }) // a broken pipe of ours ends the run by its exit status
	}
	cmd.Args = append(cmd.Args, args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+work) // snapshots go there
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	var said strings.Builder
	cmd.Stderr = &said
	if m.verbose {
		fmt.Fprintf(os.Stderr, "vmlab: %s\n", strings.Join(cmd.Args, " "))
	}
	begin := time.Now()
	err := cmd.Start()
	for i := 1; i < len(ends); i += 2 {
		_ = ends[i].Close()
	}
	if err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			err = fmt.Errorf("%w; run tools/setup.sh as root", err)
		}
		return 0, fmt.Errorf("start the machine: %w", err)
	}
	patience := bootTime
	if m.job.Systemd {
		patience = bootTimeSystemd
	}
	go func() {
		select {
		case <-ready:
			if m.verbose {
				fmt.Fprintf(os.Stderr, "vmlab: command started after %.1f s\n", time.Since(begin).Seconds())
			}
		case <-time.After(patience):
			die(errDiedEarly)
		case <-ctx.Done():
		}
	}()
	werr := cmd.Wait()
	wg.Wait()
	for i := 0; i < len(ends); i += 2 {
		_ = ends[i].Close()
	}
	switch {
	case ended:
		return code, outErr
	case context.Cause(ctx) != nil && !errors.Is(context.Cause(ctx), context.Canceled):
		return 0, context.Cause(ctx)
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case !started && werr != nil && said.Len() > 0:
		return 0, fmt.Errorf("run the machine: %w: %s", werr, tail(said.String(), 5))
	case !started:
		return 0, errDiedEarly
	}
	return 0, errDied
}

// takeFiles unpacks what the guest left in /out.
func (m *machine) takeFiles(r io.Reader) error {
	if m.outDir == "" {
		return nil
	}
	if err := os.MkdirAll(m.outDir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(m.outDir)
	if err != nil {
		return err
	}
	defer root.Close()
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("take files from the guest: %w", err)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(h.Name, 0o755)
		case tar.TypeReg:
			var f *os.File
			if f, err = root.OpenFile(h.Name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644); err == nil {
				_, err = io.Copy(f, t)
				err = errors.Join(err, f.Close())
			}
		}
		if err != nil {
			return fmt.Errorf("take %s from the guest: %w", h.Name, err)
		}
	}
}

// writeInitrd writes the initial file system: this program, the modules that it loads, and the job.
func (m *machine) writeInitrd(path string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if static, err := isStatic(self); err != nil || !static {
		return errors.Join(err, fmt.Errorf("%s needs libraries that the guest has not got; build it with CGO_ENABLED=0", self))
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := &cpioWriter{w: bufio.NewWriterSize(f, 1<<20)}
	program, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	w.file("init", 0o100755, program)
	w.file("modules", 0o040755, nil)
	for i, mod := range m.kernel.boot {
		data, err := os.ReadFile(mod)
		if err != nil {
			return err
		}
		w.file(fmt.Sprintf("modules/%02d-%s", i, filepath.Base(mod)), 0o100644, data)
	}
	text, err := json.Marshal(m.job)
	if err != nil {
		return err
	}
	w.file("job.json", 0o100644, text)
	w.file("TRAILER!!!", 0, nil)
	return errors.Join(w.err, w.w.Flush(), f.Close())
}

// isStatic says whether a program runs without a dynamic linker.
func isStatic(path string) (bool, error) {
	f, err := elf.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return false, nil
		}
	}
	return true, nil
}

// cpioWriter writes the "newc" archive that the kernel unpacks (Documentation/driver-api/early-userspace). It keeps the
// first error.
type cpioWriter struct {
	w     *bufio.Writer
	inode int
	err   error
}

func (c *cpioWriter) file(name string, mode int, data []byte) {
	c.inode++
	head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		c.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	c.write([]byte(head + name + "\x00"))
	c.pad(len(head) + len(name) + 1)
	c.write(data)
	c.pad(len(data))
}

func (c *cpioWriter) write(b []byte) {
	if c.err == nil {
		_, c.err = c.w.Write(b)
	}
}

func (c *cpioWriter) pad(n int) { c.write(make([]byte, (4-n%4)%4)) }
