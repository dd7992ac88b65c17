// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"strings"
	"testing"

	"tetragon/internal/event"
)

// TestLines: what is copied from an earlier line is what would be written from scratch, whatever changed in between.
func TestLines(t *testing.T) {
	opts := Options{NodeName: "node-a", ClusterName: `c"1`, Cred: true}
	fresh := New(opts)
	opts.KeepFragments = true
	keeping := New(opts)
	check := func(what string, ev *event.Event) {
		t.Helper()
		want := string(fresh.AppendJSON(nil, ev))
		for i := range 4 { // the first is written, the second remembered, and so on
			if got := string(keeping.AppendJSON(nil, ev)); got != want {
				t.Errorf("%s, time %d:\n got %s\nwant %s", what, i, got, want)
			}
			ev.Time += 1_000_000_123
			want = string(fresh.AppendJSON(nil, ev))
		}
	}
	n := 0
	for _, kind := range []event.Kind{event.KindKprobe, event.KindTracepoint} {
		for _, c := range hookArgs {
			n++
			ev := hookEvent(kind, c.arg)
			ev.Hook.Alike, ev.Hook.Policy, ev.Hook.Function, ev.Hook.Event = uint64(n), "p\x00\"", `f,"args":[`, `e,"time":`
			ev.Process = &event.Process{Key: event.Key{Pid: 9, Ktime: 7}, Binary: `/x,"args":[],"time":"`, Flags: event.FlagExecve}
			check(c.name, ev)
			ev.Hook.Args = append(ev.Hook.Args, event.Arg{Kind: event.ArgInt, Int: 5, Label: `l"`})
			check(c.name+", an argument more", ev)
			ev.Tid, ev.Refs = 10, 3
			check(c.name+", a thread", ev)
			ev.Hook.Action, ev.Hook.ReturnAction = event.ActionSigkill, event.ActionPost
			check(c.name+", other actions", ev)
			ev.Parent = &event.Process{Key: event.Key{Pid: 1, Ktime: 2}, Binary: "/parent"}
			check(c.name+", a parent", ev)
			ev.Parent.Binary = "/other"
			ev.Parent.Encoded.Reset()
			check(c.name+", the parent changed", ev)
			ev.Process.Docker = strings.Repeat("a", 31)
			ev.Process.Encoded.Reset()
			check(c.name+", the process changed", ev)
			ev.Hook.Args = nil
			check(c.name+", no arguments", ev)
			ev.Ancestors = []*event.Process{ev.Parent}
			check(c.name+", ancestors", ev)
			ev.Ancestors = nil
			ev.Hook.Return = &event.Arg{Kind: event.ArgInt, Int: 1}
			check(c.name+", a return value", ev)
			ev.Hook.Return = nil
			ev.Hook.KernelStack = []event.Frame{{Symbol: "f"}}
			check(c.name+", a stack", ev)
			ev.Hook.KernelStack = nil
			ev.Hook.Suppressed = 7
			check(c.name+", some were held back", ev)
			ev.Hook.Suppressed = 0
			ev.Hook.Merged.Count = 7
			check(c.name+", of several calls", ev)
			ev.Hook.Merged.Count = 0
			n++
			ev.Hook.Alike, ev.Hook.Message, ev.Hook.Tags = uint64(n), "m", []string{"t", "u"}
			check(c.name+", a message", ev)
			ev.Process.Arguments = strings.Repeat("x", maxLine)
			ev.Process.Encoded.Reset()
			check(c.name+", too long to be kept", ev)
		}
	}
	for _, kind := range []event.ArgKind{event.ArgInt, event.ArgUint, event.ArgLong, event.ArgSize} {
		ev := hookEvent(event.KindKprobe, event.Arg{Kind: kind})
		n++
		ev.Hook.Alike = uint64(n)
		for _, v := range []uint64{0, 7, 1<<31 - 1, 1 << 31, 1<<32 + 5, 1<<63 - 1, 1 << 63, ^uint64(0)} {
			ev.Hook.Args = []event.Arg{{Kind: kind, Int: v}, {Kind: event.ArgInt, Int: ^v}}
			check("numbers", ev)
		}
	}
	kept := 0
	for i := range keeping.lines.places {
		if len(keeping.lines.places[i].text) > 0 {
			kept++
		}
	}
	if kept == 0 {
		t.Error("no line was ever remembered")
	}
}
