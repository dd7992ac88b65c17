// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const sample = `{"process_exec":{"process":{"pid":7, "binary":"/tmp/x y", "arguments":"a \"b\"", "cap":{"effective":["CAP_CHOWN", "CAP_BPF"]}, ` +
	`"in_init_tree":false, "environment_variables":[{"Key":"A", "Value":"1"}, {"Key":"B"}]}, "ancestors":[{"pid":1}]}, "node_name":"n", "time":"t"}`

func TestQuery(t *testing.T) {
	e, err := parseEvent([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		args string // separated by |
		want bool
	}{
		{"type alone", "process_exec", true},
		{"number", "process_exec|process.pid=7", true},
		{"another number", "process_exec|process.pid=8", false},
		{"text with a space", "process_exec|process.binary=/tmp/x y", true},
		{"escaped text", `process_exec|process.arguments=a "b"`, true},
		{"star", "process_exec|process.binary=/tmp/*", true},
		{"star in the middle", "process_exec|process.binary=/*y", true},
		{"star does not match less", "process_exec|process.binary=*/z*", false},
		{"list", "process_exec|process.cap.effective=CAP_CHOWN,CAP_BPF", true},
		{"in a list", "process_exec|process.cap.effective[]=CAP_BPF", true},
		{"not in a list", "process_exec|process.cap.effective[]=CAP_KILL", false},
		{"none of a list", "process_exec|process.cap.effective[]!=CAP_KILL", true},
		{"one of a list", "process_exec|process.cap.effective[]!=CAP_BPF", false},
		{"list of objects", "process_exec|process.environment_variables[].Key=B", true},
		{"index", "process_exec|ancestors[0].pid=1", true},
		{"index beyond", "process_exec|ancestors[1].pid?", false},
		{"boolean", "process_exec|process.in_init_tree=false", true},
		{"there", "process_exec|process.in_init_tree?", true},
		{"not there", "process_exec|!process.docker", true},
		{"there but not wanted", "process_exec|!process.pid", false},
		{"regexp", "process_exec|process.binary~^/tmp/. y$", true},
		{"at least", "process_exec|process.pid>=7", true},
		{"at most", "process_exec|process.pid<=6", false},
		{"length", "process_exec|len(process.binary)=8", true},
		{"length of a list", "process_exec|len(ancestors)=1", true},
		{"length at least", "process_exec|len(process.binary)>=9", false},
		{"envelope", "process_exec|.node_name=n", true},
		{"empty value of a missing field", "process_exec|process.docker=", false},
		{"all conditions count", "process_exec|process.pid=7|process.binary=/x", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q, err := parseQuery(strings.Split(tc.args, "|"))
			if err != nil {
				t.Fatal(err)
			}
			misses := q.misses(e)
			if got := len(misses) == 0; got != tc.want {
				t.Errorf("matches: %v, want %v (%v)", got, tc.want, misses)
			}
			if tc.want && !q.mayMatch([]byte(sample)) {
				t.Error("the quick look rejects what matches")
			}
		})
	}
}

func TestQuery_mistakes(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"process.pid=1"},
		{"process_exec", "process.pid"},
		{"process_exec", "process..pid=1"},
		{"process_exec", "process.pid>=x"},
		{"process_exec", "process.binary~("},
		{"process_exec", "process.pid?x"},
		{"process_exec", "pid:=process.pid"},
	} {
		if _, err := parseQuery(args); err == nil {
			t.Errorf("%q: no mistake found", args)
		}
	}
}

func TestParseEvent_broken(t *testing.T) {
	for _, line := range []string{``, `{`, `[]`, `{"time":"t"}`, `{"a":{},"b":{}}`, `{"a":1}`} {
		if _, err := parseEvent([]byte(line)); err == nil {
			t.Errorf("%q: no error", line)
		}
	}
}

func TestCapture(t *testing.T) {
	e, err := parseEvent([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	q, err := parseQuery([]string{"process_exec", "PID:=process.pid", "KEYS:=process.cap.effective"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, c := range q.captures {
		got[c.name] = valueText(c.path.values(e)[0])
	}
	if diff := cmp.Diff(map[string]string{"PID": "7", "KEYS": "CAP_CHOWN,CAP_BPF"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestExport follows a file through appending and rotation, and reads each line once, in order.
func TestExport(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "events.json")
	e := &export{path: path}
	defer e.close()
	write := func(s string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString(s)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	rotate := func(stamp string) {
		t.Helper()
		if err := os.Rename(path, filepath.Join(dir, "events-"+stamp+".json")); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	var at position
	read := func() {
		t.Helper()
		var err error
		at, err = e.scan(at, func(line []byte) (bool, error) {
			got = append(got, string(line))
			return false, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	read() // not there yet
	write("one\ntw")
	read()
	write("o\n")
	read()
	rotate("1")
	write("three\n")
	rotate("2") // two between two looks
	write("four\n")
	read()
	long := strings.Repeat("x", 3<<20)
	write(long + "\nend\n")
	read()
	if diff := cmp.Diff([]string{"one", "two", "three", "four", long, "end"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestBalance(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		allowed    []string
		ok         bool
	}{
		{"even", "stopped\nkernel             seen 5 delivered 5\nfile out seen 5 delivered 5\n", nil, true},
		{"no account", "stopped\n", nil, false},
		{"pending", "kernel seen 5 delivered 4 pending 1\n", nil, false},
		{"off", "kernel seen 5 delivered 4\n", nil, false},
		{"dropped", "kernel seen 5 delivered 3 dropped[ring full] 2\n", nil, false},
		{"dropped and allowed", "kernel seen 6 delivered 3 dropped[ring full] 2 dropped[x] 1\n", []string{"ring full", "kernel/x"}, true},
		{"one of two allowed", "kernel seen 6 delivered 3 dropped[ring full] 2 dropped[x] 1\n", []string{"x"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := checkBalance(parseBalance(tc.text), tc.allowed)
			if (err == nil) != tc.ok {
				t.Errorf("got %v, want ok %v", err, tc.ok)
			}
		})
	}
	stages := parseBalance("a seen 3 delivered 1 dropped[x] 2\nb seen 1 delivered 0 dropped[x] 1\n")
	if got := drops(stages, "x"); got != 3 {
		t.Errorf("dropped %d, want 3", got)
	}
	if got := drops(stages, "b/x"); got != 1 {
		t.Errorf("dropped %d at b, want 1", got)
	}
}
