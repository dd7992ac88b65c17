#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs every fuzz target of the repository for the given time each.
set -eu
time=${1:-30s}
grep -rlE --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do
	grep -oE '^func Fuzz[A-Za-z0-9_]*' "$file" | sed 's/^func //' | while read -r target; do
		echo "==> $(dirname "$file") $target"
		# Where coverage is not the same twice, as with goroutines, making an input smaller would take a minute each time.
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 20x "./$(dirname "$file")"
	done
done
