// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line tetra: it asks a running agent over gRPC and shows what it says, and works on policies
// without one.
//
// It stands between a person (or a script) and the services of internal/server. One file holds one command; connect.go
// finds and reaches the agent. Events are written by event/encode, as the agent itself writes them; policies are checked and
// explained by policy/parse and policy/compile, as the agent itself reads them, for this kernel or a recorded one.
//
// Not here: anything that changes the kernel; os.Exit, which belongs to cmd/tetra.
//
// Messages: results go to standard output. A failure is one line "Error: ..." on standard error, with a second line
// "Hint: ..." where we know what helps, and exit code 1; usage is never dumped behind it. SIGINT, SIGTERM and a reader
// that closed the pipe end a stream with 0. What comes from observed processes or from the agent is written so that it
// cannot steer the terminal. Each call of Main stands alone; nothing is kept between calls.
package cli
