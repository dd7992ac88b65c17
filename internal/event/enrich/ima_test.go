// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"strings"
	"testing"

	"tetragon/internal/abi"
)

func TestImaHash(t *testing.T) {
	v := abi.ValIma{}
	for i := range v.Digest {
		v.Digest[i] = 0xab
	}
	for algo, want := range map[uint64]string{
		1: "md5:" + strings.Repeat("ab", 16), 2: "sha1:" + strings.Repeat("ab", 20), 4: "sha256:" + strings.Repeat("ab", 32),
		6: "sha512:" + strings.Repeat("ab", 64), 13: "wp512:" + strings.Repeat("ab", 64), 17: "sm3:" + strings.Repeat("ab", 32),
		0: "", 5: "", 99: "",
	} {
		if v.Algo = algo; imaHash(&v) != want {
			t.Errorf("algorithm %d: got %q, want %q", algo, imaHash(&v), want)
		}
	}
}
