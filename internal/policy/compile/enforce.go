// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"slices"

	"tetragon/internal/policy/plan"
)

// sigkill is SIGKILL, from include/uapi/asm-generic/signal.h.
const sigkill = 9

// signal makes a rule send a signal, of which the parser knows that there is one, to the current process.
func signal(n int, do *plan.Actions) {
	if !slices.Contains(do.Signals, n) {
		do.Signals = append(do.Signals, n)
		slices.Sort(do.Signals)
	}
}
