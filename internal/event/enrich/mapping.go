// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"bytes"

	"tetragon/internal/event"
)

// Mapping is a file that became part of a process's code, as event/mmap tells of it. Times are boot clock.
type Mapping struct {
	Pid           uint32
	Time          uint64
	Exec          uint64 // when the last exec of Pid before Time got past the point of no return; 0 unknown
	Path, BuildID []byte
}

// Mapping takes in a mapping. Its bytes are not kept beyond the call.
func (e *Enricher) Mapping(m *Mapping) {
	e.stage.Seen(1)
	if e.starting {
		held := *m
		held.Path, held.BuildID = bytes.Clone(m.Path), bytes.Clone(m.BuildID)
		e.heldMaps = append(e.heldMaps, held)
		return
	}
	e.mapping(m)
}

func (e *Enricher) mapping(m *Mapping) {
	l := &e.loaders.take(1)[0]
	*l = event.Loader{Path: e.keep(m.Path), BuildID: e.keep(m.BuildID)}
	ev := event.Event{Kind: event.KindLoader, Time: e.wall(m.Time), Tid: m.Pid, Loader: l}
	e.join(&ev, e.tab.Image(m.Pid, m.Time, m.Exec), m.Pid, 0, e.opts.LoaderAncestors)
	e.emit(ev)
}
