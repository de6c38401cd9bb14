package session_test

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// TestEchoOnLoopPauses: a peer that does not read for a while is not read from; nothing
// is lost, and what is held is bounded.
func TestEchoOnLoopPauses(t *testing.T) {
	bothFaces(t, func(t *testing.T, d codec.Dialect, echo func(*session.Session)) {
		r := newRigOver(t, "a<>b capacity=4096", d, session.Worker, small)
		r.owner.invoke = echo
		want := pattern(3, 1<<20)
		go func() {
			for n := uint64(2); n < 6; n++ {
				_, _ = r.conn.Write(r.frame(str("invoke %d e", n)))
			}
			for at := 0; at < len(want); at += 1 << 10 {
				var b []byte
				for n := uint64(2); n < 6; n++ {
					b = codec.AppendFrame(b, d, &codec.Frame{Kind: codec.KindChunk, Session: n, Payload: want[at : at+1<<10]})
				}
				_, _ = r.conn.Write(b)
			}
			for n := uint64(2); n < 6; n++ {
				_, _ = r.conn.Write(r.frame(str("choke %d", n)))
			}
		}()
		for range 4 { // the peer sleeps now and then
			pass(4 * time.Second)
			r.loop(func() {
				if held := r.Channel().Stats().QueuedBytes; held > 8<<10+2<<10 {
					t.Errorf("%d bytes of output are held, want the water mark and a frame", held)
				}
				if got := r.Channel().Received() - r.Channel().Stats().BytesOut; got > 300<<10 {
					t.Errorf("%d bytes were read and not answered, want a bounded number", got)
				}
			})
			for range 100 {
				r.readChunk(want)
			}
		}
		for len(r.got) < 4 || !r.allEnded() {
			r.readChunk(want)
		}
		for n, got := range r.got {
			if got != len(want) {
				t.Errorf("session %d: %d bytes came back, want %d", n, got, len(want))
			}
		}
		r.wantIdle("all is said")
		synctest.Wait()
		if n := r.Stats().Open; n != 0 {
			t.Errorf("Stats().Open = %d, want 0", n)
		}
		r.wantAlive("after the pauses")
	})
}

// readChunk reads a frame of any session's echo of want.
func (r *rig) readChunk(want []byte) {
	r.t.Helper()
	m := r.nextMessage(time.Minute)
	if m == nil {
		r.t.Fatal("the echo stands still")
	}
	if r.got == nil {
		r.got, r.ended = map[uint64]int{}, map[uint64]bool{}
	}
	if m.Payload == nil {
		r.ended[m.Session] = true
		return
	}
	at := r.got[m.Session]
	if at+len(m.Payload) > len(want) || !bytes.Equal(m.Payload, want[at:at+len(m.Payload)]) {
		r.t.Fatalf("session %d: other bytes came back at %d", m.Session, at)
	}
	r.got[m.Session] = at + len(m.Payload)
}

func (r *rig) allEnded() bool { return len(r.ended) == len(r.got) }

// streamer sends without end, as there is room.
type streamer struct {
	tracer
	max, sent, told int // max is 0 for ever
}

func (h *streamer) OnWritable(s *session.Session) {
	h.told++
	h.run(s)
}

func (h *streamer) run(s *session.Session) {
	for (h.max == 0 || h.sent < h.max) && s.SendChunk(make([]byte, 1000)) == nil {
		h.sent++
	}
}

// TestFairness: streams on the loop get room in turn, and so do the owner's opens.
func TestFairness(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRigOver(t, "a>b capacity=4096", d, session.Engine, small)
		var list []*streamer
		var sessions []*session.Session
		opened := 0
		r.owner.room = func() {
			for {
				if _, err := r.Open("more", nil, nil); err != nil {
					return
				}
				opened++
			}
		}
		r.loop(func() {
			for range 5 {
				h := &streamer{tracer: tracer{&r.owner.trace}}
				s, err := r.Open("e", nil, h)
				if err != nil {
					t.Errorf("Open() = %v", err)
					return
				}
				list = append(list, h)
				sessions = append(sessions, s)
			}
			for i, h := range list {
				h.run(sessions[i])
			}
			r.owner.room()
		})
		got := map[string]int{}
		for range 12000 {
			got[r.next(time.Second)]++
		}
		least, most := 1<<30, 0
		for n := range uint64(5) {
			frames := got[str("chunk %d <1000 bytes>", r.first()+n)]
			least, most = min(least, frames), max(most, frames)
		}
		if least*2 < most || least < 100 {
			t.Errorf("the streams got from %d to %d chunks through, want about the same", least, most)
		}
		if opened < 1000 {
			t.Errorf("the owner opened %d sessions meanwhile, want it to have its turn", opened)
		}
		r.loop(func() { r.Channel().Fail(&channel.CloseError{}) })
	})
}

// TestKept: while a handler waits for room it is told nothing but an error; what came is
// handed over in order behind OnWritable. Other sessions and the control go on.
func TestKept(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRigOver(t, "a>b capacity=4096", d, session.Worker, small)
		handlers := map[uint64]*streamer{}
		r.owner.invoke = func(s *session.Session) {
			if s.Event() == "other" {
				s.SetHandler(tracer{&r.owner.trace})
				return
			}
			h := &streamer{tracer: tracer{&r.owner.trace}, max: 20}
			handlers[s.ID()] = h
			s.SetHandler(h)
			h.run(s)
		}
		r.send("invoke 2 stream", "chunk 2 a", "chunk 2 b", "choke 2", "invoke 3 other", "chunk 3 x", "heartbeat")
		r.told("3 chunk x", "heartbeat")
		for range 20 {
			r.want("chunk 2 <1000 bytes>", "the stream")
		}
		r.told("2 chunk a", "2 chunk b", "2 choke")
		r.loop(func() {
			if r.Channel().Paused() {
				t.Error("the channel stands still")
			}
		})
		// Up to an inbox of it is kept, then it stays in the socket; the peer's error is
		// behind that.
		r.send("invoke 4 stream")
		go func() {
			for range 6 {
				_, _ = r.conn.Write(r.frame("chunk 4 " + string(make([]byte, 1000))))
			}
			_, _ = r.conn.Write(append(r.frame("error 4 1 7 no"), r.frame("chunk 3 y")...))
		}()
		pass(time.Minute) // more than MaxPause: who waits for room is not to blame
		r.told()
		for range 20 {
			r.want("chunk 4 <1000 bytes>", "the stream")
		}
		r.told("4 chunk <1000 bytes>", "4 chunk <1000 bytes>", "4 chunk <1000 bytes>", "4 chunk <1000 bytes>",
			"4 chunk <1000 bytes>", "4 chunk <1000 bytes>", "4 error remote 7", "3 chunk y")
		r.loop(func() {
			if n := session.Waiting(r.Table); n != 0 {
				t.Errorf("%d bytes wait, want none", n)
			}
		})
		// An error that can be read is told at once, and nothing of what was kept.
		r.send("invoke 5 stream", "chunk 5 a", "error 5 1 7 no", "chunk 3 z")
		r.told("5 error remote 7", "3 chunk z")
		told := handlers[5].told
		r.dropOutput()
		synctest.Wait()
		r.told()
		if got := handlers[5].told; got != told {
			t.Errorf("the handler was told of room %d times after its error", got-told)
		}
	})
}

// TestKeptEnd: a session whose handler must still be told of the end is not over.
func TestKeptEnd(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		var r *rig
		r = newRigOver(t, "a>b capacity=4096", d, session.Worker, small, func(c *session.Config) {
			c.OnSettled = func(s *session.Session) { r.owner.add("%d settled", s.ID()) }
		})
		var s *session.Session
		r.owner.invoke = func(got *session.Session) {
			s = got
			s.SetHandler(tracer{&r.owner.trace}) // not Writable: gets its input when there is room
			for s.SendChunk(make([]byte, 1000)) == nil {
			}
		}
		r.send("invoke 2 e", "chunk 2 a", "choke 2")
		r.told()
		r.loop(func() { _ = s.SendChoke() }) // waits for room no more
		r.told("2 chunk a", "2 choke", "2 settled")
	})
}

// TestIgnoreKept: what is ignored is not kept either.
func TestIgnoreKept(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRigOver(t, "a>b capacity=4096", d, session.Worker, small)
		h := &streamer{tracer: tracer{&r.owner.trace}, max: 20}
		var s *session.Session
		r.owner.invoke = func(got *session.Session) { s = got; s.SetHandler(h); h.run(s) }
		r.send("invoke 2 e")
		go func() {
			_, _ = r.conn.Write(slices.Concat(r.frame("chunk 2 "+string(make([]byte, 5000))), r.frame("choke 2"), r.frame("heartbeat")))
		}()
		r.told()
		r.loop(func() { s.Ignore() })
		r.told("heartbeat")
		for range 20 {
			r.want("chunk 2 <1000 bytes>", "the stream goes on")
		}
		r.told()
		r.loop(func() { _ = s.SendChoke() })
		if n := r.Stats().Open; n != 0 {
			t.Errorf("Stats().Open = %d, want 0", n)
		}
	})
}

// TestStreamStarvesNobody: an endless stream on the loop keeps neither questions nor
// answers of others from their way.
func TestStreamStarvesNobody(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		path := channel.Path{CapacityBytes: 4 << 10, Latency: ms}
		c := newCouple(t, d, channel.Script{AtoB: path, BtoA: path}, func(c *session.Config) {
			c.Channel.HighWaterBytes = 8 << 10
		})
		c.wo.invoke = func(s *session.Session) {
			if s.Event() == "ping" {
				s.SetHandler(&echoLoop{})
				return
			}
			h := &streamer{tracer: tracer{&c.wo.trace}}
			s.SetHandler(h)
			h.run(s)
		}
		h := newReceiver()
		if _, err := c.engine.OpenOffLoop(t.Context(), "stream", nil, h); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for range 50 {
			ping := c.open("ping")
			_, _ = ping.Write([]byte("x"))
			if p, err := ping.Recv(t.Context()); string(p) != "x" || err != nil {
				t.Fatalf("Recv() = %q, %v after %v", p, err, time.Since(start))
			}
			_ = ping.Close()
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("50 pings took %v, want 40 ms apiece at most", took)
		}
		if data, _ := h.snapshot(); len(data) < 100<<10 {
			t.Errorf("the stream moved %d bytes meanwhile, want more", len(data))
		}
	})
}

// TestNewcomers: who comes when there is a little room again waits behind those who were
// refused before.
func TestNewcomers(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRigOver(t, "a>b capacity=100", d, session.Engine, small)
		first := &streamer{tracer: tracer{&r.owner.trace}, max: 12}
		second := &streamer{tracer: tracer{&r.owner.trace}, max: 1}
		opened := 0
		r.owner.room = func() {
			if _, err := r.Open("late", nil, nil); err == nil {
				opened++
			}
		}
		var a, b *session.Session
		r.loop(func() {
			a, _ = r.Open("a", nil, first)
			b, _ = r.Open("b", nil, second)
			first.run(a)
		})
		n := r.first()
		r.want(str("invoke %d a", n), "open")
		r.want(str("invoke %d b", n+1), "open")
		for range 4 {
			r.want(str("chunk %d <1000 bytes>", n), "the first")
		}
		synctest.Wait()
		r.loop(func() {
			if second.run(b); second.sent != 0 {
				t.Error("a chunk of a newcomer was taken, want it refused")
			}
			if r.owner.room(); opened != 0 {
				t.Error("a session was opened meanwhile, want it refused")
			}
		})
		for range 8 {
			r.want(str("chunk %d <1000 bytes>", n), "the first goes on")
		}
		r.want(str("chunk %d <1000 bytes>", n+1), "then the second")
		r.want(str("invoke %d late", n+2), "then the owner")
		r.wantIdle("all is said")
	})
}

// TestTurns: who is told and finds that the one before took all the room stays first.
func TestTurns(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRigOver(t, "a>b capacity=100", d, session.Worker, small)
		size := 9000 // more than all the room
		var list []*session.Session
		r.owner.invoke = func(s *session.Session) {
			list = append(list, s)
			s.SetHandler(&oneChunk{make([]byte, size)})
		}
		r.send("invoke 2 e", "invoke 3 e", "invoke 4 e", "invoke 5 e", "invoke 6 e")
		r.loop(func() {
			for _, s := range list {
				_ = s.SendChunk(make([]byte, size))
			}
		})
		for n := range 5 {
			r.want(str("chunk %d <9000 bytes>", 2+n), "in turn")
		}
		r.wantIdle("each once")
	})
}

// oneChunk sends one chunk when there is room.
type oneChunk struct{ p []byte }

func (h *oneChunk) OnChunk(*session.Session, []byte)         {}
func (h *oneChunk) OnChoke(*session.Session)                 {}
func (h *oneChunk) OnError(*session.Session, *session.Error) {}
func (h *oneChunk) OnWritable(s *session.Session)            { _ = s.SendChunk(h.p) }

// TestWaitingBound: however many sessions wait for room, what is kept for them is
// bounded, and accounted for.
func TestWaitingBound(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRigOver(t, "a<>b capacity=4096", d, session.Worker, small)
		r.owner.invoke = echoes["loop"]
		const n, chunks = 500, 10
		go func() {
			for i := range n {
				_, _ = r.conn.Write(r.frame(str("invoke %d e", 2+i)))
			}
			for range chunks {
				for i := range n {
					_, _ = r.conn.Write(r.frame(str("chunk %d %0500d", 2+i, 0)))
				}
			}
			for i := range n {
				_, _ = r.conn.Write(r.frame(str("choke %d", 2+i)))
			}
		}()
		synctest.Wait()
		r.loop(func() {
			if !r.Channel().Paused() {
				t.Error("the channel reads on, want it to stand still")
			}
			// The output, what waits for it, what the path and one read hold, and a frame of each.
			if got := r.Channel().Received(); got > 8<<10+4<<10+4<<10+8<<10+4*520 {
				t.Errorf("%d bytes were read, want a bounded number", got)
			}
		})
		frames := 0
		for r.next(time.Second) != "" {
			frames++
		}
		if want := n * (chunks + 1); frames != want {
			t.Errorf("%d frames came back, want %d", frames, want)
		}
		r.loop(func() {
			if got := session.Waiting(r.Table); got != 0 || r.Channel().Paused() {
				t.Errorf("%d bytes wait, paused %v, want none and not", got, r.Channel().Paused())
			}
		})
		if open := r.Stats().Open; open != 0 {
			t.Errorf("Stats().Open = %d, want 0", open)
		}
	})
}
