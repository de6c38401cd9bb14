package worker_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/worker"
)

// watched is an Observer that writes down what it is told.
type watched struct {
	mu     sync.Mutex
	events []string
}

func (o *watched) add(s string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, s)
}

func (o *watched) observer() worker.Observer {
	return worker.Observer{
		OnConnect:   func() { o.add("connect") },
		OnError:     func(err error) { o.add("error " + err.Error()) },
		OnTerminate: func(code int64, reason string) { o.add("terminate " + string(rune('0'+code)) + " " + reason) },
		OnDisown:    func() { o.add("disown") },
	}
}

func (o *watched) want(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !slices.EqualFunc(o.events, want, strings.HasPrefix) {
		t.Fatalf("the observer was told %q, want %q", o.events, want)
	}
}

func TestStart(t *testing.T) {
	for _, tt := range []struct {
		d    codec.Dialect
		want string
	}{
		{codec.V0, "\x93\x00\x00\x91\xda\x00\x24" + uuid + "\x93\x01\x00\x90"},
		{codec.V1, "\x94\x01\x00\x91\xda\x00\x24" + uuid + "\x90\x94\x01\x00\x90\x90"},
	} {
		t.Run(tt.d.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var o watched
				l := connect(t, tt.d, options{raw: true, mute: true, cfg: worker.Config{Observer: o.observer()}}, nil)
				got := string(l.take()) + string(l.take())
				if got != tt.want {
					t.Errorf("the worker began with %x, want %x", got, tt.want)
				}
				o.want(t, "connect")
				if s := l.w.State(); s != worker.Connected {
					t.Errorf("State() = %v, want connected", s)
				}
				if err := l.w.Run(t.Context()); err != worker.ErrUsed {
					t.Errorf("a second Run() = %v, want ErrUsed", err)
				}
			})
		})
	}
}

// Heartbeats have a timer of their own: neither traffic nor a handler that blocks in
// its goroutine moves one.
func TestHeartbeats(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		l := connect(t, d, options{mute: true}, func(w *worker.Worker) {
			w.Handle("block", func(ctx context.Context, s *worker.Session) error { <-ctx.Done(); return nil })
		})
		l.play("< heartbeat\n > heartbeat\n > invoke 1 block\n < nothing")
		for range 20 {
			l.play(`
				sleep 4999ms
				< nothing
				sleep 1ms
				< heartbeat
				> heartbeat
			`)
		}
		if got := l.w.Stats().Heartbeats; got != 21 {
			t.Errorf("Stats().Heartbeats = %d, want 21", got)
		}
	})
}

func TestHeartbeatPeriods(t *testing.T) {
	for _, tt := range []struct {
		period time.Duration
		want   int // in a minute
	}{
		{0, 13}, {time.Second, 61}, {time.Minute - 1, 2}, {-1, 1}, {1<<63 - 1, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := connect(t, codec.V1, options{cfg: worker.Config{Heartbeat: tt.period, Disown: -1}}, nil)
			time.Sleep(time.Minute)
			synctest.Wait()
			if got := l.answered(); got != tt.want {
				t.Errorf("a period of %v: %d heartbeats in a minute, want %d", tt.period, got, tt.want)
			}
		})
	}
}

func TestClose(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		causes := make(chan error, 1)
		l := connect(t, d, options{}, func(w *worker.Worker) {
			w.Handle("hang", func(ctx context.Context, s *worker.Session) error {
				<-ctx.Done()
				causes <- context.Cause(ctx)
				return nil
			})
		})
		l.play("> invoke 1 hang")
		synctest.Wait()
		start := time.Now()
		l.w.Close()
		l.wantResult(nil)
		l.w.Close() // once more
		var ce *channel.CloseError
		if err := <-causes; !errors.As(err, &ce) || ce.Code != channel.CodeClosed {
			t.Errorf("the handler's cause is %v, want a CloseError of %v", err, channel.CodeClosed)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("Close took %v", d)
		}
		l.wantEOF()
	})
}

// A second signal: Close ends the grace.
func TestCloseInGrace(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		l := connect(t, d, options{}, nil)
		l.play("> invoke 1 echo")
		l.cancel()
		l.play("sleep 1s\n < nothing")
		l.w.Close()
		l.wantResult(nil)
	})
}

func TestEngineLost(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		var o watched
		causes := make(chan error, 2)
		hang := func(ctx context.Context, s *worker.Session) error {
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return nil
		}
		l := connect(t, d, options{cfg: worker.Config{Observer: o.observer(), Concurrency: 1}}, func(w *worker.Worker) { w.Handle("hang", hang) })
		l.play("> invoke 1 hang\n > invoke 2 hang") // the second waits, and never runs
		synctest.Wait()
		_ = l.conn.Close()
		synctest.Wait()
		var ce *channel.CloseError
		if err := l.result(); !errors.As(err, &ce) || ce.Code != channel.CodeEOF {
			t.Errorf("Run() = %v, want a CloseError of %v", err, channel.CodeEOF)
		}
		if err := <-causes; !errors.As(err, &ce) || ce.Code != channel.CodeEOF {
			t.Errorf("the handler's cause is %v, want a CloseError of %v", err, channel.CodeEOF)
		}
		if len(causes) > 0 {
			t.Errorf("the session that waited was served after the loss")
		}
		o.want(t, "connect", "error worker: lost the engine")
		l.wantEmpty()
		if got := l.w.Stats(); got.Invoked != 2 || got.State != worker.Closed {
			t.Errorf("Stats() after the end = %+v, want what was counted", got)
		}
	})
}

// Handlers that do not return are left behind a grace after the end.
func TestHandlersLeftBehind(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		release := make(chan struct{})
		defer close(release)
		l := connect(t, d, options{}, func(w *worker.Worker) {
			w.Handle("deaf", func(context.Context, *worker.Session) error { <-release; return nil })
		})
		l.play("> invoke 1 deaf")
		synctest.Wait()
		_ = l.conn.Close()
		time.Sleep(grace(d) - 1)
		l.wantRunning()
		time.Sleep(1 * time.Nanosecond)
		synctest.Wait()
		if err := l.result(); err == nil {
			t.Error("Run() = nil, want the loss")
		}
		l.wantLog("do not return")
		if got := l.w.Stats().Running; got != 1 {
			t.Errorf("Stats().Running = %d, want 1", got)
		}
	})
}

// A panic of an observer ends the channel, and leaves nothing.
func TestObserverPanics(t *testing.T) {
	boom := func() { panic("observer") }
	for name, o := range map[string]worker.Observer{
		"connect":   {OnConnect: boom},
		"error":     {OnError: func(error) { boom() }},
		"terminate": {OnTerminate: func(int64, string) { boom() }},
		"disown":    {OnDisown: boom},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := connect(t, codec.V1, options{cfg: worker.Config{Observer: o}, raw: true, mute: true}, nil)
				synctest.Wait()
				switch name {
				case "error":
					_ = l.conn.Close()
				case "terminate":
					l.play("< handshake\n < heartbeat\n > terminate 1 bye")
				case "disown":
					time.Sleep(31 * time.Second)
				}
				synctest.Wait()
				if err := l.result(); err == nil {
					t.Error("Run() = nil, want an error")
				}
				if s := l.w.State(); s != worker.Closed {
					t.Errorf("State() = %v, want closed", s)
				}
			})
		})
	}
}
