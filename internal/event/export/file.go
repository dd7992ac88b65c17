// SPDX-License-Identifier: Apache-2.0

package export

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"tetragon/internal/metrics"
)

// FileOptions are those of the JSON export.
type FileOptions struct {
	Path             string
	Name             string        // empty: the one export that existing metrics count; else a word of its own
	MaxSizeMB        int           // MiB; 0: 100
	RotationInterval time.Duration // 0: by size only
	MaxBackups       int           // 0: keep all
	MaxAge           time.Duration // rotated files that are older are removed; 0: none
	Compress         bool
	Perm             fs.FileMode // of files that are created; 0: 0600
	RateLimit        int         // events a minute; negative: no limit; 0: no export at all, which New refuses
	Filter           Matcher     // nil: everything
	Fields           Pruner      // nil: events are whole
	QueueBytes       int         // 0: DefaultFileBytes
}

// ErrDisabled is what AddFile says to a rate limit of 0, which means no export.
var ErrDisabled = errors.New("the export is switched off by a rate limit of 0")

const fileChunk = 64 << 10

// File is the JSON export to a file: one line an event, whole lines only, rotated by size and age. Safe for concurrent
// use.
type File struct {
	path    string
	perm    fs.FileMode
	lane    *metrics.Lane
	log     *slog.Logger
	now     func() time.Time
	sink    *sink
	changed chan struct{} // a token when params or reopen changed
	backups *backups

	mu sync.Mutex

	params FileParams
	reopen bool

	// Of the writer's goroutine.
	f         *os.File
	regular   bool
	dev, ino  uint64
	size      int64
	torn      bool // the file ends within a line that could not be cut off
	opened    time.Time
	looked    time.Time // when the path was last compared with f
	logged    time.Time
	unlogged  int
	postponed time.Time // no rotation before this time, because it went wrong
}

// FileParams can be changed while the agent runs.
type FileParams struct {
	MaxSizeMB        int // 0: 100
	RotationInterval time.Duration
	MaxBackups       int
	MaxAge           time.Duration
	Compress         bool
}

func (p FileParams) maxBytes() int64 {
	if p.MaxSizeMB == 0 {
		return 100 << 20
	}
	return int64(p.MaxSizeMB) << 20
}

func (p FileParams) check() error {
	switch {
	case p.MaxSizeMB < 0:
		return fmt.Errorf("maximum size of %d MB: must not be negative", p.MaxSizeMB)
	case p.RotationInterval < 0:
		return fmt.Errorf("rotation interval of %s: must not be negative", p.RotationInterval)
	case p.MaxAge < 0:
		return fmt.Errorf("rotated files to keep for %s: must not be negative; 0 keeps them however old", p.MaxAge)
	case p.MaxBackups < 0:
		return fmt.Errorf("%d rotated files to keep: must not be negative; 0 keeps all", p.MaxBackups)
	}
	return nil
}

// DefaultFileBytes may wait for a file: 20,000 events, for as long as a disk may take its time with a flood of them. Nothing is
// taken before it is needed.
const DefaultFileBytes = 16 << 20

// AddFile opens the export file and adds it as a sink.
func (s *Set) AddFile(o FileOptions) (*File, error) {
	if o.RateLimit == 0 {
		return nil, ErrDisabled
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = DefaultFileBytes
	}
	if o.Perm == 0 {
		o.Perm = 0o600
	}
	path, err := filepath.Abs(o.Path) // the agent may change its working directory
	if err != nil || o.Path == "" {
		return nil, fmt.Errorf("export to file %q: not a file name", o.Path)
	}
	f := &File{
		path: path, perm: o.Perm&0o664 | 0o600, lane: s.lane, log: s.log, now: s.now,
		changed: make(chan struct{}, 1),
		params:  FileParams{MaxSizeMB: o.MaxSizeMB, RotationInterval: o.RotationInterval, MaxBackups: o.MaxBackups, MaxAge: o.MaxAge, Compress: o.Compress},
	}
	if err := f.params.check(); err != nil {
		return nil, fmt.Errorf("export to file %s: %w", path, err)
	}
	name := "file"
	if o.Name != "" {
		name, f.lane = "file:"+o.Name, new(metrics.Lane) // its account is in the ledger alone
	}
	// A disk that cannot be written to now is no reason not to observe, or to enforce: what cannot be written is counted.
	if err := f.open(); passes(err) {
		f.complain(err)
	} else if err != nil {
		return nil, fmt.Errorf("export to file: %w", err)
	}
	k := &sink{
		name: name, format: lines, match: o.Filter, prune: o.Fields, losses: true, exporter: o.Name == "",
		q:        newQueue(fileChunk, o.QueueBytes, int(^uint(0)>>1), s.now),
		finished: make(chan struct{}),
		limit:    newLimiter(o.RateLimit, s.now()),
	}
	k.owed.start(s.now())
	k.healthy.Store(true)
	k.stages = []*metrics.Stage{s.opts.Ledger.Stage(name, reasons[:]...)}
	f.sink = k
	if err := s.add(k); err != nil {
		s.opts.Ledger.Remove(k.stages[0])
		if f.f != nil {
			_ = f.f.Close()
		}
		return nil, err
	}
	f.backups = newBackups(path, s.now, s.log)
	f.backups.tidy(f.params)
	go f.run()
	return f, nil
}

// Path returns where the file is.
func (f *File) Path() string { return f.path }

// Params returns what can be changed.
func (f *File) Params() FileParams {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.params
}

// SetParams changes size, interval and number of rotated files, all or, on error, none.
func (f *File) SetParams(p FileParams) error {
	if err := p.check(); err != nil {
		return fmt.Errorf("set %w", err)
	}
	f.mu.Lock()
	f.params = p
	f.mu.Unlock()
	f.nudge()
	return nil
}

// Reopen makes the writer open its path anew, after logrotate or by SIGHUP.
func (f *File) Reopen() {
	f.mu.Lock()
	f.reopen = true
	f.mu.Unlock()
	f.nudge()
}

func (f *File) nudge() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// run empties the queue into the file until the queue ends.
func (f *File) run() {
	defer close(f.sink.finished)
	defer f.backups.wait()
	defer func() {
		if f.f != nil {
			if err := f.f.Close(); err != nil {
				f.complain(err)
			}
		}
	}()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		c, last := f.sink.q.pop()
		if last {
			return
		}
		if c != nil {
			f.writeChunk(c)
			continue
		}
		f.age(timer)
		select {
		case <-f.sink.q.wake:
		case <-timer.C:
			if p := f.Params(); p.MaxAge > 0 {
				f.backups.tidy(p)
			}
		case <-f.changed:
			f.look(true)
		}
	}
}

// writeChunk writes what the lane has put in, and counts it.
func (f *File) writeChunk(c *chunk) {
	f.look(false)
	f.age(nil)
	lost, err := f.write(c.buf)
	if err != nil {
		f.complain(err)
		f.sink.refused.Add(uint64(lost))
		f.looked = time.Time{} // perhaps the path leads to a better file by now
	}
	f.sink.healthy.Store(err == nil)
	f.sink.settle(c, writeError, lost)
}

// write writes lines, rotating before the one that would exceed the limit. It returns how many did not get out.
func (f *File) write(b []byte) (lost int, err error) {
	limit := f.Params().maxBytes()
	for len(b) > 0 {
		if f.f == nil {
			if err := f.open(); err != nil {
				return countLines(b), err
			}
		}
		part := b
		if room := limit - f.size; f.regular && int64(len(b)) > room {
			n := bytes.LastIndexByte(b[:max(room, 0)], '\n') + 1
			if n == 0 && f.size > 0 && f.rotate() {
				continue
			}
			if n == 0 { // larger than a file may be, so it gets one for itself; or rotation does not work
				n = bytes.IndexByte(b, '\n') + 1
			}
			part = b[:n]
		}
		n, err := f.put(part)
		b = b[n:]
		if err != nil {
			return countLines(b), err
		}
	}
	return 0, nil
}

// put writes lines in one call and returns how many bytes of whole lines are in the file.
func (f *File) put(b []byte) (int, error) {
	if f.torn {
		n, err := f.f.Write([]byte{'\n'})
		f.size += int64(n)
		if err != nil {
			return 0, fmt.Errorf("write %s: %w", f.path, err)
		}
		f.torn = false
	}
	n, err := f.f.Write(b)
	f.size += int64(n)
	whole := n
	if n < len(b) {
		whole = bytes.LastIndexByte(b[:n], '\n') + 1
		f.cut(n - whole)
	}
	f.lane.ExportedBytes.Add(uint64(whole))
	if err != nil {
		return whole, fmt.Errorf("write %s: %w", f.path, err)
	}
	return whole, nil
}

// cut takes the last n bytes, the beginning of a line, out of the file again.
func (f *File) cut(n int) {
	if n == 0 {
		return
	}
	st, err := f.f.Stat()
	// Nobody else may have written meanwhile, or we would cut off what is not ours.
	if err == nil && f.regular && st.Size() == f.size && f.f.Truncate(f.size-int64(n)) == nil {
		f.size -= int64(n)
		return
	}
	f.torn = true
}

// passes says whether an error is one of a disk's state, which may pass.
func passes(err error) bool {
	for _, e := range []error{syscall.ENOSPC, syscall.EROFS, syscall.EDQUOT, syscall.EIO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// open opens the path for appending.
func (f *File) open() error {
	if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
		return fmt.Errorf("create the directory of %s: %w", f.path, err)
	}
	// Without O_NONBLOCK a pipe that nobody reads would hold up the start of the agent for ever.
	file, err := os.OpenFile(f.path, os.O_RDWR|os.O_CREATE|os.O_APPEND|syscall.O_NONBLOCK, f.perm)
	if errors.Is(err, fs.ErrPermission) { // a file of another user, or a device, that may be written but not read
		file, err = os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NONBLOCK, f.perm)
	}
	if err != nil {
		if errors.Is(err, syscall.EISDIR) {
			return fmt.Errorf("open %s: it is a directory; name a file in it", f.path)
		}
		return err
	}
	st, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return fmt.Errorf("open %s: %w", f.path, err)
	}
	if !st.Mode().IsRegular() && st.Mode()&fs.ModeCharDevice == 0 {
		_ = file.Close()
		return fmt.Errorf("open %s: it is neither a regular file nor a character device", f.path)
	}
	f.f, f.regular, f.size, f.torn = file, st.Mode().IsRegular(), st.Size(), false
	f.dev, f.ino = identity(st)
	f.opened, f.looked = f.now(), f.now()
	if f.regular && f.size > 0 {
		var end [1]byte // a machine that lost power may have left half a line
		if n, _ := file.ReadAt(end[:], f.size-1); n == 1 && end[0] != '\n' {
			f.torn = true
		}
	}
	return nil
}

func identity(st fs.FileInfo) (dev, ino uint64) {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return sys.Dev, sys.Ino
	}
	return 0, 0
}

// lookEvery is how long a file that was moved away may be written to; a look costs as much as a write.
const lookEvery = 200 * time.Millisecond

// look opens the path anew when it is not the open file any more, or when that was asked for.
func (f *File) look(now bool) {
	t := f.now()
	if f.f == nil || !now && t.Sub(f.looked) < lookEvery {
		return
	}
	f.looked = t
	f.mu.Lock()
	asked := f.reopen
	f.reopen = false
	f.mu.Unlock()

	st, err := os.Stat(f.path)
	if err == nil && !asked {
		dev, ino := identity(st)
		if dev == f.dev && ino == f.ino {
			if f.regular {
				f.size = st.Size() // logrotate's copytruncate makes it shorter
			}
			return
		}
	}
	old := f.f
	if err := f.open(); err != nil {
		f.complain(fmt.Errorf("open again: %w", err)) // the old one still takes events
		f.f = old
		return
	}
	if err := old.Close(); err != nil {
		f.complain(err)
	}
}

// age rotates the file when it is old enough and sets the timer for the next look at it.
func (f *File) age(timer *time.Timer) {
	interval := f.Params().RotationInterval
	if interval <= 0 || f.f == nil {
		if timer != nil {
			timer.Reset(time.Hour)
		}
		return
	}
	now := f.now()
	if now.Sub(f.opened) >= interval {
		if !f.regular || f.size == 0 { // an empty backup would only push a full one out
			f.opened = now
		} else if !f.rotate() {
			f.opened = now.Add(rotateAgain - interval)
		}
	}
	if timer != nil {
		timer.Reset(max(interval-now.Sub(f.opened), time.Millisecond))
	}
}

// rotateAgain is how long a rotation that went wrong is not tried again.
const rotateAgain = 10 * time.Second

// rotate moves the file away and opens a new one. false: it goes on as it is.
func (f *File) rotate() bool {
	now := f.now()
	if now.Before(f.postponed) {
		return false
	}
	f.look(true) // what is renamed must be what was written
	if f.size == 0 {
		return true
	}
	name, err := f.backups.name(now)
	if err == nil {
		err = os.Rename(f.path, name)
	}
	if err != nil {
		f.postponed = now.Add(rotateAgain)
		f.complain(fmt.Errorf("rotate: %w", err))
		return false
	}
	old := f.f
	f.f = nil
	if err := old.Close(); err != nil {
		f.complain(err)
	}
	if err := f.open(); err != nil {
		f.complain(err) // write tries again
	}
	f.backups.tidy(f.Params())
	return true
}

// complain logs at most once a minute.
func (f *File) complain(err error) {
	f.unlogged++
	now := f.now()
	if !f.logged.IsZero() && now.Sub(f.logged) < time.Minute {
		return
	}
	f.log.Warn("export to file", "err", err, "times", f.unlogged)
	f.logged, f.unlogged = now, 0
}
