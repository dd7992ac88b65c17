/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What both halves agree on about policy hooks: their records, and the tables that user space writes. */
#ifndef ABI_HOOK_H
#define ABI_HOOK_H

#include "record.h"

/* How a value is laid out in a record. Numbers are never reused. */
enum val_kind {
	VAL_NONE = 0,
	VAL_INT = 1,	       /* u64, extended */
	VAL_STRING = 2,	       /* bytes, not terminated */
	VAL_BYTES = 3,	       /* u64: bytes that there are; then those that were read */
	VAL_FILE = 4,	       /* struct val_file, then the path, from the root, not terminated; empty: has none */
	VAL_SOCK = 5,	       /* struct val_sock */
	VAL_SKB = 6,	       /* struct val_skb */
	VAL_SOCKADDR = 7,      /* struct val_sockaddr */
	VAL_SOCKADDR_UN = 8,   /* u64: family; then the path as the kernel has it: a zero byte first if abstract */
	VAL_CRED = 9,	       /* struct val_cred */
	VAL_USER_NS = 10,      /* struct val_user_ns */
	VAL_BPF_PROG = 11,     /* struct val_bpf_prog */
	VAL_BPF_MAP = 12,      /* struct val_bpf_map */
	VAL_PERF_EVENT = 13,   /* struct val_perf_event, then the name of the function */
	VAL_MODULE = 14,       /* struct val_module, then the name */
	VAL_WORDS = 15,	       /* u64 each */
	VAL_KERNEL_STACK = 16, /* u64 each, innermost first */
	VAL_USER_STACK = 17,
	VAL_IMA = 18, /* struct val_ima */
};

enum val_flag {
	VAL_F_ERROR = 1, /* could not be read; VAL_INT: at this step of the way to it */
	VAL_F_CUT = 2,	 /* there was more */
	VAL_F_AHEAD =
		4, /* VAL_BYTES: behind the number of bytes that there are comes not what was read but a u64, the id of
			  * the records of kind REC_HOOK_DATA that have it */
};

/*        0        2      3       4          8
 *        +--------+------+-------+----------+------------
 *        | index  | kind | flags |   len    | len bytes, filled up to a multiple of 8
 *        +--------+------+-------+----------+------------  */
struct rec_value {
	__u16 index; /* of the value in the program; stacks: 0 */
	__u8 kind;   /* enum val_kind */
	__u8 flags;  /* enum val_flag */
	__u32 len;
};

#define HOOK_DATA_SIZE 4048 /* 4096 with its ring header and its own */

/* A call that some policy wants to hear of. `values` entries follow; then `words` u64: the mask of the rules that post. If
 * REC_F_VERDICT is set: then `words` u64, the mask of those of them whose orders were not carried out because their policy
 * only monitors, and one u64, the signals that were sent, as in struct rule. Then up to HOOK_HELD u64, one for each rule of the
 * mask whose rate limit held events back since its last one: number of the rule, and in the upper half how many. */
struct rec_hook {
	struct rec_head h; /* h.pid, h.ktime: the process of the current task, ktime 0 if unknown */
	__u32 tid;
	__u32 program; /* id of the program, see plan.Program */
	__u16 values;
	__u16 words;
	__u32 which; /* of the functions that the program is attached to (kprobe.multi) */
};

/* A piece of a value that is too long for its record; comes before it. */
struct rec_hook_data {
	struct rec_head h; /* as of its record */
	__u64 id;	   /* of the value, see VAL_F_AHEAD */
	__u32 index;	   /* of this piece: it starts at index * HOOK_DATA_SIZE */
	__u32 len;	   /* bytes used of data */
	__u8 data[HOOK_DATA_SIZE];
};

/* Calls that were merged. It is laid out as a call with one rule in its mask, whose values are those that all of them had. Behind
 * the mask is a struct rec_merged, then nothing that counts: the record has always the same size. h.time is that of the last. */
#define MERGE_SIZE 216 /* bytes of the values of calls that can be merged */

struct rec_merged {
	__u64 count;
	__u64 first; /* boot clock */
	__u64 last;
};

struct rec_hook_merged {
	struct rec_hook r;
	__u8 v[MERGE_SIZE + 8 * 8 + sizeof(struct rec_merged)]; /* values, HOOK_WORDS of the mask */
};

struct val_file {
	__u32 mode;  /* of the inode */
	__u32 flags; /* of the open file (f_flags), 0 if there is none */
};

struct val_sock {
	__u64 cookie;	   /* address of the sock */
	__u64 owner_ktime; /* who owns it, if the policy tracks sockets and it is tracked: process, else 0 */
	__u32 owner_pid;
	__u32 owner_tid;
	__u32 mark;
	__u32 priority;
	__u16 family;
	__u16 type;
	__u16 protocol;
	__u16 sport; /* host byte order */
	__u16 dport;
	__u8 state;
	__u8 pad;
	__u32 pad2;
	__u8 saddr[16]; /* 4 bytes used for AF_INET */
	__u8 daddr[16];
};

struct val_skb {
	__u32 hash;
	__u32 len;
	__u32 priority;
	__u32 mark;
	__u32 sec_path_len;
	__u32 sec_path_olen;
	__u16 family;	/* of the network header: AF_INET, AF_INET6 or 0 */
	__u16 protocol; /* of the transport header */
	__u16 sport;	/* host byte order; 0 unless TCP or UDP */
	__u16 dport;
	__u8 saddr[16];
	__u8 daddr[16];
};

struct val_sockaddr {
	__u16 family;
	__u16 port; /* host byte order */
	__u32 pad;
	__u8 addr[16];
};

struct val_user_ns {
	__s32 level;
	__u32 uid;
	__u32 gid;
	__u32 inum;
};

struct val_cred {
	__u32 ids[8];  /* uid gid suid sgid euid egid fsuid fsgid */
	__u64 caps[5]; /* inheritable permitted effective bset ambient */
	__u32 securebits;
	__u32 pad;
	struct val_user_ns ns;
};

struct val_bpf_prog {
	__u32 type;
	__u32 insns;
	char name[16];
};

struct val_bpf_map {
	__u32 type;
	__u32 key_size;
	__u32 value_size;
	__u32 max_entries;
	char name[16];
};

struct val_perf_event {
	__u32 type;
	__u32 pad;
	__u64 config;
	__u64 offset;
};

struct val_module {
	__u64 taints;
	__u32 has_sig; /* sig_ok is meant */
	__u32 sig_ok;
};

#define IMA_DIGEST 64 /* the longest */

/* What IMA says of a file. */
struct val_ima {
	__u64 algo; /* kernel: enum hash_algo, include/uapi/linux/hash_info.h */
	__u8 digest[IMA_DIGEST];
};

/* ---- tables that user space writes */

enum hook_limit {
	HOOK_RULES = 512,	   /* on one program */
	HOOK_WORDS = 8,		   /* of 64 rules */
	HOOK_HELD = 32,		   /* rules of one record that tell what their rate limits held back */
	HOOK_SLOTS = 1024,	   /* programs at a time */
	RULE_ROWS = 8192,	   /* rules of all programs */
	SET_WORDS = 4,		   /* of 63 sets of processes */
	BUF_LEVELS = 4,		   /* buffers for each CPU: task, task that preempted it, soft and hard interrupt */
	NEEDLE_ROWS = 256,	   /* strings that are searched for */
	NEEDLE_MAX = 256,	   /* bytes of one */
	SYS_NUMBERS = 512,	   /* of system calls */
	ENFORCE_NONE = 0x7fffffff, /* instead of an error: nothing is to be overridden */
	SYS_BODIES = 512,	   /* programs for system calls, each way */
	VERDICTS = 8,		   /* that a thread has at a time */
	MERGE_BYTES = MERGE_SIZE,
	MERGE_ROWS = 8192,	  /* different calls that are being merged */
	MERGE_ENDED = 1024,	  /* processes that end between two sweeps */
	ORDER_CELLS = 4096,	  /* that threads share to say that something is ordered of them */
	VERDICT_ANY = 0x7fffffff, /* instead of the number of a system call: whichever is next */
};

enum rule_flag {
	RULE_POST = 1,
	RULE_BASELINE = 2,	/* what was found becomes the baseline of the process */
	RULE_SCOPE_PROCESS = 4, /* rate limit by process; by thread if none is set */
	RULE_SCOPE_GLOBAL = 8,
	RULE_OVERRIDE = 16, /* the call has to return `error` */
	RULE_MONITOR = 32,  /* what it orders is not done, but counted */
	RULE_LATER = 64,    /* the call is denied where its guard is asked, whose rule counts it */
	RULE_SET = 128,	    /* `set` is written into the memory of the process */
	RULE_MERGE = 256,   /* equal calls are counted for limit_ms, instead of held back */
};

/* One row of the map `rules`: what rule base+bit of a program orders. */
struct rule {
	__u32 flags;	/* enum rule_flag */
	__u32 next;	/* first bit behind the rule's group */
	__u32 stat;	/* row of rule_stats */
	__u32 limit_ms; /* 0: no rate limit, and nothing is merged */
	__u32 policy;	/* id */
	__s16 track;	/* index of the value whose socket is tracked, -1 none */
	__s16 untrack;
	__u64 values;  /* bit n: value n counts for the rate limit, and is told of merged calls; 0: all do */
	__u64 signals; /* bit n: signal n+1 is sent to the current process */
	__s32 error;   /* RULE_OVERRIDE */
	__u32 set;     /* RULE_SET */
};

/* Per-CPU row of rule_stats. */
struct rule_stat {
	__u64 matched; /* first live rule of its group */
	__u64 posted;
	__u64 limited;	      /* not posted because of a rate limit */
	__u64 nopost;	      /* not posted because it says so */
	__u64 lost;	      /* not posted because the ring was full or no buffer was free */
	__u64 signal;	      /* calls whose process was sent a signal */
	__u64 monitor_signal; /* ... would have been, but for the mode of the policy */
	__u64 override;	      /* calls that were denied, or whose result was set */
	__u64 monitor_override;
	__u64 notify; /* calls whose process is dealt with at its next call of an enforcer */
	__u64 monitor_notify;
	__u64 set; /* calls in which an argument of the process was changed */
	__u64 monitor_set;
	__u64 notify_overwritten; /* orders to an enforcer in the place of others that had not been carried out */
	__u64 notify_unused;	  /* orders to an enforcer that were taken back */
	__u64 merged;		  /* not posted but counted, to be told together */
};

/* What calls have in common that are merged, byte for byte: the record of the first, but for h.time, where the number of the
 * rule stands, and tid, which is 0. Values lie packed behind it, the rest is 0. */
struct merge_key {
	struct rec_hook r;
	__u8 v[MERGE_SIZE];
};

/* ... and how many there were since the first, which was posted. */
struct merge {
	__u64 count; /* MERGE_CLOSED set: told, the next call is a first one again */
	__u64 began; /* boot clock, when the first was posted */
	__u64 window;
	__u64 first, last; /* of those that were counted */
	__u32 tid;	   /* of the first */
	__u16 size;	   /* bytes used of the key's v */
	__u16 pad;
	__u64 turn; /* of the sweep that closed it */
};

/* What was ordered for the system call that a thread is in, until somebody asks who can deny it; or, with VERDICT_ANY, for its next call
 * of an enforcer. */
struct verdict {
	__u64 id;      /* whose, see plan.Actions; 0: this one is free */
	__u64 signals; /* as in struct rule */
	__u32 call;    /* number of the system call, bit 31 set if it is a 32-bit one */
	__s32 error;   /* 0: none */
};

struct verdicts {
	struct verdict v[VERDICTS];
};

/* How many verdicts are kept: never fewer than there are. Nearly every call finds here that nothing is ordered of it. */
struct orders {
	__u32 all;
	__u32 of[ORDER_CELLS]; /* of the threads that share a cell */
};

/* A slot's switch, in global data: which rules of the program are on. */
struct slot_state {
	__u64 enabled[HOOK_WORDS];
};

/* On the stack of a body, as hook_finish takes it. */
struct hook_call {
	__u32 program; /* id */
	__u32 base;    /* row in rules of its rule 0 */
	__u32 buf;     /* scratch buffer */
	__u8 words;
	__u8 enforces; /* some rule orders a signal or an override: the record carries the verdict */
	__s16 error;   /* what the function is made to return; 0: what it wants; positive: what was to be set was not */
	__u64 sent;    /* signals, as in struct rule */
	__u64 live[HOOK_WORDS];
};

/* Kept with a thread group while policies ask for it: the sets that it is in, and what it was at exec. In each word of 64
 * bits bit 0 says that the process (parent, ...) is known at all; so a word has 63 sets. */
struct task_class {
	__u64 self[SET_WORDS];	   /* sets that the process is in */
	__u64 line[SET_WORDS];	   /* ... it or an ancestor */
	__u64 parent[SET_WORDS];   /* ... its parent, or the image before this one if it did an exec without a fork */
	__u64 ancestor[SET_WORDS]; /* ... any ancestor */
	__u64 caps[3];		   /* effective, permitted, inheritable at exec */
	__u32 ns[NS_COUNT];	   /* at exec; 0 unknown */
	__u32 flags;		   /* enum class_flag */
	__u32 exec;		   /* which exec it was: several generations of the programs may see the same one */
};

enum class_flag {
	CLASS_FORKED = 1,   /* no exec since the fork */
	CLASS_BASELINE = 2, /* caps and ns are known */
	CLASS_HIDDEN = 4,   /* found as a parent only */
};

/* Where values and a record are put together, taken by a program for the time of one call. Values are appended to the
 * record behind its head, each aligned to 8 bytes. The path that was walked last lies at the end of `path`, so that
 * its last byte is always at the same place. */
#define BUF_VALUES 24576
#define BUF_PATH   4352
#define BUF_SLACK  4160 /* bound: comparisons may look this far behind the beginning of a value */
#define BUF_SOCKS  64

struct hook_buf {
	__u32 busy;
	__u32 pos;		/* bytes of r and v that are used */
	__u64 sets[SET_WORDS];	/* what classify found */
	__u64 socks[BUF_SOCKS]; /* address of the sock in value n */
	struct val_file file;	/* of the path that was walked */
	__u32 cut;		/* ... it is not all of it */
	__u32 pad;
	__u64 work[16];	     /* of one function at a time, see lib/buf.h */
	__u64 finish[8];     /* ... of hook_finish */
	char path[BUF_PATH]; /* bound: also what comparisons from the end may see before a short value */
	char after[64];
	struct rec_hook r;
	char v[BUF_VALUES];
	char slack[BUF_SLACK];
};

#endif
