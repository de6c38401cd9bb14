package channel

import (
	"context"
	"errors"
	"sync"
	"testing"
)

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
