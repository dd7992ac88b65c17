// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	gocmp "github.com/google/go-cmp/cmp"

	"tetragon/api/v1/tetragon"
	"tetragon/internal/event"
)

// unmakeKprobe turns a message back into the event that it says. It knows the arguments that the recordings have.
func unmakeKprobe(ev *event.Event, x *tetragon.ProcessKprobe) {
	ev.Kind, ev.Process, ev.Parent = event.KindKprobe, unmakeProcess(x.Process), unmakeProcess(x.Parent)
	ev.Tid, ev.Refs = x.Process.Tid.GetValue(), x.Process.Refcnt
	if ev.Process.Flags&event.FlagClone != 0 { // did an exec, and so has no count of its own
		ev.Process.Refcnt = 0
	}
	ev.Hook = &event.Hook{
		Policy: x.PolicyName, Function: x.FunctionName, Message: x.Message, Tags: x.Tags, Action: event.Action(x.Action),
		ReturnAction: event.Action(x.ReturnAction),
	}
	for _, a := range x.Args {
		ev.Hook.Args = append(ev.Hook.Args, unmakeArg(a))
	}
	if x.Return != nil {
		a := unmakeArg(x.Return)
		ev.Hook.Return = &a
	}
}

func unmakeArg(m *tetragon.KprobeArgument) event.Arg {
	a := event.Arg{Label: m.Label}
	number := func(names []string, name string) uint32 {
		if i := slices.Index(names, name); i >= 0 {
			return uint32(i)
		}
		n, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			panic(err)
		}
		return uint32(n)
	}
	hex := func(s string) uint64 {
		n, err := strconv.ParseUint(s, 16, 64)
		if err != nil {
			panic(err)
		}
		return n
	}
	switch x := m.Arg.(type) {
	case *tetragon.KprobeArgument_IntArg:
		a.Kind, a.Int = event.ArgInt, uint64(int64(x.IntArg))
	case *tetragon.KprobeArgument_StringArg:
		a.Kind, a.Text = event.ArgString, []byte(x.StringArg)
	case *tetragon.KprobeArgument_FileArg:
		a.Kind, a.Text, a.Int = event.ArgFile, []byte(x.FileArg.Path), uint64(modeOf(x.FileArg.Permission))
	case *tetragon.KprobeArgument_CapEffectiveArg:
		a.Kind, a.Int = event.ArgCapEffective, hex(x.CapEffectiveArg)
	case *tetragon.KprobeArgument_CapInheritableArg:
		a.Kind, a.Int = event.ArgCapInheritable, hex(x.CapInheritableArg)
	case *tetragon.KprobeArgument_CapPermittedArg:
		a.Kind, a.Int = event.ArgCapPermitted, hex(x.CapPermittedArg)
	case *tetragon.KprobeArgument_BpfAttrArg:
		p := &event.BpfProg{Type: uint32(tetragon.BpfProgramType_value[x.BpfAttrArg.ProgType]), Insns: x.BpfAttrArg.InsnCnt}
		copy(p.Name[:], x.BpfAttrArg.ProgName)
		a.Kind, a.Object = event.ArgBpfAttr, p
	case *tetragon.KprobeArgument_BpfMapArg:
		b := x.BpfMapArg
		p := &event.BpfMap{Type: number(mapTypes[:], b.MapType), KeySize: b.KeySize, ValueSize: b.ValueSize, MaxEntries: b.MaxEntries}
		copy(p.Name[:], b.MapName)
		a.Kind, a.Object = event.ArgBpfMap, p
	case *tetragon.KprobeArgument_PerfEventArg:
		b := x.PerfEventArg
		a.Kind, a.Text = event.ArgPerfEvent, []byte(b.KprobeFunc)
		a.Object = &event.PerfEvent{Type: number(perfTypes[:], b.Type), Config: b.Config, Offset: b.ProbeOffset}
	case *tetragon.KprobeArgument_SockArg:
		b := x.SockArg
		s := &event.Sock{
			Cookie: b.Cookie, Mark: b.Mark, Priority: b.Priority, Family: uint16(number(families[:], b.Family)),
			Type: uint16(number(sockTypes[:], b.Type)), Protocol: uint16(number(protocols[:], b.Protocol)),
			State: uint8(number(tcpStates[:], b.State)), Sport: uint16(b.Sport), Dport: uint16(b.Dport),
		}
		copy(s.Saddr[:], netip.MustParseAddr(b.Saddr).AsSlice())
		copy(s.Daddr[:], netip.MustParseAddr(b.Daddr).AsSlice())
		a.Kind, a.Object = event.ArgSock, s
	case *tetragon.KprobeArgument_ProcessCredentialsArg:
		c := x.ProcessCredentialsArg
		q := unmakeProcess(&tetragon.Process{ExecId: "x", Cap: c.Caps, ProcessCredentials: c})
		o := &event.Cred{Creds: q.Creds, NS: event.UserNS{
			Level: c.UserNs.Level.GetValue(), UID: c.UserNs.Uid.GetValue(), GID: c.UserNs.Gid.GetValue(), Inum: c.UserNs.Ns.Inum,
		}}
		for _, b := range c.Securebits {
			o.SecureBits |= uint32(b)
		}
		a.Kind, a.Object = event.ArgCred, o
	default:
		panic("bug: teach unmakeArg " + m.String())
	}
	return a
}

// modeOf reads what permission writes.
func modeOf(text string) uint32 {
	for mode := range uint32(1 << 16) {
		if e := New(Options{}); string(e.permission(mode)) == text {
			return mode
		}
	}
	panic("no mode is " + text)
}

func TestPermission_likeLs(t *testing.T) {
	for mode, want := range map[uint32]string{
		0: "---------", 0o100644: "-rw-r--r--", 0o104755: "-rwsr-xr-x", 0o102644: "-rw-r-Sr--", 0o041777: "drwxrwxrwt",
		0o041776: "drwxrwxrwT", 0o120777: "lrwxrwxrwx", 0o020620: "crw--w----", 0o060660: "brw-rw----", 0o010600: "prw-------",
		0o140755: "srwxr-xr-x", 0o106755: "-rwsr-sr-x", 0o104644: "-rwSr--r--", 0o0644: "rw-r--r--",
	} {
		e := New(Options{})
		if got := string(e.permission(mode)); got != want {
			t.Errorf("mode %o: got %s, want %s", mode, got, want)
		}
	}
}

// every argument there is, by a name of its own, with the JSON that it must make for kprobes.
var hookArgs = []struct {
	name string
	arg  event.Arg
	want string
	tp   string // for tracepoints, where it differs
}{
	{"int", event.Arg{Kind: event.ArgInt, Int: ^uint64(0), Label: "fd"}, `{"int_arg":-1,"label":"fd"}`, ""},
	{"int_zero", event.Arg{Kind: event.ArgInt}, `{"int_arg":0}`, ""},
	{"uint", event.Arg{Kind: event.ArgUint, Int: 4294967295}, `{"uint_arg":4294967295}`, ""},
	{"long", event.Arg{Kind: event.ArgLong, Int: 1 << 63}, `{"long_arg":"-9223372036854775808"}`, ""},
	{"size", event.Arg{Kind: event.ArgSize, Int: 1<<64 - 1}, `{"size_arg":"18446744073709551615"}`, ""},
	{"capability", event.Arg{Kind: event.ArgCapability, Int: 21}, `{"capability_arg":{"value":21,"name":"CAP_SYS_ADMIN"}}`, ""},
	{"capability_0", event.Arg{Kind: event.ArgCapability}, `{"capability_arg":{"value":0,"name":"CAP_CHOWN"}}`, ""},
	{"capability_unknown", event.Arg{Kind: event.ArgCapability, Int: 63}, `{"capability_arg":{"value":63}}`, ""},
	{"kernel_cap", event.Arg{Kind: event.ArgKernelCap, Int: 0x1ffffffffff}, `{"kernel_cap_t_arg":"000001ffffffffff"}`, ""},
	{"cap_inheritable", event.Arg{Kind: event.ArgCapInheritable}, `{"cap_inheritable_arg":"0000000000000000"}`, ""},
	{"cap_permitted", event.Arg{Kind: event.ArgCapPermitted, Int: 10}, `{"cap_permitted_arg":"000000000000000a"}`, ""},
	{"cap_effective", event.Arg{Kind: event.ArgCapEffective, Int: 1 << 63}, `{"cap_effective_arg":"8000000000000000"}`, ""},
	{"bpf_cmd", event.Arg{Kind: event.ArgBpfCmd}, `{"bpf_cmd_arg":"BPF_MAP_CREATE"}`, ""},
	{"bpf_cmd_unknown", event.Arg{Kind: event.ArgBpfCmd, Int: 99}, `{"bpf_cmd_arg":99}`, ""},
	{"syscall", event.Arg{Kind: event.ArgSyscall, Int: 59}, `{"syscall_id":{"id":59,"abi":"x64"}}`, ""},
	{"syscall_32", event.Arg{Kind: event.ArgSyscall, Int: 1<<31 | 11}, `{"syscall_id":{"id":11,"abi":"i386"}}`, ""},
	{"syscall_0", event.Arg{Kind: event.ArgSyscall}, `{"syscall_id":{"abi":"x64"}}`, ""},
	{"string", event.Arg{Kind: event.ArgString, Text: []byte("a\xff\"b\n"), Label: "n"}, `{"string_arg":"a` + "\ufffd" + `\"b\n","label":"n"}`, ""},
	{"string_empty", event.Arg{Kind: event.ArgString}, `{"string_arg":""}`, ""},
	{"bytes", event.Arg{Kind: event.ArgBytes, Text: []byte("hello"), Int: 5}, `{"bytes_arg":"aGVsbG8="}`, ""},
	{"bytes_empty", event.Arg{Kind: event.ArgBytes}, `{"bytes_arg":""}`, ""},
	{"bytes_cut", event.Arg{Kind: event.ArgBytes, Text: []byte("hello"), Int: 4096, Label: "b"},
		`{"truncated_bytes_arg":{"bytes_arg":"aGVsbG8=","orig_size":"4096"},"label":"b"}`, `{"bytes_arg":"aGVsbG8=","label":"b"}`},
	{"file", event.Arg{Kind: event.ArgFile, Text: []byte("/etc/shadow"), Int: 0o100640},
		`{"file_arg":{"path":"/etc/shadow","permission":"-rw-r-----"}}`, ""},
	{"file_cut", event.Arg{Kind: event.ArgFile, Text: []byte("/a"), Int: 0o100640, Cut: true},
		`{"file_arg":{"path":"/a","flags":"unresolvedPathComponents","permission":"-rw-r-----"}}`, ""},
	{"file_without_path", event.Arg{Kind: event.ArgFile, Int: 0o010600}, `{"file_arg":{"permission":"prw-------"}}`, ""},
	{"path", event.Arg{Kind: event.ArgPath, Text: []byte("/var/log"), Int: 0o040755}, `{"path_arg":{"path":"/var/log","permission":"drwxr-xr-x"}}`, ""},
	{"binprm", event.Arg{Kind: event.ArgBinprm, Text: []byte("/usr/bin/id"), Int: 0o100755},
		`{"linux_binprm_arg":{"path":"/usr/bin/id","permission":"-rwxr-xr-x"}}`, ""},
	{"sock", event.Arg{Kind: event.ArgSock, Object: &event.Sock{
		Cookie: 18446612346678901248, Mark: 7, Priority: 2, Family: 2, Type: 1, Protocol: 6, State: 2, Sport: 41000, Dport: 443,
		Saddr: [16]byte{10, 0, 0, 4}, Daddr: [16]byte{192, 0, 2, 7},
	}}, `{"sock_arg":{"family":"AF_INET","type":"SOCK_STREAM","protocol":"IPPROTO_TCP","mark":7,"priority":2,"saddr":"10.0.0.4","daddr":"192.0.2.7",` +
		`"sport":41000,"dport":443,"cookie":"18446612346678901248","state":"TCP_SYN_SENT"}}`, ""},
	{"sock_6", event.Arg{Kind: event.ArgSock, Object: &event.Sock{Family: 10, Type: 10, Protocol: 58, State: 13, Saddr: [16]byte{0x20, 1, 0xd, 0xb8, 15: 1}, Daddr: [16]byte{10: 0xff, 0xff, 1, 2, 3, 4}}},
		`{"sock_arg":{"family":"AF_INET6","type":"10","protocol":"58","saddr":"2001:db8::1","daddr":"::ffff:1.2.3.4","state":"13"}}`, ""},
	{"sock_netlink", event.Arg{Kind: event.ArgSock, Object: &event.Sock{Family: 16, Type: 3, Protocol: 262}},
		`{"sock_arg":{"family":"AF_NETLINK","type":"SOCK_RAW","protocol":"IPPROTO_MPTCP","state":"0"}}`,
		`{"sock_arg":{"type":"SOCK_RAW","protocol":"IPPROTO_MPTCP","state":"0"}}`},
	{"skb", event.Arg{Kind: event.ArgSkb, Object: &event.Skb{
		Hash: 77, Len: 60, Family: 2, Protocol: 17, Sport: 41000, Dport: 53, Saddr: [16]byte{10, 0, 0, 4}, Daddr: [16]byte{192, 0, 2, 7}, SecPathLen: 1, SecPathOlen: 2,
		Priority: 3, Mark: 4,
	}}, `{"skb_arg":{"hash":77,"len":60,"priority":3,"mark":4,"saddr":"10.0.0.4","daddr":"192.0.2.7","sport":41000,"dport":53,"proto":17,"sec_path_len":1,"sec_path_olen":2,"protocol":"IPPROTO_UDP","family":"AF_INET"}}`, ""},
	{"sockaddr", event.Arg{Kind: event.ArgSockaddr, Object: &event.Sockaddr{Family: 10, Port: 443, Addr: [16]byte{0x20, 1, 0xd, 0xb8, 15: 1}}, Label: "to"},
		`{"sockaddr_arg":{"family":"AF_INET6","addr":"2001:db8::1","port":443},"label":"to"}`, ""},
	{"sockaddr_unix", event.Arg{Kind: event.ArgSockaddr, Object: &event.Sockaddr{Family: 1}}, `{"sockaddr_arg":{"family":"AF_UNIX"}}`, ""},
	{"sockaddr_un", event.Arg{Kind: event.ArgSockaddrUn, Int: 1, Text: []byte("/run/x")}, `{"sockaddrun_arg":{"family":"AF_UNIX","path":"/run/x"}}`, ""},
	{"sockaddr_un_abstract", event.Arg{Kind: event.ArgSockaddrUn, Int: 1, Text: []byte("\x00bu\x00s\x00")}, `{"sockaddrun_arg":{"family":"AF_UNIX","path":"@bus"}}`, ""},
	{"sockaddr_un_unnamed", event.Arg{Kind: event.ArgSockaddrUn, Int: 1}, `{"sockaddrun_arg":{"family":"AF_UNIX"}}`, ""},
	{"cred", event.Arg{Kind: event.ArgCred, Object: &event.Cred{
		Creds: event.Creds{UID: 1, GID: 2, EUID: 3, EGID: 4, SUID: 5, SGID: 6, FSUID: 7, FSGID: 8, SecureBits: 0x11, Permitted: 2, Effective: 1 << 5, Inheritable: 1 << 40},
		NS:    event.UserNS{Level: 0, Inum: 4026531837},
	}}, `{"process_credentials_arg":{"uid":1,"gid":2,"euid":3,"egid":4,"suid":5,"sgid":6,"fsuid":7,"fsgid":8,"securebits":["SecBitNoRoot","SecBitKeepCaps"],` +
		`"caps":{"permitted":["DAC_OVERRIDE"],"effective":["CAP_KILL"],"inheritable":["CAP_CHECKPOINT_RESTORE"]},"user_ns":{"level":0,"uid":0,"gid":0,"ns":{"inum":4026531837,"is_host":true}}}}`, ""},
	{"user_ns", event.Arg{Kind: event.ArgUserNS, Object: &event.UserNS{Level: 1, UID: 1000, GID: 1000, Inum: 4026533333}},
		`{"user_ns_arg":{"level":1,"uid":1000,"gid":1000,"ns":{"inum":4026533333}}}`, ""},
	{"bpf_attr", event.Arg{Kind: event.ArgBpfAttr, Object: &event.BpfProg{Type: 1, Insns: 2, Name: [16]byte{'x', 0, 'y'}}},
		`{"bpf_attr_arg":{"ProgType":"BPF_PROG_TYPE_SOCKET_FILTER","InsnCnt":2,"ProgName":"x"}}`, ""},
	{"bpf_prog", event.Arg{Kind: event.ArgBpfProg, Object: &event.BpfProg{Type: 32, Name: [16]byte([]byte("0123456789abcdef"))}},
		`{"bpf_prog_arg":{"ProgType":"32","ProgName":"0123456789abcdef"}}`, ""},
	{"bpf_map", event.Arg{Kind: event.ArgBpfMap, Object: &event.BpfMap{Type: 31, KeySize: 4, ValueSize: 8, MaxEntries: 1024, Name: [16]byte{'m'}}},
		`{"bpf_map_arg":{"MapType":"31","KeySize":4,"ValueSize":8,"MaxEntries":1024,"MapName":"m"}}`, ""},
	{"perf_event", event.Arg{Kind: event.ArgPerfEvent, Object: &event.PerfEvent{Type: 2, Config: 12, Offset: 1 << 40}, Text: []byte("commit_creds")},
		`{"perf_event_arg":{"KprobeFunc":"commit_creds","Type":"PERF_TYPE_TRACEPOINT","Config":"12","ProbeOffset":"1099511627776"}}`, ""},
	{"perf_event_dynamic", event.Arg{Kind: event.ArgPerfEvent, Object: &event.PerfEvent{Type: 8}}, `{"perf_event_arg":{"Type":"8"}}`, ""},
	{"module", event.Arg{Kind: event.ArgModule, Text: []byte("dummy"), Object: &event.Module{Taints: 1<<12 | 1<<13}},
		`{"module_arg":{"name":"dummy","tainted":["TAINT_OUT_OF_TREE_MODULE","TAINT_UNSIGNED_MODULE"]}}`, ""},
	{"load_info", event.Arg{Kind: event.ArgModule, Text: []byte("dummy"), Object: &event.Module{Signature: event.SignatureBad}},
		`{"module_arg":{"name":"dummy","signature_ok":false}}`, ""},
	{"load_info_signed", event.Arg{Kind: event.ArgModule, Text: []byte("dummy"), Object: &event.Module{Signature: event.SignatureGood}},
		`{"module_arg":{"name":"dummy","signature_ok":true}}`, ""},
	{"error", event.Arg{Kind: event.ArgError, Label: "x"}, `{"error_arg":{"Message":"Bad address for basic type"},"label":"x"}`, ""},
	{"error_step", event.Arg{Kind: event.ArgError, Fault: event.FaultStep + 3}, `{"error_arg":{"Message":"Bad address encountered during resolve dereference at depth 3"}}`, ""},
	{"bug", event.Arg{Kind: event.ArgSock, Object: &event.BpfMap{}}, `{"error_arg":{"Message":"Bad address for basic type"}}`, ""},
}

// hookEvent is an event of a thread that is not the first of its process.
func hookEvent(kind event.Kind, args ...event.Arg) *event.Event {
	h := &event.Hook{
		Policy: "watch", Function: "f", Action: event.ActionPost, ReturnAction: event.ActionPost, Args: args,
	}
	if kind == event.KindTracepoint {
		h.Function, h.Subsys, h.Event = "", "sched", "x"
	}
	return &event.Event{Kind: kind, Tid: 31417, Time: 1_777_889_472_345_677_950, Refs: 1, Process: sampleProcess(31415), Parent: sampleProcess(31400), Hook: h}
}

// TestEncoder_arguments writes each argument as an argument, as data and as a return value of a kprobe, and of a tracepoint.
func TestEncoder_arguments(t *testing.T) {
	kinds := map[event.ArgKind]bool{}
	for _, c := range hookArgs {
		kinds[c.arg.Kind] = true
		t.Run(c.name, func(t *testing.T) {
			e := New(Options{NodeName: "n", KeepFragments: true})
			ev := hookEvent(event.KindKprobe, c.arg, event.Arg{Kind: event.ArgNone}, c.arg)
			ev.Hook.Data, ev.Hook.Return = []event.Arg{c.arg}, &c.arg
			line := e.AppendJSON(nil, ev)
			checkForms(t, line, e.AppendWire(nil, ev))
			for _, want := range []string{`"args":[` + c.want + `,` + c.want + `],"return":` + c.want + `,"action":`, `"data":[` + c.want + `]}`} {
				if !strings.Contains(string(line), want) {
					t.Errorf("got %s, want in it %s", line, want)
				}
			}
			tp := hookEvent(event.KindTracepoint, c.arg)
			line = e.AppendJSON(nil, tp)
			checkForms(t, line, e.AppendWire(nil, tp))
			if c.tp == "" {
				c.tp = c.want
			}
			if want := `"args":[` + c.tp + `],"policy_name":`; !strings.Contains(string(line), want) {
				t.Errorf("tracepoint: got %s, want in it %s", line, want)
			}
		})
	}
	for k := event.ArgInt; k <= event.ArgError; k++ {
		if !kinds[k] {
			t.Errorf("no test of arguments of kind %d", k)
		}
	}
}

// TestEncoder_hookEvents holds whole lines against testdata/hooks.golden.
func TestEncoder_hookEvents(t *testing.T) {
	file := filepath.Join("testdata", "hooks.golden")
	plain, stacks, fork, owner := hookEvent(event.KindKprobe), hookEvent(event.KindKprobe), hookEvent(event.KindKprobe), hookEvent(event.KindKprobe)
	plain.Tid = plain.Process.Key.Pid
	stacks.Hook.KernelStack = []event.Frame{{Address: 1 << 63, Offset: 1, Symbol: "security_file_permission"}, {Address: 1<<63 + 99, Offset: 123, Symbol: "vfs_read"}}
	stacks.Hook.UserStack = []event.Frame{{Address: 0x7f0000001000, Offset: 57104, Symbol: "read", Module: "/usr/lib/libc.so.6"}, {Address: 5, Offset: 5}}
	stacks.Hook.Message, stacks.Hook.Tags = "shadow file read", []string{"a.b", "c"}
	fork.Process.Refcnt, fork.Process.Flags, fork.Refs = 1, event.FlagExecve, 12
	owner.Hook.Action, owner.Hook.ReturnAction, owner.Refs = event.ActionUntrackSock, event.ActionTrackSock, 0
	owner.Ancestors = []*event.Process{sampleProcess(2), sampleProcess(1)}
	unknown := hookEvent(event.KindKprobe)
	unknown.Process = &event.Process{Key: event.Key{Pid: 7}, Placeholder: true, Flags: event.FlagUnknownProcess}
	unknown.Parent = nil
	tp := hookEvent(event.KindTracepoint, event.Arg{Kind: event.ArgSyscall, Int: 59})
	tp.Hook.Subsys, tp.Hook.Event, tp.Hook.Message, tp.Hook.Tags = "raw_syscalls", "sys_enter", "m", []string{"t"}
	loader := &event.Event{Kind: event.KindLoader, Tid: 31415, Time: 1, Process: sampleProcess(31415), Parent: sampleProcess(31400), Loader: &event.Loader{Path: []byte("/usr/lib/libc.so.6"), BuildID: []byte{0xde, 0xad, 0xbe, 0xef, 19: 0}}}
	events := []*event.Event{plain, stacks, fork, owner, unknown, tp, loader}
	for _, kind := range []event.Kind{event.KindLSM, event.KindUprobe, event.KindUsdt} {
		ev := hookEvent(kind, event.Arg{Kind: event.ArgInt, Int: 5, Label: "l"})
		ev.Hook.Path, ev.Hook.Offset, ev.Hook.RefCtr, ev.Hook.Suppressed = "/bin/x", 4096, 8192, 3
		ev.Hook.Action, ev.Hook.Done = event.ActionSigkill, []event.Action{event.ActionSigkill}
		ev.Ancestors = []*event.Process{sampleProcess(2)}
		events = append(events, ev)
	}
	for _, kind := range []event.Kind{event.KindKprobe, event.KindTracepoint, event.KindLSM, event.KindUprobe, event.KindUsdt} {
		ev := hookEvent(kind, event.Arg{Kind: event.ArgInt, Int: 5})
		ev.Hook.Merged = event.Merged{Count: 999, First: 1_700_000_000_000_000_001, Last: 1_700_000_001_000_000_000}
		events = append(events, ev)
	}
	var got []byte
	for _, o := range []Options{{}, {Cred: true, Ns: true, StackAddresses: true}} {
		o.NodeName = "node-a"
		for _, ev := range events {
			var first []byte
			for _, keep := range []bool{true, false} {
				o.KeepFragments = keep
				e := New(o)
				for _, p := range []*event.Process{ev.Process, ev.Parent} {
					if p != nil {
						p.Encoded.Reset()
					}
				}
				for range 2 {
					line := e.AppendJSON(nil, ev)
					checkForms(t, line, e.AppendWire(nil, ev))
					if first == nil {
						first = line
					}
					if !bytes.Equal(first, line) {
						t.Errorf("fragments change the line:\n%s", gocmp.Diff(string(first), string(line)))
					}
				}
			}
			got = append(append(got, first...), '\n')
		}
	}
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got):\n%s", file, d)
	}
}

// FuzzHook gives all texts and numbers of an event of a hook to the fuzzer.
func FuzzHook(f *testing.F) {
	for i, s := range fillStrings {
		f.Add(s, fillStrings[(i+7)%len(fillStrings)], uint64(i)<<58, uint32(i), uint8(i), uint8(2*i))
	}
	f.Fuzz(func(t *testing.T, a, b string, n uint64, m uint32, k, l uint8) {
		obj := []any{nil, &event.Sock{Cookie: n, Family: uint16(m), Type: uint16(n), Protocol: uint16(m >> 8), State: k, Mark: m}, &event.Skb{Hash: m, Family: uint16(k), Protocol: uint16(l)},
			&event.Sockaddr{Family: uint16(k), Port: uint16(m)}, &event.Cred{Creds: event.Creds{UID: m, Permitted: n, SecureBits: m}, NS: event.UserNS{Level: int32(m)}},
			&event.UserNS{UID: m, Inum: m}, &event.BpfProg{Type: m, Name: [16]byte{k, l}}, &event.BpfMap{Type: m, Name: [16]byte{k, l}}, &event.PerfEvent{Type: m, Config: n}, &event.Module{Taints: n, Signature: event.Signature(k % 3)}}[int(l)%10]
		arg := event.Arg{Kind: event.ArgKind(k) % (event.ArgError + 2), Cut: k&1 != 0, Fault: event.Fault(l), Label: b, Int: n, Text: []byte(a), Object: obj}
		ev := hookEvent([]event.Kind{event.KindKprobe, event.KindTracepoint, event.KindLoader, event.KindLSM, event.KindUprobe, event.KindUsdt}[m%6], arg, arg)
		ev.Tid, ev.Refs, ev.Loader = m, uint32(k), &event.Loader{Path: []byte(a), BuildID: []byte(b)}
		ev.Process.Binary, ev.Process.Arguments = a+`,"tid":5,"refcnt":6`, b
		h := ev.Hook
		h.Policy, h.Function, h.Subsys, h.Event, h.Message, h.Tags, h.Data, h.Return = a, b, a, b, a, []string{a, b}, h.Args, &arg
		h.Action, h.ReturnAction = event.Action(k), event.Action(l)
		h.Suppressed, h.Path, h.Offset, h.RefCtr, h.Done = m, a, n, n, []event.Action{event.Action(k)}
		h.KernelStack, h.UserStack = []event.Frame{{Address: n, Offset: n, Symbol: a}}, []event.Frame{{Offset: n, Module: b}}
		e := New(Options{NodeName: a, Cred: n&1 != 0, Ns: n&2 != 0, KeepFragments: n&4 != 0, StackAddresses: true})
		for range 2 {
			line := e.AppendJSON(nil, ev)
			if bytes.IndexByte(line, '\n') >= 0 || !utf8.Valid(line) || !json.Valid(line) {
				t.Fatalf("not one line of JSON: %q", line)
			}
			checkForms(t, line, e.AppendWire(nil, ev))
		}
	})
}

// TestEncoder_hooksDoNotAllocate: with fragments kept or not, an argument costs no memory.
func TestEncoder_hooksDoNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 1<<16)
	for _, c := range hookArgs {
		if c.name == "error_step" || strings.HasSuffix(c.name, "_dynamic") || strings.Contains(c.name, "sock_6") || c.name == "bpf_prog" || c.name == "bpf_map" {
			continue // numbers without a name are made into text
		}
		for _, kind := range []event.Kind{event.KindKprobe, event.KindTracepoint} {
			ev := hookEvent(kind, c.arg)
			e := New(Options{NodeName: "node-a", KeepFragments: true})
			if n := testing.AllocsPerRun(20, func() { e.AppendJSON(buf, ev) }); n != 0 {
				t.Errorf("%s: AppendJSON allocates %v times", c.name, n)
			}
			if n := testing.AllocsPerRun(20, func() { e.AppendWire(buf, ev) }); n != 0 {
				t.Errorf("%s: AppendWire allocates %v times", c.name, n)
			}
		}
	}
}

func BenchmarkHook(b *testing.B) {
	for _, c := range hookArgs {
		if !slices.Contains([]string{"int", "file", "sock"}, c.name) {
			continue
		}
		b.Run(c.name, func(b *testing.B) {
			ev := hookEvent(event.KindKprobe, c.arg)
			e := New(Options{NodeName: "node-a", KeepFragments: true})
			buf := e.AppendJSON(nil, ev)
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				buf = e.AppendJSON(buf[:0], ev)
			}
		})
	}
}

// TestHook_twoCreds: each of two arguments has its own capabilities, also when both want one place of the cache.
func TestHook_twoCreds(t *testing.T) {
	const netRaw = 1 << 13
	cred := func(permitted, effective uint64) event.Arg {
		return event.Arg{Kind: event.ArgCred, Object: &event.Cred{Creds: event.Creds{Permitted: permitted, Effective: effective}}}
	}
	e := New(Options{NodeName: "n", KeepFragments: true})
	for bit := range 40 { // some of these pairs share a place
		one, two := cred(netRaw, 1<<bit), cred(netRaw, 0)
		alone := func(a event.Arg) string {
			line := string(New(Options{NodeName: "n"}).AppendJSON(nil, hookEvent(event.KindKprobe, a)))
			_, args, _ := strings.Cut(line, `"args":[`)
			args, _, _ = strings.Cut(args, `],"action"`)
			return args
		}
		ev := hookEvent(event.KindKprobe, one, two)
		want := `"args":[` + alone(one) + "," + alone(two) + `]`
		if line := string(e.AppendJSON(nil, ev)); !strings.Contains(line, want) {
			t.Fatalf("capability %d:\n got %s\nwant %s", bit, line, want)
		}
	}
}
