// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"fmt"
	"slices"
	"strings"
)

// A label selector is a list of requirements with commas between them, all of which must hold:
//
//	key  !key  key=value  key==value  key!=value  key in (a,b)  key notin (a,b)
//
// A negative requirement also holds where there is no such label. An empty selector selects everything.

// requirement is one of them. No values: whether the key is there is all that counts.
type requirement struct {
	key    string
	exists bool     // without values
	values []string // one of these, or none of these if negate
	negate bool
}

func (r *requirement) match(labels map[string]string) bool {
	v, ok := labels[r.key]
	switch {
	case r.values == nil:
		return ok == r.exists
	case r.negate:
		return !ok || !slices.Contains(r.values, v)
	}
	return ok && slices.Contains(r.values, v)
}

// labelsRule matches if any of the selectors selects the pod's labels. nil if there are none.
func labelsRule(selectors []string) (rule, error) {
	if len(selectors) == 0 {
		return nil, nil
	}
	var parsed [][]requirement
	for _, text := range selectors {
		rs, err := parseSelector(text)
		if err != nil {
			return nil, fmt.Errorf("label selector %q: %w", text, err)
		}
		parsed = append(parsed, rs)
	}
	return func(s *subject) bool {
		if s.pod == nil {
			return false
		}
	next:
		for _, rs := range parsed {
			for i := range rs {
				if !rs[i].match(s.pod.labels) {
					continue next
				}
			}
			return true
		}
		return false
	}, nil
}

func parseSelector(text string) ([]requirement, error) {
	p := &selectorParser{rest: text}
	var rs []requirement
	for p.blank(); p.rest != ""; p.blank() {
		if len(rs) > 0 && !p.take(",") {
			return nil, fmt.Errorf("expected a comma before %q", p.rest)
		}
		r, err := p.requirement()
		if err != nil {
			return nil, err
		}
		rs = append(rs, r)
	}
	return rs, nil
}

type selectorParser struct{ rest string }

func (p *selectorParser) blank() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

func (p *selectorParser) take(s string) bool {
	p.blank()
	rest, ok := strings.CutPrefix(p.rest, s)
	if ok {
		p.rest = rest
	}
	return ok
}

// word takes a key, a value or an operator in letters. It may be empty.
func (p *selectorParser) word() string {
	p.blank()
	n := strings.IndexFunc(p.rest, func(r rune) bool { return strings.ContainsRune(" \t\r\n,=!()<>", r) })
	if n < 0 {
		n = len(p.rest)
	}
	w := p.rest[:n]
	p.rest = p.rest[n:]
	return w
}

func (p *selectorParser) requirement() (r requirement, err error) {
	not := p.take("!")
	if r.key, err = checkLabel("key", p.word()); err != nil {
		return r, err
	}
	p.blank()
	switch {
	case not:
		return r, nil
	case p.rest == "" || p.rest[0] == ',':
		r.exists = true
		return r, nil
	case p.take("=="), p.take("="):
	case p.take("!="):
		r.negate = true
	default:
		return p.set(r)
	}
	v, err := checkLabel("value", p.word())
	r.values = []string{v}
	return r, err
}

// set takes what follows the key of "key in (a,b)".
func (p *selectorParser) set(r requirement) (requirement, error) {
	switch op := p.word(); op {
	case "in":
	case "notin":
		r.negate = true
	default:
		return r, fmt.Errorf("operator after %q: expected =, ==, !=, in or notin", r.key)
	}
	if !p.take("(") {
		return r, fmt.Errorf("values of %q: expected an opening parenthesis", r.key)
	}
	for {
		v, err := checkLabel("value", p.word())
		if err != nil {
			return r, err
		}
		r.values = append(r.values, v)
		switch {
		case p.take(","):
		case p.take(")"):
			return r, nil
		default:
			return r, fmt.Errorf("values of %q: expected a comma or a closing parenthesis", r.key)
		}
	}
}

// checkLabel refuses what no label can be, so that a selector that never selects anything is told at once.
func checkLabel(what, s string) (string, error) {
	name := s
	if what == "key" {
		if prefix, after, ok := strings.Cut(s, "/"); ok {
			if prefix == "" || len(prefix) > 253 {
				return s, fmt.Errorf("key %q: its prefix must have 1 to 253 characters", s)
			}
			name = after
		}
		if name == "" {
			return s, fmt.Errorf("expected a key")
		}
	}
	if len(name) > 63 {
		return s, fmt.Errorf("%s %q: more than 63 characters", what, s)
	}
	for i := range len(name) {
		c := name[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		inner := i > 0 && i < len(name)-1
		if !alnum && (!inner || c != '-' && c != '_' && c != '.') {
			return s, fmt.Errorf("%s %q: must consist of letters, digits, '-', '_' and '.', and begin and end with a letter or digit", what, s)
		}
	}
	return s, nil
}
