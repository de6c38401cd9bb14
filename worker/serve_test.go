package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

// badError panics when it is asked what it says.
type badError struct{}

func (*badError) Error() string { panic("no text") }

// badUnwrap panics when it is looked into.
type badUnwrap struct{}

func (badUnwrap) Error() string { return "outside" }
func (badUnwrap) Unwrap() error { panic("no inside") }

// What a handler returns is what the peer is told; every session has one end, and
// leaves nothing.
func TestResults(t *testing.T) {
	var none *session.Error
	long := strings.Repeat("ä", 100<<10)
	for _, tt := range []struct {
		name string
		h    func(ctx context.Context, s *worker.Session) error
		want codec.Frame // KindChoke or KindError
	}{
		{"nil", func(context.Context, *worker.Session) error { return nil }, codec.Frame{}},
		{"nil of a type", func(context.Context, *worker.Session) error { return none }, codec.Frame{}},
		{"nil, wrapped", func(context.Context, *worker.Session) error { return fmt.Errorf("x: %w", none) }, codec.Frame{Category: 42, Code: 100, Text: `the handler of "h" panicked: runtime error: invalid memory address or nil pointer dereference`}},
		{"code", func(context.Context, *worker.Session) error { return worker.Errorf(7, "%d", 5) }, codec.Frame{Category: 42, Code: 7, Text: "5"}},
		{"negative code", func(context.Context, *worker.Session) error { return worker.Errorf(-100, "") }, codec.Frame{Category: 42, Code: -100}},
		{"category", func(context.Context, *worker.Session) error {
			return &session.Error{Category: session.CategoryUser, Code: 9, Message: "mine"}
		}, codec.Frame{Category: 43, Code: 9, Text: "mine"}},
		{"no category", func(context.Context, *worker.Session) error { return &session.Error{Code: 9} }, codec.Frame{Category: 42, Code: 9}},
		{"wrapped", func(context.Context, *worker.Session) error { return fmt.Errorf("read: %w", worker.Errorf(8, "inner")) }, codec.Frame{Category: 42, Code: 8, Text: "inner"}},
		{"joined", func(context.Context, *worker.Session) error { return errors.Join(io.EOF, worker.Errorf(8, "inner")) }, codec.Frame{Category: 42, Code: 8, Text: "inner"}},
		{"no message", func(context.Context, *worker.Session) error { return &session.Error{Code: 1, Err: io.ErrClosedPipe} }, codec.Frame{Category: 42, Code: 1, Text: io.ErrClosedPipe.Error()}},
		{"plain", func(context.Context, *worker.Session) error { return io.ErrUnexpectedEOF }, codec.Frame{Category: 42, Code: 208, Text: "unexpected EOF"}},
		{"deadline", func(context.Context, *worker.Session) error {
			return fmt.Errorf("query: %w", context.DeadlineExceeded)
		}, codec.Frame{Category: 42, Code: 206, Text: "query: context deadline exceeded"}},
		{"terminating", func(context.Context, *worker.Session) error { return worker.ErrTerminating }, codec.Frame{Category: 42, Code: 205, Text: "worker: terminating"}},
		{"text that panics", func(context.Context, *worker.Session) error { return &badError{} }, codec.Frame{Category: 42, Code: 208, Text: "%!v(PANIC=Error method: no text)"}},
		{"inside that panics", func(context.Context, *worker.Session) error { return badUnwrap{} }, codec.Frame{Category: 42, Code: 100, Text: `the handler of "h" panicked: no inside`}},
		{"panic", func(context.Context, *worker.Session) error { panic("told to") }, codec.Frame{Category: 42, Code: 100, Text: `the handler of "h" panicked: told to`}},
		{"panic with nil", func(context.Context, *worker.Session) error { panic(nil) }, codec.Frame{Category: 42, Code: 100, Text: `the handler of "h" panicked: panic called with nil argument`}},
		{"panic with an error", func(context.Context, *worker.Session) error { panic(worker.Errorf(7, "x")) }, codec.Frame{Category: 42, Code: 100, Text: `the handler of "h" panicked: session: local error [42, 7]: x`}},
		{"panic in a deferred call", func(context.Context, *worker.Session) error { defer panic("second"); panic("first") }, codec.Frame{Category: 42, Code: 100, Text: `the handler of "h" panicked: second`}},
		{"goexit", func(context.Context, *worker.Session) error { runtime.Goexit(); return nil }, codec.Frame{Category: 42, Code: 100, Text: `the handler of "h" panicked: runtime.Goexit`}},
		{"long text", func(context.Context, *worker.Session) error { return worker.Errorf(7, "%s", long) }, codec.Frame{Category: 42, Code: 7, Text: long[:16<<10]}},
		{"ended before", func(_ context.Context, s *worker.Session) error { _ = s.Close(); return errors.New("lost") }, codec.Frame{}},
		{"failed before", func(_ context.Context, s *worker.Session) error { return s.Fail(1, 2, "three") }, codec.Frame{Category: 1, Code: 2, Text: "three"}},
		{"sends behind its end", func(ctx context.Context, s *worker.Session) error {
			_ = s.Close()
			_, err := s.Write([]byte("late"))
			return errors.Join(err, s.Fail(42, 1, "late"), s.Close())
		}, codec.Frame{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			both(t, func(t *testing.T, d codec.Dialect) {
				l := connect(t, d, options{}, func(w *worker.Worker) { w.Handle("h", tt.h) })
				want := tt.want
				want.Kind, want.Session = codec.KindError, l.id(1)
				if tt.want.Category == 0 {
					want.Kind = codec.KindChoke
				}
				l.steps("> invoke 1 h")
				l.want(want)
				if want.Kind == codec.KindError && d == codec.V0 {
					l.want(codec.Frame{Kind: codec.KindChoke, Session: want.Session})
				}
				l.wantEmpty() // before the engine has ended its direction
				l.play("> chunk 1 late\n > choke 1\n > invoke 2 ping\n < chunk 2 pong\n < choke 2")
				l.wantEmpty()
				if got := l.w.Stats().Panics; (got == 1) != (want.Code == 100) {
					t.Errorf("Stats().Panics = %d with code %d", got, want.Code)
				}
				if want.Code == 100 {
					l.wantLog("level=ERROR", "a handler", "event=h", "serve.go")
				}
			})
		})
	}
}

// A limit on payloads below our texts: they are cut, and every session has its answer.
func TestShortPayloads(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		cfg := worker.Config{Sessions: session.Config{Channel: channel.Config{Limits: codec.Limits{MaxPayloadBytes: 40}}}}
		l := connect(t, d, options{cfg: cfg}, func(w *worker.Worker) {
			w.HandleFunc("panics", func(*worker.Session) session.Handler { panic("on the loop") })
		})
		l.play(`
			> invoke 1 panic
			< fail 1 100 "the handler of \"panic\" panicked: told to"
			> invoke 2 panics
			< fail 2 100 "the handler of \"panics\" panicked: on the"
			> invoke 3 nobody-knows-this-event
			< fail 3 200 "there is no handler for the event \"nobod"
		`)
		l.w.Terminate(false, "0123456789012345678901234567890123456789 and on")
		l.play("< terminate 1 0123456789012345678901234567890123456789")
	})
	synctest.Test(t, func(t *testing.T) {
		cfg := worker.Config{Sessions: session.Config{Channel: channel.Config{Limits: codec.Limits{MaxPayloadBytes: 20}}}}
		l := connect(t, codec.V1, options{cfg: cfg, raw: true}, nil) // not even the handshake fits
		synctest.Wait()
		var ce *channel.CloseError
		if err := l.result(); !errors.As(err, &ce) || ce.Code != channel.CodeBadHandshake {
			t.Errorf("Run() = %v, want %v", err, channel.CodeBadHandshake)
		}
	})
}

func TestNoHandler(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		l := connect(t, d, options{}, nil)
		l.play(`
			> invoke 1 nosuchevent
			> chunk 1 x
			> choke 1
			< fail 1 200 "there is no handler for the event \"nosuchevent\""
			> invoke 2 ""
			< fail 2 200 "there is no handler for the event \"\""
			> invoke 3 "a\xff\n"
			< fail 3 200 "there is no handler for the event \"a\\xff\\n\""
		`)
		if got := l.w.Stats(); got.NoHandler != 3 || got.Invoked != 3 || got.Sessions.Late != 2 {
			t.Errorf("Stats() = %+v, want 3 without a handler, 2 late frames", got)
		}
	})
}

// onLoop is a handler on the loop made of functions.
type onLoop struct {
	chunk    func(s *worker.Session, p []byte)
	choke    func(s *worker.Session)
	err      func(s *worker.Session, err *session.Error)
	writable func(s *worker.Session)
}

func (h onLoop) OnChunk(s *worker.Session, p []byte) {
	if h.chunk != nil {
		h.chunk(s, p)
	}
}

func (h onLoop) OnChoke(s *worker.Session) {
	if h.choke != nil {
		h.choke(s)
	}
}

func (h onLoop) OnError(s *worker.Session, err *session.Error) {
	if h.err != nil {
		h.err(s, err)
	}
}

func (h onLoop) OnWritable(s *worker.Session) {
	if h.writable != nil {
		h.writable(s)
	}
}

// A panic on the loop fails its session wherever it happens, and nothing else.
func TestPanicsOnLoop(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		l := connect(t, d, options{}, func(w *worker.Worker) {
			w.HandleFunc("begin", func(s *worker.Session) session.Handler {
				_ = s.SendChunk([]byte("first"))
				panic("a")
			})
			w.HandleFunc("chunk", func(*worker.Session) session.Handler {
				return onLoop{chunk: func(*worker.Session, []byte) { panic("b") }}
			})
			w.HandleFunc("choke", func(*worker.Session) session.Handler {
				return onLoop{choke: func(*worker.Session) { panic("c") }}
			})
			w.HandleFunc("error", func(*worker.Session) session.Handler {
				return onLoop{err: func(*worker.Session, *session.Error) { panic("d") }}
			})
			w.HandleFunc("ended", func(s *worker.Session) session.Handler { _ = s.SendChoke(); panic("e") })
		})
		l.play(`
			> invoke 1 begin
			< chunk 1 first
			< fail 1 100 "the handler of \"begin\" panicked: a"
			> chunk 1 more
			> choke 1

			> invoke 2 chunk
			> chunk 2 x
			< fail 2 100 "the handler of \"chunk\" panicked: b"
			> chunk 2 more
			> error 2 7 late

			> invoke 3 choke
			> choke 3
			< fail 3 100 "the handler of \"choke\" panicked: c"

			> invoke 4 error
			> error 4 7 gone
			< fail 4 100 "the handler of \"error\" panicked: d"

			> invoke 5 ended
			< choke 5

			> invoke 6 loop
			> chunk 6 alive
			< chunk 6 alive
			> choke 6
			< choke 6
		`)
		l.wantEmpty()
		if got := l.w.Stats().Panics; got != 5 {
			t.Errorf("Stats().Panics = %d, want 5", got)
		}
		l.wantLog("level=ERROR", "handler panicked", "panic=b", "event=chunk", "serve_test.go")
		if strings.Contains(l.log.String(), "blocks the loop") {
			t.Error("the watchdog took a panic for a handler that blocks")
		}
	})
}

// A cut on the loop ends both directions whatever the handler does, and nothing is told
// to it afterwards.
func TestErrorOnLoop(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		var told []string
		l := connect(t, d, options{}, func(w *worker.Worker) {
			w.HandleFunc("quiet", func(*worker.Session) session.Handler {
				return onLoop{
					chunk: func(*worker.Session, []byte) { told = append(told, "chunk") },
					choke: func(*worker.Session) { told = append(told, "choke") },
					err: func(_ *worker.Session, err *session.Error) {
						told = append(told, fmt.Sprint("error ", err.Code, err.Remote))
					},
				}
			})
			w.HandleFunc("answers", func(*worker.Session) session.Handler {
				return onLoop{err: func(s *worker.Session, err *session.Error) { _ = s.SendError(42, err.Code+1, "mine") }}
			})
			w.HandleFunc("chokes", func(*worker.Session) session.Handler {
				return onLoop{err: func(s *worker.Session, err *session.Error) { _ = s.SendChoke() }}
			})
			w.HandleFunc("nothing", func(*worker.Session) session.Handler { return nil })
		})
		l.play(`
			> invoke 1 quiet
			> error 1 17 gone
			< fail 1 17 gone
			> chunk 1 more
			> choke 1
			> invoke 2 answers
			> error 2 17 gone
			< fail 2 18 mine
			> invoke 3 chokes
			> error 3 17 gone
			< choke 3
			> invoke 4 nothing
			> chunk 4 x
			> error 4 17 gone
			< fail 4 17 gone
		`)
		l.wantEmpty()
		if want := []string{"error 17 true"}; !slices.Equal(told, want) {
			t.Errorf("the handler was told %q, want %q", told, want)
		}
	})
}

// Output that is full on the loop: the handler is told when there is room, the last
// frame is always taken, and nothing follows it.
func TestWritableOnLoop(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		cfg := worker.Config{Sessions: session.Config{Channel: channel.Config{HighWaterBytes: 8 << 10, StallTimeout: time.Hour}}}
		var told atomic.Int32
		left := 100
		piece := make([]byte, 4<<10)
		pour := func(s *worker.Session) {
			for ; left > 0; left-- {
				if err := s.SendChunk(piece); err != nil {
					if err != channel.ErrFull {
						t.Errorf("SendChunk() = %v, want ErrFull", err)
					}
					return
				}
			}
			_ = s.SendChoke()
		}
		l := connect(t, d, options{cfg: cfg, mute: true}, func(w *worker.Worker) {
			w.HandleFunc("pour", func(s *worker.Session) session.Handler {
				pour(s)
				return onLoop{writable: pour}
			})
			w.HandleFunc("fill", func(s *worker.Session) session.Handler {
				for s.SendChunk(piece) == nil {
				}
				_ = s.SendError(42, 1, "full")
				return onLoop{writable: func(*worker.Session) { told.Add(1) }}
			})
		})
		l.play("< heartbeat")
		l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(1), Text: "pour"})
		for range 100 {
			l.want(codec.Frame{Kind: codec.KindChunk, Session: l.id(1), Payload: piece})
		}
		l.play("< choke 1\n > choke 1")
		l.hold()
		l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(2), Text: "fill"})
		time.Sleep(time.Second)
		l.resume()
		n := 0
		for f := l.take(); f != nil; f = l.take() {
			n++
			if len(f) < 1000 && !slices.Contains([]string{string(l.parse("error 2 1 full")[0]), string(l.parse("choke 2")[0])}, string(f)) {
				t.Errorf("the worker sent %s", show(f))
			}
		}
		if n == 0 || told.Load() != 0 {
			t.Errorf("%d frames; after its last one the handler was told %d times that there is room", n, told.Load())
		}
		l.play("> choke 2")
		l.wantEmpty()
	})
}

func TestMux(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		var order []string
		wrap := func(name string) worker.Middleware {
			return func(next worker.Handler) worker.Handler {
				return func(ctx context.Context, s *worker.Session) error {
					order = append(order, name+" "+s.Event())
					return next(ctx, s)
				}
			}
		}
		var made *worker.Worker
		l := connect(t, d, options{}, func(w *worker.Worker) {
			made = w
			w.Use(wrap("a"), wrap("b"))
			w.Fallback(func(ctx context.Context, s *worker.Session) error {
				_, err := s.Write([]byte("fallback " + s.Event()))
				return err
			})
			w.Use(wrap("c"))
		})
		l.play(`
			> invoke 1 fail
			< fail 1 7 "told to fail"
			> invoke 2 unknown
			< chunk 2 "fallback unknown"
			< choke 2
			> invoke 3 ping
			< chunk 3 pong
			< choke 3
		`)
		if want := []string{"a fail", "b fail", "c fail", "a unknown", "b unknown", "c unknown"}; !slices.Equal(order, want) {
			t.Errorf("the middleware ran %q, want %q", order, want)
		}
		if got := l.w.Stats().NoHandler; got != 0 {
			t.Errorf("Stats().NoHandler = %d, want 0", got)
		}
		h := func(context.Context, *worker.Session) error { return nil }
		f := func(*worker.Session) session.Handler { return nil }
		for name, late := range map[string]func(){
			"Handle":     func() { made.Handle("x", h) },
			"HandleFunc": func() { made.HandleFunc("x", f) },
			"Fallback":   func() { made.Fallback(h) },
			"Use":        func() { made.Use(wrap("x")) },
		} {
			wantPanic(t, name+" after Run", "before Run", late)
		}
		w, err := worker.New(worker.Config{UUID: "u", Endpoint: "/e"})
		if err != nil {
			t.Fatal(err)
		}
		w.Handle("x", h)
		wantPanic(t, "a second handler", "two handlers", func() { w.HandleFunc("x", f) })
		wantPanic(t, "no handler", "is nil", func() { w.Handle("y", nil) })
		wantPanic(t, "no handler", "is nil", func() { w.HandleFunc("y", nil) })
	})
}

func wantPanic(t *testing.T, what, want string, f func()) {
	t.Helper()
	defer func() {
		if v := recover(); v == nil || !strings.Contains(fmt.Sprint(v), want) {
			t.Errorf("%s: recovered %v, want %q", what, v, want)
		}
	}()
	f()
}

// timeout is the header for a deadline.
func timeout(d time.Duration) []codec.Header {
	var scratch [8]byte
	return []codec.Header{codec.TimeoutHeader(d, &scratch)}
}

// The cause of a handler's context says why it should stop.
func TestCauses(t *testing.T) {
	for _, tt := range []struct {
		name string
		cut  func(l *link)
		want func(err error) bool
	}{
		{"the peer's error", func(l *link) { l.play("> error 1 17 gone\n < fail 1 17 gone") }, func(err error) bool {
			var se *session.Error
			return errors.As(err, &se) && se.Remote && se.Code == 17 && se.Message == "gone"
		}},
		{"channel loss", func(l *link) { _ = l.conn.Close() }, func(err error) bool {
			var ce *channel.CloseError
			return errors.As(err, &ce) && ce.Code == channel.CodeEOF
		}},
		{"disown", func(l *link) { l.silent(); time.Sleep(time.Minute) }, func(err error) bool { return errors.Is(err, worker.ErrDisowned) }},
		{"end of the grace", func(l *link) { l.send(codec.Frame{Kind: codec.KindTerminate}); time.Sleep(time.Minute) }, func(err error) bool { return errors.Is(err, worker.ErrTerminating) }},
		{"abnormal end", func(l *link) { l.w.Terminate(true, "x") }, func(err error) bool { return errors.Is(err, worker.ErrTerminating) }},
		{"overflow", func(l *link) {
			for range 40 { // more than fits: the engine's writes wait for the pause to end
				l.send(codec.Frame{Kind: codec.KindChunk, Session: l.id(1), Payload: make([]byte, 16<<10)})
			}
			time.Sleep(6 * time.Second)
		}, func(err error) bool {
			var se *session.Error
			return errors.As(err, &se) && !se.Remote && se.Code == session.CodeOverflow
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			both(t, func(t *testing.T, d codec.Dialect) {
				causes := make(chan error, 1)
				l := connect(t, d, options{}, func(w *worker.Worker) {
					w.Handle("hang", func(ctx context.Context, s *worker.Session) error {
						<-ctx.Done()
						if ctx.Err() == nil || s.Context().Err() == nil {
							t.Error("the session's context is not done")
						}
						causes <- context.Cause(ctx)
						return context.Cause(ctx)
					})
				})
				l.play("> invoke 1 hang")
				tt.cut(l)
				if err := <-causes; !tt.want(err) {
					t.Errorf("the cause is %v", err)
				}
				synctest.Wait()
				if got := l.w.Stats().Running; got != 0 {
					t.Errorf("Stats().Running = %d, want 0", got)
				}
			})
		})
	}
}

// The deadline of the request counts from its arrival, ends a Write that waits, and is
// answered even if no goroutine was free.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type seen struct {
			left  time.Duration
			cause error
			after time.Duration
		}
		got := make(chan seen, 3)
		l := connect(t, codec.V1, options{cfg: worker.Config{Concurrency: 2}}, func(w *worker.Worker) {
			w.Handle("wait", func(ctx context.Context, s *worker.Session) error {
				start := time.Now()
				deadline, _ := ctx.Deadline()
				<-ctx.Done()
				got <- seen{deadline.Sub(start), context.Cause(ctx), time.Since(start)}
				return ctx.Err()
			})
		})
		invoke := func(n int, d time.Duration) {
			l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(n), Text: "wait", Headers: timeout(d)})
		}
		invoke(1, 10*time.Second)
		invoke(2, 10*time.Second)
		invoke(3, 15*time.Second) // waits for 10 s of its 15 s
		invoke(4, 5*time.Second)  // waits for all of its time
		invoke(5, 0)
		l.steps("< fail 5 206 \"context deadline exceeded\"\n sleep 4999ms\n < nothing\n sleep 1ms\n < fail 4 206 \"context deadline exceeded\"\n")
		time.Sleep(5 * time.Second)
		for range 2 {
			if s := <-got; s != (seen{10 * time.Second, context.DeadlineExceeded, 10 * time.Second}) {
				t.Errorf("with 10 s the handler saw %+v", s)
			}
		}
		for range 2 {
			if f := string(l.take()); !strings.Contains(f, "deadline") {
				t.Errorf("the worker sent %q, want an error of the deadline", f)
			}
		}
		l.play("sleep 5s\n < fail 3 206 \"context deadline exceeded\"")
		if s := <-got; s.left != 5*time.Second {
			t.Errorf("after a wait of 10 s of 15 s the handler saw %+v", s)
		}
		l.wantEmpty()
	})
}

// Work for which no time is left is answered and not begun.
func TestTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := connect(t, codec.V1, options{}, func(w *worker.Worker) {
			w.Handle("late go", func(context.Context, *worker.Session) error { t.Error("the handler began"); return nil })
			w.HandleFunc("late loop", func(*worker.Session) session.Handler { t.Error("the loop handler began"); return nil })
		})
		for i, event := range []string{"late go", "late loop"} {
			l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(i + 1), Text: event, Headers: timeout(0)})
			l.play(fmt.Sprintf("< fail %d 206 \"context deadline exceeded\"", i+1))
		}
		l.wantEmpty()
	})
}

// A Write that waits for an engine which does not read ends with the deadline.
func TestDeadlineOfWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took := make(chan time.Duration, 1)
		l := connect(t, codec.V1, options{}, func(w *worker.Worker) {
			w.Handle("pour", func(ctx context.Context, s *worker.Session) error {
				start := time.Now()
				for {
					if _, err := s.Write(make([]byte, 64<<10)); err != nil {
						took <- time.Since(start)
						return err
					}
				}
			})
		})
		l.hold()
		l.send(codec.Frame{Kind: codec.KindInvoke, Session: 2, Text: "pour", Headers: timeout(3 * time.Second)})
		if d := <-took; d != 3*time.Second {
			t.Errorf("Write gave up after %v, want 3s", d)
		}
		l.resume()
		var last []byte
		for f := l.take(); f != nil; f = l.take() {
			last = f
		}
		if want := l.parse("error 1 206 \"context deadline exceeded\"")[0]; string(last) != string(want) {
			t.Errorf("the last frame is %s, want %s", show(last), show(want))
		}
	})
}

// Deadlines of every size.
func TestDeadlineSizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := connect(t, codec.V1, options{}, nil)
		for i, h := range [][]codec.Header{
			timeout(math.MaxInt64),
			{{Name: []byte("request_timeout"), Value: []byte("\xff\xff\xff\xff\xff\xff\xff\xff")}},
			{{Name: []byte("request_timeout"), Value: []byte("short")}},
			{{Name: []byte("request_timeout")}},
		} {
			n := i + 1
			l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(n), Text: "echo", Headers: h})
			l.play(fmt.Sprintf("sleep 1h\n > chunk %d x\n < chunk %[1]d x\n > choke %[1]d\n < choke %[1]d", n))
		}
	})
}

// Only so many handlers run; the others wait their turn, in order.
func TestConcurrency(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		l := connect(t, d, options{cfg: worker.Config{Concurrency: 2}}, nil)
		l.play(`
			> invoke 1 echo
			> invoke 2 echo
			> invoke 3 echo
			> chunk 3 three
			> invoke 4 echo
			> chunk 4 four
			> choke 4
			> invoke 5 ping
			< chunk 5 pong
			< choke 5
		`)
		if s := l.w.Stats(); s.Running != 2 || s.Waiting != 2 || s.Sessions.Open != 4 {
			t.Errorf("Stats() = %d running, %d waiting, %d open, want 2, 2, 4", s.Running, s.Waiting, s.Sessions.Open)
		}
		l.play(`
			> choke 5
			> choke 2
			< choke 2
			< chunk 3 three
			> choke 3
			< choke 3
			< chunk 4 four
			< choke 4
			> choke 1
			< choke 1
		`)
		l.wantEmpty()
	})
}

// Sessions that wait for a goroutine are answered at once when they are cut.
func TestWaitingCut(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		l := connect(t, d, options{cfg: worker.Config{Concurrency: 1}}, nil)
		l.play(`
			> invoke 1 echo
			> invoke 2 fail
			> invoke 3 fail
			> error 2 17 gone
			< fail 2 17 gone
			> terminate 1 bye
			< nothing
		`)
		if s := l.w.Stats(); s.Waiting != 1 || s.Sessions.Open != 2 {
			t.Errorf("Stats() = %d waiting, %d open, want 1, 2", s.Waiting, s.Sessions.Open)
		}
		l.play(`
			> choke 1
			< choke 1
			< fail 3 7 "told to fail"
			< terminate 1 bye
		`) // accepted before the terminate: served
	})
	both(t, func(t *testing.T, d codec.Dialect) {
		l := connect(t, d, options{cfg: worker.Config{Concurrency: 1}}, nil)
		l.steps("> invoke 1 echo\n > invoke 2 fail\n > terminate 1 bye\n < nothing")
		time.Sleep(grace(d))
		got := map[string]bool{}
		for f := l.take(); f != nil; f = l.take() {
			got[string(f)] = true
		}
		for _, step := range []string{`fail 1 205 "the worker is terminating"`, `fail 2 205 "the worker is terminating"`, "terminate 1 bye"} {
			for _, f := range l.parse(step) {
				if !got[string(f)] {
					t.Errorf("at the end of the grace the worker did not send %q", step)
				}
			}
		}
	})
}

// Handlers that go on after the cut can do no harm, and end when they like.
func TestDeafHandler(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		release := make(chan struct{})
		l := connect(t, d, options{}, func(w *worker.Worker) {
			w.Handle("deaf", func(ctx context.Context, s *worker.Session) error {
				<-release
				var se *session.Error
				if _, err := s.Write([]byte("late")); ctx.Err() == nil || !errors.As(err, &se) && err != nil {
					t.Errorf("Write() after the cut = %v", err)
				}
				if _, err := s.Recv(context.Background()); !errors.As(err, &se) {
					t.Errorf("Recv() after the cut = %v, want the cut", err)
				}
				return errors.New("late too")
			})
		})
		l.play("> invoke 1 deaf\n > error 1 17 gone\n < nothing")
		close(release)
		synctest.Wait()
		for f := l.take(); f != nil; f = l.take() { // our direction was open: one end
		}
		l.wantEmpty()
	})
	both(t, func(t *testing.T, d codec.Dialect) {
		release := make(chan struct{})
		l := connect(t, d, options{}, func(w *worker.Worker) {
			w.Handle("deaf", func(ctx context.Context, s *worker.Session) error {
				<-release
				if _, err := s.Write([]byte("late")); err == nil {
					t.Error("Write() after the grace = nil, want the cut")
				}
				return nil
			})
		})
		l.play("> invoke 1 deaf\n > terminate 1 bye")
		time.Sleep(grace(d))
		l.play("< fail 1 205 \"the worker is terminating\"\n < terminate 1 bye")
		close(release)
		l.play("< nothing")
		_ = l.conn.Close()
		l.wantResult(nil)
	})
}

// A handler that returns early takes no more input: an upload that goes on neither
// stops the channel nor turns a good answer into an error.
func TestReturnsEarly(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		cfg := worker.Config{Sessions: session.Config{InboxBytes: 4 << 10, Channel: channel.Config{HighWaterBytes: 8 << 10}}}
		l := connect(t, d, options{cfg: cfg}, func(w *worker.Worker) {
			w.Handle("early", func(ctx context.Context, s *worker.Session) error {
				for i := range 20 {
					if _, err := s.Write(make([]byte, 4<<10)); err != nil {
						return fmt.Errorf("%d: %w", i, err)
					}
				}
				return nil
			})
		})
		l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(1), Text: "early"})
		for range 100 {
			l.send(codec.Frame{Kind: codec.KindChunk, Session: l.id(1), Payload: make([]byte, 4<<10)})
		}
		var last []byte
		for f := l.take(); f != nil; f = l.take() {
			last = f
		}
		if want := l.parse("choke 1")[0]; string(last) != string(want) {
			t.Errorf("the last frame is %s, want a choke", show(last))
		}
		l.play("> choke 1\n > invoke 2 ping\n < chunk 2 pong\n < choke 2\n")
		l.wantEmpty()
	})
}
