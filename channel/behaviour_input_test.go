package channel

import (
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// Input: pauses, looks ahead, and the end behind them.

// inOrder has the side check that chunks come in order and whole.
func (s *side) inOrder() (came func() int64) {
	next := 0
	s.onMessage = func(m *codec.Message, _ []codec.Header) {
		if got := number(m.Payload); got != next || !whole(m.Payload) {
			s.t.Errorf("chunk %d came, want %d", got, next)
		}
		next++
	}
	return s.messages.Load
}

// TestPauseLeavesInSocket: a paused channel reads at most one buffer; the peer's writes
// fill the way, and stop. Resume delivers all in order.
func TestPauseLeavesInSocket(t *testing.T) {
	const n, size = 500, 10_000
	over(t, func(t *testing.T, m medium) {
		s := newSide(t, m, Config{})
		came := s.inOrder()
		s.onOpen = s.Pause
		w := m.tight().face(t, s)
		var written atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range n {
				w.put(w.frames(chunk(1, i, size)))
				written.Add(size)
			}
		}()
		last := int64(-1)
		for same := 0; same < 20; same++ { // until it stands still
			elapse(time.Millisecond)
			if now := written.Load(); now != last {
				last, same = now, 0
			}
		}
		if last == n*size {
			t.Error("a paused channel took everything")
		}
		if st := s.Stats(); st.BytesIn > scratchBytes || st.FramesIn != 0 || !st.PausedNow || st.Pauses != 1 {
			t.Errorf("paused: %+v", st)
		}
		s.do(func() {
			if !s.Paused() || !s.Unread() {
				t.Errorf("Paused() = %v, Unread() = %v", s.Paused(), s.Unread())
			}
			s.Resume()
			s.Resume()
		})
		<-done
		eventually(t, "all chunks", func() bool { return came() == n })
		s.do(func() {
			if s.Paused() || s.Unread() {
				t.Errorf("resumed: Paused() = %v, Unread() = %v", s.Paused(), s.Unread())
			}
		})
		s.end()
	})
}

// TestPauseWithin: Pause from within OnMessage stops at that message, and Resume goes on
// with the next.
func TestPauseWithin(t *testing.T) {
	const n = 100
	over(t, func(t *testing.T, m medium) {
		for _, size := range []int{8, 9000} { // held in one buffer, and not
			s := newSide(t, m, Config{})
			came := s.inOrder()
			check := s.onMessage
			s.onMessage = func(m *codec.Message, h []codec.Header) {
				check(m, h)
				if number(m.Payload)%2 == 1 {
					s.Pause() // and at once on again: nothing happens
					s.Resume()
				}
				s.Pause()
			}
			w := m.face(t, s)
			var p []byte
			for i := range n {
				p = append(p, w.frames(chunk(1, i, size))...)
			}
			go func() { w.put(p) }()
			for i := range int64(n) {
				eventually(t, "one more chunk", func() bool { return came() > i })
				if m.virtual {
					synctest.Wait()
				}
				s.do(func() {
					if came() != i+1 || !s.Paused() {
						t.Fatalf("%d chunks came, Paused() = %v, want %d and true", came(), s.Paused(), i+1)
					}
					s.Resume()
				})
			}
			s.end()
		}
	})
}

// TestEndBehindPause: what came before the peer's end is delivered before it is told,
// however long the pause, and whether it was in the socket or held here.
func TestEndBehindPause(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		for _, where := range []string{"open", "first message", "every message"} {
			s := newSide(t, m, Config{})
			came := s.inOrder()
			check := s.onMessage
			switch where {
			case "open":
				s.onOpen = s.Pause
			default:
				s.onMessage = func(m *codec.Message, h []codec.Header) {
					if check(m, h); where == "every message" || number(m.Payload) == 0 {
						s.Pause()
					}
				}
			}
			w := m.face(t, s)
			w.put(w.frames(chunk(1, 0, 100), chunk(1, 1, 100), chunk(1, 2, 100)))
			_ = w.Close()
			eventually(t, "bytes behind the pause", func() (unread bool) {
				s.do(func() { unread = s.Unread() && s.Paused() })
				return unread
			})
			if m.virtual {
				synctest.Wait()
			}
			for s.Post(s.Resume) {
				elapse(time.Millisecond)
			}
			s.wantOver(CodeEOF)
			if came() != 3 {
				t.Errorf("paused in %s: %d chunks came before the end, want 3", where, came())
			}
			s.end()
		}
	})
}

// lastRead is a net.Conn whose last Read returns bytes and the end together.
type lastRead struct {
	net.Conn
	p    []byte
	once sync.Once
}

func (c *lastRead) Read(p []byte) (n int, err error) {
	c.once.Do(func() { n = copy(p, c.p) })
	return n, io.EOF
}

// TestEndWithBytes: a Read may return bytes and an error; a pause in between loses
// nothing.
func TestEndWithBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := media[4]
		s := newSide(t, m, Config{})
		came := s.inOrder()
		check := s.onMessage
		s.onMessage = func(m *codec.Message, h []codec.Header) { check(m, h); s.Pause() }
		x, y := m.join(t)
		w := newWire(t, y, codec.V0)
		s.open(&lastRead{Conn: x, p: w.frames(chunk(1, 0, 8), chunk(1, 1, 8), chunk(1, 2, 8))})
		for i := range int64(3) {
			synctest.Wait()
			if came() != i+1 {
				t.Fatalf("%d chunks came in state %v, want %d", came(), s.State(), i+1)
			}
			s.Post(s.Resume) // unless the last one was all
		}
		s.wantOver(CodeEOF)
		s.end()
	})
}

// TestUnread: bytes that come during a pause are seen as life.
func TestUnread(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		s := newSide(t, m, Config{})
		s.onMessage = func(*codec.Message, []codec.Header) { s.Pause() }
		w := m.face(t, s)
		w.put(w.frames(chunk(1, 0, 8)))
		eventually(t, "a chunk", func() bool { return s.messages.Load() == 1 })
		s.do(func() {
			if s.Unread() || s.Received() == 0 {
				t.Errorf("Unread() = %v with nothing on the way, Received() = %d", s.Unread(), s.Received())
			}
		})
		w.put(w.frames(&codec.Frame{Kind: codec.KindHeartbeat}))
		eventually(t, "Unread()", func() (unread bool) {
			s.do(func() { unread = s.Unread() })
			return unread
		})
		if n := s.messages.Load(); n != 1 {
			t.Errorf("%d messages in the pause, want 1", n)
		}
		s.end()
	})
}

// TestPoll: the last look before a peer is called dead.
func TestPoll(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		s := newSide(t, m, Config{})
		came := s.inOrder()
		w := m.face(t, s)
		if m.noLoop { // its reader looks all the time
			w.put(w.frames(chunk(1, 0, 8)))
			s.do(s.Poll)
			eventually(t, "a chunk", func() bool { return came() == 1 })
			s.end()
			return
		}
		s.do(func() {
			before := s.Received()
			s.Poll() // nothing is there
			w.put(w.frames(chunk(1, 0, 8), chunk(1, 1, 8)))
			s.Poll()
			if came() != 2 || s.Received() == before {
				t.Errorf("Poll() delivered %d chunks, want 2", came())
			}
			s.Pause()
			w.put(w.frames(chunk(1, 2, 8)))
			s.Poll()
			if came() != 2 || !s.Unread() {
				t.Errorf("Poll() in a pause delivered %d chunks, Unread() = %v", came(), s.Unread())
			}
			s.Resume()
		})
		eventually(t, "the last chunk", func() bool { return came() == 3 })
		_ = w.Close()
		s.Post(s.Poll) // if the end was not seen yet
		s.wantOver(CodeEOF)
		s.end()
	})
}

// TestPollWithin: Poll from within OnMessage, of this channel and of one beside it on
// the loop, does not touch what is being read.
func TestPollWithin(t *testing.T) {
	const n = 500
	over(t, func(t *testing.T, m medium) {
		cfg := m.shared(t, Config{})
		a, b := newSide(t, m, cfg), newSide(t, m, cfg)
		cameA, cameB := a.inOrder(), b.inOrder()
		check := a.onMessage
		a.onMessage = func(m *codec.Message, h []codec.Header) {
			own := m.Clone()
			a.Poll()
			if a.loop == b.loop {
				b.Poll()
			}
			if !slices.Equal(own.Payload, m.Payload) {
				t.Error("what OnMessage was lent has changed")
			}
			check(m, h)
		}
		wa, wb := m.face(t, a), m.face(t, b)
		for i := range n {
			p := wa.frames(chunk(1, i, 1+i))
			wa.put(p[:len(p)/2])
			wb.put(p)
			wa.put(p[len(p)/2:])
		}
		eventually(t, "all chunks", func() bool { return cameA() == n && cameB() == n })
		a.end()
		b.end()
	})
}
