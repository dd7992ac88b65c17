#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Makes the Go code of the API from api/v1/tetragon/*.proto. Needs protoc (Debian: protobuf-compiler); its plugins are
# the tools that go.mod pins. Same input, same bytes: the line that names protoc's own version is taken out, and so is
# what stands above the line that says that the file is generated.
set -eu
cd "$(dirname "$0")/.."

command -v protoc >/dev/null || {
	echo "protogen: no protoc in PATH; install it (Debian: apt-get install protobuf-compiler)" >&2
	exit 1
}
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin" google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
rm -f api/v1/tetragon/*.pb.go
PATH="$bin:$PATH" protoc -I api/v1 \
	--go_out=. --go_opt=module=tetragon \
	--go-grpc_out=. --go-grpc_opt=module=tetragon \
	api/v1/tetragon/*.proto
for f in api/v1/tetragon/*.pb.go; do
	sed -i -e '1,/^\/\/ Code generated/{/^\/\/ Code generated/!d}' -e '/^\/\/.*[[:space:]]protoc  *v[0-9]/d' "$f"
done
