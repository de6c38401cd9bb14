package worker_test

import (
	"context"
	"io"
	"log/slog"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/internal/invariants"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

// caller invokes an event over and over from the engine's loop, a few at a time, with
// one chunk each.
type caller struct {
	p     *peer
	event string
	chunk []byte
	left  int // to be opened
	open  int
	done  chan struct{}
}

func (c *caller) next() {
	for c.left > 0 && c.open < 16 {
		c.left--
		c.open++
		s, err := c.p.t.Open(c.event, nil, c)
		if err != nil {
			panic(err)
		}
		if c.chunk != nil {
			_ = s.SendChunk(c.chunk)
		}
		_ = s.SendChoke()
	}
	if c.open == 0 {
		close(c.done)
	}
}

func (c *caller) OnChunk(*session.Session, []byte)             {}
func (c *caller) OnError(_ *session.Session, e *session.Error) { panic(e) }
func (c *caller) OnChoke(*session.Session) {
	c.open--
	c.next()
}

func benchmarkInvoke(b *testing.B, event string, chunk []byte) {
	_, p := serve(b, worker.Config{}, codec.V1, nil)
	c := &caller{p: p, event: event, chunk: chunk, left: b.N, done: make(chan struct{})}
	b.ReportAllocs()
	b.ResetTimer()
	p.t.Channel().Post(c.next)
	<-c.done
	b.StopTimer()
}

// A whole session that is served on the loop: invoke, chunk, two chokes.
func BenchmarkInvokePing(b *testing.B) { benchmarkInvoke(b, "ping", nil) }

// A whole session that is served in a goroutine, with one chunk each way.
func BenchmarkInvokeEcho(b *testing.B) { benchmarkInvoke(b, "echo", make([]byte, 64)) }

// raw is an engine that writes bytes and reads as many, without allocating.
func raw(t testing.TB, event string) (roundTrip func(frame, buf []byte)) {
	t.Helper()
	a, conn := sockets(t)
	w, err := worker.New(worker.Config{
		UUID: uuid, Dialect: codec.V1, Conn: a, Heartbeat: -1, Disown: -1, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	register(w)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(context.Background()) }()
	t.Cleanup(func() {
		w.Close()
		<-ended
		_ = conn.Close()
	})
	hello := len(encode(codec.V1, codec.Frame{Kind: codec.KindHandshake, Text: uuid})) + len(encode(codec.V1, codec.Frame{Kind: codec.KindHeartbeat}))
	if _, err := io.ReadFull(conn, make([]byte, hello)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(encode(codec.V1, codec.Frame{Kind: codec.KindInvoke, Session: 2, Text: event})); err != nil {
		t.Fatal(err)
	}
	return func(frame, buf []byte) {
		if _, err := conn.Write(frame); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(conn, buf); err != nil {
			t.Error(err)
		}
	}
}

// A burst of chunks there and back on one session, by both faces.
func BenchmarkChunkEcho(b *testing.B) {
	const burst = 64
	var frames []byte
	for range burst {
		frames = codec.AppendFrame(frames, codec.V1, &codec.Frame{Kind: codec.KindChunk, Session: 2, Payload: make([]byte, 64)})
	}
	for _, face := range []struct{ name, event string }{{"loop", "loop"}, {"goroutine", "echo"}} {
		b.Run(face.name, func(b *testing.B) {
			roundTrip := raw(b, face.event)
			buf := make([]byte, len(frames))
			b.ReportAllocs()
			b.SetBytes(64)
			b.ResetTimer()
			for i := 0; i < b.N; i += burst {
				roundTrip(frames, buf)
			}
		})
	}
}

// wantAllocs wants f to allocate at most so often.
func wantAllocs(t *testing.T, most float64, f func()) {
	t.Helper()
	if invariants.Race {
		t.Skip("the race detector allocates")
	}
	if n := testing.AllocsPerRun(2000, f); n > most {
		t.Errorf("%v allocations, want at most %v", n, most)
	}
}

// A chunk that is served on the loop costs no allocation, from the read to the write.
func TestChunkAllocs(t *testing.T) {
	roundTrip := raw(t, "loop")
	frame := encode(codec.V1, codec.Frame{Kind: codec.KindChunk, Session: 2, Payload: make([]byte, 64)})
	buf := make([]byte, len(frame))
	wantAllocs(t, 0, func() { roundTrip(frame, buf) })
}

// A whole session on the loop costs the session, its name and what serves it.
func TestInvokeAllocs(t *testing.T) {
	roundTrip := raw(t, "loop")
	id := uint64(1 << 20) // of one length for as long as the test takes
	answer := func(dst []byte) []byte {
		dst = codec.AppendFrame(dst, codec.V1, &codec.Frame{Kind: codec.KindChunk, Session: id, Payload: []byte("pong")})
		return codec.AppendFrame(dst, codec.V1, &codec.Frame{Kind: codec.KindChoke, Session: id})
	}
	buf, frames := answer(nil), make([]byte, 0, 256)
	wantAllocs(t, 4, func() {
		id++
		frames = codec.AppendFrame(frames[:0], codec.V1, &codec.Frame{Kind: codec.KindInvoke, Session: id, Text: "ping"})
		frames = codec.AppendFrame(frames, codec.V1, &codec.Frame{Kind: codec.KindChoke, Session: id})
		roundTrip(frames, buf)
	})
}
