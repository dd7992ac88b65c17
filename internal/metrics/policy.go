// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"strings"
	"sync"
)

// HookName names a hook of a policy.
type HookName struct {
	Kind   string // "kprobe", "tracepoint", "uprobe", "usdt"
	Subsys string // of tracepoints; of uprobes the path of the program, of static probes the provider
	Name   string
}

func (h HookName) String() string {
	if h.Subsys != "" {
		return h.Kind + ":" + h.Subsys + "/" + h.Name
	}
	return h.Kind + ":" + h.Name
}

// PolicyCounts counts events by policy, hook and binary. Like EventCounts it is bounded: beyond the bound binaries are not
// told apart, and the policies and hooks are as many as users load.
type PolicyCounts struct {
	mu sync.Mutex

	off      bool
	noBinary bool
	counts   map[policyKey]*uint64
	bytes    int
}

type policyKey struct {
	policy string
	hook   HookName
	binary string
}

// Count counts an event.
func (c *PolicyCounts) Count(policy string, hook HookName, binary string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.off {
		return
	}
	if c.noBinary {
		binary = ""
	}
	k := policyKey{policy, hook, binary}
	n := c.counts[k]
	if n == nil {
		k.binary = printable(binary)
		if len(c.counts) >= maxBinaries || c.bytes+len(binary) > maxBinaryBytes {
			k.binary = otherBinary
		}
		if n = c.counts[k]; n == nil {
			if c.counts == nil {
				c.counts = map[policyKey]*uint64{}
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
func (c *PolicyCounts) each(f func(policy, hook, binary string, n uint64)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, n := range c.counts {
		f(k.policy, k.hook.String(), k.binary, *n)
	}
}

// configure switches counting off, or binaries.
func (c *PolicyCounts) configure(on, binaries bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off, c.noBinary = !on, !binaries
}
