package channel

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// Output: its water marks, who waits for it, and peers that do not take it.

// fill sends frames of n bytes from the loop until ErrFull, and again until the way to
// the peer is full too. It returns how many.
func (s *side) fill(n int) (frames int) {
	s.t.Helper()
	for idle := 0; idle < 20; idle++ {
		s.do(func() {
			err := s.Send(chunk(1, frames, n))
			for ; err == nil; err = s.Send(chunk(1, frames, n)) {
				frames++
				idle = 0
			}
			if err != ErrFull {
				s.t.Errorf("Send() = %v, want ErrFull", err)
			}
		})
		elapse(time.Millisecond)
	}
	return frames
}

// TestWaterMarks: above the high mark the loop is refused and told when there is room;
// others wait, or are refused with a nil ctx, or give up with their ctx (C4); and what
// was taken comes whole.
func TestWaterMarks(t *testing.T) {
	const size = 1000
	over(t, func(t *testing.T, m medium) {
		s := newSide(t, m, Config{HighWaterBytes: 100_000})
		told := make(chan struct{}, 1000)
		s.onWritable = func() { told <- struct{}{} }
		w := m.tight().face(t, s)
		n := s.fill(size)
		for len(told) > 0 {
			<-told
		}
		if held := s.Stats().QueuedBytes; held < 100_000-size || held > 100_000+size {
			t.Errorf("%d bytes are queued at the high mark", held)
		}
		if err := s.SendOffLoop(NoWait, chunk(1, 0, size)); !errors.Is(err, ErrFull) {
			t.Errorf("SendOffLoop() without ctx = %v, want ErrFull", err)
		}
		cause := errors.New("the caller gave up")
		ctx, cancel := context.WithCancelCause(t.Context())
		gaveUp := make(chan error, 1)
		go func() { gaveUp <- s.SendOffLoop(ctx, chunk(1, 0, size)) }()
		waiting := make(chan error, 1)
		go func() { waiting <- s.SendOffLoop(t.Context(), chunk(1, n, size)) }()
		eventually(t, "senders that wait", s.o.waiting.Load)
		cancel(cause)
		if err := await(t, "the end of a wait", gaveUp); !errors.Is(err, cause) {
			t.Errorf("SendOffLoop() = %v, want the cause", err)
		}
		if len(waiting) > 0 || len(told) > 0 {
			t.Error("somebody went on above the low mark")
		}
		for i := range n + 1 {
			if got := w.mustNext(); number(got.Payload) != i || !whole(got.Payload) {
				t.Fatalf("frame %d came, want %d", number(got.Payload), i)
			}
		}
		await(t, "OnWritable", told)
		if err := await(t, "the waiting sender", waiting); err != nil {
			t.Errorf("SendOffLoop() = %v", err)
		}
		eventually(t, "an empty queue", func() bool { return s.Stats().QueuedBytes == 0 })
		if s.do(func() {}); len(told) != 0 {
			t.Errorf("OnWritable came %d times too often", len(told))
		}
		s.end()
	})
}

// TestLowMark: nobody goes on before output has fallen to the low mark.
func TestLowMark(t *testing.T) {
	overVirtual(t, func(t *testing.T, m medium) {
		m = m.scripted(t, "a>b capacity=100")
		s := newSide(t, m, Config{HighWaterBytes: 100_000, LowWaterBytes: 20_000, StallTimeout: -1})
		told := 0
		s.onWritable = func() { told++ }
		w := m.face(t, s)
		s.fill(500)
		var went atomic.Bool
		go func() { went.Store(s.SendOffLoop(t.Context(), chunk(1, 0, 8)) == nil) }()
		for range 1_000_000 {
			synctest.Wait()
			switch held := s.Stats().QueuedBytes; {
			case held > 20_000 && (told > 0 || went.Load()):
				t.Fatalf("at %d bytes: told %d times, waiting sender went on: %v", held, told, went.Load())
			case told > 1:
				t.Fatal("told twice")
			case held <= 20_000:
				if told != 1 || !went.Load() {
					t.Fatalf("at %d bytes: told %d times, waiting sender went on: %v", held, told, went.Load())
				}
				s.end()
				return
			}
			if _, err := w.Read(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestBound: however many send, never more is held than the high mark and one frame.
func TestBound(t *testing.T) {
	const high, largest = 50_000, 20_000
	over(t, func(t *testing.T, m medium) {
		a, b := m.pair(t, Config{HighWaterBytes: high, LowWaterBytes: 1})
		bound := int64(high + (&codec.Frame{Payload: make([]byte, largest)}).MaxSize())
		var most int64
		stop, watched := make(chan struct{}), make(chan struct{})
		if !m.virtual {
			go func() {
				defer close(watched)
				for {
					select {
					case <-stop:
						return
					default:
						most = max(most, a.o.queued.Load())
					}
				}
			}()
		} else {
			close(watched)
		}
		var wg sync.WaitGroup
		for id := range uint64(10) {
			wg.Go(func() {
				for i := range 50 {
					if err := a.SendOffLoop(t.Context(), chunk(id, i, (i*7919)%largest)); err != nil {
						t.Errorf("SendOffLoop() = %v", err)
					}
					if held := a.o.queued.Load(); held > bound {
						t.Errorf("%d bytes are held, want at most %d", held, bound)
					}
				}
			})
		}
		wg.Wait()
		close(stop)
		<-watched
		if most > bound {
			t.Errorf("%d bytes were held, want at most %d", most, bound)
		}
		eventually(t, "all frames", func() bool { return b.messages.Load() == 500 })
		a.end()
		b.end()
	})
}

// TestRefusedIsNotSeen: a frame that is refused is never counted, not even while it is
// looked at: whoever looks for a queue that is low would miss it.
func TestRefusedIsNotSeen(t *testing.T) {
	f, _ := newFake(t, Config{HighWaterBytes: 1000}, nil)
	f.room = 0
	for f.Send(chunk(1, 0, 100)) == nil {
	}
	want := f.o.queued.Load()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 20_000 {
			if err := f.SendOffLoop(NoWait, chunk(1, 0, 100)); err != ErrFull {
				t.Errorf("SendOffLoop() = %v, want ErrFull", err)
			}
		}
		close(stop)
	})
	for alive := true; alive; {
		select {
		case <-stop:
			alive = false
		default:
			if got := f.o.queued.Load(); got != want {
				t.Fatalf("%d bytes are counted, %d were accepted", got, want)
			}
		}
	}
	wg.Wait()
}

// TestWritableStorm: an owner that fills the output again in every OnWritable does not
// keep its loop from others, though its peer takes all at once.
func TestWritableStorm(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		if m.name == "pair" {
			m = m.scripted(t, "a>b capacity=-1")
		}
		s := newSide(t, m, Config{HighWaterBytes: 10_000})
		var stop atomic.Bool
		turns := 0
		s.onWritable = func() {
			for turns++; !stop.Load() && s.Send(chunk(1, 0, 1000)) == nil; {
			}
		}
		w := m.face(t, s)
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			_, _ = io.Copy(io.Discard, w)
		}()
		s.do(func() {
			for s.Send(chunk(1, 0, 1000)) == nil {
			}
		})
		if !m.virtual {
			eventually(t, "a hundred turns", func() (many bool) {
				s.do(func() { many = turns > 100 })
				return many
			})
		}
		s.do(func() { stop.Store(true) })
		s.end()
		<-drained
	})
}

// TestNotToldBehindEnd: an owner that was refused is not told of room, and the loop not
// woken for it, when nothing is taken any more.
func TestNotToldBehindEnd(t *testing.T) {
	f, s := newFake(t, Config{HighWaterBytes: 1}, nil)
	s.onWritable = func() { t.Error("OnWritable on a closing channel") }
	f.room = 0
	for f.Send(chunk(1, 0, 100)) == nil {
	}
	f.turn()
	f.Drain(&CloseError{Code: CodeClosed}, true, time.Hour)
	f.turn()
	f.room = -1
	f.writable()
	for range 3 {
		f.turn()
	}
	before := f.wakes
	for range 10 {
		f.turn()
	}
	if f.wakes != before {
		t.Errorf("the loop was woken %d times for nothing", f.wakes-before)
	}
	if !f.halved || f.State() != Closing {
		t.Errorf("halved: %v, State() = %v", f.halved, f.State())
	}
	f.stopTimers()
}

// TestBothWays: both ends send all they can, pause now and then, and send heartbeats;
// everything comes, in order.
func TestBothWays(t *testing.T) {
	const n = 600
	over(t, func(t *testing.T, m medium) {
		cfg := m.shared(t, Config{HighWaterBytes: 200_000})
		a, b := newSide(t, m, cfg), newSide(t, m, cfg)
		came := [2]func() int64{}
		for i, s := range []*side{a, b} {
			count := int64(0)
			s.inOrder()
			check := s.onMessage
			var chunks atomic.Int64
			s.onMessage = func(m *codec.Message, h []codec.Header) {
				if beat(m, codec.V0) {
					return
				}
				check(m, h)
				chunks.Add(1)
				if count++; count%50 == 0 {
					s.Pause()
					s.NewTimer(s.Resume).Reset(time.Millisecond)
				}
				if count%7 == 0 {
					if err := s.SendHeartbeat(); err != nil {
						t.Errorf("SendHeartbeat() = %v", err)
					}
				}
			}
			came[i] = chunks.Load
		}
		m.tight().connect(t, a, b)
		var wg sync.WaitGroup
		for k, s := range []*side{a, b} {
			wg.Go(func() {
				for i := range n {
					if err := s.SendOffLoop(t.Context(), chunk(1, i, 1+(i*7919*(k+1))%20_000)); err != nil {
						t.Errorf("SendOffLoop() = %v", err)
					}
				}
			})
		}
		wg.Wait()
		eventually(t, "all chunks", func() bool { return came[0]() == n && came[1]() == n })
		a.end()
		b.end()
	})
}

// TestEndAfterTheLastByte: a peer that reads all and closes leaves nothing to be counted as
// undelivered, however soon it is.
func TestEndAfterTheLastByte(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		for range 50 {
			a, b := newSide(t, m, Config{}), newSide(t, m, Config{})
			b.onMessage = func(*codec.Message, []codec.Header) { b.Drain(&CloseError{Code: CodeClosed}, true, lingerTimeout) }
			m.connect(t, a, b)
			if err := a.SendOffLoop(t.Context(), chunk(1, 0, 100)); err != nil {
				t.Fatal(err)
			}
			if err := a.over(); err.Undelivered != 0 {
				t.Fatalf("%v, want everything delivered", err)
			}
			b.over()
		}
	})
}
