// SPDX-License-Identifier: Apache-2.0

// Package server answers clients: the gRPC services, and the sockets that they are reached on.
//
// It stands between clients such as tetra and the rest of the agent, which it asks through small interfaces. Events
// come from event/export already encoded and are passed on as they are.
//
// Not here: queues and their overflow (event/export), what matches (event/filter), metrics over HTTP (metrics, daemon).
//
// A unix socket is never reachable by anybody but its owner, not even for a moment. Without TLS only loopback addresses
// are served. What is not supported is refused by name.
//
// Everything here is safe for concurrent use.
package server
