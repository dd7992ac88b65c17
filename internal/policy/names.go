// SPDX-License-Identifier: Apache-2.0

package policy

import "strconv"

// Capabilities are the names of capabilities in the order of their bits, from include/uapi/linux/capability.h.
var Capabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW",
	"CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
	"CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
	"CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
	"CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// FileTypes are the words for types of files, with the bits of a mode that say so.
var FileTypes = []struct {
	Name string
	Mode uint64
}{
	{"sock", 0o140000}, {"socket", 0o140000}, {"lnk", 0o120000}, {"link", 0o120000}, {"reg", 0o100000}, {"regular", 0o100000},
	{"blk", 0o60000}, {"block", 0o60000}, {"dir", 0o40000}, {"chr", 0o20000}, {"char", 0o20000}, {"fifo", 0o10000}, {"pipe", 0o10000},
}

// Register is where a register of x86-64, or the lower part of one, lies in the kernel's struct pt_regs.
type Register struct {
	Off  int32
	Bits uint8 // 0: all 64
}

// Registers are the registers of x86-64, by their names for all widths.
// kernel: struct pt_regs, arch/x86/include/asm/ptrace.h, part of the ABI
var Registers = x86Registers()

func x86Registers() map[string]Register {
	out := map[string]Register{"rip": {128, 0}, "eip": {128, 32}, "ip": {128, 16}}
	for name, off := range map[string]int32{"ax": 80, "bx": 40, "cx": 88, "dx": 96} {
		out["r"+name], out["e"+name], out[name], out[name[:1]+"l"] = Register{off, 0}, Register{off, 32}, Register{off, 16}, Register{off, 8}
	}
	for name, off := range map[string]int32{"si": 104, "di": 112, "bp": 32, "sp": 152} {
		out["r"+name], out["e"+name], out[name], out[name+"l"] = Register{off, 0}, Register{off, 32}, Register{off, 16}, Register{off, 8}
	}
	for n, off := range map[int]int32{8: 72, 9: 64, 10: 56, 11: 48, 12: 24, 13: 16, 14: 8, 15: 0} {
		name := "r" + strconv.Itoa(n)
		out[name], out[name+"d"], out[name+"w"], out[name+"b"] = Register{off, 0}, Register{off, 32}, Register{off, 16}, Register{off, 8}
	}
	return out
}
