// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes (or entries) that may be written with K, M or G, which stand for powers of 1024.
type Size uint64

// String writes the size in the largest unit that leaves no remainder.
func (s Size) String() string {
	for _, u := range []struct {
		shift uint
		unit  string
	}{{30, "G"}, {20, "M"}, {10, "K"}} {
		if s != 0 && s&(1<<u.shift-1) == 0 {
			return strconv.FormatUint(uint64(s>>u.shift), 10) + u.unit
		}
	}
	return strconv.FormatUint(uint64(s), 10)
}

// ParseSize reads a whole number with an optional suffix K, M or G.
func ParseSize(text string) (Size, error) {
	digits, shift := text, uint(0)
	if text != "" {
		switch text[len(text)-1] {
		case 'K':
			shift = 10
		case 'M':
			shift = 20
		case 'G':
			shift = 30
		}
		if shift > 0 {
			digits = text[:len(text)-1]
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n > math.MaxInt64>>shift {
		return 0, badValue(text, "a size: a whole number, alone or with K, M or G (powers of 1024) behind it")
	}
	return Size(n << shift), nil
}

// Rate is a number of records in a time. The zero Rate is no limit.
type Rate struct {
	Records uint64
	Window  time.Duration
}

// String writes the rate as ParseRate reads it.
func (r Rate) String() string {
	if r.Records == 0 {
		return ""
	}
	return fmt.Sprintf("%d,%s", r.Records, r.Window)
}

// What the kernel half can count with.
const (
	maxRateRecords = 1_000_000
	minRateWindow  = time.Millisecond
	maxRateWindow  = time.Minute
)

// ParseRate reads EVENTS,INTERVAL.
func ParseRate(text string) (Rate, error) {
	if text == "" {
		return Rate{}, nil
	}
	events, interval, _ := strings.Cut(text, ",")
	n, err := strconv.ParseUint(strings.TrimSpace(events), 10, 64)
	w, err2 := time.ParseDuration(strings.TrimSpace(interval))
	if err != nil || err2 != nil || n < 1 || n > maxRateRecords || w < minRateWindow || w > maxRateWindow {
		return Rate{}, badValue(text, "a number of events from 1 to 1000000 and an interval from 1ms to 1m, such as 1000,1s")
	}
	return Rate{n, w}, nil
}

// badValue is the one form of a refused value: what was written, then what is allowed.
func badValue(text, want string) error {
	const most = 80 // a whole policy pasted into a number should not fill the screen
	if len(text) > most {
		text = text[:most] + "…"
	}
	return fmt.Errorf("%q is not %s", text, want)
}

// raw is a value as a source gave it.
type raw struct {
	text   string
	list   []string // of a YAML list, or of a flag given more than once
	isList bool
	flag   bool   // from the command line, where lists are separated by commas
	source string // for Config.Source
	where  string // for errors: the source, and the key unless the source names it
}

// set reads r into the field that ptr points to. An empty value clears the field, but for a flag of a type that has no
// empty form.
func (row *row) set(ptr any, r raw) error {
	if list, ok := ptr.(*[]string); ok {
		return row.setList(list, r)
	}
	if r.isList {
		if len(r.list) != 1 {
			return errors.New("takes one value, not a list")
		}
		r.text = r.list[0]
	}
	text := r.text
	if s, ok := ptr.(*string); ok {
		return row.setString(s, text)
	}
	text = strings.TrimSpace(text)
	if text == "" {
		if r.flag {
			return fmt.Errorf("needs a value: %s", wanted(ptr))
		}
		clearField(ptr)
		return nil
	}
	switch p := ptr.(type) {
	case *bool:
		v, err := strconv.ParseBool(text)
		if err != nil {
			return badValue(text, wanted(ptr))
		}
		*p = v
	case *int:
		v, err := strconv.ParseInt(text, 10, 0)
		if err != nil {
			return badValue(text, wanted(ptr))
		}
		*p = int(v)
	case *uint:
		v, err := strconv.ParseUint(text, 10, 0)
		if err != nil {
			return badValue(text, wanted(ptr))
		}
		*p = uint(v)
	case *time.Duration:
		v, err := time.ParseDuration(text)
		if err != nil {
			return badValue(text, wanted(ptr))
		}
		*p = v
	case *Size:
		v, err := ParseSize(text)
		if err != nil {
			return err
		}
		*p = v
	case *Rate:
		v, err := ParseRate(text)
		if err != nil {
			return err
		}
		*p = v
	case *fs.FileMode:
		v, err := strconv.ParseUint(text, 8, 32)
		if err != nil || v > 0o7777 {
			return badValue(text, wanted(ptr))
		}
		*p = fs.FileMode(v)
	}
	return nil
}

func (row *row) setString(ptr *string, text string) error {
	if len(row.oneOf) > 0 {
		v := strings.ToLower(strings.TrimSpace(text))
		for _, ok := range row.oneOf {
			if v == ok {
				*ptr = v
				return nil
			}
		}
		return badValue(text, "one of "+strings.Join(quoteEmpty(row.oneOf), ", "))
	}
	*ptr = text
	return nil
}

func (row *row) setList(ptr *[]string, r raw) error {
	items := r.list
	if !r.isList {
		items = []string{r.text}
	}
	var out []string
	for _, item := range items {
		switch {
		case r.flag || !row.spaces:
			for s := range strings.SplitSeq(item, ",") {
				if s = strings.TrimSpace(s); s != "" {
					out = append(out, s)
				}
			}
		case r.isList:
			if item != "" {
				out = append(out, item)
			}
		default:
			if strings.Contains(item, ",") {
				return fmt.Errorf("%q: names are separated by white space here, not by commas", item)
			}
			out = append(out, strings.Fields(item)...)
		}
	}
	if len(row.oneOf) > 0 {
		for _, s := range out {
			if !contains(row.oneOf, s) {
				return badValue(s, "one of "+strings.Join(row.oneOf, ", "))
			}
		}
	}
	*ptr = out
	return nil
}

// wanted says what a field takes, to stand behind "is not".
func wanted(ptr any) string {
	switch ptr.(type) {
	case *bool:
		return "true or false"
	case *int:
		return "a whole number"
	case *uint:
		return "a whole number from 0 up"
	case *time.Duration:
		return "a duration such as 30s, 5m or 1h30m"
	case *Size:
		return "a size such as 65536, 64K or 1M"
	case *fs.FileMode:
		return "a file mode: octal digits such as 600 or 640"
	}
	return "text"
}

// typeName is the word for the field's type in the help text.
func typeName(ptr any) string {
	switch ptr.(type) {
	case *bool:
		return ""
	case *int, *uint:
		return "N"
	case *time.Duration:
		return "DURATION"
	case *Size:
		return "SIZE"
	case *Rate:
		return "EVENTS,INTERVAL"
	case *[]string:
		return "LIST"
	case *fs.FileMode:
		return "MODE"
	}
	return "TEXT"
}

func clearField(ptr any) {
	switch p := ptr.(type) {
	case *string:
		*p = ""
	case *bool:
		*p = false
	case *int:
		*p = 0
	case *uint:
		*p = 0
	case *time.Duration:
		*p = 0
	case *Size:
		*p = 0
	case *Rate:
		*p = Rate{}
	case *[]string:
		*p = nil
	case *fs.FileMode:
		*p = 0
	}
}

func valueOf(ptr any) any {
	switch p := ptr.(type) {
	case *string:
		return *p
	case *bool:
		return *p
	case *int:
		return *p
	case *uint:
		return *p
	case *time.Duration:
		return *p
	case *Size:
		return *p
	case *Rate:
		return *p
	case *[]string:
		return *p
	case *fs.FileMode:
		return *p
	}
	return nil
}

// format writes a field as a drop-in file would hold it.
func format(ptr any) string {
	switch p := ptr.(type) {
	case *[]string:
		return strings.Join(*p, ",")
	case *fs.FileMode:
		return strconv.FormatUint(uint64(*p), 8)
	default:
		return fmt.Sprint(valueOf(ptr))
	}
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

func quoteEmpty(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		if out[i] = w; w == "" {
			out[i] = `"" (empty)`
		}
	}
	return out
}
