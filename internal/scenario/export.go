// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// export follows an agent's export file, through rotations and renames: every file that ever stood at its path, or
// beside it under the name of a backup, is kept open and read in the order in which they were written.
type export struct {
	path string
	segs []*os.File
}

func (e *export) close() {
	for _, f := range e.segs {
		_ = f.Close()
	}
	e.segs = nil
}

// position is a place between two lines.
type position struct {
	seg int
	off int64
}

// refresh finds files that are new since the last time.
func (e *export) refresh() error {
	ext := filepath.Ext(e.path)
	names, err := filepath.Glob(strings.TrimSuffix(e.path, ext) + "-*" + ext)
	if err != nil {
		return err
	}
	sort.Strings(names) // backups carry their time in the name
	if !sort.StringsAreSorted(names) {
		return errors.New("bug: unsorted names")
	}
	for _, n := range append(names, e.path) {
		f, err := os.Open(n)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		known, err := e.knows(f)
		if err != nil || known {
			_ = f.Close()
			if err != nil {
				return err
			}
			continue
		}
		e.segs = append(e.segs, f)
	}
	return nil
}

func (e *export) knows(f *os.File) (bool, error) {
	a, err := f.Stat()
	if err != nil {
		return false, err
	}
	for _, s := range e.segs {
		b, err := s.Stat()
		if err != nil {
			return false, err
		}
		if os.SameFile(a, b) {
			return true, nil
		}
	}
	return false, nil
}

// scan calls visit with every whole line after from, until it says stop, and gives the position behind the last line
// that it saw. The line is only valid during the call.
func (e *export) scan(from position, visit func(line []byte) (stop bool, err error)) (position, error) {
	if err := e.refresh(); err != nil {
		return from, fmt.Errorf("follow the export: %w", err)
	}
	at := from
	buf := make([]byte, 0, 1<<20)
	for at.seg < len(e.segs) {
		chunk := buf[:cap(buf)]
		n, err := e.segs[at.seg].ReadAt(chunk, at.off)
		if err != nil && err != io.EOF {
			return at, fmt.Errorf("read the export: %w", err)
		}
		chunk = chunk[:n]
		used := 0
		for {
			i := bytes.IndexByte(chunk[used:], '\n')
			if i < 0 {
				break
			}
			line := chunk[used : used+i]
			used += i + 1
			if stop, verr := visit(line); stop || verr != nil {
				at.off += int64(used)
				return at, verr
			}
		}
		at.off += int64(used)
		switch {
		case used == 0 && n == cap(buf): // a longer line than the buffer
			buf = make([]byte, 0, 2*cap(buf))
		case err == io.EOF && at.seg+1 < len(e.segs):
			// A later file is there, so nobody writes to this one any more.
			at = position{seg: at.seg + 1}
		case err == io.EOF:
			return at, nil
		}
	}
	return at, nil
}
