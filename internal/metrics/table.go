// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// Metric is one row of the table. Names, labels and types of what exists upstream are part of the contract.
type Metric struct {
	Name    string
	Type    prometheus.ValueType
	Buckets []float64 // of a histogram, which has no other type
	Labels  []string
	Help    string
	Idle    string // why it stays at 0, or without series, in this agent; empty: it counts
	Ours    bool   // not upstream's

	// One of these sends the present values; labels are in the order of Labels.
	read      reader
	histogram func(m *Metrics, send func(h *Histogram, labels ...string))
}

type (
	sender func(v float64, labels ...string)
	reader func(m *Metrics, send sender)
)

// Kind is the type in the words of Prometheus.
func (t *Metric) Kind() string {
	switch {
	case t.Buckets != nil:
		return "histogram"
	case t.Type == prometheus.CounterValue:
		return "counter"
	}
	return "gauge"
}

func counter(name string, labels []string, help string, read reader) Metric {
	return Metric{Name: name, Type: prometheus.CounterValue, Labels: labels, Help: help, read: read}
}

func gauge(name string, labels []string, help string, read reader) Metric {
	return Metric{Name: name, Type: prometheus.GaugeValue, Labels: labels, Help: help, read: read}
}

// ours marks what upstream does not have.
func ours(t Metric) Metric {
	t.Ours = true
	return t
}

// idle makes a metric that stays at 0, because what it counts does not exist here. It is there for dashboards and alerts
// that were made for upstream. values are those of each label; a label without values has no series.
func idle(t Metric, why string, values ...[]string) Metric {
	t.Idle = why
	t.read = func(_ *Metrics, send sender) {
		if len(values) == len(t.Labels) {
			combine(values, nil, func(labels []string) { send(0, labels...) })
		}
	}
	return t
}

// combine calls f for each choice of one word of every list.
func combine(lists [][]string, chosen []string, f func([]string)) {
	if len(lists) == 0 {
		f(append([]string(nil), chosen...))
		return
	}
	for _, w := range lists[0] {
		combine(lists[1:], append(chosen, w), f)
	}
}

// processLabels stand first in every metric of events.
var processLabels = []string{"namespace", "workload", "pod", "binary", "node_name"}

// ProcessLabels are the labels that the label filter knows.
func ProcessLabels() []string { return append([]string(nil), processLabels...) }

var (
	errorWords = [numErrors]string{
		"process_pid_tid_mismatch_exec", "process_pid_tid_mismatch_clone", "process_pid_tid_mismatch_exit",
		"event_finalize_process_info_failed", "process_metadata_username_failed",
	}
	handlerErrorWords = [numHandlerErrors]string{"unknown_opcode", "perf_empty_data", "event_handler_failed"}
	sendErrorWords    = [numSendErrors]string{"unknown", "ENOENT", "E2BIG", "EBUSY", "EINVAL", "ENOSPC", "EAGAIN"}
	eventTypeWords    = [numEventTypes]string{
		"unknown", "PROCESS_EXEC", "PROCESS_EXIT", "RATE_LIMIT_INFO", "PROCESS_KPROBE", "PROCESS_TRACEPOINT", "PROCESS_LOADER",
		"PROCESS_UPROBE", "PROCESS_THROTTLE", "PROCESS_LSM", "PROCESS_USDT",
	}
)

// Table is every metric of ours but those of the Go runtime, the process and the HTTP handler.
func Table() []Metric {
	var out []Metric
	out = append(out, laneTable()...)
	out = append(out, eventTable()...)
	out = append(out, policyTable()...)
	out = append(out, serviceTable()...)
	return append(out, idleTable()...)
}

// laneTable is about the way of records and events.
func laneTable() []Metric {
	return []Metric{
		gauge("tetragon_build_info", []string{"version", "go_version", "commit", "time", "modified"},
			"Build information about this agent. Always 1.", readBuild),
		ours(counter("tetragon_ledger_events", []string{"stage", "outcome", "reason"},
			"The account of the event lane: at each stage, seen = delivered + dropped by reason + what waits.", readLedger)),
		ours(gauge("tetragon_queue_bytes", []string{"sink"}, "Memory taken by what waits for a sink; all streams together are one.",
			readQueues(func(q Queue) float64 { return float64(q.Bytes) }))),
		ours(gauge("tetragon_queue_capacity_bytes", []string{"sink"}, "Memory that what waits for a sink may take.",
			readQueues(func(q Queue) float64 { return float64(q.MaxBytes) }))),
		ours(gauge("tetragon_queue_events", []string{"sink"}, "Events that wait for a sink.",
			readQueues(func(q Queue) float64 { return float64(q.Events) }))),
		ours(gauge("tetragon_memory_bytes", []string{"part"}, "Memory of the agent, by part.", readMemory)),
		counter("tetragon_errors_total", []string{"error"}, "Internal errors by kind.", readErrors),
		counter("tetragon_handler_errors_total", []string{"opcode", "error"}, "Records that could not be decoded.", readBroken),
		counter("tetragon_msg_op_total", []string{"msg_op"}, "Records received from the kernel, by operation code.", readMsgOps),
		{
			Name: "tetragon_handling_latency", Buckets: bucketBounds(), Labels: []string{"op"},
			Help:      "How long a record took, in microseconds, by operation code; with enable-msg-handling-latency.",
			histogram: readLatency,
		},
		counter("tetragon_bpf_missed_events_total", []string{"msg_op", "error"},
			"Records that the kernel side could not send, by operation code and error.", readMissed),
		counter("tetragon_notify_overflowed_events_total", nil,
			"Events dropped because the queue of a subscriber was full.", one(func(l *Lane) float64 { return float64(l.Overflowed.Load()) })),
		counter("tetragon_events_exported_total", nil,
			"Events handed to the JSON export.", one(func(l *Lane) float64 { return float64(l.Exported.Load()) })),
		counter("tetragon_events_exported_bytes_total", nil,
			"Bytes written by the JSON export.", one(func(l *Lane) float64 { return float64(l.ExportedBytes.Load()) })),
		gauge("tetragon_events_last_exported_timestamp", nil, "Time of the last exported event, in seconds since the epoch.",
			one(func(l *Lane) float64 { return float64(l.LastExported.Load()) / 1e9 })),
		counter("tetragon_export_ratelimit_events_dropped_total", nil, "Events that the JSON export dropped because of its rate limit.",
			one(func(l *Lane) float64 { return float64(l.RateLimited.Load()) })),
		counter("tetragon_observer_ringbuf_events_received_total", nil,
			"Records read from the kernel's buffer.", one(func(l *Lane) float64 { return float64(l.Received.Load()) })),
		counter("tetragon_observer_ringbuf_events_lost_total", nil,
			"Records lost by perf buffers. A ring buffer counts in tetragon_bpf_missed_events_total.",
			one(func(l *Lane) float64 { return float64(l.Lost.Load()) })),
		counter("tetragon_observer_ringbuf_errors_total", nil,
			"Errors met when reading the kernel's buffer.", one(func(l *Lane) float64 { return float64(l.ReadErrors.Load()) })),
		counter("tetragon_observer_ringbuf_queue_events_received_total", nil, "Records handled.",
			one(func(l *Lane) float64 { return float64(l.Received.Load()) })),
		gauge("tetragon_process_cache_size", nil,
			"Processes in the process table.", one(func(l *Lane) float64 { return float64(l.ProcessCacheSize.Load()) })),
		gauge("tetragon_process_cache_capacity", nil, "Ended processes that fit into the process table beside the living.",
			one(func(l *Lane) float64 { return float64(l.ProcessCacheCapacity.Load()) })),
		counter("tetragon_process_cache_evictions_total", nil, "Processes removed from the process table.",
			one(func(l *Lane) float64 { return float64(l.ProcessCacheEvictions.Load()) })),
		counter("tetragon_process_cache_misses_total", []string{"operation"},
			"Operations on processes that the table does not hold.", readMisses),
		counter("tetragon_flags_total", []string{"type"}, "Flags of the processes executed, by word.", readFlags),
		counter("tetragon_events_missing_process_info_total", nil, "Events of no process.",
			one(func(l *Lane) float64 { return float64(l.NoProcess.Load()) })),
		counter("tetragon_process_loader_stats", []string{"count"}, "Executable mappings: received, and told.", readLoader),
		counter("tetragon_cgroup_rate_total", []string{"type"},
			"Cgroups that began to be held back by cgroup-rate, and that were let go. The other types stay at 0: there is no table to look up or update.",
			readThrottles),
		counter("tetragon_data_events_total", []string{"event"},
			"Records that carry a part of something long; they are joined at once, and only counted as received.", readData),
	}
}

// eventTable is about events; all of it can be left out.
func eventTable() []Metric {
	return []Metric{
		counter("tetragon_events_total", append([]string{"type"}, processLabels...),
			"Events produced, before any filter.", readEvents),
		counter("tetragon_policy_events_total", append([]string{"policy", "hook"}, processLabels...),
			"Events that policies made, before any filter.", readPolicyEvents),
		counter("tetragon_syscalls_total", append([]string{"syscall"}, processLabels...),
			"Events of the tracepoint raw_syscalls/sys_enter, by system call.", readSyscalls),
	}
}

// serviceTable is about what clients do.
func serviceTable() []Metric {
	method := []string{"grpc_type", "grpc_service", "grpc_method"}
	return []Metric{
		counter("grpc_server_started_total", method, "Calls that came in.", readCalls(func(c *calls) uint64 { return c.started })),
		counter("grpc_server_handled_total", append(method[:3:3], "grpc_code"), "Calls that ended, by status code.", readHandled),
		counter("grpc_server_msg_received_total", method, "Messages from clients.",
			readCalls(func(c *calls) uint64 { return c.received })),
		counter("grpc_server_msg_sent_total", method, "Messages to clients.", readCalls(func(c *calls) uint64 { return c.sent })),
	}
}

func one(get func(*Lane) float64) reader {
	return func(m *Metrics, send sender) { send(get(m.lane)) }
}

func readBuild(m *Metrics, send sender) {
	b := m.opts.Build
	send(1, b.Version, b.GoVersion, b.Commit, b.Time, b.Modified)
}

func readQueues(get func(Queue) float64) reader {
	return func(m *Metrics, send sender) {
		if m.opts.Queues == nil {
			return
		}
		var s sums
		for _, q := range m.opts.Queues() {
			name, _, _ := strings.Cut(q.Sink, "#") // streams come and go
			s.add(get(q), name)
		}
		s.send(send)
	}
}

func readMemory(m *Metrics, send sender) {
	if m.opts.Memory == nil {
		return
	}
	for _, p := range m.opts.Memory() {
		send(float64(p.Bytes), p.Name)
	}
}

func readErrors(m *Metrics, send sender) {
	for i := range m.lane.Errors {
		send(float64(m.lane.Errors[i].Load()), errorWords[i])
	}
}

func readBroken(m *Metrics, send sender) {
	for _, op := range allOps {
		for e := range m.lane.Broken[op] {
			send(float64(m.lane.Broken[op][e].Load()), opLabel(op), handlerErrorWords[e])
		}
	}
}

func readMsgOps(m *Metrics, send sender) {
	for _, op := range allOps {
		send(float64(m.lane.MsgOps[op].Load()), opLabel(op))
	}
}

func readLatency(m *Metrics, send func(*Histogram, ...string)) {
	for _, op := range allOps {
		send(&m.lane.Latency[op], opLabel(op))
	}
}

func opLabel(op Op) string { return strconv.Itoa(int(op)) }

func bucketBounds() []float64 {
	var out []float64
	for _, le := range latencyBuckets {
		out = append(out, float64(le))
	}
	return out
}

// readMissed tells only of what was missed: that is what upstream does, and existing alerts count series.
func readMissed(m *Metrics, send sender) {
	for op := range m.lane.Missed {
		for e := range m.lane.Missed[op] {
			if n := m.lane.Missed[op][e].Load(); n > 0 {
				send(float64(n), opLabel(Op(op)), sendErrorWords[e])
			}
		}
	}
}

func readFlags(m *Metrics, send sender) {
	for bit, word := range m.opts.FlagWords {
		if word != "" {
			send(float64(m.lane.Flags[bit].Load()), word)
		}
	}
}

func readEvents(m *Metrics, send sender) {
	m.lane.Events.each(func(t EventType, binary string, n uint64) {
		send(float64(n), eventTypeWords[t], "", "", "", binary, m.nodeName)
	})
}

func readPolicyEvents(m *Metrics, send sender) {
	m.lane.Policies.each(func(k PolicyHook, binary string, n uint64) {
		send(float64(n), k.Policy, k.Hook.String(), "", "", "", binary, m.nodeName)
	})
}

func readSyscalls(m *Metrics, send sender) {
	m.lane.Syscalls.each(func(call, binary string, n uint64) {
		send(float64(n), call, "", "", "", binary, m.nodeName)
	})
}

func readMisses(m *Metrics, send sender) {
	send(float64(m.lane.ProcessCacheMissGet.Load()), "get")
	send(float64(m.lane.ProcessCacheMissRemove.Load()), "remove")
}

func readLoader(m *Metrics, send sender) {
	var b Balance
	if m.opts.Ledger != nil {
		for _, s := range m.opts.Ledger.Read() {
			if s.Stage == "loader" {
				b = s
			}
		}
	}
	send(float64(b.Seen), "LoaderReceived")
	send(float64(b.Delivered), "LoaderResolvedImm")
	send(0, "LoaderResolvedRetry")
}

func readThrottles(m *Metrics, send sender) {
	for _, w := range []string{"check", "process", "delete", "delete_fail", "lookup_fail", "update_fail"} {
		send(0, w)
	}
	send(float64(m.lane.ThrottleStarts.Load()), "throttle_start")
	send(float64(m.lane.ThrottleStops.Load()), "throttle_stop")
}

func readData(m *Metrics, send sender) {
	send(float64(m.lane.MsgOps[OpData].Load()), "Received")
	for _, w := range []string{"Added", "Appended", "Matched", "NotMatched", "Bad"} {
		send(0, w)
	}
}

// readLedger leaves out stages with a "#" in their name: they come and go, and another stage counts all of their kind.
func readLedger(m *Metrics, send sender) {
	if m.opts.Ledger == nil {
		return
	}
	told := map[string]bool{}
	for _, b := range m.opts.Ledger.Read() {
		if strings.Contains(b.Stage, "#") || told[b.Stage] {
			continue
		}
		told[b.Stage] = true // a series that comes twice would spoil the whole scrape
		send(float64(b.Seen), b.Stage, "seen", "")
		send(float64(b.Delivered), b.Stage, "delivered", "")
		for _, d := range b.Dropped {
			send(float64(d.Count), b.Stage, "dropped", d.Reason)
		}
	}
}

// printable repairs a label, which must be UTF-8: a path may hold any byte.
func printable(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\ufffd")
}
