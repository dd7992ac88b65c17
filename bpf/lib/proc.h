/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* How the record of a thread group is filled. */
#ifndef LIB_PROC_H
#define LIB_PROC_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "../abi/record.h"
#include "cgroup.h"
#include "path.h"
#include "peek.h"
#include "ring.h"
#include "task.h"

/* Set before load; the verifier cuts out what is off. */
const volatile bool want_ns = false;   /* namespaces */
const volatile bool want_file = false; /* real path of the file that is executed */
const volatile bool want_env = false;
const volatile __s32 cgrp_hierarchy = 0; /* id of the hierarchy that names containers */

#define INLINE_ARGS 1024
#define INLINE_ENV  2048
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

static __always_inline struct scratch *scratch_get(__u32 user)
{
	return bpf_map_lookup_elem(&scratch, &user);
}

static __always_inline void fill_ns(struct rec_exec *r, struct task_struct *t)
{
	struct nsproxy *n = t->nsproxy;

	if (!n) /* an exiting task; the room holds what another process left */
		__builtin_memset(r->ns, 0, sizeof(r->ns));
	r->ns[NS_PID] = 0;
	r->nspid = pid_in_ns(t->thread_pid, &r->ns[NS_PID]);
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
	struct kernfs_node *kn;
	long n;

	s->r.cgroup_len = 0;
	if (bounded(pos) > STRINGS - CGROUP_NAME)
		return pos;
	kn = cgroup_node(cs);
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
