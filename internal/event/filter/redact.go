// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// mask stands where a secret was.
const mask = "*****"

// Arguments returns the arguments of a process without secrets. binary is its absolute path.
func (r *Redactor) Arguments(binary, arguments string) string { return r.redact(binary, arguments) }

// Environment returns one "NAME=value" of a process without secrets.
func (r *Redactor) Environment(binary, variable string) string { return r.redact(binary, variable) }

func (r *Redactor) redact(binary, text string) string {
	if r == nil {
		return text
	}
	for i := range r.filters {
		f := &r.filters[i]
		if len(f.binaries) > 0 && !slices.ContainsFunc(f.binaries, func(re *regexp.Regexp) bool {
			return re.MatchString(binary)
		}) {
			continue
		}
		for _, re := range f.secrets {
			text = redactOne(re, text)
		}
	}
	return text
}

// redactOne masks the groups of every match. Where they are is found by matching again on the matched text alone, which
// is what existing filters were written against; if that finds nothing, or no group, the text stays.
func redactOne(re *regexp.Regexp, text string) string {
	if re.NumSubexp() == 0 || !re.MatchString(text) {
		return text
	}
	return re.ReplaceAllStringFunc(text, func(match string) string {
		at := re.FindStringSubmatchIndex(match)
		var groups [][2]int
		for i := 2; i+1 < len(at); i += 2 {
			if at[i] >= 0 {
				groups = append(groups, [2]int{at[i], at[i+1]})
			}
		}
		// A group in a repetition may lie before one with a lower number.
		slices.SortStableFunc(groups, func(a, b [2]int) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(b[1], a[1])) })
		var sb strings.Builder
		end := 0
		masked := false
		for _, g := range groups {
			if masked && g[0] < end {
				continue // inside one that is masked already
			}
			sb.WriteString(match[end:g[0]])
			sb.WriteString(mask)
			end, masked = g[1], true
		}
		sb.WriteString(match[end:])
		return sb.String()
	})
}
