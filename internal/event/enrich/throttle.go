// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"maps"
	"slices"

	"tetragon/internal/event"
	"tetragon/internal/event/decode"
)

// throttle tells once of a cgroup that is held back: each CPU says so for itself.
func (e *Enricher) throttle(r *decode.Record) {
	id := r.Throttle.Cgroup
	if _, known := e.throttled[id]; known {
		e.drop(absorbed)
		return
	}
	name := string(r.Cgroup)
	e.throttled[id] = name
	e.emit(event.Event{Kind: event.KindThrottle, Time: e.wall(r.Time), Throttle: event.Throttle{Cgroup: name}})
}

// Throttled lists the cgroups that are held back, by id.
func (e *Enricher) Throttled() []uint64 { return slices.Sorted(maps.Keys(e.throttled)) }

// Unthrottle tells that a cgroup is held back no longer, since a time of the boot clock.
func (e *Enricher) Unthrottle(id, at uint64) {
	name, known := e.throttled[id]
	if !known {
		return
	}
	delete(e.throttled, id)
	e.stage.Seen(1)
	e.emit(event.Event{Kind: event.KindThrottle, Time: e.wall(at), Throttle: event.Throttle{Cgroup: name, Stop: true}})
}
