// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// step is a command of a document, and what it is said to print.
type step struct {
	command string
	prints  []string
}

// steps finds the commands in a document: indented lines that begin with "$ ".
func steps(text string) []step {
	var out []step
	for _, line := range strings.Split(text, "\n") {
		line, indented := strings.CutPrefix(line, "    ")
		command, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case !indented:
		case isCommand:
			out = append(out, step{command: command})
		case len(out) > 0:
			s := &out[len(out)-1]
			s.prints = append(s.prints, line)
		}
	}
	return out
}

// walkScript makes one script of the steps, in a mount namespace with directories of its own: another agent may run here.
func walkScript(list []step, build bool) string {
	var b strings.Builder
	b.WriteString("set -u\nmount -t tmpfs none /var/run || exit 9\nmount -t tmpfs none /tmp || exit 9\nmount -t bpf none /sys/fs/bpf || exit 9\n" +
		"export DEBIAN_FRONTEND=noninteractive\n")
	for i, s := range list {
		command := strings.ReplaceAll(s.command, "sudo ", "")
		switch {
		case strings.HasPrefix(command, "make build") && !build:
			command = ":"
		case strings.HasPrefix(command, "pkill"):
			command = "kill -TERM $!" // the one that this script has started, and no other
		}
		end := fmt.Sprintf("\necho \"@@%d $?\"", i)
		if strings.HasSuffix(command, "&") {
			end = fmt.Sprintf("\necho '@@%d 0'", i)
		}
		b.WriteString(command + end + "\n")
	}
	return b.String()
}

// TestQuickstart walks through docs/quickstart.md as a new user would.
func TestQuickstart(t *testing.T) {
	if os.Getenv(envAgent) == "" || os.Getenv(envScripts) == "" {
		t.Skipf("%s is not set; run make hosttest", envAgent)
	}
	root := filepath.Dir(filepath.Dir(os.Getenv(envScripts)))
	text, err := os.ReadFile(filepath.Join(root, "docs", "quickstart.md"))
	if err != nil {
		t.Fatal(err)
	}
	list := steps(string(text))
	_, err = os.Stat(filepath.Join(root, "bin", "tetragon"))
	cmd := exec.Command("timeout", "-k", "5", "300", "unshare", "-m", "bash", "-c", walkScript(list, err != nil))
	cmd.Dir = root
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	fmt.Printf("the quick start took %.1f s\n", time.Since(begin).Seconds())
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	rest := string(out)
	for i, s := range list {
		said, after, ok := strings.Cut(rest, fmt.Sprintf("@@%d ", i))
		status, after, _ := strings.Cut(after, "\n")
		if !ok || status != "0" {
			t.Fatalf("%s: status %q\n%s", s.command, status, said)
		}
		if err := inOrder(said, s.prints); err != nil {
			t.Errorf("%s: %v\n%s", s.command, err, said)
		}
		rest = after
	}
}

// inOrder wants lines in a text, others may come between.
func inOrder(text string, want []string) error {
	lines := strings.Split(text, "\n")
	for _, w := range want {
		re, err := regexp.Compile("^" + strings.ReplaceAll(regexp.QuoteMeta(w), `\*`, ".*") + "$")
		if err != nil {
			return err
		}
		for len(lines) > 0 && !re.MatchString(lines[0]) {
			lines = lines[1:]
		}
		if len(lines) == 0 {
			return fmt.Errorf("no line %q", w)
		}
		lines = lines[1:]
	}
	return nil
}

// TestInOrder: what the walk judges by can fail.
func TestInOrder(t *testing.T) {
	const text = "a 1\nb 2\nc 3\n"
	for want, ok := range map[string]bool{"a *|c *": true, "c *|a *": false, "b": false, "a 1|a 1": false, "*|*|*": true} {
		if err := inOrder(text, strings.Split(want, "|")); (err == nil) != ok {
			t.Errorf("%q: %v", want, err)
		}
	}
	got := steps("text\n    $ one\n    says\n\n    $ two\nend\n    other\n")
	if len(got) != 2 || got[0].command != "one" || len(got[0].prints) != 1 || got[1].prints[0] != "other" {
		t.Errorf("%+v", got)
	}
}
