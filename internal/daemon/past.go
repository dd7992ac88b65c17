// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"encoding/binary"
	"errors"
	"fmt"

	"tetragon/internal/abi"
	"tetragon/internal/event"
	"tetragon/internal/event/decode"
	"tetragon/internal/event/read"
	"tetragon/internal/sensor"
)

// reasonAway is why records of an earlier agent's kernel half are not told: they were made when no agent was there.
const reasonAway = "agent_away"

// past is what an earlier agent's kernel half has to say. Its records of processes are told as if they had come through our
// ring, but for those that ours tells as well. Those of hooks are laid out by programs that nobody knows any more: they are
// counted.
type past struct {
	prior       *sensor.Prior
	reader      *read.Reader
	since       uint64 // boot clock: when the earlier agent last told of losses
	from, until uint64 // likewise: our own kernel half came to be between these

	foreign bool // its records are laid out in another way

	read   uint64 // records that were taken over
	lost   [abi.KindKinds]uint64
	other  uint64 // records of an unknown layout
	merged uint64 // calls that were counted, and of which nobody was told how many
	last   uint64 // boot clock: until when

	told uint64 // of away, and of merged
}

// away is how many records are not told.
func (p *past) away() uint64 {
	n := p.other
	for _, l := range p.lost {
		n += l
	}
	return n
}

// untold says whether there is something to tell of.
func (p *past) untold() bool { return p.away()+p.merged != p.told }

// openPast makes ready to read what an earlier agent left. from and until are boot-clock times, see past.
func (l *lane) openPast(prior *sensor.Prior, from, until uint64) error {
	if prior == nil {
		return nil
	}
	l.past = past{prior: prior, since: prior.Since(), from: from, until: until, last: until}
	ring := prior.Ring()
	if ring == nil {
		return nil
	}
	l.past.foreign = !prior.Readable()
	if l.past.foreign {
		l.log.Warn("what the earlier agent recorded is laid out in another way: it is counted and not told")
	}
	r, err := read.New(read.Options{Ring: ring, Sleep: func(bool) error { return nil }})
	if err != nil {
		return fmt.Errorf("open the ring of an earlier agent: %w", err)
	}
	l.past.reader = r
	return nil
}

// ofHooks says whether records of a kind are of policies' hooks; the others are of processes.
func ofHooks(kind int) bool {
	return kind == abi.KindHook || kind == abi.KindHookData || kind == abi.KindHookMerged
}

// readPast takes over what an earlier agent's kernel half told of processes until ours was there.
func (l *lane) readPast() error {
	p := &l.past
	if p.prior == nil {
		return nil
	}
	err := l.drainPast(func(kind int, at uint64, raw []byte) {
		switch {
		case ofHooks(kind):
			l.pastHook(kind, at, raw)
		case kind == abi.KindSnapshot || kind == abi.KindSnapEnd || at >= p.until:
		case decode.Decode(raw, &l.rec) != nil:
			p.other++
		default:
			p.read++
			l.decoded.Seen(1)
			l.decoded.Deliver(1)
			l.counters.MsgOps[ops[kind]].Add(1)
			l.enricher.Past(&l.rec, at >= p.from)
		}
	})
	lost, lerr := p.prior.Lost()
	for k := 1; k < abi.KindKinds; k++ {
		if !ofHooks(k) {
			p.lost[k] += lost[k]
			l.unfixed = l.unfixed || lost[k] > 0
		}
	}
	return errors.Join(err, lerr)
}

// pastHook counts a record of a hook.
func (l *lane) pastHook(kind int, _ uint64, raw []byte) {
	if !ofHooks(kind) {
		return
	}
	l.past.lost[kind]++
	if kind == abi.KindHookMerged && decode.Decode(raw, &l.rec) == nil {
		l.past.merged += l.rec.Merged.Count
	}
}

// endPast counts what the earlier agent's hooks told until ours were on, and forgets its ring.
func (l *lane) endPast() {
	p := &l.past
	if p.prior == nil {
		return
	}
	err := l.drainPast(l.pastHook)
	lost, lerr := p.prior.Lost()
	for k := range lost {
		if ofHooks(k) {
			p.lost[k] += lost[k]
		}
	}
	merged, merr := p.prior.Merged()
	p.merged += merged
	if err := errors.Join(err, lerr, merr); err != nil {
		l.log.Warn("read what an earlier agent left", "err", err)
	}
	p.last = bootNow()
	if p.reader != nil {
		_ = p.reader.Close()
		p.reader = nil
	}
	p.prior = nil
}

// drainPast hands what is in the earlier ring to f.
func (l *lane) drainPast(f func(kind int, at uint64, raw []byte)) error {
	p := &l.past
	if p.reader == nil {
		return nil
	}
	for more := true; more; {
		var err error
		if _, more, err = p.reader.Rest(func(raw []byte) {
			if p.foreign || len(raw) < abi.HeadSize {
				p.other++
				return
			}
			kind := int(binary.NativeEndian.Uint16(raw))
			if kind == 0 || kind >= abi.KindKinds {
				p.other++
				return
			}
			f(kind, binary.NativeEndian.Uint64(raw[8:]), raw)
		}); err != nil {
			return fmt.Errorf("read the ring of an earlier agent: %w", err)
		}
	}
	return nil
}

// tellAway tells in the stream what the time without an agent cost.
func (l *lane) tellAway() {
	p := &l.past
	if !p.untold() || p.prior != nil && !l.stopping || !l.enricher.Started() {
		return
	}
	p.told = p.away() + p.merged
	var losses []event.Loss
	offset := bootOffset()
	since := p.since
	if since == 0 || since > p.last {
		since = p.from
	}
	add := func(what string, n uint64) {
		if n > 0 {
			losses = append(losses, event.Loss{What: what, Reason: reasonAway, Count: n, Since: int64(since) + offset, Until: int64(p.last) + offset})
		}
	}
	for k := 1; k < abi.KindKinds; k++ {
		add(what[k], p.lost[k])
	}
	add("record", p.other)
	add("merged_call", p.merged)
	l.enricher.Lost(losses)
	l.log.Warn("records were lost: no agent was there to read them", "losses", fmt.Sprint(losses))
}
