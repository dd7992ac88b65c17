// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"bytes"
	"slices"
	"strconv"

	"tetragon/internal/event"
)

// lines remembers the text of events that policies made. A process that a policy watches hits the same hook again and
// again, and then only time and arguments differ: the rest is copied instead of written. It has a fixed number of places;
// a line that needs a taken place drives the other out.
type lines struct {
	places [linePlaces]line
	args   []KprobeArgument // scratch
	whole  []byte           // scratch
}

const (
	linePlaces = 32
	maxLine    = 4 << 10 // a longer one is not kept
)

// line is the text of an event without its arguments and its time.
type line struct {
	of   lineKey
	text []byte // empty: not written yet
	args int    // where the arguments belong
	time int    // and the time
}

// lineKey is all that the text of a line depends on.
type lineKey struct {
	kind             event.Kind
	action, returned event.Action
	tid, refs        uint32
	alike            uint64
	process, parent  uint64 // Encoded.Made
	hasParent        bool
}

// noTime stands where a time belongs: no JSON holds such a byte.
var noTime = []byte{0}

// appendLine adds the event as a line if it differs from an earlier one in its arguments and its time alone.
func (e *Encoder) appendLine(b []byte, ev *event.Event) ([]byte, bool) {
	h, p, pp := ev.Hook, ev.Process, ev.Parent
	if ev.Kind != event.KindKprobe && ev.Kind != event.KindTracepoint { // others have texts of their own
		return b, false
	}
	if h.Alike == 0 || p == nil || p.Placeholder || len(ev.Ancestors)+len(h.Data)+len(h.KernelStack)+len(h.UserStack) > 0 || h.Return != nil || h.ImaHash != "" || h.Suppressed > 0 || h.Merged.Count > 0 || h.Enforced() {
		return b, false
	}
	k := lineKey{kind: ev.Kind, action: h.Action, returned: h.ReturnAction, tid: ev.Tid, refs: ev.Refs, alike: h.Alike, process: p.Encoded.Made}
	if len(p.Encoded.JSON) == 0 {
		return b, false // not written since it changed
	}
	if pp != nil {
		if k.hasParent, k.parent = true, pp.Encoded.Made; len(pp.Encoded.JSON) == 0 {
			return b, false
		}
	}
	l := &e.lines.places[(k.alike+k.process*7+uint64(k.tid))%linePlaces]
	if l.of != k {
		l.of, l.text = k, l.text[:0] // it is written when it comes again: many never do
		return b, false
	}
	if len(l.text) == 0 && !e.writeLine(l, ev) {
		return b, false
	}
	b = append(b, l.text[:l.args]...)
	b = e.appendArguments(b, h.Args, ev.Kind == event.KindTracepoint)
	b = append(b, l.text[l.args:l.time]...)
	b = append(b, e.clock.json(ev.Time)...)
	return append(b, l.text[l.time:]...), true
}

// numeral is what stands around a number that is an argument by itself.
type numeral struct {
	before, after []byte
	bits          uint // of a signed one, how many count; 0: it is unsigned
}

// numbers are the arguments that are most of all, by kind: they are written without a message.
var numbers = func() (t [event.ArgKinds]numeral) {
	for kind, bits := range map[event.ArgKind]uint{event.ArgInt: 32, event.ArgLong: 64, event.ArgSize: 0} {
		var m KprobeArgument
		new(Encoder).argument(&m, &event.Arg{Kind: kind}, false)
		text := m.AppendJSON(nil)
		at := bytes.LastIndexByte(text, '0')
		t[kind] = numeral{text[:at], text[at+1:], bits}
	}
	return t
}()

// appendNumbers writes the field of arguments that are all numbers without a label. false: they are not.
func appendNumbers(b []byte, args []event.Arg) ([]byte, bool) {
	for i := range args {
		if a := &args[i]; a.Label != "" || len(numbers[a.Kind].before) == 0 {
			return b, false
		}
	}
	if len(args) == 0 {
		return b, true
	}
	b = append(b, `,"args":`...)
	at := len(b)
	for i := range args {
		n := &numbers[args[i].Kind]
		b = append(append(b, ','), n.before...)
		if n.bits == 0 {
			b = strconv.AppendUint(b, args[i].Int, 10)
		} else {
			b = strconv.AppendInt(b, int64(args[i].Int<<(64-n.bits))>>(64-n.bits), 10)
		}
		b = append(b, n.after...)
	}
	b[at] = '['
	return append(b, ']'), true
}

// appendArguments writes the field of the arguments, if there are any.
func (e *Encoder) appendArguments(b []byte, args []event.Arg, tracepoint bool) []byte {
	if b, ok := appendNumbers(b, args); ok {
		return b
	}
	e.hook.used, e.hook.text = 0, e.hook.text[:0]
	e.lines.args = e.arguments(e.lines.args[:0], args, tracepoint)
	if len(e.lines.args) == 0 {
		return b
	}
	b = append(b, `,"args":`...)
	at := len(b)
	for i := range e.lines.args {
		b = append(b, ',')
		b = e.lines.args[i].AppendJSON(b)
	}
	b[at] = '['
	return append(b, ']')
}

// writeLine writes what l is to hold of ev. false: it cannot be kept.
func (e *Encoder) writeLine(l *line, ev *event.Event) bool {
	without, hook := *ev, *ev.Hook
	without.Hook, hook.Args = &hook, nil
	m := e.message(&without, formJSON)
	m.Time.JSON = noTime
	l.text = m.AppendJSON(l.text[:0])
	l.time = bytes.IndexByte(l.text, 0)

	// The arguments come after the name of the hook: so does what is left out here.
	hook = event.Hook{Function: hook.Function, Subsys: hook.Subsys, Event: hook.Event}
	m = e.message(&without, formJSON)
	m.Time, m.NodeName, m.ClusterName = OptTime{}, "", ""
	e.lines.whole = m.AppendJSON(e.lines.whole[:0])
	m.NodeName, m.ClusterName = e.opts.NodeName, e.opts.ClusterName
	l.args = len(e.lines.whole) - len("}}")
	if l.time < 0 || len(l.text) > maxLine || l.args < 0 || !bytes.HasPrefix(l.text, e.lines.whole[:l.args]) {
		*l = line{}
		return false
	}
	l.text = slices.Delete(l.text, l.time, l.time+len(noTime))
	return true
}
