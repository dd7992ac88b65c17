// SPDX-License-Identifier: Apache-2.0

package export

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// backups are the rotated files beside an export file. name is the writer's; compressing and removing goes on in a
// goroutine of its own, one at a time.
type backups struct {
	dir, stem, ext string
	now            func() time.Time
	log            *slog.Logger

	mu sync.Mutex

	running bool
	again   bool
	params  FileParams
	idle    *sync.Cond
}

// stamp is the time in a backup's name, in UTC.
const stamp = "2006-01-02T15-04-05.000"

const (
	packed     = ".gz"
	unfinished = ".gz.tmp"
)

func newBackups(path string, now func() time.Time, log *slog.Logger) *backups {
	ext := filepath.Ext(path)
	b := &backups{dir: filepath.Dir(path), stem: strings.TrimSuffix(filepath.Base(path), ext) + "-", ext: ext, now: now, log: log}
	b.idle = sync.NewCond(&b.mu)
	return b
}

// name returns a free name for a file rotated at t.
func (b *backups) name(t time.Time) (string, error) {
	for range 1000 {
		name := filepath.Join(b.dir, b.stem+t.UTC().Format(stamp)+b.ext)
		if missing(name) && missing(name+packed) {
			return name, nil
		}
		t = t.Add(time.Millisecond)
	}
	return "", fmt.Errorf("find a name for a rotated file in %s: all are taken", b.dir)
}

func missing(name string) bool {
	_, err := os.Lstat(name)
	return errors.Is(err, fs.ErrNotExist)
}

// tidy compresses the backups, if asked for, and removes those that are too many or too old. It does not wait.
func (b *backups) tidy(p FileParams) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.params, b.again = p, true
	if b.running {
		return
	}
	b.running = true
	go b.run()
}

// wait returns when nothing is left to do.
func (b *backups) wait() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.running {
		b.idle.Wait()
	}
}

func (b *backups) run() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.again {
		b.again = false
		p := b.params
		b.mu.Unlock()
		if err := b.once(p); err != nil {
			b.log.Warn("tidy up rotated export files", "err", err)
		}
		b.mu.Lock()
	}
	b.running = false
	b.idle.Broadcast()
}

// once removes first, so that nothing is compressed in vain.
func (b *backups) once(p FileParams) error {
	names, err := b.list()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the directory could not be made yet
	}
	if err != nil {
		return err
	}
	var errs []error
	gone := 0
	if keep := p.MaxBackups; keep > 0 && len(names) > keep {
		gone = len(names) - keep
	}
	for p.MaxAge > 0 && gone < len(names) && b.now().Sub(b.rotated(names[gone])) > p.MaxAge {
		gone++
	}
	for _, name := range names[:gone] {
		errs = append(errs, os.Remove(filepath.Join(b.dir, name)))
	}
	names = names[gone:]
	if p.Compress {
		for _, name := range names {
			if !strings.HasSuffix(name, packed) {
				errs = append(errs, pack(filepath.Join(b.dir, name)))
			}
		}
	}
	return errors.Join(errs...)
}

// list returns the backups, oldest first, and removes what an interrupted compression has left.
func (b *backups) list() ([]string, error) {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		t, ok := strings.CutPrefix(e.Name(), b.stem)
		if !ok || !e.Type().IsRegular() {
			continue
		}
		t, tmp := strings.CutSuffix(t, unfinished)
		t = strings.TrimSuffix(t, packed)
		if t, ok = strings.CutSuffix(t, b.ext); !ok {
			continue
		}
		if _, err := time.Parse(stamp, t); err != nil {
			continue
		}
		if tmp {
			_ = os.Remove(filepath.Join(b.dir, e.Name()))
			continue
		}
		names = append(names, e.Name())
	}
	slices.Sort(names) // the stamp sorts by time
	return names, nil
}

// rotated is when a backup of that name was made.
func (b *backups) rotated(name string) time.Time {
	t, err := time.Parse(stamp, strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(name, b.stem), packed), b.ext))
	if err != nil {
		return b.now() // list has parsed it already
	}
	return t
}

// pack replaces a file by its compressed form. At each moment one of them is there whole.
func pack(name string) (err error) {
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	st, err := in.Stat()
	if err != nil {
		return err
	}
	tmp := name + unfinished
	out, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, st.Mode().Perm())
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp)
		}
	}()
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	if err = errors.Join(err, z.Close(), out.Chmod(st.Mode().Perm()), out.Close()); err != nil {
		return fmt.Errorf("compress %s: %w", name, err)
	}
	if err := os.Rename(tmp, name+packed); err != nil {
		return err
	}
	return os.Remove(name)
}
