// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"tetragon/bpf"
	"tetragon/internal/abi"
	"tetragon/internal/event/decode"
	"tetragon/internal/event/read"
	"tetragon/internal/kernel"
)

func TestRingSize(t *testing.T) {
	for n, want := range map[int]uint32{
		-1: 4096, 0: 4096, 1: 4096, 4096: 4096, 4097: 8192, 65536: 65536, 65537: 131072, 4 << 20: 4 << 20, 1<<30 - 1: 1 << 30,
		1 << 30: 1 << 30, 1 << 40: 1 << 30,
	} {
		if got := RingSize(n); got != want {
			t.Errorf("RingSize(%d): got %d, want %d", n, got, want)
		}
	}
}

// A kernel without the tracepoints that nothing goes without: the error says which, and what has them.
func TestLoad_withoutTracepoints(t *testing.T) {
	spec, err := bpf.LoadBase()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Load(Options{Facts: &kernel.Facts{Release: "5.16.0-x", Types: spec.Types}})
	if err == nil || b != nil {
		t.Fatal("loaded all the same")
	}
	for _, want := range []string{"sched_process_exec", "5.16.0-x", "5.17", "CONFIG_DEBUG_INFO_BTF"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in: %v", want, err)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"something else":   {errors.New("program task_snapshot: no"), ""},
		"the snapshot":     {wrapped{"program task_snapshot: load program: invalid argument", &ebpf.VerifierError{}}, snapshotProg},
		"another program":  {wrapped{"program proc_exec: load program: invalid argument", &ebpf.VerifierError{}}, ""},
		"no error at all?": {errors.New(""), ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := refused(c.err); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

type wrapped struct {
	text string
	err  error
}

func (w wrapped) Error() string { return w.text }
func (w wrapped) Unwrap() error { return w.err }

// load loads the sensor on this machine's own kernel, and closes it when the test ends.
func load(t *testing.T, o Options) *Base {
	t.Helper()
	b := open(t, o)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return b
}

func open(t *testing.T, o Options) *Base {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("feature bpf: not root")
	}
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		t.Skip("feature btf: ", err)
	}
	f, err := kernel.Read(kernel.Options{})
	if err != nil {
		t.Skip("feature bpf: ", err)
	}
	o.Facts = f
	b, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// attached is a loaded sensor from which records come, and what reads them.
func attached(t *testing.T, o Options) (*Base, *read.Reader) {
	t.Helper()
	b := load(t, o)
	r, err := read.New(read.Options{Ring: b.Ring(), Sleep: b.Sleeps})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	if err := b.Attach(); err != nil {
		t.Fatal(err)
	}
	return b, r
}

// rest hands each record that is in the ring to f.
func rest(t *testing.T, r *read.Reader, f func(*decode.Record)) {
	t.Helper()
	var rec decode.Record
	for more := true; more; {
		var err error
		_, more, err = r.Rest(func(raw []byte) {
			if err := decode.Decode(raw, &rec); err != nil {
				t.Errorf("a record of our own kernel half: %v", err)
				return
			}
			f(&rec)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func needSnapshot(t *testing.T, b *Base) {
	t.Helper()
	if !b.HasSnapshot() {
		t.Skip("feature iter_task: ", b.Missing())
	}
}

func TestSnapshot_tellsEachOnce(t *testing.T) {
	b, r := attached(t, Options{Ns: true})
	needSnapshot(t, b)
	own := uint32(os.Getpid())
	for _, c := range []struct {
		name  string
		all   bool
		want  int
		isNew bool
	}{{"the first", false, 1, true}, {"what is not known yet", false, 0, false}, {"all", true, 1, false}} {
		if err := b.Snapshot(c.all); err != nil {
			t.Fatal(err)
		}
		pids := map[uint32]int{}
		ends := 0
		rest(t, r, func(rec *decode.Record) {
			switch rec.Kind {
			case abi.KindSnapEnd:
				ends++
			case abi.KindSnapshot:
				if ends > 0 {
					t.Errorf("%s: pid %d came after the end", c.name, rec.Pid)
				}
				if pids[rec.Pid]++; rec.Pid != own {
					return
				}
				if isNew := rec.Flags&abi.FlagNew != 0; isNew != c.isNew {
					t.Errorf("%s: own process is new: %v, want %v", c.name, isNew, c.isNew)
				}
				exe, err := os.Executable()
				if err != nil {
					t.Fatal(err)
				}
				cwd, err := os.Getwd()
				if err != nil {
					t.Fatal(err)
				}
				if got := string(decode.AppendPath(nil, rec.Path)); got != exe {
					t.Errorf("%s: own file: got %q, want %q", c.name, got, exe)
				}
				if got := string(decode.AppendPath(nil, rec.Cwd)); got != cwd {
					t.Errorf("%s: own directory: got %q, want %q", c.name, got, cwd)
				}
				if got, want := string(rec.Args), strings.Join(os.Args, "\x00")+"\x00"; got != want {
					t.Errorf("%s: own arguments: got %q, want %q", c.name, got, want)
				}
				if x := rec.Exec; x.ParentPid != uint32(os.Getppid()) || x.Ids[0] != uint32(os.Getuid()) || x.Ns[abi.NsMnt] == 0 {
					t.Errorf("%s: got %+v", c.name, x)
				}
			}
		})
		if ends != 1 {
			t.Errorf("%s: %d end marks, want 1", c.name, ends)
		}
		if pids[own] != c.want {
			t.Errorf("%s: own process was told %d times, want %d", c.name, pids[own], c.want)
		}
		for pid, n := range pids {
			if n != 1 {
				t.Errorf("%s: pid %d was told %d times", c.name, pid, n)
			}
		}
	}
}

// A child's life, through two sensors that know nothing of each other; and each one's account is exact.
// TestSnapshot_whileDetaching: an agent that stops as soon as it has started asks for both at once.
func TestSnapshot_whileDetaching(t *testing.T) {
	b, _ := attached(t, Options{})
	needSnapshot(t, b)
	begun, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		close(begun)
		for b.Snapshot(true) == nil {
		}
	}()
	<-begun
	if err := b.Detach(); err != nil {
		t.Error(err)
	}
	<-done
}

func TestBase_twice(t *testing.T) {
	type sensor struct {
		b *Base
		r *read.Reader
	}
	var both []sensor
	for range 2 {
		b, r := attached(t, Options{})
		both = append(both, sensor{b, r})
	}
	cmd := exec.Command("/bin/sh", "-c", "exit 3")
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	child := uint32(cmd.Process.Pid)
	for i, s := range both {
		if err := s.b.Detach(); err != nil {
			t.Fatal(err)
		}
		var kinds []uint16
		var key uint64
		var got Counts
		rest(t, s.r, func(rec *decode.Record) {
			got[rec.Kind].Seen++
			if rec.Pid != child {
				return
			}
			kinds = append(kinds, rec.Kind)
			switch rec.Kind {
			case abi.KindFork:
				if rec.Fork.ParentPid != uint32(os.Getpid()) {
					t.Errorf("sensor %d: parent %d, want %d", i, rec.Fork.ParentPid, os.Getpid())
				}
			case abi.KindExec:
				key = rec.Ktime
				if string(rec.Name) != "/bin/sh" || string(rec.Args) != "/bin/sh\x00-c\x00exit 3\x00" || rec.Flags&abi.FlagClone == 0 {
					t.Errorf("sensor %d: exec of %q, %q, flags %x", i, rec.Name, rec.Args, rec.Flags)
				}
			case abi.KindExit:
				if rec.Ktime != key || rec.Exit.Code != 3<<8 {
					t.Errorf("sensor %d: exit of %d with %x, want of %d with 300", i, rec.Ktime, rec.Exit.Code, key)
				}
			}
		})
		if want := []uint16{abi.KindFork, abi.KindExec, abi.KindExit}; len(kinds) != 3 || kinds[0] != want[0] || kinds[1] != want[1] || kinds[2] != want[2] {
			t.Errorf("sensor %d: kinds %v, want %v", i, kinds, want)
		}
		counts, err := s.b.Counts()
		if err != nil {
			t.Fatal(err)
		}
		for k := range counts {
			if sent := counts[k].Seen - counts[k].Lost; counts[k].Seen < counts[k].Lost || sent != got[k].Seen {
				t.Errorf("sensor %d: kind %d: the account says %+v, %d were read", i, k, counts[k], got[k].Seen)
			}
		}
	}
}

// A ring that nobody reads: what it had no room for is counted, and dated.
func TestCounts_losses(t *testing.T) {
	b, r := attached(t, Options{RingBytes: 4096})
	needSnapshot(t, b)
	if first, err := b.TakeLossTimes(); err != nil || first != [abi.KindKinds]uint64{} {
		t.Logf("lost before anything was asked for: %v, %v", first, err) // by others on this machine
	}
	for range 3 {
		if err := b.Snapshot(true); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Detach(); err != nil {
		t.Fatal(err)
	}
	read := uint64(0)
	rest(t, r, func(rec *decode.Record) {
		if rec.Kind == abi.KindSnapshot {
			read++
		}
	})
	c, err := b.Counts()
	if err != nil {
		t.Fatal(err)
	}
	s := c[abi.KindSnapshot]
	if s.Lost == 0 || s.Seen != s.Lost+read || s.LostLast == 0 {
		t.Errorf("the account says %+v, %d were read", s, read)
	}
	first, err := b.TakeLossTimes()
	if err != nil {
		t.Fatal(err)
	}
	if first[abi.KindSnapshot] == 0 || first[abi.KindSnapshot] > s.LostLast {
		t.Errorf("the first loss at %d, the last at %d", first[abi.KindSnapshot], s.LostLast)
	}
	if again, err := b.TakeLossTimes(); err != nil || again != [abi.KindKinds]uint64{} {
		t.Errorf("taken twice: %v, %v", again, err)
	}
}

// The price of loading, with everything on.
func TestBase_costs(t *testing.T) {
	b := load(t, Options{Ns: true, RealPath: true, Env: true})
	if n := b.ProgramBytes(); n < 4<<10 || n > 1<<20 {
		t.Errorf("%d bytes of programs", n)
	}
	if n := b.MapBytes(); n == 0 || n > 8<<20 {
		t.Errorf("%d bytes of maps, want at most 8 MiB", n)
	}
	counts := b.VerifiedInstructions()
	if len(counts) == 0 {
		t.Skip("feature verified_insns: the kernel does not say")
	}
	for name, n := range counts {
		if n == 0 || n >= 50_000 {
			t.Errorf("%s: the verifier looked at %d instructions, want less than 50000", name, n)
		}
		t.Logf("%s: %d instructions verified", name, n)
	}
}

// Close leaves nothing in the kernel and no descriptor here.
func TestClose_leavesNothing(t *testing.T) {
	if err := open(t, Options{}).Close(); err != nil { // what the runtime and libraries open once is open then
		t.Fatal(err)
	}
	before := descriptors(t)
	b := open(t, Options{})
	if err := b.Attach(); err != nil {
		t.Fatal(err)
	}
	var progs []ebpf.ProgramID
	var maps []ebpf.MapID
	for name, p := range b.coll.Programs {
		info, err := p.Info()
		if err != nil {
			t.Fatal(err)
		}
		id, ok := info.ID()
		if !ok {
			t.Fatalf("%s has no id", name)
		}
		progs = append(progs, id)
	}
	for name, m := range b.coll.Maps {
		info, err := m.Info()
		if err != nil {
			t.Fatal(err)
		}
		id, ok := info.ID()
		if !ok {
			t.Fatalf("%s has no id", name)
		}
		maps = append(maps, id)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
	gone(t, "program", len(progs), func(i int) error {
		p, err := ebpf.NewProgramFromID(progs[i])
		if err == nil {
			_ = p.Close()
		}
		return err
	})
	gone(t, "map", len(maps), func(i int) error {
		m, err := ebpf.NewMapFromID(maps[i])
		if err == nil {
			_ = m.Close()
		}
		return err
	})
}

// gone waits until the kernel knows none of n things. It frees them a little after they are closed; global data, which is
// mapped, when the garbage collector has found that nothing refers to the mapping.
func gone(t *testing.T, what string, n int, open func(int) error) {
	t.Helper()
	if n == 0 {
		t.Fatalf("no %s to look for", what)
	}
	for i := range n {
		var err error
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			if err = open(i); errors.Is(err, os.ErrNotExist) {
				break
			}
			runtime.GC()
		}
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s %d is still there (%v)", what, i, err)
		}
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
