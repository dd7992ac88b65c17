// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"tetragon/internal/elf"
	"tetragon/internal/policy/plan"
)

// isUser says whether a back-end is a place in a user program.
func isUser(b plan.Backend) bool { return b == plan.BackendUprobe || b == plan.BackendUretprobe }

// userHook is a program's hold on a user program, which may not be there yet, and may be replaced.
type userHook struct {
	users *users
	a     *plan.Attach
	prog  *ebpf.Program
	touch *ebpf.Program // touches what prog reads; nil: that reads nothing
	entry *ebpf.Program // keeps the arguments; nil: nobody asks for them
	holds []hold        // the newest last
	said  string        // the last thing that was logged
	other fileID        // a file that has none of the digests: it is not read again and again
}

// hold is what is attached to one file. Processes that run a file that was replaced are hooked on.
type hold struct {
	file  fileID
	first uint64 // offset of the first place
	links []link.Link
}

// end ends it, also where it is pinned.
func (h *hold) end() error {
	var errs []error
	for i := len(h.links) - 1; i >= 0; i-- {
		errs = append(errs, drop(h.links[i]))
	}
	return errors.Join(errs...)
}

// maxHolds is on how many files of one name a hook stays, counted from the newest.
const maxHolds = 4

// fileID tells a file, and what is in it, from another one.
type fileID struct {
	dev, ino uint64
	size     int64
	modified time.Time
}

// same says whether it is the same file, whatever is in it.
func (f fileID) same(g fileID) bool { return f.dev == g.dev && f.ino == g.ino }

func idOf(st os.FileInfo) fileID {
	id := fileID{size: st.Size(), modified: st.ModTime()}
	if x, ok := st.Sys().(*syscall.Stat_t); ok {
		id.dev, id.ino = x.Dev, x.Ino
	}
	return id
}

// users is all hooks on user programs, and looks after files that come and are replaced.
type users struct {
	log  *slog.Logger
	pins *Pins // of what is attached

	mu    sync.Mutex
	hooks map[string][]*userHook // by path
	count int                    // of links ever made, for their names
	open  map[string]*openFile   // while a change attaches many
	stop  chan struct{}          // ends the look-out; nil: there is none
	done  chan struct{}
}

// openFile is a program that is being attached to.
type openFile struct {
	f  *elf.File
	ex *link.Executable
	id fileID
}

// look opens a program.
func look(path string) (*openFile, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	o := &openFile{f: f}
	st, err := f.Stat()
	if err == nil {
		o.id = idOf(st)
		o.ex, err = link.OpenExecutable(f.Path())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return o, nil
}

// attach hooks a place, or waits for its file. Many in a row are cheaper if settle is called after them, and must be.
func (u *users) attach(a *plan.Attach, prog, touch, entry *ebpf.Program) (io.Closer, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	h := &userHook{users: u, a: a, prog: prog, touch: touch, entry: entry}
	o := u.open[a.User.Path]
	if o == nil {
		var err error
		o, err = look(a.User.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			h.say(u.log, "it is not there; it is hooked when it comes")
		case err != nil:
			return nil, err
		default:
			if u.open == nil {
				u.open = make(map[string]*openFile)
			}
			u.open[a.User.Path] = o
		}
	}
	if o != nil {
		if err := h.hold(o); err != nil {
			return nil, err
		}
	}
	if u.hooks == nil {
		u.hooks = make(map[string][]*userHook)
	}
	u.hooks[a.User.Path] = append(u.hooks[a.User.Path], h)
	return h, nil
}

// settle ends a row of attach, and looks out for files from now on, or no more.
func (u *users) settle() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, o := range u.open {
		_ = o.f.Close() // nothing was written
	}
	u.open = nil
	if len(u.hooks) > 0 && u.stop == nil {
		u.stop, u.done = make(chan struct{}), make(chan struct{})
		go u.lookOut(u.stop, u.done)
	}
}

// Close unhooks.
func (h *userHook) Close() error { return h.end((*hold).end) }

// leave closes what is ours; what is pinned goes on.
func (h *userHook) leave() error {
	return h.end(func(x *hold) error {
		var errs []error
		for _, l := range x.links {
			errs = append(errs, l.Close())
		}
		return errors.Join(errs...)
	})
}

// end takes the hook out of those that follow files, and does the rest to what it holds.
func (h *userHook) end(do func(*hold) error) error {
	u := h.users
	u.mu.Lock()
	path := h.a.User.Path
	u.hooks[path] = slices.DeleteFunc(u.hooks[path], func(x *userHook) bool { return x == h })
	if len(u.hooks[path]) == 0 {
		delete(u.hooks, path)
	}
	holds, done := h.holds, u.done
	h.holds = nil
	last := len(u.hooks) == 0 && u.stop != nil
	if last {
		close(u.stop)
		u.stop, u.done = nil, nil
	}
	u.mu.Unlock()
	if last {
		<-done
	}
	var errs []error
	for i := range holds {
		errs = append(errs, do(&holds[i]))
	}
	return errors.Join(errs...)
}

// hold attaches to a file, after what the hook holds already. u.mu is held.
func (h *userHook) hold(o *openFile) error {
	if d := h.a.User.Digests; len(d) > 0 {
		ok, other, err := o.f.Is(d)
		if err == nil && !ok {
			h.other = o.id
			err = fmt.Errorf("it is another program, which is not hooked: it has %s", other)
			if i := len(h.holds) - 1; i >= 0 && h.holds[i].file.same(o.id) { // what the hook was for is gone from the file
				err = errors.Join(err, h.holds[i].end())
				h.holds = h.holds[:i]
			}
		}
		if err != nil {
			return err
		}
	}
	places, err := h.places(o.f)
	if err != nil {
		return err
	}
	n := hold{file: o.id, first: places[0].Offset}
	if i := len(h.holds) - 1; i >= 0 && h.holds[i].file.same(o.id) {
		// The kernel keeps the instructions that it has replaced: they are read anew only if nobody holds the place.
		old := h.holds[i]
		h.holds = h.holds[:i]
		if err := old.end(); err != nil {
			h.users.log.Warn("detach from a user program", "path", h.a.User.Path, "err", err)
		}
	}
	if h.entry != nil {
		err = h.links(&n, o.ex, h.entry, places, false, pointOf64(h.a))
	}
	if err == nil {
		err = h.links(&n, o.ex, h.prog, places, h.a.Backend == plan.BackendUretprobe, 0)
	}
	if err == nil && h.touch != nil { // the last to come is the first to run
		err = h.links(&n, o.ex, h.touch, places, h.a.Backend == plan.BackendUretprobe, 0)
	}
	if err != nil {
		return errors.Join(err, n.end())
	}
	if h.holds = append(h.holds, n); len(h.holds) > maxHolds {
		err = h.holds[0].end()
		h.holds = slices.Delete(h.holds, 0, 1)
	}
	return err
}

// links attaches a program to places of a file.
func (h *userHook) links(n *hold, ex *link.Executable, p *ebpf.Program, places []elf.Probe, ret bool, cookie uint64) error {
	if h.a.User.Multi {
		var o link.UprobeMultiOptions
		for _, x := range places {
			o.Addresses, o.RefCtrOffsets = append(o.Addresses, x.Offset), append(o.RefCtrOffsets, x.Semaphore)
			o.Cookies = append(o.Cookies, cookie)
		}
		attach := ex.UprobeMulti
		if ret {
			attach = ex.UretprobeMulti
		}
		l, err := attach(nil, p, &o)
		if err != nil {
			return err
		}
		return h.keep(n, l)
	}
	for _, x := range places {
		attach := ex.Uprobe
		if ret {
			attach = ex.Uretprobe
		}
		l, err := attach("", p, &link.UprobeOptions{Address: x.Offset, RefCtrOffset: x.Semaphore, Cookie: cookie})
		if err != nil {
			return err
		}
		if err := h.keep(n, l); err != nil {
			return err
		}
	}
	return nil
}

// oneCounter sees to it that a place of a file is hooked with one counter, or without any, which is all that the kernel takes. A
// program that only rests there goes at once. m.mu is held.
func (m *Manager) oneCounter(fresh []*program) error {
	ofUsers := func(ps []*program) []*program {
		return slices.DeleteFunc(ps, func(p *program) bool { return p.p.Attach.User == nil })
	}
	ours := ofUsers(slices.Clone(fresh))
	if len(ours) == 0 {
		return nil
	}
	there := ofUsers(slices.Concat(append(slices.Collect(maps.Values(m.points)), m.idle)...))
	for i, p := range ours {
		for _, other := range slices.Concat(there, ours[:i]) {
			a, b := p.p.Attach.User, other.p.Attach.User
			if a.Probe != "" || b.Probe != "" || a.Path != b.Path || a.Symbol != b.Symbol || a.Offset != b.Offset || a.RefCtr == b.RefCtr {
				continue
			}
			if !slices.Contains(m.idle, other) {
				return fmt.Errorf("hook %s with the counter at %#x: it is hooked already with the one at %#x (0: none), and the kernel takes one for a place; "+
					"give both the same refCtrOffsets, or delete the other policy first", a, a.RefCtr, b.RefCtr)
			}
			err := drop(other.link)
			other.link = nil
			m.expire(other)
			there = slices.DeleteFunc(there, func(x *program) bool { return x == other })
			if err != nil {
				return fmt.Errorf("hook %s: detach what was hooked there before: %w", a, err)
			}
		}
	}
	return nil
}

// keep adds a link to what is held, which outlives the agent from now on. u.mu is held.
func (h *userHook) keep(n *hold, l link.Link) error {
	n.links = append(n.links, l)
	h.users.count++
	return h.users.pins.pinLink(l, "user_%06d", h.users.count)
}

// places finds where in a file the hook belongs.
func (h *userHook) places(f *elf.File) ([]elf.Probe, error) {
	p := h.a.User
	one := elf.Probe{Offset: p.Offset, Semaphore: p.RefCtr}
	switch {
	case p.Probe != "":
		return probePlaces(f, p)
	case p.Symbol != "":
		fn, err := f.Function(p.Symbol)
		if err != nil {
			return nil, err
		}
		if one.Offset, err = f.Offset(fn.Addr + p.Offset); err != nil {
			return nil, err
		}
	}
	if !f.HasCode(one.Offset) {
		return nil, fmt.Errorf("no code of the file is at offset %#x", one.Offset)
	}
	if h.a.Backend == plan.BackendUretprobe && f.Go() {
		return nil, errors.New("it was made by Go, whose stacks move: a changed return address breaks it")
	}
	return []elf.Probe{one}, nil
}

// probePlaces finds the places of a static probe whose arguments are where the hook reads them.
func probePlaces(f *elf.File, p *plan.Place) ([]elf.Probe, error) {
	var out []elf.Probe
	for _, x := range f.Probes() {
		if x.Provider+":"+x.Name == p.Probe && x.Args == p.Args {
			out = append(out, x)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("it has no static probe %s with arguments at %q", p.Probe, p.Args)
	}
	return out, nil
}

// pointOf64 is what kept arguments of a function are found by, in all programs that hook it.
func pointOf64(a *plan.Attach) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(a.Key())) // never fails
	return h.Sum64()
}

// say logs what became of a hook, once.
func (h *userHook) say(log *slog.Logger, what string) {
	if h.said != what {
		h.said = what
		log.Info("hook on a user program", "path", h.a.User.Path, "hook", h.a.User.String(), "state", what)
	}
}

// lookEvery is how often files are looked at. It costs a system call for each path.
const lookEvery = 500 * time.Millisecond

// lookOut follows files that come and are replaced.
func (u *users) lookOut(stop, done chan struct{}) {
	defer close(done)
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
			u.mu.Lock()
			for path := range u.hooks {
				u.follow(path)
			}
			u.mu.Unlock()
		}
	}
}

// follow attaches to the file that a path leads to now. u.mu is held.
func (u *users) follow(path string) {
	st, err := os.Stat(path)
	if err != nil {
		return // what is gone may still run
	}
	var o *openFile
	for _, h := range u.hooks[path] {
		if n := len(h.holds); n > 0 && h.holds[n-1].file == idOf(st) || h.other == idOf(st) {
			continue
		}
		if o == nil {
			if o, err = look(path); err != nil {
				h.say(u.log, err.Error())
				return
			}
			defer o.f.Close()
		}
		if err := h.hold(o); err != nil {
			h.say(u.log, err.Error())
			continue
		}
		h.say(u.log, fmt.Sprintf("hooked at %#x", h.holds[len(h.holds)-1].first))
	}
}
