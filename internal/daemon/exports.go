// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"tetragon/internal/config"
	"tetragon/internal/event/export"
	"tetragon/internal/event/filter"
)

// oneExport is one object of the key exports. What it leaves out is as for the export file.
type oneExport struct {
	Name             string            `json:"name"`
	Filename         string            `json:"filename"`
	Allowlist        []json.RawMessage `json:"allowlist"`
	Denylist         []json.RawMessage `json:"denylist"`
	FieldFilters     []json.RawMessage `json:"field_filters"`
	RateLimit        *int              `json:"rate_limit"`
	MaxSizeMB        *int              `json:"max_size_mb"`
	RotationInterval *string           `json:"rotation_interval"`
	MaxBackups       *int              `json:"max_backups"`
	MaxAge           *string           `json:"max_age"`
	Compress         *bool             `json:"compress"`
	Perm             *string           `json:"perm"`
}

// maxExports bounds what one machine writes; each has a queue of its own.
const maxExports = 16

// exportName is what a name may be: it stands in the ledger and in labels.
var exportName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

// parseExports reads the key exports. Everything that is wrong is told at once. The options lack no field.
func parseExports(cfg *config.Config, f *filters, log *slog.Logger) ([]export.FileOptions, error) {
	var out []export.FileOptions
	var errs []error
	paths, names := map[string]string{}, map[string]bool{}
	if cfg.ExportFilename != "" {
		paths[filepath.Clean(cfg.ExportFilename)] = "export-filename"
	}
	bad := func(n int, name string, err error) {
		errs = append(errs, fmt.Errorf("exports (%s): export %d %q: %w", cfg.Source("exports"), n, name, err))
	}
	dec := json.NewDecoder(strings.NewReader(cfg.Exports))
	for n := 1; ; n++ {
		var text json.RawMessage
		err := dec.Decode(&text)
		if errors.Is(err, io.EOF) {
			break
		}
		var x oneExport
		if err == nil {
			strict := json.NewDecoder(bytes.NewReader(text))
			strict.DisallowUnknownFields()
			err = strict.Decode(&x)
		}
		if err != nil {
			bad(n, x.Name, err)
			break // what follows may be read wrongly
		}
		if n > maxExports {
			bad(n, x.Name, fmt.Errorf("one too many; there may be %d", maxExports))
			break
		}
		o, err := x.options(cfg, f, log)
		if err != nil {
			bad(n, x.Name, err)
			continue
		}
		path := filepath.Clean(o.Path)
		switch {
		case names[x.Name]:
			bad(n, x.Name, errors.New("another export has this name"))
		case paths[path] != "":
			bad(n, x.Name, fmt.Errorf("%s is written by %s already", path, paths[path]))
		}
		names[x.Name], paths[path] = true, "export "+x.Name
		out = append(out, o)
	}
	return out, errors.Join(errs...)
}

// options checks one export and fills in what it leaves out.
func (x *oneExport) options(cfg *config.Config, base *filters, log *slog.Logger) (o export.FileOptions, err error) {
	o = fileOptions(cfg)
	o.Path, o.Name = x.Filename, x.Name
	if !exportName.MatchString(x.Name) {
		return o, errors.New("name: write a word of small letters, digits, \"-\" and \"_\"")
	}
	if !filepath.IsAbs(x.Filename) {
		return o, fmt.Errorf("filename: %q is not an absolute path", x.Filename)
	}
	set(&o.RateLimit, x.RateLimit)
	set(&o.MaxSizeMB, x.MaxSizeMB)
	set(&o.MaxBackups, x.MaxBackups)
	set(&o.Compress, x.Compress)
	for _, d := range []struct {
		key  string
		text *string
		to   *time.Duration
	}{{"rotation_interval", x.RotationInterval, &o.RotationInterval}, {"max_age", x.MaxAge, &o.MaxAge}} {
		if d.text == nil {
			continue
		}
		if *d.to, err = time.ParseDuration(*d.text); err != nil || *d.to < 0 {
			return o, fmt.Errorf("%s: %q is not a duration such as 1h", d.key, *d.text)
		}
	}
	if x.Perm != nil {
		perm, err := strconv.ParseUint(*x.Perm, 8, 32)
		if err != nil || perm > 0o777 {
			return o, fmt.Errorf("perm: %q is not an octal mode such as 640", *x.Perm)
		}
		o.Perm = fs.FileMode(perm)
	}
	if o.RateLimit < -1 || o.RateLimit == 0 || o.MaxSizeMB < 0 || o.MaxBackups < 0 {
		return o, errors.New("rate_limit is -1 or above 0; max_size_mb and max_backups are not negative")
	}
	own := &filters{offers: base.offers}
	own.offers.PidSet = cfg.EnablePidSetFilter
	if own.allow, err = filter.ParseList(join(x.Allowlist)); err != nil {
		return o, fmt.Errorf("allowlist: %w", err)
	}
	if own.deny, err = filter.ParseList(join(x.Denylist)); err != nil {
		return o, fmt.Errorf("denylist: %w", err)
	}
	fields, err := filter.ParseFieldFilters(join(x.FieldFilters))
	if err == nil {
		own.fields, err = filter.NewFields(fields)
	}
	if err != nil {
		return o, fmt.Errorf("field_filters: %w", err)
	}
	for _, w := range own.fields.Warnings() {
		log.Warn(fmt.Sprintf("exports from %s: export %q: field_filters: %s", cfg.Source("exports"), x.Name, w))
	}
	if _, err := filter.New(own.allow, own.deny, own.offers); err != nil {
		return o, err
	}
	o.Filter, o.Fields = own.export(), own.prune()
	return o, nil
}

// set overwrites a value that somebody gave.
func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

func join(objects []json.RawMessage) string {
	var b strings.Builder
	for _, o := range objects {
		b.Write(o)
		b.WriteByte('\n')
	}
	return b.String()
}

// fileOptions is what the configuration says of export files.
func fileOptions(cfg *config.Config) export.FileOptions {
	return export.FileOptions{
		Path: cfg.ExportFilename, MaxSizeMB: cfg.ExportFileMaxSizeMB, RotationInterval: cfg.ExportFileRotationInterval,
		MaxBackups: cfg.ExportFileMaxBackups, MaxAge: cfg.ExportFileMaxAge, Compress: cfg.ExportFileCompress,
		Perm: cfg.ExportFilePerm, RateLimit: max(cfg.ExportRateLimit, -1),
	}
}

// addExports opens the export file, if there is one, and the others.
func addExports(cfg *config.Config, sz sizes, f *filters, sinks *export.Set, log *slog.Logger) (main *export.File, others []*export.File, err error) {
	list, err := parseExports(cfg, f, log)
	if err != nil {
		return nil, nil, err
	}
	if cfg.ExportFilename != "" && cfg.ExportRateLimit != 0 {
		o := fileOptions(cfg)
		o.QueueBytes = sz.fileQueue
		o.Filter, o.Fields = f.export(), f.prune()
		if main, err = sinks.AddFile(o); err != nil {
			return nil, nil, fmt.Errorf("open the export: %w", err)
		}
	}
	for _, o := range list {
		o.QueueBytes = sz.fileQueue
		file, err := sinks.AddFile(o)
		if err != nil {
			return nil, nil, fmt.Errorf("open the export %q: %w", o.Name, err)
		}
		others = append(others, file)
	}
	return main, others, nil
}
