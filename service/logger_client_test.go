package service_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// loggingNode is a node with a locator and a logging service, to which a client dials over
// local pairs.
type loggingNode struct {
	t       *testing.T
	locator *service.Server
	dialect codec.Dialect

	mu        sync.Mutex
	logging   *service.Server // nil while it is away
	verbosity int
	asked     int
	records   []string
}

func newLoggingNode(t *testing.T, d codec.Dialect, verbosity int) *loggingNode {
	n := &loggingNode{t: t, dialect: d, verbosity: verbosity}
	where := service.Resolved{Endpoints: []service.Endpoint{{Host: "logging", Port: 1}}, Version: 2}
	n.locator = testServer(t, service.ServerConfig{V0: d == codec.V0, Declaration: service.Declaration{
		Name: "locator", Version: 1, Methods: []service.Handled{{
			Method: service.Method{ID: 0, Name: "resolve", Rx: session.Primitive},
			OnLoop: func(c *service.Call) {
				api, err := n.declaration().API()
				if err != nil {
					t.Error(err)
				}
				r := where
				r.API = api
				answer := service.AppendResolved(nil, r)
				if d == codec.V0 {
					if answer, err = service.AppendResolvedV0([]byte{0x91}, r); err != nil {
						t.Error(err)
					}
				}
				if err := c.ReplyBytes(answer); err != nil {
					t.Error(err)
				}
			},
		}},
	}})
	n.restart()
	return n
}

// declaration is the logging service as the live runtimes have it: v0 answers an emit.
func (n *loggingNode) declaration() service.Declaration {
	emit := service.Method{ID: 0, Name: "emit"}
	if n.dialect == codec.V0 {
		emit.Rx = session.Primitive
	}
	return service.Declaration{Name: "logging", Version: 2, Methods: []service.Handled{{
		Method: emit,
		OnLoop: n.emit,
	}, {
		Method: service.Method{ID: 1, Name: "verbosity", Rx: session.Primitive},
		OnLoop: func(c *service.Call) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.asked++
			if err := c.Reply(codec.Args(n.verbosity)); err != nil {
				n.t.Error(err)
			}
		},
	}}}
}

func (n *loggingNode) emit(c *service.Call) {
	r := c.Reader()
	line := fmt.Sprintf("%d %s %s", r.Int(), r.String(), r.String())
	for pairs := r.ArrayLen(); pairs > 0 && r.Err() == nil && r.Len() == 0; pairs-- {
		r.ArrayLen()
		line += " " + r.String() + "="
		line += string(codec.AppendJSONValue(nil, r.Raw()))
	}
	n.mu.Lock()
	n.records = append(n.records, line)
	n.mu.Unlock()
	if n.dialect == codec.V0 {
		if err := c.ReplyBytes(nil); err != nil {
			n.t.Error(err)
		}
	}
}

// restart has a new logging service on the node.
func (n *loggingNode) restart() {
	srv := testServer(n.t, service.ServerConfig{V0: n.dialect == codec.V0, Declaration: n.declaration()})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.logging = srv
}

// stop takes the logging service away.
func (n *loggingNode) stop() {
	n.mu.Lock()
	srv := n.logging
	n.logging = nil
	n.mu.Unlock()
	if srv != nil {
		if err := srv.Close(n.t.Context()); err != nil {
			n.t.Errorf("Close() = %v", err)
		}
	}
}

func (n *loggingNode) close() {
	n.stop()
	if err := n.locator.Close(n.t.Context()); err != nil {
		n.t.Errorf("Close() = %v", err)
	}
}

// dial connects to the locator, or to the logging service.
func (n *loggingNode) dial(_ context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	srv := n.logging
	n.mu.Unlock()
	if !strings.HasPrefix(addr, "logging:") {
		srv = n.locator
	}
	if srv == nil {
		return nil, fmt.Errorf("%s is away", addr)
	}
	ours, theirs := channel.Pair(channel.Script{})
	return ours, srv.Attach(theirs)
}

// took returns what the service got, and forgets it.
func (n *loggingNode) took() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	got := strings.Join(n.records, ";")
	n.records = nil
	return got
}

func (n *loggingNode) client() *service.Client {
	n.t.Helper()
	c, err := service.Connect(n.t.Context(), service.Config{
		V0: n.dialect == codec.V0, Dial: n.dial, Locators: []string{"locator:1"},
		Backoff: service.Backoff{Base: 10 * time.Millisecond, Max: 10 * time.Millisecond},
		Logger:  slog.New(slog.DiscardHandler),
	})
	if err != nil {
		n.t.Fatalf("Connect() = %v", err)
	}
	return c
}

func TestClientLog(t *testing.T) {
	for d, row := range map[codec.Dialect]struct {
		verbosity int
		want      string
	}{
		codec.V1: {1, `1 app/echo hello user="alice" req.n=7;3 app/other "bad"`},
		codec.V0: {3, `3 app/echo hello user=alice req.n=7;1 app/other bad`},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := newLoggingNode(t, d, row.verbosity)
			defer n.close()
			c := n.client()
			log := slog.New(c.LogHandler("app/echo"))
			log.Warn("the first asks for the verbosity")
			synctest.Wait()
			n.took()
			log.Debug("nobody wants it")
			log.Info("hello", "user", "alice", slog.Group("req", "n", 7))
			c.Log("app/other").Error("bad")
			synctest.Wait()
			if got := strings.ReplaceAll(n.took(), `"bad"`, "bad"); got != strings.ReplaceAll(row.want, `"bad"`, "bad") {
				t.Errorf("%v: the service got %s, want %s", d, got, row.want)
			}
			log.Info("last")
			if err := c.Close(t.Context()); err != nil {
				t.Errorf("Close() = %v", err)
			}
			if got := n.took(); !strings.Contains(got, "last") {
				t.Errorf("%v: behind Close() the service has %q, want the last record", d, got)
			}
			log.Info("behind Close")
			if s := c.Log("").Stats(); s.Sent != 4 || s.Dropped != 1 || n.asked != 1 {
				t.Errorf("%v: Stats() = %+v, asked %d times, want 4 sent, 1 dropped, once", d, s, n.asked)
			}
		})
	}
}

// The service restarts: what is logged meanwhile arrives, and the verbosity is asked for
// again.
func TestClientLogRestart(t *testing.T) {
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		synctest.Test(t, func(t *testing.T) {
			n := newLoggingNode(t, d, 2)
			defer n.close()
			c := n.client()
			var fallback bytes.Buffer
			l, err := c.NewLogger(service.LoggerConfig{Source: "app/echo", Patience: time.Minute, Fallback: &fallback})
			if err != nil {
				t.Fatalf("NewLogger() = %v", err)
			}
			l.Error("before")
			synctest.Wait()
			n.stop()
			for k := range 10 {
				l.Error(fmt.Sprint("meanwhile ", k))
				time.Sleep(100 * time.Millisecond)
			}
			n.restart()
			time.Sleep(time.Minute)
			synctest.Wait()
			if got := strings.Count(n.took(), "meanwhile"); got != 10 || n.asked < 2 {
				t.Errorf("%v: %d records arrived, asked %d times, want 10, again", d, got, n.asked)
			}
			if err := c.Close(t.Context()); err != nil {
				t.Errorf("Close() = %v", err)
			}
			if strings.Contains(fallback.String(), "meanwhile") {
				t.Errorf("%v: fallback = %q, want none of the records", d, fallback.String())
			}
		})
	}
}

func TestClientLogClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newLoggingNode(t, codec.V1, 0)
		defer n.close()
		c := n.client()
		if err := c.Close(t.Context()); err != nil {
			t.Errorf("Close() = %v", err)
		}
		c.Log("app/late").Error("nobody is there")
		if s := c.Log("").Stats(); s.Dropped != 1 {
			t.Errorf("Stats() = %+v, want 1 dropped", s)
		}
	})
}

// A program logs to the runtime that it belongs to, by the standard library's means.
func ExampleClient_LogHandler() {
	ctx := context.Background()
	c, err := service.Connect(ctx, service.Config{Locators: []string{"127.0.0.1:10053"}})
	if err != nil {
		slog.Error("no runtime", "error", err)
		return
	}
	defer c.Close(ctx) // what was logged leaves first

	log := slog.New(c.LogHandler("app/echo"))
	log.Info("started", "workers", 4)
	log.WithGroup("request").Warn("slow", "took", 3*time.Second) // request.took="3s"
}
