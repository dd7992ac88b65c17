#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Fails on C that clang-format-19 would write otherwise. bpf/lib/kernel.h is not looked at: it lists kernel types, one a line.
set -eu
if ! command -v clang-format-19 >/dev/null; then
	echo "clang-format-19 is not installed; run tools/setup.sh as root" >&2
	exit 1
fi
find bpf \( -name '*.c' -o -name '*.h' \) ! -path bpf/lib/kernel.h -print0 | xargs -0 -r clang-format-19 --dry-run --Werror
