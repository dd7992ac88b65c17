// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"log/slog"
	"testing"

	"tetragon/internal/config"
)

// FuzzExports: whatever the key holds, it gives options that can be used, or errors.
func FuzzExports(f *testing.F) {
	for _, s := range []string{
		`{"name":"a","filename":"/x","allowlist":[{"event_set":["PROCESS_EXEC"]}],"perm":"640","max_age":"1h"}`,
		`{"name":"a","filename":"/x"}{"name":"a","filename":"/x","rate_limit":-5}`,
		`{"name":"b","filename":"/y","field_filters":[{"fields":"process.cwd","action":"EXCLUDE"}],"compress":true,"max_size_mb":0}`,
		`[{}]`, `{"name":"c","denylist":[{"cel_expression":["x"]}]}`, `{"name":"d","filename":"/d","rotation_interval":"-1h"}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseExports(&config.Config{Exports: text, ExportFilePerm: 0o600}, new(filters), slog.New(slog.DiscardHandler))
		if err != nil {
			return
		}
		if len(list) > maxExports {
			t.Errorf("%d exports", len(list))
		}
		names := map[string]bool{}
		for _, o := range list {
			if names[o.Name] || o.Name == "" || o.Path == "" || o.RotationInterval < 0 || o.MaxAge < 0 || o.MaxSizeMB < 0 || o.MaxBackups < 0 {
				t.Errorf("%+v", o)
			}
			names[o.Name] = true
		}
	})
}
