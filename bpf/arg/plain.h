/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Numbers, strings and bytes. */
#ifndef ARG_PLAIN_H
#define ARG_PLAIN_H

#include "../stage/buf.h"

#define STRING_MAX 4096
#define BYTES_MAX  4095

__noinline __s64 arg_int(__u32 buf, __u32 index, __u64 v)
{
	struct hook_buf *b = buf_get(buf);
	__u64 *to;

	if (!b || !(to = value_room(b, 8)))
		return -1;
	*to = v;
	return value_done(b, index, VAL_INT, 0, 8);
}

/* The number could not be read: this step of the way to it failed. */
__noinline __s64 arg_int_error(__u32 buf, __u32 index, __u64 step)
{
	struct hook_buf *b = buf_get(buf);
	__u64 *to;

	if (!b || !(to = value_room(b, 8)))
		return -1;
	*to = step;
	return value_done(b, index, VAL_INT, VAL_F_ERROR, 8);
}

static __always_inline __s64 put_string(__u32 buf, __u32 index, __u64 addr, __u32 max)
{
	struct hook_buf *b = buf_get(buf);
	char *to;
	long n;

	if (!b || !(to = value_room(b, VALUE_MAX)))
		return -1;
	n = read_any_str(to, max + 1, addr);
	if (n <= 0 || n > STRING_MAX + 1)
		return value_error(b, index, VAL_STRING);
	return value_done(b, index, VAL_STRING, n == max + 1 ? VAL_F_CUT : 0, n - 1);
}

__noinline __s64 arg_string(__u32 buf, __u32 index, __u64 addr) { return put_string(buf, index, addr, STRING_MAX); }

/* kernel: struct filename { const char *name; ... }  3.x.. */
__noinline __s64 arg_filename(__u32 buf, __u32 index, __u64 addr)
{
	return put_string(buf, index, (__u64)BPF_CORE_READ((struct filename *)addr, name), STRING_MAX);
}

__noinline __s64 arg_netdev(__u32 buf, __u32 index, __u64 addr)
{
	return put_string(buf, index, addr ? addr + bpf_core_field_offset(struct net_device, name) : 0, 16);
}

/* A string in a tracepoint's record: the word says where it is and how long, its terminator included. */
__noinline __s64 arg_dataloc(__u32 buf, __u32 index, __u64 base, __u64 word)
{
	struct hook_buf *b = buf_get(buf);
	__u64 n = word >> 16 & 0xfff;
	char *to;

	if (!b || !(to = value_room(b, VALUE_MAX)))
		return -1;
	if (n == 0)
		return value_done(b, index, VAL_STRING, 0, 0);
	if (bpf_probe_read_kernel(to, n, (void *)(base + (word & 0xffff))))
		return value_error(b, index, VAL_STRING);
	n--;
	if (bounded(n) > 0xfff)
		return -1;
	return value_done(b, index, VAL_STRING, 0, to[n] ? n + 1 : n);
}

/* `size` bytes, of which the first BYTES_MAX are taken. The place is that of the bytes. */
__noinline __s64 arg_bytes(__u32 buf, __u32 index, __u64 addr, __u64 size)
{
	struct hook_buf *b = buf_get(buf);
	__u64 n = size;
	__s64 place;
	__u64 *to;

	if (!b || !(to = value_room(b, VALUE_MAX + 8)))
		return -1;
	if ((__s64)size < 0) /* a return value that is an error */
		n = size = 0;
	if (n > BYTES_MAX)
		n = BYTES_MAX;
	*to = size;
	if (bounded(n) > 0 && n <= BYTES_MAX && read_any(to + 1, n, addr))
		return value_error(b, index, VAL_BYTES);
	place = value_done(b, index, VAL_BYTES, size > n ? VAL_F_CUT : 0, n + 8);
	return place < 0 ? place : place + (8ll << 32) - 8;
}

/* An array of unsigned long. */
__noinline __s64 arg_words(__u32 buf, __u32 index, __u64 addr, __u64 bytes)
{
	struct hook_buf *b = buf_get(buf);
	__u64 n = bytes;
	char *to;

	if (!b || !(to = value_room(b, VALUE_MAX)))
		return -1;
	if (bounded(n) == 0 || n > 1024 || bpf_probe_read_kernel(to, n, (void *)addr))
		return value_error(b, index, VAL_WORDS);
	return value_done(b, index, VAL_WORDS, 0, n);
}

/* Vectors of user memory, one after the other. */
struct gather {
	struct hook_buf *b;
	__u64 vec;   /* address of the next struct iovec; 0: `one` is all there is */
	__u64 skip;  /* bytes of the first one that are done with */
	__u64 limit; /* bytes that are wanted */
	__u64 at;    /* where the payload is in b->r */
	__u64 have, total;
	__u32 kernel, failed;
	struct {
		__u64 base, len;
	} one;
};

static long gather_step(__u32 i, struct gather *g)
{
	__u64 n, have = g->have, at = g->at;

	if (g->vec) {
		if (g->kernel ? bpf_probe_read_kernel(&g->one, sizeof(g->one), (void *)g->vec) :
				bpf_probe_read_user(&g->one, sizeof(g->one), (void *)g->vec)) {
			g->failed = 1;
			return 1;
		}
		g->vec += sizeof(g->one);
	}
	if (g->skip) {
		if (g->skip > g->one.len)
			g->skip = g->one.len;
		g->one.base += g->skip;
		g->one.len -= g->skip;
		g->skip = 0;
	}
	n = g->one.len;
	if (n > g->limit - g->total)
		n = g->limit - g->total;
	g->total += n;
	if (bounded(have) < BYTES_MAX && n) {
		if (n > BYTES_MAX - have)
			n = BYTES_MAX - have;
		if (bounded(n) > BYTES_MAX || bounded(at) > VALUES_END - VALUE_MAX)
			return 1;
		if (read_any((char *)&g->b->r + at + have, n, g->one.base)) {
			g->failed = 1;
			return 1;
		}
		g->have = have + n;
	}
	return g->total >= g->limit;
}

static __always_inline __s64 gather_all(struct gather *g, __u32 index, __u32 count)
{
	__s64 place;
	__u64 *to = value_room(g->b, VALUE_MAX + 8);

	if (!to)
		return -1;
	g->at = g->b->pos + 16;
	bpf_loop(count, gather_step, g, 0);
	if (g->failed && !g->have)
		return value_error(g->b, index, VAL_BYTES);
	*to = g->total;
	place = value_done(g->b, index, VAL_BYTES, g->total > g->have ? VAL_F_CUT : 0, g->have + 8);
	return place < 0 ? place : place + (8ll << 32) - 8;
}

/* `count` vectors; limit: bytes at the most, 0 all. */
__noinline __s64 arg_iovec(__u32 buf, __u32 index, __u64 addr, __u64 count, __u64 limit)
{
	struct gather g = { .b = buf_get(buf), .vec = addr, .limit = limit, .kernel = (__s64)addr < 0 };

	if (!g.b)
		return -1;
	if ((__s64)limit < 0)
		g.limit = 0;
	else if (!limit)
		g.limit = 1ull << 62;
	return gather_all(&g, index, count > 1024 ? 1024 : count); /* kernel: UIO_MAXIOV */
}

__noinline __s64 arg_iov_iter(__u32 buf, __u32 index, __u64 addr)
{
	struct gather g = { .b = buf_get(buf), .kernel = 1 };
	struct iov_iter *it = (void *)addr;
	__u32 type, count = 0;

	if (!g.b)
		return -1;
	type = BPF_CORE_READ(it, iter_type);
	g.limit = BPF_CORE_READ(it, count);
	g.skip = BPF_CORE_READ(it, iov_offset);
	if (bpf_core_enum_value_exists(enum iter_type, ITER_UBUF) && bpf_core_field_exists(it->ubuf) &&
	    type == bpf_core_enum_value(enum iter_type, ITER_UBUF)) {
		g.one.base = (__u64)BPF_CORE_READ(it, ubuf);
		g.one.len = g.skip + g.limit;
		count = 1;
	} else if (type == bpf_core_enum_value(enum iter_type, ITER_IOVEC)) {
		struct iov_iter___old *old = (void *)addr;

		if (bpf_core_field_exists(it->__iov))
			g.vec = (__u64)BPF_CORE_READ(it, __iov);
		else
			g.vec = (__u64)BPF_CORE_READ(old, iov);
		count = BPF_CORE_READ(it, nr_segs);
		if (count > 1024)
			count = 1024;
	}
	return gather_all(&g, index, count);
}

/* A stack of `got` bytes that the main function has read to the beginning of the room for paths. */
__noinline __s64 stack_put(__u32 buf, __u32 kind, __u64 got)
{
	struct hook_buf *b = buf_get(buf);
	__u64 n = got;
	char *to;

	if (!b || !(to = value_room(b, 1024)))
		return -1;
	if (bounded(n) == 0 || n > 1016 || bpf_probe_read_kernel(to, n, b->path))
		return value_error(b, 0, kind);
	return value_done(b, 0, kind, 0, n);
}

/* Strings that filters search for. */
struct needle {
	__u32 len;
	char s[256];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct needle);
} needles SEC(".maps");

struct search {
	const char *in;
	struct needle *what;
	__u32 start, fold, found;
};

static __always_inline char folded(char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; }

static long search_byte(__u32 i, struct search *s)
{
	char a, b;

	if (i >= s->what->len) {
		s->found = 1;
		return 1;
	}
	__u32 at = s->start + i;

	if (at >= VALUE_MAX || i > 255)
		return 1;
	a = s->in[at];
	b = s->what->s[i];
	if (s->fold)
		a = folded(a);
	return a != b;
}

static long search_from(__u32 i, struct search *s)
{
	if (i >= VALUE_MAX)
		return 1;
	s->start = i;
	/* the first byte decides nearly always */
	char c = s->fold ? folded(s->in[i]) : s->in[i];

	if (c == s->what->s[0])
		bpf_loop(257, search_byte, s, 0);
	return s->found;
}

/* Whether a needle, which is not empty, is in the bytes at a place. With fold ASCII letters of either case are the same;
 * the needle is in lower case then. */
__noinline __u64 str_find(__u32 buf, __u64 place, __u32 needle, __u32 fold)
{
	struct hook_buf *b = buf_get(buf);
	struct search s = { .fold = fold };
	__u64 off = place >> 32, len = place & 0xffffffff;

	s.what = bpf_map_lookup_elem(&needles, &needle);
	if (!b || !s.what || bounded(off) > __builtin_offsetof(struct hook_buf, slack))
		return 0;
	if (s.what->len > len || s.what->len == 0)
		return s.what->len == 0;
	s.in = (char *)b + off;
	bpf_loop(len - s.what->len + 1, search_from, &s, 0);
	return s.found;
}

#endif
