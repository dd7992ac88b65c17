// SPDX-License-Identifier: Apache-2.0

package elf

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Probe is one place of a static probe (USDT): a program may have several with one name.
type Probe struct {
	Provider, Name string
	Offset         uint64 // in the file
	Semaphore      uint64 // offset in the file of the counter that the program looks at; 0: it has none
	Args           string // where the arguments are, as the compiler wrote it
}

// Probes lists the static probes of the file, in the order of its notes. Notes that do not add up are left out.
func (f *File) Probes() []Probe {
	s := f.f.Section(".note.stapsdt")
	if s == nil {
		return nil
	}
	// The base tells how far the file was moved after the notes were written, by prelink.
	var base uint64
	if b := f.f.Section(".stapsdt.base"); b != nil {
		base = b.Addr
	}
	var out []Probe
	f.notes(s, func(name string, kind uint32, desc []byte) {
		if name != "stapsdt" || kind != 3 || len(desc) < 3*8 {
			return
		}
		o := f.f.ByteOrder
		pc, was, sem := o.Uint64(desc), o.Uint64(desc[8:]), o.Uint64(desc[16:])
		if base != 0 && was != 0 {
			pc += base - was
			if sem != 0 {
				sem += base - was
			}
		}
		words := bytes.SplitN(desc[24:], []byte{0}, 4)
		if len(words) < 3 {
			return
		}
		p := Probe{Provider: string(words[0]), Name: string(words[1]), Args: string(words[2])}
		var err error
		if p.Offset, err = f.Offset(pc); err != nil {
			return
		}
		if sem != 0 {
			ok := false
			if p.Semaphore, ok = f.dataOffset(sem); !ok {
				return
			}
		}
		out = append(out, p)
	})
	return out
}

// FindProbes lists the places of one probe.
func (f *File) FindProbes(provider, name string) ([]Probe, error) {
	all := f.Probes()
	out := slices.DeleteFunc(slices.Clone(all), func(p Probe) bool { return p.Provider != provider || p.Name != name })
	if len(out) > 0 {
		return out, nil
	}
	var has, others []string
	for _, p := range all {
		full := p.Provider + ":" + p.Name
		if p.Provider == provider && !slices.Contains(has, p.Name) {
			has = append(has, p.Name)
		}
		if !slices.Contains(others, full) {
			others = append(others, full)
		}
	}
	list := func(s []string) string {
		if len(s) > 8 {
			return strings.Join(s[:8], ", ") + fmt.Sprintf(" and %d more", len(s)-8)
		}
		return strings.Join(s, ", ")
	}
	switch {
	case len(all) == 0:
		return nil, fmt.Errorf("there is no static probe %s:%s: the file has none at all (no section .note.stapsdt)", provider, name)
	case len(has) > 0:
		return nil, fmt.Errorf("there is no static probe %s:%s; %s has %s", provider, name, provider, list(has))
	}
	return nil, fmt.Errorf("there is no static probe %s:%s; the file has %s", provider, name, list(others))
}

// Arg is where an argument of a static probe is.
type Arg struct {
	Size   uint8 // bytes: 1, 2, 4 or 8
	Signed bool
	Float  bool
	Bad    string // why it cannot be read; the rest is not set then

	Const int64  // if Base is empty: the argument itself
	Base  string // register, without a percent sign
	Mem   bool   // the argument is in memory, at Base + Index * Scale + Disp
	Disp  int64
	Index string // register; empty: none
	Scale uint8  // 1, 2, 4 or 8
}

// maxArgs is how many arguments the macros that make probes know; what is behind is left out.
const maxArgs = 12

// ParseArgs reads how the compiler of a machine wrote down where a probe's arguments are: "-4@%edi 8@-16(%rbp)" or
// "-4@w0 8@[sp, 16]".
func ParseArgs(machine, text string) []Arg {
	var out []Arg
	for _, w := range splitArgs(text) {
		a, err := parseArg(machine, w)
		if err != nil {
			a = Arg{Bad: fmt.Sprintf("%q: %v", w, err)}
		}
		if len(out) < maxArgs {
			out = append(out, a)
		}
	}
	return out
}

// splitArgs splits at spaces outside of brackets.
func splitArgs(text string) []string {
	var out []string
	deep, from := 0, 0
	for i := 0; i <= len(text); i++ {
		switch {
		case i == len(text) || text[i] == ' ' && deep <= 0:
			if i > from {
				out = append(out, text[from:i])
			}
			from = i + 1
		case text[i] == '[' || text[i] == '(':
			deep++
		case text[i] == ']' || text[i] == ')':
			deep--
		}
	}
	return out
}

func parseArg(machine, w string) (Arg, error) {
	a := Arg{Size: 8, Signed: true}
	if size, rest, ok := strings.Cut(w, "@"); ok {
		w = rest
		size, a.Float = strings.CutSuffix(size, "f")
		n, err := strconv.ParseInt(size, 10, 8)
		if err != nil {
			return a, fmt.Errorf("%q is no size", size)
		}
		a.Signed = n < 0
		if n < 0 {
			n = -n
		}
		if n != 1 && n != 2 && n != 4 && n != 8 {
			return a, fmt.Errorf("a size of %d bytes is not possible", n)
		}
		a.Size = uint8(n)
	}
	if machine == "arm64" {
		return a, a.parseARM(w)
	}
	return a, a.parseX86(w)
}

// parseX86 reads an operand as the GNU assembler writes it: $5, %rdi, -4(%rbp), 8(%rax,%rbx,4).
func (a *Arg) parseX86(w string) error {
	if n, ok := strings.CutPrefix(w, "$"); ok {
		var err error
		a.Const, err = number(n)
		return err
	}
	if r, ok := strings.CutPrefix(w, "%"); ok {
		a.Base = r
		return register(r)
	}
	disp, inner, ok := strings.Cut(w, "(")
	if !ok || !strings.HasSuffix(inner, ")") {
		return errors.New("it is neither a number, nor a register, nor memory at a register")
	}
	a.Mem, a.Scale = true, 1
	if disp != "" {
		var err error
		if a.Disp, err = number(disp); err != nil {
			return fmt.Errorf("it is at a symbol (%s)", disp)
		}
	}
	parts := strings.Split(strings.TrimSuffix(inner, ")"), ",")
	if len(parts) > 3 {
		return fmt.Errorf("it has %d registers", len(parts))
	}
	for i, p := range parts {
		p = strings.TrimSpace(p)
		if i == 2 {
			n, err := strconv.ParseUint(p, 10, 8)
			if err != nil || n != 1 && n != 2 && n != 4 && n != 8 {
				return fmt.Errorf("%q is no scale", p)
			}
			a.Scale = uint8(n)
			continue
		}
		r, ok := strings.CutPrefix(p, "%")
		switch {
		case !ok:
			return fmt.Errorf("%q is no register", p)
		case r == "rip":
			return errors.New("it is at a place that moves with the program (%rip)")
		}
		if err := register(r); err != nil {
			return err
		}
		if i == 0 {
			a.Base = r
		} else {
			a.Index = r
		}
	}
	return nil
}

// parseARM reads an operand: 5, x0, [sp], [x19, 16], [x0, x1, lsl 3].
func (a *Arg) parseARM(w string) error {
	inner, ok := strings.CutPrefix(w, "[")
	if !ok {
		if n, err := number(strings.TrimPrefix(w, "#")); err == nil {
			a.Const = n
			return nil
		}
		a.Base = w
		return register(w)
	}
	if inner, ok = strings.CutSuffix(inner, "]"); !ok {
		return errors.New("its bracket is not closed")
	}
	parts := strings.Split(inner, ",")
	a.Mem, a.Scale, a.Base = true, 1, strings.TrimSpace(parts[0])
	if err := register(a.Base); err != nil {
		return err
	}
	switch {
	case len(parts) == 1:
		return nil
	case len(parts) > 3:
		return fmt.Errorf("it has %d parts", len(parts))
	}
	second := strings.TrimPrefix(strings.TrimSpace(parts[1]), "#")
	if n, err := number(second); err == nil && len(parts) == 2 {
		a.Disp = n
		return nil
	}
	a.Index = second
	if err := register(second); err != nil {
		return err
	}
	if len(parts) == 3 {
		n, ok := strings.CutPrefix(strings.TrimSpace(parts[2]), "lsl ")
		shift, err := strconv.ParseUint(strings.TrimPrefix(n, "#"), 10, 8)
		if !ok || err != nil || shift > 3 {
			return fmt.Errorf("%q is no shift", strings.TrimSpace(parts[2]))
		}
		a.Scale = 1 << shift
	}
	return nil
}

// number reads what assemblers write: decimal, hexadecimal, with a sign.
func number(s string) (int64, error) {
	if n, err := strconv.ParseInt(s, 0, 64); err == nil {
		return n, nil
	}
	n, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no number", s)
	}
	return int64(n), nil
}

// register says whether a word can be the name of one; whether the machine has it is for others to know.
func register(s string) error {
	for i, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9' || i == 0) {
			return fmt.Errorf("%q is no register", s)
		}
	}
	if s == "" {
		return errors.New("a register has no name")
	}
	return nil
}
