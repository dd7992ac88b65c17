// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// Metric is one row of the table. Names, labels and help of what exists upstream are part of the contract.
type Metric struct {
	Name   string
	Type   prometheus.ValueType
	Labels []string
	Help   string

	// read sends the present values; labels are in the order of Labels.
	read func(m *Metrics, send func(v float64, labels ...string))
}

// processLabels stand first in every metric of events.
var processLabels = []string{"namespace", "workload", "pod", "binary", "node_name"}

var (
	errorWords = [numErrors]string{
		"process_pid_tid_mismatch_exec", "process_pid_tid_mismatch_clone", "process_pid_tid_mismatch_exit",
		"event_finalize_process_info_failed", "process_metadata_username_failed",
	}
	sendErrorWords = [numSendErrors]string{"unknown", "ENOENT", "E2BIG", "EBUSY", "EINVAL", "ENOSPC", "EAGAIN"}
	eventTypeWords = [numEventTypes]string{"unknown", "PROCESS_EXEC", "PROCESS_EXIT", "RATE_LIMIT_INFO", "PROCESS_KPROBE", "PROCESS_TRACEPOINT", "PROCESS_LOADER",
		"PROCESS_UPROBE", "PROCESS_USDT"}
)

// Table is every metric of ours but those of the Go runtime, the process and the HTTP handler.
func Table() []Metric {
	counter, gauge := prometheus.CounterValue, prometheus.GaugeValue
	return []Metric{
		{"tetragon_build_info", gauge, []string{"version", "go_version", "commit", "time", "modified"},
			"Build information about this agent. Always 1.", readBuild},
		{"tetragon_errors_total", counter, []string{"error"},
			"Internal errors by kind.", readErrors},
		{"tetragon_msg_op_total", counter, []string{"msg_op"},
			"Records received from the kernel, by operation code.", readMsgOps},
		{"tetragon_bpf_missed_events_total", counter, []string{"msg_op", "error"},
			"Records that the kernel side could not send, by operation code and error.", readMissed},
		{"tetragon_flags_total", counter, []string{"type"},
			"Flags of the processes seen, by word.", readFlags},
		{"tetragon_notify_overflowed_events_total", counter, nil,
			"Events dropped because the queue of a subscriber was full.", one(func(l *Lane) float64 {
				return float64(l.Overflowed.Load())
			})},
		{"tetragon_events_total", counter, append([]string{"type"}, processLabels...),
			"Events produced, before any filter.", readEvents},
		{"tetragon_policy_events_total", counter, append([]string{"policy", "hook"}, processLabels...),
			"Events that policies made, before any filter.", readPolicyEvents},
		{"tetragon_tracingpolicy_loaded", gauge, []string{"state"},
			"Policies, by state.", readPolicyStates},
		{"tetragon_tracingpolicy_kernel_memory_bytes", gauge, []string{"policy", "policy_namespace"},
			"Kernel memory of a policy, without the tables that all share.", readPolicyMemory},
		{"tetragon_tracingpolicy_selector_actions_total", counter,
			[]string{"policy", "policy_namespace", "hook", "hook_index", "selector_index", "selector_label", "action"},
			"What the selectors of a policy did.", readSelectors},
		{"tetragon_events_exported_total", counter, nil,
			"Events handed to the JSON export.", one(func(l *Lane) float64 { return float64(l.Exported.Load()) })},
		{"tetragon_events_exported_bytes_total", counter, nil,
			"Bytes written by the JSON export.", one(func(l *Lane) float64 { return float64(l.ExportedBytes.Load()) })},
		{"tetragon_events_last_exported_timestamp", gauge, nil,
			"Time of the last exported event, in seconds since the epoch.", one(func(l *Lane) float64 {
				return float64(l.LastExported.Load()) / 1e9
			})},
		{"tetragon_export_ratelimit_events_dropped_total", counter, nil,
			"Events that the JSON export dropped because of its rate limit.", one(func(l *Lane) float64 {
				return float64(l.RateLimited.Load())
			})},
		{"tetragon_observer_ringbuf_events_received_total", counter, nil,
			"Records read from the kernel's buffer.", one(func(l *Lane) float64 { return float64(l.Received.Load()) })},
		{"tetragon_observer_ringbuf_events_lost_total", counter, nil,
			"Records lost by perf buffers. A ring buffer counts in tetragon_bpf_missed_events_total.",
			one(func(l *Lane) float64 { return float64(l.Lost.Load()) })},
		{"tetragon_observer_ringbuf_errors_total", counter, nil,
			"Errors met when reading the kernel's buffer.", one(func(l *Lane) float64 { return float64(l.ReadErrors.Load()) })},
		{"tetragon_process_cache_size", gauge, nil,
			"Processes in the process table.", one(func(l *Lane) float64 { return float64(l.ProcessCacheSize.Load()) })},
		{"tetragon_process_cache_capacity", gauge, nil,
			"Processes that fit into the process table.", one(func(l *Lane) float64 {
				return float64(l.ProcessCacheCapacity.Load())
			})},
		{"tetragon_process_cache_evictions_total", counter, nil,
			"Processes removed from the process table.", one(func(l *Lane) float64 {
				return float64(l.ProcessCacheEvictions.Load())
			})},
		{"tetragon_process_cache_misses_total", counter, []string{"operation"},
			"Operations on processes that the table does not hold.", readMisses},
		{"tetragon_ledger_events", counter, []string{"stage", "outcome", "reason"},
			"The account of the event lane: at each stage, seen = delivered + dropped by reason + what waits.", readLedger},
	}
}

func one(get func(*Lane) float64) func(*Metrics, func(float64, ...string)) {
	return func(m *Metrics, send func(float64, ...string)) { send(get(m.lane)) }
}

func readBuild(m *Metrics, send func(float64, ...string)) {
	b := m.opts.Build
	send(1, b.Version, b.GoVersion, b.Commit, b.Time, b.Modified)
}

func readErrors(m *Metrics, send func(float64, ...string)) {
	for i := range m.lane.Errors {
		send(float64(m.lane.Errors[i].Load()), errorWords[i])
	}
}

func readMsgOps(m *Metrics, send func(float64, ...string)) {
	for op := range m.lane.MsgOps {
		if n := m.lane.MsgOps[op].Load(); n > 0 {
			send(float64(n), strconv.Itoa(op))
		}
	}
}

func readMissed(m *Metrics, send func(float64, ...string)) {
	for op := range m.lane.Missed {
		for e := range m.lane.Missed[op] {
			if n := m.lane.Missed[op][e].Load(); n > 0 {
				send(float64(n), strconv.Itoa(op), sendErrorWords[e])
			}
		}
	}
}

func readFlags(m *Metrics, send func(float64, ...string)) {
	for bit, word := range m.opts.FlagWords {
		if word != "" {
			send(float64(m.lane.Flags[bit].Load()), word)
		}
	}
}

func readEvents(m *Metrics, send func(float64, ...string)) {
	if !m.opts.EventMetrics {
		return
	}
	m.lane.Events.each(func(t EventType, binary string, n uint64) {
		send(float64(n), eventTypeWords[t], "", "", "", binary, m.nodeName)
	})
}

func readPolicyEvents(m *Metrics, send func(float64, ...string)) {
	if !m.opts.EventMetrics {
		return
	}
	m.lane.Policies.each(func(policy, hook, binary string, n uint64) {
		send(float64(n), policy, hook, "", "", "", binary, m.nodeName)
	})
}

func readMisses(m *Metrics, send func(float64, ...string)) {
	send(float64(m.lane.ProcessCacheMissGet.Load()), "get")
	send(float64(m.lane.ProcessCacheMissRemove.Load()), "remove")
}

// readLedger leaves out stages with a "#" in their name: they come and go, and another stage counts all of their kind.
func readLedger(m *Metrics, send func(float64, ...string)) {
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
