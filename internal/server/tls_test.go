// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"tetragon/api/v1/tetragon"
	"tetragon/internal/server"
)

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

var serial int64

func issue(t testing.TB, name string, by *authority) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial++
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: by == nil, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	parent, signer := c, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return &authority{c, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func (a *authority) keyPEM(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// save writes a file as a careful program does: at once.
func save(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path+".new", b, 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

type tlsFiles struct{ dir, cert, key, ca string }

func newTLSFiles(t *testing.T) tlsFiles {
	d := t.TempDir()
	return tlsFiles{d, filepath.Join(d, "cert.pem"), filepath.Join(d, "key.pem"), filepath.Join(d, "ca.pem")}
}

// call returns what one client gets for reading, and for changing something.
func call(t *testing.T, target string, creds credentials.TransportCredentials) (read, change error) {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // a test
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := tetragon.NewFineGuidanceSensorsClient(conn)
	_, read = c.GetVersion(ctx, &tetragon.GetVersionRequest{})
	_, change = c.DeleteTracingPolicy(ctx, &tetragon.DeleteTracingPolicyRequest{Name: "x"})
	return read, change
}

func TestRoles(t *testing.T) {
	ca, other := issue(t, "ca", nil), issue(t, "other", nil)
	f := newTLSFiles(t)
	srv := issue(t, "server", ca)
	save(t, f.cert, srv.pem)
	save(t, f.key, srv.keyPEM(t))
	save(t, f.ca, ca.pem)
	listen := func(a server.Address) string {
		t.Helper()
		s := start(t, server.Options{})
		ls, err := server.Listen([]server.Address{a}, quiet())
		if err != nil {
			t.Fatal(err)
		}
		s.Serve(ls[0])
		return server.Target(ls[0])
	}
	secure := func(clientCAs ...string) *server.TLS {
		t.Helper()
		s, err := server.NewTLS(server.TLSOptions{CertFile: f.cert, KeyFile: f.key, ClientCAFiles: clientCAs})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	with := func(by *authority, name string) credentials.TransportCredentials {
		c := &tls.Config{RootCAs: roots}
		if by != nil {
			a := issue(t, name, by)
			c.Certificates = []tls.Certificate{{Certificate: [][]byte{a.cert.Raw}, PrivateKey: a.key}}
		}
		return credentials.NewTLS(c)
	}
	const deep = codes.Unimplemented // the call got through: this agent runs no policies
	tcp := "127.0.0.1:0"
	tests := []struct {
		name         string
		at           server.Address
		creds        credentials.TransportCredentials
		read, change codes.Code
	}{
		{"socket", server.Address{Network: "unix", Address: filepath.Join(f.dir, "a")}, insecure.NewCredentials(), codes.OK, deep},
		{"socket for reading", server.Address{Network: "unix", Address: filepath.Join(f.dir, "b"), ReadOnly: true}, insecure.NewCredentials(), codes.OK, codes.PermissionDenied},
		{"TCP without TLS", server.Address{Network: "tcp", Address: tcp, Insecure: true}, insecure.NewCredentials(), codes.OK, codes.PermissionDenied},
		{"TLS", server.Address{Network: "tcp", Address: tcp, TLS: secure()}, with(nil, ""), codes.OK, codes.PermissionDenied},
		{"TLS, client without", server.Address{Network: "tcp", Address: tcp, TLS: secure()}, insecure.NewCredentials(), codes.Unavailable, codes.Unavailable},
		{"mutual TLS", server.Address{Network: "tcp", Address: tcp, TLS: secure(f.ca)}, with(ca, "me"), codes.OK, deep},
		{"mutual TLS, no certificate", server.Address{Network: "tcp", Address: tcp, TLS: secure(f.ca)}, with(nil, ""), codes.Unavailable, codes.Unavailable},
		{"mutual TLS, stranger", server.Address{Network: "tcp", Address: tcp, TLS: secure(f.ca)}, with(other, "me"), codes.Unavailable, codes.Unavailable},
		{"mutual TLS, named", server.Address{Network: "tcp", Address: tcp, TLS: secure(f.ca), Admins: []string{"you", "me"}}, with(ca, "me"), codes.OK, deep},
		{"mutual TLS, not named", server.Address{Network: "tcp", Address: tcp, TLS: secure(f.ca), Admins: []string{"you"}}, with(ca, "me"), codes.OK, codes.PermissionDenied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			read, change := call(t, listen(tt.at), tt.creds)
			if status.Code(read) != tt.read || status.Code(change) != tt.change {
				t.Errorf("read: %v, want %s; change: %v, want %s", read, tt.read, change, tt.change)
			}
		})
	}
}

// TestTLS_reload replaces the certificate under a running server: by a bad one, by half of a pair, by a good one.
func TestTLS_reload(t *testing.T) {
	ca := issue(t, "ca", nil)
	f := newTLSFiles(t)
	var log syncLog
	secure, err := server.NewTLS(server.TLSOptions{CertFile: f.cert, KeyFile: f.key, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatalf("files that come later: %v", err)
	}
	s := start(t, server.Options{})
	ls, err := server.Listen([]server.Address{{Network: "tcp", Address: "127.0.0.1:0", TLS: secure}}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(ls[0])
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	serves := func() (name string) {
		conn, err := tls.Dial("tcp", ls[0].Addr().String(), &tls.Config{RootCAs: roots, NextProtos: []string{"h2"}})
		if err != nil {
			return ""
		}
		defer conn.Close() //nolint:errcheck // a test
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := serves(); got != "" {
		t.Errorf("without files: %s", got)
	}
	one, two := issue(t, "one", ca), issue(t, "two", ca)
	save(t, f.cert, one.pem)
	save(t, f.key, one.keyPEM(t))
	if got := serves(); got != "one" {
		t.Errorf("with files: %q", got)
	}
	save(t, f.cert, two.pem) // with the key of the other
	if got := serves(); got != "one" {
		t.Errorf("with half a pair: %q", got)
	}
	if !strings.Contains(log.String(), "the one before is used on") {
		t.Errorf("not told: %s", log.String())
	}
	save(t, f.key, two.keyPEM(t))
	if got := serves(); got != "two" {
		t.Errorf("with the whole pair: %q", got)
	}
	if err := os.Remove(f.key); err != nil {
		t.Fatal(err)
	}
	if got := serves(); got != "two" {
		t.Errorf("without the key: %q", got)
	}
}

func TestNewTLS_refuses(t *testing.T) {
	ca := issue(t, "ca", nil)
	f := newTLSFiles(t)
	save(t, f.cert, ca.pem)
	save(t, f.key, ca.keyPEM(t))
	bad := filepath.Join(f.dir, "bad.pem")
	save(t, bad, []byte("no PEM"))
	for name, o := range map[string]server.TLSOptions{
		"certificate": {CertFile: bad, KeyFile: f.key},
		"key":         {CertFile: f.cert, KeyFile: bad},
		"authorities": {CertFile: f.cert, KeyFile: f.key, ClientCAFiles: []string{bad}},
	} {
		if _, err := server.NewTLS(o); err == nil || !strings.Contains(err.Error(), "bad.pem") {
			t.Errorf("%s: error %v does not name the file", name, err)
		}
	}
}

type syncLog struct {
	mu sync.Mutex
	sb strings.Builder
}

func (l *syncLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sb.Write(p)
}

func (l *syncLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sb.String()
}

func TestListen_group(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.sock")
	ls, err := server.Listen([]server.Address{{Network: "unix", Address: path, Group: strconv.Itoa(os.Getgid())}}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !ok || st.Mode() != fs.ModeSocket|0o660 || int(sys.Gid) != os.Getgid() {
		t.Errorf("mode %s", st.Mode())
	}
	_ = ls[0].Close()
	if _, err := server.Listen([]server.Address{{Network: "unix", Address: path, Group: "no-such-group"}}, quiet()); err == nil ||
		!strings.Contains(err.Error(), "no-such-group") {
		t.Errorf("unknown group: %v", err)
	}
}

// TestServices: clients that know nothing of us find out what there is, and whether we serve.
func TestServices(t *testing.T) {
	a := start(t, server.Options{})
	conn := dial(t, "unix://"+a.socket)
	st, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err == nil {
		err = st.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
	}
	if err != nil {
		t.Fatal(err)
	}
	res, err := st.Recv()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, s := range res.GetListServicesResponse().GetService() {
		found[s.GetName()] = true
	}
	for _, want := range []string{"tetragon.FineGuidanceSensors", "tetragon.EventLogService", "grpc.health.v1.Health"} {
		if !found[want] {
			t.Errorf("%s is not among %v", want, found)
		}
	}
	_ = st.CloseSend()
	for _, service := range []string{"", "liveness"} {
		h, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || h.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health of %q: %v, %v", service, h, err)
		}
	}
}

// TestGetEvents_hundredClients: of a hundred clients some read, some stall, some vanish in the middle. The lane never
// waits for one of them, those that read get all, those that stall lose their own and are told, and nothing stays behind.
func TestGetEvents_hundredClients(t *testing.T) {
	a := start(t, server.Options{Queue: 50})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	type reader = grpc.ServerStreamingClient[tetragon.GetEventsResponse]
	var readers, stalled []reader
	var raw []net.Conn // of those that vanish
	var mu sync.Mutex
	for i := range 100 {
		conn, err := grpc.NewClient("passthrough:///"+a.socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, at string) (net.Conn, error) {
				c, err := new(net.Dialer).DialContext(ctx, "unix", at)
				if err == nil && i%3 == 2 {
					mu.Lock()
					raw = append(raw, c)
					mu.Unlock()
				}
				return c, err
			}))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // a test
		st, err := tetragon.NewFineGuidanceSensorsClient(conn).GetEvents(ctx, &tetragon.GetEventsRequest{})
		if err == nil {
			_, err = st.Header()
		}
		if err != nil {
			t.Fatal(err)
		}
		switch i % 3 {
		case 0:
			readers = append(readers, st)
		case 1:
			stalled = append(stalled, st)
		}
	}
	large := strings.Repeat("x", 20_000) // soon more than the windows and queues of those that do not read
	const batches = 30
	got := make(chan int, len(readers)*batches*2)
	for _, st := range readers {
		go func() {
			for n := 0; ; n++ {
				if _, err := st.Recv(); err != nil {
					return
				}
				got <- n
			}
		}()
	}
	for n := range batches {
		a.set.Batch(execs("a", large))
		for range len(readers) * 2 { // they keep up
			<-got
		}
		if n == batches/2 {
			mu.Lock()
			for _, c := range raw {
				_ = c.Close() // no goodbye
			}
			mu.Unlock()
		}
	}
	until(t, "those that vanished are gone", func() bool { return len(a.ledger.Read()) == 1+len(readers)+len(stalled) })
	for range 200 { // more than a queue that nobody empties
		a.set.Batch(execs(large))
		for range len(readers) {
			<-got
		}
	}
	var lost uint64
	for _, b := range a.ledger.Read() {
		if b.Stage == "grpc" {
			continue
		}
		for _, d := range b.Dropped {
			if d.Reason == "queue_full" {
				lost += d.Count
			}
		}
	}
	if lost == 0 {
		t.Error("nobody lost anything, so nobody stalled")
	}
	go a.Stop()
	_, err := stalled[0].Recv()
	for err == nil {
		_, err = stalled[0].Recv()
	}
	cancel()
	until(t, "all are gone", func() bool { return len(a.ledger.Read()) == 1 })
	if got := a.balance(t, "grpc"); got.Pending != 0 {
		t.Errorf("balance %v", got)
	}
}

// FuzzTLS: files that hold anything are refused, or serve.
func FuzzTLS(f *testing.F) {
	ca := issue(f, "ca", nil)
	f.Add(ca.pem, ca.keyPEM(f), ca.pem)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), []byte("-----BEGIN PRIVATE KEY-----\n"), []byte{})
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, cert, key, authorities []byte) {
		o := server.TLSOptions{CertFile: filepath.Join(dir, "cert"), KeyFile: filepath.Join(dir, "key"), ClientCAFiles: []string{filepath.Join(dir, "ca")}}
		for name, b := range map[string][]byte{o.CertFile: cert, o.KeyFile: key, o.ClientCAFiles[0]: authorities} {
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if tls, err := server.NewTLS(o); (tls == nil) == (err == nil) {
			t.Errorf("%v, error %v", tls, err)
		}
	})
}
