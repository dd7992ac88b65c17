/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A thread group moves to another cgroup, for instance into a container. */
#ifndef HOOK_CGROUP_H
#define HOOK_CGROUP_H

#include "../lib/proc.h"

/* kernel: void cgroup_attach_task(struct cgroup *dst, const char *path, struct task_struct *task, bool threadgroup)  4.0.. */
SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(cgrp_attach, struct cgroup *dst, const char *path, struct task_struct *t, bool threadgroup)
{
	struct rec_cgroup r = { .h.kind = REC_CGROUP };
	struct cgroup *cg = plain(struct cgroup, dst);
	struct proc *p;
	long n;

	if (t->pid != t->tgid || cg->root->hierarchy_id != cgrp_hierarchy)
		return 0;
	p = bpf_task_storage_get(&procs, t, NULL, 0);
	r.h.pid = t->tgid;
	r.h.ktime = t->start_boottime;
	if (p)
		r.h.ktime = p->ktime;
	r.h.time = bpf_ktime_get_boot_ns();
	n = bpf_probe_read_kernel_str(r.name, CGROUP_NAME, cg->kn->name);
	if (n > 0)
		r.name_len = n - 1;
	else
		r.h.flags |= REC_F_BAD_CGROUP;
	ring_send(REC_CGROUP, &r, sizeof(r), r.h.time);
	return 0;
}

#endif
