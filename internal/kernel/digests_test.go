// SPDX-License-Identifier: Apache-2.0

package kernel

import "testing"

func TestHashAlgorithm(t *testing.T) {
	const boot = "10 0f00 ima-sig sha256:00ab boot_aggregate \n10 0f01 ima-sig sha1:00 /init \n"
	for _, c := range []struct{ name, cmdline, measured, want string }{
		{"by the boot's measurement", "quiet lsm=bpf", boot, "sha256"},
		{"by the command line", "quiet ima_hash=sha512 lsm=bpf\n", boot, "sha512"},
		{"an old template, whose line names none", "", "10 0f00 ima 00ab boot_aggregate\n", ""},
		{"something else comes first", "", "10 0f01 ima-sig sha1:00 /init\n" + boot, ""},
		{"nothing was measured", "", "", ""},
	} {
		if got := hashAlgorithm(c.cmdline, c.measured); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}
