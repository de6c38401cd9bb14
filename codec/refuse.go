package codec

import "strconv"

// fail ends the stream at the value that comes next.
func (s *Scanner) fail(c Code, detail string) bool {
	s.err = &FrameError{Offset: s.offset + int64(s.frame.pos), Code: c, Detail: detail}
	s.plainMax = 0
	return false
}

func (s *Scanner) failLarge(what string, have, limit uint64) bool {
	return s.fail(CodeTooLarge, what+strconv.FormatUint(have, 10)+" bytes, limit "+strconv.FormatUint(limit, 10))
}

func (s *Scanner) failMany(items uint64) bool {
	have := strconv.FormatUint(s.frame.elements+items, 10)
	return s.fail(CodeTooManyItems, have+" values in one frame, limit "+strconv.FormatUint(s.maxElements, 10))
}

// notArray says what came in place of a frame. Only the first bytes of a stream
// are taken for another protocol's.
func notArray(buf []byte, kind ValueKind, first bool) string {
	if first {
		for _, known := range strangers {
			n := min(len(buf), len(known.prefix))
			if string(buf[:n]) == known.prefix[:n] {
				return "looks like " + known.name
			}
		}
	}
	return kind.String() + ", want array"
}

// strangers is what comes to the wrong port most often.
var strangers = [...]struct{ prefix, name string }{
	{"\x16\x03", "a TLS ClientHello"},
	{"GET ", "HTTP"},
	{"POST ", "HTTP"},
	{"PUT ", "HTTP"},
	{"HEAD ", "HTTP"},
	{"DELETE ", "HTTP"},
	{"OPTIONS ", "HTTP"},
	{"PATCH ", "HTTP"},
	{"CONNECT ", "HTTP"},
	{"PRI * ", "HTTP"},
	{"HTTP/", "HTTP"},
}
