// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// LoadedProgram is a BPF program in the kernel, whoever loaded it.
type LoadedProgram struct {
	ID   uint32
	Name string
	Runs uint64        // while somebody had the kernel count
	Time time.Duration // likewise
	Maps []uint32
	Pin  string // below the directory that was asked for, of the program or of a link that runs it; empty: none
}

// LoadedMap is a BPF map in the kernel.
type LoadedMap struct {
	ID                             uint32
	Name, Type                     string
	KeySize, ValueSize, MaxEntries uint32
	Bytes                          uint64 // of kernel memory
	Pin                            string
}

// eachLoaded calls do for each object of a kind. One that goes meanwhile is left out; one that may not be opened is an error,
// as a guard makes of the maps of its agent.
func eachLoaded[ID ~uint32](what string, next func(ID) (ID, error), do func(ID) error) error {
	for id := ID(0); ; {
		n, err := next(id)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list the BPF %ss: %w; it takes root", what, err)
		}
		id = n
		if err := do(id); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("look at BPF %s %d: %w", what, id, err)
		}
	}
}

// LoadedPrograms lists the programs in the kernel, with what is pinned of them below a directory.
func LoadedPrograms(pins string) (out []LoadedProgram, err error) {
	pinned, err := pinnedBelow(pins)
	if err != nil {
		return nil, err
	}
	err = eachLoaded("program", ebpf.ProgramGetNextID, func(id ebpf.ProgramID) error {
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			return err
		}
		defer p.Close()
		l, err := readProgram(p)
		if err != nil {
			return err
		}
		l.Pin = pinned.programs[l.ID]
		out = append(out, l)
		return nil
	})
	return out, err
}

func readProgram(p *ebpf.Program) (LoadedProgram, error) {
	info, err := p.Info()
	if err != nil {
		return LoadedProgram{}, err
	}
	id, _ := info.ID()
	l := LoadedProgram{ID: uint32(id), Name: info.Name}
	if s, err := p.Stats(); err == nil {
		l.Runs, l.Time = s.RunCount, s.Runtime
	}
	maps, _ := info.MapIDs()
	for _, m := range maps {
		l.Maps = append(l.Maps, uint32(m))
	}
	return l, nil
}

// LoadedMaps lists the maps in the kernel, with what is pinned of them below a directory.
func LoadedMaps(pins string) (out []LoadedMap, err error) {
	pinned, err := pinnedBelow(pins)
	if err != nil {
		return nil, err
	}
	err = eachLoaded("map", ebpf.MapGetNextID, func(id ebpf.MapID) error {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return err
		}
		defer m.Close()
		info, err := m.Info()
		if err != nil {
			return err
		}
		bytes, _ := info.Memlock()
		out = append(out, LoadedMap{
			ID: uint32(id), Name: info.Name, Type: info.Type.String(), KeySize: info.KeySize, ValueSize: info.ValueSize,
			MaxEntries: info.MaxEntries, Bytes: bytes, Pin: pinned.maps[uint32(id)],
		})
		return nil
	})
	return out, err
}

// pins are the objects below a directory of the BPF file system, by id.
type pins struct{ programs, maps map[uint32]string }

// pinnedBelow finds what is pinned below a directory; one that is not there has nothing in it.
func pinnedBelow(dir string) (*pins, error) {
	out := &pins{programs: map[uint32]string{}, maps: map[uint32]string{}}
	if dir == "" {
		return out, nil
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.Type().IsRegular():
			out.add(path)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for what is pinned: %w", err)
	}
	return out, nil
}

// add opens a pin as what it may be; nothing tells beforehand.
func (p *pins) add(path string) {
	if m, err := ebpf.LoadPinnedMap(path, &ebpf.LoadPinOptions{ReadOnly: true}); err == nil {
		defer m.Close()
		if info, err := m.Info(); err == nil {
			if id, ok := info.ID(); ok {
				p.maps[uint32(id)] = path
			}
		}
		return
	}
	if l, err := link.LoadPinnedLink(path, &ebpf.LoadPinOptions{}); err == nil {
		defer l.Close()
		if info, err := l.Info(); err == nil {
			p.programs[uint32(info.Program)] = path
		}
		return
	}
	if x, err := ebpf.LoadPinnedProgram(path, nil); err == nil {
		defer x.Close()
		if info, err := x.Info(); err == nil {
			if id, ok := info.ID(); ok {
				p.programs[uint32(id)] = path
			}
		}
	}
}

// CountRuns has the kernel count the runs of all programs, and their time, until it is closed. That costs each run some
// instructions.
func CountRuns() (io.Closer, error) {
	c, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return nil, fmt.Errorf("have the kernel count runs of programs: %w; it takes root", err)
	}
	return c, nil
}

// BuildConfig reads what the kernel was built with: CONFIG_ names with y, m, n or a value. It says where it found that.
func BuildConfig(release string) (map[string]string, string, error) {
	for _, path := range []string{"/proc/config.gz", "/boot/config-" + release} {
		text, err := readConfig(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, "", fmt.Errorf("read the kernel's configuration: %w", err)
		}
		return parseConfig(text), path, nil
	}
	return nil, "", fmt.Errorf("read the kernel's configuration: neither /proc/config.gz nor /boot/config-%s is there; CONFIG_IKCONFIG_PROC brings the first", release)
}
