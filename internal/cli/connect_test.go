// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"tetragon/api/v1/tetragon"
)

// versionAgent knows its version, after some refusals.
type versionAgent struct {
	tetragon.UnimplementedFineGuidanceSensorsServer
	refuse int
	code   codes.Code
	calls  int
}

func (v *versionAgent) GetVersion(context.Context, *tetragon.GetVersionRequest) (*tetragon.GetVersionResponse, error) {
	v.calls++
	if v.calls <= v.refuse {
		return nil, status.Error(v.code, "not now")
	}
	return &tetragon.GetVersionResponse{Version: "v9"}, nil
}

func serve(t *testing.T, network, addr string, agent *versionAgent, opts ...grpc.ServerOption) string {
	t.Helper()
	lis, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(opts...)
	tetragon.RegisterFineGuidanceSensorsServer(srv, agent)
	go func() { _ = srv.Serve(lis) }() // ends by Stop
	t.Cleanup(srv.Stop)
	return lis.Addr().String()
}

// run runs tetra and returns its exit code and what it wrote.
func run(args ...string) (code int, out, errOut string) {
	var o, e bytes.Buffer
	code = Main(context.Background(), Options{
		Args: args, Version: "v1", In: strings.NewReader(""), Out: &o, Err: &e, RetryPause: time.Nanosecond,
	})
	return code, o.String(), e.String()
}

func TestCall_retries(t *testing.T) {
	cases := []struct {
		name    string
		agent   versionAgent
		retries string
		code    int
		calls   int
	}{
		{"at once", versionAgent{}, "0", 0, 1},
		{"after two refusals", versionAgent{refuse: 2, code: codes.Unavailable}, "2", 0, 3},
		{"too many refusals", versionAgent{refuse: 9, code: codes.Unavailable}, "2", 1, 3},
		{"never after another error", versionAgent{refuse: 1, code: codes.Internal}, "2", 1, 1},
	}
	for i := range cases {
		tc := &cases[i]
		t.Run(tc.name, func(t *testing.T) {
			sock := "unix://" + serve(t, "unix", filepath.Join(t.TempDir(), "s"), &tc.agent)
			code, out, errOut := run("version", "-s", "--server-address", sock, "--retries", tc.retries)
			if code != tc.code || tc.agent.calls != tc.calls {
				t.Errorf("exit code %d after %d calls\n%s%s", code, tc.agent.calls, out, errOut)
			}
		})
	}
}

func TestCall_tls(t *testing.T) {
	dir := t.TempDir()
	cert, certFile, keyFile := makeCert(t, dir)
	pool := x509.NewCertPool()
	pool.AddCert(cert.Leaf)
	addr := serve(t, "tcp", "127.0.0.1:0", &versionAgent{}, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS13,
	})))
	pair := []string{"--tls-cert-file", certFile, "--tls-key-file", keyFile}
	cases := []struct {
		name string
		args []string
		code int
	}{
		{"authority and pair", append([]string{"--tls-ca-cert-files", certFile, "--tls-server-name", "agent.test"}, pair...), 0},
		{"no verification", append([]string{"--tls-skip-verify"}, pair...), 0},
		{"wrong name", append([]string{"--tls-ca-cert-files", certFile, "--tls-server-name", "x.test"}, pair...), 1},
		{"unknown authority", pair, 1},
		{"no pair", []string{"--tls-skip-verify"}, 1},
		{"no TLS", nil, 1},
		{"key for certificate", []string{"--tls-cert-file", keyFile, "--tls-key-file", keyFile}, 1},
		{"authority without certificate", []string{"--tls-ca-cert-files", keyFile}, 1},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			args := append([]string{"version", "-s", "--retries", "0", "--server-address", addr}, tc.args...)
			if code, out, errOut := run(args...); code != tc.code {
				t.Errorf("exit code %d\n%s%s", code, out, errOut)
			}
		})
	}
}

// makeCert makes a certificate for agent.test that is its own authority.
func makeCert(t *testing.T, dir string) (cert tls.Certificate, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "agent.test"}, DNSNames: []string{"agent.test"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	for path, b := range map[string][]byte{certFile: certPEM, keyFile: keyPEM} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if cert, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	return cert, certFile, keyFile
}
