/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Where the sets that a process is in may change. */
#ifndef HOOK_CLASS_H
#define HOOK_CLASS_H

#include "../lib/verdict.h"
#include "../stage/class.h"

/* When the sets change, user space attaches new programs beside the old ones and then says whose turn it is: so there is
 * no moment without classes, and no exec is taken for two. */
const volatile __u32 class_turn = 0; /* of this copy of the programs */
__u32 class_now = 0;

/* kernel: void sched_process_fork(struct task_struct *parent, struct task_struct *child)  3.4.. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(class_fork, struct task_struct *parent, struct task_struct *child)
{
	struct task_struct *rp = child->real_parent;
	struct task_class *c, *of, *p;

	if (class_turn != class_now || child->pid != child->tgid)
		return 0;
	of = class_get(parent->group_leader);
	if (!of)
		return 0; /* its next exec makes it known */
	p = class_get(rp->group_leader);
	c = class_make(child);
	if (!c)
		return 0;
	class_forked(c, of, p);
	class_pids(c, parent->tgid, pid_in_ns(plain(struct task_struct, parent)->group_leader->thread_pid, NULL),
		   child->tgid, pid_in_ns(plain(struct task_struct, child)->thread_pid, NULL));
	class_line(c);
	return 0;
}

/* kernel: void sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)  3.4.. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(class_exec, struct task_struct *t, pid_t old_pid, struct linux_binprm *bprm)
{
	struct task_struct *rp = t->real_parent, *u = plain(struct task_struct, t);
	__u32 exec = t->self_exec_id;
	struct task_class *c;
	__u64 file = 0;

	if (class_turn != class_now)
		return 0;
	c = class_make(t);
	if (!c)
		return 0;
	if (!(c->self[0] & 1)) {
		struct task_class *p = class_get(rp->group_leader);

		if (p)
			class_forked(c, c, p);
	} else if (!(c->flags & CLASS_FORKED) && c->exec != exec) { /* race: the turn changes in the midst of an exec */
		class_replaced(c);
	}
	bpf_probe_read_kernel(&file, sizeof(file), (void *)bprm + bpf_core_field_offset(struct linux_binprm, file));
	class_self(c, t->tgid, pid_in_ns(u->thread_pid, NULL), my_fs(), file);
	class_line(c);
	c->exec = exec;
	c->flags = 0;
	class_baseline(c, u);
	return 0;
}

/* What was ordered of a task that is freed is not counted any more. Where classes and verdicts are in tables the kernel does not
 * free them with the task either. Not at its exit: files and sockets are closed after that, and policies ask who closes them. A
 * leader that lost its place in an exec has another pid than its group.
 * kernel: void sched_process_free(struct task_struct *p)  3.4.. */
SEC("tp_btf/sched_process_free")
int BPF_PROG(class_exit, struct task_struct *t)
{
	struct orders *o = all_orders();
	struct class_key k;
	struct verdicts *v;
	__u64 task = 0;

	if (o && o->all) {
		v = verdicts_of(t);
		bpf_probe_read_kernel(&task, sizeof(task), ctx); /* the pointer as a number */
		for (int i = 0; v && i < VERDICTS; i++)
			if (v->v[i].id)
				verdict_own(&v->v[i], 0, task);
	}
	if (!class_hash)
		return 0;
	k = verdict_key(t);
	bpf_map_delete_elem(&verdicts_hash, &k);
	if (t->pid != t->tgid)
		return 0;
	k = class_key(t);
	bpf_map_delete_elem(&classes_hash, &k);
	return 0;
}

/* What an earlier agent's programs kept, which go on until ours have taken over. User space puts their map in its place and
 * gives equal sets equal numbers. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_class);
} classes_before SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct class_key);
	__type(value, struct task_class);
} classes_hash_before SEC(".maps");

static __always_inline struct task_class *class_before(struct task_struct *leader)
{
	if (class_hash) {
		struct class_key k = class_key(leader);

		return bpf_map_lookup_elem(&classes_hash_before, &k);
	}
	return bpf_task_storage_get(&classes_before, leader, NULL, 0);
}

/* 0: find the sets of every process by itself. 1: hand them on from each process to its children; user space runs it until
 * class_changed stays what it is. One run is nearly always enough, as parents come before their children. 2: before the
 * others, take what an earlier agent's programs knew. */
__u32 class_pass = 0;
__u32 class_changed = 0;

SEC("iter/task")
int class_all(struct bpf_iter__task *ctx)
{
	struct task_struct *t = ctx->task, *rp;
	struct task_class *c, *p = NULL;

	if (!t || t->pid != t->tgid)
		return 0;
	if (class_pass == 2) {
		p = class_before(t);
		if (p && !class_get(t)) {
			c = class_make(t);
			if (c)
				*c = *p;
		}
		return 0;
	}
	c = class_make(t);
	if (!c)
		return 0;
	rp = t->real_parent;
	if (rp)
		p = class_get(rp->group_leader);
	if (class_pass) {
		if (class_inherit(c, p))
			class_changed++;
		return 0;
	}
	c->flags &= ~CLASS_HIDDEN;
	class_find(c, t);
	/* kernel: there are some on which the iterator leaves out pid 1 */
	if (rp && rp->tgid && (!p || (p->flags & CLASS_HIDDEN))) {
		p = class_make(rp->group_leader);
		if (p) {
			p->flags |= CLASS_HIDDEN;
			class_find(p, rp->group_leader);
		}
	}
	return 0;
}

#endif
