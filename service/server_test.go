package service_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

func primitive(name string, serve func(context.Context, *service.Call) error) service.Handled {
	return service.Handled{Method: service.Method{Name: name, Rx: session.Primitive}, Serve: serve}
}

// numbered declares a service of these methods, numbered in turn.
func numbered(methods ...service.Handled) service.Declaration {
	for i := range methods {
		methods[i].ID = uint64(i)
	}
	return service.Declaration{Name: "test", Version: 1, Methods: methods}
}

// outcomes are the ways in which a Serve method can end, by number of the method, and
// what a client of either dialect gets.
var outcomes = []struct {
	name      string
	serve     func(context.Context, *service.Call) error
	v1        []any // category, code, text of an error; else the values
	v1Error   bool
	v0        codec.Arguments // of the chunk or the error
	v0Type    uint64          // codec.V0Choke: nothing before the choke
	closes    bool            // v1
	wantPanic uint64
}{
	{"value", func(_ context.Context, c *service.Call) error { return c.Reply(codec.Args("x")) },
		[]any{"x"}, false, codec.Args("\xa1x"), codec.V0Chunk, false, 0},
	{"values", func(_ context.Context, c *service.Call) error { return c.Reply(codec.Args("x", 2)) },
		[]any{"x", 2}, false, codec.Args("\x92\xa1x\x02"), codec.V0Chunk, false, 0},
	{"no reply", func(context.Context, *service.Call) error { return nil },
		[]any{}, false, codec.Args(), codec.V0Choke, false, 0},
	{"coded", func(context.Context, *service.Call) error {
		return fmt.Errorf("read: %w", &session.Error{Category: 12, Code: 2, Message: "no such key"})
	}, []any{12, 2, "no such key"}, true, codec.Args(2, "no such key"), codec.V0Error, false, 0},
	{"coded by v0", func(context.Context, *service.Call) error { return &session.Error{Code: 4, Message: "late"} },
		[]any{0xff, 4, "late"}, true, codec.Args(4, "late"), codec.V0Error, false, 0},
	{"coded without text", func(context.Context, *service.Call) error { return &session.Error{Category: 10, Code: 1} },
		[]any{10, 1, "session: local error [10, 1]"}, true, codec.Args(1, "session: local error [10, 1]"), codec.V0Error, false, 0},
	{"other", func(context.Context, *service.Call) error { return errors.New("disk on fire") },
		[]any{7, 7, "disk on fire"}, true, codec.Args(1, "disk on fire"), codec.V0Error, false, 0},
	{"timeout", func(context.Context, *service.Call) error { return context.DeadlineExceeded },
		[]any{42, 206, "not answered in time"}, true, codec.Args(3, "not answered in time"), codec.V0Error, false, 0},
	{"panic", func(context.Context, *service.Call) error { panic("oops") },
		[]any{7, 7, "panic panicked: oops"}, true, codec.Args(1, "panic panicked: oops"), codec.V0Error, false, 1},
	{"exit", func(context.Context, *service.Call) error { runtime.Goexit(); return nil },
		[]any{7, 7, "exit panicked: runtime.Goexit"}, true, codec.Args(1, "exit panicked: runtime.Goexit"), codec.V0Error, false, 1},
	{"reply then error", func(_ context.Context, c *service.Call) error {
		return errors.Join(c.Reply(codec.Args(1)), errors.New("too late"))
	}, []any{1}, false, codec.Args("\x01"), codec.V0Chunk, false, 0},
	{"bad arguments", func(context.Context, *service.Call) error { return fmt.Errorf("%w: odd", service.ErrBadArgs) },
		nil, false, codec.Args(1, "bad arguments: odd"), codec.V0Error, true, 0},
}

func outcomeMethods() (list []service.Handled) {
	for _, o := range outcomes {
		list = append(list, primitive(o.name, o.serve))
	}
	return list
}

func TestOutcomesV1(t *testing.T) {
	bubble(t, service.ServerConfig{Declaration: numbered(outcomeMethods()...)}, func(t *testing.T, srv *service.Server) {
		panics := uint64(0)
		for i, o := range outcomes {
			c := dial(t, srv, codec.V1)
			c.call(1, uint64(i))
			switch {
			case o.closes:
				c.wantEnd()
			case o.v1Error:
				text := c.wantError(1, int64(o.v1[0].(int)), int64(o.v1[1].(int)))
				if text != o.v1[2] {
					t.Errorf("%s: text %q, want %q", o.name, text, o.v1[2])
				}
			default:
				c.want(1, codec.V1Value, o.v1...)
			}
			c.close()
			panics += o.wantPanic
		}
		if st := srv.Stats(); st.Panics != panics || st.BadArgs != 1 || st.Accepted != uint64(len(outcomes)) {
			t.Errorf("Stats() = %+v, want %d panics", st, panics)
		}
	})
}

func TestOutcomesV0(t *testing.T) {
	bubble(t, service.ServerConfig{Declaration: numbered(outcomeMethods()...), V0: true}, func(t *testing.T, srv *service.Server) {
		c := dial(t, srv, codec.V0)
		defer c.close()
		for i, o := range outcomes {
			c.call(5, uint64(i)) // the number may come again
			if o.v0Type != codec.V0Choke {
				c.wantArgs(5, o.v0Type, o.v0.Bytes())
			}
			c.want(5, codec.V0Choke)
		}
		c.call(5, uint64(len(outcomes)))
		c.want(5, codec.V0Error, 1, "unknown message type")
		c.want(5, codec.V0Choke)
	})
}

// TestOnLoopPanic: a method that panics on the loop costs its own call only.
func TestOnLoopPanic(t *testing.T) {
	d := numbered(
		service.Handled{Method: service.Method{Name: "panic", Rx: session.Primitive}, OnLoop: func(*service.Call) { panic("oops") }},
		service.Handled{Method: service.Method{Name: "later", Tx: session.Streaming, Rx: session.Streaming},
			OnLoop: func(c *service.Call) { c.OnMessage(func(string, []byte) { panic("later") }) }},
		service.Handled{Method: service.Method{Name: "mute"}, OnLoop: func(*service.Call) { panic("mute") }},
	)
	bubble(t, service.ServerConfig{Declaration: d}, func(t *testing.T, srv *service.Server) {
		c := dial(t, srv, codec.V1)
		defer c.close()
		c.call(1, 2)
		c.call(2, 0)
		c.wantError(2, service.CategoryDispatch, service.DispatchUncaught)
		c.call(3, 1)
		c.call(3, codec.V1Write, "x")
		c.wantError(3, service.CategoryDispatch, service.DispatchUncaught)
		c.call(3, codec.V1Close)
		c.call(4, 0)
		c.wantError(4, service.CategoryDispatch, service.DispatchUncaught)
		if st := srv.Stats(); st.Panics != 4 || st.Methods[0].Failed != 2 || st.Methods[0].Calls != 2 {
			t.Errorf("Stats() = %+v, want 4 panics", st)
		}
	})
}

// TestMute: in v1 a mute method is never answered and leaves nothing; in v0 a choke says
// that it was taken (protocol: logging).
func TestMute(t *testing.T) {
	got := make(chan string, 10)
	d := numbered(
		service.Handled{Method: service.Method{Name: "emit"}, OnLoop: func(c *service.Call) { r := c.Reader(); got <- r.String() }},
		service.Handled{Method: service.Method{Name: "slow"}, Serve: func(_ context.Context, c *service.Call) error {
			r := c.Reader()
			got <- r.String()
			return errors.New("nobody hears this")
		}},
	)
	bubble(t, service.ServerConfig{Declaration: d}, func(t *testing.T, srv *service.Server) {
		c := dial(t, srv, codec.V1)
		defer c.close()
		c.call(1, 0, "a")
		c.call(2, 1, "b")
		if a, b := <-got, <-got; a != "a" || b != "b" {
			t.Errorf("got %q, %q, want a, b", a, b)
		}
		c.wantNothing()
	})
	bubble(t, service.ServerConfig{Declaration: d, V0: true}, func(t *testing.T, srv *service.Server) {
		c := dial(t, srv, codec.V0)
		defer c.close()
		c.call(1, 0, "a")
		c.want(1, codec.V0Choke)
		c.call(1, 1, "b")
		c.want(1, codec.V0Error, 1, "nobody hears this")
		c.want(1, codec.V0Choke)
	})
}

// TestDeadline: request_timeout ends the context, and the client is answered by then even
// if the method goes on.
func TestDeadline(t *testing.T) {
	var release chan error // of the bubble
	d := numbered(
		primitive("polite", func(ctx context.Context, _ *service.Call) error { <-ctx.Done(); return ctx.Err() }),
		primitive("deaf", func(ctx context.Context, c *service.Call) error {
			time.Sleep(time.Minute)
			release <- c.Reply(codec.Args("late"))
			return nil
		}))
	bubble(t, service.ServerConfig{Declaration: d}, func(t *testing.T, srv *service.Server) {
		release = make(chan error, 1)
		c := dial(t, srv, codec.V1)
		defer c.close()
		var scratch [8]byte
		headers := []codec.Header{codec.TimeoutHeader(2*time.Second, &scratch)}
		for method := range uint64(2) {
			start := time.Now()
			c.write(c.frameWith(method+1, method, headers))
			c.wantError(method+1, service.CategoryWorker, session.CodeDeadline)
			if took := time.Since(start); took != 2*time.Second {
				t.Errorf("answered after %v, want 2s", took)
			}
		}
		if err := <-release; !errors.Is(err, session.ErrClosed) {
			t.Errorf("Reply() = %v, want %v", err, session.ErrClosed)
		}
		c.wantNothing()
	})
}

// TestTooLate: a call for which no time is left is answered, and its method not begun.
func TestTooLate(t *testing.T) {
	d := numbered(primitive("never", func(context.Context, *service.Call) error {
		t.Error("the method began")
		return nil
	}))
	bubble(t, service.ServerConfig{Declaration: d}, func(t *testing.T, srv *service.Server) {
		c := dial(t, srv, codec.V1)
		defer c.close()
		c.write(c.frameWith(1, 0, []codec.Header{codec.TimeoutHeader(0, new([8]byte))}))
		c.wantError(1, service.CategoryWorker, session.CodeDeadline)
		c.wantNothing()
	})
}

// TestCutCall: revoke, and the loss of the connection, end the context of the one method.
func TestCutCall(t *testing.T) {
	var causes chan error // of the bubble
	d := numbered(primitive("wait", func(ctx context.Context, c *service.Call) error {
		<-ctx.Done()
		causes <- context.Cause(ctx)
		<-c.Done()
		return ctx.Err()
	}))
	bubble(t, service.ServerConfig{Declaration: d}, func(t *testing.T, srv *service.Server) {
		causes = make(chan error, 2)
		c := dial(t, srv, codec.V1)
		c.call(1, 0)
		c.call(2, 0)
		c.call(3, codec.V1Revoke, 1, []any{1, 125})
		c.want(3, codec.V1Value)
		var cut *session.Error
		if err := <-causes; !errors.As(err, &cut) || !cut.Remote || cut.Category != 1 || cut.Code != 125 {
			t.Errorf("Cause() = %v, want the client's [1, 125]", err)
		}
		c.close()
		var lost *channel.CloseError
		if err := <-causes; !errors.As(err, &lost) {
			t.Errorf("Cause() = %v, want a *channel.CloseError", err)
		}
	})
}

// TestControl reads what a client sends behind its call: a stream of numbers.
func TestControl(t *testing.T) {
	ends := make(chan error, 10)
	d := numbered(service.Handled{Method: service.Method{Name: "control", Tx: service.Values, Rx: session.Primitive},
		Serve: func(ctx context.Context, c *service.Call) error {
			var sum int64
			for {
				name, args, err := c.Recv(ctx)
				if err != nil {
					ends <- err
					if err != io.EOF {
						return err
					}
					return c.Reply(codec.Args(sum))
				}
				if name != "write" {
					t.Errorf("Recv() = %q, want write", name)
				}
				r := codec.NewReader(args)
				if sum += r.Int64(); sum > 100 {
					return nil
				}
			}
		}})
	bubble(t, service.ServerConfig{Declaration: d}, func(t *testing.T, srv *service.Server) {
		c := dial(t, srv, codec.V1)
		defer c.close()
		c.call(1, 0)
		for _, n := range []int{3, -1, 5} {
			c.call(1, codec.V1Write, n)
		}
		c.call(1, codec.V1Close)
		c.want(1, codec.V1Value, 7)
		if err := <-ends; err != io.EOF {
			t.Errorf("Recv() = %v, want io.EOF", err)
		}
		c.call(2, 0)
		c.call(2, codec.V1Error, []any{1, 2}, "never mind")
		c.wantError(2, 1, 2)
		if err := <-ends; !service.Is(err, 1, 2) {
			t.Errorf("Recv() = %v, want [1, 2]", err)
		}
		c.call(3, 0)
		c.call(3, codec.V1Write, 101)
		c.want(3, codec.V1Value)
		c.call(3, codec.V1Write, 1) // nobody reads, nobody minds
		c.call(4, codec.V1Ping)
		c.want(4, codec.V1Value)
	})
}

// TestBusy: what is over a limit is refused, and the others are served.
func TestBusy(t *testing.T) {
	gate := make(chan struct{})
	d := numbered(
		primitive("wait", func(context.Context, *service.Call) error { <-gate; return nil }),
		service.Handled{Method: service.Method{Name: "mute"}, Serve: func(context.Context, *service.Call) error { <-gate; return nil }},
	)
	for name, cfg := range map[string]service.ServerConfig{
		"of the server":     {MaxCalls: 2},
		"of the connection": {Sessions: session.Config{MaxSessions: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Declaration = d
			bubble(t, cfg, func(t *testing.T, srv *service.Server) {
				gate = make(chan struct{})
				c := dial(t, srv, codec.V1)
				defer c.close()
				c.call(1, 0)
				c.call(2, 0)
				c.call(3, 0)
				c.wantError(3, service.CategoryWorker, session.CodeTooManySessions)
				c.call(4, 1) // nobody is told
				c.call(5, codec.V1Ping)
				c.want(5, codec.V1Value)
				if st := srv.Stats(); st.Pending != 2 || st.Busy < 1 {
					t.Errorf("Stats() = %+v, want 2 pending and one busy", st)
				}
				close(gate)
				for range 2 {
					if m, err := c.next(); err != nil || m.Type != codec.V1Value {
						t.Errorf("next() = %v, %v, want a value", m, err)
					}
				}
			})
		})
	}
}

// TestBusyOnLoop: calls of OnLoop methods that are not answered yet are not among those
// that MaxCalls bounds.
func TestBusyOnLoop(t *testing.T) {
	var held []*service.Call
	d := numbered(
		service.Handled{Method: service.Method{Name: "hold", Rx: session.Primitive}, OnLoop: func(c *service.Call) { held = append(held, c) }},
		primitive("echo", func(_ context.Context, c *service.Call) error { return c.ReplyBytes(c.Args()) }),
		service.Handled{Method: service.Method{Name: "release", Rx: session.Primitive}, OnLoop: func(c *service.Call) {
			for _, h := range append(held, c) {
				_ = h.ReplyBytes(nil)
			}
		}},
	)
	bubble(t, service.ServerConfig{Declaration: d, MaxCalls: 1}, func(t *testing.T, srv *service.Server) {
		c := dial(t, srv, codec.V1)
		defer c.close()
		c.call(1, 0)
		c.call(2, 0)
		c.call(3, 1, "x")
		c.want(3, codec.V1Value, "x")
		if n := srv.Stats().Pending; n < 2 {
			t.Errorf("Stats().Pending = %d, want the two that are held", n)
		}
		c.call(4, 2)
		for i := range uint64(2) {
			c.want(i+1, codec.V1Value)
		}
		c.want(4, codec.V1Value)
	})
}

// TestBadArgsLate: the connection of a client that has its answer stays.
func TestBadArgsLate(t *testing.T) {
	for _, dialect := range []codec.Dialect{codec.V0, codec.V1} {
		d := numbered(
			primitive("late", func(_ context.Context, c *service.Call) error {
				err := c.ReplyBytes(nil)
				c.BadArgs(errors.New("after all"))
				if again := c.Fail(1, 1, "after all"); again != session.ErrClosed {
					t.Errorf("Fail() = %v, want %v", again, session.ErrClosed)
				}
				return err
			}))
		bubble(t, service.ServerConfig{Declaration: d, V0: dialect == codec.V0}, func(t *testing.T, srv *service.Server) {
			c := dial(t, srv, dialect)
			defer c.close()
			c.call(1, 0)
			if m, err := c.next(); err != nil || m.Session != 1 {
				t.Errorf("next() = %v, %v, want an answer", m, err)
			}
			c.wantNothing()
			if st := srv.Stats(); st.BadArgs != 0 || st.Methods[0].Failed != 0 {
				t.Errorf("Stats() = %+v, want no failure", st)
			}
		})
	}
}

func TestMaxConns(t *testing.T) {
	bubble(t, service.ServerConfig{Declaration: newMemory().declaration(), MaxConns: 1}, func(t *testing.T, srv *service.Server) {
		first := dial(t, srv, codec.V1)
		ours, theirs := channel.Pair(channel.Script{})
		if err := srv.Attach(theirs); !errors.Is(err, service.ErrTooManyConns) {
			t.Errorf("Attach() = %v, want %v", err, service.ErrTooManyConns)
		}
		rawTo(t, ours, codec.V1).wantEnd()
		_ = ours.Close()
		first.call(1, 0, "a", "b")
		first.wantError(1, service.CategoryGeneric, 2)
		first.close()
		time.Sleep(5 * time.Second)
		again := dial(t, srv, codec.V1)
		again.call(1, 3, "a", []string{"b"})
		again.want(1, codec.V1Value, []string{})
		again.close()
		if st := srv.Stats(); st.RefusedConns != 1 || st.Accepted != 2 {
			t.Errorf("Stats() = %+v, want 1 refused, 2 accepted", st)
		}
	})
}

// TestReplyErrors: what a method may not answer is an error to it, and nothing on the wire.
func TestReplyErrors(t *testing.T) {
	errs := make(chan error, 20)
	d := numbered(
		service.Handled{Method: service.Method{Name: "stream", Rx: service.Values}, Serve: func(ctx context.Context, c *service.Call) error {
			errs <- c.Reply(codec.Args(1))
			errs <- c.SendMessage("nosuch", codec.Args())
			errs <- c.SendMessage("error", codec.Args())
			errs <- c.SendValues(codec.Args(make(chan int)))
			errs <- c.SendMessage("write", codec.Args(1, "a"))
			errs <- c.SendValues(codec.Args(2))
			errs <- c.SendMessage("close", codec.Args())
			errs <- c.SendValues(codec.Args(3))
			return nil
		}},
		primitive("value", func(ctx context.Context, c *service.Call) error {
			errs <- c.SendValues(codec.Args(1))
			errs <- c.Close()
			errs <- c.Reply(codec.Args(make(chan int)))
			errs <- c.SendMessage("value", codec.Args(1))
			errs <- c.Reply(codec.Args(1))
			return nil
		}))
	graph, sent, closed := session.ErrGraph, error(nil), session.ErrClosed
	bubble(t, service.ServerConfig{Declaration: d}, func(t *testing.T, srv *service.Server) {
		c := dial(t, srv, codec.V1)
		defer c.close()
		c.call(1, 0)
		c.want(1, codec.V1Write, 1, "a")
		c.want(1, codec.V1Write, 2)
		c.want(1, codec.V1Close)
		c.call(2, 1)
		c.want(2, codec.V1Value, 1)
		for i, want := range []error{graph, graph, graph, nil, sent, sent, sent, closed, graph, graph, nil, sent, closed} {
			err := <-errs
			if i == 3 || i == 10 {
				if err == nil || !strings.Contains(err.Error(), "chan int") {
					t.Errorf("%d: %v, want one of chan int", i, err)
				}
			} else if !errors.Is(err, want) {
				t.Errorf("%d: %v, want %v", i, err, want)
			}
		}
	})
}
