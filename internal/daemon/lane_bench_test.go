// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"encoding/binary"
	"log/slog"
	"os"
	"testing"
	"time"

	"tetragon/internal/abi"
	"tetragon/internal/abi/abitest"
	"tetragon/internal/event/encode"
	"tetragon/internal/event/enrich"
	"tetragon/internal/event/export"
	"tetragon/internal/metrics"
	"tetragon/internal/policy/plan"
	"tetragon/internal/process"
)

// benchLane is a lane with a file as its only sink, and no kernel below it.
func benchLane(b *testing.B, file string, programs ...*plan.Program) *lane {
	b.Helper()
	l := newLane(laneOptions{
		table: process.New(process.Options{}), ledger: metrics.NewLedger(), counters: &metrics.Lane{}, log: slog.New(slog.DiscardHandler),
	})
	encoder := encode.New(encode.Options{NodeName: "node-a", KeepFragments: true})
	l.enricher = enrich.New(enrich.Options{Table: l.table, Ledger: l.ledger, HostNs: encoder.SetHostNs, Programs: func(id uint32) *plan.Program {
		for _, p := range programs {
			if p.ID == id {
				return p
			}
		}
		return nil
	}})
	l.mappings = newMappings(l.ledger, l.log, "/proc")
	l.sinks = export.NewSet(export.Options{Encoder: encoder, Ledger: l.ledger, Lane: l.counters})
	if _, err := l.sinks.AddFile(export.FileOptions{Path: file, RateLimit: -1}); err != nil {
		b.Fatal(err)
	}
	l.accounted = time.Now().Add(24 * time.Hour) // there is no kernel half to account
	return l
}

// feed is one batch.
func (l *lane) feed(b *testing.B, recs [][]byte) {
	if err := l.batch(func(f func([]byte)) (int, bool, error) {
		for _, r := range recs {
			f(r)
		}
		return len(recs), false, nil
	}); err != nil {
		b.Fatal(err)
	}
}

// lives is a stretch of ring: so many children of a shell, each forked, doing an exec, and ending.
type lives struct {
	recs   [][]byte
	n      uint64
	spread bool // each ends one batch after its exec
}

func newLives(n int, spread bool) *lives {
	v := &lives{spread: spread}
	shell := abi.Head{Pid: 50, Ktime: 500}
	for range n {
		x := abi.Exec{ParentPid: shell.Pid, ParentKtime: shell.Ktime, Auid: 1000, Nlink: 1, H: abi.Head{Flags: abi.FlagClone}}
		x.Ns = [abi.NsCount]uint32{4026531838, 4026531839, 4026531841, 4026531836, 4026531836, 4026531840, 4026531834, 4026531834, 4026531835, 4026531837}
		v.recs = append(v.recs,
			abitest.Record(abi.Fork{H: abi.Head{Kind: abi.KindFork}, ParentPid: shell.Pid, ParentKtime: shell.Ktime}),
			abitest.Exec(abi.KindExec, x, abitest.Texts{
				Name: "/usr/bin/rsync", Cwd: "/srv/backup", Args: []string{"rsync", "-a", "--delete", "/srv/my files/", "backup:/srv/"}, Cgroup: "cron.service",
			}),
			abitest.Record(abi.Exit{H: abi.Head{Kind: abi.KindExit}, Code: 0x100}))
	}
	return v
}

func head(r []byte, pid uint32, at, ktime uint64) {
	binary.LittleEndian.PutUint32(r[4:], pid)
	binary.LittleEndian.PutUint64(r[8:], at)
	binary.LittleEndian.PutUint64(r[16:], ktime)
}

// next gives the stretch other pids and times.
func (v *lives) next() {
	per := uint64(len(v.recs) / 3)
	for i := 0; i < len(v.recs); i += 3 {
		v.n++
		pid, at := uint32(1000+v.n%30000), 4_000_000_000_000+500_000*v.n
		head(v.recs[i], pid, at, at)
		head(v.recs[i+1], pid, at+150_000, at+150_000)
		binary.LittleEndian.PutUint64(v.recs[i+1][24:], at) // its start
		if v.spread {
			old := uint64(0)
			if v.n > per {
				old = v.n - per
			}
			pid, at = uint32(1000+old%30000), 4_000_000_000_000+500_000*old
		}
		head(v.recs[i+2], pid, at+400_000, at+150_000)
	}
}

// BenchmarkLane is everything that user space does between ring and file for the life of a process, in batches of some
// milliseconds of a busy machine. The file is /dev/null: what the kernel does to write is not the lane's.
func BenchmarkLane(b *testing.B) {
	const n = 32
	for name, spread := range map[string]bool{"life": false, "life_spread": true} {
		b.Run(name, func(b *testing.B) {
			l := benchLane(b, os.DevNull)
			shell := abitest.Exec(abi.KindSnapshot, abi.Exec{H: abi.Head{Pid: 50, Ktime: 500, Time: 600}, Start: 500}, abitest.Texts{Path: "/usr/bin/bash", Cwd: "/root"})
			l.feed(b, [][]byte{shell, abitest.Record(abi.Head{Kind: abi.KindSnapEnd, Time: 700})})
			v := newLives(n, spread)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ { // one iteration is one life
				if i%n == 0 {
					v.next()
					l.feed(b, v.recs)
				}
			}
			l.report(b, 2)
		})
	}
	// The event of a policy, of a process whose parent is known: so much goes with each call that a policy posts.
	for _, c := range hookCases {
		b.Run("hook_"+c.name, func(b *testing.B) {
			l := benchLane(b, os.DevNull, program(c.typ))
			l.countBinaries = true
			at := func(pid uint32) abi.Exec {
				return abi.Exec{H: abi.Head{Pid: pid, Ktime: 905_112_334_455_000 + uint64(pid), Time: 905_112_334_455_667}, ParentPid: 50, ParentKtime: 905_112_334_455_050, Auid: 1000, Nlink: 1}
			}
			x := at(31415)
			x.H.Flags = abi.FlagClone
			l.feed(b, [][]byte{
				abitest.Exec(abi.KindSnapshot, at(50), abitest.Texts{Path: "/usr/bin/bash", Cwd: "/root"}), abitest.Record(abi.Head{Kind: abi.KindSnapEnd, Time: 700}),
				abitest.Exec(abi.KindExec, x, abitest.Texts{Name: "/usr/bin/rsync", Cwd: "/srv/backup", Args: []string{"rsync", "-a", "--delete", "/srv/my files/", "backup:/srv/"}, Cgroup: "cron.service"}),
			})
			var recs [][]byte
			for i := range uint64(n) {
				recs = append(recs, abitest.Hook(abi.Hook{H: abi.Head{Pid: 31415, Ktime: x.H.Ktime, Time: x.H.Time + 1_234_567*i}, Tid: 31415, Program: 9}, []abitest.Value{c.v}, 1))
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ { // one iteration is one call
				if i%n == 0 {
					l.feed(b, recs)
				}
			}
			l.report(b, 1)
		})
	}
}

// report closes the lane and tells what went through it; perOp is how many events one iteration makes.
func (l *lane) report(b *testing.B, perOp int) {
	if err := l.sinks.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
	lost := uint64(0)
	for _, s := range l.ledger.Read() {
		if s.Pending != 0 {
			b.Errorf("the account does not balance: %s", s)
		}
		if s.Stage == "file" {
			lost = s.Seen - s.Delivered
		}
	}
	events := l.counters.Exported.Load()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(perOp*b.N), "ns/event")
	b.ReportMetric(float64(l.counters.ExportedBytes.Load())/float64(max(events-lost, 1)), "B/event")
	b.ReportMetric(float64(lost)/float64(perOp*b.N), "lost/event")
}
