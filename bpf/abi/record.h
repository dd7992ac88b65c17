/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What both halves agree on: the records that go up the ring. The one place where a layout or a number is written;
 * internal/abi is generated from it (tools/abigen).
 *
 * Every record starts with a head; strings follow the fixed part back to back, in the order of their lengths.
 * Numbers are never reused. */
#ifndef ABI_RECORD_H
#define ABI_RECORD_H

/* kinds of records, and rows of the counter table */
enum rec_kind {
	REC_NONE = 0,
	REC_FORK = 1,
	REC_EXEC = 2,
	REC_EXIT = 3,
	REC_CGROUP = 4,
	REC_DATA = 5,	      /* a piece of an exec's arguments or environment; comes before its exec */
	REC_SNAPSHOT = 6,     /* a process that lived before we looked; laid out as an exec */
	REC_SNAP_END = 7,     /* the snapshot is complete; only a head */
	REC_HOOK = 8,	      /* a call that a policy wants to hear of; see hook.h */
	REC_HOOK_DATA = 9,    /* a piece of a long value of such a call; comes before it */
	REC_THROTTLE = 10,    /* a cgroup makes more records than it may; see lib/rate.h */
	REC_HOOK_MERGED = 11, /* equal calls that were counted instead of told; see hook.h */
	REC_KINDS = 12,
};

/*        0       2       4           8                 16                24
 *        +-------+-------+-----------+-----------------+-----------------+
 *        | kind  | flags |    pid    |      time       |      ktime      |
 *        +-------+-------+-----------+-----------------+-----------------+
 * time: boot clock, ns, when it happened.  pid, ktime: the process, see event.Key. */
struct rec_head {
	__u16 kind;
	__u16 flags; /* enum rec_flag */
	__u32 pid;
	__u64 time;
	__u64 ktime;
};

enum rec_flag {
	REC_F_NEW = 1,	     /* the kernel half knew nothing of this process before */
	REC_F_KTHREAD = 2,   /* a kernel thread */
	REC_F_CLONE = 4,     /* exec: no exec between this one and the fork */
	REC_F_EXECED = 8,    /* snapshot: the state of a process that we saw exec, after its record was lost */
	REC_F_IN_TREE = 16,  /* in the tree of its container's init */
	REC_F_SCRIPT = 32,   /* exec: the file is an interpreter, the name is the script */
	REC_F_ROOT_CWD = 64, /* cwd is / */
	REC_F_CUT_CWD = 128, /* the walk of cwd stopped early */
	REC_F_CUT_PATH = 256,
	REC_F_BAD_NAME = 512, /* reading failed: */
	REC_F_BAD_ARGS = 1024,
	REC_F_BAD_CWD = 2048,
	REC_F_BAD_ENV = 4096,
	REC_F_BAD_CGROUP = 8192,
	REC_F_VERDICT = 16384, /* a call: rules ordered more than a record */
	REC_F_UNSET = 32768,   /* ... and what they set was not written everywhere */
};

struct rec_fork {
	struct rec_head h;
	__u64 parent_ktime; /* 0: parent not tracked */
	__u32 parent_pid;
	__u32 nspid; /* 0 in the initial pid namespace */
};

struct rec_exit {
	struct rec_head h;
	__u64 start; /* start_boottime of the thread group */
	__u32 code;  /* as wait(2) gives it */
	__u32 nspid;
};

struct rec_cgroup {
	struct rec_head h;
	__u32 name_len;
	char name[132]; /* of the cgroup it moved to; not terminated */
};

struct rec_throttle {
	struct rec_head h; /* of no process */
	__u64 cgroup;	   /* its id */
	__u32 name_len;
	char name[132]; /* of the cgroup; not terminated */
};

/* How fast a cgroup makes records on one CPU: a window that slides over two that do not. */
struct cgrp_rate {
	__u64 begin;	  /* of the window, boot clock, ns */
	__u64 count;	  /* records in it */
	__u64 before;	  /* in the window before it */
	__u64 last;	  /* when there was the last one */
	__u64 held_since; /* 0: not held back */
};

enum rec_data_what {
	REC_DATA_ARGS = 1,
	REC_DATA_ENV = 2
};

#define REC_DATA_SIZE 4040 /* 4096 with its ring header and its own */

struct rec_data {
	struct rec_head h;
	__u32 what;  /* enum rec_data_what */
	__u32 index; /* of this piece: it starts at index * REC_DATA_SIZE */
	__u32 len;   /* bytes used of data */
	__u32 total; /* bytes that there are, unlimited */
	__u8 data[REC_DATA_SIZE];
};

enum rec_priv {
	REC_PRIV_SETUID = 1,	     /* the file's mode changed the effective uid */
	REC_PRIV_SETGID = 2,	     /* the effective gid */
	REC_PRIV_RAISED_FILECAP = 4, /* reasons why privileges grew */
	REC_PRIV_RAISED_SETUID = 8,
	REC_PRIV_RAISED_SETGID = 16,
};

enum rec_ns {
	NS_UTS,
	NS_IPC,
	NS_MNT,
	NS_PID,
	NS_PID_CHILDREN,
	NS_NET,
	NS_TIME,
	NS_TIME_CHILDREN,
	NS_CGROUP,
	NS_USER,
	NS_COUNT
};

/* An exec, or a snapshot. The strings follow:
 *   name    as given to execve (snapshot: empty; kernel thread: its comm)
 *   path    of the file, as components from the leaf to the root: {length byte, bytes}...
 *   cwd     likewise
 *   args    the argument block of the process, argv[0] included, as it lies in memory; empty if it came as REC_DATA
 *   env     likewise
 *   cgroup  name of the leaf cgroup */
struct rec_exec {
	struct rec_head h;
	__u64 start;	    /* start_boottime of the thread group */
	__u64 parent_ktime; /* 0: not tracked */
	__u64 parent_start; /* start_boottime of the parent */
	__u32 parent_pid;
	__u32 nspid; /* 0 in the initial pid namespace */
	__u32 auid;
	__u32 priv;   /* enum rec_priv */
	__u32 ids[8]; /* uid gid suid sgid euid egid fsuid fsgid, as struct cred has them */
	__u32 securebits;
	__u32 mode;	    /* of the file */
	__u64 caps[5];	    /* inheritable permitted effective bset ambient */
	__u32 ns[NS_COUNT]; /* inode numbers */
	__u64 inode;
	__u32 nlink;
	__u32 args_total; /* bytes that there are */
	__u32 env_total;
	__u16 name_len;
	__u16 path_len;
	__u16 cwd_len;
	__u16 args_len;
	__u16 env_len;
	__u16 cgroup_len;
};

/* One row for each kind of record. */
struct rec_count {
	__u64 seen;	 /* records that were to be sent */
	__u64 lost;	 /* of these, those that the ring had no room for */
	__u64 lost_last; /* boot clock */
};

#endif
