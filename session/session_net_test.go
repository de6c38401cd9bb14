package session_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// sockets returns the two ends of a connection.
func sockets(t testing.TB, network string) (a, b net.Conn) {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if a, err = net.Dial(network, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// netCouple is a couple over sockets.
func netCouple(t testing.TB, network string, d codec.Dialect, echo func(*session.Session), opts ...option) *couple {
	t.Helper()
	a, b := sockets(t, network)
	c := joinTables(t, d, a, b, append(opts, func(cfg *session.Config) { cfg.MaxSessions = -1 })...)
	c.wo.invoke = echo // before the first invoke
	t.Cleanup(func() {
		for _, table := range []*session.Table{c.engine, c.worker} {
			_ = table.Channel().Close(context.Background())
		}
	})
	return c
}

// ask makes one session: a question, its echo, the end.
func ask(ctx context.Context, c *couple, question []byte) error {
	s, err := c.engine.OpenOffLoop(ctx, "echo", nil, nil)
	if err != nil {
		return err
	}
	if _, err := s.Write(question); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	p, err := s.Recv(ctx)
	if err != nil || !bytes.Equal(p, question) {
		return fmt.Errorf("session %d: Recv() = %d bytes, %w, want the question", s.ID(), len(p), err)
	}
	if _, err := s.Recv(ctx); err != io.EOF {
		return fmt.Errorf("session %d: Recv() = %w, want EOF", s.ID(), err)
	}
	return nil
}

// awaitEmpty waits for the last chokes to be taken in.
func (c *couple) awaitEmpty() {
	c.t.Helper()
	for begin := time.Now(); ; pass(time.Millisecond) {
		engine, worker := c.engine.Stats().Open, c.worker.Stats().Open
		if engine+worker == 0 {
			return
		}
		if time.Since(begin) > patience {
			c.t.Errorf("open sessions: engine %d, worker %d, want none", engine, worker)
			return
		}
	}
}

// patience is how long a test waits for what must come; long, so that a slow machine is no
// failure. In a bubble it is virtual.
const patience = time.Minute

// wantHeap checks that the heap comes back to what it was, but for slack.
func wantHeap(t *testing.T, before, slack int) {
	t.Helper()
	grown := 0
	for range 100 { // a turn may be under way, and a collection leaves what ends beside it
		if grown = heapInUse() - before; grown <= slack {
			return
		}
		pass(10 * time.Millisecond)
	}
	t.Errorf("the heap has grown by %d KiB, want at most %d", grown>>10, slack>>10)
}

// TestNetTransports: the same conversation over every transport, face and dialect.
func TestNetTransports(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		for _, onConn := range []bool{false, true} {
			for name, echo := range echoes {
				for _, d := range []codec.Dialect{codec.V0, codec.V1} {
					t.Run(fmt.Sprintf("%s-conn=%v-%s-%v", network, onConn, name, d), func(t *testing.T) {
						c := netCouple(t, network, d, echo, func(cfg *session.Config) { cfg.Channel.NoEventLoop = onConn })
						for i := range 20 {
							if err := ask(t.Context(), c, pattern(i, i*i*i*10)); err != nil {
								t.Fatal(err)
							}
						}
						c.awaitEmpty()
					})
				}
			}
		}
	}
}

// TestNetMany: many sessions one after the other and many at once on one channel, and
// nothing of them stays.
func TestNetMany(t *testing.T) {
	for name, echo := range echoes {
		t.Run(name, func(t *testing.T) {
			c := netCouple(t, "unix", codec.V1, echo)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			question := pattern(1, 100)
			ofMany := func(sequential int) {
				for range sequential {
					if err := ask(ctx, c, question); err != nil {
						t.Fatal(err)
					}
				}
				var wg sync.WaitGroup
				for i := range 1000 {
					wg.Go(func() {
						for j := range 3 {
							if err := ask(ctx, c, pattern(i+j, 1+i*7)); err != nil {
								t.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
			}
			ofMany(100) // what is kept for reuse is there
			heap, goroutines := heapInUse(), runtime.NumGoroutine()
			ofMany(scaled(20_000))
			c.awaitEmpty()
			wantHeap(t, heap, 8<<20)
			for begin := time.Now(); runtime.NumGoroutine() > goroutines+2; pass(time.Millisecond) { // they have still to end
				if time.Since(begin) > patience {
					t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), goroutines)
				}
			}
			if e, w := c.engine.Stats(), c.worker.Stats(); e.Completed != e.Opened || w.Completed != w.Opened || w.Opened != e.Opened {
				t.Errorf("engine %+v, worker %+v, want all completed", e, w)
			}
		})
	}
}

// TestNetBig: the largest chunks, both ways.
func TestNetBig(t *testing.T) {
	for name, echo := range echoes {
		t.Run(name, func(t *testing.T) {
			c := netCouple(t, "unix", codec.V1, echo)
			big := pattern(2, 16<<20)
			heap := heapInUse()
			for range 4 {
				s := c.open("echo")
				go func() {
					_, _ = s.Write(big)
					_ = s.Close()
				}()
				got := 0
				for p, err := range s.Chunks(t.Context()) {
					if err != nil || !bytes.Equal(p, big) {
						t.Fatalf("Recv() = %d bytes, %v", len(p), err)
					}
					got++
				}
				if got != 1 {
					t.Fatalf("%d chunks came back, want 1", got)
				}
			}
			for range 3 { // a small one in the place of the big ones
				if err := ask(t.Context(), c, []byte("small")); err != nil {
					t.Fatal(err)
				}
			}
			c.awaitEmpty()
			wantHeap(t, heap, 8<<20)
			runtime.KeepAlive(big)
		})
	}
}

// TestNetKill: the peer goes away in the middle of many sessions; each ends.
func TestNetKill(t *testing.T) {
	for name, echo := range echoes {
		t.Run(name, func(t *testing.T) {
			for range 8 {
				a, b := sockets(t, "unix")
				c := joinTables(t, codec.V1, a, b)
				c.wo.invoke = echo
				var wg sync.WaitGroup
				for i := range 20 {
					wg.Go(func() {
						for {
							if err := ask(context.Background(), c, pattern(i, 10_000)); err != nil {
								return
							}
						}
					})
				}
				pass(time.Millisecond)
				closeNow(c.worker)
				wg.Wait()
				if err := <-c.eo.closed; err.Code == channel.CodePanic {
					t.Errorf("the engine's channel closed with %v", err)
				}
				closeNow(c.engine)
				if n := c.engine.Stats().Open + c.worker.Stats().Open; n != 0 {
					t.Errorf("%d sessions are open at closed channels", n)
				}
			}
		})
	}
}
