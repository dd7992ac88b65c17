// SPDX-License-Identifier: Apache-2.0

// Package abi is the Go side of bpf/abi: the layouts and numbers of what the kernel half sends.
//
// It is generated from the type information of the compiled objects, so the two sides cannot differ; its test compares
// every size and offset. Records are little-endian, as every supported machine is.
//
// Not here: reading the ring (event/read), making sense of a record (event/decode).
package abi
