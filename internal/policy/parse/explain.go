// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tetragon/internal/nearest"
	"tetragon/internal/policy"
)

// Field is what the language says of one field.
type Field struct {
	Name     string   `json:"name" yaml:"name"`
	Type     string   `json:"type" yaml:"type"` // "string", "[]Object"; "any" if nobody looks at it
	Required bool     `json:"required,omitempty" yaml:"required,omitempty"`
	Enum     []string `json:"enum,omitempty" yaml:"enum,omitempty"`
	Default  string   `json:"default,omitempty" yaml:"default,omitempty"` // empty: nothing, 0, false
	Minimum  *int64   `json:"minimum,omitempty" yaml:"minimum,omitempty"`
	Maximum  *int64   `json:"maximum,omitempty" yaml:"maximum,omitempty"`
	MaxItems int      `json:"maxItems,omitempty" yaml:"maxItems,omitempty"` // 0: no bound
	Doc      string   `json:"description" yaml:"description"`
	Fields   []Field  `json:"fields,omitempty" yaml:"fields,omitempty"`
}

// Resource is a kind of policy, by all its names.
type Resource struct {
	Kind, Plural, Singular, Short string

	kind policy.Kind
	doc  string
}

var resources = []Resource{
	{"TracingPolicy", "tracingpolicies", "tracingpolicy", "tgtp", policy.KindCluster,
		"A policy for the whole machine: what is watched, and what is done about it."},
	{"TracingPolicyNamespaced", "tracingpoliciesnamespaced", "tracingpolicynamespaced", "tgtpn", policy.KindNamespaced,
		"A policy for the pods of one namespace. Refused so far: this version does not follow Kubernetes yet."},
}

// Resources lists the kinds of policies.
func Resources() []Resource { return slices.Clone(resources) }

// Explained is a field, the resource that it belongs to, and where it stands there.
type Explained struct {
	Group   string   `json:"group" yaml:"group"`
	Version string   `json:"version" yaml:"version"`
	Kind    string   `json:"kind" yaml:"kind"`
	Path    []string `json:"path,omitempty" yaml:"path,omitempty"` // empty: the resource itself
	Field   `yaml:",inline"`
}

const ignoredDoc = "Filled in by the API server; it has no meaning to a policy."

// Explain finds what a text such as "tgtp.spec.kprobes[0].call" is about: a resource by any of its names, and fields. Indexes
// and names of macros may be there.
func Explain(what string) (*Explained, error) {
	parts, err := pathParts(what)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, r := range resources {
		of := []string{r.Kind, r.Plural, r.Singular, r.Short}
		if slices.ContainsFunc(of, func(n string) bool { return strings.EqualFold(n, parts[0]) }) {
			return r.find(parts[1:])
		}
		names = append(names, of...)
	}
	if n := strings.ToLower(parts[0]); n == "podinfo" || n == "tgpi" {
		return nil, fmt.Errorf("%s is not supported: this version does not follow Kubernetes yet", parts[0])
	}
	return nil, fmt.Errorf("there is no resource %q; %s", clip(parts[0]), meant(parts[0], names))
}

// meant ends an error about a name that there is not.
func meant(name string, names []string) string {
	if s := nearest.Name(name, names); s != "" {
		return fmt.Sprintf("did you mean %q?", s)
	}
	return "there are " + strings.Join(names, ", ")
}

func (r *Resource) find(parts []string) (*Explained, error) {
	e := &Explained{Group: group, Version: version, Kind: r.Kind, Field: Field{Name: r.Kind, Type: "Object", Doc: r.doc, Fields: describe(documentFields)}}
	inMap := false // below a mapping, whose keys may be anything
	for _, part := range parts {
		var names []string
		for _, f := range e.Fields {
			names = append(names, f.Name)
		}
		switch at := slices.Index(names, part); {
		case at >= 0:
			e.Field = e.Fields[at]
			e.Path = append(e.Path, e.Name)
			inMap = strings.HasPrefix(e.Type, "map[")
			continue
		case inMap && (len(names) == 0 || nearest.Name(part, names) == ""):
			inMap = false
			continue
		}
		where := strings.Join(append([]string{r.Kind}, e.Path...), ".")
		if len(names) == 0 {
			return nil, fmt.Errorf("there is no field %q in %s: it is of type %s", clip(part), where, e.Type)
		}
		return nil, fmt.Errorf("there is no field %q in %s; %s", clip(part), where, meant(part, names))
	}
	return e, nil
}

// pathParts takes a.b[0].c or a[b]["c"] apart, and leaves numbers out.
func pathParts(path string) ([]string, error) {
	bad := fmt.Errorf("%q is no path: RESOURCE.FIELD.FIELD, or RESOURCE[FIELD][FIELD]", clip(path))
	var out []string
	for rest := path; rest != ""; {
		var part string
		if inner, ok := strings.CutPrefix(rest, "["); ok {
			if part, rest, ok = strings.Cut(inner, "]"); !ok {
				return nil, bad
			}
			part = strings.Trim(part, `"'`)
		} else {
			if rest != path {
				rest = strings.TrimPrefix(rest, ".")
			}
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			part, rest = rest[:end], rest[end:]
		}
		if part == "" || rest == "." || rest != "" && rest[0] != '.' && rest[0] != '[' {
			return nil, bad
		}
		if _, err := strconv.ParseUint(part, 10, 64); err != nil {
			out = append(out, part)
		}
	}
	if len(out) == 0 {
		return nil, bad
	}
	return out, nil
}

// describe says what the rows of the schema say.
func describe[T any](fs []field[T]) []Field {
	var out []Field
	var t T
	for i := range fs {
		f := &fs[i]
		x := Field{Name: f.name, Required: f.rule.need, Default: f.rule.std, MaxItems: f.rule.most, Doc: f.doc}
		if f.rule.enum != nil {
			x.Enum = slices.Clone(f.rule.enum.names)
		}
		if f.rule.yes {
			x.Default = "true"
		}
		switch {
		case f.rule.ignored:
			x.Type, x.Doc = "any", ignoredDoc
		case f.rule.internal:
			x.Type = "any"
		case f.to == nil:
			x.Type, x.Fields = "Object", describe(f.sub)
		default:
			as, _ := formOf(f.to(&t))
			if x.Type = as.word; as.fields != nil {
				x.Fields = as.fields()
			}
		}
		if strings.HasSuffix(x.Type, "integer") {
			lo, hi := f.rule.bounds()
			x.Minimum, x.Maximum = &lo, &hi
		}
		out = append(out, x)
	}
	return out
}
