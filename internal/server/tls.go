// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// TLSOptions say how TCP is secured.
type TLSOptions struct {
	CertFile, KeyFile string   // PEM
	ClientCAFiles     []string // PEM bundles; empty: clients need no certificate
	Log               *slog.Logger
}

// TLS is what TCP clients are greeted with. Its files are looked at on every handshake and read again when they have
// changed, so a renewed certificate needs neither a signal nor a restart. Safe for concurrent use.
type TLS struct {
	opts TLSOptions

	mu     sync.Mutex
	config *tls.Config // of the last files that were good; nil: there were none yet
	seen   []fileState // of the files that were read last, good or not
	failed string      // why they were not, to say it once
}

// fileState tells one content of a file from the next.
type fileState struct {
	time time.Time
	size int64
	id   os.FileInfo
}

// NewTLS reads the files. Those that are not there yet may come later, until when handshakes fail; one that is there and
// wrong is an error.
func NewTLS(o TLSOptions) (*TLS, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	t := &TLS{opts: o}
	if err := t.read(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return t, nil
}

// mutual says whether clients need a certificate.
func (t *TLS) mutual() bool { return len(t.opts.ClientCAFiles) > 0 }

func (t *TLS) files() []string {
	return append([]string{t.opts.CertFile, t.opts.KeyFile}, t.opts.ClientCAFiles...)
}

// server is the configuration of the listener: each handshake asks for its own.
func (t *TLS) server() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.current() },
	}
}

// current returns the configuration of the files as they are now, or of the last good ones.
func (t *TLS) current() (*tls.Config, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changed() {
		err := t.read()
		switch {
		case err == nil:
			t.opts.Log.Info("read the certificate of the gRPC server", "path", t.opts.CertFile)
			t.failed = ""
		case err.Error() != t.failed:
			t.failed = err.Error()
			t.opts.Log.Warn("read the certificate of the gRPC server; the one before is used on", "err", err)
		}
	}
	if t.config == nil {
		return nil, errors.New("the server has no certificate yet")
	}
	return t.config, nil
}

func state(path string) fileState {
	st, err := os.Stat(path)
	if err != nil {
		return fileState{}
	}
	return fileState{st.ModTime(), st.Size(), st}
}

func (t *TLS) changed() bool {
	for i, path := range t.files() {
		now, then := state(path), t.seen[i]
		same := now.time.Equal(then.time) && now.size == then.size && (now.id == nil) == (then.id == nil)
		if !same || now.id != nil && !os.SameFile(now.id, then.id) {
			return true
		}
	}
	return false
}

// read reads the files anew. If they are not good together, what was there before stays.
func (t *TLS) read() error {
	t.seen = nil
	for _, path := range t.files() {
		t.seen = append(t.seen, state(path)) // before they are read: what changes meanwhile is read again
	}
	pair, err := tls.LoadX509KeyPair(t.opts.CertFile, t.opts.KeyFile)
	if err != nil {
		return fmt.Errorf("read certificate %s with key %s: %w", t.opts.CertFile, t.opts.KeyFile, err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{pair}}
	if t.mutual() {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	}
	for _, path := range t.opts.ClientCAFiles {
		pem, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read authorities of clients: %w", err)
		}
		if !c.ClientCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("read authorities of clients: %s holds no PEM certificate", path)
		}
	}
	t.config = c
	return nil
}
