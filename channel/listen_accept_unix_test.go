//go:build unix && !aix && !solaris

package channel

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// fakeAcceptor gives out what the test puts into next.
type fakeAcceptor struct {
	next      chan any // net.Conn or error
	closed    chan struct{}
	deadline  atomic.Bool
	exhausted atomic.Bool // EMFILE, whatever is in next
}

func newFakeListener(cfg ListenConfig) (*fakeAcceptor, *Listener) {
	if cfg.Logger == nil {
		cfg.Logger = silent
	}
	f := &fakeAcceptor{next: make(chan any, 100), closed: make(chan struct{})}
	return f, newListener(f, pairAddr(0), nil, cfg)
}

func (f *fakeAcceptor) Accept() (net.Conn, error) {
	if f.exhausted.Load() {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	if f.deadline.Load() && len(f.next) == 0 {
		return nil, os.ErrDeadlineExceeded
	}
	select {
	case v := <-f.next:
		if c, ok := v.(net.Conn); ok {
			return c, nil
		}
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", v.(error))}
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

func (f *fakeAcceptor) Close() error { close(f.closed); return nil }

func (f *fakeAcceptor) SetDeadline(t time.Time) error { f.deadline.Store(!t.IsZero()); return nil }

// fakeConn is one end of a pair whose other end is closed.
func fakeConn() net.Conn {
	a, b := Pair(Script{})
	_ = b.Close()
	return a
}

func TestListenBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFakeListener(ListenConfig{})
		var times []time.Duration
		start := time.Now()
		done := make(chan error, 1)
		go func() {
			done <- l.Serve(func(c net.Conn) { times = append(times, time.Since(start)); _ = c.Close() })
		}()
		ms := time.Millisecond
		for _, v := range []any{
			syscall.ENOBUFS, syscall.ECONNABORTED, fakeConn(), // 10 + 20 ms
			syscall.ENOMEM, fakeConn(), // 10 ms again
			syscall.ENOBUFS, syscall.ENOBUFS, syscall.ENOBUFS, syscall.ENOBUFS, syscall.ENOBUFS,
			syscall.ENOBUFS, syscall.ENOBUFS, syscall.ENOBUFS, syscall.ENOBUFS, fakeConn(), // 10 … 640, 1000, 1000
		} {
			f.next <- v
		}
		elapse(time.Minute)
		synctest.Wait()
		if want := []time.Duration{30 * ms, 40 * ms, 3310 * ms}; !slices.Equal(times, want) {
			t.Errorf("accepted after %v, want %v", times, want)
		}
		if got, want := l.Stats(), (ListenStats{Accepted: 3, Retries: 12, Active: 3}); got != want {
			t.Errorf("Stats() = %+v, want %+v", got, want)
		}
		for range 8 {
			f.next <- syscall.ENOBUFS
		}
		elapse(10 * ms * 127)
		takes(t, "Close in a wait of a second", 0, func() { _ = l.Close() })
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v", err)
		}
	})
}

func TestListenUnusable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFakeListener(ListenConfig{})
		f.next <- syscall.EBADF
		if err := l.Serve(nil); !errors.Is(err, syscall.EBADF) {
			t.Errorf("Serve() = %v, want EBADF", err)
		}
		_ = l.Close()
	})
	synctest.Test(t, func(t *testing.T) {
		f, l := newFakeListener(ListenConfig{})
		_ = l.Close()
		f.next <- fakeConn()
		if err := l.Serve(nil); err != nil {
			t.Errorf("Serve() after Close = %v", err)
		}
	})
}

// TestListenReserve runs out of descriptors: one waiting connection is refused in each
// round, and none is waited for if there is none.
func TestListenReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFakeListener(ListenConfig{})
		f.next <- syscall.EMFILE
		f.next <- fakeConn()
		f.next <- syscall.ENFILE
		go func() { _ = l.Serve(func(c net.Conn) { _ = c.Close() }) }()
		elapse(time.Second)
		f.next <- fakeConn()
		synctest.Wait()
		if got, want := l.Stats(), (ListenStats{Accepted: 1, Active: 1, Refused: 1, Retries: 2}); got != want {
			t.Errorf("Stats() = %+v, want %+v", got, want)
		}
		_ = l.Close()
	})
}

func TestListenLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		f, l := newFakeListener(ListenConfig{MaxConns: 1, Logger: slog.New(slog.NewTextHandler(&text, nil))})
		go func() { _ = l.Serve(func(net.Conn) {}) }()
		for range 50 {
			f.next <- fakeConn()
		}
		elapse(time.Minute)
		f.next <- fakeConn()
		synctest.Wait()
		_ = l.Close()
		if n := strings.Count(text.String(), "\n"); n != 2 || !strings.Contains(text.String(), "unlogged=48") {
			t.Errorf("%d lines for 50 refusals:\n%s", n, text.String())
		}
	})
}

func exhaustedFor30s(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFakeListener(ListenConfig{})
		f.exhausted.Store(true)
		served := make(chan struct{})
		go func() { _ = l.Serve(func(c net.Conn) { _ = c.Close(); close(served) }) }()
		elapse(30 * time.Second)
		f.exhausted.Store(false)
		f.next <- fakeConn()
		// Looks after 0, 10, 30 … 630 ms, then at 1.27 s and every second after it.
		if got, want := l.Stats(), (ListenStats{Retries: 36}); got != want {
			t.Errorf("Stats() = %+v, want %+v", got, want)
		}
		takes(t, "recovery", 270*time.Millisecond, func() { <-served })
		_ = l.Close()
	})
}
