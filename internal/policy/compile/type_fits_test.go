// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"testing"

	"tetragon/internal/kernel"
)

// What a member is, as the kernel's types say it, and whether a type of the language reads it.
func TestTypeRow_memberFits(t *testing.T) {
	number := kernel.Member{Type: "unsigned int", Name: "unsigned int", Int: true, Bits: 32}
	for _, c := range []struct {
		m    kernel.Member
		row  string
		fits bool
	}{
		{kernel.Member{Type: "struct tcp_sock *", Name: "tcp_sock", First: []string{"inet_connection_sock", "inet_sock", "sock", "sock_common"}}, "sock", true},
		{kernel.Member{Type: "struct inet_sock", Name: "inet_sock", First: []string{"sock", "sock_common"}}, "sock", true},
		{kernel.Member{Type: "struct sock_common *", Name: "sock_common"}, "sock", false},
		{kernel.Member{Type: "struct sock **", Name: "sock"}, "sock", false},
		{kernel.Member{Type: "struct sockaddr_storage", Name: "sockaddr_storage"}, "sockaddr", true},
		{kernel.Member{Type: "void *", Name: "void"}, "file", true},
		{kernel.Member{Type: "void *"}, "string", true},
		{kernel.Member{Type: "struct file **", Name: "file"}, "uint64", true},
		{kernel.Member{Type: "struct file *", Name: "file"}, "uint32", false},
		{kernel.Member{Type: "const unsigned char *", Name: "unsigned char"}, "string", true},
		{kernel.Member{Type: "char[16]"}, "string", true},
		{kernel.Member{Type: "__u8[16]"}, "string", true},
		{kernel.Member{Type: "int[4]"}, "string", false},
		{kernel.Member{Type: "int[4]"}, "char_buf", true},
		{kernel.Member{Type: "kernel_cap_t", Name: "kernel_cap_t"}, "cap_permitted", true},
		{kernel.Member{Type: "struct path", Name: "path"}, "path", true},
		{kernel.Member{Type: "struct path", Name: "path"}, "dentry", false},
		{number, "int64", true}, {number, "fd", true}, {number, "cred", false}, {number, "kernel_cap_t", false}, {number, "char_buf", false},
	} {
		if got := rowOf(c.row).memberFits(&c.m); got != c.fits {
			t.Errorf("%s as %s: %t, want %t", c.m.Type, c.row, got, c.fits)
		}
	}
}
