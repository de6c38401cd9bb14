package service_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// TestForeignCause ends the context of calls with what another connection has ended with,
// as that of a worker's handler does: ours is as good as before.
func TestForeignCause(t *testing.T) {
	lost := &channel.CloseError{Code: channel.CodeIO, Reason: "of another connection"}
	for what, cause := range map[string]error{
		"channel":        lost,
		"session":        &session.Error{Message: "lost", Err: lost},
		"remote session": &session.Error{Category: service.CategoryOverseer, Code: service.OverseerQueueIsFull, Remote: true},
	} {
		inBubble(t, what, func(t *testing.T) {
			c := newCloud(t, false)
			c.add("a", echo(false))
			s, err := c.client(nil).NewService(service.ServiceConfig{Name: "echo", Idempotent: []string{"sleep"}})
			if err != nil {
				t.Fatal(err)
			}
			stream, err := s.Open(t.Context(), "enqueue", codec.Args("e"))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(cause) })
			if _, err := s.Call(ctx, "sleep", codec.Args(100)); !errors.Is(err, cause) {
				t.Errorf("Call() = %v, want the cause of the context", err)
			}
			if _, err := stream.Recv(ctx); !errors.Is(err, cause) {
				t.Errorf("Recv() = %v, want the cause of the context", err)
			}
			synctest.Wait()
			if st := s.Stats(); st.State != service.Connected || st.Losses != 0 || st.Lost != 0 || st.Retried != 0 || st.Abandoned != 1 {
				t.Errorf("Stats() = %+v, want connected, and one call given up", st)
			}
			if err := stream.Send(t.Context(), []byte("still here")); err != nil {
				t.Errorf("Send() = %v", err)
			}
			if p, err := stream.Recv(t.Context()); err != nil || string(p) != "still here" {
				t.Errorf("Recv() = %q, %v, want what was sent", p, err)
			}
			stream.Discard()
			reply, err := s.Call(t.Context(), "echo", codec.Args("x"))
			wantString(t, reply, err, "x")
			if n := len(c.dialledTo("a:1")); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		})
	}
}

// TestLossIsCloseError is about what a change of state says of a loss, whoever saw it
// first.
func TestLossIsCloseError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		client := c.client(func(cfg *service.Config) { cfg.Backoff.Max = time.Second })
		var mu sync.Mutex
		var losses []error
		s, err := client.NewService(service.ServiceConfig{Name: "echo", OnState: func(c service.Change) {
			mu.Lock()
			defer mu.Unlock()
			if c.From == service.Connected {
				losses = append(losses, c.Err)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if err := s.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(time.Second, func() { c.cut("a:1") })
			_, err := s.Call(t.Context(), "sleep", codec.Args(100))
			wantError[*session.Error](t, err)
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		for _, err := range losses {
			if _, ok := err.(*channel.CloseError); !ok {
				t.Errorf("Change.Err = %v of type %T, want *channel.CloseError", err, err)
			}
		}
		if len(losses) != 20 {
			t.Errorf("%d losses, want 20", len(losses))
		}
	})
}

// TestLookUpTimeout has nobody answer when a name is looked up.
func TestLookUpTimeout(t *testing.T) {
	before, over := net.DefaultResolver, make(chan struct{})
	t.Cleanup(func() {
		close(over)
		net.DefaultResolver = before
	})
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-over
		return nil, net.ErrClosed
	}}
	b := service.NewBaseService(service.BaseConfig{DialTimeout: 50 * time.Millisecond})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := b.Connect(ctx, []service.Endpoint{{Host: "host.invalid", Port: 1}})
	e := wantError[*service.ResolveError](t, err)
	if len(e.Tries) != 1 || e.Tries[0].Stage != service.StageLookUp {
		t.Errorf("Connect() = %v, want one try, looked up", err)
	}
	if ctx.Err() != nil { // nothing else would end it
		t.Error("Connect() took a minute, want the DialTimeout")
	}
}
