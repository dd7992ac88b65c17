/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Walks a path from its leaf to the root of the task's file system and writes the components in that order, each after
 * a byte with its length. User space turns them round: writing forward needs no second buffer, no shifting, and one
 * helper call less a component. bpf_d_path would do it in one call, but is refused in tp_btf programs.
 *
 * race: no lock is held. A rename during the walk may give a mixture of both names; d_path has the same freedom only
 * until its sequence check. The loop is bounded whatever it meets. */
#ifndef LIB_PATH_H
#define LIB_PATH_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define PATH_BYTES 4096		      /* PATH_MAX: no path that was resolved is longer */
#define PATH_STEPS 1024		      /* components and mounts */
#define PATH_ROOM  (PATH_BYTES + 256) /* what a walk may write */

struct path_walk {
	__u64 dentry, vfsmnt;		/* where we are */
	__u64 mnt_root;			/* root dentry of vfsmnt */
	__u64 root_dentry, root_vfsmnt; /* where to stop */
	__u32 pos;			/* bytes written */
	__u32 done;			/* the root was reached */
	char *buf;
};

static long path_step(__u32 i, struct path_walk *w)
{
	struct {
		__u64 parent;
		struct {
			__u32 hash, len;
			__u64 name;
		} name;
	} d;
	__u32 pos = w->pos;

	if (w->dentry == w->root_dentry && w->vfsmnt == w->root_vfsmnt) {
		w->done = 1;
		return 1;
	}
	if (w->dentry == w->mnt_root) { /* the root of a mount: go on where it is mounted */
		struct mount *m = (void *)(w->vfsmnt - bpf_core_field_offset(struct mount, mnt));
		struct {
			__u64 parent, mountpoint;
		} up;

		if (bpf_probe_read_kernel(&up, sizeof(up), (void *)m + bpf_core_field_offset(struct mount, mnt_parent)))
			return 1;
		if (up.parent == (__u64)m) {
			w->done = 1; /* not below the task's root: as far up as there is */
			return 1;
		}
		w->dentry = up.mountpoint;
		w->vfsmnt = up.parent + bpf_core_field_offset(struct mount, mnt);
		bpf_probe_read_kernel(&w->mnt_root, sizeof(w->mnt_root),
				      (void *)w->vfsmnt + bpf_core_field_offset(struct vfsmount, mnt_root));
		return 0;
	}
	/* kernel: d_parent and d_name are neighbours in struct dentry, 5.17 to 6.18: one read for both */
	if (bpf_probe_read_kernel(&d, sizeof(d), (void *)w->dentry + bpf_core_field_offset(struct dentry, d_parent)))
		return 1;
	if (pos > PATH_BYTES - 1)
		return 1;
	__u32 len = d.name.len & 0xff; /* bound: NAME_MAX, and what the helper below may write */
	w->buf[pos] = len;
	if (bpf_probe_read_kernel(w->buf + pos + 1, len, (void *)d.name.name))
		return 1;
	w->pos = pos + 1 + len;
	if (d.parent == w->dentry) { /* a file without a directory: memfd */
		w->done = 1;
		return 1;
	}
	w->dentry = d.parent;
	return 0;
}

/* Writes the components of {vfsmnt, dentry}, as seen from fs, to buf, which must have PATH_ROOM bytes.
 * Returns the bytes written; *cut says that the root was not reached. All addresses are of kernel objects. */
static __noinline __u32 path_walk(char *buf, __u64 fs, __u64 vfsmnt, __u64 dentry, bool *cut)
{
	struct {
		__u64 vfsmnt, dentry;
	} root = {};
	struct path_walk w = { .dentry = dentry, .vfsmnt = vfsmnt, .buf = buf };

	bpf_probe_read_kernel(&root, sizeof(root), (void *)fs + bpf_core_field_offset(struct fs_struct, root));
	w.root_dentry = root.dentry;
	w.root_vfsmnt = root.vfsmnt;
	bpf_probe_read_kernel(&w.mnt_root, sizeof(w.mnt_root),
			      (void *)vfsmnt + bpf_core_field_offset(struct vfsmount, mnt_root));
	bpf_loop(PATH_STEPS, path_step, &w, 0);
	*cut = !w.done;
	return w.pos;
}

#endif
