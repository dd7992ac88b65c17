// SPDX-License-Identifier: Apache-2.0

package mmap

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// kernel: what follows is ABI (include/uapi/linux/perf_event.h): enum perf_event_type, struct perf_event_header.
const (
	typeLost  = 2
	typeComm  = 3
	typeMmap2 = 10

	miscCommExec = 1 << 13 // of typeComm: the name changed by an exec
	miscBuildID  = 1 << 14 // of typeMmap2: a build id instead of device and inode

	headerSize = 8
	mmap2Size  = 64 // without the name
	sampleSize = 16 // what sample_id_all appends for PERF_SAMPLE_TID | PERF_SAMPLE_TIME: pid, tid, time
	maxBuildID = 20
)

type recordKind uint8

const (
	recordOther recordKind = iota
	recordMapping
	recordExec
	recordLost
)

// record is one record of a ring. Its bytes lie in the ring.
type record struct {
	kind        recordKind
	pid, tid    uint32
	time        uint64
	tail        int // place in the batch, for records of the same time
	lost        uint64
	addr, size  uint64
	pgoff       uint64
	hasID       bool
	buildID     []byte
	dev         uint64 // major<<32 | minor, without hasID
	inode       uint64
	prot, flags uint32
	path        []byte
}

// parse reads a record. raw is one record with its header, as long as the header says.
//
//	0      4     6      8
//	+------+-----+------+--- ... ---+-----+-----+------+
//	| type | misc| size |  body     | pid | tid | time |
//	+------+-----+------+--- ... ---+-----+-----+------+
//
// The body of an mmap2 record: pid, tid (4 each), addr, len, pgoff (8 each), then either maj, min (4 each), ino, ino_gen
// (8 each) or the length of the build id (1), 3 bytes, and 20 bytes of it; prot, flags (4 each); the terminated name,
// padded to 8.
func parse(raw []byte) (record, error) {
	var r record
	if len(raw) < headerSize+sampleSize {
		return r, fmt.Errorf("record of %d bytes", len(raw))
	}
	le := binary.LittleEndian
	kind, misc := le.Uint32(raw), le.Uint16(raw[4:])
	body, sample := raw[headerSize:len(raw)-sampleSize], raw[len(raw)-sampleSize:]
	r.pid, r.tid, r.time = le.Uint32(sample), le.Uint32(sample[4:]), le.Uint64(sample[8:])
	switch kind {
	case typeLost:
		if len(body) < 16 {
			return r, fmt.Errorf("loss record of %d bytes", len(raw))
		}
		r.kind, r.lost = recordLost, le.Uint64(body[8:])
	case typeComm:
		if misc&miscCommExec != 0 {
			r.kind = recordExec
		}
	case typeMmap2:
		return r, r.mapping(body, misc&miscBuildID != 0)
	}
	return r, nil
}

func (r *record) mapping(body []byte, hasID bool) error {
	if len(body) < mmap2Size {
		return fmt.Errorf("mapping record of %d bytes", len(body))
	}
	le := binary.LittleEndian
	r.kind = recordMapping
	r.pid, r.tid = le.Uint32(body), le.Uint32(body[4:])
	r.addr, r.size, r.pgoff = le.Uint64(body[8:]), le.Uint64(body[16:]), le.Uint64(body[24:])
	if hasID {
		n := int(body[32])
		if n > maxBuildID {
			return fmt.Errorf("build id of %d bytes", n)
		}
		r.hasID, r.buildID = n > 0, body[36:36+n]
	} else {
		r.dev = uint64(le.Uint32(body[32:]))<<32 | uint64(le.Uint32(body[36:]))
		r.inode = le.Uint64(body[40:])
	}
	r.prot, r.flags = le.Uint32(body[56:]), le.Uint32(body[60:])
	name := body[mmap2Size:]
	end := bytes.IndexByte(name, 0)
	if end < 0 {
		return fmt.Errorf("name without an end")
	}
	r.path = name[:end]
	return nil
}
