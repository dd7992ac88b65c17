/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A limit for the forks and execs of each cgroup on each CPU. What is over it is held back and counted; the state of
 * processes is kept all the same. User space ends it (internal/sensor/rate.go). */
#ifndef LIB_RATE_H
#define LIB_RATE_H

#include "proc.h"

/* Set before load; 0 records: no limit, and the verifier cuts all of this out. */
const volatile __u64 rate_records = 0;
const volatile __u64 rate_window = 0; /* ns */

/* Old cgroups make room by themselves. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, 1); /* user space sets more where there is a limit */
	__type(key, __u64);	/* id of the cgroup */
	__type(value, struct cgrp_rate);
} rates SEC(".maps");

/* Tells user space that a cgroup is held back from now on. */
static __noinline long rate_tell(struct kernfs_node *kn, __u64 id, __u64 now)
{
	struct rec_throttle r = { .h.kind = REC_THROTTLE, .h.time = now, .cgroup = id };
	const char *name = BPF_CORE_READ(kn, name);
	long n = bpf_probe_read_kernel_str(r.name, CGROUP_NAME, name);

	if (n > 0)
		r.name_len = n - 1;
	else
		r.h.flags |= REC_F_BAD_CGROUP;
	ring_send(REC_THROTTLE, &r, sizeof(r), now);
	return 0;
}

/* Whether a record of this kind is held back.
 * race: a program may interrupt another one on this CPU only from an interrupt, where nothing forks or execs; user space
 * resets entries, and loses a record or two of the estimate with it. */
static __always_inline bool rate_holds(__u32 kind, struct css_set *cs, __u64 now)
{
	struct kernfs_node *kn;
	struct cgrp_rate *c, fresh = { .begin = now };
	__u64 id, age;

	if (!rate_records || !rate_window)
		return false;
	kn = cgroup_node(cs);
	id = kn ? BPF_CORE_READ(kn, id) : 0;
	if (!id)
		return false;
	c = bpf_map_lookup_elem(&rates, &id);
	if (!c) {
		bpf_map_update_elem(&rates, &id, &fresh, 0);
		c = bpf_map_lookup_elem(&rates, &id);
		if (!c)
			return false;
	}
	age = now - c->begin;
	if (age >= rate_window) {
		/* The window before counts for the part of it that still lies within one window of now. */
		c->before = age < 2 * rate_window ? c->count : 0;
		c->count = 0;
		c->begin = age < 2 * rate_window ? c->begin + rate_window : now;
		age = now - c->begin;
	}
	c->count++;
	c->last = now;
	if (!c->held_since) {
		if (c->before * (rate_window - age) / rate_window + c->count <= rate_records)
			return false;
		c->held_since = now;
		rate_tell(kn, id, now);
	}
	__sync_fetch_and_add(&held[kind], 1);
	return true;
}

#endif
