// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"bytes"
	"cmp"
	"debug/elf"
	"debug/gosym"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// modules are the symbols of files that programs run from. They are read when a stack leads there, and forgotten when none has
// come for a while.
//
// A file may lie on a file system that some user serves, who may never answer. So each is read by a goroutine of its own, which
// the lane waits for a little and no longer; later stacks find what it has read by then.
type modules struct {
	asked   time.Time
	byID    map[moduleID]*reading
	patient time.Duration // 0: readPatience
}

// moduleID is a file as the list of mappings names it, which asks no file system.
type moduleID struct{ device, file string }

// reading is a file that is being read, or was.
type reading struct {
	done   chan struct{}
	module *module // valid when done is closed; nil: it could not be opened
}

// module is what is known of a file.
type module struct {
	loads   []load
	symbols []moduleSymbol // by address
	buildID string         // hexadecimal, or as the Go linker writes it
}

// load is a part of the file that is mapped as code.
type load struct{ off, size, addr uint64 }

type moduleSymbol struct {
	addr, size uint64 // size 0: up to the next
	name       string
}

const (
	// maxSymbolBytes is how large the tables of a file may be.
	maxSymbolBytes = 32 << 20
	// maxModules bounds how many files are kept, and maxReading how many are being read.
	maxModules, maxReading = 128, 8
	// readPatience is how long a stack waits for a file that is new: longer than reading takes, and short beside what the ring
	// holds.
	readPatience = 50 * time.Millisecond
)

// age forgets symbols that nobody asks for.
func (m *modules) age() {
	if m.byID != nil && time.Since(m.asked) > symbolsIdle {
		m.byID = nil
	}
}

// of returns what is known of the file that is mapped at a region of a process; nil if that is nothing, or nothing yet.
func (m *modules) of(proc string, pid uint32, r *region) *module {
	if !strings.HasPrefix(r.file, "/") {
		return nil
	}
	m.asked = time.Now()
	id := moduleID{r.device, r.file}
	x, ok := m.byID[id]
	if ok {
		select {
		case <-x.done:
			return x.module
		default:
			return nil
		}
	}
	if m.byID == nil || len(m.byID) >= maxModules {
		m.forget()
	}
	if m.pending() >= maxReading {
		return nil
	}
	x = &reading{done: make(chan struct{})}
	m.byID[id] = x
	go func() {
		defer close(x.done)
		x.module = openModule(proc, pid, r.start, r.end, r.file)
	}()
	patience := time.NewTimer(max(m.patient, readPatience))
	defer patience.Stop()
	select {
	case <-x.done:
		return x.module
	case <-patience.C:
		return nil
	}
}

// forget lets go of all but what is being read: it would be begun again.
func (m *modules) forget() {
	keep := make(map[moduleID]*reading)
	for id, x := range m.byID {
		select {
		case <-x.done:
		default:
			keep[id] = x
		}
	}
	m.byID = keep
}

func (m *modules) pending() int {
	n := 0
	for _, x := range m.byID {
		select {
		case <-x.done:
		default:
			n++
		}
	}
	return n
}

// openModule reads a file that a process has mapped.
func openModule(proc string, pid uint32, start, end uint64, file string) *module {
	dir := proc + "/" + strconv.FormatUint(uint64(pid), 10)
	// The mapping itself is the file, whatever has its name now, or in which mount namespace. Not everybody may open it.
	f, err := os.Open(fmt.Sprintf("%s/map_files/%x-%x", dir, start, end))
	if err != nil {
		if f, err = os.Open(dir + "/root" + file); err != nil {
			return nil
		}
	}
	defer f.Close() //nolint:errcheck // only read from
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	return readModule(f)
}

// readModule reads what it can.
func readModule(f *os.File) *module {
	m := &module{}
	e, err := elf.NewFile(f)
	if err != nil {
		return m
	}
	defer e.Close() //nolint:errcheck // only read from
	for _, p := range e.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 {
			m.loads = append(m.loads, load{p.Off, p.Filesz, p.Vaddr})
		}
	}
	m.buildID = buildID(e)
	tables := uint64(0)
	for _, s := range e.Sections {
		if s.Type == elf.SHT_SYMTAB || s.Type == elf.SHT_DYNSYM || s.Name == ".gopclntab" {
			tables += s.Size
		}
	}
	if tables > maxSymbolBytes {
		return m
	}
	all, _ := e.Symbols()
	dynamic, _ := e.DynamicSymbols()
	for _, s := range append(all, dynamic...) {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Section != elf.SHN_UNDEF && s.Value != 0 {
			m.symbols = append(m.symbols, moduleSymbol{s.Value, s.Size, s.Name})
		}
	}
	if len(all) == 0 {
		m.goSymbols(e)
	}
	// Of several names for one address that of the whole table stays.
	slices.SortStableFunc(m.symbols, func(a, b moduleSymbol) int { return cmp.Compare(a.addr, b.addr) })
	m.symbols = slices.CompactFunc(m.symbols, func(a, b moduleSymbol) bool { return a.addr == b.addr })
	return m
}

// goSymbols reads the table that the Go runtime itself uses, which no stripping removes.
func (m *module) goSymbols(e *elf.File) {
	s, text := e.Section(".gopclntab"), e.Section(".text")
	if s == nil || text == nil {
		return
	}
	data, err := s.Data()
	if err != nil {
		return
	}
	defer func() { _ = recover() }() // debug/gosym is not made for tables that somebody has tampered with
	table, err := gosym.NewTable(nil, gosym.NewLineTable(data, text.Addr))
	if err != nil {
		return
	}
	for i := range table.Funcs {
		fn := &table.Funcs[i]
		m.symbols = append(m.symbols, moduleSymbol{fn.Entry, fn.End - fn.Entry, fn.Name})
	}
}

// buildID is the name that the linker gave to the file's content.
func buildID(e *elf.File) string {
	if s := e.Section(".note.gnu.build-id"); s != nil {
		if desc := note(e, s); len(desc) > 0 {
			return hex.EncodeToString(desc)
		}
	}
	if s := e.Section(".note.go.buildid"); s != nil {
		return string(note(e, s))
	}
	return ""
}

// note returns what the first note of a section holds.
func note(e *elf.File, s *elf.Section) []byte {
	const head, most = 12, 512
	if s.Size < head || s.Size > most {
		return nil
	}
	b, err := s.Data()
	if err != nil || len(b) < head {
		return nil
	}
	name, desc := uint64(e.ByteOrder.Uint32(b)), uint64(e.ByteOrder.Uint32(b[4:]))
	at := head + (name+3)&^3
	if name > most || desc > most || at+desc > uint64(len(b)) {
		return nil
	}
	return bytes.TrimRight(b[at:at+desc], "\x00")
}

// find returns the function at an offset in the file, and the place in it; an empty name: none is known.
func (m *module) find(off uint64) place {
	for _, l := range m.loads {
		if off < l.off || off-l.off >= l.size {
			continue
		}
		addr := off - l.off + l.addr
		i, found := slices.BinarySearchFunc(m.symbols, addr, func(s moduleSymbol, a uint64) int { return cmp.Compare(s.addr, a) })
		if !found {
			i--
		}
		if i < 0 {
			return place{}
		}
		s := &m.symbols[i]
		if s.size > 0 && addr-s.addr >= s.size || s.size == 0 && addr-s.addr > maxSymbol {
			return place{}
		}
		return place{s.name, addr - s.addr}
	}
	return place{}
}
