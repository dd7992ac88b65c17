/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The end of a thread group: the exit of its last thread, which need not be its leader. */
#ifndef HOOK_EXIT_H
#define HOOK_EXIT_H

#include "../lib/proc.h"

/* kernel: void sched_process_exit(struct task_struct *p)  3.4..6.15; a second argument says group_dead since */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(proc_exit, struct task_struct *t)
{
	struct signal_struct *sig = t->signal;
	struct task_struct *leader = t->group_leader;
	__u64 now, ktime, start;
	__u16 flags = 0;
	struct rec_exit *r;
	struct proc *p;

	/* kernel: do_exit takes the thread off the count before it calls the tracepoint */
	if (sig->live.counter > 0)
		return 0;
	ktime = start = leader->start_boottime;
	p = bpf_task_storage_get(&procs, leader, NULL, 0);
	if (p) {
		/* race: the last two threads leave at once and both find 0: the first one here tells */
		__u32 was = __sync_fetch_and_or(&p->flags, PROC_EXITED);

		if (was & PROC_EXITED)
			return 0;
		ktime = p->ktime;
		if (was & PROC_FORKED)
			flags = REC_F_CLONE;
	} else {
		flags = REC_F_NEW;
	}
	now = bpf_ktime_get_boot_ns();
	r = ring_reserve(REC_EXIT, struct rec_exit, now);
	if (!r)
		return 0;
	r->h.kind = REC_EXIT;
	r->h.flags = flags;
	r->h.pid = t->tgid;
	r->h.time = now;
	r->h.ktime = ktime;
	r->start = start;
	r->code = sig->flags & SIGNAL_GROUP_EXIT ? sig->group_exit_code : leader->exit_code;
	r->nspid = 0;
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return 0;
}

#endif
