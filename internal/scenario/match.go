// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// query describes an event: its type and conditions on its fields.
type query struct {
	kind     string // "process_exec", ...; "any" for all
	conds    []cond
	captures []capture
}

type operator string

const (
	opEqual   operator = "="
	opDiffers operator = "!="
	opRegexp  operator = "~"
	opAtLeast operator = ">="
	opAtMost  operator = "<="
	opPresent operator = "?"
	opAbsent  operator = "!"
)

// cond is one condition.
type cond struct {
	text   string // as written
	path   path
	op     operator
	want   string         // after = and !=
	re     *regexp.Regexp // after ~, and of a want with '*'
	bound  int64          // after >= and <=
	chunks [][]byte       // bytes that a matching line must hold
}

// capture gives the value at a path a name.
type capture struct {
	name string
	path path
}

// path leads to values inside an event.
type path struct {
	envelope bool // from the outermost object instead of the event's
	length   bool // the length of the value in bytes or elements
	steps    []string
}

var (
	captureSyntax = regexp.MustCompile(`^([A-Z][A-Z0-9_]*):=(.+)$`)
	condSyntax    = regexp.MustCompile(`(?s)^([A-Za-z0-9_.\[\]()]+)(!=|>=|<=|=|~|\?)(.*)$`)
	absentSyntax  = regexp.MustCompile(`^!([A-Za-z0-9_.\[\]()]+)$`)
	stepSyntax    = regexp.MustCompile(`^[A-Za-z0-9_]+(\[[0-9]*\])*$`)
)

// parseQuery reads TYPE CONDITION...
func parseQuery(args []string) (*query, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("want an event type and conditions")
	}
	q := &query{kind: args[0]}
	if strings.ContainsAny(q.kind, "=?.") {
		return nil, fmt.Errorf("%q: want an event type first, such as process_exec", q.kind)
	}
	for _, arg := range args[1:] {
		if m := captureSyntax.FindStringSubmatch(arg); m != nil {
			p, err := parsePath(m[2])
			if err != nil {
				return nil, err
			}
			q.captures = append(q.captures, capture{name: m[1], path: p})
			continue
		}
		c, err := parseCond(arg)
		if err != nil {
			return nil, err
		}
		q.conds = append(q.conds, c)
	}
	return q, nil
}

func parseCond(arg string) (cond, error) {
	c := cond{text: arg}
	var err error
	if m := absentSyntax.FindStringSubmatch(arg); m != nil {
		c.op = opAbsent
		c.path, err = parsePath(m[1])
		return c, err
	}
	m := condSyntax.FindStringSubmatch(arg)
	if m == nil {
		return c, fmt.Errorf("%q: want path=value, path!=value, path~regexp, path>=n, path<=n, path?, !path or NAME:=path", arg)
	}
	if c.path, err = parsePath(m[1]); err != nil {
		return c, err
	}
	c.op, c.want = operator(m[2]), m[3]
	switch c.op {
	case opRegexp:
		if c.re, err = regexp.Compile(c.want); err != nil {
			return c, fmt.Errorf("%q: %w", arg, err)
		}
	case opAtLeast, opAtMost:
		if c.bound, err = strconv.ParseInt(c.want, 10, 64); err != nil {
			return c, fmt.Errorf("%q: %q is no number", arg, c.want)
		}
	case opEqual, opDiffers:
		parts := strings.Split(c.want, "*")
		if len(parts) > 1 {
			quoted := make([]string, len(parts))
			for i, p := range parts {
				quoted[i] = regexp.QuoteMeta(p)
			}
			c.re = regexp.MustCompile("(?s)^" + strings.Join(quoted, ".*") + "$")
		}
		if c.op == opEqual && !c.path.length {
			for _, p := range parts {
				if plainJSON(p) {
					c.chunks = append(c.chunks, []byte(p))
				}
			}
		}
	case opPresent:
		if c.want != "" {
			return c, fmt.Errorf("%q: nothing follows the ?", arg)
		}
	}
	return c, nil
}

// plainJSON says whether s looks the same inside any JSON text. A list is compared as one string with commas, which the
// text has not.
func plainJSON(s string) bool {
	for _, r := range s {
		if r < ' ' || r > '~' || strings.ContainsRune(`"\<>&,`, r) {
			return false
		}
	}
	return s != ""
}

func parsePath(s string) (path, error) {
	var p path
	if inner, ok := strings.CutPrefix(s, "len("); ok && strings.HasSuffix(inner, ")") {
		p.length = true
		s = strings.TrimSuffix(inner, ")")
	}
	if rest, ok := strings.CutPrefix(s, "."); ok {
		p.envelope = true
		s = rest
	}
	for _, step := range strings.Split(s, ".") {
		if !stepSyntax.MatchString(step) {
			return p, fmt.Errorf("%q: bad path, want a.b, a[0].b, a[].b, .envelope_field or len(path)", s)
		}
		name, index, _ := strings.Cut(step, "[")
		p.steps = append(p.steps, name)
		for index != "" {
			var one string
			one, index, _ = strings.Cut(index, "]")
			p.steps = append(p.steps, "["+one)
			index = strings.TrimPrefix(index, "[")
		}
	}
	return p, nil
}

// event is one exported line.
type event struct {
	kind     string
	inner    map[string]any
	envelope map[string]any
}

// parseEvent reads one line of the export.
func parseEvent(line []byte) (*event, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	e := &event{}
	if err := d.Decode(&e.envelope); err != nil {
		return nil, fmt.Errorf("broken JSON: %w: %.200s", err, line)
	}
	for k, v := range e.envelope {
		switch k {
		case "node_name", "time", "aggregation_info", "cluster_name", "node_labels":
			continue
		}
		inner, ok := v.(map[string]any)
		if !ok || e.kind != "" {
			return nil, fmt.Errorf("want exactly one event in a line: %.200s", line)
		}
		e.kind, e.inner = k, inner
	}
	if e.kind == "" {
		return nil, fmt.Errorf("no event in a line: %.200s", line)
	}
	return e, nil
}

// mayMatch says whether a line is worth parsing.
func (q *query) mayMatch(line []byte) bool {
	if q.kind != "any" && !bytes.HasPrefix(line, []byte(`{"`+q.kind+`"`)) {
		return false
	}
	for i := range q.conds {
		for _, c := range q.conds[i].chunks {
			if !bytes.Contains(line, c) {
				return false
			}
		}
	}
	return true
}

// misses gives the conditions that an event does not meet.
func (q *query) misses(e *event) []string {
	var out []string
	for i := range q.conds {
		if ok, found := q.conds[i].holds(e); !ok {
			out = append(out, fmt.Sprintf("%s (found %s)", q.conds[i].text, found))
		}
	}
	return out
}

// holds says whether a condition is met, and what was found.
func (c *cond) holds(e *event) (bool, string) {
	values := c.path.values(e)
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = valueText(v)
	}
	found := "nothing"
	if len(texts) > 0 {
		found = fmt.Sprintf("%.300q", texts)
	}
	switch c.op {
	case opPresent:
		return len(values) > 0, found
	case opAbsent:
		return len(values) == 0, found
	case opDiffers:
		for _, t := range texts {
			if c.same(t) {
				return false, found
			}
		}
		return true, found
	}
	for _, t := range texts {
		if c.same(t) {
			return true, found
		}
	}
	return false, found
}

func (c *cond) same(text string) bool {
	switch {
	case c.op == opAtLeast || c.op == opAtMost:
		n, err := strconv.ParseInt(text, 10, 64)
		return err == nil && (c.op == opAtLeast && n >= c.bound || c.op == opAtMost && n <= c.bound)
	case c.re != nil:
		return c.re.MatchString(text)
	}
	return text == c.want
}

// values gives what is at a path: nothing, one value, or with [] any number.
func (p path) values(e *event) []any {
	at := []any{any(e.inner)}
	if p.envelope {
		at = []any{any(e.envelope)}
	}
	for _, step := range p.steps {
		var next []any
		for _, v := range at {
			switch v := v.(type) {
			case map[string]any:
				if x, ok := v[step]; ok {
					next = append(next, x)
				}
			case []any:
				if step == "[" {
					next = append(next, v...)
				} else if n, err := strconv.Atoi(strings.TrimPrefix(step, "[")); err == nil && n < len(v) {
					next = append(next, v[n])
				}
			}
		}
		at = next
	}
	if p.length {
		for i, v := range at {
			switch v := v.(type) {
			case string:
				at[i] = json.Number(strconv.Itoa(len(v)))
			case []any:
				at[i] = json.Number(strconv.Itoa(len(v)))
			}
		}
	}
	return at
}

// valueText gives a value as conditions compare it: a list as its elements with commas.
func valueText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	case nil:
		return "null"
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = valueText(v[i])
		}
		return strings.Join(parts, ",")
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
