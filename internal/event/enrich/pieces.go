// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"slices"

	"tetragon/internal/abi"
	"tetragon/internal/event"
)

// maxPieceBytes bounds what waits for its exec. Pieces come right before their exec, so more than a few waiting means
// that execs are being lost; the oldest are given up.
const maxPieceBytes = 16 << 20

// longBytes is what an exec with pieces costs beside them.
const longBytes = 256

// pieces collects the arguments and environments that were too long to come in their exec's record.
type pieces struct {
	waiting map[event.Key]*long
	order   []event.Key
	bytes   int
}

// long is what has come so far of one exec's long strings.
type long struct {
	args, env []byte
	next      [3]uint32 // index of the next piece, by what
	cut       [3]bool   // a piece is missing, or there is more than was sent
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
		p.bytes += longBytes
		p.bound()
	}
	if d.Index != l.next[d.What] || l.cut[d.What] {
		l.cut[d.What] = true // a piece was lost: what came before it is all that is certain
		return
	}
	n := int(d.Len)
	if len(l.args)+len(l.env)+n > maxPieceBytes/4 { // the kernel half sends a tenth of that at most
		l.cut[d.What] = true
		return
	}
	l.next[d.What]++
	p.bytes += n
	if d.What == abi.DataArgs {
		l.args = append(l.args, d.Data[:n]...)
	} else {
		l.env = append(l.env, d.Data[:n]...)
	}
	p.bound()
}

func (p *pieces) bound() {
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
	if p.order[0] == k {
		p.order = p.order[1:]
	} else {
		i := slices.Index(p.order, k)
		p.order = slices.Delete(p.order, i, i+1)
	}
	p.bytes -= len(l.args) + len(l.env) + longBytes
	return l
}
