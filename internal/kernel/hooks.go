// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"

	"tetragon/internal/nearest"
)

// Feature is a way of running programs that a kernel has or has not.
type Feature string

// Features. A kernel that has none of the first four is served by equivalents.
const (
	Fentry      Feature = "fentry"           // trampolines at the entry and the exit of functions
	Kprobe      Feature = "kprobe"           // breakpoints in functions
	KprobeMulti Feature = "kprobe.multi"     // one program on many functions
	Tracepoint  Feature = "tracepoint"       // tracepoints with their records
	Modules     Feature = "modules"          // loadable modules
	Cgroup2     Feature = "cgroup2"          // programs at the root of the unified hierarchy
	FmodRet     Feature = "fmod_ret"         // trampolines that return in the place of a function
	FmodCall    Feature = "fmod_ret.syscall" // ... of a system call
	BpfLSM      Feature = "lsm"              // programs among the security modules
	Uprobe      Feature = "uprobe"           // breakpoints in user programs
	UprobeMulti Feature = "uprobe.multi"     // one link for many of them
	ImaHash     Feature = "ima"              // hashes of files, for programs among the security modules
	LsmSleep    Feature = "lsm.sleep"        // such a program runs for every call, also while another call of it sleeps
	Verity      Feature = "verity"           // digests of fs-verity, for programs among the security modules
	WriteUser   Feature = "probe_write_user" // programs may write into the memory of processes
)

// AllFeatures lists them, in the order in which they are preferred.
var AllFeatures = []Feature{Fentry, Kprobe, KprobeMulti, Tracepoint, Modules, Cgroup2, FmodRet, FmodCall, BpfLSM, Uprobe, UprobeMulti, ImaHash, LsmSleep, Verity, WriteUser}

// hookFacts are what is found out when a policy asks for it, once.
type hookFacts struct {
	mu       sync.Mutex
	features map[Feature]string // why not; empty: it has it
	funcs    map[string]bool    // functions that can be traced; nil: not known
	modules  map[string]string  // likewise of modules: function -> module
	order    []string
	asked    bool
}

// Lacks says why the kernel has no such feature; empty: it has it. Each is tried once.
func (f *Facts) Lacks(x Feature) string {
	f.hooks.mu.Lock()
	defer f.hooks.mu.Unlock()
	if why, ok := f.hooks.features[x]; ok {
		return why
	}
	if f.hooks.features == nil {
		f.hooks.features = make(map[Feature]string)
	}
	why := f.try(x)
	f.hooks.features[x] = why
	return why
}

// probed is a function that every kernel has and that programs may be attached to.
const probed = "security_file_open"

// probedCall is a system call that is seldom made.
const probedCall = "__x64_sys_sethostname"

func (f *Facts) try(x Feature) string {
	switch x {
	case Fentry:
		p, err := ebpf.NewProgramWithOptions(&ebpf.ProgramSpec{
			Name: "probe", Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFEntry, AttachTo: probed, License: "GPL",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
		}, ebpf.ProgramOptions{KernelTypes: f.Types})
		if err != nil {
			return "the kernel refuses trampoline programs: " + cause(err)
		}
		defer p.Close()
		l, err := link.AttachTracing(link.TracingOptions{Program: p})
		if err != nil {
			return "the kernel attaches no trampoline programs: " + cause(err)
		}
		_ = l.Close()
	case FmodRet, FmodCall:
		to, what := probed, "a function"
		if x == FmodCall {
			to, what = probedCall, "a system call (CONFIG_FUNCTION_ERROR_INJECTION)"
		}
		// It returns 0: the function goes on.
		p, err := ebpf.NewProgramWithOptions(&ebpf.ProgramSpec{
			Name: "probe", Type: ebpf.Tracing, AttachType: ebpf.AttachModifyReturn, AttachTo: to, License: "GPL",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
		}, ebpf.ProgramOptions{KernelTypes: f.Types})
		if err != nil {
			return "the kernel refuses programs that return in the place of " + what + ": " + cause(err)
		}
		defer p.Close()
		l, err := link.AttachTracing(link.TracingOptions{Program: p})
		if err != nil {
			return "the kernel attaches no programs that return in the place of " + what + ": " + cause(err)
		}
		_ = l.Close()
	case BpfLSM:
		return f.tryLSM()
	case Kprobe:
		if _, err := os.Stat("/sys/bus/event_source/devices/kprobe/type"); err != nil {
			return "the kernel is built without kprobes (CONFIG_KPROBES)"
		}
	case KprobeMulti:
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Name: "probe", Type: ebpf.Kprobe, AttachType: ebpf.AttachTraceKprobeMulti, License: "GPL",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
		})
		if err != nil {
			return "the kernel has no kprobe.multi programs: " + cause(err)
		}
		defer p.Close()
		l, err := link.KprobeMulti(p, link.KprobeMultiOptions{Symbols: []string{probed}})
		if err != nil {
			return "the kernel attaches no kprobe.multi programs (CONFIG_FPROBE): " + cause(err)
		}
		_ = l.Close()
	case Tracepoint:
		if tracefs() == "" {
			return "tracefs is not mounted (at /sys/kernel/tracing or /sys/kernel/debug/tracing)"
		}
	case Modules:
		if _, err := os.Stat("/proc/modules"); err != nil {
			return "the kernel has no loadable modules (CONFIG_MODULES)"
		}
	case Cgroup2:
		if f.Cgroup2 == "" {
			return "the unified cgroup hierarchy is not mounted"
		}
	case Uprobe:
		if _, err := os.Stat("/sys/bus/event_source/devices/uprobe/format/ref_ctr_offset"); err != nil {
			return "the kernel is built without uprobes (CONFIG_UPROBE_EVENTS)"
		}
	case UprobeMulti:
		if err := features.HaveBPFLinkUprobeMulti(); err != nil {
			return "the kernel has no uprobe.multi links (6.6 and later have): " + cause(err)
		}
	case ImaHash:
		return f.tryHash()
	case LsmSleep:
		return f.tryLsmSleep()
	case Verity:
		return f.tryVerity()
	case WriteUser:
		// The kernel says in its log that there is a program that can: it is loaded when somebody asks, never before.
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Name: "probe", Type: ebpf.Kprobe, License: "GPL",
			Instructions: asm.Instructions{
				asm.StoreImm(asm.R10, -8, 0, asm.Word), asm.Mov.Imm(asm.R1, 0), asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, -8),
				asm.Mov.Imm(asm.R3, 4), asm.FnProbeWriteUser.Call(), asm.Mov.Imm(asm.R0, 0), asm.Return(),
			},
		})
		if err != nil {
			return "the kernel lets no program write into the memory of processes: " + cause(err)
		}
		_ = p.Close()
	default:
		return "nobody knows how to find out"
	}
	return ""
}

// tryLSM finds out whether programs among the security modules are asked: one can be attached also where they are not.
func (f *Facts) tryLSM() string {
	active, err := os.ReadFile("/sys/kernel/security/lsm")
	switch {
	case err != nil:
		return "it cannot be told whether bpf is among the active security modules: " + cause(err) + "; mount securityfs at /sys/kernel/security"
	case !slices.Contains(strings.Split(strings.TrimSpace(string(active)), ","), "bpf"):
		return "bpf is not among the active security modules (" + strings.TrimSpace(string(active)) + "); boot with lsm=...,bpf"
	}
	p, err := ebpf.NewProgramWithOptions(&ebpf.ProgramSpec{
		Name: "probe", Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: "file_open", License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	}, ebpf.ProgramOptions{KernelTypes: f.Types})
	if err != nil {
		return "the kernel refuses programs among the security modules: " + cause(err)
	}
	defer p.Close()
	l, err := link.AttachLSM(link.LSMOptions{Program: p})
	if err != nil {
		return "the kernel attaches no programs among the security modules: " + cause(err)
	}
	_ = l.Close()
	return ""
}

// omitted is what an error of the verifier says of its log.
var omitted = regexp.MustCompile(` \(\d+ line\(s\) omitted\)`)

// cause is the innermost error, which says it shortest.
func cause(err error) string {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			s, _, _ := strings.Cut(err.Error(), "\n")
			return omitted.ReplaceAllString(s, "")
		}
		err = next
	}
}

// tracefs says where it is mounted; empty if nowhere.
func tracefs() string {
	for _, d := range []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"} {
		if _, err := os.Stat(filepath.Join(d, "events")); err == nil {
			return d
		}
	}
	return ""
}

// Traceable says whether a function is among those that the kernel lets be traced; true where it does not tell.
func (f *Facts) Traceable(name string) bool {
	f.listFunctions()
	return f.hooks.funcs == nil || f.hooks.funcs[name] || f.hooks.modules[name] != ""
}

// moduleOf is the module that has a function; empty if none is known to.
func (f *Facts) moduleOf(name string) string {
	f.listFunctions()
	return f.hooks.modules[name]
}

// Functions lists the functions of the kernel itself that can be traced and whose names match, sorted; it fails where the
// kernel does not tell.
func (f *Facts) Functions(pattern *regexp.Regexp) ([]string, error) {
	f.listFunctions()
	if f.hooks.funcs == nil {
		return nil, errNoFunctions
	}
	var out []string
	for _, n := range f.hooks.order {
		if pattern.MatchString(n) {
			out = append(out, n)
		}
	}
	return out, nil
}

func (f *Facts) listFunctions() {
	f.hooks.mu.Lock()
	defer f.hooks.mu.Unlock()
	if f.hooks.asked {
		return
	}
	f.hooks.asked = true
	dir := tracefs()
	if dir == "" {
		return
	}
	b, err := os.ReadFile(filepath.Join(dir, "available_filter_functions"))
	if err != nil || len(b) == 0 {
		return
	}
	f.hooks.funcs, f.hooks.modules = make(map[string]bool), make(map[string]string)
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		name, module, _ := strings.Cut(s.Text(), " ")
		if module != "" {
			f.hooks.modules[name] = strings.Trim(module, "[]")
			continue
		}
		if !f.hooks.funcs[name] {
			f.hooks.order = append(f.hooks.order, name)
		}
		f.hooks.funcs[name] = true
	}
	slices.Sort(f.hooks.order)
}

// Field is a field of a tracepoint's record.
type Field struct {
	Name    string
	Type    string // as its format writes it, without the name: "unsigned int", "char[16]", "__data_loc char[]"
	Off     int
	Size    int
	Signed  bool
	Elems   int // elements of an array; 0: it is none
	DataLoc bool
}

// Format is what a tracepoint's record looks like.
type Format struct {
	ID     int
	Fields []Field // all of them, also the common ones
}

// Format reads the format of a tracepoint's record.
func (f *Facts) Format(subsystem, event string) (*Format, error) {
	if strings.ContainsAny(subsystem+event, "/.") {
		return nil, fmt.Errorf("%s/%s is no name of a tracepoint", subsystem, event)
	}
	dir := tracefs()
	if dir == "" {
		return nil, errors.New(f.Lacks(Tracepoint))
	}
	b, err := os.ReadFile(filepath.Join(dir, "events", subsystem, event, "format"))
	if err != nil {
		files, _ := filepath.Glob(filepath.Join(dir, "events", "*", "*", "format"))
		for i, file := range files {
			at := filepath.Dir(file)
			files[i] = filepath.Base(filepath.Dir(at)) + "/" + filepath.Base(at)
		}
		return nil, noTracepoint(subsystem+"/"+event, files)
	}
	return ParseFormat(b)
}

func noTracepoint(name string, known []string) error {
	if meant := nearest.Name(name, known); meant != "" {
		return fmt.Errorf("the kernel has no tracepoint %s; did you mean %s?", name, meant)
	}
	return fmt.Errorf("the kernel has no tracepoint %s", name)
}

var fieldLine = regexp.MustCompile(`^\s*field:(.*?)\s*;\s*offset:(\d+);\s*size:(\d+);\s*signed:(\d);`)

// ParseFormat reads the text of a format file.
func ParseFormat(text []byte) (*Format, error) {
	out := &Format{}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		line := s.Text()
		if id, ok := strings.CutPrefix(line, "ID: "); ok {
			out.ID, _ = strconv.Atoi(strings.TrimSpace(id))
			continue
		}
		m := fieldLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		var x Field
		x.Off, _ = strconv.Atoi(m[2])
		x.Size, _ = strconv.Atoi(m[3])
		x.Signed = m[4] == "1"
		decl := m[1]
		if x.DataLoc = strings.HasPrefix(decl, "__data_loc "); x.DataLoc {
			i := strings.LastIndexByte(decl, ' ')
			x.Type, x.Name = decl[:i], decl[i+1:]
			out.Fields = append(out.Fields, x)
			continue
		}
		i := strings.LastIndexAny(decl, " *")
		if i < 0 {
			return nil, fmt.Errorf("field %q has no name", decl)
		}
		x.Type, x.Name = strings.TrimSpace(decl[:i+1]), decl[i+1:]
		if open := strings.IndexByte(x.Name, '['); open >= 0 {
			n, _ := strconv.Atoi(strings.TrimSuffix(x.Name[open+1:], "]"))
			x.Type, x.Name, x.Elems = x.Type+x.Name[open:], x.Name[:open], n
		}
		out.Fields = append(out.Fields, x)
	}
	if len(out.Fields) == 0 {
		return nil, errors.New("the format has no fields")
	}
	return out, nil
}

// HostNamespace is the inode number of a namespace of pid 1, by its name in /proc/1/ns; 0 if it is not known. Some machines
// let nobody look at pid 1; kernel threads are in the same namespaces.
func (f *Facts) HostNamespace(name string) uint32 {
	if n := f.namespace("1", name); n != 0 {
		return n
	}
	comm, err := os.ReadFile(filepath.Join(f.procfs, "2/comm"))
	if err != nil || strings.TrimSpace(string(comm)) != "kthreadd" {
		return 0
	}
	return f.namespace("2", name)
}

func (f *Facts) namespace(pid, name string) uint32 {
	link, err := os.Readlink(filepath.Join(f.procfs, pid, "ns", name))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(link, "[")
	n, err := strconv.ParseUint(strings.TrimSuffix(rest, "]"), 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// Syscall is the number of a system call, by its ABI ("x64", "i386") and its name without "sys_".
func (f *Facts) Syscall(abi, name string) (int, bool) {
	table := syscallsX64
	if abi == "i386" {
		table = syscallsI386
	} else if abi != "x64" {
		return 0, false
	}
	n, ok := table[name]
	return n, ok
}

// SyscallName is the name of a system call, by its ABI and number; empty if there is none. It searches
// the table: who asks often remembers the answer.
func SyscallName(abi string, nr int) string {
	table := syscallsX64
	if abi == "i386" {
		table = syscallsI386
	}
	for name, n := range table {
		if n == nr {
			return name
		}
	}
	return ""
}

// Syscalls lists the names of all system calls of an ABI, sorted.
func (f *Facts) Syscalls(abi string) []string {
	table := syscallsX64
	if abi == "i386" {
		table = syscallsI386
	}
	var out []string
	for n := range table {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}
