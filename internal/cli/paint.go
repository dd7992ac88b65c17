// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"golang.org/x/term"
)

// checkColor looks at what --color says.
func checkColor(choice string) error {
	if choice != "auto" && choice != "always" && choice != "never" {
		return fmt.Errorf("--color: %q is not auto, always or never", choice)
	}
	return nil
}

// coloured decides about colours: --color, or what w is.
func (a *app) coloured(w io.Writer, choice string) bool {
	switch choice {
	case "always":
		return true
	case "never":
		return false
	}
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) && a.opts.Getenv("NO_COLOR") == "" && a.opts.Getenv("TERM") != "dumb"
}

// painter puts colours into lines of diagnostics.
type painter struct{ on bool }

func (a *app) newPainter(w io.Writer, choice string) painter { return painter{a.coloured(w, choice)} }

// ANSI colours.
const (
	red    = "\x1b[31m"
	yellow = "\x1b[33m"
	cyan   = "\x1b[36m"
	bold   = "\x1b[1m"
	plain  = "\x1b[0m"
)

// diagnostic is a line with a place: "FILE:LINE:COLUMN: [warning: ]TEXT [CODE]".
var diagnostic = regexp.MustCompile(`^((?:[^ ]+:)?[0-9]+:[0-9]+:) (warning: )?(.*) (\[[a-z0-9-]+\])$`)

// line makes a line fit for a terminal.
func (p painter) line(s string) string {
	s = printable(s)
	if !p.on {
		return s
	}
	if m := diagnostic.FindStringSubmatch(s); m != nil {
		if m[2] != "" {
			return bold + m[1] + plain + " " + yellow + m[2] + plain + m[3] + " " + yellow + m[4] + plain
		}
		return bold + m[1] + plain + " " + m[3] + " " + red + m[4] + plain
	}
	for _, word := range []string{"    hint: ", "    note: "} {
		if rest, ok := strings.CutPrefix(s, word); ok {
			return cyan + word + plain + rest
		}
	}
	return s
}
