package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// TestOpenRefused: an open that cannot be leaves nothing behind and is not sent.
func TestOpenRefused(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		wantNotSent := func(what string, s *session.Session, err error) {
			t.Helper()
			var e *session.Error
			if s != nil || !errors.As(err, &e) || e.Delivery != session.NotSent || e.Remote || e.Err == nil {
				t.Errorf("%s = %v, %v, want a local error of what was not sent, with its cause", what, s, err)
			}
		}
		idle, _ := newTable(t, d, session.Engine)
		s, err := idle.OpenOffLoop(t.Context(), "e", nil, nil)
		wantNotSent("OpenOffLoop before Attach", s, err)
		if !errors.Is(err, channel.ErrNotOpen) {
			t.Errorf("OpenOffLoop before Attach = %v, want ErrNotOpen", err)
		}

		w := newRig(t, d, session.Worker)
		s, err = w.OpenOffLoop(t.Context(), "e", nil, nil)
		wantNotSent("OpenOffLoop by a worker", s, err)
		w.loop(func() {
			s, err = w.Open("e", nil, nil)
			wantNotSent("Open by a worker", s, err)
		})
		w.wantIdle("a worker opens nothing")

		r := newRigOver(t, "a>b capacity=1", d, session.Engine, func(c *session.Config) {
			c.Channel.HighWaterBytes, c.Channel.StallTimeout = 100, -1
		})
		if s, err = r.OpenOffLoop(t.Context(), "e", nil, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(make([]byte, 200)); err != nil {
			t.Fatal(err)
		}
		r.loop(func() {
			s, err := r.Open("e", nil, nil)
			wantNotSent("Open without room", s, err)
			if !errors.Is(err, channel.ErrFull) {
				t.Errorf("Open without room = %v, want ErrFull", err)
			}
			s, err = r.Open(strings.Repeat("e", 17<<20), nil, nil)
			wantNotSent("Open with a huge name", s, err)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s, err = r.OpenOffLoop(ctx, "e", nil, nil)
		wantNotSent("OpenOffLoop without room", s, err)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("OpenOffLoop without room = %v, want the cause of ctx", err)
		}
		// The Owner is told of room, since it is Writable.
		room := 0
		r.owner.room = func() { room++ }
		go func() { _, _ = io.Copy(io.Discard, r.conn) }()
		synctest.Wait()
		if room != 1 {
			t.Errorf("the owner was told of room %d times, want once", room)
		}
		closeNow(r.Table)
		s, err = r.OpenOffLoop(t.Context(), "e", nil, nil)
		wantNotSent("OpenOffLoop after Close", s, err)
		if n := r.Stats().Opened; n != 1 {
			t.Errorf("Stats().Opened = %d, want the one", n)
		}
	})
}

// TestDraining: what is opened while the channel drains is refused, what is open is cut.
func TestDraining(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRigOver(t, "a>b capacity=16", d, session.Engine)
		s, err := r.OpenOffLoop(t.Context(), "e", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.loop(func() { r.Channel().Drain(&channel.CloseError{Code: channel.CodeClosed}, true, 0) })
		if _, err := r.OpenOffLoop(t.Context(), "e", nil, nil); !errors.As(err, new(*channel.CloseError)) {
			t.Errorf("OpenOffLoop() while draining = %v, want the CloseError", err)
		}
		var e *session.Error
		if _, err := s.Write(nil); !errors.As(err, &e) || e.Remote {
			t.Errorf("Write() while draining = %v, want a local error", err)
		}
		r.want(fmt.Sprintf("invoke %d e", r.first()), "what was accepted is delivered")
		r.want(fmt.Sprintf("chunk %d <1000 bytes>", r.first()), "what was accepted is delivered")
		if got := r.next(time.Second); got != io.EOF.Error() {
			t.Errorf("after the drain: %q, want EOF", got)
		}
		synctest.Wait()
		if e := s.Err(); e == nil || e.Delivery != session.Unknown {
			t.Errorf("Err() = %v, want a cut of unknown delivery", e)
		}
	})
}

// TestDelivery: what had not begun to leave was not sent, to the byte.
func TestDelivery(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		for held := 1; held < 60; held++ {
			r := newRigOver(t, str("a>b capacity=%d", held), d, session.Engine)
			size := len(r.frame("invoke 2 e"))
			var list []*session.Session
			r.loop(func() {
				for range 5 {
					s, err := r.Open("e", nil, tracer{&r.owner.trace})
					if err != nil {
						t.Errorf("Open() = %v", err)
					}
					list = append(list, s)
				}
			})
			closeNow(r.Table)
			for i, s := range list {
				want := session.Unknown
				if i*size >= held {
					want = session.NotSent
				}
				if got := s.Err().Delivery; got != want {
					t.Errorf("session %d of %d bytes each, %d bytes gone: %v, want %v", i, size, held, got, want)
				}
			}
		}
	})
}
