package service_test

import (
	"context"
	"net"
	"testing"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/internal/invariants"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// echoOver is a Service over a local pair.
func echoOver(tb testing.TB) *service.Service {
	d := echo(false)
	srv, err := service.NewServer(service.ServerConfig{Declaration: d})
	if err != nil {
		tb.Fatal(err)
	}
	emitter, _ := service.NewServer(service.ServerConfig{Declaration: service.Declaration{Name: "locator", Methods: []service.Handled{
		{Method: service.Method{ID: 0, Name: "resolve", Rx: session.Primitive}, OnLoop: func(c *service.Call) {
			_ = c.ReplyBytes(service.AppendResolved(nil, service.Resolved{Endpoints: []service.Endpoint{at("a")}, API: srv.API()}))
		}},
	}}})
	client, err := service.Connect(context.Background(), service.Config{
		Locators: []string{locatorAddr},
		Dial: func(_ context.Context, _, addr string) (net.Conn, error) {
			ours, theirs := channel.Pair(channel.Script{})
			if addr == locatorAddr {
				return ours, emitter.Attach(theirs)
			}
			return ours, srv.Attach(theirs)
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = client.Close(context.Background())
		_ = srv.Close(context.Background())
		_ = emitter.Close(context.Background())
	})
	return client.Service("echo")
}

// TestCallAllocs keeps what a call costs, both ends of it.
func TestCallAllocs(t *testing.T) {
	if invariants.Enabled || invariants.Race {
		t.Skip("the detector allocates")
	}
	s := echoOver(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	args := codec.Args("hello")
	call := func() {
		if _, err := s.Call(ctx, "echo", args); err != nil {
			t.Fatal(err)
		}
	}
	call()
	if n := testing.AllocsPerRun(500, call); n > 16 {
		t.Errorf("Call() makes %v allocations, want 16 at most", n)
	}
	notify := func() {
		if err := s.Notify(ctx, "emit", args); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(500, notify); n > 10 {
		t.Errorf("Notify() makes %v allocations, want 10 at most", n)
	}
}

func BenchmarkCall(b *testing.B) {
	s := echoOver(b)
	args := codec.Args("hello")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Call(b.Context(), "echo", args); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCallParallel(b *testing.B) {
	s := echoOver(b)
	args := codec.Args("hello")
	b.ReportAllocs()
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Call(b.Context(), "echo", args); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkNotify(b *testing.B) {
	s := echoOver(b)
	args := codec.Args("hello")
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Notify(b.Context(), "emit", args); err != nil {
			b.Fatal(err)
		}
	}
}
