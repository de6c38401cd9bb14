package service_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// TestCatalogue has one subtest for each row of the project's catalogue of bad inputs and
// faults that concerns the clients of services.
func TestCatalogue(t *testing.T) {
	for _, r := range []struct {
		id   string
		what string
		test func(t *testing.T)
	}{
		{"B28", "a dispatch graph that makes no sense", testB28},
		{"G-1", "a locator that is down, dies, or lies", testG1},
		{"G-2", "a service that moves while calls run", testG2},
		{"G-3", "a reconnect storm", testG3},
		{"G-10", "a repeat behind a lost answer", testG10},
		{"G-12", "a logger without its service", testG12},
	} {
		t.Run(r.id, func(t *testing.T) {
			t.Log(r.what)
			r.test(t)
		})
	}
}

// inBubble runs a part of a row in virtual time.
func inBubble(t *testing.T, what string, test func(t *testing.T)) {
	t.Helper()
	t.Run(what, func(t *testing.T) { synctest.Test(t, test) })
}

// scripted is a locator whose answers to resolve are written by the test.
type scripted struct {
	c      *cloud
	answer []byte // the argument array; nil for the cloud's own
	asked  int
}

// script replaces the cloud's locator.
func script(c *cloud) *scripted {
	l := &scripted{c: c}
	c.serve(locatorAddr, service.Declaration{Name: "locator", Version: 3, Methods: []service.Handled{
		{Method: service.Method{ID: 0, Name: "resolve", Rx: session.Primitive}, Serve: l.resolve},
	}})
	return l
}

func (l *scripted) resolve(ctx context.Context, call *service.Call) error {
	l.c.mu.Lock()
	l.asked++
	answer := l.answer
	l.c.mu.Unlock()
	if answer == nil {
		return l.c.resolve(ctx, call)
	}
	return call.ReplyBytes(answer)
}

func (l *scripted) say(answer []byte) (asked int) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	l.answer = answer
	return l.asked
}

// testB28 has a locator answer with graphs that make no sense.
func testB28(t *testing.T) {
	mixed := dict(num(1), arr(str("w"), null), str("0"), arr(str("x"), null))
	for _, row := range []struct {
		what string
		raw  []byte
		text string
	}{
		{"cycle", one(deep(service.MaxGraphDepth+1), empty), "states behind each other"},
		{"slots", one(manySlots(100_000), empty), "100000 entries, limit 4095"}, // in a frame of more than is usual
		{"keys", one(empty, mixed), "string, want integer"},
		{"keys of methods", dict(num(5), arr(str("m"), empty, empty), str("a"), arr(str("n"), empty, empty)), "string, want integer"},
	} {
		inBubble(t, row.what, func(t *testing.T) {
			c := newCloud(t, false)
			locator := script(c)
			c.add("a", echo(false))
			client := c.client(func(cfg *service.Config) { cfg.Sessions.Channel.Limits.MaxElements = 1 << 20 })
			s := client.Service("echo")
			answer := arr(arr(arr(str("a"), num(1))), num(7), row.raw)
			for n := 1; n <= 3; n++ { // the next call asks again
				locator.say(answer)
				_, err := s.Call(t.Context(), "echo", codec.Args("x"))
				wantError[*service.ResolveError](t, err)
				g := wantError[*service.GraphError](t, err)
				if !strings.HasPrefix(g.Error(), "bad_graph") || !strings.Contains(g.Error(), row.text) {
					t.Errorf("Call() = %v, want a bad_graph of %q", err, row.text)
				}
				if asked := locator.say(nil); asked != n || s.State() != service.Errored {
					t.Errorf("behind %d calls the locator was asked %d times, state %v, want %d, error", n, asked, s.State(), n)
				}
			}
			if n := len(c.dialledTo("a:1")); n != 0 {
				t.Errorf("the service was dialled %d times, want 0", n)
			}
			reply, err := s.Call(t.Context(), "echo", codec.Args("x"))
			wantString(t, reply, err, "x")
			if st := client.Stats().Locator; st.Connects != 1 || s.State() != service.Connected {
				t.Errorf("%d connections to the locator, state %v, want 1, connected", st.Connects, s.State())
			}
		})
	}
	for what, graph := range map[string][]byte{"endless": one(empty, deep(100_000)), "slots, usual frame": one(manySlots(100_000), empty)} {
		inBubble(t, what, func(t *testing.T) { testB28Frame(t, graph) })
	}
}

// testB28Frame is about a graph that no frame may have: the connection to the locator is
// at fault.
func testB28Frame(t *testing.T, graph []byte) {
	c := newCloud(t, false)
	locator := script(c)
	c.add("a", echo(false))
	s := c.client(func(cfg *service.Config) {
		cfg.MaxConnects, cfg.Backoff = 2, service.Backoff{Base: 10 * time.Millisecond, Max: time.Second}
	}).Service("echo")
	locator.say(arr(arr(arr(str("a"), num(1))), num(7), graph))
	_, err := s.Call(t.Context(), "echo", codec.Args("x"))
	wantError[*service.ResolveError](t, err)
	if closed := wantError[*channel.CloseError](t, err); s.State() != service.Errored {
		t.Errorf("Call() = %v in state %v, want error", closed, s.State())
	}
	locator.say(nil)
	reply, err := s.Call(t.Context(), "echo", codec.Args("x"))
	wantString(t, reply, err, "x")
}

// testG1 is about a locator that cannot be asked, and about one that says what is not so.
func testG1(t *testing.T) {
	inBubble(t, "down at start", func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		c.mu.Lock()
		up := c.hosts[locatorAddr]
		c.mu.Unlock()
		c.host(locatorAddr, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		_, err := service.Connect(ctx, c.config())
		if e := wantError[*service.ResolveError](t, err); time.Since(began) != 3*time.Second || !errors.Is(e, context.DeadlineExceeded) {
			t.Errorf("Connect() = %v after %v, want the deadline after 3 s", err, time.Since(began))
		}
		time.AfterFunc(5*time.Second, func() { c.host(locatorAddr, up) })
		s := c.client(func(cfg *service.Config) { cfg.Backoff.Max = 4 * time.Second }).Service("echo")
		reply, err := s.Call(t.Context(), "echo", codec.Args("x"))
		wantString(t, reply, err, "x")
	})
	inBubble(t, "stale", func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		c.mu.Lock()
		up := c.hosts[locatorAddr]
		c.mu.Unlock()
		s := c.client(func(cfg *service.Config) { cfg.MaxConnects = -1 }).Service("echo")
		if err := s.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.host(locatorAddr, nil)
		c.cut(locatorAddr)
		c.host("a:1", nil)
		c.cut("a:1")
		time.Sleep(10 * time.Minute)
		if n := len(c.dialledTo("a:1")); n != 1+service.MaxStale {
			t.Errorf("the last answer was tried %d times, want %d", n-1, service.MaxStale)
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := s.Call(ctx, "echo", codec.Args("x")); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 10*time.Second {
			t.Errorf("Call() = %v after %v, want the deadline after 10 s", err, time.Since(began))
		}
		c.host(locatorAddr, up)
		c.add("b", echo(false))
		ctx, cancel = context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		reply, err := s.Call(ctx, "echo", codec.Args("x"))
		wantString(t, reply, err, "x")
	})
	for _, balanced := range []bool{false, true} {
		inBubble(t, fmt.Sprintf("dies later, balanced %v", balanced), func(t *testing.T) { testG1Dies(t, balanced) })
		inBubble(t, fmt.Sprintf("lies, balanced %v", balanced), func(t *testing.T) { testG1Lies(t, balanced) })
	}
}

// testG1Dies has a locator die: its last good answer is as good as ever while it leads
// somewhere.
func testG1Dies(t *testing.T, balanced bool) {
	c := newCloud(t, false)
	c.add("a", echo(false))
	cfg := service.ServiceConfig{Name: "echo"}
	if balanced {
		cfg.Balance = &service.BalanceConfig{}
	}
	s, err := c.client(nil).NewService(cfg)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := s.Call(t.Context(), "echo", codec.Args("1"))
	wantString(t, reply, err, "1")
	c.host(locatorAddr, nil)
	c.cut(locatorAddr)
	for n := range 10 {
		reply, err = s.Call(t.Context(), "echo", codec.Args(fmt.Sprint("before", n)))
		wantString(t, reply, err, fmt.Sprint("before", n))
		c.mu.Lock()
		up := c.hosts["a:1"]
		c.mu.Unlock()
		c.host("a:1", nil)
		c.cut("a:1")
		time.AfterFunc(500*time.Millisecond, func() { c.host("a:1", up) })
		reply, err = s.Call(t.Context(), "echo", codec.Args(fmt.Sprint(n)))
		wantString(t, reply, err, fmt.Sprint(n))
		time.Sleep(time.Minute)
	}
}

// testG1Lies has a locator tell dead addresses, and later one that is alive.
func testG1Lies(t *testing.T, balanced bool) {
	c := newCloud(t, false)
	srv := c.add("a", echo(false))
	truth := service.AppendResolved(nil, service.Resolved{Endpoints: []service.Endpoint{at("a")}, Version: 7, API: srv.API()})
	lies := service.AppendResolved(nil, service.Resolved{Endpoints: []service.Endpoint{at("dead"), at("worse")}, Version: 7, API: srv.API()})
	locator := script(c)
	locator.say(lies)
	cfg := service.ServiceConfig{Name: "echo"}
	if balanced {
		cfg.Balance = &service.BalanceConfig{}
	}
	s, err := c.client(func(cfg *service.Config) { cfg.MaxConnects, cfg.Backoff.Max = -1, 4*time.Second }).NewService(cfg)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(8*time.Second, func() { locator.say(truth) })
	reply, err := s.Call(t.Context(), "echo", codec.Args("x"))
	wantString(t, reply, err, "x")
	if len(c.dialledTo("dead:1")) == 0 || locator.say(lies) < 2 {
		t.Errorf("dead addresses tried at %v, want some tries and new questions", c.dialledTo("dead:1"))
	}
	if st := s.Stats(); st.Answered != 1 || st.Failed != 0 {
		t.Errorf("Stats() = %+v, want one answer", st)
	}
}

// testG2 moves a service below calls: one that waits for its answer, a stream, and one of
// which nothing was sent.
func testG2(t *testing.T) {
	inBubble(t, "sent", func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		s := c.client(nil).Service("echo")
		stream, err := s.Open(t.Context(), "enqueue", codec.Args("e"))
		if err != nil {
			t.Fatal(err)
		}
		results := make(chan error)
		for range 10 {
			go func() {
				_, err := s.Call(t.Context(), "sleep", codec.Args(1000))
				results <- err
			}()
		}
		synctest.Wait()
		c.host("a:1", nil)
		c.add("b", echo(false))
		c.cut("a:1")
		for range 10 {
			if e := wantError[*session.Error](t, <-results); e.Remote || e.Delivery != session.Unknown {
				t.Errorf("Call() = %+v, want unknown delivery", e)
			}
		}
		_, err = stream.Recv(t.Context())
		if e := wantError[*session.Error](t, err); e.Remote || e.Delivery != session.Unknown {
			t.Errorf("Recv() = %+v, want unknown delivery", e)
		}
		reply, err := s.Call(t.Context(), "echo", codec.Args("moved"))
		wantString(t, reply, err, "moved")
		if st := s.Stats(); st.Endpoint != at("b") || st.Retried != 0 {
			t.Errorf("Stats() = %+v, want b without a repeat", st)
		}
	})
	for _, retries := range []int{-1, 3} {
		inBubble(t, fmt.Sprintf("not sent, %d retries", retries), func(t *testing.T) { testG2NotSent(t, retries) })
	}
}

// testG2NotSent cuts a connection whose output does not leave: a repeat goes to the new
// place; without one the error says that it may.
func testG2NotSent(t *testing.T, retries int) {
	c := newCloud(t, false)
	c.add("a", echo(false))
	c.script["a:1"] = channel.Script{AtoB: channel.Path{CapacityBytes: 64, Stalls: []channel.Stall{{At: 0, For: -1}}}}
	s := c.client(func(cfg *service.Config) { cfg.MaxRetries = retries }).Service("echo")
	results := [2]chan error{make(chan error, 1), make(chan error, 1)}
	for i, p := range [][]byte{bytes.Repeat([]byte("x"), 100<<10), []byte("small")} {
		go func() {
			reply, err := s.Call(t.Context(), "echo", codec.Args(p))
			var back []byte
			if err == nil {
				err = reply.Decode(&back)
			}
			if err == nil && !bytes.Equal(back, p) {
				err = fmt.Errorf("the answer is %d bytes, want %d", len(back), len(p))
			}
			results[i] <- err
		}()
		synctest.Wait()
	}
	c.host("a:1", nil)
	c.add("b", echo(false))
	c.cut("a:1")
	if e := wantError[*session.Error](t, <-results[0]); e.Delivery != session.Unknown {
		t.Errorf("the call that was sent in part ended with %+v, want unknown delivery", e)
	}
	err := <-results[1]
	if retries > 0 {
		if st := s.Stats(); err != nil || st.Retried != 1 || st.Endpoint != at("b") {
			t.Errorf("Call() = %v, Stats() = %+v, want an answer of b by one repeat", err, st)
		}
		return
	}
	if e := wantError[*session.Error](t, err); e.Remote || e.Delivery != session.NotSent {
		t.Errorf("Call() = %+v, want not sent", e)
	}
}

// testG10 loses answers.
func testG10(t *testing.T) {
	for _, idempotent := range []bool{false, true} {
		inBubble(t, fmt.Sprintf("idempotent %v", idempotent), func(t *testing.T) {
			c := newCloud(t, false)
			peers := rawEcho(t, c)
			s := idempotentEcho(t, c, idempotent)
			result := callLater(s)
			peer := <-peers
			peer.read(t)
			_ = peer.conn.Close()
			if !idempotent {
				if e := wantError[*session.Error](t, <-result); e.Remote || e.Delivery != session.Unknown || s.Stats().Retried != 0 {
					t.Errorf("Call() = %+v, want unknown delivery without a repeat", e)
				}
				return
			}
			peer = <-peers
			m := peer.read(t)
			peer.write(peer.frame(m.Session, 0, "x"))
			if err := <-result; err != nil || s.Stats().Retried != 1 {
				t.Errorf("Call() = %v, Stats() = %+v, want an answer by one repeat", err, s.Stats())
			}
		})
	}
	// Once it is unknown whether the service got the call, no later failure makes it known.
	for _, how := range []string{"refused", "given up", "closed"} {
		inBubble(t, "unknown, then "+how, func(t *testing.T) {
			c := newCloud(t, false)
			peers := rawEcho(t, c)
			s := idempotentEcho(t, c, true)
			result := callLater(s)
			peer := <-peers
			peer.read(t)
			c.host("a:1", nil)
			_ = peer.conn.Close()
			synctest.Wait()
			switch how {
			case "refused":
				c.mu.Lock()
				delete(c.names, "echo")
				c.mu.Unlock()
			case "closed":
				_ = s.Close(t.Context())
			}
			err := <-result
			if e := wantError[*session.Error](t, err); e.Remote || e.Delivery != session.Unknown {
				t.Errorf("Call() = %+v, want unknown delivery", e)
			}
			wantError[*service.ResolveError](t, err)
			if how == "closed" && !errors.Is(err, service.ErrClosed) || how == "given up" && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Call() = %v, want the cause of its end too", err)
			}
		})
	}
}

func idempotentEcho(t *testing.T, c *cloud, idempotent bool) *service.Service {
	cfg := service.ServiceConfig{Name: "echo"}
	if idempotent {
		cfg.Idempotent = []string{"echo"}
	}
	s, err := c.client(func(cfg *service.Config) { cfg.MaxConnects = -1 }).NewService(cfg) // a call has its deadline only
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func callLater(s *service.Service) chan error {
	result := make(chan error, 1)
	go func() {
		_, err := s.Call(context.Background(), "echo", codec.Args("x"))
		result <- err
	}()
	return result
}

func (p *rawPeer) read(t *testing.T) codec.Message {
	t.Helper()
	m, err := p.next()
	if err != nil {
		t.Fatalf("next() = %v, want a call", err)
	}
	return m
}
