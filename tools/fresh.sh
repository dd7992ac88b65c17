#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Proves that generated files are what their generators make today: makes them anew and compares.
set -eu
sums() {
	find . \( -name .git -o -path ./bin \) -prune -o -type f \( -name '*_gen.go' -o -name '*.pb.go' -o -name '*_bpfel.go' -o -name '*_bpfel.o' -o -path './docs/reference/*.md' \) -print |
		sort | xargs sha256sum
}
before=$(mktemp)
after=$(mktemp)
trap 'rm -f "$before" "$after"' EXIT
sums >"$before"
make -s generate
sums >"$after"
if ! diff "$before" "$after" >&2; then
	echo "these files were not what their sources make; they are now: look at them and commit" >&2
	exit 1
fi
