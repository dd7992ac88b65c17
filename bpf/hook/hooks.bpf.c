// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The library of policy hooks. User space generates the main function of each hook and takes from here what it calls; see
 * docs/decisions/0012-generated-programs.md. Its functions are global: the kernel verifies each by itself, once, so they
 * take numbers and look up what they work on. */
#include "../lib/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "../abi/hook.h"
#include "../stage/buf.h"
#include "../stage/finish.h"
#include "../stage/enforce.h"
#include "../arg/plain.h"
#include "../arg/digest.h"
#include "../arg/find.h"
#include "../arg/path.h"
#include "../arg/net.h"
#include "../arg/object.h"
#include "../arg/task.h"
#include "../arg/user.h"
#include "../arg/workload.h"
#include "class.h"
#include "dispatch.h"
#include "merges.h"

char _license[] SEC("license")
= "Dual BSD/GPL";

/* Never attached: it names all functions, because user space finds a function only in a program that calls it. */
volatile __u64 library_any = 0;

SEC("raw_tp/library")
int library(void *ctx)
{
	__u64 v = library_any, s = 0;
	struct hook_call c = {};

	s += buf_take() + buf_give(v);
	s += arg_int(v, v, v) + arg_int_error(v, v, v) + arg_string(v, v, v) + arg_filename(v, v, v) +
	     arg_netdev(v, v, v);
	s += arg_dataloc(v, v, v, v) + arg_bytes(v, v, v, v) + arg_bytes_max(v, v, v, v) + arg_words(v, v, v, v);
	s += arg_iovec(v, v, v, v, v) + arg_iov_iter(v, v, v) + stack_put(v, v, v) + str_find(v, v, v, v);
	s += hash_put(v, v) + verity_key((void *)v, v);
	s += path_file(v, v) + path_path(v, v) + path_dentry(v, v) + path_kiocb(v, v) + path_binprm(v, v) +
	     path_fd(v, v);
	s += fd_file(v) + arg_path(v, v, v);
	s += arg_sock(v, v, v, v) + arg_socket(v, v, v, v) + arg_skb(v, v, v) + arg_sockaddr(v, v, v);
	s += arg_sockaddr_un(v, v, v);
	s += arg_cred(v, v, v) + arg_user_ns(v, v, v) + arg_bpf_attr(v, v, v) + arg_bpf_map_attr(v, v, v);
	s += arg_bpf_prog(v, v, v) + arg_bpf_map(v, v, v) + arg_perf_event(v, v, v) + arg_perf_attr(v, v, v);
	s += arg_module(v, v, v) + arg_load_info(v, v, v);
	s += task_cred() + task_nspid_now() + task_cap_effective() + task_cap_permitted() + task_cap_inheritable();
	s += task_host_userns() + task_cap_changed(v) + task_tracked() + task_ns_changed() + task_compat();
	s += task_ns_uts() + task_ns_ipc() + task_ns_mnt() + task_ns_pid() + task_ns_pid_for_children() + task_ns_net();
	s += task_ns_time() + task_ns_time_for_children() + task_ns_cgroup() + task_ns_user() + task_host();
	library_any = s; /* the compiler keeps all terms of a sum on the stack, which is full */
	s = entry_seen(v, v) + entry_arg(v, v, v) + entry_drop(v, v);
	s += class_word(v) + hook_finish(&c);
	s += verdict_drop(v) + verdict_keep(v, v) + verdict_notify(v, v, v, v) + verdict_forget(v, v);
	s += verdict_place(v) + verdict_there(v) + verdict_error(v) + verdict_signals(v, v, v) +
	     verdict_count(v, v, v, v);
	s += enforce_signals(v) + enforce_send(v) + enforce_count(v, v) + enforce_set(v, v);
	return s;
}

/* internal/abi is made from the object's BTF, which holds only types that a variable leads to. */
struct rec_value *abi_value;
struct rec_hook *abi_hook;
struct rec_hook_data *abi_hook_data;
struct val_file *abi_file;
struct val_sock *abi_sock;
struct val_skb *abi_skb;
struct val_sockaddr *abi_sockaddr;
struct val_user_ns *abi_user_ns;
struct val_cred *abi_cred;
struct val_bpf_prog *abi_bpf_prog;
struct val_bpf_map *abi_bpf_map;
struct val_perf_event *abi_perf_event;
struct val_module *abi_module;
struct val_ima *abi_ima;
struct rec_hook_merged *abi_hook_merged;
struct rec_merged *abi_merged;
struct merge_key *abi_merge_key;
struct merge *abi_merge;
struct rule *abi_rule;
struct rule_stat *abi_rule_stat;
struct hook_call *abi_hook_call;
struct slot_state *abi_slot_state;
struct task_class *abi_task_class;
struct verdicts *abi_verdicts;
enum val_kind abi_val_kind;
enum val_flag abi_val_flag;
enum rule_flag abi_rule_flag;
enum hook_limit abi_limit;
enum class_flag abi_class_flag;
