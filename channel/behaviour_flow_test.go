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

// TestNoSenderIsForgotten: frames larger than the low mark, and a queue that is often
// empty and often full.
func TestNoSenderIsForgotten(t *testing.T) {
	const senders, each = 8, 300
	over(t, func(t *testing.T, m medium) {
		a, b := m.pair(t, Config{HighWaterBytes: 1, LowWaterBytes: 1})
		var wg sync.WaitGroup
		for id := range uint64(senders) {
			wg.Go(func() {
				for i := range each {
					if err := a.SendOffLoop(t.Context(), chunk(id, i, 100)); err != nil {
						t.Errorf("SendOffLoop() = %v", err)
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		await(t, "the end of all senders", done)
		eventually(t, "all frames", func() bool { return b.messages.Load() == senders*each })
		a.end()
		b.end()
	})
}

// TestEndFreesSenders: whoever waits for room is told when the channel ends.
func TestEndFreesSenders(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		s, _ := m.tight().faced(t, Config{HighWaterBytes: 100_000})
		s.fill(1000)
		errs := make(chan error, 10)
		for range cap(errs) {
			go func() { errs <- s.SendOffLoop(context.Background(), chunk(1, 0, 8)) }()
		}
		eventually(t, "senders that wait", s.o.waiting.Load)
		s.do(func() { s.Fail(&CloseError{Code: CodeDisowned}) })
		for range cap(errs) {
			var ce *CloseError
			if err := await(t, "a waiting sender", errs); !errors.As(err, &ce) || ce.Code != CodeDisowned {
				t.Errorf("SendOffLoop() = %v, want disowned", err)
			}
			_ = ce.Error() // while the channel writes down what was lost
		}
		if err := s.wantOver(CodeDisowned); err.Undelivered < 90_000 {
			t.Errorf("Undelivered = %d, want what was queued", err.Undelivered)
		}
		s.end()
	})
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

// stall (C1): a peer that stops reading is cut when it is due, the producer waited
// until then, and what was held is counted.
func stall(t *testing.T) {
	overVirtual(t, func(t *testing.T, m medium) {
		s, _ := m.faced(t, Config{})
		start := time.Now()
		err, sent := error(nil), 0
		for ; err == nil; sent++ {
			err = s.SendOffLoop(t.Context(), chunk(1, sent, 10_000))
		}
		var ce *CloseError
		if took := time.Since(start); took != 10*time.Second || !errors.As(err, &ce) || ce.Code != CodeSlowPeer {
			t.Errorf("cut after %v with %v, want slow_peer after 10 s", took, err)
		}
		got := s.wantOver(CodeSlowPeer)
		if !got.Remote || got.Undelivered < 1<<20-128<<10 || got.Undelivered > 1<<20+10_100 {
			t.Errorf("%+v, want 1 MiB undelivered", got)
		}
		s.end()
	})
	for _, m := range media {
		if m.virtual {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			s, _ := m.faced(t, Config{StallTimeout: 50 * time.Millisecond})
			start := time.Now()
			err := error(nil)
			for err == nil {
				err = s.SendOffLoop(t.Context(), chunk(1, 0, 10_000))
			}
			s.wantOver(CodeSlowPeer)
			if took := time.Since(start); took < 50*time.Millisecond {
				t.Errorf("cut after %v", took)
			}
			s.end()
		})
	}
}

// progress (C2): while output is above the low mark the peer must take 64 KiB in
// 10 s. One that does is not cut, however large the frames are.
func progress(t *testing.T) {
	for _, tt := range []struct {
		what    string
		each    int
		every   time.Duration
		frame   int
		wantCut bool
	}{
		{"1 B/s", 1, time.Second, 10_000, true},
		{"63 KiB in 10 s", 6451, time.Second, 10_000, true},
		{"130 KiB in 10 s", 13_312, time.Second, 10_000, false},
		{"130 KiB in 10 s of one frame", 13_312, time.Second, 2 << 20, false},
		{"all the time a little", 1331, time.Second / 10, 1 << 20, false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			overVirtual(t, func(t *testing.T, m medium) {
				m = m.scripted(t, "a>b capacity=1000")
				s, w := m.faced(t, Config{})
				stop := make(chan struct{})
				go func() {
					for err := error(nil); err == nil; {
						err = s.SendOffLoop(t.Context(), chunk(1, 0, tt.frame))
					}
					close(stop)
				}()
				start := time.Now()
				for alive := true; alive && time.Since(start) < 100*time.Second; {
					if _, err := io.ReadFull(w, make([]byte, tt.each)); err != nil {
						break
					}
					select {
					case <-time.After(tt.every):
					case <-stop:
						alive = false
					}
				}
				switch took := time.Since(start); {
				case tt.wantCut && (took < 10*time.Second || took > 21*time.Second):
					t.Errorf("cut after %v, want 10 to 20 s", took)
				case !tt.wantCut && took < 100*time.Second:
					t.Errorf("cut after %v: %v", took, s.Err())
				}
				s.end()
				<-stop
			})
		})
	}
}

// TestStallBeginsAnew: the time runs while output is above the low mark, and only then.
func TestStallBeginsAnew(t *testing.T) {
	overVirtual(t, func(t *testing.T, m medium) {
		m = m.scripted(t, "a>b capacity=1")
		s, w := m.faced(t, Config{HighWaterBytes: 40_000, LowWaterBytes: 1000})
		if err := s.SendOffLoop(t.Context(), chunk(1, 0, 2000)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		elapse(time.Second)
		w.mustNext() // below the low mark again
		synctest.Wait()
		elapse(8900 * time.Millisecond)
		if err := s.SendOffLoop(t.Context(), chunk(1, 0, 30_000)); err != nil {
			t.Fatal(err)
		}
		takes(t, "the cut", 10*time.Second, func() { s.wantOver(CodeSlowPeer) })
		s.end()
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

// TestWaitersTakeTurns: who waits for room gets it in the order of coming; one who gives
// up is passed over.
func TestWaitersTakeTurns(t *testing.T) {
	const size, waiters = 1000, 10
	over(t, func(t *testing.T, m medium) {
		s := newSide(t, m, Config{HighWaterBytes: 100_000})
		w := m.tight().face(t, s)
		n := s.fill(size)
		waiting := func() int {
			s.o.mu.Lock()
			defer s.o.mu.Unlock()
			return len(s.o.waiters)
		}
		var all sync.WaitGroup
		send := func(ctx context.Context, i int, want error) {
			before := waiting()
			all.Go(func() {
				if err := s.SendOffLoop(ctx, chunk(1, i, size)); !errors.Is(err, want) {
					t.Errorf("SendOffLoop() = %v, want %v", err, want)
				}
			})
			eventually(t, "one more that waits", func() bool { return waiting() == before+1 })
		}
		ctx, cancel := context.WithCancel(t.Context())
		for i := range waiters {
			if i == waiters/2 {
				send(ctx, 0, context.Canceled)
			}
			send(t.Context(), n+i, nil)
		}
		cancel()
		eventually(t, "one less", func() bool { return waiting() == waiters })
		for i := range n + waiters {
			if got := w.mustNext(); number(got.Payload) != i {
				t.Fatalf("frame %d came, want %d", number(got.Payload), i)
			}
		}
		all.Wait()
		s.end()
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
