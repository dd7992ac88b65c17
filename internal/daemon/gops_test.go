// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// gops asks as the program of that name does.
func gops(t *testing.T, addr string, what ...byte) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(what); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, net.ErrClosed) && len(b) == 0 {
		t.Fatal(err)
	}
	return string(b)
}

func TestServeGops(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if _, err := serveGops(addr, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "gops-address") {
		t.Errorf("an address that is taken: %v", err)
	}
	_ = l.Close()
	stop, err := serveGops(addr, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for what, want := range map[byte]string{
		gopsVersion: runtime.Version(), gopsStats: "goroutines: ", gopsMemory: "heap-objects: ", gopsCollect: "ok",
		gopsStacks: "daemon.answerGops", gopsHeap: "\x1f\x8b", gopsBinary: "error: ", gopsSetGCRate: "error: ", 0xff: "error: nobody knows request 0xff",
	} {
		if got := gops(t, addr, what); !strings.Contains(got, want) {
			t.Errorf("request %#x: %.100q, want %q", what, got, want)
		}
	}
	stop()
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("it answers after its end")
	}
}

func TestProfile(t *testing.T) {
	dir := t.TempDir()
	cpu, heap := filepath.Join(dir, "cpu"), filepath.Join(dir, "heap")
	stop, err := profile(cpu, heap)
	if err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{cpu, heap} {
		if b, err := os.ReadFile(f); err != nil || !bytes.HasPrefix(b, []byte("\x1f\x8b")) {
			t.Errorf("%s: %v, %d bytes", f, err, len(b))
		}
	}
	if _, err := profile(filepath.Join(dir, "none", "x"), ""); err == nil {
		t.Error("a profile in a directory that is not there")
	}
	if stop, err := profile("", ""); err != nil || stop() != nil {
		t.Errorf("no profile: %v", err)
	}
}
