package codec

import "encoding/binary"

// Scanner finds the frames of one direction of one connection. It holds no bytes
// itself: the caller keeps those of an incomplete frame and comes back with more.
//
// Its zero value is not ready: use NewScanner, or Init on one that is part of
// something else.
type Scanner struct {
	// set by Init and SetLimits
	dialect     Dialect
	plainLimit  uint // largest frame that may be taken for plain; 0 if the limits forbid it
	maxDepth    int
	maxPayload  uint64
	maxFrame    uint64
	maxElements uint64

	offset int64       // of the current frame in the stream
	whole  int         // size of the incomplete frame, at least
	have   int         // bytes of it that there were
	err    *FrameError // the end of the stream

	plainMax uint // plainLimit between frames; 0 in the middle of one, and after an error
	frame    progress
	// left[d] is how many values are still to come in the open container at depth
	// d+1. The frame itself is left[0].
	left [DefaultMaxDepth]uint32
}

// NewScanner returns a Scanner at the beginning of a stream.
func NewScanner(d Dialect, l Limits) *Scanner {
	s := new(Scanner)
	s.Init(d, l)
	return s
}

// Init puts s at the beginning of a stream, whatever it did before.
func (s *Scanner) Init(d Dialect, l Limits) {
	*s = Scanner{dialect: d}
	s.SetLimits(l)
}

// SetLimits changes the limits for what is still to be scanned. It is meant for
// the time between two frames: tight limits before the handshake, real ones after.
func (s *Scanner) SetLimits(l Limits) {
	l = l.WithDefaults()
	s.maxPayload = uint64(l.MaxPayloadBytes)
	s.maxFrame = uint64(l.MaxFrameBytes)
	s.maxElements = uint64(l.MaxElements)
	s.maxDepth = l.MaxDepth
	s.plainLimit = 0
	if l.MaxElements >= plainElements && l.MaxDepth >= plainDepth {
		s.plainLimit = uint(min(l.MaxPayloadBytes, l.MaxFrameBytes))
	}
	if s.frame.pos == 0 && s.err == nil {
		s.plainMax = s.plainLimit
	}
}

// Offset returns how many bytes of the stream the frames took so far: where the
// current frame, or else the next one, begins.
func (s *Scanner) Offset() int64 { return s.offset }

// Need returns, after Next found an incomplete frame, how many bytes are missing
// at least (1 or more). It follows from declared sizes that are within the limits,
// so that a buffer may be made for that many.
func (s *Scanner) Need() int { return max(s.whole-s.have, 1) }

// Next looks for one frame at the beginning of buf.
//
// If it returns n > 0, m is filled and the frame is buf[:n]; the next call starts
// with buf[n:]. If it returns 0 and no error, the frame is not whole: call again
// with the same bytes and more behind them, at the same address or another. The
// scanner keeps its place, so that all calls together do work in proportion to the
// bytes, however these arrive. An error is a *FrameError; it is final, and every
// later call returns it again. In both these cases m holds nothing of use.
func (s *Scanner) Next(buf []byte, m *Message) (n int, err error) {
	// All that is not of the shape, not whole or not within the limits is left to
	// general, which begins anew: nothing is decided here that it would decide
	// otherwise.
	if len(buf) < plainWindow {
		return s.general(buf, m)
	}
	// The first 8 bytes are taken as one number, less 0x93, so that one comparison
	// tells the shape, and the lowest bit whether there is a fourth element.
	lead := binary.LittleEndian.Uint64(buf) - 0x93
	var args []byte // and all that follows
	if s.dialect == V0 {
		m.Type = lead >> 8 & 0xff
		m.Session, args = plainV0(lead, buf)
	} else if m.Session, args = plainV1(lead, buf); len(args) > 0 {
		m.Type = uint64(args[0])
		args = args[1:]
	}
	if len(args) < plainWindow-7 {
		return s.general(buf, m)
	}
	if args[0] == 0x90 {
		return s.plainRest(buf, args, 0, 1, m)
	}
	var from, end uint // of the payload; end also of the arguments
	switch c := args[1]; {
	case c&0xe0 == 0xa0:
		from = 2
		end = from + uint(c&0x1f)
	case c == 0xda || c == 0xc5:
		from = 4
		end = from + (uint(args[2])<<8 | uint(args[3]))
	case c == 0xc4 || c == 0xd9:
		from = 3
		end = from + uint(args[2])
	default:
		return s.general(buf, m)
	}
	size := uint(len(buf)-len(args)) + end + uint(lead&1)
	if size > s.plainMax || end > uint(len(args)) {
		return s.general(buf, m)
	}
	if lead&1 != 0 && (end >= uint(len(args)) || args[end] != 0x90) {
		return s.plainRest(buf, args, from, end, m)
	}
	s.offset += int64(size)
	payload := args[from:end:end]
	m.NumArgs = 1
	m.Extra = 0
	m.Args = args[:end:end]
	m.Payload = payload
	m.Headers = nil
	return int(size), nil
}

// general is Next for frames of any shape.
func (s *Scanner) general(buf []byte, m *Message) (n int, err error) {
	s.have = len(buf)
	switch {
	case s.err != nil:
		return 0, s.err
	case len(buf) < s.frame.until:
		return 0, nil
	case s.scan(buf):
		return s.finish(buf, m), nil
	case s.err != nil:
		return 0, s.err
	}
	return 0, nil
}
