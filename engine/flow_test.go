package engine_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// flow is an App in a bubble with one worker of our kind and clients of our kind, all of
// whom agree on extensions.
type flow struct {
	*cloud
	srv    *service.Server
	ext    session.Extensions
	worker *session.Table
	invoke func(s *session.Session) // on the worker's loop
}

// flowOwner is the Owner of a worker's table.
type flowOwner struct {
	quietOwner
	f *flow
}

// OnInvoke is for the table.
func (o flowOwner) OnInvoke(s *session.Session) { o.f.invoke(s) }

// newFlow has a service for its clients, which is the locator, too. There is no worker yet.
func newFlow(t *testing.T, ext session.Extensions) *flow {
	t.Helper()
	f := &flow{ext: ext}
	f.cloud = newCloud(t, engine.AppConfig{Dialect: codec.V1, Sessions: session.Config{Extensions: ext}})
	cfg := service.ServerConfig{Logger: slog.New(slog.DiscardHandler), Sessions: session.Config{Extensions: ext}}
	cfg.Declaration = service.Declaration{Name: "shop", Version: 1, Methods: []service.Handled{
		{
			Method: service.Method{ID: 0, Name: "resolve", Rx: session.Primitive},
			OnLoop: func(c *service.Call) {
				here := service.Resolved{Endpoints: []service.Endpoint{{Host: "here", Port: 1}}, Version: 1, API: f.srv.API()}
				_ = c.ReplyBytes(service.AppendResolved(nil, here))
			},
		},
		{
			Method: service.Method{ID: 1, Name: "enqueue", Tx: session.Streaming, Rx: session.Streaming},
			OnLoop: func(c *service.Call) {
				r := c.Reader()
				f.Enqueue(c.Session(), r.String(), c.Headers())
			},
		},
	}}
	var err error
	if f.srv, err = service.NewServer(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = f.srv.Close(ctx)
	})
	return f
}

// client connects one of our kind.
func (f *flow) client() *service.Client {
	f.t.Helper()
	ext := f.ext
	ext.Offer = true
	c, err := service.Connect(f.t.Context(), service.Config{
		Sessions: session.Config{Extensions: ext}, Logger: slog.New(slog.DiscardHandler),
		Dial: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := channel.Pair(channel.Script{})
			return ours, f.srv.Attach(theirs)
		},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { leave(c) })
	return c
}

// leave ends a client's connections without a word.
func leave(c *service.Client) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = c.Close(ctx)
}

// open opens a stream of the application.
func (f *flow) open(c *service.Client, event string) *service.Stream {
	f.t.Helper()
	s, err := c.Service("shop").Open(f.t.Context(), "enqueue", codec.Args(event))
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// serve makes the next process that the App starts its worker, over a link of that kind.
func (f *flow) serve(script channel.Script) {
	f.t.Helper()
	p := f.next()
	ours, theirs := channel.Pair(script)
	ext := f.ext
	ext.Offer = true
	var err error
	f.worker, err = session.New(session.Config{Role: session.Worker, Owner: flowOwner{f: f}, Extensions: ext, Channel: channel.Config{Dialect: codec.V1}})
	if err != nil {
		f.t.Fatal(err)
	}
	offer := f.worker.Offer()
	p.Admit(ours)
	if err := f.worker.Channel().Attach(theirs); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = f.worker.Channel().Close(ctx)
	})
	hello := codec.Frame{Kind: codec.KindHandshake, Text: p.UUID(), Headers: offer}
	if err := f.worker.Channel().SendOffLoop(f.t.Context(), &hello); err != nil {
		f.t.Fatal(err)
	}
}

// echoBlocking is a worker's handler.
func echoBlocking(s *session.Session) {
	ctx, cancel := s.Bind(context.Background())
	defer cancel()
	for p, err := range s.Chunks(ctx) {
		if err != nil {
			return
		}
		if _, err := s.Write(p); err != nil {
			return
		}
	}
	_ = s.Close()
}

// numbered is a chunk that says which one it is.
func numbered(i, size int) []byte {
	return binary.BigEndian.AppendUint32(make([]byte, 0, size), uint32(i))[:size]
}

// fill sends numbered chunks until one has waited for a second.
func fill(t *testing.T, send func(ctx context.Context, p []byte) error, size int) (sent int) {
	t.Helper()
	for ; ; sent++ {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		err := send(ctx, numbered(sent, size))
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return sent
		}
		if err != nil || sent > 10_000 {
			t.Fatalf("Send() = %v after %d chunks, want it to wait", err, sent)
		}
	}
}

// wantNumbered reads so many chunks, in order.
func wantNumbered(t *testing.T, recv func(ctx context.Context) ([]byte, error), n int) {
	t.Helper()
	for i := range n {
		p, err := recv(t.Context())
		if err != nil || binary.BigEndian.Uint32(p) != uint32(i) {
			t.Fatalf("Recv() = %d bytes, %v, want chunk %d of %d", len(p), err, i, n)
		}
	}
}

// wantFlowing has a conversation far beyond the windows.
func (f *flow) wantFlowing(c *service.Client, what string) {
	f.t.Helper()
	s := f.open(c, "echo")
	start := time.Now()
	for i := range 50 {
		if err := s.Send(f.t.Context(), numbered(i, 900)); err != nil {
			f.t.Fatalf("%s: Send() = %v", what, err)
		}
		if p, err := s.Recv(f.t.Context()); err != nil || binary.BigEndian.Uint32(p) != uint32(i) {
			f.t.Fatalf("%s: Recv() = %d bytes, %v, want chunk %d", what, len(p), err, i)
		}
	}
	if took := time.Since(start); took != 0 { // no link takes any
		f.t.Errorf("%s: it took %v, want that nothing waits", what, took)
	}
	_ = s.Close()
	if _, err := s.Recv(f.t.Context()); err != io.EOF {
		f.t.Errorf("%s: Recv() = %v, want io.EOF", what, err)
	}
}

// Credit reaches from one end of client, engine and worker to the other. A handler that
// does not read stops its own client, one that is not read stops itself; the other
// sessions, of the same client and of another, go on at full speed. In the end all comes.
func TestFlowSlowEnds(t *testing.T) {
	const window, size = 2000, 300
	// A window and the chunk that passes it on each hop, and the chunk in the middle.
	const most = 2*(window+size) + size
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(t, session.Extensions{SessionWindow: window, ChannelWindow: 20 * window})
		release, poured := make(chan struct{}), make(chan int, 1)
		read := make(chan int, 1)
		f.invoke = func(s *session.Session) {
			switch s.Event() {
			case "slow":
				go func() {
					<-release
					n := 0
					for p, err := range s.Chunks(t.Context()) {
						if err != nil || binary.BigEndian.Uint32(p) != uint32(n) {
							t.Errorf("the handler got %d bytes, %v, want chunk %d", len(p), err, n)
						}
						n++
					}
					read <- n
					_ = s.Close()
				}()
			case "pour":
				go func() {
					poured <- fill(t, s.Send, size)
					_ = s.Close()
				}()
			default:
				go echoBlocking(s)
			}
		}
		a, b := f.client(), f.client()
		slow := f.open(a, "slow")
		f.serve(channel.Script{})
		synctest.Wait() // until both links know their terms: nothing holds a sender before
		sent := fill(t, slow.Send, size)
		if total := sent * size; total < window || total > most {
			t.Errorf("%d bytes went to a handler that does not read, want %d to %d", total, window, most)
		}
		f.wantFlowing(a, "another session of the same client")
		f.wantFlowing(b, "another client")

		unread := f.open(b, "pour")
		n := <-poured
		if total := n * size; total < window || total > most {
			t.Errorf("%d bytes were taken for a client that does not read, want %d to %d", total, window, most)
		}
		f.wantFlowing(b, "another session of the client that does not read")
		f.wantFlowing(a, "another client than the one that does not read")

		wantNumbered(t, unread.Recv, n)
		if _, err := unread.Recv(t.Context()); err != io.EOF {
			t.Errorf("Recv() = %v, want io.EOF", err)
		}
		_ = unread.Close()
		close(release)
		_ = slow.Close()
		if got := <-read; got != sent {
			t.Errorf("the handler has read %d chunks, want %d", got, sent)
		}
		synctest.Wait()
		if i := f.Stats(); i.Load != 0 || f.worker.Stats().Open != 0 || f.worker.Stats().Parked != 0 {
			t.Errorf("load %d, worker %+v, want nothing left and no pause", i.Load, f.worker.Stats())
		}
	})
}

// A client that gives up has its handler's context cancelled at once, although chunks of
// the session wait at every hop. Where cancel was not agreed on, an error takes its place
// behind them: that is the time that is saved.
func TestFlowGivenUp(t *testing.T) {
	const size = 10_000
	slow := channel.Script{AtoB: channel.Path{CapacityBytes: 10_000, Latency: 10 * time.Millisecond}} // 1 MB/s to the worker
	for _, how := range []struct {
		name   string
		do     func(c *service.Client, s *service.Stream)
		code   int64
		script channel.Script
		window int  // of a session
		plain  bool // without cancel
		within time.Duration
		after  time.Duration
	}{
		{name: "the stream is discarded", do: discard, code: 499, window: 50_000},
		{name: "the connection is lost", do: lose, code: 2, window: 50_000},
		{name: "the stream is discarded over a slow link", do: discard, code: 499, script: slow, window: 1 << 20, within: 50 * time.Millisecond},
		{name: "the connection is lost over a slow link", do: lose, code: 2, script: slow, window: 1 << 20, within: 50 * time.Millisecond},
		{name: "plain over a slow link", do: lose, code: 2, script: slow, window: 1 << 20, plain: true, after: 200 * time.Millisecond, within: time.Minute},
	} {
		t.Run(how.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFlow(t, session.Extensions{SessionWindow: how.window, ChannelWindow: 10 * how.window, NoCancel: how.plain})
				type end struct {
					cause error
					at    time.Time
				}
				ended := make(chan end, 1)
				f.invoke = func(s *session.Session) {
					ctx, _ := s.Bind(context.Background())
					go func() {
						<-ctx.Done()
						ended <- end{context.Cause(ctx), time.Now()}
						_ = s.Close()
					}()
				}
				c := f.client()
				s := f.open(c, "wait")
				f.serve(how.script)
				time.Sleep(100 * time.Millisecond) // for the handshake and the invoke
				for i := range 40 {
					if s.Send(t.Context(), numbered(i, size)) != nil || (i+2)*size > how.window {
						break
					}
				}
				synctest.Wait() // until all of it is as far as it comes in no time
				start := time.Now()
				how.do(c, s)
				got := <-ended
				var e *session.Error
				if !errors.As(got.cause, &e) || !e.Remote || e.Code != how.code {
					t.Errorf("the handler's context ended with %v, want the client's end as a remote error %d", got.cause, how.code)
				}
				if took := got.at.Sub(start); took < how.after || took > how.within {
					t.Errorf("the handler's context ended after %v, want %v to %v", took, how.after, how.within)
				}
				time.Sleep(10 * time.Second)
				if i, open := f.Stats(), f.worker.Stats().Open; i.Load != 0 || open != 0 {
					t.Errorf("a load of %d, %d sessions at the worker, want none", i.Load, open)
				}
			})
		})
	}
}

func discard(_ *service.Client, s *service.Stream) { s.Discard() }

func lose(c *service.Client, _ *service.Stream) { leave(c) }

// The time that a client gives its call arrives at the worker less what it has spent in the
// queue, also behind a worker that took the request and was gone before it got it.
func TestFlowDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(t, session.Extensions{})
		got := make(chan time.Duration, 1)
		f.invoke = func(s *session.Session) {
			d, _ := codec.TimeoutOf(s.Headers())
			got <- d
			_ = s.SendChoke()
			s.Ignore()
		}
		c := f.client()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		s, err := c.Service("shop").Open(ctx, "enqueue", codec.Args("event"))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		f.serve(channel.Script{})
		if d := <-got; d != 3*time.Second {
			t.Errorf("the worker has %v, want 3 s", d)
		}
		_ = s.Close()
	})
}

// What was waited counts once, however often a request goes back into the queue.
func TestFlowDeadlinePutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, engine.AppConfig{Dialect: codec.V1})
		v := c.visit(codec.V1)
		born := time.Now()
		v.enqueue("event", codec.TimeoutHeader(50*time.Second, new([8]byte)))
		p := c.next()
		time.Sleep(2 * time.Second)
		hold := make(chan struct{})
		v.far.Channel().Post(func() { <-hold })
		w := c.worker(p)
		synctest.Wait() // the request is on its way to the worker
		_ = w.Close()
		synctest.Wait()
		close(hold)
		p = c.next()
		time.Sleep(time.Second)
		w = c.worker(p)
		left := 50*time.Second - time.Since(born)
		w.want(t, invoke(2, "event", codec.TimeoutHeader(left, new([8]byte))))
	})
}

// A caller in the process is no exception.
func TestFlowDeadlineInvoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, engine.AppConfig{Dialect: codec.V1})
		limit := codec.TimeoutHeader(5*time.Second, new([8]byte))
		opened := make(chan error, 1)
		go func() {
			s, err := c.Invoke(t.Context(), "event", []codec.Header{limit})
			if err == nil {
				err = s.Close()
			}
			opened <- err
		}()
		p := c.next()
		time.Sleep(2 * time.Second)
		w := c.worker(p)
		w.want(t, invoke(2, "event", codec.TimeoutHeader(3*time.Second, new([8]byte))))
		if d, _ := codec.TimeoutOf([]codec.Header{limit}); d != 5*time.Second {
			t.Errorf("the caller's own header says %v now, want 5 s", d)
		}
		if err := errors.Join(<-opened, w.send(choke(2))); err != nil {
			t.Error(err)
		}
	})
}
