// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"fmt"
	"regexp"
	"strings"

	"tetragon/internal/policy"
)

// labelExpression is policy.LabelExpression with the places of its parts.
type labelExpression struct {
	policy.Place
	key, operator policy.Text
	values        []policy.Text
}

// labels is policy.LabelSelector likewise.
type labels struct {
	policy.Place
	match       map[string]string
	expressions []labelExpression
}

var labelFields = []field[labels]{
	{name: "matchLabels", to: func(l *labels) any { return &l.match },
		doc: "Labels and their values, all of which must be there."},
	{name: "matchExpressions", to: func(l *labels) any { return &l.expressions },
		doc: "Conditions on labels, all of which must hold."},
}

var labelExpressionFields = []field[labelExpression]{
	{name: "key", to: func(e *labelExpression) any { return &e.key }, rule: rule{need: true, full: true},
		doc: "The label."},
	{name: "operator", to: func(e *labelExpression) any { return &e.operator }, rule: rule{need: true, enum: &labelOperators},
		doc: "In and NotIn compare the value of the label, Exists and DoesNotExist look only whether it is there."},
	{name: "values", to: func(e *labelExpression) any { return &e.values },
		doc: "Values for In and NotIn; none for the others."},
}

// labelSelector reads a label selector of Kubernetes.
func (p *parser) labelSelector(n node, to **policy.LabelSelector) {
	var l labels
	object(p, n, &l, labelFields)
	s := &policy.LabelSelector{Place: l.Place, MatchLabels: l.match}
	for _, k := range sortedKeys(l.match) {
		at := p.words[member(n.at.Path, "matchLabels."+k)]
		if why := badLabelKey(k); why != "" {
			p.error(at, "bad-label", "%q is no key of a label: %s", clip(k), why)
		} else if why := badLabelValue(l.match[k]); why != "" {
			p.error(at, "bad-label", "%q is no value of a label: %s", clip(l.match[k]), why)
		}
	}
	for i := range l.expressions {
		e := &l.expressions[i]
		x := policy.LabelExpression{Key: e.key.Value, Operator: e.operator.Value}
		if why := badLabelKey(e.key.Value); why != "" && !p.failed(e.key.Place) && e.key.Value != "" {
			p.error(e.key.Place, "bad-label", "%q is no key of a label: %s", clip(e.key.Value), why)
		}
		for _, v := range e.values {
			if why := badLabelValue(v.Value); why != "" && !p.failed(v.Place) {
				p.error(v.Place, "bad-label", "%q is no value of a label: %s", clip(v.Value), why)
			}
			x.Values = append(x.Values, v.Value)
		}
		switch in := strings.HasSuffix(e.operator.Value, "In"); {
		case in && len(e.values) == 0:
			p.error(e.Place, "no-values", "operator %s needs values", e.operator.Value)
		case !in && e.operator.Value != "" && len(e.values) > 0:
			p.error(e.Place, "unexpected-values", "operator %s has no values", e.operator.Value)
		}
		s.Expressions = append(s.Expressions, x)
	}
	*to = s
}

// labelWord is a name in a key of a label, and a value that is not empty.
var labelWord = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)

const wordRule = "letters, digits, -, _ and . between them"

// badLabelKey says why a text is no key of a label: "name", or "domain/name".
func badLabelKey(k string) string {
	name := k
	if domain, rest, ok := strings.Cut(k, "/"); ok {
		name = rest
		// The API server's own label for a pod's namespace has a domain with a colon.
		if domain = strings.TrimPrefix(domain, "k8s:"); len(domain) > maxName || !subdomain.MatchString(domain) {
			return "what is before / must be a domain"
		}
	}
	name = strings.TrimPrefix(name, "k8s:")
	if len(name) > maxLabel {
		return fmt.Sprintf("it may have %d characters", maxLabel)
	}
	if !labelWord.MatchString(name) {
		return wordRule
	}
	return ""
}

func badLabelValue(v string) string {
	if len(v) > maxLabel {
		return fmt.Sprintf("it may have %d characters", maxLabel)
	}
	if v != "" && !labelWord.MatchString(v) {
		return wordRule
	}
	return ""
}
