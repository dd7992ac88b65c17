// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"bufio"
	"bytes"
	"cmp"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"tetragon/internal/event"
	"tetragon/internal/event/decode"
)

// symbols are the functions of the kernel. They are some megabytes, so they are read when a stack comes, and forgotten
// when none has come for a while.
type symbols struct {
	read, asked time.Time
	all         []symbol
	text        []byte           // names, one after the other
	found       map[uint64]place // that were asked for
}

type symbol struct {
	addr uint64
	name uint32 // where it begins in text
	size uint16 // of the name
}

// place is a place in a function.
type place struct {
	name   string // empty: in none
	offset uint64
}

const (
	// maxSymbol is longer than functions are: what lies further behind a symbol belongs to none.
	maxSymbol = 64 << 10
	// symbolsAge is how soon symbols are read again because one was not found: modules and BPF programs come and go.
	symbolsAge = 10 * time.Second
	// symbolsIdle is how long they are kept without being asked for.
	symbolsIdle = 30 * time.Second
	// maxPlaces bounds what is remembered of places: a hook is reached in few ways.
	maxPlaces = 4096
)

// age forgets symbols that nobody asks for.
func (s *symbols) age() {
	if s.all != nil && time.Since(s.asked) > symbolsIdle {
		*s = symbols{}
	}
}

// find returns the function that addr is in, and its place there.
func (s *symbols) find(proc string, addr uint64) place {
	if p, ok := s.found[addr]; ok {
		return p
	}
	i := s.before(addr)
	if i < 0 && time.Since(s.read) >= symbolsAge {
		s.load(proc)
		i = s.before(addr)
	}
	if i < 0 {
		return place{}
	}
	x := &s.all[i]
	p := place{string(s.text[x.name : x.name+uint32(x.size)]), addr - x.addr}
	if s.found == nil || len(s.found) >= maxPlaces {
		s.found = make(map[uint64]place)
	}
	s.found[addr] = p
	return p
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
	*s = symbols{read: time.Now(), asked: s.asked, all: s.all[:0], text: s.text[:0]}
	f, err := os.Open(proc + "/kallsyms")
	if err != nil {
		return
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// "ffffffff81000000 T _text", then "\t[module]" for those of modules.
		line := lines.Bytes()
		if len(line) < 20 || line[16] != ' ' || strings.IndexByte("tTwW", line[17]) < 0 {
			continue
		}
		addr, err := strconv.ParseUint(string(line[:16]), 16, 64)
		name, _, _ := bytes.Cut(line[19:], []byte("\t"))
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

// ours are the beginnings of the names of functions that stand between a hook and the program that runs there.
var ours = []string{"bpf_prog_", "bpf_trampoline_", "bpf_trace_run", "__bpf_trace_", "__traceiter_", "__bpf_prog_", "trace_call_bpf",
	"kprobe_multi_link_", "fprobe_", "kprobe_perf_func", "perf_trace_run_bpf", "ftrace_trampoline"}

// kernelStack names the functions of a stack; addresses without a name are left out, and what runs the hook itself.
func (e *Enricher) kernelStack(v *decode.Value) []event.Frame {
	e.symbols.asked = time.Now()
	var out []event.Frame
	for i := range v.Words() {
		addr := v.Word(i)
		if addr == 0 {
			break
		}
		p := e.symbols.find(e.proc(), addr)
		if p.name == "" || len(out) == 0 && slices.ContainsFunc(ours, func(begin string) bool { return strings.HasPrefix(p.name, begin) }) {
			continue
		}
		out = append(out, event.Frame{Address: addr, Offset: p.offset, Symbol: p.name})
	}
	return out
}

// userStack finds the files and functions that the addresses of a stack lie in. A process that has ended has none any more.
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
			r := &e.maps[at]
			f.Module, f.Offset = r.file, addr-r.start+r.offset
			if m := e.modules.of(e.proc(), pid, r); m != nil {
				look := f.Offset
				if len(out) > 0 && look > 0 { // a return address may lie behind the function that called
					look--
				}
				p := m.find(look)
				f.Symbol, f.SymbolOffset, f.BuildID = p.name, p.offset, m.buildID
				if p.name != "" {
					f.SymbolOffset += f.Offset - look
				}
			}
		}
		out = append(out, f)
	}
	return out
}

// region is where a part of a file is mapped.
type region struct {
	start, end, offset uint64
	device             string // and the number of the file on it
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
			out = append(out, region{start, end, offset, string(f[3]) + " " + string(f[4]), string(line[bytes.Index(line, f[5]):])})
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
