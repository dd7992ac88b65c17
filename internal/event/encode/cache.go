// SPDX-License-Identifier: Apache-2.0

package encode

// cache keeps the fragments of values that many processes share. It has a fixed number of places; a value that needs a
// taken place drives the other out. A fragment is good until the next call of claim.
type cache[K comparable] struct {
	places [cachePlaces]cached[K]
}

const cachePlaces = 16

type cached[K comparable] struct {
	key      K
	used     bool
	fragment Fragment
}

// claim returns the place of k, and whether k's fragment is in it. If not, the caller fills it.
func (c *cache[K]) claim(k K, hash uint64) (place *cached[K], found bool) {
	p := &c.places[hash*0x9e3779b97f4a7c15>>60] // the high bits of the product depend on all of hash
	if p.used && p.key == k {
		return p, true
	}
	p.key, p.used = k, true
	return p, false
}

// fill puts both forms of m into the place, in the memory of what was there before.
func (p *cached[K]) fill(m interface {
	AppendJSON(b []byte) []byte
	AppendWire(b []byte) []byte
}) {
	if p.fragment.Wire == nil {
		p.fragment.Wire = []byte{} // present, even when m is empty
	}
	p.fragment.JSON = m.AppendJSON(p.fragment.JSON[:0])
	p.fragment.Wire = m.AppendWire(p.fragment.Wire[:0])
}
