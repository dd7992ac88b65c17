/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What both halves agree on about the guard. */
#ifndef ABI_GUARD_H
#define ABI_GUARD_H

#include "../lib/kernel.h"

/* The one row of the map of the mode, which agents of other versions write too: numbers are never reused. */
enum guard_mode {
	GUARD_OFF = 0,
	GUARD_MONITOR = 1,
	GUARD_ENFORCE = 2,
};

enum guard_what {
	GUARD_SIGNAL = 0, /* a signal to the agent */
	GUARD_TRACE = 1,  /* access to its memory, its descriptors */
	GUARD_MAP = 2,	  /* writing access to one of its maps */
	GUARD_PIN = 3,	  /* a name in its directory of pins, or the directory itself */
	GUARD_MOUNT = 4,  /* the file system of the pins, or what it is mounted on */
	GUARD_RLIMIT = 5, /* a resource limit of the agent: beyond that of CPU time the kernel kills */
	GUARD_WHATS = 6,
};

enum guard_limit {
	GUARD_NAME = 64,
	GUARD_MOUNTS = 8,
	GUARD_MAPS = 16384,
};

/* What was tried of one kind. race: several may try at a time; the last one is told, and which counts are exact. */
struct guard_count {
	__u64 denied;
	__u64 monitored;
	__u32 pid; /* of the last one */
	__u32 pad;
	char comm[16];
};

#endif
