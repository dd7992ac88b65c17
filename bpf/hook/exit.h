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
	struct rec_exit r = { .h.kind = REC_EXIT };
	struct proc *p;

	/* kernel: do_exit takes the thread off the count before it calls the tracepoint */
	if (sig->live.counter > 0)
		return 0;
	p = bpf_task_storage_get(&procs, leader, NULL, 0);
	r.start = leader->start_boottime;
	if (p) {
		/* race: the last two threads leave at once and both find 0: the first one here tells */
		if (__sync_lock_test_and_set(&p->exited, 1))
			return 0;
		r.h.ktime = p->ktime;
		if (p->flags & PROC_FORKED)
			r.h.flags |= REC_F_CLONE;
	} else {
		r.h.ktime = r.start;
		r.h.flags |= REC_F_NEW;
	}
	r.h.pid = t->tgid;
	r.code = sig->flags & SIGNAL_GROUP_EXIT ? sig->group_exit_code : leader->exit_code;
	r.h.time = bpf_ktime_get_boot_ns();
	ring_send(REC_EXIT, &r, sizeof(r), r.h.time);
	return 0;
}

#endif
