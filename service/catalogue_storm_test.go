package service_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/internal/invariants"
	"github.com/sluice-rpc/sluice/service"
)

// What a storm may be (reliability goals: L13).
const (
	stormClients = 5000
	stormRate    = 500 // dials in any second
	stormEnd     = 30 * time.Second
)

// testG3 restarts a server below thousands of clients.
func testG3(t *testing.T) {
	clients, services := stormClients/10, 1500
	if invariants.Race { // everything takes far longer
		clients, services = clients/5, services/5
	}
	apart := service.Backoff{Base: 15 * time.Second, Max: 25 * time.Second}
	// Clients that know nothing of each other have nothing but their back-off.
	inBubble(t, "apart", func(t *testing.T) { testG3Storm(t, clients, 10, apart) })
	// Services of one Client share its bound, whatever the back-off is.
	inBubble(t, "together", func(t *testing.T) { testG3Storm(t, 1, services, service.Backoff{}) })
	inBubble(t, "together, no back-off", func(t *testing.T) { testG3Storm(t, 1, services/3, service.Backoff{Base: -1}) })
	t.Run("tcp", testG3TCP)
}

// testG3Storm has so many clients of so many services each come back.
func testG3Storm(t *testing.T, clients, services int, backoff service.Backoff) {
	const downtime = 2 * time.Second
	c := newCloud(t, false)
	c.add("a", echo(false))
	var all []*service.Service
	for range clients {
		client := c.client(func(cfg *service.Config) { cfg.Backoff, cfg.MaxConnects = backoff, -1 })
		for range services {
			s, err := client.NewService(service.ServiceConfig{Name: "echo"})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, s)
		}
	}
	var wg sync.WaitGroup
	for _, s := range all {
		wg.Go(func() {
			if err := s.Connect(t.Context()); err != nil {
				t.Errorf("Connect() = %v", err)
			}
		})
	}
	wg.Wait()
	if clients == 1 {
		wantRate(t, "at the start", c.dialledTo("a:1"))
	}
	began := time.Since(c.began)
	c.mu.Lock()
	up := c.hosts["a:1"]
	c.dials = nil
	c.mu.Unlock()
	c.host("a:1", nil)
	c.cut("a:1")
	time.Sleep(downtime)
	c.host("a:1", up)
	time.Sleep(stormEnd)
	back, tries := 0, c.dialledTo("a:1")
	for _, s := range all {
		if s.State() == service.Connected {
			back++
		}
	}
	if back != len(all) || len(tries) < len(all) {
		t.Errorf("%d of %d are back %v behind the restart, by %d dials", back, len(all), stormEnd, len(tries))
	}
	t.Logf("%d dials from %v to %v behind the loss", len(tries), tries[0]-began, tries[len(tries)-1]-began)
	wantRate(t, "behind the loss", tries)
	if base := backoff.Base; base > 0 { // full jitter: each eighth of the back-off has its share of the first tries
		var shares [8]int
		for _, at := range tries {
			if n := int((at - began) * 8 / base); n < 8 {
				shares[n]++
			}
		}
		for n, got := range shares {
			if least := len(all) / 8 / 2; got < least {
				t.Errorf("%d dials in part %d of 8 of the back-off, want %d at least", got, n, least)
			}
		}
	}
}

// wantRate checks every window of a second.
func wantRate(t *testing.T, what string, at []time.Duration) {
	t.Helper()
	slices.Sort(at)
	most, from := 0, 0
	for i := range at {
		for at[i]-at[from] >= time.Second {
			from++
		}
		most = max(most, i+1-from)
	}
	if most > stormRate {
		t.Errorf("%d dials in one second %s, want at most %d", most, what, stormRate)
	}
}

// testG3TCP is a small storm over sockets: all are back, and no sooner than they may.
func testG3TCP(t *testing.T) {
	const services = 100
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	loops := oneLoop(t)
	serve := func(d service.Declaration, addr string) *service.Server {
		srv, err := service.NewServer(service.ServerConfig{Declaration: d, Loops: loops, Logger: slog.New(slog.DiscardHandler)})
		for err == nil {
			if err = srv.Listen(ctx, "tcp", addr); !errors.Is(err, syscall.EADDRINUSE) || ctx.Err() != nil {
				break
			}
			err = nil // by a connection that is not gone yet
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = srv.Close(context.Background()) })
		return srv
	}
	srv := serve(echo(false), "127.0.0.1:0")
	to := srv.Endpoints()
	var dials atomic.Int64
	client, err := service.Connect(ctx, service.Config{
		Locators: []string{to[0].String()}, Loops: loops, MaxConnects: -1,
		Backoff: service.Backoff{Base: 300 * time.Millisecond, Max: 300 * time.Millisecond},
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeClient(t, client) })
	var all []*service.Service
	for range services {
		s, err := client.NewService(service.ServiceConfig{Name: "echo", Endpoints: to, API: srv.API()})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	for round := range 2 {
		var wg sync.WaitGroup
		for n, s := range all {
			wg.Go(func() {
				want := fmt.Sprint(round, n)
				reply, err := callBack(ctx, s, want)
				wantString(t, reply, err, want)
			})
		}
		wg.Wait()
		if round > 0 {
			break
		}
		if err := srv.Close(ctx); err != nil {
			t.Errorf("Close() = %v", err)
		}
		serve(echo(false), to[0].String())
	}
	if n := dials.Load(); n < 2*services {
		t.Errorf("%d dials, want two for each of %d services", n, services)
	}
}

// callBack calls again as long as the loss of a connection cuts the call.
func callBack(ctx context.Context, s *service.Service, p string) (*service.Reply, error) {
	for {
		reply, err := s.Call(ctx, "echo", codec.Args(p))
		if err == nil || ctx.Err() != nil {
			return reply, err
		}
	}
}
