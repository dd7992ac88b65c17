// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"tetragon/internal/abi"
	"tetragon/internal/policy/digest"
)

// imaHash is the text of a hash, empty if it was made in a way that clients do not know.
func imaHash(v *abi.ValIma) string {
	d, ok := digest.OfFile(v.Algo, v.Digest[:])
	if !ok {
		return ""
	}
	return d.String()
}
