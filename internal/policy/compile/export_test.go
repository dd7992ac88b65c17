// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"maps"
	"slices"

	"tetragon/internal/policy/plan"
)

// Stands lists the functions that something stands for.
func Stands() []string { return slices.Sorted(maps.Keys(equivalents)) }

// Shown lists the parameters that every equivalent of the last way has, and whether one of them says that there is no return value.
func Shown(name string) (params []int, returns bool) {
	ways := equivalents[name]
	last := ways[len(ways)-1]
	params, returns = slices.Sorted(maps.Keys(last[0].params)), true
	for i := range last {
		params = slices.DeleteFunc(params, func(p int) bool { _, ok := last[i].params[p]; return !ok })
		returns = returns && last[i].noReturn == ""
	}
	return params, returns
}

// TypesOfLanguage lists the argument types, but for nop and auto.
func TypesOfLanguage() []string {
	var out []string
	for i := range types {
		out = append(out, types[i].name)
	}
	return out
}

// Normal is for fuzzing.
func Normal(rs []plan.Range) []plan.Range { return normal(rs) }
