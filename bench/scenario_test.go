package bench

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

// scenarioTimeout bounds one run of a scenario.
const scenarioTimeout = time.Minute

// The events of the benchmarked worker.
const (
	echoOnLoop   = "echo on the loop"
	echoBlocking = "echo in a goroutine"
	countOnLoop  = "count on the loop"
)

// quiet drops what the stack logs at the end of each run.
var quiet = slog.New(slog.DiscardHandler)

// A face is how both ends use a session.
type face struct {
	name string
	echo func(ctx context.Context, e *engineEnd, n, flight, size int) error
}

var (
	transports = []string{"tcp", "unix", "local"}
	faces      = []face{{"loop", echoesOnLoop}, {"blocking", echoesBlocking}}
)

func BenchmarkEcho(b *testing.B) {
	for _, transport := range transports {
		for _, f := range faces {
			for _, flight := range []int{1, 64} {
				b.Run(fmt.Sprintf("%s/%s/%d", transport, f.name, flight), func(b *testing.B) {
					run(b, transport, func(ctx context.Context, e *engineEnd) error {
						return f.echo(ctx, e, b.N, flight, 64)
					})
				})
			}
		}
	}
}

// BenchmarkFanIn sends chunks of 64 bytes on 100 sessions to handlers on the loop.
func BenchmarkFanIn(b *testing.B) {
	for _, transport := range transports {
		b.Run(transport, func(b *testing.B) {
			run(b, transport, func(ctx context.Context, e *engineEnd) error { return stream(ctx, e, b.N, 100, 64) })
		})
	}
}

// BenchmarkStream64K sends chunks of 64 KiB on one session to a handler on the loop.
func BenchmarkStream64K(b *testing.B) {
	for _, transport := range transports {
		b.Run(transport, func(b *testing.B) {
			b.SetBytes(64 << 10)
			run(b, transport, func(ctx context.Context, e *engineEnd) error { return stream(ctx, e, b.N, 1, 64<<10) })
		})
	}
}

// TestScenarios runs every scenario shortly, so that none is broken when it is needed.
func TestScenarios(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			for _, f := range faces {
				for _, flight := range []int{1, 64} {
					run(t, transport, func(ctx context.Context, e *engineEnd) error { return f.echo(ctx, e, 200, flight, 64) })
				}
			}
			run(t, transport, func(ctx context.Context, e *engineEnd) error { return stream(ctx, e, 1000, 100, 64) })
			run(t, transport, func(ctx context.Context, e *engineEnd) error { return stream(ctx, e, 50, 1, 64<<10) })
		})
	}
}

// run puts both ends on a transport, runs the scenario between them, and waits for all
// to end. In a benchmark only the scenario is timed.
func run(tb testing.TB, transport string, scenario func(context.Context, *engineEnd) error) {
	ctx, cancel := context.WithTimeout(context.Background(), scenarioTimeout)
	defer cancel()
	here, there := connect(tb, transport)
	e := newEngineEnd(tb)
	served := make(chan error, 1)
	w := newWorker(tb, there)
	go func() { served <- w.Run(ctx) }()
	if err := e.table.Channel().Attach(here); err != nil {
		tb.Fatalf("Attach() = %v", err)
	}
	select {
	case <-e.shaken:
	case <-ctx.Done():
		tb.Fatal("no handshake of the worker")
	}
	b, timed := tb.(*testing.B)
	if timed {
		b.ReportAllocs()
		b.ResetTimer()
	}
	err := scenario(ctx, e)
	if timed {
		b.StopTimer()
	}
	if err != nil {
		tb.Fatalf("scenario: %v", err)
	}
	if err := e.end(ctx); err != nil {
		tb.Fatalf("end: %v", err)
	}
	if err := <-served; err != nil {
		tb.Fatalf("Run() = %v, want nil after terminate", err)
	}
}

// connect returns the two ends of a fresh connection.
func connect(tb testing.TB, transport string) (a, b net.Conn) {
	if transport == "local" {
		return channel.Pair(channel.Script{})
	}
	addr := "127.0.0.1:0"
	if transport == "unix" {
		addr = filepath.Join(tb.TempDir(), "s")
	}
	ln, err := net.Listen(transport, addr)
	if err != nil {
		tb.Fatalf("Listen() = %v", err)
	}
	defer ln.Close()
	if a, err = net.Dial(transport, ln.Addr().String()); err != nil {
		tb.Fatalf("Dial() = %v", err)
	}
	if b, err = ln.Accept(); err != nil {
		tb.Fatalf("Accept() = %v", err)
	}
	return a, b
}

func newWorker(tb testing.TB, conn net.Conn) *worker.Worker {
	w, err := worker.New(worker.Config{App: "bench", UUID: "scenario", Conn: conn, Logger: quiet})
	if err != nil {
		tb.Fatalf("worker.New() = %v", err)
	}
	w.HandleFunc(echoOnLoop, func(*worker.Session) session.Handler { return echo{} })
	w.HandleFunc(countOnLoop, func(*worker.Session) session.Handler { return &count{} })
	w.Handle(echoBlocking, func(ctx context.Context, s *worker.Session) error {
		for p, err := range s.Chunks(ctx) {
			if err != nil {
				return err
			}
			if _, err := s.Write(p); err != nil {
				return err
			}
		}
		return nil
	})
	return w
}

// quietEnd is a Handler of which only the needed methods are written anew.
type quietEnd struct{}

func (quietEnd) OnChunk(*session.Session, []byte)         {}
func (quietEnd) OnChoke(s *session.Session)               { _ = s.SendChoke() }
func (quietEnd) OnError(*session.Session, *session.Error) {}

// echo answers chunks on the loop.
type echo struct{ quietEnd }

func (echo) OnChunk(s *session.Session, p []byte) { _ = s.SendChunk(p) }

// count counts chunks on the loop, and says how many at the end.
type count struct {
	quietEnd
	n int
}

func (c *count) OnChunk(*session.Session, []byte) { c.n++ }

func (c *count) OnChoke(s *session.Session) {
	_ = s.SendChunk(fmt.Append(nil, c.n))
	_ = s.SendChoke()
}

// engineEnd is the engine's side of the connection.
type engineEnd struct {
	table  *session.Table
	shaken chan struct{}
	ended  chan struct{} // the worker has answered our terminate
}

func newEngineEnd(tb testing.TB) *engineEnd {
	e := &engineEnd{shaken: make(chan struct{}), ended: make(chan struct{})}
	t, err := session.New(session.Config{Role: session.Engine, Owner: e, Logger: quiet})
	if err != nil {
		tb.Fatalf("session.New() = %v", err)
	}
	e.table = t
	return e
}

// OnHandshake lets the scenario begin.
func (e *engineEnd) OnHandshake([]byte) { close(e.shaken) }

// OnHeartbeat answers, as engines do.
func (e *engineEnd) OnHeartbeat() { _ = e.table.Channel().SendHeartbeat() }

// OnTerminate is the worker's last word.
func (e *engineEnd) OnTerminate(int64, []byte) { close(e.ended) }

// OnOpen and the rest are of no interest here.
func (e *engineEnd) OnOpen()                     {}
func (e *engineEnd) OnInvoke(*session.Session)   {}
func (e *engineEnd) OnClose(*channel.CloseError) {}

// end terminates the worker and closes, as engines do.
func (e *engineEnd) end(ctx context.Context) error {
	ch := e.table.Channel()
	err := ch.SendOffLoop(ctx, &codec.Frame{Kind: codec.KindTerminate, Code: 1, Text: "done"})
	if err != nil {
		return err
	}
	select {
	case <-e.ended:
		return ch.Close(ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// caller keeps a number of echoes under way from the loop.
type caller struct {
	payload []byte
	send    int // still to be sent
	wait    int // still to come back
	done    chan error
}

func (c *caller) OnChunk(s *session.Session, p []byte) {
	if len(p) != len(c.payload) {
		c.finish(fmt.Errorf("%d bytes came back, want %d", len(p), len(c.payload)))
	}
	if c.wait--; c.wait == 0 {
		c.finish(nil)
		_ = s.SendChoke()
	}
	c.next(s)
}

func (c *caller) OnError(_ *session.Session, err *session.Error) { c.finish(err) }
func (c *caller) OnChoke(*session.Session)                       {}

func (c *caller) next(s *session.Session) {
	if c.send == 0 {
		return
	}
	c.send--
	if err := s.SendChunk(c.payload); err != nil {
		c.finish(err)
	}
}

func (c *caller) finish(err error) {
	select {
	case c.done <- err:
	default:
	}
}

// echoesOnLoop makes n echoes on one session, all of it in callbacks.
func echoesOnLoop(ctx context.Context, e *engineEnd, n, flight, size int) error {
	c := &caller{payload: make([]byte, size), send: n, wait: n, done: make(chan error, 1)}
	ok := e.table.Channel().Post(func() {
		s, err := e.table.Open(echoOnLoop, nil, c)
		if err != nil {
			c.finish(err)
			return
		}
		for range flight {
			c.next(s)
		}
	})
	if !ok {
		return net.ErrClosed
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// echoesBlocking makes n echoes by as many goroutines as there are under way, each with
// a session of its own.
func echoesBlocking(ctx context.Context, e *engineEnd, n, flight, size int) error {
	var callers sync.WaitGroup
	failed := make(chan error, flight)
	for i := range flight {
		share := n / flight
		if i < n%flight {
			share++
		}
		callers.Go(func() { failed <- echoInTurn(ctx, e, share, size) })
	}
	callers.Wait()
	for range flight {
		if err := <-failed; err != nil {
			return err
		}
	}
	return nil
}

func echoInTurn(ctx context.Context, e *engineEnd, n, size int) error {
	s, err := e.table.OpenOffLoop(ctx, echoBlocking, nil, nil)
	if err != nil {
		return err
	}
	p := make([]byte, size)
	for range n {
		if err := s.Send(ctx, p); err != nil {
			return err
		}
		back, err := s.Recv(ctx)
		if err != nil {
			return err
		}
		if len(back) != size {
			return fmt.Errorf("%d bytes came back, want %d", len(back), size)
		}
	}
	return closeStream(ctx, s)
}

// closeStream ends both directions.
func closeStream(ctx context.Context, s *session.Session) error {
	if err := s.Close(); err != nil {
		return err
	}
	if _, err := s.Recv(ctx); err != io.EOF {
		return fmt.Errorf("Recv() = %v at the end of the stream, want io.EOF", err)
	}
	return nil
}

// stream sends n chunks one way, dealt over some sessions, and compares the counts.
func stream(ctx context.Context, e *engineEnd, n, sessions, size int) error {
	list := make([]*session.Session, sessions)
	for i := range list {
		var err error
		if list[i], err = e.table.OpenOffLoop(ctx, countOnLoop, nil, nil); err != nil {
			return err
		}
	}
	p := make([]byte, size)
	for i := range n {
		if err := list[i%sessions].Send(ctx, p); err != nil {
			return err
		}
	}
	total := 0
	for _, s := range list {
		if err := s.Close(); err != nil {
			return err
		}
		text, err := s.Recv(ctx)
		if err != nil {
			return err
		}
		var counted int
		if _, err := fmt.Sscan(string(text), &counted); err != nil {
			return err
		}
		total += counted
		if _, err := s.Recv(ctx); err != io.EOF {
			return fmt.Errorf("Recv() = %v at the end of the stream, want io.EOF", err)
		}
	}
	if total != n {
		return fmt.Errorf("%d chunks arrived, want %d", total, n)
	}
	return nil
}
