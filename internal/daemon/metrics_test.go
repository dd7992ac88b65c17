// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"testing"

	"tetragon/internal/event"
	"tetragon/internal/metrics"
)

func TestCount(t *testing.T) {
	l := &lane{laneOptions: laneOptions{counters: new(metrics.Lane)}}
	known, stranger := &event.Process{Binary: "/bin/x"}, &event.Process{Placeholder: true}
	l.count([]event.Event{
		{Kind: event.KindExec, Process: known}, {Kind: event.KindExit, Process: stranger}, {Kind: event.KindKprobe, Process: stranger, Hook: new(event.Hook)},
		{Kind: event.KindThrottle}, {Kind: event.KindThrottle, Throttle: event.Throttle{Stop: true}}, {Kind: event.KindThrottle}, {Kind: event.KindLoss},
	})
	for what, x := range map[string][2]uint64{
		"errors of process information": {l.counters.Errors[metrics.ErrorFinalizeProcessInfo].Load(), 2},
		"cgroups held back":             {l.counters.ThrottleStarts.Load(), 2},
		"cgroups let go":                {l.counters.ThrottleStops.Load(), 1},
		"events without a process":      {l.counters.NoProcess.Load(), 4},
	} {
		if x[0] != x[1] {
			t.Errorf("%s: %d, want %d", what, x[0], x[1])
		}
	}
}
