package service_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// Nothing is sent of a call whose context is over when it is made, though the connection is
// there.
func TestCallTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.serve(at("a").String(), service.Declaration{Name: "t", Methods: []service.Handled{
			{Method: service.Method{ID: 0, Name: "ask", Rx: session.Primitive}, OnLoop: func(c *service.Call) { _ = c.Reply(codec.Args(1)) }},
			{Method: service.Method{ID: 1, Name: "tell"}, OnLoop: func(*service.Call) {}},
			{Method: service.Method{ID: 2, Name: "talk", Tx: session.Streaming, Rx: session.Streaming}, OnLoop: func(c *service.Call) { _ = c.Session().Close() }},
		}})
		api, _ := service.NewAPI(service.Method{ID: 0, Name: "ask", Rx: session.Primitive}, service.Method{ID: 1, Name: "tell"},
			service.Method{ID: 2, Name: "talk", Tx: session.Streaming, Rx: session.Streaming})
		s, err := c.client(nil).NewService(service.ServiceConfig{Name: "t", Endpoints: []service.Endpoint{at("a")}, API: api})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Call(t.Context(), "ask", codec.Args()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
		defer cancel()
		_, asked := s.Call(ctx, "ask", codec.Args())
		_, opened := s.Open(ctx, "talk", codec.Args())
		for what, err := range map[string]error{"Call": asked, "Open": opened, "Notify": s.Notify(ctx, "tell", codec.Args())} {
			var e *session.Error
			if !errors.As(err, &e) || e.Delivery != session.NotSent || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s() = %v, want that it was not sent because its deadline had passed", what, err)
			}
		}
		if st := s.Stats(); st.Calls != 4 || st.Answered != 1 || st.Failed != 3 {
			t.Errorf("Stats() = %+v, want one answer of four calls", st)
		}
	})
}
