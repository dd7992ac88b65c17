// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tetragon/internal/abi"
)

// pinRoot mounts a BPF file system for one test.
func pinRoot(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("feature bpf: not root")
	}
	dir := t.TempDir()
	if err := unix.Mount("bpffs", dir, "bpf", 0, ""); err != nil {
		t.Skip("feature bpffs: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func openPins(t *testing.T, root string) *Pins {
	t.Helper()
	p, err := OpenPins(PinOptions{Root: root, Dir: "x", Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// names lists what is in the directory of pins.
func names(t *testing.T, root string) string {
	t.Helper()
	es, err := os.ReadDir(filepath.Join(root, "x"))
	if err != nil {
		return ""
	}
	var out []string
	for _, e := range es {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

func TestPins_generations(t *testing.T) {
	root := pinRoot(t)
	one := openPins(t, root)
	if one.Prior() != nil {
		t.Errorf("found %v in an empty directory", one.Prior())
	}
	if _, err := OpenPins(PinOptions{Root: root, Dir: "x"}); err == nil || !strings.Contains(err.Error(), "--bpf-dir") {
		t.Errorf("a second agent: got %v", err)
	}
	var c Counts
	c[abi.KindExec].Lost = 7
	if err := one.Beat(&c); err != nil {
		t.Fatal(err)
	}
	if err := one.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := one.Close(true); err != nil {
		t.Fatal(err)
	}

	// An upgrade that crashes, and is tried again.
	two := openPins(t, root)
	if err := two.Close(true); err != nil {
		t.Fatal(err)
	}
	three := openPins(t, root)
	p := three.Prior()
	if p == nil || p.Stale() != 1 || filepath.Base(p.dir) != "g000001" || p.Since() == 0 || p.beat.Told[abi.KindExec] != 7 {
		t.Fatalf("found %+v", p)
	}
	if want := fmt.Sprintf("g000001 of version test, pid %d", os.Getpid()); p.String() != want {
		t.Errorf("got %q, want %q", p, want)
	}
	for _, l := range []string{layoutProcs, layoutClasses, layoutVerdicts, layoutRecords} {
		if !p.same(l) {
			t.Errorf("layout %s of the same version: taken for another one", l)
		}
	}
	if p.same("nothing") {
		t.Error("a layout that nobody has is the same")
	}
	if got := names(t, root); got != "g000001 g000003" {
		t.Errorf("before taking over: %s", got)
	}
	if err := three.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := p.Remove(); err != nil {
		t.Fatal(err)
	}
	if got := names(t, root); got != "g000003" {
		t.Errorf("after taking over: %s", got)
	}
	if err := three.Close(false); err != nil {
		t.Fatal(err)
	}
	if got := names(t, root); got != "" {
		t.Errorf("after the end: %s", got)
	}
}

func TestPins_foreign(t *testing.T) {
	root := pinRoot(t)
	one := openPins(t, root)
	foreign := []string{filepath.Join(root, "x", "theirs"), filepath.Join(one.dir, "theirs"), filepath.Join(root, "x", "g1")}
	for _, d := range foreign {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := one.Close(false); err == nil || !strings.Contains(err.Error(), "not ours") {
		t.Errorf("a directory with something else in it: got %v", err)
	}
	for _, d := range foreign {
		if _, err := os.Stat(d); err != nil {
			t.Error(err)
		}
	}
}

func TestBpffs(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ name, mounts, want string }{
		{"usual", "30 1 0:20 / /sys/fs/bpf rw - bpf bpf rw\n", "/sys/fs/bpf"},
		{"other", "30 1 0:20 / /run/cilium/bpffs rw,nosuid shared:3 - bpf bpffs rw\n31 1 0:21 / /sys/fs/bpf rw - tmpfs tmpfs rw\n", "/run/cilium/bpffs"},
		{"both", "30 1 0:20 / /run/cilium/bpffs rw - bpf bpf rw\n31 1 0:21 / /sys/fs/bpf rw - bpf bpf rw\n", "/sys/fs/bpf"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := filepath.Join(dir, c.name)
			if err := os.WriteFile(f, []byte(c.mounts), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := bpffs(f); err != nil || got != c.want {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}
