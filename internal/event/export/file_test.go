// SPDX-License-Identifier: Apache-2.0

package export_test

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"tetragon/internal/event"
	"tetragon/internal/event/export"
)

func (b *bench) addFile(t testing.TB, o export.FileOptions) *export.File {
	t.Helper()
	if o.RateLimit == 0 {
		o.RateLimit = -1
	}
	f, err := b.AddFile(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// written waits until everything so far is in the file.
func (b *bench) written(t testing.TB) {
	t.Helper()
	until(t, "the file has all", func() bool { return b.balance(t, "file").Pending == 0 })
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func list(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestFile_appends(t *testing.T) {
	tests := []struct{ name, before, want string }{
		{"new", "", "j:a\nj:b\n"},
		{"existing", "old\n", "old\nj:a\nj:b\n"},
		{"existing, torn", "old\nhalf", "old\nhalf\nj:a\nj:b\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "deep", "er", "tetragon.log")
			if tt.before != "" {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(tt.before), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			b := newBench(t)
			b.addFile(t, export.FileOptions{Path: path})
			b.Batch(events("a"))
			b.Batch(events("b"))
			b.close(t)
			if d := cmp.Diff(tt.want, read(t, path)); d != "" {
				t.Error(d)
			}
			b.checkBalance(t, "file", 2, 2, nil)
			if got := b.lane.ExportedBytes.Load(); got != 8 {
				t.Errorf("%d bytes counted, want 8", got)
			}
			if got := b.lane.Exported.Load(); got != 2 {
				t.Errorf("%d events counted, want 2", got)
			}
			if got := b.lane.LastExported.Load(); got != 1e9 {
				t.Errorf("last event of %d", got)
			}
		})
	}
}

func TestFile_refused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "plain"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		o    export.FileOptions
		want string
	}{
		{"directory", export.FileOptions{Path: dir}, "is a directory"},
		{"below a file", export.FileOptions{Path: filepath.Join(dir, "plain", "log")}, "create the directory of"},
		{"pipe", export.FileOptions{Path: filepath.Join(dir, "fifo")}, "neither a regular file"},
		{"empty", export.FileOptions{}, "not a file name"},
		{"negative interval", export.FileOptions{Path: filepath.Join(dir, "log"), RotationInterval: -1}, "must not be negative"},
		{"negative size", export.FileOptions{Path: filepath.Join(dir, "log"), MaxSizeMB: -1}, "must not be negative"},
		{"negative backups", export.FileOptions{Path: filepath.Join(dir, "log"), MaxBackups: -1}, "must not be negative"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			tt.o.RateLimit = -1
			_, err := b.AddFile(tt.o)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			for _, s := range b.ledger.Read() {
				if s.Stage == "file" {
					t.Error("a stage stays in the ledger")
				}
			}
		})
	}
	if _, err := newBench(t).AddFile(export.FileOptions{Path: filepath.Join(dir, "log")}); !errors.Is(err, export.ErrDisabled) {
		t.Errorf("rate limit 0: %v", err)
	}
}

func TestFile_mode(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	for perm, want := range map[fs.FileMode]fs.FileMode{0: 0o600, 0o644: 0o644, 0o777: 0o664, 0o004: 0o604} {
		path := filepath.Join(t.TempDir(), "log")
		b := newBench(t)
		b.addFile(t, export.FileOptions{Path: path, Perm: perm})
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := st.Mode().Perm(); got != want {
			t.Errorf("perm %o: mode %o, want %o", perm, got, want)
		}
	}
}

// kib returns events whose lines are 1024 bytes each.
func kib(n int) []event.Event {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%04d", i) + strings.Repeat("x", 1024-len("j:0000\n"))
	}
	return events(names...)
}

func TestFile_rotatesExactly(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tetragon.log")
	b := newBench(t)
	b.addFile(t, export.FileOptions{Path: path, MaxSizeMB: 1, MaxBackups: 5, Perm: 0o640})
	b.Batch(kib(1024)) // fills the first to the last byte
	b.written(t)
	if d := cmp.Diff([]string{"tetragon.log"}, list(t, dir)); d != "" {
		t.Error(d)
	}
	b.Batch(kib(1025)) // the first line of these starts a second file, the last a third
	b.close(t)
	want := []string{"tetragon-2026-05-04T10-00-00.000.log", "tetragon-2026-05-04T10-00-00.001.log", "tetragon.log"}
	if d := cmp.Diff(want, list(t, dir)); d != "" {
		t.Fatal(d)
	}
	for i, size := range []int{1 << 20, 1 << 20, 1024} {
		if got := len(read(t, filepath.Join(dir, want[i]))); got != size {
			t.Errorf("%s has %d bytes, want %d", want[i], got, size)
		}
	}
	b.checkBalance(t, "file", 2049, 2049, nil)
}

func TestFile_largeEventGetsAFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	b := newBench(t)
	b.addFile(t, export.FileOptions{Path: path, MaxSizeMB: 1})
	large := strings.Repeat("y", 3<<20)
	b.Batch(events("before", large, "after"))
	b.close(t)
	names := list(t, dir)
	if d := cmp.Diff([]string{"log", "log-2026-05-04T10-00-00.000", "log-2026-05-04T10-00-00.001"}, names); d != "" {
		t.Fatal(d)
	}
	for i, want := range []string{"j:after\n", "j:before\n", "j:" + large + "\n"} {
		if read(t, filepath.Join(dir, names[i])) != want {
			t.Errorf("%s does not hold its line", names[i])
		}
	}
}

func TestFile_fullAtStart(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 2<<20-1)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	b.addFile(t, export.FileOptions{Path: path, MaxSizeMB: 1})
	b.Batch(events("a"))
	b.close(t)
	if got := read(t, path); got != "j:a\n" {
		t.Errorf("file of %d bytes", len(got))
	}
}

func TestFile_rotatesByInterval(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	b := newBench(t)
	f := b.addFile(t, export.FileOptions{Path: path, RotationInterval: time.Hour})
	b.Batch(events("a"))
	b.written(t)
	b.clock.advance(time.Hour)
	// No event comes; the parameters' change makes the writer look at the clock, as its timer would.
	if err := f.SetParams(f.Params()); err != nil {
		t.Fatal(err)
	}
	until(t, "the file is rotated", func() bool { return len(list(t, dir)) == 2 })
	b.clock.advance(2 * time.Hour) // an empty file is not rotated
	b.Batch(events("b"))
	b.close(t)
	if got := read(t, path); got != "j:b\n" {
		t.Errorf("file holds %q", got)
	}
	if d := cmp.Diff([]string{"log", "log-2026-05-04T11-00-00.000"}, list(t, dir)); d != "" {
		t.Error(d)
	}
}

func TestFile_backups(t *testing.T) {
	tests := []struct {
		name     string
		compress bool
		keep     int
		want     []string
	}{
		{"keep two", false, 2, []string{"a-2026-05-04T10-00-03.000.log", "a-2026-05-04T10-00-04.000.log"}},
		{"keep all", false, 0, []string{
			"a-2026-05-04T10-00-01.000.log", "a-2026-05-04T10-00-02.000.log", "a-2026-05-04T10-00-03.000.log",
			"a-2026-05-04T10-00-04.000.log",
		}},
		{"compressed", true, 3, []string{
			"a-2026-05-04T10-00-02.000.log.gz", "a-2026-05-04T10-00-03.000.log.gz", "a-2026-05-04T10-00-04.000.log.gz",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "a.log")
			others := []string{"a-2026-05-04T10-00-00.000.txt", "a-notes.log", "b-2026-05-04T10-00-00.000.log"}
			for _, name := range append(others, "a-2025-05-04T10-00-00.000.log.gz.tmp") {
				if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			b := newBench(t)
			b.addFile(t, export.FileOptions{Path: path, MaxSizeMB: 1, MaxBackups: tt.keep, Compress: tt.compress, Perm: 0o640})
			for range 5 {
				b.Batch(kib(1024))
				b.written(t)
				b.clock.advance(time.Second)
			}
			b.close(t)
			var got []string
			for _, name := range list(t, dir) {
				if name != "a.log" && !slices.Contains(others, name) {
					got = append(got, name)
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Fatal(d)
			}
			for _, name := range others {
				if !slices.Contains(list(t, dir), name) {
					t.Errorf("%s was removed", name)
				}
			}
			if tt.compress {
				checkPacked(t, filepath.Join(dir, got[0]))
			}
		})
	}
}

func checkPacked(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	if st, _ := f.Stat(); st.Mode().Perm() != 0o640 {
		t.Errorf("%s has mode %o", name, st.Mode().Perm())
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil || len(data) != 1<<20 {
		t.Errorf("%s holds %d bytes, %v", name, len(data), err)
	}
}

func TestFile_reopens(t *testing.T) {
	tests := []struct {
		name string
		away func(t *testing.T, path string, b *bench, f *export.File)
	}{
		{"moved away", func(t *testing.T, path string, b *bench, _ *export.File) {
			rename(t, path, path+".1")
			b.clock.advance(time.Second)
		}},
		{"removed", func(t *testing.T, path string, b *bench, _ *export.File) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			b.clock.advance(time.Second)
		}},
		{"replaced", func(t *testing.T, path string, b *bench, _ *export.File) {
			if err := os.WriteFile(path+".new", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			rename(t, path+".new", path)
			b.clock.advance(time.Second)
		}},
		{"truncated", func(t *testing.T, path string, b *bench, _ *export.File) {
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
			b.clock.advance(time.Second)
		}},
		{"asked to", func(t *testing.T, path string, _ *bench, f *export.File) {
			rename(t, path, path+".1")
			f.Reopen()
			until(t, "the file is there again", func() bool {
				_, err := os.Stat(path)
				return err == nil
			})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			b := newBench(t)
			f := b.addFile(t, export.FileOptions{Path: path})
			b.Batch(events("a"))
			b.written(t)
			tt.away(t, path, b, f)
			b.Batch(events("b"))
			b.close(t)
			if d := cmp.Diff("j:b\n", read(t, path)); d != "" {
				t.Error(d)
			}
			b.checkBalance(t, "file", 2, 2, nil)
		})
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func TestFile_rateLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	b := newBench(t)
	b.addFile(t, export.FileOptions{Path: path, RateLimit: 2, Filter: contains("e")})
	evs := events("filtered", "e1", "e2", "e3", "no")
	evs[3].Kind = event.KindExit
	evs[0].Process.Binary = "x" // takes no token
	b.Batch(evs)
	b.Batch(events("e4"))
	b.Batch([]event.Event{loss(7)})
	b.clock.advance(30 * time.Second)
	b.Batch(events("e5", "e6")) // one token has come back
	b.clock.advance(30 * time.Second)
	b.Batch(nil)
	b.clock.advance(time.Hour)
	b.Batch(events("e7", "e8", "e9")) // never more than two
	b.close(t)
	want := "j:e1\nj:e2\nj:loss exec/ring_full=7\nj:e5\nj:loss exec/rate_limit=2 exit/rate_limit=1\n" +
		"j:e7\nj:e8\nj:loss exec/rate_limit=1\n"
	if d := cmp.Diff(want, read(t, path)); d != "" {
		t.Error(d)
	}
	b.checkBalance(t, "file", 14, 8, map[string]uint64{"filtered": 2, "rate_limit": 4})
	if got := b.lane.RateLimited.Load(); got != 4 {
		t.Errorf("metric counts %d, want 4", got)
	}
}

func TestFile_fullDevice(t *testing.T) {
	b := newBench(t)
	b.addFile(t, export.FileOptions{Path: "/dev/full"})
	b.Batch(events("a", "b"))
	b.written(t)
	b.Batch(events("c"))
	b.close(t)
	got := b.balance(t, "file")
	if got.Delivered != 0 || got.Pending != 0 || drops(got)["write_error"] != got.Seen {
		t.Errorf("balance %v", got)
	}
	if n := strings.Count(b.log.String(), "no space left"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, b.log.String())
	}
}

// A full disk takes a part of what is written. The limit on the size of files does the same without a disk.
func TestFile_neverHoldsATornLine(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	path := filepath.Join(t.TempDir(), "log")
	b := newBench(t)
	b.addFile(t, export.FileOptions{Path: path})
	b.Batch(kib(3))
	b.written(t)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 5<<10 + 100, Max: old.Max}); err != nil {
		t.Skipf("needs to set limits: %v", err)
	}
	b.Batch(kib(10)) // two and a bit of these fit
	b.written(t)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); len(got) != 5<<10 || !strings.HasSuffix(got, "\n") {
		t.Errorf("file of %d bytes after the failure", len(got))
	}
	b.Batch(kib(1)) // and it goes on by itself
	b.written(t)
	b.clock.advance(time.Second)
	b.Batch(nil)
	b.close(t)
	if got := read(t, path); !strings.HasSuffix(got, "x\nj:loss event/write_error=8\n") || len(got) != 6<<10+27 {
		t.Errorf("file of %d bytes ends with %q", len(got), got[max(0, len(got)-40):])
	}
	b.checkBalance(t, "file", 15, 7, map[string]uint64{"write_error": 8})
}

func TestFile_setParams(t *testing.T) {
	dir := t.TempDir()
	b := newBench(t)
	f := b.addFile(t, export.FileOptions{Path: filepath.Join(dir, "log"), MaxSizeMB: 10, MaxBackups: 5})
	if err := f.SetParams(export.FileParams{MaxSizeMB: -1}); err == nil {
		t.Error("a negative size is accepted")
	}
	if d := cmp.Diff(export.FileParams{MaxSizeMB: 10, MaxBackups: 5}, f.Params()); d != "" {
		t.Error(d)
	}
	if err := f.SetParams(export.FileParams{MaxSizeMB: 1, MaxBackups: 1}); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		b.Batch(kib(1024))
		b.written(t)
	}
	b.close(t)
	if got := len(list(t, dir)); got != 2 {
		t.Errorf("%d files, want the present one and one old", got)
	}
}

// TestFile_removesOldBackups: what is too old goes, also when it is not too many.
func TestFile_removesOldBackups(t *testing.T) {
	dir := t.TempDir()
	b := newBench(t)
	now := b.clock.Now().UTC()
	name := func(age time.Duration) string {
		return "log-" + now.Add(-age).Format("2006-01-02T15-04-05.000") + ".json"
	}
	for _, age := range []time.Duration{time.Minute, time.Hour, 3 * time.Hour, 50 * time.Hour} {
		if err := os.WriteFile(filepath.Join(dir, name(age)), []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.addFile(t, export.FileOptions{Path: filepath.Join(dir, "log.json"), MaxAge: 2 * time.Hour})
	b.close(t)
	var got []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if d := cmp.Diff([]string{name(time.Hour), name(time.Minute), "log.json"}, got); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
}
