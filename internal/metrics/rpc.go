// SPDX-License-Identifier: Apache-2.0

package metrics

import "sync"

// RPCs counts calls of the gRPC services. A method becomes known when it is first called; only methods that are served
// may be counted, or whoever calls could make the agent grow by names. The zero value is ready. Safe for concurrent use.
type RPCs struct {
	mu sync.Mutex

	methods map[Method]*calls
}

// Method is a method of a service.
type Method struct {
	Type    string // "unary", "server_stream", "client_stream", "bidi_stream"
	Service string
	Name    string
}

type calls struct {
	started, received, sent uint64
	handled                 map[string]uint64 // by code
}

func (r *RPCs) count(m Method, f func(*calls)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.methods[m]
	if c == nil {
		if r.methods == nil {
			r.methods = map[Method]*calls{}
		}
		c = &calls{handled: map[string]uint64{}}
		r.methods[m] = c
	}
	f(c)
}

// Start counts a call that came in.
func (r *RPCs) Start(m Method) { r.count(m, func(c *calls) { c.started++ }) }

// Received counts a message from a client.
func (r *RPCs) Received(m Method) { r.count(m, func(c *calls) { c.received++ }) }

// Sent counts messages to a client.
func (r *RPCs) Sent(m Method, n uint64) { r.count(m, func(c *calls) { c.sent += n }) }

// Handled counts a call that ended with a code, as gRPC writes codes: "OK", "Unavailable".
func (r *RPCs) Handled(m Method, code string) { r.count(m, func(c *calls) { c.handled[code]++ }) }

func (r *RPCs) each(f func(Method, *calls)) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for m, c := range r.methods {
		f(m, c)
	}
}

func readCalls(count func(*calls) uint64) reader {
	return func(m *Metrics, send sender) {
		m.opts.RPCs.each(func(me Method, c *calls) { send(float64(count(c)), me.Type, me.Service, me.Name) })
	}
}

func readHandled(m *Metrics, send sender) {
	m.opts.RPCs.each(func(me Method, c *calls) {
		for code, n := range c.handled {
			send(float64(n), me.Type, me.Service, me.Name, code)
		}
	})
}
