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

// The time that is left to a call goes with every one to a peer that has agreed on that, and
// to a plain one with none but enqueue.
func TestDeadlineAgreed(t *testing.T) {
	for _, tt := range []struct {
		name           string
		client, server session.Extensions
		left           int // milliseconds; -1: not told
	}{
		{"agreed", session.Extensions{Offer: true}, session.Extensions{}, 5000},
		{"alone", session.Extensions{Offer: true, NoCredit: true, NoCancel: true, NoCompression: true}, session.Extensions{}, 5000},
		{"not offered", session.Extensions{}, session.Extensions{}, -1},
		{"switched off at the client", session.Extensions{Offer: true, NoDeadline: true}, session.Extensions{}, -1},
		{"switched off at the service", session.Extensions{Offer: true}, session.Extensions{NoDeadline: true}, -1},
		{"a plain service", session.Extensions{Offer: true}, session.Extensions{NoCredit: true, NoCancel: true, NoDeadline: true, NoCompression: true}, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, srv := newDeadlines(t, tt.client, tt.server)
				defer func() { _ = errors.Join(c.Close(t.Context()), srv.Close(t.Context())) }()
				if _, err := service.Invoke[int](t.Context(), c.Service("s"), "left", service.None{}); err != nil {
					t.Fatal(err) // the first is sent before anything is agreed on
				}
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				left, err := service.Invoke[int](ctx, c.Service("s"), "left", service.None{})
				if err != nil || left != tt.left {
					t.Errorf("Invoke() = %d, %v, want that the method is told %d ms", left, err, tt.left)
				}
				stream, err := c.Service("s").Open(ctx, "watch", codec.Args())
				if err != nil {
					t.Fatal(err)
				}
				p, err := stream.Recv(ctx)
				if want := string(codec.Args(tt.left).Bytes()); string(p) != want || err != nil {
					t.Errorf("Recv() = %x, %v, want %x", p, err, want)
				}
				_ = stream.Close()
			})
		})
	}
}

// newDeadlines is a service, its own locator, whose methods say what time they were given,
// and a client of it.
func newDeadlines(t *testing.T, client, server session.Extensions) (*service.Client, *service.Server) {
	t.Helper()
	var srv *service.Server
	left := func(c *service.Call) int64 {
		d, ok := codec.TimeoutOf(c.Headers())
		if !ok {
			return -1
		}
		return d.Milliseconds()
	}
	cfg := service.ServerConfig{Declaration: service.Declaration{Name: "s", Version: 1, Methods: []service.Handled{
		{Method: service.Method{ID: 0, Name: "resolve", Rx: session.Primitive}, OnLoop: func(c *service.Call) {
			here := service.Resolved{Endpoints: []service.Endpoint{{Host: "here", Port: 1}}, Version: 1, API: srv.API()}
			_ = c.ReplyBytes(service.AppendResolved(nil, here))
		}},
		{Method: service.Method{ID: 1, Name: "left", Rx: session.Primitive}, OnLoop: func(c *service.Call) { _ = c.Reply(codec.Args(left(c))) }},
		{Method: service.Method{ID: 2, Name: "watch", Tx: session.Streaming, Rx: session.Streaming}, OnLoop: func(c *service.Call) {
			_ = c.Session().SendChunk(codec.Args(left(c)).Bytes())
			_ = c.Session().SendChoke()
		}},
	}}}
	cfg.Sessions.Extensions = server
	srv = testServer(t, cfg)
	c, err := service.Connect(t.Context(), service.Config{
		Sessions: session.Config{Extensions: client}, Logger: slog.New(slog.DiscardHandler),
		Dial: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := channel.Pair(channel.Script{})
			return ours, srv.Attach(theirs)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, srv
}
