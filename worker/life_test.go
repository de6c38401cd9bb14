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
	"github.com/sluice-rpc/sluice/session"
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

// lastLook is the time between the deadline and the verdict.
const lastLook = 50 * time.Millisecond

func TestDisown(t *testing.T) {
	type step struct { // of the engine
		at   time.Duration // from the first heartbeat
		send string
	}
	const ever = time.Hour
	for _, tt := range []struct {
		name  string
		cfg   worker.Config
		steps []step
		want  time.Duration // when the worker gives up
	}{
		{"silence", worker.Config{}, nil, 30 * time.Second},
		{"an answer just in time", worker.Config{}, []step{{29900 * time.Millisecond, "heartbeat"}}, 60 * time.Second},
		{"an answer too late", worker.Config{}, []step{{30100 * time.Millisecond, "heartbeat"}}, 30 * time.Second},
		{"any byte is life", worker.Config{}, []step{{29 * time.Second, "chunk 9 late"}}, 60 * time.Second},
		// The byte at 1 s clears the deadline of the beat at 0; the next is set at 5 s.
		{"the next beat sets it", worker.Config{}, []step{{time.Second, "chunk 9 late"}}, 35 * time.Second},
		{"later beats do not move it", worker.Config{Heartbeat: time.Second}, nil, 30 * time.Second},
		{"strict: bytes are not enough", worker.Config{StrictDisown: true}, []step{{time.Second, "chunk 9 late"}}, 30 * time.Second},
		{"strict: a heartbeat is", worker.Config{StrictDisown: true}, []step{{time.Second, "heartbeat"}}, 35 * time.Second},
		{"short", worker.Config{Disown: 2 * time.Second}, nil, 2 * time.Second},
		{"short, one answer", worker.Config{Disown: 2 * time.Second}, []step{{1999 * time.Millisecond, "heartbeat"}}, 7 * time.Second},
		{"never", worker.Config{Disown: -1}, nil, ever},
	} {
		t.Run(tt.name, func(t *testing.T) {
			both(t, func(t *testing.T, d codec.Dialect) {
				var o watched
				tt.cfg.Observer = o.observer()
				l := connect(t, d, options{mute: true, cfg: tt.cfg}, nil)
				start := time.Now()
				step := func(late bool) {
					for _, s := range tt.steps {
						if late != (s.at > tt.want) {
							continue
						}
						time.Sleep(s.at - time.Since(start))
						for _, p := range l.parse(s.send) {
							_, _ = l.conn.Write(p)
						}
					}
				}
				step(false)
				time.Sleep(tt.want - time.Since(start) - 1)
				l.wantRunning()
				if tt.want == ever {
					return
				}
				time.Sleep(lastLook)
				l.wantRunning()
				time.Sleep(1 * time.Nanosecond)
				l.wantResult(worker.ErrDisowned)
				step(true)
				o.want(t, "connect", "disown")
				l.wantLog("disowned")
				if s := l.w.State(); s != worker.Closed {
					t.Errorf("State() = %v, want closed", s)
				}
			})
		})
	}
}

// The deadline and a heartbeat of ours may come in one turn of the loop, as after a stop
// of the process. What is found unread then clears the deadline, and the heartbeat sets
// a new one: that one is not over.
func TestDisownAfterStop(t *testing.T) {
	for range 10 { // in either order
		both(t, func(t *testing.T, d codec.Dialect) {
			l, release := stopped(t, d)
			time.Sleep(40 * time.Second)
			l.send(codec.Frame{Kind: codec.KindHeartbeat})
			close(release)
			time.Sleep(29 * time.Second)
			l.wantRunning()
			time.Sleep(10 * time.Second)
			l.wantResult(worker.ErrDisowned)
		})
	}
}

// A long message that takes longer than the deadline is life all the while.
func TestDisownBigMessage(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		l := connect(t, d, options{mute: true}, nil)
		chunk := encode(d, codec.Frame{Kind: codec.KindChunk, Session: l.id(1), Payload: make([]byte, 1<<20)})
		l.play("< heartbeat\n > invoke 1 echo")
		for len(chunk) > 0 {
			n := min(len(chunk), 80<<10)
			l.write(chunk[:n])
			chunk = chunk[n:]
			time.Sleep(9 * time.Second)
		}
		l.wantRunning()
		got := 0
		for f := l.take(); f != nil; f = l.take() {
			got = max(got, len(f))
		}
		if got < 1<<20 {
			t.Errorf("the longest frame of the worker has %d bytes, want the echo of 1 MiB", got)
		}
	})
}

// While reading is paused, bytes that wait in the socket are life.
func TestDisownPaused(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		release := make(chan struct{})
		cfg := worker.Config{Sessions: session.Config{InboxBytes: 1 << 10, MaxPause: time.Hour}}
		l := connect(t, d, options{mute: true, cfg: cfg}, func(w *worker.Worker) {
			w.Handle("slow", func(ctx context.Context, s *worker.Session) error {
				<-release
				return echo(ctx, s)
			})
		})
		l.play("< heartbeat\n > invoke 1 slow")
		l.send(codec.Frame{Kind: codec.KindChunk, Session: l.id(1), Payload: make([]byte, 2<<10)})
		synctest.Wait()
		if got := l.w.Stats().Sessions.Parked; got != 1 {
			t.Fatalf("Stats().Sessions.Parked = %d, want 1", got)
		}
		l.send(codec.Frame{Kind: codec.KindHeartbeat}) // never read
		time.Sleep(10 * time.Minute)
		l.wantRunning()
		close(release)
		l.wantRunning()
	})
}

func TestWatchdog(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		l := connect(t, d, options{mute: true}, func(w *worker.Worker) {
			w.HandleFunc("block", func(*worker.Session) session.Handler { time.Sleep(10 * time.Second); return nil })
		})
		l.play("< heartbeat\n > heartbeat\n sleep 1s\n > invoke 1 block")
		time.Sleep(1300 * time.Millisecond)
		l.wantLog("level=ERROR", "blocks the loop", "event=block")
		l.play("sleep 8s\n < nothing") // the beat at 5 s waits
		time.Sleep(2 * time.Second)
		l.play("< heartbeat")
		if got := l.w.Stats().Blocked; got != 1 {
			t.Errorf("Stats().Blocked = %d, want 1", got)
		}
	})
}

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
