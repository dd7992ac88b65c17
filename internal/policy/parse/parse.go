// SPDX-License-Identifier: Apache-2.0

// Package parse reads the YAML text of a TracingPolicy into a policy.Policy, or says all that is wrong with the text.
//
// It is the first step of the policy lane: text in, policy.Policy for policy/compile out. schema.go is the table of the whole
// language, read.go walks a document along it, and the check_*.go files hold what the table cannot say: rules that tie one
// field to another. explain.go describes what the table holds.
//
// Not here: whether a policy makes sense on a kernel, operators against types, numbers against widths (policy/compile).
//
// What is accepted is complete: no part of the text is dropped, cut or guessed without a diagnostic. Spellings that are
// accepted besides the schema's (aliases) appear in the model in the schema's spelling. Safe for concurrent use.
package parse

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"tetragon/internal/policy"
)

// Options of a parse.
type Options struct {
	Getenv func(string) (string, bool) // variables for ${NAME}; nil: none is defined
}

// maxText bounds the work for one policy: the API server keeps no object of more than 1.5 MiB.
const maxText = 4 << 20

// YAML reads one policy. The policy is nil if there are mistakes; file is the text's name for diagnostics.
func YAML(file string, src []byte, o Options) (*policy.Policy, *policy.Diagnostics) {
	p := &parser{
		d: &policy.Diagnostics{File: file}, getenv: o.Getenv, fromEnv: make(map[string]bool), words: make(map[string]policy.Place),
		wrong: make(map[policy.Place]bool), within: make(map[string]bool),
	}
	if p.getenv == nil {
		p.getenv = func(string) (string, bool) { return "", false }
	}
	var pol *policy.Policy
	if root := p.document(src); root != nil {
		pol = p.policy(root)
		pol.File = file
	}
	p.d.Sort()
	p.dropRepeated()
	if p.d.Bad() {
		p.d.Sound = p.sound(pol)
		return nil, p.d
	}
	return pol, p.d
}

var insideHook = regexp.MustCompile(`^spec\.(kprobes|fentries|tracepoints|uprobes|usdts|lsmhooks)\[\d+\]`)

// sound is what can be compiled for the sake of its diagnostics; nil if nothing can.
func (p *parser) sound(pol *policy.Policy) *policy.Policy {
	if pol == nil {
		return nil
	}
	for at := range p.wrong {
		if !insideHook.MatchString(at.Path) {
			return nil
		}
	}
	out, left := *pol, 0
	broken := func(c *policy.Common) bool {
		if p.within[c.Place.Path] {
			return true
		}
		left++
		return false
	}
	out.Kprobes = without(pol.Kprobes, func(h *policy.Kprobe) bool { return broken(&h.Common) })
	out.Fentries = without(pol.Fentries, func(h *policy.Kprobe) bool { return broken(&h.Common) })
	out.Tracepoints = without(pol.Tracepoints, func(h *policy.Tracepoint) bool { return broken(&h.Common) })
	out.LsmHooks = without(pol.LsmHooks, func(h *policy.LsmHook) bool { return broken(&h.Common) })
	out.Uprobes = without(pol.Uprobes, func(h *policy.Uprobe) bool { return broken(&h.Common) })
	out.Usdts = without(pol.Usdts, func(h *policy.Usdt) bool { return broken(&h.Common) })
	if left == 0 {
		return nil
	}
	return &out
}

func without[H any](hooks []H, drop func(*H) bool) []H {
	return slices.DeleteFunc(slices.Clone(hooks), func(h H) bool { return drop(&h) })
}

// parser is one text being read.
type parser struct {
	d       *policy.Diagnostics
	getenv  func(string) (string, bool)
	fromEnv map[string]bool         // by path: the value has a variable in it
	words   map[string]policy.Place // by path: values in mappings of texts, which the model keeps without places
	wrong   map[policy.Place]bool   // where a mistake was told
	within  map[string]bool         // paths at which, or below which, one was
	nodes   int                     // visited, aliases counted as often as they are used
}

func (p *parser) error(at policy.Place, code, format string, args ...any) *policy.Diagnostic {
	p.wrong[at] = true
	for path := at.Path; path != "" && !p.within[path]; path = path[:max(0, strings.LastIndexAny(path, ".["))] {
		p.within[path] = true
	}
	return p.d.Error(at, code, format, args...)
}

// failed says whether a mistake was told at a place already.
func (p *parser) failed(at policy.Place) bool { return p.wrong[at] }

// failedWithin says whether a mistake was told at a path or below it.
func (p *parser) failedWithin(path string) bool { return p.within[path] }

func (p *parser) warn(at policy.Place, code, format string, args ...any) *policy.Diagnostic {
	return p.d.Warn(at, code, format, args...)
}

// dropRepeated keeps one of what was said twice: a macro is checked with each selector that uses it.
func (p *parser) dropRepeated() {
	type key struct {
		at         policy.Place
		code, text string
	}
	seen := make(map[key]bool)
	out := p.d.List[:0]
	for _, x := range p.d.List {
		k := key{x.Place, x.Code, x.Text}
		if !seen[k] {
			out = append(out, x)
		}
		seen[k] = true
	}
	p.d.List = out
}

// document finds the one document of a text.
func (p *parser) document(src []byte) *yaml.Node {
	top := policy.Place{Line: 1, Column: 1}
	if len(src) > maxText {
		p.error(top, "too-large", "the text has %d bytes; a policy may have %d", len(src), maxText)
		return nil
	}
	var root *yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(src))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			p.syntax(src, err)
			return nil
		}
		if len(doc.Content) == 0 || isNull(doc.Content[0]) && doc.Content[0].Value == "" {
			continue // "---" and comments
		}
		if root != nil {
			n := doc.Content[0]
			p.error(policy.Place{Line: n.Line, Column: n.Column}, "second-document", "a second document; a policy is one").
				WithHint("put each policy into a file of its own")
			return root
		}
		root = doc.Content[0]
	}
	if root == nil {
		p.error(top, "empty-text", "there is no policy in this text")
	}
	return root
}

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// parserError are the messages of yaml.v3's parser, as against those of its scanner.
var parserError = regexp.MustCompile(`^(did not find expected (<|node content|'|key)|found (undefined tag|duplicate %))`)

// syntax tells what is wrong with the YAML itself.
func (p *parser) syntax(src []byte, err error) {
	at, text := policy.Place{Line: 1, Column: 1}, err.Error()
	if m := yamlError.FindStringSubmatch(text); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			at.Line = n
		}
		text = m[2]
	}
	if parserError.MatchString(text) {
		at.Line++ // yaml.v3 counts from 0 in these
	}
	x := p.error(at, "yaml-syntax", "no valid YAML: %s", text)
	lines := strings.Split(string(src), "\n")
	for _, i := range []int{at.Line - 1, at.Line - 2} { // the line that is named may be the next
		if i < 0 || i >= len(lines) {
			continue
		}
		switch line := lines[i]; {
		case strings.HasPrefix(strings.TrimLeft(line, " "), "\t"):
			x.WithHint("indent by spaces, not by tabs")
			return
		case strings.Contains(line, "${"):
			x.WithHint("quote a value with ${...} between [ and ], or between { and }")
			return
		}
	}
}
