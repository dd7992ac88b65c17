// SPDX-License-Identifier: Apache-2.0

// Command testsum runs steps one after the other and adds up their tests.
//
//	testsum [-p N] 'vet: go vet ./...' 'unit: go test -v ./...'
//
// Each argument is a name and a shell command. What the command prints goes through, but for the chatter of tests that
// pass. The result lines of go test -v ("--- PASS: TestX (0.1s)") are counted, tests within tests included; a command
// without any is one test, by its exit status, and a command that fails without a failing test is one failed test.
//
// The last line is "N passed, N failed", with the number of skipped tests before it if there are any. The exit status is
// 1 if anything failed. All steps run, whatever happens to the ones before; with -p up to N at a time, and what they print
// still comes one step after the other.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	atOnce := flag.Int("p", 1, "steps to run at a time")
	flag.Parse()
	sum, err := runAll(ctx, flag.Args(), *atOnce, os.Stdout)
	if err != nil {
		fmt.Fprintf(os.Stderr, "testsum: %v\n", err)
		os.Exit(2)
	}
	sum.print(os.Stdout)
	if sum.failed > 0 {
		os.Exit(1)
	}
}

// sum is what became of the tests.
type sum struct {
	passed, failed, skipped int
	failures                []string
}

func (s *sum) print(w io.Writer) {
	for _, f := range s.failures {
		fmt.Fprintf(w, "failed: %s\n", f)
	}
	if s.skipped > 0 {
		fmt.Fprintf(w, "%d skipped\n", s.skipped)
	}
	fmt.Fprintf(w, "%d passed, %d failed\n", s.passed, s.failed)
}

func runAll(ctx context.Context, steps []string, atOnce int, w io.Writer) (*sum, error) {
	if len(steps) == 0 {
		return nil, errors.New("no steps: want 'name: command' for each")
	}
	for _, step := range steps {
		if !strings.Contains(step, ": ") {
			return nil, fmt.Errorf("step %q: want 'name: command'", step)
		}
	}
	sums, turns := make([]sum, len(steps)), newTurns(len(steps), w)
	slots := make(chan struct{}, max(1, atOnce))
	var wg sync.WaitGroup
	for i, step := range steps {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			defer turns.done(i)
			name, line, _ := strings.Cut(step, ": ")
			if ctx.Err() != nil {
				sums[i].fail(name + " (interrupted)")
				return
			}
			sums[i].step(ctx, name, line, turns.writer(i))
		})
	}
	wg.Wait()
	total := &sum{}
	for i := range sums {
		total.passed += sums[i].passed
		total.failed += sums[i].failed
		total.skipped += sums[i].skipped
		total.failures = append(total.failures, sums[i].failures...)
	}
	return total, nil
}

// turns lets several writers share an output: the first that is not done writes through, the others into memory.
type turns struct {
	mu    sync.Mutex
	w     io.Writer
	held  []bytes.Buffer
	ended []bool
	turn  int
}

func newTurns(n int, w io.Writer) *turns {
	return &turns{w: w, held: make([]bytes.Buffer, n), ended: make([]bool, n)}
}

type turnWriter struct {
	t *turns
	i int
}

func (t *turns) writer(i int) io.Writer { return turnWriter{t, i} }

func (w turnWriter) Write(b []byte) (int, error) {
	w.t.mu.Lock()
	defer w.t.mu.Unlock()
	if w.i == w.t.turn {
		return w.t.w.Write(b)
	}
	return w.t.held[w.i].Write(b)
}

// done ends the turn of i, and lets out what its successors have said meanwhile.
func (t *turns) done(i int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended[i] = true
	for t.turn < len(t.ended) && t.ended[t.turn] {
		t.turn++
		if t.turn < len(t.held) {
			_, _ = t.held[t.turn].WriteTo(t.w) // a terminal that is gone is no reason to stop the tests
		}
	}
}

func (s *sum) fail(name string) {
	s.failed++
	s.failures = append(s.failures, name)
}

// step runs one command.
func (s *sum) step(ctx context.Context, name, line string, w io.Writer) {
	before := *s
	begin := time.Now()
	fmt.Fprintf(w, "==> %s\n", name)
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", line)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	r, out, err := os.Pipe()
	if err == nil {
		cmd.Stdout, cmd.Stderr = out, out
		err = cmd.Start()
		_ = out.Close()
		if err == nil {
			s.read(name, r, w)
			err = cmd.Wait()
		}
		_ = r.Close()
	}
	took := time.Since(begin).Seconds()
	tests := s.passed + s.failed + s.skipped - before.passed - before.failed - before.skipped
	switch {
	case err != nil && s.failed == before.failed:
		fmt.Fprintf(w, "--- FAIL: %s (%.2fs)\n    %v\n", name, took, err)
		s.fail(name)
	case tests == 0:
		fmt.Fprintf(w, "--- PASS: %s (%.2fs)\n", name, took)
		s.passed++
	default:
		fmt.Fprintf(w, "<== %s: %d tests, %d failed, %.0f s\n", name, tests, s.failed-before.failed, took)
	}
}

var (
	result = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+)`)
	// go test -v names the test whose lines follow. Results of tests within tests come when the outer one has ended.
	talking = regexp.MustCompile(`^=== (?:RUN|PAUSE|CONT|NAME)\s+(\S*)`)
	// The sums of a testsum inside, and what says nothing.
	chatter = regexp.MustCompile(`^(PASS$|\?.*\[no test files\]|failed: |\d+ skipped$|\d+ passed, \d+ failed$)`)
	// Lines that tests print are indented; so are their results.
	indented = regexp.MustCompile(`^\s`)
)

// read counts the results in what a command prints, and passes on what a reader wants to see: results, why a test was
// skipped, all that a failing test said, and everything that is no test's.
func (s *sum) read(step string, r io.Reader, w io.Writer) {
	said := map[string][]string{} // by tests whose result is not known yet
	who := ""
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line = strings.TrimRight(line, "\n"); line != "" || err == nil {
			m := result.FindStringSubmatch(line)
			t := talking.FindStringSubmatch(line)
			switch {
			case m != nil:
				switch m[1] {
				case "PASS":
					s.passed++
				case "SKIP":
					s.skipped++
				case "FAIL":
					s.fail(step + ": " + m[2])
				}
				fmt.Fprintln(w, line)
				if m[1] != "PASS" {
					for _, l := range said[m[2]] {
						fmt.Fprintln(w, l)
					}
				}
				delete(said, m[2])
				who = m[2]
			case t != nil:
				who = t[1]
			case chatter.MatchString(line):
			case indented.MatchString(line) && who != "":
				said[who] = append(said[who], line)
			default:
				fmt.Fprintln(w, line)
			}
		}
		if err != nil {
			break
		}
	}
	for name, l := range said { // of a test that had no end, or that said more after its result
		fmt.Fprintf(w, "%s:\n%s\n", name, strings.Join(l, "\n"))
	}
}
