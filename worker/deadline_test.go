package worker_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

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
