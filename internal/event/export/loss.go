// SPDX-License-Identifier: Apache-2.0

package export

import (
	"time"

	"tetragon/internal/event"
)

// debts are the losses of a sink that its reader was not told of yet.
type debts struct {
	limited, full pile
	refused       uint64 // of sink.refused, already told
	refusedAt     int64
	event         event.Event // reused
}

// pile is what was dropped for one reason, by kind.
type pile struct {
	counts [kinds]uint64
	total  uint64
	told   int64 // when it was last empty
}

const kinds = 3

// kindNames are the words for Loss.What.
var kindNames = [kinds]string{"event", "exec", "exit"}

func (d *debts) add(reason int, ev *event.Event) {
	p := &d.full
	if reason == rateLimit {
		p = &d.limited
	}
	switch ev.Kind {
	case event.KindExec:
		p.counts[1]++
	case event.KindExit:
		p.counts[2]++
	default:
		p.counts[0]++
	}
	p.total++
}

// start says that nothing was lost before t.
func (d *debts) start(t time.Time) {
	d.limited.told, d.full.told, d.refusedAt = t.UnixNano(), t.UnixNano(), t.UnixNano()
}

// How long a sink waits between two reports of one reason. A minute for the rate limit is part of the contract.
const (
	limitedEvery = time.Minute
	fullEvery    = time.Second
	refusedEvery = time.Second
)

// report writes into the sink what it lost, when that is due and there is room.
func (k *sink) report(enc Encoder, now time.Time, last bool) {
	if !k.losses {
		return
	}
	d := &k.owed
	t := now.UnixNano()
	ls := d.event.Losses[:0]
	limited := d.limited.due(t, limitedEvery, last)
	full := d.full.due(t, fullEvery, last)
	if limited {
		ls = d.limited.append(ls, reasons[rateLimit], t)
	}
	if full {
		ls = d.full.append(ls, reasons[queueFull], t)
	}
	// While writing does not work, a report would only be lost as well.
	refused := k.refused.Load()
	if refused == d.refused {
		d.refusedAt = t
	}
	broken := refused > d.refused && (last || k.healthy.Load() && t-d.refusedAt >= int64(refusedEvery))
	if broken {
		ls = append(ls, event.Loss{
			What: kindNames[0], Reason: reasons[writeError], Count: refused - d.refused, Since: d.refusedAt, Until: t,
		})
	}
	d.event = event.Event{Kind: event.KindLoss, Time: t, Losses: ls}
	if len(ls) == 0 || k.q.reserve() != accepted {
		return
	}
	c := k.q.open
	at := len(c.buf)
	if k.format == wire {
		c.buf = enc.AppendWire(append(c.buf, 0, 0, 0, 0), &d.event)
	} else {
		c.buf = enc.AppendJSON(c.buf, &d.event)
	}
	k.count.seen++
	k.finish(c, at)
	if limited {
		d.limited.clear(t)
	}
	if full {
		d.full.clear(t)
	}
	if broken {
		d.refused, d.refusedAt = refused, t
	}
}

func (p *pile) due(t int64, every time.Duration, last bool) bool {
	if p.total > 0 {
		return last || t-p.told >= int64(every)
	}
	if t-p.told >= int64(every) {
		p.told = t // nothing was lost until now
	}
	return false
}

func (p *pile) append(ls []event.Loss, reason string, t int64) []event.Loss {
	for i, n := range p.counts {
		if n > 0 {
			ls = append(ls, event.Loss{What: kindNames[i], Reason: reason, Count: n, Since: p.told, Until: t})
		}
	}
	return ls
}

func (p *pile) clear(t int64) { *p = pile{told: t} }

// limiter is a token bucket that holds and regains perMinute tokens a minute. Lane only.
type limiter struct {
	perMinute int64
	tokens    int64 // in units of 1/minute of a token, so that no fraction is lost
	last      time.Time
}

// newLimiter returns nil, which is no limit, for a rate that nothing can reach and int64 could not count.
func newLimiter(perMinute int, now time.Time) *limiter {
	if perMinute < 0 || perMinute > 50_000_000 {
		return nil
	}
	return &limiter{perMinute: int64(perMinute), tokens: int64(perMinute) * int64(time.Minute), last: now}
}

func (l *limiter) allow(now time.Time) bool {
	if d := now.Sub(l.last); d > 0 {
		l.last = now
		l.tokens = min(l.tokens+l.perMinute*int64(min(d, time.Minute)), l.perMinute*int64(time.Minute))
	}
	if l.tokens < int64(time.Minute) {
		return false
	}
	l.tokens -= int64(time.Minute)
	return true
}
