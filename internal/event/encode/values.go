// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// OptU32 is a UInt32Value: a number that can be absent.
type OptU32 struct {
	V   uint32
	Set bool
}

// OptI32 is an Int32Value.
type OptI32 struct {
	V   int32
	Set bool
}

// OptBool is a BoolValue.
type OptBool struct{ V, Set bool }

// OptTime is a Timestamp, in nanoseconds since the Unix epoch.
type OptTime struct {
	Ns   int64
	Set  bool
	JSON []byte // the same as JSON, where it is known; the same time can stand in an event twice
}

// MapEntry is one entry of a map. Maps are slices sorted by key, without double keys; that is the caller's duty.
type MapEntry struct{ Key, Value string }

// Fragment is a message that was encoded before. It counts as absent in a form whose bytes are nil.
type Fragment struct {
	JSON []byte // the object, braces included
	Wire []byte // the message's bytes, without tag and length
}

// Some returns a present OptU32.
func Some(v uint32) OptU32 { return OptU32{v, true} }

// Known returns a time that is absent when it is 0.
func Known(ns int64) OptTime { return OptTime{Ns: ns, Set: ns != 0} }

// appendFragment adds f's object. It stands where a value must, so an absent one is an empty one.
func appendFragment(b []byte, f Fragment) []byte {
	if len(f.JSON) == 0 {
		return append(b, "{}"...)
	}
	return append(b, f.JSON...)
}

// closeObject ends the object whose fields, each after a comma, stand from start on.
func closeObject(b []byte, start int) []byte {
	if len(b) == start {
		return append(b, "{}"...)
	}
	b[start] = '{'
	return append(b, '}')
}

// text is what strings are held in.
type text interface{ string | []byte }

// Words of eight equal bytes, for looking at eight bytes at once.
const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// plainPrefix returns how many bytes at the start of s go into JSON as they are: ASCII that needs no escape. It may stop
// up to seven bytes early.
func plainPrefix[S text](s S) int {
	i := 0
	for ; i+8 <= len(s); i += 8 {
		x := uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
			uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
		// The high bit of a byte comes up when it is not ASCII, below a space, a quote or a backslash. A borrow can
		// raise it in the bytes after such a one only, so the first is always right.
		if m := (x | (x - ' '*ones) | ((x ^ '"'*ones) - ones) | ((x ^ '\\'*ones) - ones)) & highs; m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			break
		}
	}
	return i
}

// appendString adds s in quotes, escaped as protojson does. Each run of bytes that is not UTF-8 becomes one U+FFFD, as
// strings.ToValidUTF8 does it.
func appendString[S text](b []byte, s S) []byte {
	b = append(b, '"')
	n := plainPrefix(s)
	b = append(b, s[:n]...)
	if n < len(s) {
		b = appendEscaped(b, s[n:])
	}
	return append(b, '"')
}

const hexDigits = "0123456789abcdef"

func appendEscaped[S text](b []byte, s S) []byte {
	broken := false // the bytes before s are the start of a run that is not UTF-8
	for len(s) > 0 {
		if n := plainPrefix(s); n > 0 {
			b = append(b, s[:n]...)
			s, broken = s[n:], false
			continue
		}
		c := s[0]
		if c >= utf8.RuneSelf {
			n := runeLen(s)
			switch {
			case n > 0:
				b = append(b, s[:n]...)
			case !broken:
				b = append(b, "\ufffd"...)
			}
			broken = n == 0
			s = s[max(n, 1):]
			continue
		}
		broken = false
		s = s[1:]
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, '\\', 'b')
		case '\f':
			b = append(b, '\\', 'f')
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return b
}

// runeLen returns the length of the rune that s starts with, 0 when it is none.
func runeLen[S text](s S) int {
	// The conversion of so few bytes does not allocate.
	r, n := utf8.DecodeRuneInString(string(s[:min(len(s), utf8.UTFMax)]))
	if r == utf8.RuneError && n <= 1 {
		return 0
	}
	return n
}

// appendMapJSON adds a map as an object.
func appendMapJSON(b []byte, m []MapEntry) []byte {
	at := len(b)
	for i := range m {
		b = append(b, ',')
		b = appendString(b, m[i].Key)
		b = append(b, ':')
		b = appendString(b, m[i].Value)
	}
	return closeObject(b, at)
}

// appendStringWire adds s after its length. Runs of bytes that are not UTF-8 become U+FFFD, because a reader refuses the
// whole message otherwise.
func appendStringWire[S text](b []byte, s S) []byte {
	b = append(b, 0)
	at := len(b)
	n := asciiPrefix(s)
	b = append(b, s[:n]...)
	broken := false
	for s = s[n:]; len(s) > 0; {
		n := runeLen(s)
		switch {
		case n > 0:
			b = append(b, s[:n]...)
		case !broken:
			b = append(b, "\ufffd"...)
		}
		broken = n == 0
		s = s[max(n, 1):]
	}
	return closeLength(b, at)
}

// asciiPrefix returns how many bytes at the start of s are ASCII. It may stop up to seven bytes early.
func asciiPrefix[S text](s S) int {
	i := 0
	for ; i+8 <= len(s); i += 8 {
		x := uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
			uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
		if x&highs != 0 {
			break
		}
	}
	for ; i < len(s) && s[i] < utf8.RuneSelf; i++ {
	}
	return i
}

// closeLength writes the length of what stands from at on into the byte before at, and makes room when it takes more
// than one.
func closeLength(b []byte, at int) []byte {
	n := len(b) - at
	if n < 0x80 {
		b[at-1] = byte(n)
		return b
	}
	var buf [binary.MaxVarintLen64]byte
	more := binary.PutUvarint(buf[:], uint64(n)) - 1
	b = append(b, buf[:more]...) // only for the room
	copy(b[at+more:], b[at:at+n])
	copy(b[at-1:], buf[:more+1])
	return b
}

func appendBoolWire(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// appendWrapperWire adds the length and the bytes of a wrapper message that holds v.
func appendWrapperWire(b []byte, v uint64) []byte {
	if v == 0 {
		return append(b, 0)
	}
	b = append(b, 0, 0x08)
	at := len(b) - 1
	b = binary.AppendUvarint(b, v)
	b[at-1] = byte(len(b) - at)
	return b
}

func appendBoolWrapperWire(b []byte, v bool) []byte {
	if !v {
		return append(b, 0)
	}
	return append(b, 2, 0x08, 1)
}

// appendEntryWire adds the length and the bytes of a map entry.
func appendEntryWire(b []byte, e *MapEntry) []byte {
	b = append(b, 0)
	at := len(b)
	b = append(b, 0x0a)
	b = appendStringWire(b, e.Key)
	b = append(b, 0x12)
	b = appendStringWire(b, e.Value)
	return closeLength(b, at)
}

const (
	nsPerSecond   = 1_000_000_000
	secondsPerDay = 86_400
)

// split returns the whole seconds and the nanoseconds after them.
func split(ns int64) (seconds, nanos int64) {
	seconds, nanos = ns/nsPerSecond, ns%nsPerSecond
	if nanos < 0 {
		seconds, nanos = seconds-1, nanos+nsPerSecond
	}
	return seconds, nanos
}

// appendTimeWire adds the length and the bytes of a Timestamp.
func appendTimeWire(b []byte, ns int64) []byte {
	seconds, nanos := split(ns)
	b = append(b, 0)
	at := len(b)
	if seconds != 0 {
		b = append(b, 0x08)
		b = binary.AppendUvarint(b, uint64(seconds))
	}
	if nanos != 0 {
		b = append(b, 0x10)
		b = binary.AppendUvarint(b, uint64(nanos))
	}
	b[at-1] = byte(len(b) - at)
	return b
}

// appendOptTime adds the time of t, whether it is set or not.
func appendOptTime(b []byte, t *OptTime) []byte {
	if t.JSON != nil {
		return append(b, t.JSON...)
	}
	return appendTime(b, t.Ns)
}

// appendTime adds a time in quotes: RFC 3339 in UTC, with 0, 3, 6 or 9 digits after the second.
func appendTime(b []byte, ns int64) []byte {
	seconds, nanos := split(ns)
	return appendFraction(appendSecond(b, seconds), uint32(nanos))
}

// clock writes times like appendTime, and remembers the second of the last one, because most events share it with the
// one before.
type clock struct {
	second int64
	text   []byte // ends with the fraction of the last time
}

// json returns ns in quotes, good until the next call.
func (c *clock) json(ns int64) []byte {
	seconds, nanos := split(ns)
	if seconds != c.second || c.text == nil {
		c.second, c.text = seconds, appendSecond(c.text[:0], seconds)
	}
	c.text = appendFraction(c.text[:len(secondForm)], uint32(nanos))
	return c.text
}

const secondForm = `"0000-00-00T00:00:00`

// appendSecond adds a quote and a time down to its second.
func appendSecond(b []byte, seconds int64) []byte {
	days, c := seconds/secondsPerDay, seconds%secondsPerDay
	if c < 0 {
		days, c = days-1, c+secondsPerDay
	}
	year, month, day := civil(days)
	at := len(b)
	b = append(b, secondForm...)
	t := (*[len(secondForm)]byte)(b[at:])
	put2 := func(i int, n uint32) { t[i], t[i+1] = digits[2*n%200], digits[2*n%200+1] }
	put2(1, year/100) // an int64 of nanoseconds reaches from 1677 to 2262
	put2(3, year%100)
	put2(6, month)
	put2(9, day)
	put2(12, uint32(c)/3600)
	put2(15, uint32(c)/60%60)
	put2(18, uint32(c)%60)
	return b
}

// appendFraction adds what follows the second, and a quote.
func appendFraction(b []byte, nanos uint32) []byte {
	if nanos != 0 {
		b = append3(append(b, '.'), nanos/1_000_000)
		if nanos%1_000_000 != 0 {
			b = append3(b, nanos/1000%1000)
			if nanos%1000 != 0 {
				b = append3(b, nanos%1000)
			}
		}
	}
	return append(b, 'Z', '"')
}

func append3(b []byte, n uint32) []byte {
	return append(b, byte('0'+n/100), digits[n%100*2], digits[n%100*2+1])
}

// digits holds the numbers below 100, two digits each.
const digits = "00010203040506070809" + "10111213141516171819" + "20212223242526272829" + "30313233343536373839" +
	"40414243444546474849" + "50515253545556575859" + "60616263646566676869" + "70717273747576777879" +
	"80818283848586878889" + "90919293949596979899"

// civil turns days since the Unix epoch into a date of the Gregorian calendar, for years after 0. Years are counted from
// March on, so that the leap day is the last of its year.
func civil(days int64) (year, month, day uint32) {
	d := uint32(days + 719_468)                              // since 0000-03-01
	era, doe := d/146_097, d%146_097                         // 400 years, and the day of them
	yoe := (doe - doe/1460 + doe/36_524 - doe/146_096) / 365 // year of the 400
	doy := doe - (365*yoe + yoe/4 - yoe/100)                 // day of the year
	mp := (5*doy + 2) / 153                                  // month, March is 0
	year, month, day = yoe+era*400, mp+3, doy-(153*mp+2)/5+1
	if month > 12 {
		return year + 1, month - 12, day
	}
	return year, month, day
}
