// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
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
		"lsm":                func() error { return attaches(ebpf.AttachLSMMac, "file_open") },
		"cgroup2":            func() error { return exists("/sys/fs/cgroup/cgroup.controllers") },

		// Of the machine rather than the kernel.
		"root":      needRoot,
		"throwaway": needThrowaway,
		"alice":     needAlice,
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

func hasTypedef(name string) error {
	var t *btf.Typedef
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

// attaches tries to attach a program that does nothing.
func attaches(kind ebpf.AttachType, to string) error {
	typ := ebpf.Tracing
	if kind == ebpf.AttachLSMMac {
		typ = ebpf.LSM
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "scenario_probe", Type: typ, AttachType: kind, AttachTo: to, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errMissing, err)
	}
	defer p.Close()
	var l link.Link
	if typ == ebpf.LSM {
		l, err = link.AttachLSM(link.LSMOptions{Program: p})
	} else {
		l, err = link.AttachTracing(link.TracingOptions{Program: p})
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errMissing, err)
	}
	return l.Close()
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
