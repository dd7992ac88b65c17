// SPDX-License-Identifier: Apache-2.0

// Package metrics holds what the agent counts: the ledger of the event lane, and the table of Prometheus metrics.
//
// Every stage of the lane counts into the ledger; the ledger is printed at stop, shown by tetra status, and exported.
// What else is exported is counted into a Lane, which is plain atomic numbers, and only named and labelled when a
// scrape asks for it: table.go says how.
//
// Not here: reading counters out of BPF maps (sensor), listening for scrapes (daemon).
//
// Everything here is safe for concurrent use. Counting allocates nothing, but for the first event of a binary.
package metrics
