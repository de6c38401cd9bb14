package channel

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// wire is a peer without a channel: bytes out, frames in.
type wire struct {
	net.Conn
	t       testing.TB
	dialect codec.Dialect
	scan    *codec.Scanner
	buf     []byte
	err     error
}

func newWire(t testing.TB, conn net.Conn, d codec.Dialect) *wire {
	t.Cleanup(func() { _ = conn.Close() })
	if _, virtual := conn.(*End); !virtual {
		_ = conn.SetDeadline(time.Now().Add(patience)) // a bubble finds out by itself
	}
	return &wire{Conn: conn, t: t, dialect: d, scan: codec.NewScanner(d, codec.Limits{MaxPayloadBytes: -1})}
}

// frames encodes frames for the peer.
func (w *wire) frames(list ...*codec.Frame) []byte {
	var p []byte
	for _, f := range list {
		p = codec.AppendFrame(p, w.dialect, f)
	}
	return p
}

// put writes p.
func (w *wire) put(p []byte) {
	w.t.Helper()
	if _, err := w.Write(p); err != nil {
		w.t.Fatalf("the wire's Write() = %v", err)
	}
}

// next reads one frame, or returns why there is none.
func (w *wire) next() (*codec.Message, error) {
	var m codec.Message
	for {
		n, err := w.scan.Next(w.buf, &m)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			own := m.Clone()
			w.buf = w.buf[n:]
			return &own, nil
		}
		if w.err != nil {
			if len(w.buf) > 0 && w.err == io.EOF {
				return nil, io.ErrUnexpectedEOF
			}
			return nil, w.err
		}
		if cap(w.buf)-len(w.buf) < 64<<10 {
			w.buf = append(make([]byte, 0, 2*len(w.buf)+128<<10), w.buf...)
		}
		var got int
		got, w.err = w.Read(w.buf[len(w.buf):cap(w.buf)])
		w.buf = w.buf[:len(w.buf)+got]
	}
}

// mustNext reads one frame.
func (w *wire) mustNext() *codec.Message {
	w.t.Helper()
	m, err := w.next()
	if err != nil {
		w.t.Fatalf("the wire's next frame: %v", err)
	}
	return m
}

// rest reads all frames up to the end.
func (w *wire) rest() (list []*codec.Message, err error) {
	for {
		m, err := w.next()
		if err != nil {
			return list, err
		}
		list = append(list, m)
	}
}

// chunk is a frame of n bytes of payload that begin with a number.
func chunk(session uint64, number int, n int) *codec.Frame {
	p := make([]byte, max(n, 8))
	binary.BigEndian.PutUint64(p, uint64(number))
	rest := p[8:]
	for i := range min(len(rest), 256) {
		rest[i] = byte(i + number)
	}
	for n := 256; n < len(rest); n *= 2 {
		copy(rest[n:], rest[:n])
	}
	return &codec.Frame{Kind: codec.KindChunk, Session: session, Payload: p}
}

// number returns what chunk was given.
func number(payload []byte) int {
	if len(payload) < 8 {
		return -1
	}
	return int(binary.BigEndian.Uint64(payload))
}

// whole reports whether payload is as chunk made it.
func whole(payload []byte) bool {
	return len(payload) >= 8 && bytes.Equal(payload, chunk(0, number(payload), len(payload)).Payload)
}

// beat is a heartbeat as the peer sees it.
func beat(m *codec.Message, d codec.Dialect) bool {
	if d == codec.V0 {
		return m.Session == 0 && m.Type == codec.V0Heartbeat
	}
	return m.Session == codec.V1ControlSession && m.Type == codec.V1Heartbeat && m.NumArgs == 0
}
