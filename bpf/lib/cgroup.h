/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which cgroup of a task says what container it is in. */
#ifndef LIB_CGROUP_H
#define LIB_CGROUP_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "peek.h"

#define CGROUP_NAME 128 /* room for the name of one */

/* Set before load. */
const volatile __s32 cgrp_subsys = -1; /* index in css_set.subsys of the hierarchy that names containers; -1 unified */

/* The leaf cgroup, in the hierarchy that names containers. */
static __always_inline struct kernfs_node *cgroup_node(struct css_set *cs)
{
	struct cgroup_subsys_state *css = NULL;

	if (cgrp_subsys < 0)
		return cs && cs->dfl_cgrp ? cs->dfl_cgrp->kn : NULL;
	bpf_probe_read_kernel(&css, sizeof(css),
			      (void *)cs + bpf_core_field_offset(struct css_set, subsys) + cgrp_subsys * 8);
	return BPF_CORE_READ(css, cgroup, kn);
}

/* The same of the current task, as an address; the cgroup itself, from which one gets to those that it is in. */
static __always_inline __u64 cgroup_mine(void)
{
	__u64 cs = peek(struct task_struct, bpf_get_current_task(), cgroups), css;

	if (cgrp_subsys < 0)
		return peek(struct css_set, cs, dfl_cgrp);
	css = peek_at(cs + bpf_core_field_offset(struct css_set, subsys) + cgrp_subsys * 8, 8);
	return peek(struct cgroup_subsys_state, css, cgroup);
}

#endif
