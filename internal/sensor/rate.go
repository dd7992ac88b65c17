// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"tetragon/internal/abi"
)

// Rate limits how many forks and execs of one cgroup are told on one CPU. The zero Rate is no limit.
type Rate struct {
	Records uint64
	Window  time.Duration
}

// rateCalm is how long a cgroup must have kept to its limit before its records are told again.
const rateCalm = 5 * time.Second

// rateEntries is how many cgroups are counted at a time; those that were quiet for longest make room.
const rateEntries = 4096

// Calm says whether a cgroup that is held back on at least one CPU has been quiet for five seconds, or is within its limit
// and has been held back for as long, on each of them; it then lets its records through again. now is the boot clock, ns.
func (b *Base) Calm(cgroup, now uint64) (bool, error) {
	m := b.coll.Maps["rates"]
	var cpus []abi.CgrpRate
	err := m.Lookup(cgroup, &cpus)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return true, nil // it made room for others: it has been quiet
	}
	if err != nil {
		return false, fmt.Errorf("read the rate of cgroup %d: %w", cgroup, err)
	}
	for i := range cpus {
		if !b.rate.calm(&cpus[i], now) {
			return false, nil
		}
		cpus[i] = abi.CgrpRate{Begin: now} // else the first record would begin it again
	}
	if err := m.Update(cgroup, cpus, ebpf.UpdateExist); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return false, fmt.Errorf("let records of cgroup %d through: %w", cgroup, err)
	}
	return true, nil
}

// calm judges one CPU; what it counts is explained in bpf/lib/rate.h.
func (r Rate) calm(c *abi.CgrpRate, now uint64) bool {
	since := func(t uint64) time.Duration { return time.Duration(max(now, t) - t) }
	if since(c.Last) > rateCalm {
		return true
	}
	if c.HeldSince != 0 && since(c.HeldSince) <= rateCalm {
		return false
	}
	// The kernel half begins a window with the first record in it, so the last may be over.
	count, before, age := c.Count, c.Before, since(c.Begin)
	if age >= r.Window {
		count, before, age = 0, c.Count, age-r.Window
	}
	if age >= r.Window {
		return true
	}
	return before*uint64(r.Window-age)/uint64(r.Window)+count < r.Records
}

// Held is how many records were held back by the limit, by kind (abi.Kind...).
func (b *Base) Held() ([abi.KindKinds]uint64, error) {
	var held [abi.KindKinds]uint64
	if err := b.coll.Variables["held"].Get(&held); err != nil {
		return held, fmt.Errorf("read what was held back: %w", err)
	}
	return held, nil
}
