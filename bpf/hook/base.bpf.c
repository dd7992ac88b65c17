// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The base sensor: the life of every thread group. One object, because its programs share their maps and their
 * account; one header a hook. */
#include "../lib/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

#include "fork.h"
#include "exec.h"
#include "exit.h"
#include "cgroup.h"
#include "snapshot.h"

char _license[] SEC("license")
= "Dual BSD/GPL";

/* internal/abi is made from the object's BTF, which holds only types that a variable leads to
 * (and not through a member that is a pointer). */
struct rec_exit *abi_exit;
struct rec_fork *abi_fork;
struct rec_exec *abi_exec;
struct rec_cgroup *abi_cgroup;
struct rec_data *abi_data;
struct rec_throttle *abi_throttle;
struct cgrp_rate *abi_rate;
enum rec_kind abi_kind;
enum rec_flag abi_flag;
enum rec_priv abi_priv;
enum rec_ns abi_ns;
enum rec_data_what abi_what;
