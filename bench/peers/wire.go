package main

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sluice-rpc/sluice/codec"
)

// The first byte of a payload says what the server does with it.
const (
	markEcho  = 0x01 // anything but the following: answer with the same frame
	markSink  = 0xFE // count it
	markCount = 0xFF // answer with the connection's count, 8 bytes, big-endian
)

// A wire is how a client and its server frame payloads.
type wire struct {
	dialect codec.Dialect
	first   uint64 // number of the first session; 0 if there are none
	greets  int    // frames that the server sends by itself to begin with
	bare    bool   // the count comes as 8 bytes without a frame around
	loose   bool   // sessions pass each other on their way, so a count is near the truth only

	// open appends the frame that opens a session; nil if sessions need none.
	open func(dst []byte, session uint64) []byte
	// chunk appends a frame with payload p.
	chunk func(dst []byte, session uint64, p []byte) []byte
	// next looks for a frame of the server at the beginning of buf; size is 0 if it is
	// not whole.
	next func(buf []byte) (answer, error)
}

// answer is a frame of the server. payload is nil if it is not for a session: a
// handshake, a heartbeat.
type answer struct {
	session uint64
	payload []byte
	size    int
}

var (
	// prefixWire is the harness's own: 4 bytes of length, big-endian, and the payload.
	// There are no sessions.
	prefixWire = wire{bare: true, chunk: appendPrefixed, next: nextPrefixed}

	// v0Wire and v1Wire are Cocaine as an engine speaks it to a worker: invoke first,
	// then chunks. The worker begins with handshake and heartbeat.
	v0Wire = cocaine(codec.V0, 5, 2)
	v1Wire = cocaine(codec.V1, 2, 2)

	// tableWire goes to a bare session table, which neither greets nor beats.
	tableWire = cocaine(codec.V0, 5, 0)
	// denseWire goes to a toy that takes no more than chunks.
	denseWire = func() wire {
		w := tableWire
		w.open, w.bare = nil, true
		return w
	}()
)

// session returns the number of the i-th session.
func (w *wire) session(i int) uint64 {
	if w.first == 0 {
		return 0
	}
	return w.first + uint64(i)
}

// event is the name that sessions are invoked by.
const event = "bench"

// cocaine returns the wire of a dialect. What we send comes from our codec, which is
// held to the protocol by tests of its own; what we receive is read by the few lines
// below, so that no mistake can cancel itself out.
func cocaine(d codec.Dialect, first uint64, greets int) wire {
	w := wire{
		dialect: d, first: first, greets: greets, next: nextV0,
		open: func(dst []byte, session uint64) []byte {
			return codec.AppendFrame(dst, d, &codec.Frame{Kind: codec.KindInvoke, Session: session, Text: event})
		},
		chunk: func(dst []byte, session uint64, p []byte) []byte {
			return codec.AppendFrame(dst, d, &codec.Frame{Kind: codec.KindChunk, Session: session, Payload: p})
		},
	}
	if d == codec.V1 {
		w.next = nextV1
	}
	return w
}

func appendPrefixed(dst []byte, _ uint64, p []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(p))), p...)
}

func nextPrefixed(buf []byte) (answer, error) {
	if len(buf) < 4 {
		return answer{}, nil
	}
	size := 4 + int(binary.BigEndian.Uint32(buf))
	if len(buf) < size {
		return answer{}, nil
	}
	return answer{payload: buf[4:size], size: size}, nil
}

// nextV0 reads [type, session, args]: a chunk, or a handshake or heartbeat on session 0.
func nextV0(buf []byte) (answer, error) {
	typ, session, pos, err := frameHead(buf, 0x93)
	if err != nil || pos == 0 {
		return answer{}, err
	}
	if chunk := typ == codec.V0Chunk; !chunk && (session != 0 || typ > codec.V0Heartbeat) {
		return answer{}, fmt.Errorf("the server sent type %d on session %d", typ, session)
	}
	return frameRest(buf, pos, 0, session)
}

// nextV1 reads [session, type, args, []]: a write, or what comes on the control session.
func nextV1(buf []byte) (answer, error) {
	session, typ, pos, err := frameHead(buf, 0x94)
	if err != nil || pos == 0 {
		return answer{}, err
	}
	if typ != codec.V1Write {
		return answer{}, fmt.Errorf("the server sent type %d on session %d", typ, session)
	}
	if session == codec.V1ControlSession {
		session = 0
	}
	return frameRest(buf, pos, 1, session)
}

// frameHead reads a frame's array and its first two elements; pos is 0 if they are not
// whole, else where the arguments begin.
func frameHead(buf []byte, array byte) (a, b uint64, pos int, err error) {
	if len(buf) == 0 {
		return 0, 0, 0, nil
	}
	if buf[0] != array {
		return 0, 0, 0, fmt.Errorf("a frame of the server begins with %#x", buf[0])
	}
	pos = 1
	for _, v := range [...]*uint64{&a, &b} {
		if pos >= len(buf) {
			return 0, 0, 0, nil
		}
		if buf[pos] >= 0x80 {
			return 0, 0, 0, errors.New("a number above 127, which no session of ours has")
		}
		*v = uint64(buf[pos])
		pos++
	}
	return a, b, pos, nil
}

// frameRest reads arguments of at most one string, in the old raw forms that v0 peers
// can read, and a tail of empty headers.
func frameRest(buf []byte, pos, tail int, session uint64) (answer, error) {
	if pos >= len(buf) {
		return answer{}, nil
	}
	from, to := pos+1, pos+1
	if buf[pos] == 0x91 {
		var err error
		if from, to, err = rawAt(buf, pos+1); err != nil || from == 0 {
			return answer{}, err
		}
	} else if buf[pos] != 0x90 {
		return answer{}, fmt.Errorf("arguments that begin with %#x", buf[pos])
	}
	if to+tail > len(buf) {
		return answer{}, nil
	}
	if tail == 1 && buf[to] != 0x90 {
		return answer{}, fmt.Errorf("headers that begin with %#x", buf[to])
	}
	a := answer{session: session, size: to + tail}
	if session != 0 {
		a.payload = buf[from:to]
	}
	return a, nil
}

// rawAt returns where the string at pos has its bytes; from is 0 if its head is not
// whole.
func rawAt(buf []byte, pos int) (from, to int, err error) {
	rest := buf[pos:]
	switch {
	case len(rest) == 0:
		return 0, 0, nil
	case rest[0]&0xe0 == 0xa0:
		return pos + 1, pos + 1 + int(rest[0]&0x1f), nil
	case rest[0] == 0xda && len(rest) >= 3:
		return pos + 3, pos + 3 + int(binary.BigEndian.Uint16(rest[1:])), nil
	case rest[0] == 0xdb && len(rest) >= 5:
		return pos + 5, pos + 5 + int(binary.BigEndian.Uint32(rest[1:])), nil
	case rest[0] == 0xda, rest[0] == 0xdb:
		return 0, 0, nil
	}
	return 0, 0, fmt.Errorf("a string that begins with %#x, which v0 peers cannot read", rest[0])
}
