// SPDX-License-Identifier: Apache-2.0

// Package decode turns the bytes of a kernel record into its parts, without copying them.
//
// It stands between event/read, which hands out raw records, and event/enrich, which makes processes and events of them.
// Layouts come from abi, which is generated from the kernel half. A record that is too short, or whose lengths do not
// add up, is refused with a reason, never read beyond its end.
//
// Not here: what a record means (enrich), text rules such as quoting (enrich).
//
// A Record points into the bytes it was made from and is valid as long as they are. Safe for concurrent use.
package decode

import (
	"errors"
	"unsafe"

	"tetragon/internal/abi"
)

// Why a record is refused. A record from our own kernel half never is; what is counted here is a bug or a foreign ring.
var (
	ErrShort   = errors.New("record is shorter than its layout")
	ErrKind    = errors.New("record is of no known kind")
	ErrLengths = errors.New("record is shorter than its strings")
)

// Record is one decoded record. Which part is set follows from Kind (Exec also for abi.KindSnapshot); the others may hold
// what an earlier record left and are not to be looked at.
type Record struct {
	Kind  uint16
	Flags uint16
	Pid   uint32
	Time  uint64 // boot clock, ns
	Ktime uint64
	Raw   []byte

	Exec     *abi.Exec
	Fork     *abi.Fork
	Exit     *abi.Exit
	Data     *abi.Data
	Hook     *abi.Hook // its values: see Values
	HookData *abi.HookData
	Merged   *abi.Merged // beside Hook, of abi.KindHookMerged
	Throttle *abi.Throttle
	Cgroup   []byte // name of the cgroup, of an exec and of Throttle too

	Name, Path, Cwd, Args, Env []byte // of an exec, as abi/record.h describes them

	mask int // where the mask of a hook begins
}

// overlay returns the fixed part of a record. Ring memory is aligned to 8 bytes, and so are copies made with make.
func overlay[T any](b []byte) *T {
	var t T
	if uintptr(len(b)) < unsafe.Sizeof(t) {
		return nil
	}
	return (*T)(unsafe.Pointer(unsafe.SliceData(b)))
}

// Decode fills r from b. b must be aligned to 8 bytes, and must not change while r is used.
func Decode(b []byte, r *Record) error {
	h := overlay[abi.Head](b)
	if h == nil {
		return ErrShort
	}
	// What another kind of record left in r stays there: clearing it would cost more than all the rest.
	r.Kind, r.Flags, r.Pid, r.Time, r.Ktime, r.Raw = h.Kind, h.Flags, h.Pid, h.Time, h.Ktime, b
	switch h.Kind {
	case abi.KindExec, abi.KindSnapshot:
		return r.exec(b)
	case abi.KindFork:
		if r.Fork = overlay[abi.Fork](b); r.Fork == nil {
			return ErrShort
		}
	case abi.KindExit:
		if r.Exit = overlay[abi.Exit](b); r.Exit == nil {
			return ErrShort
		}
	case abi.KindCgroup:
		c := overlay[abi.Cgroup](b)
		if c == nil {
			return ErrShort
		}
		if int(c.NameLen) > len(c.Name) {
			return ErrLengths
		}
		r.Cgroup = c.Name[:c.NameLen]
	case abi.KindThrottle:
		if r.Throttle = overlay[abi.Throttle](b); r.Throttle == nil {
			return ErrShort
		}
		if int(r.Throttle.NameLen) > len(r.Throttle.Name) {
			return ErrLengths
		}
		r.Cgroup = r.Throttle.Name[:r.Throttle.NameLen]
	case abi.KindData:
		if r.Data = overlay[abi.Data](b); r.Data == nil {
			return ErrShort
		}
		if int(r.Data.Len) > len(r.Data.Data) {
			return ErrLengths
		}
	case abi.KindHook:
		return r.hook(b)
	case abi.KindHookMerged:
		if err := r.hook(b); err != nil {
			return err
		}
		if r.Merged = overlay[abi.Merged](b[r.mask+8*r.fixed():]); r.Merged == nil {
			return ErrLengths
		}
	case abi.KindHookData:
		if r.HookData = overlay[abi.HookData](b); r.HookData == nil {
			return ErrShort
		}
		if int(r.HookData.Len) > len(r.HookData.Data) {
			return ErrLengths
		}
	case abi.KindSnapEnd:
	default:
		return ErrKind
	}
	return nil
}

func (r *Record) exec(b []byte) error {
	e := overlay[abi.Exec](b)
	if e == nil {
		return ErrShort
	}
	rest := b[abi.ExecSize:]
	for _, p := range [...]struct {
		to *[]byte
		n  uint16
	}{{&r.Name, e.NameLen}, {&r.Path, e.PathLen}, {&r.Cwd, e.CwdLen}, {&r.Args, e.ArgsLen}, {&r.Env, e.EnvLen}, {&r.Cgroup, e.CgroupLen}} {
		if int(p.n) > len(rest) {
			return ErrLengths
		}
		*p.to, rest = rest[:p.n:p.n], rest[p.n:]
	}
	r.Exec = e
	return nil
}

// AppendPath writes the path whose components lie in c from the leaf to the root, each after its length byte, as the
// kernel half sends them. No components are "/". A length that overruns c ends the path there.
func AppendPath(b, c []byte) []byte {
	end := 0
	for end < len(c) && end+1+int(c[end]) <= len(c) {
		end += 1 + int(c[end])
	}
	if end == 0 {
		return append(b, '/')
	}
	// A slash takes the place of each length, so it is as long, and is filled from its end.
	at := len(b) + end
	b = append(b, c[:end]...)
	for i := 0; i < end; {
		part := c[i+1 : i+1+int(c[i])]
		i += 1 + len(part)
		at -= 1 + len(part)
		b[at] = '/'
		copy(b[at+1:], part)
	}
	return b
}
