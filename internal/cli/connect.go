// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"tetragon/api/v1/tetragon"
)

const defaultTarget = "localhost:54321"

// target returns the gRPC target: the flag, or where the agent on this machine says that it listens.
func (a *app) target() string {
	if a.serverAddress != "" {
		return a.serverAddress
	}
	var info struct {
		ServerAddress string `json:"server_address"`
	}
	path := filepath.Join(a.opts.RunDir, "tetragon-info.json")
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &info)
	}
	switch {
	case err != nil:
		a.debugf("read info file: %v", err)
	case info.ServerAddress != "":
		a.debugf("server address %s from %s", info.ServerAddress, path)
		return info.ServerAddress
	}
	sock := filepath.Join(a.opts.RunDir, "tetragon.sock")
	if fi, err := os.Stat(sock); err == nil && fi.Mode()&os.ModeSocket != 0 {
		return "unix://" + sock
	}
	return defaultTarget
}

// dial makes a client. Nothing is sent before the first call.
func (a *app) dial(target string) (*grpc.ClientConn, error) {
	creds, err := a.tls.credentials()
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(creds),
		grpc.WithInitialWindowSize(streamWindow), grpc.WithInitialConnWindowSize(streamWindow),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(a.maxRecvSize)))
	if err != nil {
		return nil, hint(fmt.Errorf("connect to %s: %w", target, err), "a target is unix:///path or host:port")
	}
	return conn, nil
}

// streamWindow is how many bytes of events the agent may send before it hears from us. gRPC's own window begins with 64 KiB
// and grows by and by: in the first quarter of a second a stream that begins in the middle of a flood fell behind.
const streamWindow = 4 << 20

// call runs one exchange, again after a failed connection. Each attempt has a client of its own: one that has failed
// would hold back the next attempt by a pause of its own.
func (a *app) call(ctx context.Context, do func(context.Context, tetragon.FineGuidanceSensorsClient) error) error {
	return a.callConn(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		return do(ctx, tetragon.NewFineGuidanceSensorsClient(conn))
	})
}

// callConn is call for any service.
func (a *app) callConn(ctx context.Context, do func(context.Context, *grpc.ClientConn) error) error {
	target := a.target()
	pause := a.opts.RetryPause
	for attempt := 0; ; attempt++ {
		conn, err := a.dial(target)
		if err != nil {
			return err
		}
		err = do(ctx, conn)
		if cerr := conn.Close(); cerr != nil {
			a.debugf("close connection: %v", cerr)
		}
		if err == nil || status.Code(err) != codes.Unavailable || attempt >= a.retries {
			return explain(target, err)
		}
		a.debugf("%v; again in %s", explain(target, err), pause)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
		pause *= 2
	}
}

// unary is call with --timeout.
func (a *app) unary(ctx context.Context, do func(context.Context, tetragon.FineGuidanceSensorsClient) error) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	return a.call(ctx, do)
}

// explain turns a gRPC status into a sentence, with a hint where one is known.
func explain(target string, err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	text := st.Message()
	switch st.Code() {
	case codes.Canceled:
		return fmt.Errorf("ask %s: %w", target, context.Canceled)
	case codes.Unavailable:
		if _, cause, ok := strings.Cut(text, "Error while dialing: "); ok {
			text = strings.TrimRight(cause, `"`) // the rest is how the library is built
		}
		err = fmt.Errorf("connect to %s: %s", target, text)
		switch {
		case strings.Contains(text, "permission denied"):
			return hint(err, "the socket belongs to the agent's user; try again as root")
		case strings.Contains(text, "no such file"), strings.Contains(text, "connection refused"):
			return hint(err, "is the agent running there? --server-address names another place")
		}
		return err
	case codes.DeadlineExceeded:
		return hint(fmt.Errorf("ask %s: no answer in time", target), "--timeout allows more")
	case codes.ResourceExhausted:
		return hint(fmt.Errorf("ask %s: %s", target, text), "--max-recv-size allows larger messages")
	case codes.Unimplemented:
		return hint(fmt.Errorf("ask %s: %s", target, text), "the agent is of another version")
	}
	return fmt.Errorf("ask %s: %s", target, text)
}

// tlsFlags are the global flags for TLS. Any of them switches TLS on.
type tlsFlags struct {
	certFile, keyFile string
	caFiles           []string
	serverName        string
	skipVerify        bool
}

func (t *tlsFlags) register(f *pflag.FlagSet) {
	f.StringVar(&t.certFile, "tls-cert-file", "", "client certificate (PEM); any --tls flag switches TLS on")
	f.StringVar(&t.keyFile, "tls-key-file", "", "its key (PEM)")
	f.StringSliceVar(&t.caFiles, "tls-ca-cert-files", nil, "authorities to trust (PEM) instead of the system's")
	f.StringVar(&t.serverName, "tls-server-name", "", "name that the server's certificate must have")
	f.BoolVar(&t.skipVerify, "tls-skip-verify", false, "trust any server")
}

func (t *tlsFlags) on() bool {
	return t.certFile != "" || t.keyFile != "" || len(t.caFiles) > 0 || t.serverName != "" || t.skipVerify
}

func (t *tlsFlags) check() error {
	if (t.certFile == "") != (t.keyFile == "") {
		return errors.New("--tls-cert-file and --tls-key-file belong together; give both or none")
	}
	if t.skipVerify && len(t.caFiles) > 0 {
		return errors.New("--tls-skip-verify and --tls-ca-cert-files exclude each other; give one")
	}
	return nil
}

func (t *tlsFlags) credentials() (credentials.TransportCredentials, error) {
	if !t.on() {
		return insecure.NewCredentials(), nil
	}
	conf := &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         t.serverName,
		InsecureSkipVerify: t.skipVerify, //nolint:gosec // only by a flag that says so
	}
	if t.certFile != "" {
		pair, err := tls.LoadX509KeyPair(t.certFile, t.keyFile)
		if err != nil {
			return nil, fmt.Errorf("read client certificate: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	if len(t.caFiles) > 0 {
		conf.RootCAs = x509.NewCertPool()
	}
	for _, path := range t.caFiles {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read authorities: %w", err)
		}
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read authorities: %s holds no PEM certificate", path)
		}
	}
	return credentials.NewTLS(conf), nil
}
