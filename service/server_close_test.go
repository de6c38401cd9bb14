package service_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// unhurried has methods that take their time: two that answer, and four that end only
// when they are told to. Sessions 1 to 6 of TestCloseDrains call them in this order.
func unhurried() service.Declaration {
	return numbered(
		primitive("slow", func(_ context.Context, c *service.Call) error {
			time.Sleep(3 * time.Second)
			return c.Reply(codec.Args("done"))
		}),
		service.Handled{Method: service.Method{Name: "later", Rx: session.Primitive}, OnLoop: func(c *service.Call) {
			time.AfterFunc(2*time.Second, func() { c.Session().Channel().Post(func() { _ = c.Reply(codec.Args("later")) }) })
		}},
		service.Handled{Method: service.Method{Name: "routing", Tx: discard(), Rx: service.Values}, Endless: true, OnLoop: func(c *service.Call) {
			_ = c.SendValues(codec.Args(1))
		}},
		service.Handled{Method: service.Method{Name: "follow", Rx: service.Values}, Endless: true, Serve: func(ctx context.Context, c *service.Call) error {
			<-ctx.Done()
			return ctx.Err()
		}},
		service.Handled{Method: service.Method{Name: "held", Rx: session.Primitive}, Endless: true, OnLoop: func(*service.Call) {}},
		service.Handled{Method: service.Method{Name: "control", Tx: service.Values, Rx: session.Primitive}, Endless: true,
			Serve: func(ctx context.Context, c *service.Call) error {
				_, _, err := c.Recv(ctx)
				return err
			}},
	)
}

// TestCloseDrains: calls that run are answered, new ones are refused, endless ones end,
// and then the connections do.
func TestCloseDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := testServer(t, service.ServerConfig{Declaration: unhurried()})
		c := dial(t, srv, codec.V1)
		defer c.close()
		for method := range uint64(6) {
			c.call(method+1, method)
		}
		c.want(3, codec.V1Write, 1)
		start := time.Now()
		closed := make(chan error, 2)
		for range 2 {
			go func() { closed <- srv.Close(t.Context()) }()
		}
		ends := map[uint64]uint64{}
		for range 4 {
			m, err := c.next()
			if err != nil {
				t.Fatal(err)
			}
			ends[m.Session] = m.Type
		}
		if ends[3] != codec.V1Close || ends[4] != codec.V1Close || ends[5] != codec.V1ValueError ||
			ends[6] != codec.V1ValueError {
			t.Errorf("sessions ended by %v, want close of 3 and 4, error of 5 and 6", ends)
		}
		c.call(7, 0)
		c.wantError(7, service.CategoryWorker, session.CodeTerminating)
		c.want(2, codec.V1Value, "later")
		c.want(1, codec.V1Value, "done")
		c.wantEnd()
		c.close()
		for range 2 {
			if err := <-closed; err != nil {
				t.Errorf("Close() = %v", err)
			}
		}
		if took := time.Since(start); took < 3*time.Second || took > 5*time.Second {
			t.Errorf("Close() took %v, want 3 s and the end of the connection", took)
		}
		if err := srv.Attach(nopConn(t)); !errors.Is(err, service.ErrServerClosed) {
			t.Errorf("Attach() = %v, want %v", err, service.ErrServerClosed)
		}
		if err := srv.Listen(t.Context(), "tcp", "127.0.0.1:0"); !errors.Is(err, service.ErrServerClosed) {
			t.Errorf("Listen() = %v, want %v", err, service.ErrServerClosed)
		}
		if st := srv.Stats(); st.Closing != 1 || st.Conns != 0 || st.Pending != 0 {
			t.Errorf("Stats() = %+v", st)
		}
	})
}

func nopConn(t *testing.T) *channel.End {
	a, b := channel.Pair(channel.Script{})
	t.Cleanup(func() { _ = a.Close() })
	return b
}

// TestCloseCuts: at the end of its context Close ends that of the methods, and does not
// wait for ever for one that does not care.
func TestCloseCuts(t *testing.T) {
	for name, deaf := range map[string]bool{"polite": false, "deaf": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				srv := testServer(t, service.ServerConfig{Declaration: numbered(
					primitive("wait", func(ctx context.Context, c *service.Call) error {
						if deaf {
							<-release
							return nil
						}
						<-ctx.Done()
						return ctx.Err()
					}))})
				c := dial(t, srv, codec.V1)
				defer c.close()
				c.call(1, 0)
				time.Sleep(time.Second)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				start := time.Now()
				err := srv.Close(ctx)
				if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 calls were cut") ||
					strings.Contains(err.Error(), "ignore") != deaf {
					t.Errorf("Close() = %v, want one call cut, ignored %v", err, deaf)
				}
				if took := time.Since(start); took < 2*time.Second || took > 4*time.Second {
					t.Errorf("Close() took %v, want 2 s to 4 s", took)
				}
				if !deaf {
					c.wantError(1, service.CategoryWorker, session.CodeTerminating)
				}
				c.wantEnd()
				close(release)
			})
		})
	}
}

// TestCloseIdle: a server that was never used, and one whose client says nothing, close at
// once.
func TestCloseIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := testServer(t, service.ServerConfig{Declaration: newMemory().declaration()})
		if err := srv.Close(t.Context()); err != nil {
			t.Errorf("Close() = %v", err)
		}
		srv = testServer(t, service.ServerConfig{Declaration: newMemory().declaration()})
		c := dial(t, srv, codec.V1)
		time.Sleep(time.Hour) // an idle client is welcome
		done, cancel := context.WithCancel(t.Context())
		cancel()
		if err := srv.Close(done); err != nil {
			t.Errorf("Close() = %v, want nil: nothing was cut", err)
		}
		c.wantEnd()
		c.close()
	})
}

// TestCloseBlocked: a method that blocks the loop does not keep Close for ever.
func TestCloseBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		srv := testServer(t, service.ServerConfig{Declaration: numbered(
			service.Handled{Method: service.Method{Name: "block", Rx: session.Primitive}, OnLoop: func(*service.Call) { <-release }})})
		c := dial(t, srv, codec.V1)
		c.call(1, 0)
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		err := srv.Close(ctx)
		if err == nil || !strings.Contains(err.Error(), "does not return") {
			t.Errorf("Close() = %v, want one that says that a method does not return", err)
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("Close() took %v", took)
		}
		close(release)
		c.close()
	})
}

// TestCloseOwing: answers that were accepted when the output was full are written out by
// Close, as all others are.
func TestCloseOwing(t *testing.T) {
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		t.Run(d.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				big, accepted := make([]byte, 300_000), 0
				srv := testServer(t, service.ServerConfig{V0: d == codec.V0, Declaration: numbered(service.Handled{
					Method: service.Method{Name: "big", Rx: session.Primitive},
					OnLoop: func(c *service.Call) {
						if err := c.Reply(codec.Args(big)); err != nil {
							t.Errorf("Reply() = %v", err)
						}
						accepted++
					},
				})})
				c := dial(t, srv, d)
				defer c.close()
				for n := range uint64(50) { // beyond what the output has room for
					c.call(n+1, 0)
				}
				synctest.Wait()
				if accepted == 50 {
					t.Fatal("the output took everything, want it to be full")
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				closed := make(chan error, 1)
				go func() { closed <- srv.Close(ctx) }()
				synctest.Wait()
				got, begun := 0, make(map[uint64]bool) // those of v0; the calls to come are refused
				for m, err := c.next(); err == nil; m, err = c.next() {
					switch {
					case d == codec.V1 && m.Type == codec.V1Value, begun[m.Session] && m.Type == codec.V0Choke:
						got++
					case d == codec.V0 && m.Type == codec.V0Chunk:
						begun[m.Session] = true
					}
				}
				if got != accepted {
					t.Errorf("%d of %d accepted answers came", got, accepted)
				}
				if err := <-closed; err != nil {
					t.Errorf("Close() = %v", err)
				}
			})
		})
	}
}

// slowConn is a connection whose address is not known at once.
type slowConn struct {
	net.Conn
	known chan struct{}
}

func (c slowConn) RemoteAddr() net.Addr {
	<-c.known
	return c.Conn.RemoteAddr()
}

// TestCloseWhileAttaching: a connection that was admitted before Close, and opened when
// that had gone through all connections, ends too.
func TestCloseWhileAttaching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := testServer(t, service.ServerConfig{Declaration: newMemory().declaration()})
		ours, theirs := channel.Pair(channel.Script{})
		defer ours.Close()
		known := make(chan struct{})
		attached, closed := make(chan error, 1), make(chan error, 1)
		go func() { attached <- srv.Attach(slowConn{theirs, known}) }()
		synctest.Wait()
		go func() { closed <- srv.Close(t.Context()) }()
		synctest.Wait()
		close(known)
		if err := <-attached; err != service.ErrServerClosed {
			t.Errorf("Attach() = %v, want %v", err, service.ErrServerClosed)
		}
		if err := <-closed; err != nil {
			t.Errorf("Close() = %v", err)
		}
		_ = ours.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := ours.Read(make([]byte, 1)); n > 0 || isTimeout(err) {
			t.Errorf("Read() = %d, %v, want the end of the connection", n, err)
		}
		if n := srv.Stats().Conns; n != 0 {
			t.Errorf("Stats().Conns = %d, want 0", n)
		}
	})
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}
