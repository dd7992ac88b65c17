// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"tetragon/internal/abi"
	"tetragon/internal/event"
)

// maxPieceBytes bounds what waits for its exec. Pieces come right before their exec, so more than a few waiting means
// that execs are being lost; the oldest are given up.
const maxPieceBytes = 16 << 20

// pieces collects the arguments and environments that were too long to come in their exec's record.
type pieces struct {
	waiting map[event.Key]*long
	order   []event.Key
	bytes   int
}

// long is what has come so far of one exec's long strings.
type long struct {
	args, env         []byte
	argsTotal, envTot int
	next              [3]uint32 // index of the next piece, by what
	cut               [3]bool   // a piece is missing, or there is more than was sent
}

func (p *pieces) add(k event.Key, d *abi.Data) {
	if d.What != abi.DataArgs && d.What != abi.DataEnv {
		return
	}
	l := p.waiting[k]
	if l == nil {
		if p.waiting == nil {
			p.waiting = make(map[event.Key]*long)
		}
		l = &long{}
		p.waiting[k] = l
		p.order = append(p.order, k)
	}
	if d.Index != l.next[d.What] || l.cut[d.What] {
		l.cut[d.What] = true // a piece was lost: what came before it is all that is certain
		return
	}
	l.next[d.What]++
	n := int(d.Len)
	p.bytes += n
	if d.What == abi.DataArgs {
		l.args = append(l.args, d.Data[:n]...)
	} else {
		l.env = append(l.env, d.Data[:n]...)
	}
	for p.bytes > maxPieceBytes && len(p.order) > 1 {
		p.take(p.order[0])
	}
}

// take returns what has come for k, and forgets it.
func (p *pieces) take(k event.Key) *long {
	l := p.waiting[k]
	if l == nil {
		return nil
	}
	delete(p.waiting, k)
	for i := range p.order {
		if p.order[i] == k {
			p.order = append(p.order[:i], p.order[i+1:]...)
			break
		}
	}
	p.bytes -= len(l.args) + len(l.env)
	return l
}
