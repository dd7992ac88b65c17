// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"tetragon/internal/kernel"
	"tetragon/internal/policy/plan"
)

// guarded says who can deny a system call where the kernel lets nobody return in its place: functions that it asks whether
// it may go on, before it has done what it is called for.
type guarded struct {
	// asks are the functions. Each word is one that has to be there, or several of which one has to be, "a|b": the first
	// that the kernel has is taken. One behind "?" is there or not.
	asks string
	mind []string // what is different from a call that is denied at its entry
}

// What several rows have to say.
const (
	mindPaths   = "with O_PATH a file is not asked for: such a descriptor is still to be had"
	mindLookup  = "that the path is there, and that the process may do it, is looked at before: where that fails the call returns the error of it"
	mindSend    = "write, and io_uring, send by the same function and by other system calls, which are not denied"
	mindTraced  = "requests to a process that is traced already ask nobody: they are not denied"
	mindOwn     = "what a process does so to itself is not asked for; it returns EPERM, whatever error is ordered"
	mindRights  = "the process's rights are looked at before"
	mindWritten = "sockets, pipes and files alike"
)

// guards are the system calls that can be denied by somebody whom they ask. A call that is not here asks nobody, or not
// always, or only when it has happened. Each row is shown to deny by test/scenario/enforce_guards.txtar.
var guards = map[string]guarded{
	// Opening and executing.
	"open":              {"security_inode_create security_file_open", []string{mindPaths, mindLookup}},
	"openat":            {"security_inode_create security_file_open", []string{mindPaths, mindLookup}},
	"openat2":           {"security_inode_create security_file_open", []string{mindPaths, mindLookup}},
	"creat":             {"security_inode_create security_file_open", []string{mindLookup}},
	"open_by_handle_at": {"security_file_open", []string{mindPaths, mindLookup}},
	"execve":            {"security_bprm_creds_for_exec", []string{mindLookup}},
	"execveat":          {"security_bprm_creds_for_exec", []string{mindLookup}},

	// Names of files.
	"unlink":    {"security_inode_unlink", []string{mindLookup}},
	"unlinkat":  {"security_inode_unlink security_inode_rmdir", []string{mindLookup}},
	"rmdir":     {"security_inode_rmdir", []string{mindLookup}},
	"mkdir":     {"security_inode_mkdir", []string{mindLookup}},
	"mkdirat":   {"security_inode_mkdir", []string{mindLookup}},
	"mknod":     {"security_inode_mknod security_inode_create", []string{mindLookup}},
	"mknodat":   {"security_inode_mknod security_inode_create", []string{mindLookup}},
	"symlink":   {"security_inode_symlink", []string{mindLookup}},
	"symlinkat": {"security_inode_symlink", []string{mindLookup}},
	"link":      {"security_inode_link", []string{mindLookup}},
	"linkat":    {"security_inode_link", []string{mindLookup}},
	"rename":    {"security_inode_rename", []string{mindLookup}},
	"renameat":  {"security_inode_rename", []string{mindLookup}},
	"renameat2": {"security_inode_rename", []string{mindLookup}},

	// What belongs to files.
	"chmod":        {"security_inode_setattr", []string{mindLookup}},
	"fchmod":       {"security_inode_setattr", nil},
	"fchmodat":     {"security_inode_setattr", []string{mindLookup}},
	"chown":        {"security_inode_setattr", []string{mindLookup}},
	"lchown":       {"security_inode_setattr", []string{mindLookup}},
	"fchown":       {"security_inode_setattr", nil},
	"fchownat":     {"security_inode_setattr", []string{mindLookup}},
	"truncate":     {"security_inode_setattr", []string{mindLookup}},
	"ftruncate":    {"security_inode_setattr", nil},
	"utimensat":    {"security_inode_setattr", []string{mindLookup}},
	"stat":         {"security_inode_getattr", []string{mindLookup}},
	"lstat":        {"security_inode_getattr", []string{mindLookup}},
	"fstat":        {"security_inode_getattr", nil},
	"newfstatat":   {"security_inode_getattr", []string{mindLookup}},
	"statx":        {"security_inode_getattr", []string{mindLookup}},
	"readlink":     {"security_inode_readlink", []string{mindLookup}},
	"readlinkat":   {"security_inode_readlink", []string{mindLookup}},
	"statfs":       {"security_sb_statfs", []string{mindLookup}},
	"fstatfs":      {"security_sb_statfs", nil},
	"setxattr":     {"security_inode_setxattr ?security_inode_set_acl", []string{mindLookup}},
	"lsetxattr":    {"security_inode_setxattr ?security_inode_set_acl", []string{mindLookup}},
	"fsetxattr":    {"security_inode_setxattr ?security_inode_set_acl", nil},
	"removexattr":  {"security_inode_removexattr ?security_inode_remove_acl", []string{mindLookup}},
	"lremovexattr": {"security_inode_removexattr ?security_inode_remove_acl", []string{mindLookup}},
	"fremovexattr": {"security_inode_removexattr ?security_inode_remove_acl", nil},

	// Open files.
	"read":       {"security_file_permission", []string{mindWritten}},
	"pread64":    {"security_file_permission", []string{mindWritten}},
	"readv":      {"security_file_permission", []string{mindWritten}},
	"write":      {"security_file_permission", []string{mindWritten}},
	"pwrite64":   {"security_file_permission", []string{mindWritten}},
	"writev":     {"security_file_permission", []string{mindWritten}},
	"getdents64": {"security_file_permission", nil},
	"ioctl":      {"security_file_ioctl ?security_file_ioctl_compat", nil},
	"fcntl":      {"security_file_fcntl", nil},
	"flock":      {"security_file_lock", nil},
	"mmap":       {"security_mmap_file", nil},
	"mprotect":   {"security_file_mprotect", []string{"it asks for each piece of memory: those before the first that is denied stay as they are, and a range with nothing mapped asks nobody"}},

	// Sockets.
	"socket":      {"security_socket_create", nil},
	"socketpair":  {"security_socket_create", nil},
	"bind":        {"security_socket_bind", nil},
	"connect":     {"security_socket_connect", nil},
	"listen":      {"security_socket_listen", nil},
	"accept":      {"security_socket_accept", nil},
	"accept4":     {"security_socket_accept", nil},
	"sendto":      {"security_socket_sendmsg", []string{mindSend}},
	"sendmsg":     {"security_socket_sendmsg", []string{mindSend}},
	"sendmmsg":    {"security_socket_sendmsg", []string{mindSend}},
	"recvfrom":    {"security_socket_recvmsg", nil},
	"recvmsg":     {"security_socket_recvmsg", nil},
	"recvmmsg":    {"security_socket_recvmsg", nil},
	"getsockname": {"security_socket_getsockname", nil},
	"getpeername": {"security_socket_getpeername", nil},
	"setsockopt":  {"security_socket_setsockopt", nil},
	"getsockopt":  {"security_socket_getsockopt", nil},
	"shutdown":    {"security_socket_shutdown", nil},

	// Processes.
	"clone":              {"security_task_alloc", nil},
	"clone3":             {"security_task_alloc", nil},
	"fork":               {"security_task_alloc", nil},
	"vfork":              {"security_task_alloc", nil},
	"kill":               {"security_task_kill", []string{mindRights}},
	"tkill":              {"security_task_kill", []string{mindRights}},
	"tgkill":             {"security_task_kill", []string{mindRights}},
	"ptrace":             {"security_ptrace_access_check security_ptrace_traceme", []string{mindTraced}},
	"process_vm_readv":   {"security_ptrace_access_check", []string{mindOwn}},
	"process_vm_writev":  {"security_ptrace_access_check", []string{mindOwn}},
	"pidfd_getfd":        {"security_ptrace_access_check", []string{mindOwn}},
	"setpgid":            {"security_task_setpgid", nil},
	"setpriority":        {"security_task_setnice", []string{mindRights}},
	"sched_setscheduler": {"security_task_setscheduler", []string{mindRights}},
	"sched_setaffinity":  {"security_task_setscheduler", []string{mindRights}},
	"setrlimit":          {"security_task_setrlimit", []string{mindRights}},

	// Rights.
	"setuid":    {"security_task_fix_setuid", []string{mindRights}},
	"setreuid":  {"security_task_fix_setuid", []string{mindRights}},
	"setresuid": {"security_task_fix_setuid", []string{mindRights}},
	"setgid":    {"security_task_fix_setgid", []string{mindRights}},
	"setregid":  {"security_task_fix_setgid", []string{mindRights}},
	"setresgid": {"security_task_fix_setgid", []string{mindRights}},
	"setgroups": {"security_task_fix_setgroups", []string{mindRights}},
	"capset":    {"security_capset", nil},

	// The system.
	"mount":           {"security_sb_mount", []string{mindLookup}},
	"umount2":         {"security_sb_umount", []string{mindLookup}},
	"pivot_root":      {"security_sb_pivotroot", []string{mindLookup}},
	"chroot":          {"security_path_chroot", []string{mindLookup}},
	"init_module":     {"security_kernel_load_data", []string{mindRights}},
	"finit_module":    {"security_kernel_read_file", []string{mindRights}},
	"kexec_load":      {"security_kernel_load_data", []string{mindRights}},
	"bpf":             {"security_bpf", nil},
	"perf_event_open": {"security_perf_event_open", nil},
	"syslog":          {"security_syslog", []string{mindRights}},
	"settimeofday":    {"security_settime64", nil},
}

// guardsOf finds who can deny the hook's system call on this kernel, or says why nobody can.
func (c *compiler) guardsOf(h *hook) ([]*kernel.Func, string) {
	name := h.systemCall()
	row, ok := guards[name]
	if !ok {
		return nil, fmt.Sprintf("no function is known that %s always asks before it does anything", name)
	}
	var out []*kernel.Func
	for _, word := range strings.Fields(row.asks) {
		any, maybe := strings.CutPrefix(word, "?")
		why := ""
		var guard *kernel.Func
		for _, f := range strings.Split(any, "|") {
			if guard, why = c.canDeny(f); guard != nil {
				break
			}
		}
		switch {
		case guard != nil:
			out = append(out, guard)
		case !maybe:
			return nil, fmt.Sprintf("%s asks %s, which cannot be hooked: %s", name, strings.ReplaceAll(any, "|", " or "), why)
		}
	}
	return out, ""
}

// canDeny gives a function in whose place a program can return an error, or says why none can.
func (c *compiler) canDeny(name string) (*kernel.Func, string) {
	f := c.f.Func(name)
	if f == nil {
		return nil, fmt.Sprintf("kernel %s has no function %s", c.f.KernelRelease(), name)
	}
	g := &hook{plan: plan.Hook{Attach: plan.Attach{Symbol: name}}}
	if why := c.noTrampoline(g, f, kernel.FmodRet); why != "" {
		return nil, why
	}
	if f.Return.Type != "int" {
		return nil, fmt.Sprintf("%s returns %s, which is no error", name, f.Return.Type)
	}
	return f, ""
}

// addGuards makes the hooks that deny what others order.
func (c *compiler) addGuards() {
	for _, h := range c.alive() {
		if len(h.guards) == 0 || !slices.ContainsFunc(h.plan.Rules, func(r plan.Rule) bool { return r.Do.Later != 0 }) {
			continue
		}
		for _, g := range h.guards {
			c.hooks = append(c.hooks, &hook{common: h.common, section: h.section, index: h.index, call: g.Name, at: h.at, plan: plan.Hook{
				Section: h.section, Index: h.index, Event: plan.EventKprobe, Name: g.Name, Guards: h.call,
				Attach: plan.Attach{Backend: plan.BackendFmodRet, Symbol: g.Name, Params: len(g.Params), Module: g.Module},
				Rules: []plan.Rule{{
					Filters: []plan.Filter{{
						Kind: plan.FilterRanges, Not: true, Task: plan.TaskVerdict, Verdict: h.verdict, Ranges: []plan.Range{{}},
						Text: h.call + " was ordered to be denied",
					}},
					Do: plan.Actions{Override: true, From: h.verdict, Last: "Override", LastReturn: "Post"},
				}},
			}})
		}
	}
}

// systemCall is the name of the system call that the hook's function serves.
func (h *hook) systemCall() string {
	if h.plan.Attach.Compat {
		return callOf(h.call, "i386")
	}
	return callOf(h.call, "x64")
}

// verdict names what something of the policy orders and others carry out. Policies of one name in different domains are two.
func (c *compiler) verdict(format string, args ...any) plan.Verdict {
	n := fnv.New64a()
	fmt.Fprintf(n, "%s/%s/%s "+format, append([]any{c.o.Domain, c.pol.Namespace, c.pol.Name}, args...)...)
	return plan.Verdict(max(n.Sum64(), 1))
}
