// SPDX-License-Identifier: Apache-2.0

package enrich_test

import (
	"encoding/binary"
	"testing"

	"tetragon/internal/abi"
	"tetragon/internal/abi/abitest"
	"tetragon/internal/event"
	"tetragon/internal/event/decode"
	"tetragon/internal/event/enrich"
)

// life is the records of one process, to be used again for the next one.
type life struct {
	raw              [3][]byte
	fork, exec, exit decode.Record
	n                uint64
}

func newLife(b *testing.B) *life {
	k := event.Key{Pid: 50, Ktime: 500}
	x := image{pid: 100, start: 1000, ktime: 1001, parent: k, flags: abi.FlagClone, texts: abitest.Texts{
		Name: "/usr/bin/rsync", Cwd: "/srv/backup", Args: []string{"rsync", "-a", "--delete", "/srv/my files/", "backup:/srv/"}, Cgroup: "cron.service",
	}}
	l := &life{raw: [3][]byte{fork(100, 1000, k), x.exec(), exit(100, 1001, 1002, 0)}}
	for i, r := range l.records() {
		if err := decode.Decode(l.raw[i], r); err != nil {
			b.Fatal(err)
		}
	}
	return l
}

func (l *life) records() [3]*decode.Record { return [...]*decode.Record{&l.fork, &l.exec, &l.exit} }

// next makes another process of them.
func (l *life) next() {
	l.n++
	pid, at := uint32(1000+l.n%30000), 10_000+4*l.n
	l.fork.Pid, l.exec.Pid, l.exit.Pid = pid, pid, pid
	l.fork.Ktime, l.exec.Ktime, l.exit.Ktime = at, at+1, at+1
	l.fork.Time, l.exec.Time, l.exit.Time = at, at+1, at+2
	binary.LittleEndian.PutUint64(l.raw[1][24:], at) // its start
}

func BenchmarkEnrich(b *testing.B) {
	// Each case does the whole life where it must, and measures with it what it is not named by; the differences tell.
	for _, c := range []struct {
		name             string
		fork, exec, exit bool
	}{{"fork", true, false, true}, {"exec", false, true, true}, {"exit", false, false, true}, {"life", true, true, true}} {
		b.Run(c.name, func(b *testing.B) {
			l := started(b, enrich.Options{})
			r := newLife(b)
			b.ReportAllocs()
			for b.Loop() {
				if r.next(); r.n%64 == 0 {
					l.e.Begin(offset)
				}
				if c.fork {
					l.e.Record(&r.fork)
				}
				if c.exec {
					l.e.Record(&r.exec)
				} else {
					r.exit.Ktime = r.fork.Ktime
				}
				if c.exit {
					l.e.Record(&r.exit)
				}
			}
		})
	}
}
