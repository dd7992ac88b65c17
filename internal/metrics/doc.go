// SPDX-License-Identifier: Apache-2.0

// Package metrics holds what the agent counts: the ledger of the event lane, and the table of Prometheus metrics.
//
// Every stage of the lane counts into the ledger; the ledger is printed at stop, shown by tetra status, and exported.
//
// Not here: reading counters out of BPF maps (sensor), serving HTTP beyond the handler (daemon).
//
// Everything here is safe for concurrent use.
package metrics
