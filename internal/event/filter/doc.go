// SPDX-License-Identifier: Apache-2.0

// Package filter decides which events a sink gets, and takes secrets out of arguments.
//
// It stands between the lists that users write (configuration text, requests of the API) and event/export, which asks
// Filter.Match in the lane; tetra asks Filter.MatchProto about events read from a file. Both look at one event through
// the same subject and the same rules. Fields leaves out fields of encoded events, in both forms.
//
// Not here: what is done with an event that matches (export), where redaction is applied (enrich).
//
// A list that cannot be honoured whole is refused, with an error that names the filter and the attribute; nothing that a
// user wrote is ignored. Match does not allocate, but for CEL expressions, which look at a message.
//
// A Filter belongs to one goroutine. A Redactor and Fields are safe for concurrent use.
package filter
