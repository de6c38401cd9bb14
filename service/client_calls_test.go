package service_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// rawEcho is the echo service with a peer that is scripted by the test.
func rawEcho(t *testing.T, c *cloud) chan *rawPeer {
	d := echo(c.v0)
	api, err := d.API()
	if err != nil {
		t.Fatal(err)
	}
	dialect := codec.V1
	if c.v0 {
		dialect = codec.V0
	}
	peers, accept := listen(t, dialect)
	c.host("a:1", accept)
	c.name("echo", service.Resolved{Endpoints: []service.Endpoint{at("a")}, Version: d.Version, API: api})
	return peers
}

// TestBytes compares what is sent, to the byte.
func TestBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		peers := rawEcho(t, c)
		s := c.client(nil).Service("echo")
		go func() { _, _ = s.Call(t.Context(), "echo", codec.Args("x")) }()
		peer := <-peers
		peer.wantBytes(t, "\x94\x01\x00\x91\xa1x\x90")
		peer.call(1, codec.V1Value, "x")
		if err := s.Notify(t.Context(), "emit", codec.Args(1)); err != nil {
			t.Fatal(err)
		}
		peer.wantBytes(t, "\x94\x02\x05\x91\x01\x90")
		go func() { _, _ = s.Ping(t.Context()) }()
		peer.wantBytes(t, "\x94\x03\xcd\xff\xfd\x90\x90")
		peer.call(3, codec.V1Value)
		stream, err := s.Open(t.Context(), "enqueue", codec.Args("event"))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(stream.Send(t.Context(), []byte("y")), stream.Close()); err != nil {
			t.Fatal(err)
		}
		peer.wantBytes(t, "\x94\x04\x04\x91\xa5event\x90"+"\x94\x04\x00\x91\xa1y\x90"+"\x94\x04\x02\x90\x90")
		peer.call(4, codec.V1Close)
		if _, err := stream.Recv(t.Context()); err != io.EOF {
			t.Errorf("Recv() = %v, want io.EOF", err)
		}
	})
}

// wantBytes reads exactly these.
func (p *rawPeer) wantBytes(t *testing.T, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(p.conn, got); err != nil || string(got) != want {
		t.Fatalf("read %x, %v, want %x", got, err, want)
	}
}

// TestHeaders: a call has the trace, the deadline and the user's headers, for the methods
// that are to have them.
func TestHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		peers := rawEcho(t, c)
		client := c.client(nil)
		s, err := client.NewService(service.ServiceConfig{Name: "echo", Headers: func(_ context.Context, method string) []codec.Header {
			if method != "enqueue" {
				return nil
			}
			return []codec.Header{{Name: []byte("authorization"), Value: []byte("Bearer x")}}
		}})
		if err != nil {
			t.Fatal(err)
		}
		trace := service.NewTrace()
		ctx, cancel := context.WithTimeout(service.WithTrace(t.Context(), trace), 1500*time.Millisecond)
		defer cancel()
		go func() { _, _ = s.Call(ctx, "echo", codec.Args("x")) }()
		peer := <-peers
		var decoder codec.HeaderDecoder
		headers := func() []codec.Header {
			m, err := peer.next()
			if err != nil {
				t.Fatal(err)
			}
			h, err := decoder.Decode(m.Headers, nil)
			if err != nil {
				t.Fatal(err)
			}
			return h
		}
		h := headers()
		got, ok := service.TraceOf(h)
		if !ok || got.ID != trace.ID || got.Parent != trace.Span || got.Span == trace.Span || len(h) != 3 {
			t.Errorf("Call() sent %v in %d headers, want a child of %v and nothing else", got, len(h), trace)
		}
		peer.call(1, codec.V1Value)
		if _, err := s.Open(ctx, "enqueue", codec.Args("e")); err != nil {
			t.Fatal(err)
		}
		h = headers()
		if d, ok := codec.TimeoutOf(h); !ok || d != 1500*time.Millisecond || len(h) != 5 {
			t.Errorf("Open(enqueue) sent %v, %v in %d headers, want 1.5 s", d, ok, len(h))
		}
		if !slices.ContainsFunc(h, func(h codec.Header) bool { return string(h.Value) == "Bearer x" }) {
			t.Error("Open(enqueue) did not send the user's header")
		}
		if _, err := s.Open(t.Context(), "enqueue", codec.Args("e")); err != nil {
			t.Fatal(err)
		}
		if h := headers(); len(h) != 1 {
			t.Errorf("Open(enqueue) without trace and deadline sent %d headers, want one", len(h))
		}
	})
}

func TestTimeoutOnAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.serve(at("a").String(), service.Declaration{Name: "t", Methods: []service.Handled{
			{Method: service.Method{ID: 0, Name: "left", Rx: session.Primitive}, OnLoop: func(c *service.Call) {
				d, _ := codec.TimeoutOf(c.Headers())
				_ = c.Reply(codec.Args(d.Milliseconds()))
			}},
		}})
		api, _ := service.NewAPI(service.Method{ID: 0, Name: "left", Rx: session.Primitive})
		client := c.client(func(cfg *service.Config) { cfg.TimeoutOnAll = true })
		s, err := client.NewService(service.ServiceConfig{Name: "t", Endpoints: []service.Endpoint{at("a")}, API: api})
		if err != nil {
			t.Fatal(err)
		}
		left, err := service.Invoke[int](t.Context(), s, "left", service.None{})
		if err != nil || left != 30000 {
			t.Errorf("Invoke() = %d, %v, want the 30 s of CallTimeout", left, err)
		}
	})
}

func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		c.script["a:1"] = channel.Script{AtoB: channel.Path{Latency: time.Second}, BtoA: channel.Path{Latency: time.Second}}
		client := c.client(nil)
		if d, err := client.Service("echo").Ping(t.Context()); d != 2*time.Second || err != nil {
			t.Errorf("Ping() = %v, %v, want 2 s", d, err)
		}
		if err := client.Locator().Ping(t.Context()); err != nil {
			t.Errorf("Locator().Ping() = %v", err)
		}
	})
}

// TestV0HasNot: what v0 lacks is refused here, and not sent.
func TestV0HasNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, true)
		peers := rawEcho(t, c)
		client := c.client(nil)
		l := client.Locator()
		_, clusterErr := l.Cluster(t.Context())
		_, uuidErr := l.UUID(t.Context())
		_, watchErr := l.Connect(t.Context(), "u")
		_, routesErr := l.Routing(t.Context(), "r")
		_, publishErr := l.Publish(t.Context(), "p", service.Resolved{})
		for i, err := range []error{clusterErr, uuidErr, watchErr, routesErr, publishErr, l.Refresh(t.Context()), l.Ping(t.Context())} {
			if !errors.Is(err, service.ErrDialect) {
				t.Errorf("call %d = %v, want ErrDialect", i, err)
			}
		}
		s := client.Service("echo")
		done := make(chan error, 1)
		go func() { done <- s.Notify(t.Context(), "echo", codec.Args("x")) }()
		peer := <-peers
		peer.wantBytes(t, "\x93\x00\x01\x91\xa1x")
		if err := <-done; err != nil {
			t.Errorf("Notify() = %v", err)
		}
		peer.call(1, codec.V0Chunk, "\xa1x") // which nobody waits for
		peer.call(1, codec.V0Choke)
		for _, answer := range [][]any{{"\xa1x\xa1y"}, {"\xa1"}, {""}} {
			go func() { _, err := s.Call(t.Context(), "echo", codec.Args("x")); done <- err }()
			m, err := peer.next()
			if err != nil {
				t.Fatal(err)
			}
			peer.call(m.Session, codec.V0Chunk, answer...)
			peer.call(m.Session, codec.V0Choke)
			if err := <-done; !strings.Contains(wantError[*service.ReplyError](t, err).Error(), "use Open") {
				t.Errorf("Call() answered with %q = %v, want a hint at Open", answer, err)
			}
		}
		stream, err := s.Open(t.Context(), "echo", codec.Args("x"))
		if err != nil {
			t.Fatal(err)
		}
		m, _ := peer.next()
		peer.call(m.Session, codec.V0Chunk, "one")
		peer.call(m.Session, codec.V0Error, 2, "the queue is full")
		peer.call(m.Session, codec.V0Choke)
		if name, args, err := stream.RecvArgs(t.Context()); name != "chunk" || string(args) != "\x91\xa3one" || err != nil {
			t.Errorf("RecvArgs() = %s %x, %v", name, args, err)
		}
		if _, err := stream.Recv(t.Context()); !service.Is(err, service.CategoryV0, service.V0Resource) {
			t.Errorf("Recv() = %v, want the service's error", err)
		}
	})
}

// TestRevoke has a caller give up, and the service told if that is wanted.
func TestRevoke(t *testing.T) {
	for _, wanted := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c := newCloud(t, false)
			ended := make(chan time.Duration, 1)
			began := time.Now()
			c.add("a", service.Declaration{Name: "slow", Version: 1, Methods: []service.Handled{
				{Method: service.Method{ID: 0, Name: "work", Rx: session.Primitive}, Serve: func(ctx context.Context, _ *service.Call) error {
					select {
					case <-ctx.Done():
					case <-time.After(time.Hour):
					}
					ended <- time.Since(began)
					return nil
				}},
			}})
			s := c.client(func(cfg *service.Config) { cfg.Revoke, cfg.CallTimeout = wanted, 2*time.Second }).Service("slow")
			if _, err := s.Call(t.Context(), "work", codec.Arguments{}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Call() = %v, want the deadline", err)
			}
			want := time.Hour
			if wanted {
				want = 2 * time.Second
			}
			if got := <-ended; got != want {
				t.Errorf("the service worked for %v, want %v", got, want)
			}
			if _, err := s.Ping(t.Context()); err != nil || s.Stats().Connects != 1 {
				t.Errorf("Ping() = %v, on connection %d", err, s.Stats().Connects)
			}
		})
	}
}
