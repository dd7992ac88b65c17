/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the kernel half remembers of each thread group, and how it fills the record of one. */
#ifndef LIB_PROC_H
#define LIB_PROC_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "../abi/record.h"
#include "path.h"
#include "ring.h"

enum proc_flag {
	PROC_FORKED = 1,    /* no exec since the fork */
	PROC_IN_TREE = 2,   /* in the tree of its container's init */
	PROC_SNAPSHOT = 4,  /* made by the snapshot */
	PROC_EXECED = 8,    /* made or renewed by an exec that we saw */
	PROC_PREPARED = 16, /* proc_prepare has seen the exec under way */
	PROC_EXITED = 32,   /* its end has been told */
	PROC_GREW = 64,	    /* proc_prepare found that the exec adds permitted capabilities */
};

/* Kept in the storage of the group leader: no size limit, freed with the task, nothing ever evicted. It is copied at each
 * fork, so every byte counts. */
struct proc {
	__u64 ktime;	    /* see event.Key */
	__u64 parent_ktime; /* 0: not tracked */
	__u32 parent_pid;
	__u32 flags; /* enum proc_flag */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct proc);
} procs SEC(".maps");

/* Set before load; the verifier cuts out what is off. */
const volatile bool want_ns = false;   /* namespaces */
const volatile bool want_file = false; /* real path of the file that is executed */
const volatile bool want_env = false;
const volatile __s32 cgrp_subsys = -1; /* index in css_set.subsys of the hierarchy that names containers; -1 unified */
const volatile __s32 cgrp_hierarchy = 0; /* its id */

#define INLINE_ARGS 1024
#define INLINE_ENV  2048
#define CGROUP_NAME 128
#define STRINGS	    (4 * 4096 + INLINE_ENV + INLINE_ARGS + 1024)

struct scratch {
	struct rec_exec r;
	char s[STRINGS];
};

enum scratch_user {
	SCRATCH_EXEC,
	SCRATCH_SNAPSHOT,
	SCRATCH_USERS
};

/* A record is built here, then copied to the ring at its true size.
 * race: programs that use one slot never run at the same time on one CPU: a tracepoint runs with preemption off and
 * not inside itself, and there is one reader of the snapshot. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SCRATCH_USERS);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

/* bound: keeps the value in one register between a check and the use that the check is for. The compiler is free to check
 * a copy, and the verifier then knows nothing of the original. */
#define bounded(x)                                                                                                     \
	({                                                                                                             \
		asm volatile("" : "+r"(x));                                                                            \
		x;                                                                                                     \
	})

static __always_inline struct scratch *scratch_get(__u32 user)
{
	return bpf_map_lookup_elem(&scratch, &user);
}

/* kernel: void *bpf_rdonly_cast(const void *obj, u32 btf_id)  6.2.. */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

/* The same pointer, but one that the verifier does not trust. For each load of a pointer through a trusted one it
 * searches all of the kernel's types by name, several times, on each path that leads there (kernel:
 * btf_nested_type_is_trusted, 6.2 to 6.18); that was 80 % of the time that the agent needed to start. Only what is handed
 * to a helper that asks for a task must be loaded through the trusted one. Costs nothing: the call becomes a move. */
#define plain(type, p)                                                                                                 \
	({                                                                                                             \
		type *_p = (p);                                                                                        \
		if (bpf_rdonly_cast)                                                                                   \
			_p = bpf_rdonly_cast(_p, bpf_core_type_id_kernel(type));                                       \
		_p;                                                                                                    \
	})

/* Reads the thread group id in the task's own pid namespace, 0 if that is the initial one, and the namespace. */
static __always_inline __u32 task_nspid(struct pid *pid, __u32 *inum)
{
	struct {
		__u32 nr, pad;
		__u64 ns;
	} up = {};
	__u32 level, inum_ = 0;

	if (!pid)
		return 0;
	level = pid->level;
	bpf_probe_read_kernel(&up, sizeof(up),
			      (void *)pid + bpf_core_field_offset(struct pid, numbers) + level * 16ull);
	if (inum) {
		bpf_probe_read_kernel(&inum_, sizeof(inum_),
				      (void *)up.ns + bpf_core_field_offset(struct pid_namespace, ns.inum));
		*inum = inum_;
	}
	return level ? up.nr : 0;
}

static __always_inline void fill_ns(struct rec_exec *r, struct task_struct *t)
{
	struct nsproxy *n = t->nsproxy;

	if (!n) /* an exiting task; the room holds what another process left */
		__builtin_memset(r->ns, 0, sizeof(r->ns));
	r->ns[NS_PID] = 0;
	r->nspid = task_nspid(t->thread_pid, &r->ns[NS_PID]);
	r->ns[NS_USER] = t->cred->user_ns->ns.inum;
	if (!n)
		return;
	r->ns[NS_UTS] = n->uts_ns->ns.inum;
	r->ns[NS_IPC] = n->ipc_ns->ns.inum;
	r->ns[NS_MNT] = n->mnt_ns->ns.inum;
	r->ns[NS_PID_CHILDREN] = n->pid_ns_for_children->ns.inum;
	r->ns[NS_NET] = n->net_ns->ns.inum;
	r->ns[NS_CGROUP] = n->cgroup_ns->ns.inum;
	if (bpf_core_field_exists(n->time_ns) && n->time_ns) {
		r->ns[NS_TIME] = n->time_ns->ns.inum;
		r->ns[NS_TIME_CHILDREN] = n->time_ns_for_children->ns.inum;
	}
}

static __always_inline void fill_cred(struct rec_exec *r, const struct cred *cred)
{
	/* kernel: the eight ids are neighbours, as are the five capability sets, 5.17 to 6.18: two reads for all */
	bpf_probe_read_kernel(r->ids, sizeof(r->ids), (void *)cred + bpf_core_field_offset(struct cred, uid));
	bpf_probe_read_kernel(r->caps, sizeof(r->caps),
			      (void *)cred + bpf_core_field_offset(struct cred, cap_inheritable));
	r->securebits = cred->securebits;
}

/* Appends the leaf cgroup's name at s->s[pos]; returns the new pos. */
static __always_inline __u64 fill_cgroup(struct scratch *s, __u64 pos, struct css_set *cs)
{
	struct kernfs_node *kn = NULL;
	long n;

	s->r.cgroup_len = 0;
	if (bounded(pos) > STRINGS - CGROUP_NAME)
		return pos;
	if (cgrp_subsys < 0) {
		if (cs && cs->dfl_cgrp)
			kn = cs->dfl_cgrp->kn;
	} else {
		struct cgroup_subsys_state *css = NULL;

		bpf_probe_read_kernel(&css, sizeof(css),
				      (void *)cs + bpf_core_field_offset(struct css_set, subsys) + cgrp_subsys * 8);
		kn = BPF_CORE_READ(css, cgroup, kn);
	}
	const char *name = kn ? BPF_CORE_READ(kn, name) : NULL;
	n = name ? bpf_probe_read_kernel_str(s->s + pos, CGROUP_NAME, name) : -1;
	if (n <= 0 || n > CGROUP_NAME) {
		s->r.h.flags |= REC_F_BAD_CGROUP;
		return pos;
	}
	s->r.cgroup_len = n - 1;
	return pos + n - 1;
}

/* Appends the working directory. */
static __always_inline __u64 fill_cwd(struct scratch *s, __u64 pos, __u64 fs)
{
	struct {
		__u64 vfsmnt, dentry;
	} pwd = {};
	bool cut = false;
	__u64 n;

	s->r.cwd_len = 0;
	if (bounded(pos) > STRINGS - PATH_ROOM)
		return pos;
	if (!fs ||
	    bpf_probe_read_kernel(&pwd, sizeof(pwd), (void *)fs + bpf_core_field_offset(struct fs_struct, pwd)) ||
	    !pwd.dentry) {
		s->r.h.flags |= REC_F_BAD_CWD;
		return pos;
	}
	n = path_walk(s->s + pos, fs, pwd.vfsmnt, pwd.dentry, &cut);
	if (n > PATH_ROOM) /* bound: the walk is verified on its own on some kernels */
		return pos;
	if (cut)
		s->r.h.flags |= REC_F_CUT_CWD;
	else if (n == 0)
		s->r.h.flags |= REC_F_ROOT_CWD;
	s->r.cwd_len = n;
	return pos + n;
}

/* Appends the real path of a file. */
static __always_inline __u64 fill_path(struct scratch *s, __u64 pos, __u64 fs, __u64 vfsmnt, __u64 dentry)
{
	bool cut = false;
	__u64 n;

	s->r.path_len = 0;
	if (bounded(pos) > STRINGS - PATH_ROOM)
		return pos;
	n = path_walk(s->s + pos, fs, vfsmnt, dentry, &cut);
	if (n > PATH_ROOM) /* bound: as above */
		return pos;
	if (cut)
		s->r.h.flags |= REC_F_CUT_PATH;
	s->r.path_len = n;
	return pos + n;
}

#endif
