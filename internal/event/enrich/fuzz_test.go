// SPDX-License-Identifier: Apache-2.0

package enrich_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"tetragon/internal/abi"
	"tetragon/internal/abi/abitest"
	"tetragon/internal/event"
	"tetragon/internal/event/decode"
	"tetragon/internal/event/enrich"
)

// packed writes records as FuzzRecord reads them: each after its length.
func packed(recs ...[]byte) []byte {
	var b []byte
	for _, r := range recs {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(r)))
		b = append(b, r...)
	}
	return b
}

// FuzzRecord: whatever comes out of the ring, nothing panics, every event has what its kind promises, and the account
// balances.
func FuzzRecord(f *testing.F) {
	texts := abitest.Texts{Name: "/bin/x", Path: "/bin/x", Cwd: "/tmp", Args: []string{"x", "a b"}, Env: []string{"A=1", "B"}, Cgroup: "docker-" + id64}
	x := child(texts)
	x.flags |= abi.FlagScript
	lost := childAsSeen.at(3000)
	f.Add(packed(fork(100, 1000, shell), x.exec(), initImage.snap(), shellImage.snap(), snapEnd(900), exit(100, 1001, 1002, 9)))
	f.Add(packed(initImage.snap(), snapEnd(900), nil, x.exec(), nil, lost.snap(), initImage.at(3000).snap(), snapEnd(4000), exit(100, 1001, 5000, 0)))
	f.Add(packed(append(cut(abi.DataArgs, "x\x00"+strings.Repeat("a", 5000)+"\x00"), snapEnd(900), x.exec(), abitest.Cgroup(abi.Head{Pid: 100, Ktime: 1001}, id64))...))
	self := event.Key{Pid: 100, Ktime: 1000} // a process that is its own parent, and two that are each other's
	f.Add(packed(snapEnd(900), fork(100, 1000, self), exit(100, 1000, 1001, 0), fork(7, 8, event.Key{Pid: 8, Ktime: 7}), fork(8, 7, event.Key{Pid: 7, Ktime: 8})))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := newLane(t, enrich.Options{Env: true, EnvNames: []string{"A", ""}, RealPath: true, Ancestors: true, Passwd: "/nonexistent"})
		look := func() {
			for _, ev := range l.e.Events() {
				switch ev.Kind {
				case event.KindExec, event.KindExit:
					if ev.Process == nil {
						t.Errorf("an event without its process: %+v", ev)
					}
				case event.KindLoss:
				default:
					t.Errorf("an event of kind %d", ev.Kind)
				}
			}
		}
		l.e.Begin(offset)
		var r decode.Record
		for len(b) >= 2 {
			n := min(int(binary.LittleEndian.Uint16(b)), len(b)-2)
			raw := b[2 : 2+n]
			b = b[2+n:]
			if n == 0 { // a new batch, after a loss
				look()
				l.e.Begin(offset)
				l.e.Lost(nil)
				l.e.Recover(1)
				continue
			}
			raw = abitest.Aligned(raw)
			if decode.Decode(raw, &r) == nil {
				l.e.Record(&r)
				clear(raw)
			}
		}
		if !l.e.Started() {
			l.e.StartEmpty()
		}
		look()
		l.settled()
	})
}
