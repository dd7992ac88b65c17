// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tetragon/internal/policy/plan"
)

// watch is a plan with a bit of everything.
func watch() *plan.Plan {
	hook := func(name string, types ...plan.Type) plan.Hook {
		h := plan.Hook{Section: "kprobes", Event: plan.EventKprobe, Name: name}
		for i, t := range types {
			h.Values = append(h.Values, plan.Value{Type: t})
			h.Args = append(h.Args, plan.Arg{Value: i, Type: "x", Index: i})
		}
		return h
	}
	rule := func(n int, post bool, fs ...plan.Filter) plan.Rule {
		return plan.Rule{Selector: n, Filters: fs, Do: plan.Actions{Post: post}}
	}
	eq := func(v int, n uint64) plan.Filter {
		return plan.Filter{Kind: plan.FilterRanges, Value: v, Ranges: ranges(n, n), Text: "a number"}
	}
	class := func(set int, of plan.Relation) plan.Filter {
		return plan.Filter{Kind: plan.FilterClass, Set: set, Of: of, Text: "a binary"}
	}
	open := hook("open", plan.TypeFile, plan.TypeInt)
	open.Args = []plan.Arg{{Value: 0, Type: "file"}, {Value: -1, Type: "nop"}, {Value: 1, Type: "int"}}
	open.Values = append(open.Values, plan.Value{Type: plan.TypeInt})
	open.Return = &plan.Arg{Value: 2, Type: "int"}
	open.Rules = []plan.Rule{
		rule(0, false, class(0, plan.OfSelf)),
		rule(1, true,
			plan.Filter{Kind: plan.FilterPrefix, Strings: []string{"/etc/"}, Text: "a path"},
			plan.Filter{Kind: plan.FilterRanges, Field: plan.FieldFileType, Ranges: ranges(0o100000, 0o100000), Text: "a regular file"},
			eq(1, 4), eq(2, 1<<64-1)),
	}
	connect := hook("connect", plan.TypeSock)
	connect.Rules = []plan.Rule{rule(0, true,
		plan.Filter{Kind: plan.FilterAddrs, Not: true, Field: plan.FieldDaddr, Prefixes: prefixes("127.0.0.0/8", "10.0.0.0/8"), Text: "an address"},
		plan.Filter{Kind: plan.FilterRanges, Field: plan.FieldState, Ranges: ranges(2, 2), Text: "a state"},
	)}
	connect.Rules[0].Do.RateLimit = 1
	line := hook("line")
	line.Rules = []plan.Rule{
		rule(0, true, class(0, plan.OfLine)), rule(1, true, class(0, plan.OfParent)), rule(2, true, class(1, plan.OfAncestor)),
	}
	task := hook("task")
	task.Rules = []plan.Rule{
		rule(0, true, plan.Filter{Kind: plan.FilterRanges, Task: plan.TaskPid, Ranges: ranges(7, 7), Text: "pid"}),
		rule(1, true, plan.Filter{Kind: plan.FilterBits, Task: plan.TaskCapEffective, Mask: 1 << 21, Text: "CAP_SYS_ADMIN"}),
		rule(2, true, plan.Filter{Kind: plan.FilterRanges, Task: plan.TaskNsNet, Ranges: ranges(4026531840, 4026531840), Text: "net"}),
		rule(3, true, plan.Filter{Kind: plan.FilterRanges, Task: plan.TaskHostUserNS, Ranges: ranges(0, 0), Text: "user ns"}),
		rule(4, true, plan.Filter{Kind: plan.FilterBits, Task: plan.TaskNsChanged, Mask: 1, Text: "changed"}),
	}
	tp := hook("", plan.TypeInt)
	tp.Event, tp.Subsys, tp.TpEvent = plan.EventTracepoint, "raw_syscalls", "sys_enter"
	tp.Rules = []plan.Rule{rule(0, true, eq(0, 1<<31|3))}
	return &plan.Plan{
		Policy: "w", Loader: true, Hooks: []plan.Hook{open, connect, line, task, tp},
		Sets: []plan.Set{{Kind: plan.SetPaths, Paths: []string{"/bin/a"}}, {Kind: plan.SetPids, Pids: []uint32{5}}},
	}
}

func TestEvent(t *testing.T) {
	for _, c := range []struct{ name, line, want string }{
		{"the second selector", `{"process_kprobe":{"process":{"binary":"/bin/b"},"function_name":"open","policy_name":"w",
			"args":[{"file_arg":{"path":"/etc/x","permission":"-rw-r--r--"}},{"int_arg":4,"label":"l"}],"return":{"int_arg":-1}}}`, `
open: selector 1 matches, posts
  selector 0: no
    a binary: no
  selector 1: yes
    a path: yes
    a regular file: yes
    a number: yes
    a number: yes
`},
		{"a selector that does not post", `{"process_kprobe":{"process":{"binary":"/bin/a"},"function_name":"open",
			"args":[{"file_arg":{"path":"/etc","permission":"drwxr-xr-x"}},{"int_arg":5}],"return":{"int_arg":0}}}`, `
open: selector 0 matches, does not post
  selector 0: yes
    a binary: yes
  selector 1: no
    a path: no
    a regular file: no
    a number: no
    a number: no
`},
		{"an argument is missing", `{"process_kprobe":{"process":{"binary":"/bin/b"},"function_name":"open",
			"args":[{"int_arg":4}],"return":{"int_arg":0}}}`, `
open: no selector matches
  selector 0: no
    a binary: no
  selector 1: no
    a path: unknown, the event does not have the value
    a regular file: unknown, the event does not have the value
    a number: unknown, the event does not have the value
    a number: no
  note: the event has 1 of the 2 args of the hook; they are not looked at
`},
		{"not all is told", `{"process_kprobe":{"process":{},"function_name":"open","policy_name":"other",
			"args":[{"error_arg":{"Message":"x"}},{"string_arg":"4"}]}}`, `
open: no selector matches; not sure, as the event does not tell all
  selector 0: unknown
    a binary: unknown, the event does not have all that is needed of the process and its ancestors
  selector 1: no
    a path: no
    a regular file: no
    a number: unknown, the event does not have the value
    a number: unknown, the event does not have the value
  note: recorded by policy other, whose arguments are taken for those of w
  note: args 0 (int) is not looked at: it is a text, not a number
`},
		{"a socket", `{"process_kprobe":{"function_name":"connect","args":[{"sock_arg":{"family":"AF_INET","type":"SOCK_STREAM",
			"protocol":"IPPROTO_TCP","saddr":"10.0.0.1","daddr":"192.0.2.1","sport":1,"dport":2,"state":"TCP_SYN_SENT"}}]}}`, `
connect: selector 0 matches, posts
  selector 0: yes
    an address: yes
    a state: yes
  note: the event is the first within its rate limit
`},
		{"a socket of another family", `{"process_kprobe":{"function_name":"connect","args":[{"sock_arg":{"family":"AF_UNIX","type":"7",
			"saddr":"invalid IP","daddr":"invalid IP","state":"TCP_SYN_SENT"}}]}}`, `
connect: no selector matches
  selector 0: no
    an address: no
    a state: yes
`},
		{"a socket that is not understood", `{"process_kprobe":{"function_name":"connect","args":[{"sock_arg":{"family":"AF_MARS"}}]}}`, `
connect: no selector matches; not sure, as the event does not tell all
  selector 0: unknown
    an address: unknown, the event does not have the value
    a state: unknown, the event does not have the value
  note: args 0 (x) is not looked at: "AF_MARS" is not known
`},
		{"ancestors", `{"process_kprobe":{"process":{"pid":9,"binary":"/bin/b"},"parent":{"pid":8,"binary":"/bin/c"},
			"ancestors":[{"pid":5,"binary":"/bin/a"}],"function_name":"line"}}`, `
line: selector 0 matches, posts
  selector 0: yes
    a binary: yes
  selector 1: no
    a binary: no
  selector 2: yes
    a binary: yes
`},
		{"some ancestors", `{"process_kprobe":{"process":{"pid":9,"binary":"/bin/b"},"parent":{"pid":8,"binary":"/bin/c"},"function_name":"line"}}`, `
line: no selector matches; not sure, as the event does not tell all
  selector 0: unknown
    a binary: unknown, the event does not have all that is needed of the process and its ancestors
  selector 1: no
    a binary: no
  selector 2: unknown
    a binary: unknown, the event does not have all that is needed of the process and its ancestors
`},
		{"all ancestors", `{"process_kprobe":{"process":{"pid":9,"binary":"/bin/b"},"parent":{"pid":1,"binary":"/bin/c"},"function_name":"line"}}`, `
line: no selector matches
  selector 0: no
    a binary: no
  selector 1: no
    a binary: no
  selector 2: no
    a binary: no
`},
		{"no parent", `{"process_kprobe":{"process":{"pid":9,"binary":"/bin/a"},"function_name":"line"}}`, `
line: selector 0 matches, posts
  selector 0: yes
    a binary: yes
  selector 1: unknown
    a binary: unknown, the event does not have the parent
  selector 2: unknown
    a binary: unknown, the event does not have all that is needed of the process and its ancestors
`},
		{"the process", `{"process_kprobe":{"process":{"pid":8,"cap":{"effective":["CAP_CHOWN","DAC_OVERRIDE","CAP_SYS_ADMIN"]},
			"ns":{"net":{"inum":4026531840},"user":{"inum":1,"is_host":true}}},"function_name":"task"}}`, `
task: selector 1 matches, posts
  selector 0: no
    pid: no
  selector 1: yes
    CAP_SYS_ADMIN: yes
  selector 2: yes
    net: yes
  selector 3: no
    user ns: no
  selector 4: unknown
    changed: unknown, events do not tell it
  note: capabilities are those at exec
  note: namespaces are those at exec
`},
		{"an unknown process", `{"process_kprobe":{"process":{},"function_name":"task"}}`, `
task: no selector matches; not sure, as the event does not tell all
  selector 0: unknown
    pid: unknown, the event does not have the process id
  selector 1: unknown
    CAP_SYS_ADMIN: unknown, the event does not have the capabilities of the process (--enable-process-cred)
  selector 2: unknown
    net: unknown, the event does not have the namespaces of the process (--enable-process-ns)
  selector 3: unknown
    user ns: unknown, the event does not have the namespaces of the process (--enable-process-ns)
  selector 4: unknown
    changed: unknown, events do not tell it
`},
		{"a tracepoint", `{"process_tracepoint":{"subsys":"raw_syscalls","event":"sys_enter","args":[{"syscall_id":{"id":3,"abi":"i386"}}]}}`, `
raw_syscalls/sys_enter: selector 0 matches, posts
  selector 0: yes
    a number: yes
`},
		{"an executable mapping", `{"process_loader":{"path":"/lib/x.so"}}`, "\nloader: posts\n"},
		{"another function", `{"process_kprobe":{"function_name":"close"}}`, "\n"},
		{"another event", `{"process_exec":{}}`, "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := Event(watch(), []byte(c.line))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(strings.TrimPrefix(c.want, "\n"), v.String()); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
	if _, err := Event(watch(), []byte(`{"process_kprobe":[]}`)); err == nil {
		t.Error("no event is accepted")
	}
}

func parseArgument(t *testing.T, text string) argument {
	t.Helper()
	var a argument
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// TestEvent_arguments reads every kind of argument that filters can look at.
func TestEvent_arguments(t *testing.T) {
	for _, c := range []struct {
		arg  string
		typ  plan.Type
		want Value
	}{
		{`{"int_arg":-1}`, plan.TypeInt, Value{Int: minus1}},
		{`{"uint_arg":4294967295}`, plan.TypeInt, Value{Int: 4294967295}},
		{`{"long_arg":"-9223372036854775808"}`, plan.TypeInt, Value{Int: 1 << 63}},
		{`{"size_arg":"18446744073709551615"}`, plan.TypeInt, Value{Int: minus1}},
		{`{"capability_arg":{"value":21,"name":"CAP_SYS_ADMIN"}}`, plan.TypeInt, Value{Int: 21}},
		{`{"syscall_id":{"id":59,"abi":"x64"}}`, plan.TypeInt, Value{Int: 59}},
		{`{"cap_effective_arg":"000001ffffffffff"}`, plan.TypeInt, Value{Int: 1<<41 - 1}},
		{`{"kernel_cap_t_arg":"0000000000000000"}`, plan.TypeInt, Value{}},
		{`{"string_arg":"a\u00e4"}`, plan.TypeString, Value{Text: []byte("aä")}},
		{`{"bytes_arg":"AAH/"}`, plan.TypeBytes, Value{Text: []byte{0, 1, 255}}},
		{`{"truncated_bytes_arg":{"bytes_arg":"AAE=","orig_size":"9"}}`, plan.TypeIovec, Value{Text: []byte{0, 1}}},
		{`{"path_arg":{"path":"/a","permission":"lrwxrwxrwx"}}`, plan.TypeDentry, Value{Text: []byte("/a"), Mode: 0o120000}},
		{`{"linux_binprm_arg":{"path":"/b","permission":"-rwsr-xr-x"}}`, plan.TypeBinprm, Value{Text: []byte("/b"), Mode: 0o100000}},
		{`{"sockaddrun_arg":{"family":"AF_UNIX","path":"@x"}}`, plan.TypeSockaddrUn, Value{Text: []byte("\x00x"), Net: Net{Family: 1}}},
		{`{"sockaddr_arg":{"family":"AF_INET6","addr":"::1","port":443}}`, plan.TypeSockaddr,
			Value{Net: Net{Family: 10, Sport: 443, Saddr: [16]byte{15: 1}}}},
		{`{"skb_arg":{"family":"AF_INET","protocol":"IPPROTO_UDP","saddr":"1.2.3.4","daddr":"5.6.7.8","sport":53,"dport":54}}`, plan.TypeSkb,
			Value{Net: Net{Family: 2, Protocol: 17, Sport: 53, Dport: 54, Saddr: [16]byte{1, 2, 3, 4}, Daddr: [16]byte{5, 6, 7, 8}}}},
		{`{"sock_arg":{"family":"44","type":"SOCK_DGRAM","protocol":"200","state":"0"}}`, plan.TypeSock,
			Value{Net: Net{Family: 44, SockType: 2, Protocol: 200}}},
		{`{"error_arg":{"Message":"Bad address"}}`, plan.TypeSock, Value{Bad: true}},
	} {
		p := &plan.Plan{Hooks: []plan.Hook{{
			Event: plan.EventKprobe, Name: "f", Values: []plan.Value{{Type: c.typ}}, Args: []plan.Arg{{Value: 0, Type: "x"}},
		}}}
		told := &told{plan: p, hook: &p.Hooks[0], call: &call{}, values: make([]Value, 1), known: make([]bool, 1)}
		told.readOne("args", &p.Hooks[0].Args[0], parseArgument(t, c.arg))
		if !told.known[0] {
			t.Errorf("%s: not known: %v", c.arg, told.notes)
		}
		v := told.values[0]
		if d := cmp.Diff(c.want, v); d != "" {
			t.Errorf("%s: -want +got\n%s", c.arg, d)
		}
	}
	for _, bad := range []string{`{}`, `{"label":"x"}`, `{"string_arg":"\ufffd"}`, `{"size_arg":"x"}`, `{"sock_arg":[]}`, `{"cap_permitted_arg":"zz"}`} {
		if _, _, err := parseArgument(t, bad).value(); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
	if _, class, _ := parseArgument(t, `{"bpf_map_arg":{}}`).value(); class != "an object" {
		t.Error(class)
	}
}

// FuzzEvent wants no line to break it, and no verdict that contradicts itself.
func FuzzEvent(f *testing.F) {
	f.Add(`{"process_kprobe":{"process":{"pid":9,"binary":"/bin/a"},"parent":{"pid":1},"function_name":"open",
		"args":[{"file_arg":{"path":"/etc/x","permission":"-rw"}},{"int_arg":4}],"return":{"int_arg":-1}}}`)
	f.Add(`{"process_kprobe":{"function_name":"connect","args":[{"sock_arg":{"family":"AF_INET","daddr":"1.2.3.4"}}]}}`)
	f.Add(`{"process_tracepoint":{"subsys":"raw_syscalls","event":"sys_enter","args":[{"syscall_id":{"id":3}}]}}`)
	p := watch()
	f.Fuzz(func(t *testing.T, line string) {
		v, err := Event(p, []byte(line))
		if err != nil {
			return
		}
		for i := range v.Hooks {
			h := &v.Hooks[i]
			for j, r := range h.Rules {
				switch {
				case h.First == j && r.Matches != Yes, j < h.First && r.Matches == Yes, h.First < 0 && r.Matches == Yes:
					t.Errorf("rule %d decides, but %d is %s", h.First, j, r.Matches)
				case r.Matches == Unknown && h.Sure && (h.First < 0 || j < h.First):
					t.Errorf("sure, though rule %d is not known", j)
				}
			}
		}
		_ = v.String()
	})
}
