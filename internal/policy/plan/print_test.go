// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// sample is a plan with something of nearly everything.
func sample() *Plan {
	return &Plan{
		Policy: "sample", Kernel: "6.12", Section: "kprobes",
		Sets: []Set{{Kind: SetPaths, Paths: []string{"/bin/a", "/bin/b"}}, {Kind: SetPids, Pids: []uint32{1, 7}}},
		Hooks: []Hook{
			{
				Section: "kprobes", Event: EventKprobe, Name: "security_file_permission", Message: "a \"message\"", Tags: []string{"t.one"},
				Attach: Attach{Backend: BackendFexit, Symbol: "security_file_permission", Params: 2},
				Values: []Value{
					{Source: Source{Kind: SourceArg}, Type: TypeFile},
					{Source: Source{Kind: SourceArg, N: 1}, Type: TypeInt, Bits: 32, Signed: true},
					{Source: Source{Kind: SourceReturn}, Type: TypeInt, Bits: 32, Signed: true},
					{Source: Source{Kind: SourceTask, Steps: []Step{{Off: 8, Size: 8}, {Off: -4, Size: 4, Signed: true}}}, Type: TypeInt, Bits: 32, Signed: true},
				},
				Args:   []Arg{{Value: 0, Type: "file"}, {Value: 1, Type: "int", Index: 1, Label: "mask"}, {Value: -1, Type: "nop", Index: 2}},
				Data:   []Arg{{Value: 3, Type: "int"}},
				Return: &Arg{Value: 2, Type: "int"},
				Rules: []Rule{
					{
						Filters: []Filter{
							{Kind: FilterPrefix, Value: 0, Strings: []string{"/etc/", "/usr"}, Text: `args[0] Prefix "/etc/" "/usr"`},
							{Kind: FilterRanges, Value: 1, Ranges: []Range{{4, 4}, {1<<64 - 1, 1<<64 - 1}}, Text: "args[1] Equal 4 -1"},
							{Kind: FilterClass, Not: true, Set: 0, Of: OfLine},
							{Kind: FilterRanges, Task: TaskNsNet, Ranges: []Range{{7, 9}}},
							{Kind: FilterBits, Task: TaskCapEffective, Mask: 0x21, Not: true},
						},
						Do: Actions{Post: true, Last: "Post", LastReturn: "Post", RateLimit: time.Minute, Scope: ScopeProcess, KernelStack: true},
					},
					{Selector: 1, Label: "rest", Do: Actions{Last: "NoPost", LastReturn: "Post"}},
				},
			},
			{
				Section: "kprobes", Index: 1, Event: EventKprobe, Name: "tcp_connect",
				Attach: Attach{
					Backend: BackendSysEnter, Symbol: "connect", Params: 6, Regs: true, Calls: []Call{{"x64", 42}, {"i386", 362}},
					When: []Condition{{Source: Source{Kind: SourceReg, N: 1, Steps: []Step{{Size: 2, User: true}}}, Mask: 0xff, Ranges: []Range{{2, 2}}, Not: true}},
				},
				Tried:   []Attempt{{BackendFentry, "operation not permitted"}, {BackendNone, "none"}},
				Caveats: []string{"sees attempts"},
				Values:  []Value{{Source: Source{Kind: SourceFdFile, N: 0, Steps: []Step{{Off: 24, Size: 8}}}, Type: TypeSock, Track: true}},
				Args:    []Arg{{Value: 0, Type: "sock"}},
				Rules: []Rule{{
					Filters: []Filter{{Kind: FilterAddrs, Field: FieldDaddr, Not: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}},
					Do:      Actions{Post: true, Last: "TrackSock", LastReturn: "Post", Track: []Track{{Value: 0}}},
				}},
			},
			{Section: "kprobes", Index: 2, Event: EventKprobe, Name: "nowhere", Inactive: "this kernel has no function nowhere"},
		},
	}
}

func TestPlan_String(t *testing.T) {
	const want = `policy sample kernel 6.12
set 0 binary is {"/bin/a" "/bin/b"}
set 1 pid {1 7}
hook 0 kprobes[0] security_file_permission
  message  "a \"message\""
  tag      "t.one"
  attach   fexit security_file_permission params=2
  value    0 file arg0
  value    1 s32 arg1
  value    2 s32 ret
  value    3 s32 task->+8/8->+-4/4s
  arg      v0 file index 0
  arg      v1 int index 1 label "mask"
  arg      - nop index 2
  data     v3 int index 0
  return   v2 int index 0
  rule     0 selector 0
           if   v0 begins with {"/etc/" "/usr"}
           if   v1 in {4 -1}
           if   process or ancestor not in set 0
           if   task.ns_net in {7..9}
           if   task.cap_effective not has bits 0x21
           then post, once per 1m0s per process, kernel stack (Post/Post)
  rule     1 selector 1 "rest"
           then no post (NoPost/Post)
hook 1 kprobes[1] tcp_connect
  attach   sys_enter connect calls x64/42 i386/362 params=6 regs
  when     reg1->+0/2(user) & 0xff not in {2}
  tried    fentry: operation not permitted
  tried    equivalent: none
  caveat   sees attempts
  value    0 sock file(reg0)->+24/8 owner
  arg      v0 sock index 0
  rule     0 selector 0
           if   v0.daddr not in {10.0.0.0/8}
           then post, track v0 (TrackSock/Post)
hook 2 kprobes[2] nowhere
  inactive this kernel has no function nowhere
`
	if got := sample().String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestPlan_Explain(t *testing.T) {
	got := sample().Explain()
	for _, want := range []string{
		"Policy sample on kernel 6.12: 2 hooks, 1 more inactive.\n",
		"  set 1: pid {1 7}\n",
		"  runs      at the exit of the function, by a trampoline that sees arguments and return value (fexit)\n",
		"  tells     args[0] (file): parameter 0\n            args[1] (int, mask): parameter 1\n",
		// Cheapest first, whatever the order in the policy.
		"  looks at  1. args[1] (int, mask), about 15 instructions\n",
		"            4. which program the process runs, about 120 instructions\n",
		"            5. args[0] (file), about 1815 instructions\n",
		"  decides   selector 0, if args[0] Prefix \"/etc/\" \"/usr\" and args[1] Equal 4 -1 and process or ancestor not in set 0 and",
		"  else      selector 1 (rest), always: no event",
		"if v0.daddr not in {10.0.0.0/8}: an event, the process is remembered as the owner of args[0] (sock)\n",
		"an event, the same one at most once in 1m0s by process, with the stack in the kernel\n",
		"args[0] (sock): the file behind the descriptor in argument 0, through 1 load\n",
		"  not       fentry: operation not permitted\n",
		"  mind      sees attempts\n",
		"  inactive  this kernel has no function nowhere\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

// TestHook_Estimate holds the estimates to what was measured: engine.md 3.1.
func TestHook_Estimate(t *testing.T) {
	h := Hook{
		Attach: Attach{Backend: BackendFentry},
		Values: []Value{{Source: Source{Kind: SourceArg}, Type: TypeInt, Bits: 32}, {Source: Source{Kind: SourceArg}, Type: TypeFile}},
		Rules:  []Rule{{Filters: []Filter{{Kind: FilterRanges, Value: 0}}}},
		Args:   []Arg{{Value: 0}},
	}
	if first, last, _ := h.Estimate(); first != last || first < 160 || first > 220 {
		t.Errorf("an integer that does not match: %d to %d", first, last)
	}
	h.Rules[0].Filters = append(h.Rules[0].Filters, Filter{Kind: FilterPrefix, Value: 1})
	first, last, post := h.Estimate()
	if first > 220 || last < 1700 || last > 2400 || post <= last {
		t.Errorf("integer and path: %d, %d, %d", first, last, post)
	}
	// A second selector without the integer keeps the call alive until the path is known.
	h.Rules = append(h.Rules, Rule{Filters: []Filter{{Kind: FilterPrefix, Value: 1}}})
	if first, last, _ := h.Estimate(); first != last {
		t.Errorf("one selector needs the path: %d, %d", first, last)
	}
	h.Rules = []Rule{{}}
	if first, _, post := h.Estimate(); post < first+1000 {
		t.Errorf("every call: %d, %d", first, post)
	}
}

// TestPrint_unknown holds that nothing out of range makes printing panic.
func TestPrint_unknown(t *testing.T) {
	p := &Plan{
		Sets: []Set{{Kind: 200}},
		Hooks: []Hook{{
			Attach: Attach{Backend: 200, When: []Condition{{Source: Source{Kind: 200}}}},
			Values: []Value{{Type: 200}}, Args: []Arg{{Value: 99}},
			Rules: []Rule{{
				Filters: []Filter{{}, {Kind: 200, Value: -3, Field: 200}, {Task: 200, Kind: FilterRanges}, {Kind: FilterClass, Of: 200}, {Kind: FilterPrefix, Value: 77}},
				Do:      Actions{RateLimit: 1, Scope: 99},
			}},
		}},
	}
	if s := p.String() + p.Explain() + fmt.Sprint(Type(200), Backend(200)); !strings.Contains(s, "unknown") {
		t.Error(s)
	}
}
