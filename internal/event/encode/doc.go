// SPDX-License-Identifier: Apache-2.0

// Package encode writes events: as lines of JSON, as protobuf for gRPC clients, and as short lines for people.
//
// It stands between event/enrich and event/export. An Encoder turns an event.Event into the bytes of one
// GetEventsResponse, in either form. Which value stands in which field is decided in encoder.go and process.go; how the
// fields become bytes is in messages_gen.go, which tools/encgen makes from the .proto files. The Process message of a
// process stands in all its events and those of its children, so it is made once and then copied. Compact works on
// protobuf messages, because the CLI has nothing else.
//
// Not here: what is chosen or masked (event/filter), where bytes go (event/export).
//
// What always holds: the JSON is one valid object on one line with only valid UTF-8, equal to what protojson writes for
// the same message but for the spaces that protojson adds at random; both forms say the same. Whatever a process is
// called, encoding neither fails nor panics. An Encoder belongs to one goroutine, as does the memory that it keeps in
// event.Process.
package encode

//go:generate go run tetragon/tools/encgen -o messages_gen.go
