// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// What TestStress is told by environment.
const (
	envStress = "SCENARIO_STRESS" // number of tries; unset: it does not run
	envSeed   = "SCENARIO_SEED"   // of what happens to the agent; unset: another one each time
	envRounds = "SCENARIO_ROUNDS" // how often something is done to the agent at least, and all the time there are tries; unset: each kind once
	envEach   = "SCENARIO_EACH"   // tries of one process that survives its tries; unset: 25
)

const (
	stressKinds = 4 // of what is done to the agent
	stressWait  = 5 * patience
)

// denied is a policy that nobody survives who does what it is about. It matches a binary, so it needs what is kept with each
// process: each try is a new one.
const denied = `apiVersion: cilium.io/v1alpha1
kind: TracingPolicy
metadata: {name: denied}
spec:
  kprobes:
  - call: sys_lseek
    args: [{index: 0, type: int}, {index: 1, type: int64}, {index: 2, type: uint32}]
    selectors:
    - matchArgs: [{index: 2, operator: Equal, values: ["4711"]}]
      matchBinaries: [{operator: In, values: ["%s"]}]
      matchActions: [{action: Sigkill}]
`

// refused is a policy whose calls do not take place, where functions can be made to return an error: one is about who does it,
// the other about whose child does.
const refused = `apiVersion: cilium.io/v1alpha1
kind: TracingPolicy
metadata: {name: refused}
spec:
  kprobes:
  - call: security_file_open
    syscall: false
    args: [{index: 0, type: file}]
    selectors:
    - matchArgs: [{index: 0, operator: Equal, values: ["%s"]}]
      matchBinaries: [{operator: In, values: ["%s"]}]
      matchActions: [{action: Override, argError: -13}]
    - matchArgs: [{index: 0, operator: Equal, values: ["%s"]}]
      matchParentBinaries: [{operator: In, values: ["%s"]}]
      matchActions: [{action: Override, argError: -13}]
`

// guarded is a policy on a system call, which is denied later by a function that it asks.
const guarded = `apiVersion: cilium.io/v1alpha1
kind: TracingPolicy
metadata: {name: guarded}
spec:
  kprobes:
  - call: sys_openat
    args: [{index: 1, type: string}]
    selectors:
    - matchArgs: [{index: 1, operator: Equal, values: ["%s"]}]
      matchBinaries: [{operator: In, values: ["%s"]}]
      matchActions: [{action: Override, argError: -13}]
`

// other is a policy on the same function that comes and goes.
const other = `apiVersion: cilium.io/v1alpha1
kind: TracingPolicy
metadata: {name: other}
spec:
  kprobes:
  - call: sys_lseek
    args: [{index: 2, type: uint32}]
    selectors:
    - matchArgs: [{index: 2, operator: Equal, values: ["4712"]}]
      matchParentBinaries: [{operator: In, values: ["/none/%d"]}]
`

// way is one of doing what is denied. It says how often it was tried, and how often it was possible.
type way struct {
	name string
	do   func() (tries, went int64)
}

// stress is a machine on which something is denied, whatever happens to the agent.
type stress struct {
	t              *testing.T
	dir            string
	victim, parent string // two copies of one program
	secret, family string // two files,
	asked          string // and one more
	rnd            *rand.Rand
	ways           []way

	each        int            // tries of one process that survives them
	tries, went []atomic.Int64 // of each way
	turn        atomic.Int64
	kinds       []int          // of what is done to the agent next
	did         map[string]int // to the agent
}

// TestStress tries what policies deny from all CPUs at once, again and again, while the agent is killed at random moments,
// stopped, started anew as one version or another, and while other policies come and go.
func TestStress(t *testing.T) {
	number := func(env string, otherwise int64) int64 {
		s := os.Getenv(env)
		if s == "" {
			return otherwise
		}
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil || v <= 0 {
			t.Fatalf("%s=%s: want a number above 0", env, s)
		}
		return v
	}
	n := number(envStress, 0)
	if n == 0 {
		t.Skipf("%s is not set; run make stress", envStress)
	}
	seed := uint64(number(envSeed, time.Now().UnixNano()))
	rounds, toTheEnd := int(number(envRounds, stressKinds)), os.Getenv(envRounds) != ""
	fmt.Printf("seed %d: make stress SEED=%d repeats what happens to the agent\n", seed, seed)
	s := newStress(t, seed)
	s.each = int(number(envEach, 25))
	defer removePins(s.dir)
	a := s.start(false)
	defer func() { _ = a.kill() }()
	for _, w := range s.ways {
		if _, went := w.do(); went > 0 {
			t.Fatalf("%s: possible with the agent alive and nothing else going on", w.name)
		}
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for !t.Failed() && (toTheEnd || s.sum(s.tries) < n) {
				select {
				case <-done:
					return
				default:
				}
				i := int(s.turn.Add(1)) % len(s.ways)
				tries, went := s.ways[i].do()
				s.tries[i].Add(tries)
				s.went[i].Add(went)
			}
		})
	}
	wg.Go(func() { s.load(done) })
	for i := 0; i < rounds || s.sum(s.tries) < n; i++ {
		a = s.disturb(a)
		fmt.Printf("%6d tries, %d went; to the agent: %v\n", s.sum(s.tries), s.sum(s.went), s.did)
	}
	close(done)
	wg.Wait()
	for i, w := range s.ways {
		fmt.Printf("%-40s %6d tries, %d went\n", w.name, s.tries[i].Load(), s.went[i].Load())
		if s.went[i].Load() != 0 {
			t.Errorf("%s: %d of %d were possible", w.name, s.went[i].Load(), s.tries[i].Load())
		}
	}
	fmt.Printf("%d tries, %d went, on %d CPUs; to the agent: %v\n", s.sum(s.tries), s.sum(s.went), runtime.NumCPU(), s.did)
}

// newStress makes the policies, and what they are about.
func newStress(t *testing.T, seed uint64) *stress {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	s := &stress{
		t: t, dir: dir, victim: in("victim"), parent: in("parent"), secret: in("secret"), family: in("family"), asked: in("asked"),
		rnd: rand.New(rand.NewPCG(seed, 0)), did: make(map[string]int),
	}
	s.ways = []way{{"SIGKILL, by binary", s.survives}}
	for _, to := range []string{s.victim, s.parent} {
		if err := copyProgram(os.Getenv(envVictim), to); err != nil {
			t.Fatal(err)
		}
	}
	s.write(filepath.Join("policies", "denied.yaml"), fmt.Sprintf(denied, s.victim))
	if probes()["fentry"]() == nil {
		s.ways = append(s.ways,
			way{"Override, by path and binary", func() (int64, int64) { return s.opens(s.victim, "opens", s.secret) }},
			way{"Override, by path and parent", func() (int64, int64) { return s.opens(s.parent, "run", s.victim, "opens", s.family) }},
			way{"Override of a system call, by a function", func() (int64, int64) { return s.opens(s.victim, "opens", s.asked) }})
		s.write("secret", "x")
		s.write("family", "x")
		s.write("asked", "x")
		s.write(filepath.Join("policies", "guarded.yaml"), fmt.Sprintf(guarded, s.asked, s.victim))
		s.write(filepath.Join("policies", "refused.yaml"), fmt.Sprintf(refused, s.secret, s.victim, s.family, s.parent))
	}
	s.tries, s.went = make([]atomic.Int64, len(s.ways)), make([]atomic.Int64, len(s.ways))
	return s
}

func (s *stress) sum(of []atomic.Int64) (n int64) {
	for i := range of {
		n += of[i].Load()
	}
	return n
}

// load keeps the machine busy with processes that come and go.
func (s *stress) load(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		default:
			s.run(s.parent, "spawn", "10")
		}
	}
}

func (s *stress) run(argv ...string) ([]byte, error) {
	return exec.Command(argv[0], argv[1:]...).Output()
}

func (s *stress) write(name, text string) {
	path := filepath.Join(s.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		s.t.Fatal(err)
	}
}

// opens has a program try to open what it may not. What does not say that it tried counts as possible.
func (s *stress) opens(argv ...string) (tries, went int64) {
	out, err := s.run(append(argv, strconv.Itoa(s.each))...)
	for line := range bytes.Lines(out) {
		if v, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("WENT=")); ok {
			if went, err = strconv.ParseInt(string(v), 10, 64); err == nil {
				return int64(s.each), went
			}
		}
	}
	fmt.Printf("%v: %v: %s\n", argv, err, out)
	return int64(s.each), int64(s.each)
}

// survives does what is not to be survived.
func (s *stress) survives() (tries, went int64) {
	_, err := s.run(s.victim, "syscall", "lseek", "-1", "1", "4711")
	var e *exec.ExitError
	if errors.As(err, &e) {
		if w, ok := e.Sys().(syscall.WaitStatus); ok && w.Signaled() && w.Signal() == syscall.SIGKILL {
			return 1, 0
		}
	}
	fmt.Printf("%s: survived: %v\n", s.victim, err)
	return 1, 1
}

// options of an agent, of this version or the next.
func (s *stress) options(next bool, flags ...string) agentOptions {
	o := agentOptions{dir: s.dir, log: filepath.Join(s.dir, "agent.log"), flags: flags, wait: stressWait}
	if next {
		o.via = []string{"sh", "-c", `b=$1; shift; exec "$b-next" "$@"`, "sh"}
	}
	return o
}

// start starts an agent and waits until it works.
func (s *stress) start(next bool, flags ...string) *agent {
	a, err := startAgent(s.options(next, flags...))
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// disturb does something to the agent, and returns the one that runs then.
func (s *stress) disturb(a *agent) *agent {
	next := s.rnd.IntN(2) == 1
	pause := time.Duration(s.rnd.IntN(400)) * time.Millisecond
	if len(s.kinds) == 0 {
		s.kinds = s.rnd.Perm(stressKinds) // each comes, in any order
	}
	kind := s.kinds[0]
	s.kinds = s.kinds[1:]
	switch kind {
	case 0: // killed, restarted as the same version or another
		s.did["killed"]++
		s.check(a.kill())
		time.Sleep(pause)
		return s.start(next)
	case 1: // killed, and its successor as well, before it has taken over or while it does
		s.did["killed at start"]++
		s.check(a.kill())
		cmd, out, err := command(s.options(next))
		s.check(err)
		s.check(cmd.Start())
		_ = out.Close()
		time.Sleep(pause)
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
		return s.start(!next)
	case 2: // stopped in order, its programs stay
		s.did["upgraded"]++
		s.check(a.kill())
		a = s.start(next, "--keep-sensors-on-exit")
		s.check(a.stop())
		time.Sleep(pause)
		return s.start(!next)
	default:
		s.did["other policies"]++
		s.write("other.yaml", fmt.Sprintf(other, s.rnd.IntN(1000)))
		s.tetra("tracingpolicy", "add", filepath.Join(s.dir, "other.yaml"))
		time.Sleep(pause)
		s.tetra("tracingpolicy", "delete", "other")
		return a
	}
}

func (s *stress) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stress) tetra(args ...string) {
	s.t.Helper()
	cmd := exec.Command(os.Getenv(envCLI), append([]string{"--server-address", "unix://" + filepath.Join(s.dir, socketName)}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("tetra %v: %v: %s", args, err, out.String())
	}
}

func command(o agentOptions) (*exec.Cmd, *os.File, error) { return o.command() }
