package service_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// TestRetryIdempotent cuts each connection below the call.
func TestRetryIdempotent(t *testing.T) {
	for _, idempotent := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c := newCloud(t, false)
			peers := rawEcho(t, c)
			cfg := service.ServiceConfig{Name: "echo"}
			if idempotent {
				cfg.Idempotent = []string{"echo"}
			}
			s, err := c.client(func(cfg *service.Config) { cfg.CallTimeout = -1 }).NewService(cfg)
			if err != nil {
				t.Fatal(err)
			}
			result := make(chan error, 1)
			go func() {
				_, err := s.Call(t.Context(), "echo", codec.Args("x"))
				result <- err
			}()
			got := 0
			for range 5 {
				select {
				case peer := <-peers:
					if _, err := peer.next(); err == nil {
						got++
					}
					_ = peer.conn.Close()
				case <-time.After(time.Hour):
				}
			}
			want := 1
			if idempotent {
				want = 4 // and three repeats
			}
			e := wantError[*session.Error](t, <-result)
			if got != want || e.Delivery != session.Unknown {
				t.Errorf("the service got %d calls, the caller %v; want %d, unknown", got, e, want)
			}
		})
	}
}

// TestRetryNowhere cuts the connection below a call that may be repeated, for good.
func TestRetryNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		peers := rawEcho(t, c)
		client := c.client(func(cfg *service.Config) { cfg.MaxConnects = 2 })
		s, err := client.NewService(service.ServiceConfig{Name: "echo", Idempotent: []string{"echo"}})
		if err != nil {
			t.Fatal(err)
		}
		done := do(func() error { _, err := s.Call(t.Context(), "echo", codec.Args("x")); return err })
		peer := <-peers
		peer.want(1, 0, "x")
		c.host("a:1", nil)
		_ = peer.conn.Close()
		err = <-done
		wantError[*service.ResolveError](t, err)
		if e := wantError[*session.Error](t, err); e.Delivery != session.Unknown {
			t.Errorf("Call() = %v, want that it may have been carried out", err)
		}
	})
}

// TestRetryNotSent has a call wait behind one that fills the socket, and cuts that.
func TestRetryNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.add("a", echo(false))
		c.script["a:1"] = channel.Script{AtoB: channel.Path{CapacityBytes: 64, Stalls: []channel.Stall{{At: 0, For: -1}}}}
		s := c.client(nil).Service("echo")
		if err := s.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		first := make(chan error, 1)
		go func() {
			_, err := s.Call(t.Context(), "echo", codec.Args(bytes.Repeat([]byte("x"), 100<<10)))
			first <- err
		}()
		synctest.Wait()
		second := make(chan string, 1)
		go func() {
			got, err := service.Invoke[string](t.Context(), s, "echo", "small")
			if err != nil {
				got = err.Error()
			}
			second <- got
		}()
		synctest.Wait()
		c.mu.Lock()
		delete(c.script, "a:1")
		c.mu.Unlock()
		c.cut("a:1")
		if e := wantError[*session.Error](t, <-first); e.Delivery != session.Unknown {
			t.Errorf("the first call ended with %+v, want unknown delivery", e)
		}
		if got := <-second; got != "small" {
			t.Errorf("the second call, of which nothing was sent, ended with %q, want an answer", got)
		}
		if st := s.Stats(); st.Retried != 1 {
			t.Errorf("Stats().Retried = %d, want 1", st.Retried)
		}
	})
}
