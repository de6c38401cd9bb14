package worker_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

// transports are the two that a worker has over a socket.
var transports = map[string]session.Config{
	"event loop": {},
	"net.Conn":   {Channel: channel.Config{NoEventLoop: true}},
}

// dialled runs a worker that dials an engine's socket, and returns the engine's end
// behind handshake and heartbeat.
func dialled(t *testing.T, cfg worker.Config, setup func(w *worker.Worker)) (conn net.Conn, ended chan error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.1")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg.UUID, cfg.Endpoint, cfg.Logger = uuid, path, slog.New(slog.DiscardHandler)
	w, err := worker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	register(w)
	if setup != nil {
		setup(w)
	}
	ended = make(chan error, 1)
	go func() { ended <- w.Run(context.Background()) }()
	if conn, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Close()
		_ = conn.Close()
	})
	_ = conn.SetDeadline(time.Now().Add(patience))
	wantRead(t, conn, cfg.Dialect, codec.Frame{Kind: codec.KindHandshake, Text: uuid}, codec.Frame{Kind: codec.KindHeartbeat})
	return conn, ended
}

func wantRead(t *testing.T, conn net.Conn, d codec.Dialect, frames ...codec.Frame) {
	t.Helper()
	for _, f := range frames {
		want := encode(d, f)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != string(want) {
			t.Fatalf("the worker sent %s, %v, want %s", show(got), err, show(want))
		}
	}
}

// A whole life over a unix socket: the worker's terminate comes behind all data, and
// it closes behind the engine.
func TestLifeOverSocket(t *testing.T) {
	for name, sessions := range transports {
		for _, d := range []codec.Dialect{codec.V0, codec.V1} {
			t.Run(fmt.Sprint(name, " ", d), func(t *testing.T) {
				conn, ended := dialled(t, worker.Config{Dialect: d, Sessions: sessions, Heartbeat: time.Minute}, nil)
				big := make([]byte, 3<<20)
				id := uint64(5)
				for _, f := range []codec.Frame{
					{Kind: codec.KindInvoke, Session: id, Text: "echo"},
					{Kind: codec.KindChunk, Session: id, Payload: big},
					{Kind: codec.KindTerminate, Code: 1, Text: "bye"},
					{Kind: codec.KindChunk, Session: id, Payload: []byte("last")},
					{Kind: codec.KindChoke, Session: id},
				} {
					if _, err := conn.Write(encode(d, f)); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(20 * time.Millisecond)
				wantRead(t, conn, d,
					codec.Frame{Kind: codec.KindChunk, Session: id, Payload: big},
					codec.Frame{Kind: codec.KindChunk, Session: id, Payload: []byte("last")},
					codec.Frame{Kind: codec.KindChoke, Session: id},
					codec.Frame{Kind: codec.KindTerminate, Code: 1, Text: "bye"},
				)
				select {
				case err := <-ended:
					t.Fatalf("Run() = %v before the engine closed", err)
				case <-time.After(20 * time.Millisecond):
				}
				_ = conn.Close()
				if err := <-ended; err != nil {
					t.Errorf("Run() = %v, want nil", err)
				}
			})
		}
	}
}

// The process stands still for longer than disown; what waits in the socket by then is
// life, whatever the order in which the goroutines come back.
func TestDisownAfterStopOverSocket(t *testing.T) {
	for name, sessions := range transports {
		t.Run(name, func(t *testing.T) {
			for range 3 {
				path := filepath.Join(t.TempDir(), "app.1")
				l, err := net.Listen("unix", path)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				stands, release := make(chan struct{}), make(chan struct{})
				w, err := worker.New(worker.Config{
					UUID: uuid, Endpoint: path, Dialect: codec.V1, Sessions: sessions, Disown: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
					// The first heartbeat is on its way: the deadline is set.
					Observer: worker.Observer{OnConnect: func() { close(stands); <-release }},
				})
				if err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- w.Run(context.Background()) }()
				conn, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				<-stands
				time.Sleep(70 * time.Millisecond)
				if _, err := conn.Write(encode(codec.V1, codec.Frame{Kind: codec.KindHeartbeat})); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Millisecond)
				close(release)
				select {
				case err := <-ended:
					t.Fatalf("Run() = %v with a heartbeat in the socket", err)
				case <-time.After(100 * time.Millisecond):
				}
				w.Close()
				<-ended
				_ = conn.Close()
			}
		})
	}
}

// Silence over a socket.
func TestDisownOverSocket(t *testing.T) {
	for name, sessions := range transports {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, ended := dialled(t, worker.Config{Dialect: codec.V1, Sessions: sessions, Disown: 100 * time.Millisecond}, nil)
			if err := <-ended; err != worker.ErrDisowned {
				t.Errorf("Run() = %v, want ErrDisowned", err)
			}
			if d := time.Since(start); d < 100*time.Millisecond {
				t.Errorf("disowned after %v, want 100ms", d)
			}
		})
	}
}
