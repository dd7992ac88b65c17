/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What one program orders and another one, later in the same thread, carries out. */
#ifndef LIB_VERDICT_H
#define LIB_VERDICT_H

#include "class.h"

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct verdicts);
} verdicts SEC(".maps");

/* For the kernels on which classes are in a table, for the same reason. Nothing is ever evicted: who is denied something must
 * not get rid of that by having others denied as well. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536); /* user space makes it small where it is not used */
	__type(key, struct class_key);
	__type(value, struct verdicts);
} verdicts_hash SEC(".maps");

/* What a new row of the table begins with. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct verdicts);
} verdicts_empty SEC(".maps");

/* To look at a thread's verdicts costs 150 instructions. So they are counted, and most calls look here alone. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct orders);
} orders SEC(".maps");

static __always_inline struct orders *all_orders(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&orders, &zero);
}

/* The cell of a thread, by the address of its task: that stays what it is until the task is freed, which its number does not. */
static __always_inline __u32 *order_cell(struct orders *o, __u64 task)
{
	return &o->of[task * 0x9e3779b97f4a7c15ull >> 52 & (ORDER_CELLS - 1)];
}

/* Whether anything may be ordered of the current thread. */
static __always_inline bool ordered(void)
{
	struct orders *o = all_orders();

	if (!o)
		return true; /* bound: the row exists */
	return o->all && *order_cell(o, bpf_get_current_task());
}

/* Takes a verdict's place, or frees it with id 0, for a thread. Returns whose it was. It is counted before it is there, and until it
 * is gone. */
static __always_inline __u64 verdict_own(struct verdict *v, __u64 id, __u64 task)
{
	struct orders *o = all_orders();
	__u64 was;

	if (!o)
		return 0; /* bound: the row exists */
	if (id) {
		__sync_fetch_and_add(&o->all, 1);
		__sync_fetch_and_add(order_cell(o, task), 1);
	}
	was = __sync_lock_test_and_set(&v->id, id);
	if (was) {
		__sync_fetch_and_add(order_cell(o, task), -1);
		__sync_fetch_and_add(&o->all, -1);
	}
	return was;
}

static __always_inline struct class_key verdict_key(struct task_struct *t)
{
	struct class_key k = { .start = t->start_boottime, .pid = t->pid };

	return k;
}

/* What is kept of a thread, NULL if nothing is. */
static __always_inline struct verdicts *verdicts_of(struct task_struct *t)
{
	if (class_hash) {
		struct class_key k = verdict_key(t);

		return bpf_map_lookup_elem(&verdicts_hash, &k);
	}
	return bpf_task_storage_get(&verdicts, t, NULL, 0);
}

static __always_inline struct verdicts *my_verdicts(void)
{
	return verdicts_of(bpf_get_current_task_btf());
}

/* ... and it is made if need be. */
static __always_inline struct verdicts *make_verdicts(void)
{
	struct task_struct *t = bpf_get_current_task_btf();

	if (class_hash) {
		struct class_key k = verdict_key(t);
		struct verdicts *v = bpf_map_lookup_elem(&verdicts_hash, &k), *empty;
		__u32 zero = 0;

		if (v)
			return v;
		empty = bpf_map_lookup_elem(&verdicts_empty, &zero);
		if (!empty)
			return NULL;
		bpf_map_update_elem(&verdicts_hash, &k, empty, BPF_NOEXIST);
		return bpf_map_lookup_elem(&verdicts_hash, &k);
	}
	return bpf_task_storage_get(&verdicts, t, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
}

#endif
