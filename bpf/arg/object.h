/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Credentials, and objects of subsystems: eBPF, performance events, modules. */
#ifndef ARG_OBJECT_H
#define ARG_OBJECT_H

#include "../lib/buf.h"

static __always_inline void put_user_ns(struct val_user_ns *v, __u64 ns)
{
	v->level = peek(struct user_namespace, ns, level);
	v->uid = peek(struct user_namespace, ns, owner.val);
	v->gid = peek(struct user_namespace, ns, group.val);
	v->inum = peek(struct user_namespace, ns, ns.inum);
}

/* kernel: struct cred * */
__noinline __s64 arg_cred(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_row(buf);
	struct val_cred *v;

	if (!b || !(v = val_room(b, sizeof(*v))))
		return -1;
	/* kernel: the eight ids are neighbours, as are the five capability sets, 5.17 to 6.18: two reads for all */
	if (!addr ||
	    bpf_probe_read_kernel(v->ids, sizeof(v->ids), (void *)(addr + bpf_core_field_offset(struct cred, uid))) ||
	    bpf_probe_read_kernel(v->caps, sizeof(v->caps),
				  (void *)(addr + bpf_core_field_offset(struct cred, cap_inheritable))))
		return val_error(b, index, VAL_CRED);
	v->securebits = peek(struct cred, addr, securebits);
	v->pad = 0;
	put_user_ns(&v->ns, peek(struct cred, addr, user_ns));
	return val_done(b, index, VAL_CRED, 0, sizeof(*v));
}

/* kernel: struct user_namespace * */
__noinline __s64 arg_user_ns(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_row(buf);
	struct val_user_ns *v;

	if (!b || !(v = val_room(b, sizeof(*v))))
		return -1;
	if (!addr)
		return val_error(b, index, VAL_USER_NS);
	put_user_ns(v, addr);
	return val_done(b, index, VAL_USER_NS, 0, sizeof(*v));
}

/* The beginning of union bpf_attr never changes; kernel: include/uapi/linux/bpf.h. A caller that knows fewer members
 * passes less, and the kernel takes the rest as 0: so do we. */
#define ATTR_PROG_NAME 48
#define ATTR_MAP_NAME  28

/* union bpf_attr * of BPF_PROG_LOAD */
__noinline __s64 arg_bpf_attr(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_row(buf);
	struct val_bpf_prog *v;

	if (!b || !(v = val_room(b, sizeof(*v))))
		return -1;
	if (!addr || read_any(v, 8, addr)) /* prog_type, insn_cnt */
		return val_error(b, index, VAL_BPF_PROG);
	if (read_any(v->name, sizeof(v->name), addr + ATTR_PROG_NAME))
		__builtin_memset(v->name, 0, sizeof(v->name));
	return val_done(b, index, VAL_BPF_PROG, 0, sizeof(*v));
}

/* union bpf_attr * of BPF_MAP_CREATE */
__noinline __s64 arg_bpf_map_attr(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_row(buf);
	struct val_bpf_map *v;

	if (!b || !(v = val_room(b, sizeof(*v))))
		return -1;
	if (!addr || read_any(v, 16, addr)) /* map_type, key_size, value_size, max_entries */
		return val_error(b, index, VAL_BPF_MAP);
	if (read_any(v->name, sizeof(v->name), addr + ATTR_MAP_NAME))
		__builtin_memset(v->name, 0, sizeof(v->name));
	return val_done(b, index, VAL_BPF_MAP, 0, sizeof(*v));
}

/* kernel: struct bpf_prog * */
__noinline __s64 arg_bpf_prog(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_row(buf);
	struct val_bpf_prog *v;
	__u64 aux;

	if (!b || !(v = val_room(b, sizeof(*v))))
		return -1;
	aux = addr ? peek(struct bpf_prog, addr, aux) : 0;
	if (!aux || bpf_probe_read_kernel(v->name, sizeof(v->name),
					  (void *)(aux + bpf_core_field_offset(struct bpf_prog_aux, name))))
		return val_error(b, index, VAL_BPF_PROG);
	v->type = peek(struct bpf_prog, addr, type);
	v->insns = peek(struct bpf_prog, addr, len);
	return val_done(b, index, VAL_BPF_PROG, 0, sizeof(*v));
}

/* kernel: struct bpf_map * */
__noinline __s64 arg_bpf_map(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_row(buf);
	struct val_bpf_map *v;

	if (!b || !(v = val_room(b, sizeof(*v))))
		return -1;
	if (!addr || bpf_probe_read_kernel(v->name, sizeof(v->name),
					   (void *)(addr + bpf_core_field_offset(struct bpf_map, name))))
		return val_error(b, index, VAL_BPF_MAP);
	v->type = peek(struct bpf_map, addr, map_type);
	v->key_size = peek(struct bpf_map, addr, key_size);
	v->value_size = peek(struct bpf_map, addr, value_size);
	v->max_entries = peek(struct bpf_map, addr, max_entries);
	return val_done(b, index, VAL_BPF_MAP, 0, sizeof(*v));
}

/* kernel: struct perf_event_attr, include/uapi/linux/perf_event.h: its beginning never changes */
struct perf_attr {
	__u32 type, size;
	__u64 config;
	__u64 other[5];
	__u64 kprobe_func;  /* user memory; also config1 */
	__u64 probe_offset; /* also config2 */
};

#define PERF_TYPE_MAX 6	  /* kernel: above are sources with numbers of this boot, probes among them */
#define FUNC_NAME     128 /* kernel: KSYM_NAME_LEN of the time when this became an interface */

static __always_inline __s64 perf_put(__u32 buf, __u32 index, __u64 attr)
{
	struct hook_buf *b = buf_row(buf);
	struct val_perf_event *v;
	struct perf_attr a;
	__u64 n = 0;

	if (!b || !(v = val_room(b, sizeof(*v) + FUNC_NAME)))
		return -1;
	if (!attr || read_any(&a, sizeof(a), attr))
		return val_error(b, index, VAL_PERF_EVENT);
	v->type = a.type;
	v->pad = 0;
	v->config = a.config;
	v->offset = a.probe_offset;
	if (a.type >= PERF_TYPE_MAX && (__s64)a.kprobe_func > 0) {
		long got = bpf_probe_read_user_str(v + 1, FUNC_NAME, (void *)a.kprobe_func);

		if (got > 0)
			n = got - 1;
	}
	return val_done(b, index, VAL_PERF_EVENT, 0, sizeof(*v) + n);
}

/* kernel: struct perf_event * */
__noinline __s64 arg_perf_event(__u32 buf, __u32 index, __u64 addr)
{
	return perf_put(buf, index, addr ? addr + bpf_core_field_offset(struct perf_event, attr) : 0);
}

/* struct perf_event_attr *, kernel or user memory */
__noinline __s64 arg_perf_attr(__u32 buf, __u32 index, __u64 addr)
{
	return perf_put(buf, index, addr);
}

#define MODULE_NAME 64

static __always_inline __s64 module_put(__u32 buf, __u32 index, __u64 name, __u64 taints, __u32 has_sig, __u32 sig_ok)
{
	struct hook_buf *b = buf_row(buf);
	struct val_module *v;
	long n = -1;

	if (!b || !(v = val_room(b, sizeof(*v) + MODULE_NAME)))
		return -1;
	if (name)
		n = bpf_probe_read_kernel_str(v + 1, MODULE_NAME, (void *)name);
	if (n <= 0)
		return val_error(b, index, VAL_MODULE);
	v->taints = taints;
	v->has_sig = has_sig;
	v->sig_ok = sig_ok;
	return val_done(b, index, VAL_MODULE, 0, sizeof(*v) + n - 1);
}

/* kernel: struct module *; not there without CONFIG_MODULES */
__noinline __s64 arg_module(__u32 buf, __u32 index, __u64 addr)
{
	__u64 taints = 0, name = 0;
	struct module *m = (void *)addr;

	if (bpf_core_field_exists(m->taints) && addr) {
		taints = peek(struct module, addr, taints);
		name = addr + bpf_core_field_offset(struct module, name);
	}
	return module_put(buf, index, name, taints, 0, 0);
}

/* kernel: struct load_info *; not there without CONFIG_MODULES */
__noinline __s64 arg_load_info(__u32 buf, __u32 index, __u64 addr)
{
	__u64 taints = 0, name = 0, mod;
	struct load_info *l = (void *)addr;
	__u32 has_sig = 0, sig_ok = 0;

	if (bpf_core_field_exists(l->name) && addr) {
		name = peek(struct load_info, addr, name);
		mod = peek(struct load_info, addr, mod);
		if (mod)
			taints = peek(struct module, mod, taints);
		if (bpf_core_field_exists(l->sig_ok)) { /* kernel: CONFIG_MODULE_SIG */
			has_sig = 1;
			sig_ok = peek(struct load_info, addr, sig_ok);
		}
	}
	return module_put(buf, index, name, taints, has_sig, sig_ok);
}

#endif
