// SPDX-License-Identifier: Apache-2.0

package main

// int80 makes a 32-bit system call. It does not tell the scheduler: only for calls that do not wait.
//
//go:noescape
func int80(nr, a, b, c, d, e uintptr) uintptr
