/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Tells how many calls were merged (stage/merge.h). User space runs it from time to time, and when hooks go. */
#ifndef HOOK_MERGES_H
#define HOOK_MERGES_H

#include "../stage/merge.h"

/* Processes that have ended, or are no longer what they were: nothing equal comes any more. User space fills it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MERGE_ENDED);
	__type(key, __u32);
	__type(value, __u32);
} merges_ended SEC(".maps");

struct sweeping {
	__u64 now;
	__u64 program; /* whose calls are told; 0: those whose window is over */
	__u64 turn;
	__u64 all; /* ... whosever they are */
	__u64 left;
};

/* Whether the time has come to tell of these calls. */
static __always_inline bool merge_due(struct merge_key *k, struct merge *m, struct sweeping *s)
{
	__u32 pid = k->r.h.pid;

	if (s->program)
		return k->r.program == s->program;
	if (s->all || (__s64)(s->now - m->began) >= (__s64)m->window)
		return true;
	return bpf_map_lookup_elem(&merges_ended, &pid) != NULL;
}

static __always_inline void merge_tell(struct rec_hook_merged *to, struct merge_key *k, struct merge *m, __u64 count)
{
	__u64 rule = k->r.h.time, began = m->began, first = m->first, last = m->last, at = m->size;
	struct rec_merged *tail;
	__u32 words = k->r.words;

	__builtin_memset(to, 0, sizeof(*to));
	__builtin_memcpy(to, k, sizeof(*k));
	/* race: who counted first may not have said when. */
	if (first < began)
		first = began;
	if (last < first)
		last = first;
	to->r.h.time = last;
	to->r.tid = m->tid;
	if (bounded(at) > MERGE_BYTES) /* bound: what is written below */
		return;
	if (bounded(rule) < HOOK_RULES)
		*(__u64 *)&to->v[at + rule / 64 * 8] = 1ull << rule % 64;
	if (bounded(words) > HOOK_WORDS)
		return;
	tail = (void *)&to->v[at + words * 8];
	tail->count = count;
	tail->first = first;
	tail->last = last;
}

static long merge_sweep_one(struct bpf_map *map, struct merge_key *k, struct merge *m, struct sweeping *s)
{
	struct rec_hook_merged *to;
	__u64 was = m->count;

	if (was & MERGE_CLOSED) {
		/* Nothing came since the sweep before this one, and who found it open then has ended: user space waits for that in
		 * between. race: a call may open it now; then it stays. */
		if (m->turn != s->turn && !(was & MERGE_GONE) &&
		    __sync_val_compare_and_swap(&m->count, was, was | MERGE_GONE) == was)
			bpf_map_delete_elem(map, k);
		return 0;
	}
	if (!merge_due(k, m, s))
		return 0;
	/* Room comes first: what has been closed must be told. */
	to = bpf_ringbuf_reserve(&events, sizeof(*to), 0);
	if (!to) {
		s->left++;
		return 0;
	}
	m->turn = s->turn;
	was = __sync_lock_test_and_set(&m->count, MERGE_CLOSED);
	if (!was || was & MERGE_CLOSED) { /* there were none; or two sweeps met */
		bpf_ringbuf_discard(to, BPF_RB_NO_WAKEUP);
		return 0;
	}
	merge_tell(to, k, m, was);
	__sync_fetch_and_add(&counts[REC_HOOK_MERGED].seen, 1);
	__sync_fetch_and_add(&merge_told, was);
	bpf_ringbuf_submit(to, BPF_RB_NO_WAKEUP);
	return 0;
}

/* Returns how many entries had to be left because the ring had no room for them. */
SEC("raw_tp/merge_sweep")
int merge_sweep(__u64 *ctx)
{
	struct sweeping s = { .now = ctx[0], .program = ctx[1], .turn = ctx[2], .all = ctx[3] };

	bpf_for_each_map_elem(&merges, merge_sweep_one, &s, 0);
	return s.left;
}

#endif
