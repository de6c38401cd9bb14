package codec

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// AppendJSON appends m as one JSON object, for people to read:
//
//	{"session":2,"type":0,"args":["data"],"headers":[[false,"name","value"]]}
//
// The headers are those of the frame as they lie, not looked up in a table, and
// only in V1. For values see AppendJSONValue.
func AppendJSON(dst []byte, m *Message, d Dialect) []byte {
	dst = strconv.AppendUint(append(dst, `{"session":`...), m.Session, 10)
	dst = strconv.AppendUint(append(dst, `,"type":`...), m.Type, 10)
	dst = appendJSONArray(append(dst, `,"args":`...), m.Args)
	if d != V0 {
		dst = appendJSONArray(append(dst, `,"headers":`...), m.Headers)
	}
	return append(dst, '}')
}

// AppendJSONValue appends the msgpack value at the beginning of value as JSON. The
// result is always valid JSON, whatever value is, but not always enough to get the
// value back:
//
//	raw, str, bin   a string if it is UTF-8, else {"hex":"00ff"}
//	NaN, ±Inf       "NaN", "Infinity", "-Infinity"
//	timestamp       "2006-01-02T15:04:05.999999999Z"
//	other ext       "ext:5:00ff": type, data
//	map key         as a string; that of bytes, arrays, maps and ext is "hex:9101"
//	deep container  {"hex":"91c0"}, beyond 32 levels
//	malformed       {"error":"value at byte 5: cut short"}, and nothing behind it
func AppendJSONValue(dst, value []byte) []byte {
	r := NewValueReader(value)
	return appendJSON(dst, &r, DefaultMaxDepth)
}

// appendJSONArray appends an argument or header array, nil for the empty one.
func appendJSONArray(dst, array []byte) []byte {
	if len(array) == 0 {
		return append(dst, "[]"...)
	}
	return AppendJSONValue(dst, array)
}

// appendJSON reads one value of at most depth nested containers.
func appendJSON(dst []byte, r *Reader, depth int) []byte {
	switch kind := r.Peek(); kind {
	case NilValue:
		r.Nil()
		return append(dst, "null"...)
	case BoolValue:
		return strconv.AppendBool(dst, r.Bool())
	case UintValue:
		return strconv.AppendUint(dst, r.Uint64(), 10)
	case IntValue:
		return strconv.AppendInt(dst, r.Int64(), 10)
	case FloatValue:
		return appendJSONFloat(dst, r.Float64())
	case RawValue:
		b := r.Bytes()
		if !utf8.Valid(b) {
			return appendJSONHex(dst, b)
		}
		return appendQuoted(dst, b)
	case ExtValue:
		return appendJSONExt(dst, r)
	case ArrayValue, MapValue:
		switch {
		case depth == 0:
			return appendJSONHex(dst, r.Raw())
		case kind == ArrayValue:
			return appendJSONItems(dst, r, depth-1)
		}
		return appendJSONPairs(dst, r, depth-1)
	}
	r.Skip() // for the error
	return append(appendJSONError(append(dst, '{'), r), '}')
}

// appendJSONItems reads an array.
func appendJSONItems(dst []byte, r *Reader, depth int) []byte {
	dst = append(dst, '[')
	for i, n := 0, r.ArrayLen(); i < n && r.err == nil; i++ {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendJSON(dst, r, depth)
	}
	return append(dst, ']')
}

// appendJSONPairs reads a map.
func appendJSONPairs(dst []byte, r *Reader, depth int) []byte {
	dst = append(dst, '{')
	for i, n := 0, r.MapLen(); i < n && r.err == nil; i++ {
		if i > 0 {
			dst = append(dst, ',')
		}
		if r.Peek() == NoValue {
			r.Skip() // for the error
			dst = appendJSONError(dst, r)
			break
		}
		dst = append(appendJSONKey(dst, r), ':')
		dst = appendJSON(dst, r, depth)
	}
	return append(dst, '}')
}

// appendJSONKey reads the key of a pair, which is there, and appends a string.
func appendJSONKey(dst []byte, r *Reader) []byte {
	from := len(dst)
	switch r.Peek() {
	case RawValue:
		b := r.Bytes()
		if !utf8.Valid(b) {
			return appendTagged(dst, "hex:", b)
		}
		return appendQuoted(dst, b)
	case ArrayValue, MapValue, ExtValue:
		return appendTagged(dst, "hex:", r.Raw())
	}
	dst = appendJSON(append(dst, '"'), r, 0)
	if dst[from+1] == '"' { // NaN and the like have their quotes
		return append(dst[:from], dst[from+1:]...)
	}
	return append(dst, '"')
}

// appendJSONFloat appends v as a number if JSON has one for it.
func appendJSONFloat(dst []byte, v float64) []byte {
	switch {
	case math.IsNaN(v):
		return append(dst, `"NaN"`...)
	case math.IsInf(v, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(v, -1):
		return append(dst, `"-Infinity"`...)
	}
	return strconv.AppendFloat(dst, v, 'g', -1, 64)
}

// appendJSONExt reads an extension.
func appendJSONExt(dst []byte, r *Reader) []byte {
	typ, data := r.Ext()
	if t, ok := timestamp(typ, data); ok {
		return append(t.AppendFormat(append(dst, '"'), time.RFC3339Nano), '"')
	}
	return appendTagged(dst, "ext:"+strconv.Itoa(int(typ))+":", data)
}

// timestamp returns the time that an extension stands for, if it is a timestamp
// that can be written with four digits for the year.
func timestamp(typ int8, data []byte) (time.Time, bool) {
	var sec int64
	var nsec uint32
	switch {
	case typ != -1:
		return time.Time{}, false
	case len(data) == 4:
		sec = int64(binary.BigEndian.Uint32(data))
	case len(data) == 8:
		both := binary.BigEndian.Uint64(data)
		sec, nsec = int64(both&(1<<34-1)), uint32(both>>34)
	case len(data) == 12:
		nsec, sec = binary.BigEndian.Uint32(data), int64(binary.BigEndian.Uint64(data[4:]))
	default:
		return time.Time{}, false
	}
	const year0, year10000 = -62167219200, 253402300800
	if sec < year0 || sec >= year10000 || nsec >= 1e9 {
		return time.Time{}, false
	}
	return time.Unix(sec, int64(nsec)).UTC(), true
}

// appendJSONHex appends bytes that are no text.
func appendJSONHex(dst, b []byte) []byte {
	return append(appendTagged(append(dst, `{"hex":`...), "", b), '}')
}

// appendJSONError appends the error of r as a member of an object.
func appendJSONError(dst []byte, r *Reader) []byte {
	return appendQuoted(append(dst, `"error":`...), []byte(r.err.Error()))
}

// appendTagged appends a string of tag, which needs no quoting, and b in hex.
func appendTagged(dst []byte, tag string, b []byte) []byte {
	dst = append(append(dst, '"'), tag...)
	return append(hex.AppendEncode(dst, b), '"')
}

// appendQuoted appends UTF-8 as a JSON string.
func appendQuoted(dst, text []byte) []byte {
	dst = append(dst, '"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c < 0x20 || c == 0x7f:
			dst = append(dst, `\u00`...)
			dst = hex.AppendEncode(dst, []byte{c})
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
