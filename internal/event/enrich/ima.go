// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"encoding/hex"

	"tetragon/internal/abi"
)

// imaAlgorithms are the digests that clients know, by the kernel's number (enum hash_algo, include/uapi/linux/hash_info.h).
var imaAlgorithms = map[uint64]struct {
	name string
	size int
}{
	1: {"md5", 16}, 2: {"sha1", 20}, 4: {"sha256", 32}, 6: {"sha512", 64}, 13: {"wp512", 64}, 17: {"sm3", 32},
}

// imaHash is the text of a hash, empty if it was made in a way that clients do not know.
func imaHash(v *abi.ValIma) string {
	a := imaAlgorithms[v.Algo]
	if a.name == "" {
		return ""
	}
	return a.name + ":" + hex.EncodeToString(v.Digest[:a.size])
}
