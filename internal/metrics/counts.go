// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"strings"
	"sync"
)

// DefaultMaxSeries is how many series each metric of events has at most, unless the options say otherwise.
const DefaultMaxSeries = 4096

// The names of binaries may not take more than so many bytes a series, all in all.
const bytesPerSeries = 256

// otherBinary is the label of events beyond the bound.
const otherBinary = "(other)"

// bound is how much a metric of events may tell apart. Whoever may run programs chooses their names, and could otherwise
// make the agent, and the database behind it, grow by them.
type bound struct {
	off      bool
	noBinary bool
	series   int // 0: DefaultMaxSeries
	bytes    int // of the names so far
}

// full says whether another name is one too many; n is how many series there are.
func (b *bound) full(n int, binary string) bool {
	most := b.series
	if most <= 0 {
		most = DefaultMaxSeries
	}
	return n >= most || b.bytes+len(binary) > most*bytesPerSeries
}

// EventCounts counts events by type and binary. Safe for concurrent use.
type EventCounts struct {
	mu sync.Mutex

	bound
	byBinary map[string]*[numEventTypes]uint64
	other    [numEventTypes]uint64 // of binaries beyond the bound, or of all when binaries are not told apart
}

// Count counts an event.
func (c *EventCounts) Count(t EventType, binary string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.off {
		return
	}
	if t >= numEventTypes {
		t = EventUnknown
	}
	if c.noBinary {
		c.other[t]++
		return
	}
	n := c.byBinary[binary]
	if n == nil {
		// Two names that become one when repaired must not make two series of one name.
		binary = printable(binary)
		n = c.byBinary[binary]
	}
	if n == nil {
		if binary == otherBinary || c.full(len(c.byBinary), binary) {
			c.other[t]++
			return
		}
		if c.byBinary == nil {
			c.byBinary = map[string]*[numEventTypes]uint64{}
		}
		n = new([numEventTypes]uint64)
		c.byBinary[strings.Clone(binary)] = n
		c.bytes += len(binary)
	}
	n[t]++
}

// each calls f for every count that is not zero.
func (c *EventCounts) each(f func(t EventType, binary string, n uint64)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := func(binary string, ns *[numEventTypes]uint64) {
		for t, n := range ns {
			if n > 0 {
				f(EventType(t), binary, n)
			}
		}
	}
	for binary, ns := range c.byBinary {
		counts(binary, ns)
	}
	if c.noBinary {
		counts("", &c.other)
	} else {
		counts(otherBinary, &c.other)
	}
}

// configure says what to count.
func (c *EventCounts) configure(b bound) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bound = b
}

// HookName names a hook of a policy.
type HookName struct {
	Kind   string // "kprobe", "tracepoint", "uprobe", "lsm", "usdt"
	Subsys string // of tracepoints; the path or the provider of others
	Name   string
}

func (h HookName) String() string {
	if h.Subsys != "" {
		return h.Kind + ":" + h.Subsys + "/" + h.Name
	}
	return h.Kind + ":" + h.Name
}

// PolicyHook is a hook of a policy, as a key of Counts.
type PolicyHook struct {
	Policy string
	Hook   HookName
}

// Counts counts events by something and by binary. Beyond the bound binaries are not told apart; of what else there is
// users decide, by the policies that they load. Safe for concurrent use.
type Counts[K comparable] struct {
	mu sync.Mutex

	bound
	counts map[countKey[K]]*uint64
}

type countKey[K comparable] struct {
	what   K
	binary string
}

// Count counts an event.
func (c *Counts[K]) Count(what K, binary string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.off {
		return
	}
	if c.noBinary {
		binary = ""
	}
	k := countKey[K]{what, binary}
	n := c.counts[k]
	if n == nil {
		k.binary = printable(binary)
		if c.full(len(c.counts), binary) {
			k.binary = otherBinary
		}
		if n = c.counts[k]; n == nil {
			if c.counts == nil {
				c.counts = map[countKey[K]]*uint64{}
			}
			k.binary = strings.Clone(k.binary)
			n = new(uint64)
			c.counts[k] = n
			c.bytes += len(k.binary)
		}
	}
	*n++
}

// each calls f for every count.
func (c *Counts[K]) each(f func(what K, binary string, n uint64)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, n := range c.counts {
		f(k.what, k.binary, *n)
	}
}

// configure says what to count.
func (c *Counts[K]) configure(b bound) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bound = b
}
