package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

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
