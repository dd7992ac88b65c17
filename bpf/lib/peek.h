/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Reading memory, and what has to be told to the verifier meanwhile. */
#ifndef LIB_PEEK_H
#define LIB_PEEK_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

/* bound: keeps the value in one register between a check and the use that the check is for. The compiler is free to check
 * a copy, and the verifier then knows nothing of the original. */
#define bounded(x)                                                                                                     \
	({                                                                                                             \
		asm volatile("" : "+r"(x));                                                                            \
		x;                                                                                                     \
	})

/* kernel: void *bpf_rdonly_cast(const void *obj, u32 btf_id)  6.2.. */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

/* The same pointer, but one that the verifier does not trust. For each load of a pointer through a trusted one it
 * searches all of the kernel's types by name, several times, on each path that leads there (kernel:
 * btf_nested_type_is_trusted, 6.2 to 6.18); that was 80 % of the time that the agent needed to start. Only what is handed
 * to a helper that asks for a task must be loaded through the trusted one. Costs nothing: the call becomes a move. */
#define plain(type, p)                                                                                                 \
	({                                                                                                             \
		type *_p = (p);                                                                                        \
		if (bpf_rdonly_cast)                                                                                   \
			_p = bpf_rdonly_cast(_p, bpf_core_type_id_kernel(type));                                       \
		_p;                                                                                                    \
	})

/* Up to eight bytes at an address that is a number; 0 if there is nothing. Where the kernel can turn a number into a
 * pointer that may be wrong, this is one load instead of a helper's hundred instructions. What is loaded is a number again,
 * whatever it points to: the type that we name has a number there. */
#define peek_at(addr, size)                                                                                            \
	({                                                                                                             \
		__u64 _v = 0, _a = (addr);                                                                             \
		if (bpf_rdonly_cast) {                                                                                 \
			void *_p = bpf_rdonly_cast((void *)_a, bpf_core_type_id_kernel(struct timespec64));            \
			_v = (size) == 8   ? *(__u64 *)_p                                                              \
			     : (size) == 4 ? *(__u32 *)_p                                                              \
			     : (size) == 2 ? *(__u16 *)_p                                                              \
					   : *(__u8 *)_p;                                                              \
		} else if (bpf_probe_read_kernel(&_v, size, (void *)_a)) {                                             \
			_v = 0;                                                                                        \
		}                                                                                                      \
		_v;                                                                                                    \
	})

/* A scalar member of a kernel object of which we have the address as a number. */
#define peek(type, addr, member)                                                                                       \
	peek_at((__u64)(addr) + bpf_core_field_offset(type, member), sizeof(((type *)0)->member))

/* Copies memory of which nobody knows whose it is: kernel addresses have the top bit set. An address that user space chose
 * does not get here with it: see Attach.FromUser in internal/policy/plan. */
static __always_inline long read_any(void *to, __u32 size, __u64 addr)
{
	if ((__s64)addr < 0)
		return bpf_probe_read_kernel(to, size, (void *)addr);
	return bpf_probe_read_user(to, size, (void *)addr);
}

static __always_inline long read_any_str(void *to, __u32 size, __u64 addr)
{
	if ((__s64)addr < 0)
		return bpf_probe_read_kernel_str(to, size, (void *)addr);
	long n = bpf_probe_read_user_str(to, size, (void *)addr);

	return n == 0 ? 1 : n; /* kernel: 6.1 and 6.12 do not count the terminator of an empty string of user memory */
}

#endif
