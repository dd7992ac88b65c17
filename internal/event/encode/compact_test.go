// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"tetragon/api/v1/tetragon"
)

// fromJSON reads an event; PROC stands for a process on a node, POD for one in a pod.
func fromJSON(t *testing.T, text string) *tetragon.GetEventsResponse {
	t.Helper()
	text = strings.NewReplacer(
		"PROC", `"process":{"binary":"/bin/x","arguments":"a b"}`,
		"POD", `"process":{"binary":"/bin/x","pod":{"namespace":"ns","name":"pod"}}`,
	).Replace(text)
	ev := &tetragon.GetEventsResponse{}
	if err := protojson.Unmarshal([]byte(text), ev); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	ev.NodeName = "node"
	return ev
}

func kprobe(function, args string) string {
	return `{"process_kprobe":{POD,"function_name":"` + function + `","args":[` + args + `]}}`
}

const (
	file    = `{"file_arg":{"path":"/etc/passwd"}}`
	sock    = `{"sock_arg":{"saddr":"10.0.0.4","sport":41000,"daddr":"192.0.2.7","dport":443}}`
	twoStrs = `{"string_arg":"one"},{"string_arg":"/t w o"}`
)

func compactCases() []struct{ name, event, want string } {
	return []struct{ name, event, want string }{
		{"exec", `{"process_exec":{PROC}}`, `🚀 process node /bin/x "a b"` + "\n"},
		{"exec in pod", `{"process_exec":{POD}}`, "🚀 process ns/pod /bin/x \n"},
		{"exec plain", `{"process_exec":{"process":{"binary":"/usr/bin/curl","arguments":"https://example.org"}}}`,
			"🚀 process node /usr/bin/curl https://example.org\n"},
		{"exit status", `{"process_exit":{"process":{"binary":"/usr/bin/make","arguments":"-j 4 all"},"status":2}}`,
			`💥 exit    node /usr/bin/make "-j 4 all" 2` + "\n"},
		{"exit signal", `{"process_exit":{"process":{"binary":"/usr/bin/sleep","arguments":"60"},"signal":"SIGKILL"}}`,
			"💥 exit    node /usr/bin/sleep 60 SIGKILL\n"},
		{"exit bare", `{"process_exit":{POD}}`, "💥 exit    ns/pod /bin/x  0\n"},
		{"loader", `{"process_loader":{POD,"path":"/lib/libc.so.6","buildid":"3q2+7w=="}}`,
			"🧬 loader  ns/pod /bin/x deadbeef /lib/libc.so.6\n"},
		{"loader without id", `{"process_loader":{POD,"path":"/lib/a b"}}`, `🧬 loader  ns/pod /bin/x "/lib/a b"` + "\n"},
		{"throttle start", `{"process_throttle":{"type":"THROTTLE_START","cgroup":"session-1.scope"}}`,
			"🧬 throttle START session-1.scope\n"},
		{"throttle stop, padded", `{"process_throttle":{"type":"THROTTLE_STOP","cgroup":"s\u0000\u0000"}}`,
			"🧬 throttle STOP  s\n"},
		{"lsm", `{"process_lsm":{POD,"function_name":"file_open"}}`, "🔒 LSM     ns/pod /bin/x file_open\n"},
		{"lsm with hash", `{"process_lsm":{POD,"function_name":"file_open","args":[` + file + `],"ima_hash":"sha256:00ff"}}`,
			"🔒 LSM     ns/pod /bin/x file_open\n   /etc/passwd sha256:00ff\n"},
		{"lsm binprm with hash", `{"process_lsm":{POD,"function_name":"bprm_check_security",
			"args":[{"linux_binprm_arg":{"path":"/bin/z"}}],"ima_hash":"md5:00"}}`,
			"🔒 LSM     ns/pod /bin/x bprm_check_security\n   /bin/z md5:00\n"},
		{"lsm other hook with hash", `{"process_lsm":{POD,"function_name":"inode_unlink","ima_hash":"md5:00"}}`,
			"🔒 LSM     ns/pod /bin/x inode_unlink\n"},
		{"uprobe", `{"process_uprobe":{POD,"path":"/bin/bash","symbol":"readline"}}`,
			"\U0001f575\ufe0f uprobe  ns/pod /bin/x /bin/bash readline\n"},
		{"usdt", `{"process_usdt":{POD,"path":"/lib/c","provider":"libc","name":"setjmp"}}`,
			"\U0001f575\ufe0f usdt    ns/pod /bin/x /lib/c libc setjmp\n"},
		{"tracepoint", `{"process_tracepoint":{POD,"subsys":"sched","event":"sched_switch"}}`,
			"\u2049\ufe0f tracepoint ns/pod /bin/x sched sched_switch\n"},
		{"syscall", `{"process_tracepoint":{POD,"subsys":"raw_syscalls","event":"sys_enter",
			"args":[{"syscall_id":{"id":257,"abi":"x64"}},{"size_arg":"18446744073709551516"},{"size_arg":"4096"}]}}`,
			"☎  syscall ns/pod /bin/x openat(int dfd=-100, const char *filename=0x1000, int flags=?)\n"},
		{"syscall by number", `{"process_tracepoint":{POD,"subsys":"raw_syscalls","event":"sys_enter",
			"args":[{"long_arg":"257"}]}}`,
			"☎  syscall ns/pod /bin/x openat(int dfd=?, const char *filename=?, int flags=?)\n"},
		{"syscall of another abi", `{"process_tracepoint":{POD,"subsys":"raw_syscalls","event":"sys_enter",
			"args":[{"syscall_id":{"id":257,"abi":"i386"}}]}}`, "☎  syscall ns/pod /bin/x i386/openat\n"},
		{"syscall unknown", `{"process_tracepoint":{POD,"subsys":"raw_syscalls","event":"sys_enter","args":[{"size_arg":"9"}]}}`,
			"☎  syscall ns/pod /bin/x unknown\n"},
		{"of several calls", `{"process_tracepoint":{POD,"subsys":"sched","event":"sched_switch","aggregated":{"count":"999"}}}`,
			"\u2049\ufe0f tracepoint ns/pod /bin/x sched sched_switch +999 equal\n"},
		{"test", `{"test":{"arg0":"1"}}`, "TEST EVENT\n"},
		{"loss", `{"rate_limit_info":{"number_of_dropped_process_events":"6311"}}`, "⚠ lost    node 6311 events\n"},
		{"loss by reason", `{"rate_limit_info":{"number_of_dropped_process_events":"7","losses":[
			{"event":"exec","reason":"ring_full","count":"4","since":"2026-05-04T10:11:12Z","until":"2026-05-04T10:11:13.5Z"},
			{"event":"e\u001b","reason":"queue full","count":"2"}]}}`,
			"⚠ lost    node 4 exec (ring_full) 2026-05-04T10:11:12Z - 2026-05-04T10:11:13.5Z\n" +
				`⚠ lost    node 2 "e\x1b" ("queue full") 1970-01-01T00:00:00Z - 1970-01-01T00:00:00Z` + "\n" +
				"⚠ lost    node 1 events\n"},

		{"write", kprobe("__x64_sys_write", file+`,{"bytes_arg":""},{"size_arg":"12"}`),
			"📝 write   ns/pod /bin/x /etc/passwd 12 bytes\n"},
		{"write without arguments", kprobe("__x64_sys_write", ""), "📝 write   ns/pod /bin/x  \n"},
		{"read", kprobe("__arm64_sys_read", file+`,{"bytes_arg":""},{"size_arg":"0"}`),
			"📚 read    ns/pod /bin/x /etc/passwd 0 bytes\n"},
		{"fd_install", kprobe("fd_install", `{"int_arg":3},`+file), "\U0001f4ec open    ns/pod /bin/x /etc/passwd\n"},
		{"openat", kprobe("__ia32_sys_openat", `{"int_arg":3},{"string_arg":"/a b"}`),
			"\U0001f4ec\ufe0f openat  ns/pod /bin/x \"/a b\"\n"},
		{"open", kprobe("sys_open", twoStrs), "\U0001f4ec\ufe0f open    ns/pod /bin/x \"/t w o\"\n"},
		{"close", kprobe("__x64_sys_close", file), "📪 close   ns/pod /bin/x /etc/passwd\n"},
		{"mount", kprobe("__x64_sys_mount", twoStrs), "💾 mount   ns/pod /bin/x one \"/t w o\"\n"},
		{"pivot_root", kprobe("__x64_sys_pivot_root", twoStrs), "💾 pivot_root ns/pod /bin/x one \"/t w o\"\n"},
		{"setuid", kprobe("__x64_sys_setuid", `{"int_arg":0}`), "🔑 setuid  ns/pod /bin/x 0\n"},
		{"clock_settime", kprobe("__x64_sys_clock_settime", ""), "⏰ clock_settime ns/pod /bin/x\n"},
		{"proc_exec_connector", kprobe("proc_exec_connector", ""), "🔧 proc_exec_connector ns/pod /bin/x\n"},
		{"setns", kprobe("__x64_sys_setns", `{"int_arg":3},{"int_arg":1073741824}`), "🔧 setns   ns/pod /bin/x net\n"},
		{"setns any", kprobe("__x64_sys_setns", `{"int_arg":3},{"int_arg":0}`), "🔧 setns   ns/pod /bin/x any\n"},
		{"setns unknown", kprobe("__x64_sys_setns", `{"int_arg":3},{"int_arg":1}`), "🔧 setns   ns/pod /bin/x \n"},
		{"tcp_connect", kprobe("tcp_connect", sock), "🔌 connect ns/pod /bin/x tcp 10.0.0.4:41000 -> 192.0.2.7:443\n"},
		{"tcp_close", kprobe("tcp_close", sock), "🧹 close   ns/pod /bin/x tcp 10.0.0.4:41000 -> 192.0.2.7:443\n"},
		{"tcp_sendmsg", kprobe("tcp_sendmsg", sock+`,{"int_arg":5}`),
			"📤 sendmsg ns/pod /bin/x tcp 10.0.0.4:41000 -> 192.0.2.7:443 bytes 5\n"},
		{"bpf_check", kprobe("bpf_check", `{"bpf_attr_arg":{"ProgType":"BPF_PROG_TYPE_KPROBE","InsnCnt":64,"ProgName":"p"}}`),
			"🐝 bpf_load ns/pod /bin/x BPF_PROG_TYPE_KPROBE p instruction count 64\n"},
		{"perf_event", kprobe("security_perf_event_alloc", `{"perf_event_arg":{"KprobeFunc":"commit_creds","Type":"PERF_TYPE_RAW"}}`),
			"🐝 perf_event_alloc ns/pod /bin/x PERF_TYPE_RAW commit_creds\n"},
		{"map", kprobe("security_bpf_map_alloc",
			`{"bpf_map_arg":{"MapType":"BPF_MAP_TYPE_HASH","KeySize":4,"ValueSize":8,"MaxEntries":9,"MapName":"m"}}`),
			"\U0001f5fa bpf_map_create ns/pod /bin/x BPF_MAP_TYPE_HASH m key size 4 value size 8 max entries 9\n"},
		{"file_permission write", kprobe("security_file_permission", file+`,{"int_arg":2}`),
			"📝 write   ns/pod /bin/x /etc/passwd\n"},
		{"file_permission read", kprobe("security_file_permission", file+`,{"int_arg":4}`),
			"📚 read    ns/pod /bin/x /etc/passwd\n"},
		{"file_permission other", kprobe("security_file_permission", file+`,{"int_arg":1}`),
			"❓ security_file_permission ns/pod /bin/x /etc/passwd\n"},
		{"mmap_file", kprobe("security_mmap_file", file+`,{"uint_arg":5}`), "📝 mmap-rx ns/pod /bin/x /etc/passwd\n"},
		{"mmap_file bare", kprobe("security_mmap_file", ""), "❓ security_mmap_file ns/pod /bin/x \n"},
		{"path_truncate", kprobe("security_path_truncate", `{"path_arg":{"path":"/a"}}`), "📝 truncate ns/pod /bin/x /a\n"},
		{"file_truncate bare", kprobe("security_file_truncate", ""), "❓ security_file_truncate ns/pod /bin/x \n"},
		{"other kprobe", kprobe("__x64_sys_foo", file), "❓ syscall ns/pod /bin/x sys_foo\n"},
		{"stacks", `{"process_kprobe":{POD,"function_name":"tcp_close",
			"kernel_stack_trace":[{"address":"255","offset":"16","symbol":"vfs read"},{"offset":"1","symbol":"f"}],
			"user_stack_trace":[{"offset":"2","symbol":"main","module":"/bin/x"},{"module":"/lib/a b"}]}}`,
			"🧹 close   ns/pod /bin/x \nKernel:\n   0xff: \"vfs read\"+0x10\n   0x0: f+0x1\n" +
				"User:\n   0x0: main (/bin/x+0x2)\n   0x0: (\"/lib/a b\"+0x0)\n"},

		{"hostile", `{"process_exec":{"process":{"binary":"/bin/\u001b]0;x\u0007","arguments":"a\nb\u202e\u009b1m"}}}`,
			`🚀 process node "/bin/\x1b]0;x\a" "a\nb\u202e\u009b1m"` + "\n"},
		{"hostile names", `{"process_kprobe":{"process":{"binary":"x","pod":{"namespace":"n\u001b[2J","name":"p\n"}},
			"function_name":"f\u001b[2J"}}`, `❓ syscall "n\x1b[2J"/"p\n" x "f\x1b[2J"` + "\n"},
		{"hostile exit", `{"process_exit":{"process":{"binary":"x"},"signal":"\u001b[2J"}}`,
			`💥 exit    node x  "\x1b[2J"` + "\n"},
		{"quotes without space stay", `{"process_exec":{"process":{"binary":"/bin/é","arguments":"-c\"id\""}}}`,
			"🚀 process node /bin/é -c\"id\"\n"},
	}
}

func testSyscall(abi string, id uint32) (Syscall, bool) {
	if id != 257 {
		return Syscall{}, false
	}
	return Syscall{"openat", []SyscallArg{{"int", "dfd"}, {"const char *", "filename"}, {"int", "flags"}}}, true
}

func TestCompact_plain(t *testing.T) {
	c := NewCompact(CompactOptions{StackTraces: true, ImaHash: true, Syscall: testSyscall, ABI: "x64"})
	for _, tc := range compactCases() {
		t.Run(tc.name, func(t *testing.T) {
			got, err := c.Append([]byte("before|"), fromJSON(t, tc.event))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff("before|"+tc.want, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Without its colours a coloured line is the plain one, and nothing but our colours steers the terminal.
func TestCompact_colorsOnlyAdd(t *testing.T) {
	c := NewCompact(CompactOptions{Color: true, StackTraces: true, ImaHash: true, Syscall: testSyscall, ABI: "x64"})
	strip := strings.NewReplacer("\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "", "\x1b[34m", "", "\x1b[35m", "",
		"\x1b[36m", "", "\x1b[0m", "")
	for _, tc := range compactCases() {
		t.Run(tc.name, func(t *testing.T) {
			got, err := c.Append(nil, fromJSON(t, tc.event))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, strip.Replace(string(got))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCompact_color(t *testing.T) {
	const head = " \x1b[32mns/pod\x1b[0m \x1b[35m/bin/x\x1b[0m"
	cases := []struct{ name, event, want string }{
		{"exec", `{"process_exec":{PROC}}`,
			"\x1b[34m🚀 process\x1b[0m \x1b[32mnode\x1b[0m \x1b[35m/bin/x\x1b[0m \x1b[36m\"a b\"\x1b[0m\n"},
		{"exit", `{"process_exit":{POD,"signal":"SIGHUP"}}`, "\x1b[34m💥 exit   \x1b[0m" + head + "  \x1b[31mSIGHUP\x1b[0m\n"},
		{"loader", `{"process_loader":{POD,"path":"/l","buildid":"AA=="}}`,
			"\x1b[34m🧬 loader \x1b[0m" + head + " 00 \x1b[33m/l\x1b[0m\n"},
		{"throttle start", `{"process_throttle":{"type":"THROTTLE_START","cgroup":"c"}}`,
			"\x1b[31m🧬 throttle\x1b[0m \x1b[31mSTART\x1b[0m c\n"},
		{"throttle stop", `{"process_throttle":{"type":"THROTTLE_STOP","cgroup":"c"}}`,
			"\x1b[31m🧬 throttle\x1b[0m \x1b[32mSTOP \x1b[0m c\n"},
		{"lsm", `{"process_lsm":{POD,"function_name":"file_open","args":[` + file + `],"ima_hash":"md5:00"}}`,
			"\x1b[34m🔒 LSM    \x1b[0m" + head + " file_open\n   \x1b[32m/etc/passwd\x1b[0m \x1b[34mmd5:00\x1b[0m\n"},
		{"tcp", kprobe("tcp_sendmsg", sock+`,{"int_arg":5}`),
			"\x1b[34m📤 sendmsg\x1b[0m" + head + " \x1b[36mtcp 10.0.0.4:41000 -> 192.0.2.7:443\x1b[0m bytes 5\n"},
		{"stack", `{"process_kprobe":{POD,"function_name":"f","kernel_stack_trace":[{"offset":"1","symbol":"s"}]}}`,
			"\x1b[34m❓ syscall\x1b[0m" + head + " f\nKernel:\n   \x1b[32m0x0\x1b[0m: \x1b[34ms\x1b[0m+\x1b[33m0x1\x1b[0m\n"},
	}
	c := NewCompact(CompactOptions{Color: true, StackTraces: true, ImaHash: true})
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got, err := c.Append(nil, fromJSON(t, tc.event))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCompact_admin(t *testing.T) {
	const mark = "🛑 CAP_SYS_ADMIN"
	event := func(caps, args string) string {
		return `{"process_exec":{"process":{"binary":"/bin/x","arguments":"` + args + `","cap":{"effective":[` + caps + `]}}}}`
	}
	// Twenty-two capabilities with another one than CAP_SYS_ADMIN at position 21.
	many := strings.Repeat(`"CAP_CHOWN",`, 21) + `"CAP_BPF"`
	cases := []struct {
		name, event string
		marked      bool
		width       int // of the line without its end
	}{
		{"has it, first in the list", event(`"CAP_SYS_ADMIN"`, "a"), true, 120},
		{"has it not, but others", event(many, "a"), false, 0},
		{"none", event("", "a"), false, 0},
		{"long line", event(`"CAP_SYS_ADMIN"`, strings.Repeat("a", 200)), true, 0},
	}
	for _, color := range []bool{false, true} {
		c := NewCompact(CompactOptions{Color: color})
		for _, tc := range cases {
			got, err := c.Append(nil, fromJSON(t, tc.event))
			if err != nil {
				t.Fatal(err)
			}
			line := strings.TrimSuffix(string(got), "\n")
			if strings.HasSuffix(line, " "+mark) != tc.marked {
				t.Errorf("%s: %q", tc.name, line)
			}
			if !color && tc.width > 0 && len(line) != tc.width {
				t.Errorf("%s: %d bytes", tc.name, len(line))
			}
			if !tc.marked && strings.HasSuffix(line, " ") {
				t.Errorf("%s: padding at the end of %q", tc.name, line)
			}
		}
	}
}

func TestCompact_options(t *testing.T) {
	stacks := `{"process_kprobe":{POD,"function_name":"f","kernel_stack_trace":[{"symbol":"s"}]},"time":"2026-05-04T10:11:12.5Z"}`
	hash := `{"process_lsm":{POD,"function_name":"file_open","ima_hash":"md5:00"}}`
	c := NewCompact(CompactOptions{Timestamps: true})
	for event, want := range map[string]string{
		stacks: "2026-05-04T10:11:12.500000000Z ❓ syscall ns/pod /bin/x f\n",
		hash:   "1970-01-01T00:00:00.000000000Z 🔒 LSM     ns/pod /bin/x file_open\n",
	} {
		got, err := c.Append(nil, fromJSON(t, event))
		if err != nil || string(got) != want {
			t.Errorf("got %q, %v\nwant %q", got, err, want)
		}
	}
}

func TestCompact_errors(t *testing.T) {
	c := NewCompact(CompactOptions{Timestamps: true})
	for event, want := range map[string]string{
		`{"process_exec":{}}`:   "process field is not set",
		`{"process_kprobe":{}}`: "process field is not set",
		`{}`:                    "unknown event type: UNDEF",
	} {
		got, err := c.Append([]byte("x"), fromJSON(t, event))
		if err == nil || err.Error() != want || string(got) != "x" {
			t.Errorf("%s: %q, %v", event, got, err)
		}
	}
}

func TestCompact_render(t *testing.T) {
	c := NewCompact(CompactOptions{})
	wire, err := proto.Marshal(fromJSON(t, `{"process_exec":{POD}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(c.Render([]byte("x"), wire)); got != "x🚀 process ns/pod /bin/x \n" {
		t.Errorf("got %q", got)
	}
	if got := string(c.Render(nil, nil)); got != "⚠ error   show event: unknown event type: UNDEF\n" {
		t.Errorf("got %q", got)
	}
	got := string(c.Render(nil, []byte("\xff\xff")))
	if !strings.HasPrefix(got, "⚠ error   ") || strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "\n") {
		t.Errorf("got %q", got)
	}
}

// Whatever the strings hold, a line is one line of printable characters.
func FuzzCompact(f *testing.F) {
	f.Add("/bin/\x1b[2J", "a\nb", "\xff\xfe", "\u202e")
	f.Add("", " ", "\t", "\u009b")
	c := NewCompact(CompactOptions{StackTraces: true, ImaHash: true})
	f.Fuzz(func(t *testing.T, a, b, d, e string) {
		p := &tetragon.Process{Binary: a, Arguments: b, Pod: &tetragon.Pod{Namespace: d, Name: e}}
		arg := &tetragon.KprobeArgument{Arg: &tetragon.KprobeArgument_StringArg{StringArg: b}}
		for _, ev := range []*tetragon.GetEventsResponse{
			{NodeName: d, Event: &tetragon.GetEventsResponse_ProcessExec{ProcessExec: &tetragon.ProcessExec{Process: p}}},
			{NodeName: e, Event: &tetragon.GetEventsResponse_ProcessExit{ProcessExit: &tetragon.ProcessExit{
				Process: &tetragon.Process{Binary: b}, Signal: a}}},
			{NodeName: b, Event: &tetragon.GetEventsResponse_ProcessThrottle{
				ProcessThrottle: &tetragon.ProcessThrottle{Cgroup: a}}},
			{Event: &tetragon.GetEventsResponse_ProcessKprobe{ProcessKprobe: &tetragon.ProcessKprobe{
				Process: p, FunctionName: e, Args: []*tetragon.KprobeArgument{arg, arg}}}},
			{Event: &tetragon.GetEventsResponse_ProcessKprobe{ProcessKprobe: &tetragon.ProcessKprobe{
				Process: p, FunctionName: "sys_mount", Args: []*tetragon.KprobeArgument{arg, arg}}}},
		} {
			got, err := c.Append(nil, ev)
			if err != nil {
				t.Fatal(err)
			}
			line, end := strings.CutSuffix(string(got), "\n")
			if !end || line != safe(line) {
				t.Errorf("%q", got)
			}
		}
	})
}
