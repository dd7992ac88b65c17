// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The guard: keeps others from ending the agent, and what it has in the kernel. It shares no map with the other objects: it
 * is attached before they are loaded. Links need no program of their own: those of functions and tracepoints have no
 * detach operation, they end with their last name and descriptor. */
#include "../lib/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "../abi/guard.h"

#define EPERM		   1
#define SIGHUP		   1
#define SIGCONT		   18
#define FMODE_WRITE	   2 /* kernel: include/linux/fs.h */
#define PTRACE_MODE_ATTACH 2 /* kernel: include/linux/ptrace.h */

/* Set before load. */
const volatile __u32 agent_pid = 0;
const volatile __u64 exe_dir = 0; /* inode of the directory that the agent's program is in, */
const volatile __u32 exe_dev = 0; /* its device as the kernel writes it, */
const volatile __u32 exe_len = 0; /* and the program's name in it */
const volatile char exe_name[GUARD_NAME] = {};
const volatile __u64 pin_dir = 0; /* inode of the directory of pins */
const volatile __u32 pin_dev = 0;
const volatile __u32 mounts[GUARD_MOUNTS] = {}; /* ids of mounts that must stay */

/* When the agent began, by the boot clock: found by its first call that comes by. */
__u64 agent_start = 0;
__u32 agent_known = 0; /* its program is recognised by its file */

struct guard_count guard_counts[GUARD_WHATS] = {};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} guard_mode SEC(".maps");

/* Ids of the maps that the agent has made or opened. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, GUARD_MAPS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u8);
} guard_maps SEC(".maps");

static __always_inline __u32 mode(void)
{
	__u32 zero = 0, *m = bpf_map_lookup_elem(&guard_mode, &zero);

	return m ? *m : GUARD_OFF;
}

/* What a try comes to. */
static __always_inline int refuse(__u32 what, __u32 m)
{
	struct guard_count *c;

	if (what >= GUARD_WHATS)
		return 0;
	c = &guard_counts[what];
	__sync_fetch_and_add(m == GUARD_ENFORCE ? &c->denied : &c->monitored, 1);
	c->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(c->comm, sizeof(c->comm));
	return m == GUARD_ENFORCE ? -EPERM : 0;
}

static __always_inline bool is_agent(struct task_struct *t)
{
	return t->tgid == agent_pid && BPF_CORE_READ(t, group_leader, start_boottime) == agent_start;
}

/* The agent's program, run by root of the initial namespaces: the next agent, or one that switches the guard off. Not by its
 * inode: an upgrade puts another file in the place of the program. */
static __noinline bool runs_agent(void)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct dentry *d = BPF_CORE_READ(t, mm, exe_file, f_path.dentry);
	char name[GUARD_NAME] = {};

	if (!d || !exe_len || BPF_CORE_READ(t, cred, euid.val) || BPF_CORE_READ(t, cred, user_ns, level) ||
	    BPF_CORE_READ(t, thread_pid, level) || BPF_CORE_READ(t, ptrace))
		return false;
	if (BPF_CORE_READ(d, d_parent, d_inode, i_ino) != exe_dir ||
	    BPF_CORE_READ(d, d_parent, d_inode, i_sb, s_dev) != exe_dev || BPF_CORE_READ(d, d_name.len) != exe_len)
		return false;
	if (bpf_probe_read_kernel(name, exe_len & (GUARD_NAME - 1), BPF_CORE_READ(d, d_name.name)))
		return false;
	for (int i = 0; i < GUARD_NAME; i++) {
		if (name[i] != exe_name[i])
			return false;
	}
	return true;
}

/* Who may do everything. */
static __always_inline bool insider(void)
{
	struct task_struct *t = bpf_get_current_task_btf();

	return is_agent(t) || t->flags & PF_KTHREAD || runs_agent();
}

/* kernel: int security_task_kill(struct task_struct *p, struct kernel_siginfo *info, int sig, const struct cred *cred)  4.17..
 * What the kernel itself sends does not come by here. Process 1 stops services. */
SEC("fmod_ret/security_task_kill")
int BPF_PROG(guard_signal, struct task_struct *p, void *info, int sig, const struct cred *cred, int ret)
{
	__u32 m = mode();

	if (ret || m == GUARD_OFF || !is_agent(p) || !sig || sig == SIGHUP || sig == SIGCONT)
		return ret;
	if (bpf_get_current_pid_tgid() >> 32 == 1 || insider())
		return 0;
	return refuse(GUARD_SIGNAL, m);
}

/* kernel: int security_task_setrlimit(struct task_struct *p, unsigned int resource, struct rlimit *new_rlim)  2.6.37.. */
SEC("fmod_ret/security_task_setrlimit")
int BPF_PROG(guard_rlimit, struct task_struct *p, unsigned int resource, void *limit, int ret)
{
	__u32 m = mode();

	if (ret || m == GUARD_OFF || !is_agent(p))
		return ret;
	if (bpf_get_current_pid_tgid() >> 32 == 1 || insider())
		return 0;
	return refuse(GUARD_RLIMIT, m);
}

/* kernel: int security_ptrace_access_check(struct task_struct *child, unsigned int mode)  2.6.27..
 * Reading what /proc shows of it is nobody's harm. */
SEC("fmod_ret/security_ptrace_access_check")
int BPF_PROG(guard_trace, struct task_struct *child, unsigned int how, int ret)
{
	__u32 m = mode();

	if (ret || m == GUARD_OFF || !(how & PTRACE_MODE_ATTACH) || !is_agent(child) || insider())
		return ret;
	return refuse(GUARD_TRACE, m);
}

/* kernel: int security_bpf_map(struct bpf_map *map, fmode_t fmode)  4.15..
 * Called for each new descriptor of a map, whether it is made, opened by its name or by its id. */
SEC("fmod_ret/security_bpf_map")
int BPF_PROG(guard_map, struct bpf_map *map, unsigned int fmode, int ret)
{
	struct task_struct *t = bpf_get_current_task_btf();
	__u32 m = mode(), id = map->id;
	__u8 yes = 1;

	if (ret || m == GUARD_OFF)
		return ret;
	if (t->tgid == agent_pid && !agent_start) {
		agent_start = BPF_CORE_READ(t, group_leader, start_boottime);
		agent_known = runs_agent();
	}
	if (is_agent(t)) {
		bpf_map_update_elem(&guard_maps, &id, &yes, 0);
		return 0;
	}
	if (!(fmode & FMODE_WRITE) || !bpf_map_lookup_elem(&guard_maps, &id) || insider())
		return 0;
	return refuse(GUARD_MAP, m);
}

/* kernel: void security_bpf_map_free(struct bpf_map *map)  4.15.. */
SEC("fentry/security_bpf_map_free")
int BPF_PROG(guard_map_free, struct bpf_map *map)
{
	__u32 id = map->id;

	if (id)
		bpf_map_delete_elem(&guard_maps, &id);
	return 0;
}

/* Whether a name is that of the directory of pins, of a generation in it, or of a pin. */
static __noinline bool of_pins(__u64 dentry)
{
	struct dentry *d = (struct dentry *)dentry;

	for (int i = 0; i < 3 && d; i++) {
		struct inode *n = BPF_CORE_READ(d, d_inode);

		if (n && BPF_CORE_READ(n, i_ino) == pin_dir && BPF_CORE_READ(n, i_sb, s_dev) == pin_dev)
			return true;
		d = BPF_CORE_READ(d, d_parent);
	}
	return false;
}

static __always_inline int pin(struct dentry *d, int ret)
{
	__u32 m = mode();

	if (ret || m == GUARD_OFF || !of_pins((__u64)d) || insider())
		return ret;
	return refuse(GUARD_PIN, m);
}

/* kernel: int security_inode_unlink(struct inode *dir, struct dentry *dentry)  2.6.. */
SEC("fmod_ret/security_inode_unlink")
int BPF_PROG(guard_unlink, struct inode *dir, struct dentry *d, int ret)
{
	return pin(d, ret);
}

/* kernel: int security_inode_rmdir(struct inode *dir, struct dentry *dentry)  2.6.. */
SEC("fmod_ret/security_inode_rmdir")
int BPF_PROG(guard_rmdir, struct inode *dir, struct dentry *d, int ret)
{
	return pin(d, ret);
}

/* kernel: int security_inode_rename(struct inode *old_dir, struct dentry *old_dentry, struct inode *new_dir,
 *				     struct dentry *new_dentry, unsigned int flags)  3.18.. */
SEC("fmod_ret/security_inode_rename")
int BPF_PROG(guard_rename, struct inode *dir, struct dentry *d, struct inode *to_dir, struct dentry *to,
	     unsigned int flags, int ret)
{
	return pin(d, pin(to, ret));
}

/* kernel: int security_inode_create(struct inode *dir, struct dentry *dentry, umode_t mode)  3.2.. */
SEC("fmod_ret/security_inode_create")
int BPF_PROG(guard_create, struct inode *dir, struct dentry *d, unsigned int how, int ret)
{
	return pin(d, ret);
}

/* kernel: int security_inode_mkdir(struct inode *dir, struct dentry *dentry, umode_t mode)  3.2.. */
SEC("fmod_ret/security_inode_mkdir")
int BPF_PROG(guard_mkdir, struct inode *dir, struct dentry *d, unsigned int how, int ret)
{
	return pin(d, ret);
}

/* kernel: int security_sb_umount(struct vfsmount *mnt, int flags)  2.6.. */
SEC("fmod_ret/security_sb_umount")
int BPF_PROG(guard_umount, struct vfsmount *mnt, int flags, int ret)
{
	struct mount *at = (void *)mnt - bpf_core_field_offset(struct mount, mnt);
	__u32 m = mode(), id = BPF_CORE_READ(at, mnt_id);

	if (ret || m == GUARD_OFF)
		return ret;
	for (int i = 0; i < GUARD_MOUNTS; i++) {
		if (mounts[i] && mounts[i] == id)
			return insider() ? 0 : refuse(GUARD_MOUNT, m);
	}
	return 0;
}

char _license[] SEC("license")
= "Dual BSD/GPL";

struct guard_count *abi_guard_count;
enum guard_mode abi_guard_mode;
enum guard_what abi_guard_what;
enum guard_limit abi_guard_limit;
