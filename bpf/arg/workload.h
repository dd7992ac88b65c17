/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Whether the current task is of the host, or in a container. */
#ifndef ARG_WORKLOAD_H
#define ARG_WORKLOAD_H

#include "../lib/cgroup.h"
#include "../lib/class.h"

/* What was found of cgroups: number of one, and in bit 0 whether it is of the host; the row is that of the number's low bits.
 * A cgroup is below the same others for as long as it lives, and its number is not used again, so what was found stays
 * right; what another one takes the place of is found again. Nobody has to tell the kernel half of a container before its
 * first process runs, and nobody has to be there for that.
 * race: a row is one word, written and read at once. */
#define CGROUP_ROWS 8192

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CGROUP_ROWS);
	__type(key, __u32);
	__type(value, __u64);
} cgroups SEC(".maps");

#define ID_DIGITS 64 /* of a container's id */
#define CGROUP_STEPS                                                                                                   \
	8192 /* characters of all names up to the root; a path in the cgroup file system can have half of that */

enum name_state {
	NAME_OTHER = 100, /* it is none, unless a new word begins */
	NAME_IS = 101,	  /* it is one, unless a new word begins */
};

struct cgroup_search {
	__u64 css, at; /* at: of the character */
	__u32 first;   /* step at which its name began */
	__u32 state;   /* how many digits there were, or enum name_state */
	__u32 found;   /* 1 it is a container, 2 it is none */
	__u32 pad;
};

/* bound: a zero of which the verifier does not know. Before 6.7 it looks at one step of a loop only: what it knows of the first
 * one it believes of all, and it takes out what the others would need. */
__u32 cgroup_zero = 0;

static __always_inline void cgroup_name(struct cgroup_search *s, __u32 n)
{
	__u64 cg = peek(struct cgroup_subsys_state, s->css, cgroup);

	s->at = peek(struct kernfs_node, peek(struct cgroup, cg, kn), name);
	s->first = n;
	s->state = cgroup_zero;
}

/* One character of a cgroup's name; at its end, on to the cgroup that it is in. The rule is that of containerID in
 * internal/event/enrich/text.go, which tells the id: behind the last colon or dash come 64 hexadecimal digits, and nothing
 * more or a dot. */
static long cgroup_step(__u32 n, struct cgroup_search *s)
{
	char c = n - s->first < CGROUP_NAME - 1 ? peek_at(s->at, 1) : 0;

	if (!c) {
		if (s->state == ID_DIGITS || s->state == NAME_IS) {
			s->found = 1;
			return 1;
		}
		s->css = peek(struct cgroup_subsys_state, s->css, parent);
		if (!s->css) {
			s->found = 2;
			return 1;
		}
		cgroup_name(s, n + 1);
		return 0;
	}
	s->at++;
	if (c == '-' || c == ':')
		s->state = 0;
	else if (s->state == ID_DIGITS)
		s->state = c == '.' ? NAME_IS : NAME_OTHER;
	else if (s->state < ID_DIGITS)
		s->state = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'f') ? s->state + 1 : NAME_OTHER;
	return 0;
}

static __always_inline __u64 host_find(__u64 cg)
{
	__u64 id = peek(struct kernfs_node, peek(struct cgroup, cg, kn), id);
	__u32 row = id % CGROUP_ROWS;
	__u64 *known = bpf_map_lookup_elem(&cgroups, &row), was = known ? *known : 0;
	struct cgroup_search s = { .css = cg + bpf_core_field_offset(struct cgroup, self) };

	if (was && was >> 1 == id)
		return was & 1;
	s.found = cgroup_zero;
	cgroup_name(&s, cgroup_zero);
	bpf_loop(CGROUP_STEPS, cgroup_step, &s, 0);
	/* What has so many cgroups above it that they are not all looked at is of the host: a policy that denies something holds. */
	if (known &&
	    (!sleeps || bpf_rcu_read_lock)) /* or the cgroup may have gone meanwhile, and what was read is wrong */
		*known = id << 1 | (s.found != 1);
	return s.found != 1;
}

/* 1 if the cgroup of the current task is no container's, and in none. */
__noinline __u64 task_host(void)
{
	__u64 is;

	if (!sleeps || !bpf_rcu_read_lock)
		return host_find(cgroup_mine());
	bpf_rcu_read_lock();
	is = host_find(cgroup_mine());
	bpf_rcu_read_unlock();
	return is;
}

#endif
