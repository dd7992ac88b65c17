/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Properties of the current task that filters look at. */
#ifndef ARG_TASK_H
#define ARG_TASK_H

#include "../stage/class.h"

__noinline __u64 task_cred(void)
{
	struct task_struct *t = bpf_get_current_task_btf();

	return (__u64)BPF_CORE_READ(t, cred);
}

__noinline __u64 task_nspid_now(void)
{
	struct task_struct *t = bpf_get_current_task_btf();

	return task_nspid(t->group_leader->thread_pid, NULL);
}

__noinline __u64 task_cap_effective(void) { return bpf_get_current_task_btf()->cred->cap_effective.val; }
__noinline __u64 task_cap_permitted(void) { return bpf_get_current_task_btf()->cred->cap_permitted.val; }
__noinline __u64 task_cap_inheritable(void) { return bpf_get_current_task_btf()->cred->cap_inheritable.val; }

/* 1: in the user namespace that is nobody's child. */
__noinline __u64 task_host_userns(void) { return bpf_get_current_task_btf()->cred->user_ns->level == 0; }

/* Which of effective 0, permitted 1, inheritable 2; the bits that differ from those at exec. */
__noinline __u64 task_cap_changed(__u32 which)
{
	struct task_class *c = class_get();
	__u64 now;

	if (!c || !(c->flags & CLASS_BASE) || which > 2)
		return 0;
	now = which == 0 ? task_cap_effective() : which == 1 ? task_cap_permitted() : task_cap_inheritable();
	return now ^ c->caps[which];
}

/* 1: it is known what the process was at exec. */
__noinline __u64 task_tracked(void)
{
	struct task_class *c = class_get();

	return c && c->flags & CLASS_BASE;
}

#define TASK_NS(name, member)                                                                                          \
	__noinline __u64 task_ns_##name(void)                                                                          \
	{                                                                                                              \
		struct nsproxy *n = bpf_get_current_task_btf()->nsproxy;                                               \
                                                                                                                       \
		return n ? n->member->ns.inum : 0;                                                                     \
	}
TASK_NS(uts, uts_ns)
TASK_NS(ipc, ipc_ns)
TASK_NS(mnt, mnt_ns)
TASK_NS(pid_for_children, pid_ns_for_children)
TASK_NS(net, net_ns)
TASK_NS(cgroup, cgroup_ns)

/* kernel: time namespaces are there if CONFIG_TIME_NS is */
__noinline __u64 task_ns_time(void)
{
	struct nsproxy *n = bpf_get_current_task_btf()->nsproxy;

	return n && bpf_core_field_exists(n->time_ns) ? BPF_CORE_READ(n, time_ns, ns.inum) : 0;
}

__noinline __u64 task_ns_time_for_children(void)
{
	struct nsproxy *n = bpf_get_current_task_btf()->nsproxy;

	return n && bpf_core_field_exists(n->time_ns_for_children) ? BPF_CORE_READ(n, time_ns_for_children, ns.inum) : 0;
}

__noinline __u64 task_ns_user(void) { return bpf_get_current_task_btf()->cred->user_ns->ns.inum; }

__noinline __u64 task_ns_pid(void)
{
	__u32 inum = 0;

	task_nspid(bpf_get_current_task_btf()->thread_pid, &inum);
	return inum;
}

/* Bit n: namespace n, in the order of the wire contract, differs from that at exec. */
__noinline __u64 task_ns_changed(void)
{
	struct task_class *c = class_get();
	__u64 changed = 0;

	if (!c || !(c->flags & CLASS_BASE))
		return 0;
#define CHANGED(bit, row, now)                                                                                         \
	{                                                                                                              \
		__u32 inum = now;                                                                                      \
		if (c->ns[row] && inum && c->ns[row] != inum)                                                          \
			changed |= 1 << bit;                                                                           \
	}
	CHANGED(0, NS_UTS, task_ns_uts());
	CHANGED(1, NS_IPC, task_ns_ipc());
	CHANGED(2, NS_MNT, task_ns_mnt());
	CHANGED(3, NS_PID, task_ns_pid());
	CHANGED(4, NS_PID_CHILDREN, task_ns_pid_for_children());
	CHANGED(5, NS_NET, task_ns_net());
	CHANGED(6, NS_TIME, task_ns_time());
	CHANGED(7, NS_TIME_CHILDREN, task_ns_time_for_children());
	CHANGED(8, NS_CGROUP, task_ns_cgroup());
	CHANGED(9, NS_USER, task_ns_user());
	return changed;
}

#define TS_COMPAT 0x0002 /* kernel: arch/x86/include/asm/thread_info.h */

/* 1: the system call under way is a 32-bit one. */
__noinline __u64 task_compat(void)
{
	struct task_struct *t = bpf_get_current_task_btf();
#ifdef __TARGET_ARCH_x86
	struct task_struct___x86 *x = (void *)t;

	return !!(BPF_CORE_READ(x, thread_info.status) & TS_COMPAT);
#else
	return t == NULL;
#endif
}

#endif
