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
	ownMappings(func(from, to uintptr, writable bool, what, size string) {
		// What was written to before it was protected is not in the file.
		if what == "Anonymous" && !writable && size == "0 kB" {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED) // it is a favour, not a need
		}
	})
}

// binaryBytes is what is in memory of the program's own file: text, constants, and variables.
func binaryBytes() uint64 {
	var sum uint64
	ownMappings(func(_, _ uintptr, _ bool, what, size string) {
		if what == "Rss" {
			var kib uint64
			_, _ = fmt.Sscanf(size, "%d kB", &kib) // the kernel writes it
			sum += kib << 10
		}
	})
	return sum
}

// ownMappings tells what the kernel says of each mapping of the program's own file.
func ownMappings(tell func(from, to uintptr, writable bool, what, size string)) {
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
	var ours, writable bool
	for s := bufio.NewScanner(f); s.Scan(); {
		line := s.Text()
		var a, b uintptr
		var mode string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &a, &b, &mode); n == 3 && len(mode) == 4 {
			from, to, writable = a, b, mode[1] == 'w'
			ours = strings.HasSuffix(line, " "+exe)
			continue
		}
		if what, size, found := strings.Cut(line, ":"); found && ours {
			tell(from, to, writable, what, strings.TrimSpace(size))
		}
	}
}
