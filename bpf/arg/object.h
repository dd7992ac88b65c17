/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Credentials and other objects of the kernel. */
#ifndef ARG_OBJECT_H
#define ARG_OBJECT_H

#include "../stage/buf.h"

static __always_inline void put_user_ns(struct val_user_ns *v, struct user_namespace *ns)
{
	v->level = BPF_CORE_READ(ns, level);
	v->uid = BPF_CORE_READ(ns, owner.val);
	v->gid = BPF_CORE_READ(ns, group.val);
	v->inum = BPF_CORE_READ(ns, ns.inum);
}

__noinline __s64 arg_cred(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_get(buf);
	struct cred *c = (void *)addr;
	struct val_cred *v;

	if (!b || !(v = value_room(b, sizeof(*v))))
		return -1;
	/* kernel: the eight ids are neighbours, as are the five capability sets, 5.17 to 6.18 */
	if (!addr || bpf_probe_read_kernel(v->ids, sizeof(v->ids), (void *)c + bpf_core_field_offset(struct cred, uid)))
		return value_error(b, index, VAL_CRED);
	bpf_probe_read_kernel(v->caps, sizeof(v->caps), (void *)c + bpf_core_field_offset(struct cred, cap_inheritable));
	v->securebits = BPF_CORE_READ(c, securebits);
	v->pad = 0;
	put_user_ns(&v->ns, BPF_CORE_READ(c, user_ns));
	return value_done(b, index, VAL_CRED, 0, sizeof(*v));
}

__noinline __s64 arg_user_ns(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_get(buf);
	struct val_user_ns *v;

	if (!b || !(v = value_room(b, sizeof(*v))))
		return -1;
	if (!addr)
		return value_error(b, index, VAL_USER_NS);
	put_user_ns(v, (struct user_namespace *)addr);
	return value_done(b, index, VAL_USER_NS, 0, sizeof(*v));
}

/* kernel: union bpf_attr, include/uapi/linux/bpf.h; its beginning never changes */
__noinline __s64 arg_bpf_attr(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_get(buf);
	struct val_bpf_prog *v;

	if (!b || !(v = value_room(b, sizeof(*v))))
		return -1;
	__builtin_memset(v, 0, sizeof(*v));
	if (!addr || read_any(&v->type, 8, addr))
		return value_error(b, index, VAL_BPF_PROG);
	read_any(v->name, sizeof(v->name), addr + 48);
	return value_done(b, index, VAL_BPF_PROG, 0, sizeof(*v));
}

__noinline __s64 arg_bpf_map_attr(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_get(buf);
	struct val_bpf_map *v;

	if (!b || !(v = value_room(b, sizeof(*v))))
		return -1;
	__builtin_memset(v, 0, sizeof(*v));
	if (!addr || read_any(&v->type, 16, addr))
		return value_error(b, index, VAL_BPF_MAP);
	read_any(v->name, sizeof(v->name), addr + 28);
	return value_done(b, index, VAL_BPF_MAP, 0, sizeof(*v));
}

__noinline __s64 arg_bpf_prog(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_get(buf);
	struct bpf_prog *p = (void *)addr;
	struct val_bpf_prog *v;
	struct bpf_prog_aux *aux;

	if (!b || !(v = value_room(b, sizeof(*v))))
		return -1;
	if (!addr)
		return value_error(b, index, VAL_BPF_PROG);
	v->type = BPF_CORE_READ(p, type);
	v->insns = BPF_CORE_READ(p, len);
	aux = BPF_CORE_READ(p, aux);
	if (bpf_probe_read_kernel(v->name, sizeof(v->name), (void *)aux + bpf_core_field_offset(struct bpf_prog_aux, name)))
		__builtin_memset(v->name, 0, sizeof(v->name));
	return value_done(b, index, VAL_BPF_PROG, 0, sizeof(*v));
}

__noinline __s64 arg_bpf_map(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_get(buf);
	struct bpf_map *m = (void *)addr;
	struct val_bpf_map *v;

	if (!b || !(v = value_room(b, sizeof(*v))))
		return -1;
	if (!addr)
		return value_error(b, index, VAL_BPF_MAP);
	v->type = BPF_CORE_READ(m, map_type);
	v->key_size = BPF_CORE_READ(m, key_size);
	v->value_size = BPF_CORE_READ(m, value_size);
	v->max_entries = BPF_CORE_READ(m, max_entries);
	if (bpf_probe_read_kernel(v->name, sizeof(v->name), (void *)m + bpf_core_field_offset(struct bpf_map, name)))
		__builtin_memset(v->name, 0, sizeof(v->name));
	return value_done(b, index, VAL_BPF_MAP, 0, sizeof(*v));
}

#define FUNC_NAME 128

/* kernel: struct perf_event_attr, include/uapi/linux/perf_event.h: type 0, config 8, config1 (kprobe_func) 56, config2
 * (probe_offset) 64. config1 is the address of a function's name only for probes; elsewhere it reads as nothing. */
static __always_inline __s64 put_perf(struct hook_buf *b, __u32 index, __u64 attr)
{
	struct val_perf_event *v = value_room(b, sizeof(*v) + FUNC_NAME);
	__u64 func = 0;
	long n;

	if (!v)
		return -1;
	v->pad = 0;
	if (!attr || read_any(&v->type, 4, attr) || read_any(&v->config, 8, attr + 8))
		return value_error(b, index, VAL_PERF_EVENT);
	v->offset = 0;
	read_any(&func, 8, attr + 56);
	read_any(&v->offset, 8, attr + 64);
	n = (__s64)func > 0 ? bpf_probe_read_user_str(v + 1, FUNC_NAME, (void *)func) : 0;
	if (n < 1 || n > FUNC_NAME)
		n = 1;
	return value_done(b, index, VAL_PERF_EVENT, 0, sizeof(*v) + n - 1);
}

__noinline __s64 arg_perf_event(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_get(buf);

	return b ? put_perf(b, index, addr ? addr + bpf_core_field_offset(struct perf_event, attr) : 0) : -1;
}

__noinline __s64 arg_perf_attr(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_get(buf);

	return b ? put_perf(b, index, addr) : -1;
}

#define MODULE_NAME 64

static __always_inline __s64 put_module(struct hook_buf *b, __u32 index, struct module *m, __u64 name, __u32 has_sig, __u32 sig_ok)
{
	struct val_module *v = value_room(b, sizeof(*v) + MODULE_NAME);
	long n;

	if (!v)
		return -1;
	v->taints = m ? BPF_CORE_READ(m, taints) : 0;
	v->has_sig = has_sig;
	v->sig_ok = sig_ok;
	n = bpf_probe_read_kernel_str(v + 1, MODULE_NAME, (void *)name);
	if (n < 1 || n > MODULE_NAME)
		return value_error(b, index, VAL_MODULE);
	return value_done(b, index, VAL_MODULE, 0, sizeof(*v) + n - 1);
}

__noinline __s64 arg_module(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_get(buf);

	if (!b || !bpf_core_type_exists(struct module) || !bpf_core_field_exists(struct module, name))
		return -1;
	return put_module(b, index, (void *)addr, addr + bpf_core_field_offset(struct module, name), 0, 0);
}

__noinline __s64 arg_load_info(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_get(buf);
	struct load_info *l = (void *)addr;
	__u32 has_sig = 0, ok = 0;

	if (!b || !bpf_core_type_exists(struct load_info))
		return -1;
	if (bpf_core_field_exists(l->sig_ok)) {
		has_sig = 1;
		ok = BPF_CORE_READ(l, sig_ok);
	}
	return put_module(b, index, BPF_CORE_READ(l, mod), (__u64)BPF_CORE_READ(l, name), has_sig, ok);
}

#endif
