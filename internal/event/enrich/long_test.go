// SPDX-License-Identifier: Apache-2.0

package enrich_test

import (
	"bytes"
	"slices"
	"testing"

	"tetragon/internal/abi"
	"tetragon/internal/abi/abitest"
	"tetragon/internal/event"
	"tetragon/internal/event/enrich"
	"tetragon/internal/policy/plan"
)

// ahead makes the records of a long value, but for the pieces that are left out.
func ahead(id uint64, data []byte, without ...uint32) [][]byte {
	var out [][]byte
	for i := uint32(0); len(data) > 0; i++ {
		d := abi.HookData{H: abi.Head{Kind: abi.KindHookData, Pid: 50, Ktime: 500}, Id: id, Index: i}
		d.Len = uint32(copy(d.Data[:], data))
		data = data[d.Len:]
		if !slices.Contains(without, i) {
			out = append(out, abitest.Record(d))
		}
	}
	return out
}

// TestHook_longValues: bytes that came ahead of their record are put together, for each policy; what was lost ends them.
func TestHook_longValues(t *testing.T) {
	h := &plan.Hook{
		Event: plan.EventKprobe, Name: "f", Args: []plan.Arg{{Value: 0, Type: "char_buf"}}, Values: []plan.Value{{}},
		Rules: []plan.Rule{{Do: plan.Actions{Post: true}}},
	}
	p := &plan.Program{ID: 9, Values: []plan.Value{{}}}
	for i := range 2 {
		p.Groups = append(p.Groups, plan.Group{Policy: uint32(i), Plan: &plan.Plan{Policy: "p"}, Hook: h, First: i, Values: []int{0}})
	}
	l := started(t, enrich.Options{Programs: func(uint32) *plan.Program { return p }})
	data := bytes.Repeat([]byte("0123456789"), 1000)
	call := func(id uint64) []byte {
		return abitest.Hook(abi.Hook{H: abi.Head{Pid: 50, Ktime: 500, Time: 1000}, Tid: 50, Program: 9},
			[]abitest.Value{{Kind: abi.ValueBytes, Flags: abi.ValueFlagAhead, Fixed: [2]uint64{10_000, id}}}, 3)
	}
	for _, c := range []struct {
		name string
		recs [][]byte
		want []byte
	}{
		{"whole", append(ahead(1, data), call(1)), data},
		{"a piece is missing", append(ahead(2, data, 1), call(2)), data[:4048]},
		{"the first is missing", append(ahead(3, data, 0), call(3)), nil},
		{"all are missing", [][]byte{call(4)}, nil},
		{"two at a time", append(append(ahead(5, data[:9000]), ahead(6, data)...), call(6)), data},
		{"told once", [][]byte{call(6)}, nil},
	} {
		evs := l.feed(c.recs...)
		if len(evs) != 2 {
			t.Fatalf("%s: %d events, want one for each policy", c.name, len(evs))
		}
		for _, ev := range evs {
			a := ev.Hook.Args[0]
			if a.Kind != event.ArgBytes || !bytes.Equal(a.Text, c.want) || a.Int != 10_000 {
				t.Errorf("%s: got kind %d, %d bytes of %d, want %d", c.name, a.Kind, len(a.Text), a.Int, len(c.want))
			}
		}
	}
	// One that no record asks for keeps nothing of those after it.
	l.feed(ahead(10, data)...)
	for id := uint64(1000); id < 2000; id++ {
		l.feed(append(ahead(id, data), call(id))...)
	}
	if values, _, names := l.e.WaitingLong(); values != 2 || names > 100 { // and one from above
		t.Errorf("%d values wait, %d names are kept", values, names)
	}
	// What no record asks for is bounded.
	for id := uint64(100); id < 1000; id++ {
		l.feed(ahead(id, data)...)
	}
	if values, size, _ := l.e.WaitingLong(); size > 4<<20 || values > 4<<20/10_000+1 || values == 0 {
		t.Errorf("%d values of %d bytes wait", values, size)
	}
}
