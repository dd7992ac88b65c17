// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// envIcount says that the machine counts instructions: one nanosecond is one instruction (vmlab run --icount).
const envIcount = "SCENARIO_ICOUNT"

// The limits of what an agent may cost, in instructions per process life (fork, exec, exit) where not said otherwise.
const (
	maxExec  = 4500 // programs at exec together
	maxFork  = 1000
	maxExit  = 450
	maxAgent = 22_500      // from the ring to the file, with the agent's own system calls; see docs/decisions/0011
	maxStart = 500_000_000 // from its exec to the first event in the file
	maxMaps  = 8 << 20     // bytes of BPF maps
	maxRSS   = 40 << 20    // bytes of the agent
	maxIdle  = 3_000_000   // a second with nothing to do: 0.3 % of a CPU of a thousand million instructions a second
)

// TestInstructions counts instructions in a machine where that is exact, so that it fails for a change of the agent and
// never for a busy host.
func TestInstructions(t *testing.T) {
	if os.Getenv(envIcount) == "" {
		t.Skipf("%s is not set; run make icount", envIcount)
	}
	dir := t.TempDir()
	a, err := startAgent(agentOptions{dir: dir, log: filepath.Join(dir, "agent.log")})
	if err != nil {
		t.Fatal(err)
	}
	defer removePins(dir)
	defer a.kill()
	start := cpuTime(t, a)

	lives(t, 20) // whatever is done once
	settle(t, a)

	// In the kernel. Statistics cost some instructions themselves; the limits hold with them. Of some rounds the cheapest
	// counts: interrupts, and a memory allocator that fetches new pages at this moment, are not the programs' doing.
	const n, rounds = 300, 4
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		t.Fatal(err)
	}
	cost := map[string]runStats{}
	for range rounds {
		before := programs(t)
		lives(t, n)
		for name, after := range programs(t) {
			d := runStats{time: after.time - before[name].time, runs: after.runs - before[name].runs}
			if c, ok := cost[name]; !ok || d.time < c.time {
				cost[name] = d
			}
		}
		settle(t, a)
	}
	if err := stats.Close(); err != nil {
		t.Fatal(err)
	}

	// In the agent.
	const m = 1000
	cpu := ^uint64(0)
	for range 3 {
		before := cpuTime(t, a)
		lives(t, m)
		settle(t, a)
		cpu = min(cpu, cpuTime(t, a)-before)
	}

	// With nothing to do. A machine that counts instructions passes over the time in which there are none.
	idle := uint64(perSecond(t, a, time.Minute))

	fmt.Printf("%-34s %12s %12s %8s\n", "what", "is", "at most", "runs")
	check := func(what string, is, most uint64, runs uint64) {
		t.Run(strings.ReplaceAll(what, " ", "_"), func(t *testing.T) {
			fmt.Printf("%-34s %12d %12d %8d\n", what, is, most, runs)
			if is > most {
				t.Errorf("%s: %d, want at most %d", what, is, most)
			}
		})
	}
	perLife := func(names ...string) (sum, runs uint64) {
		for _, name := range names {
			if len(names) > 1 {
				fmt.Printf("%-34s %12d %12s %8d\n", "  "+name, cost[name].time/n, "", cost[name].runs)
			}
			sum += cost[name].time
			runs = max(runs, cost[name].runs)
		}
		return sum / n, runs
	}
	for _, row := range []struct {
		what  string
		most  uint64
		names []string
	}{
		{"exec in the kernel", maxExec, []string{"proc_exec", "proc_prepare"}},
		{"fork in the kernel", maxFork, []string{"proc_fork"}},
		{"exit in the kernel", maxExit, []string{"proc_exit"}},
	} {
		sum, runs := perLife(row.names...)
		if runs < n {
			t.Errorf("%s: programs %v ran %d times in %d lives", row.what, row.names, runs, n)
		}
		check(row.what, sum, row.most, runs)
	}
	check("agent per life", cpu/m, maxAgent, m)
	check("agent in an idle second", idle, maxIdle, 60)
	check("agent until the first event", start, maxStart, 1)
	check("bytes of BPF maps", mapBytes(t), maxMaps, 1)
	check("bytes of the agent in memory", residentBytes(t, a), maxRSS, 1)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	if err := checkBalance(a.balance, nil); err != nil {
		t.Error(err)
	}
}

// lives has n processes forked, executed and ended.
func lives(t *testing.T, n int) {
	t.Helper()
	for range n {
		if err := exec.Command("/bin/true", "life").Run(); err != nil {
			t.Fatal(err)
		}
	}
}

// settle waits until the agent has exported all that happened.
func settle(t *testing.T, a *agent) {
	t.Helper()
	if err := a.mark(); err != nil {
		t.Fatal(err)
	}
}

// cpuTime gives the nanoseconds that the agent's threads ran.
func cpuTime(t *testing.T, a *agent) uint64 {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", a.cmd.Process.Pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("find the agent's threads: %v", err)
	}
	var sum uint64
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that has just ended
		}
		first, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseUint(first, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += ns
	}
	return sum
}

type runStats struct{ time, runs uint64 }

// programs gives the statistics of every BPF program by name. In the guest all of them are the agent's.
func programs(t *testing.T) map[string]runStats {
	t.Helper()
	out := map[string]runStats{}
	var id ebpf.ProgramID
	for {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		info, err := p.Info()
		if err != nil {
			t.Fatal(err)
		}
		s, err := p.Stats()
		if err != nil {
			t.Fatal(err)
		}
		o := out[info.Name]
		out[info.Name] = runStats{time: o.time + uint64(s.Runtime), runs: o.runs + s.RunCount}
		_ = p.Close()
	}
}

// mapBytes gives the memory of every BPF map.
func mapBytes(t *testing.T) uint64 {
	t.Helper()
	var sum uint64
	var id ebpf.MapID
	for {
		next, err := ebpf.MapGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return sum
		}
		if err != nil {
			t.Fatal(err)
		}
		id = next
		m, err := ebpf.NewMapFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		info, err := m.Info()
		if err != nil {
			t.Fatal(err)
		}
		if b, ok := info.Memlock(); ok {
			sum += b
		}
		_ = m.Close()
	}
}

func residentBytes(t *testing.T, a *agent) uint64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kb, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kb << 10
}
