/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* System calls, on kernels whose functions cannot be hooked: one program at each of the two tracepoints that all calls pass,
 * which goes on to the bodies that want this one. A call that nobody wants costs the test of a bit, and no helper. */
#ifndef HOOK_DISPATCH_H
#define HOOK_DISPATCH_H

#include "../arg/task.h"

#define X32_BIT (1 << 30) /* kernel: __X32_SYSCALL_BIT: the same calls with short pointers */

enum sys_dir {
	SYS_ENTER,
	SYS_EXIT,
	SYS_DIRS
};

/* By direction, ABI (0 native, 1 of 32 bits) and number. Written by user space through their mapping, body_next and
 * body_first before sys_wanted. Body 0 is none. */
__u64 sys_wanted[SYS_DIRS][2][SYS_NUMBERS / 64] = {};
__u16 body_first[SYS_DIRS][2][SYS_NUMBERS] = {};
/* By direction and body: the one that comes after it. */
__u16 body_next[SYS_DIRS][SYS_BODIES] = {};

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, SYS_BODIES);
	__type(key, __u32);
	__type(value, __u32);
} enter_bodies SEC(".maps")
, exit_bodies SEC(".maps");

static __always_inline __u32 body_of(__u32 dir, __u32 nr)
{
	__u32 w, abi;

	nr &= ~X32_BIT;
	if (bounded(nr) >= SYS_NUMBERS)
		return 0;
	w = nr / 64;
	if (!((sys_wanted[dir][0][w] | sys_wanted[dir][1][w]) >> nr % 64 & 1))
		return 0;
	abi = task_compat();
	abi = bounded(abi) & 1; /* bound: the index below */
	if (!(sys_wanted[dir][abi][w] >> nr % 64 & 1))
		return 0;
	return body_first[dir][abi][nr];
}

/* kernel: void sys_enter(struct pt_regs *regs, long id)  2.6.. */
SEC("raw_tp/sys_enter")
int sys_enter_all(__u64 *ctx)
{
	__u32 body = body_of(SYS_ENTER, ctx[1]);

	if (body)
		bpf_tail_call(ctx, &enter_bodies, body);
	return 0;
}

/* kernel: void sys_exit(struct pt_regs *regs, long ret)  2.6.. */
SEC("raw_tp/sys_exit")
int sys_exit_all(__u64 *ctx)
{
	struct pt_regs___x86 *x = NULL;
	__u32 nr, body;

	if (bpf_core_field_exists(x->orig_ax))
		nr = peek(struct pt_regs___x86, ctx[0], orig_ax);
	else
		nr = peek(struct pt_regs___arm64, ctx[0], syscallno);
	body = body_of(SYS_EXIT, nr);
	if (body)
		bpf_tail_call(ctx, &exit_bodies, body);
	return 0;
}

#endif
