// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// What the runner is told, by environment so that the same binary runs here and in a guest.
const (
	envScripts = "SCENARIO_DIR"    // directory of the scripts; unset: nothing runs
	envAgent   = "TETRAGON_BIN"    // the agent
	envCLI     = "TETRA_BIN"       // the command line
	envVictim  = "VICTIM_BIN"      // test/victim
	envKernel  = "SCENARIO_KERNEL" // row of the matrix
	envMatrix  = "SCENARIO_MATRIX" // file of the matrix
	envStorm   = "SCENARIO_STORM"  // number of execs of the storm scenario

	envPolicies = "SCENARIO_POLICIES" // directory of the ready-made policies
	envCorpus   = "SCENARIO_CORPUS"   // directory of the policies that the user's document names; they are not in the tree

	hostRow = "host"
)

// script is the state of one running script.
type script struct {
	dir     string
	facts   *facts
	agent   *agent
	starts  int
	victims map[string]*background // by name
	streams map[string]*background
	t       testscript.T
}

// background is a program that goes on while the script does.
type background struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   string // file of its output, of a stream
	done  chan error
}

type scriptKey struct{}

func of(ts *testscript.TestScript) *script { return ts.Value(scriptKey{}).(*script) }

// params describes how scripts run.
func params(dir string, f *facts) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			s := &script{dir: env.WorkDir, facts: f, victims: map[string]*background{}, streams: map[string]*background{}, t: env.T()}
			env.Values[scriptKey{}] = s
			begin := time.Now()
			env.Defer(func() {
				s.cleanUp()
				// go test keeps the results until all scripts have ended; this shows that something goes on.
				fmt.Printf("ran %s in %.1f s\n", strings.TrimPrefix(filepath.Base(env.WorkDir), "script-"), time.Since(begin).Seconds())
			})
			// Other users must reach what is in there.
			for _, d := range []string{env.WorkDir, filepath.Dir(env.WorkDir)} {
				if err := os.Chmod(d, 0o755); err != nil {
					return err
				}
			}
			victim := filepath.Join(env.WorkDir, "victim")
			if err := copyProgram(os.Getenv(envVictim), victim); err != nil {
				return fmt.Errorf("copy the victim: %w; set %s to the program made of test/victim", err, envVictim)
			}
			env.Setenv("VICTIM", victim)
			env.Setenv("EXPORT", filepath.Join(env.WorkDir, exportName))
			env.Setenv("SOCK", filepath.Join(env.WorkDir, socketName))
			env.Setenv("TETRA", os.Getenv(envCLI))
			env.Setenv("NODE", nodeName)
			env.Setenv("TETRAGON", os.Getenv(envAgent))
			env.Setenv("BPFDIR", pinDir(env.WorkDir))
			env.Setenv("PINS", filepath.Join(bpffs, pinDir(env.WorkDir)))
			env.Setenv("POLICIES", os.Getenv(envPolicies))
			env.Setenv("CORPUS", os.Getenv(envCorpus))
			env.Setenv("STORM", "2000")
			if n := os.Getenv(envStorm); n != "" {
				env.Setenv("STORM", n)
			}
			return nil
		},
		Condition: func(name string) (bool, error) {
			missing, broken := f.lacks(name)
			return missing == nil, broken
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"needs":   cmdNeeds,
			"agent":   cmdAgent,
			"event":   cmdEvent,
			"no":      cmdNo,
			"count":   cmdCount,
			"marker":  cmdMarker,
			"balance": cmdBalance,
			"jq":      cmdJQ,
			"tetra":   cmdTetra,
			"stream":  cmdStream,
			"victim":  cmdVictim,
		},
	}
}

func copyProgram(from, to string) error {
	if err := os.Link(from, to); err == nil {
		return nil
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// cleanUp ends what the script left running.
func (s *script) cleanUp() {
	if s.agent != nil {
		_ = s.agent.kill()
		s.agent.export.close()
	}
	removePins(s.dir)
	for _, m := range []map[string]*background{s.victims, s.streams} {
		for _, b := range m {
			_ = b.cmd.Process.Kill()
			<-b.done
		}
	}
}

func noNeg(ts *testscript.TestScript, neg bool) {
	if neg {
		ts.Fatalf("! does not go with this command")
	}
}

// cmdNeeds: needs FEATURE...
func cmdNeeds(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg)
	s := of(ts)
	for _, name := range args {
		missing, broken := s.facts.lacks(name)
		ts.Check(broken)
		if missing != nil {
			s.t.Skip(fmt.Sprintf("needs %s: %v", name, missing))
		}
	}
}

// running gives the agent or ends the script.
func running(ts *testscript.TestScript) *agent {
	a := of(ts).agent
	if a == nil {
		ts.Fatalf("no agent: the script has not said \"agent start\"")
	}
	return a
}

var assignment = regexp.MustCompile(`^[A-Z][A-Z0-9_]*=`)

// cmdAgent: agent start [via PROGRAM ARG... --] [ENV=VALUE...] [flags...] | stop | kill | signal NAME | log REGEXP | gone
func cmdAgent(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("agent start, stop, kill, signal or log?")
	}
	s := of(ts)
	verb, args := args[0], args[1:]
	if neg && verb != "start" && verb != "log" {
		noNeg(ts, neg)
	}
	switch verb {
	case "start":
		o := agentOptions{dir: s.dir, log: filepath.Join(s.dir, "agent.log")}
		if len(args) > 0 && args[0] == "via" {
			for args = args[1:]; len(args) > 0 && args[0] != "--"; args = args[1:] {
				o.via = append(o.via, args[0])
			}
			if len(args) > 0 {
				args = args[1:]
			}
		}
		for ; len(args) > 0 && assignment.MatchString(args[0]); args = args[1:] {
			o.env = append(o.env, args[0])
		}
		o.flags = args
		if neg {
			o.log = filepath.Join(s.dir, "refused.log")
			said, err := runFailingAgent(o)
			_, _ = io.WriteString(ts.Stdout(), said)
			ts.Check(err)
			return
		}
		if s.agent != nil {
			if s.agent.running() {
				ts.Fatalf("an agent runs already")
			}
			s.agent.export.close()
		}
		s.starts++
		a, err := startAgent(o)
		ts.Check(err)
		s.agent = a
		ts.Setenv("AGENT_PID", strconv.Itoa(a.cmd.Process.Pid))
	case "stop":
		ts.Check(running(ts).stop())
	case "kill":
		ts.Check(running(ts).kill())
	case "signal":
		if len(args) != 1 {
			ts.Fatalf("agent signal NAME")
		}
		ts.Check(running(ts).cmd.Process.Signal(signalNumber(ts, args[0])))
	case "log":
		if len(args) != 1 {
			ts.Fatalf("agent log REGEXP")
		}
		re, err := regexp.Compile("(?m)" + args[0])
		ts.Check(err)
		a := running(ts)
		if !neg {
			ts.Check(a.awaitLog(re))
			return
		}
		text, err := os.ReadFile(a.log)
		ts.Check(err)
		if m := re.Find(text); m != nil {
			ts.Fatalf("the log says %q", m)
		}
	default:
		ts.Fatalf("agent %s: want start, stop, kill, signal or log", verb)
	}
}

func signalNumber(ts *testscript.TestScript, name string) syscall.Signal {
	for n, sig := range map[string]syscall.Signal{
		"STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT, "HUP": syscall.SIGHUP, "USR1": syscall.SIGUSR1,
		"INT": syscall.SIGINT, "TERM": syscall.SIGTERM,
	} {
		if n == name {
			return sig
		}
	}
	ts.Fatalf("unknown signal %s", name)
	return 0
}

// cmdEvent: event TYPE CONDITION...
func cmdEvent(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg)
	q, err := parseQuery(args)
	ts.Check(err)
	e, err := running(ts).find(q)
	ts.Check(err)
	setCaptures(ts, q, e)
}

func setCaptures(ts *testscript.TestScript, q *query, e *event) {
	for _, c := range q.captures {
		values := c.path.values(e)
		if len(values) == 0 {
			ts.Fatalf("%s: the event has no such field", c.name)
		}
		ts.Setenv(c.name, valueText(values[0]))
	}
}

// cmdNo: no event TYPE CONDITION...
func cmdNo(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg)
	if len(args) == 0 || args[0] != "event" {
		ts.Fatalf("no event TYPE CONDITION...")
	}
	checkCount(ts, func(n int) bool { return n == 0 }, "none", args[1:])
}

// cmdCount: count N event TYPE CONDITION...   N may be >=N or <=N
func cmdCount(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg)
	if len(args) < 3 || args[1] != "event" {
		ts.Fatalf("count N event TYPE CONDITION...")
	}
	text := strings.TrimLeft(args[0], "<>=")
	want, err := strconv.Atoi(text)
	ts.Check(err)
	ok := func(n int) bool { return n == want }
	switch strings.TrimSuffix(args[0], text) {
	case ">=":
		ok = func(n int) bool { return n >= want }
	case "<=":
		ok = func(n int) bool { return n <= want }
	}
	checkCount(ts, ok, args[0], args[2:])
}

func checkCount(ts *testscript.TestScript, ok func(int) bool, want string, args []string) {
	q, err := parseQuery(args)
	ts.Check(err)
	a := running(ts)
	if a.running() { // an agent that has stopped has said all it knew
		ts.Check(a.mark())
	}
	n, last, err := a.count(q)
	ts.Check(err)
	if !ok(n) {
		if last != nil {
			ts.Logf("one of them: %.3000v", last.inner)
		}
		if a.running() {
			if stages, err := liveBalance(a, of(ts).dir, []string{"any"}); err == nil {
				ts.Logf("the account: %s", balanceText(stages))
			}
		}
		ts.Fatalf("found %d such events, want %s", n, want)
	}
	if last != nil {
		setCaptures(ts, q, last)
	}
}

// cmdMarker: marker
func cmdMarker(ts *testscript.TestScript, neg bool, _ []string) {
	noNeg(ts, neg)
	ts.Check(running(ts).mark())
}

// cmdBalance: balance [allow=REASON,...] [lost=REASON]
func cmdBalance(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg)
	var allowed []string
	lost := ""
	for _, arg := range args {
		switch name, value, _ := strings.Cut(arg, "="); name {
		case "allow":
			allowed = append(allowed, strings.Split(value, ",")...)
		case "lost":
			lost = value
			allowed = append(allowed, value)
		default:
			ts.Fatalf("balance: unknown argument %s", arg)
		}
	}
	a := running(ts)
	stages := a.balance
	if a.running() {
		var err error
		stages, err = liveBalance(a, of(ts).dir, allowed)
		ts.Check(err)
	} else if err := checkBalance(stages, allowed); err != nil {
		ts.Fatalf("the account is wrong: %v\n%s\nthe agent said:\n%s", err, balanceText(stages), a.output())
	}
	if lost != "" && drops(stages, lost) == 0 {
		ts.Fatalf("nothing was lost as %s:\n%s", lost, balanceText(stages))
	}
}

// liveBalance asks a running agent for its account, until nothing is under way.
func liveBalance(a *agent, dir string, allowed []string) ([]stage, error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		out, err := exec.Command(os.Getenv(envCLI), "--server-address", "unix://"+filepath.Join(dir, socketName), "status").CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("tetra status: %w: %s", err, out)
		}
		stages := parseBalance(string(out))
		if err = checkBalance(stages, allowed); err == nil {
			return stages, nil
		}
		if !a.running() {
			return nil, a.died()
		}
		if len(stages) == 0 || time.Now().After(deadline) {
			return nil, fmt.Errorf("the account is wrong: %w\ntetra status:\n%s", err, out)
		}
	}
}

// cmdJQ: jq FILTERFILE [jq flags]. Runs the filter over the export and leaves its output for stdout.
func cmdJQ(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg)
	if len(args) == 0 {
		ts.Fatalf("jq FILTERFILE [flags]")
	}
	a := running(ts)
	var in bytes.Buffer
	_, err := a.export.scan(position{}, func(line []byte) (bool, error) {
		in.Write(line)
		in.WriteByte('\n')
		return false, nil
	})
	ts.Check(err)
	cmd := exec.Command("jq", append([]string{"-r", "-f", ts.MkAbs(args[0])}, args[1:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, ts.Stdout(), ts.Stderr()
	ts.Check(cmd.Run())
}

func cliArgs(s *script, args []string) []string {
	// A busy machine is no failure; a script that wants a time-out says so.
	return append([]string{"--server-address", "unix://" + filepath.Join(s.dir, socketName), "--timeout", patience.String()}, args...)
}

// cmdTetra: tetra ARG...
func cmdTetra(ts *testscript.TestScript, neg bool, args []string) {
	bin := os.Getenv(envCLI)
	if bin == "" {
		ts.Fatalf("no command line: set %s to the path of tetra", envCLI)
	}
	err := ts.Exec(bin, cliArgs(of(ts), args)...)
	if (err != nil) != neg {
		ts.Fatalf("tetra: %v, want failure: %v", err, neg)
	}
}

// cmdStream: stream start NAME ARG... runs tetra with its output in NAME until a marker shows up there; stream stop NAME
// sends one more marker, waits for it, and interrupts.
func cmdStream(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg)
	s := of(ts)
	if len(args) < 2 {
		ts.Fatalf("stream start NAME ARG... | stream stop NAME")
	}
	name := args[1]
	switch args[0] {
	case "start":
		b := &background{out: filepath.Join(s.dir, name), done: make(chan error, 1)}
		out, err := os.Create(b.out)
		ts.Check(err)
		b.cmd = exec.Command(os.Getenv(envCLI), cliArgs(s, args[2:])...)
		// tetra reads events from a standard input that is no terminal.
		null, err := os.Open(os.DevNull)
		ts.Check(err)
		b.cmd.Stdin, b.cmd.Stdout, b.cmd.Stderr = null, out, out
		b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		err = b.cmd.Start()
		_, _ = out.Close(), null.Close()
		ts.Check(err)
		go func() { b.done <- b.cmd.Wait() }()
		s.streams[name] = b
		ts.Check(b.awaitMarker())
	case "stop":
		b := s.streams[name]
		if b == nil {
			ts.Fatalf("no stream %s", name)
		}
		ts.Check(b.awaitMarker())
		delete(s.streams, name)
		ts.Check(b.cmd.Process.Signal(syscall.SIGINT))
		select {
		case err := <-b.done:
			if err != nil {
				text, _ := os.ReadFile(b.out)
				ts.Fatalf("stream %s: %v\n%s", name, err, tail(string(text)))
			}
		case <-time.After(patience):
			_ = b.cmd.Process.Kill()
			ts.Fatalf("stream %s did not end when interrupted", name)
		}
	default:
		ts.Fatalf("stream start or stop?")
	}
}

// awaitMarker runs markers until one is in the stream's output.
func (b *background) awaitMarker() error {
	token := fmt.Sprintf("scenario-stream-%d", time.Now().UnixNano())
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * pause) {
		if err := exec.Command("/bin/true", token).Run(); err != nil {
			return err
		}
		text, err := os.ReadFile(b.out)
		switch {
		case err != nil:
			return err
		case bytes.Contains(text, []byte(token)):
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("no marker came through the stream:\n%s", tail(string(text)))
		}
		select {
		case err := <-b.done:
			b.done <- err
			return errors.Join(errors.New("the stream ended too early"), err, errors.New(tail(string(text))))
		default:
		}
	}
}

// cmdVictim: victim NAME ARG... | victim -start JOB NAME ARG... | victim -end JOB
func cmdVictim(ts *testscript.TestScript, neg bool, args []string) {
	s := of(ts)
	victim := filepath.Join(s.dir, "victim")
	switch {
	case len(args) > 2 && args[0] == "-start":
		noNeg(ts, neg)
		ts.Check(s.startVictim(ts, args[1], victim, args[2:]))
	case len(args) == 2 && args[0] == "-end":
		noNeg(ts, neg)
		b := s.victims[args[1]]
		if b == nil {
			ts.Fatalf("no victim %s", args[1])
		}
		delete(s.victims, args[1])
		_ = b.stdin.Close() // what they wait for
		select {
		case <-b.done:
		case <-time.After(patience):
			_ = b.cmd.Process.Kill()
			ts.Fatalf("victim %s did not end", args[1])
		}
	case len(args) > 0 && !strings.HasPrefix(args[0], "-"):
		cmd := exec.Command(victim, args...)
		cmd.Dir = ts.MkAbs(".")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/root"}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, ts.Stdout()), ts.Stderr()
		err := cmd.Run()
		var status *exec.ExitError
		if err != nil && !errors.As(err, &status) {
			ts.Check(err)
		}
		for _, line := range strings.Split(out.String(), "\n") {
			setPrinted(ts, line)
		}
		ts.Logf("%s", strings.TrimSpace(out.String()))
		if (err != nil) != neg {
			ts.Fatalf("victim %s: %v", args[0], err)
		}
	default:
		ts.Fatalf("victim NAME ARG... | victim -start JOB NAME ARG... | victim -end JOB")
	}
}

// setPrinted makes a variable of a line NAME=value.
func setPrinted(ts *testscript.TestScript, line string) {
	if assignment.MatchString(line) {
		name, value, _ := strings.Cut(line, "=")
		ts.Setenv(name, value)
	}
}

// startVictim starts one that goes on until its input ends, and waits until it says that it is ready.
func (s *script) startVictim(ts *testscript.TestScript, job, victim string, args []string) error {
	b := &background{cmd: exec.Command(victim, args...), done: make(chan error, 1)}
	b.cmd.Dir = ts.MkAbs(".")
	b.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/root"}
	in, err := b.cmd.StdinPipe()
	if err != nil {
		return err
	}
	b.stdin = in
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	b.cmd.Stderr = os.Stderr
	if err := b.cmd.Start(); err != nil {
		return err
	}
	s.victims[job] = b
	lines := bufio.NewScanner(out)
	ready := false
	for !ready && lines.Scan() {
		ready = lines.Text() == "READY=1"
		setPrinted(ts, lines.Text())
	}
	go func() {
		_, _ = io.Copy(io.Discard, out)
		b.done <- b.cmd.Wait()
	}()
	if !ready {
		return fmt.Errorf("victim %s ended before it was ready", args[0])
	}
	return nil
}
