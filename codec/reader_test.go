package codec

import (
	"bytes"
	"errors"
	"math"
	"testing"
)

// TestReader walks over one argument of every kind.
func TestReader(t *testing.T) {
	a := Args("text", []byte{0xff}, 7, -7, uint64(math.MaxUint64), true, nil, 1.5, float32(2.5), 3, list{1, list{}, "x"}, "last")
	r := NewReader(append(a.Bytes(), "behind"...))
	if r.Len() != 12 || r.Peek() != RawValue {
		t.Fatalf("Len() = %d, Peek() = %v", r.Len(), r.Peek())
	}
	if s := r.String(); s != "text" {
		t.Errorf("String() = %q", s)
	}
	if b := r.Bytes(); !bytes.Equal(b, []byte{0xff}) || cap(b) != 1 {
		t.Errorf("Bytes() = %x", b)
	}
	if v := r.Int(); v != 7 {
		t.Errorf("Int() = %d", v)
	}
	if v := r.Int64(); v != -7 {
		t.Errorf("Int64() = %d", v)
	}
	if v := r.Uint64(); v != math.MaxUint64 {
		t.Errorf("Uint64() = %d", v)
	}
	if r.Nil() || !r.Bool() || !r.Nil() || r.Nil() {
		t.Error("Nil, Bool")
	}
	if a, b, c := r.Float64(), r.Float64(), r.Float64(); a != 1.5 || b != 2.5 || c != 3 {
		t.Errorf("Float64() = %v, %v, %v", a, b, c)
	}
	if r.Len() != 2 || r.Peek() != ArrayValue {
		t.Errorf("Len() = %d, Peek() = %v", r.Len(), r.Peek())
	}
	if n := r.ArrayLen(); n != 3 || r.Len() != 1 {
		t.Errorf("ArrayLen() = %d, Len() = %d", n, r.Len())
	}
	if v, n, s := r.Int(), r.ArrayLen(), r.String(); v != 1 || n != 0 || s != "x" || r.Len() != 1 {
		t.Errorf("inner: %d, %d, %q, Len() = %d", v, n, s, r.Len())
	}
	if rest := r.Rest(); string(rest) != "\xa4lastbehind" {
		t.Errorf("Rest() = %q", rest)
	}
	if raw := r.Raw(); string(raw) != "\xa4last" || r.Len() != 0 || r.Peek() != NoValue || r.Err() != nil {
		t.Errorf("Raw() = %q, Len() = %d, %v", raw, r.Len(), r.Err())
	}
	if rest := r.Rest(); string(rest) != "behind" {
		t.Errorf("Rest() = %q", rest)
	}
	if v := r.Int(); v != 0 || r.Err() == nil || r.Err().Error() != "value at byte 46: no value left" {
		t.Errorf("one too many: %d, %v", v, r.Err())
	}
	if r.Rest() != nil {
		t.Errorf("Rest() after an error = %q", r.Rest())
	}
}

// TestReaderErrors reads the wrong thing. Nothing is consumed, and the first error
// stays.
func TestReaderErrors(t *testing.T) {
	for _, c := range []struct {
		array string
		read  func(r *Reader)
		want  string
	}{
		{"\x91\xa1x", func(r *Reader) { r.Uint64() }, "value at byte 1: string, want integer of 0 or more"},
		{"\x91\xff", func(r *Reader) { r.Uint64() }, "value at byte 1: negative integer, want integer of 0 or more"},
		{"\x91\xc0", func(r *Reader) { r.Int64() }, "value at byte 1: nil, want integer"},
		{"\x91\xcf\x80\x00\x00\x00\x00\x00\x00\x00", func(r *Reader) { r.Int64() }, "value at byte 1: integer of 2^63 or more"},
		{"\x91\xcb\x00\x00\x00\x00\x00\x00\x00\x00", func(r *Reader) { r.Int() }, "value at byte 1: float, want integer"},
		{"\x91\x01", func(r *Reader) { r.Bool() }, "value at byte 1: integer, want bool"},
		{"\x91\xc3", func(r *Reader) { r.Float64() }, "value at byte 1: bool, want float"},
		{"\x91\x80", func(r *Reader) { r.Bytes() }, "value at byte 1: map, want string"},
		{"\x91\x80", func(r *Reader) { _ = r.String() }, "value at byte 1: map, want string"},
		{"\x91\x80", func(r *Reader) { r.ArrayLen() }, "value at byte 1: map, want array"},
		{"\x91\x90", func(r *Reader) { r.MapLen() }, "value at byte 1: array, want map"},
		{"\x91\x90", func(r *Reader) { r.Ext() }, "value at byte 1: array, want extension"},
		{"\x91\xd4\x01\x02", func(r *Reader) { r.Bytes() }, "value at byte 1: extension, want string"},
		{"\x92\x01\xc1", func(r *Reader) { r.Skip(); r.Raw() }, "value at byte 2: reserved byte c1"},
		{"\x92\x01", func(r *Reader) {}, "value at byte 0: cut short"},
		{"\x92\xa2xy", func(r *Reader) { r.Bytes() }, "value at byte 1: cut short"}, // the second value has no byte left
		{"\x91\xda\x00", func(r *Reader) { r.Bytes() }, "value at byte 1: cut short"},
		{"\x91\x92\x01", func(r *Reader) { r.Skip() }, "value at byte 1: cut short"},
		{"\x91\xdd\xff\xff\xff\xff", func(r *Reader) { r.ArrayLen() }, "value at byte 1: cut short"},
		{"\x91\xdf\xff\xff\xff\xff", func(r *Reader) { r.MapLen() }, "value at byte 1: cut short"},
		{"\x91\xdb\xff\xff\xff\xff", func(r *Reader) { r.Bytes() }, "value at byte 1: cut short"},
		{"\x91\xc9\xff\xff\xff\xff\x01", func(r *Reader) { r.Ext() }, "value at byte 1: cut short"},
		{"\xdd\xff\xff\xff\xff", func(r *Reader) {}, "value at byte 0: cut short"},
		{"\x05", func(r *Reader) {}, "value at byte 0: integer, want array"},
		{"\x90", func(r *Reader) { r.Skip() }, "value at byte 1: no value left"},
		{"", func(r *Reader) { r.Skip() }, "value at byte 0: no value left"},
		{"", func(r *Reader) {}, ""},
	} {
		r := NewReader([]byte(c.array))
		c.read(&r)
		got := ""
		var e *ReadError
		if errors.As(r.Err(), &e) {
			got = e.Error()
		}
		if got != c.want {
			t.Errorf("%x: %q, want %q", c.array, got, c.want)
		}
		if got == "" {
			continue
		}
		r.Skip()
		if r.Peek() != NoValue || r.Nil() || r.Err() != e || r.Uint64() != 0 || r.Float64() != 0 || r.Bytes() != nil || r.ArrayLen() != 0 {
			t.Errorf("%x: reads after the error", c.array)
		}
	}
}

// TestReaderInt reads numbers beyond an int.
func TestReaderInt(t *testing.T) {
	r := NewValueReader(AppendUint(nil, math.MaxUint64))
	if v := r.Int(); v != 0 || r.Err() == nil {
		t.Errorf("Int() = %d, %v", v, r.Err())
	}
	r = NewValueReader(AppendInt(nil, math.MinInt))
	if v := r.Int(); v != math.MinInt || r.Err() != nil {
		t.Errorf("Int() = %d, %v", v, r.Err())
	}
}

// TestReaderCopy: a copy is a second place in the same bytes.
func TestReaderCopy(t *testing.T) {
	r := NewReader(Args(1, 2, 3).Bytes())
	r.Skip()
	second := r
	if r.Int() != 2 || r.Int() != 3 || second.Int() != 2 || second.Len() != 1 || r.Len() != 0 {
		t.Errorf("Len() = %d and %d", r.Len(), second.Len())
	}
}

// TestSkipDeep: Skip needs neither stack nor memory for what a Scanner would refuse.
func TestSkipDeep(t *testing.T) {
	b := append(bytes.Repeat([]byte{0x91}, 1<<20), 0xc0)
	r := NewValueReader(append(b, 0x05))
	if raw := r.Raw(); len(raw) != len(b) || r.Err() != nil || len(r.Rest()) != 1 {
		t.Errorf("Raw() = %d bytes, %v", len(raw), r.Err())
	}
	r = NewValueReader(b[:1<<20])
	if r.Skip(); r.Err() == nil {
		t.Error("no error for an array without its item")
	}
}
