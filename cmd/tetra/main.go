// SPDX-License-Identifier: Apache-2.0

// Command tetra talks to a running agent; see internal/cli.
package main

import (
	"context"
	"os"

	"tetragon/internal/cli"
)

// version is set by the linker.
var version = "dev"

func main() {
	os.Exit(cli.Main(context.Background(), cli.Options{Args: os.Args[1:], Version: version}))
}
