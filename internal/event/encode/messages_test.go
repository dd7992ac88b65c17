// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tetragon/api/v1/tetragon"
)

func findType(t testing.TB, name protoreflect.FullName) protoreflect.MessageType {
	t.Helper()
	mt, err := protoregistry.GlobalTypes.FindMessageByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return mt
}

// TestMessages_likeProtobuf fills every message at random and compares both forms with those of the protobuf library.
func TestMessages_likeProtobuf(t *testing.T) {
	all := reachable((&tetragon.GetEventsResponse{}).ProtoReflect().Descriptor())
	if len(all) != len(plainTypes) {
		t.Fatalf("events hold %d messages, the test knows %d", len(all), len(plainTypes))
	}
	rounds := 300
	if testing.Short() {
		rounds = 10
	}
	for i, d := range all {
		t.Run(string(d.Name()), func(t *testing.T) {
			r := filler{rand.New(rand.NewPCG(1, uint64(i)))}
			check(t, newMessage(t, d)) // the empty one
			for range rounds {
				m := newMessage(t, d)
				r.fill(m.ProtoReflect(), 3)
				check(t, m)
				if t.Failed() {
					return
				}
			}
		})
	}
}

// TestMessages_everyField sets each field alone, members of a oneof and presence included, so that no field goes unseen
// because it is rarely filled.
func TestMessages_everyField(t *testing.T) {
	for _, d := range reachable((&tetragon.GetEventsResponse{}).ProtoReflect().Descriptor()) {
		for i := range d.Fields().Len() {
			fd := d.Fields().Get(i)
			t.Run(string(d.Name())+"."+string(fd.Name()), func(t *testing.T) {
				m := newMessage(t, d)
				switch {
				case fd.IsMap():
					m.ProtoReflect().Mutable(fd).Map().Set(protoreflect.ValueOfString("k").MapKey(), protoreflect.ValueOfString(""))
				case fd.IsList() && fd.Message() != nil:
					m.ProtoReflect().Mutable(fd).List().AppendMutable()
				case fd.IsList():
					l := m.ProtoReflect().Mutable(fd).List()
					l.Append(l.NewElement())
				case fd.Message() != nil:
					m.ProtoReflect().Mutable(fd)
				default:
					m.ProtoReflect().Set(fd, fd.Default())
				}
				check(t, m)
			})
		}
	}
}

// TestMessages_everyEnumValue covers the tables of names, and the numbers beside them.
func TestMessages_everyEnumValue(t *testing.T) {
	seen := map[protoreflect.FullName]bool{}
	for _, d := range reachable((&tetragon.GetEventsResponse{}).ProtoReflect().Descriptor()) {
		for i := range d.Fields().Len() {
			fd := d.Fields().Get(i)
			if fd.Enum() == nil || seen[fd.Enum().FullName()] {
				continue
			}
			seen[fd.Enum().FullName()] = true
			numbers := []protoreflect.EnumNumber{-1, 3, 5, 41, 99, math.MaxInt32, math.MinInt32}
			for j := range fd.Enum().Values().Len() {
				numbers = append(numbers, fd.Enum().Values().Get(j).Number())
			}
			for _, n := range numbers {
				m := newMessage(t, d)
				if fd.IsList() {
					m.ProtoReflect().Mutable(fd).List().Append(protoreflect.ValueOfEnum(n))
				} else {
					m.ProtoReflect().Set(fd, protoreflect.ValueOfEnum(n))
				}
				check(t, m)
			}
		}
	}
	if len(seen) < 6 {
		t.Errorf("found %d enums, want all that events use", len(seen))
	}
}

func TestAppendString_escapes(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"empty", "", `""`},
		{"plain", "ls -l", `"ls -l"`},
		{"quote and backslash", `a"b\c`, `"a\"b\\c"`},
		{"control characters", "\x00\x01\b\t\n\v\f\r\x1b\x1f\x7f", `"\u0000\u0001\b\t\n\u000b\f\r\u001b\u001f` + "\x7f\""},
		{"HTML stays", "<a href=x>&", `"<a href=x>&"`},
		{"line separators stay", "\u2028", "\"\u2028\""},
		{"one bad byte", "a\xffb", "\"a\ufffdb\""},
		{"a run of bad bytes is one", "a\xff\xfe\xfdb\xff", "\"a\ufffdb\ufffd\""},
		{"a run over a boundary of words", "123456\xff\xff\xff\xff901234567", "\"123456\ufffd901234567\""},
		{"runs parted by an escape", "\xff\n\xff", "\"\ufffd\\n\ufffd\""},
		{"surrogate", "\xed\xa0\x80", "\"\ufffd\""},
		{"cut rune", "\xe2\x82", "\"\ufffd\""},
		{"overlong", "\xc0\xaf", "\"\ufffd\""},
		{"a true U+FFFD", "\ufffd\xff", "\"\ufffd\ufffd\""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(appendString(nil, tt.in)); got != tt.want {
				t.Errorf("string: got %s, want %s", got, tt.want)
			}
			if got := string(appendString(nil, []byte(tt.in))); got != tt.want {
				t.Errorf("bytes: got %s, want %s", got, tt.want)
			}
		})
	}
}

// TestPlainPrefix_everyByte looks at each byte in each place of a word.
func TestPlainPrefix_everyByte(t *testing.T) {
	for c := range 256 {
		stops := c < ' ' || c == '"' || c == '\\' || c >= 0x80
		for at := range 17 {
			s := bytes.Repeat([]byte("~"), 17)
			s[at] = byte(c)
			want := len(s)
			if stops {
				want = at
			}
			if got := plainPrefix(s); got != want {
				t.Fatalf("byte %#02x at %d: got %d, want %d", c, at, got, want)
			}
		}
	}
}

func TestCloseLength_sizes(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 129, 16383, 16384, 1<<21 - 1, 1 << 21} {
		m := &tetragon.UserRecord{Name: strings.Repeat("n", n)}
		got := (&UserRecord{Name: m.Name}).AppendWire(nil)
		want, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("length %d: bytes differ from the library's", n)
		}
	}
}

func FuzzAppendString(f *testing.F) {
	for _, s := range fillStrings {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := protojson.Marshal(&tetragon.UserRecord{Name: strings.ToValidUTF8(s, "\ufffd") + "."})
		if err != nil {
			t.Fatal(err)
		}
		want = compacted(t, want)
		if got := (&UserRecord{Name: s + "."}).AppendJSON(nil); !bytes.Equal(got, want) {
			t.Errorf("%q:\n got %s\nwant %s", s, got, want)
		}
		var back tetragon.UserRecord
		if err := proto.Unmarshal((&UserRecord{Name: s}).AppendWire(nil), &back); err != nil {
			t.Fatal(err)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); back.Name != want {
			t.Errorf("%q: wire holds %q, want %q", s, back.Name, want)
		}
	})
}

func FuzzAppendTime(f *testing.F) {
	for _, n := range []int64{0, 1, -1, 999_999_999, 1e9, -62135596800, 951782399e9, 951782400e9, 4107542400e9, math.MaxInt64, math.MinInt64} {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, ns int64) {
		want, err := protojson.Marshal(timestamppb.New(time.Unix(0, ns)))
		if err != nil {
			t.Fatal(err)
		}
		if got := appendTime(nil, ns); !bytes.Equal(got, want) {
			t.Errorf("%d: got %s, want %s", ns, got, want)
		}
		var c clock
		for _, before := range []int64{0, ns, ns - 1, ns ^ 1<<29, 1_999_999_999} {
			c.json(before)
			if got := c.json(ns); !bytes.Equal(got, want) {
				t.Errorf("%d after %d: got %s, want %s", ns, before, got, want)
			}
		}
	})
}

// FuzzMessages lets the fuzzer choose all of an event, as its bytes on the wire.
func FuzzMessages(f *testing.F) {
	r := filler{rand.New(rand.NewPCG(2, 2))}
	for range 20 {
		m := &tetragon.GetEventsResponse{}
		r.fill(m.ProtoReflect(), 3)
		repair(m.ProtoReflect())
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := &tetragon.GetEventsResponse{}
		if proto.Unmarshal(b, m) != nil || !timesFit(m.ProtoReflect()) {
			t.Skip("no event")
		}
		check(t, m)
	})
}

// timesFit says whether all times of m are times, and fit into nanoseconds; others cannot be held. It also takes away
// fields that are not of the API.
func timesFit(m protoreflect.Message) bool {
	m.SetUnknown(nil)
	if ts, ok := m.Interface().(*timestamppb.Timestamp); ok {
		return ts.IsValid() && ts.Seconds > math.MinInt64/nsPerSecond && ts.Seconds < math.MaxInt64/nsPerSecond
	}
	fit := true
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Message() == nil || fd.IsMap():
		case fd.IsList():
			for i := range v.List().Len() {
				fit = fit && timesFit(v.List().Get(i).Message())
			}
		default:
			fit = fit && timesFit(v.Message())
		}
		return fit
	})
	return fit
}

func TestMessages_noAllocation(t *testing.T) {
	r := filler{rand.New(rand.NewPCG(3, 3))}
	buf := make([]byte, 0, 1<<20)
	for range 50 {
		m := &tetragon.GetEventsResponse{}
		r.fill(m.ProtoReflect(), 3)
		p := plain(m.ProtoReflect())
		if n := testing.AllocsPerRun(10, func() { p.AppendJSON(buf) }); n != 0 {
			t.Errorf("AppendJSON: %v allocations for %v", n, m)
		}
		if n := testing.AllocsPerRun(10, func() { p.AppendWire(buf) }); n != 0 {
			t.Errorf("AppendWire: %v allocations for %v", n, m)
		}
	}
}
