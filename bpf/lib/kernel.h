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
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PROG_ARRAY = 3,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_LRU_PERCPU_HASH = 10,
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
typedef struct { u32 val; } kuid_t;
typedef struct { u32 val; } kgid_t;
typedef struct { u64 val; } kernel_cap_t; /* kernel: two words before 6.3; val is used only by what needs 6.10, elsewhere its 8 bytes */

struct timespec64 { __s64 tv_sec; long tv_nsec; };
struct hlist_bl_node { struct hlist_bl_node *next, **pprev; };
struct qstr { u32 hash; u32 len; const unsigned char *name; };
struct super_block { u32 s_dev; };
struct inode {
	struct super_block *i_sb;
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
	int mnt_id;
};
struct path { struct vfsmount *mnt; struct dentry *dentry; };
struct file { struct path f_path; struct inode *f_inode; unsigned int f_flags; };
struct fdtable { unsigned int max_fds; struct file **fd; };
struct files_struct { struct fdtable *fdt; };
struct kiocb { struct file *ki_filp; };
struct filename { const char *name; };
struct fs_struct { struct path root; struct path pwd; };

struct ns_common { unsigned int inum; };
struct user_namespace { int level; kuid_t owner; kgid_t group; struct ns_common ns; };
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

struct kernfs_node { const char *name; __u64 id; };
struct cgroup_root { int hierarchy_id; };
struct cgroup_subsys_state { struct cgroup *cgroup; struct cgroup_subsys_state *parent; };
struct cgroup { struct cgroup_subsys_state self; struct kernfs_node *kn; struct cgroup_root *root; };
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
	unsigned int ptrace;
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
	u64 self_exec_id;
};
struct thread_info___x86 { u32 status; };
struct task_struct___x86 { struct thread_info___x86 thread_info; };
struct thread_info___arm64 { unsigned long flags; };
struct task_struct___arm64 { struct thread_info___arm64 thread_info; };
struct pt_regs___x86 { unsigned long orig_ax; };
struct pt_regs___arm64 { __s32 syscallno; };
struct linux_binprm {
	struct file *file;
	struct cred *cred;
	const char *filename;
	const char *interp;
};

/* sockets and packets */
struct in6_addr { u8 b[16]; };
struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	u16 skc_num;
	unsigned short skc_family;
	unsigned char skc_state;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};
struct sock {
	struct sock_common __sk_common;
	u16 sk_type;
	u16 sk_protocol;
	u32 sk_mark;
	u32 sk_priority;
};
struct socket { struct sock *sk; };
struct net_device { char name[16]; };
struct skb_ext { u8 offset[3]; };
struct sec_path { int len; int olen; };
enum skb_ext_id { SKB_EXT_SEC_PATH = 1 };
struct sk_buff {
	unsigned int len;
	u32 priority;
	u32 mark;
	u32 hash;
	u16 network_header;
	u8 active_extensions;
	unsigned char *head;
	struct skb_ext *extensions;
};

/* memory that a call names */
struct iovec { void *iov_base; u64 iov_len; };
struct iov_iter {
	u8 iter_type;
	u64 iov_offset;
	u64 count;
	u64 nr_segs;
	const struct iovec *__iov;
	void *ubuf;
};
struct iov_iter___before_6_4 { const struct iovec *iov; };
enum iter_type { ITER_IOVEC = 0, ITER_KVEC = 1, ITER_UBUF = 6 };

/* eBPF, performance events, modules */
struct bpf_prog_aux { char name[16]; };
enum bpf_prog_type { SOME_PROG_TYPE };
enum bpf_map_type { SOME_MAP_TYPE };
struct bpf_prog { enum bpf_prog_type type; u32 len; struct bpf_prog_aux *aux; };
struct bpf_map { enum bpf_map_type map_type; u32 key_size; u32 value_size; u32 max_entries; u32 id; char name[16]; };
struct perf_event_attr { u32 type; };
struct perf_event { struct perf_event_attr attr; };
struct module { char name[56]; unsigned long taints; };
struct load_info { const char *name; struct module *mod; bool sig_ok; };

struct seq_file;
struct bpf_iter_meta { struct seq_file *seq; u64 session_id; u64 seq_num; };
struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; };

#pragma clang attribute pop

#define PF_KTHREAD 0x00200000        /* kernel: include/linux/sched.h */
#define SIGNAL_GROUP_EXIT 0x00000004 /* kernel: include/linux/sched/signal.h */
#define MNT_NOSUID 0x01              /* kernel: include/linux/mount.h */
#define S_IFMT  0170000
#define S_IFREG 0100000
#define S_ISUID 04000
#define S_ISGID 02000
#define S_IXGRP 00010
#define SECURE_NOROOT 1

#endif
