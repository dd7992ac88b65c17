// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const verityBlock = 4096

// keepDigest has fs-verity keep a digest with a file. It computes the digest itself, by the kernel's documentation of the format.
func keepDigest(args []string) error {
	if len(args) != 1 {
		return errors.New("want a file")
	}
	data, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	arg := unix.FsverityEnableArg{Version: 1, Hash_algorithm: unix.FS_VERITY_HASH_ALG_SHA256, Block_size: verityBlock}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.FS_IOC_ENABLE_VERITY, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return fmt.Errorf("enable fs-verity: %w", errno)
	}
	say("DIGEST", "sha256:"+hex.EncodeToString(verityDigest(data)))
	return nil
}

// verityDigest is the hash of a description of the file, which has the root of a tree of hashes of its blocks.
func verityDigest(data []byte) []byte {
	level := data
	for len(level) > verityBlock {
		level = blockHashes(level)
	}
	var d [256]byte
	d[0], d[1], d[2] = 1, unix.FS_VERITY_HASH_ALG_SHA256, 12 // version, algorithm, logarithm of the size of blocks
	binary.LittleEndian.PutUint64(d[8:], uint64(len(data)))
	if len(level) > 0 {
		copy(d[16:], blockHashes(level))
	}
	sum := sha256.Sum256(d[:])
	return sum[:]
}

// blockHashes are the hashes of blocks, the last filled up by zeros.
func blockHashes(data []byte) []byte {
	var out []byte
	for len(data) > 0 {
		var block [verityBlock]byte
		data = data[copy(block[:], data):]
		sum := sha256.Sum256(block[:])
		out = append(out, sum[:]...)
	}
	return out
}
