/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What policies want to know of each process at any time; see struct task_class. */
#ifndef LIB_CLASS_H
#define LIB_CLASS_H

#include "../abi/hook.h"
#include "task.h"

#define BPF_NOEXIST 1 /* kernel: include/uapi/linux/bpf.h */

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_class);
} classes SEC(".maps");

/* kernel: before 6.2 even a lookup in task storage fails while a task that was preempted on this CPU is in the midst of one,
 * or of its exit. Who is denied something must not depend on that: there, classes are kept in a table instead. */
const volatile bool class_hash = false;

struct class_key {
	__u64 start; /* of the thread group: an exec by another thread than the leader keeps it */
	__u32 pid;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536); /* user space makes it small where it is not used */
	__type(key, struct class_key);
	__type(value, struct task_class);
} classes_hash SEC(".maps");

/* What a new row of the table begins with. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct task_class);
} class_empty SEC(".maps");

static __always_inline struct class_key class_key(struct task_struct *leader)
{
	struct class_key k = { .start = leader->start_boottime, .pid = leader->tgid };

	return k;
}

/* What is kept of a thread group, NULL if nothing is. */
static __always_inline struct task_class *class_get(struct task_struct *leader)
{
	if (class_hash) {
		struct class_key k = class_key(leader);

		return bpf_map_lookup_elem(&classes_hash, &k);
	}
	return bpf_task_storage_get(&classes, leader, NULL, 0);
}

/* ... and it is made if need be. */
static __always_inline struct task_class *class_make(struct task_struct *leader)
{
	if (class_hash) {
		struct class_key k = class_key(leader);
		struct task_class *c = bpf_map_lookup_elem(&classes_hash, &k), *empty;
		__u32 zero = 0;

		if (c)
			return c;
		empty = bpf_map_lookup_elem(&class_empty, &zero);
		if (!empty)
			return NULL;
		bpf_map_update_elem(&classes_hash, &k, empty, BPF_NOEXIST); /* race: whoever is first makes it */
		return bpf_map_lookup_elem(&classes_hash, &k);
	}
	return bpf_task_storage_get(&classes, leader, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
}

/* A program that sleeps must tell the kernel that the leader of its thread group has to stay while it is looked at. */
const volatile bool sleeps = false;

/* kernel: void bpf_rcu_read_lock(void)  6.2.. Before, nobody asks for it. */
extern void bpf_rcu_read_lock(void) __ksym __weak;
extern void bpf_rcu_read_unlock(void) __ksym __weak;

static __always_inline struct task_class *my_class(void)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct task_class *c;

	if (sleeps && bpf_rcu_read_lock) {
		bpf_rcu_read_lock();
		c = class_get(t->group_leader);
		bpf_rcu_read_unlock();
		return c;
	}
	return class_get(t->group_leader);
}

/* What the current process is known by, 0 if it is not known. */
static __always_inline __u64 my_ktime(void)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct proc *p;

	if (sleeps && bpf_rcu_read_lock) {
		bpf_rcu_read_lock();
		p = bpf_task_storage_get(&procs, t->group_leader, NULL, 0);
		bpf_rcu_read_unlock();
	} else {
		p = bpf_task_storage_get(&procs, t->group_leader, NULL, 0);
	}
	return p ? p->ktime : 0;
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
