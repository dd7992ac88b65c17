// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tetragon/internal/policy"
	"tetragon/internal/policy/plan"
	"tetragon/internal/policy/registry"
	"tetragon/internal/sensor"
)

// kernel stands for the sensor manager. What it is told to refuse it refuses.
type kernel struct {
	mu      sync.Mutex
	ids     uint32
	loaded  map[uint32]*plan.Plan
	off     map[uint32]bool
	monitor map[uint32]bool
	refuse  map[string]error // by what is asked
	loading chan struct{}    // if set, Add says so and waits
	loader  bool
}

func (k *kernel) Add(p *plan.Plan) (uint32, error) {
	if k.loading != nil {
		k.loading <- struct{}{}
		<-k.loading
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.refuse["add"]; err != nil {
		return 0, err
	}
	k.ids++
	k.loaded[k.ids] = p
	return k.ids, nil
}

func (k *kernel) do(what string, f func()) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.refuse[what]; err != nil {
		return err
	}
	f()
	return nil
}

func (k *kernel) Replace(id uint32, p *plan.Plan) error {
	return k.do("replace", func() { k.loaded[id] = p })
}
func (k *kernel) SetMode(id uint32, monitor bool) error {
	return k.do("mode", func() { k.monitor[id] = monitor })
}
func (k *kernel) Enable(id uint32) error  { return k.do("enable", func() { delete(k.off, id) }) }
func (k *kernel) Disable(id uint32) error { return k.do("disable", func() { k.off[id] = true }) }
func (k *kernel) Remove(id uint32) error  { return k.do("remove", func() { delete(k.loaded, id) }) }

func (k *kernel) Stats(id uint32) (out []sensor.HookStats, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.loaded[id] == nil {
		return nil, errors.New("gone")
	}
	for i := range k.loaded[id].Hooks {
		out = append(out, sensor.HookStats{Hook: &k.loaded[id].Hooks[i], Rules: []sensor.RuleStats{{Matched: 3, Posted: 2, Limited: 1}}})
	}
	return out, nil
}

func (k *kernel) KernelBytes(uint32) uint64 { return 4096 }

// A text of these tests is "NAME [WORD...]"; words are: no-parse, else-sound, no-compile, warns, partial, loader, kills, mode=...
func parse(t registry.Text) (*policy.Policy, *policy.Diagnostics) {
	words := strings.Fields(string(t.YAML))
	d := &policy.Diagnostics{File: t.Name}
	p := &policy.Policy{File: t.Name, Name: words[0], Labels: map[string]string{"text": string(t.YAML)}}
	for _, w := range words[1:] {
		switch {
		case w == "no-parse":
			d.Error(policy.Place{Line: 1, Column: 2}, "a", "first mistake")
			d.Error(policy.Place{Line: 3, Column: 4}, "b", "second mistake")
		case w == "warns":
			d.Warn(policy.Place{Line: 9, Column: 9}, "c", "odd")
		case w == "kills":
			p.Kprobes = []policy.Kprobe{{Common: policy.Common{Selectors: []policy.Selector{{Actions: []policy.Action{{Action: policy.Text{Value: "Sigkill"}}}}}}}}
		case strings.HasPrefix(w, "mode="):
			p.Options = []policy.Option{{Name: policy.Text{Value: "policy-mode"}, Value: policy.Text{Value: w[5:]}}}
		case w == "env":
			v, ok := t.Getenv("REGISTRY_TEST")
			p.Labels["env"] = fmt.Sprint(v, ok)
		}
	}
	if d.Bad() {
		if slices.Contains(words, "else-sound") {
			d.Sound = p
		}
		return nil, d
	}
	return p, d
}

func compile(_ string, p *policy.Policy) (*plan.Plan, *policy.Diagnostics, error) {
	d := &policy.Diagnostics{File: p.File}
	out := &plan.Plan{Policy: p.Name, Section: "kprobes", Hooks: []plan.Hook{{
		Section: "kprobes", Name: p.Labels["text"] + p.Labels["env"], Event: plan.EventKprobe, Attach: plan.Attach{Backend: plan.BackendFentry, Symbol: "f"},
	}}}
	for _, w := range strings.Fields(p.Labels["text"])[1:] {
		switch w {
		case "no-compile":
			d.Error(policy.Place{Line: 5, Column: 6}, "d", "no such function")
		case "warns":
			d.Warn(policy.Place{Line: 7, Column: 7}, "e", "rather odd")
		case "partial":
			out.Hooks = append(out.Hooks, plan.Hook{Section: "kprobes", Name: "h", Inactive: "not there"}, plan.Hook{Section: "kprobes", Index: 1, Name: "i", Inactive: "not there"})
		case "loader":
			out.Loader = true
		case "no-kernel":
			return nil, d, errors.New("read the kernel's types: gone")
		}
	}
	if d.Bad() {
		return nil, d, nil
	}
	return out, d, nil
}

func start(t *testing.T) (*registry.Registry, *kernel, *bytes.Buffer) {
	t.Helper()
	k := &kernel{loaded: map[uint32]*plan.Plan{}, off: map[uint32]bool{}, monitor: map[uint32]bool{}, refuse: map[string]error{}}
	log := new(bytes.Buffer)
	return registry.New(registry.Options{
		Sensors: k, Parse: parse, Compile: compile, Log: slog.New(slog.NewTextHandler(log, nil)),
		Loader: func(yes bool) error { return k.do("loader", func() { k.loader = yes }) },
	}), k, log
}

func text(s string) registry.Text { return registry.Text{Name: "x.yaml", YAML: []byte(s)} }

func key(name string) registry.Key {
	return registry.Key{Domain: registry.DomainGRPC, Name: name}
}

func add(t *testing.T, r *registry.Registry, s string) {
	t.Helper()
	if err := r.Add(registry.DomainGRPC, text(s), false); err != nil {
		t.Fatal(err)
	}
}

// states lists what there is: "name state".
func states(r *registry.Registry) (out []string) {
	for _, s := range r.List("") {
		out = append(out, s.Key.Name+" "+s.State.String())
	}
	return out
}

func want(t *testing.T, r *registry.Registry, lines ...string) {
	t.Helper()
	if d := cmp.Diff(lines, states(r)); d != "" {
		t.Errorf("list (-want +got):\n%s", d)
	}
}

func wantErr(t *testing.T, err, is error, texts ...string) {
	t.Helper()
	if err == nil || is != nil && !errors.Is(err, is) {
		t.Errorf("error %v, want one that is %v", err, is)
		return
	}
	for _, s := range texts {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("error %q, want %q in it", err, s)
		}
	}
}

func TestAdd(t *testing.T) {
	r, k, _ := start(t)
	add(t, r, "one warns")
	add(t, r, "two partial")
	want(t, r, "one enabled", "two partially_enabled")
	if len(k.loaded) != 2 {
		t.Errorf("%d plans in the kernel", len(k.loaded))
	}
	l := r.List("")
	if l[0].ID != 1 || l[1].ID != 2 || l[0].Mode != registry.ModeMonitorOnly || l[0].KernelBytes != 4096 || l[0].Stats[0].Rules[0].Posted != 2 {
		t.Errorf("status %+v", l)
	}
	if d := cmp.Diff([]string{"x.yaml:7:7: warning: rather odd [e]", "x.yaml:9:9: warning: odd [c]"}, l[0].Warnings); d != "" {
		t.Errorf("warnings (-want +got):\n%s", d)
	}
	hooks := []registry.HookStatus{
		{Section: "kprobes", State: registry.HookPartlyNotFound, Description: "kprobe:two partial and 1 more"},
		{Section: "kprobes", Index: 1, State: registry.HookNotFound, Description: "kprobe:i"},
	}
	if d := cmp.Diff(hooks, l[1].Hooks); d != "" {
		t.Errorf("hooks (-want +got):\n%s", d)
	}
}

func TestAdd_sameKey(t *testing.T) {
	r, _, _ := start(t)
	add(t, r, "one")
	wantErr(t, r.Add(registry.DomainGRPC, text("one"), false), registry.ErrExists, "policy one: already exists", "enabled")
	// The domain is part of the key.
	if err := r.Add("other", text("one"), false); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"grpc", "other"}, r.Domains()); d != "" {
		t.Errorf("domains (-want +got):\n%s", d)
	}
	if n := len(r.List("other")); n != 1 {
		t.Errorf("%d policies in the other domain", n)
	}
	if err := r.Delete(registry.Key{Domain: "other", Name: "one"}); err != nil {
		t.Fatal(err)
	}
	want(t, r, "one enabled")
	wantErr(t, r.Delete(registry.Key{Domain: "other", Name: "one"}), registry.ErrNotFound, "not found in domain other; there is one in domain grpc")
}

func TestAdd_domains(t *testing.T) {
	r, _, _ := start(t)
	wantErr(t, r.Add("sensors", text("one"), false), registry.ErrInvalid, `domain "sensors" is reserved`)
	wantErr(t, r.Add("a b", text("one"), false), registry.ErrInvalid, `domain "a b" is no name`)
	want(t, r)
}

func TestAdd_mistakes(t *testing.T) {
	r, k, _ := start(t)
	// What cannot be read was never a policy.
	wantErr(t, r.Add(registry.DomainGRPC, text("one no-parse"), false), registry.ErrInvalid, "x.yaml:1:2: first mistake [a]\nx.yaml:3:4: second mistake [b]")
	want(t, r)
	// Hooks without a mistake in the text are compiled, to tell what is wrong with them, but never loaded.
	wantErr(t, r.Add(registry.DomainGRPC, text("one no-parse else-sound no-compile"), false), registry.ErrInvalid,
		"x.yaml:1:2: first mistake [a]\nx.yaml:3:4: second mistake [b]\nx.yaml:5:6: no such function [d]")
	wantErr(t, r.Add(registry.DomainGRPC, text("one no-parse else-sound"), false), registry.ErrInvalid, "second mistake [b]")
	want(t, r)
	// What cannot be compiled or loaded is remembered, and may be replaced.
	wantErr(t, r.Add(registry.DomainGRPC, text("one no-compile"), false), registry.ErrInvalid, "x.yaml:5:6: no such function [d]")
	want(t, r, "one load_error")
	if s := r.List("")[0]; s.Error != "x.yaml:5:6: no such function [d]" || s.Plan != nil {
		t.Errorf("status %+v", s)
	}
	wantErr(t, r.Enable(key("one")), registry.ErrState, "load_error")
	wantErr(t, r.Add(registry.DomainGRPC, text("one no-kernel"), false), nil, "read the kernel's types")
	k.refuse["add"] = errors.New("the verifier says no")
	wantErr(t, r.Add(registry.DomainGRPC, text("one"), false), nil, "load policy one: the verifier says no")
	want(t, r, "one load_error")
	delete(k.refuse, "add")
	add(t, r, "one")
	want(t, r, "one enabled")
	if s := r.List("")[0]; s.Error != "" || s.ID != 4 {
		t.Errorf("status %+v", s)
	}
}

func TestReplace(t *testing.T) {
	r, k, _ := start(t)
	add(t, r, "one")
	if err := r.Add(registry.DomainGRPC, text("one partial"), true); err != nil {
		t.Fatal(err)
	}
	want(t, r, "one partially_enabled")
	if len(k.loaded) != 1 || k.loaded[1].Hooks[0].Name != "one partial" {
		t.Errorf("in the kernel: %+v", k.loaded)
	}
	// The old one stays if the new one fails, however it fails.
	wantErr(t, r.Add(registry.DomainGRPC, text("one no-compile"), true), registry.ErrInvalid, "no such function")
	k.refuse["replace"] = errors.New("full")
	wantErr(t, r.Add(registry.DomainGRPC, text("one"), true), nil, "replace policy one, which stays as it was: full")
	want(t, r, "one partially_enabled")
	if got, err := r.Text(key("one")); err != nil || string(got.YAML) != "one partial" {
		t.Errorf("text %q, %v", got.YAML, err)
	}
	// A policy that is off stays off; one that is not there is added.
	delete(k.refuse, "replace")
	if err := errors.Join(r.Disable(key("one")), r.Add(registry.DomainGRPC, text("one"), true), r.Add(registry.DomainGRPC, text("two"), true)); err != nil {
		t.Fatal(err)
	}
	want(t, r, "one disabled", "two enabled")
}

func TestLife(t *testing.T) {
	r, k, _ := start(t)
	add(t, r, "one partial")
	wantErr(t, r.Enable(key("one")), registry.ErrState, "only a disabled policy can be enabled; it is partially_enabled")
	if err := r.Disable(key("one")); err != nil {
		t.Fatal(err)
	}
	want(t, r, "one disabled")
	if !k.off[1] {
		t.Error("still on in the kernel")
	}
	wantErr(t, r.Disable(key("one")), registry.ErrState, "only an enabled policy can be disabled; it is disabled")
	k.refuse["enable"] = errors.New("no")
	wantErr(t, r.Enable(key("one")), nil, "enable policy one: no")
	want(t, r, "one disabled")
	delete(k.refuse, "enable")
	if err := r.Enable(key("one")); err != nil {
		t.Fatal(err)
	}
	want(t, r, "one partially_enabled")
	k.refuse["remove"] = errors.New("busy")
	wantErr(t, r.Delete(key("one")), nil, "delete policy one, which was partially_enabled: busy")
	want(t, r, "one error")
	delete(k.refuse, "remove")
	if err := r.Delete(key("one")); err != nil || len(k.loaded) != 0 {
		t.Errorf("%v, in the kernel: %v", err, k.loaded)
	}
	want(t, r)
	wantErr(t, r.Delete(key("one")), registry.ErrNotFound, "policy one: not found")
}

func TestMode(t *testing.T) {
	r, k, _ := start(t)
	add(t, r, "tells mode=monitor")
	add(t, r, "kills kills")
	add(t, r, "watches kills mode=monitor")
	var got []string
	for _, s := range r.List("") {
		got = append(got, s.Mode.String())
	}
	if d := cmp.Diff([]string{"monitor_only", "enforce", "monitor"}, got); d != "" {
		t.Errorf("modes (-want +got):\n%s", d)
	}
	if w := r.List("")[0].Warnings; len(w) != 1 || !strings.Contains(w[0], "has no effect") {
		t.Errorf("warnings %q", w)
	}
	wantErr(t, r.SetMode(key("tells"), registry.ModeMonitor), registry.ErrInvalid, "its mode is monitor_only")
	wantErr(t, r.SetMode(key("kills"), registry.ModeMonitorOnly), registry.ErrInvalid, "enforce or monitor")
	if err := r.SetMode(key("kills"), registry.ModeEnforce); err != nil {
		t.Error(err)
	}
	if err := r.SetMode(key("kills"), registry.ModeMonitor); err != nil || !k.monitor[2] || r.List("")[1].Mode != registry.ModeMonitor {
		t.Errorf("set mode monitor: %v, kernel %v, listed %v", err, k.monitor, r.List("")[1].Mode)
	}
	if !k.loaded[3].Monitor || k.loaded[2].Monitor {
		t.Error("the kernel is not told the mode to begin with")
	}
	over := text("over kills")
	over.Mode = registry.ModeMonitor
	if err := r.Add(registry.DomainGRPC, over, false); err != nil || !k.loaded[4].Monitor || r.List("")[3].Mode != registry.ModeMonitor {
		t.Errorf("a mode that is asked for beside the text: %v", err)
	}
	if err := r.Delete(key("over")); err != nil {
		t.Error(err)
	}
	// The mode is looked at before anything changes.
	off, m := false, registry.ModeMonitor
	wantErr(t, r.Configure(key("tells"), &off, &m), registry.ErrInvalid)
	want(t, r, "tells enabled", "kills enabled", "watches enabled")
}

func TestLoader(t *testing.T) {
	r, k, _ := start(t)
	k.refuse["loader"] = errors.New("too old a kernel")
	wantErr(t, r.Add(registry.DomainGRPC, text("one loader"), false), nil, "too old a kernel")
	want(t, r, "one load_error")
	delete(k.refuse, "loader")
	add(t, r, "one loader")
	add(t, r, "two loader")
	steps := []struct {
		name string
		do   func() error
		want bool
	}{
		{"loaded", func() error { return nil }, true},
		{"one off", func() error { return r.Disable(key("one")) }, true},
		{"both off", func() error { return r.Disable(key("two")) }, false},
		{"one on", func() error { return r.Enable(key("one")) }, true},
		{"one replaced", func() error { return r.Add(registry.DomainGRPC, text("one"), true) }, false},
		{"two on", func() error { return r.Enable(key("two")) }, true},
		{"two gone", func() error { return r.Delete(key("two")) }, false},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if k.loader != s.want {
			t.Errorf("%s: mappings are watched: %t", s.name, k.loader)
		}
	}
}

// TestList_duringLoad: whoever asks is answered while a policy is loaded, which can take seconds.
func TestList_duringLoad(t *testing.T) {
	r, k, _ := start(t)
	k.loading = make(chan struct{})
	done := make(chan error)
	go func() { done <- r.Add(registry.DomainGRPC, text("one"), false) }()
	<-k.loading
	want(t, r, "one loading")
	k.loading <- struct{}{}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want(t, r, "one enabled")
}

func TestAddDir(t *testing.T) {
	r, _, log := start(t)
	t.Setenv("REGISTRY_TEST", "here")
	dir := t.TempDir()
	for path, s := range map[string]string{
		"b.yaml": "b env", "a.yaml": "a no-parse", "sub/c.anything": "c no-compile", "sub/deeper/d.yaml": "d", ".hidden.yaml": "h",
		"..data/x.yaml": "x", "e.yaml": "e",
	} {
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(s), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("..data/x.yaml", filepath.Join(dir, "x.yaml")), os.Symlink("nowhere", filepath.Join(dir, "z.yaml"))); err != nil {
		t.Fatal(err)
	}
	bad, err := r.AddDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	want(t, r, dir+"/a.yaml load_error", "b enabled", "e enabled", "c load_error", "x enabled", dir+"/z.yaml load_error")
	if bad != 3 || strings.Count(log.String(), "level=ERROR") != 3 || !strings.Contains(log.String(), "second mistake") {
		t.Errorf("%d are bad; log:\n%s", bad, log)
	}
	if s := r.List(registry.DomainStatic)[1]; s.Plan.Hooks[0].Name != "b envheretrue" {
		t.Errorf("with variables of the environment: %q", s.Plan.Hooks[0].Name)
	}
	if s := r.List(registry.DomainStatic)[0]; !strings.Contains(s.Error, "second mistake") {
		t.Errorf("error %q", s.Error)
	}
	if bad, err := r.AddDir(t.Context(), filepath.Join(dir, "none")); bad != 0 || err != nil {
		t.Errorf("a directory that is not there: %d, %v", bad, err)
	}
	wantErr(t, r.AddFile(filepath.Join(dir, "none.yaml")), os.ErrNotExist, "read policy")
}

// TestConcurrent is for the race detector.
func TestConcurrent(t *testing.T) {
	r, _, _ := start(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			name := fmt.Sprint("p", i)
			for range 50 {
				err := errors.Join(r.Add(registry.DomainGRPC, text(name+" loader"), false), r.Disable(key(name)), r.Enable(key(name)), r.Delete(key(name)))
				if err != nil {
					t.Error(err)
				}
				r.List("")
			}
		})
	}
	wg.Wait()
	want(t, r)
}
