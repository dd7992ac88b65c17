// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// errMissing is what a probe returns, wrapped with what it saw, when the feature is not there.
var errMissing = errors.New("not there")

// features are what a script can need. A probe looks at the thing itself and never at a version.
func probes() map[string]func() error {
	return map[string]func() error{
		"btf":                func() error { return exists("/sys/kernel/btf/vmlinux") },
		"tp_btf":             func() error { return hasTypedef("btf_trace_sched_process_exec") },
		"sched_prepare_exec": func() error { return hasTypedef("btf_trace_sched_prepare_exec") },
		"iter_task":          func() error { return hasStruct("bpf_iter__task") },
		"task_storage":       func() error { return features.HaveMapType(ebpf.TaskStorage) },
		"kprobe":             func() error { return exists("/sys/bus/event_source/devices/kprobe/type") },
		"fentry":             func() error { return attaches(ebpf.AttachTraceFEntry, "security_file_open") },
		"fexit":              func() error { return attaches(ebpf.AttachTraceFExit, "security_file_open") },
		"lsm":                func() error { return attaches(ebpf.AttachLSMMac, "file_open") },
		"override":           func() error { return attaches(ebpf.AttachModifyReturn, "__x64_sys_sethostname") },
		"verity":             func() error { return hasFunc("bpf_get_fsverity_digest") },
		"ima":                func() error { return exists("/sys/kernel/security/ima") },
		"kprobe_multi":       attachesMulti,
		"raw_tp":             attachesRawTracepoint,
		"tracepoint":         attachesTracepoint,
		"sock_ops":           attachesSockOps,
		"perf_mmap":          tellsMappings,
		"uprobe":             hooksUserPrograms,
		"uprobe_multi":       features.HaveBPFLinkUprobeMulti,
		"write_user":         writesUser,
		"modules":            func() error { return exists("/proc/modules") },
		"compat32":           callsCompat,
		"cgroup2":            func() error { return exists("/sys/fs/cgroup/cgroup.controllers") },

		// Of the machine rather than the kernel.
		"root":      needRoot,
		"throwaway": needThrowaway,
		"alice":     needAlice,
		"corpus":    needCorpus,
		"bash":      func() error { return hasProgram("bash") },
		"bpftool":   func() error { return hasProgram("bpftool") },
		"busybox":   func() error { return hasProgram("busybox") },
		"curl":      func() error { return hasProgram("curl") },
		"iptables":  func() error { return hasProgram("iptables-legacy") },
		"setcap":    func() error { return hasProgram("setcap") },
		"sshd":      func() error { return hasProgram("sshd") },
	}
}

func exists(path string) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%w: %w", errMissing, err)
	}
	return nil
}

func needRoot() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: not root", errMissing)
	}
	return nil
}

// needThrowaway says whether scripts may do to the machine what they like: unmount file systems, add groups.
func needThrowaway() error {
	if os.Getenv(envKernel) == hostRow || os.Getenv(envKernel) == "" {
		return fmt.Errorf("%w: this machine is somebody's", errMissing)
	}
	return nil
}

// needAlice asks for a user who may become root by sudo without a password.
func needAlice() error {
	if _, err := user.Lookup("alice"); err != nil {
		return fmt.Errorf("%w: %w", errMissing, err)
	}
	return nil
}

// needCorpus asks for the policies that the user's document names. They are not in the tree.
func needCorpus() error {
	dir := os.Getenv(envCorpus)
	if dir == "" {
		return fmt.Errorf("%w: %s is not set", errMissing, envCorpus)
	}
	return exists(dir)
}

// hooksUserPrograms asks for uprobes.
func hooksUserPrograms() error {
	return exists("/sys/bus/event_source/devices/uprobe/format/ref_ctr_offset")
}

// writesUser asks whether programs may write into the memory of processes.
func writesUser() error {
	if err := features.HaveProgramHelper(ebpf.Kprobe, asm.FnProbeWriteUser); err != nil {
		return fmt.Errorf("%w: %w", errMissing, err)
	}
	return nil
}

func hasProgram(name string) error {
	if _, err := exec.LookPath(name); err != nil {
		return fmt.Errorf("%w: %w", errMissing, err)
	}
	return nil
}

func hasTypedef(name string) error {
	var t *btf.Typedef
	return hasType(name, &t)
}

func hasFunc(name string) error {
	var t *btf.Func
	return hasType(name, &t)
}

func hasStruct(name string) error {
	var t *btf.Struct
	return hasType(name, &t)
}

func hasType(name string, t any) error {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return fmt.Errorf("%w: %w", errMissing, err)
	}
	if err := spec.TypeByName(name, t); err != nil {
		return fmt.Errorf("%w: %w", errMissing, err)
	}
	return nil
}

// load loads a program that does nothing.
func load(s ebpf.ProgramSpec) (*ebpf.Program, error) {
	s.Name, s.License = "scenario_probe", "GPL"
	s.Instructions = asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}
	p, err := ebpf.NewProgram(&s)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMissing, err)
	}
	return p, nil
}

// tried ends a probe.
func tried(l link.Link, err error) error {
	if err != nil {
		return fmt.Errorf("%w: %w", errMissing, err)
	}
	return l.Close()
}

// attaches tries to attach a program that does nothing.
func attaches(kind ebpf.AttachType, to string) error {
	typ := ebpf.Tracing
	if kind == ebpf.AttachLSMMac {
		typ = ebpf.LSM
	}
	p, err := load(ebpf.ProgramSpec{Type: typ, AttachType: kind, AttachTo: to})
	if err != nil {
		return err
	}
	defer p.Close()
	if typ == ebpf.LSM {
		return tried(link.AttachLSM(link.LSMOptions{Program: p}))
	}
	return tried(link.AttachTracing(link.TracingOptions{Program: p}))
}

func attachesMulti() error {
	p, err := load(ebpf.ProgramSpec{Type: ebpf.Kprobe, AttachType: ebpf.AttachTraceKprobeMulti})
	if err != nil {
		return err
	}
	defer p.Close()
	return tried(link.KprobeMulti(p, link.KprobeMultiOptions{Symbols: []string{"security_file_open"}}))
}

func attachesRawTracepoint() error {
	p, err := load(ebpf.ProgramSpec{Type: ebpf.RawTracepoint})
	if err != nil {
		return err
	}
	defer p.Close()
	return tried(link.AttachRawTracepoint(link.RawTracepointOptions{Name: "sched_process_exec", Program: p}))
}

// attachesTracepoint asks for a tracepoint with its record, for which tracefs must be readable.
func attachesTracepoint() error {
	p, err := load(ebpf.ProgramSpec{Type: ebpf.TracePoint})
	if err != nil {
		return err
	}
	defer p.Close()
	return tried(link.Tracepoint("sched", "sched_process_exec", p, nil))
}

func attachesSockOps() error {
	root, err := cgroup2()
	if err != nil {
		return err
	}
	p, err := load(ebpf.ProgramSpec{Type: ebpf.SockOps, AttachType: ebpf.AttachCGroupSockOps})
	if err != nil {
		return err
	}
	defer p.Close()
	return tried(link.AttachCgroup(link.CgroupOptions{Path: root, Attach: ebpf.AttachCGroupSockOps, Program: p}))
}

// cgroup2 gives where a cgroup v2 hierarchy is mounted, also beside others.
func cgroup2() (string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("%w: %w", errMissing, err)
	}
	for line := range strings.Lines(string(text)) {
		w := strings.Fields(line)
		if len(w) > 5 && strings.Contains(line, " - cgroup2 ") {
			return w[4], nil
		}
	}
	return "", fmt.Errorf("%w: no cgroup v2 hierarchy is mounted", errMissing)
}

// tellsMappings opens what the loader reads.
func tellsMappings() error {
	attr := unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_DUMMY, Size: unix.PERF_ATTR_SIZE_VER7,
		Bits: unix.PerfBitDisabled | unix.PerfBitMmap | unix.PerfBitMmap2 | 1<<34, // build_id
	}
	fd, err := unix.PerfEventOpen(&attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("%w: %w", errMissing, err)
	}
	return unix.Close(fd)
}

// callsCompat asks the victim, which dies of a 32-bit system call that the kernel does not have.
func callsCompat() error {
	if out, err := exec.Command(os.Getenv(envVictim), "compat", "20").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %w: %.100s", errMissing, err, out)
	}
	return nil
}

// facts answers what this machine has, each probe run once. For use by one goroutine.
type facts struct {
	known    map[string]error
	promised map[string]bool // by the matrix
}

// newFacts reads the row of the matrix. Without a row nothing is promised.
func newFacts(matrix, row string) (*facts, error) {
	f := &facts{known: map[string]error{}, promised: map[string]bool{}}
	if row == "" {
		return f, nil
	}
	text, err := os.ReadFile(matrix)
	if err != nil {
		return nil, fmt.Errorf("read the kernel matrix: %w", err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		w := strings.Fields(line)
		if len(w) < 2 || w[0] != row {
			continue
		}
		for _, name := range w[2:] {
			if probes()[name] == nil {
				return nil, fmt.Errorf("%s: kernel %s: %w", matrix, row, unknownFeature(name))
			}
			f.promised[name] = true
		}
		return f, nil
	}
	return nil, fmt.Errorf("%s: no kernel %q", matrix, row)
}

func unknownFeature(name string) error {
	return fmt.Errorf("unknown feature %q: there are %s", name, strings.Join(slices.Sorted(maps.Keys(probes())), ", "))
}

// lacks gives why a feature is not there, or nil. broken is set when it should be, by the matrix.
func (f *facts) lacks(name string) (missing, broken error) {
	probe := probes()[name]
	if probe == nil {
		return nil, unknownFeature(name)
	}
	err, ok := f.known[name]
	if !ok {
		err = probe()
		f.known[name] = err
	}
	if err != nil && f.promised[name] {
		return err, fmt.Errorf("test/kernels.txt says that this kernel has %s: %w", name, err)
	}
	return err, nil
}
