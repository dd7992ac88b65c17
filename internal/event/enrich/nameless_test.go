// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"tetragon/internal/event"
	"tetragon/internal/process"
)

// TestNameless: who has no login name is counted, but not who is in another namespace and is to have none.
func TestNameless(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(file, []byte("alice:x:1000:1000::/:/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := &Enricher{passwd: &passwd{path: file}}
	e.hostNs.Mnt, e.hostNs.User = 1, 2
	named := func(uid, mnt uint32) string {
		p := &process.Entry{Process: event.Process{UID: uid, StartTime: time.Hour.Nanoseconds()}}
		p.Ns.Mnt, p.Ns.User = mnt, 2
		e.setUser(p)
		return p.User
	}
	if got := named(1000, 1); got != "alice" || e.Nameless() != 0 {
		t.Errorf("%q, %d without a name", got, e.Nameless())
	}
	if got := named(1000, 7); got != "" || e.Nameless() != 0 {
		t.Errorf("elsewhere: %q, %d without a name", got, e.Nameless())
	}
	if got := named(4711, 1); got != "" || e.Nameless() != 1 {
		t.Errorf("nobody: %q, %d without a name", got, e.Nameless())
	}
}
