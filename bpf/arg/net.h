/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Sockets, packets and addresses. */
#ifndef ARG_NET_H
#define ARG_NET_H

#include "../stage/buf.h"

#define AF_UNIX	 1 /* kernel: include/linux/socket.h */
#define AF_INET	 2
#define AF_INET6 10

#define swap16(x) __builtin_bswap16(x) /* the network sends the high byte first; we run on little-endian machines */

/* Who owns a socket, as policies with TrackSock remember it. */
struct sock_key {
	__u64 sock;
	__u32 policy;
	__u32 pad;
};

struct sock_owner {
	__u64 ktime;
	__u32 pid;
	__u32 tid;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32000);
	__type(key, struct sock_key);
	__type(value, struct sock_owner);
} socks SEC(".maps");

static __always_inline __s64 put_sock(struct hook_buf *b, __u32 index, struct sock *sk, __u32 owner)
{
	struct val_sock *v = value_room(b, sizeof(*v));
	struct {
		__u32 daddr, saddr, hash;
		__u16 dport, num, family;
		__u8 state;
	} c;

	if (!v)
		return -1;
	if (!sk || bpf_probe_read_kernel(&c, sizeof(c) - 1, sk))
		return value_error(b, index, VAL_SOCK);
	__builtin_memset(v, 0, sizeof(*v));
	v->cookie = (__u64)sk;
	v->family = c.family;
	v->state = c.state;
	v->sport = c.num;
	v->dport = swap16(c.dport);
	v->type = BPF_CORE_READ(sk, sk_type);
	v->protocol = BPF_CORE_READ(sk, sk_protocol);
	v->mark = BPF_CORE_READ(sk, sk_mark);
	v->priority = BPF_CORE_READ(sk, sk_priority);
	if (c.family == AF_INET6) {
		bpf_probe_read_kernel(v->saddr, 16, (void *)sk + bpf_core_field_offset(struct sock_common___v6, skc_v6_rcv_saddr));
		bpf_probe_read_kernel(v->daddr, 16, (void *)sk + bpf_core_field_offset(struct sock_common___v6, skc_v6_daddr));
	} else if (c.family == AF_INET) {
		*(__u32 *)v->saddr = c.saddr;
		*(__u32 *)v->daddr = c.daddr;
	}
	if (owner) {
		struct sock_key k = { .sock = (__u64)sk, .policy = owner };
		struct sock_owner *o = bpf_map_lookup_elem(&socks, &k);

		if (o) {
			v->owner_ktime = o->ktime;
			v->owner_pid = o->pid;
			v->owner_tid = o->tid;
		}
	}
	if (index < BUF_SOCKS)
		b->socks[index] = (__u64)sk;
	return value_done(b, index, VAL_SOCK, 0, sizeof(*v));
}

/* owner: id of the policy whose table of owners is asked; 0 none. */
__noinline __s64 arg_sock(__u32 buf, __u32 index, __u64 addr, __u32 owner)
{
	struct hook_buf *b = buf_get(buf);

	return b ? put_sock(b, index, (struct sock *)addr, owner) : -1;
}

__noinline __s64 arg_socket(__u32 buf, __u32 index, __u64 addr, __u32 owner)
{
	return arg_sock(buf, index, addr ? (__u64)BPF_CORE_READ((struct socket *)addr, sk) : 0, owner);
}

#define IPPROTO_TCP 6
#define IPPROTO_UDP 17

struct ports {
	__u16 source, dest;
};

/* Skips extension headers of IPv6: hop-by-hop 0, routing 43, fragment 44, authentication 51, options 60. */
struct skip6 {
	__u64 at;
	__u8 proto;
	__u8 done;
};

static long skip6_step(__u32 i, struct skip6 *s)
{
	struct {
		__u8 next, len;
	} h;

	if (s->proto != 0 && s->proto != 43 && s->proto != 44 && s->proto != 51 && s->proto != 60)
		return 1;
	if (bpf_probe_read_kernel(&h, sizeof(h), (void *)s->at))
		return 1;
	s->at += s->proto == 44 ? 8 : s->proto == 51 ? (h.len + 2) * 4ull : (h.len + 1) * 8ull;
	s->proto = h.next;
	return 0;
}

__noinline __s64 arg_skb(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_get(buf);
	struct sk_buff *skb = (void *)addr;
	struct val_skb *v;
	struct skip6 s = {};
	__u64 ip;
	__u8 version = 0;

	if (!b || !(v = value_room(b, sizeof(*v))))
		return -1;
	if (!addr)
		return value_error(b, index, VAL_SKB);
	__builtin_memset(v, 0, sizeof(*v));
	v->hash = BPF_CORE_READ(skb, hash);
	v->len = BPF_CORE_READ(skb, len);
	v->priority = BPF_CORE_READ(skb, priority);
	v->mark = BPF_CORE_READ(skb, mark);
	ip = (__u64)BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, network_header);
	bpf_probe_read_kernel(&version, 1, (void *)ip);
	if (version >> 4 == 4) {
		v->family = AF_INET;
		bpf_probe_read_kernel(&s.proto, 1, (void *)ip + 9);
		bpf_probe_read_kernel(v->saddr, 4, (void *)ip + 12);
		bpf_probe_read_kernel(v->daddr, 4, (void *)ip + 16);
		s.at = ip + (version & 15) * 4;
	} else if (version >> 4 == 6) {
		v->family = AF_INET6;
		bpf_probe_read_kernel(&s.proto, 1, (void *)ip + 6);
		bpf_probe_read_kernel(v->saddr, 16, (void *)ip + 8);
		bpf_probe_read_kernel(v->daddr, 16, (void *)ip + 24);
		s.at = ip + 40;
		bpf_loop(8, skip6_step, &s, 0);
	}
	v->protocol = s.proto;
	if (v->family && (s.proto == IPPROTO_TCP || s.proto == IPPROTO_UDP)) {
		struct ports p = {};

		bpf_probe_read_kernel(&p, sizeof(p), (void *)s.at);
		v->sport = swap16(p.source);
		v->dport = swap16(p.dest);
	}
	return value_done(b, index, VAL_SKB, 0, sizeof(*v));
}

/* kernel: struct sockaddr_in and sockaddr_in6, include/uapi/linux/in.h, in6.h */
__noinline __s64 arg_sockaddr(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_get(buf);
	struct val_sockaddr *v;
	__u16 port = 0;

	if (!b || !(v = value_room(b, sizeof(*v))))
		return -1;
	__builtin_memset(v, 0, sizeof(*v));
	if (read_any(&v->family, 2, addr))
		return value_error(b, index, VAL_SOCKADDR);
	if (v->family == AF_INET || v->family == AF_INET6) {
		read_any(&port, 2, addr + 2);
		v->port = swap16(port);
		if (v->family == AF_INET)
			read_any(v->addr, 4, addr + 4);
		else
			read_any(v->addr, 16, addr + 8);
	}
	return value_done(b, index, VAL_SOCKADDR, 0, sizeof(*v));
}

#define UNIX_PATH 108

/* The path ends at its terminator; that of an abstract name, which begins with a zero byte, with the last byte of the
 * address, which nobody here knows, so it ends at the zero bytes at the end. */
__noinline __s64 arg_sockaddr_un(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_get(buf);
	__u64 *to;
	__u16 family = 0;
	char *path;
	long n;

	if (!b || !(to = value_room(b, 8 + 128)))
		return -1;
	if (read_any(&family, 2, addr))
		return value_error(b, index, VAL_SOCKADDR_UN);
	*to = family;
	if (family != AF_UNIX)
		return value_done(b, index, VAL_SOCKADDR_UN, 0, 8);
	path = (char *)(to + 1);
	n = read_any_str(path, UNIX_PATH, addr + 2);
	if (n < 0)
		return value_error(b, index, VAL_SOCKADDR_UN);
	if (n > 1 && n <= UNIX_PATH)
		return value_done(b, index, VAL_SOCKADDR_UN, 0, 8 + n - 1);
	path[0] = 0;
	n = read_any_str(path + 1, UNIX_PATH - 1, addr + 3);
	if (n > 1 && n < UNIX_PATH)
		return value_done(b, index, VAL_SOCKADDR_UN, 0, 8 + n);
	return value_done(b, index, VAL_SOCKADDR_UN, 0, 8);
}

#endif
