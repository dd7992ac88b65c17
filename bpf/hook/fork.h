/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A new thread group. Its key needs no clock: the kernel has stamped it. */
#ifndef HOOK_FORK_H
#define HOOK_FORK_H

#include "../lib/proc.h"
#include "../lib/rate.h"

/* kernel: void sched_process_fork(struct task_struct *parent, struct task_struct *child)  3.4.. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(proc_fork, struct task_struct *parent, struct task_struct *child)
{
	struct task_struct *rp = child->real_parent; /* not `parent`: with CLONE_PARENT the child becomes a sibling */
	struct proc fresh = { .flags = PROC_FORKED }, *pp;
	struct rec_fork *r;
	__u32 nspid = 0, pid = child->tgid;

	if (child->pid != pid)
		return 0; /* a thread */

	fresh.ktime = child->start_boottime;
	fresh.parent_pid = rp->tgid;
	pp = bpf_task_storage_get(&procs, rp->group_leader, NULL, 0);
	if (pp) {
		fresh.parent_ktime = pp->ktime;
		fresh.flags |= pp->flags & PROC_IN_TREE;
	}
	struct pid *tp = child->thread_pid;
	if (tp->level) {
		nspid = pid_in_ns(tp, NULL);
		if (nspid == 1)
			fresh.flags |= PROC_IN_TREE;
	}
	/* The snapshot may have seen it first, between its birth and this call: it used the same key, so user space knows. */
	bpf_task_storage_get(&procs, child, &fresh, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (rate_records && rate_holds(REC_FORK, child->cgroups, bpf_ktime_get_boot_ns()))
		return 0;
	r = ring_reserve(REC_FORK, struct rec_fork, fresh.ktime);
	if (!r)
		return 0;
	r->h.kind = REC_FORK;
	r->h.flags = 0; /* whether it is in an init tree follows from its parent and nspid */
	r->h.pid = pid;
	r->h.time = r->h.ktime = fresh.ktime;
	r->parent_pid = fresh.parent_pid;
	r->parent_ktime = fresh.parent_ktime;
	r->nspid = nspid;
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return 0;
}

#endif
