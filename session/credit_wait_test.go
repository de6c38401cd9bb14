package session_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// Credit that was paid and is given back, because its frame found no room in time, lets
// the next one go, whichever face it uses.
func TestCreditGivenBack(t *testing.T) {
	for _, onLoopToo := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			script := channel.Script{AtoB: channel.Path{CapacityBytes: 100, Stalls: []channel.Stall{{At: 300, For: 8 * time.Second}}}}
			c := creditCouple(t, script, 10_000, 1000, func(c *session.Config) {
				c.Channel.HighWaterBytes, c.Channel.StallTimeout = 1500, time.Hour
			})
			c.wo.invoke = func(s *session.Session) { s.SetHandler(newReceiver()) }
			a, b := c.open("a"), c.open("b")
			_, _ = c.engine.OpenOffLoop(t.Context(), string(make([]byte, 1000)), nil, nil) // fills the output
			_, _ = c.engine.OpenOffLoop(t.Context(), string(make([]byte, 1000)), nil, nil)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			go func() {
				if err := a.Send(ctx, make([]byte, 1200)); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Send() = %v, want the deadline: this test is of no use", err)
				}
			}()
			pass(time.Second)
			sent := make(chan error, 1)
			if onLoopToo {
				onLoop(t, c.engine, func() {
					try := func(s *session.Session) {
						if s.SendChunk([]byte("x")) == nil {
							sent <- nil
						}
					}
					b.SetHandler(onRoom{try})
					try(b)
				})
			} else {
				go func() { sent <- b.Send(t.Context(), []byte("x")) }()
			}
			pass(2 * time.Minute)
			select {
			case err := <-sent:
				if err != nil {
					t.Error(err)
				}
			default:
				t.Fatalf("on the loop %v: one that waited for credit still does, though it was given back", onLoopToo)
			}
		})
	}
}

// Who waits for credit is told that the session, or the channel, takes nothing more.
func TestCreditWaitEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(c *couple, s *session.Session)
		want string
	}{
		{"dropped", func(_ *couple, s *session.Session) { s.Drop() }, "closed"},
		{"choked", func(_ *couple, s *session.Session) { _ = s.SendChoke() }, "closed"},
		{"cancelled", func(_ *couple, s *session.Session) { s.Cancel(42, 1, "never mind") }, "never mind"},
		{"cut", func(_ *couple, s *session.Session) { s.Cut(42, 1, "never mind") }, "never mind"},
		{"lost", func(c *couple, _ *session.Session) { c.engine.Channel().Fail(&channel.CloseError{Reason: "test"}) }, "channel"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := creditCouple(t, channel.Script{}, 1000, 4000)
				c.wo.invoke = func(*session.Session) {}
				s := c.open("e")
				got := make(chan error, 1)
				go func() {
					for {
						if err := s.Send(t.Context(), make([]byte, 400)); err != nil {
							got <- err
							return
						}
					}
				}()
				synctest.Wait()
				onLoop(t, c.engine, func() { tt.end(c, s) })
				synctest.Wait()
				select {
				case err := <-got:
					if !strings.Contains(err.Error(), tt.want) {
						t.Errorf("Send() = %v, want %q", err, tt.want)
					}
				default:
					t.Error("Send() still waits")
				}
			})
		})
	}
}

// A handler that was refused for want of credit, and then ended its direction, still gets
// what was kept for it meanwhile.
func TestCreditRefusedThenEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := creditCouple(t, channel.Script{}, 1000, 4000)
		got := newReceiver()
		var served *session.Session
		c.wo.invoke = func(s *session.Session) {
			served = s
			s.SetHandler(got)
			for s.SendChunk(make([]byte, 400)) == nil {
			}
		}
		s := c.open("e")
		synctest.Wait()
		_, _ = s.Write([]byte("kept"))
		synctest.Wait()
		if data, _ := got.snapshot(); data != "" {
			t.Fatalf("the handler was told of %q while it waits for credit", data)
		}
		onLoop(t, c.worker, func() { _ = served.SendChoke() })
		_, _ = s.Write([]byte(" and more"))
		_ = s.Close()
		synctest.Wait()
		if data, ends := got.snapshot(); data != "kept and more" || len(ends) != 1 {
			t.Errorf("the handler was told of %q and %q, want all and a choke", data, ends)
		}
		c.wantEmpty()
		onLoop(t, c.worker, func() {
			if n := session.Waiting(c.worker); n != 0 {
				t.Errorf("%d bytes are said to wait, want none", n)
			}
		})
	})
}

// Sessions that end while they are short of credit are forgotten, whatever the peer gives.
func TestCreditShortBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newQuietRig(t, channel.Script{}, codec.V1, session.Server, serving(func(s *session.Session, _ []byte) {
			s.SetHandler(newReceiver())
			for s.SendChunk(make([]byte, 400)) == nil {
			}
		}), windows(1000, 1000), func(c *session.Config) { c.MaxCancels = -1 })
		r.send(offering(codec.Frame{Kind: codec.KindCall, Session: 1, Type: codec.V1Ping}, offerText))
		for id := range uint64(1000) {
			r.send(r.typed(id+2, 1), r.typed(0, 2, id+2, 42, 1, "")) // a cancel
		}
		r.loop(func() {
			if open, short := r.Len(), session.Short(r.Table); open != 0 || short > 200 {
				t.Errorf("%d sessions are open, %d wait for credit, want none and few", open, short)
			}
		})
	})
}

// A cancel is a cancel for the budget of those (rapid reset).
func TestCancelFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := creditCouple(t, channel.Script{}, 1000, 4000, func(c *session.Config) { c.MaxCancels = 50 })
		c.wo.invoke = func(*session.Session) {}
		for range 60 {
			s, err := c.engine.OpenOffLoop(t.Context(), "e", nil, nil)
			if err != nil {
				break
			}
			synctest.Wait()
			c.engine.Channel().Post(func() { s.Cancel(42, 1, "") })
		}
		synctest.Wait()
		if err := c.worker.Channel().Err(); err == nil || err.Code != channel.CodeFlood {
			t.Errorf("60 cancels where 50 may be: the channel ended with %v, want a flood", err)
		}
	})
}

// A cancel overtakes the chunks of its session; a server that is strict with others knows.
func TestCancelBeforeChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := channel.Script{AtoB: channel.Path{CapacityBytes: 2000, Latency: time.Millisecond}}
		c := newService(t, script, func(*session.Session, []byte) {}, windows(1<<20, 1<<20))
		s := c.call(t, 1)
		synctest.Wait()
		pass(time.Second)
		onLoop(t, c.client, func() {
			for range 20 {
				if err := s.SendChunk(make([]byte, 20_000)); err != nil {
					t.Error(err)
				}
			}
			s.Cancel(42, 1, "")
		})
		pass(time.Minute)
		if err := c.server.Channel().Err(); err != nil {
			t.Errorf("the server closed the channel: %v", err)
		}
		if n := c.server.Stats().Late; n == 0 {
			t.Error("no frame came late: this test is of no use")
		}
		wantWhole(t, c.client, c.server, 1<<20)
	})
}

// Cancels with long reasons do not cost the channel while the peer is slow.
func TestCancelLongReasons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := channel.Script{AtoB: channel.Path{CapacityBytes: 100, Stalls: []channel.Stall{{At: 3000, For: 5 * time.Second}}}}
		c := creditCouple(t, script, 1000, 4000)
		c.wo.invoke = func(*session.Session) {}
		var all []*session.Session
		for range 100 {
			all = append(all, c.open("e"))
		}
		synctest.Wait()
		onLoop(t, c.engine, func() {
			for _, s := range all {
				s.Cancel(42, 1, strings.Repeat("x", 16<<10))
			}
		})
		pass(time.Minute)
		if err := c.engine.Channel().Err(); err != nil {
			t.Errorf("the channel ended: %v", err)
		}
		c.wantEmpty()
	})
}
