package session_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// small makes every bound small, so that a test reaches it.
func small(c *session.Config) {
	c.InboxBytes = 4 << 10
	c.Channel.HighWaterBytes = 8 << 10
	c.Channel.StallTimeout = -1
}

// TestSlowReader: the paused channel feeds a reader that takes one chunk now and then,
// for as long as it likes.
func TestSlowReader(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		c := newCouple(t, d, channel.Script{})
		var s *session.Session
		got := make(chan *session.Session, 1)
		c.wo.invoke = func(s *session.Session) { got <- s }
		client := c.open("e")
		s = <-got
		const n = 120
		go func() {
			for i := range n {
				if _, err := client.Write(pattern(i, 64<<10)); err != nil {
					t.Errorf("Write() = %v", err)
				}
			}
			_ = client.Close()
		}()
		start := time.Now()
		for i := range n {
			pass(3 * time.Second)
			if p, err := s.Recv(t.Context()); err != nil || !bytes.Equal(p, pattern(i, 64<<10)) {
				t.Fatalf("chunk %d after %v: %d bytes, %v", i, time.Since(start), len(p), err)
			}
		}
		if _, err := s.Recv(t.Context()); err != io.EOF {
			t.Errorf("Recv() = %v, want EOF", err)
		}
		if st := c.worker.Stats(); st.Parked < 20 || st.Failed != 0 {
			t.Errorf("Stats() = %+v, want many pauses and no failure", st)
		}
	})
}

// TestInboxBound: a session holds at most two inboxes and a chunk.
func TestInboxBound(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		for seed := range uint64(scaled(20)) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			limit := 1 + rnd.IntN(64<<10)
			biggest := 1 + rnd.IntN(16<<10)
			r := newRig(t, d, session.Worker, func(c *session.Config) { c.InboxBytes, c.MaxPause = limit, -1 })
			var s *session.Session
			r.owner.invoke = func(got *session.Session) { s = got }
			r.send("invoke 2 e")
			var sizes []int
			for range 400 {
				sizes = append(sizes, rnd.IntN(biggest))
			}
			go func() {
				for _, n := range sizes {
					if _, err := r.conn.Write(r.frame("chunk 2 " + string(make([]byte, n)))); err != nil {
						return
					}
				}
			}()
			held, read := 0, 0
			for i, n := range sizes {
				synctest.Wait()
				held = session.Held(s)
				if held > 2*(limit+biggest+16) {
					t.Fatalf("seed %d: %d bytes are held at chunk %d, want at most twice %d and %d", seed, held, i, limit, biggest)
				}
				p, err := s.Recv(t.Context())
				if err != nil || len(p) != n {
					t.Fatalf("seed %d: chunk %d is %d bytes, %v, want %d", seed, i, len(p), err, n)
				}
				read += n
			}
			_ = r.conn.Close()
			closeNow(r.Table)
		}
	})
}

// TestParkedWhileDraining: a channel that drains reads on; full inboxes stay bounded.
func TestParkedWhileDraining(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRig(t, d, session.Worker, small)
		var list []*session.Session
		r.owner.invoke = func(s *session.Session) { list = append(list, s) }
		r.send("invoke 2 e", "invoke 3 e", "invoke 4 e")
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			for i := 0; ; i++ {
				if _, err := r.conn.Write(r.frame(str("chunk %d %s", 2+i%3, make([]byte, 1000)))); err != nil {
					return
				}
			}
		}()
		synctest.Wait()
		r.loop(func() { r.Channel().Drain(&channel.CloseError{Code: channel.CodeClosed}, true, time.Second) })
		<-stop
		for _, s := range list {
			if n := session.Held(s); n > 8<<10 {
				t.Errorf("session %d holds %d bytes, want at most 8 KiB", s.ID(), n)
			}
			n := 0
			for _, err := range s.Chunks(t.Context()) {
				if err != nil {
					break
				}
				n++
			}
			if n == 0 || s.Err() == nil {
				t.Errorf("session %d: %d chunks, then %v, want what it had and the cut", s.ID(), n, s.Err())
			}
		}
	})
}

// TestMaxPause: the time counts from when a session was parked, or its reader last read.
func TestMaxPause(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRig(t, d, session.Worker, small)
		var s *session.Session
		r.owner.invoke = func(got *session.Session) { s = got }
		r.send("invoke 2 e")
		go func(r *rig) {
			for range 100 {
				_, _ = r.conn.Write(r.frame("chunk 2 " + string(make([]byte, 1000))))
			}
		}(r)
		start := time.Now()
		for range 3 {
			pass(4900 * ms)
			if _, err := s.Recv(t.Context()); err != nil {
				t.Fatalf("Recv() after %v = %v", time.Since(start), err)
			}
		}
		at := time.Now()
		r.wantError(2, session.CategoryWorker, session.CodeOverflow, "nobody reads any more")
		if got := time.Since(at); got < 5*time.Second || got > 10*time.Second {
			t.Errorf("failed %v after the last read, want 5 to 10 s", got)
		}
		// It is no limit if negative.
		r = newRig(t, d, session.Worker, small, func(c *session.Config) { c.MaxPause = -1 })
		r.owner.invoke = func(got *session.Session) { s = got }
		r.send("invoke 2 e", "chunk 2 "+string(make([]byte, 5000)))
		pass(1000 * time.Hour)
		if s.Err() != nil {
			t.Errorf("Err() = %v, want none: there is no limit", s.Err())
		}
		if p, err := s.Recv(t.Context()); len(p) != 5000 || err != nil {
			t.Errorf("Recv() = %d bytes, %v", len(p), err)
		}
		r.wantAlive("a long pause")
	})
}

// TestManyWriters: many goroutines write to few sessions through little room; each
// session's chunks arrive in order and once.
func TestManyWriters(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		path := channel.Path{CapacityBytes: 1 << 10, SliceBytes: []int{1, 0, 7, 300}}
		c := newCouple(t, d, channel.Script{AtoB: path, BtoA: path}, small)
		c.wo.invoke = echoes["goroutine"]
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				s := c.open("e")
				wg.Go(func() {
					for i := range 60 {
						if _, err := s.Write([]byte{byte(i), byte(i >> 8)}); err != nil {
							t.Errorf("Write() = %v", err)
						}
					}
					_ = s.Close()
				})
				i := 0
				for p, err := range s.Chunks(context.Background()) {
					if err != nil || len(p) != 2 || int(p[0]) != i {
						t.Errorf("chunk %d is %v, %v", i, p, err)
						return
					}
					i++
				}
				if i != 60 {
					t.Errorf("%d chunks came back, want 60", i)
				}
			})
		}
		wg.Wait()
		c.wantEmpty()
	})
}

// TestMaxPauseEach: when several are parked each has its own time, and fails once even
// if its error cannot leave.
func TestMaxPauseEach(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRig(t, d, session.Worker, small, func(c *session.Config) { c.MaxPause = time.Second })
		var list []*session.Session
		r.owner.invoke = func(s *session.Session) { list = append(list, s) }
		full := string(make([]byte, 5000))
		r.send("invoke 2 e", "invoke 3 e", "chunk 2 "+full)
		r.loop(func() { // a channel that drains reads on
			r.Channel().Drain(&channel.CloseError{Code: channel.CodeClosed}, true, time.Minute)
		})
		pass(900 * ms)
		r.send("chunk 3 " + full)
		for _, c := range []struct {
			wait   time.Duration
			failed uint64
		}{{0, 0}, {150 * ms, 1}, {800 * ms, 1}, {100 * ms, 2}, {10 * time.Second, 2}} {
			pass(c.wait)
			if got := r.Stats().Failed; got != c.failed {
				t.Errorf("%v later: %d sessions failed, want %d", c.wait, got, c.failed)
			}
		}
		for _, s := range list {
			if e := s.Err(); e == nil || e.Code != session.CodeOverflow {
				t.Errorf("session %d: Err() = %v, want the overflow", s.ID(), e)
			}
		}
	})
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRigOver(t, "a>b capacity=100", d, session.Worker, small)
		var list []*session.Session
		r.owner.invoke = func(s *session.Session) { list = append(list, s) }
		r.send("invoke 2 e", "invoke 3 e")
		r.loop(func() {
			for list[1].SendChunk(make([]byte, 1000)) == nil {
			}
		})
		r.send("chunk 2 " + string(make([]byte, 5000)))
		pass(time.Minute)
		if st := r.Stats(); st.Failed != 1 || st.Open != 2 {
			t.Errorf("Stats() = %+v, want one failed, once, and open until its error can leave", st)
		}
		for r.next(time.Second) != "" {
		}
		if n := r.Stats().Open; n != 1 {
			t.Errorf("Stats().Open = %d, want the other", n)
		}
	})
}

// TestInboxRace: a reader that is always as fast as the loop never leaves it parked.
func TestInboxRace(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		for limit := 1; limit < 200; limit += 50 {
			r := newRig(t, d, session.Worker, func(c *session.Config) { c.InboxBytes = limit })
			var s *session.Session
			r.owner.invoke = func(got *session.Session) { s = got }
			r.send("invoke 2 e")
			n := scaled(5000)
			go func() {
				for range n {
					_, _ = r.conn.Write(r.frame("chunk 2 x"))
				}
			}()
			start := time.Now()
			for range n {
				if _, err := s.Recv(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if took := time.Since(start); took != 0 {
				t.Errorf("the chunks took %v of virtual time, want none: nobody waits", took)
			}
		}
	})
}
