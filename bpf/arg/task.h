/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Properties of the current task. */
#ifndef ARG_TASK_H
#define ARG_TASK_H

#include "../lib/class.h"

__noinline __u64 task_cred(void)
{
	return peek(struct task_struct, bpf_get_current_task(), cred);
}

/* Thread group id in the process's own pid namespace; 0 in the initial one. */
__noinline __u64 task_nspid_now(void)
{
	__u64 leader = peek(struct task_struct, bpf_get_current_task(), group_leader);

	return pid_at(peek(struct task_struct, leader, thread_pid), NULL);
}

__noinline __u64 task_cap_effective(void)
{
	return cap_get(task_cred(), 0);
}

__noinline __u64 task_cap_permitted(void)
{
	return cap_get(task_cred(), 1);
}

__noinline __u64 task_cap_inheritable(void)
{
	return cap_get(task_cred(), 2);
}

/* 1 in the initial user namespace, which is that of pid 1. */
__noinline __u64 task_host_userns(void)
{
	return me()->cred->user_ns->level == 0;
}

#define TASK_NS(name, member)                                                                                          \
	__noinline __u64 task_ns_##name(void)                                                                          \
	{                                                                                                              \
		struct nsproxy *n = me()->nsproxy;                                                                     \
                                                                                                                       \
		return n ? n->member->ns.inum : 0;                                                                     \
	}

TASK_NS(uts, uts_ns)
TASK_NS(ipc, ipc_ns)
TASK_NS(mnt, mnt_ns)
TASK_NS(pid_for_children, pid_ns_for_children)
TASK_NS(net, net_ns)
TASK_NS(cgroup, cgroup_ns)

__noinline __u64 task_ns_pid(void)
{
	__u32 inum = 0;

	pid_at(peek(struct task_struct, bpf_get_current_task(), thread_pid), &inum);
	return inum;
}

__noinline __u64 task_ns_time(void)
{
	struct nsproxy *n = me()->nsproxy;

	return n && bpf_core_field_exists(n->time_ns) ? n->time_ns->ns.inum : 0;
}

__noinline __u64 task_ns_time_for_children(void)
{
	struct nsproxy *n = me()->nsproxy;

	return n && bpf_core_field_exists(n->time_ns_for_children) ? n->time_ns_for_children->ns.inum : 0;
}

__noinline __u64 task_ns_user(void)
{
	return me()->cred->user_ns->ns.inum;
}

/* Bits that differ from the baseline: effective 0, permitted 1, inheritable 2. */
__noinline __u64 task_cap_changed(__u32 which)
{
	struct task_class *c = my_class();

	if (!c || !(c->flags & CLASS_BASELINE) || which > 2)
		return 0;
	return c->caps[which] ^ cap_get(task_cred(), which);
}

/* Bit n: namespace n (enum rec_ns) is known and differs from the baseline. */
__noinline __u64 task_ns_changed(void)
{
	struct task_class *c = my_class();
	__u32 now[NS_COUNT];
	__u64 changed = 0;

	if (!c || !(c->flags & CLASS_BASELINE))
		return 0;
	ns_get(now, me());
	for (int i = 0; i < NS_COUNT; i++)
		changed |= (__u64)(now[i] && c->ns[i] && now[i] != c->ns[i]) << i;
	return changed;
}

/* 1 if a baseline is known. */
__noinline __u64 task_tracked(void)
{
	struct task_class *c = my_class();

	return c && (c->flags & CLASS_BASELINE);
}

/* Word n of the sets that the process is in: self, line, parent, ancestor, SET_WORDS each. 0: unknown. */
__noinline __u64 class_word(__u32 n)
{
	struct task_class *c = my_class();

	if (!c || n >= 4 * SET_WORDS)
		return 0;
	return ((__u64 *)c)[n];
}

#define TS_COMPAT 0x0002    /* kernel: arch/x86/include/asm/thread_info.h */
#define TIF_32BIT (1 << 22) /* kernel: arch/arm64/include/asm/thread_info.h */

/* 1 if the system call under way is a 32-bit one. */
__noinline __u64 task_compat(void)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct task_struct___x86 *x = (void *)t;
	struct task_struct___arm64 *a = (void *)t;

	if (bpf_core_field_exists(x->thread_info.status))
		return !!(x->thread_info.status & TS_COMPAT);
	return !!(a->thread_info.flags & TIF_32BIT);
}

#endif
