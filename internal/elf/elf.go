// SPDX-License-Identifier: Apache-2.0

// Package elf reads of programs and libraries what hooks on them need: where in the file a function begins, which static
// probes there are and where their arguments lie, and which build it is.
//
// It stands beside the policy lane: policy/compile asks it so that a mistake is told when a policy is read, sensor asks it
// again when it attaches, because the file may have been replaced since.
//
// Not here: attaching (sensor), reading the memory of a process (the kernel half).
//
// What comes from a file is believed no further than its bounds: a broken file gives an error, never a panic. A File is safe
// for concurrent use once it is open.
package elf

import (
	"bytes"
	"debug/elf"
	"debug/gosym"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"tetragon/internal/nearest"
)

// File is an open program or library.
type File struct {
	r    io.ReaderAt
	f    *elf.File
	file *os.File // nil if it was not opened by a name

	once  sync.Once
	funcs map[string]Func
	names []string // of funcs, sorted
	err   error    // why there are none

	mu      sync.Mutex
	digests map[string]string // that were asked for, by algorithm
}

// Func is a function of a file.
type Func struct {
	Addr, Size uint64
	Indirect   bool // what is there chooses the function when the program starts (STT_GNU_IFUNC)
}

// Open opens a file by its name. The file stays open, so that whoever attaches to it by its descriptor attaches to what was
// read here.
func Open(name string) (*File, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	st, err := file.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("read %s: it is no regular file", name)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	f, err := New(file)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	f.file = file
	return f, nil
}

// New reads a file that somebody else has opened.
func New(r io.ReaderAt) (*File, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("it is no ELF file: %w", err)
	}
	switch {
	case f.Class != elf.ELFCLASS64:
		return nil, errors.New("it is a program of 32 bits; only those of 64 bits can be hooked")
	case f.Data != elf.ELFDATA2LSB:
		return nil, errors.New("its byte order is that of another machine")
	case f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN:
		return nil, fmt.Errorf("it is neither a program nor a library (%s)", f.Type)
	}
	return &File{f: f, r: r}, nil
}

// Close closes the file.
func (f *File) Close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}

// Path names the open file itself, whatever has become of its name.
func (f *File) Path() string { return fmt.Sprintf("/proc/self/fd/%d", f.file.Fd()) }

// Stat describes the open file.
func (f *File) Stat() (os.FileInfo, error) { return f.file.Stat() }

// Machine names what the file runs on, as Go does: "amd64", "arm64", or the format's own word.
func (f *File) Machine() string {
	switch f.f.Machine {
	case elf.EM_X86_64:
		return "amd64"
	case elf.EM_AARCH64:
		return "arm64"
	}
	return f.f.Machine.String()
}

// Go says whether the file was made by the Go compiler, whose functions pass arguments in other registers, and whose stacks
// move: what waits for a function's return by changing its return address breaks them.
func (f *File) Go() bool {
	return slices.ContainsFunc(f.f.Sections, func(s *elf.Section) bool {
		return s.Name == ".gopclntab" || s.Name == ".go.buildinfo" || s.Name == ".note.go.buildid"
	})
}

// Function finds a function by its name.
func (f *File) Function(name string) (Func, error) {
	f.once.Do(f.readFuncs)
	if x, ok := f.funcs[name]; ok {
		return x, nil
	}
	switch {
	case f.err != nil:
		return Func{}, fmt.Errorf("there is no symbol %s: %w", name, f.err)
	case len(f.names) == 0:
		return Func{}, fmt.Errorf("there is no symbol %s: the file has no symbols (it is stripped); use offsets or addrs", name)
	}
	if near := f.near(name); len(near) > 0 {
		return Func{}, fmt.Errorf("there is no symbol %s; did you mean %s?", name, strings.Join(near, ", "))
	}
	return Func{}, fmt.Errorf("there is no symbol %s among the %d of the file", name, len(f.names))
}

// Functions lists the names of all functions, sorted.
func (f *File) Functions() []string {
	f.once.Do(f.readFuncs)
	return f.names
}

const (
	sttNoType = 0
	sttFunc   = 2
	sttIfunc  = 10 // STT_GNU_IFUNC
)

func (f *File) readFuncs() {
	f.funcs = make(map[string]Func)
	for _, read := range []func() ([]elf.Symbol, error){f.f.Symbols, f.f.DynamicSymbols} {
		syms, err := read()
		if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
			f.err = err
		}
		for i := range syms {
			f.addSymbol(&syms[i])
		}
	}
	if f.f.Section(".symtab") == nil {
		f.readGoFuncs()
	}
	for n := range f.funcs {
		f.names = append(f.names, n)
	}
	slices.Sort(f.names)
	if len(f.funcs) > 0 {
		f.err = nil
	}
}

// addSymbol takes a symbol if it names code. Of several with one name the global one counts, as it does for the linker.
func (f *File) addSymbol(s *elf.Symbol) {
	kind := s.Info & 0xf
	if s.Section == elf.SHN_UNDEF || s.Name == "" || kind != sttFunc && kind != sttIfunc && kind != sttNoType {
		return
	}
	if kind == sttNoType { // labels of assembly
		i := int(s.Section)
		if i >= len(f.f.Sections) || f.f.Sections[i].Flags&elf.SHF_EXECINSTR == 0 {
			return
		}
	}
	name, _, _ := strings.Cut(s.Name, "@") // a version
	if name == "" {
		return
	}
	local := elf.ST_BIND(s.Info) == elf.STB_LOCAL
	if _, have := f.funcs[name]; have && local {
		return
	}
	f.funcs[name] = Func{Addr: s.Value, Size: s.Size, Indirect: kind == sttIfunc}
}

// readGoFuncs takes the functions of a stripped Go program from the table that its runtime needs itself.
func (f *File) readGoFuncs() {
	text, tab := f.f.Section(".text"), f.f.Section(".gopclntab")
	if text == nil || tab == nil {
		return
	}
	data, err := tab.Data()
	if err != nil {
		return
	}
	table, err := goTable(data, text.Addr)
	if err != nil {
		f.err = err
		return
	}
	for i := range table.Funcs {
		x := &table.Funcs[i]
		if x.Entry < text.Addr || x.Entry >= text.Addr+text.Size { // a program with C in it: the table counts from elsewhere
			continue
		}
		if _, have := f.funcs[x.Name]; !have {
			f.funcs[x.Name] = Func{Addr: x.Entry, Size: x.End - x.Entry}
		}
	}
}

// goTable reads the table; the library panics at some broken ones.
func goTable(data []byte, text uint64) (t *gosym.Table, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("its table of Go functions is broken: %v", r)
		}
	}()
	return gosym.NewTable(nil, gosym.NewLineTable(data, text))
}

// Offset is where in the file the code at an address is.
func (f *File) Offset(addr uint64) (uint64, error) {
	for _, p := range f.f.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && addr >= p.Vaddr && addr-p.Vaddr < p.Filesz {
			return addr - p.Vaddr + p.Off, nil
		}
	}
	return 0, fmt.Errorf("no code of the file is at address %#x", addr)
}

// HasCode says whether there is code at an offset of the file.
func (f *File) HasCode(off uint64) bool {
	return slices.ContainsFunc(f.f.Progs, func(p *elf.Prog) bool {
		return p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && off >= p.Off && off-p.Off < p.Filesz
	})
}

// dataOffset is where in the file the byte at an address is.
func (f *File) dataOffset(addr uint64) (uint64, bool) {
	for _, p := range f.f.Progs {
		if p.Type == elf.PT_LOAD && addr >= p.Vaddr && addr-p.Vaddr < p.Memsz {
			return addr - p.Vaddr + p.Off, true
		}
	}
	return 0, false
}

// BuildID is the build id, in hexadecimal digits; empty if the file has none.
func (f *File) BuildID() string {
	for _, s := range f.f.Sections {
		if s.Type != elf.SHT_NOTE {
			continue
		}
		id := ""
		f.notes(s, func(name string, kind uint32, desc []byte) {
			if name == "GNU" && kind == 3 { // NT_GNU_BUILD_ID
				id = hex.EncodeToString(desc)
			}
		})
		if id != "" {
			return id
		}
	}
	return ""
}

// maxNotes bounds what is read of a section with notes.
const maxNotes = 16 << 20

// notes calls f for each note of a section.
func (f *File) notes(s *elf.Section, each func(name string, kind uint32, desc []byte)) {
	if s.Type == elf.SHT_NOBITS || s.Size > maxNotes {
		return
	}
	data, err := s.Data()
	if err != nil {
		return
	}
	for len(data) >= 12 {
		o := f.f.ByteOrder
		n, d, kind := uint64(o.Uint32(data)), uint64(o.Uint32(data[4:])), o.Uint32(data[8:])
		data = data[12:]
		padded := func(n uint64) uint64 { return (n + 3) &^ 3 }
		if padded(n)+d > uint64(len(data)) {
			return
		}
		name := string(bytes.TrimRight(data[:n], "\x00"))
		desc := data[padded(n) : padded(n)+d]
		each(name, kind, desc)
		data = data[min(padded(n)+padded(d), uint64(len(data))):]
	}
}

// maxNear is how many names an error suggests.
const maxNear = 3

// near lists names that the author may have meant: the nearest one, and those that hold the name.
func (f *File) near(name string) []string {
	var out []string
	if n := nearest.Name(name, f.names); n != "" {
		out = append(out, n)
	}
	for _, n := range f.names {
		if len(out) < maxNear && len(name) > 3 && !slices.Contains(out, n) && strings.Contains(n, name) {
			out = append(out, n)
		}
	}
	return out
}
