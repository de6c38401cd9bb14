package session_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// echoSizes reach the inline, the pooled and the own buffers below.
var echoSizes = []int{0, 1, 31, 32, 255, 65535, 65536, 70_000, 1 << 20}

func TestEchoToRecv(t *testing.T) {
	bothFaces(t, func(t *testing.T, d codec.Dialect, echo func(*session.Session)) {
		c := newCouple(t, d, channel.Script{})
		c.wo.invoke = echo
		s := c.open("echo")
		for i, n := range echoSizes {
			want := pattern(i, n)
			if _, err := s.Write(want); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Recv(t.Context()); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("Recv() = %d bytes, %v, want the %d sent", len(got), err, n)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := s.Recv(t.Context()); err != io.EOF {
				t.Fatalf("Recv() = %v, want EOF, and EOF again", err)
			}
		}
		c.wantEmpty()
		if st := c.worker.Stats(); st.Completed != 1 || st.Opened != 1 {
			t.Errorf("worker %+v, want one completed", st)
		}
	})
}

func TestEchoToHandler(t *testing.T) {
	bothFaces(t, func(t *testing.T, d codec.Dialect, echo func(*session.Session)) {
		c := newCouple(t, d, channel.Script{})
		c.wo.invoke = echo
		h := newReceiver()
		var want []byte
		onLoop(t, c.engine, func() {
			s, err := c.engine.Open("echo", nil, h)
			if err != nil {
				t.Errorf("Open() = %v", err)
				return
			}
			for i, n := range echoSizes[:8] {
				want = append(want, pattern(i, n)...)
				if err := s.SendChunk(pattern(i, n)); err != nil {
					t.Errorf("SendChunk() = %v", err)
				}
			}
			if err := s.SendChoke(); err != nil {
				t.Errorf("SendChoke() = %v", err)
			}
		})
		<-h.done
		if got, ends := h.snapshot(); got != string(want) || h.chunks != 8 || !slices.Equal(ends, []string{"choke"}) {
			t.Errorf("%d bytes in %d chunks, then %q, want %d in 8, then one choke", len(got), h.chunks, ends, len(want))
		}
		c.wantEmpty()
	})
}

func TestChunks(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRig(t, d, session.Worker)
		var list []*session.Session
		r.owner.invoke = func(s *session.Session) { list = append(list, s) }
		r.send("invoke 2 e", "chunk 2 a", "chunk 2 ", "chunk 2 b", "choke 2")
		var got []string
		for p, err := range list[0].Chunks(t.Context()) {
			if err != nil {
				t.Fatalf("Chunks() gave %v before the choke", err)
			}
			got = append(got, string(p))
		}
		if !slices.Equal(got, []string{"a", "", "b"}) {
			t.Errorf("Chunks() = %q", got)
		}
		r.send("invoke 3 e", "chunk 3 a", "error 3 1 7 no")
		got = nil
		for p, err := range list[1].Chunks(t.Context()) {
			if err != nil {
				got = append(got, err.Error())
				continue
			}
			got = append(got, string(p))
		}
		want := list[1].Err().Error()
		if !slices.Equal(got, []string{"a", want}) || !strings.Contains(want, "7]: no") {
			t.Errorf("Chunks() = %q, want a chunk, then the error once", got)
		}
		// Whoever leaves the range goes on where it was.
		r.send("invoke 4 e", "chunk 4 a", "chunk 4 b")
		for range list[2].Chunks(t.Context()) {
			break
		}
		if p, err := list[2].Recv(t.Context()); string(p) != "b" || err != nil {
			t.Errorf("Recv() after a break = %q, %v, want b", p, err)
		}
	})
}

// TestLent: a chunk stays whole until the next Recv, whatever comes meanwhile.
func TestLent(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRig(t, d, session.Worker)
		var s *session.Session
		r.owner.invoke = func(got *session.Session) { s = got }
		r.send("invoke 2 e")
		for i := range 50 {
			want := string(pattern(i, 1+i*37%500))
			r.send("chunk 2 "+want, "chunk 2 second")
			first, err := s.Recv(t.Context())
			for range 20 {
				r.send("chunk 2 noise noise noise noise noise noise noise noise noise")
			}
			if err != nil || string(first) != want {
				t.Fatalf("Recv() = %q, %v, want it whole while others come", first, err)
			}
			if p, err := s.Recv(t.Context()); string(p) != "second" || err != nil {
				t.Fatalf("Recv() = %q, %v, want the second", p, err)
			}
			for range 20 {
				_, _ = s.Recv(t.Context())
			}
			_ = append(first, "must not reach the next chunk"...)
		}
	})
}

// TestRecvContext: a chunk that is there beats a context that is done, and no chunk is lost
// to one that ends meanwhile.
func TestRecvContext(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRig(t, d, session.Worker)
		var s *session.Session
		r.owner.invoke = func(got *session.Session) { s = got }
		why := errors.New("why")
		done, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		r.send("invoke 2 e", "chunk 2 a")
		if p, err := s.Recv(done); string(p) != "a" || err != nil {
			t.Errorf("Recv(done) = %q, %v, want the chunk that is there", p, err)
		}
		if _, err := s.Recv(done); err != why {
			t.Errorf("Recv(done) = %v, want the cause", err)
		}
		// A wait ends with the cause, at once.
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { pass(time.Second); cancel(why) }()
		start := time.Now()
		if _, err := s.Recv(ctx); err != why || time.Since(start) != time.Second {
			t.Errorf("Recv() = %v after %v, want the cause after 1 s", err, time.Since(start))
		}
		short, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if _, err := s.Recv(short); err != context.DeadlineExceeded {
			t.Errorf("Recv() = %v, want the deadline", err)
		}
		// Both at the same moment: whichever the reader gets, nothing is lost.
		for n := range uint64(200) {
			ctx, cancel := context.WithCancelCause(t.Context())
			reader := s
			r.owner.invoke = func(*session.Session) { cancel(why) } // in the turn of the chunk
			got := make(chan error)
			go func() {
				p, err := reader.Recv(ctx)
				if err == nil && string(p) != "b" {
					err = errors.New("another chunk")
				}
				got <- err
			}()
			synctest.Wait()
			_, _ = r.conn.Write(append(r.frame(str("invoke %d e", 3+n)), r.frame("chunk 2 b")...))
			if err := <-got; err == nil {
				continue
			} else if err != why {
				t.Fatalf("Recv() = %v", err)
			}
			synctest.Wait()
			if p, err := s.Recv(ctx); string(p) != "b" || err != nil {
				t.Fatalf("the chunk was lost: Recv() = %q, %v", p, err)
			}
		}
		// The end beats ctx as well.
		r.send("choke 2")
		if _, err := s.Recv(done); err != io.EOF {
			t.Errorf("Recv(done) = %v, want EOF", err)
		}
	})
}

func TestReader(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRig(t, d, session.Worker)
		var s *session.Session
		r.owner.invoke = func(got *session.Session) { s = got }
		r.send("invoke 2 e", "chunk 2 some ", "chunk 2 ", "chunk 2 words", "chunk 2 ", "choke 2")
		if err := iotest.TestReader(s.Reader(t.Context()), []byte("some words")); err != nil {
			t.Error(err)
		}
		r.send("invoke 3 e", "chunk 3 abc", "error 3 1 7 no")
		got, err := io.ReadAll(iotest.OneByteReader(s.Reader(t.Context())))
		var e *session.Error
		if string(got) != "abc" || !errors.As(err, &e) || e.Code != 7 {
			t.Errorf("ReadAll() = %q, %v, want abc and the error", got, err)
		}
		r.send("invoke 4 e", "chunk 4 x", "choke 4")
		reader := s.Reader(t.Context())
		if n, err := reader.Read(nil); n != 0 || err != nil {
			t.Errorf("Read(nil) = %d, %v, want nothing", n, err)
		}
		if _, err := io.Copy(s, reader); err != nil {
			t.Errorf("Copy() = %v", err)
		}
		r.want("chunk 4 x", "a copy from Reader to Write")
	})
}

// TestBind: the context of a session ends with the error that ended the session, and only
// with that.
func TestBind(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		var s *session.Session
		start := func() (*rig, context.Context, context.CancelFunc) {
			r := newRig(t, d, session.Worker)
			r.owner.invoke = func(got *session.Session) { s = got }
			r.send("invoke 2 e")
			if s.Context() != context.Background() {
				t.Error("Context() before Bind is not the background")
			}
			ctx, cancel := s.Bind(t.Context())
			if s.Context() != ctx {
				t.Error("Context() is not what Bind returned")
			}
			return r, ctx, cancel
		}
		wantCause := func(what string, ctx context.Context, code int64, remote bool) {
			t.Helper()
			synctest.Wait()
			e, ok := context.Cause(ctx).(*session.Error)
			if !ok || e != s.Err() || e.Code != code || e.Remote != remote {
				t.Errorf("%s: Cause() = %v, want %d and Err()", what, context.Cause(ctx), code)
			}
		}
		r, ctx, _ := start()
		r.send("error 2 1 7 no")
		wantCause("the peer's error", ctx, 7, true)
		again, _ := s.Bind(t.Context())
		wantCause("a Bind that came late", again, 7, true)

		r, ctx, _ = start()
		r.send(r.typed(2, 99))
		wantCause("a failure here", ctx, session.CodeUnknownType, false)

		r, ctx, _ = start()
		_ = r.conn.Close()
		wantCause("a lost channel", ctx, 0, false)
		if err := context.Cause(ctx); !errors.As(err, new(*channel.CloseError)) {
			t.Errorf("Cause() = %v, want the CloseError in it", err)
		}

		r, ctx, cancel := start()
		r.send("choke 2")
		_ = s.Close()
		synctest.Wait()
		if err := ctx.Err(); err != nil || s.Err() != nil {
			t.Errorf("after a good end: ctx %v, Err() %v, want neither", err, s.Err())
		}
		cancel()
		if ctx.Err() == nil || s.Err() != nil {
			t.Errorf("after cancel: ctx %v, Err() %v", ctx.Err(), s.Err())
		}
	})
}

// TestWriteWaits: a Write that waits for room ends with the session.
func TestWriteWaits(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRigOver(t, "a>b capacity=1024", d, session.Worker, func(c *session.Config) { c.Channel.HighWaterBytes = 4 << 10 })
		var s *session.Session
		r.owner.invoke = func(got *session.Session) { s = got }
		r.send("invoke 2 e")
		_, cancel := s.Bind(t.Context())
		defer cancel()
		failed := make(chan error)
		go func() {
			for {
				if _, err := s.Write(make([]byte, 1000)); err != nil {
					failed <- err
					return
				}
			}
		}()
		synctest.Wait()
		r.send("error 2 1 7 no")
		if err := <-failed; err != error(s.Err()) || s.Err() == nil {
			t.Errorf("Write() = %v, want the peer's error", err)
		}
		// The direction is still ours to end, once there is room.
		r.dropOutput()
		if err := s.Fail(1, 1, "cancelled"); err != nil {
			t.Errorf("Fail() = %v", err)
		}
		synctest.Wait()
		if n := r.Stats().Open; n != 0 {
			t.Errorf("Stats().Open = %d, want 0", n)
		}
	})
}

func TestAccessors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCouple(t, codec.V1, channel.Script{})
		var got *session.Session
		c.wo.invoke = func(s *session.Session) { got = s; go echoGo(s) }
		headers := []codec.Header{{Name: []byte("name"), Value: []byte("value")}}
		s, err := c.engine.OpenOffLoop(t.Context(), "event", headers, nil)
		if err != nil {
			t.Fatal(err)
		}
		copy(headers[0].Name, "xxxx")
		for range 10 { // the borrowed headers are gone by now
			_, _ = s.Write(bytes.Repeat([]byte("y"), 100))
			_, _ = s.Recv(t.Context())
		}
		if got.Event() != "event" || got.ID() != s.ID() || got.Dialect() != codec.V1 || s.Event() != "event" {
			t.Errorf("session %d %q %v, opened as %d %q", got.ID(), got.Event(), got.Dialect(), s.ID(), s.Event())
		}
		if h := got.Headers(); len(h) != 1 || string(h[0].Name) != "name" || string(h[0].Value) != "value" || s.Headers() != nil {
			t.Errorf("Headers() = %q at the worker, %q at the engine", h, s.Headers())
		}
	})
}

func TestErrorText(t *testing.T) {
	cause := errors.New("cause")
	for _, c := range []struct {
		err  *session.Error
		want string
	}{
		{&session.Error{}, "session: local error"},
		{&session.Error{Remote: true, Category: 42, Code: 7, Message: "no"}, "session: remote error [42, 7]: no"},
		{&session.Error{Message: "cut", Err: cause}, "session: local error: cut: cause (unknown)"},
		{&session.Error{Err: cause, Delivery: session.NotSent}, "session: local error: cause (not sent)"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("Error() = %q, want %q", got, c.want)
		}
		if c.err.Err != nil && !errors.Is(c.err, cause) {
			t.Errorf("%v does not unwrap to its cause", c.err)
		}
	}
}
