// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"tetragon/api/v1/tetragon"
)

// jsonWriter writes an event as the export does.
func jsonWriter(b []byte, ev *tetragon.GetEventsResponse) ([]byte, error) {
	return appendMessage(b, ev)
}

// messageLine is a message as one line of JSON.
func messageLine(m proto.Message) ([]byte, error) { return appendMessage(nil, m) }

// appendMessage adds a message as one line. protojson strews blanks that differ from build to build, so that nobody relies
// on them; they are taken out.
func appendMessage(b []byte, m proto.Message) ([]byte, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return b, err
	}
	buf := bytes.NewBuffer(b)
	if err := json.Compact(buf, text); err != nil {
		return b, err
	}
	return append(buf.Bytes(), '\n'), nil
}
