/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Decides which sets of processes a process is in, whenever it may change: at exec, at fork, and for all that lives when the
 * sets change. A hook then tests a bit. */
#ifndef STAGE_CLASS_H
#define STAGE_CLASS_H

#include "../arg/path.h"
#include "../lib/class.h"
#include "buf.h"

/* A placeholder, which user space generates. Leaves in b->sets the sets of a process whose binary's path of len bytes was
 * walked last (len negative: none is known, only its numbers count). The numbers are those of the thread group. */
__noinline int classify(__u32 buf, __u64 len, __u64 pid, __u64 nspid)
{
	struct hook_buf *b = buf_row(buf);

	if (!b)
		return 0;
	asm volatile("" : : "r"(len), "r"(pid), "r"(nspid)); /* or the compiler would not pass them */
	for (int i = 0; i < SET_WORDS; i++)
		b->sets[i] = 0;
	return 0;
}

/* Finds the sets of a process by itself. Bit 0 says that its binary is known, and so the rest can be relied on. */
static __always_inline void class_self(struct task_class *c, __u32 pid, __u32 nspid, __u64 fs, __u64 file)
{
	__s64 row = buf_take();
	struct hook_buf *b;
	__s64 len = -1;

	if (row < 0) { /* it is unknown, and no rule holds for it */
		for (int i = 0; i < SET_WORDS; i++)
			c->self[i] = 0;
		return;
	}
	if (file) {
		struct two p;

		read_path(&p, file + bpf_core_field_offset(struct file, f_path));
		len = path_up(row, fs, p.vfsmnt, p.dentry);
	}
	classify(row, len, pid, nspid);
	b = buf_row(row);
	if (b) {
		for (int i = 0; i < SET_WORDS; i++)
			c->self[i] = (b->sets[i] & ~1ull) | (len > 0);
	}
	buf_give(row);
}

static __always_inline void class_line(struct task_class *c)
{
	for (int i = 0; i < SET_WORDS; i++)
		c->line[i] = c->self[i] | c->ancestor[i];
}

/* Finds what can be known of a process that lives already. */
static __noinline int class_find(struct task_class *c, struct task_struct *t)
{
	struct task_struct *u = plain(struct task_struct, t);

	class_self(c, t->tgid, pid_in_ns(u->thread_pid, NULL), (__u64)BPF_CORE_READ(t, fs),
		   (__u64)BPF_CORE_READ(t, mm, exe_file));
	class_line(c);
	if (!(c->flags & CLASS_BASELINE))
		class_baseline(c, u);
	return 0;
}

/* A copy of a program has the same sets as the program, but for those of process numbers. */
static __always_inline void class_pids(struct task_class *c, __u32 old, __u32 old_ns, __u32 pid, __u32 nspid)
{
	__s64 row = buf_take();
	struct hook_buf *b;

	if (row < 0)
		return;
	b = buf_row(row);
	if (b) {
		classify(row, -1, old, old_ns);
		for (int i = 0; i < SET_WORDS; i++)
			c->self[i] &= ~b->sets[i] | 1;
		classify(row, -1, pid, nspid);
		for (int i = 0; i < SET_WORDS; i++)
			c->self[i] |= b->sets[i] & ~1ull;
	}
	buf_give(row);
}

/* parent: what is known of the new process's parent; of: of the process that made it, which is nearly always the same. */
static __always_inline void class_forked(struct task_class *c, struct task_class *of, struct task_class *parent)
{
	*c = *of;
	for (int i = 0; i < SET_WORDS; i++) {
		c->parent[i] = parent ? parent->self[i] : 0;
		c->ancestor[i] = parent ? parent->line[i] : 0;
	}
	c->flags = (of->flags & CLASS_BASELINE) | CLASS_FORKED;
}

/* An exec without a fork: what the process was is its parent. */
static __always_inline void class_replaced(struct task_class *c)
{
	for (int i = 0; i < SET_WORDS; i++) {
		c->parent[i] = c->self[i];
		c->ancestor[i] = c->line[i];
	}
}

/* Sets whose relations to parents and ancestors are right already, and stay: the parent may be gone by now. User space
 * writes it before class_all. */
__u64 class_kept[SET_WORDS] = {};

/* Takes over what is known of the parent, which may be nothing. Returns whether that made a difference. */
static __always_inline bool class_inherit(struct task_class *c, struct task_class *p)
{
	__u64 changed = 0;

	for (int i = 0; i < SET_WORDS; i++) {
		__u64 keep = class_kept[i] & ~1ull;
		__u64 parent = (p ? p->self[i] : 0) & ~keep, ancestor = (p ? p->line[i] : 0) & ~keep;
		__u64 known = (c->parent[i] | parent) & 1;

		parent |= c->parent[i] & keep;
		ancestor |= (c->ancestor[i] & keep) | known;
		changed |= (c->parent[i] ^ (parent | known)) | (c->ancestor[i] ^ ancestor);
		c->parent[i] = parent | known;
		c->ancestor[i] = ancestor;
	}
	class_line(c);
	return changed;
}

#endif
