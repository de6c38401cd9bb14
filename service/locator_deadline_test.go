package service_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/service"
)

// TestLocatorStreamDeadline: the context that a stream of the locator is asked for with
// bounds the asking and not the stream, also where deadlines are agreed on.
func TestLocatorStreamDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouted(t)
		r.echoes("app", "a", "b")
		c := r.client(func(cfg *service.Config) { cfg.Sessions.Extensions.Offer = true })
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := c.Locator().Resolve(ctx, "app"); err != nil { // the peer has answered our offer
			t.Fatal(err)
		}
		routes, err := c.Locator().Routing(ctx, "router")
		if err != nil {
			t.Fatal(err)
		}
		defer routes.Close()
		for range 2 {
			groups, err := routes.Next(t.Context())
			if err != nil || groups["app"] == nil {
				t.Fatalf("Next() = %v, %v, want the group app", groups, err)
			}
			time.Sleep(10 * time.Second)
			r.group("app", "b")
		}
	})
}
