package session_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// TestOwed: last frames are taken above the water mark, each once and in its place.
func TestOwed(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRigOver(t, "a>b capacity=4096", d, session.Worker, small, func(c *session.Config) { c.MaxSessions = 3 })
		var list []*session.Session
		h := &streamer{tracer: tracer{&r.owner.trace}}
		r.owner.invoke = func(s *session.Session) { list = append(list, s); s.SetHandler(h) }
		r.send("invoke 2 e", "invoke 3 e", "invoke 4 e")
		r.loop(func() {
			h.run(list[0])
			for i, err := range []error{
				list[0].SendChoke(), list[1].SendError(1, 5, "why"), // owed
			} {
				if err != nil {
					t.Errorf("last frame %d without room: %v", i, err)
				}
			}
			for i, err := range []error{
				list[0].SendChunk(nil), list[0].SendChoke(), list[0].SendError(1, 1, "no"), list[1].SendChoke(),
			} {
				if err != session.ErrClosed {
					t.Errorf("frame %d behind the last = %v, want ErrClosed", i, err)
				}
			}
		})
		if _, err := list[1].Write(nil); err != session.ErrClosed {
			t.Errorf("Write() behind the last = %v, want ErrClosed", err)
		}
		if err := list[1].Close(); err != nil {
			t.Errorf("Close() behind the last = %v, want nil", err)
		}
		if err := list[0].Fail(1, 1, "no"); err != session.ErrClosed {
			t.Errorf("Fail() behind the last = %v, want ErrClosed", err)
		}
		var ends []string
		for {
			text := r.next(time.Second)
			if text == "" {
				break
			}
			if !strings.HasPrefix(text, "chunk 2") {
				ends = append(ends, text)
			} else if len(ends) > 0 {
				t.Errorf("%q behind %q", text, ends)
			}
		}
		want := []string{"choke 2", "error 3 1 5 why"}
		if d == codec.V0 {
			want = []string{"choke 2", "error 3 0 5 why", "choke 3"}
		}
		if !slices.Equal(ends, want) {
			t.Errorf("the last frames are %q, want %q", ends, want)
		}
		if h.told != 0 {
			t.Errorf("a handler was told of room %d times after its last frame", h.told)
		}
		r.send("choke 2", "choke 3", "choke 4")
		if n := r.Stats().Open; n != 1 {
			t.Errorf("Stats().Open = %d, want the one that was not answered", n)
		}
	})
}

// TestOwedRefusals: refused invokes are answered even when the output is full, each once
// and in order, and what is owed stays bounded: the channel stands still.
func TestOwedRefusals(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRigOver(t, "a<>b capacity=4096", d, session.Worker, small, func(c *session.Config) { c.MaxSessions, c.MaxCancels = 1, -1 })
		var s *session.Session
		r.owner.invoke = func(got *session.Session) { s = got }
		r.send("invoke 2 e")
		r.loop(func() {
			for s.SendChunk(make([]byte, 1000)) == nil {
			}
		})
		const n = 5000
		go func() {
			for i := range n {
				_, _ = r.conn.Write(r.frame(str("invoke %d e", 3+i)))
			}
		}()
		synctest.Wait()
		r.loop(func() {
			if got := session.Owed(r.Table); got != 1 {
				t.Errorf("%d answers are owed, want one", got)
			}
		})
		next := uint64(3)
		for next < 3+n {
			m := r.nextMessage(time.Second)
			if m == nil {
				t.Fatalf("%d refusals, want %d", next-3, n)
			}
			if m.Session == 2 || r.d == codec.V0 && m.Type == codec.V0Choke {
				continue
			}
			if m.Session != next {
				t.Fatalf("session %d was refused, want %d", m.Session, next)
			}
			next++
		}
		r.wantAlive("refusals")
	})
}

// TestHungryCut: a handler that waits for room is not told of it after its end.
func TestHungryCut(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRigOver(t, "a>b capacity=4096", d, session.Worker, small)
		h := &streamer{tracer: tracer{&r.owner.trace}}
		var s *session.Session
		r.owner.invoke = func(got *session.Session) { s = got; s.SetHandler(h) }
		r.send("invoke 2 e")
		r.loop(func() { h.run(s); r.End(7, "end") })
		r.told("2 error local 7")
		r.dropOutput()
		synctest.Wait()
		if h.told != 0 {
			t.Errorf("told of room %d times after OnError", h.told)
		}
		if n := r.Stats().Open; n != 0 {
			t.Errorf("Stats().Open = %d, want 0", n)
		}
		r.wantAlive("after the end")
	})
}

// TestStallInCouple: two ends that both wait for room at the other are cut, not stuck.
func TestStallInCouple(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		path := channel.Path{CapacityBytes: 4 << 10}
		c := newCouple(t, d, channel.Script{AtoB: path, BtoA: path}, func(c *session.Config) {
			c.Channel.HighWaterBytes = 8 << 10
		})
		c.wo.invoke = func(s *session.Session) { h := &streamer{tracer: tracer{&c.wo.trace}}; s.SetHandler(h); h.run(s) }
		h := &streamer{tracer: tracer{&c.eo.trace}}
		onLoop(t, c.engine, func() {
			s, err := c.engine.Open("e", nil, h)
			if err != nil {
				t.Errorf("Open() = %v", err)
				return
			}
			h.run(s)
		})
		start := time.Now()
		err := <-c.eo.closed
		if took := time.Since(start); took > 11*time.Second {
			t.Errorf("the channel closed after %v with %v, want the stall timeout", took, err)
		}
		<-c.wo.closed
		c.wantEmpty()
	})
}

// Two ends that owe each other a last frame go on reading, and so get rid of it.
func TestOwedByBoth(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		script, err := channel.ParseScript("a<>b capacity=1000")
		if err != nil {
			t.Fatal(err)
		}
		c := newCouple(t, d, script, func(c *session.Config) { c.Channel.HighWaterBytes = 5000 })
		pourAndEnd := func(s *session.Session) *receiver {
			got := newReceiver()
			s.SetHandler(got)
			for s.SendChunk(make([]byte, 500)) == nil {
			}
			_ = s.SendChoke()
			return got
		}
		var there, here *receiver
		c.wo.invoke = func(s *session.Session) { there = pourAndEnd(s) }
		pass(time.Second)
		onLoop(t, c.engine, func() {
			s, err := c.engine.Open("e", nil, nil)
			if err != nil {
				t.Error(err)
				return
			}
			here = pourAndEnd(s)
		})
		pass(time.Minute)
		for _, got := range []*receiver{here, there} {
			if data, ends := got.snapshot(); len(data) < 4000 || !slices.Equal(ends, []string{"choke"}) {
				t.Errorf("%d bytes and %q came, want all and a choke", len(data), ends)
			}
		}
		c.wantEmpty()
	})
}
