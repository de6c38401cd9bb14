package codec

import (
	"math"
	"strconv"
)

// Reader walks over the values of an array, for example the arguments of a
// Message. Arrays and maps are entered: ArrayLen and MapLen return how many items
// follow, and the next reads return those, nested ones in between as they come.
//
// The first error sticks: from then on every read returns a zero value, and Err
// the error. So a list of reads needs one check at its end. Every read is checked
// against the bytes that are there; a count that is returned never exceeds them,
// so that it may be used to make a slice.
//
// A Reader is a value: a copy reads on from where the original is. It does not
// allocate, but for the error.
type Reader struct {
	b     []byte // all that it was given
	pos   int    // where the next value begins
	left  int    // values still to come at the top level
	inner int    // values still to come in the containers that were entered
	err   *ReadError
}

// NewReader returns a Reader at the first item of the encoded array at the
// beginning of array. What lies behind it is left for Rest. If array is empty,
// there are no items; if it is not an array, the Reader has an error.
func NewReader(array []byte) Reader {
	if len(array) == 0 {
		return Reader{}
	}
	r := NewValueReader(array)
	r.left, r.inner = r.ArrayLen(), 0
	return r
}

// NewValueReader returns a Reader in front of the one value, of any kind, at the
// beginning of value.
func NewValueReader(value []byte) Reader { return Reader{b: value, left: 1} }

// Len returns how many values are left at the top level.
func (r *Reader) Len() int { return r.left }

// Err returns the first error, a *ReadError, or nil.
func (r *Reader) Err() error {
	if r.err == nil {
		return nil
	}
	return r.err
}

// Rest returns all bytes that have not been read, borrowed: the values that are
// left, and what lies behind the array. It is nil after an error.
func (r *Reader) Rest() []byte {
	if r.err != nil {
		return nil
	}
	return cut(r.b, r.pos, len(r.b))
}

// Peek returns the kind of the next value and leaves it there; NoValue if there is
// none or it is malformed, which reading it will tell.
func (r *Reader) Peek() ValueKind {
	if r.err != nil || r.left+r.inner == 0 {
		return NoValue
	}
	h, detail := r.look()
	if detail != "" {
		return NoValue
	}
	return h.kind
}

// Uint64 reads an integer of 0 or more, in any form.
func (r *Reader) Uint64() uint64 {
	h, ok := r.head()
	if !ok || !r.want(h.kind == UintValue, h, "integer of 0 or more") {
		return 0
	}
	r.take(h)
	return h.n
}

// Int64 reads an integer of -2^63..2^63-1, in any form.
func (r *Reader) Int64() int64 {
	h, ok := r.head()
	switch {
	case !ok || !r.want(h.kind == UintValue || h.kind == IntValue, h, "integer"):
		return 0
	case h.kind == UintValue && h.n > math.MaxInt64:
		r.fail("integer of 2^63 or more")
		return 0
	}
	r.take(h)
	return int64(h.n)
}

// Int reads an integer that fits an int.
func (r *Reader) Int() int {
	at := r.pos
	v := r.Int64()
	if int64(int(v)) != v {
		r.failAt(at, "integer of more than "+strconv.Itoa(strconv.IntSize)+" bits")
		return 0
	}
	return int(v)
}

// Bool reads a bool.
func (r *Reader) Bool() bool {
	h, ok := r.head()
	if !ok || !r.want(h.kind == BoolValue, h, "bool") {
		return false
	}
	r.take(h)
	return h.n == 1
}

// Float64 reads a float of either width, or an integer, as which some encoders
// write whole floats. Integers beyond 2^53 lose their last digits.
func (r *Reader) Float64() float64 {
	h, ok := r.head()
	if !ok {
		return 0
	}
	v := 0.0
	switch h.kind {
	case FloatValue:
		v = math.Float64frombits(h.n)
	case UintValue:
		v = float64(h.n)
	case IntValue:
		v = float64(int64(h.n))
	default:
		r.want(false, h, "float")
		return 0
	}
	r.take(h)
	return v
}

// Bytes reads a raw, str or bin value, in any form. The bytes are borrowed; they
// are not nil, even if empty, unless there is an error.
func (r *Reader) Bytes() []byte {
	h, ok := r.head()
	if !ok || !r.want(h.kind == RawValue, h, "string") {
		return nil
	}
	return r.take(h)
}

// String is Bytes, copied. Whether it is UTF-8 is not checked.
func (r *Reader) String() string { return string(r.Bytes()) }

// Ext reads an extension: its type and its data, borrowed. We never send one, and
// C++ runtimes refuse them.
func (r *Reader) Ext() (typ int8, data []byte) {
	h, ok := r.head()
	if !ok || !r.want(h.kind == ExtValue, h, "extension") {
		return 0, nil
	}
	typ = int8(r.b[r.pos+h.size-1])
	return typ, r.take(h)
}

// Nil reads the next value if it is nil, and reports whether it was.
func (r *Reader) Nil() bool {
	if r.Peek() != NilValue {
		return false
	}
	r.take(head{size: 1})
	return true
}

// ArrayLen reads the head of an array and returns how many items it has. They are
// read next.
func (r *Reader) ArrayLen() int {
	h, ok := r.head()
	if !ok || !r.want(h.kind == ArrayValue, h, "array") {
		return 0
	}
	r.take(h)
	return int(h.n)
}

// MapLen reads the head of a map and returns how many pairs it has. They are read
// next, each key before its value, in the order of the sender and with all
// duplicates: a reader that keeps the last of them does what peers do.
func (r *Reader) MapLen() int {
	h, ok := r.head()
	if !ok || !r.want(h.kind == MapValue, h, "map") {
		return 0
	}
	r.take(h)
	return int(h.n)
}

// Skip reads the next value and all that is nested in it. It needs no memory,
// however deep that goes.
func (r *Reader) Skip() {
	for after := r.left + r.inner - 1; ; {
		h, ok := r.head()
		if !ok {
			return
		}
		r.take(h)
		if r.left+r.inner == after {
			return
		}
	}
}

// Raw reads the next value and returns all of it as it lies, borrowed.
func (r *Reader) Raw() []byte {
	from := r.pos
	r.Skip()
	if r.err != nil {
		return nil
	}
	return cut(r.b, from, r.pos)
}

// head returns the head of the next value, or an error if there is none, or less
// of it than the head declares.
func (r *Reader) head() (head, bool) {
	if r.err != nil {
		return head{}, false
	}
	if r.left+r.inner == 0 {
		r.fail("no value left")
		return head{}, false
	}
	h, detail := r.look()
	if detail != "" {
		r.fail(detail)
		return head{}, false
	}
	return h, true
}

// look is the one place where bounds are checked: the value's own bytes and one
// for every other value that is still to come must be there.
func (r *Reader) look() (h head, detail string) {
	h, ok := parseHead(r.b[r.pos:])
	if !ok {
		return h, "cut short"
	}
	body, _ := h.body()
	switch have := uint64(len(r.b) - r.pos - h.size); {
	case h.kind == badValue:
		return h, "reserved byte c1"
	case body > have || body+uint64(r.left+r.inner-1) > have:
		return h, "cut short"
	}
	return h, ""
}

// want fails unless ok.
func (r *Reader) want(ok bool, h head, what string) bool {
	if !ok {
		r.fail(h.kind.String() + ", want " + what)
	}
	return ok
}

// fail notes the first error, at the next value.
func (r *Reader) fail(detail string) { r.failAt(r.pos, detail) }

func (r *Reader) failAt(pos int, detail string) {
	if r.err == nil {
		r.err = &ReadError{Offset: pos, Detail: detail}
	}
}

// take consumes the value of head h, which look has checked, and returns the bytes
// of a string or extension. Of a container it consumes the head.
func (r *Reader) take(h head) []byte {
	if r.inner > 0 {
		r.inner--
	} else {
		r.left--
	}
	body, nested := h.body()
	r.pos += h.size
	if nested {
		r.inner += int(body)
		return nil
	}
	from := r.pos
	r.pos += int(body)
	return cut(r.b, from, r.pos)
}
