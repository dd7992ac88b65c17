// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"slices"
	"time"

	"tetragon/internal/abi"
	"tetragon/internal/event"
	"tetragon/internal/event/decode"
)

// Bounds of what waits for its record. Pieces come right before it; what waits longer belongs to a call that no policy
// wanted in the end, or to a record that was lost.
const (
	maxLongBytes = 4 << 20
	maxLongAge   = 2 * time.Second
)

// longValues collects the values that were too long for their records.
type longValues struct {
	waiting map[longKey]*longValue
	order   []longKey // oldest first; some are not waiting any more
	bytes   int
	used    []longKey // by the record at hand
}

type longKey struct {
	of event.Key
	id uint64
}

// longValue is what has come of a value, without a gap.
type longValue struct {
	data  []byte
	next  uint32    // index of the next piece
	cut   bool      // a piece is missing
	added time.Time // when the first piece came
}

func (l *longValues) add(r *decode.Record) {
	d := r.HookData
	k := longKey{event.Key{Pid: r.Pid, Ktime: r.Ktime}, d.Id}
	v := l.waiting[k]
	if v == nil {
		if l.waiting == nil {
			l.waiting = make(map[longKey]*longValue)
		}
		v = &longValue{added: time.Now()}
		l.waiting[k] = v
		l.order = append(l.order, k)
	}
	if d.Index != v.next || v.cut {
		v.cut = true // what came before the lost piece is all that is certain
		return
	}
	v.next++
	v.data = append(v.data, d.Data[:d.Len]...)
	l.bytes += int(d.Len)
	for l.bytes > maxLongBytes && len(l.order) > 1 {
		l.drop(l.order[0])
		l.order = l.order[1:]
	}
}

// get returns what has come of a value.
func (l *longValues) get(k longKey) []byte {
	v := l.waiting[k]
	if v == nil {
		return nil
	}
	l.used = append(l.used, k)
	return v.data
}

// done forgets what the record at hand has used.
func (l *longValues) done() {
	for _, k := range l.used {
		l.drop(k)
	}
	l.used = l.used[:0]
	if len(l.order) > 2*len(l.waiting)+64 { // one that nobody asks for must not keep the names of all that came after it
		l.order = slices.DeleteFunc(l.order, func(k longKey) bool { return l.waiting[k] == nil })
	}
}

func (l *longValues) drop(k longKey) {
	if v := l.waiting[k]; v != nil {
		l.bytes -= len(v.data)
		delete(l.waiting, k)
	}
}

// age forgets what nobody has asked for.
func (l *longValues) age() {
	for len(l.order) > 0 {
		v := l.waiting[l.order[0]]
		if v != nil && time.Since(v.added) <= maxLongAge {
			return
		}
		l.drop(l.order[0])
		l.order = l.order[1:]
	}
}

// longBytes are the bytes of a value that came ahead of its record, and how many there were.
func (e *Enricher) longBytes(r *decode.Record, v *decode.Value) (b []byte, orig uint64, ok bool) {
	orig, id, ok := v.Ahead()
	if !ok {
		return nil, 0, false
	}
	return e.long.get(longKey{event.Key{Pid: r.Pid, Ktime: r.Ktime}, id}), orig, true
}

// isAhead says whether the bytes of a value came ahead of its record.
func isAhead(v *decode.Value) bool { return v.Flags&abi.ValueFlagAhead != 0 }
