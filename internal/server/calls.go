// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"tetragon/internal/metrics"
)

// methodOf splits "/package.Service/Name". Interceptors see registered methods only, so there are few.
func methodOf(full, kind string) metrics.Method {
	service, name, _ := strings.Cut(strings.TrimPrefix(full, "/"), "/")
	return metrics.Method{Type: kind, Service: service, Name: name}
}

// countUnary counts a call with one request and one answer.
func (s *Server) countUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	calls := s.opts.Calls
	if calls == nil {
		return handler(ctx, req)
	}
	m := methodOf(info.FullMethod, "unary")
	calls.Start(m)
	calls.Received(m)
	res, err := handler(ctx, req)
	if err == nil {
		calls.Sent(m, 1)
	}
	calls.Handled(m, status.Code(err).String())
	return res, err
}

// countStream counts a call whose answers are a stream.
func (s *Server) countStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	calls := s.opts.Calls
	if calls == nil {
		return handler(srv, stream)
	}
	kind := "server_stream"
	if info.IsClientStream && info.IsServerStream {
		kind = "bidi_stream"
	} else if info.IsClientStream {
		kind = "client_stream"
	}
	m := methodOf(info.FullMethod, kind)
	calls.Start(m)
	err := handler(srv, &countedStream{ServerStream: stream, calls: calls, method: m})
	calls.Handled(m, status.Code(err).String())
	return err
}

// countedStream counts the messages of a stream.
type countedStream struct {
	grpc.ServerStream
	calls  *metrics.RPCs
	method metrics.Method
}

func (s *countedStream) SendMsg(m any) error {
	err := s.ServerStream.SendMsg(m)
	if err == nil {
		s.calls.Sent(s.method, 1)
	}
	return err
}

func (s *countedStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		s.calls.Received(s.method)
	}
	return err
}
