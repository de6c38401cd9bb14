package service_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// TestUnbound: a method that is listed and not served is as bad as one that is not there
// (protocol: logging, set_verbosity).
func TestUnbound(t *testing.T) {
	d := numbered(service.Handled{Method: service.Method{Name: "set_verbosity", Rx: session.Primitive}, Unbound: true})
	bubble(t, service.ServerConfig{Declaration: d}, func(t *testing.T, srv *service.Server) {
		c := dial(t, srv, codec.V1)
		defer c.close()
		c.call(1, 0, 1)
		c.wantEnd()
		if st := srv.Stats(); st.Unknown != 1 || st.Methods[0].Calls != 0 {
			t.Errorf("Stats() = %+v, want one unknown", st)
		}
	})
	bubble(t, service.ServerConfig{Declaration: d, V0: true}, func(t *testing.T, srv *service.Server) {
		c := dial(t, srv, codec.V0)
		defer c.close()
		c.call(1, 0, 1)
		c.want(1, codec.V0Error, 1, "unknown message type")
		c.want(1, codec.V0Choke)
	})
}

// TestCallFacts: what a method is told of its call.
func TestCallFacts(t *testing.T) {
	var ended []string
	see := func(c *service.Call) {
		h := c.Headers()
		if len(h) != 1 || string(h[0].Name) != "authorization" || string(h[0].Value) != "TVM abc" {
			t.Errorf("Headers() = %q, want the client's", h)
		}
		if c.Peer() == nil || c.Peer().Network() != "pair" || c.Method().ID > 1 || c.Dialect() != codec.V1 || c.Session().ID() == 0 {
			t.Errorf("Peer() = %v, Method() = %v, Dialect() = %v, ID() = %d", c.Peer(), c.Method(), c.Dialect(), c.Session().ID())
		}
		if !bytes.Equal(c.Args(), codec.Args("x").Bytes()) {
			t.Errorf("Args() = %x, want [x]", c.Args())
		}
	}
	d := numbered(
		service.Handled{Method: service.Method{Name: "loop", Rx: session.Primitive}, OnLoop: func(c *service.Call) {
			see(c)
			select {
			case <-c.Done():
				t.Error("Done() is closed before the answer")
			default:
			}
			_ = c.Reply(codec.Args())
			<-c.Done()
			c.OnEnd(func() { ended = append(ended, "at once") })
		}},
		primitive("goroutine", func(_ context.Context, c *service.Call) error {
			before := bytes.Clone(c.Args())
			time.Sleep(time.Second) // other frames have come into the read buffer
			see(c)
			if !bytes.Equal(before, c.Args()) {
				t.Errorf("Args() = %x, were %x", c.Args(), before)
			}
			return nil
		}))
	bubble(t, service.ServerConfig{Declaration: d}, func(t *testing.T, srv *service.Server) {
		c := dial(t, srv, codec.V1)
		defer c.close()
		headers := []codec.Header{{Name: []byte("authorization"), Value: []byte("TVM abc")}}
		c.write(c.frameWith(1, 1, headers, "x"))
		c.write(c.frameWith(2, 0, headers, "x"))
		c.want(2, codec.V1Value)
		c.want(1, codec.V1Value)
		if len(ended) != 1 {
			t.Errorf("OnEnd() behind the end called %d functions, want 1", len(ended))
		}
	})
}

// relay takes a session over and echoes it.
type relay struct{}

func (relay) OnChunk(s *session.Session, p []byte) { _ = s.SendChunk(p) }
func (relay) OnChoke(s *session.Session)           { _ = s.SendChoke() }
func (relay) OnError(s *session.Session, e *session.Error) {
	_ = s.SendError(e.Category, e.Code, e.Message)
}

// TestTakenOver: a method on the loop gives its session a handler of its own; the end is
// still told, and Close waits for it.
func TestTakenOver(t *testing.T) {
	ended := 0
	d := numbered(service.Handled{Method: service.Method{Name: "enqueue", Tx: session.Streaming, Rx: session.Streaming},
		OnLoop: func(c *service.Call) {
			c.Session().SetHandler(relay{})
			c.OnEnd(func() { ended++ })
		}})
	bubble(t, service.ServerConfig{Declaration: d}, func(t *testing.T, srv *service.Server) {
		c := dial(t, srv, codec.V1)
		defer c.close()
		c.call(1, 0, "event")
		c.call(1, codec.V1Write, "a")
		c.want(1, codec.V1Write, "a")
		if st := srv.Stats(); st.Pending != 1 {
			t.Errorf("Stats() = %+v, want one pending", st)
		}
		c.call(1, codec.V1Close)
		c.want(1, codec.V1Close)
		synctest.Wait()
		if st := srv.Stats(); st.Pending != 0 || ended != 1 {
			t.Errorf("Stats() = %+v, %d ends, want none pending and one end", st, ended)
		}
		c.call(2, 0, "event")
		c.call(2, codec.V1Error, []any{42, 7}, "no more")
		c.wantError(2, 42, 7)
		c.call(3, 0, "event")
		c.close()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if ended != 3 {
			t.Errorf("%d ends, want 3", ended)
		}
	})
}

// TestCloseCallee: on a channel that is not its own, a server that closes answers the
// calls that it has to cut, and leaves the channel open.
func TestCloseCallee(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := testServer(t, service.ServerConfig{Declaration: numbered(
			service.Handled{Method: service.Method{Name: "never", Rx: session.Primitive}, OnLoop: func(*service.Call) {}},
			primitive("wait", func(ctx context.Context, _ *service.Call) error { <-ctx.Done(); return ctx.Err() }))})
		table := calledTable(t, srv)
		ours, theirs := channel.Pair(channel.Script{})
		if err := table.Channel().Attach(theirs); err != nil {
			t.Fatal(err)
		}
		c := rawTo(t, ours, codec.V1)
		first := uint64(1) << 62 // the accepting side's numbers
		c.call(first, 0)
		c.call(first+1, 1)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := srv.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close() = %v, want %v", err, context.DeadlineExceeded)
		}
		for range 2 {
			m, err := c.next()
			if err != nil || m.Type != codec.V1ValueError || m.Session < first {
				t.Errorf("next() = %v, %v, want an error", m, err)
			}
		}
		c.call(first+2, 0)
		c.wantError(first+2, service.CategoryWorker, session.CodeTerminating)
		c.close()
		_ = table.Channel().Close(t.Context())
	})
}
