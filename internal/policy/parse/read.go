// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"tetragon/internal/nearest"
	"tetragon/internal/policy"
)

// field is one row of the schema: the name in the text, the member of the model that it fills, and what it may be.
type field[T any] struct {
	name string
	to   func(*T) any // pointer to the member; nil: a mapping whose fields are those of sub
	rule rule
	doc  string // what it means, in a sentence or two; of ignored ones all the same
	sub  []field[T]
}

// rule is what a value may be. The zero rule allows everything that the member can hold.
type rule struct {
	need     bool   // must be there
	full     bool   // must not be empty: text or list
	enum     *enum  // texts: one of these
	std      string // texts: what it is if it is absent
	yes      bool   // truth values: true if absent
	min, max int64  // numbers; max 0: no bound but that of 32 bits, unsigned
	wide     bool   // numbers: 64 bits
	most     int    // lists: entries
	ignored  bool   // known, of no meaning to a policy, filled in by the API server
	internal bool   // likewise, but written by hand
}

// node is a piece of YAML and where it is.
type node struct {
	*yaml.Node
	at policy.Place
}

// Bounds of a document's shape. Aliases are counted as often as they are used, so that a few lines cannot become millions.
const (
	maxNodes = 400_000
	maxDepth = 32
)

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// follow resolves aliases, and counts.
func (p *parser) follow(n *yaml.Node, at policy.Place) (node, bool) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	p.nodes++
	if p.nodes == maxNodes {
		p.error(at, "too-large", "the text has more than %d parts, aliases counted as often as they are used", maxNodes)
	}
	return node{n, at}, p.nodes < maxNodes
}

// under is the place of something below another.
func under(at policy.Place, n *yaml.Node, path string) policy.Place {
	return policy.Place{Line: n.Line, Column: n.Column, Path: path}
}

func member(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// pair is a key and its value; from a merged mapping if there is one ("<<").
type pair struct {
	key    *yaml.Node
	value  *yaml.Node
	merged bool
}

// pairs lists what a mapping holds, with what is merged into it at the end.
func (p *parser) pairs(n *yaml.Node, at policy.Place, depth int) []pair {
	var out, merged []pair
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.ShortTag() != "!!merge" {
			out = append(out, pair{k, v, false})
			continue
		}
		from := []*yaml.Node{v}
		if v.Kind == yaml.SequenceNode {
			from = v.Content
		}
		for _, f := range from {
			m, ok := p.follow(f, at)
			if !ok || m.Kind != yaml.MappingNode || depth > maxDepth {
				p.error(under(at, k, at.Path), "wrong-type", "<< merges a mapping, or a list of them")
				continue
			}
			for _, x := range p.pairs(m.Node, at, depth+1) {
				x.merged = true
				merged = append(merged, x)
			}
		}
	}
	return append(out, merged...)
}

// mapping calls f for each entry of a mapping, once for each key.
func (p *parser) mapping(n node, f func(key *yaml.Node, v node)) bool {
	if n.Kind != yaml.MappingNode {
		p.error(n.at, "wrong-type", "this is %s; it must be a mapping", kindOf(n.Node))
		return false
	}
	if strings.Count(n.at.Path, ".")+strings.Count(n.at.Path, "[") > maxDepth {
		p.error(n.at, "too-large", "nothing of a policy lies so deep")
		return false
	}
	seen := make(map[string]*yaml.Node)
	for _, x := range p.pairs(n.Node, n.at, 0) {
		k := x.key
		for k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			p.error(under(n.at, x.key, n.at.Path), "wrong-type", "a key is a word, not %s", kindOf(k))
			continue
		}
		path := member(n.at.Path, k.Value)
		if first := seen[k.Value]; first != nil {
			if !x.merged { // what a mapping says itself goes before what is merged into it
				p.error(under(n.at, x.key, path), "duplicate-key", "%s is there twice", k.Value).WithNote("the first is in line %d", first.Line)
			}
			continue
		}
		seen[k.Value] = x.key
		at := under(n.at, x.value, path)
		if x.value.Kind == yaml.MappingNode || x.value.Kind == yaml.SequenceNode || isNull(x.value) {
			at = under(n.at, x.key, path) // they begin below their key
		}
		v, ok := p.follow(x.value, at)
		if !ok {
			return false
		}
		f(k, v)
	}
	return true
}

// object reads a mapping along its fields.
func object[T any](p *parser, n node, t *T, fs []field[T]) {
	setPlace(t, n.at)
	fill(p, n, t, fs)
}

func fill[T any](p *parser, n node, t *T, fs []field[T]) {
	there, read := make(map[string]bool), make(map[string]bool)
	ok := p.mapping(n, func(key *yaml.Node, v node) {
		f := find(fs, key.Value)
		if f == nil {
			if meant := unknownField(p, under(n.at, key, v.at.Path), key.Value, fs); meant != "" {
				there[meant] = true // it is not missing, but misspelt
			}
			return
		}
		there[f.name], read[f.name] = true, true
		switch {
		case f.rule.internal:
			p.warn(v.at, "unused-field", "%s has no effect", f.name).WithHint("take it out")
		case f.rule.ignored:
		case isNull(v.Node) && f.rule.need:
			p.error(v.at, "missing-field", "%s has no value", f.name)
			read[f.name] = false
		case isNull(v.Node):
			p.warn(v.at, "empty-field", "%s has no value; it is as if it were not there", f.name).WithHint("take it out")
			there[f.name], read[f.name] = false, false
		case f.to == nil:
			fill(p, v, t, f.sub)
		default:
			p.value(v, f.to(t), f.rule)
		}
	})
	for i := range fs {
		f := &fs[i]
		if read[f.name] || f.rule.ignored || f.rule.internal {
			continue
		}
		at := n.at
		at.Path = member(n.at.Path, f.name)
		if f.rule.need && ok && !there[f.name] {
			p.error(at, "missing-field", "%s is missing", f.name)
		}
		if f.to == nil {
			fillAbsent(t, at, f.sub)
		} else {
			absent(f.to(t), at, f.rule)
		}
	}
}

func fillAbsent[T any](t *T, at policy.Place, fs []field[T]) {
	for i := range fs {
		if fs[i].to == nil {
			continue
		}
		at := at
		at.Path = member(at.Path, fs[i].name)
		absent(fs[i].to(t), at, fs[i].rule)
	}
}

// absent gives a member its default, and the place where it would be.
func absent(to any, at policy.Place, r rule) {
	switch x := to.(type) {
	case *policy.Text:
		*x = policy.Text{Place: at, Value: r.std}
	case *policy.Int:
		*x = policy.Int{Place: at}
	case *policy.Bool:
		*x = policy.Bool{Place: at, Value: r.yes}
	}
}

func find[T any](fs []field[T], name string) *field[T] {
	for i := range fs {
		if fs[i].name == name {
			return &fs[i]
		}
	}
	return nil
}

// unknownField tells of a field that there is not, and returns the one that was probably meant.
func unknownField[T any](p *parser, at policy.Place, name string, fs []field[T]) string {
	x := p.error(at, "unknown-field", "there is no field %q here", name)
	if h := oldFields[name]; h != "" {
		x.WithHint("%s", h)
		return ""
	}
	var names []string
	for i := range fs {
		names = append(names, fs[i].name)
	}
	meant := nearest.Name(name, names)
	switch {
	case meant != "":
		x.WithHint("did you mean %q?", meant)
	case homes[name] != "":
		x.WithHint("%s belongs into %s", name, homes[name])
	case len(names) <= 12:
		x.WithHint("there are: %s", strings.Join(names, ", "))
	}
	return meant
}

// setPlace says where an object of the model stands; each has a Place, most by embedding.
func setPlace(t any, at policy.Place) {
	reflect.ValueOf(t).Elem().FieldByName("Place").Set(reflect.ValueOf(at))
}

// sequence calls f for each entry of a list.
func (p *parser) sequence(n node, r rule, f func(v node)) {
	if n.Kind != yaml.SequenceNode {
		x := p.error(n.at, "wrong-type", "this is %s; it must be a list", kindOf(n.Node))
		if n.Kind == yaml.ScalarNode {
			x.WithHint("[%s]", n.Value)
		} else {
			x.WithHint("put - before its entries")
		}
		return
	}
	if r.full && len(n.Content) == 0 {
		p.error(n.at, "empty-field", "this list is empty; it must have an entry")
	}
	if r.most > 0 && len(n.Content) > r.most {
		p.error(n.at, "too-many", "there are %d entries; there can be %d", len(n.Content), r.most)
	}
	for i, c := range n.Content {
		v, ok := p.follow(c, under(n.at, c, n.at.Path+"["+strconv.Itoa(i)+"]"))
		if !ok {
			return
		}
		if isNull(v.Node) {
			p.error(v.at, "wrong-type", "this entry has no value")
			continue
		}
		f(v)
	}
}

// objects reads a list of mappings.
func objects[T any](p *parser, n node, r rule, out *[]T, fs []field[T]) {
	p.sequence(n, r, func(v node) {
		var t T
		object(p, v, &t, fs)
		if v.Kind == yaml.MappingNode {
			*out = append(*out, t)
		}
	})
}

func one[T any](p *parser, n node, out **T, fs []field[T]) {
	*out = new(T)
	object(p, n, *out, fs)
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		return "the value " + strconv.Quote(clip(n.Value))
	}
	return "nothing"
}

// clip shortens what is quoted in a diagnostic.
func clip(s string) string {
	if len(s) > 60 {
		return s[:57] + "..."
	}
	return s
}

// scalar returns the text of a scalar, variables put in.
func (p *parser) scalar(n node, want string) (string, bool) {
	if n.Kind != yaml.ScalarNode {
		p.error(n.at, "wrong-type", "this is %s; it must be %s", kindOf(n.Node), want)
		return "", false
	}
	if n.Style&yaml.TaggedStyle != 0 && n.Tag != "!!str" && n.Tag != "!!int" && n.Tag != "!!bool" && n.Tag != "!!float" {
		p.error(n.at, "wrong-type", "the tag %s has no meaning in a policy", n.Tag).WithHint("take it out")
		return "", false
	}
	return p.expand(n.at, n.Value), true
}

func (p *parser) text(n node, t *policy.Text, r rule) {
	t.Place = n.at
	s, ok := p.scalar(n, "a text")
	if !ok {
		return
	}
	if r.full && s == "" && !p.failed(n.at) {
		p.error(n.at, "empty-field", "this must not be empty")
		return
	}
	if r.enum != nil && !p.failed(n.at) {
		s = p.oneOf(n.at, s, r.enum)
	}
	t.Value = s
}

// bounds are the least and the greatest number that a rule allows.
func (r rule) bounds() (lo, hi int64) {
	switch {
	case r.max != 0:
		return r.min, r.max
	case r.wide:
		return r.min, math.MaxInt64
	}
	return r.min, math.MaxUint32
}

// number reads a number in decimal, hexadecimal (0x), octal (0, 0o) or binary (0b), quoted or not.
func (p *parser) number(n node, t *policy.Int, r rule) {
	t.Place = n.at
	s, ok := p.scalar(n, "a number")
	if !ok || p.failed(n.at) {
		return
	}
	v, err := strconv.ParseInt(strings.TrimSpace(s), 0, 64)
	lo, hi := r.bounds()
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		x := p.error(n.at, "wrong-type", "%q is no number", clip(s))
		if _, err := strconv.ParseInt(strings.TrimLeft(s, "0"), 10, 64); err == nil {
			x.WithHint("a number that begins with 0 is octal")
		}
	case err != nil, v < lo, v > hi:
		p.error(n.at, "out-of-range", "%s is not between %d and %d", clip(s), lo, hi)
	default:
		t.Value, t.Set = v, true
	}
}

// truths are what YAML 1.1 and 1.2 call true and false.
var truths = map[string]bool{
	"true": true, "yes": true, "on": true, "y": true, "false": false, "no": false, "off": false, "n": false,
}

func (p *parser) truth(n node, t *policy.Bool, r rule) {
	t.Place, t.Value = n.at, r.yes
	s, ok := p.scalar(n, "true or false")
	if !ok || p.failed(n.at) {
		return
	}
	v, ok := truths[strings.ToLower(s)]
	quoted := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 && !p.fromEnv[n.at.Path]
	if !ok || quoted {
		x := p.error(n.at, "wrong-type", "%q is neither true nor false", clip(s))
		if ok {
			x.WithHint("without quotes")
		}
		return
	}
	t.Value, t.Set = v, true
}

// form is how a member of the model stands in the text.
type form struct {
	word   string // for who asks what it is: "[]Object"
	read   func(*parser, node, rule)
	fields func() []Field // of an object, and of the objects in a list or a mapping; nil: there are none
}

// value reads whatever a member of the model is.
func (p *parser) value(n node, to any, r rule) {
	f, ok := formOf(to)
	if !ok {
		panic("bug: the schema has a member that nothing reads: " + n.at.Path)
	}
	f.read(p, n, r)
}

// listOf, objectOf and formOf say how members stand.
func listOf[T any](x *[]T, fs []field[T]) form {
	return form{"[]Object", func(p *parser, n node, r rule) { objects(p, n, r, x, fs) }, func() []Field { return describe(fs) }}
}

func objectOf[T any](x **T, fs []field[T]) form {
	return form{"Object", func(p *parser, n node, _ rule) { one(p, n, x, fs) }, func() []Field { return describe(fs) }}
}

func formOf(to any) (form, bool) {
	var f form
	switch x := to.(type) {
	case *policy.Text:
		f = form{"string", func(p *parser, n node, r rule) { p.text(n, x, r) }, nil}
	case *policy.Int:
		f = form{"integer", func(p *parser, n node, r rule) { p.number(n, x, r) }, nil}
	case *policy.Bool:
		f = form{"boolean", func(p *parser, n node, r rule) { p.truth(n, x, r) }, nil}
	case *[]policy.Text:
		f = form{"[]string", func(p *parser, n node, r rule) {
			p.sequence(n, r, func(v node) {
				var t policy.Text
				p.text(v, &t, rule{enum: r.enum})
				*x = append(*x, t)
			})
		}, nil}
	case *[]policy.Int:
		f = form{"[]integer", func(p *parser, n node, r rule) {
			p.sequence(n, r, func(v node) {
				var t policy.Int
				p.number(v, &t, rule{min: r.min, max: r.max, wide: r.wide})
				*x = append(*x, t)
			})
		}, nil}
	case *[]policy.Kprobe:
		f = listOf(x, kprobeFields)
	case *[]policy.Tracepoint:
		f = listOf(x, tracepointFields)
	case *[]policy.Uprobe:
		f = listOf(x, uprobeFields)
	case *[]policy.Usdt:
		f = listOf(x, usdtFields)
	case *[]policy.LsmHook:
		f = listOf(x, lsmFields)
	case *[]policy.Enforcer:
		f = listOf(x, enforcerFields)
	case *[]policy.List:
		f = listOf(x, listFields)
	case *[]policy.Option:
		f = listOf(x, optionFields)
	case *[]policy.Arg:
		f = listOf(x, argFields)
	case **policy.Arg:
		f = objectOf(x, argFields)
	case *[]policy.Selector:
		f = listOf(x, selectorFields)
	case *[]policy.Macro:
		f = form{"map[string]Object", func(p *parser, n node, _ rule) {
			p.mapping(n, func(key *yaml.Node, v node) {
				m := policy.Macro{Name: policy.Text{Place: under(n.at, key, v.at.Path), Value: key.Value}}
				object(p, v, &m.Selector, selectorFields)
				*x = append(*x, m)
			})
		}, func() []Field { return describe(selectorFields) }}
	case *[]policy.PIDMatch:
		f = listOf(x, pidFields)
	case *[]policy.BinaryMatch:
		f = listOf(x, binaryFields)
	case *[]policy.ArgMatch:
		f = listOf(x, argMatchFields)
	case namespaces:
		f = listOf(x.to, namespaceFields)
	case namespaceChanges:
		f = listOf(x.to, namespaceChangeFields)
	case *[]policy.CapabilityMatch:
		f = listOf(x, capabilityFields)
	case **policy.WorkloadMatch:
		f = objectOf(x, workloadFields)
	case *[]policy.Action:
		f = listOf(x, actionFields)
	case *[]labelExpression:
		f = listOf(x, labelExpressionFields)
	case **policy.LabelSelector:
		f = form{"Object", func(p *parser, n node, _ rule) { p.labelSelector(n, x) }, func() []Field { return describe(labelFields) }}
	case *map[string]string:
		f = form{"map[string]string", func(p *parser, n node, _ rule) { p.texts(n, x) }, nil}
	}
	return f, f.read != nil
}

// texts reads a mapping of texts to texts.
func (p *parser) texts(n node, to *map[string]string) {
	*to = make(map[string]string)
	p.mapping(n, func(key *yaml.Node, v node) {
		if s, ok := p.scalar(v, "a text"); ok {
			(*to)[key.Value] = s
			p.words[v.at.Path] = v.at
		}
	})
}
