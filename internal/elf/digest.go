// SPDX-License-Identifier: Apache-2.0

package elf

import (
	"crypto/sha1" //nolint:gosec // of the four that a policy may name
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math"
	"slices"
	"strings"
)

// hashes are the algorithms that a file can be told by, beside its build id.
var hashes = map[string]func() hash.Hash{
	"sha1": sha1.New, "sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New,
}

// Is says whether the open file has one of some digests, "ALGORITHM:hex" in lower case; build-id is the one that the linker wrote
// into it. If it has none, what it has is in other.
func (f *File) Is(digests []string) (ok bool, other string, err error) {
	var had []string
	for _, d := range digests {
		algo, _, _ := strings.Cut(d, ":")
		if slices.ContainsFunc(had, func(h string) bool { return strings.HasPrefix(h, algo+":") }) {
			continue
		}
		sum, err := f.digest(algo)
		if err != nil {
			return false, "", err
		}
		had = append(had, algo+":"+sum)
	}
	for _, h := range had {
		if slices.Contains(digests, h) {
			return true, "", nil
		}
	}
	return false, strings.Join(had, ", "), nil
}

// digest makes one digest, once.
func (f *File) digest(algo string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d, ok := f.digests[algo]; ok {
		return d, nil
	}
	d, err := f.makeDigest(algo)
	if err == nil {
		if f.digests == nil {
			f.digests = make(map[string]string)
		}
		f.digests[algo] = d
	}
	return d, err
}

func (f *File) makeDigest(algo string) (string, error) {
	if algo == "build-id" {
		id := f.BuildID()
		if id == "" {
			return "", fmt.Errorf("the file has no build id; name a digest of its bytes, such as sha256")
		}
		return id, nil
	}
	h := hashes[algo]
	if h == nil {
		return "", fmt.Errorf("there is no digest %q", algo)
	}
	sum := h()
	if _, err := io.Copy(sum, io.NewSectionReader(f.r, 0, math.MaxInt64)); err != nil {
		return "", fmt.Errorf("read the file for its digest: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
