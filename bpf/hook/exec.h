/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* An exec: what it runs, as whom, and what it was before. */
#ifndef HOOK_EXEC_H
#define HOOK_EXEC_H

#include "../lib/proc.h"
#include "../lib/rate.h"

#define ARGS_PIECES 81 /* 10 * 32736 bytes is the documented limit of arguments */

/* Pieces of arguments go from user memory straight into the ring. */
struct pieces {
	__u64 from, total, ktime, now;
	__u32 pid, what, failed;
};

static long piece_send(__u32 i, struct pieces *p)
{
	__u64 off = (__u64)i * REC_DATA_SIZE;
	struct rec_data *d;
	__u64 n;

	if (off >= p->total)
		return 1;
	d = ring_reserve(REC_DATA, struct rec_data, p->now);
	if (!d)
		return 0;
	n = p->total - off;
	if (n > REC_DATA_SIZE)
		n = REC_DATA_SIZE;
	d->h.kind = REC_DATA;
	d->h.flags = 0;
	d->h.pid = p->pid;
	d->h.time = p->now;
	d->h.ktime = p->ktime;
	d->what = p->what;
	d->index = i;
	d->len = n;
	d->total = p->total;
	if (bpf_probe_read_user(d->data, n, (void *)p->from + off)) {
		d->len = 0;
		p->failed = 1;
	}
	bpf_ringbuf_submit(d, BPF_RB_NO_WAKEUP);
	return 0;
}

/* Sends [from, from+total) in pieces. Returns whether reading failed somewhere. */
static __noinline bool pieces_send(struct rec_head *h, __u32 what, __u64 from, __u64 total)
{
	struct pieces p = {
		.from = from, .total = total, .ktime = h->ktime, .now = h->time, .pid = h->pid, .what = what
	};

	bpf_loop(ARGS_PIECES, piece_send, &p, 0);
	return p.failed;
}

/* Says why the exec raised privileges. uid and the like are those after the exec; the real ids do not change by it. */
static __always_inline __u32 exec_priv(struct rec_exec *r, struct inode *ino, struct vfsmount *mnt, struct proc *me)
{
	__u32 uid = r->ids[0], gid = r->ids[1], euid = r->ids[4], egid = r->ids[5], priv = 0;
	__u64 permitted = r->caps[1], ambient = r->caps[4];

	if ((r->mode & (S_ISUID | S_ISGID)) && !(mnt->mnt_flags & MNT_NOSUID)) {
		if ((r->mode & S_ISUID) && euid != uid && ino->i_uid.val == euid)
			priv |= REC_PRIV_SETUID;
		/* without group execute it means mandatory locking, and the kernel does not change the group */
		if ((r->mode & S_ISGID) && (r->mode & S_IXGRP) && egid != gid && ino->i_gid.val == egid)
			priv |= REC_PRIV_SETGID;
	}
	/* Root gets its capabilities without the file's help, unless it renounced that. What the file gave is what is
	 * there now, and was not there before. Where we could not look before, it is what does not come from the
	 * ambient set: for others than root nothing else survives an exec. */
	if (euid == uid && permitted && (uid != 0 || (r->securebits & SECURE_NOROOT)) && !ambient) {
		if (!(me->flags & PROC_PREPARED) || (me->flags & PROC_GREW))
			priv |= REC_PRIV_RAISED_FILECAP;
	}
	if ((priv & REC_PRIV_SETUID) && uid != 0 && euid == 0)
		priv |= REC_PRIV_RAISED_SETUID;
	if ((priv & REC_PRIV_SETGID) && gid != 0 && egid == 0)
		priv |= REC_PRIV_RAISED_SETGID;
	return priv;
}

/* Appends the argument block, or sends it ahead in pieces. */
static __always_inline __u64 exec_args(struct scratch *s, __u64 pos, struct mm_struct *mm)
{
	__u64 from = mm->arg_start, n = mm->arg_end - from;

	s->r.args_total = n;
	s->r.args_len = 0;
	if (bounded(n) > INLINE_ARGS) {
		if (pieces_send(&s->r.h, REC_DATA_ARGS, from, n))
			s->r.h.flags |= REC_F_BAD_ARGS;
		return pos;
	}
	if (bounded(pos) > STRINGS - INLINE_ARGS || n == 0)
		return pos;
	if (bpf_probe_read_user(s->s + pos, n, (void *)from)) {
		s->r.h.flags |= REC_F_BAD_ARGS;
		return pos;
	}
	s->r.args_len = n;
	return pos + n;
}

static __always_inline __u64 exec_env(struct scratch *s, __u64 pos, struct mm_struct *mm)
{
	__u64 from = mm->env_start, n = mm->env_end - from;

	s->r.env_total = n;
	if (bounded(n) > INLINE_ENV) {
		if (pieces_send(&s->r.h, REC_DATA_ENV, from, n))
			s->r.h.flags |= REC_F_BAD_ENV;
		return pos;
	}
	if (bounded(pos) > STRINGS - INLINE_ENV || n == 0)
		return pos;
	if (bpf_probe_read_user(s->s + pos, n, (void *)from)) {
		s->r.h.flags |= REC_F_BAD_ENV;
		return pos;
	}
	s->r.env_len = n;
	return pos + n;
}

/* kernel: void sched_prepare_exec(struct task_struct *task, struct linux_binprm *bprm)  6.10.. */
SEC("tp_btf/sched_prepare_exec")
int BPF_PROG(proc_prepare, struct task_struct *t, struct linux_binprm *bprm)
{
	struct proc *p;

	p = bpf_task_storage_get(&procs, t->group_leader, NULL, 0);
	if (!p)
		return 0;
	/* A thread is about to take the leader's place, and the leader's storage dies with it. */
	if (t->pid != t->tgid) {
		p = bpf_task_storage_get(&procs, t, p, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (!p)
			return 0;
	}
	p->flags |= PROC_PREPARED;
	if (bprm->cred->cap_permitted.val & ~t->cred->cap_permitted.val)
		p->flags |= PROC_GREW;
	return 0;
}

/* kernel: void sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)  3.4.. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(proc_exec, struct task_struct *t, pid_t old_pid, struct linux_binprm *bprm)
{
	struct proc fresh = {}, *me;
	struct scratch *s = scratch_get(SCRATCH_EXEC);
	struct task_struct *u = plain(struct task_struct, t);
	/* These two are found at the first search, and loads through trusted pointers are cheaper. */
	struct file *trusted = bprm->file, *file = plain(struct file, trusted);
	struct inode *inode = trusted->f_inode;
	struct mm_struct *mm = u->mm;
	struct rec_exec *r;
	__u64 now, fs = (__u64)u->fs, pos = 0;
	long n;

	if (!s || !mm)
		return 0;
	r = &s->r;
	me = bpf_task_storage_get(&procs, t, &fresh, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!me)
		me = &fresh; /* out of memory: the event is worth more than the state */
	now = bpf_ktime_get_boot_ns();

	r->h.kind = REC_EXEC;
	r->h.flags = me->ktime ? 0 : REC_F_NEW;
	r->h.pid = t->tgid;
	r->h.time = now;
	r->h.ktime = now;
	r->start = t->start_boottime;
	if (me->flags & PROC_IN_TREE)
		r->h.flags |= REC_F_IN_TREE;
	if (me->flags & PROC_FORKED) {
		r->h.flags |= REC_F_CLONE;
		r->parent_pid = me->parent_pid;
		r->parent_ktime = me->parent_ktime;
		r->parent_start = 0;
	} else if (me->ktime) { /* it replaces itself: the parent is what it was */
		r->parent_pid = t->tgid;
		r->parent_ktime = me->ktime;
		r->parent_start = 0;
	} else {
		r->parent_pid = BPF_CORE_READ(t, real_parent, tgid);
		r->parent_ktime = 0;
		r->parent_start = BPF_CORE_READ(t, real_parent, group_leader, start_boottime);
	}

	fill_cred(r, u->cred);
	r->mode = inode->i_mode;
	r->inode = inode->i_ino;
	r->nlink = inode->i_nlink;
	r->priv = exec_priv(r, inode, file->f_path.mnt, me);
	r->auid = bpf_core_field_exists(t->loginuid) ? t->loginuid.val : -1;
	if (want_ns)
		fill_ns(r, u);
	else
		r->nspid = pid_in_ns(u->thread_pid, NULL);
	if (r->nspid == 1) {
		r->h.flags |= REC_F_IN_TREE;
		me->flags |= PROC_IN_TREE;
	}

	me->parent_pid = r->parent_pid;
	me->parent_ktime = r->parent_ktime;
	me->ktime = now;
	me->flags = (me->flags & PROC_IN_TREE) | PROC_EXECED;
	if (rate_holds(REC_EXEC, u->cgroups, now))
		return 0;

	if (bprm->interp != bprm->filename)
		r->h.flags |= REC_F_SCRIPT;
	r->name_len = 0;
	n = bpf_probe_read_kernel_str(s->s, PATH_BYTES, bprm->filename);
	if (bounded(n) > 0 && n <= PATH_BYTES) {
		r->name_len = n - 1;
		pos = n - 1;
	} else {
		r->h.flags |= REC_F_BAD_NAME;
	}
	/* The name says nothing lasting when it goes through a descriptor (fexecve, memfd, /proc/self/exe). */
	__u64 head = *(__u64 *)s->s;
	r->path_len = 0;
	if (want_file || r->nlink == 0 || (head & 0xffffffffffff) == 0x2f636f72702f /* "/proc/" */ ||
	    head == 0x2f64662f7665642f /* "/dev/fd/" */)
		pos = fill_path(s, pos, fs, (__u64)file->f_path.mnt, (__u64)file->f_path.dentry);
	pos = fill_cwd(s, pos, fs);
	pos = exec_args(s, pos, mm);
	r->env_len = 0;
	r->env_total = 0;
	if (want_env)
		pos = exec_env(s, pos, mm);
	pos = fill_cgroup(s, pos, u->cgroups);
	if (bounded(pos) > STRINGS) /* bound: the size of the output below */
		return 0;
	ring_send(REC_EXEC, r, sizeof(*r) + pos, now);
	return 0;
}

#endif
