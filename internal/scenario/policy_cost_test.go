// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// The limits of what policies may cost, in instructions added to the call that is hooked.
const (
	maxRejectInt     = 220
	maxRejectProcess = 300
	maxRejectField   = 450               // of a tracepoint, with what the kernel does for it
	maxRejectDeny    = 260               // of a function whose call another one would be denied
	maxRejectGuarded = 2 * maxRejectDeny // of a system call where another one would be denied by the function that it asks: two hooks
	maxRejectUprobe  = 200               // in the program alone: the breakpoint costs thousands, whatever the program does
	maxRejectPath    = 2400              // three prefixes, per open
	maxPosted        = 7500              // kernel and agent together, per event; see decision 0014
	maxMerged        = 2600              // in the kernel, instead of that; see decision 0019
	maxHookBytes     = 64 << 10
	maxLoadTen       = 3_000_000_000  // ten hooks, from tetra to its answer
	maxLoadMany      = 15_000_000_000 // 500 hooks in one list
)

// costs is one agent and what is measured of it.
type costs struct {
	t     *testing.T
	a     *agent
	dir   string
	serve string
}

// TestInstructions_policies counts what policies add to system calls, beside the same calls without a policy.
func TestInstructions_policies(t *testing.T) {
	if os.Getenv(envIcount) == "" {
		t.Skipf("%s is not set; run make icount", envIcount)
	}
	runtime.LockOSThread() // what is measured is this thread's time
	defer runtime.UnlockOSThread()
	dir := t.TempDir()
	a, err := startAgent(agentOptions{dir: dir, log: filepath.Join(dir, "agent.log")})
	if err != nil {
		t.Fatal(err)
	}
	defer removePins(dir)
	defer a.kill()
	c := &costs{t: t, a: a, dir: dir, serve: "unix://" + filepath.Join(dir, socketName)}
	fmt.Printf("%-44s %12s %12s\n", "what", "is", "at most")

	c.rejected()
	c.posted()
	c.merged()
	c.loading()

	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	if err := checkBalance(a.balance, nil); err != nil {
		t.Error(err)
	}
}

func (c *costs) check(what string, is, most int64) {
	c.t.Run(strings.ReplaceAll(what, " ", "_"), func(t *testing.T) {
		fmt.Printf("%-44s %12d %12d\n", what, is, most)
		if is > most {
			t.Errorf("%s: %d, want at most %d", what, is, most)
		}
	})
}

// rejected measures calls that no rule wants.
func (c *costs) rejected() {
	const seeks, opens = 20_000, 4_000
	base := per(seeks, seek(0))
	fmt.Printf("%-44s %12d\n", "lseek without a policy", base)
	for _, row := range []struct {
		what string
		text string
		most int64
	}{
		{"lseek, 1 selector on an integer", seekPolicy("cost", 1), maxRejectInt},
		{"lseek, 5 selectors on an integer", seekPolicy("cost", 5), maxRejectInt},
		{"lseek, 100 selectors on an integer", seekPolicy("cost", 100), maxRejectInt},
		{"lseek, 500 selectors on an integer", seekPolicy("cost", 500), maxRejectInt},
		{"lseek, a selector on the binary", selectorPolicy("matchBinaries: [{operator: In, values: [/none/such]}]"), maxRejectProcess},
		{"lseek, a selector on a namespace", selectorPolicy(`matchNamespaces: [{namespace: Pid, operator: In, values: ["1"]}]`), maxRejectProcess},
		{"lseek, a selector on a tracepoint's field", fieldPolicy, maxRejectField},
	} {
		c.add(row.text)
		c.check(row.what, per(seeks, seek(0))-base, row.most)
		c.remove("cost")
	}
	without := per(seeks, prctl)
	fmt.Printf("%-44s %12d\n", "prctl without a policy", without)
	c.add(denyPolicy)
	c.check("prctl, an Override on another one", per(seeks, prctl)-without, maxRejectDeny)
	c.remove("cost")
	without = per(seeks, signalNone)
	fmt.Printf("%-44s %12d\n", "kill without a policy", without)
	thread := per(seeks, signalThread) // asks the same function, and is no call that the policy wants
	c.add(strings.Replace(strings.Replace(denyPolicy, "security_task_prctl\n    syscall: false", "sys_kill", 1), "index: 0", "index: 1", 2))
	c.check("kill, an Override on another one, by guard", per(seeks, signalNone)-without, maxRejectGuarded)
	asked := per(seeks, signalThread) - thread
	c.check("  in the function that it asks", asked, maxRejectDeny)
	c.check("  in the system call", per(seeks, signalNone)-without-asked, maxRejectDeny)
	c.remove("cost")
	for i := range 100 {
		c.add(seekPolicy(fmt.Sprintf("cost-%d", i), 1))
	}
	c.check("lseek, 100 policies with a selector each", per(seeks, seek(0))-base, maxRejectInt)
	for i := range 100 {
		c.remove(fmt.Sprintf("cost-%d", i))
	}
	c.uprobe()
	base = per(opens, open)
	fmt.Printf("%-44s %12d\n", "open and close without a policy", base)
	c.add(pathPolicy)
	c.check("open, three prefixes that do not match", per(opens, open)-base, maxRejectPath)
	c.remove("cost")
}

// uprobe measures the program of a hook on a user function that no rule wants: the kernel's own statistics of it. The
// program that is hooked lies on a file system of this machine: one that is shared with another has no lasting inodes.
func (c *costs) uprobe() {
	const calls = 2_000
	program := filepath.Join(c.dir, "victim")
	text, err := os.ReadFile(os.Getenv(envVictim))
	if err == nil {
		err = os.WriteFile(program, text, 0o755)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.add(strings.TrimSuffix(policyHead("cost"), "  kprobes:\n") + fmt.Sprintf(
		"  uprobes:\n  - path: %s\n    symbols: [syscall.RawSyscall6]\n    args: [{index: 0, type: int}]\n"+
			"    selectors: [{matchArgs: [{index: 0, operator: Equal, values: [\"77777\"]}]}]\n", program))
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		c.t.Fatal(err)
	}
	defer stats.Close()
	before := programs(c.t)
	if out, err := exec.Command(program, "syscall", "-n", fmt.Sprint(calls), "lseek", "-1", "1", "0").CombinedOutput(); err != nil {
		c.t.Fatalf("%v\n%s", err, out)
	}
	found, all := false, programs(c.t)
	for name, after := range all {
		if runs := after.runs - before[name].runs; runs >= calls {
			found = true
			c.check("a uprobe, in its program", int64((after.time-before[name].time)/runs), maxRejectUprobe)
		}
	}
	if !found {
		c.t.Errorf("no program ran for the calls of a hooked function: before %v, after %v", before, all)
	}
	c.remove("cost")
}

// posted measures events all the way to the file, 10,000 back to back, none of which may be lost.
func (c *costs) posted() {
	const n = 10_000
	base := per(n, seek(wanted))
	c.add(strings.ReplaceAll(seekPolicy("cost", 1), "77777", fmt.Sprint(wanted)))
	time.Sleep(4 * time.Second) // the agent gives back the kernel's types, which it needed for the policy, after three
	// What waiting for a flood's end costs without one: the marker's own events, and what the agent does five times a second.
	idle := int64(math.MaxInt64)
	for range 3 {
		before := int64(cpuTime(c.t, c.a))
		settle(c.t, c.a)
		idle = min(idle, int64(cpuTime(c.t, c.a))-before)
	}
	fmt.Printf("%-44s %12d\n", "  waiting, in the agent, for each event", idle/n)
	const warm = 2
	for range warm { // whatever is done once: a flood's first buffers, and the collection that they bring about
		once(n, seek(wanted))
		settle(c.t, c.a)
	}
	// The least of them counts, as of everything else here: what is above it came from elsewhere, such as a collection of
	// garbage, or ticks and wake-ups that fell in another way. Decision 0014 has all of them.
	const floods = 7
	var costs [floods]struct{ kernel, agent int64 }
	for i := range costs {
		before := int64(cpuTime(c.t, c.a))
		costs[i].kernel = once(n, seek(wanted)) - base
		settle(c.t, c.a)
		costs[i].agent = (int64(cpuTime(c.t, c.a)) - before - idle) / n
		fmt.Printf("%-44s %12d\n", "  a flood, in the agent", costs[i].agent)
	}
	least := slices.MinFunc(costs[:], func(a, b struct{ kernel, agent int64 }) int { return cmp.Compare(a.agent, b.agent) })
	kernel, agent := least.kernel, least.agent
	fmt.Printf("%-44s %12d\n", "  in the kernel", kernel)
	fmt.Printf("%-44s %12d\n", "  in the agent", agent)
	c.check("an event with two integers, to the file", kernel+agent, maxPosted)
	got := 0
	q, err := parseQuery([]string{"process_kprobe", "policy_name=cost", fmt.Sprintf("args[1].int_arg=%d", wanted)})
	if err == nil {
		got, _, err = c.a.count(q)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	if want := (warm + floods) * n; got != want {
		c.t.Errorf("%d of %d events came through", got, want)
	}
	c.remove("cost")
}

// merged measures calls that are counted in the kernel instead of posted: the agent has nothing to do for each.
func (c *costs) merged() {
	const n = 10_000
	base := per(n, seek(wanted))
	c.add(strings.ReplaceAll(seekPolicy("cost", 1), "77777", fmt.Sprint(wanted)) + "      matchActions: [{action: Post, aggregate: 1h}]\n")
	c.check("an event that is counted with equal ones", per(n, seek(wanted))-base, maxMerged)
	c.remove("cost")
	settle(c.t, c.a)
	q, err := parseQuery([]string{"process_kprobe", "policy_name=cost", fmt.Sprintf("aggregated.count=%d", 3*n-1)})
	got := 0
	if err == nil {
		got, _, err = c.a.count(q)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	if got != 1 {
		c.t.Errorf("%d events tell of %d calls, want 1", got, 3*n-1)
	}
}

// loading measures how long it takes until a policy is in force, and the kernel's memory for it.
func (c *costs) loading() {
	before := kernelBytes(c.t)
	var b strings.Builder
	b.WriteString(policyHead("cost"))
	for _, f := range []string{
		"sys_lseek", "sys_dup", "sys_umask", "sys_getpgid", "sys_access", "sys_chdir", "sys_rmdir", "sys_unlink", "sys_truncate", "sys_fchmod",
	} {
		fmt.Fprintf(&b, "  - call: %s\n    args: [{index: 0, type: int}]\n    selectors: [{matchArgs: [{index: 0, operator: Equal, values: [\"77777\"]}]}]\n", f)
	}
	took := c.add(b.String())
	c.check("loading a policy of 10 hooks", took.Nanoseconds(), maxLoadTen)
	c.check("kernel memory of a hook, bytes", (kernelBytes(c.t)-before)/10, maxHookBytes)
	c.remove("cost")

	b.Reset()
	b.WriteString("apiVersion: cilium.io/v1alpha1\nkind: TracingPolicy\nmetadata: {name: cost}\nspec:\n  lists:\n  - name: many\n    values:\n")
	names := functions(c.t, 500)
	for _, f := range names {
		fmt.Fprintf(&b, "    - %s\n", f)
	}
	b.WriteString("  kprobes:\n  - call: list:many\n    syscall: false\n    ignore: {callNotFound: true}\n    selectors: [{matchPIDs: [{operator: In, values: [1]}]}]\n")
	took = c.add(b.String())
	c.check(fmt.Sprintf("loading a policy of %d functions", len(names)), took.Nanoseconds(), maxLoadMany)
	c.remove("cost")
}

// functions gives names of functions that can be hooked.
func functions(t *testing.T, n int) []string {
	t.Helper()
	f, err := os.Open("/sys/kernel/tracing/available_filter_functions")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []string
	for s := bufio.NewScanner(f); s.Scan() && len(out) < n; {
		name := s.Text()
		for _, prefix := range []string{"security_", "tcp_", "inet_", "vfs_", "ip_"} {
			if strings.HasPrefix(name, prefix) && !strings.ContainsAny(name, ". ") {
				out = append(out, name)
			}
		}
	}
	if len(out) < n {
		t.Fatalf("found %d functions, want %d", len(out), n)
	}
	return out
}

func policyHead(name string) string {
	return "apiVersion: cilium.io/v1alpha1\nkind: TracingPolicy\nmetadata: {name: " + name + "}\nspec:\n  kprobes:\n"
}

// wanted is the third argument of the calls that are posted.
const wanted = 4444

// seekPolicy wants none of the calls that are made: each selector another value.
func seekPolicy(name string, selectors int) string {
	var b strings.Builder
	b.WriteString(policyHead(name))
	b.WriteString("  - call: sys_lseek\n    args: [{index: 0, type: int}, {index: 2, type: int}]\n    selectors:\n")
	for i := range selectors {
		fmt.Fprintf(&b, "    - matchArgs: [{index: 2, operator: Equal, values: [\"%d\"]}]\n", 77777+i)
	}
	return b.String()
}

func selectorPolicy(selector string) string {
	return policyHead("cost") + "  - call: sys_lseek\n    args: [{index: 0, type: int}, {index: 2, type: int}]\n    selectors:\n    - " + selector + "\n"
}

const fieldPolicy = `apiVersion: cilium.io/v1alpha1
kind: TracingPolicy
metadata: {name: cost}
spec:
  tracepoints:
  - subsystem: syscalls
    event: sys_enter_lseek
    args: [{index: 7}]
    selectors:
    - matchArgs: [{index: 7, operator: Equal, values: ["77777"]}]
`

const pathPolicy = `apiVersion: cilium.io/v1alpha1
kind: TracingPolicy
metadata: {name: cost}
spec:
  kprobes:
  - call: security_file_open
    syscall: false
    args: [{index: 0, type: file}]
    selectors:
    - matchArgs: [{index: 0, operator: Prefix, values: [/nomatch/one, /nomatch/two, /nomatch/three]}]
`

const denyPolicy = `apiVersion: cilium.io/v1alpha1
kind: TracingPolicy
metadata: {name: cost}
spec:
  kprobes:
  - call: security_task_prctl
    syscall: false
    args: [{index: 0, type: int}]
    selectors:
    - matchArgs: [{index: 0, operator: Equal, values: ["77777"]}]
      matchActions: [{action: Override, argError: -1}]
`

// add loads a policy and says how long that took.
func (c *costs) add(text string) time.Duration {
	c.t.Helper()
	file := filepath.Join(c.dir, "policy.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		c.t.Fatal(err)
	}
	begin := time.Now()
	c.tetra("tracingpolicy", "add", file)
	return time.Since(begin)
}

func (c *costs) remove(name string) {
	c.t.Helper()
	c.tetra("tracingpolicy", "delete", name)
}

func (c *costs) tetra(args ...string) {
	c.t.Helper()
	out, err := exec.Command(os.Getenv(envCLI), append([]string{"--server-address", c.serve}, args...)...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("tetra %s: %v\n%s\nthe agent says:\n%s", strings.Join(args, " "), err, out, c.a.output())
	}
}

// seek makes a system call that fails at once.
func seek(whence uintptr) func() {
	return func() { _, _, _ = unix.RawSyscall(unix.SYS_LSEEK, ^uintptr(0), 0, whence) }
}

// prctl makes one that there is none of.
func prctl() { _, _, _ = unix.RawSyscall(unix.SYS_PRCTL, 99_999, 0, 0) }

func signalNone() { _, _, _ = unix.RawSyscall(unix.SYS_KILL, uintptr(os.Getpid()), 0, 0) }

func signalThread() {
	_, _, _ = unix.RawSyscall(unix.SYS_TGKILL, uintptr(os.Getpid()), uintptr(os.Getpid()), 0)
}

func open() {
	if fd, err := unix.Open("/etc/hostname", unix.O_RDONLY, 0); err == nil {
		_ = unix.Close(fd)
	}
}

// per gives the instructions of a call, the least of three times.
func per(n int, call func()) int64 { return min(once(n, call), once(n, call), once(n, call)) }

// once makes n calls and gives the instructions of one.
func once(n int, call func()) int64 {
	begin := threadTime()
	for range n {
		call()
	}
	return (threadTime() - begin) / int64(n)
}

func threadTime() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return t.Nano()
}

// kernelBytes is the memory of all BPF programs and maps.
func kernelBytes(t *testing.T) int64 {
	t.Helper()
	sum := int64(mapBytes(t))
	var id ebpf.ProgramID
	for {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return sum
		}
		if err != nil {
			t.Fatal(err)
		}
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", p.FD()))
		_ = p.Close()
		if err != nil {
			t.Fatal(err)
		}
		_, rest, ok := bytes.Cut(text, []byte("memlock:"))
		var n int64
		if _, err := fmt.Sscan(string(rest), &n); !ok || err != nil {
			t.Fatalf("no memlock in %q", text)
		}
		sum += n
	}
}
