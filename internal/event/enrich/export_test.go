// SPDX-License-Identifier: Apache-2.0

package enrich

// Waiting says how many execs have pieces that wait for them, and how many bytes these hold.
func (e *Enricher) Waiting() (execs, bytes int) {
	for _, l := range e.pieces.waiting {
		bytes += len(l.args) + len(l.env)
	}
	return len(e.pieces.waiting), bytes
}

// WaitingLong says how many values wait for their records, how many bytes they have, and how many names are kept.
func (e *Enricher) WaitingLong() (values, bytes, names int) {
	for _, v := range e.long.waiting {
		bytes += len(v.data)
	}
	return len(e.long.waiting), bytes, len(e.long.order)
}
