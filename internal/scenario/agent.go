// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// How long to wait for a thing before saying that it will not come. Emulated machines are thirty times slower.
const patience = 90 * time.Second

// pause is the time between two looks at a thing that is waited for.
const pause = 20 * time.Millisecond

// agent is a running tetragon and what it exports.
type agent struct {
	cmd     *exec.Cmd
	log     string // file of its output
	export  *export
	exited  chan struct{} // closed when it has ended
	err     error         // why, once exited is closed
	balance []stage       // what it printed at the end
}

// agentOptions say how to start one.
type agentOptions struct {
	dir   string   // the script's; all that the agent makes is below
	via   []string // program and arguments that end in running the agent
	env   []string
	flags []string
	log   string
	wait  time.Duration // for its policies; patience when 0
}

// agentFlags are the flags of every agent: each has its own directories and no address that another one could have.
// Flags of the script come after and win.
func agentFlags(dir string) []string {
	return []string{
		"--export-filename=" + filepath.Join(dir, exportName),
		"--server-address=unix://" + filepath.Join(dir, socketName),
		"--run-dir=" + filepath.Join(dir, "run"),
		"--bpf-dir=" + pinDir(dir),
		"--tracing-policy-dir=" + filepath.Join(dir, "policies"),
		"--health-server-address=",
		"--metrics-server=",
	}
}

// bpffs is where agents pin things.
const bpffs = "/sys/fs/bpf"

// pinDir is the name of the directory of pins of a script's agents.
func pinDir(dir string) string {
	name := filepath.Base(filepath.Dir(dir)) + "-" + filepath.Base(dir) // of a script, or of a test's temporary directory
	return fmt.Sprintf("scenario-%d-%s", os.Getpid(), strings.ReplaceAll(name, ".", "-"))
}

// removePins ends what killed agents of a script left in the kernel.
func removePins(dir string) {
	_ = os.RemoveAll(filepath.Join(bpffs, pinDir(dir)))
}

const (
	exportName = "events.json"
	socketName = "tetragon.sock"
	nodeName   = "scenario"
)

// command builds the command line of an agent.
func (o *agentOptions) command() (*exec.Cmd, *os.File, error) {
	bin := os.Getenv(envAgent)
	if bin == "" {
		return nil, nil, fmt.Errorf("no agent: set %s to the path of tetragon", envAgent)
	}
	argv := append(append([]string{}, o.via...), bin)
	argv = append(append(argv, agentFlags(o.dir)...), o.flags...)
	if err := os.MkdirAll(filepath.Join(o.dir, "policies"), 0o755); err != nil {
		return nil, nil, err
	}
	out, err := os.Create(o.log)
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = o.dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/root", "NODE_NAME=" + nodeName}, o.env...)
	cmd.Stdout, cmd.Stderr = out, out
	// A group of its own, so that a Ctrl-C at the tests does not reach it before the script can stop it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, out, nil
}

// infoFile is what the agent writes when it has loaded its policies.
func (o *agentOptions) infoFile() string {
	dir := filepath.Join(o.dir, "run")
	for _, f := range o.flags {
		if d, ok := strings.CutPrefix(f, "--run-dir="); ok {
			dir = d
		}
	}
	return filepath.Join(dir, "tetragon-info.json")
}

// ready waits until the agent has loaded its policies: until its info file is there, and is not old, which one that a killed
// agent left behind is.
func (a *agent) ready(info string, old os.FileInfo, wait time.Duration) error {
	for deadline := time.Now().Add(wait); ; time.Sleep(pause) {
		dead := !a.running()
		now, err := os.Stat(info)
		switch {
		case err == nil && (old == nil || !os.SameFile(old, now)):
			return nil
		case dead:
			return a.died()
		case time.Now().After(deadline):
			return fmt.Errorf("no info file in %v; the agent says:\n%s", wait, a.output())
		}
	}
}

// startAgent starts an agent and waits until something that happened after the start shows up in its export, and its policies
// are loaded.
func startAgent(o agentOptions) (*agent, error) {
	path := filepath.Join(o.dir, exportName)
	left, _ := filepath.Glob(filepath.Join(o.dir, strings.TrimSuffix(exportName, ".json")+"*.json"))
	for _, f := range left { // what an earlier agent of the same script left
		if err := os.Remove(f); err != nil {
			return nil, err
		}
	}
	cmd, out, err := o.command()
	if err != nil {
		return nil, err
	}
	info := o.infoFile()
	old, err := os.Stat(info)
	if err != nil {
		old = nil
	}
	err = cmd.Start()
	_ = out.Close()
	if err != nil {
		return nil, fmt.Errorf("start the agent: %w", err)
	}
	a := &agent{cmd: cmd, log: o.log, export: &export{path: path}, exited: make(chan struct{})}
	go func() {
		a.err = cmd.Wait()
		close(a.exited)
	}()
	err = a.ready(info, old, cmp.Or(o.wait, patience))
	if err == nil {
		err = a.mark()
	}
	if err != nil {
		_ = a.kill()
		return nil, err
	}
	return a, nil
}

// runFailingAgent runs an agent that is to end by itself, in error, and gives what it said.
func runFailingAgent(o agentOptions) (string, error) {
	cmd, out, err := o.command()
	if err != nil {
		return "", err
	}
	err = cmd.Start()
	_ = out.Close()
	if err != nil {
		return "", fmt.Errorf("start the agent: %w", err)
	}
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	err = cmd.Wait()
	late := !timer.Stop()
	text, rerr := os.ReadFile(o.log)
	if rerr != nil {
		return "", rerr
	}
	said := string(text)
	switch {
	case late:
		return said, fmt.Errorf("the agent went on, but was to fail:\n%s", tail(said))
	case err == nil:
		return said, fmt.Errorf("the agent ended with status 0, but was to fail:\n%s", tail(said))
	case strings.Contains(said, "goroutine "):
		return said, fmt.Errorf("the agent crashed:\n%s", tail(said))
	}
	return said, nil
}

func (a *agent) running() bool {
	select {
	case <-a.exited:
		return false
	default:
		return true
	}
}

// mark runs a program with an argument that nothing else has until it shows up in the export. All that happened before
// the call has then been exported, or lost.
func (a *agent) mark() error {
	token := fmt.Sprintf("scenario-marker-%d-%d", os.Getpid(), time.Now().UnixNano())
	deadline := time.Now().Add(patience)
	var at position
	seen := false
	for again := time.Now(); ; time.Sleep(pause) {
		if time.Now().After(again) {
			// Not every marker need arrive: the agent may not yet listen, or be drowning.
			if err := exec.Command("/bin/true", token).Run(); err != nil {
				return fmt.Errorf("run a marker: %w", err)
			}
			again = time.Now().Add(500 * time.Millisecond)
		}
		dead := !a.running()
		var err error
		at, err = a.export.scan(at, func(line []byte) (bool, error) {
			seen = bytes.HasPrefix(line, []byte(`{"process_exec"`)) && bytes.Contains(line, []byte(token))
			return seen, nil
		})
		switch {
		case err != nil:
			return err
		case seen:
			return nil
		case dead:
			return a.died()
		case time.Now().After(deadline):
			return fmt.Errorf("no marker came through in %v; the agent says:\n%s", patience, a.output())
		}
	}
}

func (a *agent) died() error {
	if a.err == nil {
		return fmt.Errorf("the agent has ended; it said:\n%s", a.output())
	}
	return fmt.Errorf("the agent has ended: %w; it said:\n%s", a.err, a.output())
}

// output gives the end of what the agent printed.
func (a *agent) output() string {
	text, err := os.ReadFile(a.log)
	if err != nil {
		return err.Error()
	}
	return tail(string(text))
}

// awaitLog waits until the log holds a match.
func (a *agent) awaitLog(re *regexp.Regexp) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		dead := !a.running()
		text, err := os.ReadFile(a.log)
		if err != nil {
			return err
		}
		switch {
		case re.Match(text):
			return nil
		case dead:
			return a.died()
		case time.Now().After(deadline):
			return fmt.Errorf("nothing in the log matches %s:\n%s", re, a.output())
		}
	}
}

// stop ends the agent as an operator would, and judges how it went.
func (a *agent) stop() error {
	if !a.running() {
		return a.died()
	}
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the agent: %w", err)
	}
	select {
	case <-a.exited:
	case <-time.After(patience):
		_ = a.cmd.Process.Signal(syscall.SIGQUIT) // the log then says where it hangs
		select {
		case <-a.exited:
		case <-time.After(5 * time.Second):
			_ = a.kill()
		}
		return fmt.Errorf("the agent did not stop; it says:\n%s", a.output())
	}
	if a.err != nil {
		return fmt.Errorf("the agent stopped with %w; it said:\n%s", a.err, a.output())
	}
	text, err := os.ReadFile(a.log)
	if err != nil {
		return err
	}
	a.balance = parseBalance(string(text))
	return a.checkLines()
}

// checkLines holds every exported line to be one event in JSON.
func (a *agent) checkLines() error {
	_, err := a.export.scan(position{}, func(line []byte) (bool, error) {
		if !utf8.Valid(line) {
			return true, fmt.Errorf("invalid UTF-8 in the export: %q", line)
		}
		_, err := parseEvent(line)
		return err != nil, err
	})
	return err
}

// unguard switches off the guard of an agent, by the agent's own program.
func (a *agent) unguard() error {
	program := fmt.Sprintf("/proc/%d/exe", a.cmd.Process.Pid)
	out, err := exec.Command(program, "--guard-off", "--bpf-dir", pinDir(filepath.Dir(a.export.path))).CombinedOutput()
	if err != nil {
		return fmt.Errorf("switch the guard off: %w: %s", err, out)
	}
	return nil
}

// kill ends the agent at once.
func (a *agent) kill() error {
	if !a.running() {
		return nil
	}
	err := a.cmd.Process.Kill()
	if errors.Is(err, unix.EPERM) { // a script that failed has left it guarded
		if err := a.unguard(); err != nil {
			return err
		}
		err = a.cmd.Process.Kill()
	}
	<-a.exited
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the agent: %w", err)
	}
	return nil
}

// grace is how long an event may come after a marker that was provoked later than the event: reports of loss have a
// clock of their own, and what waits for its process is let go by one.
const grace = 10 * time.Second

// find waits for an event.
func (a *agent) find(q *query) (*event, error) {
	var at position
	var found *event
	look := func() error {
		var err error
		at, err = a.export.scan(at, func(line []byte) (bool, error) {
			if !q.mayMatch(line) {
				return false, nil
			}
			e, err := parseEvent(line)
			if err == nil && len(q.misses(e)) == 0 {
				found = e
			}
			return found != nil, err
		})
		return err
	}
	if err := look(); err != nil || found != nil {
		return found, err
	}
	if a.running() {
		if err := a.mark(); err != nil {
			return nil, err
		}
	}
	wait := grace
	if q.kind == "rate_limit_info" {
		wait = patience // told once a minute
	}
	for deadline := time.Now().Add(wait); ; time.Sleep(pause) {
		dead := !a.running() // before looking: it may say something and end
		if err := look(); err != nil || found != nil {
			return found, err
		}
		if dead || time.Now().After(deadline) {
			return nil, a.nearest(q)
		}
	}
}

// nearest says which event came closest to a query that none meets.
func (a *agent) nearest(q *query) error {
	var misses []string
	_, err := a.export.scan(position{}, func(line []byte) (bool, error) {
		if q.kind != "any" && !bytes.HasPrefix(line, []byte(`{"`+q.kind+`"`)) {
			return false, nil
		}
		e, err := parseEvent(line)
		if err != nil {
			return true, err
		}
		if m := q.misses(e); len(m) < len(q.conds) && (misses == nil || len(m) < len(misses)) {
			misses = m
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	if misses == nil {
		return errors.New("no such event, and none that meets any condition")
	}
	return fmt.Errorf("no such event; the nearest one misses:\n\t%s", strings.Join(misses, "\n\t"))
}

// count gives the number of events so far that match, and the last of them.
func (a *agent) count(q *query) (int, *event, error) {
	n := 0
	var last *event
	_, err := a.export.scan(position{}, func(line []byte) (bool, error) {
		if !q.mayMatch(line) {
			return false, nil
		}
		e, err := parseEvent(line)
		if err != nil {
			return true, err
		}
		if len(q.misses(e)) == 0 {
			n++
			last = e
		}
		return false, nil
	})
	return n, last, err
}

func tail(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-25):], "\n")
}
