// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"bytes"
	"cmp"
	"os"
	"slices"
	"strconv"
	"time"

	"tetragon/internal/event"
	"tetragon/internal/event/decode"
)

// symbols are the functions of the kernel, read when the first stack comes.
type symbols struct {
	read time.Time
	all  []symbol
	text []byte // names, one after the other
}

type symbol struct {
	addr uint64
	name uint32 // where it begins in text; it ends where the next in order of the file begins
	size uint16
}

const (
	// maxSymbol is longer than functions are: what lies further behind a symbol belongs to none.
	maxSymbol = 1 << 20
	// symbolsAge is how soon symbols are read again because one was not found: modules come and go.
	symbolsAge = 10 * time.Second
)

// find returns the function that addr is in, and its place there. The name is empty if there is none.
func (s *symbols) find(proc string, addr uint64) (name string, offset uint64) {
	i := s.before(addr)
	if i < 0 {
		if time.Since(s.read) < symbolsAge {
			return "", 0
		}
		s.load(proc)
		if i = s.before(addr); i < 0 {
			return "", 0
		}
	}
	x := &s.all[i]
	return string(s.text[x.name : x.name+uint32(x.size)]), addr - x.addr
}

func (s *symbols) before(addr uint64) int {
	i, found := slices.BinarySearchFunc(s.all, addr, func(x symbol, a uint64) int { return cmp.Compare(x.addr, a) })
	if !found {
		i--
	}
	if i < 0 || addr-s.all[i].addr > maxSymbol {
		return -1
	}
	return i
}

// load reads kallsyms. Where the kernel hides addresses, nothing is found.
func (s *symbols) load(proc string) {
	s.read = time.Now()
	all, err := os.ReadFile(proc + "/kallsyms")
	if err != nil {
		return
	}
	s.all, s.text = s.all[:0], s.text[:0]
	for line := range bytes.Lines(all) {
		// "ffffffff81000000 T _text", then "\t[module]" for those of modules.
		if len(line) < 20 || line[16] != ' ' || bytes.IndexByte([]byte("tTwW"), line[17]) < 0 {
			continue
		}
		addr, err := strconv.ParseUint(string(line[:16]), 16, 64)
		name := line[19:]
		if i := bytes.IndexAny(name, "\t\n"); i >= 0 {
			name = name[:i]
		}
		if err != nil || addr == 0 || len(name) > 1<<15 {
			continue
		}
		s.all = append(s.all, symbol{addr, uint32(len(s.text)), uint16(len(name))})
		s.text = append(s.text, name...)
	}
	// Of several names for one address the first stays first.
	slices.SortStableFunc(s.all, func(a, b symbol) int { return cmp.Compare(a.addr, b.addr) })
	s.all = slices.CompactFunc(s.all, func(a, b symbol) bool { return a.addr == b.addr })
}

// kernelStack names the functions of a stack; addresses without a name are left out.
func (e *Enricher) kernelStack(v *decode.Value) []event.Frame {
	var out []event.Frame
	for i := range v.Words() {
		addr := v.Word(i)
		if addr == 0 {
			break
		}
		if name, offset := e.symbols.find(e.proc(), addr); name != "" {
			out = append(out, event.Frame{Address: addr, Offset: offset, Symbol: name})
		}
	}
	return out
}

// userStack finds the files that the addresses of a stack lie in. A process that has ended has none any more.
func (e *Enricher) userStack(v *decode.Value, pid uint32) []event.Frame {
	if v.Words() == 0 {
		return nil
	}
	if e.mapsOf != pid || e.maps == nil { // kept for the batch: a process that is watched hits its hook again
		text, _ := os.ReadFile(e.proc() + "/" + strconv.FormatUint(uint64(pid), 10) + "/maps")
		e.mapsOf, e.maps = pid, parseMaps(text)
	}
	var out []event.Frame
	for i := range v.Words() {
		addr := v.Word(i)
		if addr == 0 {
			break
		}
		f := event.Frame{Address: addr}
		at, found := slices.BinarySearchFunc(e.maps, addr, func(r region, a uint64) int { return cmp.Compare(r.start, a) })
		if !found {
			at--
		}
		if at >= 0 && addr < e.maps[at].end {
			f.Module, f.Offset = e.maps[at].file, addr-e.maps[at].start+e.maps[at].offset
		}
		out = append(out, f)
	}
	return out
}

// region is where a part of a file is mapped.
type region struct {
	start, end, offset uint64
	file               string
}

// parseMaps reads the text of a maps file, whose lines are in the order of addresses:
// "7f00a000-7f00b000 r-xp 00001000 fd:01 1234   /usr/lib/libc.so.6". What has no file is left out.
func parseMaps(text []byte) []region {
	out := []region{}
	for line := range bytes.Lines(text) {
		line = bytes.TrimRight(line, "\n")
		f := bytes.Fields(line)
		if len(f) < 6 {
			continue
		}
		lo, hi, ok := bytes.Cut(f[0], []byte("-"))
		start, err1 := strconv.ParseUint(string(lo), 16, 64)
		end, err2 := strconv.ParseUint(string(hi), 16, 64)
		offset, err3 := strconv.ParseUint(string(f[2]), 16, 64)
		if ok && err1 == nil && err2 == nil && err3 == nil {
			out = append(out, region{start, end, offset, string(line[bytes.Index(line, f[5]):])})
		}
	}
	return out
}

func (e *Enricher) proc() string {
	if e.opts.Proc == "" {
		return "/proc"
	}
	return e.opts.Proc
}
