// SPDX-License-Identifier: Apache-2.0

package digest

import (
	"bytes"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	ab := func(n int) string { return strings.Repeat("ab", n) }
	for _, c := range []struct{ in, want, err string }{
		{"sha256:" + ab(32), "sha256:" + ab(32), ""},
		{" SHA256:" + strings.ToUpper(ab(32)), "sha256:" + ab(32), ""},
		{"sha1:" + ab(20), "sha1:" + ab(20), ""},
		{"sha512:" + ab(64), "sha512:" + ab(64), ""},
		{"fsverity:sha256:" + ab(32), "fsverity:sha256:" + ab(32), ""},
		{"fsverity:sha512:" + ab(64), "fsverity:sha512:" + ab(64), ""},
		{"", "", "is no digest"},
		{ab(32), "", "ALGORITHM:HEX"},
		{"sha256:" + ab(31), "", "64 hexadecimal digits"},
		{"sha256:" + ab(31) + "xy", "", "64 hexadecimal digits"},
		{"sha384:" + ab(48), "", `there is no algorithm "sha384"; there are: md5, sha1, sha256, sha512, wp512, sm3`},
		{"fsverity:sha1:" + ab(20), "", "there are: sha256, sha512"},
		{"fsverity:" + ab(32), "", "is no digest"},
	} {
		d, err := Parse(c.in)
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: got error %v, want one with %q", c.in, err, c.err)
			}
		case err != nil || d.String() != c.want:
			t.Errorf("%q: got %q, %v, want %q", c.in, d, err, c.want)
		}
	}
}

// Digests that differ have different keys, also if their sums are the same or one begins with the other.
func TestDigest_Key(t *testing.T) {
	keys := make(map[[KeySize]byte]string)
	for _, a := range algorithms {
		for _, verity := range []bool{false, true} {
			if verity && a.verity == 0 {
				continue
			}
			for _, b := range []byte{0, 1} {
				d := Digest{Verity: verity, Algorithm: a.name, Sum: bytes.Repeat([]byte{b}, a.len)}
				if had := keys[d.Key()]; had != "" {
					t.Errorf("%s has the key of %s", d, had)
				}
				keys[d.Key()] = d.String()
			}
		}
	}
}

func TestOfFile(t *testing.T) {
	b := bytes.Repeat([]byte{0xab}, Max)
	for number, want := range map[uint64]string{
		1: "md5:" + strings.Repeat("ab", 16), 2: "sha1:" + strings.Repeat("ab", 20), 4: "sha256:" + strings.Repeat("ab", 32),
		6: "sha512:" + strings.Repeat("ab", 64), 13: "wp512:" + strings.Repeat("ab", 64), 17: "sm3:" + strings.Repeat("ab", 32),
		0: "", 5: "", 99: "",
	} {
		d, ok := OfFile(number, b)
		if got := d.String(); ok != (want != "") || ok && got != want {
			t.Errorf("algorithm %d: got %q, want %q", number, got, want)
		}
	}
	if _, ok := OfFile(4, b[:31]); ok {
		t.Error("a sum that is too short is taken for one")
	}
}
