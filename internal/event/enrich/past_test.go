// SPDX-License-Identifier: Apache-2.0

package enrich_test

import (
	"testing"

	"tetragon/internal/abi"
	"tetragon/internal/abi/abitest"
	"tetragon/internal/event"
	"tetragon/internal/event/decode"
	"tetragon/internal/event/enrich"
)

// past feeds records of an earlier agent.
func (l *lane) past(both bool, recs ...[]byte) {
	l.t.Helper()
	var r decode.Record
	for _, raw := range recs {
		if err := decode.Decode(raw, &r); err != nil {
			l.t.Fatalf("decode: %v", err)
		}
		l.e.Past(&r, both)
		clear(raw)
	}
}

// What an earlier agent's kernel half told when nobody read comes between what lived before and what came since, each once.
func TestPast(t *testing.T) {
	l := newLane(t, enrich.Options{})
	init := image{pid: 1, start: 10, texts: abitest.Texts{Path: "/sbin/init"}}
	x := image{pid: 100, start: 1000, ktime: 1001, parent: shell, flags: abi.FlagClone, texts: abitest.Texts{Name: "/bin/x"}}
	// It does two execs meanwhile, and lives: the snapshot knows the second.
	y1 := image{pid: 101, start: 1010, ktime: 1011, parent: shell, flags: abi.FlagClone, texts: abitest.Texts{Name: "/bin/y1"}}
	y2 := image{pid: 101, start: 1010, ktime: 1012, parent: event.Key{Pid: 101, Ktime: 1011}, texts: abitest.Texts{Name: "/bin/y2"}}
	y2snap := image{pid: 101, start: 1010, ktime: 1012, parent: event.Key{Pid: 101, Ktime: 1011}, texts: abitest.Texts{Path: "/bin/y2"}}
	// The ring was full when this one came.
	z := image{pid: 102, start: 1020, ktime: 1021, parent: event.Key{Pid: 101, Ktime: 1012}, texts: abitest.Texts{Path: "/bin/z"}}
	l.past(false, fork(100, 1000, shell), x.exec(), exit(100, 1001, 1002, 0), fork(101, 1010, shell), y1.exec(), y2.exec())
	// Both kernel halves saw this exec; the younger one's word counts.
	both := image{pid: 103, start: 2000, ktime: 2001, parent: shell, flags: abi.FlagClone, texts: abitest.Texts{Name: "/bin/both"}}
	l.past(true, both.exec())
	both.ktime = 2004
	want(t, l.feed(both.exec(), init.snap(), shellImage.snap(), y2snap.snap(), z.snap()))
	want(t, l.feed(snapEnd(3000)),
		"exec 0@1 <kernel> (procFS) of 0@1",
		"exec 1@10 /sbin/init (procFS) of 0@1",
		"exec 50@500 /bin/sh (procFS) of 1@10",
		"exec 100@1001 /bin/x (execve clone) of 50@500",
		"exit 100@1001 /bin/x (execve clone) of 50@500",
		"exec 101@1011 /bin/y1 (execve clone) of 50@500",
		"exec 101@1012 /bin/y2 (execve) of 101@1011",
		"exec 102@1021 /bin/z (procFS) of 101@1012",
		"exec 103@2004 /bin/both (execve clone) of 50@500",
	)
	l.settled()
	if n := l.dropped("already_known"); n != 2 {
		t.Errorf("already known: got %d, want 2", n)
	}
}
