// SPDX-License-Identifier: Apache-2.0

// Package simulate decides in Go what the generated programs decide in the kernel: which rules a call matches.
//
// It is the oracle that sensor/gen is tested against, and what `tetra policy simulate` runs over recorded events. It stands
// beside the policy lane: it takes rules from a plan.Plan or plan.Program, and values from whoever has them.
//
// Not here: how values are read in the kernel (bpf/arg), what follows a match: rate limits, tracking, posting (bpf/stage).
//
// It follows the comments of plan and nothing else, and is written to be read, not to be fast. Everything is total: there is
// no filter and no value that it panics on. Safe for concurrent use.
package simulate

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"

	"tetragon/internal/policy/plan"
)

// Value is what was read of a call: plan.Value after its reader.
type Value struct {
	Bad  bool   // could not be read; nothing else counts
	Int  uint64 // TypeInt: cut to its bits and extended
	Text []byte // strings, bytes and paths; of a unix address the path as the kernel has it, without the family
	Mode uint32 // files and paths: of the inode
	Net  Net    // sockets, packets and addresses
	Hash string // files: as IMA makes it, "sha256:hex"; empty: it cannot be made. Of fs-verity nobody tells the digest
}

// Net is the part of a socket, packet or address that filters look at. Ports are in host byte order.
type Net struct {
	Family, SockType, Protocol uint16
	State                      uint8
	Sport, Dport               uint16
	Saddr, Daddr               [16]byte // 4 bytes used for AF_INET
}

// Task is the process that made the call.
type Task struct {
	Fields [plan.TaskFieldCount]uint64

	// Class says whether the process is in a set by a relation; known is false if that is not known of it. A nil Class knows
	// nothing. Sets are numbered as in the filters: by the place in Plan.Sets, or as in the kernel for a Program.
	Class func(of plan.Relation, set int) (in, known bool)
}

// Words makes a Task.Class of words as the kernel half keeps them: a row of words for each relation, bit 0 of each word
// telling whether the process is known.
func Words(relations [][]uint64) func(plan.Relation, int) (in, known bool) {
	return func(of plan.Relation, set int) (in, known bool) {
		if int(of) >= len(relations) || set < 0 || set/64 >= len(relations[of]) {
			return false, false
		}
		w := relations[of][set/64]
		return w>>(set%64)&1 == 1, w&1 == 1
	}
}

// Match returns the rules whose filters all hold: bit i%64 of word i/64 is rule i. A filter on a value that is not among
// values is like one on a value that could not be read. A nil task has all fields zero and is in no set.
func Match(rules []plan.Rule, values []Value, task *Task) []uint64 {
	if task == nil {
		task = &Task{}
	}
	mask := make([]uint64, (len(rules)+63)/64)
	for i := range rules {
		ok := true
		for j := range rules[i].Filters {
			ok = ok && Holds(&rules[i].Filters[j], values, task)
		}
		if ok {
			mask[i/64] |= 1 << (i % 64)
		}
	}
	return mask
}

// First says of each group which of its rules decides: the first that is in the mask; -1 if none is. The number is that of
// the rule in the program.
func First(mask []uint64, groups []plan.Group) []int {
	out := make([]int, len(groups))
	for g := range groups {
		out[g] = first(mask, groups[g].First, len(groups[g].Hook.Rules))
	}
	return out
}

func first(mask []uint64, from, n int) int {
	for r := from; r < from+n && r/64 < len(mask); r++ {
		if mask[r/64]>>(r%64)&1 == 1 {
			return r
		}
	}
	return -1
}

// Holds says whether one filter holds.
func Holds(f *plan.Filter, values []Value, task *Task) bool {
	if f.Kind == plan.FilterClass {
		if task.Class == nil {
			return false
		}
		in, known := task.Class(f.Of, f.Set)
		return known && in != f.Not
	}
	if f.Task != plan.TaskNone {
		return f.Task < plan.TaskFieldCount && number(f, task.Fields[f.Task])
	}
	if f.Kind == plan.FilterExpr {
		n, ok := f.Expr.Eval(func(i int) (uint64, bool) {
			v, ok := value(values, i)
			if !ok {
				return 0, false
			}
			return v.Int, true
		})
		return ok && (n != 0) != f.Not
	}
	v, ok := value(values, f.Value)
	if !ok {
		return false
	}
	switch f.Kind {
	case plan.FilterDigest:
		return (f.Field == plan.FieldHash && slices.Contains(f.Strings, v.Hash)) != f.Not
	case plan.FilterRanges, plan.FilterBits:
		n, ok := v.field(f.Field)
		return ok && number(f, n)
	case plan.FilterEqual, plan.FilterPrefix, plan.FilterSuffix, plan.FilterContains, plan.FilterContainsFold:
		return text(f, v.Text) != f.Not
	case plan.FilterAddrs:
		a, ok := v.addr(f.Field)
		return ok && among(f.Prefixes, a) != f.Not
	case plan.FilterGained:
		now, ok := value(values, f.Value2)
		return ok && (now.Int&^v.Int != 0) != f.Not
	}
	return false
}

func value(values []Value, i int) (*Value, bool) {
	if i < 0 || i >= len(values) || values[i].Bad {
		return nil, false
	}
	return &values[i], true
}

// number compares a word.
func number(f *plan.Filter, n uint64) bool {
	switch f.Kind {
	case plan.FilterRanges:
		in := false
		for _, r := range f.Ranges {
			in = in || r.Lo <= n && n <= r.Hi
		}
		return in != f.Not
	case plan.FilterBits:
		return (n&f.Mask != 0) != f.Not
	}
	return false
}

// text compares bytes; any of the filter's strings will do.
func text(f *plan.Filter, s []byte) bool {
	for _, want := range f.Strings {
		w := []byte(want)
		var ok bool
		switch f.Kind {
		case plan.FilterEqual:
			ok = bytes.Equal(s, w)
		case plan.FilterPrefix:
			ok = bytes.HasPrefix(s, w)
		case plan.FilterSuffix:
			ok = bytes.HasSuffix(s, w)
		case plan.FilterContains:
			ok = bytes.Contains(s, w)
		case plan.FilterContainsFold:
			ok = bytes.Contains(lower(s), lower(w))
		}
		if ok {
			return true
		}
	}
	return false
}

// lower makes small letters of the ASCII ones, and leaves all other bytes alone, also those of no valid text.
func lower(s []byte) []byte {
	out := bytes.Clone(s)
	for i, c := range out {
		if 'A' <= c && c <= 'Z' {
			out[i] = c + 'a' - 'A'
		}
	}
	return out
}

func among(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

const fileTypeBits = 0o170000 // S_IFMT

// field returns a part of a value that is a number.
func (v *Value) field(f plan.Field) (uint64, bool) {
	switch f {
	case plan.FieldWhole:
		return v.Int, true
	case plan.FieldFamily:
		return uint64(v.Net.Family), true
	case plan.FieldSockType:
		return uint64(v.Net.SockType), true
	case plan.FieldProtocol:
		return uint64(v.Net.Protocol), true
	case plan.FieldState:
		return uint64(v.Net.State), true
	case plan.FieldSport:
		return uint64(v.Net.Sport), true
	case plan.FieldDport:
		return uint64(v.Net.Dport), true
	case plan.FieldFileType:
		return uint64(v.Mode & fileTypeBits), true
	}
	return 0, false
}

// Address families, from include/linux/socket.h.
const (
	afInet  = 2
	afInet6 = 10
)

// addr returns an address, if the value has one.
func (v *Value) addr(f plan.Field) (netip.Addr, bool) {
	var raw [16]byte
	switch f {
	case plan.FieldSaddr:
		raw = v.Net.Saddr
	case plan.FieldDaddr:
		raw = v.Net.Daddr
	default:
		return netip.Addr{}, false
	}
	switch v.Net.Family {
	case afInet:
		return netip.AddrFrom4([4]byte(raw[:4])), true
	case afInet6:
		return netip.AddrFrom16(raw), true
	}
	return netip.Addr{}, false
}

// Extend is what a number of so many bits looks like as a word: how TypeInt values are kept and compared.
func Extend(n uint64, bits uint8, signed bool) uint64 {
	if bits == 0 || bits >= 64 {
		return n
	}
	s := 64 - bits
	if signed {
		return uint64(int64(n<<s) >> s)
	}
	return n << s >> s
}

// SetAddr puts an address where Net keeps it.
func SetAddr(to *[16]byte, a netip.Addr) {
	*to = [16]byte{}
	if a.Is4() {
		b := a.As4()
		binary.BigEndian.PutUint32(to[:4], binary.BigEndian.Uint32(b[:]))
		return
	}
	if a.Is6() {
		*to = a.As16()
	}
}
