/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Where a call puts its values together. A program takes a buffer for the time of one call; there are a few for each CPU,
 * because a program can be interrupted or preempted by another one that needs its own. */
#ifndef STAGE_BUF_H
#define STAGE_BUF_H

#include "../lib/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "../abi/hook.h"
#include "../lib/ring.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BUF_LEVELS); /* user space sets it: BUF_LEVELS for each possible CPU */
	__type(key, __u32);
	__type(value, struct hook_buf);
} hook_bufs SEC(".maps");

static __always_inline struct hook_buf *buf_get(__u32 row)
{
	return bpf_map_lookup_elem(&hook_bufs, &row);
}

/* Takes a free buffer and returns its row; -1, and the call counted as lost, if there is none. */
__noinline __s64 buf_take(void)
{
	/* race: the CPU may change before the buffer is taken; then it is another CPU's, which does not matter */
	__u32 row = bpf_get_smp_processor_id() * BUF_LEVELS;
	__u64 now;

	for (int i = 0; i < BUF_LEVELS; i++, row++) {
		struct hook_buf *b = buf_get(row);

		if (!b)
			break;
		if (b->busy || __sync_lock_test_and_set(&b->busy, 1))
			continue;
		b->pos = sizeof(struct rec_hook);
		b->r.values = 0;
		b->r.which = 0;
		return row;
	}
	now = bpf_ktime_get_boot_ns();
	__sync_fetch_and_add(&counts[REC_HOOK].seen, 1);
	ring_lost(REC_HOOK, now);
	return -1;
}

__noinline __u64 buf_give(__u32 buf)
{
	struct hook_buf *b = buf_get(buf);

	if (b)
		b->busy = 0;
	return 0;
}

#define VALUES_END (sizeof(struct rec_hook) + BUF_VALUES)
#define VALUE_MAX  4104 /* the largest payload, and room to round up */
#define BUF_R	   __builtin_offsetof(struct hook_buf, r)

/* bound: keeps a number in one register between a check and the use that the check is for; see proc.h. */
#ifndef bounded
#define bounded(x)                                                                                                     \
	({                                                                                                             \
		asm volatile("" : "+r"(x));                                                                            \
		x;                                                                                                     \
	})
#endif

/* Where the payload of the next value goes, if `max` bytes fit; else NULL. */
static __always_inline void *value_room(struct hook_buf *b, __u64 max)
{
	__u64 pos = b->pos;

	if (bounded(pos) > VALUES_END - 8 - max)
		return NULL;
	return (char *)&b->r + pos + sizeof(struct rec_value);
}

/* Writes the head of the value whose payload has been put where value_room said; returns its place, or -1 for a value that
 * could not be read. */
static __always_inline __s64 value_done(struct hook_buf *b, __u32 index, __u32 kind, __u32 flags, __u64 len)
{
	__u64 pos = b->pos;
	struct rec_value *v;

	if (bounded(pos) > VALUES_END - 8)
		return -1;
	v = (void *)&b->r + pos;
	v->index = index;
	v->kind = kind;
	v->flags = flags;
	v->len = len;
	b->pos = pos + sizeof(*v) + ((len + 7) & ~7ull);
	b->r.values++;
	if (flags & VAL_F_ERROR)
		return -1;
	return (BUF_R + pos + sizeof(*v)) << 32 | len;
}

static __always_inline __s64 value_error(struct hook_buf *b, __u32 index, __u32 kind)
{
	return value_done(b, index, kind, VAL_F_ERROR, 0);
}

/* Reads memory of which nobody knows whose it is: kernel addresses have the top bit set. */
static __always_inline long read_any(void *to, __u32 size, __u64 addr)
{
	if ((__s64)addr < 0)
		return bpf_probe_read_kernel(to, size, (void *)addr);
	return bpf_probe_read_user(to, size, (void *)addr);
}

static __always_inline long read_any_str(void *to, __u32 size, __u64 addr)
{
	if ((__s64)addr < 0)
		return bpf_probe_read_kernel_str(to, size, (void *)addr);
	return bpf_probe_read_user_str(to, size, (void *)addr);
}

#endif
