package engine_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/session"
)

// A request whose time is over when it comes is answered and not begun, though a worker has
// nothing to do: one of v0, or one of another framework, could not see it.
func TestAppTooLate(t *testing.T) {
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		t.Run(d.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCloud(t, engine.AppConfig{Dialect: d})
				v := c.visit(codec.V1)
				v.enqueue("event")
				w := c.worker(c.next())
				id := uint64(2)
				if d == codec.V0 {
					id = 1
				}
				w.want(t, invoke(id, "event")) // and it has room for more
				late := codec.TimeoutHeader(0, new([8]byte))
				v.wantError(v.enqueue("late", late), 20991, 1, "the event has expired in the queue")
				_, err := c.Invoke(t.Context(), "late", []codec.Header{late})
				var e *session.Error
				if !errors.As(err, &e) || e.Code != 1 || e.Delivery != session.NotSent {
					t.Errorf("Invoke() = %v, want that the event has expired", err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				if _, err := c.Invoke(ctx, "late", nil); !errors.Is(err, context.Canceled) {
					t.Errorf("Invoke() = %v with a context that is over, want its cause", err)
				}
				v.enqueue("event")
				w.want(t, invoke(id+1, "event")) // and none of those between
			})
		})
	}
}
