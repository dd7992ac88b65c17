// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"tetragon/api/v1/tetragon"
)

// ParseFieldFilters reads field filters as they stand in the configuration: JSON objects one after the other. Paths may
// be written with the names of the .proto files or with those of JSON.
func ParseFieldFilters(text string) ([]*tetragon.FieldFilter, error) {
	var list []*tetragon.FieldFilter
	err := parseObjects(text, func(object []byte) error {
		// protojson refuses underscores in a mask, and reads capitals as underscores; so it does not get to see it.
		var parts map[string]json.RawMessage
		if err := json.Unmarshal(object, &parts); err != nil {
			return err
		}
		m := new(tetragon.FieldFilter)
		if mask, ok := parts["fields"]; ok {
			delete(parts, "fields")
			var paths string
			if err := json.Unmarshal(mask, &paths); err != nil {
				return errors.New(`fields: not a string of paths with commas between them, such as "process.binary,parent.binary"`)
			}
			m.Fields = &fieldmaskpb.FieldMask{}
			for _, p := range strings.Split(paths, ",") {
				if p = strings.TrimSpace(p); p != "" {
					m.Fields.Paths = append(m.Fields.Paths, p)
				}
			}
		}
		rest, err := json.Marshal(parts)
		if err != nil {
			return err
		}
		mask := m.Fields
		if err := unmarshal(rest, m); err != nil {
			return err
		}
		m.Fields = mask
		list = append(list, m)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Fields leaves fields out of encoded events. It does not change; safe for concurrent use.
type Fields struct {
	event    *node // of GetEventsResponse
	warnings []string
}

// node says which fields of a message stay. A nil node is a field that goes, the node whole one that stays as it is.
type node struct {
	rest   bool // what is not listed stays
	number map[protoreflect.FieldNumber]*node
	name   map[string]*node // the same
}

func newNode(rest bool) *node {
	return &node{rest: rest, number: map[protoreflect.FieldNumber]*node{}, name: map[string]*node{}}
}

func (n *node) set(d protoreflect.FieldDescriptor, to *node) {
	n.number[d.Number()], n.name[string(d.Name())] = to, to
}

// isWhole says whether nothing is left out. true for the nodes that end paths.
func (n *node) isWhole() bool { return n != nil && n.rest && len(n.number) == 0 }

func whole() *node { return newNode(true) }

// NewFields compiles field filters, which are applied one after the other. nil if there are none. The events of the
// account of losses are left whole, unless a filter names their type.
func NewFields(list []*tetragon.FieldFilter) (*Fields, error) {
	if len(list) == 0 {
		return nil, nil
	}
	f := &Fields{event: newNode(true)}
	included := map[tetragon.EventType]int{} // number of the filter that decided last what is kept
	types := eventFields()
	for i, m := range list {
		if err := f.add(i+1, m, types, included); err != nil {
			return nil, fmt.Errorf("field filter %d: %w", i+1, err)
		}
	}
	return f, nil
}

// Warnings are what does not do what one may think, a sentence each.
func (f *Fields) Warnings() []string {
	if f == nil {
		return nil
	}
	return f.warnings
}

func (f *Fields) warn(format string, args ...any) {
	f.warnings = append(f.warnings, fmt.Sprintf(format, args...))
}

func (f *Fields) add(nth int, m *tetragon.FieldFilter, types protoreflect.FieldDescriptors, included map[tetragon.EventType]int) error {
	exclude := m.GetAction() == tetragon.FieldFilterAction_EXCLUDE
	if !exclude && m.GetAction() != tetragon.FieldFilterAction_INCLUDE {
		return fmt.Errorf("action: unknown action %d; it is INCLUDE or EXCLUDE", m.GetAction())
	}
	for _, t := range m.GetEventSet() {
		if _, known := tetragon.EventType_name[int32(t)]; !known {
			return fmt.Errorf("event_set: unknown event type %d", t)
		}
	}
	paths := m.GetFields().GetPaths()
	if slices.Contains(paths, "") {
		return errors.New("fields: a path is empty")
	}
	if len(paths) == 0 {
		f.warn("field filter %d names no fields, so it changes nothing", nth)
		return nil
	}
	found := map[string]bool{}
	clash := 0
	for i := range types.Len() {
		d := types.Get(i)
		t := tetragon.EventType(d.Number())
		if !covers(m, t) {
			continue
		}
		tree := newNode(exclude)
		for _, p := range paths {
			if tree.add(d.Message(), strings.Split(p, "."), !exclude) {
				found[p] = true
			}
		}
		before, ok := f.event.number[d.Number()]
		if !ok {
			before = whole()
		}
		f.event.set(d, intersect(before, tree))
		if !exclude {
			if included[t] > 0 {
				clash = included[t]
			}
			included[t] = nth
		}
	}
	if clash > 0 {
		f.warn("field filters %d and %d both INCLUDE fields of the same events, of which only those stay that both name; "+
			"name all fields in one filter to get the fields of either", clash, nth)
	}
	for _, p := range paths {
		if !found[p] {
			f.warn("field filter %d: %q is a field of none of the events that it covers; paths begin below the event, as in "+
				"process.binary", nth, p)
		}
	}
	return nil
}

// covers says whether the filter speaks of events of a type.
func covers(m *tetragon.FieldFilter, t tetragon.EventType) bool {
	set := m.GetEventSet()
	if len(set) == 0 {
		return t != tetragon.EventType_RATE_LIMIT_INFO
	}
	if m.GetInvertEventSet().GetValue() {
		return !slices.Contains(set, t) && t != tetragon.EventType_RATE_LIMIT_INFO
	}
	return slices.Contains(set, t)
}

// add lets a path stay, or go. false if there is no such field.
func (n *node) add(d protoreflect.MessageDescriptor, path []string, stays bool) (found bool) {
	fd := d.Fields().ByName(protoreflect.Name(path[0]))
	if fd == nil {
		fd = d.Fields().ByJSONName(path[0])
	}
	if fd == nil {
		return false
	}
	child, listed := n.number[fd.Number()]
	if len(path) == 1 {
		if stays {
			child = whole()
		} else {
			child = nil
		}
		n.set(fd, child)
		return true
	}
	if fd.IsMap() || fd.Message() == nil || fd.Message().ParentFile().Package() == "google.protobuf" {
		return false // written as one value: nothing in it can be named
	}
	switch {
	case !listed:
		child = newNode(!stays)
	case child == nil, child.isWhole() && stays:
		return fd.Message().Fields().ByName(protoreflect.Name(path[1])) != nil // the whole of it was named already
	}
	found = child.add(fd.Message(), path[1:], stays)
	if stays || found {
		n.set(fd, child)
	}
	return found
}

// intersect returns what stays under both.
func intersect(a, b *node) *node {
	switch {
	case a == nil || b == nil:
		return nil
	case a.isWhole():
		return b
	case b.isWhole():
		return a
	}
	n := newNode(a.rest && b.rest)
	for num := range a.number {
		n.number[num] = intersect(a.number[num], b.child(num))
	}
	for num := range b.number {
		if _, done := n.number[num]; !done {
			n.number[num] = intersect(a.child(num), b.number[num])
		}
	}
	for name := range a.name {
		n.name[name] = nil
	}
	for name := range b.name {
		n.name[name] = nil
	}
	for name := range n.name {
		n.name[name] = intersect(a.named(name), b.named(name))
	}
	return n
}

// child returns what becomes of a field.
func (n *node) child(num protoreflect.FieldNumber) *node {
	if c, ok := n.number[num]; ok {
		return c
	}
	if n.rest {
		return whole()
	}
	return nil
}

// named is child by name.
func (n *node) named(name string) *node {
	if c, ok := n.name[name]; ok {
		return c
	}
	if n.rest {
		return whole()
	}
	return nil
}

// AppendWire adds an event in wire format to b without what goes.
func (f *Fields) AppendWire(b, event []byte) []byte { return f.event.appendWire(b, event) }

// AppendJSON adds an event as event/encode writes it, one line of JSON without blanks, to b without what goes.
func (f *Fields) AppendJSON(b, event []byte) []byte { return f.event.appendJSON(b, event) }

// Prune returns an event without what goes. A nil Fields returns it as it is.
func (f *Fields) Prune(ev *tetragon.GetEventsResponse) (*tetragon.GetEventsResponse, error) {
	if f == nil {
		return ev, nil
	}
	b, err := proto.Marshal(ev)
	if err != nil {
		return nil, err
	}
	pruned := new(tetragon.GetEventsResponse)
	if err := proto.Unmarshal(f.AppendWire(nil, b), pruned); err != nil {
		return nil, err
	}
	return pruned, nil
}

func (n *node) appendWire(b, m []byte) []byte {
	for len(m) > 0 {
		num, typ, tag := protowire.ConsumeTag(m)
		if tag < 0 {
			return b
		}
		size := protowire.ConsumeFieldValue(num, typ, m[tag:])
		if size < 0 {
			return b
		}
		field := m[:tag+size]
		m = m[tag+size:]
		c, listed := n.number[num]
		switch {
		case !listed && !n.rest, listed && c == nil:
		case !listed, typ != protowire.BytesType, c.isWhole():
			b = append(b, field...)
		default:
			inner, _ := protowire.ConsumeBytes(field[tag:])
			b = append(b, field[:tag]...)
			at := len(b)
			b = c.appendWire(b, inner)
			n := len(b) - at
			// What is left is not longer, so its length needs no more room than it had.
			room := protowire.SizeVarint(uint64(n))
			b = append(b, field[:room]...)
			copy(b[at+room:], b[at:at+n])
			protowire.AppendVarint(b[:at], uint64(n))
		}
	}
	return b
}

func (n *node) appendJSON(b, v []byte) []byte {
	if len(v) == 0 || n.isWhole() {
		return append(b, v...)
	}
	switch v[0] {
	case '{':
		return n.appendObject(b, v)
	case '[':
		b = append(b, '[')
		for i := 1; i < len(v) && v[i] != ']'; {
			end := valueEnd(v, i)
			b = n.appendJSON(b, v[i:end])
			if i = end; i < len(v) && v[i] == ',' {
				b = append(b, ',')
				i++
			}
		}
		return append(b, ']')
	}
	return append(b, v...)
}

func (n *node) appendObject(b, v []byte) []byte {
	b = append(b, '{')
	first := true
	for i := 1; i < len(v) && v[i] == '"'; {
		keyEnd := stringEnd(v, i)
		at := min(keyEnd+1, len(v)) // behind the colon
		end := valueEnd(v, at)
		c, listed := n.name[string(v[i+1:max(keyEnd-1, i+1)])]
		if listed && c != nil || !listed && n.rest {
			if !first {
				b = append(b, ',')
			}
			first = false
			b = append(b, v[i:at]...)
			if listed {
				b = c.appendJSON(b, v[at:end])
			} else {
				b = append(b, v[at:end]...)
			}
		}
		if i = end; i < len(v) && v[i] == ',' {
			i++
		}
	}
	return append(b, '}')
}

// stringEnd returns where the string that begins at v[i] ends.
func stringEnd(v []byte, i int) int {
	for i++; i < len(v); i++ {
		switch v[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(v)
}

// valueEnd returns where the value that begins at v[i] ends: always behind i, unless i is the end.
func valueEnd(v []byte, i int) int {
	for depth := 0; i < len(v); {
		switch v[i] {
		case '"':
			i = stringEnd(v, i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		default:
			for i++; i < len(v) && v[i] != ',' && v[i] != '}' && v[i] != ']' && v[i] != '"' && v[i] != '{' && v[i] != '['; i++ {
			}
			if depth > 0 {
				continue // a scalar, or what stands between two values
			}
		}
		if depth <= 0 {
			break
		}
	}
	return i
}
