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
	"tetragon/internal/policy/plan"
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

// everyType is a program whose hooks have arguments of each way of writing, all with each of some values.
func everyType(id uint32) *plan.Program {
	if id > 3 {
		return nil
	}
	p := &plan.Program{ID: id, Values: make([]plan.Value, 5)}
	p.Values[3].Track = true
	for i := range 2 {
		h := &plan.Hook{Event: plan.EventKind(1 + i), Names: []string{"a", "b"}, Rules: make([]plan.Rule, 2)}
		for j := range h.Rules {
			h.Rules[j].Do = plan.Actions{Post: true, KernelStack: true, UserStack: j == 1}
		}
		for v := range len(p.Values) + 1 {
			for _, t := range []string{
				"int", "const_buf", "syscall64", "string", "char_buf", "file", "path", "linux_binprm", "sock", "skb", "sockaddr", "sockaddr_un",
				"cred", "user_namespace", "bpf_attr", "bpf_map", "perf_event", "module", "no such type",
			} {
				h.Args = append(h.Args, plan.Arg{Value: v - 1, Type: t})
			}
		}
		h.Return = &plan.Arg{Value: i, Type: "int"}
		p.Groups = append(p.Groups, plan.Group{Plan: &plan.Plan{Policy: "p"}, Hook: h, First: 2 * i, Values: []int{0, 1, 2, 3, 4}})
		p.Rules = append(p.Rules, h.Rules...)
	}
	return p
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
	call := abi.Hook{H: abi.Head{Pid: 50, Ktime: 500, Time: 950}, Tid: 51, Program: 1}
	f.Add(packed(snapEnd(900), abitest.Hook(call, []abitest.Value{
		{Index: 0, Kind: abi.ValueInt, Fixed: uint64(1)}, {Index: 1, Kind: abi.ValueWords, Fixed: [2]uint64{1, 2}}, {Kind: abi.ValueKernelStack, Fixed: [2]uint64{1, 0}},
		{Index: 2, Kind: abi.ValueFile, Fixed: abi.ValFile{}, Text: "/etc"}, {Index: 3, Kind: abi.ValueSock, Fixed: abi.ValSock{OwnerPid: 1}},
	}, 3)))
	f.Add(packed(append(append([][]byte{snapEnd(900)}, ahead(7, make([]byte, 5000))...), abitest.Hook(call, []abitest.Value{
		{Index: 0, Kind: abi.ValueBytes, Flags: abi.ValueFlagAhead, Fixed: [2]uint64{5000, 7}},
	}, 3))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := newLane(t, enrich.Options{Env: true, EnvNames: []string{"A", ""}, RealPath: true, Ancestors: true, Passwd: "/nonexistent", Proc: "/nonexistent", Programs: everyType})
		look := func() {
			for _, ev := range l.e.Events() {
				switch ev.Kind {
				case event.KindExec, event.KindExit:
					if ev.Process == nil {
						t.Errorf("an event without its process: %+v", ev)
					}
				case event.KindKprobe, event.KindTracepoint:
					if ev.Process == nil || ev.Hook == nil {
						t.Errorf("an event without its process or hook: %+v", ev)
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
