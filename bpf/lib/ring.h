/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The one way out of the kernel: the ring, and the account of what went in and what did not. */
#ifndef LIB_RING_H
#define LIB_RING_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include "../abi/record.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20); /* user space sets it */
} events SEC(".maps");

/* Global data rather than a map: user space reads and resets it through its mapping, without a system call, and an
 * increment costs three instructions. In a section of its own, which all objects share: user space puts the map of the
 * base sensor in its place.
 * race: rows are shared by all CPUs, hence the atomic adds; processes do not live and die often enough to contend. */
struct rec_count counts[REC_KINDS] SEC(".data.account")
= {};
/* Boot clock of the first loss since user space wrote 0 here; with counts.lost_last it dates a loss in the export. */
__u64 lost_first[REC_KINDS] SEC(".data.account")
= {};

/* Records that were held back (lib/rate.h); counts has only what was to be sent. */
__u64 held[REC_KINDS] SEC(".data.account")
= {};

/* User space writes 1 before it goes to sleep until its timer; whoever finds the ring filling up wakes it once.
 * A wake-up costs more than the whole exec program, so there is none below that.
 * race: two CPUs may both see 1 and wake twice; harmless. */
__u32 reader_sleeps SEC(".data.account")
= 0;
const volatile __u32 wake_bytes = 256 << 10;

static __always_inline void ring_lost(__u32 kind, __u64 now)
{
	__sync_fetch_and_add(&counts[kind].lost, 1);
	/* race: user space may clear lost_first between the test and the store: the loss is then dated a little late, and
	 * counted all the same */
	if (!lost_first[kind])
		lost_first[kind] = now;
	counts[kind].lost_last = now;
}

/* Finds room for a small record of fixed size, to be built in place; or counts it as lost. Only large records look
 * whether the reader must be woken: small ones do not fill a ring by themselves, and the look costs a tenth of the rest. */
#define ring_reserve(kind, type, now)                                                                                  \
	({                                                                                                             \
		type *_rec = bpf_ringbuf_reserve(&events, sizeof(type), 0);                                            \
		__sync_fetch_and_add(&counts[kind].seen, 1);                                                           \
		if (!_rec)                                                                                             \
			ring_lost(kind, now);                                                                          \
		_rec;                                                                                                  \
	})

/* Sends a record that has been built elsewhere, and counts it. Returns false if it is lost. */
static __always_inline bool ring_send(__u32 kind, void *rec, __u64 size, __u64 now)
{
	__u64 flags = BPF_RB_NO_WAKEUP;

	if (reader_sleeps && bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > wake_bytes) {
		reader_sleeps = 0;
		flags = BPF_RB_FORCE_WAKEUP;
	}
	__sync_fetch_and_add(&counts[kind].seen, 1);
	if (bpf_ringbuf_output(&events, rec, size, flags)) {
		ring_lost(kind, now);
		return false;
	}
	return true;
}

#endif
