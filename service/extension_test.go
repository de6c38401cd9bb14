package service_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// A client that knows its peer agrees with it on credit and cancel; with a service that
// wants none, and without the offer, it is plain Cocaine. In all three cases calls and
// streams work, and only where cancel was agreed on does a method learn that its caller
// gave up.
func TestClientOffers(t *testing.T) {
	for _, row := range []struct {
		name         string
		offer, plain bool
		cancelled    bool
	}{
		{name: "both", offer: true, cancelled: true},
		{name: "a plain service", offer: true, plain: true},
		{name: "no offer"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { offerTo(t, row.offer, row.plain, row.cancelled) })
		})
	}
}

// offerTo has a client that offers or not talk to a service that wants plain Cocaine or
// not: cancelled says whether a method is to learn that its caller gave up.
func offerTo(t *testing.T, offer, plain, cancelled bool) {
	gaveUp := make(chan error, 1)
	windows := session.Extensions{Offer: offer, NoDeadline: true, SessionWindow: 1000, ChannelWindow: 3000}
	var cfg service.ServerConfig
	cfg.Sessions.Extensions = windows
	ext := &cfg.Sessions.Extensions
	ext.NoCancel, ext.NoCredit, ext.NoDeadline, ext.NoCompression = plain, plain, plain, plain
	srv := ownLocator(t, cfg, gaveUp)
	c, err := service.Connect(t.Context(), service.Config{
		Sessions: session.Config{Extensions: windows}, Logger: slog.New(slog.DiscardHandler),
		Dial: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := channel.Pair(channel.Script{})
			return ours, srv.Attach(theirs)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errors.Join(c.Close(t.Context()), srv.Close(t.Context())) }()

	echoBeyondWindows(t, c.Service("s"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := c.Service("s").Call(ctx, "wait", codec.Args()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Call() = %v, want that the deadline has passed", err)
	}
	synctest.Wait()
	var told *session.Error
	select {
	case err := <-gaveUp:
		if !cancelled || !errors.As(err, &told) || !told.Remote || told.Code != 125 {
			t.Errorf("the method's context ended with %v, want it to be told: %v", err, cancelled)
		}
	default:
		if cancelled {
			t.Error("the method was not told that its caller gave up")
		}
	}
}

// ownLocator is the locator and the service that it finds in one: wait tells gaveUp why
// its context ended, and echo returns what is streamed to it.
func ownLocator(t *testing.T, cfg service.ServerConfig, gaveUp chan<- error) (srv *service.Server) {
	t.Helper()
	resolve := service.Handled{
		Method: service.Method{ID: 0, Name: "resolve", Rx: session.Primitive},
		OnLoop: func(c *service.Call) {
			_ = c.ReplyBytes(service.AppendResolved(nil, service.Resolved{
				Endpoints: []service.Endpoint{{Host: "here", Port: 1}}, Version: 1, API: srv.API(),
			}))
		},
	}
	wait := service.Handled{
		Method: service.Method{ID: 1, Name: "wait", Rx: session.Primitive},
		Serve: func(ctx context.Context, _ *service.Call) error {
			<-ctx.Done()
			gaveUp <- context.Cause(ctx)
			return nil
		},
	}
	echo := service.Handled{
		Method: service.Method{ID: 2, Name: "echo", Tx: session.Streaming, Rx: session.Streaming},
		Serve: func(ctx context.Context, c *service.Call) error {
			for p, err := range c.Session().Chunks(ctx) {
				if err != nil {
					return err
				}
				if err := c.Session().Send(ctx, p); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cfg.Declaration = service.Declaration{Name: "s", Version: 1, Methods: []service.Handled{resolve, wait, echo}}
	srv = testServer(t, cfg)
	return srv
}

// echoBeyondWindows streams far more than both windows hold, and wants it back.
func echoBeyondWindows(t *testing.T, of *service.Service) {
	t.Helper()
	s, err := of.Open(t.Context(), "echo", codec.Args())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		p := make([]byte, 700+i)
		if err := s.Send(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Recv(t.Context()); len(got) != len(p) || err != nil {
			t.Fatalf("Recv() = %d bytes, %v, want %d", len(got), err, len(p))
		}
	}
	_ = s.Close()
}
