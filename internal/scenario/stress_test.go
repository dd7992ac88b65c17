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

// refused is a policy whose call does not take place, where functions can be made to return an error.
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

// stress is a machine on which something is denied, whatever happens to the agent.
type stress struct {
	t      *testing.T
	dir    string
	victim string
	secret string
	ways   []func() bool // of doing what is denied; each says whether it could
	rnd    *rand.Rand

	tries, went atomic.Int64 // how often it was tried, and how often it was possible
	want        int64
	did         map[string]int // to the agent
}

// TestStress tries what a policy denies from all CPUs at once, again and again, while the agent is killed at random moments,
// stopped, started anew as one version or another, and while other policies come and go.
func TestStress(t *testing.T) {
	n, _ := strconv.ParseInt(os.Getenv(envStress), 10, 64)
	if n <= 0 {
		t.Skipf("%s is not set; run make stress", envStress)
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv(envSeed); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Printf("seed %d: %s=%d repeats what happens to the agent\n", seed, envSeed, seed)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := &stress{t: t, dir: dir, victim: filepath.Join(dir, "victim"), rnd: rand.New(rand.NewPCG(seed, 0)), want: n, did: make(map[string]int)}
	s.ways = []func() bool{s.survives}
	if err := copyProgram(os.Getenv(envVictim), s.victim); err != nil {
		t.Fatal(err)
	}
	s.write(filepath.Join("policies", "denied.yaml"), fmt.Sprintf(denied, s.victim))
	s.secret = filepath.Join(dir, "secret")
	s.write("secret", "x")
	if probes()["fentry"]() == nil {
		s.ways = append(s.ways, s.opens)
		s.write(filepath.Join("policies", "refused.yaml"), fmt.Sprintf(refused, s.secret, s.victim))
	}
	defer removePins(dir)

	a := s.start(false)
	defer func() { _ = a.kill() }()
	for i, way := range s.ways {
		if way() {
			t.Fatalf("what is denied (%d) is possible with the agent alive and nothing else going on", i)
		}
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for s.tries.Load() < s.want && !t.Failed() {
				if n := s.tries.Add(1); s.ways[int(n)%len(s.ways)]() {
					s.went.Add(1)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
			a = s.disturb(a)
		}
	}
	fmt.Printf("%d tries in %d ways, %d went; to the agent: %v\n", s.tries.Load(), len(s.ways), s.went.Load(), s.did)
	if s.went.Load() != 0 {
		t.Errorf("%d of %d denied operations were possible", s.went.Load(), s.tries.Load())
	}
}

func (s *stress) write(name, text string) {
	path := filepath.Join(s.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		s.t.Fatal(err)
	}
}

// opens tries to open what it may not.
func (s *stress) opens() bool {
	out, _ := exec.Command(s.victim, "open", s.secret, "read").Output() // its status says the same
	return !bytes.Contains(out, []byte("refused"))
}

// survives does what is not to be survived.
func (s *stress) survives() bool {
	cmd := exec.Command(s.victim, "syscall", "lseek", "-1", "1", "4711")
	err := cmd.Run()
	var e *exec.ExitError
	if !errors.As(err, &e) {
		return true
	}
	w, ok := e.Sys().(syscall.WaitStatus)
	return !ok || !w.Signaled() || w.Signal() != syscall.SIGKILL
}

// options of an agent, of this version or the next.
func (s *stress) options(next bool, flags ...string) agentOptions {
	o := agentOptions{dir: s.dir, log: filepath.Join(s.dir, "agent.log"), flags: flags}
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
	switch s.rnd.IntN(5) {
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
