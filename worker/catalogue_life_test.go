package worker_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

// stopped is a link whose loop stands still from its first heartbeat on, until release
// is closed: like a process that was stopped.
func stopped(t *testing.T, d codec.Dialect) (l *link, release chan struct{}) {
	release = make(chan struct{})
	cfg := worker.Config{Observer: worker.Observer{OnConnect: func() { <-release }}}
	return connect(t, d, options{raw: true, mute: true, cfg: cfg}, nil), release
}

func catalogueD8(t *testing.T, d codec.Dialect) {
	l, release := stopped(t, d)
	l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(1), Text: "echo"})
	time.Sleep(40 * time.Second)
	_ = l.conn.Close() // the engine gave up after 30 s
	close(release)
	synctest.Wait()
	if err := l.result(); err == nil {
		t.Error("Run() = nil, want the loss")
	}
	l.wantEmpty()
	if f := l.take(); f != nil {
		t.Errorf("the worker sent %s after it was given up", show(f))
	}
}

func catalogueE1(t *testing.T, d codec.Dialect) {
	var o watched
	l := connect(t, d, options{mute: true, cfg: worker.Config{Observer: o.observer()}}, nil)
	time.Sleep(29900 * time.Millisecond)
	l.send(codec.Frame{Kind: codec.KindHeartbeat})
	time.Sleep(30 * time.Second) // the next beat was at 30 s: 29.9 s ago
	l.wantRunning()
	time.Sleep(200 * time.Millisecond) // 30.1 s ago
	l.wantResult(worker.ErrDisowned)
	_, _ = l.conn.Write(encode(d, codec.Frame{Kind: codec.KindHeartbeat}))
	o.want(t, "connect", "disown")
}

func catalogueE3(t *testing.T, d codec.Dialect) {
	for _, alive := range []bool{true, false} {
		l, release := stopped(t, d)
		time.Sleep(40 * time.Second)
		if alive {
			l.send(codec.Frame{Kind: codec.KindHeartbeat})
		}
		close(release)
		time.Sleep(time.Second)
		if !alive {
			l.wantResult(worker.ErrDisowned)
			continue
		}
		l.wantRunning()
		l.steps("< handshake\n < heartbeat\n < heartbeat") // that of 5 s was due at the release
		l.alive(1)
	}
}

func catalogueE4(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{}, func(w *worker.Worker) {
		w.HandleFunc("block", func(*worker.Session) session.Handler {
			return onLoop{chunk: func(*worker.Session, []byte) { time.Sleep(10 * time.Second) }}
		})
	})
	for n := range 2 {
		l.steps(fmt.Sprintf("> invoke %d block\n > chunk %[1]d x", n+1))
		time.Sleep(30 * time.Second)
	}
	synctest.Wait()
	if got := l.w.Stats().Blocked; got != 2 {
		t.Errorf("Stats().Blocked = %d, want 2", got)
	}
	l.wantLog("blocks the loop", "event=block")
	l.alive(3)
}

func catalogueE6(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{cfg: worker.Config{Observer: worker.Observer{OnError: func(error) { panic("observer") }}}}, func(w *worker.Worker) {
		w.Use(func(next worker.Handler) worker.Handler {
			return func(ctx context.Context, s *worker.Session) error {
				if s.Event() == "fail" {
					panic("in the middle")
				}
				return next(ctx, s)
			}
		})
	})
	l.steps(`
		> invoke 1 panic
		< fail 1 100 "the handler of \"panic\" panicked: told to panic"
		> invoke 2 fail
		< fail 2 100 "the handler of \"fail\" panicked: in the middle"
	`)
	l.alive(3)
	l.wantLog("handler panicked", "panic=\"told to panic\"", "event=panic", "kit_test.go")
	l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(4), Text: "echo"})
	_ = l.conn.Close()
	l.wantLost(channel.CodeEOF)
	l.wantEmpty() // the panic at the end skipped nothing
}

func catalogueE7(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{cfg: worker.Config{Concurrency: 1}}, func(w *worker.Worker) {
		w.Handle("exit", func(context.Context, *worker.Session) error { runtime.Goexit(); return nil })
	})
	for n := range 10 {
		l.play(fmt.Sprintf("> invoke %d exit\n < fail %[1]d 100 \"the handler of \\\"exit\\\" panicked: runtime.Goexit\"", n+1))
	}
	l.wantEmpty()
}

func catalogueE8(t *testing.T, d codec.Dialect) {
	a, b := channel.Pair(channel.Script{BtoA: channel.Path{Latency: time.Second}})
	w, err := worker.New(worker.Config{UUID: uuid, Conn: a, Dialect: d, Disown: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Hour) // the timer is set by the first heartbeat, not before
	e := newEngine(t, d, b)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(t.Context()) }()
	time.Sleep(time.Hour)
	if s := w.State(); s != worker.Connected {
		t.Errorf("State() = %v, want connected", s)
	}
	_ = b.Close()
	<-ended
	<-e.gone
}

func catalogueE9(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{mute: true}, nil)
	chunk := encode(d, codec.Frame{Kind: codec.KindChunk, Session: l.id(1), Payload: make([]byte, 400<<10)})
	l.steps("> invoke 1 loop\n < heartbeat")
	for len(chunk) > 0 {
		n := min(len(chunk), 70<<10)
		l.write(chunk[:n])
		chunk = chunk[n:]
		time.Sleep(8 * time.Second) // 48 s in all
	}
	l.wantRunning()
}

func catalogueE10(t *testing.T, d codec.Dialect) {
	for _, stop := range []func(l *link){
		func(l *link) { l.w.Close() },
		func(l *link) { l.w.Close(); l.w.Close() },
		func(l *link) { l.w.Terminate(false, "x"); l.w.Close() },
		func(l *link) { l.cancel(); l.w.Close() },
		func(l *link) { l.cancel(); l.w.Terminate(true, "x"); _ = l.conn.Close() },
	} {
		for _, before := range []func(l *link){
			func(*link) {}, // while it connects or shakes hands
			func(*link) { synctest.Wait() },
			func(l *link) {
				l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(1), Text: "echo"})
				synctest.Wait()
			},
			func(l *link) { l.send(codec.Frame{Kind: codec.KindTerminate}); synctest.Wait() },
		} {
			l := connect(t, d, options{raw: true}, nil)
			before(l)
			start := time.Now()
			stop(l)
			if err := l.result(); err != nil {
				t.Errorf("Run() = %v, want nil", err)
			}
			if took := time.Since(start); took > 0 {
				t.Errorf("the stop took %v", took)
			}
		}
	}
}

func catalogueE11(t *testing.T, d codec.Dialect) {
	const n = 1000
	l := connect(t, d, options{cfg: worker.Config{Grace: time.Second}}, func(w *worker.Worker) {
		w.Handle("work", func(ctx context.Context, s *worker.Session) error {
			if s.ID()%2 == 0 {
				<-ctx.Done()
				return ctx.Err()
			}
			time.Sleep(500 * time.Millisecond)
			_, err := s.Write([]byte("done"))
			return err
		})
	})
	for i := range n {
		l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(i + 1), Text: "work"})
	}
	synctest.Wait()
	l.cancel()
	time.Sleep(time.Second)
	got := l.rest()
	last := got[len(got)-1]
	if want := l.parse(`terminate 1 "the worker was asked to stop"`)[0]; !bytes.Equal(last, want) {
		t.Errorf("the last frame is %s, want %s", show(last), show(want))
	}
	seen := make(map[string]int)
	for _, f := range got {
		seen[string(f)]++
	}
	for i := range n {
		step := fmt.Sprintf("choke %d", i+1)
		if l.id(i+1)%2 == 0 {
			step = fmt.Sprintf(`fail %d 205 "the worker is terminating"`, i+1)
		}
		for _, f := range l.parse(step) {
			if seen[string(f)] != 1 {
				t.Fatalf("the worker sent %q %d times, want once", step, seen[string(f)])
			}
		}
	}
	time.Sleep(time.Second)
	l.wantResult(nil)
	l.wantEmpty()
}

func catalogueE12(t *testing.T, d codec.Dialect) {
	for _, v := range []time.Duration{math.MinInt64, -1, math.MaxInt64 - 1, math.MaxInt64} {
		cfg := worker.Config{ConnectTimeout: v, Heartbeat: v, Disown: v, Grace: v, Watchdog: v}
		l := connect(t, d, options{cfg: cfg}, nil)
		l.alive(1)
		time.Sleep(time.Hour)
		l.alive(2)
		l.play("> terminate 1 x\n < terminate 1 x\n sleep 1h")
		l.wantRunning()
		_ = l.conn.Close()
		l.wantResult(nil)
	}
}

func catalogueE14(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{}, nil)
	l.steps("> invoke 1 echo\n > invoke 2 loop")
	synctest.Wait()
	l.cancel() // the first signal
	time.Sleep(time.Second)
	l.wantRunning()
	l.w.Close() // the second
	l.wantResult(nil)
	l.wantEOF()
	l.wantEmpty()
}
