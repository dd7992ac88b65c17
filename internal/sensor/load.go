// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"tetragon/internal/kernel"
	"tetragon/internal/policy/digest"
	"tetragon/internal/sensor/gen"
)

// job is a program to be loaded.
type job struct {
	what string // for errors: "fentry to tcp_connect"
	spec *ebpf.ProgramSpec
	own  map[string]any // constants of this program alone; it gets a .rodata of its own then

	digests []gen.DigestRow // what it compares digests with; only of a program with constants of its own

	prog  *ebpf.Program // the result
	table uint64        // kernel memory of the table of digests
}

// loadChunk is how many programs one Collection gets at most before another is begun, so that all CPUs have something to do.
const loadChunk = 16

// load loads all programs, or none. They share maps and the decoded types of the kernel; the verifier works on several at
// a time.
func (t *tables) load(jobs []*job, f *kernel.Facts, verbose bool) error {
	var chunks [][]*job
	var shared []*job
	for _, j := range jobs {
		if j.own != nil {
			chunks = append(chunks, []*job{j})
			continue
		}
		shared = append(shared, j)
	}
	cpus := runtime.GOMAXPROCS(0)
	chunks = append(chunks, slices.Collect(slices.Chunk(shared, max(1, min(loadChunk, (len(shared)+cpus-1)/cpus))))...)
	todo := make(chan []*job, len(chunks))
	for _, c := range chunks {
		todo <- c
	}
	close(todo)
	var wg sync.WaitGroup
	errs := make([]error, len(chunks))
	for i := range min(cpus, len(chunks)) {
		wg.Go(func() {
			for c := range todo {
				if errs[i] = t.loadChunk(c, f, verbose); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		for _, j := range jobs {
			if j.prog != nil {
				_ = j.prog.Close()
				j.prog = nil
			}
		}
		return err
	}
	return nil
}

func (t *tables) loadChunk(jobs []*job, f *kernel.Facts, verbose bool) error {
	spec := &ebpf.CollectionSpec{
		Maps: make(map[string]*ebpf.MapSpec), Programs: make(map[string]*ebpf.ProgramSpec, len(jobs)),
		Types: t.lib.Types, ByteOrder: t.lib.ByteOrder,
	}
	replace := make(map[string]*ebpf.Map)
	names := make(map[string]*job, len(jobs))
	for i, j := range jobs {
		name := fmt.Sprintf("%d", i)
		names[name] = j
		spec.Programs[name] = j.spec
		if !verbose {
			stripLines(j.spec)
		}
		for m := range mapsOf(j.spec.Instructions) {
			if spec.Maps[m] != nil {
				continue
			}
			if m == gen.DigestMap {
				table, err := digestTable(j.digests)
				if err != nil {
					return fmt.Errorf("load %s: %w", j.what, err)
				}
				defer table.Close() // the program keeps it
				if info, err := table.Info(); err == nil {
					j.table, _ = info.Memlock()
				}
				spec.Maps[m], replace[m] = digestSpec(j.digests), table
				continue
			}
			if t.lib.Maps[m] == nil {
				return fmt.Errorf("load %s: it uses a map %s that is not there", j.what, m)
			}
			spec.Maps[m] = t.lib.Maps[m].Copy()
			spec.Maps[m].MaxEntries = t.sizes[m]
			if m == ".rodata" && j.own != nil {
				continue
			}
			replace[m] = t.coll.Maps[m]
		}
		if j.own != nil && spec.Maps[".rodata"] != nil {
			spec.Variables = make(map[string]*ebpf.VariableSpec)
			for n, v := range t.lib.Variables {
				if v.SectionName == ".rodata" {
					spec.Variables[n] = v.Copy()
				}
			}
			for n, v := range j.own {
				if err := spec.Variables[n].Set(v); err != nil {
					return fmt.Errorf("load %s: set constant %s: %w", j.what, n, err)
				}
			}
		}
	}
	o := ebpf.CollectionOptions{MapReplacements: replace, Cache: f.Cache}
	if o.Cache == nil {
		o.Programs.KernelTypes = f.Types
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, o)
	if err != nil {
		return loadError(err, names, verbose)
	}
	for name, j := range names {
		j.prog = coll.DetachProgram(name)
	}
	coll.Close()
	return nil
}

func digestSpec(rows []gen.DigestRow) *ebpf.MapSpec {
	return &ebpf.MapSpec{
		Name: gen.DigestMap, Type: ebpf.Hash, KeySize: digest.KeySize, ValueSize: uint32(8 * len(rows[0].Rules)), MaxEntries: uint32(len(rows)),
	}
}

// digestTable makes the table that a program looks digests up in. Nobody changes it any more.
func digestTable(rows []gen.DigestRow) (*ebpf.Map, error) {
	m, err := ebpf.NewMap(digestSpec(rows))
	if err != nil {
		return nil, fmt.Errorf("make the table of %d digests: %w", len(rows), err)
	}
	for i := range rows {
		if err = m.Put(rows[i].Key, rows[i].Rules); err != nil {
			break
		}
	}
	if err == nil {
		err = m.Freeze()
	}
	if err != nil {
		_ = m.Close()
		return nil, fmt.Errorf("fill the table of %d digests: %w", len(rows), err)
	}
	return m, nil
}

// loadError says which program the kernel did not take, and why: in one line, or with all that the verifier says.
func loadError(err error, names map[string]*job, verbose bool) error {
	what := "the programs of hooks"
	text := err.Error()
	if rest, ok := strings.CutPrefix(text, "program "); ok {
		if name, _, ok := strings.Cut(rest, ":"); ok && names[name] != nil {
			what = names[name].what
		}
	}
	var ve *ebpf.VerifierError
	switch {
	case !errors.As(err, &ve):
		for { // the library's names mean nothing to anybody
			inner := errors.Unwrap(err)
			if inner == nil || !strings.HasPrefix(err.Error(), "program ") {
				return fmt.Errorf("load %s: %w", what, err)
			}
			err = inner
		}
	case verbose:
		return fmt.Errorf("load %s: refused by the kernel's verifier: %+v", what, ve)
	}
	return fmt.Errorf("load %s: refused by the kernel's verifier: %w; --verbose=1 shows its whole log", what, &refusal{ve})
}

// refusal is a verifier's log in one line: the last that says something.
type refusal struct{ err *ebpf.VerifierError }

func (r *refusal) Unwrap() error { return r.err }

func (r *refusal) Error() string {
	for i := len(r.err.Log) - 1; i >= 0; i-- {
		l := strings.TrimSpace(r.err.Log[i])
		switch {
		case l == "", strings.HasPrefix(l, "processed "), strings.HasPrefix(l, "peak_states"), strings.HasPrefix(l, "verification time"),
			strings.HasPrefix(l, "stack depth"), strings.HasPrefix(l, ";"):
			continue
		}
		return fmt.Sprintf("%s (%v)", l, r.err.Cause)
	}
	return r.err.Cause.Error()
}

// mapsOf lists the maps that instructions name.
func mapsOf(ins asm.Instructions) map[string]bool {
	out := make(map[string]bool)
	for i := range ins {
		if ins[i].IsLoadFromMap() && ins[i].Reference() != "" {
			out[ins[i].Reference()] = true
		}
	}
	return out
}

// stripLines leaves out the source lines that each program would carry, but for the one that the kernel wants at the
// beginning of each function. They are a third of what a program costs to load, and nearly half of its memory.
func stripLines(spec *ebpf.ProgramSpec) {
	spec.Instructions = slices.Clone(spec.Instructions)
	for i := range spec.Instructions {
		if ins := &spec.Instructions[i]; ins.Source() != nil && btf.FuncMetadata(ins) == nil {
			*ins = ins.WithSource(nil)
		}
	}
}

// programBytes is the kernel memory of a program: its instructions as the kernel keeps them, and as the CPU runs them.
func programBytes(p *ebpf.Program) uint64 {
	info, err := p.Info()
	if err != nil {
		return 0
	}
	n, _ := info.Memlock()
	if x, err := info.TranslatedSize(); err == nil {
		n = max(n, uint64(x))
	}
	if j, err := info.JitedSize(); err == nil {
		n += uint64(j)
	}
	return n
}

// keys is the keys of a map, sorted: what is done in the order of a map is done in this order.
func keys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
