//go:build unix

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/engine/enginetest"
	"github.com/sluice-rpc/sluice/session"
)

// liveApp is an App whose workers are this program, with clients on unix sockets; all of it
// on one loop.
type liveApp struct {
	*engine.App
	t     testing.TB
	loops *channel.Loops
}

func newLiveApp(t testing.TB, role string, cfg engine.AppConfig) *liveApp {
	t.Helper()
	emptyTemp(t)
	loops, err := channel.NewLoops(channel.LoopsConfig{N: 1})
	if err != nil {
		t.Fatal(err)
	}
	worker := self(role, engine.SlaveConfig{})
	cfg.Name, cfg.Loops = "live", loops
	cfg.Command, cfg.Env = worker.Command, worker.Env
	cfg.Logger = slog.New(slog.DiscardHandler)
	app, err := engine.NewApp(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := errors.Join(app.Stop(ctx), loops.Close(ctx)); err != nil {
			t.Errorf("the end of the App: %v", err)
		}
	})
	return &liveApp{App: app, t: t, loops: loops}
}

// client connects one over a socket.
func (l *liveApp) client(d codec.Dialect) *session.Table {
	l.t.Helper()
	dir, remove, err := channel.PrivateDir("client-")
	if err != nil {
		l.t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	ln, err := channel.Listen(l.t.Context(), "unix", path, channel.ListenConfig{})
	if err != nil {
		l.t.Fatal(err)
	}
	config := func(role session.Role, owner session.Owner) session.Config {
		return session.Config{Role: role, Owner: owner, Channel: channel.Config{Dialect: d, Loops: l.loops}}
	}
	far, err := session.New(config(session.Server, &counter{app: l.App, d: d}))
	near, err2 := session.New(config(session.Client, quietOwner{}))
	if err := errors.Join(err, err2); err != nil {
		l.t.Fatal(err)
	}
	var once sync.Once
	accepted := make(chan struct{})
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = ln.Serve(accept(far, &once, accepted))
	}()
	if err := near.Channel().Connect(l.t.Context(), "unix", path); err != nil {
		l.t.Fatal(err)
	}
	<-accepted
	l.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = near.Channel().Close(ctx)
		_ = far.Channel().Close(ctx)
		if err := errors.Join(ln.Close(), remove()); err != nil {
			l.t.Error(err)
		}
		<-served
	})
	return near
}

// echo makes a call and compares the answer; the error is that of the peer.
func echo(ctx context.Context, table *session.Table, text string) error {
	call := &session.Call{Args: codec.Args("event", text).Bytes(), Tx: session.Streaming, Rx: session.Stream(table.Channel().Dialect())}
	v0 := table.Channel().Dialect() == codec.V0
	if v0 {
		call.Tx = nil
	}
	s, err := table.CallOffLoop(ctx, call, nil)
	if err != nil {
		return err
	}
	if !v0 {
		if err := errors.Join(s.Send(ctx, []byte(text)), s.Close()); err != nil {
			return err
		}
	}
	got, err := io.ReadAll(s.Reader(ctx))
	if err == nil && string(got) != text {
		return fmt.Errorf("the answer is %q, want %q", got, text)
	}
	return err
}

func TestAppLive(t *testing.T) {
	for _, client := range []codec.Dialect{codec.V0, codec.V1} {
		for _, worker := range []codec.Dialect{codec.V0, codec.V1} {
			t.Run("client "+client.String()+" worker "+worker.String(), func(t *testing.T) {
				l := newLiveApp(t, "echo", engine.AppConfig{Dialect: worker, Profile: engine.Profile{
					HandshakeTimeout: time.Minute, GrowThreshold: 1, PoolLimit: 2, Concurrency: 3,
				}})
				table := l.client(client)
				var wg sync.WaitGroup
				for n := range 40 {
					wg.Go(func() {
						if err := echo(t.Context(), table, fmt.Sprintf("text %d", n)); err != nil {
							t.Errorf("echo() = %v", err)
						}
					})
				}
				wg.Wait()
				if i := l.Stats(); i.Accepted != 40 || i.Rejected != 0 || i.Spawned < 1 || i.Spawned > 2 {
					t.Errorf("Info() = %+v, want 40 requests on at most 2 slaves", i)
				}
			})
		}
	}
}

// Workers are killed twenty times while clients call. Every call is answered, by the echo
// or by an error that says that the worker died; no request that no worker took is lost;
// and the pool heals.
func TestAppKilled(t *testing.T) {
	l := newLiveApp(t, "echo", engine.AppConfig{Dialect: codec.V1, MaxCrashes: 15, Profile: engine.Profile{
		HandshakeTimeout: time.Minute, GrowThreshold: 1, PoolLimit: 3, Concurrency: 4,
	}})
	var good, cut atomic.Int64
	enough := make(chan struct{})
	var wg sync.WaitGroup
	for _, d := range []codec.Dialect{codec.V0, codec.V1, codec.V1} {
		table := l.client(d)
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-enough:
						return
					default:
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					err := echo(ctx, table, "hello")
					cancel()
					var e *session.Error
					switch {
					case err == nil:
						good.Add(1)
					case errors.As(err, &e) && e.Remote && isDeath(d, e):
						cut.Add(1)
					default:
						t.Errorf("echo() = %v", err)
						return
					}
				}
			})
		}
	}
	for kills := 0; kills < 20 && !t.Failed(); {
		before := good.Load()
		for good.Load() < before+50 && !t.Failed() { // work has been done since the last one
			time.Sleep(time.Millisecond)
		}
		list := l.Stats().Slaves
		s := list[rand.IntN(len(list))]
		if s.State == engine.Active && s.PID > 0 && syscall.Kill(s.PID, syscall.SIGKILL) == nil {
			kills++
		}
	}
	close(enough)
	wg.Wait()
	table := l.client(codec.V1)
	err := echo(t.Context(), table, "after all that")
	for n := 0; err != nil && n < 3; n++ { // at most all slaves are dead, and not yet known to be
		err = echo(t.Context(), table, "after all that")
	}
	if err != nil {
		t.Errorf("echo() = %v, want the pool healed", err)
	}
	t.Logf("%d calls were answered, %d cut", good.Load(), cut.Load())
	list := l.Crashes()
	for n := 0; len(list) < 15 && n < 1000; n++ { // the last one may not be known yet
		<-time.After(10 * time.Millisecond)
		list = l.Crashes()
	}
	if len(list) != 15 {
		t.Errorf("Crashes() has %d, want the last 15", len(list))
	}
	for _, c := range list {
		if !strings.Contains(c.Status, "killed") {
			t.Errorf("a crash: %+v, want only killed ones", c)
		}
	}
}

// isDeath reports whether a client was told that its worker died.
func isDeath(d codec.Dialect, e *session.Error) bool {
	if d == codec.V0 {
		return e.Code == 2 && e.Message == "slave has unexpectedly disconnected"
	}
	return e.Category == 5 && e.Code == 2 && e.Message == "slave has been discarded"
}

// A program that dies at once is started again, later and later; its last words are kept.
func TestAppDiesAtOnce(t *testing.T) {
	crashed := make(chan engine.Crash, 10)
	l := newLiveApp(t, "exit", engine.AppConfig{Dialect: codec.V1, OnCrash: func(c engine.Crash) { crashed <- c }})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	invoked := make(chan error)
	go func() {
		_, err := l.Invoke(ctx, "event", nil)
		invoked <- err
	}()
	for range 2 {
		c := <-crashed
		if c.Status != "exit status 3" || len(c.Lines) != 50 || c.Lines[49] != "line 59" || c.Code != engine.SlaveExited {
			t.Errorf("a crash: %+v, want exit status 3 and the last 50 lines", c)
		}
	}
	cancel()
	if err := <-invoked; !errors.Is(err, context.Canceled) {
		t.Errorf("Invoke() = %v, want its context's end", err)
	}
}

// A program that cannot be started is a crash without a process.
func TestAppNoProgram(t *testing.T) {
	emptyTemp(t)
	crashed := make(chan engine.Crash, 10)
	app, err := engine.NewApp(t.Context(), engine.AppConfig{
		Name: "x", Command: []string{filepath.Join(os.TempDir(), "missing")}, Dialect: codec.V1,
		Logger: slog.New(slog.DiscardHandler), OnCrash: func(c engine.Crash) { crashed <- c },
	})
	if err != nil {
		t.Fatal(err)
	}
	app.Control(1)
	if c := <-crashed; c.Code != engine.SlaveSpawnFailed || !strings.Contains(c.Reason, "missing") {
		t.Errorf("a crash: %+v, want the name of what is missing", c)
	}
	if err := app.Stop(t.Context()); err != nil {
		t.Errorf("Stop() = %v", err)
	}
}

// A stopped App leaves no process of a tree that is hard to end.
func TestAppStopLive(t *testing.T) {
	l := newLiveApp(t, "tree", engine.AppConfig{Dialect: codec.V1, KillTimeout: 100 * time.Millisecond,
		Profile: engine.Profile{HandshakeTimeout: time.Minute}})
	if err := echo(t.Context(), l.client(codec.V1), "hello"); err != nil {
		t.Fatal(err)
	}
	pid := l.Stats().Slaves[0].PID
	if err := l.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if list := enginetest.Group(pid); len(list) > 0 {
		t.Errorf("of the group %d live on %v", pid, list)
	}
}
