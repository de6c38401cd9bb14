package worker_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/internal/invariants"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

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
