// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"sort"
	"strings"

	"tetragon/internal/policy/expr"
)

// Diagnostic is one thing that is wrong, or odd, with a policy.
type Diagnostic struct {
	Place
	Warning bool   // it is accepted all the same
	Code    string // stable, for documentation and tests: "unknown-operator"
	Text    string
	Notes   []string // facts that explain it
	Hint    string   // what to change
}

// Diagnostics is all that is to be said of one policy.
type Diagnostics struct {
	File string
	List []Diagnostic

	// Sound is, where the text has mistakes, the policy without the hooks that have some: the compiler tells what is wrong
	// with the others, so that an author learns all in one round. It is never loaded. Nil if others depend on what is wrong.
	Sound *Policy
}

// Add takes over what another step has to say.
func (d *Diagnostics) Add(more *Diagnostics) {
	if more == nil {
		return
	}
	d.List = append(d.List, more.List...)
	d.Sort()
}

// Error adds a mistake.
func (d *Diagnostics) Error(at Place, code, format string, args ...any) *Diagnostic {
	d.List = append(d.List, Diagnostic{Place: at, Code: code, Text: fmt.Sprintf(format, args...)})
	return &d.List[len(d.List)-1]
}

// Warn adds a warning.
func (d *Diagnostics) Warn(at Place, code, format string, args ...any) *Diagnostic {
	x := d.Error(at, code, format, args...)
	x.Warning = true
	return x
}

// WithHint says what to change. The result of Error and Warn is valid until the next of them.
func (x *Diagnostic) WithHint(format string, args ...any) *Diagnostic {
	x.Hint = fmt.Sprintf(format, args...)
	return x
}

// WithNote adds a fact.
func (x *Diagnostic) WithNote(format string, args ...any) *Diagnostic {
	x.Notes = append(x.Notes, fmt.Sprintf(format, args...))
	return x
}

// WithMark shows an expression that is wrong, with a mark below what is meant, and what to change in it.
func (x *Diagnostic) WithMark(wrong *expr.Error) *Diagnostic {
	x.Notes = append(x.Notes, wrong.Mark()...)
	x.Hint = wrong.Hint
	return x
}

// Bad says whether there is a mistake among them.
func (d *Diagnostics) Bad() bool {
	for i := range d.List {
		if !d.List[i].Warning {
			return true
		}
	}
	return false
}

// Err returns the mistakes as one error, nil if there are none.
func (d *Diagnostics) Err() error {
	if d == nil || !d.Bad() {
		return nil
	}
	return d.errors()
}

type diagError string

func (e diagError) Error() string { return string(e) }

func (d *Diagnostics) errors() error {
	only := Diagnostics{File: d.File}
	for _, x := range d.List {
		if !x.Warning {
			only.List = append(only.List, x)
		}
	}
	return diagError(strings.TrimSuffix(only.String(), "\n"))
}

// Sort orders them by place.
func (d *Diagnostics) Sort() {
	sort.SliceStable(d.List, func(i, j int) bool {
		a, b := &d.List[i], &d.List[j]
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Column < b.Column
	})
}

// String prints them as compilers do, each with its hint and notes on lines of their own.
func (d *Diagnostics) String() string {
	var b strings.Builder
	for i := range d.List {
		x := &d.List[i]
		if d.File != "" {
			fmt.Fprintf(&b, "%s:", d.File)
		}
		if x.Line > 0 {
			fmt.Fprintf(&b, "%d:%d:", x.Line, x.Column)
		}
		if b.Len() > 0 && (d.File != "" || x.Line > 0) {
			b.WriteByte(' ')
		}
		if x.Warning {
			b.WriteString("warning: ")
		}
		if x.Path != "" {
			fmt.Fprintf(&b, "%s: ", x.Path)
		}
		fmt.Fprintf(&b, "%s [%s]\n", x.Text, x.Code)
		for _, n := range x.Notes {
			fmt.Fprintf(&b, "    note: %s\n", n)
		}
		if x.Hint != "" {
			fmt.Fprintf(&b, "    hint: %s\n", x.Hint)
		}
	}
	return b.String()
}
