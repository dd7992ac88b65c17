// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
)

// Probe is one thing that a kernel can do or not, under the name that upstream has for it.
type Probe struct {
	Name string
	Has  bool
}

// Probes tries out what upstream tells of a kernel, in its order.
func (f *Facts) Probes() []Probe {
	has := func(x Feature) func() bool { return func() bool { return f.Lacks(x) == "" } }
	member := func(root, path string) func() bool {
		return func() bool { _, err := f.Follow(root, path); return err == nil }
	}
	kfunc := func(name string) func() bool { return func() bool { return f.hasFunc(name) } }
	var out []Probe
	for _, p := range []struct {
		name string
		try  func() bool
	}{
		{"override_return", func() bool { return f.Lacks(Kprobe) == "" && f.helper("BPF_FUNC_override_return") }},
		{"buildid", member("perf_event_attr", "build_id")},
		{"kprobe_multi", has(KprobeMulti)},
		{"uprobe_multi", has(UprobeMulti)},
		{"fmodret", has(FmodRet)},
		{"fmodret_syscall", f.modifiesCalls},
		{"signal", func() bool { return f.helper("BPF_FUNC_send_signal") }},
		{"large", func() bool { return features.HaveLargeInstructions() == nil }},
		{"link_pin", func() bool { return f.HasType("bpf_perf_link") }},
		{"lsm", has(BpfLSM)},
		{"missed_stats_kprobe_multi", member("bpf_link_info", "kprobe_multi.missed")},
		{"missed_stats_kprobe", member("bpf_link_info", "perf_event.kprobe.missed")},
		{"batch_update", batchUpdate},
		{"uprobe_refctroff", has(Uprobe)},
		{"audit_loginuid", member("task_struct", "loginuid")},
		{"probe_write_user", has(WriteUser)},
		{"uprobe_regs_change", registersWritable},
		{"mix_bpf_and_tail_calls", func() bool { return f.HasType("bpf_jit_poke_descriptor") }},
		{"fentry", has(Fentry)},
		{"get_func_ret", func() bool { return f.helper("BPF_FUNC_get_func_ret") }},
		{"substring_kfunc", kfunc("bpf_strstr")},
		{"copy_from_user_str", kfunc("bpf_copy_from_user_str")},
	} {
		out = append(out, Probe{p.name, p.try()})
	}
	return out
}

// helper says whether the kernel knows a function that programs may call.
func (f *Facts) helper(name string) bool {
	var e *btf.Enum
	return f.Types.TypeByName("bpf_func_id", &e) == nil &&
		slices.ContainsFunc(e.Values, func(v btf.EnumValue) bool { return v.Name == name })
}

// modifiesCalls says whether a program may return in the place of a system call. It is tried on one that nobody makes.
func (f *Facts) modifiesCalls() bool {
	for _, prefix := range []string{"__x64_sys_", "__arm64_sys_"} {
		if name := prefix + "sysfs"; f.Func(name) != nil {
			return f.modifies(name)
		}
	}
	return false
}

// modifies says whether a program may return in the place of a function.
func (f *Facts) modifies(function string) bool {
	p, err := ebpf.NewProgramWithOptions(&ebpf.ProgramSpec{
		Name: "probe", Type: ebpf.Tracing, AttachType: ebpf.AttachModifyReturn, AttachTo: function, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}, // it returns 0: the function goes on
	}, ebpf.ProgramOptions{KernelTypes: f.Types})
	if err != nil {
		return false
	}
	defer p.Close()
	l, err := link.AttachTracing(link.TracingOptions{Program: p})
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}

func batchUpdate() bool {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "probe", Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 2})
	if err != nil {
		return false
	}
	defer m.Close()
	_, err = m.BatchUpdate([]uint32{1, 2}, []uint32{1, 2}, nil)
	return err == nil
}

// registersWritable says whether a program at a probe of a user program may change its registers. It is loaded only.
func registersWritable() bool {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "probe", Type: ebpf.Kprobe, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.StoreMem(asm.R1, 0, asm.R0, asm.DWord), asm.Return()},
	})
	if err != nil {
		return false
	}
	_ = p.Close()
	return true
}

// ConfigOptions are the build options of the kernel that matter to the agent, in the order of their names.
var ConfigOptions = []string{
	"CONFIG_AUDIT", "CONFIG_AUDITSYSCALL", "CONFIG_BPF", "CONFIG_BPF_EVENTS", "CONFIG_BPF_JIT", "CONFIG_BPF_JIT_DEFAULT_ON",
	"CONFIG_BPF_KPROBE_OVERRIDE", "CONFIG_BPF_SYSCALL", "CONFIG_CGROUPS", "CONFIG_DEBUG_INFO_BTF", "CONFIG_DEBUG_INFO_BTF_MODULES",
	"CONFIG_FTRACE_SYSCALLS", "CONFIG_HAVE_BPF_JIT", "CONFIG_HAVE_EBPF_JIT", "CONFIG_SECURITY",
}
