package codec

import (
	"encoding/binary"
	"math"
	"strconv"
)

// ValueKind is what a msgpack value is, whatever form it is written in.
type ValueKind uint8

// The kinds of values.
const (
	NoValue ValueKind = iota // nothing is left to read, or an error came before
	NilValue
	BoolValue
	UintValue  // an integer >= 0, in any signed or unsigned form
	IntValue   // an integer < 0
	FloatValue // of 32 or 64 bits
	RawValue   // raw, str and bin: peers do not tell them apart
	ArrayValue
	MapValue
	ExtValue // of any type, timestamps included
	badValue // the byte c1, which msgpack reserves
)

var valueKindNames = [...]string{
	NoValue:    "nothing",
	NilValue:   "nil",
	BoolValue:  "bool",
	UintValue:  "integer",
	IntValue:   "negative integer",
	FloatValue: "float",
	RawValue:   "string",
	ArrayValue: "array",
	MapValue:   "map",
	ExtValue:   "extension",
	badValue:   "reserved byte c1",
}

// String returns the kind in words, for example "negative integer".
func (k ValueKind) String() string {
	if int(k) >= len(valueKindNames) {
		return "ValueKind(" + strconv.Itoa(int(k)) + ")"
	}
	return valueKindNames[k]
}

// head is the beginning of a value: all of it that comes before the bytes of a
// string or extension, or before the items of a container. Of the other kinds it
// is the whole value.
type head struct {
	kind ValueKind
	size int    // bytes of the head itself, with the type byte of an extension
	n    uint64 // bytes of a string or extension, items of an array, pairs of a map, the bits of a number or bool
}

// body returns the least number of bytes behind the head that belong to the value,
// and reports whether they are nested values (of one byte or more each).
func (h head) body() (n uint64, nested bool) {
	switch h.kind {
	case RawValue, ExtValue:
		return h.n, false
	case ArrayValue:
		return h.n, true
	case MapValue:
		return 2 * h.n, true // n < 2^32
	}
	return 0, false
}

// form is how a first byte of c0..df is to be read: a big-endian number of width
// bytes follows it.
type form struct {
	kind  ValueKind
	width uint8
	size  uint8 // of the whole head
}

// forms is indexed by the first byte less c0.
var forms = [32]form{
	{NilValue, 0, 1}, {badValue, 0, 1}, {BoolValue, 0, 1}, {BoolValue, 0, 1},
	{RawValue, 1, 2}, {RawValue, 2, 3}, {RawValue, 4, 5}, // bin
	{ExtValue, 1, 3}, {ExtValue, 2, 4}, {ExtValue, 4, 6},
	{FloatValue, 4, 5}, {FloatValue, 8, 9},
	{UintValue, 1, 2}, {UintValue, 2, 3}, {UintValue, 4, 5}, {UintValue, 8, 9},
	{IntValue, 1, 2}, {IntValue, 2, 3}, {IntValue, 4, 5}, {IntValue, 8, 9},
	{ExtValue, 0, 2}, {ExtValue, 0, 2}, {ExtValue, 0, 2}, {ExtValue, 0, 2}, {ExtValue, 0, 2}, // fixext
	{RawValue, 1, 2}, {RawValue, 2, 3}, {RawValue, 4, 5}, // str8, raw or str
	{ArrayValue, 2, 3}, {ArrayValue, 4, 5},
	{MapValue, 2, 3}, {MapValue, 4, 5},
}

// parseHead reads the head at the beginning of b. It is the only place that reads
// one. It returns false if b is too short, with the size that is wanted, and a
// kind that counts only if b is not empty and no integer begins it.
func parseHead(b []byte) (head, bool) {
	if len(b) == 0 {
		return head{size: 1}, false
	}
	c := b[0]
	switch {
	case c < 0x80:
		return head{UintValue, 1, uint64(c)}, true
	case c < 0x90:
		return head{MapValue, 1, uint64(c & 0x0f)}, true
	case c < 0xa0:
		return head{ArrayValue, 1, uint64(c & 0x0f)}, true
	case c < 0xc0:
		return head{RawValue, 1, uint64(c & 0x1f)}, true
	case c >= 0xe0:
		return head{IntValue, 1, uint64(int64(int8(c)))}, true
	}
	f := forms[c-0xc0]
	h := head{kind: f.kind, size: int(f.size)}
	if len(b) < h.size {
		return h, false
	}
	h.n = bigEndian(b[1:], f.width)
	switch f.kind {
	case BoolValue:
		h.n = uint64(c & 1)
	case FloatValue:
		if f.width == 4 {
			h.n = math.Float64bits(float64(math.Float32frombits(uint32(h.n))))
		}
	case IntValue:
		unused := 64 - 8*f.width
		h.n = uint64(int64(h.n<<unused) >> unused)
		if int64(h.n) >= 0 {
			h.kind = UintValue
		}
	case ExtValue:
		if f.width == 0 {
			h.n = 1 << (c - 0xd4)
		}
	}
	return h, true
}

// bigEndian reads a number of width bytes, which b holds.
func bigEndian(b []byte, width uint8) uint64 {
	switch width {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.BigEndian.Uint16(b))
	case 4:
		return uint64(binary.BigEndian.Uint32(b))
	case 8:
		return binary.BigEndian.Uint64(b)
	}
	return 0
}
