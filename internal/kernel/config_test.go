// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseConfig(t *testing.T) {
	got := parseConfig("# Linux/x86 6.1\nCONFIG_BPF=y\n# CONFIG_BPF_LSM is not set\nCONFIG_NF=m\nCONFIG_CC=\"gcc (Debian) 12\"\nbroken\n# CONFIG_X is set\n")
	if d := cmp.Diff(map[string]string{"CONFIG_BPF": "y", "CONFIG_BPF_LSM": "n", "CONFIG_NF": "m", "CONFIG_CC": "gcc (Debian) 12"}, got); d != "" {
		t.Error(d)
	}
}

func TestReadConfig(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.gz")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(f)
	_, err = z.Write([]byte("CONFIG_BPF=y\n"))
	if err := errors.Join(err, z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if text, err := readConfig(path); err != nil || text != "CONFIG_BPF=y\n" {
		t.Errorf("%q, %v", text, err)
	}
	if err := os.WriteFile(path, []byte("no gzip"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readConfig(path); err == nil {
		t.Error("a file that is not compressed was read as if it were")
	}
}
