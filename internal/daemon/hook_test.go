// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"tetragon/api/v1/tetragon"
	"tetragon/internal/abi"
	"tetragon/internal/abi/abitest"
	"tetragon/internal/event/decode"
	"tetragon/internal/event/encode"
	"tetragon/internal/event/enrich"
	"tetragon/internal/metrics"
	"tetragon/internal/policy/plan"
	"tetragon/internal/process"
)

// hookLane goes from a record to its lines, with a shell, pid 50, that lives.
type hookLane struct {
	t       testing.TB
	e       *enrich.Enricher
	encoder *encode.Encoder
	ledger  *metrics.Ledger
	rec     decode.Record
}

func newHookLane(t testing.TB, p *plan.Program, o enrich.Options) *hookLane {
	l := &hookLane{t: t, ledger: metrics.NewLedger(), encoder: encode.New(encode.Options{NodeName: "vm", KeepFragments: true})}
	o.Table, o.Ledger = process.New(process.Options{}), l.ledger
	o.Programs = func(id uint32) *plan.Program {
		if id != p.ID {
			return nil
		}
		return p
	}
	l.e = enrich.New(o)
	l.e.Begin(0)
	shell := abi.Exec{H: abi.Head{Pid: 50, Ktime: 500, Time: 600}, Start: 500, Nlink: 1}
	sshd := abi.Exec{H: abi.Head{Pid: 40, Ktime: 400, Time: 600}, Start: 400, Nlink: 1}
	l.record(abitest.Exec(abi.KindSnapshot, shell, abitest.Texts{Path: `/bin/x,"tid":1,"cap":`, Cwd: "/root"}))
	l.record(abitest.Exec(abi.KindSnapshot, sshd, abitest.Texts{Path: "/usr/sbin/sshd", Cwd: "/"}))
	l.record(abitest.Record(abi.Head{Kind: abi.KindSnapEnd, Time: 700}))
	l.e.Begin(0)
	return l
}

func (l *hookLane) record(raw []byte) {
	l.t.Helper()
	if err := decode.Decode(raw, &l.rec); err != nil {
		l.t.Fatal(err)
	}
	l.e.Record(&l.rec)
	if l.rec.Kind != abi.KindHook {
		return
	}
	for i := abi.HookSize; i < len(raw); i++ { // the ring is written over
		raw[i] = 0xee
	}
}

// lines are the events of the batch, whose two forms must agree.
func (l *hookLane) lines() []string {
	l.t.Helper()
	var out []string
	evs := l.e.Events()
	for i := range evs {
		line := string(l.encoder.AppendJSON(nil, &evs[i]))
		var fromJSON, fromWire tetragon.GetEventsResponse
		if err := protojson.Unmarshal([]byte(line), &fromJSON); err != nil {
			l.t.Fatalf("%s: %v", line, err)
		}
		if err := proto.Unmarshal(l.encoder.AppendWire(nil, &evs[i]), &fromWire); err != nil {
			l.t.Fatal(err)
		}
		if !proto.Equal(&fromJSON, &fromWire) {
			l.t.Errorf("the forms differ:\n%v\n%v", &fromJSON, &fromWire)
		}
		out = append(out, line)
	}
	for _, b := range l.ledger.Read() {
		if b.Pending != 0 {
			l.t.Errorf("the account does not balance: %s", b)
		}
	}
	return out
}

// program is one policy's hook with the arguments' types.
func program(types ...string) *plan.Program {
	h := &plan.Hook{Event: plan.EventKprobe, Name: "f", Rules: []plan.Rule{{Do: plan.Actions{Post: true}}}}
	g := plan.Group{Policy: 1, Plan: &plan.Plan{Policy: "p"}, Hook: h}
	p := &plan.Program{ID: 9}
	for i, t := range types {
		h.Values, p.Values = append(h.Values, plan.Value{}), append(p.Values, plan.Value{})
		h.Args = append(h.Args, plan.Arg{Value: i, Type: t, Label: "l"})
		g.Values = append(g.Values, i)
	}
	p.Groups, p.Rules = []plan.Group{g}, h.Rules
	return p
}

func call(values ...abitest.Value) []byte {
	return abitest.Hook(abi.Hook{H: abi.Head{Pid: 50, Ktime: 500, Time: 1000}, Tid: 51, Program: 9}, values, 1)
}

var (
	sock4 = abi.ValSock{
		Cookie: 0xffff888000000000, Mark: 1, Priority: 2, Family: 2, Type: 1, Protocol: 6, Sport: 22, Dport: 32958, State: 1,
		Saddr: [16]byte{127, 0, 0, 1}, Daddr: [16]byte{10, 0, 0, 4},
	}
	loopback6 = [16]byte{15: 1}
	mapped4   = [16]byte{10: 0xff, 11: 0xff, 12: 10, 15: 1}
)

func TestHook_everyArgument(t *testing.T) {
	num := func(n uint64) abitest.Value { return abitest.Value{Kind: abi.ValueInt, Fixed: n} }
	minus := func(n int64) abitest.Value { return num(uint64(n)) }
	file := func(mode uint32, path string) abitest.Value {
		return abitest.Value{Kind: abi.ValueFile, Fixed: abi.ValFile{Mode: mode}, Text: path}
	}
	for _, c := range []struct {
		typ  string
		v    abitest.Value
		want string // the argument without its label; "" in front: it has none
	}{
		{"int", minus(-1), `"int_arg":-1`},
		{"int32", num(0), `"int_arg":0`},
		{"sint8", minus(-128), `"int_arg":-128`},
		{"uint32", num(4294967295), `"uint_arg":4294967295`},
		{"uint8", num(0), `"uint_arg":0`},
		{"long", minus(-1), `"long_arg":"-1"`},
		{"uint64", num(1<<64 - 1), `"size_arg":"18446744073709551615"`},
		{"size_t", num(4096), `"size_arg":"4096"`},
		{"bpf_cmd", num(0), `"bpf_cmd_arg":"BPF_MAP_CREATE"`},
		{"bpf_cmd", num(5), `"bpf_cmd_arg":"BPF_PROG_LOAD"`},
		{"bpf_cmd", num(9999), `"bpf_cmd_arg":9999`},
		{"capability", num(21), `"capability_arg":{"value":21,"name":"CAP_SYS_ADMIN"}`},
		{"capability", num(0), `"capability_arg":{"value":0,"name":"CAP_CHOWN"}`},
		{"capability", num(77), `"capability_arg":{"value":77}`},
		{"kernel_cap_t", num(0), `"kernel_cap_t_arg":"0000000000000000"`},
		{"cap_effective", num(0x1ffffffffff), `"cap_effective_arg":"000001ffffffffff"`},
		{"cap_inheritable", num(0xab), `"cap_inheritable_arg":"00000000000000ab"`},
		{"cap_permitted", num(1 << 63), `"cap_permitted_arg":"8000000000000000"`},
		{"string", abitest.Value{Kind: abi.ValueString, Text: "rtnl\x01-\xff\""}, `"string_arg":"rtnl\u0001-` + "\ufffd" + `\""`},
		{"filename", abitest.Value{Kind: abi.ValueString}, `"string_arg":""`},
		{"string", abitest.Value{Kind: abi.ValueString, Flags: abi.ValueFlagError}, `"error_arg":{"Message":"Bad address for basic type"}`},
		{"string", abitest.Value{Kind: abi.ValueInt, Flags: abi.ValueFlagError, Fixed: uint64(2)}, `"error_arg":{"Message":"Bad address encountered during resolve dereference at depth 2"}`},
		{"int", abitest.Value{Kind: abi.ValueInt, Flags: abi.ValueFlagError, Fixed: uint64(0)}, `"error_arg":{"Message":"Bad address encountered during resolve dereference at depth 0"}`},
		{"int", abitest.Value{Kind: abi.ValueInt, Flags: abi.ValueFlagError, Fixed: uint64(1 << 60)}, `"error_arg":{"Message":"Bad address encountered during resolve dereference at depth 253"}`},
		{"int", abitest.Value{Index: 7, Kind: abi.ValueInt, Fixed: uint64(0)}, `"error_arg":{"Message":"No room left in the record"}`},
		{"int", abitest.Value{Kind: abi.ValueString, Text: "12345678"}, `"error_arg":{"Message":"Bad address for basic type"}`},
		{"sock", abitest.Value{Kind: abi.ValueSock, Text: "short"}, `"error_arg":{"Message":"Bad address for basic type"}`},
		{"char_buf", abitest.Value{Kind: abi.ValueBytes, Fixed: uint64(5), Text: "hello"}, `"bytes_arg":"aGVsbG8="`},
		{"char_buf", abitest.Value{Kind: abi.ValueBytes, Fixed: uint64(0)}, `"bytes_arg":""`},
		{"char_iovec", abitest.Value{Kind: abi.ValueBytes, Flags: abi.ValueFlagCut, Fixed: uint64(4096), Text: "hello"}, `"truncated_bytes_arg":{"bytes_arg":"aGVsbG8=","orig_size":"4096"}`},
		{"iov_iter", abitest.Value{Kind: abi.ValueBytes, Flags: abi.ValueFlagError}, `"bytes_arg":"Q2hhckJ1ZkVycm9yUGFnZUZhdWx0"`},
		{"file", file(0o100644, "/root/dummy.ko"), `"file_arg":{"path":"/root/dummy.ko","permission":"-rw-r--r--"}`},
		{"fd", file(0o041777, "/sys/fs/bpf"), `"file_arg":{"path":"/sys/fs/bpf","permission":"drwxrwxrwt"}`},
		{"kiocb", file(0o140000, ""), `"file_arg":{"permission":"s---------"}`},
		{"path", file(0o106755, "/x (deleted)"), `"path_arg":{"path":"/x (deleted)","permission":"-rwsr-sr-x"}`},
		{"dentry", file(0o021620, "/dev/tty1"), `"path_arg":{"path":"/dev/tty1","permission":"crw--w---T"}`},
		{"dentry", file(0o066000, "/b"), `"path_arg":{"path":"/b","permission":"b--S--S---"}`},
		{"path", file(0o120777, "/l"), `"path_arg":{"path":"/l","permission":"lrwxrwxrwx"}`},
		{"path", file(0o010600, "/p"), `"path_arg":{"path":"/p","permission":"prw-------"}`},
		{"path", file(0, "/"), `"path_arg":{"path":"/","permission":"---------"}`},
		{"linux_binprm", file(0o100755, "/usr/bin/id"), `"linux_binprm_arg":{"path":"/usr/bin/id","permission":"-rwxr-xr-x"}`},
		{"file", abitest.Value{Kind: abi.ValueFile, Flags: abi.ValueFlagCut, Fixed: abi.ValFile{Mode: 0o100600}, Text: "/b/c"}, `"file_arg":{"path":"/b/c","flags":"unresolvedPathComponents","permission":"-rw-------"}`},
		{"sock", abitest.Value{Kind: abi.ValueSock, Fixed: sock4}, `"sock_arg":{"family":"AF_INET","type":"SOCK_STREAM","protocol":"IPPROTO_TCP","mark":1,"priority":2,"saddr":"127.0.0.1","daddr":"10.0.0.4","sport":22,"dport":32958,"cookie":"18446612682070032384","state":"TCP_ESTABLISHED"}`},
		{"socket", abitest.Value{Kind: abi.ValueSock, Fixed: abi.ValSock{Family: 10, Type: 2, Protocol: 262, State: 12, Saddr: loopback6, Daddr: mapped4}}, `"sock_arg":{"family":"AF_INET6","type":"SOCK_DGRAM","protocol":"IPPROTO_MPTCP","saddr":"::1","daddr":"::ffff:10.0.0.1","state":"TCP_NEW_SYN_RECV"}`},
		{"sock", abitest.Value{Kind: abi.ValueSock, Fixed: abi.ValSock{Family: 22, Type: 10, Protocol: 58}}, `"sock_arg":{"family":"22","type":"10","protocol":"58","state":"0"}`},
		{"skb", abitest.Value{Kind: abi.ValueSkb, Fixed: abi.ValSkb{Hash: 77, Len: 60, Family: 2, Protocol: 17, Sport: 41000, Dport: 53, Saddr: sock4.Daddr, Daddr: sock4.Saddr, SecPathLen: 1, SecPathOlen: 2}}, `"skb_arg":{"hash":77,"len":60,"saddr":"10.0.0.4","daddr":"127.0.0.1","sport":41000,"dport":53,"proto":17,"sec_path_len":1,"sec_path_olen":2,"protocol":"IPPROTO_UDP","family":"AF_INET"}`},
		{"sockaddr", abitest.Value{Kind: abi.ValueSockaddr, Fixed: abi.ValSockaddr{Family: 10, Port: 443, Addr: loopback6}}, `"sockaddr_arg":{"family":"AF_INET6","addr":"::1","port":443}`},
		{"sockaddr", abitest.Value{Kind: abi.ValueSockaddr, Fixed: abi.ValSockaddr{Family: 1}}, `"sockaddr_arg":{"family":"AF_UNIX"}`},
		{"sockaddr_un", abitest.Value{Kind: abi.ValueSockaddrUn, Fixed: uint64(1), Text: "\x00b\x00us"}, `"sockaddrun_arg":{"family":"AF_UNIX","path":"@bus"}`},
		{"sockaddr_un", abitest.Value{Kind: abi.ValueSockaddrUn, Fixed: uint64(1), Text: "/run/x\x00junk"}, `"sockaddrun_arg":{"family":"AF_UNIX","path":"/run/x"}`},
		{"sockaddr_un", abitest.Value{Kind: abi.ValueSockaddrUn, Fixed: uint64(16)}, `"sockaddrun_arg":{}`},
		{"cred", abitest.Value{Kind: abi.ValueCred, Fixed: abi.ValCred{Ids: [8]uint32{0, 1, 2, 3, 4, 5, 6, 7}, Caps: [5]uint64{1 << 5, 1 << 1, 1 << 0}, Securebits: 0x11, Ns: abi.ValUserNs{Inum: 4026531837}}}, `"process_credentials_arg":{"uid":0,"gid":1,"euid":4,"egid":5,"suid":2,"sgid":3,"fsuid":6,"fsgid":7,"securebits":["SecBitNoRoot","SecBitKeepCaps"],"caps":{"permitted":["DAC_OVERRIDE"],"effective":["CAP_CHOWN"],"inheritable":["CAP_KILL"]},"user_ns":{"level":0,"uid":0,"gid":0,"ns":{"inum":4026531837,"is_host":true}}}`},
		{"user_namespace", abitest.Value{Kind: abi.ValueUserNs, Fixed: abi.ValUserNs{Level: 1, Uid: 1000, Gid: 1000, Inum: 4026533333}}, `"user_ns_arg":{"level":1,"uid":1000,"gid":1000,"ns":{"inum":4026533333}}`},
		{"bpf_attr", abitest.Value{Kind: abi.ValueBpfProg, Fixed: abi.ValBpfProg{Type: 1, Insns: 2}}, `"bpf_attr_arg":{"ProgType":"BPF_PROG_TYPE_SOCKET_FILTER","InsnCnt":2}`},
		{"bpf_prog", abitest.Value{Kind: abi.ValueBpfProg, Fixed: abi.ValBpfProg{Type: 32, Insns: 64, Name: [16]byte{'p', 'r', 0, 'x'}}}, `"bpf_prog_arg":{"ProgType":"32","InsnCnt":64,"ProgName":"pr"}`},
		{"bpf_map", abitest.Value{Kind: abi.ValueBpfMap, Fixed: abi.ValBpfMap{Type: 1, KeySize: 4, ValueSize: 4, MaxEntries: 16, Name: [16]byte{'m'}}}, `"bpf_map_arg":{"MapType":"BPF_MAP_TYPE_HASH","KeySize":4,"ValueSize":4,"MaxEntries":16,"MapName":"m"}`},
		{"perf_event", abitest.Value{Kind: abi.ValuePerfEvent, Fixed: abi.ValPerfEvent{Type: 6}}, `"perf_event_arg":{"Type":"PERF_TYPE_MAX"}`},
		{"perf_event", abitest.Value{Kind: abi.ValuePerfEvent, Fixed: abi.ValPerfEvent{Type: 8, Config: 12, Offset: 3}, Text: "commit_creds"}, `"perf_event_arg":{"KprobeFunc":"commit_creds","Type":"8","Config":"12","ProbeOffset":"3"}`},
		{"module", abitest.Value{Kind: abi.ValueModule, Fixed: abi.ValModule{Taints: 1<<12 | 1<<13}, Text: "dummy"}, `"module_arg":{"name":"dummy","tainted":["TAINT_OUT_OF_TREE_MODULE","TAINT_UNSIGNED_MODULE"]}`},
		{"load_info", abitest.Value{Kind: abi.ValueModule, Fixed: abi.ValModule{HasSig: 1}, Text: "dummy"}, `"module_arg":{"name":"dummy","signature_ok":false}`},
		{"load_info", abitest.Value{Kind: abi.ValueModule, Fixed: abi.ValModule{HasSig: 1, SigOk: 1}, Text: "dummy"}, `"module_arg":{"name":"dummy","signature_ok":true}`},
	} {
		t.Run(c.typ, func(t *testing.T) {
			l := newHookLane(t, program(c.typ), enrich.Options{})
			l.record(call(c.v))
			got := l.lines()
			want := fmt.Sprintf(`"args":[{%s,"label":"l"}]`, c.want)
			if len(got) != 1 || !strings.Contains(got[0], want) {
				t.Errorf("got %s\nwant %s", got, want)
			}
		})
	}
}

// TestHook_line is a whole line, with all that a policy can make it say.
func TestHook_line(t *testing.T) {
	p := program("int", "string")
	h := p.Groups[0].Hook
	h.Message, h.Tags = "uid changed", []string{"a", "b"}
	h.Args = append(h.Args, plan.Arg{Value: -1, Type: "nop"})
	h.Args[0].Label = ""
	h.Return = &plan.Arg{Value: 0, Type: "int", Label: "r"}
	h.Data = []plan.Arg{{Value: 0, Type: "int"}}
	h.Rules = []plan.Rule{{Do: plan.Actions{Last: "NoPost"}}, {Do: plan.Actions{Post: true, Last: "TrackSock", LastReturn: "UntrackSock"}}}
	l := newHookLane(t, p, enrich.Options{})
	l.record(abitest.Hook(abi.Hook{H: abi.Head{Pid: 50, Ktime: 500, Time: 1_000_000_000}, Tid: 51, Program: 9}, []abitest.Value{
		{Index: 1, Kind: abi.ValueString, Text: "s"}, {Index: 0, Kind: abi.ValueInt, Fixed: uint64(3)},
	}, 2))
	got := strings.Join(l.lines(), "\n")
	want := `{"process_kprobe":{"process":{"exec_id":"dm06NTAwOjUw","pid":50,"uid":0,"cwd":"/root","binary":"/bin/x,\"tid\":1,\"cap\":",` +
		`"flags":"procFS","start_time":"1970-01-01T00:00:00.000000500Z","auid":0,"parent_exec_id":"dm06MTow","refcnt":1,"tid":51,` +
		`"in_init_tree":false},"parent":{"exec_id":"dm06MTow","pid":0,"uid":0,"binary":"<kernel>","flags":"procFS",` +
		`"start_time":"1970-01-01T00:00:00.000000001Z","auid":4294967295,"parent_exec_id":"dm06MTow","tid":0,"in_init_tree":false},` +
		`"function_name":"f","args":[{"int_arg":3},{"string_arg":"s","label":"l"}],"return":{"int_arg":3,"label":"r"},` +
		`"action":"KPROBE_ACTION_TRACKSOCK","policy_name":"p","return_action":"KPROBE_ACTION_UNTRACKSOCK","message":"uid changed",` +
		`"tags":["a","b"],"data":[{"int_arg":3}]},"node_name":"vm","time":"1970-01-01T00:00:01Z"}`
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestHook_tracepoint(t *testing.T) {
	p := program("syscall64", "sock", "const_buf", "char_buf")
	h := p.Groups[0].Hook
	h.Event, h.Subsys, h.TpEvent = plan.EventTracepoint, "raw_syscalls", "sys_enter"
	l := newHookLane(t, p, enrich.Options{})
	for _, nr := range []uint64{59, 1<<31 | 11} {
		l.record(call(
			abitest.Value{Index: 0, Kind: abi.ValueInt, Fixed: nr},
			abitest.Value{Index: 1, Kind: abi.ValueSock, Fixed: abi.ValSock{Family: 16, Type: 3}},
			abitest.Value{Index: 2, Kind: abi.ValueWords, Fixed: [3]uint64{1, 0, 3}},
			abitest.Value{Index: 3, Kind: abi.ValueBytes, Fixed: uint64(100), Text: "hello"},
		))
	}
	got := l.lines()
	for i, call := range []string{`{"id":59,"abi":"x64"}`, `{"id":11,"abi":"i386"}`} {
		want := `"subsys":"raw_syscalls","event":"sys_enter","args":[{"syscall_id":` + call + `,"label":"l"},` +
			`{"sock_arg":{"type":"SOCK_RAW","protocol":"IPPROTO_IP","state":"0"},"label":"l"},{"size_arg":"1","label":"l"},` +
			`{"size_arg":"0","label":"l"},{"size_arg":"3","label":"l"},{"bytes_arg":"aGVsbG8=","label":"l"}],"policy_name":"p","action":"KPROBE_ACTION_POST"}`
		if len(got) != 2 || !strings.Contains(got[i], want) {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
}

// TestHook_manyPolicies: one record makes an event for each policy of which a rule posts, and takes the first such rule.
func TestHook_manyPolicies(t *testing.T) {
	p := &plan.Program{ID: 9, Values: make([]plan.Value, 1)}
	for i, rules := range []int{60, 10, 1} { // the second lies across two words
		h := &plan.Hook{Event: plan.EventKprobe, Name: fmt.Sprint("f", i), Names: []string{"a", fmt.Sprint("b", i)}}
		for j := range rules {
			h.Rules = append(h.Rules, plan.Rule{Do: plan.Actions{Post: true, Last: []string{"Post", "Signal"}[j&1]}})
		}
		p.Groups = append(p.Groups, plan.Group{Plan: &plan.Plan{Policy: fmt.Sprint("p", i)}, Hook: h, First: len(p.Rules), Values: []int{0}})
		p.Rules = append(p.Rules, h.Rules...)
	}
	l := newHookLane(t, p, enrich.Options{})
	look := func(words ...uint64) (out []string) {
		l.e.Begin(0)
		l.record(abitest.Hook(abi.Hook{H: abi.Head{Pid: 50, Ktime: 500, Time: 1000}, Tid: 50, Program: 9, Which: 1}, nil, words...))
		for _, line := range l.lines() {
			var ev tetragon.GetEventsResponse
			if err := protojson.Unmarshal([]byte(line), &ev); err != nil {
				t.Fatal(err)
			}
			k := ev.GetProcessKprobe()
			out = append(out, fmt.Sprint(k.GetPolicyName(), " ", k.GetFunctionName(), " ", k.GetAction()))
		}
		return out
	}
	for _, c := range []struct {
		words []uint64
		want  []string
	}{
		{[]uint64{1<<59 | 1<<58}, []string{"p0 b0 KPROBE_ACTION_POST"}},
		{[]uint64{1 << 59, 1}, []string{"p0 b0 KPROBE_ACTION_SIGNAL", "p1 b1 KPROBE_ACTION_POST"}},
		{[]uint64{1 << 61, 1 << 5}, []string{"p1 b1 KPROBE_ACTION_SIGNAL"}},
		{[]uint64{0, 1 << 6}, []string{"p2 b2 KPROBE_ACTION_POST"}},
		{[]uint64{1, 1<<5 | 1<<6}, []string{"p0 b0 KPROBE_ACTION_POST", "p1 b1 KPROBE_ACTION_SIGNAL", "p2 b2 KPROBE_ACTION_POST"}},
		{[]uint64{0, 1 << 7}, nil},
		{nil, nil},
	} {
		if d := cmp.Diff(c.want, look(c.words...)); d != "" {
			t.Errorf("%x (-want +got):\n%s", c.words, d)
		}
	}
}

func TestHook_whoseItIs(t *testing.T) {
	p := program("sock")
	p.Values[0].Track = true
	l := newHookLane(t, p, enrich.Options{})
	for _, c := range []struct {
		name       string
		pid        uint32
		ktime      uint64
		owner      abi.ValSock
		want, more string
	}{
		{"its own", 50, 500, abi.ValSock{}, `"exec_id":"dm06NTAwOjUw","pid":50`, `"tid":51`},
		{"only the pid is known", 50, 0, abi.ValSock{}, `"exec_id":"dm06NTAwOjUw","pid":50`, `"tid":51`},
		{"the socket's owner", 50, 500, abi.ValSock{OwnerPid: 40, OwnerKtime: 400, OwnerTid: 41}, `"exec_id":"dm06NDAwOjQw","pid":40`, `"tid":41`},
		{"an owner that nobody knows", 50, 500, abi.ValSock{OwnerPid: 41, OwnerKtime: 1e9, OwnerTid: 41}, `"process":{"pid":41,"start_time":"1970-01-01T00:00:01Z"},"function_name"`, ""},
		{"nobody knows it", 70, 2e9, abi.ValSock{}, `"process":{"pid":70,"start_time":"1970-01-01T00:00:02Z"},"function_name"`, ""},
		{"nor did the kernel half", 70, 0, abi.ValSock{}, `"process":{"pid":70,"flags":"unknown"},"function_name"`, ""},
	} {
		l.e.Begin(0)
		l.record(abitest.Hook(abi.Hook{H: abi.Head{Pid: c.pid, Ktime: c.ktime, Time: 1000}, Tid: 51, Program: 9},
			[]abitest.Value{{Kind: abi.ValueSock, Fixed: c.owner}}, 1))
		if got := l.lines(); len(got) != 1 || !strings.Contains(got[0], c.want) || !strings.Contains(got[0], c.more) {
			t.Errorf("%s: got %s, want %s and %s", c.name, got, c.want, c.more)
		}
	}
}

func TestHook_unknownProgram(t *testing.T) {
	l := newHookLane(t, program(), enrich.Options{})
	l.record(abitest.Hook(abi.Hook{H: abi.Head{Pid: 50, Ktime: 500}, Program: 8}, nil, 1))
	if got := l.lines(); len(got) != 0 {
		t.Errorf("got %s, want nothing", got)
	}
	for _, b := range l.ledger.Read() {
		for _, d := range b.Dropped {
			if d.Reason == "unknown_program" && d.Count == 1 {
				return
			}
		}
	}
	t.Errorf("nothing was counted as unknown_program: %v", l.ledger.Read())
}

func TestHook_mapping(t *testing.T) {
	l := newHookLane(t, program(), enrich.Options{})
	l.e.Mapping(&enrich.Mapping{Pid: 50, Time: 1000, Path: []byte("/usr/lib/libc.so.6"), BuildID: []byte{0xde, 0xad}})
	got := strings.Join(l.lines(), "\n")
	want := `"tid":50,"in_init_tree":false},"path":"/usr/lib/libc.so.6","buildid":"3q0=","parent":{"exec_id":"dm06MTow"`
	if !strings.Contains(got, want) || !json.Valid([]byte(got)) {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// hookCases are the events whose cost matters.
var hookCases = []struct {
	name, typ string
	v         abitest.Value
}{
	{"int", "int", abitest.Value{Kind: abi.ValueInt, Fixed: uint64(1000)}},
	{"path", "file", abitest.Value{Kind: abi.ValueFile, Fixed: abi.ValFile{Mode: 0o100644}, Text: "/usr/lib/x86_64-linux-gnu/libc.so.6"}},
	{"sock", "sock", abitest.Value{Kind: abi.ValueSock, Fixed: sock4}},
}

func TestHook_allocatesNothing(t *testing.T) {
	for _, c := range hookCases {
		for _, tid := range []uint32{50, 51} {
			l := newHookLane(t, program(c.typ), enrich.Options{})
			raw := abitest.Hook(abi.Hook{H: abi.Head{Pid: 50, Ktime: 500, Time: 1000}, Tid: tid, Program: 9}, []abitest.Value{c.v}, 1)
			buf := make([]byte, 0, 1<<16)
			if n := testing.AllocsPerRun(100, func() {
				l.e.Begin(0)
				if err := decode.Decode(raw, &l.rec); err != nil {
					t.Fatal(err)
				}
				l.e.Record(&l.rec)
				for i := range l.e.Events() {
					buf = l.encoder.AppendWire(l.encoder.AppendJSON(buf[:0], &l.e.Events()[i]), &l.e.Events()[i])
				}
			}); n != 0 {
				t.Errorf("%s: %v allocations", c.name, n)
			}
		}
	}
}

// BenchmarkHook is what user space does from the ring to the line of an event, in batches.
func BenchmarkHook(b *testing.B) {
	for _, c := range hookCases {
		b.Run(c.name, func(b *testing.B) {
			l := newHookLane(b, program(c.typ), enrich.Options{})
			raw := abitest.Hook(abi.Hook{H: abi.Head{Pid: 50, Ktime: 500, Time: 1_000_000_123}, Tid: 50, Program: 9}, []abitest.Value{c.v}, 1)
			buf := make([]byte, 0, 1<<20)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if n%64 == 0 {
					evs := l.e.Events()
					buf = buf[:0]
					for i := range evs {
						buf = append(l.encoder.AppendJSON(buf, &evs[i]), '\n')
					}
					l.e.Begin(0)
				}
				if err := decode.Decode(raw, &l.rec); err != nil {
					b.Fatal(err)
				}
				l.e.Record(&l.rec)
			}
		})
	}
}
