/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a function of a user program was given, kept until it returns. A generated program at its entry keeps it; the one at
 * its return looks it up by the thread and by where the stack was, so that calls within calls are told apart. */
#ifndef ARG_USER_H
#define ARG_USER_H

#include "../lib/kernel.h"
#include <bpf/bpf_helpers.h>

#define ENTRY_ARGS 6 /* those that travel in registers */

struct entry_key {
	__u64 thread; /* process and thread, as bpf_get_current_pid_tgid() has them */
	__u64 stack;
	__u64 point; /* which function: see cookie in internal/sensor/user.go */
};

struct entry {
	__u64 arg[ENTRY_ARGS];
};

/* Calls that never return, as by longjmp, leave their entries to be pushed out by others. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct entry_key);
	__type(value, struct entry);
} entries SEC(".maps");

static __always_inline struct entry *entry_find(__u64 point, __u64 stack)
{
	struct entry_key k = { .thread = bpf_get_current_pid_tgid(), .stack = stack, .point = point };

	return bpf_map_lookup_elem(&entries, &k);
}

/* 1 if the beginning of the call was seen. */
__noinline __u64 entry_seen(__u64 point, __u64 stack)
{
	return entry_find(point, stack) != NULL;
}

__noinline __u64 entry_arg(__u64 point, __u64 stack, __u32 n)
{
	struct entry *e = entry_find(point, stack);

	if (!e || n >= ENTRY_ARGS)
		return 0;
	return e->arg[n];
}

__noinline __u64 entry_drop(__u64 point, __u64 stack)
{
	struct entry_key k = { .thread = bpf_get_current_pid_tgid(), .stack = stack, .point = point };

	bpf_map_delete_elem(&entries, &k);
	return 0;
}

#endif
