// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"fmt"
	"strings"
	"testing"

	"tetragon/internal/event"
)

// TestHook_process: what is patched into a kept fragment is what would be written from scratch, with whatever stands
// around it.
func TestHookEvent_process(t *testing.T) {
	for i := range 1 << 6 {
		bit := func(n int) bool { return i>>n&1 != 0 }
		opts := Options{NodeName: "node-a", Cred: bit(0), Ns: bit(1), Username: true}
		fresh := New(opts)
		opts.KeepFragments = true
		keeping := New(opts)
		p := &event.Process{
			Key: event.Key{Pid: 31415, Ktime: 7}, Binary: `/x,"tid":1,"cap":{},"ns":{},"refcnt":1`, Flags: event.FlagExecve,
			Ns: event.Namespaces{Mnt: 5}, User: `"tid":`, Env: []event.EnvVar{{Key: "tid", Value: `,"tid":1`}},
		}
		if bit(2) {
			p.Refcnt = 2
		}
		p.Placeholder = bit(3)
		ev := &event.Event{Kind: event.KindKprobe, Tid: 31415, Process: p, Parent: p, Hook: &event.Hook{Policy: "p"}}
		if bit(4) {
			ev.Tid = 9
		}
		if bit(5) {
			ev.Refs = 12
		}
		line := string(fresh.AppendJSON(nil, ev))
		checkForms(t, []byte(line), fresh.AppendWire(nil, ev))
		for range 2 {
			kept := keeping.AppendJSON(nil, ev)
			if string(kept) != line {
				t.Errorf("%06b:\n got %s\nwant %s", i, kept, line)
			}
			checkForms(t, kept, keeping.AppendWire(nil, ev))
		}
		p.Encoded.Reset()
		p.Binary = "/y"
		p.Encoded.JSON = p.Encoded.JSON[:0]
		if got, want := string(keeping.AppendJSON(nil, ev)), string(fresh.AppendJSON(nil, ev)); got != want {
			t.Errorf("%06b, after a change:\n got %s\nwant %s", i, got, want)
		}
		if !p.Placeholder && (!strings.Contains(line, fmt.Sprintf(`,"tid":%d,`, ev.Tid)) || !strings.Contains(line, fmt.Sprintf(`,"refcnt":%d,`, max(ev.Refs, 1)))) {
			t.Errorf("%06b: no thread or no references in %s", i, line)
		}
	}
}

func TestHookEvent_stacks(t *testing.T) {
	ev := &event.Event{Kind: event.KindKprobe, Hook: &event.Hook{
		KernelStack: []event.Frame{{Address: 1000, Offset: 1, Symbol: "vfs_read"}, {Address: 2000, Symbol: "entry"}},
		UserStack:   []event.Frame{{Address: 3000, Offset: 57104, Module: "/usr/lib/libc.so.6"}, {Address: 4000}},
	}}
	for _, c := range []struct {
		addresses bool
		want      string
	}{
		{false, `"kernel_stack_trace":[{"offset":"1","symbol":"vfs_read"},{"symbol":"entry"}],"user_stack_trace":[{"offset":"57104","module":"/usr/lib/libc.so.6"}]}`},
		{true, `"kernel_stack_trace":[{"address":"1000","offset":"1","symbol":"vfs_read"},{"address":"2000","symbol":"entry"}],` +
			`"user_stack_trace":[{"address":"3000","offset":"57104","module":"/usr/lib/libc.so.6"},{"address":"4000"}]}`},
	} {
		e := New(Options{StackAddresses: c.addresses})
		got := e.AppendJSON(nil, ev)
		checkForms(t, got, e.AppendWire(nil, ev))
		if !strings.Contains(string(got), c.want) {
			t.Errorf("got %s\nwant %s", got, c.want)
		}
	}
}

// TestHook_oddArguments: an argument that no reader makes is still one that can be written.
func TestHookEvent_oddArguments(t *testing.T) {
	var args []event.Arg
	for k := range event.ArgError + 2 {
		args = append(args, event.Arg{Kind: k}, event.Arg{Kind: k, Object: new(event.Cred)}, event.Arg{Kind: k, Object: new(event.Sock)})
	}
	for _, kind := range []event.Kind{event.KindKprobe, event.KindTracepoint} {
		e := New(Options{})
		ev := &event.Event{Kind: kind, Hook: &event.Hook{Args: args}}
		checkForms(t, e.AppendJSON(nil, ev), e.AppendWire(nil, ev))
	}
}
