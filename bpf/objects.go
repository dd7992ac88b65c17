// SPDX-License-Identifier: Apache-2.0

// Package bpf holds the kernel half as compiled objects, embedded, so that building needs Go alone.
//
// The sources are beside it: hook (entry points), lib (what they share), abi (what both halves agree on).
//
// Not here: loading and attaching (sensor), the Go side of the layouts (abi).
//
// The objects are made by make generate with clang-19, committed, and proven fresh by make check.
package bpf

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -go-package bpf -no-global-types -cflags "-O2 -g -mcpu=v3 -Wall -Werror" Base hook/base.bpf.c
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -go-package bpf -no-global-types -cflags "-O2 -g -mcpu=v3 -Wall -Werror" Hooks hook/hooks.bpf.c
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -go-package bpf -no-global-types -cflags "-O2 -g -mcpu=v3 -Wall -Werror" Guard hook/guard.bpf.c

import (
	"bytes"

	"github.com/cilium/ebpf/btf"
)

// BaseTypes returns the types of the base object alone, which costs a tenth of the object with its programs.
func BaseTypes() (*btf.Spec, error) { return btf.LoadSpecFromReader(bytes.NewReader(_BaseBytes)) }

// HooksTypes returns those of the object of hooks.
func HooksTypes() (*btf.Spec, error) { return btf.LoadSpecFromReader(bytes.NewReader(_HooksBytes)) }
