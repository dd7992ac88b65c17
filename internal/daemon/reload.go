// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	tetragon "tetragon/api/v1/tetragon"
	"tetragon/internal/config"
	"tetragon/internal/event"
	"tetragon/internal/event/export"
	"tetragon/internal/event/filter"
)

// secrets takes secrets out of command lines by filters that can be replaced.
type secrets struct {
	redactor atomic.Pointer[filter.Redactor] // nil: there are none
}

func (s *secrets) arguments(binary, text string) string {
	if r := s.redactor.Load(); r != nil {
		return r.Arguments(binary, text)
	}
	return text
}

func (s *secrets) environment(binary, text string) string {
	if r := s.redactor.Load(); r != nil {
		return r.Environment(binary, text)
	}
	return text
}

// reloader reads the configuration again when it is told to, and takes over what can change while the agent runs: the keys
// that config calls live. It takes over all of it or, if anything is wrong, nothing.
type reloader struct {
	cfg     *atomic.Pointer[config.Config] // what is in force, but for keys that wait for a restart
	load    func() (*config.Config, error)
	log     *slog.Logger
	level   *slog.LevelVar
	file    *export.File // nil: none
	others  []*export.File
	sinks   *export.Set
	secrets *secrets
	message func(*event.Event) *tetragon.GetEventsResponse // what expressions look at
}

func (r *reloader) run(ctx context.Context, hangup <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
		}
		if r.file != nil {
			r.file.Reopen()
		}
		for _, f := range r.others {
			f.Reopen()
		}
		if r.load == nil {
			continue
		}
		live, err := r.reload()
		switch {
		case err != nil:
			r.log.Error("read the configuration again: nothing has changed", "err", err)
		default:
			r.log.Info("configuration read again", "changed", strings.Join(live, ","))
		}
	}
}

// reload returns which keys have changed.
func (r *reloader) reload() (live []string, err error) {
	next, err := r.load()
	if err != nil {
		return nil, err
	}
	old := r.cfg.Load()
	live, restart := config.Changes(old, next)
	if off := func(c *config.Config) bool { return c.ExportRateLimit == 0 }; off(old) != off(next) {
		live = slices.DeleteFunc(live, func(k string) bool { return k == "export-rate-limit" })
		restart = append(restart, "export-rate-limit")
	}
	// What filters may ask for does not change with them.
	taken := old.With(next, live)
	f, err := newFilters(taken, r.log)
	if err != nil {
		return nil, err
	}
	f.offers.Message = r.message
	// Only if they have changed: clients may have set others by EventLogService.
	if r.file != nil && changed(live, "export-file-max-size-mb", "export-file-rotation-interval", "export-file-max-backups",
		"export-file-max-age", "export-file-compress") {
		if err := r.file.SetParams(fileParams(taken)); err != nil {
			return nil, fmt.Errorf("change the export: %w", err)
		}
	}
	// From here on nothing can go wrong.
	if changed(live, "export-allowlist", "export-denylist", "field-filters", "export-rate-limit") {
		r.sinks.Choose("file", export.Choice{Filter: f.export(), Fields: f.prune(), RateLimit: taken.ExportRateLimit})
		r.sinks.Choose("stdout", export.Choice{Filter: f.export(), Fields: f.prune(), RateLimit: -1})
	}
	if changed(live, "redaction-filters") {
		r.secrets.redactor.Store(f.redactor)
	}
	if changed(live, "log-level", "debug") {
		r.level.Set(taken.Level())
	}
	r.cfg.Store(taken)
	for _, w := range next.Warnings {
		r.log.Warn(w)
	}
	for _, k := range restart {
		r.log.Warn("a change of "+k+" takes effect after a restart", "source", next.Source(k))
	}
	return live, nil
}

func changed(live []string, keys ...string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { return slices.Contains(live, k) })
}

// fileParams is what the configuration says of the export file and can change.
func fileParams(cfg *config.Config) export.FileParams {
	return export.FileParams{
		MaxSizeMB: cfg.ExportFileMaxSizeMB, RotationInterval: cfg.ExportFileRotationInterval, MaxBackups: cfg.ExportFileMaxBackups,
		MaxAge: cfg.ExportFileMaxAge, Compress: cfg.ExportFileCompress,
	}
}
