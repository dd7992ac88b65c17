// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestKernelDevice(t *testing.T) {
	for _, c := range []struct {
		name string
		dev  uint64 // as stat(2) tells it
		want uint32
	}{
		{"disk", 8<<8 | 1, 8<<20 | 1},
		{"no device", 0x1a, 0x1a},
		{"large minor", 0x12345<<12&^0xfffff | 0x45, 0x12300 | 0x45},
		{"large major", 0x103 << 8, 0x103 << 20},
	} {
		if got := kernelDevice(c.dev); got != c.want {
			t.Errorf("%s: %#x is %#x, want %#x", c.name, c.dev, got, c.want)
		}
	}
}

func TestGuardOff_none(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"missing", "empty"} {
		if dir == "empty" {
			if err := os.MkdirAll(filepath.Join(root, dir, "g000001"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := GuardOff(PinOptions{Root: root, Dir: dir}); n != 0 || err != nil {
			t.Errorf("%s: %d guards and %v, want none", dir, n, err)
		}
	}
}

func TestMountsOf(t *testing.T) {
	ids, err := mountsOf("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	for _, where := range []string{"/", "/proc"} {
		out, err := exec.Command("sh", "-c", `awk -v at="$0" '$5 == at { id = $1 } END { print id }' /proc/self/mountinfo`, where).Output()
		if err != nil {
			t.Fatal(err)
		}
		id, err := strconv.ParseUint(strings.TrimSpace(string(out)), 10, 32)
		if err != nil {
			t.Fatalf("%s: mountinfo tells no id: %v", where, err)
		}
		if !slices.Contains(ids, uint32(id)) {
			t.Errorf("%s is mount %d, which is not among %v", where, id, ids)
		}
	}
}
