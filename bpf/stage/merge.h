/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Calls that a rule wants merged: the first is posted, equal ones after it are counted, until hook/merges.h tells how many. */
#ifndef STAGE_MERGE_H
#define STAGE_MERGE_H

#include "../lib/buf.h"
#include "../lib/ring.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RULE_ROWS);
	__type(key, __u32);
	__type(value, struct rule);
} rules SEC(".maps");

#define EEXIST 17 /* kernel: include/uapi/asm-generic/errno-base.h */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MERGE_ROWS);
	__type(key, struct merge_key);
	__type(value, struct merge);
} merges SEC(".maps");

/* Calls that were counted, and those of them that have been told; user space reads them through their mapping. What is
 * neither is in the table. */
__u64 merge_counted = 0;
__u64 merge_told = 0;
/* Calls that were posted because there was no room to count others equal to them. */
__u64 merge_full = 0;
/* Not 0: programs take turns, and two may see one call. All are posted then, as only records can be compared. */
__u32 merge_paused = 0;

/* In merge.count. What is below is the count; 2^62 calls take a century. */
#define MERGE_CLOSED (1ull << 63)
#define MERGE_GONE   (1ull << 62) /* ... and is being deleted */

/* Where the key is put together: behind all that the record may come to.
 * bound: what is written at any offset below MERGE_BYTES stays within slack. */
#define MERGE_AT 2048

_Static_assert(8 + HOOK_TAIL * 8 <= MERGE_AT, "the key must lie behind the words of the record");
_Static_assert(MERGE_AT + sizeof(struct merge_key) + MERGE_BYTES + sizeof(struct merge) <= BUF_SLACK,
	       "the key must have room");
_Static_assert(sizeof(((struct rec_hook_merged *)0)->v) == MERGE_BYTES + HOOK_WORDS * 8 + sizeof(struct rec_merged),
	       "");

static __always_inline struct merge_key *merge_key(struct hook_buf *b)
{
	return (void *)&b->slack[MERGE_AT];
}

static __always_inline struct merge *merge_fresh(struct hook_buf *b)
{
	return (void *)&b->slack[MERGE_AT + sizeof(struct merge_key) + MERGE_BYTES];
}

struct merging {
	__u64 values; /* bit n: value n is part of the key */
	__u64 at;     /* offset in b->r of the value that is next */
	__u64 size;   /* of those in the key */
	__u64 unfit;  /* they are too long, or no two are equal */
};

static long merge_value(__u32 i, struct loop *l)
{
	struct merging *w = buf_work(struct merging, l->b);
	struct merge_key *k = merge_key(l->b);
	__u64 pos = w->at, to = w->size, head, len;
	void *v;

	if (i >= l->b->r.values || bounded(pos) > VAL_END)
		return 1;
	v = (void *)&l->b->r + pos;
	head = *(__u64 *)v;
	len = head >> 32;
	w->at = pos + 8 + ((len + 7) & ~7ull);
	if ((head >> 16 & 0xff) >= VAL_KERNEL_STACK || ((__u16)head < 64 && !(w->values >> (head & 63) & 1)))
		return 0;
	len += 8;
	if (head >> 24 & VAL_F_AHEAD || bounded(to) > MERGE_BYTES || bounded(len) > MERGE_BYTES ||
	    to + len > MERGE_BYTES) {
		w->unfit = 1;
		return 1;
	}
	bpf_probe_read_kernel(&k->v[to], len, v);
	k->r.values++;
	w->size = to + ((len + 7) & ~7ull);
	return 0;
}

/* Whether the call is counted, and so need not be posted. n is the number of the rule in this row. */
__noinline __s64 merge_call(__u32 buf, __u32 row, __u32 n)
{
	struct rule *r = bpf_map_lookup_elem(&rules, &row);
	struct loop l = { buf_row(buf) };
	struct merging *w;
	struct merge *m, *fresh;
	struct merge_key *k;
	__u64 was, now;

	if (!l.b || !r || merge_paused)
		return 0;
	now = l.b->r.h.time;
	k = merge_key(l.b);
	__builtin_memset(k, 0, sizeof(*k));
	k->r = l.b->r;
	k->r.h.kind = REC_HOOK_MERGED;
	k->r.h.time = n;
	k->r.tid = 0;
	k->r.values = 0;
	w = buf_work(struct merging, l.b);
	w->values = r->values ? r->values : ~0ull;
	w->at = sizeof(struct rec_hook);
	w->size = w->unfit = 0;
	bpf_loop(HOOK_RULES, merge_value, &l, 0);
	if (w->unfit)
		return 0;
	m = bpf_map_lookup_elem(&merges, k);
	if (!m) {
		fresh = merge_fresh(l.b);
		fresh->count = fresh->first = fresh->last = fresh->turn = 0;
		fresh->began = now;
		fresh->window = r->limit_ms * 1000000ull;
		fresh->tid = l.b->r.tid;
		fresh->size = w->size;
		fresh->pad = 0;
		was = bpf_map_update_elem(&merges, k, fresh, BPF_NOEXIST);
		if (was != -EEXIST) {
			if (was)
				__sync_fetch_and_add(&merge_full, 1);
			return 0;
		}
		m = bpf_map_lookup_elem(&merges, k); /* another CPU was faster */
		if (!m)
			return 0;
	}
	was = m->count;
	if (was & MERGE_CLOSED) {
		/* The first of a new window. race: of several one opens it, and all are posted; none counts on one that is
		 * being deleted, as that cannot be opened. */
		if (!(was & MERGE_GONE) && __sync_val_compare_and_swap(&m->count, was, 0) == was) {
			m->began = now;
			m->tid = l.b->r.tid;
		}
		return 0;
	}
	/* race: it may be closed before the addition, which comes to nothing then. It is not deleted and used for another key before
	 * this program has ended, see merges.h. */
	was = __sync_fetch_and_add(&m->count, 1);
	if (was & MERGE_CLOSED)
		return 0;
	if (!was)
		m->first = now;
	m->last = now;
	__sync_fetch_and_add(&merge_counted, 1);
	return 1;
}

#endif
