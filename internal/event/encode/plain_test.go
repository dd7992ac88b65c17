// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"tetragon/api/v1/tetragon"
)

// message is what the generator gives every struct.
type message interface {
	AppendJSON([]byte) []byte
	AppendWire([]byte) []byte
}

// plainTypes are the generated structs by message name.
var plainTypes = func() map[protoreflect.Name]reflect.Type {
	types := map[protoreflect.Name]reflect.Type{}
	for _, m := range []message{
		&GetEventsResponse{}, &ProcessExec{}, &ProcessExit{}, &ProcessKprobe{}, &ProcessTracepoint{}, &ProcessLoader{},
		&ProcessUprobe{}, &ProcessThrottle{}, &ProcessLsm{}, &Enforcement{}, &Aggregation{}, &ProcessUsdt{}, &Test{}, &RateLimitInfo{}, &EventLoss{},
		&AggregationInfo{}, &Process{}, &Pod{}, &Container{}, &Image{}, &SecurityContext{}, &Capabilities{}, &Namespaces{},
		&Namespace{}, &ProcessCredentials{}, &UserNamespace{}, &BinaryProperties{}, &FileProperties{}, &InodeProperties{},
		&UserRecord{}, &EnvVar{}, &KprobeArgument{}, &KprobeSkb{}, &KprobePath{}, &KprobeFile{}, &KprobeTruncatedBytes{},
		&KprobeSock{}, &KprobeCred{}, &KprobeBpfAttr{}, &KprobePerfEvent{}, &KprobeBpfMap{}, &KprobeUserNamespace{},
		&KprobeCapability{}, &KernelModule{}, &KprobeLinuxBinprm{}, &KprobeNetDev{}, &SyscallId{}, &KprobeSockaddr{},
		&KprobeBpfProg{}, &KprobeError{}, &KprobeSockaddrUn{}, &StackTraceEntry{},
	} {
		t := reflect.TypeOf(m).Elem()
		types[protoreflect.Name(t.Name())] = t
	}
	return types
}()

// plain fills a generated struct from a message. It goes by names and types alone, so a mistake of the generator is not
// made a second time here.
func plain(m protoreflect.Message) message {
	t, ok := plainTypes[m.Descriptor().Name()]
	if !ok {
		panic(fmt.Sprintf("no plain type for %s", m.Descriptor().FullName()))
	}
	v := reflect.New(t)
	m.Range(func(fd protoreflect.FieldDescriptor, pv protoreflect.Value) bool {
		f := v.Elem().FieldByName(camel(fd.Name()))
		switch {
		case fd.IsMap():
			var es []MapEntry
			pv.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				es = append(es, MapEntry{k.String(), v.String()})
				return true
			})
			slices.SortFunc(es, func(a, b MapEntry) int { return strings.Compare(a.Key, b.Key) })
			f.Set(reflect.ValueOf(es))
		case fd.IsList():
			for i := range pv.List().Len() {
				e := reflect.New(f.Type().Elem()).Elem()
				setPlain(e, pv.List().Get(i))
				f.Set(reflect.Append(f, e))
			}
		default:
			setPlain(f, pv)
		}
		if od := fd.ContainingOneof(); od != nil {
			for i := range od.Fields().Len() {
				if od.Fields().Get(i) == fd {
					v.Elem().FieldByName(camel(od.Name())).SetUint(uint64(i + 1))
				}
			}
		}
		return true
	})
	return v.Interface().(message)
}

func setPlain(f reflect.Value, pv protoreflect.Value) {
	switch x := pv.Interface().(type) {
	case string:
		if f.Kind() == reflect.String {
			f.SetString(x)
		} else {
			f.SetBytes([]byte(x))
		}
	case []byte:
		f.SetBytes(x)
	case bool:
		f.SetBool(x)
	case int32, int64:
		f.SetInt(pv.Int())
	case uint32, uint64:
		f.SetUint(pv.Uint())
	case protoreflect.EnumNumber:
		f.SetInt(int64(x))
	case protoreflect.Message:
		switch w := x.Interface().(type) {
		case *wrapperspb.UInt32Value:
			f.Set(reflect.ValueOf(OptU32{w.Value, true}))
			return
		case *wrapperspb.Int32Value:
			f.Set(reflect.ValueOf(OptI32{w.Value, true}))
			return
		case *wrapperspb.BoolValue:
			f.Set(reflect.ValueOf(OptBool{w.Value, true}))
			return
		case *timestamppb.Timestamp:
			f.Set(reflect.ValueOf(OptTime{Ns: w.Seconds*1e9 + int64(w.Nanos), Set: true}))
			return
		}
		sub := plain(x)
		switch {
		case f.Type() == reflect.TypeFor[Fragment]():
			f.Set(reflect.ValueOf(Fragment{JSON: sub.AppendJSON([]byte{}), Wire: sub.AppendWire([]byte{})}))
		case f.Kind() == reflect.Pointer:
			f.Set(reflect.ValueOf(sub))
		default:
			f.Set(reflect.ValueOf(sub).Elem())
		}
	default:
		panic(fmt.Sprintf("cannot set a %T", x))
	}
}

func camel(n protoreflect.Name) string {
	words := strings.Split(string(n), "_")
	for i, w := range words {
		if w != "" {
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, "")
}

// check compares the two forms of a message with what the protobuf library makes of it.
func check(t testing.TB, m proto.Message) {
	t.Helper()
	p := plain(m.ProtoReflect())
	// What is not UTF-8 is our own affair; the library refuses it.
	repair(m.ProtoReflect())

	want, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		t.Fatalf("protojson: %v", err)
	}
	want = compacted(t, want)
	const before = "before"
	got := p.AppendJSON([]byte(before))
	if got := string(bytes.TrimPrefix(got, []byte(before))); got != string(want) {
		t.Errorf("JSON of %s:\n got %s\nwant %s", m.ProtoReflect().Descriptor().Name(), got, want)
	}

	wire := p.AppendWire([]byte(before))[len(before):]
	back := m.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(wire, back); err != nil {
		t.Fatalf("wire of %s: %v", m.ProtoReflect().Descriptor().Name(), err)
	}
	if !proto.Equal(m, back) {
		t.Errorf("wire of %s:\n got %v\nwant %v", m.ProtoReflect().Descriptor().Name(), back, m)
	}
	if n := proto.Size(m); len(wire) != n {
		t.Errorf("wire of %s: %d bytes, the library needs %d", m.ProtoReflect().Descriptor().Name(), len(wire), n)
	}
}

func compacted(t testing.TB, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := json.Compact(&buf, b); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return buf.Bytes()
}

// repair does to every string of m what the encoder does.
func repair(m protoreflect.Message) {
	fix := func(s string) protoreflect.Value {
		return protoreflect.ValueOfString(strings.ToValidUTF8(s, "\ufffd"))
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, e protoreflect.Value) bool {
				v.Map().Set(k, fix(e.String()))
				return true
			})
		case fd.IsList() && fd.Kind() == protoreflect.StringKind:
			for i := range v.List().Len() {
				v.List().Set(i, fix(v.List().Get(i).String()))
			}
		case fd.IsList() && fd.Message() != nil:
			for i := range v.List().Len() {
				repair(v.List().Get(i).Message())
			}
		case fd.Kind() == protoreflect.StringKind:
			m.Set(fd, fix(v.String()))
		case fd.Message() != nil && !fd.IsList():
			repair(v.Message())
		}
		return true
	})
}

// filler makes messages from random numbers.
type filler struct{ *rand.Rand }

var fillStrings = []string{
	"", "a", "/usr/bin/true", "-c \"id; date\"", "a\x00b", "\x01\x1f\x7f", "tab\tnewline\nreturn\r\b\f", `back\slash`, "<script>&amp;</script>",
	"grüße", "日本語", "🐝🐝", "\u2028\u2029", "\ufffd", "\xff", "a\xff\xfeb", "\xe2\x82", "\xe2\x82x", "\xed\xa0\x80", "\xf4\x90\x80\x80",
	"1234567\xff", "12345678\"", "\xc0\x80\xc0\xaf", strings.Repeat("x", 127), strings.Repeat("x", 128), strings.Repeat("é\xff", 200),
}

func (r filler) string() string {
	if r.IntN(4) > 0 {
		return fillStrings[r.IntN(len(fillStrings))]
	}
	b := make([]byte, r.IntN(40))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

var fillNumbers = []uint64{0, 1, 9, 10, 127, 128, 255, 256, 16383, 16384, math.MaxInt32, math.MaxUint32, math.MaxInt64, math.MaxUint64}

func (r filler) number() uint64 {
	if r.IntN(3) > 0 {
		return fillNumbers[r.IntN(len(fillNumbers))]
	}
	return r.Uint64() >> r.IntN(64)
}

func (r filler) scalar(fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(r.string())
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(r.string()))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(r.IntN(2) == 0)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(r.number()))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(r.number()))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(r.number()))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(r.number())
	case protoreflect.EnumKind:
		if r.IntN(4) == 0 {
			return protoreflect.ValueOfEnum(protoreflect.EnumNumber(int32(r.number())))
		}
		vs := fd.Enum().Values()
		return protoreflect.ValueOfEnum(vs.Get(r.IntN(vs.Len())).Number())
	}
	panic(fmt.Sprintf("cannot fill a %s", fd.Kind()))
}

func (r filler) fill(m protoreflect.Message, depth int) {
	if ts, ok := m.Interface().(*timestamppb.Timestamp); ok {
		ns := []int64{0, 1, -1, 1e9, 1e6, 1e3, 1234567890123456789, 951782400e9, -86400e9, math.MaxInt64, math.MinInt64}
		n := int64(r.Uint64())
		if r.IntN(2) == 0 {
			n = ns[r.IntN(len(ns))]
		}
		ts.Seconds, ts.Nanos = n/1e9, int32(n%1e9)
		if ts.Nanos < 0 {
			ts.Seconds, ts.Nanos = ts.Seconds-1, ts.Nanos+1e9
		}
		return
	}
	fds := m.Descriptor().Fields()
	for i := range fds.Len() {
		fd := fds.Get(i)
		if r.IntN(3) == 0 || depth == 0 && fd.Message() != nil {
			continue
		}
		switch {
		case fd.IsMap():
			for range r.IntN(4) {
				k := strings.ToValidUTF8(r.string(), "\ufffd") // broken keys could become equal
				m.Mutable(fd).Map().Set(protoreflect.ValueOfString(k).MapKey(), protoreflect.ValueOfString(r.string()))
			}
		case fd.IsList():
			l := m.Mutable(fd).List()
			for range r.IntN(4) {
				if fd.Message() != nil {
					r.fill(l.AppendMutable().Message(), depth-1)
				} else {
					l.Append(r.scalar(fd))
				}
			}
		case fd.Message() != nil:
			r.fill(m.Mutable(fd).Message(), depth-1)
		default:
			m.Set(fd, r.scalar(fd))
		}
	}
}

// reachable returns every message type below root.
func reachable(root protoreflect.MessageDescriptor) []protoreflect.MessageDescriptor {
	var out []protoreflect.MessageDescriptor
	var walk func(protoreflect.MessageDescriptor)
	walk = func(m protoreflect.MessageDescriptor) {
		if m.ParentFile().Package() != "tetragon" || m.IsMapEntry() || slices.Contains(out, m) {
			return
		}
		out = append(out, m)
		for i := range m.Fields().Len() {
			if sub := m.Fields().Get(i).Message(); sub != nil {
				walk(sub)
			}
		}
	}
	walk(root)
	return out
}

// newMessage returns an empty message of the API.
func newMessage(t testing.TB, d protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	mt := (&tetragon.GetEventsResponse{}).ProtoReflect().Type()
	if d == mt.Descriptor() {
		return mt.New().Interface()
	}
	return findType(t, d.FullName()).New().Interface()
}
