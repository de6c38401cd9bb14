package worker_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

func TestMux(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		var order []string
		wrap := func(name string) worker.Middleware {
			return func(next worker.Handler) worker.Handler {
				return func(ctx context.Context, s *worker.Session) error {
					order = append(order, name+" "+s.Event())
					return next(ctx, s)
				}
			}
		}
		var made *worker.Worker
		l := connect(t, d, options{}, func(w *worker.Worker) {
			made = w
			w.Use(wrap("a"), wrap("b"))
			w.Fallback(func(ctx context.Context, s *worker.Session) error {
				_, err := s.Write([]byte("fallback " + s.Event()))
				return err
			})
			w.Use(wrap("c"))
		})
		l.play(`
			> invoke 1 fail
			< fail 1 7 "told to fail"
			> invoke 2 unknown
			< chunk 2 "fallback unknown"
			< choke 2
			> invoke 3 ping
			< chunk 3 pong
			< choke 3
		`)
		if want := []string{"a fail", "b fail", "c fail", "a unknown", "b unknown", "c unknown"}; !slices.Equal(order, want) {
			t.Errorf("the middleware ran %q, want %q", order, want)
		}
		if got := l.w.Stats().NoHandler; got != 0 {
			t.Errorf("Stats().NoHandler = %d, want 0", got)
		}
		h := func(context.Context, *worker.Session) error { return nil }
		f := func(*worker.Session) session.Handler { return nil }
		for name, late := range map[string]func(){
			"Handle":     func() { made.Handle("x", h) },
			"HandleFunc": func() { made.HandleFunc("x", f) },
			"Fallback":   func() { made.Fallback(h) },
			"Use":        func() { made.Use(wrap("x")) },
		} {
			wantPanic(t, name+" after Run", "before Run", late)
		}
		w, err := worker.New(worker.Config{UUID: "u", Endpoint: "/e"})
		if err != nil {
			t.Fatal(err)
		}
		w.Handle("x", h)
		wantPanic(t, "a second handler", "two handlers", func() { w.HandleFunc("x", f) })
		wantPanic(t, "no handler", "is nil", func() { w.Handle("y", nil) })
		wantPanic(t, "no handler", "is nil", func() { w.HandleFunc("y", nil) })
	})
}

func wantPanic(t *testing.T, what, want string, f func()) {
	t.Helper()
	defer func() {
		if v := recover(); v == nil || !strings.Contains(fmt.Sprint(v), want) {
			t.Errorf("%s: recovered %v, want %q", what, v, want)
		}
	}()
	f()
}
