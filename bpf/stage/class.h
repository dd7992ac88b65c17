/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which sets of processes a process is in. Policies' predicates on binaries and pids are decided once: at exec, inherited
 * at fork, and for all that lives when a policy comes. A hook then tests a bit. */
#ifndef STAGE_CLASS_H
#define STAGE_CLASS_H

#include "../arg/path.h"

enum class_flag {
	CLASS_FORKED = 1, /* no exec since the fork */
	CLASS_BASE = 2,	  /* caps and ns are those of an exec that was seen */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_class);
} classes SEC(".maps");

static __always_inline struct task_class *class_get(void)
{
	struct task_struct *t = bpf_get_current_task_btf();

	return bpf_task_storage_get(&classes, t->group_leader, NULL, 0);
}

/* Word n % SET_WORDS of self, line, parent or ancestor. */
__noinline __u64 class_word(__u32 n)
{
	struct task_class *c = class_get();

	if (!c || n >= 4 * SET_WORDS)
		return 0;
	return c->self[n]; /* the four follow each other */
}

static __always_inline void class_baseline(struct task_class *c, struct task_struct *t)
{
	struct nsproxy *n = t->nsproxy;
	const struct cred *cr = t->cred;

	c->caps[0] = BPF_CORE_READ(cr, cap_effective.val);
	c->caps[1] = BPF_CORE_READ(cr, cap_permitted.val);
	c->caps[2] = BPF_CORE_READ(cr, cap_inheritable.val);
	c->ns[NS_USER] = BPF_CORE_READ(cr, user_ns, ns.inum);
	c->ns[NS_PID] = 0;
	task_nspid(t->thread_pid, &c->ns[NS_PID]);
	if (!n)
		return;
	c->ns[NS_UTS] = BPF_CORE_READ(n, uts_ns, ns.inum);
	c->ns[NS_IPC] = BPF_CORE_READ(n, ipc_ns, ns.inum);
	c->ns[NS_MNT] = BPF_CORE_READ(n, mnt_ns, ns.inum);
	c->ns[NS_PID_CHILDREN] = BPF_CORE_READ(n, pid_ns_for_children, ns.inum);
	c->ns[NS_NET] = BPF_CORE_READ(n, net_ns, ns.inum);
	c->ns[NS_CGROUP] = BPF_CORE_READ(n, cgroup_ns, ns.inum);
	if (bpf_core_field_exists(n->time_ns)) {
		c->ns[NS_TIME] = BPF_CORE_READ(n, time_ns, ns.inum);
		c->ns[NS_TIME_CHILDREN] = BPF_CORE_READ(n, time_ns_for_children, ns.inum);
	}
}

/* A placeholder: user space generates it. Leaves in the buffer the sets of a process whose binary's path, of this length,
 * lies in the buffer's room for paths. */
__noinline int classify(__u32 buf, __u64 len, __u64 pid, __u64 nspid)
{
	struct hook_buf *b = buf_get(buf);

	if (!b)
		return 0;
	for (int i = 0; i < SET_WORDS; i++)
		b->sets[i] = len + pid + nspid; /* or the compiler would not pass them */
	return 0;
}

/* Finds the sets of t by itself. */
static __always_inline void class_self(struct task_class *c, struct task_struct *t, __u64 exe)
{
	__s64 row = buf_take();
	struct hook_buf *b;
	__s64 len;

	if (row < 0)
		return; /* it stays unknown, and so does not match */
	len = exe ? path_file(row, exe) : -1;
	classify(row, len, t->tgid, task_nspid(t->thread_pid, NULL));
	b = buf_get(row);
	if (b) {
		for (int i = 0; i < SET_WORDS; i++)
			c->self[i] = b->sets[i] | (len >= 0);
	}
	buf_give(row);
}

static __always_inline void class_line(struct task_class *c)
{
	for (int i = 0; i < SET_WORDS; i++)
		c->line[i] = c->self[i] | c->ancestor[i];
}

/* When the sets change, user space attaches new programs beside the old ones and then says whose turn it is: so there is
 * no moment without classes, and no exec is taken for two. */
const volatile __u32 class_turn = 0; /* of this copy of the programs */
__u32 class_now = 0;

/* kernel: void sched_process_fork(struct task_struct *parent, struct task_struct *child)  3.4.. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(class_fork, struct task_struct *parent, struct task_struct *child)
{
	struct task_struct *rp = child->real_parent;
	struct task_class fresh = {}, *p;

	if (class_turn != class_now || child->pid != child->tgid)
		return 0;
	p = bpf_task_storage_get(&classes, rp->group_leader, NULL, 0);
	if (!p)
		return 0;
	fresh = *p;
	for (int i = 0; i < SET_WORDS; i++) {
		fresh.parent[i] = p->self[i];
		fresh.ancestor[i] = p->line[i];
		fresh.line[i] = p->line[i] | p->self[i];
	}
	fresh.flags |= CLASS_FORKED;
	bpf_task_storage_get(&classes, child, &fresh, BPF_LOCAL_STORAGE_GET_F_CREATE);
	return 0;
}

/* kernel: void sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)  3.4.. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(class_exec, struct task_struct *t, pid_t old_pid, struct linux_binprm *bprm)
{
	struct task_class fresh = {}, *c;

	if (class_turn != class_now)
		return 0;
	c = bpf_task_storage_get(&classes, t, &fresh, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!c)
		return 0;
	if (!(c->flags & CLASS_FORKED)) {
		for (int i = 0; i < SET_WORDS; i++) {
			c->parent[i] = c->self[i];
			c->ancestor[i] = c->line[i];
		}
	}
	class_self(c, t, (__u64)BPF_CORE_READ(bprm, file));
	class_line(c);
	class_baseline(c, t);
	c->flags = CLASS_BASE;
	return 0;
}

/* 0: find the sets of every process by itself. 1: hand them on from each process to its children; user space runs it until
 * class_changed stays 0. One such run is nearly always enough, as parents come before their children. */
__u32 class_pass = 0;
__u32 class_changed = 0;

SEC("iter/task")
int class_all(struct bpf_iter__task *ctx)
{
	struct task_struct *t = ctx->task, *up;
	struct task_class fresh = {}, *c, *p = NULL;

	if (!t || t->pid != t->tgid)
		return 0;
	if (class_pass == 0) {
		c = bpf_task_storage_get(&classes, t, &fresh, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (!c)
			return 0;
		class_self(c, t, (__u64)BPF_CORE_READ(t, mm, exe_file));
		if (!(c->flags & CLASS_BASE)) {
			class_baseline(c, t);
			c->flags |= CLASS_BASE;
		}
		class_line(c);
		return 0;
	}
	c = bpf_task_storage_get(&classes, t, NULL, 0);
	if (!c)
		return 0;
	up = t->real_parent;
	if (!up)
		return 0;
	up = up->group_leader;
	if (up && up != t)
		p = bpf_task_storage_get(&classes, up, NULL, 0);
	if (!p)
		return 0;
	for (int i = 0; i < SET_WORDS; i++) {
		__u64 line = c->self[i] | p->line[i];

		if (line != c->line[i] || c->ancestor[i] != p->line[i])
			class_changed++;
		c->parent[i] = p->self[i];
		c->ancestor[i] = p->line[i];
		c->line[i] = line;
	}
	return 0;
}

#endif
