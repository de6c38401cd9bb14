package session_test

import (
	"net"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/internal/invariants"
	"github.com/sluice-rpc/sluice/session"
)

// BenchmarkForward is a 64-byte echo of a client through a runtime to a worker and back,
// over TCP; all three in this process, each with a loop of its own.
func BenchmarkForward(b *testing.B) {
	c := newChain(b, codec.V1, func() (net.Conn, net.Conn) { return sockets(b, "tcp") },
		func(s *session.Session) { s.SetHandler(&echoLoop{}) }, oneLoop(b))
	s := c.open(b)
	p := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Write(p); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Recv(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// A chunk that is forwarded is copied once and allocates nothing. (Over a socket pair,
// since a local pair's timers allocate.)
func TestForwardAllocs(t *testing.T) {
	if invariants.Race {
		t.Skip("allocations are counted without the race detector")
	}
	c := newChain(t, codec.V1, func() (net.Conn, net.Conn) { return sockets(t, "tcp") },
		func(s *session.Session) { s.SetHandler(&echoLoop{}) }, oneLoop(t))
	s := c.open(t)
	p := make([]byte, 64)
	echo := func() {
		if _, err := s.Write(p); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		echo()
	}
	if n := testing.AllocsPerRun(500, echo); n > 0 {
		t.Errorf("an echo through the runtime: %v allocations, want 0", n)
	}
}
