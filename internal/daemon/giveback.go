// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// gcAtStart is the collector's percentage while the agent starts.
const gcAtStart = 400

// afterStart is when what the start needed is given back.
const afterStart = 2 * time.Second

// giveBack gives memory back to the system that only something unusual needed: the start, a policy, a storm. Beside the heap
// that is the program's own text, of which most is for the start: its pages come back from the page cache when they are used.
func giveBack() {
	debug.FreeOSMemory()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer f.Close()
	var from, to uintptr
	ours := false // the mapping is of the program, and cannot be written to
	for s := bufio.NewScanner(f); s.Scan(); {
		line := s.Text()
		var a, b uintptr
		var mode string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &a, &b, &mode); n == 3 && len(mode) == 4 {
			from, to = a, b
			ours = mode[1] == '-' && strings.HasSuffix(line, " "+exe)
			continue
		}
		// What was written to before it was protected is not in the file.
		if left, found := strings.CutPrefix(line, "Anonymous:"); found && ours && strings.TrimSpace(left) == "0 kB" {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED) // it is a favour, not a need
		}
	}
}
