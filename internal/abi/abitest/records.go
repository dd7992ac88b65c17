// SPDX-License-Identifier: Apache-2.0

// Package abitest makes records as the kernel half sends them, for tests and benchmarks of what reads them.
//
// It stands where the ring stands otherwise, in front of event/decode. Nothing in the product imports it.
//
// Not here: reading records (event/decode), records of a real kernel: all bytes are made up.
//
// Every record starts at a multiple of 8 bytes, as ring memory does. Functions keep nothing and are safe for concurrent
// use.
package abitest

import (
	"encoding/binary"
	"strings"

	"tetragon/internal/abi"
)

// Texts are the strings of an exec or a snapshot, as people write them.
type Texts struct {
	Name      string   // as given to execve
	Path, Cwd string   // "/usr/bin/true"; "/" and "" are no components
	Args, Env []string // each ended by a NUL in the record
	ArgsBlock string   // instead of Args: the block as it lies in memory
	Cgroup    string
}

// Exec makes an exec or a snapshot of x; its lengths are set here, and the totals if they are 0.
func Exec(kind uint16, x abi.Exec, s Texts) []byte {
	args, env := block(s.Args), block(s.Env)
	if s.ArgsBlock != "" {
		args = s.ArgsBlock
	}
	path, cwd := components(s.Path), components(s.Cwd)
	x.H.Kind = kind
	x.NameLen, x.PathLen, x.CwdLen = uint16(len(s.Name)), uint16(len(path)), uint16(len(cwd))
	x.ArgsLen, x.EnvLen, x.CgroupLen = uint16(len(args)), uint16(len(env)), uint16(len(s.Cgroup))
	if x.ArgsTotal == 0 {
		x.ArgsTotal = uint32(len(args))
	}
	if x.EnvTotal == 0 {
		x.EnvTotal = uint32(len(env))
	}
	return Record(x, s.Name, path, cwd, args, env, s.Cgroup)
}

// Data makes one piece of a long string.
func Data(h abi.Head, what, index uint32, piece string, total int) []byte {
	h.Kind = abi.KindData
	fixed := struct {
		H                       abi.Head
		What, Index, Len, Total uint32
	}{h, what, index, uint32(len(piece)), uint32(total)}
	// The rest is zero. Writing it number by number would take most of a test's time.
	return Record(fixed, piece, zeros[:len(zeros)-len(piece)])
}

var zeros = string(make([]byte, len(abi.Data{}.Data)))

// Cgroup makes a change of cgroup.
func Cgroup(h abi.Head, name string) []byte {
	h.Kind = abi.KindCgroup
	c := abi.Cgroup{H: h, NameLen: uint32(len(name))}
	copy(c.Name[:], name)
	return Record(c)
}

// Throttle makes the record of a cgroup that is held back.
func Throttle(h abi.Head, cgroup uint64, name string) []byte {
	h.Kind = abi.KindThrottle
	t := abi.Throttle{H: h, Cgroup: cgroup, NameLen: uint32(len(name))}
	copy(t.Name[:], name)
	return Record(t)
}

// Value is one value of a hook: a fixed part, one of abi's structs, a number, or nil; and the text behind it.
type Value struct {
	Index       uint16
	Kind, Flags uint8
	Fixed       any
	Text        string
}

// Hook makes the record of a call; its numbers of values and words are set here.
func Hook(h abi.Hook, values []Value, mask ...uint64) []byte {
	h.H.Kind, h.Values, h.Words = abi.KindHook, uint16(len(values)), uint16(len(mask))
	b := Record(h)
	for _, v := range values {
		var body []byte
		if v.Fixed != nil {
			body = Record(v.Fixed)
		}
		body = append(body, v.Text...)
		b = append(b, Record(abi.Value{Index: v.Index, Kind: v.Kind, Flags: v.Flags, Len: uint32(len(body))})...)
		b = append(b, body...)
		b = append(b, zeros[:(8-len(body)%8)%8]...)
	}
	for _, w := range mask {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return Aligned(b)
}

// Record makes a record of a fixed part, one of abi's structs, and of what follows it.
func Record(fixed any, texts ...string) []byte {
	b, err := binary.Append(nil, binary.LittleEndian, fixed)
	if err != nil {
		panic("bug: not a layout of abi: " + err.Error())
	}
	return Aligned(append(b, strings.Join(texts, "")...))
}

// Aligned copies b to where a record may lie: the allocator aligns what is a multiple of 8 long to 8.
func Aligned(b []byte) []byte {
	c := make([]byte, (len(b)+7)&^7)
	return c[:copy(c, b)]
}

func block(ss []string) string {
	var b strings.Builder
	for _, s := range ss {
		b.WriteString(s)
		b.WriteByte(0)
	}
	return b.String()
}

// components writes a path from its leaf to the root, each component after its length.
func components(path string) string {
	var b strings.Builder
	parts := strings.Split(strings.Trim(path, "/"), "/")
	for i := len(parts) - 1; i >= 0; i-- {
		if parts[i] != "" {
			b.WriteByte(byte(len(parts[i])))
			b.WriteString(parts[i])
		}
	}
	return b.String()
}
