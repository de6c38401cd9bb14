package service_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// settleWithin is the time in which a Service has moved: the first wait of Backoff.
const settleWithin = 2 * time.Second

// routed is a cloud whose locator has routing groups.
type routed struct {
	*cloud
	groups map[string]*service.Ring   // guarded by mu, as what follows
	ears   map[*service.Call]struct{} // of the streams
	ids    []string
}

func newRouted(t *testing.T) *routed {
	r := &routed{cloud: newCloud(t, false), groups: map[string]*service.Ring{}, ears: map[*service.Call]struct{}{}}
	r.serve(locatorAddr, service.Declaration{Name: "locator", Version: 3, Methods: []service.Handled{
		{Method: service.Method{ID: 0, Name: "resolve", Rx: session.Primitive}, Serve: r.resolve},
		{Method: service.Method{ID: 5, Name: "routing", Tx: discard(), Rx: service.Values}, OnLoop: r.routing, Endless: true},
	}})
	return r
}

func (r *routed) routing(c *service.Call) {
	args := c.Reader()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids = append(r.ids, args.String())
	r.ears[c] = struct{}{}
	c.OnEnd(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.ears, c)
	})
	r.tellLocked(c)
}

func (r *routed) tellLocked(c *service.Call) {
	_ = c.Session().SendMessage(codec.V1Write, service.AppendRouting(nil, r.groups))
}

// group has a routing group lead to a host, and tells all who listen.
func (r *routed) group(name, host string) {
	r.t.Helper()
	ring, err := service.NewRing(map[string]uint32{host: 1})
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	there := r.names[name]
	there.Endpoints = []service.Endpoint{at(host)}
	r.names[name], r.groups[name] = there, ring
	for c := range r.ears {
		c.Session().Channel().Post(func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.tellLocked(c)
		})
	}
}

// echoes has a service on each of several hosts, and a group that leads to the first.
func (r *routed) echoes(group string, hosts ...string) map[string]*service.Server {
	servers := map[string]*service.Server{}
	for _, h := range hosts {
		servers[h] = r.serve(at(h).String(), echo(false))
	}
	r.name(group, service.Resolved{Version: 7, API: servers[hosts[0]].API()})
	r.group(group, hosts[0])
	return servers
}

// following is a client that follows groups.
func (r *routed) following() *service.Client {
	return r.client(func(cfg *service.Config) { cfg.FollowGroups = true })
}

// wantAt checks where a Service is, behind the time that it has to move.
func wantAt(t *testing.T, s *service.Service, host string) {
	t.Helper()
	time.Sleep(settleWithin)
	if got := s.Stats().Endpoint; got != at(host) {
		t.Errorf("the service is at %v, want %v", got, at(host))
	}
}

// echoOn sends a chunk to a stream and reads it back.
func echoOn(t *testing.T, stream *service.Stream, text string) {
	t.Helper()
	err := stream.Send(t.Context(), []byte(text))
	if p, e := stream.Recv(t.Context()); string(p) != text || err != nil || e != nil {
		t.Errorf("Recv() = %q, %v behind Send() = %v, want %q", p, e, err, text)
	}
}

// TestFollowGroup: a Service on a routing group is where the group leads to. What is under
// way goes on where it is, and its connection ends with it.
func TestFollowGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouted(t)
		servers := r.echoes("app", "a", "b")
		c := r.following()
		s := c.Service("app")
		stream, err := s.Open(t.Context(), "enqueue", codec.Arguments{})
		if err != nil {
			t.Fatal(err)
		}
		late := make(chan error)
		go func() {
			_, err := s.Call(t.Context(), "sleep", codec.Args(10))
			late <- err
		}()
		echoOn(t, stream, "one")
		r.group("app", "b")
		wantAt(t, s, "b")
		reply, err := s.Call(t.Context(), "echo", codec.Args("new"))
		wantString(t, reply, err, "new")
		echoOn(t, stream, "two")
		if err := <-late; err != nil {
			t.Errorf("Call() = %v on the connection that was left", err)
		}
		if n := servers["a"].Stats().Conns; n != 1 {
			t.Errorf("%d connections to a while a stream goes on, want 1", n)
		}
		_ = stream.Close()
		if _, err := stream.Recv(t.Context()); err == nil {
			t.Error("Recv() gave more")
		}
		time.Sleep(time.Second)
		if n := servers["a"].Stats().Conns; n != 0 {
			t.Errorf("%d connections to a behind the last call, want 0", n)
		}
		if st := s.Stats(); st.Moves != 1 || st.Connects != 2 || st.Lost != 0 || st.Losses != 0 || st.State != service.Connected {
			t.Errorf("Stats() = %+v, want one move and no loss", st)
		}
	})
}

// TestFollowOnlyChanges: what did not change moves nobody, and asks nobody.
func TestFollowOnlyChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouted(t)
		r.echoes("app", "a", "b")
		r.echoes("other", "x", "y")
		c := r.following()
		synctest.Wait()
		s, plain := c.Service("app"), r.client(nil).Service("app")
		for _, s := range []*service.Service{s, plain} {
			if err := s.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		asked := r.resolved()
		r.group("other", "y")
		r.group("app", "a") // as before
		wantAt(t, s, "a")
		if n := r.resolved() - asked; n != 0 {
			t.Errorf("the locator was asked %d times, want never", n)
		}
		r.group("app", "b")
		wantAt(t, s, "b")
		wantAt(t, plain, "a")
		if n := r.resolved() - asked; n != 1 {
			t.Errorf("the locator was asked %d times, want once", n)
		}
	})
}

// TestFollowBack: a change during the absence of the locator counts when it is back.
func TestFollowBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouted(t)
		r.echoes("app", "a", "b")
		s := r.following().Service("app")
		if err := s.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(settleWithin)
		host := r.hostOf(locatorAddr)
		r.host(locatorAddr, nil)
		r.cut(locatorAddr)
		synctest.Wait()
		r.group("app", "b")
		time.Sleep(10 * time.Minute)
		wantAt(t, s, "a")
		if n := len(r.dialledTo(locatorAddr)); n > 300 {
			t.Errorf("the locator was dialled %d times in 10 minutes", n)
		}
		r.host(locatorAddr, host)
		time.Sleep(backWithin)
		wantAt(t, s, "b")
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.ids) != 2 || r.ids[0] != r.ids[1] || len(r.ids[0]) < 16 {
			t.Errorf("streams of the ids %q were asked for, want two of one that nobody else has", r.ids)
		}
	})
}

// TestFollowInVain: what cannot be reached is moved to when it can, and what nobody can
// resolve is not.
func TestFollowInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouted(t)
		r.echoes("app", "a", "b")
		s := r.following().Service("app")
		if err := s.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		host := r.hostOf("b:1")
		r.host("b:1", nil)
		r.group("app", "b")
		time.Sleep(10 * time.Minute)
		wantAt(t, s, "a")
		if st, n := s.Stats(), len(r.dialledTo("b:1")); st.Moves != 0 || st.State != service.Connected || n < 10 || n > 300 {
			t.Errorf("Stats() = %+v behind %d dials of b in 10 minutes, want no move", st, n)
		}
		r.host("b:1", host)
		time.Sleep(backWithin)
		wantAt(t, s, "b")
		r.mu.Lock()
		there := r.names["app"]
		delete(r.names, "app")
		r.groups["app"] = new(service.Ring) // without members it is none
		r.mu.Unlock()
		asked := r.resolved()
		r.group("other", "x") // tells so
		time.Sleep(10 * time.Minute)
		wantAt(t, s, "b")
		if n := r.resolved() - asked; n != 1 {
			t.Errorf("the locator was asked %d times for a group that is gone, want once", n)
		}
		r.name("app", there)
		r.group("app", "a")
		wantAt(t, s, "a")
	})
}

// TestFollowBound: there are only so many connections with calls that were left.
func TestFollowBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 9 // of a Service: that in use, and 8 that it has left
		r := newRouted(t)
		var hosts []string
		for i := range most + 3 {
			hosts = append(hosts, fmt.Sprint("h", i))
		}
		r.echoes("app", hosts...)
		s := r.following().Service("app")
		var streams []*service.Stream
		for i, h := range hosts[:most] {
			r.group("app", h)
			if i > 0 {
				wantAt(t, s, h)
			}
			stream, err := s.Open(t.Context(), "enqueue", codec.Arguments{})
			if err != nil {
				t.Fatal(err)
			}
			streams = append(streams, stream)
		}
		r.group("app", hosts[most])
		wantAt(t, s, hosts[most-1])
		streams[0].Discard()
		wantAt(t, s, hosts[most])
		for _, stream := range streams[1:] {
			echoOn(t, stream, "still there")
		}
		if st := s.Stats(); st.Moves != most || st.Connects != most+1 {
			t.Errorf("Stats() = %+v, want %d moves", st, most)
		}
	})
}

// TestFollowBalanced: a balanced Service drains the instances that it leaves.
func TestFollowBalanced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouted(t)
		servers := r.echoes("app", "a", "b")
		s, err := r.following().NewService(service.ServiceConfig{Name: "app", Balance: &service.BalanceConfig{}, Refresh: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		stream, err := s.Open(t.Context(), "enqueue", codec.Arguments{})
		if err != nil {
			t.Fatal(err)
		}
		r.group("app", "b")
		time.Sleep(settleWithin)
		reply, err := s.Call(t.Context(), "echo", codec.Args("new"))
		wantString(t, reply, err, "new")
		if a, b := servers["a"].Stats().Conns, servers["b"].Stats().Conns; a != 1 || b != 1 {
			t.Errorf("%d connections to a and %d to b, want one to each", a, b)
		}
		echoOn(t, stream, "still there")
		stream.Discard()
		time.Sleep(time.Second)
		if n := servers["a"].Stats().Conns; n != 0 {
			t.Errorf("%d connections to a behind the last call, want 0", n)
		}
	})
}

// TestFollowClose: a Client that is closed while it moves ends, with all that it has left.
func TestFollowClose(t *testing.T) {
	for _, wait := range []time.Duration{0, 10 * time.Millisecond, 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouted(t)
			servers := r.echoes("app", "a", "b")
			c := r.following()
			s := c.Service("app")
			stream, err := s.Open(t.Context(), "enqueue", codec.Arguments{})
			if err != nil {
				t.Fatal(err)
			}
			r.group("app", "b")
			time.Sleep(wait)
			if err := c.Close(t.Context()); err != nil {
				t.Errorf("Close() = %v", err)
			}
			_, err = stream.Recv(t.Context())
			wantError[*session.Error](t, err)
			if _, err := s.Call(t.Context(), "echo", codec.Arguments{}); !errors.Is(err, service.ErrClosed) {
				t.Errorf("Call() = %v, want ErrClosed", err)
			}
			time.Sleep(time.Second)
			if a, b := servers["a"].Stats().Conns, servers["b"].Stats().Conns; a+b != 0 {
				t.Errorf("%d connections to a and %d to b, want none", a, b)
			}
		})
	}
}

// TestFollowV0: there is nothing to follow in v0, and that is told.
func TestFollowV0(t *testing.T) {
	if _, err := service.Connect(context.Background(), service.Config{V0: true, FollowGroups: true}); !errors.Is(err, service.ErrDialect) {
		t.Errorf("Connect() = %v, want ErrDialect", err)
	}
}
