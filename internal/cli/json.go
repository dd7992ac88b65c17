// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"

	"google.golang.org/protobuf/encoding/protojson"

	"tetragon/api/v1/tetragon"
)

// jsonWriter writes an event as the export does. protojson strews blanks that differ from build to build, so that
// nobody relies on them; they are taken out.
func jsonWriter(b []byte, ev *tetragon.GetEventsResponse) ([]byte, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(ev)
	if err != nil {
		return b, err
	}
	buf := bytes.NewBuffer(b)
	if err := json.Compact(buf, text); err != nil {
		return b, err
	}
	return append(buf.Bytes(), '\n'), nil
}
