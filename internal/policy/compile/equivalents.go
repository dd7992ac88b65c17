// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"math"

	"tetragon/internal/kernel"
	"tetragon/internal/policy/plan"
)

// equivalent is another place where what a function does can be seen.
type equivalent struct {
	backend  plan.Backend // BackendSysEnter becomes BackendSysExit if the return value is asked for
	symbol   string       // tracepoint
	tpParams int          // how many parameters it has at the least
	calls    []string     // system calls of both ABIs, or of one: "x64/mmap"
	when     []condition
	whenExit []condition     // further ones, if it is BackendSysExit
	params   map[int]reached // what stands for a parameter
	ret      *reached        // what stands for the return value; nil: the result of the call if it is an error, else 0
	noReturn string          // why there is nothing that stands for it
	needs    kernel.Feature
	caveats  []string
}

// way is a set of equivalents that together show all calls of a function, as far as can be seen.
type way []equivalent

// condition is one on a value that may have to be followed through the kernel's types.
type condition struct {
	plan.Condition
	via []string // "sock.sk_protocol"
}

// reached says how something of a call is had.
type reached struct {
	source plan.Source
	rest   []plan.Source // further elements, if it is an array
	via    []string      // then through members: each a type and a way from it
	typ    plan.Type     // how it is read, if not as the policy's type says
	final  bool          // it is the value, not the address of an object that holds it
	why    string        // why it cannot be had
}

func reg(n int64, steps ...plan.Step) plan.Source {
	return plan.Source{Kind: plan.SourceReg, N: n, Steps: steps}
}

func arg(n int64, steps ...plan.Step) plan.Source {
	return plan.Source{Kind: plan.SourceArg, N: n, Steps: steps}
}

func constant(n int64) plan.Source { return plan.Source{Kind: plan.SourceConst, N: n} }

// fileOf is the file behind the descriptor in argument n.
func fileOf(n int64) plan.Source { return plan.Source{Kind: plan.SourceFdFile, N: n} }

// newFile is the file behind the descriptor that the call returned.
func newFile() plan.Source { return fileOf(-1) }

func result() plan.Source { return plan.Source{Kind: plan.SourceReturn} }

// bits takes the low bits of what a source begins with.
func bits(s plan.Source, n uint8) plan.Source {
	s.Bits = n
	return s
}

func is(s plan.Source, values ...uint64) condition {
	var c condition
	c.Source = s
	for _, v := range values {
		c.Ranges = append(c.Ranges, plan.Range{Lo: v, Hi: v})
	}
	return c
}

func isNot(s plan.Source, values ...uint64) condition {
	c := is(s, values...)
	c.Not = true
	return c
}

func has(s plan.Source, mask uint64) condition {
	c := isNot(s, 0)
	c.Mask = mask
	return c
}

func hasNot(s plan.Source, mask uint64) condition {
	c := is(s, 0)
	c.Mask = mask
	return c
}

// worked holds if the call did not fail.
func worked() condition {
	var c condition
	c.Source = result()
	c.Ranges = []plan.Range{{Lo: 0, Hi: math.MaxInt64}}
	return c
}

// at follows a condition through members.
func (c condition) at(via ...string) condition {
	c.via = via
	return c
}

// Numbers of the kernel's interface: include/uapi/linux/bpf.h, sched.h, mman.h, capability.h, stat.h; include/net/tcp_states.h.
const (
	bpfMapCreate = 0
	bpfProgLoad  = 5
	cloneNewUser = 0x10000000
	mapAnonymous = 0x20
	mayRead      = 4
	mayWrite     = 2
	readModule   = 2 // enum kernel_read_file_id, enum kernel_load_data_id
	capsVersion2 = 0x20071026
	capsVersion3 = 0x20080522
	typeMask     = 0o170000
	typeSocket   = 0o140000
	afInet       = 2
	afInet6      = 10
	protoTCP     = 6

	tcpEstablished = 1
	tcpSynSent     = 2
	tcpSynRecv     = 3
	tcpFinWait1    = 4
	tcpClose       = 7
	tcpCloseWait   = 8
	tcpLastAck     = 9
	tcpListen      = 10
)

const (
	attempts    = "sees attempts, also those that the kernel refuses"
	userMemory  = "reads user memory, which another thread may change before the kernel reads it"
	byFd        = "sees the file behind the descriptor; not what io_uring or the kernel itself do"
	stateChange = "runs when the state of the connection changes, not when the function is called"
	softirq     = "may run while another process has the CPU; the owner is known if the policy tracks sockets"
	socketcall  = "does not see the old socketcall of 32-bit programs"
	afterwards  = "runs after the call, and only if it worked"
)

// isTCP holds for sockets of TCP.
func isTCP(s plan.Source) condition { return is(s, protoTCP).at("sock.sk_protocol") }

// isSocket holds if the descriptor in argument 0 is a socket.
func isSocket(s plan.Source) condition {
	c := is(s, typeSocket).at("file.f_inode.i_mode")
	c.Mask = typeMask
	return c
}

// socketOf is the socket behind the descriptor in argument 0.
func socketOf() reached { return reached{source: fileOf(0), via: []string{"file.private_data"}} }

// family is a row for a function __sys_NAME that takes ids.
func family(name string, n int) []way {
	e := equivalent{
		backend: plan.BackendSysEnter, calls: []string{name, "i386/" + name + "32"}, params: map[int]reached{}, ret: &reached{source: result()},
		caveats: []string{"the calls of 32-bit programs that take ids of 16 bits are shown as they are passed"},
	}
	for i := range n {
		e.params[i] = reached{source: reg(int64(i))}
	}
	return []way{{e}}
}

// newImage shows a program that is about to replace another: the credentials of the task are the old ones, those of the
// linux_binprm the new ones.
var newImage = way{{
	backend: plan.BackendTp, symbol: "sched_prepare_exec", params: map[int]reached{0: {source: arg(1)}},
	ret:     &reached{source: constant(0)},
	caveats: []string{"runs once for each exec that the kernel goes through with, for the file that is executed in the end: the interpreter of a script, not the script"},
}}

// gotImage shows a program that has replaced another.
var gotImage = way{{
	backend: plan.BackendTp, symbol: "sched_process_exec", params: map[int]reached{0: {source: arg(2)}},
	ret: &reached{source: constant(0)},
	caveats: []string{
		"runs once for each exec that worked, for the file that is executed in the end: the interpreter of a script, not the script",
		"the credentials in the linux_binprm are used up by then",
	},
}}

// tcpChange is a change of the state of a TCP connection.
func tcpChange(from, to []uint64, caveats ...string) equivalent {
	return equivalent{
		backend: plan.BackendTp, symbol: "inet_sock_set_state", params: map[int]reached{0: {source: arg(0)}},
		when: []condition{is(arg(1), from...), is(arg(2), to...), isTCP(arg(0))}, noReturn: "a change of state returns nothing",
		caveats: append([]string{stateChange, softirq}, caveats...),
	}
}

// opened is what the opening of a file by a descriptor shows.
func opened(calls []string, params map[int]reached) way {
	return way{{
		backend: plan.BackendSysExit, calls: calls, params: params, when: []condition{worked()}, ret: &reached{source: constant(0)},
		caveats: []string{afterwards, "does not see files that an exec or io_uring opens, nor descriptors that are received from another process"},
	}}
}

var opening = []string{"open", "openat", "openat2", "creat", "open_by_handle_at"}

// descriptors are the calls that return a new descriptor.
var descriptors = []string{
	"open", "openat", "openat2", "creat", "open_by_handle_at", "socket", "accept", "accept4", "epoll_create", "epoll_create1", "eventfd",
	"eventfd2", "signalfd", "signalfd4", "timerfd_create", "inotify_init", "inotify_init1", "fanotify_init", "memfd_create", "perf_event_open",
	"userfaultfd", "pidfd_open", "pidfd_getfd", "mq_open", "io_uring_setup", "open_tree", "fsopen", "fsmount", "fspick", "memfd_secret",
}

// onFile is a row for a call on a descriptor in argument fd.
func onFile(fd int64, params map[int]reached, caveats []string, calls ...string) equivalent {
	params[0] = reached{source: fileOf(fd)}
	return equivalent{
		backend: plan.BackendSysEnter, calls: calls, params: params, when: []condition{isNot(fileOf(fd), 0)},
		caveats: append([]string{byFd}, caveats...),
	}
}

func maskOf(mask int64) map[int]reached { return map[int]reached{1: {source: constant(mask)}} }

var filePermission = way{
	onFile(0, maskOf(mayRead), nil, "read", "pread64", "readv", "preadv", "preadv2", "getdents", "getdents64", "splice", "copy_file_range"),
	onFile(1, maskOf(mayRead), nil, "sendfile", "i386/sendfile64"),
	onFile(0, maskOf(mayWrite), nil, "write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "i386/sendfile64", "fallocate"),
	onFile(2, maskOf(mayWrite), nil, "splice", "copy_file_range"),
}

// onSocket is a row for a call on a socket in argument 0.
func onSocket(params map[int]reached, calls ...string) way {
	params[0] = socketOf()
	return way{{
		backend: plan.BackendSysEnter, calls: calls, params: params, when: []condition{isSocket(fileOf(0))},
		caveats: []string{attempts, userMemory, socketcall},
	}}
}

var bpfMap = []way{{{
	backend: plan.BackendSysEnter, calls: []string{"bpf"}, when: []condition{is(bits(reg(0), 32), bpfMapCreate)},
	params:  map[int]reached{0: {source: reg(1), typ: plan.TypeBpfMapAttr}},
	caveats: []string{attempts, userMemory, "does not see maps that the kernel makes for itself"},
}}}

var bpfProg = []way{{{
	backend: plan.BackendSysEnter, calls: []string{"bpf"}, when: []condition{is(bits(reg(0), 32), bpfProgLoad)},
	params:  map[int]reached{1: {source: reg(1)}, 3: {source: reg(2)}},
	caveats: []string{attempts, userMemory},
}}}

// newUserNS is a row for a call with flags.
func newUserNS(call string, flags plan.Source, caveats ...string) equivalent {
	return equivalent{
		backend: plan.BackendSysEnter, calls: []string{call}, when: []condition{has(flags, cloneNewUser)},
		params:  map[int]reached{0: {source: plan.Source{Kind: plan.SourceCred}}},
		caveats: append([]string{attempts, "the new credentials are not made yet: those of the caller are shown"}, caveats...),
	}
}

// notChild leaves out the process that clone has made, which returns from the call as well.
func (e equivalent) notChild() equivalent {
	e.whenExit = append(e.whenExit, isNot(result(), 0))
	return e
}

// capsOf reads one of the sets that capset is given: two halves of 32 bits, 12 bytes apart.
func capsOf(off int64) reached {
	return reached{source: reg(1, plan.Step{Off: off, Size: 4, User: true, Halves: true}), final: true}
}

// changesCreds are the calls behind which a task may have other credentials.
var changesCreds = []string{
	"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "i386/setuid32", "i386/setgid32",
	"i386/setreuid32", "i386/setregid32", "i386/setresuid32", "i386/setresgid32", "i386/setgroups32",
	"setfsuid", "setfsgid", "i386/setfsuid32", "i386/setfsgid32", "capset", "setns", "unshare", "keyctl", "prctl", "execve", "execveat",
}

// onAddress is where programs of cgroups see the address that a process names, and may deny.
func onAddress(b plan.Backend) equivalent {
	return equivalent{
		backend: b, needs: kernel.Cgroup2, noReturn: "the call has only begun",
		params: map[int]reached{
			0: {source: arg(0), via: []string{"bpf_sock_addr_kern.sk", "sock.sk_socket"}},
			1: {source: arg(0), via: []string{"bpf_sock_addr_kern.uaddr"}},
		},
		caveats: []string{"sees, and denies, what processes do with TCP and UDP over IPv4 and IPv6; not other sockets, nor what the kernel itself does"},
	}
}

// denials is where a function can be denied if nobody may return in its place, by function: its calls with addresses of IPv4
// and IPv6, see otherFamilies.
var denials = map[string][]way{
	"security_socket_connect": {{onAddress(plan.BackendConnect4), onAddress(plan.BackendConnect6)}},
	"security_socket_bind":    {{onAddress(plan.BackendBind4), onAddress(plan.BackendBind6)}},
}

// equivalents is the table of other places, by function. The first way that the kernel has is taken. A kernel where the
// function itself can be hooked never uses it.
var equivalents = map[string][]way{
	// BPF
	"bpf_check":                 bpfProg,
	"security_bpf_prog_load":    bpfProg,
	"security_bpf_map_alloc":    bpfMap,
	"security_bpf_map_create":   bpfMap,
	"security_bpf":              {{{backend: plan.BackendSysEnter, calls: []string{"bpf"}, params: map[int]reached{0: {source: reg(0)}, 1: {source: reg(1)}, 2: {source: reg(2)}}, caveats: []string{attempts, userMemory}}}},
	"security_perf_event_alloc": {{{backend: plan.BackendSysEnter, calls: []string{"perf_event_open"}, params: map[int]reached{0: {source: reg(0), typ: plan.TypePerfAttr}}, caveats: []string{attempts, userMemory}}}},

	// Files
	"security_file_permission": {filePermission},
	"security_mmap_file": {{{
		backend: plan.BackendSysEnter, calls: []string{"x64/mmap", "i386/mmap2"}, when: []condition{hasNot(reg(3), mapAnonymous)},
		params:  map[int]reached{0: {source: fileOf(4)}, 1: {source: reg(2)}, 2: {source: reg(3)}},
		caveats: []string{attempts, byFd, "does not see anonymous memory"},
	}}},
	"security_file_truncate": {{onFile(0, map[int]reached{}, []string{attempts}, "ftruncate", "i386/ftruncate64")}},
	"security_file_ioctl":    {{onFile(0, map[int]reached{1: {source: reg(1)}, 2: {source: reg(2)}}, []string{attempts}, "ioctl")}},
	"security_file_fcntl":    {{onFile(0, map[int]reached{1: {source: reg(1)}, 2: {source: reg(2)}}, []string{attempts}, "fcntl", "i386/fcntl64")}},
	"security_file_open":     {opened(opening, map[int]reached{0: {source: newFile()}})},
	"fd_install":             {opened(descriptors, map[int]reached{0: {source: result()}, 1: {source: newFile()}})},

	// Credentials
	"__sys_setuid": family("setuid", 1), "__sys_setgid": family("setgid", 1),
	"__sys_setreuid": family("setreuid", 2), "__sys_setregid": family("setregid", 2),
	"__sys_setresuid": family("setresuid", 3), "__sys_setresgid": family("setresgid", 3),
	"__sys_setfsuid": family("setfsuid", 1), "__sys_setfsgid": family("setfsgid", 1),
	"security_capset": {{{
		backend: plan.BackendSysEnter, calls: []string{"capset"},
		when: []condition{is(reg(0, plan.Step{Size: 4, User: true}), capsVersion2, capsVersion3)},
		params: map[int]reached{
			0: {source: plan.Source{Kind: plan.SourceCred}}, 1: {source: plan.Source{Kind: plan.SourceCred}},
			2: capsOf(0), 3: capsOf(8), 4: capsOf(4),
		},
		caveats: []string{attempts, userMemory, "the new credentials are not made yet: both are those of the process", "does not see calls with the sets of 32 bits that were before Linux 2.6.25"},
	}}},
	"create_user_ns": {{
		newUserNS("unshare", reg(0)),
		newUserNS("clone", reg(0)).notChild(),
		newUserNS("clone3", reg(0, plan.Step{Size: 8, User: true}), userMemory).notChild(),
	}},
	"cap_capable": {{{
		backend: plan.BackendTp, symbol: "cap_capable",
		params: map[int]reached{0: {source: arg(0)}, 1: {source: arg(1)}, 2: {source: arg(3)}}, ret: &reached{source: arg(4)},
	}}},
	"commit_creds": {{{
		backend: plan.BackendSysExit, calls: changesCreds, params: map[int]reached{0: {source: plan.Source{Kind: plan.SourceCred}}},
		when: []condition{worked()}, ret: &reached{source: constant(0)},
		caveats: []string{
			"DOES NOT SEE what the kernel does by itself: an exploit that calls commit_creds is not seen",
			"sees what system calls may have changed, also if they have changed nothing",
		},
	}}},

	// Programs and processes
	"security_bprm_check":            {newImage, gotImage},
	"security_bprm_committing_creds": {newImage},
	"security_bprm_committed_creds":  {gotImage},
	"wake_up_new_task": {{{
		backend: plan.BackendTp, symbol: "sched_process_fork", params: map[int]reached{0: {source: arg(1)}}, noReturn: "it returns nothing",
	}}},
	"acct_process": {
		{{
			backend: plan.BackendTp, symbol: "sched_process_exit", tpParams: 2, params: map[int]reached{}, noReturn: "it returns nothing",
			when: []condition{isNot(bits(arg(1), 8), 0)}, // kernel: bool group_dead, 6.16..
		}},
		{{
			backend: plan.BackendTp, symbol: "sched_process_exit", params: map[int]reached{}, noReturn: "it returns nothing",
			when:    []condition{is(arg(0), 0).at("task_struct.signal.live.counter")},
			caveats: []string{"runs twice if the last two threads end at the same moment"},
		}},
	},

	// Sockets
	"sk_alloc": {{{
		backend: plan.BackendSockCreate, needs: kernel.Cgroup2,
		params: map[int]reached{1: {source: arg(0), via: []string{"sock.__sk_common.skc_family"}}, 4: {source: constant(0)}},
		ret:    &reached{source: arg(0)},
		caveats: []string{
			"sees IP sockets that processes make, when their type and protocol are set already",
			"does not see sockets of the kernel, nor those that come to be when a connection is accepted",
		},
	}}},
	"sk_free": {{
		{
			backend: plan.BackendTp, symbol: "tcp_destroy_sock", params: map[int]reached{0: {source: arg(0)}}, noReturn: "it returns nothing",
			caveats: []string{"runs when TCP is done with a connection, shortly before its memory is freed", softirq},
		},
		{
			backend: plan.BackendSockRelease, needs: kernel.Cgroup2, params: map[int]reached{0: {source: arg(0)}}, noReturn: "it returns nothing",
			when:    []condition{isNot(arg(0), protoTCP).at("sock.sk_protocol")},
			caveats: []string{"sees other IP sockets when the last descriptor is closed, which may be before their memory is freed"},
		},
	}},
	"tcp_set_state": {{{
		backend: plan.BackendTp, symbol: "inet_sock_set_state", params: map[int]reached{0: {source: arg(0)}, 1: {source: arg(2)}},
		when: []condition{isTCP(arg(0))}, noReturn: "it returns nothing", caveats: []string{softirq},
	}}},
	"tcp_close": {{
		tcpChange([]uint64{tcpEstablished, tcpSynRecv}, []uint64{tcpFinWait1}, "shutdown of a connection looks the same, and sockets that have no connection are not seen"),
		tcpChange([]uint64{tcpCloseWait}, []uint64{tcpLastAck}),
		tcpChange([]uint64{tcpEstablished, tcpSynSent, tcpSynRecv, tcpCloseWait, tcpListen}, []uint64{tcpClose}, "a reset by the peer looks the same"),
	}},
	"tcp_create_openreq_child": {{{
		backend: plan.BackendTp, symbol: "inet_sock_set_state", params: map[int]reached{0: {source: arg(0)}},
		when: []condition{isNot(arg(1), tcpSynSent), is(arg(2), tcpSynRecv), isTCP(arg(0))}, ret: &reached{source: arg(0)},
		caveats: []string{"the first argument is the new socket as well, a copy of the listening one so far; its peer is not filled in yet", stateChange, softirq},
	}}},
	"tcp_connect": {{{
		backend: plan.BackendSockOps, needs: kernel.Cgroup2, params: map[int]reached{0: {source: arg(0)}},
		noReturn: "the function has only begun", caveats: []string{"does not see sockets of the kernel itself"},
	}}},
	"inet_csk_accept": {{{
		backend: plan.BackendSysExit, calls: []string{"accept", "accept4"},
		params: map[int]reached{0: {source: fileOf(0), via: []string{"file.private_data", "socket.sk"}}},
		when: []condition{
			worked(), isSocket(newFile()), is(newFile(), afInet, afInet6).at("file.private_data", "socket.sk", "sock.__sk_common.skc_family"),
			is(newFile(), protoTCP).at("file.private_data", "socket.sk", "sock.sk_protocol"),
		},
		ret:     &reached{source: newFile(), via: []string{"file.private_data", "socket.sk"}},
		caveats: []string{afterwards, socketcall, "does not see what io_uring accepts"},
	}}},
	"security_socket_connect": {onSocket(map[int]reached{1: {source: reg(1)}, 2: {source: reg(2)}}, "connect")},
	"security_socket_bind":    {onSocket(map[int]reached{1: {source: reg(1)}, 2: {source: reg(2)}}, "bind")},
	"security_socket_listen":  {onSocket(map[int]reached{1: {source: reg(1)}}, "listen")},
	"security_socket_sendmsg": {onSocket(map[int]reached{}, "sendto", "sendmsg", "sendmmsg")},
	"security_socket_recvmsg": {onSocket(map[int]reached{}, "recvfrom", "recvmsg", "recvmmsg")},
	"security_socket_create": {{{
		backend: plan.BackendSysEnter, calls: []string{"socket"},
		// kernel: SOCK_TYPE_MASK; the other bits of the type are flags of the descriptor
		params:  map[int]reached{0: {source: reg(0)}, 1: {source: bits(reg(1), 4)}, 2: {source: reg(2)}, 3: {source: constant(0)}},
		caveats: []string{attempts, socketcall, "does not see sockets of the kernel itself"},
	}}},

	// Packets
	"kfree_skb_reason":   {{{backend: plan.BackendTp, symbol: "kfree_skb", params: map[int]reached{0: {source: arg(0)}, 1: {source: arg(2)}}, noReturn: "it returns nothing", caveats: []string{softirq}}}},
	"sk_skb_reason_drop": {{{backend: plan.BackendTp, symbol: "kfree_skb", params: map[int]reached{1: {source: arg(0)}, 2: {source: arg(2)}}, noReturn: "it returns nothing", caveats: []string{softirq}}}},
	"__dev_queue_xmit":   {{{backend: plan.BackendTp, symbol: "net_dev_queue", params: map[int]reached{0: {source: arg(0)}}, noReturn: "the function has only begun", caveats: []string{softirq}}}},
	"netif_receive_skb":  {{{backend: plan.BackendTp, symbol: "netif_receive_skb", params: map[int]reached{0: {source: arg(0)}}, noReturn: "the function has only begun", caveats: []string{softirq}}}},

	// Modules. Without them none of these functions is ever called.
	"security_kernel_module_request": {{{
		backend: plan.BackendTp, symbol: "module_request", needs: kernel.Modules, params: map[int]reached{0: {source: arg(0)}},
		ret: &reached{source: constant(0)}, caveats: []string{"does not see requests that a security module refuses"},
	}}},
	"security_kernel_read_file": {{{
		backend: plan.BackendSysEnter, calls: []string{"finit_module"}, needs: kernel.Modules,
		params:  map[int]reached{0: {source: fileOf(0)}, 1: {source: constant(readModule)}},
		caveats: []string{attempts, byFd, "sees modules, not firmware, policies and other files that the kernel reads"},
	}}},
	"security_kernel_load_data": {{{
		backend: plan.BackendSysEnter, calls: []string{"init_module"}, needs: kernel.Modules, params: map[int]reached{0: {source: constant(readModule)}},
		caveats: []string{attempts, "sees modules, not firmware and other data that the kernel takes"},
	}}},
	"do_init_module": {{{
		backend: plan.BackendTp, symbol: "module_load", needs: kernel.Modules, params: map[int]reached{0: {source: arg(0)}},
		noReturn: "the function has not begun", caveats: []string{"sees modules whose start fails as well"},
	}}},
	"free_module": {{{
		backend: plan.BackendTp, symbol: "module_free", needs: kernel.Modules, params: map[int]reached{0: {source: arg(0)}}, noReturn: "it returns nothing",
	}}},
}
