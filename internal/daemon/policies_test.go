// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tetragon/internal/config"
	"tetragon/internal/event/mmap"
	"tetragon/internal/metrics"
	"tetragon/internal/policy"
	"tetragon/internal/policy/parse"
	"tetragon/internal/policy/plan"
	"tetragon/internal/policy/registry"
	"tetragon/internal/sensor"
)

// noSensors loads everything, into nothing.
type noSensors struct{ ids uint32 }

func (n *noSensors) Add(*plan.Plan) (uint32, error)               { n.ids++; return n.ids, nil }
func (*noSensors) Replace(uint32, *plan.Plan) error               { return nil }
func (*noSensors) SetMode(uint32, bool) error                     { return nil }
func (*noSensors) Enable(uint32) error                            { return nil }
func (*noSensors) Disable(uint32) error                           { return nil }
func (*noSensors) Remove(uint32) error                            { return nil }
func (*noSensors) Stats(uint32) (out []sensor.HookStats, _ error) { return nil, nil }
func (*noSensors) KernelBytes(uint32) uint64                      { return 0 }

// testRegistry has a compiler that gives the second hook of a policy an equivalent, and finds no hook named "gone".
func testRegistry() *registry.Registry {
	return registry.New(registry.Options{
		Sensors: &noSensors{}, Log: slog.New(slog.DiscardHandler), Loader: func(bool) error { return nil },
		Parse: func(t registry.Text) (*policy.Policy, *policy.Diagnostics) {
			return parse.YAML(t.Name, t.YAML, parse.Options{Getenv: t.Getenv})
		},
		Compile: func(_ string, p *policy.Policy) (*plan.Plan, *policy.Diagnostics, error) {
			out := &plan.Plan{Policy: p.Name, Loader: p.Loader.Value}
			for i := range p.Kprobes {
				h := plan.Hook{Section: "kprobes", Index: i, Name: p.Kprobes[i].Call.Value, Event: plan.EventKprobe}
				h.Attach = plan.Attach{Backend: plan.BackendFentry, Symbol: h.Name}
				switch {
				case h.Name == "gone":
					h.Inactive = "it is gone"
				case i == 1:
					h.Attach = plan.Attach{Backend: plan.BackendSockOps}
				}
				out.Hooks = append(out.Hooks, h)
			}
			if p.Name == "bad" {
				return nil, &policy.Diagnostics{List: []policy.Diagnostic{{Text: "first", Code: "a"}, {Text: "second", Code: "b"}}}, nil
			}
			return out, &policy.Diagnostics{}, nil
		},
	})
}

const policyHead = "apiVersion: cilium.io/v1alpha1\nkind: TracingPolicy\n"

func TestTellServed(t *testing.T) {
	r := testRegistry()
	for _, text := range []string{
		"metadata: {name: some}\nspec: {kprobes: [{call: f, syscall: false}, {call: g, syscall: false}, {call: gone, syscall: false}]}\n",
		"metadata: {name: libs}\nspec: {loader: true}\n",
		"metadata: {name: bad}\nspec: {loader: true}\n",
	} {
		if err := r.Add(registry.DomainStatic, registry.Text{YAML: []byte(policyHead + text)}, false); err != nil && !strings.Contains(text, "bad") {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	tellServed(&b, r.List(""))
	want := `ready-made policies on this kernel:
  some: partially enabled
      f                              by fentry f
      g                              by its equivalent sock_ops
      gone                           not served: it is gone
  libs: enabled
      executable mappings            by what the kernel tells of mappings (perf events)
  bad: load error
      first [a]
      second [b]
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
}

func TestLoadPolicies(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("broken.yaml", "a: [")
	write("good.yaml", policyHead+"metadata: {name: good}\nspec: {loader: true}\n")
	t.Run("a bad file in the directory", func(t *testing.T) {
		r := testRegistry()
		if err := loadPolicies(t.Context(), &config.Config{TracingPolicyDir: dir}, []string{"library"}, r, &bytes.Buffer{}); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range r.List("") {
			got = append(got, filepath.Base(s.Key.Name)+" "+s.State.String())
		}
		if d := cmp.Diff([]string{"library-loads enabled", "broken.yaml load_error", "good enabled"}, got); d != "" {
			t.Errorf("list (-want +got):\n%s", d)
		}
	})
	t.Run("a bad file that is named", func(t *testing.T) {
		err := loadPolicies(t.Context(), &config.Config{TracingPolicyDir: dir, TracingPolicy: filepath.Join(dir, "broken.yaml")}, nil, testRegistry(), &bytes.Buffer{})
		if err == nil || !strings.Contains(err.Error(), "load the policy that tracing-policy names") || !strings.Contains(err.Error(), "[yaml-syntax]") {
			t.Errorf("error %v", err)
		}
	})
}

// TestMappings: the watch is open exactly while somebody wants it, and its account does not forget what was closed.
func TestMappings(t *testing.T) {
	opened := 0
	ledger := metrics.NewLedger()
	m := newMappings(ledger, slog.New(slog.DiscardHandler), "/proc")
	m.open = func() (*mmap.Reader, error) { opened++; return &mmap.Reader{}, nil }
	for _, step := range []struct {
		name   string
		want   bool
		opened int
	}{{"on", true, 1}, {"on again", true, 1}, {"off", false, 1}, {"off again", false, 1}, {"on", true, 2}} {
		if err := m.want(step.want); err != nil || opened != step.opened || (m.reader != nil) != step.want {
			t.Errorf("%s: %v, opened %d times, want %d", step.name, err, opened, step.opened)
		}
	}
	m.next(true, func(mmap.Mapping) { t.Error("a mapping out of nothing") })
	if m.reader != nil || len(m.ending) != 0 {
		t.Error("still open at the end")
	}
	m.open = func() (*mmap.Reader, error) { return nil, errors.New("too old a kernel") }
	if err := m.want(true); err == nil || m.reader != nil {
		t.Errorf("%v, though it cannot be opened", err)
	}
	if d := cmp.Diff(mmap.Stats{Seen: 11, Delivered: 22, Duplicate: 33, NoFile: 44, Bad: 55, Lost: 66},
		sumMappings(mmap.Stats{Seen: 1, Delivered: 2, Duplicate: 3, NoFile: 4, Bad: 5, Lost: 6}, mmap.Stats{Seen: 10, Delivered: 20, Duplicate: 30, NoFile: 40, Bad: 50, Lost: 60})); d != "" {
		t.Errorf("sum (-want +got):\n%s", d)
	}
}
