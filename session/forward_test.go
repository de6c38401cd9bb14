package session_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// chain is a client, a runtime in the middle that forwards, and a worker.
type chain struct {
	client, server, engine, worker *session.Table

	splice          session.Splice
	answered, ended atomic.Int32
}

// newChain joins the four. The runtime's two channels are joined by their loops, if any:
// connections of a local pair have each their own.
func newChain(t testing.TB, d codec.Dialect, link func() (a, b net.Conn), echo func(*session.Session), opts ...option) *chain {
	t.Helper()
	c := &chain{}
	c.splice.Translate = func(fromCallee bool, e *session.Error) (int64, int64, string) {
		if fromCallee {
			return 5, 2, "slave has been discarded"
		}
		return 5, 2, "End of file"
	}
	c.splice.OnAnswered = func() { c.answered.Add(1) }
	c.splice.OnEnd = func() { c.ended.Add(1) }
	serve := serving(func(s *session.Session, _ []byte) {
		if err := s.Forward(c.engine, "echo", s.Headers(), c.splice); err != nil {
			_ = s.SendError(1, 2, err.Error())
			s.Ignore()
		}
	})
	var eo, wo *owner
	c.client, _ = newTable(t, codec.V1, session.Client)
	c.server, _ = newTable(t, codec.V1, session.Server, append([]option{serve}, opts...)...)
	c.engine, eo = newTable(t, d, session.Engine, opts...)
	c.worker, wo = newTable(t, d, session.Worker)
	wo.invoke, eo.invoke = echo, nil
	a, b := link()
	e, w := link()
	for table, conn := range map[*session.Table]net.Conn{c.client: a, c.server: b, c.engine: e, c.worker: w} {
		if err := table.Channel().Attach(conn); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, table := range []*session.Table{c.client, c.server, c.engine, c.worker} {
			closeNow(table)
		}
	})
	_ = c.worker.Channel().SendOffLoop(context.Background(), &codec.Frame{Kind: codec.KindHandshake, Text: "u"})
	return c
}

func (c *chain) open(t testing.TB) *session.Session {
	t.Helper()
	s, err := c.client.CallOffLoop(context.Background(), callOf(1), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// forEachChain runs f over a local pair, where each channel has its own loop, and over TCP
// with one loop for both, in both dialects of the worker.
func forEachChain(t *testing.T, echo func(*session.Session), opts []option, f func(t *testing.T, c *chain, wait func(func() bool))) {
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		t.Run("pair/"+d.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pair := func() (net.Conn, net.Conn) { a, b := channel.Pair(channel.Script{}); return a, b }
				f(t, newChain(t, d, pair, echo, opts...), func(ok func() bool) {
					synctest.Wait()
					if !ok() {
						t.Error("the chain did not come to its end")
					}
				})
			})
		})
		t.Run("tcp/"+d.String(), func(t *testing.T) {
			c := newChain(t, d, func() (net.Conn, net.Conn) { return sockets(t, "tcp") }, echo, append(opts, oneLoop(t))...)
			f(t, c, func(ok func() bool) { eventually(t, ok) })
		})
	}
}

func oneLoop(t testing.TB) option {
	t.Helper()
	loops, err := channel.NewLoops(channel.LoopsConfig{N: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = loops.Close(context.Background()) })
	return func(c *session.Config) { c.Channel.Loops = loops }
}

// eventually waits for ok in real time.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Error("the chain did not come to its end")
			return
		}
		pass(time.Millisecond)
	}
}

// over reports that nothing is left of one session on all four tables.
func (c *chain) over() bool {
	for _, table := range []*session.Table{c.client, c.server, c.engine, c.worker} {
		if table.Stats().Open != 0 {
			return false
		}
	}
	return c.answered.Load() == 1 && c.ended.Load() == 1
}

func TestForward(t *testing.T) {
	for name, echo := range echoes {
		t.Run(name, func(t *testing.T) {
			forEachChain(t, echo, nil, func(t *testing.T, c *chain, wait func(func() bool)) {
				s := c.open(t)
				for i := range 20 {
					want := pattern(i, i*i*100)
					if _, err := s.Write(want); err != nil {
						t.Fatal(err)
					}
					if got, err := s.Recv(t.Context()); !bytes.Equal(got, want) || err != nil {
						t.Fatalf("Recv() = %d bytes, %v, want the %d that were sent", len(got), err, len(want))
					}
				}
				_ = s.Close()
				if _, err := s.Recv(t.Context()); err != io.EOF {
					t.Errorf("Recv() = %v, want io.EOF", err)
				}
				wait(c.over)
			})
		})
	}
}

// Megabytes through small water marks: nothing is lost, and what the runtime holds stays
// within its bounds.
func TestForwardBounded(t *testing.T) {
	const mark, inbox = 32 << 10, 32 << 10
	small := func(c *session.Config) { c.Channel.HighWaterBytes, c.InboxBytes = mark, inbox }
	forEachChain(t, echoes["goroutine"], []option{small}, func(t *testing.T, c *chain, wait func(func() bool)) {
		s := c.open(t)
		const chunks, size = 200, 10 << 10
		go func() {
			for i := range chunks {
				if _, err := s.Write(pattern(i, size)); err != nil {
					t.Error(err)
					return
				}
			}
			_ = s.Close()
		}()
		for i := range chunks {
			got, err := s.Recv(t.Context())
			if err != nil || !bytes.Equal(got, pattern(i, size)) {
				t.Fatalf("chunk %d: %d bytes, %v", i, len(got), err)
			}
			for _, table := range []*session.Table{c.server, c.engine} {
				if q := table.Channel().Stats().QueuedBytes; q > mark+size+100 {
					t.Fatalf("%d bytes are queued, want at most %d", q, mark+size+100)
				}
			}
		}
		wait(c.over)
	})
}

// How each side learns of the other's end.
func TestForwardEnds(t *testing.T) {
	refuse := func(s *session.Session) { _ = s.SendError(42, 200, "no such event") }
	silent := func(s *session.Session) { s.SetHandler(newReceiver()) }
	for _, tt := range []struct {
		name   string
		worker func(*session.Session)
		do     func(c *chain, s *session.Session)
		want   string // what the client is told
		v0     string // the same behind a worker of v0, if that differs
	}{
		{name: "the worker refuses", worker: refuse, want: "remote [42, 200] no such event"},
		{name: "the client fails", worker: echoes["loop"], do: func(_ *chain, s *session.Session) { _ = s.Fail(42, 17, "client gives up") },
			want: "remote [43, 17] so be it", v0: "remote [42, 17] so be it"},
		{name: "the worker is lost", worker: silent, do: func(c *chain, _ *session.Session) { closeNow(c.worker) },
			want: "remote [5, 2] slave has been discarded"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			forEachChain(t, tt.worker, nil, func(t *testing.T, c *chain, wait func(func() bool)) {
				s := c.open(t)
				wait(func() bool { return c.worker.Stats().Opened == 1 })
				if tt.do != nil {
					tt.do(c, s)
				}
				want := tt.want
				if tt.v0 != "" && c.worker.Channel().Dialect() == codec.V0 {
					want = tt.v0
				}
				_, err := s.Recv(t.Context())
				var e *session.Error
				if !errors.As(err, &e) || fmt.Sprintf("remote [%d, %d] %s", e.Category, e.Code, e.Message) != want || !e.Remote {
					t.Errorf("Recv() = %v, want %s", err, want)
				}
				_ = s.Close() // or it has failed
				wait(c.over)
			})
		})
	}
}

// A client that goes fails its session at the worker, which is not left waiting.
func TestForwardClientLost(t *testing.T) {
	got := newReceiver()
	worker := func(s *session.Session) { s.SetHandler(got) }
	forEachChain(t, worker, nil, func(t *testing.T, c *chain, wait func(func() bool)) {
		*got = receiver{done: make(chan struct{})}
		_ = c.open(t)
		wait(func() bool { return c.worker.Stats().Opened == 1 })
		closeNow(c.client)
		<-got.done
		if _, ends := got.snapshot(); len(ends) != 1 || ends[0] != "remote 2" {
			t.Errorf("the worker was told %q, want one remote error with code 2", ends)
		}
	})
}

// A caller that never ends its direction is ended some time after it was answered.
func TestForwardLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := newReceiver()
		pair := func() (net.Conn, net.Conn) { a, b := channel.Pair(channel.Script{}); return a, b }
		c := newChain(t, codec.V1, pair, func(s *session.Session) {
			s.SetHandler(ended)
			_ = s.SendChoke()
		})
		s := c.open(t)
		if _, err := s.Recv(t.Context()); err != io.EOF {
			t.Fatalf("Recv() = %v, want io.EOF", err)
		}
		for range 3 { // not silent
			pass(20 * time.Second)
			if _, err := s.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if data, ends := ended.snapshot(); data != "xxx" || len(ends) != 0 {
			t.Errorf("the worker got %q, %q, want what was sent and no end", data, ends)
		}
		pass(65 * time.Second)
		if _, ends := ended.snapshot(); len(ends) != 1 || ends[0] != "choke" {
			t.Errorf("the worker was told %q, want the choke", ends)
		}
		_, _ = s.Write([]byte("late"))
		_ = s.Close()
		synctest.Wait()
		if !c.over() {
			t.Error("something is left of the session")
		}
		if err := c.server.Channel().Err(); err != nil {
			t.Errorf("the client's channel ended: %v", err)
		}
	})
}

// A worker that never ends a call which its caller has failed is not waited for for good.
func TestForwardLingerCallee(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := newReceiver()
		pair := func() (net.Conn, net.Conn) { a, b := channel.Pair(channel.Script{}); return a, b }
		c := newChain(t, codec.V1, pair, func(s *session.Session) { s.SetHandler(told) })
		s := c.open(t)
		if err := s.Fail(42, 17, "given up"); err != nil {
			t.Fatal(err)
		}
		pass(29 * time.Second)
		if c.ended.Load() != 0 {
			t.Error("the call has ended, want it to wait")
		}
		pass(2 * time.Second)
		if _, err := s.Recv(t.Context()); err != io.EOF {
			t.Errorf("Recv() = %v, want io.EOF", err)
		}
		if n := c.engine.Stats().Open; n != 0 || c.ended.Load() != 1 {
			t.Errorf("%d sessions are open at the worker, want none", n)
		}
	})
}

// What comes before a worker is found is kept, and passed on in order.
func TestForwardLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pair := func() (net.Conn, net.Conn) { a, b := channel.Pair(channel.Script{}); return a, b }
		c := newChain(t, codec.V1, pair, echoes["loop"])
		var held *session.Session
		a, b := channel.Pair(channel.Script{})
		client, _ := newTable(t, codec.V1, session.Client)
		server, _ := newTable(t, codec.V1, session.Server, serving(func(s *session.Session, _ []byte) {
			held = s
			s.Pause()
		}))
		if err := errors.Join(client.Channel().Attach(a), server.Channel().Attach(b)); err != nil {
			t.Fatal(err)
		}
		defer closeNow(client)
		defer closeNow(server)
		s, err := client.CallOffLoop(t.Context(), callOf(1), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.Write([]byte("one"))
		_, _ = s.Write([]byte("two"))
		_ = s.Close()
		synctest.Wait()
		onLoop(t, server, func() {
			if err := held.Forward(c.engine, "echo", nil, session.Splice{}); err != nil {
				t.Error(err)
			}
		})
		for _, want := range []string{"one", "two"} {
			if got, err := s.Recv(t.Context()); string(got) != want || err != nil {
				t.Errorf("Recv() = %q, %v, want %q", got, err, want)
			}
		}
		if _, err := s.Recv(t.Context()); err != io.EOF {
			t.Errorf("Recv() = %v, want io.EOF", err)
		}
	})
}

// A worker's channel that is over takes nothing; the session is as it was.
func TestForwardRefused(t *testing.T) {
	forEachChain(t, echoes["loop"], nil, func(t *testing.T, c *chain, wait func(func() bool)) {
		closeNow(c.engine)
		s := c.open(t)
		_, err := s.Recv(t.Context())
		var e *session.Error
		if !errors.As(err, &e) || e.Category != 1 || e.Code != 2 {
			t.Errorf("Recv() = %v, want the error [1, 2] of who could not forward", err)
		}
	})
}
