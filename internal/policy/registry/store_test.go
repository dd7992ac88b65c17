// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tetragon/internal/policy"
	"tetragon/internal/policy/registry"
)

// kept is a registry whose policies are kept in a directory.
type kept struct {
	*registry.Registry
	k      *kernel
	dir    string
	parsed int
}

func keeping(t *testing.T, dir string) *kept {
	t.Helper()
	s, err := registry.OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	x := &kept{dir: dir}
	_, x.k, _ = start(t)
	x.Registry = registry.New(registry.Options{Sensors: x.k, Compile: compile, Store: s, Parse: func(t registry.Text) (*policy.Policy, *policy.Diagnostics) {
		x.parsed++
		return parse(t)
	}})
	return x
}

// next is a registry as the next agent has it.
func (x *kept) next(t *testing.T) *kept {
	t.Helper()
	n := keeping(t, x.dir)
	if err := n.Restore(); err != nil {
		t.Fatal(err)
	}
	return n
}

// files lists what is kept.
func (x *kept) files(t *testing.T) []string {
	t.Helper()
	es, err := os.ReadDir(x.dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range es {
		out = append(out, e.Name())
	}
	return out
}

// full makes the directory one that nothing can be written to: it is gone, and a file is in its place.
func (x *kept) full(t *testing.T) {
	t.Helper()
	if err := errors.Join(os.Rename(x.dir, x.dir+".away"), os.WriteFile(x.dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
}

func TestStore_life(t *testing.T) {
	x := keeping(t, filepath.Join(t.TempDir(), "kept"))
	add(t, x.Registry, "a")
	if x.parsed != 1 {
		t.Errorf("the text was read %d times, once is enough", x.parsed)
	}
	add(t, x.Registry, "b first")
	add(t, x.Registry, "c")
	if err := errors.Join(x.Add(registry.DomainGRPC, text("b second"), true), x.Disable(key("c"))); err != nil {
		t.Fatal(err)
	}
	if err := x.Add(registry.DomainStatic, text("file"), false); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"a::grpc.json", "b::grpc.json", "c::grpc.json"}, x.files(t)); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}

	y := x.next(t)
	want(t, y.Registry, "a enabled", "b enabled", "c disabled")
	var hooks []string
	for _, p := range y.k.loaded {
		hooks = append(hooks, p.Hooks[0].Name)
	}
	if !slices.Contains(hooks, "b second") {
		t.Errorf("the new text of b did not come back: %q", hooks)
	}
	if err := errors.Join(y.Delete(key("a")), y.Delete(key("c"))); err != nil {
		t.Fatal(err)
	}
	want(t, y.next(t).Registry, "b enabled")
}

func TestStore_mistakes(t *testing.T) {
	x := keeping(t, filepath.Join(t.TempDir(), "kept"))
	for _, s := range []string{"bad no-parse", "bad no-compile"} {
		if err := x.Add(registry.DomainGRPC, text(s), false); err == nil {
			t.Errorf("%s: it was taken", s)
		}
	}
	if f := x.files(t); len(f) > 0 {
		t.Errorf("what was refused is kept: %q", f)
	}
}

func TestStore_full(t *testing.T) {
	x := keeping(t, filepath.Join(t.TempDir(), "kept"))
	add(t, x.Registry, "a first")
	x.full(t)
	wantErr(t, x.Add(registry.DomainGRPC, text("b"), false), nil, "add policy b, which is taken out again", "keep policy")
	wantErr(t, x.Add(registry.DomainGRPC, text("a second"), true), nil, "replace policy a, which stays as it was")
	want(t, x.Registry, "a enabled")
	if n := len(x.k.loaded); n != 1 {
		t.Fatalf("%d policies are loaded, want 1", n)
	}
	for _, p := range x.k.loaded {
		if p.Hooks[0].Name != "a first" {
			t.Errorf("%q works, and not the old one", p.Hooks[0].Name)
		}
	}
	wantErr(t, x.Disable(key("a")), nil, "stays as it was")
	want(t, x.Registry, "a enabled")
}

func TestStore_deleteFails(t *testing.T) {
	x := keeping(t, filepath.Join(t.TempDir(), "kept"))
	add(t, x.Registry, "a")
	x.k.refuse["remove"] = errors.New("busy")
	wantErr(t, x.Delete(key("a")), nil, "busy")
	if d := cmp.Diff([]string{"a::grpc.json"}, x.files(t)); d != "" {
		t.Errorf("what could not be deleted is not kept any more (-want +got):\n%s", d)
	}
}

func TestStore_restore(t *testing.T) {
	for _, c := range []struct {
		name, file, holds string
		says              string // of the error
		list              []string
	}{
		{"no policy", "notes.txt", "x", "", []string{"ok enabled"}},
		{"no JSON", "x::grpc.json", "x", "remove the file if it is not needed", nil},
		{"another policy", "x::grpc.json", `{"yaml":"y","enabled":true}`, "the text is of y", nil},
		{"mistakes", "x::grpc.json", `{"yaml":"x no-parse","enabled":true}`, "first mistake", nil},
		{"cannot be loaded", "x::grpc.json", `{"yaml":"x no-compile","enabled":true}`, "no such function", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := keeping(t, filepath.Join(t.TempDir(), "kept"))
			add(t, x.Registry, "ok")
			if err := os.WriteFile(filepath.Join(x.dir, c.file), []byte(c.holds), 0o600); err != nil {
				t.Fatal(err)
			}
			y := keeping(t, x.dir)
			err := y.Restore()
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("error %v, want one with %q", err, c.says)
			}
			want(t, y.Registry, c.list...)
			if _, err := os.Stat(filepath.Join(x.dir, "ok::grpc.json")); errors.Is(err, fs.ErrNotExist) {
				t.Error("a policy is not kept any more")
			}
		})
	}
}
