// SPDX-License-Identifier: Apache-2.0

package sensor

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"tetragon/bpf"
	"tetragon/internal/abi"
)

// Prior is the generation of an earlier agent, which goes on until Remove: its hooks decide and enforce, its base follows
// processes, and what nobody reads is in its ring or counted as lost.
type Prior struct {
	pins    *Pins
	dir     string
	whole   bool // it had taken over from those before it
	state   pinState
	maps    map[string]*ebpf.Map
	beat    beatValue
	removed bool

	stale   int // generations that were removed at once
	hasBeat bool
}

// findPrior looks at the generations that there are. The youngest that is whole counts, or the youngest if none is. What
// else there is are upgrades that crashed half-way, and what one that went well had no time to remove: it goes at once.
func (p *Pins) findPrior(dir string, names []string) *Prior {
	if len(names) == 0 {
		return nil
	}
	at := len(names) - 1
	for i := at; i >= 0; i-- {
		if _, err := os.Stat(filepath.Join(dir, names[i], stateName)); err == nil {
			at = i
			break
		}
	}
	r := &Prior{pins: p, dir: filepath.Join(dir, names[at]), maps: make(map[string]*ebpf.Map)}
	r.read()
	for _, n := range slices.Concat(names[:at], names[at+1:]) {
		r.stale++
		if err := removeGeneration(filepath.Join(dir, n)); err != nil {
			p.log.Warn("remove what an agent left half-way", "err", err)
		}
	}
	return r
}

// read opens what can be used of it. What cannot be read is not used.
func (r *Prior) read() {
	open := func(name string) *ebpf.Map {
		m, err := ebpf.LoadPinnedMap(filepath.Join(r.dir, mapPrefix+name), nil)
		if err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				r.pins.log.Warn("open a map of an earlier agent", "err", err)
			}
			return nil
		}
		return m
	}
	m := open("state")
	if m == nil {
		return
	}
	defer m.Close()
	var v []byte
	if err := m.Lookup(uint32(0), &v); err != nil {
		return
	}
	if json.Unmarshal(bytes.TrimRight(v, "\x00"), &r.state) != nil {
		return
	}
	r.whole = true
	if b := open("beat"); b != nil {
		r.hasBeat = b.Lookup(uint32(0), &r.beat) == nil
		_ = b.Close()
	}
	for _, name := range []string{"procs", "classes", "classes_hash", "verdicts", "verdicts_hash", "orders", "events", "account", "sets", "merges"} {
		if m := open(name); m != nil {
			r.maps[name] = m
		}
	}
}

// String says for people what was found.
func (r *Prior) String() string {
	if !r.whole {
		return fmt.Sprintf("%s, which has no mark of being whole", filepath.Base(r.dir))
	}
	return fmt.Sprintf("%s of version %s, pid %d", filepath.Base(r.dir), r.state.Version, r.state.Pid)
}

// Stale is the number of other generations that were found, and removed.
func (r *Prior) Stale() int { return r.stale }

// adopt returns a map of the earlier agent if what it holds is laid out as we lay it out; nil else.
func (r *Prior) adopt(name, layout string) *ebpf.Map {
	if r == nil || !r.same(layout) {
		return nil
	}
	return r.maps[name]
}

// same says whether the earlier agent laid things out as we do.
func (r *Prior) same(layout string) bool {
	ours := layouts()[layout]
	return ours != "" && r.state.Layouts[layout] == ours
}

// Ring is the ring that nobody has read since the earlier agent ended, or nil if there is none.
func (r *Prior) Ring() *ebpf.Map { return r.maps["events"] }

// Readable says whether the records in it are laid out as ours.
func (r *Prior) Readable() bool { return r.same(layoutRecords) }

// Since is the boot-clock time when the earlier agent last told of losses, 0 if it is not known.
func (r *Prior) Since() uint64 { return r.beat.Time }

// Lost is how many records of each kind the earlier ring had no room for, of which nobody was told. It is all zeros if it
// cannot be known.
func (r *Prior) Lost() ([abi.KindKinds]uint64, error) {
	var out [abi.KindKinds]uint64
	m := r.adopt("account", layoutRecords)
	if m == nil || !r.hasBeat {
		return out, nil
	}
	spec, err := bpf.LoadBase()
	if err != nil {
		return out, fmt.Errorf("read the embedded object: %w", err)
	}
	var v []byte
	if err := m.Lookup(uint32(0), &v); err != nil {
		return out, fmt.Errorf("read the account of an earlier agent: %w", err)
	}
	at := spec.Variables["counts"].Offset
	for k := range out {
		lost := at + uint32(k)*abi.CountSize + 8
		if int(lost)+8 > len(v) {
			break
		}
		if n := binary.NativeEndian.Uint64(v[lost:]); n > r.beat.Told[k] {
			out[k] = n - r.beat.Told[k]
		}
	}
	return out, nil
}

// seeds are the numbers of the sets that the earlier agent kept with processes, by the hash of what each is.
func (r *Prior) seeds() map[uint64]int {
	out := make(map[uint64]int)
	if r == nil || r.removed || !r.same(layoutClasses) || r.maps["sets"] == nil {
		return out
	}
	var n uint32
	var h uint64
	for it := r.maps["sets"].Iterate(); it.Next(&n, &h); {
		out[h] = int(n)
	}
	return out
}

// Remove ends the earlier generation. The present one does by now all that it did.
func (r *Prior) Remove() error {
	if r == nil {
		return nil
	}
	r.removed = true
	err := removeGeneration(r.dir)
	for _, m := range r.maps {
		_ = m.Close()
	}
	r.maps = map[string]*ebpf.Map{}
	return err
}

// describe writes how a type is laid out.
func describe(w io.Writer, t btf.Type, depth int) {
	t = btf.UnderlyingType(t)
	size, _ := btf.Sizeof(t)
	fmt.Fprintf(w, "%T %d;", t, size)
	if depth > 8 {
		return
	}
	switch t := t.(type) {
	case *btf.Struct:
		for _, m := range t.Members {
			fmt.Fprintf(w, "%s@%d:%d ", m.Name, m.Offset, m.BitfieldSize)
			describe(w, m.Type, depth+1)
		}
	case *btf.Union:
		for _, m := range t.Members {
			fmt.Fprintf(w, "%s|%d ", m.Name, m.Offset)
			describe(w, m.Type, depth+1)
		}
	case *btf.Array:
		fmt.Fprintf(w, "[%d]", t.Nelems)
		describe(w, t.Type, depth+1)
	}
}
