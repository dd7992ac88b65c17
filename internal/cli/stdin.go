// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/encoding/protojson"

	"tetragon/api/v1/tetragon"
	"tetragon/internal/event/filter"
)

// eventsOnStdin says whether standard input brings events: it does unless it is a terminal, /dev/null or another
// character device.
func (a *app) eventsOnStdin() (io.Reader, bool) {
	f, ok := a.opts.In.(*os.File)
	if !ok {
		return a.opts.In, true
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice != 0 {
		return nil, false // closed, or a device
	}
	return f, true
}

// lineSource reads events as JSON lines and filters them as the agent would.
type lineSource struct {
	app     *app
	command string
	in      *bufio.Reader
	filter  *filter.Filter
	fields  *filter.Fields
	line    int
	skipped int
}

func (a *app) newLineSource(in io.Reader, req *tetragon.GetEventsRequest) (*lineSource, error) {
	o := filter.Everything()
	o.Complain = func(err error) { a.warn(err.Error()) }
	f, err := filter.New(req.GetAllowList(), req.GetDenyList(), o)
	if err != nil {
		return nil, fmt.Errorf("read filters: %w", err)
	}
	fields, err := filter.NewFields(req.GetFieldFilters())
	if err != nil {
		return nil, fmt.Errorf("read filters: %w", err)
	}
	for _, w := range fields.Warnings() {
		a.warn(w)
	}
	return &lineSource{app: a, command: "getevents", in: bufio.NewReaderSize(in, 64<<10), filter: f, fields: fields}, nil
}

// next returns the next event that the filters let through, and io.EOF at the end. A line that is no event is skipped.
func (s *lineSource) next() (*tetragon.GetEventsResponse, error) {
	parse := protojson.UnmarshalOptions{DiscardUnknown: true}
	for {
		line, err := s.readLine()
		if err != nil {
			return nil, err
		}
		s.line++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		ev := &tetragon.GetEventsResponse{}
		if err := parse.Unmarshal(line, ev); err != nil {
			s.skip(err)
			continue
		}
		if s.filter.MatchProto(ev) {
			return s.fields.Prune(ev)
		}
	}
}

// readLine returns one line without its limit, or an empty one in place of a line that is too long.
func (s *lineSource) readLine() ([]byte, error) {
	var line []byte
	tooLong := false
	for {
		part, err := s.in.ReadSlice('\n')
		if tooLong = tooLong || len(line)+len(part) > s.app.maxRecvSize; !tooLong {
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if errors.Is(err, io.EOF) && (len(line) > 0 || tooLong) {
			err = nil // the last line has no end
		}
		if tooLong && err == nil {
			s.line++
			s.skip(fmt.Errorf("longer than --max-recv-size, %d bytes", s.app.maxRecvSize))
			s.line--
			return nil, nil
		}
		return line, err
	}
}

func (s *lineSource) skip(err error) {
	s.skipped++
	s.app.debugf("line %d: %v", s.line, err)
}

// close tells how much was skipped.
func (s *lineSource) close() {
	if s.skipped > 0 && !s.app.debug {
		fmt.Fprintf(s.app.opts.Err, "%s: %d of %d lines were no events; --debug shows why\n", s.command, s.skipped, s.line)
	}
}
