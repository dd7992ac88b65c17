// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man DIRECTORY", Short: "Write manual pages, one for each command", Args: exactArg("a directory, such as /usr/local/share/man/man1"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("write manual pages: %w", err)
			}
			n := 0
			var write func(c *cobra.Command) error
			write = func(c *cobra.Command) error {
				if c.Hidden || c.IsAdditionalHelpTopicCommand() && c.Name() != "tetra" || c.Name() == "help" {
					return nil
				}
				name := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".1"
				if err := os.WriteFile(filepath.Join(args[0], name), []byte(manPage(c)), 0o644); err != nil {
					return fmt.Errorf("write manual pages: %w", err)
				}
				n++
				for _, sub := range c.Commands() {
					if err := write(sub); err != nil {
						return err
					}
				}
				return nil
			}
			if err := write(cmd.Root()); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d pages in %s\n", n, args[0])
			return err
		},
	}
}

// manPage is the manual page of one command, made of what --help says.
func manPage(c *cobra.Command) string {
	name := strings.ReplaceAll(c.CommandPath(), " ", "-")
	var sb strings.Builder
	fmt.Fprintf(&sb, ".TH %s 1\n.SH NAME\n%s \\- %s\n", strings.ToUpper(roff(name)), roff(name), roff(c.Short))
	fmt.Fprintf(&sb, ".SH SYNOPSIS\n.B %s\n", roff(c.UseLine()))
	if text := c.Long; text != "" {
		fmt.Fprintf(&sb, ".SH DESCRIPTION\n%s\n", roff(text))
	}
	flags := func(title string, fs *pflag.FlagSet) {
		if !fs.HasAvailableFlags() {
			return
		}
		fmt.Fprintf(&sb, ".SH %s\n", title)
		fs.VisitAll(func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			short := ""
			if f.Shorthand != "" {
				short = "\\-" + f.Shorthand + ", "
			}
			fmt.Fprintf(&sb, ".TP\n.B %s\\-\\-%s\n%s", short, roff(f.Name), roff(f.Usage))
			if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" {
				fmt.Fprintf(&sb, " (default %s)", roff(f.DefValue))
			}
			sb.WriteByte('\n')
		})
	}
	flags("OPTIONS", c.NonInheritedFlags())
	flags("GLOBAL OPTIONS", c.InheritedFlags())
	if c.Example != "" {
		fmt.Fprintf(&sb, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(c.Example))
	}
	var also []string
	if c.HasParent() {
		also = append(also, strings.ReplaceAll(c.Parent().CommandPath(), " ", "-"))
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			also = append(also, strings.ReplaceAll(sub.CommandPath(), " ", "-"))
		}
	}
	if len(also) > 0 {
		fmt.Fprintf(&sb, ".SH SEE ALSO\n%s(1)\n", roff(strings.Join(also, "(1), ")))
	}
	return sb.String()
}

// roff escapes text: dashes, backslashes, and lines that begin like a request.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
