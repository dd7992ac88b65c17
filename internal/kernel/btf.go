// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf/btf"

	"tetragon/internal/nearest"
)

// Param is a parameter of a function: its name and its type as C writes it.
type Param struct {
	Name string
	Type string // "struct file *", "int", "const char *"
	Bits int    // width of a number or a pointer; 0 for what does not fit a register
	Size int    // bytes, of what does not fit a register
	Int  bool   // a number, an enum or a bool
	// Signed says whether a number is.
	Signed bool
}

// Func is a function's prototype, from the kernel's types.
type Func struct {
	Name   string
	Module string // that has it; empty: the kernel itself
	Same   int    // how many more there are of that name: static functions of different files
	Params []Param
	Return Param // Type "void": nothing
}

// regSize is the size of a register.
const regSize = 8

// Slot is the register in which parameter i travels, counted from 0: a small struct before it takes two. It is false for
// what does not travel in a register. The whole function takes Slot(len(Params)) registers.
func (f *Func) Slot(i int) (slot int, ok bool) {
	for n := range f.Params[:min(i, len(f.Params))] {
		p := &f.Params[n]
		switch {
		case p.Bits > 0:
			slot++
		case p.Size <= 2*regSize:
			slot += 2
		}
	}
	return slot, i >= len(f.Params) || f.Params[i].Bits > 0
}

// String writes the prototype as C does.
func (f *Func) String() string {
	var ps []string
	for _, p := range f.Params {
		sep := " "
		if strings.HasSuffix(p.Type, "*") || p.Name == "" {
			sep = ""
		}
		ps = append(ps, p.Type+sep+p.Name)
	}
	sep := " "
	if strings.HasSuffix(f.Return.Type, "*") {
		sep = ""
	}
	return fmt.Sprintf("%s%s%s(%s)", f.Return.Type, sep, f.Name, strings.Join(ps, ", "))
}

// Func finds a function by name, in the kernel and in the modules that are loaded; nil if no types have it.
func (f *Facts) Func(name string) *Func {
	if fn := funcIn(f.Types, name); fn != nil {
		return fn
	}
	module := f.moduleOf(name)
	if module == "" || f.Cache == nil {
		return nil
	}
	types, err := f.Cache.Module(module)
	if err != nil {
		return nil
	}
	fn := funcIn(types, name)
	if fn != nil {
		fn.Module = module
	}
	return fn
}

func funcIn(spec *btf.Spec, name string) *Func {
	types, err := spec.AnyTypesByName(name)
	if err != nil {
		return nil
	}
	var out *Func
	for _, t := range types {
		fn, ok := t.(*btf.Func)
		if !ok {
			continue
		}
		proto, ok := fn.Type.(*btf.FuncProto)
		if !ok {
			continue
		}
		if out != nil {
			out.Same++
			continue
		}
		out = funcOf(name, proto, 0)
	}
	return out
}

func funcOf(name string, proto *btf.FuncProto, skip int) *Func {
	out := &Func{Name: name, Return: paramOf("", proto.Return)}
	for _, p := range proto.Params[min(skip, len(proto.Params)):] {
		out.Params = append(out.Params, paramOf(p.Name, p.Type))
	}
	return out
}

// RawTracepoint finds the prototype of a raw tracepoint; nil if there is none.
func (f *Facts) RawTracepoint(name string) *Func {
	var def *btf.Typedef
	if f.Types.TypeByName("btf_trace_"+name, &def) != nil {
		return nil
	}
	ptr, ok := def.Type.(*btf.Pointer)
	if !ok {
		return nil
	}
	proto, ok := ptr.Target.(*btf.FuncProto)
	if !ok {
		return nil
	}
	return funcOf(name, proto, 1) // the first is the tracepoint's private data
}

func paramOf(name string, t btf.Type) Param {
	p := Param{Name: name, Type: typeName(t)}
	switch u := btf.UnderlyingType(t).(type) {
	case *btf.Int:
		p.Int, p.Bits, p.Signed = true, int(u.Size)*8, u.Encoding == btf.Signed
	case *btf.Enum:
		p.Int, p.Bits, p.Signed = true, int(u.Size)*8, u.Signed
	case *btf.Pointer:
		p.Bits = 64
	case *btf.Struct, *btf.Union:
		if n, err := btf.Sizeof(u); err == nil && n <= 8 { // kuid_t and the like travel as numbers
			p.Int, p.Bits = true, n*8
		} else {
			p.Size = n
		}
	}
	return p
}

// typeName writes a type as C does.
func typeName(t btf.Type) string {
	switch t := t.(type) {
	case nil, *btf.Void:
		return "void"
	case *btf.Pointer:
		n := typeName(t.Target)
		if strings.HasSuffix(n, "*") {
			return n + "*"
		}
		return n + " *"
	case *btf.Const:
		return "const " + typeName(t.Type)
	case *btf.Volatile:
		return typeName(t.Type)
	case *btf.Restrict:
		return typeName(t.Type)
	case *btf.TypeTag:
		return typeName(t.Type)
	case *btf.Struct:
		return "struct " + t.Name
	case *btf.Union:
		return "union " + t.Name
	case *btf.Enum:
		return "enum " + t.Name
	case *btf.Fwd:
		return "struct " + t.Name
	case *btf.Typedef:
		return t.Name
	case *btf.Int:
		return t.Name
	case *btf.Array:
		return fmt.Sprintf("%s[%d]", typeName(t.Type), t.Nelems)
	case *btf.FuncProto:
		return "void"
	}
	return "?"
}

// Step is one step of the way from an object to a member of it: see plan.Step.
type Step struct {
	Off    int64
	Size   int // bytes to load; 0: the member is no number and no pointer, its address is meant
	Signed bool
	// Of a bit field: how many bits of what is loaded are meant, and above how many others they lie. 0: all.
	Bits, Shift int
}

// Member is where a path of members leads.
type Member struct {
	Steps []Step
	Type  string   // of the last member, as C writes it
	Name  string   // of the type alone, without pointers: "file", "int", "kernel_cap_t"
	First []string // of a struct, or of one that is pointed to: the names of the structs that it begins with: tcp_sock is a sock
	Bits  int      // of a number
	Int   bool
	// Signed says whether a number is.
	Signed bool
}

// maxSteps bounds a path of members, as the wire contract does.
const maxSteps = 10

// Follow finds the way from a pointer to a type of the kernel along a path like "f_path.dentry.d_name.name" or "a.b[3].c".
// "[2].a" takes the pointer for one to the first of several. root may be a pointer itself.
func (f *Facts) Follow(root, path string) (*Member, error) { return FollowIn(f.Types, root, path) }

// FollowModule is Follow for a type that a kernel module has, which must be loaded.
func (f *Facts) FollowModule(module, root, path string) (*Member, error) {
	if f.Cache == nil {
		return nil, fmt.Errorf("the types of module %s are not known: recorded facts have those of the kernel itself", module)
	}
	types, err := f.Cache.Module(module)
	if err != nil {
		return nil, fmt.Errorf("the types of module %s cannot be read, is it loaded? %w", module, err)
	}
	return FollowIn(types, root, path)
}

// Types are those of a file: of a user program, or of anything else.
type Types struct{ spec *btf.Spec }

// OpenTypes reads the types in a file, which is BTF or an ELF file that has some.
func OpenTypes(path string) (*Types, error) {
	spec, err := btf.LoadSpec(path)
	if err != nil {
		return nil, fmt.Errorf("read the types (BTF) of %s: %w", path, err)
	}
	return &Types{spec}, nil
}

// Follow is Facts.Follow in these types.
func (t *Types) Follow(root, path string) (*Member, error) { return FollowIn(t.spec, root, path) }

// FollowIn is Follow for types of any origin.
func FollowIn(types *btf.Spec, root, path string) (*Member, error) {
	t, err := rootType(types, root)
	if err != nil {
		return nil, err
	}
	m := &Member{}
	off := int64(0)
	load := func() { m.Steps = append(m.Steps, Step{Off: off, Size: 8}); off = 0 }
	at := root
	words, err := splitPath(path)
	if err != nil {
		return nil, err
	}
	if words[0].index >= 0 { // what the parameter points to is the first of several
		t = &btf.Array{Type: t}
	}
	var bits *btf.Member
	for _, w := range words {
		if len(m.Steps) >= maxSteps {
			return nil, fmt.Errorf("it has more than %d steps", maxSteps)
		}
		t = btf.UnderlyingType(t)
		if w.index >= 0 {
			switch u := t.(type) {
			case *btf.Array:
				if u.Nelems > 0 && w.index >= int(u.Nelems) {
					return nil, fmt.Errorf("%s has %d elements, [%d] is behind them", at, u.Nelems, w.index)
				}
				n, err := btf.Sizeof(u.Type)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", at, err)
				}
				off += int64(n * w.index)
				t = u.Type
			case *btf.Pointer:
				load()
				n, err := btf.Sizeof(u.Target)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", at, err)
				}
				off += int64(n * w.index)
				t = u.Target
			default:
				return nil, fmt.Errorf("%s is %s, which has no elements", at, typeName(t))
			}
			at += fmt.Sprintf("[%d]", w.index)
			continue
		}
		for {
			p, ok := t.(*btf.Pointer)
			if !ok {
				break
			}
			load()
			t = btf.UnderlyingType(p.Target)
		}
		x, ok := member(t, w.name)
		if !ok {
			return nil, noMember(t, w.name)
		}
		if bits = nil; x.BitfieldSize > 0 {
			bits = &x
		} else {
			off += int64(x.Offset.Bytes())
		}
		at = typeName(t) + "." + w.name
		t = x.Type
	}
	last := t
	if bits != nil {
		return m, m.bitField(bits, off)
	}
	t = btf.UnderlyingType(t)
	m.Type = typeName(last)
	m.Name = baseName(last)
	m.First = firstStructs(last)
	switch u := t.(type) {
	case *btf.Int:
		m.Int, m.Bits, m.Signed = true, int(u.Size)*8, u.Encoding == btf.Signed
		m.Steps = append(m.Steps, Step{Off: off, Size: int(u.Size), Signed: m.Signed})
	case *btf.Enum:
		m.Int, m.Bits, m.Signed = true, int(u.Size)*8, u.Signed
		m.Steps = append(m.Steps, Step{Off: off, Size: int(u.Size), Signed: u.Signed})
	case *btf.Pointer:
		m.Bits = 64
		m.Steps = append(m.Steps, Step{Off: off, Size: 8})
	case *btf.Struct, *btf.Union:
		if n, err := btf.Sizeof(u); err == nil && (n == 1 || n == 2 || n == 4 || n == 8) && wraps(u) {
			m.Int, m.Bits = true, n*8
			m.Steps = append(m.Steps, Step{Off: off, Size: n})
			break
		}
		m.Steps = append(m.Steps, Step{Off: off})
	default:
		m.Steps = append(m.Steps, Step{Off: off})
	}
	return m, nil
}

// bitField ends a way in some bits of a number: it loads as many bytes as hold them. off is where the struct is.
func (m *Member) bitField(x *btf.Member, off int64) error {
	first, n := int64(x.Offset), int64(x.BitfieldSize)
	for size := int64(1); size <= 8; size *= 2 {
		if begin := first / 8 / size * size; first+n <= (begin+size)*8 {
			m.Int, m.Bits = true, int(n)
			m.Type, m.Name = fmt.Sprintf("%s:%d", typeName(x.Type), n), baseName(x.Type)
			switch u := btf.UnderlyingType(x.Type).(type) {
			case *btf.Int:
				m.Signed = u.Encoding == btf.Signed
			case *btf.Enum:
				m.Signed = u.Signed
			}
			m.Steps = append(m.Steps, Step{Off: off + begin, Size: int(size), Signed: m.Signed, Bits: int(n), Shift: int(first - begin*8)})
			return nil
		}
	}
	return fmt.Errorf("%s has its %d bits in more than one word", x.Name, n)
}

// firstStructs names the structs that one begins with, or one that is pointed to.
func firstStructs(t btf.Type) []string {
	t = btf.UnderlyingType(t)
	if p, ok := t.(*btf.Pointer); ok {
		t = btf.UnderlyingType(p.Target)
	}
	var out []string
	for {
		s, ok := t.(*btf.Struct)
		if !ok || len(s.Members) == 0 {
			return out
		}
		if t, ok = btf.UnderlyingType(s.Members[0].Type).(*btf.Struct); !ok {
			return out
		}
		out = append(out, t.TypeName())
	}
}

// wraps says whether a struct is a number in a coat, as kuid_t and kernel_cap_t are.
func wraps(t btf.Type) bool {
	s, ok := t.(*btf.Struct)
	if !ok || len(s.Members) != 1 {
		return false
	}
	switch u := btf.UnderlyingType(s.Members[0].Type).(type) {
	case *btf.Int:
		return true
	case *btf.Array:
		_, ok := btf.UnderlyingType(u.Type).(*btf.Int)
		return ok
	}
	return false
}

// rootType finds a struct or a union by name. Each "*" behind the name makes it a pointer.
func rootType(spec *btf.Spec, root string) (btf.Type, error) {
	name := strings.TrimSpace(strings.TrimRight(root, "* "))
	pointers := strings.Count(root[len(name):], "*")
	types, err := spec.AnyTypesByName(strings.TrimPrefix(strings.TrimPrefix(name, "struct "), "union "))
	if err != nil {
		return nil, fmt.Errorf("the kernel has no type %s", name)
	}
	for _, t := range types {
		switch btf.UnderlyingType(t).(type) {
		case *btf.Struct, *btf.Union:
		default:
			if pointers == 0 {
				continue
			}
		}
		for range pointers {
			t = &btf.Pointer{Target: t}
		}
		return t, nil
	}
	return nil, fmt.Errorf("%s is no struct and no union of the kernel", root)
}

type pathWord struct {
	name  string
	index int // -1: a name
}

func splitPath(path string) ([]pathWord, error) {
	var out []pathWord
	rest := path
	for rest != "" {
		switch {
		case rest[0] == '[':
			end := strings.IndexByte(rest, ']')
			if end < 0 {
				return nil, fmt.Errorf("a bracket is not closed")
			}
			n, err := strconv.Atoi(rest[1:end])
			if err != nil || n < 0 {
				return nil, fmt.Errorf("[%s] is no index", rest[1:end])
			}
			out = append(out, pathWord{index: n})
			rest = rest[end+1:]
			if rest != "" && rest[0] != '.' && rest[0] != '[' {
				return nil, fmt.Errorf("after ] comes a dot or a bracket")
			}
			rest = strings.TrimPrefix(rest, ".")
		default:
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			if end == 0 {
				return nil, fmt.Errorf("a member has no name")
			}
			out = append(out, pathWord{name: rest[:end], index: -1})
			rest = rest[end:]
			if strings.HasPrefix(rest, ".") {
				if rest = rest[1:]; rest == "" {
					return nil, fmt.Errorf("a member has no name")
				}
				if rest[0] == '[' {
					return nil, fmt.Errorf("a bracket follows its array without a dot")
				}
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("it is empty")
	}
	return out, nil
}

func membersOf(t btf.Type) []btf.Member {
	switch u := t.(type) {
	case *btf.Struct:
		return u.Members
	case *btf.Union:
		return u.Members
	}
	return nil
}

// member finds a member, also in structs and unions without a name.
func member(t btf.Type, name string) (btf.Member, bool) {
	for _, m := range membersOf(t) {
		if m.Name == name {
			return m, true
		}
		if m.Name == "" {
			if x, ok := member(btf.UnderlyingType(m.Type), name); ok {
				x.Offset += m.Offset
				return x, true
			}
		}
	}
	return btf.Member{}, false
}

// maxNames is how many members an error lists.
const maxNames = 12

// noMember says what there is instead of a member: of many, those whose names are most like it.
func noMember(t btf.Type, name string) error {
	names := memberNames(t)
	switch {
	case len(names) == 0:
		return fmt.Errorf("%s has no member %s: it has none", typeName(t), name)
	case len(names) <= maxNames:
		return fmt.Errorf("%s has no member %s; it has %s", typeName(t), name, strings.Join(names, ", "))
	}
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(nearest.Distance(a, name), nearest.Distance(b, name)) })
	return fmt.Errorf("%s has no member %s; of its %d the nearest are %s", typeName(t), name, len(names), strings.Join(names[:maxNames/2], ", "))
}

// memberNames lists all members, also those in structs and unions without a name.
func memberNames(t btf.Type) []string {
	var out []string
	for _, m := range membersOf(t) {
		if m.Name == "" {
			out = append(out, memberNames(btf.UnderlyingType(m.Type))...)
		} else {
			out = append(out, m.Name)
		}
	}
	return out
}

// baseName is the name of a type without its qualifiers and its pointer.
func baseName(t btf.Type) string {
	for {
		switch u := t.(type) {
		case *btf.Const:
			t = u.Type
		case *btf.Volatile:
			t = u.Type
		case *btf.Pointer:
			t = u.Target
		case *btf.TypeTag:
			t = u.Type
		default:
			return t.TypeName()
		}
	}
}
