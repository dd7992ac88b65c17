// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// Recorded are the facts of a kernel that were saved to a file, so that a policy can be checked for a kernel that is not
// here. They answer what Facts answer about hooks.
type Recorded struct {
	types Facts // of which only Types is there
	saved saved

	funcs map[string]bool // nil: the kernel did not tell
}

// saved is the content of the file, which is JSON, compressed by gzip.
type saved struct {
	Format     int                `json:"format"`
	Release    string             `json:"release"`
	Arch       string             `json:"arch"`
	Lacks      map[Feature]string `json:"lacks"`               // why; empty: the kernel has it
	Functions  []string           `json:"functions,omitempty"` // that can be traced; none: the kernel did not tell
	Formats    map[string]string  `json:"formats,omitempty"`   // "subsystem/event"
	Namespaces map[string]uint32  `json:"namespaces,omitempty"`
	Hash       string             `json:"hash,omitempty"` // algorithm of IMA
	Types      []byte             `json:"types"`          // BTF
}

// savedFormat is the number of the layout. A file with another one is refused.
const savedFormat = 1

// maxRecorded bounds what a file may unpack to.
const maxRecorded = 256 << 20

var namespaceNames = []string{
	"uts", "ipc", "mnt", "pid", "pid_for_children", "net", "time", "time_for_children", "cgroup", "user",
}

// Subset names what tests need of a kernel: a whole one takes megabytes.
type Subset struct {
	Functions   []string // with their prototypes
	Tracepoints []string // raw ones, with their prototypes
	Members     []string // "sock.__sk_common.skc_family": a type, and a way through it
	Formats     []string // "subsystem/event"
}

// Record saves the facts. A nil subset is all that any policy may ask.
func (f *Facts) Record(w io.Writer, only *Subset) error {
	s := saved{
		Format: savedFormat, Release: f.Release, Arch: runtime.GOARCH, Lacks: make(map[Feature]string),
		Formats: make(map[string]string), Namespaces: make(map[string]uint32),
	}
	for _, x := range AllFeatures {
		s.Lacks[x] = f.Lacks(x)
	}
	s.Hash = f.HashAlgorithm()
	for _, n := range namespaceNames {
		s.Namespaces[n] = f.HostNamespace(n)
	}
	s.Functions, _ = f.Functions(regexp.MustCompile(""))
	formats, err := savedFormats(tracefs(), only)
	if err != nil {
		return fmt.Errorf("record kernel %s: %w", f.Release, err)
	}
	s.Formats = formats
	if only != nil && s.Functions != nil {
		s.Functions = slices.DeleteFunc(s.Functions, func(n string) bool { return !slices.Contains(only.Functions, n) })
	}
	if s.Types, err = f.savedTypes(only); err != nil {
		return fmt.Errorf("record the types of kernel %s: %w", f.Release, err)
	}
	return s.write(w)
}

func (s *saved) write(w io.Writer) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return fmt.Errorf("save facts: %w", err)
	}
	e := json.NewEncoder(z)
	e.SetIndent("", " ")
	if err := errors.Join(e.Encode(s), z.Close()); err != nil {
		return fmt.Errorf("save facts: %w", err)
	}
	return nil
}

// savedFormats reads the formats of tracepoints; there are none where tracefs is not mounted.
func savedFormats(dir string, only *Subset) (map[string]string, error) {
	out := make(map[string]string)
	if dir == "" {
		return out, nil
	}
	found, err := filepath.Glob(filepath.Join(dir, "events/*/*/format"))
	if err != nil {
		return nil, fmt.Errorf("list tracepoints: %w", err)
	}
	for _, p := range found {
		event := filepath.Dir(p)
		name := filepath.Base(filepath.Dir(event)) + "/" + filepath.Base(event)
		if only != nil && !slices.Contains(only.Formats, name) {
			continue
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, fmt.Errorf("read the format of %s: %w", name, err)
		}
		// Nobody reads how a record is printed.
		text, _, _ := strings.Cut(string(b), "\nprint fmt:")
		out[name] = text
	}
	return out, nil
}

// savedTypes puts types into a BTF of their own.
func (f *Facts) savedTypes(only *Subset) ([]byte, error) {
	var types []btf.Type
	if only == nil {
		for t, err := range f.Types.All() {
			if err != nil {
				return nil, fmt.Errorf("read: %w", err)
			}
			types = append(types, t)
		}
	} else {
		var err error
		if types, err = f.reduce(only); err != nil {
			return nil, err
		}
	}
	b, err := btf.NewBuilder(types, nil)
	if err != nil {
		return nil, fmt.Errorf("collect: %w", err)
	}
	out, err := b.Marshal(nil, nil)
	if err != nil {
		return nil, fmt.Errorf("write: %w", err)
	}
	return out, nil
}

// reduce copies the types of a subset. Structs keep the members that are asked for, and their size.
func (f *Facts) reduce(only *Subset) ([]btf.Type, error) {
	r := reducer{keep: make(map[btf.Type]map[int]bool), done: make(map[btf.Type]btf.Type)}
	var roots []btf.Type
	for _, way := range only.Members {
		root, path, _ := strings.Cut(way, ".")
		t, err := rootType(f.Types, root)
		if err != nil {
			continue // other kernels have it
		}
		if words, err := splitPath(path); err == nil {
			r.walk(t, words)
		}
		roots = append(roots, t)
	}
	for _, n := range only.Functions {
		types, err := f.Types.AnyTypesByName(n)
		if err != nil {
			continue
		}
		for _, t := range types {
			if _, ok := t.(*btf.Func); ok {
				roots = append(roots, t)
			}
		}
	}
	for _, n := range only.Tracepoints {
		if t, err := f.Types.AnyTypeByName("btf_trace_" + n); err == nil {
			roots = append(roots, t)
		}
	}
	var out []btf.Type
	for _, t := range roots {
		out = append(out, r.copy(t))
	}
	return out, nil
}

type reducer struct {
	keep map[btf.Type]map[int]bool // members that are asked for
	done map[btf.Type]btf.Type
}

// walk marks the members on a way, as far as it leads.
func (r *reducer) walk(t btf.Type, words []pathWord) {
	for len(words) > 0 {
		t = btf.UnderlyingType(t)
		for {
			p, ok := t.(*btf.Pointer)
			if !ok {
				break
			}
			t = btf.UnderlyingType(p.Target)
		}
		if words[0].index >= 0 {
			if a, ok := t.(*btf.Array); ok {
				t = a.Type
			}
			words = words[1:]
			continue
		}
		next := r.mark(t, words[0].name)
		if next == nil {
			return
		}
		t, words = next, words[1:]
	}
	// What is at the end is kept whole if it is a number in a coat.
	if s, ok := btf.UnderlyingType(t).(*btf.Struct); ok && wraps(s) {
		r.set(s, 0)
	}
}

func (r *reducer) set(t btf.Type, i int) {
	if r.keep[t] == nil {
		r.keep[t] = make(map[int]bool)
	}
	r.keep[t][i] = true
}

// mark marks a member of a struct or union, also inside of members without a name, and returns its type.
func (r *reducer) mark(t btf.Type, name string) btf.Type {
	for i, m := range membersOf(t) {
		if m.Name == name {
			r.set(t, i)
			return m.Type
		}
		if m.Name != "" {
			continue
		}
		if x := r.mark(btf.UnderlyingType(m.Type), name); x != nil {
			r.set(t, i)
			return x
		}
	}
	return nil
}

func (r *reducer) members(t btf.Type, of []btf.Member) []btf.Member {
	var out []btf.Member
	for i, m := range of {
		if r.keep[t][i] {
			m.Type = r.copy(m.Type)
			out = append(out, m)
		}
	}
	return out
}

func (r *reducer) copy(t btf.Type) btf.Type {
	if x, ok := r.done[t]; ok {
		return x
	}
	switch t := t.(type) {
	case *btf.Struct:
		x := &btf.Struct{Name: t.Name, Size: t.Size}
		r.done[t] = x
		x.Members = r.members(t, t.Members)
		return x
	case *btf.Union:
		x := &btf.Union{Name: t.Name, Size: t.Size}
		r.done[t] = x
		x.Members = r.members(t, t.Members)
		return x
	case *btf.Enum:
		x := &btf.Enum{Name: t.Name, Size: t.Size, Signed: t.Signed, Values: []btf.EnumValue{{Name: t.Name + "_", Value: 0}}}
		r.done[t] = x
		return x
	case *btf.Pointer:
		x := &btf.Pointer{}
		r.done[t] = x
		x.Target = r.copy(t.Target)
		return x
	case *btf.Array:
		return &btf.Array{Index: t.Index, Type: r.copy(t.Type), Nelems: t.Nelems}
	case *btf.Typedef:
		x := &btf.Typedef{Name: t.Name}
		r.done[t] = x
		x.Type = r.copy(t.Type)
		return x
	case *btf.Const:
		return &btf.Const{Type: r.copy(t.Type)}
	case *btf.Volatile:
		return &btf.Volatile{Type: r.copy(t.Type)}
	case *btf.Restrict:
		return &btf.Restrict{Type: r.copy(t.Type)}
	case *btf.TypeTag:
		return r.copy(t.Type)
	case *btf.Func:
		return &btf.Func{Name: t.Name, Type: r.copy(t.Type), Linkage: t.Linkage}
	case *btf.FuncProto:
		x := &btf.FuncProto{Return: r.copy(t.Return)}
		for _, p := range t.Params {
			x.Params = append(x.Params, btf.FuncParam{Name: p.Name, Type: r.copy(p.Type)})
		}
		return x
	}
	return t // numbers, void, declarations
}

// ReadRecorded reads what Record wrote.
func ReadRecorded(r io.Reader) (*Recorded, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("read recorded kernel facts: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(z, maxRecorded))
	if err != nil {
		return nil, fmt.Errorf("read recorded kernel facts: %w", err)
	}
	out := &Recorded{}
	if err := json.Unmarshal(b, &out.saved); err != nil {
		return nil, fmt.Errorf("read recorded kernel facts: %w", err)
	}
	if out.saved.Format != savedFormat {
		return nil, fmt.Errorf("read recorded kernel facts: the file has layout %d, this program reads %d; record it again", out.saved.Format, savedFormat)
	}
	if out.types.Types, err = btf.LoadSpecFromReader(bytes.NewReader(out.saved.Types)); err != nil {
		return nil, fmt.Errorf("read recorded kernel facts: types: %w", err)
	}
	out.saved.Types = nil
	if len(out.saved.Functions) > 0 {
		out.funcs = make(map[string]bool, len(out.saved.Functions))
		for _, n := range out.saved.Functions {
			out.funcs[n] = true
		}
	}
	return out, nil
}

// OpenRecorded reads a file of recorded facts.
func OpenRecorded(path string) (*Recorded, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open recorded kernel facts: %w", err)
	}
	defer f.Close()
	r, err := ReadRecorded(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// KernelRelease is the release of the kernel that was recorded.
func (r *Recorded) KernelRelease() string { return r.saved.Release }

// Func is as of Facts.
func (r *Recorded) Func(name string) *Func { return r.types.Func(name) }

// RawTracepoint is as of Facts.
func (r *Recorded) RawTracepoint(name string) *Func { return r.types.RawTracepoint(name) }

// Follow is as of Facts.
func (r *Recorded) Follow(root, path string) (*Member, error) { return r.types.Follow(root, path) }

// FollowModule fails: modules' types are not saved.
func (r *Recorded) FollowModule(module, root, path string) (*Member, error) {
	return r.types.FollowModule(module, root, path)
}

// Lacks is as of Facts. What the file does not name the kernel has not.
func (r *Recorded) Lacks(x Feature) string {
	why, ok := r.saved.Lacks[x]
	if !ok {
		return "it was not known when the kernel was recorded"
	}
	return why
}

// Traceable is as of Facts.
func (r *Recorded) Traceable(name string) bool { return r.funcs == nil || r.funcs[name] }

// Functions is as of Facts.
func (r *Recorded) Functions(pattern *regexp.Regexp) ([]string, error) {
	if r.funcs == nil {
		return nil, errNoFunctions
	}
	var out []string
	for _, n := range r.saved.Functions {
		if pattern.MatchString(n) {
			out = append(out, n)
		}
	}
	return out, nil
}

// Format is as of Facts.
func (r *Recorded) Format(subsystem, event string) (*Format, error) {
	if text, ok := r.saved.Formats[subsystem+"/"+event]; ok {
		return ParseFormat([]byte(text))
	}
	if why := r.Lacks(Tracepoint); why != "" {
		return nil, errors.New(why)
	}
	return nil, noTracepoint(subsystem+"/"+event, slices.Sorted(maps.Keys(r.saved.Formats)))
}

// HostNamespace is as of Facts, of the machine that was recorded.
func (r *Recorded) HostNamespace(name string) uint32 { return r.saved.Namespaces[name] }

// HashAlgorithm is as of Facts, of the machine that was recorded.
func (r *Recorded) HashAlgorithm() string { return r.saved.Hash }

// Syscall is as of Facts.
func (r *Recorded) Syscall(abi, name string) (int, bool) { return r.types.Syscall(abi, name) }

// Syscalls is as of Facts.
func (r *Recorded) Syscalls(abi string) []string { return r.types.Syscalls(abi) }

var errNoFunctions = errors.New("the kernel does not list what can be traced (available_filter_functions in tracefs)")
