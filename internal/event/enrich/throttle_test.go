// SPDX-License-Identifier: Apache-2.0

package enrich_test

import (
	"slices"
	"testing"

	"tetragon/internal/abi"
	"tetragon/internal/abi/abitest"
	"tetragon/internal/event"
	"tetragon/internal/event/enrich"
)

func TestThrottle(t *testing.T) {
	l := started(t, enrich.Options{})
	before := l.dropped("state_only")
	tell := func(id uint64, name string) []event.Event {
		return l.feed(abitest.Throttle(abi.Head{Time: 1002}, id, name))
	}
	if evs := tell(7, "a.scope"); len(evs) != 1 || evs[0].Kind != event.KindThrottle || evs[0].Throttle != (event.Throttle{Cgroup: "a.scope"}) || evs[0].Time == 0 {
		t.Errorf("start: %+v", evs)
	}
	if evs := tell(7, "a.scope"); len(evs) != 0 || l.dropped("state_only") != before+1 {
		t.Errorf("another CPU says so too: %+v, %d", evs, l.dropped("state_only"))
	}
	tell(3, "b.scope")
	if got := l.e.Throttled(); !slices.Equal(got, []uint64{3, 7}) {
		t.Errorf("held back are %v", got)
	}
	l.e.Begin(0)
	l.e.Unthrottle(7, 2000)
	l.e.Unthrottle(7, 2000)
	l.e.Unthrottle(8, 2000)
	if evs := l.e.Events(); len(evs) != 1 || evs[0].Throttle != (event.Throttle{Cgroup: "a.scope", Stop: true}) {
		t.Errorf("stop: %+v", evs)
	}
	if evs := tell(7, "a.scope"); len(evs) != 1 {
		t.Errorf("and again: %+v", evs)
	}
	l.settled()
}
