/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Numbers, strings and bytes, in kernel or user memory. */
#ifndef ARG_PLAIN_H
#define ARG_PLAIN_H

#include "../lib/buf.h"
#include "../lib/ring.h"
#include "../lib/class.h"

#define STRING_MAX 4096
#define BYTES_MAX  4095
#define LONG_MAX   327360 /* the documented limit of maxData */
#define WORDS_MAX  1024

__noinline __s64 arg_int(__u32 buf, __u32 index, __u64 v)
{
	struct hook_buf *b = buf_row(buf);
	__u64 *to;

	if (!b || !(to = val_room(b, sizeof(v))))
		return -1;
	*to = v;
	return val_done(b, index, VAL_INT, 0, sizeof(v));
}

/* A number that could not be read: the load that is the step-th on the way to it failed. */
__noinline __s64 arg_int_error(__u32 buf, __u32 index, __u64 step)
{
	struct hook_buf *b = buf_row(buf);
	__u64 *to;

	if (!b || !(to = val_room(b, sizeof(step))))
		return -1;
	*to = step;
	val_done(b, index, VAL_INT, VAL_F_ERROR, sizeof(step));
	return -1;
}

__noinline __s64 arg_string(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_row(buf);
	char *to;
	long n;

	/* One byte more than a string and its end, so that one that is too long shows. */
	if (!b || !(to = val_room(b, STRING_MAX + 2)))
		return -1;
	n = read_any_str(to, STRING_MAX + 2, addr);
	if (n <= 0)
		return val_error(b, index, VAL_STRING);
	if (n == STRING_MAX + 2)
		return val_done(b, index, VAL_STRING, VAL_F_CUT, STRING_MAX);
	return val_done(b, index, VAL_STRING, 0, n - 1);
}

/* kernel: struct filename * */
__noinline __s64 arg_filename(__u32 buf, __u32 index, __u64 addr)
{
	return arg_string(buf, index, addr ? peek(struct filename, addr, name) : 0);
}

/* kernel: struct net_device * */
__noinline __s64 arg_netdev(__u32 buf, __u32 index, __u64 addr)
{
	return arg_string(buf, index, addr ? addr + bpf_core_field_offset(struct net_device, name) : 0);
}

/* A string in a tracepoint's record: its offset is the low half of the word, its length with the terminator the high one. */
__noinline __s64 arg_dataloc(__u32 buf, __u32 index, __u64 base, __u64 word)
{
	struct hook_buf *b = buf_row(buf);
	__u64 size = word >> 16 & 0xffff;
	char *to;
	long n;

	if (!b || !(to = val_room(b, STRING_MAX + 2)))
		return -1;
	if (bounded(size) > STRING_MAX + 2)
		size = STRING_MAX + 2;
	if (!size)
		return val_done(b, index, VAL_STRING, 0, 0);
	n = bpf_probe_read_kernel_str(to, size, (void *)(base + (word & 0xffff)));
	if (n <= 0)
		return val_error(b, index, VAL_STRING);
	if (n == STRING_MAX + 2)
		return val_done(b, index, VAL_STRING, VAL_F_CUT, STRING_MAX);
	return val_done(b, index, VAL_STRING, 0, n - 1);
}

/* The place of the bytes behind their number. */
static __always_inline __s64 behind_size(__s64 p)
{
	return p < 0 ? p : p + place(8, 0) - 8;
}

/* size bytes; negative (a return value that is an error): none. */
__noinline __s64 arg_bytes(__u32 buf, __u32 index, __u64 addr, __u64 size)
{
	struct hook_buf *b = buf_row(buf);
	__u64 n, *to;

	if (!b || !(to = val_room(b, 8 + BYTES_MAX)))
		return -1;
	if ((__s64)size < 0)
		size = 0;
	n = size;
	if (bounded(n) > BYTES_MAX)
		n = BYTES_MAX;
	*to = size;
	if (n && read_any(to + 1, n, addr))
		return val_error(b, index, VAL_BYTES);
	return behind_size(val_done(b, index, VAL_BYTES, n < size ? VAL_F_CUT : 0, 8 + n));
}

__u64 data_ids = 0; /* ids of long values that were given out */

struct long_bytes {
	__u64 from, size, id, now, ktime;
	__u32 pid, failed;
};

static long long_piece(__u32 i, struct long_bytes *l)
{
	__u64 off = (__u64)i * HOOK_DATA_SIZE, n = l->size - off;
	struct rec_hook_data *d;

	if (off >= l->size)
		return 1;
	d = ring_reserve(REC_HOOK_DATA, struct rec_hook_data, l->now);
	if (!d)
		return 0;
	if (bounded(n) > HOOK_DATA_SIZE)
		n = HOOK_DATA_SIZE;
	d->h.kind = REC_HOOK_DATA;
	d->h.flags = 0;
	d->h.pid = l->pid;
	d->h.time = l->now;
	d->h.ktime = l->ktime;
	d->id = l->id;
	d->index = i;
	d->len = n;
	if (read_any(d->data, n, l->from + off)) {
		l->failed = 1;
		d->len = 0;
	}
	bpf_ringbuf_submit(d, BPF_RB_NO_WAKEUP);
	return l->failed ? 1 : 0;
}

/* As arg_bytes, but what is too long for the record goes ahead of it in pieces. */
__noinline __s64 arg_bytes_max(__u32 buf, __u32 index, __u64 addr, __u64 size)
{
	struct hook_buf *b = buf_row(buf);
	struct long_bytes l = { .from = addr, .size = size };
	__u64 *to;

	if ((__s64)size <= BYTES_MAX)
		return arg_bytes(buf, index, addr, size);
	if (!b || !(to = val_room(b, 16)))
		return -1;
	if (l.size > LONG_MAX)
		l.size = LONG_MAX;
	l.id = __sync_fetch_and_add(&data_ids, 1);
	l.now = bpf_ktime_get_boot_ns();
	l.pid = bpf_get_current_pid_tgid() >> 32;
	l.ktime = my_ktime();
	bpf_loop(LONG_MAX / HOOK_DATA_SIZE + 1, long_piece, &l, 0);
	if (l.failed)
		return val_error(b, index, VAL_BYTES);
	to[0] = size;
	to[1] = l.id;
	return behind_size(val_done(b, index, VAL_BYTES, VAL_F_AHEAD | (size > LONG_MAX ? VAL_F_CUT : 0), 16));
}

/* An array of unsigned long. */
__noinline __s64 arg_words(__u32 buf, __u32 index, __u64 addr, __u64 bytes)
{
	struct hook_buf *b = buf_row(buf);
	__u64 n = bytes;
	void *to;

	if (!b || !(to = val_room(b, WORDS_MAX)))
		return -1;
	if (bounded(n) > WORDS_MAX)
		n = WORDS_MAX;
	if (bpf_probe_read_kernel(to, n, (void *)addr))
		return val_error(b, index, VAL_WORDS);
	return val_done(b, index, VAL_WORDS, n < bytes ? VAL_F_CUT : 0, n);
}

/* Collects what vectors name, one after the other. */
struct vectors {
	__u64 vec;  /* address of the next vector; 0: there is only `one` */
	__u64 skip; /* bytes at the beginning that are done with */
	__u64 left; /* bytes that may still be taken */
	__u64 to;   /* where the bytes go: offset from b->r */
	__u64 have; /* bytes that were read */
	__u64 all;  /* ... that there are */
	__u64 failed;
	__u64 user; /* what the vectors name is user memory, whatever they say */
	struct {
		__u64 base, len;
	} one;
};

#define VECTORS_MAX 1024 /* kernel: UIO_MAXIOV */

static long vector_step(__u32 i, struct loop *l)
{
	struct vectors *v = buf_work(struct vectors, l->b);
	__u64 base, n, have = v->have, to = v->to;

	if (v->vec) {
		if (read_any(&v->one, sizeof(v->one), v->vec)) {
			v->failed = 1;
			return 1;
		}
		v->vec += sizeof(v->one);
	}
	base = v->one.base;
	n = v->one.len;
	if (v->skip && v->skip >= n) {
		v->skip -= n;
		return 0;
	}
	base += v->skip;
	n -= v->skip;
	v->skip = 0;
	if (n > v->left)
		n = v->left;
	v->left -= n;
	v->all += n;
	if (bounded(have) < BYTES_MAX) {
		if (bounded(n) > BYTES_MAX - have)
			n = BYTES_MAX - have;
		to += have;
		if (bounded(n) > BYTES_MAX || bounded(to) > VAL_END) /* bound: the read */
			return 1;
		/* bound: two tests, because the compiler would make one of them that forgets the check of the size */
		if (n && v->user && (__s64)base < 0) {
			v->failed = 1;
			return 1;
		}
		if (n && read_any((void *)&l->b->r + to, n, base)) {
			v->failed = 1;
			return 1;
		}
		v->have = have + n;
	}
	return !v->left;
}

static __always_inline __s64 vectors_put(struct hook_buf *b, __u32 index, __u32 count)
{
	struct vectors *v = buf_work(struct vectors, b);
	__u64 *to = val_room(b, 8 + BYTES_MAX), n;
	struct loop l = { b };

	if (!to)
		return -1;
	v->to = b->pos + sizeof(struct rec_value) + 8;
	v->have = v->all = v->failed = 0;
	if (count && v->left)
		bpf_loop(count < VECTORS_MAX ? count : VECTORS_MAX, vector_step, &l, 0);
	if (v->failed)
		return val_error(b, index, VAL_BYTES);
	*to = v->all;
	n = v->have;
	return behind_size(val_done(b, index, VAL_BYTES, n < v->all ? VAL_F_CUT : 0, 8 + n));
}

/* count vectors, of which the first limit bytes; limit 0: all. A negative limit (a return value that is an error): none. */
__noinline __s64 arg_iovec(__u32 buf, __u32 index, __u64 addr, __u64 count, __u64 limit)
{
	struct hook_buf *b = buf_row(buf);
	struct vectors *v;

	if (!b)
		return -1;
	if (!addr)
		return val_error(b, index, VAL_BYTES);
	v = buf_work(struct vectors, b);
	v->vec = addr;
	v->user = (__s64)addr >= 0; /* who could write the vectors could name anything there */
	v->skip = 0;
	v->left = (__s64)limit < 0 ? 0 : limit ? limit : ~0ull;
	return vectors_put(b, index, count > VECTORS_MAX ? VECTORS_MAX : count);
}

/* kernel: struct iov_iter *; what is left of it. Iterators over pages have no address: nothing is read of them. */
__noinline __s64 arg_iov_iter(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_row(buf);
	__u64 type, count = 0;
	struct vectors *v;

	if (!b)
		return -1;
	if (!addr)
		return val_error(b, index, VAL_BYTES);
	v = buf_work(struct vectors, b);
	type = peek(struct iov_iter, addr, iter_type);
	v->vec = 0;
	v->user = type != bpf_core_enum_value(enum iter_type, ITER_KVEC);
	v->left = peek(struct iov_iter, addr, count);
	v->skip = peek(struct iov_iter, addr, iov_offset);
	/* kernel: one buffer without a vector, 6.0.. */
	if (bpf_core_enum_value_exists(enum iter_type, ITER_UBUF) &&
	    type == bpf_core_enum_value(enum iter_type, ITER_UBUF)) {
		v->one.base = peek(struct iov_iter, addr, ubuf);
		v->one.len = v->skip + v->left;
		count = 1;
	} else if (type == bpf_core_enum_value(enum iter_type, ITER_IOVEC) ||
		   type == bpf_core_enum_value(enum iter_type, ITER_KVEC)) {
		struct iov_iter *it = (void *)addr;

		if (bpf_core_field_exists(it->__iov)) /* kernel: 6.4.. */
			v->vec = peek(struct iov_iter, addr, __iov);
		else
			v->vec = peek(struct iov_iter___before_6_4, addr, iov);
		if (!v->vec)
			return val_error(b, index, VAL_BYTES);
		count = peek(struct iov_iter, addr, nr_segs);
	}
	return vectors_put(b, index, count > VECTORS_MAX ? VECTORS_MAX : count);
}

/* Appends a stack of so many bytes that the main function has put at the beginning of the room for paths. */
__noinline __s64 stack_put(__u32 buf, __u32 kind, __s64 got)
{
	struct hook_buf *b = buf_row(buf);
	__u64 n = got;
	void *to;

	if (!b || !(to = val_room(b, WORDS_MAX)))
		return -1;
	if (bounded(n) > WORDS_MAX)
		return val_error(b, 0, kind);
	if (bpf_probe_read_kernel(to, n, b->path))
		return val_error(b, 0, kind);
	return val_done(b, 0, kind, 0, n);
}

/* Appends the digest that the main function has put at the beginning of the room for paths. got: which algorithm made it, or
 * an error: then there is none to tell. */
__noinline __s64 hash_put(__u32 buf, __s64 got)
{
	struct hook_buf *b = buf_row(buf);
	struct val_ima *to;

	if (!b || got < 0 || !(to = val_room(b, sizeof(*to))))
		return -1;
	to->algo = got;
	if (bpf_probe_read_kernel(to->digest, sizeof(to->digest), b->path))
		return -1;
	return val_done(b, 0, VAL_IMA, 0, sizeof(*to));
}

#endif
