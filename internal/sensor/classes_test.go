// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"tetragon/internal/policy/plan"
	"tetragon/internal/sensor/gen"
)

// TestProvoke is no test: it is what a copy of this binary does that another test starts.
func TestProvoke(t *testing.T) {
	arg, err := strconv.Atoi(os.Getenv("SENSOR_PROVOKE"))
	if err != nil {
		return // not started by a test
	}
	_, _ = io.ReadFull(os.Stdin, make([]byte, 1)) // when the test says so
	provoke(arg)
	if next := os.Getenv("SENSOR_NEXT"); next != "" {
		cmd := exec.Command(next, "-test.run=^TestProvoke$")
		cmd.Env = []string{"SENSOR_PROVOKE=" + strconv.Itoa(arg+1)}
		cmd.Stdin = strings.NewReader("x")
		if err := cmd.Run(); err != nil {
			t.Error(err)
		}
	}
}

// actor is a copy of this binary, running.
type actor struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
}

// start runs a binary that will provoke with arg, and with arg+1 from its child `next`.
func start(t *testing.T, binary string, arg int, next string) *actor {
	t.Helper()
	a := &actor{t: t, cmd: exec.Command(binary, "-test.run=^TestProvoke$")}
	a.cmd.Env = []string{"SENSOR_PROVOKE=" + strconv.Itoa(arg), "SENSOR_NEXT=" + next}
	var err error
	if a.in, err = a.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *actor) act() {
	a.t.Helper()
	if _, err := a.in.Write([]byte("x")); err != nil {
		a.t.Fatal(err)
	}
	if err := a.cmd.Wait(); err != nil {
		a.t.Fatal(err)
	}
}

// copies puts this binary into a folder under several names.
func copies(t *testing.T, names ...string) map[string]string {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, n := range names {
		out[n] = filepath.Join(dir, n)
		if err := os.WriteFile(out[n], self, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// classPlan asks for calls of getpgid with the arguments of these tests by processes of a set.
func classPlan(name string, set plan.Set, of plan.Relation) *plan.Plan {
	p := sysPlan(name, plan.BackendSysEnter, odd, odd+0xffff)
	f := p.Hooks[0].Rules[0].Filters
	f[0] = plan.Filter{Kind: plan.FilterClass, Set: 0, Of: of}
	p.Sets = []plan.Set{set}
	return p
}

// Sets of processes by each relation: of processes that lived before the policy came, and of those that come later.
func TestManager_classes(t *testing.T) {
	// In task storage, and in a table as on kernels whose task storage cannot be relied on.
	t.Run("storage", func(t *testing.T) { testClasses(t, false) })
	t.Run("table", func(t *testing.T) { testClasses(t, true) })
}

func testClasses(t *testing.T, spare bool) {
	g := newRig(t, ManagerOptions{})
	g.base.spare = spare
	bin := copies(t, "one", "two", "three")
	paths := func(p ...string) plan.Set { return plan.Set{Kind: plan.SetPaths, Paths: p} }
	before := start(t, bin["one"], odd, bin["two"])
	ids := map[string]uint32{}
	for _, c := range []struct {
		name string
		set  plan.Set
		of   plan.Relation
	}{
		{"self one", paths(bin["one"]), plan.OfSelf},
		{"self two", paths(bin["two"]), plan.OfSelf},
		{"parent one", paths(bin["one"]), plan.OfParent},
		{"line one", paths(bin["one"]), plan.OfLine},
		{"ancestor one", paths(bin["one"]), plan.OfAncestor},
		{"prefix", plan.Set{Kind: plan.SetPrefix, Paths: []string{filepath.Dir(bin["one"]) + "/t"}}, plan.OfSelf},
		{"suffix", plan.Set{Kind: plan.SetSuffix, Paths: []string{"/one"}}, plan.OfSelf},
		{"pid", plan.Set{Kind: plan.SetPids, Pids: []uint32{uint32(before.cmd.Process.Pid)}}, plan.OfSelf},
		{"three", paths(bin["three"]), plan.OfLine},
	} {
		id, err := g.m.Add(classPlan(c.name, c.set, c.of))
		if err != nil {
			t.Fatal(err)
		}
		ids[c.name] = id
	}
	if n := len(g.m.sets.rows); n != 6 {
		t.Errorf("%d sets have numbers, want 6: equal ones share theirs", n)
	}
	after := start(t, bin["one"], odd+16, bin["two"])
	before.act()
	after.act()
	want := map[string][]uint64{
		"self one": {odd, odd + 16}, "self two": {odd + 1, odd + 17}, "parent one": {odd + 1, odd + 17},
		"line one": {odd, odd + 1, odd + 16, odd + 17}, "ancestor one": {odd + 1, odd + 17}, "prefix": {odd + 1, odd + 17},
		"suffix": {odd, odd + 16}, "pid": {odd},
	}
	if got := g.told(); !equalTold(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	for _, name := range []string{"self one", "self two", "prefix", "suffix", "pid", "three", "line one", "ancestor one", "parent one"} {
		if g.m.classes == nil {
			t.Fatal("nobody follows processes any more, though it is needed")
		}
		if err := g.m.Remove(ids[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.m.retired.wait(); err != nil {
		t.Fatal(err)
	}
	if g.m.classes != nil {
		t.Error("processes are followed, though nobody needs it")
	}
	g.clean()
}

// A set that comes does not take any exec for two: a process that exchanges its image keeps who was there before.
func TestManager_classesDuringChange(t *testing.T) {
	g := newRig(t, ManagerOptions{})
	bin := copies(t, "one", "two")
	if _, err := g.m.Add(classPlan("parent", plan.Set{Kind: plan.SetPaths, Paths: []string{bin["one"]}}, plan.OfParent)); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	changes := make(chan int)
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				changes <- n
				return
			default:
			}
			id, err := g.m.Add(classPlan("other", plan.Set{Kind: plan.SetPaths, Paths: []string{fmt.Sprintf("/x%d", n)}}, plan.OfSelf))
			if err != nil {
				t.Error(err)
				continue
			}
			if err := g.m.Remove(id); err != nil {
				t.Error(err)
			}
		}
	}()
	const rounds = 30
	got := map[string][]uint64{}
	for i := range rounds {
		a := start(t, bin["one"], odd+2*i, bin["two"])
		a.act()
		for name, args := range g.told() {
			got[name] = append(got[name], args...)
		}
	}
	close(stop)
	n := <-changes
	t.Logf("%d changes", n)
	var want []uint64
	for i := range rounds {
		want = append(want, uint64(odd+2*i+1))
	}
	if !equalTold(got, map[string][]uint64{"parent": want}) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestSetTable(t *testing.T) {
	s := newSetTable()
	set := func(i int) plan.Set { return plan.Set{Kind: plan.SetPaths, Paths: []string{strconv.Itoa(i)}} }
	seen := map[int]bool{}
	var last []int
	for i := range gen.MaxSets {
		n, err := s.number(set(i))
		if err != nil {
			t.Fatal(err)
		}
		if n%64 == 0 || n < 0 || n > 255 || seen[n] {
			t.Fatalf("set %d has number %d", i, n)
		}
		seen[n] = true
		s.use([]int{n})
		last = []int{n}
	}
	if _, err := s.number(set(gen.MaxSets)); err == nil || !strings.Contains(err.Error(), "252") {
		t.Errorf("one more set: %v", err)
	}
	if n, err := s.number(set(gen.MaxSets - 1)); err != nil || n != last[0] {
		t.Errorf("the same set again: %d, %v; want %d", n, err, last[0])
	}
	s.forget()
	if len(s.rows) != gen.MaxSets {
		t.Errorf("%d sets are left, all are used", len(s.rows))
	}
	s.leave(last)
	s.forget()
	if n, err := s.number(set(gen.MaxSets)); err != nil || n != last[0] {
		t.Errorf("a new set: %d, %v; want the number that is free, %d", n, err, last[0])
	}
}
