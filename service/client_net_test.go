package service_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// TestClientNet resolves and calls over TCP, loses the service and finds it again.
func TestClientNet(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	loops := oneLoop(t)
	listen := func(d service.Declaration) *service.Server {
		srv, err := service.NewServer(service.ServerConfig{Declaration: d, Loops: loops, Logger: slog.New(slog.DiscardHandler)})
		if err == nil {
			err = srv.Listen(ctx, "tcp", "127.0.0.1:0")
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = srv.Close(context.Background()) })
		return srv
	}
	var mu sync.Mutex
	first := listen(echo(false))
	found := first.Resolved()
	locator := listen(service.Declaration{Name: "locator", Version: 3, Methods: []service.Handled{
		{Method: service.Method{ID: 0, Name: "resolve", Rx: session.Primitive}, OnLoop: func(c *service.Call) {
			mu.Lock()
			defer mu.Unlock()
			_ = c.ReplyBytes(service.AppendResolved(nil, found))
		}},
	}})
	client, err := service.Connect(ctx, service.Config{
		Locators: []string{"127.0.0.1:1", locator.Endpoints()[0].String()},
		Backoff:  service.Backoff{Base: time.Millisecond},
		Logger:   slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	s := client.Service("echo")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 20 {
				if got, err := service.Invoke[string](ctx, s, "echo", "x"); got != "x" || err != nil {
					t.Errorf("Invoke() = %q, %v", got, err)
					return
				}
			}
		})
	}
	wg.Wait()
	second := listen(echo(false))
	mu.Lock()
	found = second.Resolved()
	mu.Unlock()
	if err := first.Close(ctx); err != nil {
		t.Errorf("Close() = %v", err)
	}
	reply, err := callBack(ctx, s, "again") // the first may go below a call
	wantString(t, reply, err, "again")
	if err := client.Close(ctx); err != nil {
		t.Errorf("Close() = %v", err)
	}
}

// TestLookUp dials a host by its name.
func TestLookUp(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	srv, err := service.NewServer(service.ServerConfig{Declaration: echo(false), Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		err = srv.Listen(ctx, "tcp", "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close(context.Background()) })
	b := service.NewBaseService(service.BaseConfig{})
	to := service.Endpoint{Host: "localhost", Port: srv.Endpoints()[0].Port}
	if err := b.Connect(ctx, []service.Endpoint{{Host: "not..a.name", Port: 1}, to}); err != nil {
		t.Fatalf("Connect() = %v", err)
	}
	if b.Endpoint() != to {
		t.Errorf("Endpoint() = %v, want %v", b.Endpoint(), to)
	}
	if err := b.Close(ctx); err != nil {
		t.Errorf("Close() = %v", err)
	}
}
