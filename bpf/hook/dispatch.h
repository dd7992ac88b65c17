/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* System calls on kernels where their functions cannot be hooked: one program at each of the two tracepoints that all calls
 * pass, which goes on to the bodies of those that somebody wants. A call that nobody wants costs a test of a bit. */
#ifndef HOOK_DISPATCH_H
#define HOOK_DISPATCH_H

#include "../arg/task.h"

#define SYS_NUMBERS 512
#define SYS_BODIES  256

enum sys_dir {
	SYS_ENTER,
	SYS_EXIT,
	SYS_DIRS
};

__u64 sys_wanted[SYS_DIRS][2][SYS_NUMBERS / 64] = {}; /* by way, 32-bit or not, number */
__u16 body_first[SYS_DIRS][2][SYS_NUMBERS] = {};      /* body that comes first for a call */
__u16 body_next[SYS_DIRS][SYS_BODIES] = {};	      /* body that comes after a body; 0 none */

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, SYS_BODIES);
	__type(key, __u32);
	__type(value, __u32);
} enter_bodies SEC(".maps"), exit_bodies SEC(".maps");

static __always_inline __u32 body_of(__u32 dir, __u32 nr)
{
	__u32 compat;

	if (nr >= SYS_NUMBERS)
		return 0;
	if (!((sys_wanted[dir][0][nr / 64] | sys_wanted[dir][1][nr / 64]) >> nr % 64 & 1))
		return 0;
	compat = task_compat();
	if (bounded(compat) > 1) /* bound: the index below */
		return 0;
	if (!(sys_wanted[dir][compat][nr / 64] >> nr % 64 & 1))
		return 0;
	return body_first[dir][compat][nr];
}

/* kernel: void sys_enter(struct pt_regs *regs, long id)  3.x.. */
SEC("raw_tp/sys_enter")
int sys_enter_all(__u64 *ctx)
{
	__u32 body = body_of(SYS_ENTER, ctx[1]);

	if (body)
		bpf_tail_call(ctx, &enter_bodies, body);
	return 0;
}

/* kernel: void sys_exit(struct pt_regs *regs, long ret)  3.x.. */
SEC("raw_tp/sys_exit")
int sys_exit_all(__u64 *ctx)
{
	long nr = -1;

#ifdef __TARGET_ARCH_x86
	bpf_probe_read_kernel(&nr, sizeof(nr), (void *)ctx[0] + 120); /* kernel: pt_regs.orig_ax */
#else
	bpf_probe_read_kernel(&nr, sizeof(nr), (void *)ctx[0] + 64); /* kernel: pt_regs.regs[8] */
#endif
	__u32 body = body_of(SYS_EXIT, nr);

	if (body)
		bpf_tail_call(ctx, &exit_bodies, body);
	return 0;
}

#endif
