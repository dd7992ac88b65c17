// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrOccupied says that somebody else serves the address.
var ErrOccupied = errors.New("occupied by another process")

// Address is where to listen.
type Address struct {
	Network string // "unix" or "tcp"
	Address string // absolute path, or host:port

	ReadOnly bool   // of a socket: its clients may change nothing
	Group    string // of a socket: name or number of the group that may use it, too; empty: its owner alone

	TLS      *TLS     // of TCP; nil: none, and clients may change nothing
	Insecure bool     // of TCP: may do without TLS
	Admins   []string // of TCP: names of certificates whose clients may change something; empty: all that are asked for
}

// Listen opens all addresses, or none.
func Listen(addrs []Address, log *slog.Logger) ([]net.Listener, error) {
	var ls []net.Listener
	for _, a := range addrs {
		l, err := listen(a, log)
		if err != nil {
			errs := []error{fmt.Errorf("listen on %s %s: %w", a.Network, a.Address, err)}
			for _, l := range ls {
				errs = append(errs, l.Close())
			}
			return nil, errors.Join(errs...)
		}
		ls = append(ls, l)
	}
	return ls, nil
}

func listen(a Address, log *slog.Logger) (net.Listener, error) {
	switch a.Network {
	case "unix":
		l, err := listenUnix(a.Address, a.Group)
		if err != nil {
			return nil, err
		}
		return &listener{l, a}, nil
	case "tcp":
		l, err := listenTCP(a, log)
		if err != nil {
			return nil, err
		}
		return &listener{l, a}, nil
	}
	return nil, errors.New("neither unix nor tcp")
}

// listenTCP serves without TLS only by order: everybody who can reach the port reads all events then.
func listenTCP(a Address, log *slog.Logger) (net.Listener, error) {
	host, port, err := net.SplitHostPort(a.Address)
	if err != nil {
		return nil, err
	}
	if host == "localhost" {
		host = "127.0.0.1" // whatever this machine's resolver makes of it
	}
	if a.TLS == nil && !a.Insecure {
		return nil, errors.New("TCP needs server-tls-cert-file and server-tls-key-file; use a unix socket, unix:///PATH, or, if " +
			"everybody who reaches the port may read all events, server-insecure")
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w; stop it or choose another server-address", ErrOccupied)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case a.TLS == nil:
		log.Warn("everybody who can reach this port reads events, because there is no TLS", "address", l.Addr().String())
	case !a.TLS.mutual():
		log.Warn("everybody who can reach this port reads events, because clients need no certificate; "+
			"see server-tls-require-client-cert", "address", l.Addr().String())
	}
	return l, nil
}

// socketPathMax is what fits into sockaddr_un, with the NUL at its end.
const socketPathMax = 107

// privateMax is what "/.s0123456789/s", the name of the socket while it is private, adds to its directory's.
const privateMax = 15

// listenUnix makes the socket in a private directory, where its mode can be set before anybody can connect, and moves
// it into place. A socket that nobody answers on, left by an agent that was killed, is replaced.
func listenUnix(path, group string) (net.Listener, error) {
	gid, err := groupID(group)
	if err != nil {
		return nil, err
	}
	if !filepath.IsAbs(path) {
		return nil, errors.New("the path must be absolute, as in unix:///run/tetragon.sock")
	}
	if len(path) > socketPathMax {
		return nil, fmt.Errorf("the path has %d bytes; a socket's may have %d", len(path), socketPathMax)
	}
	if len(filepath.Dir(path))+privateMax > socketPathMax {
		return nil, fmt.Errorf("the path of its directory is too long for a socket; choose a shorter one than %s", filepath.Dir(path))
	}
	if err := vacant(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	private, err := os.MkdirTemp(filepath.Dir(path), ".s") // mode 0700; short, for the same limit
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(private) //nolint:errcheck // an empty directory that could stay
	tmp := filepath.Join(private, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // by then it has another name
	u := &unixListener{UnixListener: l, path: path}
	mode := fs.FileMode(0o600)
	if gid >= 0 {
		mode = 0o660
		err = os.Chown(tmp, -1, gid)
	}
	if err == nil {
		err = os.Chmod(tmp, mode)
	}
	if err == nil {
		u.id, err = os.Lstat(tmp)
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return u, nil
}

// groupID returns the number of a group; -1 if there is none to be found.
func groupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if n, err := strconv.ParseUint(group, 10, 31); err == nil {
		return int(n), nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, fmt.Errorf("find the group of the socket: %w; create it, or see server-socket-group", err)
	}
	return strconv.Atoi(g.Gid)
}

// vacant checks that nothing that lives, and nothing but a socket, has the path.
func vacant(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode()&fs.ModeSocket == 0 {
		return errors.New("there is something else than a socket; remove it or choose another server-address")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = conn.Close()
		return fmt.Errorf("%w; is another agent running?", ErrOccupied)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w, which does not answer", ErrOccupied)
	}
	return err
}

// unixListener takes its socket away when it is closed, unless another one is in its place by then.
type unixListener struct {
	*net.UnixListener
	path string
	id   fs.FileInfo

	once sync.Once
	err  error
}

// Addr implements net.Listener; the address is the name that clients use.
func (u *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: u.path, Net: "unix"} }

// Close implements net.Listener.
func (u *unixListener) Close() error {
	u.once.Do(func() {
		u.err = u.UnixListener.Close()
		if st, err := os.Lstat(u.path); err == nil && os.SameFile(st, u.id) {
			u.err = errors.Join(u.err, os.Remove(u.path))
		}
	})
	return u.err
}

// Target returns what a client dials to reach a listener.
func Target(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return "unix://" + strings.TrimPrefix(l.Addr().String(), "unix://")
	}
	return l.Addr().String()
}
