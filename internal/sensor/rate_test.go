// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"testing"
	"time"

	"tetragon/internal/abi"
)

func TestRate_calm(t *testing.T) {
	const s = uint64(time.Second)
	r := Rate{Records: 100, Window: time.Second}
	now := 100 * s
	for name, x := range map[string]struct {
		cpu  abi.CgrpRate
		want bool
	}{
		"never used":                    {abi.CgrpRate{}, true},
		"quiet":                         {abi.CgrpRate{Begin: 90 * s, Count: 1000, Last: now - 5*s - 1, HeldSince: 90 * s}, true},
		"not quiet for long enough":     {abi.CgrpRate{Begin: 95 * s, Count: 1000, Last: now - 4*s, HeldSince: now - 4*s}, false},
		"held back a moment ago":        {abi.CgrpRate{Begin: now, Count: 1, Last: now, HeldSince: now - 5*s}, false},
		"within its limit":              {abi.CgrpRate{Begin: now, Count: 1, Last: now, HeldSince: now - 6*s}, true},
		"at its limit":                  {abi.CgrpRate{Begin: now, Count: 100, Last: now, HeldSince: now - 6*s}, false},
		"over it by the window before":  {abi.CgrpRate{Begin: now - s/2, Before: 190, Count: 5, Last: now, HeldSince: now - 6*s}, false},
		"the window before half counts": {abi.CgrpRate{Begin: now - s/2, Before: 180, Count: 5, Last: now, HeldSince: now - 6*s}, true},
		"the last window is over":       {abi.CgrpRate{Begin: now - s*3/2, Before: 999, Count: 190, Last: now - s, HeldSince: now - 6*s}, true},
		"it was too much":               {abi.CgrpRate{Begin: now - s*3/2, Before: 999, Count: 210, Last: now - s, HeldSince: now - 6*s}, false},
		"not held back, but busy":       {abi.CgrpRate{Begin: now, Count: 200, Last: now}, false},
	} {
		if got := r.calm(&x.cpu, now); got != x.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
