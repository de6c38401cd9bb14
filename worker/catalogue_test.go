package worker_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/internal/invariants"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

// TestCatalogue has the rows of the catalogue of faults that a worker shows, by their
// ids, in both dialects.
func TestCatalogue(t *testing.T) {
	for _, row := range []struct {
		id, fault string
		f         func(t *testing.T, d codec.Dialect)
	}{
		{"B9", "handshake from the engine", catalogueB9},
		{"B10", "no uuid, or one that cannot be sent", catalogueB10},
		{"B12", "terminate with sessions in flight", catalogueB12},
		{"B13", "both choke and terminate at the same time", catalogueB13},
		{"B14", "1,025 sessions", catalogueB14},
		{"B15", "invoke and cancel as fast as possible", catalogueB15},
		{"B16", "make us fail each session", catalogueB16},
		{"B17", "chunks without payload", catalogueB17},
		{"B18", "a flood of heartbeats", catalogueB18},
		{"B19", "answers that nobody asked for", catalogueB19},
		{"B20", "a handler that never reads", catalogueB20},
		{"A22", "an event that is no UTF-8", catalogueA22},
		{"A23", "an event of 1 MiB", catalogueA23},
		{"B24", "an event without a handler", catalogueB24},
		{"B25", "many refused sessions", catalogueB25},
		{"B26", "bad headers", catalogueB26},
		{"B27", "odd trace headers", catalogueB27},
		{"B30", "an engine of the other dialect", catalogueB30},
		{"C8", "a handler that keeps a borrowed chunk", catalogueC8},
		{"D8", "the process stands still, and the engine gives up meanwhile", catalogueD8},
		{"E1", "heartbeat at 29.9 s and 30.1 s", catalogueE1},
		{"E3", "the process stands still for longer than disown", catalogueE3},
		{"E4", "a handler blocks the loop", catalogueE4},
		{"E6", "panics", catalogueE6},
		{"E7", "runtime.Goexit in a handler", catalogueE7},
		{"E8", "a start that takes longer than disown", catalogueE8},
		{"E9", "a message that takes longer than disown", catalogueE9},
		{"E10", "stop at every moment", catalogueE10},
		{"E11", "stop with 1,000 sessions in flight", catalogueE11},
		{"E12", "durations of every size", catalogueE12},
		{"E14", "stop twice", catalogueE14},
	} {
		t.Run(row.id, func(t *testing.T) { both(t, row.f) })
	}
}

// wantLost wants Run to have ended with the channel, for the given reason.
func (l *link) wantLost(code channel.Code) {
	l.t.Helper()
	synctest.Wait()
	select {
	case <-l.ended:
	default:
		l.t.Fatalf("Run() has not returned, want a loss by %v", code)
	}
	var ce *channel.CloseError
	if !errors.As(l.err, &ce) || ce.Code != code {
		l.t.Fatalf("Run() = %v, want a loss by %v", l.err, code)
	}
}

// alive wants session n to be served on the loop.
func (l *link) alive(n int) {
	l.t.Helper()
	l.play(fmt.Sprintf("> invoke %d ping\n < chunk %[1]d pong\n < choke %[1]d\n > choke %[1]d", n))
}

func catalogueB9(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{}, nil)
	l.play("> handshake\n < nothing")
	if d == codec.V0 {
		l.wantLost(channel.CodeBadHandshake)
		return
	}
	l.alive(1) // in v1 it reads as a heartbeat
	if got := l.w.Stats().Sessions.Heartbeats; got != 2 {
		t.Errorf("Stats().Sessions.Heartbeats = %d, want 2", got)
	}
}

func catalogueB10(t *testing.T, d codec.Dialect) {
	if _, err := worker.New(worker.Config{Endpoint: "/e", Dialect: d}); err == nil {
		t.Error("New without a uuid = nil, want an error")
	}
	cfg := worker.Config{UUID: string(make([]byte, 17<<20))}
	l := connect(t, d, options{cfg: cfg, raw: true}, nil)
	l.wantLost(channel.CodeBadHandshake)
}

func catalogueB12(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{}, nil)
	l.play(`
		> invoke 1 echo
		> invoke 2 loop
		> invoke 3 loop
		> terminate 1 bye
		> choke 2
		< choke 2
	`)
	time.Sleep(grace(d))
	got := l.rest()
	for n := range 2 {
		l.wantAmong(got, fmt.Sprintf(`fail %d 205 "the worker is terminating"`, 2*n+1))
	}
	l.wantAmong(got, "terminate 1 bye")
	time.Sleep(time.Second)
	l.wantResult(nil)
}

// rest returns all frames that the worker has sent and nobody took.
func (l *link) rest() [][]byte {
	var list [][]byte
	for f := l.take(); f != nil; f = l.take() {
		list = append(list, f)
	}
	return list
}

func (l *link) wantAmong(frames [][]byte, step string) {
	l.t.Helper()
	for _, want := range l.parse(step) {
		n := 0
		for _, f := range frames {
			if bytes.Equal(f, want) {
				n++
			}
		}
		if n != 1 {
			l.t.Errorf("the worker sent %q %d times, want once", step, n)
		}
	}
}

func catalogueB13(t *testing.T, d codec.Dialect) {
	late := channel.Path{Latency: 10 * time.Millisecond}
	l := connect(t, d, options{script: channel.Script{AtoB: late, BtoA: late}, raw: true}, func(w *worker.Worker) {
		w.Handle("soon", func(context.Context, *worker.Session) error { time.Sleep(time.Second); return nil })
	})
	l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(1), Text: "soon"})
	time.Sleep(1010 * time.Millisecond) // both chokes cross, then both terminates
	l.send(codec.Frame{Kind: codec.KindChoke, Session: l.id(1)}, codec.Frame{Kind: codec.KindTerminate, Code: 1, Text: "theirs"})
	l.w.Terminate(false, "ours")
	l.steps("< handshake\n sleep 20ms\n < choke 1\n < terminate 1 ours\n < nothing")
	_ = l.conn.Close()
	time.Sleep(time.Second)
	l.wantResult(nil)
	l.wantEmpty()
}

func catalogueB14(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{}, nil)
	for n := range 1024 {
		l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(n + 1), Text: "loop"})
	}
	l.play(`
		> invoke 1025 loop
		< fail 1025 202 "too many sessions are open"
		> chunk 1024 x
		< chunk 1024 x
		> choke 1
		< choke 1
		> invoke 1026 loop
		> chunk 1026 y
		< chunk 1026 y
	`)
}

func catalogueB15(t *testing.T, d codec.Dialect) {
	var running, most atomic.Int32
	l := connect(t, d, options{cfg: worker.Config{Concurrency: 4}}, func(w *worker.Worker) {
		w.Handle("hang", func(ctx context.Context, s *worker.Session) error {
			for n := running.Add(1); n > most.Load(); {
				most.Store(n)
			}
			defer running.Add(-1)
			<-ctx.Done()
			return ctx.Err()
		})
	})
	pairs := 0
	for l.w.State() == worker.Connected && pairs < 3000 {
		pairs++
		invoke := encode(d, codec.Frame{Kind: codec.KindInvoke, Session: l.id(pairs), Text: "hang"})
		cancel := encode(d, codec.Frame{Kind: codec.KindError, Session: l.id(pairs), Category: 42, Code: 1, Text: "no"})
		_, _ = l.conn.Write(append(invoke, cancel...))
		synctest.Wait()
	}
	l.wantLost(channel.CodeFlood)
	if pairs < 1000 || pairs > 1100 {
		t.Errorf("the channel was lost after %d pairs, want 1,000 or a few more", pairs)
	}
	if got := most.Load(); got > 4 {
		t.Errorf("%d handlers ran at once, want at most 4", got)
	}
	l.wantEmpty()
}

func catalogueB16(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{}, nil)
	n := 0
	for l.w.State() == worker.Connected && n < 3000 {
		n++
		_, _ = l.conn.Write(encode(d, codec.Frame{Kind: codec.KindInvoke, Session: l.id(n), Text: "loop"}))
		_, _ = l.conn.Write(encode(d, codec.Frame{Kind: codec.KindCall, Session: l.id(n), Type: 77})) // no such message
		synctest.Wait()
	}
	l.wantLost(channel.CodeFlood)
	if n < 1000 || n > 1100 {
		t.Errorf("the channel was lost after %d sessions, want 1,000 or a few more", n)
	}
	l.wantAmong(l.rest(), "fail 500 204 a message of this type may not come now")
}

func catalogueB17(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{}, nil)
	l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(1), Text: "echo"})
	n := 0
	for l.w.State() == worker.Connected && n < 3000 {
		n++
		_, _ = l.conn.Write(encode(d, codec.Frame{Kind: codec.KindChunk, Session: l.id(1)}))
		synctest.Wait()
	}
	l.wantLost(channel.CodeFlood)
	if n < 1000 || n > 1010 {
		t.Errorf("the channel was lost after %d chunks without payload, want 1,000", n)
	}
}

func catalogueB18(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{mute: true}, nil)
	l.steps("< heartbeat")
	n := 0
	for l.w.State() == worker.Connected && n < 3000 {
		n++
		_, _ = l.conn.Write(encode(d, codec.Frame{Kind: codec.KindHeartbeat}))
		synctest.Wait()
	}
	l.wantLost(channel.CodeFlood)
	if n > 110 {
		t.Errorf("the channel was lost after %d heartbeats in a second, want about 100", n)
	}
	if f := l.take(); f != nil {
		t.Errorf("the worker answered a heartbeat with %s", show(f))
	}
}

func catalogueB19(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{mute: true}, nil)
	l.steps("< heartbeat")
	for range 40 {
		l.steps("> heartbeat\n sleep 100ms\n < nothing")
	}
	odd := codec.Frame{Kind: codec.KindCall, Session: 0, Type: 9}
	if d == codec.V1 {
		odd.Session = codec.V1ControlSession
	}
	l.send(odd)
	l.alive(1)
	if got := l.w.Stats().Sessions.Unknown; got != 1 {
		t.Errorf("Stats().Sessions.Unknown = %d, want 1", got)
	}
}

func catalogueB20(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{}, func(w *worker.Worker) {
		w.Handle("deaf", func(ctx context.Context, s *worker.Session) error { <-ctx.Done(); return nil })
	})
	l.steps("> invoke 1 deaf")
	for range 30 {
		l.send(codec.Frame{Kind: codec.KindChunk, Session: l.id(1), Payload: make([]byte, 16<<10)})
	}
	l.steps(`
		sleep 6s
		< fail 1 203 "the handler does not read what was sent to it"
	`)
	l.alive(2)
	l.wantEmpty()
}

func catalogueA22(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{}, nil)
	l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(1), Text: "\xff\xfe"})
	l.play(`< fail 1 200 "there is no handler for the event \"\\xff\\xfe\""`)
	l.alive(2)
}

func catalogueA23(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{}, nil)
	l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(1), Text: strings.Repeat("e", 1<<20)})
	l.play(`< fail 1 201 "the event's name is too long"`)
	l.alive(2)
}

func catalogueB24(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{}, nil)
	l.play(`
		> invoke 1 unknown
		< fail 1 200 "there is no handler for the event \"unknown\""
	`)
	l.alive(2)
}

func catalogueB25(t *testing.T, d codec.Dialect) {
	const n = 10_000
	l := connect(t, d, options{}, nil)
	before := heap()
	for i := range n {
		l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(i + 1), Text: "unknown"}, codec.Frame{Kind: codec.KindChoke, Session: l.id(i + 1)})
		if i%100 == 99 {
			if got := len(l.rest()); got < 100 {
				t.Fatalf("%d frames for 100 sessions", got)
			}
		}
	}
	l.wantEmpty()
	if grown := heap() - before; grown > 1<<20 {
		t.Errorf("the heap has grown by %d bytes after %d refused sessions", grown, n)
	}
	if s := l.w.Stats(); s.NoHandler != n || s.Sessions.Late != n {
		t.Errorf("Stats() = %d without a handler, %d late frames, want %d each", s.NoHandler, s.Sessions.Late, n)
	}
}

// heap is what is live after a collection.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func catalogueB26(t *testing.T, d codec.Dialect) {
	if d == codec.V0 {
		return // it has no headers
	}
	for _, headers := range []string{"\x91\x00", "\x91\xcd\xff\xff", "\x91\x93\xc2\xa1a", "\x91\xa1a"} {
		l := connect(t, d, options{}, nil)
		l.write([]byte("\x94\x02\x00\x91\xa4echo" + headers + "\xc2\xc2"))
		synctest.Wait()
		if err := l.result(); err == nil {
			t.Errorf("headers %q: Run() = nil, want a loss", headers)
		}
	}
	l := connect(t, d, options{}, nil)
	l.send(codec.Frame{Kind: codec.KindInvoke, Session: 2, Text: "echo", Headers: []codec.Header{{Name: []byte("x"), Value: make([]byte, 9<<10)}}})
	l.wantLost(channel.CodeBadHeader)
}

func catalogueB27(t *testing.T, d codec.Dialect) {
	if d == codec.V0 {
		return // it has no headers
	}
	seen := make(chan []codec.Header, 1)
	l := connect(t, d, options{}, func(w *worker.Worker) {
		w.Handle("headers", func(_ context.Context, s *worker.Session) error {
			seen <- s.Headers()
			return nil
		})
	})
	id := binary.LittleEndian.AppendUint64(nil, 7)
	for i, h := range [][]codec.Header{
		{{Name: []byte("trace_id"), Value: id}},
		{{Name: []byte("trace_id"), Value: id}, {Name: []byte("span_id"), Value: []byte("short")}, {Name: []byte("parent_id"), Value: id}},
		{{Name: []byte("trace_id"), Value: id}, {Name: []byte("span_id"), Value: make([]byte, 8)}, {Name: []byte("parent_id"), Value: id}},
		{{Name: []byte("trace_id")}, {Name: []byte("trace_id")}, {Name: []byte("")}},
	} {
		n := i + 1
		l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(n), Text: "headers", Headers: h})
		l.play(fmt.Sprintf("< choke %d", n))
		got := <-seen
		if len(got) != len(h) {
			t.Errorf("the handler saw %d headers, want %d", len(got), len(h))
		}
		if trace, ok := codec.TraceOf(got); ok {
			t.Errorf("headers %q are taken for the trace %v", h, trace)
		}
	}
}

func catalogueB30(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{}, nil)
	l.write([]byte("\x93\x01\x00\x90")) // in both a heartbeat
	other := codec.V0
	if d == codec.V0 {
		other = codec.V1
	}
	l.write(encode(other, codec.Frame{Kind: codec.KindInvoke, Session: 3, Text: "echo"}))
	if d == codec.V0 {
		l.wantLost(channel.CodeBadFrame) // it has four elements
		return
	}
	l.alive(5) // a frame of a session that never was: dropped
	if got := l.w.Stats(); got.Invoked != 1 || got.Sessions.Unknown != 1 {
		t.Errorf("Stats() = %d invoked, %d unknown, want 1 each", got.Invoked, got.Sessions.Unknown)
	}
}

func catalogueC8(t *testing.T, d codec.Dialect) {
	var kept, chunk []byte
	l := connect(t, d, options{}, func(w *worker.Worker) {
		w.HandleFunc("keep", func(*worker.Session) session.Handler {
			return onLoop{chunk: func(s *worker.Session, p []byte) {
				kept, chunk = p, bytes.Clone(p)
				_ = s.SendChunk(p)
			}}
		})
	})
	l.play("> invoke 1 keep\n > chunk 1 secret\n < chunk 1 secret")
	if string(chunk) != "secret" {
		t.Errorf("the handler was given %q", chunk)
	}
	if invariants.Enabled && string(kept) == "secret" {
		t.Error("a borrowed chunk is readable after the callback")
	}
}

// stopped is a link whose loop stands still from its first heartbeat on, until release
// is closed: like a process that was stopped.
func stopped(t *testing.T, d codec.Dialect) (l *link, release chan struct{}) {
	release = make(chan struct{})
	cfg := worker.Config{Observer: worker.Observer{OnConnect: func() { <-release }}}
	return connect(t, d, options{raw: true, mute: true, cfg: cfg}, nil), release
}

func catalogueD8(t *testing.T, d codec.Dialect) {
	l, release := stopped(t, d)
	l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(1), Text: "echo"})
	time.Sleep(40 * time.Second)
	_ = l.conn.Close() // the engine gave up after 30 s
	close(release)
	synctest.Wait()
	if err := l.result(); err == nil {
		t.Error("Run() = nil, want the loss")
	}
	l.wantEmpty()
	if f := l.take(); f != nil {
		t.Errorf("the worker sent %s after it was given up", show(f))
	}
}

func catalogueE1(t *testing.T, d codec.Dialect) {
	var o watched
	l := connect(t, d, options{mute: true, cfg: worker.Config{Observer: o.observer()}}, nil)
	time.Sleep(29900 * time.Millisecond)
	l.send(codec.Frame{Kind: codec.KindHeartbeat})
	time.Sleep(30 * time.Second) // the next beat was at 30 s: 29.9 s ago
	l.wantRunning()
	time.Sleep(200 * time.Millisecond) // 30.1 s ago
	l.wantResult(worker.ErrDisowned)
	_, _ = l.conn.Write(encode(d, codec.Frame{Kind: codec.KindHeartbeat}))
	o.want(t, "connect", "disown")
}

func catalogueE3(t *testing.T, d codec.Dialect) {
	for _, alive := range []bool{true, false} {
		l, release := stopped(t, d)
		time.Sleep(40 * time.Second)
		if alive {
			l.send(codec.Frame{Kind: codec.KindHeartbeat})
		}
		close(release)
		time.Sleep(time.Second)
		if !alive {
			l.wantResult(worker.ErrDisowned)
			continue
		}
		l.wantRunning()
		l.steps("< handshake\n < heartbeat\n < heartbeat") // that of 5 s was due at the release
		l.alive(1)
	}
}

func catalogueE4(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{}, func(w *worker.Worker) {
		w.HandleFunc("block", func(*worker.Session) session.Handler {
			return onLoop{chunk: func(*worker.Session, []byte) { time.Sleep(10 * time.Second) }}
		})
	})
	for n := range 2 {
		l.steps(fmt.Sprintf("> invoke %d block\n > chunk %[1]d x", n+1))
		time.Sleep(30 * time.Second)
	}
	synctest.Wait()
	if got := l.w.Stats().Blocked; got != 2 {
		t.Errorf("Stats().Blocked = %d, want 2", got)
	}
	l.wantLog("blocks the loop", "event=block")
	l.alive(3)
}

func catalogueE6(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{cfg: worker.Config{Observer: worker.Observer{OnError: func(error) { panic("observer") }}}}, func(w *worker.Worker) {
		w.Use(func(next worker.Handler) worker.Handler {
			return func(ctx context.Context, s *worker.Session) error {
				if s.Event() == "fail" {
					panic("in the middle")
				}
				return next(ctx, s)
			}
		})
	})
	l.steps(`
		> invoke 1 panic
		< fail 1 100 "the handler of \"panic\" panicked: told to panic"
		> invoke 2 fail
		< fail 2 100 "the handler of \"fail\" panicked: in the middle"
	`)
	l.alive(3)
	l.wantLog("handler panicked", "panic=\"told to panic\"", "event=panic", "kit_test.go")
	l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(4), Text: "echo"})
	_ = l.conn.Close()
	l.wantLost(channel.CodeEOF)
	l.wantEmpty() // the panic at the end skipped nothing
}

func catalogueE7(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{cfg: worker.Config{Concurrency: 1}}, func(w *worker.Worker) {
		w.Handle("exit", func(context.Context, *worker.Session) error { runtime.Goexit(); return nil })
	})
	for n := range 10 {
		l.play(fmt.Sprintf("> invoke %d exit\n < fail %[1]d 100 \"the handler of \\\"exit\\\" panicked: runtime.Goexit\"", n+1))
	}
	l.wantEmpty()
}

func catalogueE8(t *testing.T, d codec.Dialect) {
	a, b := channel.Pair(channel.Script{BtoA: channel.Path{Latency: time.Second}})
	w, err := worker.New(worker.Config{UUID: uuid, Conn: a, Dialect: d, Disown: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Hour) // the timer is set by the first heartbeat, not before
	e := newEngine(t, d, b)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(t.Context()) }()
	time.Sleep(time.Hour)
	if s := w.State(); s != worker.Connected {
		t.Errorf("State() = %v, want connected", s)
	}
	_ = b.Close()
	<-ended
	<-e.gone
}

func catalogueE9(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{mute: true}, nil)
	chunk := encode(d, codec.Frame{Kind: codec.KindChunk, Session: l.id(1), Payload: make([]byte, 400<<10)})
	l.steps("> invoke 1 loop\n < heartbeat")
	for len(chunk) > 0 {
		n := min(len(chunk), 70<<10)
		l.write(chunk[:n])
		chunk = chunk[n:]
		time.Sleep(8 * time.Second) // 48 s in all
	}
	l.wantRunning()
}

func catalogueE10(t *testing.T, d codec.Dialect) {
	for _, stop := range []func(l *link){
		func(l *link) { l.w.Close() },
		func(l *link) { l.w.Close(); l.w.Close() },
		func(l *link) { l.w.Terminate(false, "x"); l.w.Close() },
		func(l *link) { l.cancel(); l.w.Close() },
		func(l *link) { l.cancel(); l.w.Terminate(true, "x"); _ = l.conn.Close() },
	} {
		for _, before := range []func(l *link){
			func(*link) {}, // while it connects or shakes hands
			func(*link) { synctest.Wait() },
			func(l *link) {
				l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(1), Text: "echo"})
				synctest.Wait()
			},
			func(l *link) { l.send(codec.Frame{Kind: codec.KindTerminate}); synctest.Wait() },
		} {
			l := connect(t, d, options{raw: true}, nil)
			before(l)
			start := time.Now()
			stop(l)
			if err := l.result(); err != nil {
				t.Errorf("Run() = %v, want nil", err)
			}
			if took := time.Since(start); took > 0 {
				t.Errorf("the stop took %v", took)
			}
		}
	}
}

func catalogueE11(t *testing.T, d codec.Dialect) {
	const n = 1000
	l := connect(t, d, options{cfg: worker.Config{Grace: time.Second}}, func(w *worker.Worker) {
		w.Handle("work", func(ctx context.Context, s *worker.Session) error {
			if s.ID()%2 == 0 {
				<-ctx.Done()
				return ctx.Err()
			}
			time.Sleep(500 * time.Millisecond)
			_, err := s.Write([]byte("done"))
			return err
		})
	})
	for i := range n {
		l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(i + 1), Text: "work"})
	}
	synctest.Wait()
	l.cancel()
	time.Sleep(time.Second)
	got := l.rest()
	last := got[len(got)-1]
	if want := l.parse(`terminate 1 "the worker was asked to stop"`)[0]; !bytes.Equal(last, want) {
		t.Errorf("the last frame is %s, want %s", show(last), show(want))
	}
	seen := make(map[string]int)
	for _, f := range got {
		seen[string(f)]++
	}
	for i := range n {
		step := fmt.Sprintf("choke %d", i+1)
		if l.id(i+1)%2 == 0 {
			step = fmt.Sprintf(`fail %d 205 "the worker is terminating"`, i+1)
		}
		for _, f := range l.parse(step) {
			if seen[string(f)] != 1 {
				t.Fatalf("the worker sent %q %d times, want once", step, seen[string(f)])
			}
		}
	}
	time.Sleep(time.Second)
	l.wantResult(nil)
	l.wantEmpty()
}

func catalogueE12(t *testing.T, d codec.Dialect) {
	for _, v := range []time.Duration{math.MinInt64, -1, math.MaxInt64 - 1, math.MaxInt64} {
		cfg := worker.Config{ConnectTimeout: v, Heartbeat: v, Disown: v, Grace: v, Watchdog: v}
		l := connect(t, d, options{cfg: cfg}, nil)
		l.alive(1)
		time.Sleep(time.Hour)
		l.alive(2)
		l.play("> terminate 1 x\n < terminate 1 x\n sleep 1h")
		l.wantRunning()
		_ = l.conn.Close()
		l.wantResult(nil)
	}
}

func catalogueE14(t *testing.T, d codec.Dialect) {
	l := connect(t, d, options{}, nil)
	l.steps("> invoke 1 echo\n > invoke 2 loop")
	synctest.Wait()
	l.cancel() // the first signal
	time.Sleep(time.Second)
	l.wantRunning()
	l.w.Close() // the second
	l.wantResult(nil)
	l.wantEOF()
	l.wantEmpty()
}
