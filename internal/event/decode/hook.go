// SPDX-License-Identifier: Apache-2.0

package decode

import (
	"encoding/binary"
	"unsafe"

	"tetragon/internal/abi"
)

// What stands in front of the text of some values.
const (
	origSize   = 8 // of bytes: how many there were
	familySize = 8 // of the address of a unix socket
)

// hook checks that the values and the mask lie within the record, so that Values and Mask need not.
func (r *Record) hook(b []byte) error {
	h := overlay[abi.Hook](b)
	if h == nil {
		return ErrShort
	}
	at := abi.HookSize
	for range h.Values {
		if len(b)-at < abi.ValueSize {
			return ErrLengths
		}
		v := overlay[abi.Value](b[at:])
		at += abi.ValueSize
		n := (int64(v.Len) + 7) &^ 7
		if int64(len(b)-at) < n {
			return ErrLengths
		}
		at += int(n)
	}
	r.Hook, r.mask = h, at
	if (len(b)-at)/8 < r.fixed() {
		return ErrLengths
	}
	return nil
}

// fixed is how many words behind the values there are always: the mask, and what became of what rules ordered.
func (r *Record) fixed() int {
	if r.Flags&abi.FlagVerdict != 0 {
		return 2*int(r.Hook.Words) + 1
	}
	return int(r.Hook.Words)
}

// Value is one value of a hook's record.
type Value struct {
	Index uint16 // in the program; stacks: 0
	Kind  uint8  // one of abi.ValueInt, ...
	Flags uint8  // abi.ValueFlagError, abi.ValueFlagCut
	Data  []byte // aligned to 8
}

// Values calls of a record go from the first value to the last: at is 0 at first, then what the last call returned. ok is
// false when there are no more.
func (r *Record) Values(at int) (v Value, next int, ok bool) {
	if at == 0 {
		at = abi.HookSize
	}
	if at >= r.mask {
		return Value{}, at, false
	}
	x := overlay[abi.Value](r.Raw[at:])
	at += abi.ValueSize
	data := r.Raw[at : at+int(x.Len) : at+int(x.Len)]
	return Value{Index: x.Index, Kind: x.Kind, Flags: x.Flags, Data: data}, at + (int(x.Len)+7)&^7, true
}

// Mask returns a word of the mask of rules that post; 0 behind the last.
func (r *Record) Mask(word int) uint64 {
	if word >= int(r.Hook.Words) {
		return 0
	}
	return binary.LittleEndian.Uint64(r.Raw[r.mask+8*word:])
}

// Monitored says whether what rule n ordered was not carried out, because its policy only monitors.
func (r *Record) Monitored(n int) bool {
	w := n / 64
	if r.Flags&abi.FlagVerdict == 0 || w >= int(r.Hook.Words) {
		return false
	}
	return binary.LittleEndian.Uint64(r.Raw[r.mask+8*(int(r.Hook.Words)+w):])>>(n%64)&1 != 0
}

// Sent is the signals that were sent in the call: bit n is signal n+1.
func (r *Record) Sent() uint64 {
	if r.Flags&abi.FlagVerdict == 0 {
		return 0
	}
	return binary.LittleEndian.Uint64(r.Raw[r.mask+16*int(r.Hook.Words):])
}

// Held returns how many events of a rule its rate limit held back since its last one.
func (r *Record) Held(rule int) uint32 {
	if r.Kind != abi.KindHook {
		return 0
	}
	for at := r.mask + 8*r.fixed(); at+8 <= len(r.Raw); at += 8 {
		if w := binary.LittleEndian.Uint64(r.Raw[at:]); uint32(w) == uint32(rule) {
			return uint32(w >> 32)
		}
	}
	return 0
}

// Int returns the number in a value of abi.ValueInt; with abi.ValueFlagError it is the step that failed.
func (v *Value) Int() (uint64, bool) {
	if len(v.Data) < 8 {
		return 0, false
	}
	return binary.LittleEndian.Uint64(v.Data), true
}

// Bytes returns the bytes of abi.ValueBytes, and how many there were.
func (v *Value) Bytes() (b []byte, orig uint64, ok bool) {
	if len(v.Data) < origSize {
		return nil, 0, false
	}
	return v.Data[origSize:], binary.LittleEndian.Uint64(v.Data), true
}

// Ahead returns of abi.ValueBytes with abi.ValueFlagAhead how many bytes there were, and the id of the records that have
// them.
func (v *Value) Ahead() (orig, id uint64, ok bool) {
	if len(v.Data) < 16 {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint64(v.Data), binary.LittleEndian.Uint64(v.Data[8:]), true
}

// Ima returns what abi.ValueIma says of a file; nil if it does not add up.
func (v *Value) Ima() *abi.ValIma { return overlay[abi.ValIma](v.Data) }

// SockaddrUn returns family and path of abi.ValueSockaddrUn.
func (v *Value) SockaddrUn() (family uint64, path []byte, ok bool) {
	if len(v.Data) < familySize {
		return 0, nil, false
	}
	return binary.LittleEndian.Uint64(v.Data), v.Data[familySize:], true
}

// Word returns a word of abi.ValueWords, or of a stack.
func (v *Value) Word(i int) uint64 { return binary.LittleEndian.Uint64(v.Data[8*i:]) }

// Words is how many there are.
func (v *Value) Words() int { return len(v.Data) / 8 }

// parts returns the fixed part of a value, nil if it is too short for it, and the text behind it.
func parts[T any](b []byte) (*T, []byte) {
	t := overlay[T](b)
	if t == nil {
		return nil, nil
	}
	return t, b[unsafe.Sizeof(*t):]
}

// File returns the fixed part of abi.ValueFile, and the path. The fixed part is nil if the value is too short for it; so
// it is with all that follow.
func (v *Value) File() (*abi.ValFile, []byte) { return parts[abi.ValFile](v.Data) }

// PerfEvent is for abi.ValuePerfEvent: the second is the name of the probed function.
func (v *Value) PerfEvent() (*abi.ValPerfEvent, []byte) { return parts[abi.ValPerfEvent](v.Data) }

// Module is for abi.ValueModule: the second is its name.
func (v *Value) Module() (*abi.ValModule, []byte) { return parts[abi.ValModule](v.Data) }

// Sock is for abi.ValueSock.
func (v *Value) Sock() *abi.ValSock { return overlay[abi.ValSock](v.Data) }

// Skb is for abi.ValueSkb.
func (v *Value) Skb() *abi.ValSkb { return overlay[abi.ValSkb](v.Data) }

// Sockaddr is for abi.ValueSockaddr.
func (v *Value) Sockaddr() *abi.ValSockaddr { return overlay[abi.ValSockaddr](v.Data) }

// Cred is for abi.ValueCred.
func (v *Value) Cred() *abi.ValCred { return overlay[abi.ValCred](v.Data) }

// UserNS is for abi.ValueUserNs.
func (v *Value) UserNS() *abi.ValUserNs { return overlay[abi.ValUserNs](v.Data) }

// BpfProg is for abi.ValueBpfProg.
func (v *Value) BpfProg() *abi.ValBpfProg { return overlay[abi.ValBpfProg](v.Data) }

// BpfMap is for abi.ValueBpfMap.
func (v *Value) BpfMap() *abi.ValBpfMap { return overlay[abi.ValBpfMap](v.Data) }
