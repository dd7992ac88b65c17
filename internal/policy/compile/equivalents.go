// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"tetragon/internal/kernel"
	"tetragon/internal/policy/plan"
)

// equivalent is another place where what a function does can be seen. All equivalents of a function are used together.
type equivalent struct {
	backend plan.Backend
	symbol  string   // tracepoint
	calls   []string // system calls, by their 64-bit names; 32-bit ones of the same name and arguments are meant too
	calls32 []string // further names of 32-bit ones
	exit    bool     // the result is needed
	when    []plan.Condition
	params  map[int]reached // what stands for a parameter
	ret     *reached        // what stands for the return value; nil: the result of the call, 0 unless negative
	needs   kernel.Feature
	caveats []string
}

// reached says how something of a call is had.
type reached struct {
	source plan.Source
	typ    plan.Type // how it is read, if not as the policy's type says
	final  bool      // it is the value, not the address of an object that holds it
	why    string    // why it cannot be had
}

func reg(n int64, steps ...plan.Step) plan.Source {
	return plan.Source{Kind: plan.SourceReg, N: n, Steps: steps}
}

func arg(n int64, steps ...plan.Step) plan.Source {
	return plan.Source{Kind: plan.SourceArg, N: n, Steps: steps}
}

func constant(n int64) plan.Source { return plan.Source{Kind: plan.SourceConst, N: n} }

func is(s plan.Source, values ...uint64) plan.Condition {
	c := plan.Condition{Source: s}
	for _, v := range values {
		c.Ranges = append(c.Ranges, plan.Range{Lo: v, Hi: v})
	}
	return c
}

func has(s plan.Source, mask uint64) plan.Condition {
	return plan.Condition{Source: s, Mask: mask, Ranges: []plan.Range{{}}, Not: true}
}

func hasNot(s plan.Source, mask uint64) plan.Condition {
	return plan.Condition{Source: s, Mask: mask, Ranges: []plan.Range{{}}}
}

// Numbers of the kernel's interface: include/uapi/linux/bpf.h, sched.h, mman.h; include/net/tcp_states.h.
const (
	bpfMapCreate = 0
	bpfProgLoad  = 5
	cloneNewUser = 0x10000000
	mapAnonymous = 0x20
	mayRead      = 4
	mayWrite     = 2
	readModule   = 2 // enum kernel_read_file_id

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
	byFd        = "sees the file through the descriptor: not what io_uring, splice or the kernel itself do"
	noModules   = "sees nothing on a kernel without modules"
	stateChange = "fires on the change of the connection's state, not on the call"
	softirq     = "may run outside of the process that the socket belongs to; the owner is known if the policy tracks sockets"
)

// family is a row for a function __sys_NAME that takes ids.
func family(name string, n int) []equivalent {
	e := equivalent{backend: plan.BackendSysEnter, calls: []string{name}, calls32: []string{name + "32"}, params: map[int]reached{}}
	for i := range n {
		e.params[i] = reached{source: reg(int64(i))}
	}
	return []equivalent{e}
}

var newBprm = []equivalent{{
	backend: plan.BackendTp, symbol: "sched_prepare_exec", params: map[int]reached{0: {source: arg(1)}},
	ret:     &reached{source: constant(0)},
	caveats: []string{"runs once for each exec that succeeds, with the file that is executed in the end"},
}}

// closing are the changes of state that closing a socket makes.
var closing = []equivalent{
	tcpChange([]uint64{tcpEstablished}, []uint64{tcpFinWait1}),
	tcpChange([]uint64{tcpCloseWait}, []uint64{tcpLastAck}),
	tcpChange([]uint64{tcpListen, tcpSynSent, tcpSynRecv}, []uint64{tcpClose}),
}

func tcpChange(from, to []uint64) equivalent {
	return equivalent{
		backend: plan.BackendTp, symbol: "inet_sock_set_state", params: map[int]reached{0: {source: arg(0)}, 1: {source: constant(0)}},
		when: []plan.Condition{is(arg(1), from...), is(arg(2), to...)}, ret: &reached{source: arg(0)},
		caveats: []string{stateChange, softirq},
	}
}

// opened is what the opening of a file by a descriptor shows.
func opened(params map[int]reached) []equivalent {
	return []equivalent{{
		backend: plan.BackendSysExit, calls: []string{"open", "openat", "openat2", "creat"}, exit: true, params: params,
		when:    []plan.Condition{{Source: plan.Source{Kind: plan.SourceReturn}, Ranges: []plan.Range{{Lo: 0, Hi: 1<<31 - 1}}}},
		ret:     &reached{source: constant(0)},
		caveats: []string{"runs after the file was opened, and only if it was", "does not see files that an exec or io_uring opens, nor descriptors that are received"},
	}}
}

// equivalents is the table of other places, by function. A kernel where the function itself can be hooked never uses it.
var equivalents = map[string][]equivalent{
	"bpf_check": {{
		backend: plan.BackendSysEnter, calls: []string{"bpf"}, when: []plan.Condition{is(reg(0), bpfProgLoad)},
		params: map[int]reached{1: {source: reg(1)}}, caveats: []string{attempts, userMemory},
	}},
	"security_bpf_map_alloc":  bpfMap,
	"security_bpf_map_create": bpfMap,
	"security_perf_event_alloc": {{
		backend: plan.BackendSysEnter, calls: []string{"perf_event_open"},
		params: map[int]reached{0: {source: reg(0), typ: plan.TypePerfAttr}}, caveats: []string{attempts, userMemory},
	}},
	"security_file_permission": {
		{
			backend: plan.BackendSysEnter, calls: []string{"read", "pread64", "readv", "preadv", "getdents64", "sendfile"},
			params: map[int]reached{0: {source: plan.Source{Kind: plan.SourceFdFile}}, 1: {source: constant(mayRead)}}, caveats: []string{byFd},
		},
		{
			backend: plan.BackendSysEnter, calls: []string{"write", "pwrite64", "writev", "pwritev"},
			params: map[int]reached{0: {source: plan.Source{Kind: plan.SourceFdFile}}, 1: {source: constant(mayWrite)}}, caveats: []string{byFd},
		},
	},
	"security_mmap_file": {{
		backend: plan.BackendSysEnter, calls: []string{"mmap"}, calls32: []string{"mmap2"}, when: []plan.Condition{hasNot(reg(3), mapAnonymous)},
		params: map[int]reached{
			0: {source: plan.Source{Kind: plan.SourceFdFile, N: 4}}, 1: {source: reg(2)}, 2: {source: reg(3)},
		},
		caveats: []string{attempts, byFd},
	}},
	"security_file_open": opened(map[int]reached{0: {source: plan.Source{Kind: plan.SourceReturn}, typ: plan.TypeFd}}),
	"fd_install": opened(map[int]reached{
		0: {source: plan.Source{Kind: plan.SourceReturn}}, 1: {source: plan.Source{Kind: plan.SourceReturn}, typ: plan.TypeFd},
	}),

	"__sys_setuid": family("setuid", 1), "__sys_setgid": family("setgid", 1),
	"__sys_setreuid": family("setreuid", 2), "__sys_setregid": family("setregid", 2),
	"__sys_setresuid": family("setresuid", 3), "__sys_setresgid": family("setresgid", 3),
	"__sys_setfsuid": family("setfsuid", 1), "__sys_setfsgid": family("setfsgid", 1),
	"security_capset": {{
		backend: plan.BackendSysEnter, calls: []string{"capset"},
		params: map[int]reached{
			0: {source: plan.Source{Kind: plan.SourceCred}}, 1: {source: plan.Source{Kind: plan.SourceCred}},
			2: {source: reg(1, plan.Step{Off: 0, Size: 8, User: true, Halves: true}), final: true},
			3: {source: reg(1, plan.Step{Off: 8, Size: 8, User: true, Halves: true}), final: true},
			4: {source: reg(1, plan.Step{Off: 4, Size: 8, User: true, Halves: true}), final: true},
		},
		caveats: []string{attempts, userMemory, "the new credentials are not made yet: both credentials are those of the process"},
	}},
	"create_user_ns": {
		{
			backend: plan.BackendSysEnter, calls: []string{"unshare"}, when: []plan.Condition{has(reg(0), cloneNewUser)},
			params: map[int]reached{0: {source: plan.Source{Kind: plan.SourceCred}}}, caveats: []string{attempts},
		},
		{
			backend: plan.BackendSysEnter, calls: []string{"clone"}, when: []plan.Condition{has(reg(0), cloneNewUser)},
			params: map[int]reached{0: {source: plan.Source{Kind: plan.SourceCred}}}, caveats: []string{attempts},
		},
		{
			backend: plan.BackendSysEnter, calls: []string{"clone3"},
			when:   []plan.Condition{has(reg(0, plan.Step{Size: 8, User: true}), cloneNewUser)},
			params: map[int]reached{0: {source: plan.Source{Kind: plan.SourceCred}}}, caveats: []string{attempts, userMemory},
		},
	},

	"sk_alloc": {{
		backend: plan.BackendSockCreate, needs: kernel.Cgroup2,
		params: map[int]reached{1: {source: plan.Source{Kind: plan.SourceArg, Steps: []plan.Step{{Off: -1}}}}}, // see family of a sock
		ret:    &reached{source: arg(0)}, caveats: []string{"sees IP sockets that processes make; type and protocol are set already"},
	}},
	"sk_free": {{
		backend: plan.BackendSockRelease, needs: kernel.Cgroup2, params: map[int]reached{0: {source: arg(0)}},
		caveats: []string{"sees IP sockets when the last descriptor is closed, which may be before the kernel frees them"},
	}},
	"tcp_set_state": {{
		backend: plan.BackendTp, symbol: "inet_sock_set_state",
		params: map[int]reached{0: {source: arg(0)}, 1: {source: arg(2)}}, caveats: []string{softirq},
	}},
	"tcp_close": closing,
	"tcp_create_openreq_child": {{
		backend: plan.BackendTp, symbol: "inet_sock_set_state",
		params: map[int]reached{0: {source: arg(0)}},
		when:   []plan.Condition{is(arg(1), tcpSynRecv), is(arg(2), tcpEstablished)}, ret: &reached{source: arg(0)},
		caveats: []string{"the socket is the new one, not the listening one", stateChange, softirq},
	}},
	"tcp_connect": {{
		backend: plan.BackendSockOps, needs: kernel.Cgroup2, params: map[int]reached{0: {source: arg(0)}},
		ret: &reached{source: constant(0)}, caveats: []string{"not for sockets of the kernel itself"},
	}},
	"security_socket_connect": {{
		backend: plan.BackendSysEnter, calls: []string{"connect"},
		params: map[int]reached{1: {source: reg(1)}, 2: {source: reg(2)}}, caveats: []string{attempts, userMemory, "32-bit socketcall is not seen"},
	}},
	"security_socket_bind": {{
		backend: plan.BackendSysEnter, calls: []string{"bind"},
		params: map[int]reached{1: {source: reg(1)}, 2: {source: reg(2)}}, caveats: []string{attempts, userMemory, "32-bit socketcall is not seen"},
	}},

	"security_kernel_module_request": {{
		backend: plan.BackendTp, symbol: "module_request", needs: kernel.Modules, params: map[int]reached{0: {source: arg(0)}},
		ret: &reached{source: constant(0)}, caveats: []string{noModules},
	}},
	"security_kernel_read_file": {{
		backend: plan.BackendSysEnter, calls: []string{"finit_module"}, needs: kernel.Modules,
		params: map[int]reached{0: {source: plan.Source{Kind: plan.SourceFdFile}}, 1: {source: constant(readModule)}}, caveats: []string{attempts, byFd, noModules},
	}},
	"do_init_module": {{
		backend: plan.BackendTp, symbol: "module_load", needs: kernel.Modules, params: map[int]reached{0: {source: arg(0)}}, caveats: []string{noModules},
	}},
	"free_module": {{
		backend: plan.BackendTp, symbol: "module_free", needs: kernel.Modules, params: map[int]reached{0: {source: arg(0)}}, caveats: []string{noModules},
	}},

	"cap_capable": {{
		backend: plan.BackendTp, symbol: "cap_capable",
		params: map[int]reached{0: {source: arg(0)}, 1: {source: arg(1)}, 2: {source: arg(3)}}, ret: &reached{source: arg(4)},
	}},
	"security_bprm_check":            newBprm,
	"security_bprm_committing_creds": newBprm,
	"wake_up_new_task": {{
		backend: plan.BackendTp, symbol: "sched_process_fork", params: map[int]reached{},
	}},
	"acct_process": {{
		backend: plan.BackendTp, symbol: "sched_process_exit", params: map[int]reached{}, caveats: []string{"runs for each thread that ends"},
	}},
	"commit_creds": {
		credChange("setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "capset", "setns", "unshare", "keyctl"),
	},
}

var bpfMap = []equivalent{{
	backend: plan.BackendSysEnter, calls: []string{"bpf"}, when: []plan.Condition{is(reg(0), bpfMapCreate)},
	params: map[int]reached{0: {source: reg(1), typ: plan.TypeBpfMapAttr}}, caveats: []string{attempts, userMemory, "maps that the kernel makes for itself are not seen"},
}}

// credChange shows credentials behind system calls that change them.
func credChange(calls ...string) equivalent {
	return equivalent{
		backend: plan.BackendSysExit, calls: calls, exit: true, params: map[int]reached{0: {source: plan.Source{Kind: plan.SourceCred}}},
		ret: &reached{source: constant(0)},
		caveats: []string{
			"sees what system calls change, not what the kernel changes by itself: an exploit that calls commit_creds is NOT seen",
			"runs for each such call, also if it changed nothing",
		},
	}
}
