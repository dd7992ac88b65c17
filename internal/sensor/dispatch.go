// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"tetragon/internal/abi"
	"tetragon/internal/policy/plan"
)

// Ways of a system call, as SYS_ENTER and SYS_EXIT of bpf/hook/dispatch.h.
const (
	sysEnter = iota
	sysExit
	sysDirs
)

// maxChain is how many programs may want one system call: the kernel follows 33 tail calls.
const maxChain = 32

// dirOf says which way a back-end sees system calls, or false if it does not.
func dirOf(b plan.Backend) (int, bool) {
	switch b {
	case plan.BackendSysEnter:
		return sysEnter, true
	case plan.BackendSysExit:
		return sysExit, true
	}
	return 0, false
}

// body is one loaded copy of a program for system calls. It goes on to the body behind it, always the same one: so chains
// never change under a call that runs through them. The chain of a system call is exchanged by one store of its first
// body. Chains that end alike share the bodies of that end.
type body struct {
	key    string
	of     *program
	compat bool
	next   *body
	index  int // in the table of bodies
	prog   *ebpf.Program
}

// dispatcher is one way: the program at the tracepoint that all system calls pass, and the bodies.
type dispatcher struct {
	dir    int
	link   link.Link
	prog   *ebpf.Program
	bodies map[string]*body
	index  *rows
	first  map[call]*body // what is installed
}

// call is one system call.
type call struct {
	compat bool
	nr     int
}

func newDispatcher(dir int) *dispatcher {
	return &dispatcher{dir: dir, bodies: make(map[string]*body), index: newRows(1, abi.LimitSysBodies-1), first: make(map[call]*body)}
}

var dispatchers = [sysDirs]struct{ prog, tracepoint, table string }{
	{"sys_enter_all", "sys_enter", "enter_bodies"}, {"sys_exit_all", "sys_exit", "exit_bodies"},
}

// chains finds the first body of each system call that the programs want. New bodies, which are to be loaded and put into
// the table, are the second result. Newer programs come first, so that those that are there need no new copy.
func (d *dispatcher) chains(progs []*program) (map[call]*body, []*body, error) {
	wants := make(map[call][]*program)
	for _, p := range progs {
		for _, c := range p.p.Attach.Calls {
			k, err := callOf(c)
			if err != nil {
				return nil, nil, err
			}
			if !slices.Contains(wants[k], p) {
				wants[k] = append(wants[k], p)
			}
		}
	}
	heads := make(map[call]*body)
	fresh := make(map[string]*body)
	var order []*body
	for _, k := range sortedCalls(wants) {
		ps := wants[k]
		if len(ps) > maxChain {
			return nil, nil, fmt.Errorf("hook system call %d: %d different programs want it, %d can", k.nr, len(ps), maxChain)
		}
		slices.SortFunc(ps, func(a, b *program) int { return int(a.p.ID) - int(b.p.ID) })
		var tail *body
		for _, p := range ps {
			key := fmt.Sprintf("%d.%t", p.p.ID, k.compat)
			if tail != nil {
				key += ">" + tail.key
			}
			b := d.bodies[key]
			if b == nil {
				b = fresh[key]
			}
			if b == nil {
				b = &body{key: key, of: p, compat: k.compat, next: tail}
				fresh[key] = b
				order = append(order, b)
			}
			tail = b
		}
		heads[k] = tail
	}
	return heads, order, nil
}

func callOf(c plan.Call) (call, error) {
	k := call{nr: c.Nr}
	switch c.ABI {
	case "x64", "arm64":
	case "i386", "arm32":
		k.compat = true
	default:
		return k, fmt.Errorf("hook system call %d: the ABI %q is not known", c.Nr, c.ABI)
	}
	if c.Nr < 0 || c.Nr >= abi.LimitSysNumbers {
		return k, fmt.Errorf("hook system call %d: numbers below %d are possible", c.Nr, abi.LimitSysNumbers)
	}
	return k, nil
}

func sortedCalls[V any](m map[call]V) []call {
	var out []call
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b call) int {
		if a.compat != b.compat {
			if b.compat {
				return -1
			}
			return 1
		}
		return a.nr - b.nr
	})
	return out
}

// install makes heads what the system calls go to, one store each. It returns the bodies that nothing leads to any more.
func (d *dispatcher) install(t *tables, heads map[call]*body) []*body {
	for _, k := range sortedCalls(heads) {
		if b := heads[k]; d.first[k] != b {
			t.first(d.dir, compatIndex(k.compat), k.nr, b.index)
			t.want(d.dir, compatIndex(k.compat), k.nr, true)
		}
	}
	for _, k := range sortedCalls(d.first) {
		if heads[k] == nil {
			t.want(d.dir, compatIndex(k.compat), k.nr, false)
			t.first(d.dir, compatIndex(k.compat), k.nr, 0)
		}
	}
	d.first = heads
	used := make(map[*body]bool)
	for _, b := range heads {
		for ; b != nil; b = b.next {
			used[b] = true
		}
	}
	var idle []*body
	for _, k := range keys(d.bodies) {
		if b := d.bodies[k]; !used[b] {
			idle = append(idle, b)
			delete(d.bodies, k)
		}
	}
	return idle
}

func compatIndex(compat bool) int {
	if compat {
		return 1
	}
	return 0
}

// String prints chains, for tests: each system call and the programs that it goes through.
func (d *dispatcher) String() string {
	var b strings.Builder
	for _, k := range sortedCalls(d.first) {
		abi := "x64"
		if k.compat {
			abi = "i386"
		}
		fmt.Fprintf(&b, "%s/%d:", abi, k.nr)
		for x := d.first[k]; x != nil; x = x.next {
			fmt.Fprintf(&b, " %d", x.of.p.ID)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
