package codec

import (
	"encoding/binary"
	"math"
)

// AppendUint appends v in its shortest form: 00..7f, cc, cd, ce or cf.
func AppendUint(dst []byte, v uint64) []byte {
	switch {
	case v < 0x80:
		return append(dst, byte(v))
	case v <= math.MaxUint8:
		return append(dst, 0xcc, byte(v))
	case v <= math.MaxUint16:
		return append(dst, 0xcd, byte(v>>8), byte(v))
	case v <= math.MaxUint32:
		return append(dst, 0xce, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xcf), v)
}

// AppendInt appends v in its shortest form. If it is not negative, that is the
// form of AppendUint, as the C++ runtime writes it; else e0..ff, d0, d1, d2 or d3.
func AppendInt(dst []byte, v int64) []byte {
	switch {
	case v >= 0:
		return AppendUint(dst, uint64(v))
	case v >= -32:
		return append(dst, byte(v))
	case v >= math.MinInt8:
		return append(dst, 0xd0, byte(v))
	case v >= math.MinInt16:
		return append(dst, 0xd1, byte(v>>8), byte(v))
	case v >= math.MinInt32:
		return append(dst, 0xd2, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xd3), uint64(v))
}

// AppendRaw appends b as an old raw value (a0..bf, da or db), the only form of
// bytes and text that every runtime can read. It panics if b is longer than
// 2^32-1 bytes, for which msgpack has no form.
func AppendRaw(dst, b []byte) []byte { return append(appendRawHead(dst, len(b)), b...) }

// AppendString is AppendRaw for a string.
func AppendString(dst []byte, v string) []byte { return append(appendRawHead(dst, len(v)), v...) }

// AppendBool appends v: c2 or c3.
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 0xc3)
	}
	return append(dst, 0xc2)
}

// AppendNil appends c0.
func AppendNil(dst []byte) []byte { return append(dst, 0xc0) }

// AppendFloat64 appends v in 9 bytes: cb.
func AppendFloat64(dst []byte, v float64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, 0xcb), math.Float64bits(v))
}

// AppendFloat32 appends v in 5 bytes: ca.
func AppendFloat32(dst []byte, v float32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, 0xca), math.Float32bits(v))
}

// AppendArrayHeader appends the head of an array whose n items are to follow: 90,
// dc or dd. It panics if n is not in 0..2^32-1.
func AppendArrayHeader(dst []byte, n int) []byte { return appendCount(dst, 0x90, 0xdc, n) }

// AppendMapHeader appends the head of a map whose n keys and values are to follow
// in turns: 80, de or df. It panics if n is not in 0..2^32-1.
func AppendMapHeader(dst []byte, n int) []byte { return appendCount(dst, 0x80, 0xde, n) }

// appendCount appends n as fix (up to 15), or behind wide (16 bits) or wide+1 (32).
func appendCount(dst []byte, fix, wide byte, n int) []byte {
	switch u := length(n); {
	case u < 16:
		return append(dst, fix|byte(u))
	case u <= math.MaxUint16:
		return append(dst, wide, byte(u>>8), byte(u))
	default:
		return binary.BigEndian.AppendUint32(append(dst, wide+1), u)
	}
}

func appendRawHead(dst []byte, n int) []byte {
	switch u := length(n); {
	case u < 32:
		return append(dst, 0xa0|byte(u))
	case u <= math.MaxUint16:
		return append(dst, 0xda, byte(u>>8), byte(u))
	default:
		return binary.BigEndian.AppendUint32(append(dst, 0xdb), u)
	}
}

// length returns n as msgpack can hold it. To send anything else would put the
// peer out of step, so it is a panic.
func length(n int) uint32 {
	if uint64(n) > math.MaxUint32 {
		panic("codec: length not in 0..2^32-1")
	}
	return uint32(n)
}
