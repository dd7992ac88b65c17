// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScenarios runs the scripts of test/scenario. Without SCENARIO_DIR it has nothing to run: make hosttest and make
// vmtest give it one.
func TestScenarios(t *testing.T) {
	dir := os.Getenv(envScripts)
	if dir == "" {
		t.Skipf("%s is not set; run make hosttest or make vmtest", envScripts)
	}
	f, err := newFacts(os.Getenv(envMatrix), os.Getenv(envKernel))
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, params(dir, f))
}

// TestFeatures holds the matrix to its word: what it promises of this kernel is there.
func TestFeatures(t *testing.T) {
	if os.Getenv(envScripts) == "" {
		t.Skipf("%s is not set; run make hosttest or make vmtest", envScripts)
	}
	f, err := newFacts(os.Getenv(envMatrix), os.Getenv(envKernel))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(probes())) {
		t.Run(name, func(t *testing.T) {
			missing, broken := f.lacks(name)
			switch {
			case broken != nil:
				t.Error(broken)
			case missing != nil:
				t.Skip(missing)
			}
		})
	}
}

// TestScripts checks what can be known of a script without running it: every one judges something, and every one that
// starts an agent asks for what the agent cannot do without and ends with its account.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("../../test/scenario/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("found no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { checkScript(t, file) })
	}
}

func checkScript(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	script, _, _ := strings.Cut(string(text), "\n-- ")
	if !strings.HasPrefix(script, "# ") {
		t.Error("want a first line that says what the script shows")
	}
	cmds := params("", nil).Cmds
	open := 0 // line of an agent that started and whose account was not looked at since
	for i, line := range strings.Split(script, "\n") {
		words := strings.Fields(line)
		if len(words) > 0 && strings.HasPrefix(words[0], "[") {
			words = words[1:]
		}
		neg := len(words) > 0 && words[0] == "!"
		if neg {
			words = words[1:]
		}
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		switch {
		case !neg && len(words) > 1 && words[0] == "agent" && words[1] == "start":
			open = i + 1
		case words[0] == "balance":
			open = 0
		}
		if cmds[words[0]] == nil {
			continue // testscript's own
		}
		var query []string
		switch {
		case words[0] == "event":
			query = words[1:]
		case words[0] == "no" && len(words) > 2:
			query = words[2:]
		case words[0] == "count" && len(words) > 3:
			query = words[3:]
		default:
			continue
		}
		if quoted(query) {
			continue // testscript's quoting is read at run time
		}
		if _, err := parseQuery(query); err != nil {
			t.Errorf("line %d: %v", i+1, err)
		}
	}
	if open != 0 {
		t.Errorf("line %d: want \"balance\" at the end of what this agent shows", open)
	}
}

func quoted(words []string) bool {
	for _, w := range words {
		if strings.ContainsAny(w, "'#") {
			return true
		}
	}
	return false
}
