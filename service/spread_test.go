package service_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// who is a service that answers with its name, or with an error.
func who(name string, fail *session.Error) service.Declaration {
	return service.Declaration{Name: "who", Version: 1, Methods: []service.Handled{
		{Method: service.Method{ID: 0, Name: "who", Rx: session.Primitive}, Serve: func(ctx context.Context, c *service.Call) error {
			if fail != nil {
				return fail
			}
			return c.Reply(codec.Args(name))
		}},
		{Method: service.Method{ID: 1, Name: "sleep", Rx: session.Primitive}, Serve: sleep},
	}}
}

// spreadOf is a balanced Service over instances of those names.
func spreadOf(t *testing.T, c *cloud, names []string, edit func(*service.Config, *service.ServiceConfig)) *service.Service {
	t.Helper()
	for _, n := range names {
		if c.hosts[at(n).String()] == nil {
			c.serve(at(n).String(), who(n, nil))
		}
	}
	c.listWho(names...)
	sc := service.ServiceConfig{Name: "who", Balance: &service.BalanceConfig{Policy: service.RoundRobin}}
	client := c.client(func(cfg *service.Config) {
		if edit != nil {
			edit(cfg, &sc)
		}
	})
	s, err := client.NewService(sc)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// listWho has the locator list instances.
func (c *cloud) listWho(names ...string) {
	d := who("", nil)
	api, err := d.API()
	if err != nil {
		c.t.Fatal(err)
	}
	r := service.Resolved{Version: 1, API: api}
	for _, n := range names {
		r.Endpoints = append(r.Endpoints, at(n))
	}
	c.name("who", r)
}

// ask counts who answers.
func ask(t *testing.T, s *service.Service, times int) map[string]int {
	t.Helper()
	got := map[string]int{}
	for range times {
		name, err := service.Invoke[string](t.Context(), s, "who", service.None{})
		if err != nil {
			t.Fatalf("Invoke() = %v", err)
		}
		got[name]++
	}
	return got
}

func wantCounts(t *testing.T, got, want map[string]int) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("answers of %v, want %v", got, want)
	}
}

func TestSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		s := spreadOf(t, c, []string{"a", "b", "c"}, nil)
		wantCounts(t, ask(t, s, 9), map[string]int{"a": 3, "b": 3, "c": 3})
		st := s.Stats()
		if st.State != service.Connected || st.Connects != 3 || st.Resolves != 1 || len(st.Instances) != 3 || st.Pending != 0 {
			t.Errorf("Stats() = %+v, want three connections of one resolve", st)
		}
		c.listWho("b", "c", "d")
		c.serve("d:1", who("d", nil))
		time.Sleep(time.Minute)
		ask(t, s, 1) // has the locator asked
		synctest.Wait()
		wantCounts(t, ask(t, s, 9), map[string]int{"b": 3, "c": 3, "d": 3})
		if st := s.Stats(); len(st.Instances) != 3 || st.Connects != 4 {
			t.Errorf("Stats() = %+v, want a forgotten", st)
		}
	})
}

// TestSpreadFailOver has one instance dead, and then all.
func TestSpreadFailOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		s := spreadOf(t, c, []string{"a", "b"}, func(cfg *service.Config, _ *service.ServiceConfig) { cfg.MaxConnects = 2 })
		c.host("a:1", nil)
		wantCounts(t, ask(t, s, 8), map[string]int{"b": 8})
		c.host("b:1", nil)
		c.cut("b:1")
		synctest.Wait()
		_, err := s.Call(t.Context(), "who", codec.Arguments{})
		if e := wantError[*service.ResolveError](t, err); len(e.Tries) < 2 || service.Errno(err) == 0 {
			t.Errorf("Call() = %v, want a try for each", err)
		}
		c.serve("a:1", who("a", nil))
		time.Sleep(time.Hour)
		wantCounts(t, ask(t, s, 3), map[string]int{"a": 3})
	})
}

// TestSpreadAway does not wait for an instance that was lost and may come back.
func TestSpreadAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		s := spreadOf(t, c, []string{"a", "b"}, func(cfg *service.Config, sc *service.ServiceConfig) {
			cfg.Backoff = service.Backoff{Base: time.Hour, Max: time.Hour}
			sc.Balance.Policy = service.PreferFirst
		})
		wantCounts(t, ask(t, s, 2), map[string]int{"a": 2})
		c.cut("a:1")
		synctest.Wait()
		began := time.Now()
		wantCounts(t, ask(t, s, 2), map[string]int{"b": 2})
		if took := time.Since(began); took > 0 {
			t.Errorf("the calls took %v, want no wait for a", took)
		}
	})
}

// TestSpreadRetry cuts an instance below calls that may be repeated.
func TestSpreadRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.script["a:1"] = reset
		s := spreadOf(t, c, []string{"a", "b"}, func(_ *service.Config, sc *service.ServiceConfig) {
			sc.Idempotent = []string{"who"}
			sc.Balance.Policy = service.PreferFirst
		})
		wantCounts(t, ask(t, s, 1), map[string]int{"b": 1})
		if st := s.Stats(); st.Retried != 1 || st.Lost != 1 {
			t.Errorf("Stats() = %+v, want one repeat", st)
		}
	})
}

// TestSpreadQueueIsFull goes on to another instance once, and no further.
func TestSpreadQueueIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := &session.Error{Category: service.CategoryOverseer, Code: service.OverseerQueueIsFull, Message: "the queue is full"}
		c := newCloud(t, false)
		c.serve("a:1", who("a", full))
		s := spreadOf(t, c, []string{"a", "b"}, func(_ *service.Config, sc *service.ServiceConfig) { sc.Balance.Policy = service.PreferFirst })
		wantCounts(t, ask(t, s, 3), map[string]int{"b": 3})
		c.serve("d:1", who("d", full))
		all := spreadOf(t, c, []string{"a", "d"}, nil)
		if _, err := all.Call(t.Context(), "who", codec.Arguments{}); !service.Is(err, service.CategoryOverseer, service.OverseerQueueIsFull) {
			t.Errorf("Call() = %v, want the last instance's error", err)
		}
		if st := all.Stats(); st.Retried != 1 {
			t.Errorf("Stats().Retried = %d, want 1", st.Retried)
		}
	})
}

func TestSpreadKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		c := newCloud(t, false)
		s := spreadOf(t, c, []string{"a", "b", "c"}, func(_ *service.Config, sc *service.ServiceConfig) {
			sc.Balance.Policy = service.ByKey
			sc.Key = func(ctx context.Context, method string) string { return ctx.Value(key{}).(string) }
		})
		for _, k := range []string{"alice", "bob", "carol"} {
			ctx := context.WithValue(t.Context(), key{}, k)
			first, err := service.Invoke[string](ctx, s, "who", service.None{})
			for range 3 {
				if got, e := service.Invoke[string](ctx, s, "who", service.None{}); err != nil || e != nil || got != first {
					t.Errorf("the calls of %s went to %q and %q, %v, %v", k, first, got, err, e)
				}
			}
		}
	})
}

func TestSpreadLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		s := spreadOf(t, c, []string{"a"}, func(cfg *service.Config, _ *service.ServiceConfig) { cfg.MaxPending = 2 })
		c.slow = time.Second
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { ask(t, s, 1) })
		}
		synctest.Wait()
		if _, err := s.Call(t.Context(), "who", codec.Arguments{}); !errors.Is(err, service.ErrTooManyPending) {
			t.Errorf("Call() = %v, want ErrTooManyPending", err)
		}
		if st := s.Stats(); st.Stage != service.StageResolve || st.Pending != 2 || st.Refused != 1 {
			t.Errorf("Stats() = %+v, want two pending, resolving", st)
		}
		wg.Wait()
		c.listWho()
		c.cut("a:1")
		c.host("a:1", nil)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := s.Call(ctx, "who", codec.Arguments{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Call() with no instance left = %v, want the deadline", err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("Close() = %v", err)
		}
		if _, err := s.Call(t.Context(), "who", codec.Arguments{}); !errors.Is(err, service.ErrClosed) {
			t.Errorf("Call() = %v, want ErrClosed", err)
		}
	})
}

func TestSpreadConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newCloud(t, false).client(nil)
		for _, cfg := range []service.ServiceConfig{
			{Name: "x", Balance: &service.BalanceConfig{Policy: 99}},
			{Name: "x", Endpoints: []service.Endpoint{at("a")}},
			{Name: "x", Endpoints: make([]service.Endpoint, service.MaxEndpoints+1), API: new(service.API)},
			{},
		} {
			if _, err := client.NewService(cfg); err == nil {
				t.Errorf("NewService(%+v) gave no error", cfg)
			}
		}
		if _, err := client.Service("nobody").Call(t.Context(), "x", codec.Arguments{}); err == nil {
			t.Error("a name that nobody has gave no error")
		}
	})
}
