// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestYAML_library wants policies that work with upstream to be read without a word: those of its library, which lies beside
// the repository where this is developed, and our own.
func TestYAML_library(t *testing.T) {
	env := map[string]string{"PODCIDR": "10.244.0.0/24 10.244.1.0/24", "SERVICECIDR": "10.96.0.0/16,fd00:10:96::/112"}
	for _, dir := range []string{"../../../policies", "../../../../shared/corpus/policylibrary"} {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			if _, err := os.Stat(dir); err != nil {
				t.Skipf("needs the policies in %s", dir)
			}
			n := 0
			err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || !strings.HasSuffix(path, ".yaml") {
					return err
				}
				n++
				text, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				pol, diags := YAML(path, text, Options{Getenv: func(n string) (string, bool) { v, ok := env[n]; return v, ok }})
				if pol == nil || len(diags.List) > 0 {
					t.Errorf("%s", diags)
				}
				return nil
			})
			if err != nil || n == 0 {
				t.Errorf("%d policies, %v", n, err)
			}
		})
	}
}
