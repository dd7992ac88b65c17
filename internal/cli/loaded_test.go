// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"tetragon/internal/kernel"
)

func TestReport(t *testing.T) {
	maps := []kernel.LoadedMap{
		{ID: 1, Name: "both", Type: "Hash", KeySize: 4, ValueSize: 8, MaxEntries: 16, Bytes: 100, Pin: "/pins/map_both"},
		{ID: 2, Name: "used", Type: "Array", KeySize: 4, ValueSize: 8, MaxEntries: 1, Bytes: 10},
		{ID: 3, Name: "pinned", Type: "Array", KeySize: 4, ValueSize: 8, MaxEntries: 1, Bytes: 1, Pin: "/pins/map_pinned"},
		{ID: 4, Name: "both", Type: "Hash", KeySize: 4, ValueSize: 8, MaxEntries: 16, Bytes: 100, Pin: "/pins/map_both_2"},
		{ID: 5, Name: "other", Type: "Hash", KeySize: 4, ValueSize: 8, MaxEntries: 16, Bytes: 5000},
	}
	r := report(maps, []kernel.LoadedProgram{
		{ID: 1, Pin: "/pins/link", Maps: []uint32{1, 2}}, {ID: 2, Pin: "/pins/link2", Maps: []uint32{1}}, {ID: 3, Maps: []uint32{5}},
	})
	for what, x := range map[string][2]int{
		"all": {int(r.Total.All), 5211}, "of programs": {int(r.Total.Programs), 110}, "pinned": {int(r.Total.Pinned), 201},
		"inter": {r.Stats.Inter, 1}, "exter": {r.Stats.Exter, 3}, "union": {r.Stats.Union, 4}, "diff": {r.Stats.Diff, 1},
		"kinds": {len(r.Aggregated), 3}, "of the first": {r.Aggregated[0].Count, 2}, "its sum": {int(r.Aggregated[0].Total), 200},
	} {
		if x[0] != x[1] {
			t.Errorf("%s: %d, want %d", what, x[0], x[1])
		}
	}
	var b bytes.Buffer
	if err := r.write(&b, 1); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); !strings.Contains(got, "\n2    used") || !strings.Contains(got, "94.8%") || strings.Contains(got, "\npinned") {
		t.Errorf("tables:\n%s", got)
	}
	b.Reset()
	if err := report(nil, nil).write(&b, 10); err != nil || !strings.Contains(b.String(), "Empty diff table") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

func TestLoads(t *testing.T) {
	at := func(id uint32, runs uint64, d time.Duration, pin string) kernel.LoadedProgram {
		return kernel.LoadedProgram{ID: id, Name: "p", Runs: runs, Time: d, Pin: pin}
	}
	before := []kernel.LoadedProgram{at(1, 10, time.Second, "/pins/a"), at(2, 5, time.Second, ""), at(4, 100, time.Second, "/pins/d")}
	after := []kernel.LoadedProgram{
		at(1, 30, 1500*time.Millisecond, "/pins/a"), at(2, 6, 3*time.Second, ""), at(3, 7, 200*time.Millisecond, "/pins/c"),
		at(4, 1, time.Millisecond, "/pins/d"), // another one with the number of one that has gone
	}
	ls := loads(before, after, time.Second, false)
	if len(ls) != 3 || ls[0].ID != 1 || ls[0].Runs != 20 || ls[0].share < 49.9 || ls[0].share > 50.1 || ls[1].ID != 3 || ls[2].Runs != 0 {
		t.Errorf("%+v", ls)
	}
	if ls := loads(before, after, time.Second, true); len(ls) != 4 || ls[0].ID != 2 {
		t.Errorf("%+v", ls)
	}
	var b bytes.Buffer
	if err := writeLoads(&b, time.Unix(0, 0).UTC(), ls); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); !strings.HasPrefix(got, "1970-01-01 00:00:00\n\nOvh(%)  Id") || !strings.Contains(got, " 50.00  1   20") {
		t.Errorf("%q", got)
	}
}
