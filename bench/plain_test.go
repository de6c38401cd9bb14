package bench

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

const (
	plainUUID   = "7e0c1a52-0000-4000-8000-000000000001"
	foreignUUID = "7e0c1a52-0000-4000-8000-000000000002"
	offerText   = "1 credit=4194304/16777216 cancel"
)

// hops of a chain. The locator is one more.
var hops = []string{"client to engine", "engine to worker", "worker to engine", "engine to client"}

// A chain of our client, a plain engine and our worker sees no byte of an extension: no
// frame on session 0, no header of the name, on no hop, and all works. A client or a worker
// that is wrong about its peer sends its offer once, and from then on plain Cocaine.
func TestPlainChain(t *testing.T) {
	for _, tt := range []struct {
		name   string
		engine string // SLUICE_ENGINE of the worker
		offer  bool   // the client offers
		header bool   // its enqueue has an offer among its headers
		offers map[string]int
	}{
		{name: "nobody offers"},
		{name: "the environment of a foreign worker", engine: foreignUUID},
		{name: "an offer to a plain service", offer: true, offers: map[string]int{"locator to engine": 1, "client to engine": 1}},
		{name: "an offer among the headers of enqueue", header: true, offers: map[string]int{"client to engine": 4, "engine to worker": 4}},
		{name: "the worker is wrong about its engine", engine: plainUUID, offers: map[string]int{"worker to engine": 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(worker.EnvEngine, tt.engine)
			synctest.Test(t, func(t *testing.T) {
				e := newPlainEngine(t)
				talkPlainly(t, e, tt.offer, tt.header)
				for _, hop := range hops {
					if e.count(hop, anyFrame) < 10 {
						t.Errorf("%s: %d frames were seen, want more: this test is of no use", hop, e.count(hop, anyFrame))
					}
				}
				if n := e.count("", onZero); n != 0 {
					t.Errorf("%d frames on session 0, want none", n)
				}
				for _, hop := range append([]string{"locator to engine", "engine to locator"}, hops...) {
					if got, want := e.count(hop, offers), tt.offers[hop]; got != want {
						t.Errorf("%s: %d frames have an offer, want %d", hop, got, want)
					}
				}
			})
		})
	}
}

// talkPlainly has a client and a worker of ours say all kinds of things through e.
func talkPlainly(t *testing.T, e *plainEngine, offer, header bool) {
	cfg := worker.FromArgs([]string{"--app", "app", "--uuid", plainUUID, "--endpoint", "none", "--protocol", "1"})
	cfg.Logger = quiet
	cfg.Conn = e.attach("worker")
	w, err := worker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	gaveUp := make(chan error, 1)
	w.Handle("echo", func(ctx context.Context, s *worker.Session) error {
		for p, err := range s.Chunks(ctx) {
			if err != nil {
				return err
			}
			if _, err := s.Write(p); err != nil {
				return err
			}
		}
		return nil
	})
	w.Handle("fail", func(context.Context, *worker.Session) error { return worker.Errorf(7, "told to fail") })
	w.Handle("wait", func(ctx context.Context, _ *worker.Session) error {
		<-ctx.Done()
		gaveUp <- context.Cause(ctx)
		return nil
	})
	served := make(chan error, 1)
	go func() { served <- w.Run(context.Background()) }()

	var mu sync.Mutex
	links := []net.Conn{cfg.Conn}
	c, err := service.Connect(t.Context(), service.Config{
		Locators: []string{"locator:10053"}, Logger: quiet,
		Sessions: session.Config{Extensions: session.Extensions{Offer: offer}},
		Dial: func(_ context.Context, _, addr string) (net.Conn, error) {
			host, _, _ := net.SplitHostPort(addr)
			conn := e.attach(host)
			mu.Lock()
			defer mu.Unlock()
			links = append(links, conn)
			return conn, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	app, err := c.NewService(service.ServiceConfig{Name: "app", Headers: func(context.Context, string) []codec.Header {
		if !header {
			return nil
		}
		return []codec.Header{{Name: []byte("sluice"), Value: []byte(offerText)}}
	}})
	if err != nil {
		t.Fatal(err)
	}
	talkTo(t, app, gaveUp)
	time.Sleep(20 * time.Second) // heartbeats
	e.terminate()
	if err := <-served; err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
	_ = c.Close(t.Context())
	e.close(links...)
}

// talkTo makes calls: two of them far beyond the windows that there might be.
func talkTo(t *testing.T, app *service.Service, gaveUp <-chan error) {
	open := func(event string) *service.Stream {
		s, err := app.Open(t.Context(), "enqueue", codec.Args(event))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, size := range []int{1 << 20, 100} {
		s := open("echo")
		for i := range 6 {
			p := bytes.Repeat([]byte{byte(i)}, size)
			if err := s.Send(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Recv(t.Context()); !bytes.Equal(got, p) || err != nil {
				t.Fatalf("Recv() = %d bytes, %v, want the %d that were sent", len(got), err, size)
			}
		}
		_ = s.Close()
		if _, err := s.Recv(t.Context()); err != io.EOF {
			t.Errorf("Recv() = %v, want io.EOF", err)
		}
	}
	var told *session.Error
	s := open("fail")
	if _, err := s.Recv(t.Context()); !errors.As(err, &told) || !told.Remote || told.Code != 7 {
		t.Errorf("Recv() = %v, want the handler's error", err)
	}
	_ = s.Close()
	s = open("wait")
	s.Discard()
	if err := <-gaveUp; !errors.As(err, &told) || !told.Remote {
		t.Errorf("the handler's context ended with %v, want a remote error", err)
	}
}
