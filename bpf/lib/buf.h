/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The place where the values of one call, and then its record, are put together.
 *
 * A value is appended by asking val_room for room, writing the payload there, and saying so to val_done. */
#ifndef LIB_BUF_H
#define LIB_BUF_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include "../abi/hook.h"
#include "peek.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BUF_LEVELS); /* user space sets it: BUF_LEVELS for each possible CPU */
	__type(key, __u32);
	__type(value, struct hook_buf);
} hook_bufs SEC(".maps");

static __always_inline struct hook_buf *buf_row(__u32 row)
{
	return bpf_map_lookup_elem(&hook_bufs, &row);
}

/* bound: no value begins above this; what the largest one then reaches over, and the words behind the values, fit slack. */
#define VAL_END (sizeof(struct rec_hook) + BUF_VALUES)

_Static_assert(8 + (HOOK_WORDS + HOOK_HELD) * 8 <= BUF_SLACK, "the words behind the values must not leave the buffer");

/* A payload of n bytes at this offset in the buffer. */
static __always_inline __s64 place(__u64 off, __u64 n)
{
	return off << 32 | n;
}

#define R_OFF __builtin_offsetof(struct hook_buf, r)

/* Where the payload of the next value goes; NULL if there is no room for max bytes. */
static __always_inline void *val_room(struct hook_buf *b, __u64 max)
{
	__u64 pos = b->pos;

	if (bounded(pos) > VAL_END - sizeof(struct rec_value) - max)
		return NULL;
	return (void *)&b->r + pos + sizeof(struct rec_value);
}

/* Appends the value whose payload of n bytes lies where val_room said; returns its place. */
static __always_inline __s64 val_done(struct hook_buf *b, __u32 index, __u32 kind, __u32 flags, __u64 n)
{
	__u64 pos = b->pos;

	if (bounded(pos) > VAL_END - sizeof(struct rec_value))
		return -1;
	*(__u64 *)((void *)&b->r + pos) = (__u16)index | kind << 16 | (__u64)flags << 24 | n << 32;
	b->r.values++;
	b->pos = pos + sizeof(struct rec_value) + ((n + 7) & ~7ull);
	return place(R_OFF + pos + sizeof(struct rec_value), n);
}

/* Appends a value that could not be read. */
static __always_inline __s64 val_error(struct hook_buf *b, __u32 index, __u32 kind)
{
	val_done(b, index, kind, VAL_F_ERROR, 0);
	return -1;
}

/* What the loop of a function works on. It lies in the buffer and not on the stack because
 * bound: all functions under way have 512 bytes of stack together, of which a generated main function wants most; and
 *        on the stack the verifier follows each value from turn to turn, but knows nothing of what is in the buffer. */
#define buf_work(type, b)                                                                                              \
	({                                                                                                             \
		_Static_assert(sizeof(type) <= sizeof(((struct hook_buf *)0)->work), "the work area is too small");    \
		(type *)(b)->work;                                                                                     \
	})

/* All that is on the stack for a loop. */
struct loop {
	struct hook_buf *b;
};

#endif
