package service_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// crowd is a service for good and bad clients at once. It watches how much output is
// held for any of them.
type crowd struct {
	held atomic.Int64 // the most
}

func (w *crowd) declaration() service.Declaration {
	big := make([]byte, 10_000)
	watch := func(c *service.Call) {
		if n := c.Session().Channel().Stats().QueuedBytes; n > w.held.Load() {
			w.held.Store(n)
		}
	}
	return numbered(
		service.Handled{Method: service.Method{Name: "echo", Rx: session.Primitive}, OnLoop: func(c *service.Call) { _ = c.ReplyBytes(c.Args()) },
			Args: []service.Arg{{Name: "data", Kind: service.StringArg}}},
		service.Handled{Method: service.Method{Name: "big", Rx: session.Primitive}, OnLoop: func(c *service.Call) {
			watch(c)
			_ = c.Reply(codec.Args(big))
		}},
		primitive("bigger", func(_ context.Context, c *service.Call) error {
			watch(c)
			return c.Reply(codec.Args(big))
		}),
		primitive("wait", func(ctx context.Context, _ *service.Call) error { <-ctx.Done(); return ctx.Err() }),
		service.Handled{Method: service.Method{Name: "sink", Tx: session.Streaming, Rx: session.Primitive},
			Serve: func(ctx context.Context, _ *service.Call) error { <-ctx.Done(); return ctx.Err() }},
	)
}

// flood writes frames until the server has no more room, or cuts the client.
func (c *rawClient) flood(frame func(sess uint64) []byte) (frames int) {
	for sess := uint64(1); ; sess++ {
		_ = c.conn.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := c.conn.Write(frame(sess)); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
				c.t.Errorf("Write() = %v", err)
			}
			return int(sess) - 1
		}
	}
}

// drain reads to the end of the connection, and fails if that does not come.
func (c *rawClient) drain() {
	_ = c.conn.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.Copy(io.Discard, c.conn); err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, net.ErrClosed) {
		c.t.Errorf("the connection ends with %v, want an end", err)
	}
}

// bad lists what clients do that the server must end, each on a connection of its own.
var bad = map[string]func(c *rawClient){
	"cut in mid-frame": func(c *rawClient) {
		c.write(c.frame(1, 0, "a long argument")[:9])
		c.close()
	},
	"stall in mid-frame": func(c *rawClient) {
		c.write(c.frame(1, 0, "a long argument")[:9])
		c.wantEnd()
	},
	"nothing but an end": func(c *rawClient) { c.close() },
	"half-closed": func(c *rawClient) {
		c.call(1, 3)
		_ = c.conn.(*channel.End).CloseWrite()
		c.drain()
	},
	"calls and never reads": func(c *rawClient) {
		c.flood(func(n uint64) []byte { return c.frame(n, 1) })
		time.Sleep(25 * time.Second) // cut meanwhile
		c.drain()
	},
	"calls goroutines and never reads": func(c *rawClient) {
		c.flood(func(n uint64) []byte { return c.frame(n, 2) })
		time.Sleep(25 * time.Second)
		c.drain()
	},
	"sends what nobody reads": func(c *rawClient) {
		c.call(1, 4)
		piece := make([]byte, 60_000)
		c.flood(func(uint64) []byte { return c.frame(1, codec.V1Write, piece) })
		c.wantError(1, service.CategoryWorker, session.CodeOverflow)
		c.close()
	},
	"calls and revokes": func(c *rawClient) {
		go c.drain()
		n := c.flood(func(n uint64) []byte {
			return append(c.frame(2*n-1, 3), c.frame(2*n, codec.V1Revoke, 2*n-1, []any{1, 1})...)
		})
		if n > 20_000 {
			c.t.Errorf("%d calls were taken and revoked, want the end before", n)
		}
	},
	"reused number": func(c *rawClient) { c.call(1, 3); c.call(1, 3); c.wantEnd() },
	"unknown method": func(c *rawClient) {
		c.call(1, 0, "x")
		c.want(1, codec.V1Value, "x")
		c.call(2, 99)
		c.wantEnd()
	},
	"wrong arguments": func(c *rawClient) { c.call(1, 0, 5); c.wantEnd() },
	"no frame":        func(c *rawClient) { c.write([]byte("GET / HTTP/1.1\r\n\r\n")); c.wantEnd() },
}

// TestBadClients: none of them keeps a good client waiting, holds more output than the
// water mark and what one turn adds, or leaves anything behind.
func TestBadClients(t *testing.T) {
	for name, act := range bad {
		t.Run(name, func(t *testing.T) {
			w := &crowd{}
			cfg := service.ServerConfig{Declaration: w.declaration(),
				Sessions: session.Config{Channel: channel.Config{HighWaterBytes: 64 << 10}}}
			bubble(t, cfg, func(t *testing.T, srv *service.Server) {
				good := dial(t, srv, codec.V1)
				defer good.close()
				done := make(chan struct{})
				go func() {
					defer close(done)
					c := dial(t, srv, codec.V1)
					defer c.close()
					act(c)
				}()
				for n := uint64(1); ; n++ {
					start := time.Now()
					good.call(n, 0, "still here")
					good.want(n, codec.V1Value, "still here")
					if took := time.Since(start); took > 0 {
						t.Fatalf("answered after %v, want at once", took)
					}
					select {
					case <-done:
						time.Sleep(30 * time.Second)
						if st := srv.Stats(); st.Conns != 1 || st.Pending != 0 {
							t.Errorf("Stats() = %+v, want the good client only", st)
						}
						if held := w.held.Load(); held > 3*64<<10 {
							t.Errorf("%d bytes were held, want the water mark and what one turn adds", held)
						}
						return
					default:
						time.Sleep(100 * time.Millisecond)
					}
				}
			})
		})
	}
}

// FuzzServer: whatever a client writes, the server serves the next one.
func FuzzServer(f *testing.F) {
	c := rawClient{d: codec.V1}
	f.Add(c.frame(1, 0, "x"), false)
	f.Add(append(c.frame(1, 4), c.frame(1, 0, "x")...), false)
	f.Add(append(c.frame(1, 3), c.frame(2, codec.V1Revoke, 1, []any{1, 1})...), false)
	c.d = codec.V0
	f.Add(append(c.frame(1, 0, "x"), c.frame(1, 1)...), true)
	f.Fuzz(func(t *testing.T, stream []byte, v0 bool) {
		synctest.Test(t, func(t *testing.T) {
			w := &crowd{}
			srv := testServer(t, service.ServerConfig{Declaration: w.declaration(), V0: v0})
			d := codec.V1
			if v0 {
				d = codec.V0
			}
			bad := dial(t, srv, d, channel.Script{AtoB: channel.Path{CapacityBytes: -1}, BtoA: channel.Path{CapacityBytes: -1}})
			bad.write(stream)
			good := dial(t, srv, d)
			good.call(1, 0, "x")
			if v0 {
				good.want(1, codec.V0Chunk, "\xa1x")
			} else {
				good.want(1, codec.V1Value, "x")
			}
			bad.close()
			good.close()
			if err := srv.Close(t.Context()); err != nil {
				t.Errorf("Close() = %v", err)
			}
			if st := srv.Stats(); st.Panics != 0 || st.Pending != 0 || st.Conns != 0 {
				t.Errorf("Stats() = %+v", st)
			}
		})
	})
}
