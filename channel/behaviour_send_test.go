package channel

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// What is sent: what may be, and how it arrives.

// TestErrorEnds: in v0 an error that ends a direction is followed by a choke.
func TestErrorEnds(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		for d, want := range map[codec.Dialect][]uint64{
			codec.V0: {codec.V0Error, codec.V0Choke, codec.V0Error, codec.V0Choke, codec.V0Heartbeat},
			codec.V1: {codec.V1Error, codec.V1Error, codec.V1Heartbeat},
		} {
			s, w := m.faced(t, Config{Dialect: d})
			f := &codec.Frame{Kind: codec.KindError, Session: 5, Code: 1, Text: "why"}
			err := s.SendOfOffLoop(t.Context(), &party{}, f, Last)
			s.do(func() { err = errors.Join(err, s.SendOf(&party{}, f, Last)) })
			s.do(func() { err = errors.Join(err, s.SendHeartbeat()) })
			if err != nil {
				t.Fatal(err)
			}
			for i, typ := range want {
				if got := w.mustNext(); got.Type != typ {
					t.Errorf("%v: frame %d has type %d, want %d", d, i, got.Type, typ)
				}
			}
			if got := s.Stats().QueuedBytes; got != 0 {
				t.Errorf("%v: %d bytes are queued, want 0", d, got)
			}
			s.end()
		}
	})
}

// TestExhausted: our numbers end at 2^63, and nothing of a refused open is kept.
func TestExhausted(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		s, w := m.faced(t, Config{FirstSession: 1<<63 - 1})
		f := &codec.Frame{Kind: codec.KindInvoke, Text: "e"}
		if err := s.SendOfOffLoop(t.Context(), &party{}, f, First); err != nil || f.Session != 1<<63-1 {
			t.Errorf("the last number: %v, number %d", err, f.Session)
		}
		p := new(party)
		if err := s.SendOfOffLoop(t.Context(), p, f, First); !errors.Is(err, ErrExhausted) {
			t.Errorf("SendOfOffLoop() = %v, want ErrExhausted", err)
		}
		s.do(func() {
			if err := s.SendOf(p, f, First); !errors.Is(err, ErrExhausted) {
				t.Errorf("SendOf() = %v, want ErrExhausted", err)
			}
		})
		if p.id != 0 || p.opened.Load() {
			t.Errorf("the refused session has number %d, opened %v", p.id, p.opened.Load())
		}
		if m := w.mustNext(); m.Session != 1<<63-1 {
			t.Errorf("session %d, want 2^63-1", m.Session)
		}
		if got := s.queuedSoon(); got != 0 {
			t.Errorf("%d bytes are queued, want 0", got)
		}
		s.end()
	})
}

// tooLarge (C11, C17): what the peer could not take is refused here, and nothing of
// it is sent or kept.
func tooLarge(t *testing.T) {
	limits := codec.Limits{MaxPayloadBytes: 1000, MaxFrameBytes: 2000, MaxHeaders: 2, MaxHeaderBytes: 100}
	long := make([]byte, 1001)
	header := func(n int) codec.Header { return codec.Header{Name: []byte("n"), Value: make([]byte, n)} }
	over(t, func(t *testing.T, m medium) {
		s, w := m.faced(t, Config{Dialect: codec.V1, Limits: limits})
		for what, f := range map[string]*codec.Frame{
			"payload":      {Kind: codec.KindChunk, Payload: long},
			"text":         {Kind: codec.KindInvoke, Text: string(long)},
			"arguments":    {Kind: codec.KindCall, Args: long},
			"argument":     {Kind: codec.KindCall, Args: codec.Args("name", long).Bytes()},
			"nested":       {Kind: codec.KindCall, Args: codec.Args([][]byte{long}, "name").Bytes()},
			"frame":        {Kind: codec.KindError, Text: string(long[:1000]), Headers: []codec.Header{header(99), header(1)}, Args: long[:1000]},
			"headers":      {Kind: codec.KindHeartbeat, Headers: []codec.Header{header(1), header(1), header(1)}},
			"header bytes": {Kind: codec.KindHeartbeat, Headers: []codec.Header{header(50), header(50)}},
		} {
			err := s.SendOffLoop(t.Context(), f)
			s.do(func() { err = errors.Join(err, s.Send(f)) })
			for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
				if !errors.Is(e, ErrTooLarge) {
					t.Errorf("%s: %v, want ErrTooLarge", what, e)
				}
			}
		}
		whole := &codec.Frame{Kind: codec.KindChunk, Session: 9, Payload: long[:1000], Headers: []codec.Header{header(49), header(49)}}
		if err := s.SendOffLoop(t.Context(), whole); err != nil {
			t.Errorf("as large as it may be: %v", err)
		}
		if m := w.mustNext(); m.Session != 9 || len(m.Payload) != 1000 {
			t.Errorf("session %d with %d bytes came first", m.Session, len(m.Payload))
		}
		// The largest payload does not come alone: there are names with it.
		call := &codec.Frame{Kind: codec.KindCall, Session: 10, Args: codec.Args("name", long[:1000]).Bytes()}
		if err := s.SendOffLoop(t.Context(), call); err != nil {
			t.Errorf("an argument as large as it may be: %v", err)
		}
		if m := w.mustNext(); m.Session != 10 || len(m.Args) != len(call.Args) {
			t.Errorf("session %d with %d bytes came, want the call", m.Session, len(m.Args))
		}
		if got := s.queuedSoon(); got != 0 {
			t.Errorf("%d bytes are queued, want 0", got)
		}
		s.end()
	})
}

// TestNoSuchFrame: a frame that cannot be encoded panics at its sender and holds up
// nobody else.
func TestNoSuchFrame(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		s, w := m.faced(t, Config{})
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a frame of no kind was taken")
				}
			}()
			_ = s.SendOffLoop(t.Context(), &codec.Frame{Session: 1})
		}()
		if err := s.SendOffLoop(t.Context(), chunk(1, 5, 8)); err != nil {
			t.Errorf("SendOffLoop() = %v", err)
		}
		if m := w.mustNext(); number(m.Payload) != 5 {
			t.Errorf("frame %d came, want 5", number(m.Payload))
		}
		s.end()
	})
}

// copied (C7): what is given to Send may be changed when it returns.
func copied(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		s, w := m.faced(t, Config{})
		p := chunk(1, 77, 100).Payload
		f := &codec.Frame{Kind: codec.KindChunk, Payload: p}
		s.do(func() {
			if err := s.Send(f); err != nil {
				t.Errorf("Send() = %v", err)
			}
			clear(p)
		})
		copy(p, chunk(1, 78, 100).Payload)
		if err := s.SendOffLoop(t.Context(), f); err != nil {
			t.Errorf("SendOffLoop() = %v", err)
		}
		clear(p)
		for want := 77; want < 79; want++ {
			if m := w.mustNext(); number(m.Payload) != want || !whole(m.Payload) {
				t.Errorf("frame %d came, want %d as it was sent", number(m.Payload), want)
			}
		}
		s.end()
	})
}

// TestMixedSizes sends frames around every size at which something changes.
func TestMixedSizes(t *testing.T) {
	sizes := []int{8, 31, 32, 255, 256, keepBuffer - 100, keepBuffer, writeAhead - 12, writeAhead + 1, 200_000, 1 << 20, 9, 300_000, 8}
	over(t, func(t *testing.T, m medium) {
		a, b := newSide(t, m, Config{}), newSide(t, m, Config{})
		got := make(chan string, len(sizes))
		b.onMessage = func(m *codec.Message, _ []codec.Header) {
			got <- fmt.Sprintf("%d of %d bytes, whole %v", number(m.Payload), len(m.Payload), whole(m.Payload))
		}
		m.connect(t, a, b)
		for i, n := range sizes {
			if err := a.SendOffLoop(t.Context(), chunk(1, i, n)); err != nil {
				t.Fatal(err)
			}
		}
		for i, n := range sizes {
			want := fmt.Sprintf("%d of %d bytes, whole true", i, n)
			if s := await(t, "a frame", got); s != want {
				t.Errorf("frame %s, want %s", s, want)
			}
		}
		a.end()
		b.end()
	})
}

// TestUnlimited: no bound anywhere, and still all comes.
func TestUnlimited(t *testing.T) {
	cfg := Config{
		Limits: codec.Limits{MaxPayloadBytes: -1}, HighWaterBytes: -1, StallTimeout: -1, FrameTimeout: -1,
		DrainTimeout: -1, FirstFrameTimeout: -1, FirstFrameBytes: -1,
	}
	over(t, func(t *testing.T, m medium) {
		a, b := m.pair(t, cfg)
		const n = 40
		for i := range n {
			if err := a.SendOffLoop(NoWait, chunk(1, i, 100_000)); err != nil {
				t.Fatal(err)
			}
		}
		if max := a.MaxPayloadBytes(); uint64(max) != math.MaxUint32 {
			t.Errorf("MaxPayloadBytes() = %d, want 2^32-1", max)
		}
		if err := a.Close(context.Background()); err != nil {
			t.Errorf("Close() = %v", err)
		}
		b.over()
		if got := b.messages.Load(); got != n {
			t.Errorf("%d frames came, want %d", got, n)
		}
		b.end()
	})
}

// durations: a duration that does not fit in an int64 is none.
func durations(t *testing.T) {
	for _, d := range []time.Duration{0, -1, math.MinInt64, math.MaxInt64} {
		c := Config{StallTimeout: d, FrameTimeout: d, DrainTimeout: d, FirstFrameTimeout: d}
		if err := c.setDefaults(); err != nil {
			t.Fatal(err)
		}
		want, first := d, d
		switch {
		case d == 0:
			want, first = 10*time.Second, math.MaxInt64
		case d < 0:
			want, first = math.MaxInt64, math.MaxInt64
		}
		if c.StallTimeout != want || c.FrameTimeout != want || c.DrainTimeout != want || c.FirstFrameTimeout != first {
			t.Errorf("%d gives %d, %d, %d and %d, want %d and %d", d, c.StallTimeout, c.FrameTimeout, c.DrainTimeout, c.FirstFrameTimeout, want, first)
		}
	}
}

// queuedSoon waits until nothing is queued, or gives up and says what is. Over a
// net.Conn the writer tells that a write is done after the peer may have read it.
func (s *side) queuedSoon() int64 {
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		s.do(func() {})
		if n := s.Stats().QueuedBytes; n == 0 || time.Now().After(deadline) {
			return n
		}
	}
}
