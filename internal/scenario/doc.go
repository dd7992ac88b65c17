// SPDX-License-Identifier: Apache-2.0

// Package scenario runs the scripts of test/scenario against a whole agent: it starts one, has programs provoke things,
// and judges what the agent exports.
//
// It stands between testscript, which reads the scripts, and the binaries tetragon, tetra and victim, which it only
// knows by path. The commands that it adds are documented in test/scenario/README.md.
//
// Not here: booting machines (tools/vmlab), the programs that provoke (test/victim). Nothing but tests imports this.
//
// A script waits for things, never for a time, and ends only processes that it started. What other processes of the
// machine do shows up in the export and is never judged: scripts match by paths below $WORK and by pids.
//
// One goroutine runs a script; scripts do not share state.
package scenario
