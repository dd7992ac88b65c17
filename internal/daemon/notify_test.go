// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"net"
	"path/filepath"
	"testing"
)

func TestNotify(t *testing.T) {
	if err := notify("", "READY=1"); err != nil {
		t.Errorf("nobody wants to know: %v", err)
	}
	for _, name := range []string{filepath.Join(t.TempDir(), "s"), "@tetragon-test-" + filepath.Base(t.TempDir())} {
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		if err := notify(name, "READY=1"); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 64)
		n, err := l.Read(b)
		if err != nil || string(b[:n]) != "READY=1" {
			t.Errorf("%s: got %q, %v", name, b[:n], err)
		}
		_ = l.Close()
	}
	if err := notify(filepath.Join(t.TempDir(), "none"), "READY=1"); err == nil {
		t.Error("no error where nobody listens")
	}
}
