// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"regexp"
	"strings"

	"tetragon/internal/policy"
)

// reference is "${", and what follows up to a brace; "$${" stands for "${" itself.
var reference = regexp.MustCompile(`\$?\$\{[^}]*\}?`)

var variable = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$`)

// expand puts the values of variables where a scalar names them. It is done behind the YAML, so that what a variable holds
// cannot change the structure of a policy; and not in keys.
func (p *parser) expand(at policy.Place, s string) string {
	if !strings.Contains(s, "${") {
		return s
	}
	return reference.ReplaceAllStringFunc(s, func(ref string) string {
		if strings.HasPrefix(ref, "$$") {
			return ref[1:]
		}
		m := variable.FindStringSubmatch(ref)
		if m == nil {
			p.error(at, "bad-variable", "%q is no variable: ${NAME}, of letters, digits and underscores", ref).
				WithHint("write $${ for the characters ${ themselves")
			return ref
		}
		v, ok := p.getenv(m[1])
		if !ok {
			p.error(at, "undefined-variable", "variable %s is not defined", m[1]).
				WithHint("set %s in the environment, or write $${%s} for these characters themselves", m[1], m[1])
		}
		p.fromEnv[at.Path] = true
		return v
	})
}

// splitsValues are the operators whose values cannot hold a space or a comma: there a variable may hold several of them, as
// PODCIDR does on a cluster of several nodes.
func splitsValues(operator string) bool {
	switch strings.TrimPrefix(operator, "Not") {
	case "SAddr", "DAddr", "SPort", "DPort":
		return true
	}
	return false
}

// splitValues makes several values of those that came from a variable.
func (p *parser) splitValues(m *policy.ArgMatch) {
	if !splitsValues(m.Operator.Value) {
		return
	}
	var out []policy.Text
	for _, v := range m.Values {
		if !p.fromEnv[v.Path] {
			out = append(out, v)
			continue
		}
		words := strings.FieldsFunc(v.Value, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' || r == '\r' })
		if len(words) == 0 && !p.failed(v.Place) {
			p.error(v.Place, "empty-variable", "nothing is left of this value: the variable is empty").
				WithHint("give it an address, or take the value out")
		}
		for _, w := range words {
			out = append(out, policy.Text{Place: v.Place, Value: w})
		}
	}
	m.Values = out
}
