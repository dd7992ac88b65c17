// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"tetragon/internal/policy"
	"tetragon/internal/policy/plan"
)

// hot are functions and tracepoints that a busy machine runs thousands of times a second and more.
const hot = `__x64_sys_read __x64_sys_write __x64_sys_pread64 __x64_sys_pwrite64 __x64_sys_futex __x64_sys_poll __x64_sys_epoll_wait
	__x64_sys_recvfrom __x64_sys_sendto __x64_sys_recvmsg __x64_sys_sendmsg __x64_sys_lseek __x64_sys_newfstat __x64_sys_close
	__x64_sys_mmap __x64_sys_munmap __x64_sys_clock_gettime vfs_read vfs_write security_file_permission rw_verify_area
	security_socket_sendmsg security_socket_recvmsg tcp_sendmsg tcp_recvmsg tcp_rcv_established tcp_v4_rcv ip_output ip_rcv
	__dev_queue_xmit dev_queue_xmit netif_receive_skb __netif_receive_skb_core kfree_skb_reason consume_skb security_inode_permission
	security_inode_getattr security_capable cap_capable __kmalloc kmem_cache_alloc kfree schedule __schedule wake_up_new_task
	try_to_wake_up handle_mm_fault do_user_addr_fault security_mmap_addr fd_install
	raw_syscalls/sys_enter raw_syscalls/sys_exit sched/sched_switch sched/sched_wakeup kmem/kmalloc kmem/kfree skb/kfree_skb
	skb/consume_skb net/net_dev_queue net/netif_receive_skb exceptions/page_fault_user irq/softirq_entry timer/timer_start`

// dear is what a call that no selector wants may cost on such a function, in instructions.
const dear = 600

func (l *linter) everyCall() {
	l.hooks(func(h *plan.Hook) {
		for _, n := range calls(h) {
			for r := range h.Rules {
				if has(hot, n) && len(h.Rules[r].Filters) == 0 && h.Rules[r].Do.Post && h.Rules[r].Do.RateLimit == 0 && h.Rules[r].Do.Aggregate == 0 {
					_, _, post := h.Estimate()
					l.warn(l.at(h, r), "every call of %s is told, at about %d instructions each, and it runs very often", n, post).
						WithHint("add a filter, by matchBinaries or by an argument, or rateLimit or aggregate")
				}
			}
		}
	})
}

func (l *linter) hotHook() {
	l.hooks(func(h *plan.Hook) {
		first, last, _ := h.Estimate()
		for _, n := range calls(h) {
			if has(hot, n) && first > dear {
				cost := fmt.Sprint(first)
				if last > first {
					cost += fmt.Sprintf(" to %d", last)
				}
				l.warn(l.common(h).Place, "%s runs very often, and a call that no selector wants costs about %s instructions", n, cost).
					WithHint("give each selector something cheap as well: an integer, matchBinaries, matchPIDs")
			}
		}
	})
}

// ring is what io_uring does without a system call: the function that sees both, and the kernel that began with it, if that
// is not one of the oldest that this program runs on.
type ring struct{ guard, since string }

// byRing are the system calls that io_uring does without them.
// kernel: enum io_uring_op, include/uapi/linux/io_uring.h
var byRing = rings(map[string]string{
	"security_file_open":       "open openat openat2 creat",
	"security_file_permission": "read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 fallocate splice",
	"security_socket_create":   "socket", "security_socket_connect": "connect", "security_socket_accept": "accept accept4",
	"security_socket_bind": "bind:6.11", "security_socket_listen": "listen:6.11", "security_socket_shutdown": "shutdown",
	"security_socket_sendmsg": "sendto sendmsg sendmmsg", "security_socket_recvmsg": "recvfrom recvmsg recvmmsg",
	"security_path_unlink": "unlink unlinkat", "security_path_rmdir": "rmdir", "security_path_rename": "rename renameat renameat2",
	"security_path_mkdir": "mkdir mkdirat", "security_path_link": "link linkat", "security_path_symlink": "symlink symlinkat",
	"security_inode_setxattr": "setxattr fsetxattr", "security_inode_getxattr": "getxattr fgetxattr",
	"security_file_truncate": "ftruncate:6.9", "security_inode_getattr": "newstat newlstat newfstat newfstatat statx",
})

func rings(byGuard map[string]string) map[string]ring {
	out := make(map[string]ring)
	for guard, calls := range byGuard {
		for _, c := range strings.Fields(calls) {
			name, since, _ := strings.Cut(c, ":")
			out[name] = ring{guard, since}
		}
	}
	return out
}

func (l *linter) ioUring() {
	l.hooks(func(h *plan.Hook) {
		for _, n := range calls(h) {
			c, compat := call(n)
			r, does := byRing[c]
			if compat || !does {
				continue
			}
			since := ""
			if r.since != "" {
				since = ", since Linux " + r.since
			}
			l.warn(l.common(h).Place, "io_uring does what %s does, without the system call%s", c, since).WithHint("hook %s, which sees both", r.guard)
		}
	})
}

func (l *linter) lateEnforcement() {
	l.selectors(func(s *policy.Selector) {
		for _, as := range [][]policy.Action{s.Actions, s.ReturnActions} {
			if some, denies := enforces(as); some && !denies {
				l.warn(as[0].Place, "the process dies, or is told, but what it has asked for is done all the same").
					WithHint("add Override where the hook can have it, which denies the operation")
			}
		}
	})
}

func (l *linter) linkedPath() {
	l.selectors(func(s *policy.Selector) {
		for _, ms := range [][]policy.BinaryMatch{s.Binaries, s.ParentBinaries} {
			for i := range ms {
				for _, v := range ms[i].Values {
					for _, dir := range []string{"/bin/", "/sbin/", "/lib/", "/lib64/"} {
						if strings.HasPrefix(v.Value, dir) && !strings.HasSuffix(ms[i].Operator.Value, "ostfix") {
							l.warn(v.Place, "%s is /usr%s where %s is a link, as on most systems", v.Value, v.Value, strings.TrimSuffix(dir, "/")).
								WithHint("name both")
						}
					}
				}
			}
		}
	})
	// Who names both has understood.
	text := func(x *policy.Diagnostic) string { path, _, _ := strings.Cut(x.Text, " is "); return path }
	named := make(map[string]bool)
	l.selectors(func(s *policy.Selector) {
		for _, ms := range [][]policy.BinaryMatch{s.Binaries, s.ParentBinaries} {
			for i := range ms {
				for _, v := range ms[i].Values {
					named[v.Value] = true
				}
			}
		}
	})
	l.d.List = slices.DeleteFunc(l.d.List, func(x policy.Diagnostic) bool { return x.Code == l.code && named["/usr"+text(&x)] })
}

func (l *linter) literalPid() {
	l.selectors(func(s *policy.Selector) {
		for i := range s.PIDs {
			for _, v := range s.PIDs[i].Values {
				if v.Value > 1 {
					l.warn(v.Place, "process %d is another one later", v.Value).WithHint("matchBinaries, or matchParentBinaries with followChildren, names what stays")
				}
			}
		}
	})
}

// hookedCalls are the system calls that the policy hooks.
func (l *linter) hookedCalls() (native, compat map[string]policy.Place) {
	native, compat = make(map[string]policy.Place), make(map[string]policy.Place)
	l.hooks(func(h *plan.Hook) {
		for _, n := range calls(h) {
			if c, is32 := call(n); is32 {
				compat[c] = l.common(h).Place
			} else if c != "" {
				native[c] = l.common(h).Place
			}
		}
	})
	return native, compat
}

func (l *linter) missingCompat() {
	native, compat := l.hookedCalls()
	byPlace := make(map[policy.Place][]string)
	for c, at := range native {
		if _, ok := compat[c]; !ok {
			byPlace[at] = append(byPlace[at], c)
		}
	}
	for at, cs := range byPlace {
		slices.Sort(cs)
		name := cs[0]
		if len(cs) > 1 {
			name += " and others"
		}
		l.warn(at, "32-bit callers of %s are not seen", name).
			WithHint("a list of type syscalls has both: [sys_%s, i386/sys_%s]; or hook what the call ends in, such as security_ functions", cs[0], cs[0])
	}
}

// siblings are system calls that do the same, in groups.
var siblings = []string{
	"open openat openat2 creat", "unlink unlinkat rmdir", "rename renameat renameat2", "mkdir mkdirat", "link linkat", "symlink symlinkat",
	"chmod fchmod fchmodat fchmodat2", "chown fchown fchownat lchown", "execve execveat", "truncate ftruncate", "accept accept4",
	"read pread64 readv preadv preadv2", "write pwrite64 writev pwritev pwritev2", "dup dup2 dup3", "init_module finit_module",
	"sendto sendmsg sendmmsg", "recvfrom recvmsg recvmmsg", "setxattr lsetxattr fsetxattr", "fork vfork clone clone3",
	"kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal", "setrlimit prlimit64", "setuid setreuid setresuid",
	"setgid setregid setresgid", "mknod mknodat", "sched_setscheduler sched_setparam sched_setattr", "kexec_load kexec_file_load",
	"mount fsmount move_mount", "ptrace process_vm_writev",
}

func (l *linter) missingSibling() {
	native, _ := l.hookedCalls()
	for _, group := range siblings {
		var at policy.Place
		var have, lack []string
		for _, c := range strings.Fields(group) {
			if place, ok := native[c]; ok {
				at, have = place, append(have, c)
			} else {
				lack = append(lack, c)
			}
		}
		if len(have) > 0 && len(lack) > 0 {
			l.warn(at, "%s is hooked, and not %s", strings.Join(have, ", "), strings.Join(lack, ", ")).
				WithHint("hook them too, or the function of the kernel that all of them end in")
		}
	}
}

func (l *linter) neverMatches() {
	l.hooks(func(h *plan.Hook) {
		for r := range h.Rules {
			if a, b := contradiction(h.Rules[r].Filters); a != nil {
				why := a.Text
				if b != nil && b.Text != a.Text {
					why += ", and " + b.Text
				}
				l.warn(l.at(h, r), "nothing can pass: %s", why).WithHint("entries of one selector must all hold; make two selectors for what may be one or the other")
			}
		}
	})
}

// contradiction finds a filter that nothing passes, or two that exclude each other.
func contradiction(fs []plan.Filter) (a, b *plan.Filter) {
	for i := range fs {
		f := &fs[i]
		if f.Kind == plan.FilterRanges && len(passing(f)) == 0 {
			return f, nil
		}
		for j := range fs[:i] {
			if excludes(&fs[j], f) {
				return &fs[j], f
			}
		}
	}
	return nil, nil
}

// passing is what a filter on numbers lets pass.
func passing(f *plan.Filter) []plan.Range {
	if !f.Not {
		return f.Ranges
	}
	var out []plan.Range
	at, end := uint64(0), false
	for _, r := range f.Ranges { // sorted, and apart
		if r.Lo > at {
			out = append(out, plan.Range{Lo: at, Hi: r.Lo - 1})
		}
		if end = r.Hi == math.MaxUint64; end {
			break
		}
		at = r.Hi + 1
	}
	if !end {
		out = append(out, plan.Range{Lo: at, Hi: math.MaxUint64})
	}
	return out
}

func excludes(a, b *plan.Filter) bool {
	switch {
	case a.Task != b.Task || a.Task == plan.TaskNone && (a.Value != b.Value || a.Field != b.Field):
		return false
	case a.Kind == plan.FilterClass && b.Kind == plan.FilterClass:
		return a.Set == b.Set && a.Of == b.Of && a.Not != b.Not
	case a.Kind == plan.FilterRanges && b.Kind == plan.FilterRanges:
		for _, x := range passing(a) {
			for _, y := range passing(b) {
				if x.Lo <= y.Hi && y.Lo <= x.Hi {
					return false
				}
			}
		}
		return true
	case isText(a) && isText(b):
		return excludesText(a, b) || excludesText(b, a)
	}
	return false
}

func isText(f *plan.Filter) bool { return f.Kind >= plan.FilterEqual && f.Kind <= plan.FilterSuffix }

// excludesText says whether no string that a names whole passes b.
func excludesText(a, b *plan.Filter) bool {
	if a.Kind != plan.FilterEqual || a.Not || len(a.Strings) == 0 {
		return false
	}
	return !slices.ContainsFunc(a.Strings, func(s string) bool {
		found := slices.ContainsFunc(b.Strings, func(t string) bool {
			return b.Kind == plan.FilterEqual && s == t || b.Kind == plan.FilterPrefix && strings.HasPrefix(s, t) ||
				b.Kind == plan.FilterSuffix && strings.HasSuffix(s, t)
		})
		return found != b.Not
	})
}

func (l *linter) noPostLast() {
	l.hooks(func(h *plan.Hook) {
		c := l.common(h)
		if n := len(c.Selectors); n > 0 {
			if as := c.Selectors[n-1].Actions; len(as) == 1 && as[0].Action.Value == "NoPost" && len(c.Selectors[n-1].ReturnActions) == 0 {
				l.warn(c.Selectors[n-1].Place, "this selector changes nothing: what no selector matches is not told anyway").
					WithHint("put it before the selectors that it makes an exception from")
			}
		}
	})
}

// fresh are hooks that each process passes once, or nearly so.
const fresh = `sched/sched_process_exec sched/sched_process_fork sched/sched_process_exit task/task_newtask __x64_sys_execve __x64_sys_execveat
	security_bprm_check security_bprm_creds_for_exec security_bprm_committing_creds security_bprm_committed_creds wake_up_new_task do_exit
	acct_process __x64_sys_exit_group begin_new_exec bprm_execve`

func (l *linter) rateLimit() {
	l.hooks(func(h *plan.Hook) {
		for r := range h.Rules {
			d := &h.Rules[r].Do
			if d.RateLimit > 0 && d.Scope != plan.ScopeGlobal && has(fresh, h.Name) {
				l.warn(l.at(h, r), "each process passes %s about once: a limit by thread or process holds nothing back", h.Name).WithHint("rateLimitScope: global")
			}
		}
	})
}

func (l *linter) shadowed() {
	l.hooks(func(h *plan.Hook) {
		for i := range h.Rules {
			for j := range i {
				if len(h.Rules[j].Filters) > 0 && covers(&h.Rules[j], &h.Rules[i]) {
					l.warn(l.at(h, i), "never reached: selectors[%d] matches all that this one does", h.Rules[j].Selector).
						WithHint("put the narrower selector first")
					break
				}
			}
		}
	})
}

// covers says whether everything that b matches, a matches: each filter of a is one of b, or wider than one of b.
func covers(a, b *plan.Rule) bool {
	for i := range a.Filters {
		f := &a.Filters[i]
		if !slices.ContainsFunc(b.Filters, func(g plan.Filter) bool { return wider(f, &g) }) {
			return false
		}
	}
	return true
}

// wider says whether all that passes g passes f.
func wider(f, g *plan.Filter) bool {
	if f.Task != g.Task || f.Kind != g.Kind || f.Not != g.Not || f.Value != g.Value || f.Value2 != g.Value2 || f.Field != g.Field {
		return false
	}
	all := func(a, b []string) bool { // of b in a
		return !slices.ContainsFunc(b, func(s string) bool { return !slices.Contains(a, s) })
	}
	switch f.Kind {
	case plan.FilterRanges:
		return !slices.ContainsFunc(passing(g), func(y plan.Range) bool {
			return !slices.ContainsFunc(passing(f), func(x plan.Range) bool { return x.Lo <= y.Lo && y.Hi <= x.Hi })
		})
	case plan.FilterBits:
		return !f.Not && g.Mask&^f.Mask == 0 || f.Not && f.Mask&^g.Mask == 0
	case plan.FilterEqual, plan.FilterPrefix, plan.FilterSuffix, plan.FilterContains, plan.FilterContainsFold, plan.FilterDigest:
		if f.Not {
			return all(g.Strings, f.Strings)
		}
		return all(f.Strings, g.Strings)
	case plan.FilterAddrs:
		return slices.Equal(f.Prefixes, g.Prefixes)
	case plan.FilterGained:
		return true
	case plan.FilterExpr:
		return f.Expr.String() == g.Expr.String()
	case plan.FilterClass:
		return f.Set == g.Set && f.Of == g.Of
	}
	return false
}

func (l *linter) spoofableName() {
	l.hooks(func(h *plan.Hook) {
		var data []policy.Arg
		switch h.Section {
		case "kprobes":
			data = l.p.Kprobes[h.Index].Data
		case "fentries":
			data = l.p.Fentries[h.Index].Data
		}
		for i := range l.common(h).Selectors {
			for _, m := range l.common(h).Selectors[i].Data {
				n := m.Index.Value
				if len(m.Args) > 0 {
					n = m.Args[0].Value
				}
				if n >= 0 && n < int64(len(data)) && data[n].Source.Value == "current_task" && strings.HasSuffix(data[n].Resolve.Value, "comm") {
					l.warn(m.Place, "data[%d] is the name that the process gives itself", n).WithHint("matchBinaries tells which program runs")
				}
			}
		}
	})
}

func (l *linter) userMemory() {
	l.hooks(func(h *plan.Hook) {
		for r := range h.Rules {
			for i := range h.Rules[r].Filters {
				f := &h.Rules[r].Filters[i]
				for _, n := range f.ValuesUsed() {
					if n < 0 || n >= len(h.Values) {
						continue
					}
					v := &h.Values[n]
					user := slices.ContainsFunc(v.Source.Steps, func(s plan.Step) bool { return s.User })
					switch v.Type {
					case plan.TypeString, plan.TypeBytes, plan.TypeIovec, plan.TypeSockaddr, plan.TypeSockaddrUn, plan.TypeBpfAttr, plan.TypePerfAttr:
						user = user || v.Source.Kind == plan.SourceReg
					}
					if !user {
						continue
					}
					x := l.warn(l.at(h, r), "%s looks into the memory of the process, which another thread can change before the kernel looks", f.Text)
					if c, _ := call(h.Name); byRing[c].guard != "" {
						x.WithHint("hook %s, which has the kernel's own copy", byRing[c].guard)
					} else {
						x.WithHint("hook a security_ function, which has the kernel's own copy; here the filter is good for watching, not for deciding")
					}
				}
			}
		}
	})
}
