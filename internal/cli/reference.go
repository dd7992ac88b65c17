// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Command is what a reference says of a command.
type Command struct {
	Path        string // "tracingpolicy add"
	Usage       string
	Short, Long string
	Flags       []Flag
	Absent      string // why it is refused; empty: it is there
}

// Flag is what a reference says of a flag.
type Flag struct{ Name, Short, Type, Default, Help string }

// Commands lists all commands, in the order of their names, those that are refused by name among them.
func Commands() []Command {
	a := &app{opts: Options{Out: io.Discard, Err: io.Discard}}
	root := a.root()
	why := make(map[string]string)
	for _, x := range absent {
		why[x.name] = x.why
	}
	var out []Command
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		path := strings.TrimPrefix(strings.TrimPrefix(c.CommandPath(), root.Name()), " ")
		x := Command{Path: path, Usage: c.UseLine(), Short: c.Short, Long: c.Long, Absent: why[path], Flags: flagsOf(c.LocalFlags())}
		if x.Absent != "" {
			x.Flags = nil
		}
		out = append(out, x)
		for _, sub := range c.Commands() {
			if sub.Name() != "help" && sub.Name() != "completion" {
				walk(sub)
			}
		}
	}
	walk(root)
	return out
}

func flagsOf(fs *pflag.FlagSet) []Flag {
	var out []Flag
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		typ, help := pflag.UnquoteUsage(f)
		out = append(out, Flag{Name: f.Name, Short: f.Shorthand, Type: typ, Default: f.DefValue, Help: help})
	})
	return out
}
