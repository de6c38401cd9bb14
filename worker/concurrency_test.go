package worker_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

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
