//go:build unix

package engine_test

import (
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/service"
)

// A client that follows groups is where its group leads to, once that was refreshed.
func TestFollowGroups(t *testing.T) {
	emptyTemp(t)
	r := run(t, engine.Config{})
	c, err := service.Connect(t.Context(), service.Config{
		Locators: []string{r.Endpoint().String()}, FollowGroups: true, Backoff: service.Backoff{Base: time.Millisecond, Max: time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(t.Context()) }()
	lead := func(to string) {
		t.Helper()
		args := codec.Args("groups", "main", `{"`+to+`": 1}`, []string{"group", "active"})
		if _, err := c.Service("storage").Call(t.Context(), "write", args); err != nil {
			t.Fatal(err)
		}
		if err := c.Locator().Refresh(t.Context(), "main"); err != nil {
			t.Fatal(err)
		}
	}
	at := make(chan service.Endpoint, 10)
	s, err := c.NewService(service.ServiceConfig{Name: "main", OnState: func(c service.Change) {
		if c.To == service.Connected {
			at <- c.Endpoint
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"storage", "logging", "storage"} {
		lead(name)
		there, err := c.Locator().Resolve(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-at:
			if got != there.Endpoints[0] {
				t.Errorf("the service moved to %v, want %s, %v", got, name, there.Endpoints)
			}
		case <-time.After(time.Minute):
			t.Fatalf("the service has not moved to %s in a minute", name)
		}
	}
}
