// SPDX-License-Identifier: Apache-2.0

// Package elftest makes small programs for tests of hooks on user programs, where there need not be a compiler.
//
// The program calls greet(4711, "hello"), which returns 4712, passes the static probe scenario:passed, does this as often
// as it has arguments, its own name among them, and ends with the value of the probe's semaphore as its status.
//
// Not here: anything that reads such files (internal/elf).
//
// The bytes of a Program follow from its fields alone.
package elftest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// What the program passes.
const (
	Number   = 4711    // first argument of greet, an int; it returns one more
	Text     = "hello" // second one
	Provider = "scenario"
	Name     = "passed"
	// Args are those of the probe: -42, Text, 5, 77, 1002.
	Args = "-4@%edi 8@%rsi -4@$5 -4@8(%rsp) 4@(%r13,%r14,4)"
)

// Program says what is to be made. The zero value is a program with symbols, for x86-64.
type Program struct {
	Pad      int    // instructions that do nothing before the first function: another offset for all; at most 3,000
	Stripped bool   // no symbols
	Indirect bool   // greet chooses a function, as its symbol says
	NoProbe  bool   // no note of the probe
	Base     uint64 // how far the notes think that the file was moved since they were written
	Args     string // of the probe, as the note says; empty: Args
}

// Where things are.
const (
	headers  = 0x1000
	origin   = 0x401000
	dataAt   = 0x402000
	semAt    = dataAt
	textAt   = dataAt + 16
	tableAt  = dataAt + 32
	dataSize = 64
)

// Places are offsets in the file.
type Places struct{ Greet, Probe, Semaphore uint64 }

// Bytes makes the file.
func (p Program) Bytes() ([]byte, Places) {
	le := binary.LittleEndian
	text := bytes.Repeat([]byte{0x90}, p.Pad)
	greet := uint64(len(text))
	text = append(text, 0x55, 0x48, 0x89, 0xe5, 0x8d, 0x47, 0x01, 0x5d, 0xc3) // greet: return n + 1
	start := uint64(len(text))
	relative := func(code []byte, to uint64) { // an instruction with the distance to an address at its end
		text = append(text, code...)
		text = le.AppendUint32(text, uint32(to-(origin+uint64(len(text))+4)))
	}
	text = append(text, 0x4c, 0x8b, 0x24, 0x24) // r12 = argc
	loop := uint64(len(text))
	text = le.AppendUint32(append(text, 0xbf), Number)                        // edi = Number
	relative([]byte{0x48, 0x8d, 0x35}, textAt)                                // rsi = Text
	relative([]byte{0xe8}, origin+greet)                                      // greet(edi, rsi)
	text = append(text, 0x48, 0x83, 0xec, 0x10)                               // rsp -= 16
	text = append(text, 0xc7, 0x44, 0x24, 0x08, 77, 0, 0, 0)                  // 8(rsp) = 77
	relative([]byte{0x4c, 0x8d, 0x2d}, tableAt)                               // r13 = table
	text = append(text, 0x41, 0xbe, 2, 0, 0, 0, 0xbf, 0xd6, 0xff, 0xff, 0xff) // r14d = 2, edi = -42
	probe := uint64(len(text))
	text = append(text, 0x90, 0x48, 0x83, 0xc4, 0x10, 0x49, 0xff, 0xcc) // the probe; rsp += 16; r12--
	relative([]byte{0x0f, 0x85}, origin+loop)                           // again, if r12 is not 0
	relative([]byte{0x0f, 0xb7, 0x3d}, semAt)                           // edi = semaphore
	text = append(text, 0xb8, 231, 0, 0, 0, 0x0f, 0x05)                 // exit_group(edi)

	data := make([]byte, dataSize)
	copy(data[textAt-dataAt:], Text)
	for i, v := range []uint32{1000, 1001, 1002} {
		le.PutUint32(data[tableAt-dataAt+4*i:], v)
	}

	args := p.Args
	if args == "" {
		args = Args
	}
	const baseAt = dataAt + dataSize - 8
	var desc []byte
	for _, v := range []uint64{origin + probe + p.Base, baseAt + p.Base, semAt + p.Base} {
		desc = le.AppendUint64(desc, v)
	}
	desc = append(desc, Provider+"\x00"+Name+"\x00"+args+"\x00"...)
	f := &file{}
	f.section(".text", elf.SHT_PROGBITS, elf.SHF_ALLOC|elf.SHF_EXECINSTR, origin, headers, text)
	dataOff := (headers + uint64(len(text)) + 0xfff) &^ 0xfff
	f.section(".data", elf.SHT_PROGBITS, elf.SHF_ALLOC|elf.SHF_WRITE, dataAt+dataOff-0x2000, dataOff, data)
	f.section(".note.gnu.build-id", elf.SHT_NOTE, 0, 0, 0, note("GNU", 3, []byte{0xde, 0xad, 0xbe, 0xef}))
	if !p.NoProbe {
		f.section(".stapsdt.base", elf.SHT_PROGBITS, 0, baseAt, 0, []byte{0})
		f.section(".note.stapsdt", elf.SHT_NOTE, 0, 0, 0, note("stapsdt", 3, desc))
	}
	if !p.Stripped {
		kind := elf.STT_FUNC
		if p.Indirect {
			kind = elf.STT_GNU_IFUNC
		}
		f.symbol("greet", kind, origin+greet, 9)
		f.symbol("_start", elf.STT_FUNC, origin+start, uint64(len(text))-start)
	}
	return f.bytes(origin + start), Places{Greet: headers + greet, Probe: headers + probe, Semaphore: dataOff}
}

func note(name string, kind uint32, desc []byte) []byte {
	le := binary.LittleEndian
	pad := func(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }
	out := le.AppendUint32(nil, uint32(len(name)+1))
	out = le.AppendUint32(out, uint32(len(desc)))
	out = le.AppendUint32(out, kind)
	out = pad(append(out, name+"\x00"...))
	return pad(append(out, desc...))
}

// file is an ELF file under construction.
type file struct {
	sections []elf.Section64
	contents [][]byte
	names    []byte
	symbols  []byte
	strings  []byte
}

func (f *file) section(name string, t elf.SectionType, flags elf.SectionFlag, addr, off uint64, data []byte) *elf.Section64 {
	if f.names == nil {
		f.names, f.strings = []byte{0}, []byte{0}
		f.sections, f.contents = make([]elf.Section64, 1), make([][]byte, 1)
	}
	f.sections = append(f.sections, elf.Section64{
		Name: uint32(len(f.names)), Type: uint32(t), Flags: uint64(flags), Addr: addr, Off: off, Size: uint64(len(data)), Addralign: 4,
	})
	f.names = append(f.names, name+"\x00"...)
	f.contents = append(f.contents, data)
	return &f.sections[len(f.sections)-1]
}

func (f *file) symbol(name string, kind elf.SymType, addr, size uint64) {
	s := elf.Sym64{Name: uint32(len(f.strings)), Info: elf.ST_INFO(elf.STB_GLOBAL, kind), Shndx: 1, Value: addr, Size: size}
	f.strings = append(f.strings, name+"\x00"...)
	if f.symbols == nil {
		f.symbols = make([]byte, elf.Sym64Size)
	}
	f.symbols, _ = binary.Append(f.symbols, binary.LittleEndian, s)
}

func (f *file) bytes(entry uint64) []byte {
	if f.symbols != nil {
		s := f.section(".symtab", elf.SHT_SYMTAB, 0, 0, 0, f.symbols)
		s.Link, s.Entsize, s.Info = uint32(len(f.sections)), elf.Sym64Size, 1
		f.section(".strtab", elf.SHT_STRTAB, 0, 0, 0, f.strings)
	}
	f.section(".shstrtab", elf.SHT_STRTAB, 0, 0, 0, nil)
	last := len(f.sections) - 1
	f.contents[last], f.sections[last].Size = f.names, uint64(len(f.names))

	var out []byte
	put := func(off uint64, b []byte) {
		if need := int(off) + len(b); need > len(out) {
			out = append(out, make([]byte, need-len(out))...)
		}
		copy(out[off:], b)
	}
	for i := 1; i < len(f.sections); i++ {
		s := &f.sections[i]
		if s.Off == 0 {
			s.Off = uint64(len(out)+7) &^ 7
		}
		put(s.Off, f.contents[i])
	}
	var progs []elf.Prog64
	for i, flags := range map[int]elf.ProgFlag{1: elf.PF_R | elf.PF_X, 2: elf.PF_R | elf.PF_W} {
		s := &f.sections[i]
		progs = append(progs, elf.Prog64{
			Type: uint32(elf.PT_LOAD), Flags: uint32(flags), Off: s.Off, Vaddr: s.Addr, Paddr: s.Addr, Filesz: s.Size, Memsz: s.Size, Align: 0x1000,
		})
	}
	if progs[0].Vaddr > progs[1].Vaddr { // as the order of a map is none
		progs[0], progs[1] = progs[1], progs[0]
	}
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Entry: entry, Phoff: 64, Ehsize: 64, Phentsize: 56,
		Phnum: uint16(len(progs)), Shentsize: 64, Shnum: uint16(len(f.sections)), Shstrndx: uint16(last),
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	h.Shoff = uint64(len(out)+7) &^ 7
	rows, _ := binary.Append(nil, binary.LittleEndian, f.sections)
	put(h.Shoff, rows)
	head, _ := binary.Append(nil, binary.LittleEndian, h)
	head, _ = binary.Append(head, binary.LittleEndian, progs)
	put(0, head)
	return out
}
