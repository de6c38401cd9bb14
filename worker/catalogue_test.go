package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
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
