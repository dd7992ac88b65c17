// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"

	"tetragon/internal/nearest"
)

// cmdline is what a command line said.
type cmdline struct {
	values map[string]*raw // by key
	help   bool
	print  bool
}

// Flags that are no keys.
const (
	helpFlag  = "help"
	printFlag = "print-config"
)

// parseFlags reads a command line in the usual form: --key=value, --key value, --switch, -d, and "--" before nothing.
// It goes on after a mistake, so that all are told.
func parseFlags(args []string, rows []row) (cmdline, []error) {
	cl := cmdline{values: map[string]*raw{}}
	var errs []error
	byName, byShort := map[string]*row{}, map[string]*row{}
	for i := range rows {
		byName[rows[i].key] = &rows[i]
		if rows[i].short != "" {
			byShort[rows[i].short] = &rows[i]
		}
	}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		name, value, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		var r *row
		switch {
		case arg == "--" && len(args) == 0:
			continue
		case arg == "-h" || arg == "--"+helpFlag:
			cl.help = true
			continue
		case arg == "--"+printFlag:
			cl.print = true
			continue
		case strings.HasPrefix(arg, "--") && len(arg) > 2 && arg[2] != '-':
			if r = byName[name]; r == nil {
				errs = append(errs, fmt.Errorf("flag --%s: unknown%s", name, didYouMean("--", name, names(rows))))
				continue
			}
		case strings.HasPrefix(arg, "-") && len(arg) > 1 && arg[1] != '-':
			if r = byShort[name]; r == nil {
				hint := "; there are only -d and -h"
				if byName[name] != nil {
					hint = fmt.Sprintf("; did you mean --%s?", name)
				}
				errs = append(errs, fmt.Errorf("flag -%s: unknown%s", name, hint))
				continue
			}
		default:
			errs = append(errs, fmt.Errorf("argument %q: unexpected, the agent takes flags only", arg))
			continue
		}
		if !hasValue {
			if _, isBool := r.field(new(Config)).(*bool); isBool {
				value = "true"
			} else if len(args) > 0 {
				value, args = args[0], args[1:]
			} else {
				errs = append(errs, fmt.Errorf("flag --%s: needs a value: %s", r.key, wanted(r.field(new(Config)))))
				continue
			}
		}
		cl.add(r, value)
	}
	return cl, errs
}

// add notes one flag. Of a repeated flag the last value counts, but lists grow.
func (cl *cmdline) add(r *row, value string) {
	v := &raw{text: value, flag: true, source: "flag --" + r.key, where: "flag --" + r.key}
	if _, isList := r.field(new(Config)).(*[]string); isList {
		v.isList = true
		if old := cl.values[r.key]; old != nil {
			v.list = old.list
		}
		v.list = append(v.list, value)
	}
	cl.values[r.key] = v
}

func names(rows []row) []string {
	out := make([]string, 0, len(rows)+2)
	for i := range rows {
		out = append(out, rows[i].key)
	}
	return append(out, helpFlag, printFlag)
}

// didYouMean returns the end of a message that names the nearest of the known words, or nothing when none is near.
func didYouMean(prefix, word string, known []string) string {
	word = strings.ToLower(word)
	best, least := "", max(2, len(word)/4)+1
	for _, k := range known {
		if d := nearest.Distance(word, k); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		// A word of which only the beginning or a part was written.
		for _, k := range known {
			if len(word) >= 4 && strings.Contains(k, word) {
				best = k
				break
			}
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s%s?", prefix, best)
}
