/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The processes that live already, through an iterator that user space reads: once after the other programs are
 * attached, and again after a loss. It makes the state that fork and exec would have made, so that from the first
 * moment each process is known by exactly one of them. Sleepable: the arguments of another task may have to be paged in. */
#ifndef HOOK_SNAPSHOT_H
#define HOOK_SNAPSHOT_H

#include "../lib/proc.h"

/* 0: only what the kernel half does not know yet. 1: everything, for a user space that lost records. */
__u32 snapshot_all = 0;

/* What an earlier agent's programs knew, which go on until ours have taken over: keys outlive the agent. User space puts
 * their map in its place; it stays empty where there is none, or none of the same layout. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct proc);
} procs_before SEC(".maps");

#define SNAP_ARGS 4096

SEC("iter.s/task")
int task_snapshot(struct bpf_iter__task *ctx)
{
	struct task_struct *t = ctx->task;
	struct scratch *s = scratch_get(SCRATCH_SNAPSHOT);
	struct proc fresh = { .flags = PROC_SNAPSHOT }, *p;
	struct task_struct *u;
	struct rec_exec *r;
	__u64 pos = 0;
	__u64 now;

	if (!s)
		return 0;
	r = &s->r;
	now = bpf_ktime_get_boot_ns();
	if (!t) { /* the iterator's last call */
		struct rec_head end = { .kind = REC_SNAP_END, .time = now };

		ring_send(REC_SNAP_END, &end, sizeof(end), now);
		return 0;
	}
	u = plain(struct task_struct, t);
	if (t->pid != t->tgid || BPF_CORE_READ(t, signal, live.counter) <= 0)
		return 0; /* a thread, or a zombie: it has told its end */

	r->h.kind = REC_SNAPSHOT;
	r->h.flags = 0;
	p = bpf_task_storage_get(&procs, t, NULL, 0);
	if (p && !snapshot_all)
		return 0;
	if (!p) {
		struct proc *before = bpf_task_storage_get(&procs_before, t, NULL, 0);

		fresh.ktime = t->start_boottime;
		fresh.parent_pid = BPF_CORE_READ(t, real_parent, tgid);
		if (before) {
			fresh = *before;
			fresh.flags = (before->flags & ~(PROC_PREPARED | PROC_GREW)) | PROC_SNAPSHOT;
		}
		r->nspid = pid_in_ns(u->thread_pid, NULL);
		if (r->nspid == 1)
			fresh.flags |= PROC_IN_TREE;
		p = bpf_task_storage_get(&procs, t, &fresh, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (!p)
			p = &fresh;
		r->h.flags |= REC_F_NEW;
	}
	r->h.pid = t->tgid;
	r->h.time = now;
	r->h.ktime = p->ktime;
	if (p->flags & PROC_FORKED)
		r->h.flags |= REC_F_CLONE;
	if (p->flags & PROC_EXECED)
		r->h.flags |= REC_F_EXECED;
	if (p->flags & PROC_IN_TREE)
		r->h.flags |= REC_F_IN_TREE;
	r->start = t->start_boottime;
	r->parent_pid = p->parent_pid;
	r->parent_ktime = p->parent_ktime;
	r->parent_start = BPF_CORE_READ(t, real_parent, group_leader, start_boottime);

	fill_cred(r, u->cred);
	r->auid = bpf_core_field_exists(t->loginuid) ? t->loginuid.val : -1;
	fill_ns(r, u);
	r->priv = 0;
	r->mode = 0;
	r->inode = 0;
	r->nlink = 1;
	r->name_len = r->path_len = r->args_len = r->env_len = r->cwd_len = 0;
	r->args_total = r->env_total = 0;

	struct mm_struct *mm = u->mm;

	if (!mm) { /* a kernel thread, or a leader that left before its threads */
		if (t->flags & PF_KTHREAD)
			r->h.flags |= REC_F_KTHREAD;
		else
			r->h.flags |= REC_F_BAD_NAME;
		long n = bpf_probe_read_kernel_str(s->s, 16, t->comm);

		if (n > 0 && n <= 16)
			r->name_len = pos = n - 1;
	} else {
		struct file *exe = BPF_CORE_READ(mm, exe_file);

		if (exe) {
			struct inode *ino = BPF_CORE_READ(exe, f_inode);

			r->mode = BPF_CORE_READ(ino, i_mode);
			r->inode = BPF_CORE_READ(ino, i_ino);
			r->nlink = BPF_CORE_READ(ino, i_nlink);
			pos = fill_path(s, pos, (__u64)u->fs, (__u64)BPF_CORE_READ(exe, f_path.mnt),
					(__u64)BPF_CORE_READ(exe, f_path.dentry));
		}
		pos = fill_cwd(s, pos, (__u64)u->fs);

		__u64 from = mm->arg_start, n = mm->arg_end - from;

		r->args_total = n;
		if (bounded(n) > SNAP_ARGS)
			n = SNAP_ARGS;
		if (n && bounded(pos) <= STRINGS - SNAP_ARGS) {
			if (bpf_copy_from_user_task(s->s + pos, n, (void *)from, t, 0)) {
				r->h.flags |= REC_F_BAD_ARGS;
			} else {
				r->args_len = n;
				pos += n;
			}
		}
	}
	pos = fill_cgroup(s, pos, u->cgroups);
	if (bounded(pos) > STRINGS) /* bound: the size of the output below */
		return 0;
	ring_send(REC_SNAPSHOT, r, sizeof(*r) + pos, now);
	return 0;
}

#endif
