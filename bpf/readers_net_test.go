// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"tetragon/internal/abi"
)

func (l *lab) socketOf(fd int) address {
	return address{from: fileOf, n: uint64(fd)}.load(l.member("file", "private_data"))
}

// sockOf is the struct sock behind a descriptor.
func (l *lab) sockOf(fd int) address { return l.socketOf(fd).load(l.member("socket", "sk")) }

func socket(t testing.TB, family, typ int) int {
	t.Helper()
	fd, err := unix.Socket(family, typ, 0)
	if err != nil {
		t.Skipf("needs sockets of family %d: %v", family, err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func addrOf(t testing.TB, get func(int) (unix.Sockaddr, error), fd int) netip.AddrPort {
	t.Helper()
	sa, err := get(fd)
	if err != nil {
		t.Fatal(err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	t.Fatalf("address %T", sa)
	return netip.AddrPort{}
}

func loopback(family int) unix.Sockaddr {
	if family == unix.AF_INET {
		return &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	}
	return &unix.SockaddrInet6{Addr: [16]byte{15: 1}}
}

// connected makes two sockets that talk to each other.
func connected(t testing.TB, family, typ int) (client, server int) {
	t.Helper()
	listener := socket(t, family, typ)
	if err := unix.Bind(listener, loopback(family)); err != nil {
		t.Skipf("needs the loopback device: %v", err)
	}
	if typ == unix.SOCK_STREAM {
		if err := unix.Listen(listener, 1); err != nil {
			t.Fatal(err)
		}
	}
	sa, err := unix.Getsockname(listener)
	if err != nil {
		t.Fatal(err)
	}
	client = socket(t, family, typ)
	if err := unix.Connect(client, sa); err != nil {
		t.Skipf("needs the loopback device: %v", err)
	}
	if typ != unix.SOCK_STREAM {
		return client, listener
	}
	server, _, err = unix.Accept(listener)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(server) })
	return client, server
}

func ipOf(family uint16, b [16]uint8) netip.Addr {
	if family == unix.AF_INET {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16(b)
}

func TestReaders_sockets(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		name        string
		family, typ int
		proto       uint16
		state       uint8
	}{
		{"tcp", unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP, 1},
		{"tcp6", unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_TCP, 1},
		{"udp", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP, 1},
		{"udp6", unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			l.t = t
			fd, _ := connected(t, c.family, c.typ)
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 77); err != nil {
				t.Fatal(err)
			}
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, 5); err != nil {
				t.Fatal(err)
			}
			res := l.call("arg_sock", "index", l.sockOf(fd), 0)
			v := as[abi.ValSock](t, l.one(res, abi.ValueSock, 0))
			src, dst := addrOf(t, unix.Getsockname, fd), addrOf(t, unix.Getpeername, fd)
			if int(v.Family) != c.family || int(v.Type) != c.typ || v.Protocol != c.proto || v.State != c.state || v.Mark != 77 || v.Priority != 5 {
				t.Errorf("got %+v", v)
			}
			if got := netip.AddrPortFrom(ipOf(v.Family, v.Saddr), v.Sport); got != src {
				t.Errorf("from %v, want %v", got, src)
			}
			if got := netip.AddrPortFrom(ipOf(v.Family, v.Daddr), v.Dport); got != dst {
				t.Errorf("to %v, want %v", got, dst)
			}
			socks := res.buf[l.offset("socks")+8*valueIndex:]
			if v.Cookie>>63 != 1 || binary.NativeEndian.Uint64(socks) != v.Cookie {
				t.Errorf("cookie %x, remembered %x", v.Cookie, socks[:8])
			}
			same := as[abi.ValSock](t, l.one(l.call("arg_socket", "index", l.socketOf(fd), 0), abi.ValueSock, 0))
			if same != v {
				t.Errorf("arg_socket: %+v, arg_sock %+v", same, v)
			}
			// An owner is told only to the policy that asks.
			key := struct {
				sock        uint64
				policy, pad uint32
			}{v.Cookie, 9, 0}
			owner := struct {
				ktime    uint64
				pid, tid uint32
			}{12345, 67, 68}
			if err := l.tables.Maps["socks"].Put(unsafe.Slice((*byte)(unsafe.Pointer(&key)), 16), unsafe.Slice((*byte)(unsafe.Pointer(&owner)), 16)); err != nil {
				t.Fatal(err)
			}
			for _, policy := range []uint64{0, 8, 9} {
				v := as[abi.ValSock](t, l.one(l.call("arg_sock", "index", l.sockOf(fd), policy), abi.ValueSock, 0))
				if known := v.OwnerKtime == 12345 && v.OwnerPid == 67 && v.OwnerTid == 68; known != (policy == 9) {
					t.Errorf("policy %d: owner %d %d %d", policy, v.OwnerKtime, v.OwnerPid, v.OwnerTid)
				}
			}
		})
	}
	l.t = t
	fd := socket(t, unix.AF_UNIX, unix.SOCK_SEQPACKET)
	v := as[abi.ValSock](t, l.one(l.call("arg_sock", "index", l.sockOf(fd), 0), abi.ValueSock, 0))
	if v.Family != unix.AF_UNIX || v.Type != unix.SOCK_SEQPACKET || v.Sport != 0 || v.Dport != 0 || v.Saddr != [16]uint8{} {
		t.Errorf("unix: got %+v", v)
	}
	for _, name := range []string{"arg_sock", "arg_socket"} {
		res := l.call(name, "index", num(0), 0)
		l.one(res, abi.ValueSock, abi.ValueFlagError)
		if socks := res.buf[l.offset("socks")+8*valueIndex:]; res.r != -1 || binary.NativeEndian.Uint64(socks) != 0 {
			t.Errorf("%s without a socket: %d, remembered %x", name, res.r, socks[:8])
		}
	}
	// A connection that waits for its end is a smaller object.
	small := make([]byte, 1024)
	for i := range small {
		small[i] = 0xee
	}
	binary.NativeEndian.PutUint16(small[l.member("sock", "__sk_common.skc_family"):], unix.AF_INET)
	small[l.member("sock", "__sk_common.skc_state")] = 6
	l.object(small)
	v = as[abi.ValSock](t, l.one(l.call("arg_sock", "index", address{from: inKernel}, 0), abi.ValueSock, 0))
	if v.State != 6 || v.Type != 0 || v.Protocol != 0 || v.Mark != 0 || v.Priority != 0 {
		t.Errorf("small: got %+v", v)
	}
}

func TestReaders_packets(t *testing.T) {
	l := newLab(t)
	hop := []byte{0, 0, 1, 4, 0, 0, 0, 0} // one option of padding
	for _, c := range []struct {
		name    string
		family  int
		options map[int]int // option of the socket -> how many bytes of 8
	}{
		{"v4", unix.AF_INET, nil},
		{"v6", unix.AF_INET6, nil},
		{"v6 with headers", unix.AF_INET6, map[int]int{unix.IPV6_HOPOPTS: 1, unix.IPV6_DSTOPTS: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l.t = t
			from, to := connected(t, c.family, unix.SOCK_DGRAM)
			for o := range c.options {
				if err := unix.SetsockoptString(from, unix.IPPROTO_IPV6, o, string(hop)); err != nil {
					t.Skipf("needs options of IPv6: %v", err)
				}
			}
			if err := unix.SetsockoptInt(from, unix.SOL_SOCKET, unix.SO_MARK, 99); err != nil {
				t.Fatal(err)
			}
			if _, err := unix.Write(from, []byte("payload")); err != nil {
				t.Fatal(err)
			}
			queue := l.sockOf(to).load(l.member("sock", "sk_receive_queue") + l.member("sk_buff_head", "next"))
			v := as[abi.ValSkb](t, l.one(l.call("arg_skb", "index", queue), abi.ValueSkb, 0))
			src, dst := addrOf(t, unix.Getsockname, from), addrOf(t, unix.Getpeername, from)
			if int(v.Family) != c.family || v.Protocol != unix.IPPROTO_UDP || v.Len == 0 {
				t.Errorf("got %+v", v)
			}
			if got := netip.AddrPortFrom(ipOf(v.Family, v.Saddr), v.Sport); got != src {
				t.Errorf("from %v, want %v", got, src)
			}
			if got := netip.AddrPortFrom(ipOf(v.Family, v.Daddr), v.Dport); got != dst {
				t.Errorf("to %v, want %v", got, dst)
			}
		})
	}
	l.t = t
	l.one(l.call("arg_skb", "index", num(0)), abi.ValueSkb, abi.ValueFlagError)
	l.one(l.call("arg_skb", "index", num(1<<63|nowhere)), abi.ValueSkb, abi.ValueFlagError)
}

// Packets that no socket makes, as bytes in kernel memory.
func TestReaders_madeUpPackets(t *testing.T) {
	l := newLab(t)
	base := l.kernelAddress()
	const netAt = 512
	packet := func(net []byte) abi.ValSkb {
		t.Helper()
		b := make([]byte, 1024)
		binary.NativeEndian.PutUint64(b[l.member("sk_buff", "head"):], base)
		binary.NativeEndian.PutUint16(b[l.member("sk_buff", "network_header"):], netAt)
		binary.NativeEndian.PutUint32(b[l.member("sk_buff", "len"):], uint32(len(net)))
		copy(b[netAt:], net)
		l.object(b)
		return as[abi.ValSkb](t, l.one(l.call("arg_skb", "index", address{from: inKernel}), abi.ValueSkb, 0))
	}
	v4 := func(ihl byte, frag uint16, proto byte) []byte {
		b := make([]byte, int(ihl)*4)
		b[0] = 4<<4 | ihl
		binary.BigEndian.PutUint16(b[6:], frag)
		b[9] = proto
		copy(b[12:], []byte{10, 1, 2, 3, 10, 4, 5, 6})
		return b
	}
	v6 := func(next byte) []byte {
		b := make([]byte, 40)
		b[0], b[6] = 6<<4, next
		b[8], b[23], b[24], b[39] = 0xfd, 1, 0xfd, 2
		return b
	}
	ports := []byte{0x12, 0x34, 0, 80}
	ext := func(next, units byte, size int) []byte { b := make([]byte, size); b[0], b[1] = next, units; return b }
	join := func(bs ...[]byte) []byte { return bytes.Join(bs, nil) }
	seven := join(v6(0), ext(43, 0, 8), ext(60, 1, 16), ext(44, 0, 8), ext(51, 200, 8), ext(60, 1, 12), ext(60, 0, 8), ext(6, 0, 8), ports)
	eight := join(v6(60), bytes.Repeat(ext(60, 0, 8), 7), ext(17, 0, 8), ports)
	for _, c := range []struct {
		name   string
		net    []byte
		family uint16
		proto  uint16
		sport  uint16
	}{
		{"tcp", join(v4(5, 0, 6), ports), unix.AF_INET, 6, 0x1234},
		{"options", join(v4(8, 0, 17), ports), unix.AF_INET, 17, 0x1234},
		{"not to be fragmented", join(v4(5, 0x4000, 17), ports), unix.AF_INET, 17, 0x1234},
		{"later fragment", join(v4(5, 0x2005, 17), ports), unix.AF_INET, 17, 0},
		{"icmp", join(v4(5, 0, 1), ports), unix.AF_INET, 1, 0},
		{"v6 tcp", join(v6(6), ports), unix.AF_INET6, 6, 0x1234},
		{"v6 encrypted", join(v6(0), ext(50, 0, 8), ports), unix.AF_INET6, 50, 0},
		{"v6 authenticated", join(v6(51), ext(17, 4, 24), ports), unix.AF_INET6, 17, 0x1234},
		{"v6 fragment", join(v6(44), ext(17, 99, 8), ports), unix.AF_INET6, 17, 0x1234},
		{"v6 seven headers", seven, unix.AF_INET6, 6, 0x1234},
		{"v6 eight headers", eight, unix.AF_INET6, 60, 0},
		{"arp", make([]byte, 28), 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			l.t = t
			v := packet(c.net)
			dport := uint16(0)
			if c.sport != 0 {
				dport = 80
			}
			if v.Family != c.family || v.Protocol != c.proto || v.Sport != c.sport || v.Dport != dport || int(v.Len) != len(c.net) {
				t.Errorf("got %+v", v)
			}
		})
	}
}

func TestReaders_addresses(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		name string
		raw  []byte
		want abi.ValSockaddr
	}{
		{"v4", []byte{2, 0, 0x1f, 0x90, 1, 2, 3, 4}, abi.ValSockaddr{Family: 2, Port: 8080, Addr: [16]uint8{1, 2, 3, 4}}},
		{"v6", append([]byte{10, 0, 0, 53, 0, 0, 0, 0}, bytes.Repeat([]byte{0xfd}, 16)...),
			abi.ValSockaddr{Family: 10, Port: 53, Addr: [16]uint8(bytes.Repeat([]byte{0xfd}, 16))}},
		{"unix", []byte{1, 0, '/', 'x', 0, 0, 0, 0}, abi.ValSockaddr{Family: 1}},
		{"netlink", []byte{16, 0, 9, 9, 9, 9, 9, 9}, abi.ValSockaddr{Family: 16}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l.t = t
			if got := as[abi.ValSockaddr](t, l.one(l.call("arg_sockaddr", "index", num(l.at(0, c.raw))), abi.ValueSockaddr, 0)); got != c.want {
				t.Errorf("user memory: got %+v", got)
			}
			l.object(c.raw)
			if got := as[abi.ValSockaddr](t, l.one(l.call("arg_sockaddr", "index", address{from: inKernel}), abi.ValueSockaddr, 0)); got != c.want {
				t.Errorf("kernel memory: got %+v", got)
			}
		})
	}
	l.t = t
	for _, n := range []uint64{0, nowhere, 1<<63 | nowhere} {
		l.one(l.call("arg_sockaddr", "index", num(n)), abi.ValueSockaddr, abi.ValueFlagError)
		l.one(l.call("arg_sockaddr_un", "index", num(n)), abi.ValueSockaddrUn, abi.ValueFlagError)
	}
	full := strings.Repeat("p", 108)
	for _, c := range []struct{ name, path, want string }{
		{"path", "/run/x.sock\x00\x00", "/run/x.sock"},
		{"without end", full + "z", full},
		{"abstract", "\x00name\x00rest", "\x00name"},
		{"long abstract", "\x00" + full[:107] + "z", "\x00" + full[:107]},
		{"neither", "\x00\x00\x00", ""},
	} {
		t.Run("unix "+c.name, func(t *testing.T) {
			l.t = t
			res := l.call("arg_sockaddr_un", "index", num(l.at(0, append([]byte{1, 0}, c.path...))))
			got := l.one(res, abi.ValueSockaddrUn, 0)
			if binary.NativeEndian.Uint64(got) != unix.AF_UNIX || string(got[8:]) != c.want || !bytes.Equal(res.placed(t), got) {
				t.Errorf("got %q, want %q", got[8:], c.want)
			}
		})
	}
	l.t = t
	got := l.one(l.call("arg_sockaddr_un", "index", num(l.at(0, []byte{2, 0, 1, 2, 3, 4}))), abi.ValueSockaddrUn, 0)
	if len(got) != 8 || got[0] != 2 {
		t.Errorf("not unix: %x", got)
	}
}
