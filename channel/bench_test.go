package channel

import (
	"context"
	"fmt"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
)

// echo is two channels of which one sends back what it is sent.
type echo struct {
	ctx   context.Context
	a, b  *Channel
	frame *codec.Frame
	back  chan struct{} // a value for each chunk that came back
}

// caller is the asking end of an echo.
type caller struct{ back chan struct{} }

func (caller) OnOpen(*Channel)                            {}
func (c caller) OnMessage(*codec.Message, []codec.Header) { c.back <- struct{}{} }
func (caller) OnWritable()                                {}
func (caller) OnClose(*CloseError)                        {}

// mirror is the answering end.
type mirror struct {
	c     *Channel
	frame codec.Frame
}

func (h *mirror) OnOpen(c *Channel) { h.c, h.frame.Kind = c, codec.KindChunk }
func (h *mirror) OnMessage(m *codec.Message, _ []codec.Header) {
	h.frame.Session, h.frame.Payload = m.Session, m.Payload
	_ = h.c.Send(&h.frame)
}
func (h *mirror) OnWritable()         {}
func (h *mirror) OnClose(*CloseError) {}

func newEcho(t testing.TB, m medium, size int) *echo {
	t.Helper()
	e := &echo{ctx: context.Background(), frame: &codec.Frame{Kind: codec.KindChunk, Session: 300, Payload: make([]byte, size)}}
	e.back = make(chan struct{}, 1024)
	var err error
	if e.a, err = New(m.config(Config{Dialect: codec.V1}), caller{e.back}); err != nil {
		t.Fatal(err)
	}
	if e.b, err = New(m.config(Config{Dialect: codec.V1}), &mirror{}); err != nil {
		t.Fatal(err)
	}
	x, y := m.join(t)
	if err := e.a.Attach(x); err != nil {
		t.Fatal(err)
	}
	if err := e.b.Attach(y); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *echo) stop() {
	_ = e.a.Close(context.Background())
	_ = e.b.Close(context.Background())
}

// BenchmarkEcho is a round trip with a caller on another goroutine: one in flight, and
// 64.
func BenchmarkEcho(b *testing.B) {
	for _, m := range media {
		for _, inFlight := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d", m.name, inFlight), func(b *testing.B) {
				e := newEcho(b, m, 64)
				b.ReportAllocs()
				for range inFlight {
					if err := e.a.SendOffLoop(e.ctx, e.frame); err != nil {
						b.Fatal(err)
					}
				}
				for b.Loop() {
					<-e.back
					if err := e.a.SendOffLoop(e.ctx, e.frame); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				e.stop()
			})
		}
	}
}

// BenchmarkDispatchChunk64 is what a received frame costs: a 64 KiB buffer of chunks of
// 64 bytes, scanned and handed out. Time and allocations are per frame.
func BenchmarkDispatchChunk64(b *testing.B) {
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		b.Run(d.String(), func(b *testing.B) {
			f, _ := newFake(b, Config{Dialect: d}, nil)
			f.h = &counter{}
			var p []byte
			frames := 0
			for ; len(p) < 64<<10; frames++ {
				p = codec.AppendFrame(p, d, &codec.Frame{Kind: codec.KindChunk, Session: 300, Payload: make([]byte, 64)})
			}
			b.SetBytes(int64(len(p) / frames))
			b.ReportAllocs()
			for n := b.N; n > 0; n -= frames {
				copy(f.readSpace(), p)
				f.gotInput(len(p))
				f.l.endTurn()
			}
		})
	}
}

// counter is a handler that does nothing much.
type counter struct{ n int }

func (h *counter) OnOpen(*Channel)                          {}
func (h *counter) OnMessage(*codec.Message, []codec.Header) { h.n++ }
func (h *counter) OnWritable()                              {}
func (h *counter) OnClose(*CloseError)                      {}

// BenchmarkSendChunk64 is what a frame costs that the loop sends, 64 to a turn, its
// share of the write without the system call.
func BenchmarkSendChunk64(b *testing.B) {
	f, _ := newFake(b, Config{Dialect: codec.V1}, nil)
	f.keep = false
	frame := &codec.Frame{Kind: codec.KindChunk, Session: 300, Payload: make([]byte, 64)}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if err := f.Send(frame); err != nil {
			b.Fatal(err)
		}
		if n++; n%64 == 0 {
			f.turn()
		}
	}
}

// BenchmarkSendOffLoop is what a frame costs its sender on another goroutine, many of
// them at once, over a local pair whose other end takes everything.
func BenchmarkSendOffLoop(b *testing.B) {
	x, y := Pair(Script{})
	c, err := New(Config{Dialect: codec.V1}, &counter{})
	if err != nil {
		b.Fatal(err)
	}
	peer, err := New(Config{Dialect: codec.V1}, &counter{})
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Attach(x); err != nil {
		b.Fatal(err)
	}
	if err := peer.Attach(y); err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		frame := &codec.Frame{Kind: codec.KindChunk, Session: 300, Payload: make([]byte, 64)}
		for pb.Next() {
			if err := c.SendOffLoop(ctx, frame); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	s := c.Stats()
	b.ReportMetric(float64(s.FramesOut)/float64(max(s.Writes, 1)), "frames/write")
	_ = c.Close(ctx)
	_ = peer.Close(ctx)
}

// BenchmarkPost is a way onto the loop and back.
func BenchmarkPost(b *testing.B) {
	for _, m := range []medium{media[1], media[3], media[5]} {
		b.Run(m.name, func(b *testing.B) {
			e := newEcho(b, m, 64)
			run := func() { e.back <- struct{}{} }
			b.ReportAllocs()
			for b.Loop() {
				if !e.a.Post(run) {
					b.Fatal("Post() = false")
				}
				<-e.back
			}
			b.StopTimer()
			e.stop()
		})
	}
}
