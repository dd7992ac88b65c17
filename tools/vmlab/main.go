// SPDX-License-Identifier: Apache-2.0

// Command vmlab runs a command as root inside a throw-away virtual machine with a stock Debian kernel.
//
//	go run ./tools/vmlab run --kernel 6.12 --share bin:/lab -- /lab/scenario.test -test.v
//	go run ./tools/vmlab prepare --kernel 6.1
//
// The machine is QEMU in software emulation, so that it needs no virtualisation of its host. Kernel packages come from
// apt, the root image from debootstrap; both are kept in ${TETRAGON_VM_CACHE:-~/.cache/tetragon/vm} under names that
// hold what they were made from. Directories go in by --share (copied, writable, thrown away), what the command leaves
// in /out comes back by --out, and the command's output and exit status become those of vmlab. 125 says that the lab
// could not do its part, 124 that the time was over.
//
// With --systemd the root image has systemd in it, which is process 1, and the command is run as a service of it.
//
// vmlab is its own guest: started as process 1 it mounts what the command needs, runs it, and reports (guest.go).
//
// Two runs at once are safe: what is shared is made under a lock and never changed after.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Exit codes of vmlab itself, after those of env(1) and timeout(1).
const (
	exitTimeout = 124
	exitLab     = 125
)

// errTimeout says that the command did not end in time.
var errTimeout = errors.New("the time is over; give more with --timeout")

type listFlag []string

func (l *listFlag) String() string     { return strings.Join(*l, ",") }
func (l *listFlag) Set(s string) error { *l = append(*l, s); return nil }

func main() {
	if os.Getpid() == 1 || os.Args[0] == guestInit {
		guestMain()
		return
	}
	code, err := hostMain(os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "vmlab: %v\n", err)
	}
	os.Exit(code)
}

func hostMain(args []string) (int, error) {
	if len(args) == 0 || (args[0] != "run" && args[0] != "prepare") {
		return 2, errors.New("usage: vmlab run [flags] -- COMMAND [ARG...] | vmlab prepare [flags]")
	}
	verb := args[0]
	m := machine{}
	var shares, env listFlag
	var name string
	fs := flag.NewFlagSet("vmlab "+verb, flag.ContinueOnError)
	fs.StringVar(&name, "kernel", "6.12", "kernel of test/kernels.txt")
	matrix := fs.String("kernels", "test/kernels.txt", "the kernel matrix")
	systemd := fs.Bool("systemd", false, "boot systemd, and run the command as a service of it")
	fs.BoolVar(&m.icount, "icount", false, "count instructions: one guest nanosecond is one guest instruction")
	fs.IntVar(&m.cpus, "smp", 1, "CPUs; with more than one a guest kernel may oops under emulation while it patches its text")
	fs.IntVar(&m.memMB, "mem", 2048, "memory in MB")
	fs.Var(&shares, "share", "DIR:/path, copied into the guest; repeatable")
	fs.Var(&env, "env", "KEY=VALUE for the command; repeatable")
	fs.StringVar(&m.outDir, "out", "", "directory for what the command leaves in /out")
	fs.StringVar(&m.consoleFile, "console", "", "keep the kernel's console in this file")
	fs.StringVar(&m.appendLine, "append", "", "more kernel arguments")
	fs.DurationVar(&m.timeout, "timeout", 10*time.Minute, "time for one boot and the command")
	fs.BoolVar(&m.verbose, "v", false, "say what is done")
	if err := fs.Parse(args[1:]); err != nil {
		return 2, nil // flag has said why
	}
	if m.icount && m.cpus != 1 {
		return 2, errors.New("--icount needs --smp 1: instructions are counted by one thread")
	}
	if runtime.GOARCH != "amd64" {
		return exitLab, fmt.Errorf("boot a machine on %s: only amd64 is supported", runtime.GOARCH)
	}
	for _, s := range shares {
		dir, path, ok := strings.Cut(s, ":")
		if !ok || !strings.HasPrefix(path, "/") {
			return 2, fmt.Errorf("--share %s: want DIR:/path", s)
		}
		m.shares = append(m.shares, share{dir: dir, path: path})
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c, err := openCache()
	if err != nil {
		return exitLab, err
	}
	if m.kernel, m.root, err = c.prepare(ctx, *matrix, name, *systemd); err != nil {
		return exitLab, err
	}
	if verb == "prepare" {
		return 0, nil
	}
	if fs.NArg() == 0 {
		return 2, errors.New("no command: vmlab run [flags] -- COMMAND [ARG...]")
	}
	m.job = job{Args: fs.Args(), Env: env, Systemd: *systemd}
	code, err := m.run(ctx, c)
	switch {
	case errors.Is(err, errTimeout):
		return exitTimeout, err
	case err != nil:
		return exitLab, err
	}
	return code, nil
}
