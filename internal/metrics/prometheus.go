// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Build says what this binary is.
type Build struct {
	Version, GoVersion, Commit, Time, Modified string
}

// Options of Metrics.
type Options struct {
	Lane         *Lane
	Ledger       *Ledger
	Build        Build
	EventMetrics bool       // also count events by type and binary
	Labels       []string   // process labels that get values
	NodeName     string     // value of node_name, if that is among Labels
	FlagWords    [32]string // word of each bit of a process's flags; empty: not exposed
	Policies     func() []Policy
	MaxSeries    int            // of each metric of events; 0: DefaultMaxSeries
	Queues       func() []Queue // what waits for the sinks
	Memory       func() []Part  // who has how much memory
	RPCs         *RPCs          // nil: not counted
}

// Queue is what waits for one sink.
type Queue struct {
	Sink            string
	Events          int
	Bytes, MaxBytes int
}

// Part is the memory of one part of the agent.
type Part struct {
	Name  string
	Bytes uint64
}

// Metrics exposes everything to Prometheus.
type Metrics struct {
	opts     Options
	lane     *Lane
	nodeName string
	registry *prometheus.Registry
}

// New returns metrics over what the options point to. The lane counts events by what the options ask for from here on.
func New(o Options) (*Metrics, error) {
	m := &Metrics{opts: o, lane: o.Lane, registry: prometheus.NewRegistry()}
	if slices.Contains(o.Labels, "node_name") {
		m.nodeName = o.NodeName
	}
	b := bound{off: !o.EventMetrics, noBinary: !slices.Contains(o.Labels, "binary"), series: o.MaxSeries}
	o.Lane.Events.configure(b)
	o.Lane.Policies.configure(b)
	o.Lane.Syscalls.configure(b)
	latencies := collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/sched/latencies:seconds`)}
	for _, c := range []prometheus.Collector{
		newCollector(m),
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(latencies)),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := m.registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// Handler serves the metrics. An error in any of them fails the scrape.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.HTTPErrorOnError,
		Registry:      m.registry,
	})
}

// collector reads the table's values when a scrape comes.
type collector struct {
	m     *Metrics
	table []Metric
	descs []*prometheus.Desc
}

func newCollector(m *Metrics) *collector {
	c := &collector{m: m}
	for _, t := range Table() {
		if m.opts.EventMetrics || !slices.ContainsFunc(eventTable(), func(e Metric) bool { return e.Name == t.Name }) {
			c.table = append(c.table, t)
		}
	}
	for _, t := range c.table {
		c.descs = append(c.descs, prometheus.NewDesc(t.Name, t.Help, t.Labels, nil))
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	for i := range c.table {
		t := &c.table[i]
		send := func(m prometheus.Metric, err error) {
			if err != nil {
				m = prometheus.NewInvalidMetric(c.descs[i], err)
			}
			ch <- m
		}
		if t.histogram != nil {
			t.histogram(c.m, func(h *Histogram, labels ...string) {
				count, sum, upTo := h.read()
				send(prometheus.NewConstHistogram(c.descs[i], count, sum, upTo, labels...))
			})
			continue
		}
		t.read(c.m, func(v float64, labels ...string) {
			for j := range labels {
				labels[j] = printable(labels[j])
			}
			send(prometheus.NewConstMetric(c.descs[i], t.Type, v, labels...))
		})
	}
}
