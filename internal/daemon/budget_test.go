// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"testing"

	"tetragon/internal/config"
	"tetragon/internal/sensor"
)

func loadConfig(t *testing.T, args ...string) *config.Config {
	t.Helper()
	cfg, err := config.Load(args, config.Options{Root: t.TempDir(), WorkDir: t.TempDir(), Environ: []string{"A=b"}})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestPlannedSizes(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		want sizes
	}{
		{"no budget", nil, sizes{ring: sensor.DefaultRingBytes, dead: 65536}},
		{"much", []string{"--memory-budget=4G"}, sizes{4 << 20, 65536, 16 << 20, 4 << 20, 64 << 20, 0}},
		{"some", []string{"--memory-budget=64M"}, sizes{4 << 20, 8192, 4 << 20, 4 << 20, 8 << 20, 0}},
		{"little", []string{"--memory-budget=40M"}, sizes{2 << 20, 5120, 40 << 16, 40 << 16, 5 << 20, 0}},
		{"given sizes", []string{"--memory-budget=64M", "--rb-size-total=8M", "--process-cache-size=100", "--event-queue-size=10000"},
			sizes{8 << 20, 100, 4 << 20, 4 << 20, 8 << 20, 10000}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := plannedSizes(loadConfig(t, tt.args...), 2); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestBinaryBytes: what is in memory of the running program's file is some megabytes, and no more than it has in all.
func TestBinaryBytes(t *testing.T) {
	file, err := os.Stat("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if n := binaryBytes(); n < 1<<20 || n > uint64(file.Size())+1<<20 {
		t.Errorf("%d bytes of a file of %d", n, file.Size())
	}
}

// TestBudget_look: what degrades does so in steps, says so once, and comes back.
func TestBudget_look(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	var log strings.Builder
	b := &budget{total: 100 << 20, planned: 8192, facts: &factsKeeper{}, log: slog.New(slog.NewTextHandler(&log, nil))}
	b.dead.Store(8192)
	for i, step := range []struct {
		heap, kernel uint64 // MiB
		dead, limit  int64
	}{
		{30, 20, 8192, 80 << 20},
		{75, 20, 4096, 80 << 20},
		{75, 20, 2048, 80 << 20},
		{75, 20, 1024, 80 << 20},
		{75, 20, 1024, 80 << 20}, // never less
		{60, 20, 1024, 80 << 20}, // between the marks nothing changes
		{40, 20, 2048, 80 << 20},
		{40, 20, 4096, 80 << 20},
		{40, 20, 8192, 80 << 20},
		{10, 95, 8192, 16 << 20}, // the kernel's part alone is nearly all
		{10, 95, 8192, 16 << 20},
	} {
		b.look(step.heap<<20, step.kernel<<20)
		if got := b.dead.Load(); got != step.dead {
			t.Errorf("step %d: %d ended processes, want %d", i, got, step.dead)
		}
		if got := debug.SetMemoryLimit(-1); got != step.limit {
			t.Errorf("step %d: limit %d, want %d", i, got, step.limit)
		}
	}
	for _, want := range []string{"memory is tight", "not tight any more", "too small for what is loaded"} {
		if n := strings.Count(log.String(), want); n != 1 {
			t.Errorf("%q was said %d times:\n%s", want, n, log.String())
		}
	}
}
