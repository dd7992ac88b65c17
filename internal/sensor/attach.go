// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"tetragon/internal/policy/plan"
	"tetragon/internal/sensor/gen"
)

// attach makes a program run at its attach point. Programs for system calls are not attached: see dispatch.go.
func attach(a *plan.Attach, p *ebpf.Program) (link.Link, error) {
	l, err := attachTo(a, p)
	if err != nil {
		return nil, fmt.Errorf("attach %s: %w%s", pointOf(a), err, advice(a, err))
	}
	return l, nil
}

func attachTo(a *plan.Attach, p *ebpf.Program) (link.Link, error) {
	switch a.Backend {
	case plan.BackendLSM:
		return link.AttachLSM(link.LSMOptions{Program: p})
	case plan.BackendFentry, plan.BackendFexit, plan.BackendFmodRet:
		return link.AttachTracing(link.TracingOptions{Program: p})
	case plan.BackendKprobeMulti:
		cookies := make([]uint64, len(a.Symbols))
		for i := range cookies {
			cookies[i] = uint64(i)
		}
		return link.KprobeMulti(p, link.KprobeMultiOptions{Symbols: a.Symbols, Cookies: cookies})
	case plan.BackendKprobe:
		return link.Kprobe(a.Symbol, p, nil)
	case plan.BackendKretprobe:
		return link.Kretprobe(a.Symbol, p, nil)
	case plan.BackendRawTp, plan.BackendTp:
		return link.AttachRawTracepoint(link.RawTracepointOptions{Name: a.Symbol, Program: p})
	case plan.BackendTracepoint:
		subsys, event, ok := strings.Cut(a.Symbol, "/")
		if !ok {
			return nil, fmt.Errorf("%q is no subsystem and event", a.Symbol)
		}
		return link.Tracepoint(subsys, event, p, nil)
	}
	if at, ok := gen.CgroupAttach(a.Backend); ok {
		return attachCgroup(p, at)
	}
	return nil, fmt.Errorf("no way is known for back-end %s", a.Backend)
}

// pointOf names an attach point for people.
func pointOf(a *plan.Attach) string {
	switch {
	case a.Backend == plan.BackendKprobeMulti:
		return fmt.Sprintf("%s to %d functions (%s, ...)", a.Backend, len(a.Symbols), first(a.Symbols))
	case a.Backend == plan.BackendSysEnter || a.Backend == plan.BackendSysExit:
		var calls []string
		for _, c := range a.Calls {
			calls = append(calls, fmt.Sprintf("%s/%d", c.ABI, c.Nr))
		}
		return fmt.Sprintf("%s of calls %s", a.Backend, strings.Join(calls, ", "))
	case a.Backend.Cgroup():
		return fmt.Sprintf("%s to the root of the cgroups", a.Backend)
	}
	if a.User != nil {
		return fmt.Sprintf("%s to %s", a.Backend, a.User)
	}
	return fmt.Sprintf("%s to %s", a.Backend, a.Symbol)
}

func first(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

// trampolines is how many programs one function takes, whoever attached them. kernel: BPF_MAX_TRAMP_LINKS, 5.5 to 6.18
const trampolines = 38

// advice says what an error means here, and what helps.
func advice(a *plan.Attach, err error) string {
	fn := false
	switch a.Backend {
	case plan.BackendFentry, plan.BackendFexit, plan.BackendFmodRet, plan.BackendLSM:
		fn = true
	}
	switch {
	case fn && errors.Is(err, unix.E2BIG):
		return fmt.Sprintf("; a function takes %d programs, counted over all programs of this machine: others than this agent have the rest, see `bpftool link`", trampolines)
	case fn && errors.Is(err, unix.EBUSY):
		return "; something else has changed this function, such as a kernel live patch"
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return "; the kernel denies it: it is locked down, or the agent lacks CAP_BPF, CAP_PERFMON or CAP_NET_ADMIN"
	case errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH):
		return "; the running kernel has no such attach point, or does not let programs run there"
	}
	return ""
}

// attachCgroup attaches to the root of the unified hierarchy, so that it holds for all cgroups. Programs that others have
// there, or below, go on.
func attachCgroup(p *ebpf.Program, t ebpf.AttachType) (link.Link, error) {
	root, err := cgroupRoot("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return link.AttachCgroup(link.CgroupOptions{Path: root, Attach: t, Program: p})
}

// cgroupRoot finds where the unified hierarchy of cgroups is mounted: its root if that can be seen from here.
func cgroupRoot(mountinfo string) (string, error) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return "", fmt.Errorf("find the cgroup hierarchy: %w", err)
	}
	defer f.Close()
	best, bestRoot := "", ""
	for s := bufio.NewScanner(f); s.Scan(); {
		// 35 24 0:30 /root /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw
		left, right, ok := strings.Cut(s.Text(), " - ")
		fields := strings.Fields(left)
		if !ok || len(fields) < 5 || !strings.HasPrefix(right, "cgroup2 ") {
			continue
		}
		if root := fields[3]; best == "" || root == "/" && bestRoot != "/" {
			best, bestRoot = unescape(fields[4]), root
		}
	}
	if best == "" {
		return "", errors.New("no cgroup2 file system is mounted; mount one")
	}
	return best, nil
}

// unescape undoes what the kernel does to blanks in mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
