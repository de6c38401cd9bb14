package service_test

import (
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// rawLocator is a client whose locator is scripted by the test.
func rawLocator(t *testing.T) (*service.Locator, *rawPeer, *cloud) {
	c := newCloud(t, false)
	peers, accept := listen(t, codec.V1)
	c.host(locatorAddr, accept)
	client := c.client(nil)
	return client.Locator(), <-peers, c
}

// do runs f while the test plays the peer.
func do(f func() error) chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

func TestLocatorCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, peer, _ := rawLocator(t)
		done := do(func() error { return l.Refresh(t.Context(), "g", "h") })
		peer.want(1, 2, []string{"g", "h"})
		peer.call(1, codec.V1Value)
		if err := <-done; err != nil {
			t.Errorf("Refresh() = %v", err)
		}
		var nodes map[string]service.Endpoint
		done = do(func() (err error) { nodes, err = l.Cluster(t.Context()); return err })
		peer.want(2, 3)
		peer.wantNoMore(t)
		peer.write(peer.answer(2, service.AppendCluster(nil, map[string]service.Endpoint{"u": at("n")})))
		if err := <-done; err != nil || !maps.Equal(nodes, map[string]service.Endpoint{"u": at("n")}) {
			t.Errorf("Cluster() = %v, %v", nodes, err)
		}
		var uuid string
		done = do(func() (err error) { uuid, err = l.UUID(t.Context()); return err })
		peer.want(3, 6)
		peer.call(3, codec.V1Value, "the-uuid")
		if err := <-done; err != nil || uuid != "the-uuid" {
			t.Errorf("UUID() = %q, %v", uuid, err)
		}
		done = do(func() error { _, err := l.ResolveSeed(t.Context(), "group", "seed"); return err })
		peer.want(4, 0, "group", "seed")
		peer.call(4, codec.V1ValueError, []any{10, 1}, "service is not available")
		if err := <-done; !service.Is(err, service.CategoryLocator, service.LocatorNotAvailable) {
			t.Errorf("ResolveSeed() = %v", err)
		}
		for i, answer := range [][]any{{"x"}, {[]any{}, 1}, {1, 2, 3}} {
			done = do(func() error { _, err := l.Resolve(t.Context(), "x"); return err })
			peer.want(uint64(5+i), 0, "x")
			peer.call(uint64(5+i), codec.V1Value, answer...)
			if err := <-done; err == nil {
				t.Errorf("Resolve() took the answer %v", answer)
			}
		}
		if _, err := l.Resolve(t.Context(), ""); err == nil {
			t.Error("Resolve() of no name gave no error")
		}
	})
}

func (p *rawPeer) answer(sess uint64, args []byte) []byte {
	return codec.AppendFrame(nil, p.d, &codec.Frame{Kind: codec.KindCall, Session: sess, Type: 0, Args: args})
}

// wantNoMore checks that nothing else was sent.
func (p *rawPeer) wantNoMore(t *testing.T) {
	t.Helper()
	_ = p.conn.SetReadDeadline(time.Now().Add(time.Second))
	more := make([]byte, 100)
	n, err := p.conn.Read(more)
	if n > 0 || len(p.buf) > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%x%x was sent besides, or %v", p.buf, more[:n], err)
	}
	_ = p.conn.SetReadDeadline(time.Time{})
}

func TestLocatorConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, peer, c := rawLocator(t)
		var w *service.Watch
		done := do(func() (err error) { w, err = l.Connect(t.Context(), "me"); return err })
		peer.want(1, 1, "me")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		api, _ := service.NewAPI(service.Method{ID: 0, Name: "read", Rx: session.Primitive})
		peer.write(peer.answer(1, service.AppendUpdate(nil, service.Update{UUID: "n", Services: map[string]service.Resolved{
			"storage": {Endpoints: []service.Endpoint{at("s")}, Version: 1, API: api},
		}})))
		peer.write(peer.answer(1, service.AppendUpdate(nil, service.Update{UUID: "n", Services: map[string]service.Resolved{"storage": {}}})))
		for _, gone := range []bool{false, true} {
			u, err := w.Next(t.Context())
			if s, ok := u.Services["storage"]; err != nil || u.UUID != "n" || !ok || s.Gone() != gone {
				t.Errorf("Next() = %+v, %v, want storage, gone: %t", u, err, gone)
			}
		}
		peer.call(1, codec.V1Close)
		if _, err := w.Next(t.Context()); err != io.EOF {
			t.Errorf("Next() = %v, want io.EOF", err)
		}
		w.Close()
		done = do(func() (err error) { w, err = l.Connect(t.Context(), "me"); return err })
		peer.want(2, 1, "me")
		<-done
		synctest.Wait()
		c.cut(locatorAddr)
		_, err := w.Next(t.Context())
		wantError[*session.Error](t, err)
	})
}

func TestLocatorRouting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, peer, _ := rawLocator(t)
		var routes *service.Routes
		done := do(func() (err error) { routes, err = l.Routing(t.Context(), "router-1"); return err })
		peer.want(1, 5, "router-1")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		ring, err := service.NewRing(map[string]uint32{"v1": 1, "v2": 1})
		if err != nil {
			t.Fatal(err)
		}
		for i, step := range []struct {
			sent map[string]*service.Ring
			want []string
		}{
			{map[string]*service.Ring{"a": ring, "b": ring}, []string{"a", "b"}},
			{map[string]*service.Ring{"c": ring}, []string{"a", "b", "c"}},
			{map[string]*service.Ring{"a": new(service.Ring)}, []string{"b", "c"}},
		} {
			peer.write(peer.answer(1, service.AppendRouting(nil, step.sent)))
			groups, err := routes.Next(t.Context())
			if got := slices.Sorted(maps.Keys(groups)); err != nil || !slices.Equal(got, step.want) {
				t.Errorf("Next() %d = %v, %v, want %v", i, got, err, step.want)
			}
			if got := groups["c"]; i > 0 && got.Choose("alice") != ring.Choose("alice") {
				t.Errorf("Next() %d has another ring", i)
			}
		}
		routes.Close()
		peer.want(1, 0) // discard
		peer.wantNoMore(t)
	})
}

// TestLocatorPublish: a publication is a call that stays open; Close discards it, once.
func TestLocatorPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, peer, c := rawLocator(t)
		api, _ := service.NewAPI(service.Method{ID: 0, Name: "read", Rx: session.Primitive})
		var p *service.Publication
		done := do(func() (err error) {
			p, err = l.Publish(t.Context(), "mine", service.Resolved{Endpoints: []service.Endpoint{at("m")}, Version: 3, API: api})
			return err
		})
		want := codec.AppendString(codec.AppendArrayHeader(nil, 3), "mine")
		want = service.AppendEndpoints(want, []service.Endpoint{at("m")})
		want = service.AppendAPI(codec.AppendUint(codec.AppendArrayHeader(want, 2), 3), api)
		peer.wantArgs(1, 4, want)
		synctest.Wait()
		if len(done) > 0 {
			t.Fatal("Publish() did not wait for the answer")
		}
		peer.call(1, codec.V1Value)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		peer.wantNoMore(t)
		p.Close()
		peer.want(1, 0) // discard
		p.Close()
		peer.wantNoMore(t)

		done = do(func() error {
			_, err := l.Publish(t.Context(), "mine", service.Resolved{Endpoints: []service.Endpoint{at("m")}})
			return err
		})
		peer.want(2, 4, "mine", []any{[]any{"m", 1}})
		peer.call(2, codec.V1ValueError, []any{9, 3}, "permission denied")
		if err := <-done; !service.Is(err, service.CategorySecurity, service.SecurityPermissionDenied) {
			t.Errorf("Publish() = %v, want the locator's error", err)
		}
		peer.wantNoMore(t) // the call is over: a discard would cost the connection

		done = do(func() (err error) { p, err = l.Publish(t.Context(), "mine", service.Resolved{}); return err })
		peer.want(3, 4, "mine", []any{})
		peer.call(3, codec.V1Value)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		c.cut(locatorAddr)
		<-p.Lost()
		p.Close()
		if _, err := l.Publish(t.Context(), "", service.Resolved{}); err == nil {
			t.Error("Publish() of no name gave no error")
		}
	})
}

// TestLocatorComesBack restarts the runtime below a client.
func TestLocatorComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		client := c.client(nil)
		s := client.Service("echo")
		if err := s.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.cut(locatorAddr)
		c.cut("a:1")
		reply, err := s.Call(t.Context(), "echo", codec.Args("x"))
		wantString(t, reply, err, "x")
		if n := len(c.dialledTo(locatorAddr)); n != 2 {
			t.Errorf("%d connections to the locator, want 2", n)
		}
		if st := client.Stats(); st.Locator.Losses != 1 || len(st.Services) != 1 || st.Services[0].Name != "echo" {
			t.Errorf("Stats() = %+v", st)
		}
	})
}

func TestSeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		s, err := c.client(nil).NewService(service.ServiceConfig{Name: "echo", Seed: "alice"})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Connect(t.Context()); err != nil || !slices.Equal(c.seeds, []string{"alice"}) {
			t.Errorf("Connect() = %v, with the seeds %q", err, c.seeds)
		}
	})
}
