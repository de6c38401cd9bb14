package channel

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

// The rows about output that the virtual media have exact times for, over sockets: there
// only the order of things is sure.

// overSockets runs f once for each medium that is a socket, with little room on the way.
func overSockets(t *testing.T, f func(t *testing.T, m medium)) {
	t.Helper()
	for _, m := range media {
		if !m.virtual {
			t.Run(m.name, func(t *testing.T) { f(t, m.tight()) })
		}
	}
}

// trickle (C2): a peer that takes a byte now and then is cut as one that takes none.
func trickle(t *testing.T) {
	overSockets(t, func(t *testing.T, m medium) {
		const limit = 200 * time.Millisecond
		s, w := m.faced(t, Config{StallTimeout: limit})
		read := make(chan struct{})
		go func() {
			defer close(read)
			b := make([]byte, 1)
			for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
				if _, err := w.Read(b); err != nil || s.Err() != nil {
					return
				}
			}
		}()
		start := time.Now()
		err := error(nil)
		for err == nil {
			err = s.SendOffLoop(t.Context(), chunk(1, 0, 10_000))
		}
		got := s.wantOver(CodeSlowPeer)
		if took := time.Since(start); took < limit || got.Undelivered == 0 {
			t.Errorf("cut after %v with %+v, want it when %v have passed", took, got, limit)
		}
		s.end()
		<-read
	})
}

// sendGivenUpLive (C4): whoever gives up gets the ctx's error, and nothing is half-written:
// the peer, once it reads, gets every frame that was taken, and then the next.
func sendGivenUpLive(t *testing.T) {
	overSockets(t, func(t *testing.T, m medium) {
		s, w := m.faced(t, Config{HighWaterBytes: 50_000, StallTimeout: -1})
		n := s.fill(1000)
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			err := s.SendOffLoop(ctx, chunk(1, n, 1000))
			for ; err == nil; err = s.SendOffLoop(ctx, chunk(1, n, 1000)) { // the sockets took a little more
				n++
			}
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("SendOffLoop() = %v, want the ctx's error", err)
			}
		}
		sent := make(chan error, 1)
		go func() { sent <- s.SendOffLoop(t.Context(), chunk(1, n, 1000)) }()
		w.between(0, n)
		if err := <-sent; err != nil {
			t.Errorf("SendOffLoop() with room = %v", err)
		}
		s.end()
	})
}

// resetLive (C5): the peer resets in the middle of a burst: OnClose comes once, and all
// later sends are refused.
func resetLive(t *testing.T) {
	overSockets(t, func(t *testing.T, m medium) {
		s, w := m.faced(t, Config{HighWaterBytes: 200_000, StallTimeout: -1})
		s.fill(10_000)
		if c, ok := w.Conn.(*net.TCPConn); ok {
			if err := c.SetLinger(0); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		err := error(nil)
		for err == nil {
			err = s.SendOffLoop(t.Context(), chunk(1, 0, 10_000))
		}
		got := s.wantOver(CodeReset)
		for range 10 {
			var ce *CloseError
			if err := s.SendOffLoop(t.Context(), chunk(1, 0, 8)); !errors.As(err, &ce) {
				t.Errorf("SendOffLoop() behind the end = %v, want the CloseError", err)
			}
		}
		if !got.Remote || got.Undelivered == 0 || s.closes.Load() != 1 {
			t.Errorf("%+v, %d OnClose, want one with what was not delivered", got, s.closes.Load())
		}
		s.end()
	})
}
