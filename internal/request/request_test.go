// SPDX-License-Identifier: Apache-2.0

package request

import (
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"tetragon/internal/metrics"
)

func TestHosts_Allow(t *testing.T) {
	h := Hosts{"a.example", ".b.example", "c.example:8080", "[::1]:80", "127.0.0.1"}
	for _, c := range []struct {
		host, port string
		want       bool
	}{
		{"a.example", "80", true}, {"A.Example.", "", true}, {"x.a.example", "80", false}, {"xa.example", "80", false},
		{"x.b.example", "443", true}, {"b.example", "80", false}, {"evilb.example", "80", false},
		{"c.example", "8080", true}, {"c.example", "80", false}, {"c.example", "", false},
		{"::1", "80", true}, {"::1", "81", false}, {"127.0.0.1", "1", true}, {"127.0.0.2", "1", false},
	} {
		if got := h.Allow(c.host, c.port); got != c.want {
			t.Errorf("%s port %q: got %v, want %v", c.host, c.port, got, c.want)
		}
	}
	if !(Hosts{"*"}).Allow("x", "1") || (Hosts)(nil).Allow("x", "1") {
		t.Error("* is not all, or nothing is something")
	}
}

func requester(t *testing.T, hosts Hosts) (*Requester, func() metrics.Balance) {
	t.Helper()
	l := metrics.NewLedger()
	r := New(Options{Hosts: hosts, Ledger: l, Log: slog.New(slog.NewTextHandler(new(bytes.Buffer), nil))})
	t.Cleanup(r.Close)
	return r, func() metrics.Balance { return l.Read()[0] }
}

// A server that never answers holds up four requests; the queue takes some more, and the rest is dropped and counted.
func TestRequester_isBounded(t *testing.T) {
	hold := make(chan struct{})
	var got atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got.Add(1); <-hold }))
	defer srv.Close()
	r, balance := requester(t, Hosts{"127.0.0.1"})
	const n = 2 * (queueSize + workers)
	for range n {
		r.Get(srv.URL)
	}
	b := balance()
	if b.Seen != n || b.Dropped[queueFull].Count < n-queueSize-workers {
		t.Errorf("got %s", b)
	}
	close(hold)
	r.Close()
	if b = balance(); b.Pending != 0 || b.Delivered == 0 || b.Delivered != uint64(got.Load()) {
		t.Errorf("at the end: %s, the server saw %d", b, got.Load())
	}
}

func TestRequester_asksOnlyWhoMayBeAsked(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the other server was asked") }))
	defer other.Close()
	srv := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusFound))
	defer srv.Close()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(srv.URL, "http://"))
	r, balance := requester(t, Hosts{"127.0.0.1:" + port})
	r.Get(srv.URL) // leads to the other one
	r.Get(other.URL)
	r.Lookup("name.example")
	r.Close()
	if b := balance(); b.Delivered != 1 || b.Dropped[failed].Count != 2 || b.Pending != 0 {
		t.Errorf("got %s", b)
	}
	r.Get(srv.URL)
	if b := balance(); b.Dropped[stopped].Count != 1 {
		t.Errorf("after the end: %s", b)
	}
}
