// SPDX-License-Identifier: Apache-2.0

// Package export brings events out of the agent: to a file, to standard output, to the subscribers of the API.
//
// It stands between the event lane, which calls Set.Batch with each batch of events, and the sinks. An event is
// filtered and encoded in the lane's goroutine, at most once per format however many sinks want it, and is bytes from
// there on; each sink has a queue of its own and a goroutine that empties it.
//
// Not here: how an event is written (encode), what matches (filter), the API itself (server).
//
// A slow or broken sink loses its own events only, and every one of them is counted: for each sink,
// seen = delivered + dropped by reason + what waits. Files and standard output hold whole lines only. Losses that the
// lane reports (event.KindLoss) reach every file and standard output past filters and limits; what a file or standard
// output lost itself is reported there in the same way.
//
// Set.Batch and Set.Close belong to the lane. Everything else is safe for concurrent use.
package export
