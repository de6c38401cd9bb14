package main

import "encoding/binary"

// echoState is what a bare server keeps of one connection. feed takes the whole frames
// at the beginning of buf, puts what they are answered with into out, and returns how
// many bytes it took.
type echoState interface {
	feed(buf []byte) (n int)
	replies() []byte // since the last call of it
}

// prefixEcho is the least that a server can do for its frames: it is what the other
// servers of the comparison are measured by, so it must not change.
type prefixEcho struct {
	n       uint64
	out     []byte
	onFrame func(s *prefixEcho, frame []byte) // called through a pointer, as handlers are
}

func newPrefixEcho() echoState { return &prefixEcho{onFrame: onPrefixFrame} }

//go:noinline
func onPrefixFrame(s *prefixEcho, frame []byte) {
	s.n++
	switch frame[4] {
	case markSink:
	case markCount:
		s.out = binary.BigEndian.AppendUint64(s.out, s.n)
	default:
		s.out = append(s.out, frame...)
	}
}

func (s *prefixEcho) feed(buf []byte) int {
	off := 0
	for len(buf)-off >= 4 {
		n := int(binary.BigEndian.Uint32(buf[off:])) + 4
		if len(buf)-off < n {
			break
		}
		s.onFrame(s, buf[off:off+n:off+n])
		off += n
	}
	return off
}

func (s *prefixEcho) replies() []byte {
	out := s.out
	s.out = s.out[:0]
	return out
}
