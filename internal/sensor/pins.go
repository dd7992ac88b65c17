// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"tetragon/bpf"
	"tetragon/internal/abi"
)

// PinOptions say where what outlives the agent is named.
type PinOptions struct {
	Dir     string // name of a directory below the root
	Root    string // where a BPF file system is mounted; found, or mounted, when empty
	Version string // of the agent
	Log     *slog.Logger
}

// Pins are the names in a BPF file system by which links and maps live on when the agent ends. Each run of an agent has a
// directory of its own there, a generation. It is complete once its map_state is there; until then the generations before
// it go on. Names that are not ours are left alone.
//
// A nil *Pins pins nothing.
type Pins struct {
	log     *slog.Logger
	dir     string // of this generation
	lock    *os.File
	version string
	note    string
	prior   *Prior

	mu   sync.Mutex
	beat *ebpf.Map
	told beatValue
}

// generationName is what the directory of a generation is called.
var generationName = regexp.MustCompile(`^g[0-9]{6}$`)

// Prefixes of what is in it.
const (
	linkPrefix = "link_"
	mapPrefix  = "map_"
	stateName  = mapPrefix + "state"
	beatName   = mapPrefix + "beat"
)

// pinState is what the next agent must know, JSON in the one row of map_state. The agent that reads it may be of another
// version: what it does not know it leaves.
type pinState struct {
	Version string            `json:"version"`
	Pid     int               `json:"pid"`
	Layouts map[string]string `json:"layouts"` // hashes of the layouts of what maps hold
}

const stateSize = 4096

// beatValue is what the agent writes whenever it has read the account.
type beatValue struct {
	Time uint64                // boot clock
	Told [abi.KindKinds]uint64 // losses of each kind that have been told
}

// OpenPins makes a new generation, and finds those of earlier agents. A host without a BPF file system is no error: see Note.
func OpenPins(o PinOptions) (_ *Pins, err error) {
	p := &Pins{log: o.Log, version: o.Version}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	root := o.Root
	if root == "" {
		if root, err = bpffs("/proc/self/mountinfo"); err != nil {
			p.note = fmt.Sprintf("there is no BPF file system (%v): what the agent has in the kernel ends with the agent, whatever ends it", err)
			return p, nil
		}
	}
	dir := filepath.Join(root, o.Dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			p.note = fmt.Sprintf("the BPF file system cannot be written (%v): what the agent has in the kernel ends with the agent, whatever ends it", err)
			return p, nil
		}
		return nil, fmt.Errorf("make the directory of pins: %w; name another one with --bpf-dir", err)
	}
	if p.lock, err = os.Open(dir); err != nil {
		return nil, fmt.Errorf("open the directory of pins: %w; name another one with --bpf-dir", err)
	}
	defer func() {
		if err != nil {
			_ = p.lock.Close()
		}
	}()
	if err := unix.Flock(int(p.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: another agent has its pins there; stop it, or give this one a directory of its own with --bpf-dir", dir)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	names, err := generations(dir)
	if err != nil {
		return nil, err
	}
	last := 0
	if n := len(names); n > 0 {
		if _, err := fmt.Sscanf(names[n-1], "g%06d", &last); err != nil {
			return nil, fmt.Errorf("read the pins: %w", err)
		}
	}
	p.prior = p.findPrior(dir, names)
	p.dir = filepath.Join(dir, fmt.Sprintf("g%06d", last+1))
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		if errors.Is(err, unix.EPERM) && p.prior != nil {
			return nil, fmt.Errorf("make a directory of pins: %w; if the agent before this one had a guard (--guard), only its own program may follow it: switch the guard off with that program and --guard-off", err)
		}
		return nil, fmt.Errorf("make a directory of pins: %w", err)
	}
	if p.beat, err = ebpf.NewMap(&ebpf.MapSpec{Name: "beat", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(binary.Size(beatValue{})), MaxEntries: 1}); err == nil {
		err = p.pinMap(p.beat, "beat")
	}
	if err != nil {
		_ = removeGeneration(p.dir)
		return nil, fmt.Errorf("make the map of what is told: %w", err)
	}
	return p, nil
}

// bpffs finds where a BPF file system is mounted, or mounts one where everybody looks for it.
func bpffs(mountinfo string) (string, error) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return "", err
	}
	defer f.Close()
	const usual, other = "/sys/fs/bpf", "/run/cilium/bpffs"
	at := make(map[string]bool)
	for s := bufio.NewScanner(f); s.Scan(); {
		left, right, ok := strings.Cut(s.Text(), " - ")
		fields := strings.Fields(left)
		if ok && len(fields) >= 5 && strings.HasPrefix(right, "bpf ") {
			at[unescape(fields[4])] = true
		}
	}
	switch {
	case at[usual]:
		return usual, nil
	case at[other]:
		return other, nil
	}
	if err := unix.Mount("bpffs", usual, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return "", fmt.Errorf("none is mounted, and mounting one at %s: %w", usual, err)
	}
	return usual, nil
}

// generations lists the directories of generations, oldest first.
func generations(dir string) ([]string, error) {
	es, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the pins: %w", err)
	}
	var out []string
	for _, e := range es {
		if e.IsDir() && generationName.MatchString(e.Name()) {
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	return out, nil
}

// Note says what cannot be done here, or nothing.
func (p *Pins) Note() string {
	if p == nil {
		return ""
	}
	return p.note
}

// Prior is what an earlier agent left, nil if there is nothing.
func (p *Pins) Prior() *Prior {
	if p == nil {
		return nil
	}
	return p.prior
}

// Lasting says whether what is pinned outlives the agent.
func (p *Pins) Lasting() bool { return p != nil && p.dir != "" }

// pinLink gives a link a name. Attached it is already; drop takes the name away.
func (p *Pins) pinLink(l link.Link, format string, args ...any) error {
	if !p.Lasting() {
		return nil
	}
	name := filepath.Join(p.dir, linkPrefix+fmt.Sprintf(format, args...))
	if err := l.Pin(name); err != nil {
		return fmt.Errorf("pin a link as %s: %w", name, err)
	}
	return nil
}

// pinMap gives a map a name, which may have been that of another one.
func (p *Pins) pinMap(m *ebpf.Map, name string) error {
	if !p.Lasting() {
		return nil
	}
	// Not m.Pin: the map would remember its name, and there are maps that several objects hold.
	c, err := m.Clone()
	if err != nil {
		return fmt.Errorf("pin the map %s: %w", name, err)
	}
	defer c.Close()
	path := filepath.Join(p.dir, mapPrefix+name)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("pin the map %s: %w", name, err)
	}
	if err := c.Pin(path); err != nil {
		return fmt.Errorf("pin the map %s: %w", name, err)
	}
	return nil
}

// drop ends a link, also one that is pinned.
func drop(c io.Closer) error {
	if l, ok := c.(link.Link); ok {
		return errors.Join(l.Unpin(), l.Close())
	}
	return c.Close()
}

// Beat notes that the account has been read, and what was told of losses.
func (p *Pins) Beat(c *Counts) error {
	if !p.Lasting() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told.Time = bootTime()
	for k := range c {
		p.told.Told[k] = c[k].Lost
	}
	if err := p.beat.Put(uint32(0), &p.told); err != nil {
		return fmt.Errorf("note what has been told: %w", err)
	}
	return nil
}

// Commit makes this generation the one that counts: everything that the earlier ones did it does by now.
func (p *Pins) Commit() error {
	if !p.Lasting() {
		return nil
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "state", Type: ebpf.Array, KeySize: 4, ValueSize: stateSize, MaxEntries: 1})
	if err != nil {
		return fmt.Errorf("make the map of the state: %w", err)
	}
	defer m.Close()
	b, err := json.Marshal(pinState{Version: p.version, Pid: os.Getpid(), Layouts: layouts()})
	if err == nil && len(b) > stateSize {
		err = fmt.Errorf("it has %d bytes, %d are possible", len(b), stateSize)
	}
	if err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	v := make([]byte, stateSize)
	copy(v, b)
	if err := m.Put(uint32(0), v); err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	return p.pinMap(m, "state")
}

// Close ends this generation, whose links have been dropped; or leaves it to the next agent.
func (p *Pins) Close(leave bool) error {
	if !p.Lasting() {
		return nil
	}
	var err error
	if !leave {
		err = removeGeneration(p.dir)
		_ = os.Remove(filepath.Dir(p.dir)) // unless there is something else
	}
	return errors.Join(err, p.beat.Close(), p.lock.Close())
}

// removeGeneration removes what is ours of a generation. Its mark goes first: what is left if somebody ends us is no whole
// generation any more. Links go in the reverse of the order of their names, which is nearly that of their making.
func removeGeneration(dir string) error {
	es, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("remove pins: %w", err)
	}
	var errs []error
	remove := func(want func(name string) bool) {
		for i := len(es) - 1; i >= 0; i-- {
			if name := es[i].Name(); want(name) {
				if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
					errs = append(errs, fmt.Errorf("remove a pin: %w", err))
				}
			}
		}
	}
	remove(func(name string) bool { return name == stateName })
	remove(func(name string) bool { return strings.HasPrefix(name, linkPrefix) })
	remove(func(name string) bool { return strings.HasPrefix(name, mapPrefix) && name != stateName })
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, fmt.Errorf("remove a directory of pins: %w; something in it is not ours", err))
	}
	return errors.Join(errs...)
}

// What an agent can take over of another one, if it has the same layout there.
const (
	layoutProcs    = "procs"
	layoutClasses  = "classes"
	layoutVerdicts = "verdicts"
	layoutRecords  = "records"
	layoutMerges   = "merges"
)

// salt makes the layouts of a build differ from those of all others, for tests of upgrades: go build -ldflags -X.
var salt string

// layouts are hashes of how things are laid out in the maps of this version.
var layouts = sync.OnceValue(func() map[string]string {
	out := make(map[string]string)
	base, err := bpf.BaseTypes()
	if err != nil {
		return out
	}
	hooks, err := bpf.HooksTypes()
	if err != nil {
		return out
	}
	hash := func(key string, types *btf.Spec, names ...string) {
		h := sha256.New()
		h.Write([]byte(salt))
		for _, n := range names {
			var s *btf.Struct
			if err := types.TypeByName(n, &s); err != nil {
				fmt.Fprintf(h, "%s: %v", n, err)
				continue
			}
			describe(h, s, 0)
		}
		out[key] = fmt.Sprintf("%x", h.Sum(nil)[:8])
	}
	hash(layoutProcs, base, "proc")
	hash(layoutClasses, hooks, "task_class")
	hash(layoutVerdicts, hooks, "verdicts", "orders")
	hash(layoutMerges, hooks, "merge_key", "merge")
	hash(layoutRecords, base, "rec_head", "rec_fork", "rec_exec", "rec_exit", "rec_cgroup", "rec_data", "rec_count")
	return out
})
