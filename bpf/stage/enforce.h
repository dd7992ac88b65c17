/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What rules order that is done at once: signals to the current process, and the result that a call has to have.
 *
 * The generated main function finds the rules that decide and calls these, before it looks for a buffer: a verdict needs
 * no room for a record, and neither a rate limit nor NoPost touches it. First it asks every rule which signals it wants,
 * then sends them all, then has every rule count what became of its own. */
#ifndef STAGE_ENFORCE_H
#define STAGE_ENFORCE_H

#include "finish.h"

/* Signals that this rule wants to be sent. */
__noinline __u64 enforce_signals(__u32 row)
{
	struct rule *r = bpf_map_lookup_elem(&rules, &row);

	if (!r || r->flags & RULE_MONITOR)
		return 0;
	return r->signals;
}

#define KILL_BIT     (1ull << 8) /* kernel: SIGKILL is 9, bit 0 is signal 1 */
#define ENFORCE_SENT 6		 /* different signals that one call sends at most */

/* Sends signals to the current process and returns those that were taken. Where interrupts are off the kernel has room for
 * one signal: so SIGKILL, which makes all others pointless, goes alone. */
__noinline __u64 enforce_send(__u64 signals)
{
	__u64 sent = 0;
	__u32 n;

	if (signals & KILL_BIT)
		signals = KILL_BIT;
	for (int i = 0; i < ENFORCE_SENT; i++) {
		if (!signals)
			break;
		n = lowest(signals);
		if (!bpf_send_signal(n + 1))
			sent |= signals & -signals;
		signals &= signals - 1;
	}
	return sent;
}

/* Counts what a rule ordered, of which these signals were sent. Returns the error that the call has to have, or
 * ENFORCE_NONE. */
__noinline __s64 enforce_count(__u32 row, __u64 sent)
{
	struct rule *r = bpf_map_lookup_elem(&rules, &row);
	struct rule_stat *s;
	__u32 stat;

	if (!r)
		return ENFORCE_NONE;
	stat = r->stat;
	s = bpf_map_lookup_elem(&rule_stats, &stat);
	if (!s)
		return ENFORCE_NONE;
	if (r->flags & RULE_MONITOR) {
		if (r->signals)
			__sync_fetch_and_add(&s->monitor_signal, 1);
		if (r->flags & RULE_OVERRIDE)
			__sync_fetch_and_add(&s->monitor_override, 1);
		return ENFORCE_NONE;
	}
	if (r->signals & sent)
		__sync_fetch_and_add(&s->signal, 1);
	if (!(r->flags & RULE_OVERRIDE))
		return ENFORCE_NONE;
	__sync_fetch_and_add(&s->override, 1);
	return r->error;
}

#endif
