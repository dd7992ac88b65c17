// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"github.com/cilium/ebpf/btf"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCountCPUs(t *testing.T) {
	for name, c := range map[string]struct {
		list string
		want int
	}{
		"one":           {"0\n", 1},
		"a range":       {"0-63\n", 64},
		"ranges":        {"0-3,8,10-11\n", 7},
		"no end":        {"0-1", 2},
		"nothing":       {"", 0},
		"only an end":   {"\n", 0},
		"words":         {"all\n", 0},
		"half a range":  {"0-\n", 0},
		"backwards":     {"3-0\n", 0},
		"negative":      {"-1\n", 0},
		"more than any": {"0-4294967295\n", 0},
		"a comma more":  {"0-1,\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := countCPUs(c.list); got != c.want {
				t.Errorf("countCPUs(%q): got %d, want %d", c.list, got, c.want)
			}
		})
	}
}

func TestPossibleCPUs(t *testing.T) {
	if n := possibleCPUs(); n < 1 {
		t.Errorf("got %d", n)
	}
}

const header = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n"

// As /proc/cgroups has them: in the order of their index.
const (
	allUnified = header + "cpuset\t0\t80\t1\ncpu\t0\t80\t1\ncpuacct\t0\t80\t1\nmemory\t0\t80\t1\npids\t0\t80\t1\n"
	allV1      = header + "cpuset\t3\t8\t1\ncpu\t4\t80\t1\ncpuacct\t4\t80\t1\nmemory\t7\t80\t1\npids\t2\t80\t1\n"
	someV1     = header + "cpuset\t0\t8\t1\ncpu\t0\t80\t1\ncpuacct\t0\t80\t1\nmemory\t0\t80\t1\npids\t5\t80\t1\n"
	noMemory   = header + "cpuset\t3\t8\t1\ncpu\t4\t80\t1\nmemory\t0\t1\t0\n"
	none       = header
)

const (
	mountV2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	mountV1 = "31 23 0:27 / /sys/fs/cgroup/memory rw shared:5 - cgroup cgroup rw,memory\n"
	mountNo = "24 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
)

func TestReadCgroups(t *testing.T) {
	for name, c := range map[string]struct {
		cgroups, mounts string
		want            Cgroups
	}{
		"unified":                       {allUnified, mountNo + mountV2, Cgroups{"v2", -1, 0}},
		"unified, mountinfo unreadable": {allUnified, "", Cgroups{"v2", -1, 0}},
		"v1":                            {allV1, mountNo + mountV1, Cgroups{"v1", 3, 7}},
		"hybrid":                        {allV1, mountNo + mountV1 + mountV2, Cgroups{"hybrid", 3, 7}},
		"hybrid, memory is unified":     {someV1, mountV2, Cgroups{"hybrid", 4, 5}},
		"v1 without memory":             {noMemory, mountV1, Cgroups{"v1", 0, 3}},
		"no controllers, but unified":   {none, mountV2, Cgroups{"v2", -1, 0}},
		"none":                          {none, mountNo, Cgroups{"none", -1, 0}},
		"no such file, as on new ones":  {"", mountV2, Cgroups{"v2", -1, 0}},
		"other lines":                   {header + "broken\nmemory x 1 1\n\ncpu\t4\t1\t1\n", mountV1, Cgroups{"v1", 0, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "self"), 0o755); err != nil {
				t.Fatal(err)
			}
			for file, text := range map[string]string{"cgroups": c.cgroups, "self/mountinfo": c.mounts} {
				if text == "" {
					continue
				}
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got, _ := readCgroups(dir); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// What stops the agent says what to do.
func TestRead_saysWhatToDo(t *testing.T) {
	want := "--btf"
	if mayLoad() != nil {
		want = "run as root"
	}
	f, err := Read(Options{BTF: filepath.Join(t.TempDir(), "none")})
	if err == nil || f != nil {
		t.Fatal("types were read from nowhere")
	}
	if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("want %q in one line: %v", want, err)
	}
}

func TestRead_thisKernel(t *testing.T) {
	if err := mayLoad(); err != nil {
		t.Skip("feature bpf: ", err)
	}
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		t.Skip("feature btf: ", err)
	}
	f, err := Read(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if f.Release == "" || f.CPUs < 1 || f.Cgroups.Mode == "" {
		t.Errorf("got %+v", f)
	}
	if !f.HasType("task_struct") || f.HasType("no_such_type") {
		t.Error("types are not told apart")
	}
	if !f.HasTracepoint("sched_process_exit") || f.HasTracepoint("no_such_tracepoint") {
		t.Error("tracepoints are not told apart")
	}
}

func TestControllerIndex_asTheKernelHasIt(t *testing.T) {
	types, err := btf.LoadKernelSpec()
	if err != nil {
		t.Skipf("needs btf: %v", err)
	}
	f := &Facts{Types: types}
	if i, ok := f.controllerIndex("memory"); !ok || i < 0 || i > 15 {
		t.Errorf("memory: got %d, %v, want an index", i, ok)
	}
	for _, name := range []string{"", "no such controller"} {
		if i, ok := f.controllerIndex(name); ok {
			t.Errorf("%q: got %d, want none", name, i)
		}
	}
}
