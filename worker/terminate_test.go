package worker_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/worker"
)

func TestTerminateIdle(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		var o watched
		l := connect(t, d, options{cfg: worker.Config{Observer: o.observer()}}, nil)
		l.play(`
			> terminate 1 "the engine is shutting down"
			< terminate 1 "the engine is shutting down"
			sleep 3s
		`)
		if s := l.w.State(); s != worker.Terminated {
			t.Errorf("State() = %v, want terminated", s)
		}
		l.wantRunning() // it is the engine's turn to close
		_ = l.conn.Close()
		l.wantResult(nil)
		o.want(t, "connect", "terminate 1 the engine is shutting down")
	})
}

// In v0 code 2 would break the whole application: the answer is 1 in any case. A v1
// engine gets its own code back.
func TestTerminateCodes(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		l := connect(t, d, options{}, nil)
		want, script := error(nil), "> terminate 2 broken\n < terminate 2 broken"
		if d == codec.V0 {
			script = "> terminate 2 broken\n < terminate 1 broken"
		}
		l.play(script)
		_ = l.conn.Close()
		synctest.Wait()
		var te *worker.TerminateError
		if err := l.result(); d == codec.V0 {
			if !errors.As(err, &te) || te.Code != 2 || te.Reason != "broken" || te.Error() != "worker: terminated by the engine: [2] broken" {
				t.Errorf("Run() = %v, want a TerminateError", err)
			}
		} else if err != want {
			t.Errorf("Run() = %v, want nil", err)
		}
	})
}

// grace is Config.Grace's default.
func grace(d codec.Dialect) time.Duration {
	if d == codec.V0 {
		return 4 * time.Second
	}
	return 8 * time.Second
}

// Running sessions finish within the grace; new ones are refused; the answer comes
// behind all data.
func TestTerminateBusy(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		l := connect(t, d, options{}, nil)
		l.play(`
			> invoke 1 echo
			> invoke 2 loop
			> invoke 3 echo
			> choke 3
			< choke 3
			> terminate 1 bye
			> invoke 4 echo
			> chunk 4 x
			< fail 4 205 "the worker is terminating"
			> chunk 1 one
			< chunk 1 one
			> chunk 2 two
			< chunk 2 two
			sleep 3s
			> choke 2
			< choke 2
			> chunk 1 last
			> choke 1
			< chunk 1 last
			< choke 1
			< terminate 1 bye
			> choke 4
			> invoke 5 echo
		`)
		l.wantRunning()
		if got := l.w.Stats().Refused; got != 2 {
			t.Errorf("Stats().Refused = %d, want 2", got)
		}
		_ = l.conn.Close()
		l.wantResult(nil)
	})
}

func TestTerminateGraceOver(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		causes := make(chan error, 1)
		l := connect(t, d, options{}, func(w *worker.Worker) {
			w.Handle("hang", func(ctx context.Context, s *worker.Session) error {
				<-ctx.Done()
				causes <- context.Cause(ctx)
				return ctx.Err()
			})
		})
		l.play("> invoke 1 hang\n > terminate 1 bye\n < nothing")
		time.Sleep(grace(d) - 1)
		l.play("< nothing")
		time.Sleep(1 * time.Nanosecond)
		l.play(`
			< fail 1 205 "the worker is terminating"
			< terminate 1 bye
		`)
		if err := <-causes; !errors.Is(err, worker.ErrTerminating) {
			t.Errorf("the handler's cause is %v, want ErrTerminating", err)
		}
		time.Sleep(time.Second)
		l.wantResult(nil) // though the engine did not close
		l.wantEOF()
		l.wantEmpty()
	})
}

// An engine that does not close is left when the grace is over.
func TestTerminateNoEOF(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		l := connect(t, d, options{}, nil)
		l.play("> terminate 1 bye\n < terminate 1 bye")
		time.Sleep(grace(d) - 1)
		l.wantRunning()
		time.Sleep(1 * time.Nanosecond)
		l.wantResult(nil)
		l.wantEOF()
	})
}

// An engine that neither reads nor closes holds the worker no longer than the grace
// and its last words.
func TestTerminateEngineStuck(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		l := connect(t, d, options{}, func(w *worker.Worker) {
			w.Handle("pour", func(ctx context.Context, s *worker.Session) error {
				for {
					if _, err := s.Write(make([]byte, 64<<10)); err != nil {
						return err
					}
				}
			})
		})
		l.hold()
		l.play("> invoke 1 pour\n > terminate 1 bye\n")
		time.Sleep(grace(d) + time.Second)
		l.wantResult(nil)
		l.wantLog("before all was answered")
		l.resume()
		for l.take() != nil {
		}
	})
}

func TestTerminateEndless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := connect(t, codec.V1, options{cfg: worker.Config{Grace: -1}}, nil)
		l.play("> invoke 1 echo\n > terminate 1 bye\n sleep 20m\n > choke 1\n < choke 1\n < terminate 1 bye\n sleep 20m")
		l.wantRunning()
		_ = l.conn.Close()
		l.wantResult(nil)
	})
}

// The engine's silence after the answer is no disown, whatever is pending.
func TestTerminateThenSilence(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		for _, strict := range []bool{false, true} {
			cfg := worker.Config{Disown: 6 * time.Second, Grace: 20 * time.Second, StrictDisown: strict}
			l := connect(t, d, options{cfg: cfg, mute: true}, nil)
			l.play("< heartbeat\n sleep 2s\n > terminate 1 bye\n < terminate 1 bye\n sleep 20s")
			l.wantResult(nil)
		}
	})
}

func TestTerminateByUs(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		l := connect(t, d, options{}, nil)
		l.play("> invoke 1 echo\n > invoke 2 loop")
		synctest.Wait()
		l.w.Terminate(false, "enough")
		synctest.Wait()
		if s := l.w.State(); s != worker.Stopping {
			t.Errorf("State() = %v, want stopping", s)
		}
		l.play(`
			> invoke 3 echo
			< fail 3 205 "the worker is terminating"
			> choke 2
			< choke 2
			> choke 1
			< choke 1
			< terminate 1 enough
			> terminate 1 enough
		`)
		l.wantResult(nil)
		l.wantEOF()
	})
}

func TestTerminateByContext(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		type key struct{}
		seen := make(chan any, 2)
		l := connect(t, d, options{ctx: context.WithValue(t.Context(), key{}, "value")}, func(w *worker.Worker) {
			w.Handle("hang", func(ctx context.Context, s *worker.Session) error {
				seen <- ctx.Value(key{})
				err := echo(ctx, s)
				seen <- ctx.Err()
				return err
			})
		})
		l.play("> invoke 1 hang")
		if got := <-seen; got != "value" {
			t.Errorf("the handler's context has %v, want the value of Run's", got)
		}
		l.cancel()
		l.play("< nothing\n sleep 3s\n > choke 1\n < choke 1\n < terminate 1 \"the worker was asked to stop\"")
		if err := <-seen; err != nil {
			t.Errorf("the handler's context within the grace: %v, want nil", err)
		}
		l.play("> terminate 1 ok")
		l.wantResult(nil)
	})
}

func TestTerminateAbnormal(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		for _, event := range []string{"echo", "loop"} {
			l := connect(t, d, options{}, nil)
			l.play("> invoke 1 " + event)
			synctest.Wait()
			l.w.Terminate(true, "broken")
			l.play("< fail 1 205 broken\n < terminate 2 broken")
			time.Sleep(grace(d)) // an engine that neither answers nor closes
			l.wantResult(nil)
			l.wantEOF()
		}
	})
}

// Both ask at once: both end clean, once.
func TestTerminateBoth(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		late := channel.Path{Latency: time.Millisecond}
		for _, idle := range []bool{true, false} {
			l := connect(t, d, options{script: channel.Script{AtoB: late, BtoA: late}, raw: true}, nil)
			script := "sleep 10ms\n < terminate 1 ours"
			if !idle {
				l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(1), Text: "echo"})
				script = "sleep 10ms\n < nothing\n > choke 1\n sleep 10ms\n < choke 1\n < terminate 1 ours"
			}
			time.Sleep(time.Second)
			l.w.Terminate(false, "ours")
			l.send(codec.Frame{Kind: codec.KindTerminate, Code: 1, Text: "theirs"})
			l.want(codec.Frame{Kind: codec.KindHandshake, Text: uuid})
			l.play(script)
			_ = l.conn.Close()
			time.Sleep(time.Second)
			l.wantResult(nil)
		}
	})
}
