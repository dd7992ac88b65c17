// SPDX-License-Identifier: Apache-2.0

// Package digest knows the digests of files that the kernel makes: as policies and events write them, and as programs find
// them in a table.
//
// It stands below both lanes: policies are checked by it, programs compare and events tell what it knows. There is nothing
// here of who asks for a digest, or of how the kernel makes one.
//
// What Parse accepts has one text and one key, and no two digests share either. Everybody may call it.
package digest

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// algorithms are those that clients know: their numbers in the kernel (enum hash_algo of include/uapi/linux/hash_info.h, and
// FS_VERITY_HASH_ALG_... of include/uapi/linux/fsverity.h, 0: fs-verity has not got it), and the bytes that they make.
var algorithms = []struct {
	name                string
	number, verity, len int
}{
	{"md5", 1, 0, 16}, {"sha1", 2, 0, 20}, {"sha256", 4, 1, 32}, {"sha512", 6, 2, 64}, {"wp512", 13, 0, 64}, {"sm3", 17, 0, 32},
}

// Max is the length of the longest digest.
const Max = 64

// KeySize is the length of a key: 8 bytes for the algorithm, and room for the longest digest.
const KeySize = 8 + Max

// verityBit tells in a key that fs-verity made the digest: VERITY_KEY of bpf/arg/digest.h.
const verityBit = 1 << 32

// Digest is one digest of a file.
type Digest struct {
	Verity    bool   // of the tree of hashes that fs-verity keeps with the file; else of its bytes, as IMA makes it
	Algorithm string // "sha256"
	Sum       []byte
}

// prefix is what is written before a digest of fs-verity.
const prefix = "fsverity:"

// Parse reads "ALGORITHM:HEX" or "fsverity:ALGORITHM:HEX".
func Parse(s string) (Digest, error) {
	rest, verity := strings.CutPrefix(strings.TrimSpace(s), prefix)
	name, text, ok := strings.Cut(rest, ":")
	if !ok {
		return Digest{}, fmt.Errorf("%q is no digest: ALGORITHM:HEX or fsverity:ALGORITHM:HEX", clip(s))
	}
	d := Digest{Verity: verity, Algorithm: strings.ToLower(name)}
	var known []string
	for _, a := range algorithms {
		if verity && a.verity == 0 {
			continue
		}
		known = append(known, a.name)
		if a.name != d.Algorithm {
			continue
		}
		sum, err := hex.DecodeString(text)
		if err != nil || len(sum) != a.len {
			return Digest{}, fmt.Errorf("%q is no digest by %s: it has %d hexadecimal digits", clip(text), a.name, 2*a.len)
		}
		d.Sum = sum
		return d, nil
	}
	return Digest{}, fmt.Errorf("there is no algorithm %q; there are: %s", clip(name), strings.Join(known, ", "))
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}

// String writes the digest as Parse reads it, in small letters.
func (d Digest) String() string {
	s := d.Algorithm + ":" + hex.EncodeToString(d.Sum)
	if d.Verity {
		return prefix + s
	}
	return s
}

// Key is what programs look the digest up by.
func (d Digest) Key() [KeySize]byte {
	var k [KeySize]byte
	for _, a := range algorithms {
		if a.name != d.Algorithm {
			continue
		}
		n := uint64(a.number)
		if d.Verity {
			n = verityBit | uint64(a.verity)
		}
		binary.NativeEndian.PutUint64(k[:], n)
	}
	copy(k[8:], d.Sum)
	return k
}

// OfFile is the digest that IMA made by the algorithm of that number; its sum is the beginning of b. False: by one that clients
// do not know.
func OfFile(number uint64, b []byte) (Digest, bool) {
	for _, a := range algorithms {
		if uint64(a.number) == number && len(b) >= a.len {
			return Digest{Algorithm: a.name, Sum: b[:a.len]}, true
		}
	}
	return Digest{}, false
}
