// SPDX-License-Identifier: Apache-2.0

package mmap

import "container/list"

// The bounds of what is remembered. The first is the specification's: a file that is mapped again after so many others
// may be told again.
const (
	dedupEntries = 1024
	execEntries  = 4096
)

type fileKey struct {
	pid  uint32
	path string
}

type fileSeen struct {
	key  fileKey
	time uint64
}

// lru remembers which process has mapped which file.
type lru struct {
	max     int
	entries map[fileKey]*list.Element
	order   *list.List // newest first
}

func newLRU(n int) *lru { return &lru{max: n, entries: map[fileKey]*list.Element{}, order: list.New()} }

// add says whether it is news that pid maps path. What an image mapped that began before exec is no longer so: then the
// pid has another image, or another process.
func (l *lru) add(pid uint32, path []byte, time, exec uint64) bool {
	if e := l.entries[fileKey{pid, string(path)}]; e != nil { // the compiler makes no string here
		s := e.Value.(*fileSeen)
		news := s.time < exec
		s.time = time
		l.order.MoveToFront(e)
		return news
	}
	k := fileKey{pid, string(path)}
	if l.order.Len() >= l.max {
		e := l.order.Back() // its memory is used again
		s := e.Value.(*fileSeen)
		delete(l.entries, s.key)
		s.key, s.time = k, time
		l.order.MoveToFront(e)
		l.entries[k] = e
		return true
	}
	l.entries[k] = l.order.PushFront(&fileSeen{k, time})
	return true
}

// execs remembers when pids did their last exec.
type execs struct {
	max     int
	entries map[uint32]*list.Element
	order   *list.List
}

type execSeen struct {
	pid  uint32
	time uint64
}

func newExecs(n int) *execs {
	return &execs{max: n, entries: map[uint32]*list.Element{}, order: list.New()}
}

func (x *execs) put(pid uint32, time uint64) {
	if e := x.entries[pid]; e != nil {
		e.Value.(*execSeen).time = time
		x.order.MoveToFront(e)
		return
	}
	if x.order.Len() >= x.max {
		e := x.order.Back()
		delete(x.entries, e.Value.(*execSeen).pid)
		x.order.Remove(e)
	}
	x.entries[pid] = x.order.PushFront(&execSeen{pid, time})
}

func (x *execs) get(pid uint32) uint64 {
	if e := x.entries[pid]; e != nil {
		return e.Value.(*execSeen).time
	}
	return 0
}
