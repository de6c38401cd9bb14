package session

import (
	"context"
	"testing"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/internal/invariants"
)

// newServed is newStill with one session, which its peer has opened.
func newServed(t testing.TB, h Handler) (s *Session, peer *channel.End, onLoop func(f func())) {
	t.Helper()
	o, peer, onLoop := newStill(t, codec.V1)
	got := make(chan *Session, 1)
	o.inv = func(s *Session) { s.SetHandler(h); got <- s }
	b := codec.AppendFrame(nil, codec.V1, &codec.Frame{Kind: codec.KindInvoke, Session: 2, Text: "e"})
	if _, err := peer.Write(b); err != nil {
		t.Fatal(err)
	}
	return <-got, peer, onLoop
}

// TestOverflowAllocs: a chunk that finds no room costs no allocation, whatever becomes of
// it; in the queue it takes the place of the one that is dropped for it.
func TestOverflowAllocs(t *testing.T) {
	if invariants.Race {
		t.Skip("the race detector allocates")
	}
	for _, p := range []Policy{Park, Refuse, DropNewest, DropOldest} {
		s, _, onLoop := newServed(t, &still{})
		s.SetOverflow(Overflow{Policy: p, MaxChunks: 10})
		chunk := make([]byte, 1000)
		var want error
		if p == Park || p == Refuse {
			want = channel.ErrFull
		}
		onLoop(func() {
			s.t.pause.full = true
			send := func() {
				if err := s.SendChunk(chunk); err != want {
					t.Errorf("%v: SendChunk() = %v, want %v", p, err, want)
				}
			}
			for range 20 {
				send()
			}
			if got := testing.AllocsPerRun(1000, send); got != 0 {
				t.Errorf("%v: SendChunk() without room makes %v allocations, want 0", p, got)
			}
			s.t.writable()
			want = nil
			if got := testing.AllocsPerRun(100, send); got != 0 {
				t.Errorf("%v: SendChunk() with room makes %v allocations, want 0", p, got)
			}
		})
	}
}

// TestTryRecvAllocs: polling costs no allocation, whether there is something or not.
func TestTryRecvAllocs(t *testing.T) {
	if invariants.Race {
		t.Skip("the race detector allocates")
	}
	s, peer, _ := newServed(t, nil)
	frame := codec.AppendFrame(nil, codec.V1, &codec.Frame{Kind: codec.KindChunk, Session: 2, Payload: make([]byte, 1000)})
	const runs = 2000
	go func() {
		for range 2*runs + 2 {
			_, _ = peer.Write(frame)
		}
	}()
	poll := func() {
		for {
			_, ok, err := s.TryRecv()
			if err != nil {
				t.Error(err)
			}
			if ok || err != nil {
				return
			}
		}
	}
	for range runs {
		poll()
	}
	if got := testing.AllocsPerRun(runs, poll); got != 0 {
		t.Errorf("TryRecv() makes %v allocations, want 0", got)
	}
	_, _ = s.Recv(context.Background())
}

// BenchmarkOverflow is a chunk on the loop that finds no room.
func BenchmarkOverflow(b *testing.B) {
	for _, p := range []Policy{Refuse, DropNewest, DropOldest} {
		b.Run(p.String(), func(b *testing.B) {
			s, _, onLoop := newServed(b, &still{})
			s.SetOverflow(Overflow{Policy: p})
			chunk := make([]byte, 100)
			b.ReportAllocs()
			onLoop(func() {
				s.t.pause.full = true
				for b.Loop() {
					_ = s.SendChunk(chunk)
				}
				s.t.writable()
			})
		})
	}
}
