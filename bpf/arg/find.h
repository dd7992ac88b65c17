/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Searches for a string in a value. */
#ifndef ARG_FIND_H
#define ARG_FIND_H

#include "../lib/buf.h"

struct needle {
	__u32 len;
	char s[NEEDLE_MAX];
};

/* Written by user space; those that are searched without regard to case in lower case. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NEEDLE_ROWS);
	__type(key, __u32);
	__type(value, struct needle);
} needles SEC(".maps");

struct search {
	struct hook_buf *b;
	struct needle *n;
	__u64 off; /* of the text in the buffer */
	__u64 head, mask;
	__u32 at, len, fold, found;
};

#define EACH(x) (0x0101010101010101ull * (x))

/* The same eight bytes, with ASCII letters in lower case. */
static __always_inline __u64 fold8(__u64 w)
{
	__u64 low = w & EACH(0x7f);
	__u64 from_a = low + EACH(0x80 - 'A'), behind_z = low + EACH(0x80 - 'Z' - 1);

	return w | (from_a & ~behind_z & ~w & EACH(0x80)) >> 2;
}

static __always_inline __u64 text8(struct search *s, __u64 at)
{
	__u64 off = s->off + at, w;

	if (bounded(off) > sizeof(struct hook_buf) - 8) /* bound: the load */
		return 0;
	w = *(__u64 *)((void *)s->b + off);
	return s->fold ? fold8(w) : w;
}

/* Compares word i + 1 of the needle. */
static long find_rest(__u32 i, struct search *s)
{
	__u64 k = (i + 1) * 8, left, x;

	if (k >= s->len || k > NEEDLE_MAX - 8) {
		s->found = 1;
		return 1;
	}
	left = s->len - k;
	x = text8(s, s->at + k) ^ *(__u64 *)(s->n->s + k);
	if (left < 8)
		x &= (1ull << left * 8) - 1;
	return x != 0;
}

static long find_at(__u32 i, struct search *s)
{
	if ((text8(s, i) & s->mask) != s->head)
		return 0;
	s->at = i;
	bpf_loop(NEEDLE_MAX / 8, find_rest, s, 0);
	return s->found ? 1 : 0; /* bound: what a callback may return */
}

__noinline __u64 str_find(__u32 buf, __u64 place, __u32 needle, __u32 fold)
{
	struct search s = { .fold = fold };
	__u32 len = place;

	s.off = place >> 32;
	s.b = buf_row(buf);
	s.n = bpf_map_lookup_elem(&needles, &needle);
	if (!s.b || !s.n)
		return 0;
	s.len = s.n->len;
	if (!s.len)
		return 1;
	if (s.len > NEEDLE_MAX || s.len > len || len > BUF_PATH)
		return 0;
	s.mask = s.len < 8 ? (1ull << s.len * 8) - 1 : ~0ull;
	s.head = *(__u64 *)s.n->s & s.mask;
	bpf_loop(len - s.len + 1, find_at, &s, 0);
	return s.found;
}

#endif
