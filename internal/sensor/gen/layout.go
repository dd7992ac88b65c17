// SPDX-License-Identifier: Apache-2.0

package gen

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"tetragon/internal/policy/plan"
)

// Layout is where things are in the library's maps, taken from the object's own type information.
type Layout struct {
	slots    variable // struct slot_state slots[]
	bodyNext variable // u16 body_next[2][sysBodies]
	slotSize uint32

	// offsets in struct hook_buf
	path, pathEnd, mode, values, slack, sets, which int32

	fields map[plan.Type][plan.FieldFileType + 1]field

	leader int16 // offset of group_leader in the kernel's struct task_struct; 0: not known
}

// ForKernel takes from the kernel's types what programs use directly. Without it they ask the library, which is slower.
func (l *Layout) ForKernel(types *btf.Spec) {
	var task *btf.Struct
	if types == nil || types.TypeByName("task_struct", &task) != nil {
		return
	}
	for _, m := range task.Members {
		if m.Name == "group_leader" && m.Offset.Bytes() < 1<<15 {
			l.leader = int16(m.Offset.Bytes())
		}
	}
}

// variable is a global variable of the library.
type variable struct {
	section string
	offset  uint32
}

// field is a part of a value's payload; Size 0: there is none.
type field struct{ off, size int16 }

// members says which member of a value's struct a field is.
var members = map[plan.Type]struct {
	of string
	by map[plan.Field]string
}{
	plan.TypeSock: {"val_sock", map[plan.Field]string{
		plan.FieldFamily: "family", plan.FieldSockType: "type", plan.FieldProtocol: "protocol", plan.FieldState: "state",
		plan.FieldSaddr: "saddr", plan.FieldDaddr: "daddr", plan.FieldSport: "sport", plan.FieldDport: "dport",
	}},
	plan.TypeSkb: {"val_skb", map[plan.Field]string{
		plan.FieldFamily: "family", plan.FieldProtocol: "protocol",
		plan.FieldSaddr: "saddr", plan.FieldDaddr: "daddr", plan.FieldSport: "sport", plan.FieldDport: "dport",
	}},
	plan.TypeSockaddr: {"val_sockaddr", map[plan.Field]string{
		plan.FieldFamily: "family", plan.FieldSaddr: "addr", plan.FieldSport: "port",
	}},
}

// ReadLayout finds everything in a library.
func ReadLayout(lib *ebpf.CollectionSpec) (*Layout, error) {
	l := &Layout{fields: make(map[plan.Type][plan.FieldFileType + 1]field)}
	for name, to := range map[string]*variable{"slots": &l.slots, "body_next": &l.bodyNext} {
		v, ok := lib.Variables[name]
		if !ok {
			return nil, fmt.Errorf("read the library: it has no variable %s", name)
		}
		*to = variable{v.SectionName, v.Offset}
	}
	var buf, slot, rec, file *btf.Struct
	for name, to := range map[string]**btf.Struct{"hook_buf": &buf, "slot_state": &slot, "rec_hook": &rec, "val_file": &file} {
		if err := lib.Types.TypeByName(name, to); err != nil {
			return nil, fmt.Errorf("read the library: struct %s: %w", name, err)
		}
	}
	l.slotSize = slot.Size
	var err error
	at := func(s *btf.Struct, name string) int32 {
		for _, m := range s.Members {
			if m.Name == name {
				return int32(m.Offset.Bytes())
			}
		}
		err = fmt.Errorf("read the library: struct %s has no member %s", s.Name, name)
		return 0
	}
	l.path, l.pathEnd = at(buf, "path"), at(buf, "after")
	l.mode = at(buf, "file") + at(file, "mode")
	l.values, l.slack, l.sets = at(buf, "v"), at(buf, "slack"), at(buf, "sets")
	l.which = at(buf, "r") + at(rec, "which")
	for t, m := range members {
		var s *btf.Struct
		if err := lib.Types.TypeByName(m.of, &s); err != nil {
			return nil, fmt.Errorf("read the library: struct %s: %w", m.of, err)
		}
		var fs [plan.FieldFileType + 1]field
		for f, name := range m.by {
			off := at(s, name)
			for _, x := range s.Members {
				if x.Name == name {
					size, serr := btf.Sizeof(x.Type)
					if serr != nil {
						return nil, fmt.Errorf("read the library: struct %s.%s: %w", m.of, name, serr)
					}
					fs[f] = field{int16(off), int16(size)}
				}
			}
		}
		l.fields[t] = fs
	}
	l.fields[plan.TypeSocket] = l.fields[plan.TypeSock]
	// The family of a unix socket's address is the word before its path.
	l.fields[plan.TypeSockaddrUn] = [plan.FieldFileType + 1]field{plan.FieldFamily: {0, 8}}
	return l, err
}
