/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Takes a buffer for the time of one call, and gives it back. */
#ifndef STAGE_BUF_H
#define STAGE_BUF_H

#include "../lib/buf.h"
#include "../lib/ring.h"

#define BUF_TRIES 64

struct buf_search {
	__u32 row, found;
};

static long buf_try(__u32 i, struct buf_search *s)
{
	struct hook_buf *b = buf_row(s->row);

	if (!b) {
		if (!s->row)
			return 1;
		s->row = 0;
		return 0;
	}
	if (!b->busy && !__sync_lock_test_and_set(&b->busy, 1)) {
		s->found = 1;
		return 1;
	}
	s->row++;
	return 0;
}

static __always_inline __s64 buf_new(struct hook_buf *b, __u32 row)
{
	b->pos = sizeof(struct rec_hook);
	b->r.values = 0;
	b->r.which = 0;
	return row;
}

/* Returns the row of a free buffer. If there is none the call is counted as lost and the result is -1.
 * race: a program may be interrupted by another one, which finds the row busy and takes the next. If so many programs
 * preempt each other on one CPU that its own rows are used up, those of other CPUs do as well: a row is whose who set busy. */
__noinline __s64 buf_take(void)
{
	struct buf_search s = { .row = bpf_get_smp_processor_id() * BUF_LEVELS };
	struct hook_buf *b = buf_row(s.row);

	if (b && !b->busy && !__sync_lock_test_and_set(&b->busy, 1))
		return buf_new(b, s.row);
	bpf_loop(BUF_TRIES, buf_try, &s, 0);
	if (s.found) {
		b = buf_row(s.row);
		if (b)
			return buf_new(b, s.row);
	}
	__sync_fetch_and_add(&counts[REC_HOOK].seen, 1);
	ring_lost(REC_HOOK, bpf_ktime_get_boot_ns());
	return -1;
}

__noinline __u64 buf_give(__u32 buf)
{
	struct hook_buf *b = buf_row(buf);

	if (b)
		__sync_lock_test_and_set(&b->busy,
					 0); /* race: all that was written before is seen by who takes it next */
	return 0;
}

#endif
