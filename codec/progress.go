package codec

import (
	"math"
	"strconv"
)

// progress is how far the scan of one frame has come. Positions are relative to
// the frame's first byte. The zero value is the beginning.
type progress struct {
	pos      int    // where the next value begins
	until    int    // where it ends, as far as is known; nothing can be said before
	least    uint64 // size of the frame if every value still to come takes one byte
	elements uint64 // values declared so far
	depth    int    // open containers
	index    int    // of the frame's element that is being scanned

	session, typ uint64
	total        int  // elements of the frame
	numArgs      int  // items of the argument array
	firstArg     int  // where the first argument begins; 0 if there is none
	args         span // the argument array
	payload      span // the bytes of the first argument; 0 if that is no string
	headers      span // the header array; 0 if there are none
}

// span is a part of the frame.
type span struct{ from, to int }

// The elements of a frame.
const (
	argsElement    = 2
	headersElement = 3
)

// scan carries the scan of the frame on. It returns false if the frame is not
// whole (wait was the last word) or bad (fail was).
func (s *Scanner) scan(buf []byte) bool {
	if s.frame.pos == 0 && !s.begin(buf) {
		return false
	}
	for s.frame.depth > 0 {
		var ok bool
		if s.frame.depth == 1 {
			ok = s.element(buf)
		} else {
			ok = s.nested(buf)
		}
		if !ok {
			return false
		}
		if s.frame.depth <= 1 {
			s.endElement()
		}
	}
	return true
}

// begin reads the head of the frame's own array.
func (s *Scanner) begin(buf []byte) bool {
	s.frame.least = 1
	h, ok := parseHead(buf)
	switch {
	case len(buf) > 0 && h.kind != ArrayValue:
		return s.fail(CodeBadFrame, notArray(buf, h.kind, s.offset == 0))
	case !ok:
		return s.wait(h.size, 0)
	case h.n < 3:
		return s.fail(CodeBadFrame, "array of "+strconv.FormatUint(h.n, 10)+" elements, want 3 or more")
	}
	s.frame.total = int(h.n)
	return s.open(h)
}

// element reads one element of the frame, or the head of it.
func (s *Scanner) element(buf []byte) bool {
	h, ok := parseHead(buf[s.frame.pos:])
	if !ok {
		return s.wait(h.size, 0)
	}
	switch s.frame.index {
	case 0, 1:
		return s.number(h)
	case argsElement:
		if h.kind != ArrayValue {
			return s.fail(CodeBadFrame, "arguments: "+h.kind.String()+", want array")
		}
		s.frame.args.from = s.frame.pos
		s.frame.numArgs = int(h.n)
		if h.n > 0 {
			s.frame.firstArg = s.frame.pos + h.size
		}
	case headersElement:
		if s.dialect == V0 {
			break
		}
		if h.kind != ArrayValue && h.kind != NilValue {
			return s.fail(CodeBadHeader, "headers: "+h.kind.String()+", want array")
		}
		if h.n > 0 {
			s.frame.headers.from = s.frame.pos
		}
	}
	return s.value(buf, h)
}

// number takes in the session or the type.
func (s *Scanner) number(h head) bool {
	session := (s.frame.index == 0) == (s.dialect != V0)
	switch {
	case session && h.kind != UintValue:
		return s.fail(CodeBadSession, "session: "+h.kind.String()+", want integer of 0 or more")
	case session:
		s.frame.session = h.n
	case h.kind != UintValue:
		return s.fail(CodeBadType, "message type: "+h.kind.String()+", want integer of 0 or more")
	case h.n > math.MaxUint32:
		return s.fail(CodeBadType, "message type of more than 32 bits")
	default:
		s.frame.typ = h.n
	}
	return s.scalar(h)
}

// nested reads values until the frame's current element is over.
func (s *Scanner) nested(buf []byte) bool {
	for s.frame.depth > 1 {
		h, ok := parseHead(buf[s.frame.pos:])
		if !ok {
			return s.wait(h.size, 0)
		}
		if !s.value(buf, h) {
			return false
		}
	}
	return true
}

// value takes in one value whose head is h, or the head of a container.
func (s *Scanner) value(buf []byte, h head) bool {
	switch h.kind {
	case ArrayValue, MapValue:
		s.left[s.frame.depth-1]--
		return s.open(h)
	case RawValue, ExtValue:
		return s.bytes(buf, h)
	case badValue:
		return s.fail(CodeBadMsgpack, h.kind.String())
	}
	return s.scalar(h)
}

// scalar takes in a value that is all head.
func (s *Scanner) scalar(h head) bool {
	least := s.frame.least + uint64(h.size) - 1
	if least > s.maxFrame {
		return s.failLarge("frame of at least ", least, s.maxFrame)
	}
	s.frame.least = least
	s.frame.pos += h.size
	s.left[s.frame.depth-1]--
	s.unwind()
	return true
}

// bytes takes in a string or extension, as soon as all of it is there.
func (s *Scanner) bytes(buf []byte, h head) bool {
	if h.n > s.maxPayload {
		return s.failLarge(h.kind.String()+" of ", h.n, s.maxPayload)
	}
	least := s.frame.least + uint64(h.size) - 1 + h.n
	if least > s.maxFrame {
		return s.failLarge("frame of at least ", least, s.maxFrame)
	}
	from := s.frame.pos + h.size
	if uint64(len(buf)) < uint64(from)+h.n {
		return s.wait(h.size, int(h.n))
	}
	if s.frame.pos == s.frame.firstArg && h.kind == RawValue {
		s.frame.payload = span{from, from + int(h.n)}
	}
	s.frame.least = least
	s.frame.pos = from + int(h.n)
	s.left[s.frame.depth-1]--
	s.unwind()
	return true
}

// open goes into an array or map, unless it is empty. What declares more than both
// limits allow is too many items if it is an array, and too large if it is a map.
func (s *Scanner) open(h head) bool {
	items, _ := h.body()
	least := s.frame.least + uint64(h.size) - 1 + items
	tooMany := s.frame.elements+items > s.maxElements
	tooLarge := least > s.maxFrame
	switch {
	case s.frame.depth >= s.maxDepth:
		return s.fail(CodeTooDeep, "containers nested deeper than "+strconv.Itoa(s.maxDepth))
	case tooMany && !(h.kind == MapValue && tooLarge):
		return s.failMany(items)
	case tooLarge:
		return s.failLarge("frame of at least ", least, s.maxFrame)
	}
	s.frame.elements += items
	s.frame.least = least
	s.frame.pos += h.size
	s.left[s.frame.depth] = uint32(items)
	s.frame.depth++
	s.unwind()
	return true
}

// unwind leaves the containers that are over.
func (s *Scanner) unwind() {
	for s.frame.depth > 0 && s.left[s.frame.depth-1] == 0 {
		s.frame.depth--
	}
}

// endElement notes where the frame's element ended, and goes on to the next.
func (s *Scanner) endElement() {
	switch s.frame.index {
	case argsElement:
		s.frame.args.to = s.frame.pos
	case headersElement:
		s.frame.headers.to = s.frame.pos
	}
	s.frame.index++
}

// finish fills m from a whole frame and returns its size.
func (s *Scanner) finish(buf []byte, m *Message) int {
	f := &s.frame
	known := 3
	if s.dialect != V0 {
		known = 4
	}
	m.Session = f.session
	m.Type = f.typ
	m.Args = cut(buf, f.args.from, f.args.to)
	m.NumArgs = f.numArgs
	m.Payload = nil
	if f.payload.from > 0 {
		m.Payload = cut(buf, f.payload.from, f.payload.to)
	}
	m.Headers = nil
	if f.headers.from > 0 {
		m.Headers = cut(buf, f.headers.from, f.headers.to)
	}
	m.Extra = max(f.total-known, 0)
	n := f.pos
	s.offset += int64(n)
	s.frame = progress{}
	s.plainMax = s.plainLimit
	return n
}

// wait notes that the next value needs more bytes: so many of its head, and of its
// data, which is within the limits.
func (s *Scanner) wait(head, data int) bool {
	s.frame.until = s.frame.pos + head + data
	s.whole = int(min(s.frame.least+uint64(head-1+data), math.MaxInt))
	if s.frame.pos > 0 {
		s.plainMax = 0
	}
	return false
}
