// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// writeHelp writes the text of --help, from the table.
func writeHelp(out io.Writer, rows []row) error {
	w := bufio.NewWriter(out)
	fmt.Fprint(w, `Observes processes through BPF and tells what they do, as JSON lines, readable lines, and over gRPC.

Usage:
  tetragon [flags]

Each flag is also a key in configuration files and, in capitals with "_" for "-" and TETRAGON_ in front, an environment
variable. The first of these that sets a key wins: flags, environment, the directory named by config-dir,
/etc/tetragon/tetragon.conf.d/ (one file for each key), /etc/tetragon/tetragon.yaml, ./tetragon.yaml,
/usr/local/lib/tetragon/tetragon.conf.d/, /usr/lib/tetragon/tetragon.conf.d/.
`)
	for i := range rows {
		r := &rows[i]
		if r.group != "" {
			fmt.Fprintf(w, "\n%s:\n", r.group)
		}
		if !r.hidden {
			writeFlag(w, r)
		}
	}
	fmt.Fprintf(w, "\nOthers:\n")
	fmt.Fprintf(w, "  -h, --%-40s this text\n", helpFlag)
	fmt.Fprintf(w, "      --%-40s print every key with its value and where it comes from, and exit\n", printFlag)
	return w.Flush()
}

func writeFlag(w io.Writer, r *row) {
	f := r.field(new(Config))
	left := "      --" + r.key
	if r.short != "" {
		left = "  -" + r.short + ", --" + r.key
	}
	if t := typeName(f); t != "" {
		left += " " + t
	}
	help := r.help
	if len(r.oneOf) > 0 {
		var words []string
		for _, o := range r.oneOf {
			if o != "" {
				words = append(words, o)
			}
		}
		help += " (" + strings.Join(words, ", ") + ")"
	}
	if r.def != "" && r.def != "false" {
		help += fmt.Sprintf(" (default %s)", r.def)
	}
	switch r.status {
	case accepted:
		help += " [no effect: " + r.why + "]"
	case later:
		help += " [not yet supported]"
	}
	fmt.Fprintf(w, "%-48s %s\n", left, help)
}

// description is what --generate-docs prints, in the form of the library that upstream has for it.
type description struct {
	Name     string        `yaml:"name"`
	Synopsis string        `yaml:"synopsis"`
	Usage    string        `yaml:"usage"`
	Options  []optionOfDoc `yaml:"options"`
}

type optionOfDoc struct {
	Name      string `yaml:"name"`
	Shorthand string `yaml:"shorthand,omitempty"`
	Default   string `yaml:"default_value,omitempty"`
	Usage     string `yaml:"usage"`
}

func writeDescription(out io.Writer, rows []row) error {
	d := description{Name: "tetragon", Synopsis: "Observe processes, and enforce policies, by eBPF", Usage: "tetragon [flags]"}
	for i := range rows {
		r := &rows[i]
		if r.hidden {
			continue
		}
		d.Options = append(d.Options, optionOfDoc{Name: r.key, Shorthand: r.short, Default: r.def, Usage: r.help})
	}
	return yaml.NewEncoder(out).Encode(d)
}

// writeConfig writes the effective configuration as YAML that Load can read again, the source of each value behind it.
func writeConfig(out io.Writer, c *Config) error {
	w := bufio.NewWriter(out)
	for _, warning := range c.Warnings {
		fmt.Fprintf(w, "# warning: %s\n", strconv.Quote(warning))
	}
	for _, s := range c.Settings() {
		text := s.Text
		if list, ok := s.Value.([]string); ok && len(list) > 0 {
			quoted := make([]string, len(list)) // the list itself belongs to c
			for i := range list {
				quoted[i] = strconv.Quote(list[i])
			}
			text = "[" + strings.Join(quoted, ", ") + "]"
		} else if _, ok := s.Value.(string); ok || text == "" {
			text = strconv.Quote(text)
		}
		fmt.Fprintf(w, "%s: %s  # %s\n", s.Key, text, s.Source)
	}
	return w.Flush()
}

// Key is what a reference says of one key.
type Key struct {
	Name, Type, Default, Help string
	Values                    []string // the only ones; empty: any
	Group                     string   // heading of those that belong together
	NoEffect                  string   // why it is accepted and changes nothing; empty: it does
	Live                      bool     // a change takes effect on SIGHUP
	Refused                   string   // why anything but the default is refused; empty: it is not
}

// Keys lists every key but the hidden ones, in the order of the help text.
func Keys() []Key {
	var out []Key
	rows, group := table(), ""
	for i := range rows {
		r := &rows[i]
		if r.group != "" {
			group = r.group
		}
		if r.hidden {
			continue
		}
		k := Key{Name: r.key, Type: typeName(r.field(new(Config))), Default: r.def, Help: r.help, Group: group, Live: r.live}
		if k.Type == "" {
			k.Type = "bool"
		}
		for _, v := range r.oneOf {
			if v != "" {
				k.Values = append(k.Values, v)
			}
		}
		switch r.status {
		case accepted:
			k.NoEffect = r.why
		case later:
			k.Refused = r.why
		}
		out = append(out, k)
	}
	return out
}
