// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"tetragon/bpf"
	"tetragon/internal/abi"
	"tetragon/internal/kernel"
)

// GuardOptions of a guard.
type GuardOptions struct {
	Facts   *kernel.Facts
	Pins    *Pins
	Enforce bool // deny; else only count
	Verbose bool // an error of the verifier holds its whole log
}

// Guard keeps others from ending the agent and what it has in the kernel. It is pinned with the rest of the agent's generation,
// so it goes on when the agent is gone, and ends when the next agent has taken over.
type Guard struct {
	coll  *ebpf.Collection
	links []link.Link
	told  [abi.GuardWhats]abi.GuardCount
}

// guardMode is the map by which a guard is switched off.
const guardMode = mapPrefix + "guard_mode"

// StartGuard loads and attaches a guard. Maps that are made from then on are guarded, so it comes before all others.
func StartGuard(o GuardOptions) (_ *Guard, err error) {
	if !o.Pins.Lasting() {
		return nil, fmt.Errorf("guard the agent: %s", o.Pins.Note())
	}
	if why := o.Facts.Lacks(kernel.FmodRet); why != "" {
		return nil, fmt.Errorf("guard the agent: kernel %s cannot deny what others do: %s; start without --guard", o.Facts.Release, why)
	}
	spec, err := bpf.LoadGuard()
	if err != nil {
		return nil, fmt.Errorf("read the embedded object: %w", err)
	}
	consts, err := guardConstants(o.Pins)
	if err != nil {
		return nil, fmt.Errorf("guard the agent: %w", err)
	}
	for name, v := range consts {
		if err := spec.Variables[name].Set(v); err != nil {
			return nil, fmt.Errorf("guard the agent: set constant %s: %w", name, err)
		}
	}
	opts := ebpf.CollectionOptions{Cache: o.Facts.Cache}
	if opts.Cache == nil {
		opts.Programs.KernelTypes = o.Facts.Types
	}
	g := &Guard{}
	if g.coll, err = ebpf.NewCollectionWithOptions(spec, opts); err != nil {
		return nil, fmt.Errorf("guard the agent: %w", guardError(o, err))
	}
	defer func() {
		if err != nil {
			_ = g.Close()
		}
	}()
	mode := uint32(abi.GuardMonitor)
	if o.Enforce {
		mode = abi.GuardEnforce
	}
	if err := g.coll.Maps["guard_mode"].Put(uint32(0), mode); err != nil {
		return nil, fmt.Errorf("guard the agent: set the mode: %w", err)
	}
	for _, name := range keys(g.coll.Programs) {
		l, err := link.AttachTracing(link.TracingOptions{Program: g.coll.Programs[name]})
		if err != nil {
			return nil, fmt.Errorf("guard the agent: attach to %s: %w; start without --guard", spec.Programs[name].AttachTo, err)
		}
		g.links = append(g.links, l)
		if err := o.Pins.pinLink(l, "%s", name); err != nil {
			return nil, err
		}
	}
	if err := o.Pins.pinMap(g.coll.Maps["guard_mode"], "guard_mode"); err != nil {
		return nil, err
	}
	return g, g.own(o.Pins)
}

// own makes the guard know who it guards, and the maps that there are already.
func (g *Guard) own(p *Pins) error {
	ms := []*ebpf.Map{p.beat}
	for _, m := range g.coll.Maps {
		ms = append(ms, m)
	}
	for _, m := range ms {
		info, err := m.Info()
		if err != nil {
			return fmt.Errorf("guard a map: %w", err)
		}
		id, ok := info.ID()
		if !ok {
			return errors.New("guard a map: the kernel tells no id of it")
		}
		c, err := ebpf.NewMapFromID(id) // comes by the guard
		if err != nil {
			return fmt.Errorf("guard a map: %w", err)
		}
		_ = c.Close()
	}
	var known uint32
	if err := g.coll.Variables["agent_known"].Get(&known); err != nil {
		return fmt.Errorf("guard the agent: %w", err)
	}
	if known == 0 {
		return errors.New("guard the agent: its programs do not recognise it by its file, nor would they the next agent: install it on a file system that tells the same numbers of inodes to everybody, or start without --guard")
	}
	return nil
}

// guardConstants is what a guard knows of this agent.
func guardConstants(p *Pins) (map[string]any, error) {
	pid := os.Getpid()
	if err := initialNamespaces(); err != nil {
		return nil, err
	}
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	name := filepath.Base(exe)
	if len(name) >= abi.GuardMaxName {
		return nil, fmt.Errorf("the program's name %q is too long: %d bytes are possible", name, abi.GuardMaxName-1)
	}
	var exeDir, pinDir unix.Stat_t
	base := filepath.Dir(p.dir)
	if err := errors.Join(unix.Stat(filepath.Dir(exe), &exeDir), unix.Stat(base, &pinDir)); err != nil {
		return nil, err
	}
	out := map[string]any{
		"agent_pid": uint32(pid), "exe_dir": exeDir.Ino, "exe_dev": kernelDevice(exeDir.Dev), "exe_len": uint32(len(name)),
		"pin_dir": pinDir.Ino, "pin_dev": kernelDevice(pinDir.Dev),
	}
	var chars [abi.GuardMaxName]uint8
	copy(chars[:], name)
	out["exe_name"] = chars
	var mounts [abi.GuardMaxMounts]uint32
	ids, err := mountsOf(base)
	if err != nil {
		return nil, err
	}
	if len(ids) > len(mounts) {
		return nil, fmt.Errorf("the BPF file system is below %d mounts, %d are possible", len(ids), len(mounts))
	}
	copy(mounts[:], ids)
	out["mounts"] = mounts
	return out, nil
}

// mountsOf lists the mounts that a directory is on, up to the root: without one of those above it the others would be gone as
// well. A service may have mounts of its own; then the machine's are listed too.
func mountsOf(dir string) ([]uint32, error) {
	var ids []uint32
	for _, root := range []string{"/", "/proc/1/root"} {
		for d := dir; ; d = filepath.Dir(d) {
			var st unix.Statx_t
			if err := unix.Statx(unix.AT_FDCWD, filepath.Join(root, d), 0, unix.STATX_MNT_ID, &st); err == nil {
				if id := uint32(st.Mnt_id); !slices.Contains(ids, id) {
					ids = append(ids, id)
				}
			} else if root == "/" {
				return nil, fmt.Errorf("find the mount of %s: %w", d, err)
			} // else process 1 has no such directory, or does not show it
			if d == "/" {
				break
			}
		}
	}
	return ids, nil
}

// initialNamespaces asks for the namespaces in which process numbers and user ids are those of the machine. Their numbers are
// fixed. kernel: include/linux/proc_ns.h
func initialNamespaces() error {
	for _, ns := range []struct{ name, initial string }{{"pid", "pid:[4026531836]"}, {"user", "user:[4026531837]"}} {
		got, err := os.Readlink("/proc/self/ns/" + ns.name)
		if err != nil {
			return err
		}
		if got != ns.initial {
			return fmt.Errorf("the agent is in a %s namespace of its own: a guard is possible in the initial one only; start without --guard", ns.name)
		}
	}
	return nil
}

// kernelDevice is a device number as the kernel has it. kernel: MKDEV, include/linux/kdev_t.h
func kernelDevice(dev uint64) uint32 { return unix.Major(dev)<<20 | unix.Minor(dev) }

// guardError says what it means that a guard's programs are refused.
func guardError(o GuardOptions, err error) error {
	var ve *ebpf.VerifierError
	if o.Verbose && errors.As(err, &ve) {
		return fmt.Errorf("%+v", ve)
	}
	return fmt.Errorf("kernel %s refuses its programs: %w; start without --guard", o.Facts.Release, err)
}

// guardWhats says what each kind of try is.
var guardWhats = [abi.GuardWhats]string{
	abi.GuardSignal: "signal the agent",
	abi.GuardTrace:  "trace the agent",
	abi.GuardMap:    "open a map of the agent",
	abi.GuardPin:    "change the agent's pins",
	abi.GuardMount:  "unmount the agent's pins",
	abi.GuardRlimit: "limit the agent's resources",
}

// GuardTry is what others tried, since it was last asked for.
type GuardTry struct {
	What      string
	Denied    uint64
	Monitored uint64 // would have been denied
	Pid       int    // of the last one
	Program   string
}

// Tries lists what others tried since the last call. For use by one goroutine.
func (g *Guard) Tries() ([]GuardTry, error) {
	var now [abi.GuardWhats]abi.GuardCount
	if err := g.coll.Variables["guard_counts"].Get(&now); err != nil {
		return nil, fmt.Errorf("read what the guard denied: %w", err)
	}
	var out []GuardTry
	for i, c := range now {
		old := g.told[i]
		if c.Denied == old.Denied && c.Monitored == old.Monitored {
			continue
		}
		comm, _, _ := bytes.Cut(c.Comm[:], []byte{0})
		out = append(out, GuardTry{
			What: guardWhats[i], Denied: c.Denied - old.Denied, Monitored: c.Monitored - old.Monitored, Pid: int(c.Pid), Program: string(comm),
		})
	}
	g.told = now
	return out, nil
}

// Mode says what the guard does at the moment: anybody who may can have switched it off.
func (g *Guard) Mode() (string, error) {
	var mode uint32
	if err := g.coll.Maps["guard_mode"].Lookup(uint32(0), &mode); err != nil {
		return "", fmt.Errorf("read the mode of the guard: %w", err)
	}
	switch mode {
	case abi.GuardEnforce:
		return "enforce", nil
	case abi.GuardMonitor:
		return "monitor", nil
	}
	return "off", nil
}

// Close ends the guard, as the last of what the agent has.
func (g *Guard) Close() error {
	var errs []error
	for _, l := range g.links {
		errs = append(errs, drop(l))
	}
	g.coll.Close()
	return errors.Join(errs...)
}

// Leave closes what is ours; the guard goes on.
func (g *Guard) Leave() error {
	var errs []error
	for _, l := range g.links {
		errs = append(errs, l.Close())
	}
	g.coll.Close()
	return errors.Join(errs...)
}

// GuardOff switches off the guards of all generations below a directory of pins, also those of agents that run. It returns
// how many there were.
func GuardOff(o PinOptions) (int, error) {
	root := o.Root
	if root == "" {
		var err error
		if root, err = bpffs("/proc/self/mountinfo"); err != nil {
			return 0, fmt.Errorf("switch the guard off: %w", err)
		}
	}
	names, err := generations(filepath.Join(root, o.Dir))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n := 0
	for _, g := range names {
		m, err := ebpf.LoadPinnedMap(filepath.Join(root, o.Dir, g, guardMode), nil)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = m.Put(uint32(0), uint32(abi.GuardOff))
			_ = m.Close()
		}
		if err != nil {
			return n, fmt.Errorf("switch the guard off: %w; only root can, in the initial namespaces, with the program of the agent that is guarded", err)
		}
		n++
	}
	return n, nil
}
