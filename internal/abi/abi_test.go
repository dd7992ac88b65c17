// SPDX-License-Identifier: Apache-2.0

package abi

import "testing"

func TestLayout_sameInKernelHalf(t *testing.T) {
	if len(layout) == 0 {
		t.Fatal("no layouts were generated")
	}
	for _, l := range layout {
		if l.got != l.want {
			t.Errorf("%s: %d here, %d in the kernel half", l.name, l.got, l.want)
		}
	}
}
