// SPDX-License-Identifier: Apache-2.0

package mmap

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// notes reads build ids from files, for mappings where the kernel gave none.
type notes struct {
	proc  string
	types map[uint64]string // file system by device, of those without a block device
	read  time.Time         // when types was read
}

// maxNotes bounds the notes of a file: those of the largest programs take some hundred bytes.
const maxNotes = 64 << 10

// of gives the build id of the mapped file, or nil. The file is reached through the mapping itself, so that no name has to
// be looked up that its owner may have changed, and only where reading cannot wait for somebody: a file system that is a
// program could hold up all events.
func (n *notes) of(rec *record) []byte {
	if !n.local(rec.dev) {
		return nil
	}
	f, err := os.Open(fmt.Sprintf("%s/%d/map_files/%x-%x", n.proc, rec.pid, rec.addr, rec.addr+rec.size))
	if err != nil {
		return nil // the mapping has ended
	}
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Ino != rec.inode {
		return nil // another file has been mapped there meanwhile
	}
	return buildID(f)
}

// Without a block device, and nevertheless read by the kernel alone.
var localTypes = []string{"tmpfs", "overlay", "btrfs", "ramfs", "zfs", "bcachefs", "rootfs"}

// local says whether the kernel itself reads what is on a device.
func (n *notes) local(dev uint64) bool {
	if dev>>32 != 0 {
		return true
	}
	if n.types[dev] == "" && time.Since(n.read) > 10*time.Second {
		n.read = time.Now()
		n.types = map[uint64]string{}
		text, err := os.ReadFile(n.proc + "/self/mountinfo")
		if err != nil {
			return false
		}
		for line := range strings.Lines(string(text)) {
			mountType(line, n.types)
		}
	}
	return slices.Contains(localTypes, n.types[dev])
}

// mountType takes device and type out of a line of mountinfo: "36 35 98:0 /mnt1 /mnt2 rw master:1 - ext3 /dev/root rw".
func mountType(line string, types map[uint64]string) {
	head, tail, ok := strings.Cut(line, " - ")
	fields := strings.Fields(head)
	if !ok || len(fields) < 3 {
		return
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(fields[2], "%d:%d", &major, &minor); err != nil {
		return
	}
	kind, _, _ := strings.Cut(tail, " ")
	types[uint64(major)<<32|uint64(minor)] = kind
}

// buildID reads the GNU build id of an ELF file, or gives nil.
func buildID(f *os.File) []byte {
	e, err := elf.NewFile(f)
	if err != nil {
		return nil
	}
	for _, p := range e.Progs {
		if p.Type != elf.PT_NOTE || p.Filesz > maxNotes {
			continue
		}
		data := make([]byte, p.Filesz)
		if _, err := p.ReadAt(data, 0); err != nil {
			continue
		}
		if id := findNote(data, e.ByteOrder); id != nil {
			return id
		}
	}
	return nil
}

const ntGNUBuildID = 3

// findNote looks for the build id among notes: each has the lengths of name and description, a type, and both, padded to
// 4 bytes.
func findNote(data []byte, order binary.ByteOrder) []byte {
	for len(data) >= 12 {
		nameLen, descLen, kind := uint64(order.Uint32(data)), uint64(order.Uint32(data[4:])), order.Uint32(data[8:])
		data = data[12:]
		desc := (nameLen + 3) &^ 3
		next := desc + (descLen+3)&^3
		if desc+descLen > uint64(len(data)) {
			return nil
		}
		if kind == ntGNUBuildID && nameLen == 4 && string(data[:4]) == "GNU\x00" && descLen > 0 && descLen <= maxBuildID {
			return data[desc : desc+descLen]
		}
		data = data[min(next, uint64(len(data))):]
	}
	return nil
}
