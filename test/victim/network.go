// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"net"
	"os"
)

// sayEnds prints both ends of a connection.
func sayEnds(c net.Conn) {
	for name, a := range map[string]net.Addr{"L": c.LocalAddr(), "R": c.RemoteAddr()} {
		if host, port, err := net.SplitHostPort(a.String()); err == nil {
			say(name+"ADDR", host)
			say(name+"PORT", port)
		}
	}
}

// connect makes a TCP connection and closes it.
func connect(args []string) error {
	if len(args) != 1 {
		return errors.New("want an address")
	}
	say("PID", os.Getpid())
	c, err := net.Dial("tcp", args[0])
	if err != nil {
		return err
	}
	sayEnds(c)
	return c.Close()
}

// datagram sends one.
func datagram(args []string) error {
	if len(args) != 2 {
		return errors.New("want an address and a text")
	}
	say("PID", os.Getpid())
	c, err := net.Dial("udp", args[0])
	if err != nil {
		return err
	}
	sayEnds(c)
	if _, err := c.Write([]byte(args[1])); err != nil {
		return err
	}
	return c.Close()
}

// unixConnect connects to a unix socket of its own; a name with @ has no file.
func unixConnect(args []string) error {
	if len(args) != 1 {
		return errors.New("want a name")
	}
	l, err := net.Listen("unix", args[0])
	if err != nil {
		return err
	}
	defer l.Close()
	say("PID", os.Getpid())
	c, err := net.Dial("unix", args[0])
	if err != nil {
		return err
	}
	return c.Close()
}

const page = "HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello\n"

// serve answers everybody with the same page until its input ends.
func serve(args []string) error {
	addr := "127.0.0.1:0"
	if len(args) > 0 {
		addr = args[0]
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return err
	}
	say("SERVER_PID", os.Getpid())
	say("PORT", port)
	say("READY", 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 4096)
				if n, err := c.Read(buf); n > 0 && err == nil {
					_, _ = io.WriteString(c, page)
				}
			}()
		}
	}()
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// freePort finds a port that nobody listens at.
func freePort([]string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return err
	}
	say("PORT", port)
	return l.Close()
}

// serveDNS answers each question with one address, and prints PORT= first.
func serveDNS([]string) error {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		return err
	}
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			// RFC 1035: the header of 12 bytes, then the question, whose name ends with a zero byte.
			end := 12
			for end < n && b[end] != 0 {
				end += 1 + int(b[end])
			}
			if end+5 > n {
				continue
			}
			a := append([]byte{}, b[:end+5]...)
			a[2], a[3] = 0x84, 0 // an answer, of who knows
			copy(a[4:12], []byte{0, 1, 0, 1, 0, 0, 0, 0})
			a = append(a, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1)
			_, _ = c.WriteTo(a, from)
		}
	}()
	say("PORT", port)
	say("READY", 1)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return c.Close()
}
