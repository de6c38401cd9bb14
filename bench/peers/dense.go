package main

import "encoding/binary"

// denseEcho reads [4, session, [raw]] and nothing else: what Cocaine's frames cost a
// server that has sessions and handlers, but no limits, no types, no state, no errors.
type denseEcho struct {
	n        uint64
	out      []byte
	sessions []*denseSession // direct-mapped by number
}

type denseSession struct {
	id      uint64
	onChunk func(c *denseEcho, s *denseSession, p []byte)
}

func newDenseEcho() echoState { return &denseEcho{sessions: make([]*denseSession, 1024)} }

//go:noinline
func onDenseChunk(c *denseEcho, s *denseSession, p []byte) {
	c.n++
	switch p[0] {
	case markSink:
	case markCount:
		c.out = binary.BigEndian.AppendUint64(c.out, c.n)
	default:
		c.out = denseWire.chunk(c.out, s.id, p)
	}
}

func (c *denseEcho) feed(buf []byte) int {
	off := 0
	for {
		f := buf[off:]
		if len(f) < 4 {
			return off
		}
		if f[0] != 0x93 || f[1] != 4 || f[2] >= 0x80 || f[3] != 0x91 {
			panic("not the one shape that this server knows")
		}
		from, to, err := rawAt(f, 4)
		if err != nil {
			panic(err)
		}
		if from == 0 || to > len(f) {
			return off
		}
		id := uint64(f[2])
		s := c.sessions[id&1023]
		if s == nil || s.id != id {
			s = &denseSession{id, onDenseChunk}
			c.sessions[id&1023] = s
		}
		s.onChunk(c, s, f[from:to:to])
		off += to
	}
}

func (c *denseEcho) replies() []byte {
	out := c.out
	c.out = c.out[:0]
	return out
}
