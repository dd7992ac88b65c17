/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the kernel half remembers of each thread group. */
#ifndef LIB_TASK_H
#define LIB_TASK_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "peek.h"

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

/* The current task, for reading. */
#define me() plain(struct task_struct, bpf_get_current_task_btf())

/* Reads the thread group id in the task's own pid namespace, 0 if that is the initial one, and the namespace. */
static __always_inline __u32 pid_in_ns(struct pid *pid, __u32 *inum)
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

/* The same for an address. Where there is bpf_rdonly_cast it costs a tenth. */
static __always_inline __u32 pid_at(__u64 pid, __u32 *inum)
{
	__u32 level = peek(struct pid, pid, level);
	__u64 up = pid + bpf_core_field_offset(struct pid, numbers) + level * 16ull; /* kernel: struct upid */
	__u64 ns;

	if (!pid)
		return 0;
	if (inum) {
		ns = peek_at(up + 8, 8);
		*inum = peek(struct pid_namespace, ns, ns.inum);
	}
	return level ? peek_at(up, 4) : 0;
}

#endif
