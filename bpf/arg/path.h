/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Files and paths.
 *
 * A path is walked from its leaf to the task's root and written backwards into the buffer's room for paths, so that it can
 * be compared where it lies, from both ends: the last byte is always at the same place. Only a call that somebody wants to
 * hear of copies it into the record. What comes out is what the kernel's d_path() says, but for objects that are no files
 * (pipes, sockets, ...): they have no path.
 *
 * race: no lock is held. A rename during the walk may give a mixture of both names; d_path has the same freedom only until
 * its sequence check. The loop is bounded whatever it meets. */
#ifndef ARG_PATH_H
#define ARG_PATH_H

#include "../lib/buf.h"
#include "../lib/task.h"

#define PATH_MAX  4096
#define NAME_ROOM 256  /* of one component: its slash and NAME_MAX */
#define WALK_MAX  2176 /* components of a path of PATH_MAX bytes, and mounts */

struct up_walk {
	__u64 dentry, vfsmnt;		/* where we are; vfsmnt 0: there is only a dentry */
	__u64 mnt_root;			/* root dentry of vfsmnt */
	__u64 root_dentry, root_vfsmnt; /* where to stop */
	__u64 at;			/* where the path begins, in b->path */
	__u64 done;			/* the root was reached */
};

/* What is read of a dentry. */
struct up_dentry {
	__u64 parent;
	struct {
		__u32 hash, len;
		__u64 name;
	} name;
};

static __always_inline long read_dentry(struct up_dentry *d, __u64 addr)
{
	if (bpf_rdonly_cast) {
		d->parent = peek(struct dentry, addr, d_parent);
		d->name.len = peek(struct dentry, addr, d_name.len);
		d->name.name = peek(struct dentry, addr, d_name.name);
		return !d->parent;
	}
	/* kernel: d_parent and d_name are neighbours in struct dentry, 5.17 to 6.18: one read for both */
	return bpf_probe_read_kernel(d, sizeof(*d), (void *)(addr + bpf_core_field_offset(struct dentry, d_parent)));
}

/* struct path as numbers. */
struct two {
	__u64 vfsmnt, dentry;
};

static __always_inline void read_path(struct two *p, __u64 addr)
{
	p->vfsmnt = peek(struct path, addr, mnt);
	p->dentry = peek(struct path, addr, dentry);
}

/* Goes on where the mount is mounted. Returns false at the end. */
static __always_inline bool up_mount(struct up_walk *w)
{
	__u64 m = w->vfsmnt - bpf_core_field_offset(struct mount, mnt), parent;

	if (!w->vfsmnt)
		return false;
	parent = peek(struct mount, m, mnt_parent);
	if (parent == m || !parent)
		return false; /* not below the task's root: as far up as there is */
	w->dentry = peek(struct mount, m, mnt_mountpoint);
	w->vfsmnt = parent + bpf_core_field_offset(struct mount, mnt);
	w->mnt_root = peek(struct vfsmount, w->vfsmnt, mnt_root);
	return true;
}

/* Writes "/name" before what is there. */
static __always_inline bool up_name(struct hook_buf *b, struct up_walk *w, struct up_dentry *d)
{
	__u64 pos = w->at, len = d->name.len & 0xff; /* bound: NAME_MAX */

	if (bounded(pos) < NAME_ROOM + 1 || pos > BUF_PATH)
		return false;
	pos -= len;
	if (bpf_probe_read_kernel(b->path + pos, len, (void *)d->name.name))
		return false;
	b->path[pos - 1] = '/';
	w->at = pos - 1;
	return true;
}

static long up_step(__u32 i, struct loop *l)
{
	struct up_walk *w = buf_work(struct up_walk, l->b);
	struct up_dentry d;

	if (w->dentry == w->root_dentry && w->vfsmnt == w->root_vfsmnt) {
		w->done = 1;
		return 1;
	}
	if (w->dentry == w->mnt_root) {
		if (up_mount(w))
			return 0;
		w->done = 1;
		return 1;
	}
	if (read_dentry(&d, w->dentry))
		return 1;
	if (d.parent == w->dentry) { /* the root of a file system, of which we do not know where it is mounted */
		w->done = 1;
		return 1;
	}
	if (!up_name(l->b, w, &d))
		return 1;
	w->dentry = d.parent;
	return 0;
}

/* The leaf may have no directory or be in none any more. Returns false if the path ends there. */
static __always_inline bool up_leaf(struct hook_buf *b, struct up_walk *w, __u64 inode)
{
	struct up_dentry d;
	bool alone;

	if (w->dentry == w->mnt_root || read_dentry(&d, w->dentry))
		return true; /* the walk says what is wrong */
	alone = d.parent == w->dentry;
	if (!alone && peek(struct dentry, w->dentry, d_hash.pprev))
		return true; /* kernel: d_unlinked() */
	if (alone && !w->vfsmnt)
		return true; /* the root of some file system */
	/* Pipes, sockets and the like are in no directory. Files of shared memory (memfd) neither, but their name is shown:
	 * kernel: simple_dname(). They are those without a link. */
	if (alone && ((peek(struct inode, inode, i_mode) & S_IFMT) != S_IFREG || peek(struct inode, inode, i_nlink))) {
		w->done = 1;
		return false;
	}
	__builtin_memcpy(b->path + BUF_PATH - 10, " (deleted)", 10);
	w->at = BUF_PATH - 10;
	if (!alone)
		return true;
	w->done = up_name(b, w, &d);
	return false;
}

/* Walks from a dentry, as seen from a task's root. Returns the length of the path; 0: it has none; -1: unreadable. */
__noinline __s64 path_up(__u32 buf, __u64 fs, __u64 vfsmnt, __u64 dentry)
{
	struct loop l = { buf_row(buf) };
	struct hook_buf *b = l.b;
	struct up_walk *w;
	__u64 inode, at;

	if (!b || !dentry)
		return -1;
	inode = peek(struct dentry, dentry, d_inode);
	b->file.mode = inode ? peek(struct inode, inode, i_mode) : 0;
	b->file.flags = 0;
	w = buf_work(struct up_walk, b);
	w->dentry = dentry;
	w->vfsmnt = vfsmnt;
	w->mnt_root = vfsmnt ? peek(struct vfsmount, vfsmnt, mnt_root) : 0;
	/* without a mount the dentry alone says where the root is */
	w->root_vfsmnt = fs && vfsmnt ? peek(struct fs_struct, fs, root.mnt) : 0;
	w->root_dentry = fs ? peek(struct fs_struct, fs, root.dentry) : 0;
	w->at = BUF_PATH;
	w->done = 0;
	if (up_leaf(b, w, inode)) {
		bpf_loop(WALK_MAX, up_step, &l, 0);
		if (w->at == BUF_PATH) {
			if (!w->done)
				return -1; /* there is no dentry */
			b->path[BUF_PATH - 1] = '/';
			w->at = BUF_PATH - 1;
		}
	}
	b->cut = !w->done;
	at = w->at;
	if (at < BUF_PATH - PATH_MAX) { /* longer than any path that the kernel resolves in one go */
		at = BUF_PATH - PATH_MAX;
		b->cut = 1;
	}
	return BUF_PATH - at;
}

static __always_inline __u64 my_fs(void)
{
	return peek(struct task_struct, bpf_get_current_task(), fs);
}

static __always_inline __s64 file_up(__u32 buf, __u64 addr)
{
	struct hook_buf *b;
	struct two p;
	__s64 n;

	if (!addr)
		return -1;
	read_path(&p, addr + bpf_core_field_offset(struct file, f_path));
	n = path_up(buf, my_fs(), p.vfsmnt, p.dentry);
	b = buf_row(buf);
	if (b)
		b->file.flags = peek(struct file, addr, f_flags);
	return n;
}

/* kernel: struct file * */
__noinline __s64 path_file(__u32 buf, __u64 addr)
{
	return file_up(buf, addr);
}

__noinline __s64 path_path(__u32 buf, __u64 addr)
{
	struct two p;

	if (!addr)
		return -1;
	read_path(&p, addr);
	return path_up(buf, my_fs(), p.vfsmnt, p.dentry);
}

/* Without a mount: the path from the root of the file system. */
__noinline __s64 path_dentry(__u32 buf, __u64 addr)
{
	return path_up(buf, my_fs(), 0, addr);
}

__noinline __s64 path_kiocb(__u32 buf, __u64 addr)
{
	return file_up(buf, addr ? peek(struct kiocb, addr, ki_filp) : 0);
}

__noinline __s64 path_binprm(__u32 buf, __u64 addr)
{
	return file_up(buf, addr ? peek(struct linux_binprm, addr, file) : 0);
}

/* Address of the file that a descriptor of the current task names; 0: none.
 * race: another thread may close it meanwhile; what is read then is a file that was. */
__noinline __u64 fd_file(__u64 fd)
{
	__u64 files = peek(struct task_struct, bpf_get_current_task(), files), table, array, file = 0;

	fd = (__u32)fd;
	if (!files)
		return 0;
	table = peek(struct files_struct, files, fdt);
	if (!table || fd >= peek(struct fdtable, table, max_fds))
		return 0;
	array = peek(struct fdtable, table, fd);
	bpf_probe_read_kernel(&file, sizeof(file), (void *)(array + fd * 8));
	return file;
}

__noinline __s64 path_fd(__u32 buf, __u64 fd)
{
	return file_up(buf, fd_file(fd));
}

/* Puts the path that was walked last into the record; len as the walk returned it. */
__noinline __s64 arg_path(__u32 buf, __u32 index, __u64 len)
{
	struct hook_buf *b = buf_row(buf);
	struct val_file *to;
	__u64 n = len;

	if (!b || !(to = val_room(b, sizeof(*to) + PATH_MAX)))
		return -1;
	if (bounded(n) > PATH_MAX)
		return val_error(b, index, VAL_FILE);
	*to = b->file;
	if (bpf_probe_read_kernel(to + 1, n, b->path + BUF_PATH - n))
		return val_error(b, index, VAL_FILE);
	return val_done(b, index, VAL_FILE, b->cut ? VAL_F_CUT : 0, sizeof(*to) + n);
}

#endif
