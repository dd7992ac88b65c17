/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A new thread group. Its key needs no clock: the kernel has stamped it. */
#ifndef HOOK_FORK_H
#define HOOK_FORK_H

#include "../lib/proc.h"

/* kernel: void sched_process_fork(struct task_struct *parent, struct task_struct *child)  3.4.. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(proc_fork, struct task_struct *parent, struct task_struct *child)
{
	struct proc fresh = { .flags = PROC_FORKED }, *pp, *cp;
	struct rec_fork r = { .h.kind = REC_FORK };

	if (child->pid != child->tgid)
		return 0; /* a thread */

	/* not `parent`: with CLONE_PARENT the child becomes a sibling */
	r.parent_pid = fresh.parent_pid = child->real_parent->tgid;
	pp = bpf_task_storage_get(&procs, child->real_parent->group_leader, NULL, 0);
	if (pp) {
		fresh.parent_ktime = pp->ktime;
		fresh.flags |= pp->flags & PROC_IN_TREE;
	}
	r.h.pid = child->tgid;
	r.nspid = 0;
	if (child->thread_pid->level)
		r.nspid = task_nspid(child, NULL);
	if (r.nspid == 1)
		fresh.flags |= PROC_IN_TREE;
	fresh.ktime = child->start_boottime;
	cp = bpf_task_storage_get(&procs, child, &fresh, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (cp && (cp->flags & PROC_SNAPSHOT))
		return 0; /* the snapshot saw it first, between its birth and this call, and has told of it */

	r.h.ktime = r.h.time = fresh.ktime;
	r.parent_ktime = fresh.parent_ktime;
	if (child->flags & PF_KTHREAD)
		r.h.flags |= REC_F_KTHREAD;
	if (fresh.flags & PROC_IN_TREE)
		r.h.flags |= REC_F_IN_TREE;
	ring_send(REC_FORK, &r, sizeof(r), fresh.ktime);
	return 0;
}

#endif
