package channel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/internal/invariants"
	"github.com/valyala/bytebufferpool"
)

// sendGivenUp (C4): the ctx's end is the sender's at once, and nothing of the frame is
// sent.
func sendGivenUp(t *testing.T) {
	overVirtual(t, func(t *testing.T, m medium) {
		m = m.scripted(t, "a>b capacity=100")
		s, w := m.faced(t, Config{HighWaterBytes: 1000, StallTimeout: -1})
		n := s.fill(100)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		takes(t, "giving up", 3*time.Second, func() {
			if err := s.SendOffLoop(ctx, chunk(1, 999, 100)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("SendOffLoop() = %v, want the ctx's error", err)
			}
		})
		takes(t, "giving up with a ctx that is over", 0, func() {
			if err := s.SendOffLoop(ctx, chunk(1, 999, 100)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("SendOffLoop() = %v, want the ctx's error", err)
			}
		})
		w.positions(n - 1)
		synctest.Wait()
		if err := s.SendOffLoop(ctx, chunk(1, n, 100)); err != nil { // room beats a ctx that is over
			t.Errorf("SendOffLoop() with room = %v", err)
		}
		w.between(n, n)
		s.end()
	})
}

// writeFails (C5): OnClose once, later sends refused, and no call of the transport
// behind its end; fake notices those.
func writeFails(t *testing.T) {
	for _, failing := range []error{syscall.EPIPE, syscall.ECONNRESET, syscall.EIO, syscall.ETIMEDOUT} {
		synctest.Test(t, func(t *testing.T) {
			f, s := newFake(t, Config{}, nil)
			f.room = 1000
			for range 100 {
				if err := f.Send(chunk(1, 0, 900)); err != nil {
					t.Fatal(err)
				}
			}
			f.turn()
			f.err = failing
			f.writable()
			f.turn()
			for range 10 {
				var ce *CloseError
				if err := f.Send(chunk(1, 0, 8)); !errors.As(err, &ce) {
					t.Errorf("Send() behind the error = %v, want the CloseError", err)
				}
				if err := f.SendOffLoop(t.Context(), chunk(1, 0, 8)); !errors.As(err, &ce) {
					t.Errorf("SendOffLoop() behind the error = %v, want the CloseError", err)
				}
				_ = f.SendHeartbeat()
				f.turn()
			}
			f.inputEnded(io.EOF)
			f.turn()
			use(s)
			f.turn()
			err := f.Err()
			if s.closes.Load() != 1 || !f.gone || err == nil {
				t.Fatalf("%d OnClose, closed: %v", s.closes.Load(), f.gone)
			}
			want := CodeIO
			if failing == syscall.EPIPE || failing == syscall.ECONNRESET {
				want = CodeReset
			}
			accepted := 100 * len(codec.AppendFrame(nil, codec.V0, chunk(1, 0, 900)))
			if err.Code != want || err.Errno != failing || err.Undelivered != int64(accepted-1000) {
				t.Errorf("%+v, want %v with %v and %d undelivered", err, want, failing, accepted-1000)
			}
		})
	}
}

// keptBytes (C8) is TestPoison, in a build with the tag invariants.
func keptBytes(t *testing.T) {
	if !invariants.Enabled {
		t.Skip("bytes are poisoned in builds with the tag invariants only")
	}
	f, s := newFake(t, Config{}, nil)
	var kept []byte
	s.onMessage = func(m *codec.Message, _ []codec.Header) { kept = m.Payload }
	f.feed(codec.AppendFrame(nil, codec.V0, chunk(1, 0, 100)))
	if !bytes.Equal(kept, bytes.Repeat([]byte{invariants.PoisonByte}, 100)) {
		t.Errorf("what was kept is % x", kept)
	}
}

// bufferTwice (C9): the end gives the buffers back, once; nobody gets one that is
// another's.
func bufferTwice(t *testing.T) {
	f, _ := newFake(t, Config{}, nil)
	f.room = 0
	_ = f.Send(chunk(1, 0, 100))
	_ = f.SendOffLoop(t.Context(), chunk(1, 0, 100))
	f.turn()
	f.Fail(&CloseError{Code: CodeClosed})
	f.turn()
	f.o.release(f.loop)
	seen := map[*bytebufferpool.ByteBuffer]bool{}
	for range 100 {
		b := f.loop.buffers.get()
		if seen[b] {
			t.Fatal("the pool gives one buffer to two")
		}
		seen[b] = true
	}
}

// bufferLarge (C10): a large buffer is not pooled.
func bufferLarge(t *testing.T) {
	f, _ := newFake(t, Config{HighWaterBytes: -1}, nil)
	f.keep = false
	_ = f.Send(chunk(1, 0, 16<<20))
	f.turn()
	_ = f.SendOffLoop(t.Context(), chunk(1, 0, 16<<20))
	f.turn()
	if f.o.out != nil || f.o.pend != nil {
		t.Error("an empty channel keeps its buffers")
	}
	for range 100 {
		if b := f.loop.buffers.get(); cap(b.B) > keepBuffer {
			t.Fatalf("the pool has a buffer of %d bytes", cap(b.B))
		}
	}
}

// smallItems (C16): a frame of a million empty maps is held as the bytes that it is.
func smallItems(t *testing.T) {
	const size = 1 << 20
	p := append([]byte{0x93, 4, 1, 0xdd, 0, size >> 16, 0, 0}, bytes.Repeat([]byte{0x80}, size)...)
	f, s := newFake(t, Config{Limits: codec.Limits{MaxElements: -1}}, nil)
	f.feed(codec.AppendFrame(nil, codec.V0, chunk(1, 0, 8))) // the read buffer is there
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	s.onMessage = func(*codec.Message, []codec.Header) {
		if now := heap(); now > before+4*size { // decoded, each map would have 48 bytes
			t.Errorf("%d bytes of heap are held for a frame of %d", now-before, size)
		}
	}
	for piece := range slices.Chunk(p, 1448) {
		f.feed(piece)
	}
	if n := s.messages.Load(); n != 2 {
		t.Errorf("%d messages, want 2: %v", n, f.broken)
	}
	runtime.KeepAlive(p)
	f.stopTimers()
}

// emptyAndHuge (C17): an empty chunk is one, once; what no peer may take is refused.
func emptyAndHuge(t *testing.T) {
	size := int64(1)<<31 + 1
	huge := make([]byte, size) // nobody touches it, so it is no memory
	over(t, func(t *testing.T, m medium) {
		s, w := m.faced(t, Config{})
		for _, p := range [][]byte{nil, {}} {
			if err := s.SendOffLoop(t.Context(), &codec.Frame{Kind: codec.KindChunk, Session: 5, Payload: p}); err != nil {
				t.Fatal(err)
			}
			if m := w.mustNext(); m.Session != 5 || m.Payload == nil || len(m.Payload) != 0 {
				t.Errorf("session %d with payload %v, want 5 with an empty one", m.Session, m.Payload)
			}
		}
		if err := s.SendOffLoop(t.Context(), &codec.Frame{Kind: codec.KindChunk, Payload: huge}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("SendOffLoop() of 2 GiB = %v, want ErrTooLarge", err)
		}
		s.end()
	})
}
