// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"slices"

	"tetragon/internal/policy"
	"tetragon/internal/policy/plan"
)

// Numbers of signals, from include/uapi/asm-generic/signal.h.
const (
	sigkill   = 9
	maxSignal = 64
)

// signal makes a rule send a signal to the current process.
func (c *compiler) signal(a *policy.Action, n int, do *plan.Actions) {
	if n < 1 || n > maxSignal {
		c.d.Error(a.ArgSig.Place, "out-of-range", "there is no signal %d; signals are 1 to %d", n, maxSignal)
		return
	}
	if !slices.Contains(do.Signals, n) {
		do.Signals = append(do.Signals, n)
		slices.Sort(do.Signals)
	}
}
