// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"tetragon/api/v1/tetragon"
)

// ParseList reads filters as they stand in the configuration: JSON objects one after the other, with or without white
// space between them. Empty text is an empty list.
func ParseList(text string) ([]*tetragon.Filter, error) {
	var list []*tetragon.Filter
	err := parseObjects(text, func(object []byte) error {
		m := new(tetragon.Filter)
		list = append(list, m)
		return unmarshal(object, m)
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// parseObjects calls f for each object in the text.
func parseObjects(text string, f func(object []byte) error) error {
	dec := json.NewDecoder(strings.NewReader(text))
	for n := 1; ; n++ {
		var object json.RawMessage
		err := dec.Decode(&object)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("the text ends within it")
		}
		if err == nil && object[0] != '{' {
			err = errors.New("not a JSON object")
			if object[0] == '[' {
				err = errors.New("a JSON array; write its objects one after the other, without brackets and commas")
			}
		}
		if err == nil {
			err = f(object)
		}
		if err != nil {
			return fmt.Errorf("object %d: %w", n, err)
		}
	}
}

func unmarshal(object []byte, m proto.Message) error {
	err := protojson.Unmarshal(object, m)
	if err == nil {
		return nil
	}
	// The library puts its own name in front, with a space that may be a no-break one.
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	return errors.New(strings.TrimPrefix(text, "proto: "))
}

// Redactor takes secrets out of the texts of a process. A nil Redactor leaves them as they are. Safe for concurrent use.
type Redactor struct {
	filters  []redaction
	warnings []string
}

// Warnings are what does not do what one may think, a sentence each.
func (r *Redactor) Warnings() []string {
	if r == nil {
		return nil
	}
	return r.warnings
}

type redaction struct {
	binaries []*regexp.Regexp // empty: any
	secrets  []*regexp.Regexp
}

// ParseRedaction reads redaction filters as they stand in the configuration. Empty text makes a nil Redactor.
func ParseRedaction(text string) (*Redactor, error) {
	r := new(Redactor)
	err := parseObjects(text, func(object []byte) error {
		m := new(tetragon.RedactionFilter)
		if err := unmarshal(object, m); err != nil {
			return err
		}
		var f redaction
		var err1, err2 error
		f.binaries, err1 = compileAll("binary_regex", m.GetBinaryRegex())
		f.secrets, err2 = compileAll("redact", m.GetRedact())
		r.filters = append(r.filters, f)
		r.check(len(r.filters), m, f)
		return errors.Join(err1, err2)
	})
	if err != nil || len(r.filters) == 0 {
		return nil, err
	}
	return r, nil
}

// check looks for what masks nothing although it is valid.
func (r *Redactor) check(nth int, m *tetragon.RedactionFilter, f redaction) {
	if len(m.GetRedact()) == 0 {
		r.warnings = append(r.warnings, fmt.Sprintf("redaction filter %d has no redact expressions, so it masks nothing", nth))
	}
	for _, re := range f.secrets {
		if re.NumSubexp() == 0 {
			r.warnings = append(r.warnings, fmt.Sprintf("redaction filter %d: %q masks nothing, because only groups are masked; put "+
				"parentheses around the secret", nth, re))
		}
	}
	if len(m.GetMatch()) > 0 {
		r.warnings = append(r.warnings, fmt.Sprintf("redaction filter %d: match is ignored; use binary_regex", nth))
	}
}

func compileAll(name string, exprs []string) ([]*regexp.Regexp, error) {
	var res []*regexp.Regexp
	for _, e := range exprs {
		re, err := regexp.Compile(e)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		res = append(res, re)
	}
	return res, nil
}
