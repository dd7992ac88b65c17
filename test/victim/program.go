// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"tetragon/internal/elf/elftest"
)

// makeProgram writes a small program with a function and a static probe. It replaces the file by renaming, so that processes
// that run the old one go on.
func makeProgram(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("no FILE")
	}
	var p elftest.Program
	for _, a := range args[1:] {
		switch n, isPad := strings.CutPrefix(a, "pad="); {
		case isPad:
			var err error
			if p.Pad, err = strconv.Atoi(n); err != nil {
				return err
			}
		case a == "stripped":
			p.Stripped = true
		case a == "no-probe":
			p.NoProbe = true
		default:
			return fmt.Errorf("unknown word %q", a)
		}
	}
	b, at := p.Bytes()
	if err := os.WriteFile(args[0]+".new", b, 0o755); err != nil {
		return err
	}
	if err := os.Rename(args[0]+".new", args[0]); err != nil {
		return err
	}
	say("GREET", at.Greet)
	say("PROBE", at.Probe)
	say("SEMAPHORE", at.Semaphore)
	return nil
}
