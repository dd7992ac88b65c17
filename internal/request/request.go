// SPDX-License-Identifier: Apache-2.0

// Package request asks servers when policies order it (GetUrl, DnsLookup): it gets a page or looks up a name, and forgets
// the answer.
//
// The event lane hands it what rules order, and goes on at once; a few workers do it. What does not fit the queue, or what
// fails, is counted in a row of the ledger, never tried again. Which hosts may be asked is up to who runs the agent (Hosts):
// a policy that names another one is refused when it is compiled, and here once more.
//
// Not here: which rule orders what (policy/compile, event/enrich).
//
// Every request that enters leaves exactly once: answered, or under a reason. Safe for concurrent use.
package request

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"tetragon/internal/metrics"
	"tetragon/internal/policy"
)

// What bounds it: however many events there are, no more than this waits, runs at a time, lasts, or is read.
const (
	queueSize = 256
	workers   = 4
	timeout   = 5 * time.Second
	maxBody   = 64 << 10
	maxHeader = 16 << 10
	// linger is how long Close waits for what is under way.
	linger = 2 * time.Second
)

// Reasons why a request was not answered, in the ledger's order.
const (
	queueFull = iota
	failed
	stopped
)

// Hosts says which hosts may be asked: names, names with a port, ".example.com" for all below it, "*" for all.
type Hosts []string

// Allow says whether a host may be asked. port is empty for a lookup of its name.
func (h Hosts) Allow(host, port string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, e := range h {
		e = strings.ToLower(strings.TrimSuffix(e, "."))
		name, only := e, ""
		if n, p, err := net.SplitHostPort(e); err == nil {
			name, only = n, p
		}
		name = strings.Trim(name, "[]")
		switch {
		case only != "" && only != port:
		case name == "*", name == host, strings.HasPrefix(name, ".") && strings.HasSuffix(host, name):
			return true
		}
	}
	return false
}

// Options of a Requester.
type Options struct {
	Hosts     Hosts
	DNSServer string // address that is asked for names; the system's when empty
	Ledger    *metrics.Ledger
	Log       *slog.Logger
}

// Requester asks servers. It must be closed.
type Requester struct {
	o        Options
	stage    *metrics.Stage
	queue    chan job
	cancel   context.CancelFunc
	done     sync.WaitGroup
	client   *http.Client
	resolver *net.Resolver
	said     time.Time // when a failure was last logged; only the lane's log matters, so one a minute is enough
	mu       sync.Mutex
	closed   bool
}

type job struct {
	url  string // to get
	name string // to look up
}

// New makes a Requester. It has no goroutine until somebody asks for something.
func New(o Options) *Requester {
	r := &Requester{o: o, resolver: &net.Resolver{PreferGo: true}}
	if o.DNSServer != "" {
		r.resolver.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, o.DNSServer)
		}
	}
	r.client = &http.Client{
		Timeout: timeout,
		// Another host may stand behind it.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: timeout, Resolver: r.resolver}).DialContext, DisableKeepAlives: true, MaxResponseHeaderBytes: maxHeader,
		},
	}
	if len(o.Hosts) > 0 {
		r.stage = o.Ledger.Stage("requests", "queue_full", "failed", "stopped")
	}
	return r
}

// Get orders a page. It does not wait.
func (r *Requester) Get(url string) { r.ask(job{url: url}) }

// Lookup orders the IPv4 addresses of a name. It does not wait.
func (r *Requester) Lookup(name string) { r.ask(job{name: name}) }

func (r *Requester) ask(j job) {
	if r.stage == nil {
		return // nobody may be asked: no policy with such an action was compiled
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stage.Seen(1)
	if r.closed {
		r.stage.Drop(stopped, 1)
		return
	}
	if r.queue == nil {
		r.queue = make(chan job, queueSize)
		ctx, cancel := context.WithCancel(context.Background())
		r.cancel = cancel
		for range workers {
			r.done.Go(func() { r.work(ctx) })
		}
	}
	select {
	case r.queue <- j:
	default:
		r.stage.Drop(queueFull, 1)
	}
}

// work does what is asked until the queue is closed.
func (r *Requester) work(ctx context.Context) {
	for j := range r.queue {
		err := ctx.Err()
		if err == nil {
			err = r.do(ctx, j)
		}
		switch {
		case err == nil:
			r.stage.Deliver(1)
		case ctx.Err() != nil:
			r.stage.Drop(stopped, 1)
		default:
			r.stage.Drop(failed, 1)
			r.complain(err)
		}
	}
}

func (r *Requester) complain(err error) {
	r.mu.Lock()
	quiet := time.Since(r.said) < time.Minute
	if !quiet {
		r.said = time.Now()
	}
	r.mu.Unlock()
	if !quiet {
		r.o.Log.Warn("do what a policy orders (GetUrl, DnsLookup)", "err", err)
	}
}

// do does one thing. Any answer is one, also that there is nothing.
func (r *Requester) do(ctx context.Context, j job) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if j.name != "" {
		if !r.o.Hosts.Allow(j.name, "") {
			return errors.New(j.name + " is not in action-hosts")
		}
		_, err := r.resolver.LookupNetIP(ctx, "ip4", strings.TrimSuffix(j.name, ".")+".") // no search list
		var none *net.DNSError
		if errors.As(err, &none) && none.IsNotFound {
			return nil
		}
		return err
	}
	host, port, err := policy.URLHost(j.url)
	if err != nil {
		return err
	}
	if !r.o.Hosts.Allow(host, port) {
		return errors.New(host + " is not in action-hosts")
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, j.url, nil)
	if err != nil {
		return err
	}
	a, err := r.client.Do(q)
	if err != nil {
		return err
	}
	_, err = io.CopyN(io.Discard, a.Body, maxBody)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, a.Body.Close())
}

// Close takes no more, waits a moment for what is under way, and ends it.
func (r *Requester) Close() {
	r.mu.Lock()
	if r.closed || r.queue == nil {
		r.closed = true
		r.mu.Unlock()
		return
	}
	r.closed = true
	close(r.queue)
	r.mu.Unlock()
	t := time.AfterFunc(linger, r.cancel)
	r.done.Wait()
	t.Stop()
	r.cancel()
}
