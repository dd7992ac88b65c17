// SPDX-License-Identifier: Apache-2.0

package server

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that this one extends
	"google.golang.org/grpc/mem"
)

// encoded is a message that is in wire format already.
type encoded []byte

// codec is gRPC's own for protobuf, but passes encoded messages on.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// Marshal implements encoding.CodecV2. It copies: gRPC keeps what it sends until the connection has taken it.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.(encoded); ok {
		return mem.BufferSlice{mem.Copy(b, mem.DefaultBufferPool())}, nil
	}
	return c.CodecV2.Marshal(v)
}
