package codec

import "fmt"

// reference is a second decoder of frames, written to be obviously right: it is
// recursive, takes one byte after the other, keeps no place, and shares no code
// with the Scanner. It stops by panicking with a verdict.
type reference struct {
	b        []byte
	pos      int
	limits   Limits // with defaults
	elements int    // declared so far
	least    int    // bytes that the frame must have
}

// verdict is what a decoder says to the bytes at the beginning of a buffer: a frame
// of n bytes, or an error, or (with neither) that there must be more.
type verdict struct {
	n    int
	m    Message
	code Code
	at   int
}

func (v verdict) String() string {
	switch {
	case v.code != 0:
		return fmt.Sprintf("%v at %d", v.code, v.at)
	case v.n == 0:
		return "incomplete"
	}
	return fmt.Sprintf("frame of %d: %+v", v.n, v.m)
}

// referenceNext decodes the frame at the beginning of b.
func referenceNext(d Dialect, l Limits, b []byte) (v verdict) {
	r := &reference{b: b, limits: l.WithDefaults(), least: 1}
	defer func() {
		switch stop := recover().(type) {
		case nil:
		case verdict:
			v = stop
		default:
			panic(stop)
		}
	}()
	return r.frame(d)
}

func (r *reference) fail(at int, c Code) { panic(verdict{code: c, at: at}) }

// byte takes the next byte.
func (r *reference) byte() byte {
	if r.pos == len(r.b) {
		panic(verdict{})
	}
	r.pos++
	return r.b[r.pos-1]
}

// big takes a big-endian number of n bytes.
func (r *reference) big(n int) (v uint64) {
	for range n {
		v = v<<8 + uint64(r.byte())
	}
	return v
}

// grow says that the value at position at needs that many bytes more than one.
func (r *reference) grow(at int, more uint64) {
	if more > uint64(r.limits.MaxFrameBytes-r.least) {
		r.fail(at, CodeTooLarge)
	}
	r.least += int(more)
}

func (r *reference) frame(d Dialect) verdict {
	if len(r.b) > 0 && (r.b[0] < 0x90 || r.b[0] > 0x9f) && r.b[0] != 0xdc && r.b[0] != 0xdd {
		r.fail(0, CodeBadFrame)
	}
	n := r.count(r.byte())
	if n < 3 {
		r.fail(0, CodeBadFrame)
	}
	r.container(0, n, 1, false)
	var m Message
	for i := range n {
		at := r.pos
		switch {
		case i == 0 && d == V0 || i == 1 && d == V1:
			m.Type = r.number(CodeBadType, 1<<32-1)
		case i <= 1:
			m.Session = r.number(CodeBadSession, 1<<64-1)
		case i == 2:
			r.arguments(&m)
		case i == 3 && d == V1:
			r.headers(&m)
		default:
			r.value(2)
			m.Extra++
		}
		if r.pos == at {
			panic("no progress")
		}
	}
	return verdict{n: r.pos, m: m}
}

// number takes an integer of 0..most.
func (r *reference) number(c Code, most uint64) uint64 {
	at := r.pos
	first := r.byte()
	r.pos = at
	if first >= 0x80 && (first < 0xcc || first > 0xd3) {
		// The Scanner tells once it has the whole head.
		r.head()
		r.fail(at, c)
	}
	n := r.head()
	signed := first >= 0xd0 && first <= 0xd3
	if signed && n>>(8<<(first-0xd0)-1) != 0 || n > most {
		r.fail(at, c)
	}
	r.grow(at, uint64(r.pos-at-1))
	return n
}

func (r *reference) arguments(m *Message) {
	at := r.pos
	first := r.byte()
	if !isArray(first) {
		r.pos = at
		r.head()
		r.fail(at, CodeBadFrame)
	}
	n := r.count(first)
	r.container(at, n, 2, false)
	m.NumArgs = int(n)
	for i := range n {
		from, raw := r.value(3)
		if i == 0 && raw {
			m.Payload = r.b[from:r.pos]
		}
	}
	m.Args = r.b[at:r.pos]
}

func (r *reference) headers(m *Message) {
	at := r.pos
	first := r.byte()
	if first == 0xc0 {
		return
	}
	if !isArray(first) {
		r.pos = at
		r.head()
		r.fail(at, CodeBadHeader)
	}
	n := r.count(first)
	r.container(at, n, 2, false)
	for range n {
		r.value(3)
	}
	if n > 0 {
		m.Headers = r.b[at:r.pos]
	}
}

func isArray(first byte) bool { return first&0xf0 == 0x90 || first == 0xdc || first == 0xdd }

// count takes the rest of the head of an array or map.
func (r *reference) count(first byte) uint64 {
	switch first {
	case 0xdc, 0xde:
		return r.big(2)
	case 0xdd, 0xdf:
		return r.big(4)
	}
	return uint64(first & 0x0f)
}

// container checks an array or map at the given depth, whose head was just taken.
func (r *reference) container(at int, n uint64, depth int, isMap bool) {
	if isMap {
		n *= 2
	}
	tooMany := n > uint64(r.limits.MaxElements-r.elements)
	tooLarge := n+uint64(r.pos-at-1) > uint64(r.limits.MaxFrameBytes-r.least)
	switch {
	case depth > r.limits.MaxDepth:
		r.fail(at, CodeTooDeep)
	case isMap && tooLarge:
		r.fail(at, CodeTooLarge)
	case tooMany:
		r.fail(at, CodeTooManyItems)
	}
	r.elements += int(n)
	r.grow(at, n+uint64(r.pos-at-1))
}

// head takes the head of any value and returns its number, if it has one.
func (r *reference) head() uint64 {
	switch first := r.byte(); first {
	case 0xc4, 0xc7, 0xd9, 0xcc, 0xd0:
		n := r.big(1)
		if first == 0xc7 {
			r.byte()
		}
		return n
	case 0xc5, 0xc8, 0xda, 0xcd, 0xd1, 0xdc, 0xde:
		n := r.big(2)
		if first == 0xc8 {
			r.byte()
		}
		return n
	case 0xc6, 0xc9, 0xdb, 0xce, 0xd2, 0xca, 0xdd, 0xdf:
		n := r.big(4)
		if first == 0xc9 {
			r.byte()
		}
		return n
	case 0xcf, 0xd3, 0xcb:
		return r.big(8)
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8:
		r.byte()
		return 1 << (first - 0xd4)
	default:
		return uint64(first)
	}
}

// value takes any value at the given depth. If it is a string, it returns true and
// where its bytes begin.
func (r *reference) value(depth int) (from int, raw bool) {
	at := r.pos
	first := r.byte()
	r.pos = at
	n := r.head()
	switch {
	case first == 0xc1:
		r.fail(at, CodeBadMsgpack)
	case first&0xf0 == 0x80, first == 0xde, first == 0xdf:
		if first&0xf0 == 0x80 {
			n &= 0x0f
		}
		r.container(at, n, depth, true)
		for range 2 * n {
			r.value(depth + 1)
		}
	case isArray(first):
		if first&0xf0 == 0x90 {
			n &= 0x0f
		}
		r.container(at, n, depth, false)
		for range n {
			r.value(depth + 1)
		}
	case first&0xe0 == 0xa0:
		return r.data(at, n&0x1f), true
	case first >= 0xc4 && first <= 0xc6, first >= 0xd9 && first <= 0xdb:
		return r.data(at, n), true
	case first >= 0xc7 && first <= 0xc9, first >= 0xd4 && first <= 0xd8:
		r.data(at, n)
	default:
		r.grow(at, uint64(r.pos-at-1))
	}
	return 0, false
}

// data takes the n bytes of a string or extension whose head was just taken.
func (r *reference) data(at int, n uint64) int {
	if n > uint64(r.limits.MaxPayloadBytes) {
		r.fail(at, CodeTooLarge)
	}
	r.grow(at, n+uint64(r.pos-at-1))
	from := r.pos
	if n > uint64(len(r.b)-r.pos) {
		panic(verdict{})
	}
	r.pos += int(n)
	return from
}
