/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What rules order that is done at once: signals to the current process, and the result that a call has to have.
 *
 * The generated main function finds the rules that decide and calls these, before it looks for a buffer: a verdict needs
 * no room for a record, and neither a rate limit nor NoPost touches it. First it asks every rule which signals it wants,
 * then sends them all, then has every rule count what became of its own. */
#ifndef STAGE_ENFORCE_H
#define STAGE_ENFORCE_H

#include "../arg/task.h"
#include "../lib/verdict.h"
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
		if (r->flags & RULE_SET)
			__sync_fetch_and_add(&s->monitor_set, 1);
		return ENFORCE_NONE;
	}
	if (r->signals & sent)
		__sync_fetch_and_add(&s->signal, 1);
	if (!(r->flags & RULE_OVERRIDE))
		return ENFORCE_NONE;
	if (!(r->flags & RULE_LATER))
		__sync_fetch_and_add(&s->override, 1);
	return r->error;
}

/* The number of the system call that the current thread is in, bit 31 set if it is a 32-bit one. */
static __always_inline __u32 call_now(void)
{
	__u64 regs = bpf_task_pt_regs(bpf_get_current_task_btf());
	struct pt_regs___x86 *x = NULL;
	__u32 nr;

	if (bpf_core_field_exists(x->orig_ax))
		nr = peek(struct pt_regs___x86, regs, orig_ax);
	else
		nr = peek(struct pt_regs___arm64, regs, syscallno);
	return nr | task_compat() << 31;
}

/* A call begins of which something may be ordered, or what was ordered has been carried out: what was ordered under this id is over. */
__noinline __s64 verdict_drop(__u64 id)
{
	struct verdicts *v;

	if (!ordered())
		return 0;
	v = my_verdicts();
	if (!v)
		return 0;
	for (int i = 0; i < VERDICTS; i++)
		if (v->v[i].id == id)
			verdict_own(&v->v[i], 0, bpf_get_current_task());
	return 0;
}

/* The number of the current thread's place for a verdict of the system call under way: of the one under the same id, or one that
 * is free or holds for a call that is over; -1 if there is none. A function of its own, as the verifier need not see which. */
__noinline __s64 verdict_place(__u64 id)
{
	struct verdicts *v = make_verdicts();
	__u32 now = call_now();
	__s64 to = -1;

	if (!v)
		return to;
	for (int i = 0; i < VERDICTS; i++)
		if (!v->v[i].id || (v->v[i].call != now && v->v[i].call != VERDICT_ANY))
			to = i;
	for (int i = 0; i < VERDICTS; i++)
		if (v->v[i].id == id)
			to = i;
	return to;
}

/* Orders something under an id, for a system call. If it cannot be kept the process is killed: what was ordered is that a call
 * does not take place. race: only the thread itself looks at its verdicts; those of calls that it has left are over. true: it
 * takes the place of another one under this id. */
static __always_inline bool verdict_put(__u64 id, __s32 error, __u64 signals, __u32 call)
{
	__s64 at = verdict_place(id);
	struct verdicts *v = my_verdicts();
	struct verdict *to;

	if (!v || at < 0 || at >= VERDICTS) {
		bpf_send_signal(9);
		return false;
	}
	to = &v->v[at];
	to->error = error;
	to->signals = signals;
	to->call = call;
	return verdict_own(to, id, bpf_get_current_task()) == id;
}

/* Keeps an error for those who are asked in the system call under way. */
__noinline __s64 verdict_keep(__u64 id, __s64 error)
{
	verdict_put(id, error, 0, call_now());
	return 0;
}

/* Keeps an error and signals for the thread's next call of an enforcer, unless the rule in this row only monitors. */
__noinline __s64 verdict_notify(__u32 row, __u64 id, __s64 error, __u64 signals)
{
	struct rule *r = bpf_map_lookup_elem(&rules, &row);
	struct rule_stat *s;
	__u32 stat;

	if (!r)
		return 0;
	stat = r->stat;
	s = bpf_map_lookup_elem(&rule_stats, &stat);
	if (!s)
		return 0;
	if (r->flags & RULE_MONITOR) {
		__sync_fetch_and_add(&s->monitor_notify, 1);
		return 0;
	}
	__sync_fetch_and_add(&s->notify, 1);
	if (verdict_put(id, error, signals, VERDICT_ANY))
		__sync_fetch_and_add(&s->notify_overwritten, 1);
	return 0;
}

/* What was ordered of an enforcer is taken back, by the rule in this row. */
__noinline __s64 verdict_forget(__u32 row, __u64 id)
{
	struct rule *r = bpf_map_lookup_elem(&rules, &row);
	struct rule_stat *s;
	struct verdicts *v;
	__u32 stat;

	if (!r || !ordered())
		return 0;
	v = my_verdicts();
	if (!v)
		return 0;
	stat = r->stat;
	s = bpf_map_lookup_elem(&rule_stats, &stat);
	for (int i = 0; i < VERDICTS; i++) {
		if (v->v[i].id != id)
			continue;
		verdict_own(&v->v[i], 0, bpf_get_current_task());
		if (s)
			__sync_fetch_and_add(&s->notify_unused, 1);
	}
	return 0;
}

/* What was ordered under an id and holds for the system call under way, NULL if nothing. */
static __always_inline struct verdict *verdict_get(__u64 id)
{
	struct verdicts *v;

	if (!ordered())
		return NULL;
	v = my_verdicts();
	if (!v)
		return NULL;
	for (int i = 0; i < VERDICTS; i++)
		if (v->v[i].id == id)
			return v->v[i].call == VERDICT_ANY || v->v[i].call == call_now() ? &v->v[i] : NULL;
	return NULL;
}

__noinline __u64 verdict_there(__u64 id)
{
	return verdict_get(id) != NULL;
}

__noinline __s64 verdict_error(__u64 id)
{
	struct verdict *v = verdict_get(id);

	return v ? v->error : 0;
}

/* The signals that were ordered of an enforcer, unless the rule in this row only monitors. Where the call cannot be denied, kills: an
 * error that was ordered is one too. */
__noinline __u64 verdict_signals(__u32 row, __u64 id, __u64 kills)
{
	struct rule *r = bpf_map_lookup_elem(&rules, &row);
	struct verdict *v;

	if (!r || r->flags & RULE_MONITOR)
		return 0;
	v = verdict_get(id);
	if (!v)
		return 0;
	return kills && v->error ? v->signals | KILL_BIT : v->signals;
}

/* As enforce_count, of what was ordered of an enforcer under this id: what another policy had sent in the same call does not count. */
__noinline __s64 verdict_count(__u32 row, __u64 id, __u64 sent, __u64 kills)
{
	struct rule *r = bpf_map_lookup_elem(&rules, &row);
	struct verdict *v = verdict_get(id);
	struct rule_stat *s;
	__u64 signals;
	__s32 error;
	__u32 stat;

	if (!r || !v)
		return ENFORCE_NONE;
	error = v->error;
	signals = kills && error ? v->signals | KILL_BIT : v->signals;
	stat = r->stat;
	s = bpf_map_lookup_elem(&rule_stats, &stat);
	if (!s)
		return ENFORCE_NONE;
	if (!(r->flags & RULE_OVERRIDE))
		error = 0;
	if (r->flags & RULE_MONITOR) {
		if (signals)
			__sync_fetch_and_add(&s->monitor_signal, 1);
		if (error)
			__sync_fetch_and_add(&s->monitor_override, 1);
		return ENFORCE_NONE;
	}
	if (signals & sent)
		__sync_fetch_and_add(&s->signal, 1);
	if (!error)
		return ENFORCE_NONE;
	if (!(r->flags & RULE_LATER))
		__sync_fetch_and_add(&s->override, 1);
	return error;
}

/* Writes what a rule sets to an address of the current process, which is in user memory or nothing is written. Returns 1 if
 * it could not be. The kernel says in its log, once a program, that there is one that can. */
__noinline __s64 enforce_set(__u32 row, __u64 addr)
{
	struct rule *r = bpf_map_lookup_elem(&rules, &row);
	struct rule_stat *s;
	__u32 stat, to;

	if (!r || r->flags & RULE_MONITOR)
		return 0;
	to = r->set;
	stat = r->stat;
	if (bpf_probe_write_user((void *)addr, &to, sizeof(to)))
		return 1;
	s = bpf_map_lookup_elem(&rule_stats, &stat);
	if (s)
		__sync_fetch_and_add(&s->set, 1);
	return 0;
}

#endif
