// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// tryHash finds out whether programs can have files hashed. The helper is there also where IMA is not, and then says so at
// each call.
func (f *Facts) tryHash() string {
	if _, err := os.Stat("/sys/kernel/security/ima"); err != nil {
		return "the kernel has no IMA (CONFIG_IMA), or securityfs is not mounted at /sys/kernel/security"
	}
	p, err := ebpf.NewProgramWithOptions(&ebpf.ProgramSpec{
		Name: "probe", Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: "file_open", License: "GPL", Flags: 1 << 4, // BPF_F_SLEEPABLE
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord), asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, -64), asm.Mov.Imm(asm.R3, 64),
			asm.FnImaFileHash.Call(), asm.Mov.Imm(asm.R0, 0), asm.Return(),
		},
	}, ebpf.ProgramOptions{KernelTypes: f.Types})
	if err != nil {
		return "the kernel lets no program ask IMA for the hash of a file (5.18 and later do): " + cause(err)
	}
	_ = p.Close()
	return ""
}

// tryLsmSleep finds out whether a program among the security modules runs for every call.
// kernel: those who enter programs were split in two when such programs were no longer skipped while they are under way on the
// same CPU: in 6.2, and in later stable ones of 6.1.
func (f *Facts) tryLsmSleep() string {
	if !f.hasFunc("__bpf_prog_enter_sleepable_recur") {
		return "the kernel skips a program among the security modules while another call of it on the same CPU waits for a file to be read (6.2 and later do not)"
	}
	return ""
}

// tryVerity finds out whether programs can have the digest of a file that fs-verity keeps.
func (f *Facts) tryVerity() string {
	if !f.hasFunc("bpf_get_fsverity_digest") {
		return "the kernel lets no program ask for the digest of fs-verity (6.8 and later with CONFIG_FS_VERITY do)"
	}
	return ""
}

// hasFunc says whether the kernel itself has a function, also one that cannot be hooked.
func (f *Facts) hasFunc(name string) bool {
	var fn *btf.Func
	return f.Types.TypeByName(name, &fn) == nil
}

// HashAlgorithm is the algorithm of the hashes that IMA makes here, as events write it; empty if it cannot be told.
func (f *Facts) HashAlgorithm() string {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return ""
	}
	measured, err := os.ReadFile("/sys/kernel/security/ima/ascii_runtime_measurements")
	if err != nil {
		return ""
	}
	return hashAlgorithm(string(cmdline), string(measured))
}

// hashAlgorithm finds it in what the kernel was booted with, else in IMA's first measurement, which is that of the boot:
//
//	10 HASH-OF-THIS-LINE ima-sig sha256:DIGEST boot_aggregate
func hashAlgorithm(cmdline, measured string) string {
	for _, w := range strings.Fields(cmdline) {
		if name, ok := strings.CutPrefix(w, "ima_hash="); ok {
			return name
		}
	}
	line, _, _ := strings.Cut(measured, "\n")
	if w := strings.Fields(line); len(w) >= 5 && w[4] == "boot_aggregate" {
		if name, _, ok := strings.Cut(w[3], ":"); ok {
			return name
		}
	}
	return ""
}
