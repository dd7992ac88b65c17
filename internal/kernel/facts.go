// SPDX-License-Identifier: Apache-2.0

// Package kernel knows facts about the running kernel: what it can do, and where containers are named.
//
// sensor asks it before it loads anything; the daemon reports what is missing, with the reason.
//
// Not here: loading and attaching (sensor).
//
// Facts are read once and do not change. Safe for concurrent use.
package kernel

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// Options say where to look. The zero value is the running system.
type Options struct {
	Procfs string // /proc when empty
	BTF    string // kernel types; found by themselves when empty
}

// Facts are what is known of the kernel.
type Facts struct {
	Release string
	CPUs    int
	Types   *btf.Spec  // decoded as they are asked for
	Cache   *btf.Cache // holds Types, for loading programs; nil when they come from a file

	Cgroups Cgroups
	Cgroup2 string // where the unified hierarchy is mounted; empty: nowhere

	procfs string
	hooks  hookFacts
	// Missing says what this kernel lacks or denies, and what follows, one sentence each.
	Missing []string
}

// Cgroups says which hierarchy names containers.
type Cgroups struct {
	Mode      string // "v2", "v1", "hybrid", "none"
	Subsys    int32  // index of the controller in css_set.subsys; -1 for the unified hierarchy
	Hierarchy int32  // id of the hierarchy; 0 for the unified one
}

// Read finds the facts. It fails only where the agent would be useless; the error says what to do.
func Read(o Options) (*Facts, error) {
	if o.Procfs == "" {
		o.Procfs = "/proc"
	}
	if err := mayLoad(); err != nil {
		return nil, err
	}
	f := &Facts{CPUs: possibleCPUs(), procfs: o.Procfs, Cgroup2: cgroup2Mount(o.Procfs)}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		f.Release = unix.ByteSliceToString(u.Release[:])
	}
	var err error
	if o.BTF != "" {
		f.Types, err = btf.LoadSpec(o.BTF)
	} else {
		// Through the cache, so that loading programs does not decode the types a second time.
		f.Cache = btf.NewCache()
		f.Types, err = f.Cache.Kernel()
	}
	if err != nil {
		return nil, fmt.Errorf("read the types of kernel %s: %w; boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, or name a BTF file for it with --btf", f.Release, err)
	}
	var controller string
	f.Cgroups, controller = readCgroups(o.Procfs)
	if i, ok := f.controllerIndex(controller); ok {
		f.Cgroups.Subsys = i
	}
	if f.Cgroups.Mode == "none" {
		f.Missing = append(f.Missing, "no cgroup hierarchy is mounted or known: events name no containers")
	}
	return f, nil
}

// mayLoad tests for the two things without which nothing works.
func mayLoad() error {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&h, &d[0]); err != nil {
		return fmt.Errorf("read own capabilities: %w", err)
	}
	has := func(c uint) bool { return d[c/32].Effective&(1<<(c%32)) != 0 }
	if !has(unix.CAP_SYS_ADMIN) && !(has(unix.CAP_BPF) && has(unix.CAP_PERFMON)) {
		return errors.New("load BPF programs: not permitted; run as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE")
	}
	return nil
}

// KernelRelease is the kernel's release.
func (f *Facts) KernelRelease() string { return f.Release }

// HasTracepoint says whether the kernel has a BTF tracepoint of that name.
func (f *Facts) HasTracepoint(name string) bool {
	_, err := f.Types.AnyTypeByName("btf_trace_" + name)
	return err == nil
}

// HasType says whether the kernel's types hold one of that name.
func (f *Facts) HasType(name string) bool {
	_, err := f.Types.AnyTypeByName(name)
	return err == nil
}

// possibleCPUs counts the CPUs that there can be, which is what per-CPU maps are sized by.
func possibleCPUs() int {
	if b, err := os.ReadFile("/sys/devices/system/cpu/possible"); err == nil {
		if n := countCPUs(string(b)); n > 0 {
			return n
		}
	}
	return runtime.NumCPU()
}

// countCPUs counts a list as the kernel writes it: "0-3,8". It returns 0 for what is none.
func countCPUs(list string) int {
	n := 0
	for _, r := range strings.Split(strings.TrimSpace(list), ",") {
		lo, hi, isRange := strings.Cut(r, "-")
		if !isRange {
			hi = lo
		}
		a, err := strconv.ParseUint(lo, 10, 16)
		b, err2 := strconv.ParseUint(hi, 10, 16)
		if err != nil || err2 != nil || b < a {
			return 0
		}
		n += int(b - a + 1)
	}
	return n
}

// readCgroups decides which hierarchy names containers: the unified one, unless controllers are bound to others, as on
// v1 and hybrid hosts, where runtimes name their cgroups in every hierarchy but maybe not in the unified one. It also
// names the controller that it took.
func readCgroups(procfs string) (Cgroups, string) {
	type row struct{ index, hierarchy int32 }
	rows := make(map[string]row)
	f, err := os.Open(filepath.Join(procfs, "cgroups"))
	if err != nil {
		return Cgroups{Mode: "v2", Subsys: -1}, "" // a kernel without it has only the unified hierarchy
	}
	defer f.Close()
	i := int32(0)
	for s := bufio.NewScanner(f); s.Scan(); {
		w := strings.Fields(s.Text())
		if len(w) < 4 || strings.HasPrefix(w[0], "#") {
			continue
		}
		h, err := strconv.ParseInt(w[1], 10, 32)
		if err != nil {
			continue
		}
		// The file lists the controllers in the order of their index. Newer kernels leave out those that are built
		// without v1, so the index is only a guess where the kernel's types do not tell it.
		rows[w[0]] = row{i, int32(h)}
		i++
	}
	unified := hasCgroup2(procfs)
	for _, name := range []string{"memory", "pids", "cpuset", "cpu", "devices"} {
		if r, ok := rows[name]; ok && r.hierarchy != 0 {
			mode := "v1"
			if unified {
				mode = "hybrid"
			}
			return Cgroups{Mode: mode, Subsys: r.index, Hierarchy: r.hierarchy}, name
		}
	}
	if len(rows) == 0 && !unified {
		return Cgroups{Mode: "none", Subsys: -1}, ""
	}
	return Cgroups{Mode: "v2", Subsys: -1}, ""
}

// controllerIndex finds the index of a controller in the kernel's types (enum cgroup_subsys_id).
func (f *Facts) controllerIndex(name string) (int32, bool) {
	var ids *btf.Enum
	if name == "" || f.Types.TypeByName("cgroup_subsys_id", &ids) != nil {
		return 0, false
	}
	for _, v := range ids.Values {
		if v.Name == name+"_cgrp_id" {
			return int32(v.Value), true
		}
	}
	return 0, false
}

func hasCgroup2(procfs string) bool { return cgroup2Mount(procfs) != "" }

// cgroup2Mount finds where the unified hierarchy is mounted whole.
func cgroup2Mount(procfs string) string {
	b, err := os.ReadFile(filepath.Join(procfs, "self/mountinfo"))
	if err != nil {
		return ""
	}
	for _, line := range strings.Split(string(b), "\n") {
		if w := strings.Fields(line); len(w) > 4 && strings.Contains(line, " - cgroup2 ") {
			return w[4]
		}
	}
	return ""
}
