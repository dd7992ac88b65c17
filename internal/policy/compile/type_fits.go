// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"slices"
	"strings"

	"tetragon/internal/kernel"
	"tetragon/internal/policy"
	"tetragon/internal/policy/plan"
)

// What a policy calls a member or a field must be what it is. Of parameters the kernel's types may say less than the author
// knows (checkParam warns); of members and fields they say all, and a type that is none of theirs reads something else: a
// selector never holds, or kernel memory is shown as something that it is not.

// octets are the numbers that strings are made of.
var octets = []string{"char", "unsigned char", "signed char", "u8", "__u8", "s8", "__s8", "uint8_t", "int8_t"}

// memberFits says whether what a way of members leads to can be read as this type.
func (r *typeRow) memberFits(m *kernel.Member) bool {
	pointers := strings.Count(m.Type, "*")
	if pointers > 0 && m.Name == "" || m.Name == "void" { // a void pointer may be anything
		return pointers == 1 || r.typ == plan.TypeInt && !r.load
	}
	switch r.typ {
	case plan.TypeInt:
		if r.load {
			return m.Name == "kernel_cap_t" || m.Int && m.Bits == 64
		}
		return m.Int || pointers > 0 && r.bits == 64 // the address
	case plan.TypeFd:
		return m.Int
	case plan.TypeString:
		return !m.Int && pointers <= 1 && slices.Contains(octets, elementOf(m))
	case plan.TypeBytes:
		return !m.Int
	case plan.TypeDataLoc, plan.TypeWords:
		return false
	case plan.TypeSockaddr, plan.TypeSockaddrUn:
		return pointers <= 1 && strings.Contains(m.Name, "sockaddr")
	}
	if pointers > 1 {
		return false
	}
	names := append([]string{m.Name}, m.First...)
	return slices.ContainsFunc(r.c, func(c string) bool { return slices.Contains(names, structName(c)) })
}

// elementOf is the name of what an array has, or what a pointer leads to.
func elementOf(m *kernel.Member) string {
	if i := strings.IndexByte(m.Type, '['); i >= 0 {
		return strings.TrimSpace(strings.ReplaceAll(m.Type[:i], "const ", ""))
	}
	return m.Name
}

// structName is "file" of "struct file *".
func structName(c string) string {
	c = strings.TrimSuffix(c, " *")
	return strings.TrimPrefix(strings.TrimPrefix(c, "struct "), "union ")
}

// memberType is the type by which a member can be read; empty: none follows from what it is.
func memberType(m *kernel.Member) string {
	if m.Int && (m.Signed || objects[m.Name] == "") {
		return numberType(wholeBits(m.Bits), m.Signed)
	}
	if name := objects[m.Name]; name != "" && rowOf(name).memberFits(m) {
		return name
	}
	if rowOf("string").memberFits(m) {
		return "string"
	}
	if strings.Contains(m.Type, "*") {
		return "uint64"
	}
	return ""
}

// checkMember refuses a type that a member has not.
func (c *compiler) checkMember(a *policy.Arg, row *typeRow, m *kernel.Member) bool {
	if row.memberFits(m) {
		return true
	}
	d := c.d.Error(a.Type.Place, "arg-type", "%s is %s, not %q", a.Resolve.Value, m.Type, row.name)
	switch name := memberType(m); {
	case name == "uint64" && !m.Int:
		d.WithHint("type: uint64 shows the address; or go on: resolve: %s.MEMBER", a.Resolve.Value)
	case name != "":
		d.WithHint("type: %s", name)
	default:
		d.WithHint("go on to a member of it: resolve: %s.MEMBER", a.Resolve.Value)
	}
	return false
}

// fieldFits says whether a field of a tracepoint's record can be read as this type.
func (r *typeRow) fieldFits(f *kernel.Field) bool {
	address := !f.DataLoc && f.Elems == 0 && f.Size == 8 &&
		(strings.Contains(f.Type, "*") || strings.Contains(f.Type, "long") || strings.Contains(f.Type, "64"))
	switch r.typ {
	case plan.TypeInt:
		if r.load {
			return address
		}
		return !f.DataLoc // of an array the first element
	case plan.TypeFd:
		return !f.DataLoc && f.Elems == 0 && !strings.Contains(f.Type, "*")
	case plan.TypeString:
		return f.DataLoc || address || f.Elems > 0 && f.Size == f.Elems
	case plan.TypeBytes:
		return address || f.Elems > 0
	case plan.TypeDataLoc:
		return f.DataLoc
	case plan.TypeWords:
		return f.Elems > 0
	}
	return address
}

// checkField refuses a type that a field has not.
func (c *compiler) checkField(a *policy.Arg, row *typeRow, f *kernel.Field) bool {
	if row.fieldFits(f) {
		return true
	}
	d := c.d.Error(a.Type.Place, "arg-type", "field %s is %s, not %q", f.Name, f.Type, row.name)
	if name, hint := autoField(f); hint == "" {
		d.WithHint("type: %s, or leave it out", name)
	} else {
		d.WithHint("%s", hint)
	}
	return false
}
