/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The end of a call that some rule wants: do what the first rule of each policy orders, then send the record. */
#ifndef STAGE_FINISH_H
#define STAGE_FINISH_H

#include "../arg/net.h"
#include "../lib/buf.h"
#include "../lib/class.h"
#include "../lib/ring.h"
#include "merge.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, RULE_ROWS);
	__type(key, __u32);
	__type(value, struct rule_stat);
} rule_stats SEC(".maps");

/* Which rules of each program are on; written through its mapping. */
struct slot_state slots[HOOK_SLOTS] = {};

struct limit_key {
	__u64 values; /* hash of the beginnings of the values */
	__u32 who;    /* thread or process; 0: all */
	__u32 stat;   /* row of the rule */
};

struct limit {
	__u64 last; /* when the last event was posted, boot clock */
	__u64 held; /* how many were held back since */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, struct limit_key);
	__type(value, struct limit);
} limits SEC(".maps");

#define LIMIT_WORDS 6 /* of each value that make a difference: 40 bytes, and 8 that come before a path */

struct hashing {
	__u64 values; /* bit n: value n counts */
	__u64 at;     /* offset in b->r of the value that is next */
	__u64 window;
	struct limit first;   /* what a new key begins with */
	struct limit_key key; /* its hash is under way */
};

static __always_inline __u64 mix(__u64 h, __u64 w)
{
	h = (h ^ w) * 0x9e3779b97f4a7c15ull;
	return h ^ h >> 32;
}

static long hash_value(__u32 i, struct loop *l)
{
	struct hashing *h = buf_work(struct hashing, l->b);
	__u64 pos = h->at, head, len, left, w;
	__u64 *v;

	if (i >= l->b->r.values || bounded(pos) > VAL_END)
		return 1;
	v = (void *)&l->b->r + pos;
	head = v[0];
	len = head >> 32;
	h->at = pos + 8 + ((len + 7) & ~7ull);
	if ((head >> 16 & 0xff) >= VAL_KERNEL_STACK || ((__u16)head < 64 && !(h->values >> (head & 63) & 1)))
		return 0;
	h->key.values = mix(h->key.values, head);
	for (int k = 0; k < LIMIT_WORDS; k++) {
		left = len - k * 8;
		if (len <= k * 8)
			break;
		w = v[k + 1];
		if (left < 8)
			w &= (1ull << left * 8) - 1;
		h->key.values = mix(h->key.values, w);
	}
	return 0;
}

#define HELD_BACK -1

/* Whether the rate limit of the rule in this row lets this call through: HELD_BACK, or how many were held back since the
 * last that was not. The window begins with the last event that was posted. */
__noinline __s64 limit_pass(__u32 buf, __u32 row)
{
	struct rule *r = bpf_map_lookup_elem(&rules, &row);
	struct loop l = { buf_row(buf) };
	struct hashing *h;
	struct limit *limit;
	__u64 was;

	if (!l.b || !r)
		return HELD_BACK;
	h = buf_work(struct hashing, l.b);
	h->values = r->values ? r->values : ~0ull;
	h->at = sizeof(struct rec_hook);
	h->window = r->limit_ms * 1000000ull;
	h->first.last = l.b->r.h.time;
	h->first.held = 0;
	h->key.values = 0;
	h->key.stat = r->stat;
	h->key.who = r->flags & RULE_SCOPE_GLOBAL ? 0 : r->flags & RULE_SCOPE_PROCESS ? l.b->r.h.pid : l.b->r.tid;
	bpf_loop(HOOK_RULES, hash_value, &l, 0);
	limit = bpf_map_lookup_elem(&limits, &h->key);
	/* Of threads that find the window over at the same time one posts: whoever makes the entry, or changes it. Without room for
	 * an entry all do. */
	if (!limit) {
		if (bpf_map_update_elem(&limits, &h->key, &h->first, BPF_NOEXIST) != -EEXIST)
			return 0;
		limit = bpf_map_lookup_elem(&limits, &h->key);
		if (!limit)
			return HELD_BACK;
	}
	was = limit->last;
	/* The other thread's time may be the later one: then the difference is negative. */
	if ((__s64)(h->first.last - was) < (__s64)h->window ||
	    __sync_val_compare_and_swap(&limit->last, was, h->first.last) != was) {
		__sync_fetch_and_add(&limit->held, 1);
		return HELD_BACK;
	}
	/* race: who is held back now counts for this event or for the next. */
	return __sync_lock_test_and_set(&limit->held, 0) & ~(1ull << 63);
}

/* Remembers, or forgets, who owns a socket, as the rule in this row says. */
__noinline __s64 sock_track(__u32 buf, __u32 row)
{
	struct rule *r = bpf_map_lookup_elem(&rules, &row);
	struct hook_buf *b = buf_row(buf);
	struct sock_key k = {};
	struct sock_owner o;
	__u64 i;

	if (!b || !r)
		return 0;
	k.policy = r->policy;
	o.ktime = b->r.h.ktime;
	o.pid = b->r.h.pid;
	o.tid = b->r.tid;
	i = (__u16)r->track;
	if (bounded(i) < BUF_SOCKS) {
		k.sock = b->socks[i];
		if (k.sock)
			bpf_map_update_elem(&socks, &k, &o, 0);
	}
	i = (__u16)r->untrack;
	if (bounded(i) < BUF_SOCKS) {
		k.sock = b->socks[i];
		if (k.sock)
			bpf_map_delete_elem(&socks, &k);
	}
	return 0;
}

struct finish {
	__u64 live;    /* rules of this word that are still to be looked at */
	__u64 post;    /* ... that post */
	__u64 monitor; /* ... whose orders are not carried out */
	__u32 word;
	__u32 next; /* rules below are done with */
	__u32 posts;
	__u32 baseline;
	__u32 held; /* entries behind the mask */
};

struct finish_loop {
	struct hook_buf *b;
	struct hook_call *c;
};

/* bound: in the buffer, for the reasons of buf_work, and apart from what limit_pass works on. */
static __always_inline struct finish *finish_state(struct hook_buf *b)
{
	return (struct finish *)b->finish;
}

_Static_assert(sizeof(struct finish) <= sizeof(((struct hook_buf *)0)->finish), "the buffer must hold it");

/* The lowest bit's number: a multiplication moves a different pattern to the top for each bit (de Bruijn), and there is no
 * instruction for it. */
static const __u8 bit_number[64] = { 0,	 1,  2,	 53, 3,	 7,  54, 27, 4,	 38, 41, 8,  34, 55, 48, 28,
				     62, 5,  39, 46, 44, 42, 22, 9,  24, 35, 59, 56, 49, 18, 29, 11,
				     63, 52, 6,	 26, 37, 40, 33, 47, 61, 45, 43, 21, 23, 58, 17, 10,
				     51, 25, 36, 32, 60, 20, 57, 16, 50, 31, 19, 15, 30, 14, 13, 12 };

static __always_inline __u32 lowest(__u64 w)
{
	return bit_number[(w & -w) * 0x022fdd63cc95386dull >> 58];
}

/* Where the words go that come behind the values. */
static __always_inline __u64 *finish_word(struct hook_buf *b, __u32 w)
{
	__u64 pos = b->pos;

	if (bounded(pos) > VAL_END + 8) /* bound: the words fit what is behind the values */
		pos = VAL_END + 8;
	return (void *)&b->r + pos + (w & (HOOK_TAIL - 1)) * 8;
}

/* ... word w of the mask of the rules that post. */
static __always_inline __u64 *finish_mask(struct hook_buf *b, __u32 w)
{
	return finish_word(b, w & (HOOK_WORDS - 1));
}

/* How many of them there are always. */
static __always_inline __u32 finish_fixed(struct hook_call *c)
{
	return c->enforces ? 2 * c->words + 1 : c->words;
}

/* Tells behind them how many events of a rule its rate limit held back. */
static __always_inline void finish_held(struct finish_loop *l, struct finish *f, __u32 rule, __u64 n)
{
	__u32 i = f->held;

	if (i >= HOOK_HELD)
		return;
	*finish_word(l->b, finish_fixed(l->c) + i) = rule | (n < ~0u ? n : ~0u) << 32;
	f->held = i + 1;
}

static __always_inline void finish_rule(struct finish_loop *l, struct finish *f)
{
	__u64 live = f->live;
	__u32 bit = lowest(live), n = f->word * 64 + bit, rule = l->c->base + n, row;
	struct rule *r = bpf_map_lookup_elem(&rules, &rule);
	struct rule_stat *s;
	__s64 held;

	f->live = live & (live - 1);
	if (n < f->next || !r)
		return;
	f->next = r->next; /* the first rule of a group decides */
	row = r->stat;
	s = bpf_map_lookup_elem(&rule_stats, &row);
	if (!s)
		return;
	__sync_fetch_and_add(&s->matched, 1); /* race: a program may be preempted by another on the same CPU */
	if (r->track >= 0 || r->untrack >= 0)
		sock_track(l->c->buf, rule);
	if (!(r->flags & RULE_POST)) {
		__sync_fetch_and_add(&s->nopost, 1);
		return;
	}
	if (r->limit_ms) {
		if (r->flags & RULE_MERGE) {
			if (merge_call(l->c->buf, rule, n)) {
				__sync_fetch_and_add(&s->merged, 1);
				return;
			}
			goto post;
		}
		held = limit_pass(l->c->buf, rule);
		if (held < 0) {
			__sync_fetch_and_add(&s->limited, 1);
			return;
		}
		if (held)
			finish_held(l, f, n, held);
	}
post:
	__sync_fetch_and_add(&s->posted, 1);
	f->baseline |= r->flags & RULE_BASELINE;
	f->post |= 1ull << bit;
	/* race: user space may change the mode after the verdict; the record of such a call says the new one */
	if (r->flags & RULE_MONITOR)
		f->monitor |= 1ull << bit;
	f->posts++;
}

static long finish_step(__u32 i, struct finish_loop *l)
{
	struct finish *f = finish_state(l->b);
	__u32 w;

	if (f->live)
		finish_rule(l, f);
	if (f->live)
		return 0;
	w = f->word;
	*finish_mask(l->b, w) = f->post;
	if (l->c->enforces)
		*finish_word(l->b, l->c->words + w) = f->monitor;
	f->word = ++w;
	if (w >= l->c->words || w >= HOOK_WORDS)
		return 1;
	f->post = f->monitor = 0;
	f->live = l->c->live[w & (HOOK_WORDS - 1)];
	return 0;
}

/* The record did not fit the ring: what was said to be posted is lost. */
static long lost_rule(__u32 n, struct finish_loop *l)
{
	__u32 w = n / 64, row = l->c->base + n;
	struct rule_stat *s;
	struct rule *r;

	if (w >= l->c->words)
		return 1;
	if (!(*finish_mask(l->b, w) >> n % 64 & 1))
		return 0;
	r = bpf_map_lookup_elem(&rules, &row);
	if (!r)
		return 0;
	row = r->stat;
	s = bpf_map_lookup_elem(&rule_stats, &row);
	if (s) {
		__sync_fetch_and_add(&s->posted, -1);
		__sync_fetch_and_add(&s->lost, 1);
	}
	return 0;
}

/* What the process is now is what later changes are told from. */
__noinline __s64 baseline_set(void)
{
	struct task_class *c = my_class();

	if (c)
		class_baseline(c, me());
	return 0;
}

/* Returns how many rules post. */
__noinline __s64 hook_finish(struct hook_call *c)
{
	struct finish_loop l = { .c = c };
	struct hook_buf *b;
	struct finish *f;
	__u64 id, size;

	if (!c)
		return 0;
	l.b = b = buf_row(c->buf);
	if (!b)
		return 0;
	id = bpf_get_current_pid_tgid();
	b->r.h.kind = REC_HOOK;
	b->r.h.flags = 0;
	b->r.h.pid = id >> 32;
	b->r.tid = id;
	b->r.h.time = bpf_ktime_get_boot_ns();
	b->r.h.ktime = my_ktime();
	b->r.program = c->program;
	b->r.words = c->words;
	f = finish_state(b);
	f->live = c->live[0];
	f->post = f->monitor = 0;
	f->word = f->next = 0;
	f->posts = f->baseline = f->held = 0;
	bpf_loop(HOOK_RULES + HOOK_WORDS, finish_step, &l, 0);
	if (!f->posts)
		return 0;
	size = b->pos + (finish_fixed(c) + f->held) * 8;
	if (c->enforces) {
		b->r.h.flags = c->error > 0 ? REC_F_VERDICT | REC_F_UNSET : REC_F_VERDICT;
		*finish_word(b, 2 * c->words) = c->sent;
	}
	if (bounded(size) > VAL_END + 8 + HOOK_TAIL * 8) /* bound: the output below */
		return 0;
	if (!ring_send(REC_HOOK, &b->r, size, b->r.h.time)) {
		bpf_loop(HOOK_RULES, lost_rule, &l, 0);
		return 0;
	}
	if (f->baseline)
		baseline_set();
	return f->posts;
}

#endif
