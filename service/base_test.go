package service_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// changes is what OnState was told.
type changes struct {
	mu   sync.Mutex
	list []string
}

func (c *changes) add(ch service.Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, fmt.Sprintf("%v>%v %v %d", ch.From, ch.To, ch.Endpoint, ch.Errno))
}

func (c *changes) want(t *testing.T, want ...string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.list, want) {
		t.Errorf("changes %q, want %q", c.list, want)
	}
	c.list = nil
}

// reset is a link that breaks after its first byte.
var reset = channel.Script{AtoB: channel.Path{Cut: channel.Cut{Kind: channel.CutRST, At: 1}}}

func TestBaseService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.serve("a:1", echo(false))
		var told changes
		b := service.NewBaseService(service.BaseConfig{Dial: c.dial, OnState: told.add})
		if b.State() != service.Closed || b.Table() != nil || b.Err() != nil || b.Endpoint() != (service.Endpoint{}) {
			t.Errorf("a new BaseService is %v, with %v, %v, %v", b.State(), b.Table(), b.Err(), b.Endpoint())
		}
		all := []service.Endpoint{at("x"), at("a")}
		if err := b.Connect(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		if b.State() != service.Connected || b.Table() == nil || b.Endpoint() != at("a") || b.Stage() != service.StageNone {
			t.Errorf("connected it is %v, at %v", b.State(), b.Endpoint())
		}
		told.want(t, "closed>connecting :0 0", "connecting>connected a:1 0")
		if err := b.Connect(t.Context(), all); !errors.Is(err, service.ErrState) {
			t.Errorf("Connect() when connected = %v, want ErrState", err)
		}
		if err := b.Close(t.Context()); err != nil {
			t.Errorf("Close() = %v", err)
		}
		told.want(t, "connected>closed a:1 0")
		if err := errors.Join(b.Close(t.Context()), b.Connect(t.Context(), all), b.Close(t.Context())); err != nil {
			t.Errorf("close, connect, close = %v", err)
		}
		told.want(t, "closed>connecting :0 0", "connecting>connected a:1 0", "connected>closed a:1 0")
	})
}

func TestBaseErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		c.serve("a:1", echo(false))
		var told changes
		b := service.NewBaseService(service.BaseConfig{Dial: c.dial, OnState: told.add})
		refused := fmt.Sprintf("connecting>error :0 %d", syscall.ECONNREFUSED)
		err := b.Connect(t.Context(), []service.Endpoint{at("x"), at("y")})
		if e := wantError[*service.ResolveError](t, err); len(e.Tries) != 2 || b.Err() != err || service.Errno(err) != syscall.ECONNREFUSED {
			t.Errorf("Connect() = %v, want two tries", err)
		}
		told.want(t, "closed>connecting :0 0", refused)
		if err := b.Connect(t.Context(), nil); err == nil {
			t.Error("Connect() to nothing gave no error")
		}
		told.want(t, "error>connecting :0 0", "connecting>error :0 0")
		c.script["a:1"] = reset
		if err := b.Connect(t.Context(), []service.Endpoint{at("a")}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Table().CallOffLoop(t.Context(), &session.Call{Type: 0, Rx: session.Primitive}, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		lost := wantError[*channel.CloseError](t, b.Err())
		if b.State() != service.Errored || b.Table() != nil || lost.Errno != syscall.ECONNRESET {
			t.Errorf("it is %v with %v, want error with ECONNRESET", b.State(), lost)
		}
		told.want(t, "error>connecting :0 0", "connecting>connected a:1 0", fmt.Sprintf("connected>error a:1 %d", syscall.ECONNRESET))
		if err := b.Close(t.Context()); err != nil || b.State() != service.Closed || b.Err() != nil {
			t.Errorf("Close() = %v, then it is %v with %v", err, b.State(), b.Err())
		}
	})
}

// TestBaseSlow closes a BaseService while it dials, ends the context of another, and has
// the dial of a third time out.
func TestBaseSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		to := []service.Endpoint{at("a"), at("b")}
		b := service.NewBaseService(service.BaseConfig{Dial: hang, DialTimeout: time.Second})
		result := make(chan error, 1)
		go func() { result <- b.Connect(t.Context(), to) }()
		synctest.Wait()
		if b.State() != service.Connecting || b.Stage() != service.StageDial {
			t.Errorf("it is %v, %v; want connecting, dial", b.State(), b.Stage())
		}
		if err := b.Connect(t.Context(), to); !errors.Is(err, service.ErrState) {
			t.Errorf("a second Connect() = %v, want ErrState", err)
		}
		if err := errors.Join(b.Close(t.Context())); err != nil {
			t.Error(err)
		}
		if err := <-result; err != service.ErrClosed || b.State() != service.Closed {
			t.Errorf("Connect() = %v, then it is %v; want ErrClosed", err, b.State())
		}
		began := time.Now()
		err := b.Connect(t.Context(), to)
		if e := wantError[*service.ResolveError](t, err); len(e.Tries) != 2 || time.Since(began) != 2*time.Second {
			t.Errorf("Connect() = %v after %v, want two tries of 1 s", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		err = b.Connect(ctx, to)
		if e := wantError[*service.ResolveError](t, err); len(e.Tries) != 1 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Connect() = %v, want one try and the deadline", err)
		}
	})
}

// TestBasePanic has OnState panic: what was told is told, and the next is, too.
func TestBasePanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, false)
		first := true
		var told changes
		b := service.NewBaseService(service.BaseConfig{Dial: c.dial, OnState: func(ch service.Change) {
			if first {
				first = false
				panic("the user's")
			}
			told.add(ch)
		}})
		func() {
			defer func() { _ = recover() }()
			_ = b.Connect(t.Context(), []service.Endpoint{at("x")})
		}()
		if err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
		told.want(t, "connecting>closed :0 0")
	})
}

func TestClientStates(t *testing.T) {
	if got := fmt.Sprint(service.StageNone, service.StageResolve, service.StageLookUp, service.StageDial, service.StageWait, service.Stage(9)); got != "none resolve look up dial wait wait" {
		t.Errorf("stages are %s", got)
	}
	if got := fmt.Sprint(service.Closed, service.Connecting, service.Connected, service.Errored, service.State(9)); got != "closed connecting connected error error" {
		t.Errorf("states are %s", got)
	}
}
