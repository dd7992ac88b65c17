/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What policies want to know of each process at any time; see struct task_class. */
#ifndef LIB_CLASS_H
#define LIB_CLASS_H

#include "../abi/hook.h"
#include "task.h"

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_class);
} classes SEC(".maps");

static __always_inline struct task_class *my_class(void)
{
	struct task_struct *t = bpf_get_current_task_btf();

	return bpf_task_storage_get(&classes, t->group_leader, NULL, 0);
}

/* The capability sets that we look at, in the order of task_class.caps. */
static __always_inline __u64 cap_get(__u64 cred, __u32 which)
{
	__u64 at = cred, v = 0;

	if (which == 0)
		at += bpf_core_field_offset(struct cred, cap_effective);
	else if (which == 1)
		at += bpf_core_field_offset(struct cred, cap_permitted);
	else
		at += bpf_core_field_offset(struct cred, cap_inheritable);
	bpf_probe_read_kernel(&v, sizeof(v), (void *)at); /* kernel: two words of 32 bits before 6.3 */
	return v;
}

/* Inode numbers of all namespaces of a task; 0 unknown. */
static __always_inline void ns_get(__u32 *ns, struct task_struct *t)
{
	struct nsproxy *n = t->nsproxy;

	__builtin_memset(ns, 0, NS_COUNT * sizeof(*ns));
	pid_in_ns(t->thread_pid, &ns[NS_PID]);
	ns[NS_USER] = t->cred->user_ns->ns.inum;
	if (!n)
		return; /* it exits */
	ns[NS_UTS] = n->uts_ns->ns.inum;
	ns[NS_IPC] = n->ipc_ns->ns.inum;
	ns[NS_MNT] = n->mnt_ns->ns.inum;
	ns[NS_PID_CHILDREN] = n->pid_ns_for_children->ns.inum;
	ns[NS_NET] = n->net_ns->ns.inum;
	ns[NS_CGROUP] = n->cgroup_ns->ns.inum;
	if (bpf_core_field_exists(n->time_ns)) { /* kernel: CONFIG_TIME_NS */
		ns[NS_TIME] = n->time_ns->ns.inum;
		ns[NS_TIME_CHILDREN] = n->time_ns_for_children->ns.inum;
	}
}

/* What the process is now is what later changes are told from. t is for reading. */
static __always_inline void class_baseline(struct task_class *c, struct task_struct *t)
{
	__u64 cred = (__u64)t->cred;

	for (int i = 0; i < 3; i++)
		c->caps[i] = cap_get(cred, i);
	ns_get(c->ns, t);
	c->flags |= CLASS_BASELINE;
}

#endif
