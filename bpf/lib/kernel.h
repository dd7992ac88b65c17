/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The kernel types that we read, and of those the members that we read: CO-RE finds the offsets on the running kernel
 * by name. A member that some kernels lack is tested with bpf_core_field_exists before use.
 *
 * kernel: 5.17 to 6.18. */
#ifndef LIB_KERNEL_H
#define LIB_KERNEL_H

typedef unsigned char __u8;
typedef short int __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long int __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __s64 s64;
typedef __u64 u64;
typedef _Bool bool;
typedef int pid_t;
enum { false = 0, true = 1 };

#define NULL ((void *)0)

enum bpf_map_type_used {
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PROG_ARRAY = 3,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};
enum bpf_flag_used {
	BPF_F_NO_PREALLOC = 1,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
	BPF_RB_NO_WAKEUP = 1,
	BPF_RB_FORCE_WAKEUP = 2,
	BPF_RB_AVAIL_DATA = 0,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct { int counter; } atomic_t;
struct hlist_bl_node { struct hlist_bl_node *next, **pprev; };
typedef struct { u32 val; } kuid_t;
typedef struct { u32 val; } kgid_t;
typedef struct { u64 val; } kernel_cap_t; /* kernel: two words before 6.3; val is used only by what needs 6.10, elsewhere its 8 bytes */

struct qstr { u32 hash; u32 len; const unsigned char *name; };
struct inode {
	unsigned short i_mode;
	kuid_t i_uid;
	kgid_t i_gid;
	const unsigned int i_nlink;
	unsigned long i_ino;
};
struct dentry {
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
};
struct vfsmount { struct dentry *mnt_root; int mnt_flags; };
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};
struct path { struct vfsmount *mnt; struct dentry *dentry; };
struct file { struct path f_path; struct inode *f_inode; unsigned int f_flags; };
struct fdtable { unsigned int max_fds; struct file **fd; };
struct files_struct { struct fdtable *fdt; };
struct kiocb { struct file *ki_filp; };
struct filename { const char *name; };
struct fs_struct { struct path root; struct path pwd; };

struct ns_common { unsigned int inum; };
struct user_namespace { struct ns_common ns; int level; kuid_t owner; kgid_t group; };
struct pid_namespace { struct ns_common ns; };
struct uts_namespace { struct ns_common ns; };
struct ipc_namespace { struct ns_common ns; };
struct mnt_namespace { struct ns_common ns; };
struct net { struct ns_common ns; };
struct time_namespace { struct ns_common ns; };
struct cgroup_namespace { struct ns_common ns; };
struct nsproxy {
	struct uts_namespace *uts_ns;
	struct ipc_namespace *ipc_ns;
	struct mnt_namespace *mnt_ns;
	struct pid_namespace *pid_ns_for_children;
	struct net *net_ns;
	struct time_namespace *time_ns;
	struct time_namespace *time_ns_for_children;
	struct cgroup_namespace *cgroup_ns;
};
struct upid { int nr; struct pid_namespace *ns; };
struct pid { unsigned int level; struct upid numbers[1]; };

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t euid;
	kgid_t egid;
	unsigned int securebits;
	kernel_cap_t cap_inheritable;
	kernel_cap_t cap_permitted;
	kernel_cap_t cap_effective;
	struct user_namespace *user_ns;
};

struct mm_struct {
	struct file *exe_file;
	unsigned long arg_start, arg_end, env_start, env_end;
};

struct kernfs_node { const char *name; };
struct cgroup_root { int hierarchy_id; };
struct cgroup { struct kernfs_node *kn; struct cgroup_root *root; };
struct cgroup_subsys_state { struct cgroup *cgroup; };
struct css_set {
	struct cgroup_subsys_state *subsys[16]; /* only its address: user space takes the index from the kernel's types */
	struct cgroup *dfl_cgrp;
};

struct signal_struct {
	atomic_t live;
	unsigned int flags;
	int group_exit_code;
};
struct task_struct {
	unsigned int flags;
	int exit_code;
	pid_t pid;
	pid_t tgid;
	u64 start_boottime;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	const struct cred *cred;
	char comm[16];
	struct fs_struct *fs;
	struct mm_struct *mm;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	kuid_t loginuid;
	struct css_set *cgroups;
	struct files_struct *files;
};
struct linux_binprm {
	struct file *file;
	struct cred *cred;
	const char *filename;
	const char *interp;
};

/* sockets; kernel: the first members of sock_common lie in this order, 3.x to 6.18 */
struct sock_common {
	u64 skc_addrpair; /* destination, then source, both as they are sent */
	u32 skc_hash;
	u32 skc_portpair; /* destination as it is sent, then source in host order */
	unsigned short skc_family;
	volatile unsigned char skc_state;
};
struct in6_addr { u8 b[16]; };
struct sock_common___v6 { struct in6_addr skc_v6_daddr, skc_v6_rcv_saddr; };
struct sock {
	struct sock_common __sk_common;
	u16 sk_type, sk_protocol;
	u32 sk_mark, sk_priority;
};
struct socket { struct sock *sk; };
struct sec_path { int len, olen; };
struct sk_buff {
	unsigned int len;
	u32 priority, mark, hash;
	u16 protocol, transport_header, network_header;
	unsigned char *head;
};
struct net_device { char name[16]; };

enum bpf_prog_type { BPF_PROG_TYPE_UNSPEC };
enum bpf_map_type { BPF_MAP_TYPE_UNSPEC };
struct bpf_prog_aux { char name[16]; };
struct bpf_prog { enum bpf_prog_type type; u32 len; struct bpf_prog_aux *aux; };
struct bpf_map { enum bpf_map_type map_type; u32 key_size, value_size, max_entries; char name[16]; };
struct perf_event_attr { u32 type; u64 config, config1, config2; };
struct perf_event { struct perf_event_attr attr; };
struct module { char name[56]; unsigned long taints; bool sig_ok; };
struct load_info { const char *name; struct module *mod; bool sig_ok; };

struct iovec { void *iov_base; u64 iov_len; };
struct iov_iter {
	u8 iter_type;
	u64 iov_offset, count, nr_segs;
	const struct iovec *__iov; /* kernel: "iov" before 6.4 */
	void *ubuf;		   /* kernel: from 6.0 */
};
struct iov_iter___old { const struct iovec *iov; };
enum iter_type { ITER_IOVEC, ITER_UBUF };

#ifdef __TARGET_ARCH_x86
struct thread_info { u32 status; };
struct task_struct___x86 { struct thread_info thread_info; };
#endif
struct pt_regs;

struct seq_file;
struct bpf_iter_meta { struct seq_file *seq; u64 session_id; u64 seq_num; };
struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; };

#pragma clang attribute pop

#define PF_KTHREAD 0x00200000        /* kernel: include/linux/sched.h */
#define SIGNAL_GROUP_EXIT 0x00000004 /* kernel: include/linux/sched/signal.h */
#define MNT_NOSUID 0x01              /* kernel: include/linux/mount.h */
#define S_ISUID 04000
#define S_ISGID 02000
#define S_IXGRP 00010
#define SECURE_NOROOT 1

#endif
