// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"encoding/base64"
	"strconv"

	"tetragon/internal/event"
)

// ExecID returns the exec_id of an image: base64 of "node:ktime:pid".
func ExecID(node string, k event.Key) string {
	w := newIDWriter(node)
	return string(w.append(nil, k))
}

// idWriter writes exec_ids of one node. The node's name is encoded once, as far as it fills whole groups of three bytes.
type idWriter struct {
	head []byte // encoded
	rest []byte // what is left of the name and its colon, two bytes at most

	// Parents recur: a shell's id is written for each of its children.
	recent [64]struct {
		key event.Key
		id  []byte
	}
}

func newIDWriter(node string) idWriter {
	s := []byte(node + ":")
	whole := len(s) / 3 * 3
	return idWriter{head: base64.StdEncoding.AppendEncode(nil, s[:whole]), rest: s[whole:]}
}

// appendRecent is append for keys that recur.
func (w *idWriter) appendRecent(b []byte, k event.Key) []byte {
	r := &w.recent[(k.Ktime>>8^uint64(k.Pid))%uint64(len(w.recent))]
	if r.key != k || len(r.id) == 0 {
		r.key, r.id = k, w.append(r.id[:0], k)
	}
	return append(b, r.id...)
}

func (w *idWriter) append(b []byte, k event.Key) []byte {
	var buf [2 + 20 + 1 + 10]byte
	raw := append(buf[:0], w.rest...)
	raw = strconv.AppendUint(raw, k.Ktime, 10)
	raw = append(raw, ':')
	raw = strconv.AppendUint(raw, uint64(k.Pid), 10)
	return base64.StdEncoding.AppendEncode(append(b, w.head...), raw)
}
