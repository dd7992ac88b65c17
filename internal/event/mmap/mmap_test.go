// SPDX-License-Identifier: Apache-2.0

package mmap

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rec builds a record as the kernel writes it.
type rec struct {
	kind     uint32
	misc     uint16
	pid      uint32
	time     uint64
	path     string
	id       string // hex
	dev, ino uint64
	lost     uint64
}

func (r rec) bytes() []byte {
	le := binary.LittleEndian
	var body []byte
	switch r.kind {
	case typeMmap2:
		body = le.AppendUint32(le.AppendUint32(body, r.pid), r.pid)
		body = le.AppendUint64(le.AppendUint64(le.AppendUint64(body, 0x1000), 0x2000), 0)
		if r.misc&miscBuildID != 0 {
			id, err := hex.DecodeString(r.id)
			if err != nil {
				panic(err)
			}
			body = append(body, byte(len(id)), 0, 0, 0)
			body = append(append(body, id...), make([]byte, maxBuildID-len(id))...)
		} else {
			body = le.AppendUint32(le.AppendUint32(body, uint32(r.dev>>32)), uint32(r.dev))
			body = le.AppendUint64(le.AppendUint64(body, r.ino), 7)
		}
		body = le.AppendUint32(le.AppendUint32(body, 5), 2)
		body = append(append(body, r.path...), make([]byte, 8-len(r.path)%8)...)
	case typeComm:
		body = append(le.AppendUint32(le.AppendUint32(body, r.pid), r.pid), "name\x00\x00\x00\x00"...)
	case typeLost:
		body = le.AppendUint64(le.AppendUint64(body, 1), r.lost)
	}
	head := le.AppendUint32(nil, r.kind)
	head = le.AppendUint16(le.AppendUint16(head, r.misc), uint16(headerSize+len(body)+sampleSize))
	out := append(head, body...)
	return le.AppendUint64(le.AppendUint32(le.AppendUint32(out, r.pid), r.pid), r.time)
}

// fakeRing is a ring that the test fills.
type fakeRing struct {
	*ring
	pos uint64
}

func newFake(size int) *fakeRing {
	return &fakeRing{ring: newRing(make([]byte, 4096+size), 4096)}
}

func (f *fakeRing) write(b []byte) {
	for _, c := range b {
		f.data[f.pos%uint64(len(f.data))] = c
		f.pos++
	}
	f.head.Store(f.pos)
}

func fakeReader(t *testing.T, rings ...*fakeRing) *Reader {
	t.Helper()
	r := &Reader{seen: newLRU(dedupEntries), execs: newExecs(execEntries), ids: notes{proc: t.TempDir()}}
	for _, f := range rings {
		r.rings = append(r.rings, f.ring)
	}
	return r
}

func collect(t *testing.T, r *Reader, limit uint64) []string {
	t.Helper()
	var out []string
	n := r.until(limit, func(m Mapping) {
		out = append(out, fmt.Sprintf("%d@%d exec=%d %s %x prot=%d flags=%d", m.Pid, m.Time, m.Exec, m.Path, m.BuildID, m.Prot, m.Flags))
	})
	if n != len(out) {
		t.Errorf("returned %d, handed out %d", n, len(out))
	}
	return out
}

func TestReader_order(t *testing.T) {
	a, b := newFake(4096), newFake(4096)
	r := fakeReader(t, a, b)
	a.write(rec{kind: typeMmap2, misc: miscBuildID, pid: 1, time: 10, path: "/a", id: "0a"}.bytes())
	a.write(rec{kind: typeMmap2, misc: miscBuildID, pid: 1, time: 30, path: "/c", id: "0c"}.bytes())
	a.write(rec{kind: typeMmap2, misc: miscBuildID, pid: 1, time: 50, path: "/e", id: "0e"}.bytes())
	b.write(rec{kind: typeMmap2, misc: miscBuildID, pid: 2, time: 20, path: "/b", id: "0b"}.bytes())
	b.write(rec{kind: typeMmap2, misc: miscBuildID, pid: 2, time: 40, path: "/d", id: "0d"}.bytes())
	want := []string{
		"1@10 exec=0 /a 0a prot=5 flags=2", "2@20 exec=0 /b 0b prot=5 flags=2", "1@30 exec=0 /c 0c prot=5 flags=2",
		"2@40 exec=0 /d 0d prot=5 flags=2",
	}
	if got := collect(t, r, 40); !slices.Equal(got, want) {
		t.Errorf("until 40:\n%q\nwant\n%q", got, want)
	}
	if got := collect(t, r, ^uint64(0)); !slices.Equal(got, []string{"1@50 exec=0 /e 0e prot=5 flags=2"}) {
		t.Errorf("the rest: %q", got)
	}
	if a.tail.Load() != a.pos || b.tail.Load() != b.pos {
		t.Errorf("room given back: %d of %d, %d of %d", a.tail.Load(), a.pos, b.tail.Load(), b.pos)
	}
	if want := (Stats{Seen: 5, Delivered: 5}); r.Stats() != want {
		t.Errorf("account %+v, want %+v", r.Stats(), want)
	}
}

func TestReader_judgesRecords(t *testing.T) {
	for _, c := range []struct {
		name string
		recs []rec
		want []string
		acc  Stats
	}{
		{
			"the same file twice", []rec{
				{kind: typeMmap2, misc: miscBuildID, pid: 1, time: 1, path: "/a"},
				{kind: typeMmap2, misc: miscBuildID, pid: 1, time: 2, path: "/a"},
				{kind: typeMmap2, misc: miscBuildID, pid: 2, time: 3, path: "/a"},
			},
			[]string{"1@1 exec=0 /a  prot=5 flags=2", "2@3 exec=0 /a  prot=5 flags=2"},
			Stats{Seen: 3, Delivered: 2, Duplicate: 1},
		},
		{
			"again after an exec", []rec{
				{kind: typeMmap2, misc: miscBuildID, pid: 1, time: 1, path: "/a"},
				{kind: typeComm, misc: miscCommExec, pid: 1, time: 2},
				{kind: typeMmap2, misc: miscBuildID, pid: 1, time: 3, path: "/a"},
				{kind: typeMmap2, misc: miscBuildID, pid: 1, time: 4, path: "/a"},
			},
			[]string{"1@1 exec=0 /a  prot=5 flags=2", "1@3 exec=2 /a  prot=5 flags=2"},
			Stats{Seen: 3, Delivered: 2, Duplicate: 1},
		},
		{
			"a name that changes by itself", []rec{
				{kind: typeMmap2, misc: miscBuildID, pid: 1, time: 1, path: "/a"},
				{kind: typeComm, pid: 1, time: 2},
				{kind: typeMmap2, misc: miscBuildID, pid: 1, time: 3, path: "/a"},
			},
			[]string{"1@1 exec=0 /a  prot=5 flags=2"}, Stats{Seen: 2, Delivered: 1, Duplicate: 1},
		},
		{
			"no files", []rec{
				{kind: typeMmap2, pid: 1, time: 1, path: "[vdso]"}, {kind: typeMmap2, pid: 1, time: 1, path: "//anon"},
				{kind: typeMmap2, pid: 1, time: 1, path: "anon_inode:x"}, {kind: typeMmap2, pid: 1, time: 1, path: ""},
				{kind: typeMmap2, pid: 1, time: 1, path: "/"},
			},
			nil, Stats{Seen: 5, NoFile: 5},
		},
		{
			"losses", []rec{{kind: typeLost, lost: 7, time: 1}, {kind: typeMmap2, pid: 1, time: 2, path: "/memfd:x (deleted)"}},
			[]string{"1@2 exec=0 /memfd:x (deleted)  prot=5 flags=2"}, Stats{Seen: 8, Delivered: 1, Lost: 7},
		},
		{"a kind that nobody asked for", []rec{{kind: 4, pid: 1, time: 1}}, nil, Stats{}},
		{
			"an id that is too long", []rec{{kind: typeMmap2, misc: miscBuildID, pid: 1, path: "/a", id: strings.Repeat("ab", 20) + "ff"}},
			nil, Stats{Seen: 1, Bad: 1},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(4096)
			r := fakeReader(t, f)
			for _, b := range c.recs {
				if len(b.id) > 2*maxBuildID { // only the length is a lie
					raw := rec{kind: b.kind, misc: b.misc, pid: b.pid, path: b.path, id: b.id[:2*maxBuildID]}.bytes()
					raw[headerSize+32] = maxBuildID + 1
					f.write(raw)
					continue
				}
				f.write(b.bytes())
			}
			if got := collect(t, r, ^uint64(0)); !slices.Equal(got, c.want) {
				t.Errorf("got\n%q\nwant\n%q", got, c.want)
			}
			if r.Stats() != c.acc {
				t.Errorf("account %+v, want %+v", r.Stats(), c.acc)
			}
		})
	}
}

// A ring of 4096 bytes and records of 112 have every way of wrapping.
func TestReader_wraps(t *testing.T) {
	f := newFake(4096)
	r := fakeReader(t, f)
	for i := range 500 {
		path := fmt.Sprintf("/lib/%08d", i)
		f.write(rec{kind: typeMmap2, misc: miscBuildID, pid: uint32(i), time: uint64(i), path: path, id: "abcdef"}.bytes())
		got := collect(t, r, ^uint64(0))
		if want := []string{fmt.Sprintf("%d@%d exec=0 %s abcdef prot=5 flags=2", i, i, path)}; !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// What is remembered has a bound, and the oldest goes first.
func TestLRU_bound(t *testing.T) {
	l := newLRU(3)
	add := func(pid uint32, want bool) {
		t.Helper()
		if got := l.add(pid, []byte("/x"), 1, 0); got != want {
			t.Errorf("pid %d: news %v, want %v", pid, got, want)
		}
	}
	add(1, true)
	add(2, true)
	add(3, true)
	add(1, false) // 2 is now the oldest
	add(4, true)
	add(1, false)
	add(2, true)
	if len(l.entries) != 3 || l.order.Len() != 3 {
		t.Errorf("%d entries, %d in order, want 3", len(l.entries), l.order.Len())
	}
	x := newExecs(2)
	for pid := range uint32(5) {
		x.put(pid, uint64(pid)+1)
	}
	if len(x.entries) != 2 || x.get(4) != 5 || x.get(0) != 0 {
		t.Errorf("execs: %d entries, last %d, first %d", len(x.entries), x.get(4), x.get(0))
	}
}

func FuzzReader(f *testing.F) {
	f.Add(rec{kind: typeMmap2, misc: miscBuildID, pid: 1, time: 1, path: "/a", id: "0102"}.bytes(), 8)
	f.Add(rec{kind: typeMmap2, pid: 1, time: 1, path: "/a"}.bytes(), 72)
	f.Add(rec{kind: typeLost, lost: 3}.bytes(), 0)
	f.Add(rec{kind: typeComm, misc: miscCommExec, pid: 3}.bytes(), 4000)
	f.Fuzz(func(t *testing.T, data []byte, at int) {
		if len(data) > 4096 {
			return
		}
		g := newFake(4096)
		g.pos = uint64(at) &^ 7 % 4096
		g.ring.pos = g.pos
		g.write(data[:len(data)&^7])
		r := fakeReader(t, g)
		r.until(^uint64(0), func(m Mapping) {
			if len(m.Path) < 2 || m.Path[0] != '/' || len(m.BuildID) > maxBuildID || bytes.IndexByte(m.Path, 0) >= 0 {
				t.Errorf("handed out %q %x", m.Path, m.BuildID)
			}
		})
		s := r.Stats()
		if s.Seen != s.Delivered+s.Duplicate+s.NoFile+s.Bad+s.Lost {
			t.Errorf("the account is wrong: %+v", s)
		}
		if g.tail.Load()%8 != 0 {
			t.Errorf("tail %d", g.tail.Load())
		}
	})
}

func FuzzNote(f *testing.F) {
	note := binary.LittleEndian.AppendUint32(nil, 4)
	note = binary.LittleEndian.AppendUint32(note, 3)
	note = append(binary.LittleEndian.AppendUint32(note, ntGNUBuildID), "GNU\x00abc\x00"...)
	if got := findNote(note, binary.LittleEndian); string(got) != "abc" {
		f.Fatalf("found %q", got)
	}
	other := slices.Clone(note)
	other[8] = 1
	if got := findNote(append(other, note...), binary.LittleEndian); string(got) != "abc" {
		f.Fatalf("behind another note: found %q", got)
	}
	f.Add(note)
	f.Add(append(other, note...))
	f.Fuzz(func(t *testing.T, data []byte) {
		if id := findNote(data, binary.LittleEndian); len(id) > maxBuildID {
			t.Errorf("%d bytes", len(id))
		}
	})
}

func TestParseCPUs(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []int
		bad  bool
	}{{"0", []int{0}, false}, {"0-2,5", []int{0, 1, 2, 5}, false}, {"", nil, true}, {"2-1", nil, true}, {"0-x", nil, true}} {
		got, err := parseCPUs(c.in)
		if !slices.Equal(got, c.want) || (err != nil) != c.bad {
			t.Errorf("%q: %v, %v", c.in, got, err)
		}
	}
}

func TestMountType(t *testing.T) {
	types := map[uint64]string{}
	mountType("36 35 0:27 / /tmp rw,nosuid shared:1 - tmpfs tmpfs rw\n", types)
	mountType("broken", types)
	mountType("36 35 x / /tmp - tmpfs", types)
	n := notes{types: types, read: time.Now()}
	if len(types) != 1 || !n.local(27) || n.local(28) || !n.local(8<<32|1) {
		t.Errorf("types %v", types)
	}
	types[28] = "fuse.sshfs"
	if n.local(28) {
		t.Error("would read a file that a program serves")
	}
}

// TestReader_cpuComesOnline: a CPU that comes online later is watched, too, and again when it was away.
func TestReader_cpuComesOnline(t *testing.T) {
	online := filepath.Join(t.TempDir(), "online")
	write := func(s string) {
		if err := os.WriteFile(online, []byte(s+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("0")
	r := live(t, Options{Online: online})
	for _, c := range []struct {
		online string
		rings  int
	}{{"0", 1}, {"0-1", 2}, {"0-1", 2}, {"0", 2}, {"0-1", 3}} {
		if write(c.online); runtime.NumCPU() < 2 {
			t.Skip("feature smp: this machine has one CPU")
		}
		r.looked = time.Time{}
		if _, err := r.Next(func(Mapping) {}); err != nil {
			t.Fatal(err)
		}
		if len(r.rings) != c.rings {
			t.Errorf("online %s: %d rings, want %d", c.online, len(r.rings), c.rings)
		}
	}
	write("zero")
	r.looked = time.Time{}
	if _, err := r.Next(func(Mapping) {}); err == nil {
		t.Error("a file that cannot be read gave no error")
	}
}

// live opens a Reader on this machine.
func live(t *testing.T, o Options) *Reader {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: perf events of all processes")
	}
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// copyOf makes a private copy of a program, so that nobody else maps it.
func copyOf(t *testing.T, program string) string {
	t.Helper()
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "private")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// await reads until n mappings of path have come.
func await(t *testing.T, r *Reader, path string, n int) []Mapping {
	t.Helper()
	var got []Mapping
	for deadline := time.Now().Add(10 * time.Second); len(got) < n; time.Sleep(5 * time.Millisecond) {
		if _, err := r.Next(func(m Mapping) {
			if string(m.Path) == path {
				m.Path, m.BuildID = bytes.Clone(m.Path), bytes.Clone(m.BuildID)
				got = append(got, m)
			}
		}); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d mappings of %s came; account %+v", len(got), n, path, r.Stats())
		}
	}
	return got
}

func wantID(t *testing.T, path string) string {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := f.Section(".note.gnu.build-id")
	if s == nil {
		t.Fatalf("%s has no build id", path)
	}
	data, err := s.Data()
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(data[16:])
}

func TestLive_exec(t *testing.T) {
	r := live(t, Options{})
	path := copyOf(t, "/bin/true")
	var before unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &before); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	m := await(t, r, path, 1)[0]
	if int(m.Pid) != cmd.Process.Pid || m.Pid != m.Tid {
		t.Errorf("pid %d, tid %d, want %d", m.Pid, m.Tid, cmd.Process.Pid)
	}
	if got, want := hex.EncodeToString(m.BuildID), wantID(t, path); got != want {
		t.Errorf("build id %s, want %s", got, want)
	}
	if m.Exec < uint64(before.Nano()) || m.Time < m.Exec {
		t.Errorf("started after %d: exec %d, mapped %d", before.Nano(), m.Exec, m.Time)
	}
	if m.Prot&unix.PROT_EXEC == 0 {
		t.Errorf("prot %#x", m.Prot)
	}
}

// A process that maps a file by itself, twice, from a thread; then without execution, which is no news.
func TestLive_mapping(t *testing.T) {
	r := live(t, Options{})
	path, quietPath := copyOf(t, "/bin/true"), copyOf(t, "/bin/true")
	for _, c := range []struct {
		path string
		prot int
	}{{quietPath, unix.PROT_READ}, {path, unix.PROT_READ | unix.PROT_EXEC}, {path, unix.PROT_READ | unix.PROT_EXEC}} {
		f, err := os.Open(c.path)
		if err != nil {
			t.Fatal(err)
		}
		mem, err := unix.Mmap(int(f.Fd()), 0, 4096, c.prot, unix.MAP_PRIVATE)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Munmap(mem); _ = f.Close() }()
	}
	m := await(t, r, path, 1)[0]
	if int(m.Pid) != os.Getpid() || m.Flags&unix.MAP_PRIVATE == 0 {
		t.Errorf("pid %d, want %d; flags %#x", m.Pid, os.Getpid(), m.Flags)
	}
	mark := copyOf(t, "/bin/true")
	if err := exec.Command(mark).Run(); err != nil {
		t.Fatal(err)
	}
	for deadline, seen := time.Now().Add(10*time.Second), false; !seen; time.Sleep(5 * time.Millisecond) {
		if _, err := r.Next(func(m Mapping) {
			seen = seen || string(m.Path) == mark
			if string(m.Path) == path || string(m.Path) == quietPath {
				t.Errorf("%s was told again, or without execution", m.Path)
			}
		}); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("no marker")
		}
	}
}

// After Stop what was mapped before is told, and nothing else.
func TestLive_stop(t *testing.T) {
	r := live(t, Options{})
	before, after := copyOf(t, "/bin/true"), copyOf(t, "/bin/true")
	if err := exec.Command(before).Run(); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(after).Run(); err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	if _, err := r.Rest(func(m Mapping) { told[string(m.Path)]++ }); err != nil {
		t.Fatal(err)
	}
	if told[before] != 1 || told[after] != 0 {
		t.Errorf("the file before was told %d times, the one after %d times; want 1 and 0", told[before], told[after])
	}
}

// Where the kernel gives no build id, the file is read.
func TestLive_readsNote(t *testing.T) {
	path := copyOf(t, "/bin/true")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mem, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(mem) }()
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	var rec record
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, path) {
			var major, minor uint32
			var from, to uint64
			if _, err := fmt.Sscanf(line, "%x-%x r-xp 00000000 %x:%x %d", &from, &to, &major, &minor, &rec.inode); err != nil {
				t.Fatal(err)
			}
			rec.pid, rec.addr, rec.size, rec.dev = uint32(os.Getpid()), from, to-from, uint64(major)<<32|uint64(minor)
		}
	}
	n := notes{proc: "/proc"}
	if got, want := hex.EncodeToString(n.of(&rec)), wantID(t, path); got != want {
		t.Errorf("build id %q, want %q", got, want)
	}
	rec.inode++
	if id := n.of(&rec); id != nil {
		t.Errorf("another file's build id %x", id)
	}
}

// A ring that nobody reads says how many it had no room for, and the account holds.
func TestLive_losses(t *testing.T) {
	r := live(t, Options{Bytes: 1}) // the smallest
	path := copyOf(t, "/bin/true")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// On one CPU: each has its own ring, and tells of its losses with its next record.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var old, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		t.Fatal(err)
	}
	for cpu := range 1024 {
		if old.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.SchedSetaffinity(0, &old) }()
	maps := func(n int) {
		for range n {
			mem, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
			if err != nil {
				t.Fatal(err)
			}
			_ = unix.Munmap(mem)
		}
	}
	maps(3000)
	if _, err := r.Rest(func(Mapping) {}); err != nil {
		t.Fatal(err)
	}
	maps(200)
	if _, err := r.Rest(func(Mapping) {}); err != nil {
		t.Fatal(err)
	}
	s := r.Stats()
	if s.Lost == 0 || s.Seen < 3000 {
		t.Errorf("account %+v", s)
	}
	if s.Seen != s.Delivered+s.Duplicate+s.NoFile+s.Bad+s.Lost {
		t.Errorf("the account is wrong: %+v", s)
	}
}
