// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"sync/atomic"
	"time"
)

// latencyBuckets are the upper bounds of a Histogram, in microseconds: those of the wire contract.
var latencyBuckets = [...]uint64{50, 100, 500, 1000, 10000, 100000}

// Histogram counts durations. The zero value is ready. Safe for concurrent use; a reading may be off by what is being
// counted meanwhile.
type Histogram struct {
	buckets [len(latencyBuckets) + 1]atomic.Uint64 // the last: above all bounds
	nanos   atomic.Uint64
}

// Observe counts one duration.
func (h *Histogram) Observe(d time.Duration) {
	i, us := 0, uint64(max(d, 0).Microseconds())
	for i < len(latencyBuckets) && us > latencyBuckets[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.nanos.Add(uint64(max(d, 0)))
}

// read returns the number of durations, their sum in microseconds, and how many are at most each bound.
func (h *Histogram) read() (count uint64, sum float64, upTo map[float64]uint64) {
	upTo = make(map[float64]uint64, len(latencyBuckets))
	for i, le := range latencyBuckets {
		count += h.buckets[i].Load()
		upTo[float64(le)] = count
	}
	count += h.buckets[len(latencyBuckets)].Load()
	return count, float64(h.nanos.Load()) / 1000, upTo
}
