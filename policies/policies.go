// SPDX-License-Identifier: Apache-2.0

// Package policies holds the ready-made policies that come with the agent, one file each.
//
// The daemon loads those that --ready-made-policies names, and tetra knows them by name. Each file says in its first lines
// what it is for, and which scenario proves it; docs/observability.md shows what to do with their events.
//
// Not here: how a policy gets into the kernel (policy/registry).
//
// The files are embedded: an agent needs none of them on disk. Safe for concurrent use.
package policies

import (
	"embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed *.yaml
var files embed.FS

// All is the word that stands for every policy that only tells. Those that enforce have to be named.
const All = "all"

// Enforces says whether a policy does more than to tell, once its mode is enforce.
func Enforces(name string) bool {
	return strings.HasPrefix(name, "deny-") || strings.HasPrefix(name, "kill-")
}

// Names lists them, sorted.
func Names() []string {
	found, err := files.ReadDir(".")
	if err != nil {
		panic("bug: the embedded policies cannot be listed: " + err.Error())
	}
	var out []string
	for _, f := range found {
		out = append(out, strings.TrimSuffix(f.Name(), ".yaml"))
	}
	return out
}

// Text returns a policy's YAML by its name.
func Text(name string) ([]byte, error) {
	if !slices.Contains(Names(), name) {
		return nil, fmt.Errorf("there is no ready-made policy %q; there are %s, and %q", name, strings.Join(Names(), ", "), All)
	}
	b, err := files.ReadFile(name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("read the ready-made policy %s: %w", name, err)
	}
	return b, nil
}

// Select resolves a list of names: each once, in the order of Names; "all" is all of those that only tell.
func Select(words []string) ([]string, error) {
	var out []string
	for _, n := range Names() {
		if slices.Contains(words, n) || slices.Contains(words, All) && !Enforces(n) {
			out = append(out, n)
		}
	}
	for _, w := range words {
		if w == All {
			continue
		}
		if _, err := Text(w); err != nil {
			return nil, err
		}
	}
	return out, nil
}
