// SPDX-License-Identifier: Apache-2.0

package simulate_test

import (
	"bufio"
	"os"
	"path/filepath"
	"testing"

	"tetragon/internal/kernel"
	"tetragon/internal/policy/compile"
	"tetragon/internal/policy/parse"
	"tetragon/internal/policy/simulate"
)

// The recorded events lie beside the repository where this is developed: what upstream's agent told of known commands, with
// the policies that it ran.
const corpus = "../../../../shared/corpus/"

// TestEvent_corpus wants the policies that events were recorded with to match these events: nothing that upstream posted may
// be denied.
func TestEvent_corpus(t *testing.T) {
	if _, err := os.Stat(corpus); err != nil {
		t.Skip("needs the recorded events in " + corpus)
	}
	kernels, _ := filepath.Glob("../compile/testdata/kernels/*6.12*")
	if len(kernels) == 0 {
		t.Skip("needs the recorded facts of a kernel 6.12")
	}
	facts, err := kernel.OpenRecorded(kernels[0])
	if err != nil {
		t.Fatal(err)
	}
	env := func(n string) (string, bool) {
		v, ok := map[string]string{"PODCIDR": "10.244.0.0/16", "SERVICECIDR": "10.96.0.0/12"}[n]
		return v, ok
	}
	for events, policy := range map[string]string{
		"1-bpf": "bpf.yaml", "2-modules": "modules.yaml", "3-library": "library.yaml", "7-privileges": "privileges/privileges-raise.yaml",
		"8-sshd": "sshd.yaml", "9-egress": "egress.yaml",
	} {
		t.Run(events, func(t *testing.T) {
			path := corpus + "policylibrary/" + policy
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			pol, diags := parse.YAML(path, text, parse.Options{Getenv: env})
			if pol == nil {
				t.Fatal(diags)
			}
			p, diags := compile.Compile(pol, facts, compile.Options{})
			if p == nil {
				t.Fatal(diags)
			}
			f, err := os.Open(corpus + "golden-6.12/" + events + "/raw.jsonl")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			posted := 0
			s := bufio.NewScanner(f)
			s.Buffer(nil, 1<<20)
			for s.Scan() {
				v, err := simulate.Event(p, s.Bytes())
				if err != nil {
					t.Fatal(err)
				}
				if v.Kind == "" {
					continue
				}
				posts := v.Loader
				for _, h := range v.Hooks {
					// Events do not tell the capabilities that a process has at the time.
					posts = posts || h.Posts && h.Sure || !h.Sure && h.Name == "create_user_ns"
				}
				if !posts {
					t.Errorf("%s\nof %.400s", v, s.Bytes())
				}
				posted++
			}
			if err := s.Err(); err != nil || posted == 0 {
				t.Errorf("%d events, %v", posted, err)
			}
		})
	}
}

// TestEvent_corpusDenied wants the same call to be denied by a policy that is not interested in it.
func TestEvent_corpusDenied(t *testing.T) {
	kernels, _ := filepath.Glob("../compile/testdata/kernels/*6.12*")
	if len(kernels) == 0 {
		t.Skip("needs the recorded facts of a kernel 6.12")
	}
	facts, err := kernel.OpenRecorded(kernels[0])
	if err != nil {
		t.Fatal(err)
	}
	const event = `{"process_kprobe":{"process":{"pid":9,"binary":"/usr/bin/curl"},"function_name":"tcp_connect","args":[{"sock_arg":{
		"family":"AF_INET","type":"SOCK_STREAM","protocol":"IPPROTO_TCP","saddr":"192.0.2.10","daddr":"192.0.2.10","dport":8081}}]}}`
	for _, c := range []struct {
		cidr  string
		posts bool
	}{{"10.0.0.0/8", true}, {"10.0.0.0/8 192.0.2.0/24", false}, {"fd00::/8,192.0.2.10/32", false}} {
		pol, diags := parse.YAML("egress.yaml", []byte(`
apiVersion: cilium.io/v1alpha1
kind: TracingPolicy
metadata: {name: egress}
spec:
  kprobes:
  - call: tcp_connect
    syscall: false
    args: [{index: 0, type: sock}]
    selectors: [{matchArgs: [{index: 0, operator: NotDAddr, values: [127.0.0.1, "${CIDR}"]}]}]
`), parse.Options{Getenv: func(string) (string, bool) { return c.cidr, true }})
		if pol == nil {
			t.Fatal(diags)
		}
		p, diags := compile.Compile(pol, facts, compile.Options{})
		if p == nil {
			t.Fatal(diags)
		}
		v, err := simulate.Event(p, []byte(event))
		if err != nil {
			t.Fatal(err)
		}
		if len(v.Hooks) != 1 || v.Hooks[0].Posts != c.posts || !v.Hooks[0].Sure {
			t.Errorf("outside of %s: %s", c.cidr, v)
		}
	}
}
