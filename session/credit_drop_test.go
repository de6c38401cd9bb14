package session_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// service is a client and a server that have agreed by a ping.
type service struct{ client, server *session.Table }

func newService(t testing.TB, s channel.Script, call func(s *session.Session, args []byte), opts ...option) *service {
	t.Helper()
	c := &service{}
	c.client, _ = newTable(t, codec.V1, session.Client, opts...)
	c.server, _ = newTable(t, codec.V1, session.Server, append([]option{serving(call)}, opts...)...)
	offer := c.client.Offer()
	a, b := channel.Pair(s)
	if err := errors.Join(c.client.Channel().Attach(a), c.server.Channel().Attach(b)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		closeNow(c.client)
		closeNow(c.server)
	})
	ping, err := c.client.CallOffLoop(context.Background(), &session.Call{Type: codec.V1Ping, Headers: offer, Rx: session.Primitive}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ping.Recv(context.Background()); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return c
}

func (c *service) call(t testing.TB, typ uint64) *session.Session {
	t.Helper()
	s, err := c.client.CallOffLoop(context.Background(), callOf(typ), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantWhole checks that a's window for the channel, as b gave it, is whole again.
func wantWhole(t testing.TB, a, b *session.Table, window int64) {
	t.Helper()
	synctest.Wait()
	var left, received, read int64
	onLoop(t, a, func() { left, _, _ = session.Accounts(a) })
	onLoop(t, b, func() { _, received, read = session.Accounts(b) })
	if left+read != window || received > read {
		t.Errorf("%d left, %d received and %d of it read: not the window of %d", left, received, read, window)
	}
}

// Who gives up reading does not stop the peer, in whatever way it does so: what is sent
// on is dropped, and the channel's credit comes back.
func TestCreditGivenUp(t *testing.T) {
	const window, chunk = 1000, 300
	giveUp := map[string]func(w *session.Table, s *session.Session){
		"ignored":         func(_ *session.Table, s *session.Session) { s.Ignore() },
		"ended and gone":  func(_ *session.Table, s *session.Session) { _ = s.SendChoke(); s.Ignore() },
		"gone, then over": func(_ *session.Table, s *session.Session) { s.Ignore(); _ = s.SendChoke() },
		"dropped":         func(_ *session.Table, s *session.Session) { s.Drop() },
		"ended and cut":   func(_ *session.Table, s *session.Session) { _ = s.SendChoke(); s.Cut(42, 1, "") },
		"cut":             func(_ *session.Table, s *session.Session) { s.Cut(42, 1, "") },
		"ended, all cut":  func(w *session.Table, s *session.Session) { _ = s.SendChoke(); w.End(1, "") },
		"failed":          func(_ *session.Table, s *session.Session) { _ = s.SendError(42, 1, ""); s.Ignore() },
		"failed, unread":  func(_ *session.Table, s *session.Session) { _ = s.SendError(42, 1, "") },
	}
	for name, f := range giveUp {
		for _, paused := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/paused=%v", name, paused), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := creditCouple(t, channel.Script{}, window, 4*window)
					c.wo.invoke = func(s *session.Session) {
						if paused {
							s.SetHandler(tracer{&c.wo.trace})
							s.Pause()
						}
						timer := c.worker.Channel().NewTimer(func() { f(c.worker, s) })
						timer.Reset(time.Second)
					}
					s := c.open("e")
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					for i := range 50 {
						if err := s.Send(ctx, make([]byte, chunk)); err != nil {
							t.Fatalf("Send() = %v for chunk %d", err, i)
						}
					}
					onLoop(t, c.engine, func() { s.Cancel(42, 1, "done") })
					c.wantEmpty()
					wantWhole(t, c.engine, c.worker, 4*window)
					if err := c.worker.Channel().Err(); err != nil {
						t.Errorf("the channel ended: %v", err)
					}
				})
			})
		}
	}
}

// Values never wait for credit, so they overdraw nothing: two of ours do not lose their
// channel when answers come while a stream has used the window up.
func TestCreditValuesBesideStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stream *session.Session
		c := newService(t, channel.Script{}, func(s *session.Session, args []byte) {
			if s.Event() == "stream" {
				stream = s
				return
			}
			_ = s.SendMessage(codec.V1Value, codec.Args(string(make([]byte, 900))).Bytes())
			s.Ignore()
		}, windows(1<<20, 4000))
		slow := c.call(t, 1)
		synctest.Wait()
		onLoop(t, c.server, func() {
			stream.SetHandler(&echoLoop{})
			for stream.SendChunk(make([]byte, 1000)) == nil {
			}
		})
		for range 10 {
			s := c.call(t, 0)
			if p, err := s.Recv(t.Context()); err != nil || len(p) < 900 {
				t.Fatalf("Recv() = %d bytes, %v, want the value", len(p), err)
			}
		}
		for range 4 {
			if _, err := slow.Recv(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		wantWhole(t, c.server, c.client, 4000)
	})
}

// A value that is not taken costs nothing.
func TestCreditValueRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newService(t, channel.Script{}, func(s *session.Session, args []byte) {
			err := s.SendMessage(codec.V1Value, codec.Args(string(make([]byte, 10_000))).Bytes())
			if !errors.Is(err, channel.ErrTooLarge) {
				t.Errorf("SendMessage() = %v, want ErrTooLarge", err)
			}
			_ = s.SendError(1, 2, "too large")
			s.Ignore()
		}, windows(1000, 4000), func(c *session.Config) { c.Channel.Limits.MaxPayloadBytes = 5000 })
		if _, err := c.call(t, 0).Recv(t.Context()); err == nil {
			t.Error("Recv() = nil, want the error")
		}
		wantWhole(t, c.server, c.client, 4000)
	})
}

// A value that was owed when the peer gave the call up is not sent, and costs nothing.
func TestCreditValueOwed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var read, full *session.Session
		script, err := channel.ParseScript("a<>b capacity=100")
		if err != nil {
			t.Fatal(err)
		}
		script.BtoA.Stalls = []channel.Stall{{At: 200, For: 5 * time.Second}}
		c := newService(t, script, func(s *session.Session, args []byte) {
			if s.Event() == "read" {
				read = s
				return
			}
			full = s
			s.SetHandler(&echoLoop{})
		}, windows(50_000, 50_000), func(c *session.Config) { c.Channel.HighWaterBytes = 2000 })
		s, stream := c.call(t, 0), c.call(t, 1)
		go func() {
			for range stream.Chunks(t.Context()) {
			}
		}()
		pass(time.Second)
		onLoop(t, c.server, func() {
			for full.SendChunk(make([]byte, 500)) == nil {
			}
			if err := read.SendMessage(codec.V1Value, codec.Args("value").Bytes()); err != nil {
				t.Error(err)
			}
			if n := session.Owed(c.server); n != 1 {
				t.Errorf("%d last frames are owed, want 1", n)
			}
			read.Cancel(42, 1, "")
		})
		pass(time.Minute)
		if _, err := s.Recv(t.Context()); err == nil || err == io.EOF {
			t.Errorf("Recv() = %v, want the error", err)
		}
		wantWhole(t, c.server, c.client, 50_000)
	})
}

// A peer that offers credit and never keeps to it is bounded as a plain one is.
func TestCreditUnconfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newQuietRig(t, channel.Script{}, codec.V1, session.Server, serving(func(*session.Session, []byte) {}),
			windows(1000, 4000), func(c *session.Config) { c.InboxBytes = 4000 })
		r.send(offering(codec.Frame{Kind: codec.KindCall, Session: 1, Type: codec.V1Ping}, offerText), r.typed(2, 1))
		var s *session.Session
		r.loop(func() { s = session.SessionOf(r.Table, 2) })
		_ = r.conn.SetWriteDeadline(time.Now().Add(time.Second))
		for err := error(nil); err == nil; {
			_, err = r.conn.Write(r.frame("chunk 2 " + string(make([]byte, 1000))))
			if n := session.Held(s); n > 200_000 {
				t.Fatalf("%d bytes are kept for a reader that does not read", n)
			}
		}
	})
}

// What is no stream is not held by credit, and bounded as ever.
func TestCreditNoStream(t *testing.T) {
	for _, paused := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var s *session.Session
			r := newQuietRig(t, channel.Script{}, codec.V1, session.Server, serving(func(got *session.Session, _ []byte) {
				if s = got; paused {
					s.SetHandler(newReceiver())
					s.Pause()
				}
			}), windows(1000, 4000), func(c *session.Config) { c.InboxBytes = 4000 })
			confirm := codec.Frame{Kind: codec.KindCall, Args: codec.Args(offerText).Bytes()}
			r.send(offering(codec.Frame{Kind: codec.KindCall, Session: 1, Type: codec.V1Ping}, offerText),
				"raw "+hex.EncodeToString(codec.AppendFrame(nil, codec.V1, &confirm)), r.typed(2, 5), r.typed(2, 0, "begin"))
			_ = r.conn.SetWriteDeadline(time.Now().Add(time.Second))
			for err := error(nil); err == nil; {
				_, err = r.conn.Write(r.frame(r.typed(2, 4, make([]byte, 1000))))
				if n := session.Held(s); n > 200_000 {
					t.Fatalf("paused %v: %d bytes are kept for a reader that does not read", paused, n)
				}
			}
		})
	}
}

// Windows without limit are as large as an offer can say.
func TestCreditNoLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := creditCouple(t, channel.Script{}, -1, -1)
		c.wo.invoke = func(s *session.Session) { s.SetHandler(&echoLoop{}) }
		s := c.open("e")
		for range 100 {
			if err := s.Send(t.Context(), make([]byte, 100_000)); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Recv(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for _, table := range []*session.Table{c.engine, c.worker} {
			onLoop(t, table, func() {
				if left, _, _ := session.Accounts(table); left < 1<<38 {
					t.Errorf("%d left of a window without limit", left)
				}
			})
		}
	})
}
