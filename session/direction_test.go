package session_test

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// wantNoSending checks that no face sends anything on a session whose direction is closed.
func wantNoSending(t *testing.T, r *rig, s *session.Session) {
	t.Helper()
	r.loop(func() {
		for what, err := range map[string]error{
			"SendChunk": s.SendChunk([]byte("x")), "SendChoke": s.SendChoke(), "SendError": s.SendError(42, 1, "x"),
			"SendMessage": s.SendMessage(0, nil),
		} {
			if err != session.ErrClosed {
				t.Errorf("%s() = %v, want ErrClosed", what, err)
			}
		}
	})
	for what, err := range map[string]error{
		"Send": s.Send(t.Context(), []byte("x")), "Fail": s.Fail(42, 1, "x"), "SendMessageOffLoop": s.SendMessageOffLoop(t.Context(), 0, nil),
	} {
		if err != session.ErrClosed {
			t.Errorf("%s() = %v, want ErrClosed", what, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close() = %v, want nil: it is closed", err)
	}
	r.wantIdle("a direction that is closed")
}

// wantNoReceiving checks that a session is at its reader's end from the beginning.
func wantNoReceiving(t *testing.T, s *session.Session) {
	t.Helper()
	if p, err := s.Recv(t.Context()); err != io.EOF {
		t.Errorf("Recv() = %q, %v, want io.EOF", p, err)
	}
	if p, ok, err := s.TryRecv(); ok || err != io.EOF {
		t.Errorf("TryRecv() = %q, %v, %v, want io.EOF", p, ok, err)
	}
}

// The directions of a method, as the one who calls it sees them: a direction without a
// graph is closed from the opening frame on.
var directions = []struct {
	name   string
	tx, rx *session.Graph
}{
	{"send only", session.Streaming, nil},
	{"receive only", nil, session.Streaming},
	{"both", session.Streaming, session.Streaming},
}

// The caller sends nothing where it may not, and drops what may not come, which costs
// neither the session nor the channel.
func TestDirectionsOfCaller(t *testing.T) {
	for _, tt := range directions {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, codec.V1, session.Client, func(c *session.Config) { c.Channel.FirstSession = 3 })
				s, err := r.CallOffLoop(t.Context(), &session.Call{Type: 7, Tx: tt.tx, Rx: tt.rx}, nil)
				if err != nil {
					t.Fatal(err)
				}
				r.want("type 7 on 3", "the call")
				r.send("chunk 3 a")
				if tt.rx == nil {
					wantNoReceiving(t, s)
				} else if p, err := s.Recv(t.Context()); string(p) != "a" || err != nil {
					t.Errorf("Recv() = %q, %v, want a", p, err)
				}
				if st := r.Stats(); (st.Repeated == 1) != (tt.rx == nil) {
					t.Errorf("Stats().Repeated = %d", st.Repeated)
				}
				if tt.tx == nil {
					wantNoSending(t, r, s)
				} else {
					if err := s.Send(t.Context(), []byte("b")); err != nil {
						t.Error(err)
					}
					r.want("chunk 3 b", "our direction")
					_ = s.Close()
					r.want("choke 3", "our direction")
				}
				if tt.rx != nil {
					if n := r.Len(); n != 1 {
						t.Errorf("Len() = %d before the peer's end, want 1", n)
					}
					r.send("choke 3")
				}
				if n := r.Stats().Open; n != 0 {
					t.Errorf("Stats().Open = %d, want 0: each direction in use has ended", n)
				}
			})
		})
	}
}

// Who is called likewise; what may not come costs a caller its connection, as at the live
// runtime.
func TestDirectionsOfCallee(t *testing.T) {
	for _, tt := range directions {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s *session.Session
				r := newRig(t, codec.V1, session.Server, func(cfg *session.Config) {
					cfg.Owner = &callee{
						owner: cfg.Owner.(*owner), methods: map[uint64]session.Opening{7: {Name: "m", Tx: tt.rx, Rx: tt.tx}},
						call: func(opened *session.Session, _ []byte) { s = opened },
					}
				})
				r.send(r.typed(3, 7))
				if tt.rx == nil {
					wantNoSending(t, r, s)
				} else {
					if err := s.Send(t.Context(), []byte("a")); err != nil {
						t.Error(err)
					}
					r.want("chunk 3 a", "our direction")
				}
				if tt.tx == nil {
					wantNoReceiving(t, s)
					r.send("chunk 3 b")
					r.wantClosed(channel.CodeBadSession)
					return
				}
				r.send("chunk 3 b", "choke 3")
				if p, err := s.Recv(t.Context()); string(p) != "b" || err != nil {
					t.Errorf("Recv() = %q, %v, want b", p, err)
				}
				if tt.rx != nil {
					_ = s.Close()
					r.want("choke 3", "our direction")
				}
				if n := r.Stats().Open; n != 0 {
					t.Errorf("Stats().Open = %d, want 0: each direction in use has ended", n)
				}
			})
		})
	}
}

// The handler of an event, whose sessions are streams both ways, gives up the direction
// that it does not use when it begins: Close, or CloseRead.
func TestDirectionsOfWorker(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRig(t, d, session.Worker)
		var s *session.Session
		r.owner.invoke = func(opened *session.Session) { s = opened }
		r.send("invoke 2 upload")
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		r.want("choke 2", "a handler that only receives")
		wantNoSending(t, r, s)
		r.send("chunk 2 a", "choke 2")
		if p, err := s.Recv(t.Context()); string(p) != "a" || err != nil {
			t.Errorf("Recv() = %q, %v, want a", p, err)
		}
		if n := r.Stats().Open; n != 0 {
			t.Errorf("Stats().Open = %d, want 0", n)
		}

		r.send("invoke 3 download", "chunk 3 before")
		waiting := make(chan error, 1)
		first := s
		if first.Event() != "download" {
			t.Fatalf("Event() = %q", first.Event())
		}
		s.CloseRead()
		s.CloseRead() // once more does no harm
		synctest.Wait()
		wantNoReceiving(t, s)
		r.send("chunk 3 x", "chunk 3 y")
		wantNoReceiving(t, s)
		for range 3 {
			if err := s.Send(t.Context(), []byte("b")); err != nil {
				t.Error(err)
			}
			r.want("chunk 3 b", "a handler that only sends")
		}
		r.wantAlive("chunks that nobody reads")
		_ = s.Close()
		r.want("choke 3", "a handler that only sends")
		if n := r.Stats().Open; n != 0 {
			t.Errorf("Stats().Open = %d, want 0, whether the peer ends its direction or not", n)
		}

		r.send("invoke 4 waits") // a reader that waits is woken
		go func() {
			_, err := s.Recv(t.Context())
			waiting <- err
		}()
		synctest.Wait()
		s.CloseRead()
		if err := <-waiting; err != io.EOF {
			t.Errorf("Recv() = %v, want io.EOF", err)
		}
	})
}

// A direction that is not read holds back neither a peer of ours nor the channel.
func TestCloseReadCredit(t *testing.T) {
	for _, credit := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			small := func(c *session.Config) { c.InboxBytes = 1000 }
			c := newCouple(t, codec.V1, channel.Script{}, small)
			if credit {
				c = creditCouple(t, channel.Script{}, 1000, 4000, small)
			}
			served := make(chan *session.Session, 1)
			c.wo.invoke = func(s *session.Session) { served <- s }
			s := c.open("download")
			w := <-served
			_ = s.Send(t.Context(), make([]byte, 900))
			w.CloseRead()
			sent := make(chan error, 1)
			go func() {
				for range 100 {
					if err := s.Send(t.Context(), make([]byte, 900)); err != nil {
						sent <- err
						return
					}
				}
				sent <- s.Close()
			}()
			pass(time.Minute)
			select {
			case err := <-sent:
				if err != nil {
					t.Error(err)
				}
			default:
				t.Errorf("credit %v: the peer still waits for one who does not read", credit)
			}
			if _, err := w.Write([]byte("x")); err != nil {
				t.Error(err)
			}
			_ = w.Close()
			c.wantEmpty()
		})
	}
}

// A receiver pauses its session from any goroutine, and lets it go on.
func TestPauseOffLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := creditCouple(t, channel.Script{}, 1000, 100_000)
		h := newReceiver()
		var paused *session.Session
		c.wo.invoke = func(s *session.Session) {
			if s.Event() != "paused" {
				s.SetHandler(&echoLoop{})
				return
			}
			paused = s
			s.SetHandler(h)
		}
		s := c.open("paused")
		synctest.Wait()
		paused.PauseOffLoop()
		synctest.Wait()
		sent := make(chan error, 1)
		sends := 0
		go func() {
			for ; sends < 40; sends++ {
				if err := s.Send(t.Context(), make([]byte, 300)); err != nil {
					sent <- err
					return
				}
			}
			sent <- s.Close()
		}()
		pass(time.Hour) // longer than any pause of a channel may be
		synctest.Wait()
		if sends != 4 { // the fourth passes the window of 1,000
			t.Errorf("%d chunks of 300 bytes were sent to one that is paused, want 4", sends)
		}
		if data, ends := h.snapshot(); len(data) != 0 || len(ends) != 0 {
			t.Errorf("%d bytes and %q were told while it was paused", len(data), ends)
		}
		other := c.open("echo")
		_, _ = other.Write([]byte("x"))
		if p, err := other.Recv(t.Context()); string(p) != "x" || err != nil {
			t.Errorf("Recv() = %q, %v beside one that is paused", p, err)
		}
		_ = other.Close()
		paused.ResumeOffLoop()
		if err := <-sent; err != nil {
			t.Error(err)
		}
		<-h.done
		if data, ends := h.snapshot(); len(data) != 40*300 || len(ends) != 1 || ends[0] != "choke" {
			t.Errorf("%d bytes and %q were told, want 12,000 and the choke", len(data), ends)
		}
	})
}

// A plain peer fills what may be kept, then the channel stands still; until MaxPause.
func TestPauseOffLoopPlain(t *testing.T) {
	for _, tt := range []struct {
		after time.Duration
		want  string
	}{{4 * time.Second, "choke"}, {6 * time.Second, "local 203"}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, codec.V1, session.Worker, func(c *session.Config) { c.InboxBytes = 1000 })
			h := newReceiver()
			var s *session.Session
			r.owner.invoke = func(opened *session.Session) { s = opened; s.SetHandler(h) }
			r.send("invoke 2 e")
			s.PauseOffLoop()
			r.send("chunk 2 a", "heartbeat")
			r.told("heartbeat")
			r.send("chunk 2 "+string(make([]byte, 1000)), "choke 2")
			r.send("heartbeat")
			r.told()
			pass(tt.after)
			s.ResumeOffLoop()
			<-h.done
			r.told("heartbeat")
			if _, ends := h.snapshot(); ends[0] != tt.want {
				t.Errorf("after %v: ended with %q, want %s", tt.after, ends, tt.want)
			}
		})
	}
}

// One without a Handler is paused by not reading it.
func TestPauseOffLoopWithoutHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, codec.V1, session.Worker)
		var s *session.Session
		r.owner.invoke = func(opened *session.Session) { s = opened }
		r.send("invoke 2 e")
		s.PauseOffLoop()
		r.send("chunk 2 a")
		if p, err := s.Recv(t.Context()); string(p) != "a" || err != nil {
			t.Errorf("Recv() = %q, %v, want a", p, err)
		}
		s.ResumeOffLoop()
		r.wantAlive("a pause that does nothing")
	})
}
