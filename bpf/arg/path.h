/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Files and paths. A path is walked from its leaf to the task's root and written backwards into the buffer's room for
 * paths, so that it can be compared from both ends where it lies; only a call that somebody wants to hear of copies it.
 *
 * race: no lock is held; see lib/path.h. */
#ifndef ARG_PATH_H
#define ARG_PATH_H

#include "../stage/buf.h"

#define WALK_STEPS 2048

struct back_walk {
	__u64 dentry, vfsmnt, mnt_root, root_dentry, root_vfsmnt;
	struct hook_buf *b;
	__u32 at;   /* where the path begins, in b->path */
	__u32 done; /* the root was reached */
};

static long back_step(__u32 i, struct back_walk *w)
{
	/* kernel: d_hash, d_parent and d_name are neighbours in struct dentry, 5.17 to 6.18: one read for all */
	struct {
		__u64 next, pprev, parent;
		__u32 hash, len;
		__u64 name;
	} d;
	__u32 at = w->at, len;

	if (w->dentry == w->root_dentry && w->vfsmnt == w->root_vfsmnt) {
		w->done = 1;
		return 1;
	}
	if (w->dentry == w->mnt_root) {
		struct mount *m = (void *)(w->vfsmnt - bpf_core_field_offset(struct mount, mnt));
		struct {
			__u64 parent, mountpoint;
		} up;

		if (!w->vfsmnt) { /* there is only a dentry: this is as far as it leads */
			w->done = 1;
			return 1;
		}
		if (bpf_probe_read_kernel(&up, sizeof(up), (void *)m + bpf_core_field_offset(struct mount, mnt_parent)))
			return 1;
		if (up.parent == (__u64)m) {
			w->done = 1;
			return 1;
		}
		w->dentry = up.mountpoint;
		w->vfsmnt = up.parent + bpf_core_field_offset(struct mount, mnt);
		bpf_probe_read_kernel(&w->mnt_root, sizeof(w->mnt_root),
				      (void *)w->vfsmnt + bpf_core_field_offset(struct vfsmount, mnt_root));
		return 0;
	}
	if (bpf_probe_read_kernel(&d, sizeof(d), (void *)w->dentry + bpf_core_field_offset(struct dentry, d_hash)))
		return 1;
	if (d.parent == w->dentry && (d.len == 0 || !w->vfsmnt)) { /* a pipe or a socket; the root of what has no mount */
		w->done = 1;
		return 1;
	}
	if (i == 0 && !d.pprev && d.parent != w->dentry) { /* kernel: d_unlinked() */
		at -= 10;
		if (bounded(at) > BUF_PATH) /* bound: the write below */
			return 1;
		__builtin_memcpy(w->b->path + at, " (deleted)", 10);
	}
	len = d.len & 0xff; /* bound: NAME_MAX */
	at -= len + 1;
	if (bounded(at) > BUF_PATH) /* under its beginning */
		return 1;
	w->b->path[at] = '/';
	if (bpf_probe_read_kernel(w->b->path + at + 1, len, (void *)d.name))
		return 1;
	w->at = at;
	if (d.parent == w->dentry) { /* a file without a directory: memfd */
		w->done = 1;
		return 1;
	}
	w->dentry = d.parent;
	return 0;
}

/* Walks to a path and returns its length. vfsmnt 0: only to the root of its file system. */
__noinline __s64 path_back(__u32 buf, __u64 vfsmnt, __u64 dentry)
{
	struct back_walk w = { .dentry = dentry, .vfsmnt = vfsmnt, .at = BUF_PATH, .b = buf_get(buf) };
	struct task_struct *t = bpf_get_current_task_btf();
	struct {
		__u64 vfsmnt, dentry;
	} root = {};

	if (!w.b || !dentry)
		return -1;
	if (vfsmnt) {
		__u64 fs = (__u64)t->fs;

		bpf_probe_read_kernel(&root, sizeof(root), (void *)fs + bpf_core_field_offset(struct fs_struct, root));
		w.root_dentry = root.dentry;
		w.root_vfsmnt = root.vfsmnt;
		bpf_probe_read_kernel(&w.mnt_root, sizeof(w.mnt_root),
				      (void *)vfsmnt + bpf_core_field_offset(struct vfsmount, mnt_root));
	}
	bpf_loop(WALK_STEPS, back_step, &w, 0);
	w.b->cut = !w.done;
	if (w.done && w.at == BUF_PATH) { /* the root itself; or what has no path, which has no name either */
		struct {
			__u32 hash, len;
		} name = {};

		bpf_probe_read_kernel(&name, sizeof(name), (void *)w.dentry + bpf_core_field_offset(struct dentry, d_name));
		if (name.len == 0)
			return 0;
		w.at = BUF_PATH - 1;
		w.b->path[BUF_PATH - 1] = '/';
	}
	return BUF_PATH - w.at;
}

__noinline __s64 path_file(__u32 buf, __u64 addr)
{
	struct hook_buf *b = buf_get(buf);
	struct file *f = (void *)addr;
	struct {
		__u64 vfsmnt, dentry;
	} p = {};

	if (!b || !addr || bpf_probe_read_kernel(&p, sizeof(p), (void *)f + bpf_core_field_offset(struct file, f_path)))
		return -1;
	b->file.mode = BPF_CORE_READ(f, f_inode, i_mode);
	b->file.flags = BPF_CORE_READ(f, f_flags);
	return path_back(buf, p.vfsmnt, p.dentry);
}

__noinline __s64 path_path(__u32 buf, __u64 addr)
{
	struct hook_buf *b = buf_get(buf);
	struct {
		__u64 vfsmnt, dentry;
	} p = {};

	struct dentry *d;

	if (!b || !addr || bpf_probe_read_kernel(&p, sizeof(p), (void *)addr))
		return -1;
	d = (void *)p.dentry;
	b->file.mode = BPF_CORE_READ(d, d_inode, i_mode);
	b->file.flags = 0;
	return path_back(buf, p.vfsmnt, p.dentry);
}

__noinline __s64 path_dentry(__u32 buf, __u64 addr)
{
	struct hook_buf *b = buf_get(buf);

	if (!b || !addr)
		return -1;
	b->file.mode = BPF_CORE_READ((struct dentry *)addr, d_inode, i_mode);
	b->file.flags = 0;
	return path_back(buf, 0, addr);
}

__noinline __s64 path_kiocb(__u32 buf, __u64 addr)
{
	return path_file(buf, addr ? (__u64)BPF_CORE_READ((struct kiocb *)addr, ki_filp) : 0);
}

__noinline __s64 path_binprm(__u32 buf, __u64 addr)
{
	return path_file(buf, addr ? (__u64)BPF_CORE_READ((struct linux_binprm *)addr, file) : 0);
}

/* The file behind a descriptor of the current task; 0: none. */
__noinline __u64 fd_file(__u64 fd)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct fdtable *tab = BPF_CORE_READ(t, files, fdt);
	struct file **slots;
	__u64 f = 0;

	if (!tab || fd >= BPF_CORE_READ(tab, max_fds))
		return 0;
	slots = BPF_CORE_READ(tab, fd);
	bpf_probe_read_kernel(&f, sizeof(f), slots + fd);
	return f;
}

__noinline __s64 path_fd(__u32 buf, __u64 fd) { return path_file(buf, fd_file((__u32)fd)); }

/* Puts the path that was walked last into the record; len as the walk returned it. */
__noinline __s64 arg_path(__u32 buf, __u32 index, __u64 len)
{
	struct hook_buf *b = buf_get(buf);
	struct val_file *to;
	__u64 n = len;

	if (!b || !(to = value_room(b, BUF_PATH + sizeof(*to))))
		return -1;
	if ((__s64)len < 0)
		return value_error(b, index, VAL_FILE);
	*to = b->file;
	if (bounded(n) > BUF_PATH)
		return -1;
	if (n > 0 && bpf_probe_read_kernel(to + 1, n, b->path + BUF_PATH - n))
		return value_error(b, index, VAL_FILE);
	return value_done(b, index, VAL_FILE, b->cut ? VAL_F_CUT : 0, sizeof(*to) + n);
}

#endif
