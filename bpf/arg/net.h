/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Sockets, packets and addresses. */
#ifndef ARG_NET_H
#define ARG_NET_H

#include "../lib/buf.h"

#define AF_UNIX		 1 /* kernel: include/linux/socket.h */
#define AF_INET		 2
#define AF_INET6	 10

#define TCP_TIME_WAIT	 6 /* kernel: include/net/tcp_states.h */
#define TCP_NEW_SYN_RECV 12

#define IPPROTO_TCP	 6
#define IPPROTO_UDP	 17

/* What comes over the network has its high byte first. */
#define ntoh16(x) __builtin_bswap16(x)

/* Who owns a socket, for the policies that track sockets. */
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

/* owner: the policy whose table of owners is asked; 0: none. */
__noinline __s64 arg_sock(__u32 buf, __u32 index, __u64 addr, __u32 owner)
{
	struct hook_buf *b = buf_row(buf);
	struct val_sock *v;
	__u32 slot = index;

	if (!b || !(v = val_room(b, sizeof(*v))))
		return -1;
	if (slot < BUF_SOCKS)
		b->socks[slot] = addr;
	if (!addr)
		return val_error(b, index, VAL_SOCK);
	__builtin_memset(v, 0, sizeof(*v));
	v->cookie = addr;
	v->family = peek(struct sock, addr, __sk_common.skc_family);
	v->state = peek(struct sock, addr, __sk_common.skc_state);
	v->sport = peek(struct sock, addr, __sk_common.skc_num);
	v->dport = ntoh16((__u16)peek(struct sock, addr, __sk_common.skc_dport));
	/* kernel: a connection that is not one yet, or not one any more, is a smaller object that only begins like a sock */
	if (v->state != TCP_TIME_WAIT && v->state != TCP_NEW_SYN_RECV) {
		v->type = peek(struct sock, addr, sk_type);
		v->protocol = peek(struct sock, addr, sk_protocol);
		v->mark = peek(struct sock, addr, sk_mark);
		v->priority = peek(struct sock, addr, sk_priority);
	}
	if (v->family == AF_INET) {
		*(__u32 *)v->saddr = peek(struct sock, addr, __sk_common.skc_rcv_saddr);
		*(__u32 *)v->daddr = peek(struct sock, addr, __sk_common.skc_daddr);
	} else if (v->family == AF_INET6) {
		struct sock *sk = (void *)addr;

		if (bpf_core_field_exists(sk->__sk_common.skc_v6_daddr)) { /* kernel: CONFIG_IPV6 */
			bpf_probe_read_kernel(v->saddr, 16, &sk->__sk_common.skc_v6_rcv_saddr);
			bpf_probe_read_kernel(v->daddr, 16, &sk->__sk_common.skc_v6_daddr);
		}
	} else {
		v->sport = v->dport = 0; /* the room is used for something else */
	}
	if (owner) {
		struct sock_key k = { .sock = addr, .policy = owner };
		struct sock_owner *o = bpf_map_lookup_elem(&socks, &k);

		if (o) {
			v->owner_ktime = o->ktime;
			v->owner_pid = o->pid;
			v->owner_tid = o->tid;
		}
	}
	return val_done(b, index, VAL_SOCK, 0, sizeof(*v));
}

/* kernel: struct socket * */
__noinline __s64 arg_socket(__u32 buf, __u32 index, __u64 addr, __u32 owner)
{
	return arg_sock(buf, index, addr ? peek(struct socket, addr, sk) : 0, owner);
}

#define HEADERS6_MAX 7 /* extension headers that are skipped */

struct headers6 {
	__u64 at;
	__u32 next, done;
};

/* kernel: include/net/ipv6.h: hop-by-hop 0, routing 43, fragment 44, authentication 51, destination 60. Behind an encrypted
 * header and others nothing can be known. */
static long header6_step(__u32 i, struct headers6 *h)
{
	struct {
		__u8 next, len;
	} e = {};
	__u32 n = h->next;

	if (n != 0 && n != 43 && n != 44 && n != 51 && n != 60) {
		h->done = 1;
		return 1;
	}
	if (i == HEADERS6_MAX)
		return 1;
	if (bpf_probe_read_kernel(&e, sizeof(e), (void *)h->at))
		return 1;
	h->at += n == 44 ? 8 : n == 51 ? (e.len + 2) * 4 : (e.len + 1) * 8;
	h->next = e.next;
	return 0;
}

struct head4 {
	__u8 version_len, tos;
	__be16 len, id, frag;
	__u8 ttl, protocol;
	__u16 check;
	__be32 saddr, daddr;
};

struct head6 {
	__u8 version, class[3];
	__be16 len;
	__u8 next, hops;
	__u8 saddr[16], daddr[16];
};

/* kernel: struct sk_buff *. What it holds is taken from its network header, as far as there is one. */
__noinline __s64 arg_skb(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_row(buf);
	struct val_skb *v;
	struct headers6 h = {};
	__u64 net;
	__u8 version = 0;
	struct {
		__be16 source, dest;
	} ports = {};

	if (!b || !(v = val_room(b, sizeof(*v))))
		return -1;
	if (!addr ||
	    bpf_probe_read_kernel(&v->len, sizeof(v->len), (void *)(addr + bpf_core_field_offset(struct sk_buff, len))))
		return val_error(b, index, VAL_SKB);
	__builtin_memset(v, 0, sizeof(*v));
	v->len = peek(struct sk_buff, addr, len);
	v->hash = peek(struct sk_buff, addr, hash);
	v->mark = peek(struct sk_buff, addr, mark);
	v->priority = peek(struct sk_buff, addr, priority);
	if (bpf_core_enum_value_exists(enum skb_ext_id, SKB_EXT_SEC_PATH)) { /* kernel: CONFIG_XFRM, 5.0.. */
		__u64 id = bpf_core_enum_value(enum skb_ext_id, SKB_EXT_SEC_PATH);
		__u64 ext = peek(struct sk_buff, addr, extensions);
		__u8 off = 0;

		if (ext && peek(struct sk_buff, addr, active_extensions) >> (id & 7) & 1 &&
		    !bpf_probe_read_kernel(&off, 1,
					   (void *)(ext + bpf_core_field_offset(struct skb_ext, offset) + id))) {
			ext += off * 8ull; /* kernel: skb_ext_get_ptr() */
			v->sec_path_len = peek(struct sec_path, ext, len);
			v->sec_path_olen = peek(struct sec_path, ext, olen);
		}
	}
	net = peek(struct sk_buff, addr, head) + peek(struct sk_buff, addr, network_header);
	bpf_probe_read_kernel(&version, 1, (void *)net);
	if (version >> 4 == 4) {
		struct head4 p = {};

		bpf_probe_read_kernel(&p, sizeof(p), (void *)net);
		v->family = AF_INET;
		*(__u32 *)v->saddr = p.saddr;
		*(__u32 *)v->daddr = p.daddr;
		h.next = p.protocol;
		h.at = net + (version & 15) * 4;
		h.done = !(ntoh16(p.frag) & 0x1fff); /* only the first fragment has a header behind this one */
	} else if (version >> 4 == 6) {
		struct head6 p = {};

		bpf_probe_read_kernel(&p, sizeof(p), (void *)net);
		v->family = AF_INET6;
		__builtin_memcpy(v->saddr, p.saddr, 16);
		__builtin_memcpy(v->daddr, p.daddr, 16);
		h.next = p.next;
		h.at = net + sizeof(p);
		bpf_loop(HEADERS6_MAX + 1, header6_step, &h, 0);
	}
	v->protocol = h.next;
	if (h.done && (h.next == IPPROTO_TCP || h.next == IPPROTO_UDP)) {
		bpf_probe_read_kernel(&ports, sizeof(ports), (void *)h.at);
		v->sport = ntoh16(ports.source);
		v->dport = ntoh16(ports.dest);
	}
	return val_done(b, index, VAL_SKB, 0, sizeof(*v));
}

/* kernel: struct sockaddr *, by its family struct sockaddr_in or sockaddr_in6 */
__noinline __s64 arg_sockaddr(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_row(buf);
	struct val_sockaddr *v;
	__u16 port = 0;
	long bad = 0;

	if (!b || !(v = val_room(b, sizeof(*v))))
		return -1;
	__builtin_memset(v, 0, sizeof(*v));
	if (!addr || read_any(&v->family, 2, addr))
		return val_error(b, index, VAL_SOCKADDR);
	if (v->family == AF_INET)
		bad = read_any(&port, 2, addr + 2) || read_any(v->addr, 4, addr + 4);
	else if (v->family == AF_INET6)
		bad = read_any(&port, 2, addr + 2) || read_any(v->addr, 16, addr + 8);
	if (bad)
		return val_error(b, index, VAL_SOCKADDR);
	v->port = ntoh16(port);
	return val_done(b, index, VAL_SOCKADDR, 0, sizeof(*v));
}

#define UNIX_PATH 108 /* kernel: include/uapi/linux/un.h */

/* kernel: struct sockaddr_un *. Its length is not known here: a path ends at its terminator, and so does the name of an
 * abstract address, which begins with a zero byte. */
__noinline __s64 arg_sockaddr_un(__u32 buf, __u32 index, __u64 addr)
{
	struct hook_buf *b = buf_row(buf);
	__u16 family = 0;
	char *path;
	__u64 *to;
	long n;

	if (!b || !(to = val_room(b, 128)))
		return -1;
	if (!addr || read_any(&family, 2, addr))
		return val_error(b, index, VAL_SOCKADDR_UN);
	*to = family;
	if (family != AF_UNIX)
		return val_done(b, index, VAL_SOCKADDR_UN, 0, 8);
	path = (char *)(to + 1);
	n = read_any_str(path, UNIX_PATH + 1, addr + 2);
	if (n <= 0)
		return val_error(b, index, VAL_SOCKADDR_UN);
	n--;
	if (n == 0) {
		n = read_any_str(path + 1, UNIX_PATH, addr + 3);
		if (n < 0)
			n = 0;
		if (n == 1)
			n = 0; /* neither a path nor a name: the kernel chooses one */
	}
	return val_done(b, index, VAL_SOCKADDR_UN, 0, 8 + n);
}

#endif
