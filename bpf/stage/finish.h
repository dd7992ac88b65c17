/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The end of a call that some rule wants: do what the first rule of each policy orders, then send the record. */
#ifndef STAGE_FINISH_H
#define STAGE_FINISH_H

#include "buf.h"
#include "class.h"
#include "../arg/net.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RULE_ROWS);
	__type(key, __u32);
	__type(value, struct rule);
} rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, RULE_ROWS);
	__type(key, __u32);
	__type(value, struct rule_stat);
} rule_stats SEC(".maps");

/* Which rules of each program are on; written through its mapping. */
struct slot_state slots[HOOK_SLOTS] = {};

struct limit_key {
	__u64 args; /* hash of the beginnings of all values */
	__u64 who;  /* thread or process; 0 all */
	__u32 stat;
	__u32 pad;
};

struct limit {
	__u64 last; /* boot clock, when an event was let through */
	__u64 suppressed;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, struct limit_key);
	__type(value, struct limit);
} limits SEC(".maps");

#define LIMIT_BYTES 40 /* of each value that tell calls apart */

/* bound: position and hash are kept in the buffer, of which the verifier knows nothing. On the stack it would follow every
 * sum of lengths that there can be, which are 75,000 instructions. */
struct hash_values {
	struct hook_buf *b;
};
#define hash_pos(b)  ((b)->sets[0])
#define hash_word(b) ((b)->sets[1])

static long hash_value(__u32 i, struct hash_values *h)
{
	struct hook_buf *b = h->b;
	__u64 pos = hash_pos(b), len, hash;
	struct rec_value *v;
	__u64 *w;

	if (i >= b->r.values || bounded(pos) > VALUES_END - 8 - LIMIT_BYTES)
		return 1;
	v = (void *)&b->r + pos;
	w = (__u64 *)(v + 1);
	len = v->len;
	hash = (hash_word(b) ^ v->kind ^ len << 8) * 0x9e3779b97f4a7c15;
	for (int k = 0; k < LIMIT_BYTES / 8; k++) {
		__u64 x = w[k];

		if (len <= k * 8)
			break;
		if (len < k * 8 + 8)
			x &= (1ull << (len - k * 8) * 8) - 1;
		hash = (hash ^ x) * 0x9e3779b97f4a7c15;
		hash ^= hash >> 29;
	}
	hash_word(b) = hash;
	hash_pos(b) = pos + 8 + ((len + 7) & ~7ull);
	return 0;
}

/* The beginnings of all values, as one number. */
__noinline __u64 values_hash(__u32 buf)
{
	struct hash_values h = { .b = buf_get(buf) };

	if (!h.b)
		return 0;
	hash_pos(h.b) = sizeof(struct rec_hook);
	hash_word(h.b) = 0;
	bpf_loop(64, hash_value, &h, 0);
	return hash_word(h.b);
}

/* Whether the rule's rate limit lets this call through. */
__noinline __u64 limit_pass(__u32 buf, __u32 row)
{
	struct rule *r = bpf_map_lookup_elem(&rules, &row);
	struct hook_buf *b = buf_get(buf);
	struct limit_key k = {};
	struct limit fresh = {}, *l;
	__u64 id = bpf_get_current_pid_tgid(), now;

	if (!r || !b)
		return 1;
	k.stat = r->stat;
	if (!(r->flags & RULE_SCOPE_GLOBAL))
		k.who = r->flags & RULE_SCOPE_PROCESS ? id >> 32 : (__u32)id;
	k.args = values_hash(buf);
	now = b->r.h.time;
	l = bpf_map_lookup_elem(&limits, &k);
	if (l) {
		/* race: two CPUs may both let one through at the end of the interval; harmless */
		if (now - l->last < r->limit_ms * 1000000ull) {
			__sync_fetch_and_add(&l->suppressed, 1);
			return 0;
		}
		l->last = now;
		return 1;
	}
	fresh.last = now;
	bpf_map_update_elem(&limits, &k, &fresh, 0);
	return 1;
}

/* Remembers, or forgets, that the current task owns a socket. */
__noinline __u64 sock_track(__u32 buf, __u32 index, __u32 policy, __u32 forget)
{
	struct hook_buf *b = buf_get(buf);
	struct sock_key k = { .policy = policy };
	struct sock_owner o = {};

	if (!b || index >= BUF_SOCKS)
		return 0;
	k.sock = b->socks[index];
	if (!k.sock)
		return 0;
	if (forget)
		return bpf_map_delete_elem(&socks, &k);
	o.ktime = b->r.h.ktime;
	o.pid = b->r.h.pid;
	o.tid = b->r.tid;
	return bpf_map_update_elem(&socks, &k, &o, 0);
}

/* What the process is now becomes what it is compared with. */
__noinline __u64 class_rebase(void)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct task_class *c = bpf_task_storage_get(&classes, t->group_leader, NULL, 0);

	if (c)
		class_baseline(c, t);
	return 0;
}

#define ACT_POST 1

/* Does what the rule in this row orders. Returns the first rule behind its group in the upper half, and ACT_POST. */
__noinline __u64 rule_act(__u32 buf, __u32 row)
{
	struct rule *r = bpf_map_lookup_elem(&rules, &row);
	struct rule_stat *s;
	__u64 next;

	if (!r)
		return 0;
	next = (__u64)r->next << 32;
	row = row & (RULE_ROWS - 1);
	__u32 stat = r->stat;

	s = bpf_map_lookup_elem(&rule_stats, &stat);
	if (!s)
		return next;
	s->matched++;
	if (r->track >= 0)
		sock_track(buf, r->track, r->policy, 0);
	if (r->untrack >= 0)
		sock_track(buf, r->untrack, r->policy, 1);
	if (!(r->flags & RULE_POST)) {
		s->nopost++;
		return next;
	}
	if (r->limit_ms && !limit_pass(buf, row)) {
		s->limited++;
		return next;
	}
	if (r->flags & RULE_BASELINE)
		class_rebase();
	s->posted++;
	return next | ACT_POST;
}

/* The number of the lowest bit; by halves, as there is no instruction for it. */
static __always_inline __u32 lowest(__u64 w)
{
	__u32 n = 0;

	if (!(w & 0xffffffff)) {
		n = 32;
		w >>= 32;
	}
	if (!(w & 0xffff)) {
		n += 16;
		w >>= 16;
	}
	if (!(w & 0xff)) {
		n += 8;
		w >>= 8;
	}
	if (!(w & 0xf)) {
		n += 4;
		w >>= 4;
	}
	if (!(w & 3)) {
		n += 2;
		w >>= 2;
	}
	return n + !(w & 1);
}

struct finish {
	__u64 live, post; /* of the word under way */
	__u32 buf, base;  /* base: row of the word's first rule */
	__u32 first;	  /* rule of the program that the word begins with */
	__u32 skip;	  /* rules below are done with: the first of a group decides */
	__u32 posts;
};

static long finish_rule(__u32 n, struct finish *f)
{
	__u64 act;
	__u32 bit;

	if (!f->live)
		return 1;
	bit = lowest(f->live);
	f->live &= f->live - 1;
	if (f->first + bit < f->skip)
		return 0;
	act = rule_act(f->buf, f->base + bit);
	f->skip = act >> 32;
	if (act & ACT_POST) {
		f->post |= 1ull << (bit & 63);
		f->posts = 1;
	}
	return 0;
}

struct finish_words {
	struct finish f;
	struct hook_buf *b;
	struct hook_call *c;
};

static long finish_word(__u32 w, struct finish_words *s)
{
	__u64 pos = s->b->pos + w * 8;

	if (w >= s->c->words || w >= HOOK_WORDS)
		return 1;
	s->f.first = w * 64;
	s->f.base = s->c->base + w * 64;
	s->f.live = s->c->live[w & (HOOK_WORDS - 1)];
	s->f.post = 0;
	if (s->f.live)
		bpf_loop(64, finish_rule, &s->f, 0);
	if (bounded(pos) > VALUES_END) /* bound: behind the values is room for the words */
		return 1;
	*(__u64 *)((char *)&s->b->r + pos) = s->f.post;
	return 0;
}

__noinline __s64 hook_finish(struct hook_call *c)
{
	struct task_struct *t = bpf_get_current_task_btf();
	__u64 id = bpf_get_current_pid_tgid(), size, pos, act;
	struct hook_buf *b;
	struct proc *p;
	__u32 words, buf;

	if (!c)
		return 0;
	buf = c->buf;
	b = buf_get(buf);
	if (!b)
		return 0;
	p = bpf_task_storage_get(&procs, t->group_leader, NULL, 0);
	b->r.h.kind = REC_HOOK;
	b->r.h.flags = 0;
	b->r.h.pid = id >> 32;
	b->r.h.time = bpf_ktime_get_boot_ns();
	b->r.h.ktime = p ? p->ktime : 0;
	b->r.tid = id;
	b->r.program = c->program;
	words = c->words;
	b->r.words = words;
	if (words == 1 && !(c->live[0] & (c->live[0] - 1))) { /* one rule: the usual case, without the loops */
		act = rule_act(buf, c->base + lowest(c->live[0]));
		if (!(act & ACT_POST))
			return 0;
		pos = b->pos;
		if (bounded(pos) > VALUES_END)
			return 0;
		*(__u64 *)((char *)&b->r + pos) = c->live[0];
	} else {
		struct finish_words s = { .b = b, .c = c };

		s.f.buf = buf;
		bpf_loop(HOOK_WORDS, finish_word, &s, 0);
		if (!s.f.posts)
			return 0;
	}
	size = b->pos + words * 8;
	if (bounded(size) > VALUES_END + 64 || size < sizeof(struct rec_hook))
		return 0;
	ring_send(REC_HOOK, &b->r, size, b->r.h.time);
	return 0;
}

#endif
