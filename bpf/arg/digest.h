/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Digests of files, that programs look up in a table of their own. */
#ifndef ARG_DIGEST_H
#define ARG_DIGEST_H

#include "../lib/buf.h"

#define VERITY_KEY (1ull << 32) /* in the first word of a key: fs-verity made the digest */

/* kernel: include/uapi/linux/bpf.h */
struct bpf_dynptr {
	__u64 opaque[2];
};

/* kernel: include/uapi/linux/fsverity.h */
struct verity_digest {
	__u16 algorithm;
	__u16 size;
	__u8 digest[IMA_DIGEST];
};

struct verity_key {
	__u64 algorithm;
	__u8 digest[IMA_DIGEST];
};

/* kernel: int bpf_get_fsverity_digest(struct file *file, struct bpf_dynptr *digest_p)  6.8.. */
extern int bpf_get_fsverity_digest(struct file *file, struct bpf_dynptr *digest_p) __ksym __weak;

/* Puts the key of the digest that fs-verity keeps with a file at the beginning of the room for paths; negative: it keeps none.
 * bound: static, as the verifier lets no pointer that it trusts into a global function. */
static __noinline __s64 verity_key(struct file *file, __u32 buf)
{
	struct hook_buf *b = buf_row(buf);
	struct verity_digest *from;
	struct verity_key *to;
	struct bpf_dynptr d;

	if (!b || !bpf_get_fsverity_digest)
		return -1;
	to = (void *)b->path;
	from = (void *)b->work;
	from->size = 0;
	if (bpf_dynptr_from_mem(from, sizeof(*from), 0, &d) || bpf_get_fsverity_digest(file, &d))
		return -1;
	to->algorithm = VERITY_KEY | from->algorithm;
	__builtin_memcpy(to->digest, from->digest, sizeof(to->digest)); /* kernel: 0 behind a short one */
	return 0;
}

#endif
