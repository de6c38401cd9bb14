package worker_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync"
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

// scaled is n, or a tenth of it where the race detector makes everything slow.
func scaled(n int) int {
	if invariants.Race {
		return n / 10
	}
	return n
}

// 20,000 sessions one after the other on one channel leave nothing behind; a few thousand
// do not in the other dialect either, nor on the other face.
func TestSequentialSessions(t *testing.T) {
	for _, event := range []string{"echo", "loop"} {
		for _, d := range []codec.Dialect{codec.V0, codec.V1} {
			n := scaled(2_000)
			if event == "echo" && d == codec.V1 {
				n = scaled(20_000)
			}
			t.Run(fmt.Sprint(event, d), func(t *testing.T) {
				w, p := serve(t, worker.Config{}, d, nil)
				round := func() {
					s := p.open(t, event)
					if _, err := s.Write([]byte("hello")); err != nil {
						t.Fatal(err)
					}
					if got, err := s.Recv(t.Context()); string(got) != "hello" || err != nil {
						t.Fatalf("Recv() = %q, %v", got, err)
					}
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					wantEOF(t, s)
				}
				for range n / 10 {
					round()
				}
				before := heap()
				for range n {
					round()
				}
				wantHeap(t, before, 512<<10) // a hundred bytes of each
				if s := w.Stats(); s.Sessions.Open != 0 || s.Running != 0 || s.Sessions.Failed+s.Sessions.Cancelled != 0 {
					t.Errorf("Stats() = %+v, want all sessions completed", s)
				}
			})
		}
	}
}

// 1,000 sessions at once on one channel: each gets its own bytes, in order. None ends before
// all are there.
func TestConcurrentSessions(t *testing.T) {
	for _, event := range []string{"echo", "loop"} {
		t.Run(event, func(t *testing.T) {
			w, p := serve(t, worker.Config{}, codec.V1, nil)
			var all, there sync.WaitGroup
			there.Add(1000)
			meet := sync.OnceFunc(func() {
				if n := w.Stats().Sessions.Open; n != 1000 {
					t.Errorf("%d sessions are open at once, want 1,000", n)
				}
			})
			for i := range 1000 {
				all.Go(func() {
					s := p.open(t, event)
					halfway := sync.OnceFunc(there.Done)
					defer halfway() // or the others would wait for ever
					for j := range 10 {
						if j == 5 {
							halfway()
							there.Wait()
							meet()
						}
						want := fmt.Sprintf("session %d chunk %d %s", i, j, bytes.Repeat([]byte{byte(i)}, j*97))
						if _, err := s.Write([]byte(want)); err != nil {
							t.Error(err)
							return
						}
						if got, err := s.Recv(t.Context()); string(got) != want || err != nil {
							t.Errorf("Recv() = %.40q, %v, want %.40q", got, err, want)
							return
						}
					}
					_ = s.Close()
					if _, err := s.Recv(t.Context()); err == nil {
						t.Error("more than the echo")
					}
				})
			}
			all.Wait()
			if s := w.Stats(); s.Invoked != 1000 || s.Sessions.Open != 0 || s.Sessions.Completed != 1000 {
				t.Errorf("Stats() = %+v, want 1,000 sessions completed", s)
			}
		})
	}
}

// Chunks of the largest size both ways: memory does not grow from one to the next.
func TestLargestChunks(t *testing.T) {
	big := make([]byte, 16<<20)
	for i := range len(big) / 8 {
		binary.LittleEndian.PutUint64(big[8*i:], uint64(i)*0x9e3779b97f4a7c15)
	}
	for _, event := range []string{"echo", "loop"} {
		t.Run(event, func(t *testing.T) {
			w, p := serve(t, worker.Config{}, codec.V1, nil)
			s := p.open(t, event)
			var before int64
			for i := range 2 + max(8, scaled(10)) {
				sent := make(chan error, 1)
				go func() { _, err := s.Write(big); sent <- err }()
				got, err := s.Recv(t.Context())
				if err != nil || !bytes.Equal(got, big) {
					t.Fatalf("Recv() = %d bytes, %v, want the same %d", len(got), err, len(big))
				}
				if err := <-sent; err != nil {
					t.Fatal(err)
				}
				if i == 1 {
					before = heap()
				}
			}
			// Buffers in hand at either look differ by a few; a chunk kept each time is eight.
			wantHeap(t, before, 4*int64(len(big)))
			_ = s.Close()
			wantEOF(t, s)
			if q := w.Stats().Channel.QueuedBytes; q != 0 {
				t.Errorf("%d bytes are queued, want 0", q)
			}
		})
	}
}

// The load of TestEngineReadsNothing: sessions of which every fourth pours and the
// others echo, with as many pieces each.
const (
	unreadMark   = 256 << 10
	unreadInbox  = 32 << 10
	unreadActive = 20
	unreadPieces = 60
	unreadPiece  = 16 << 10
)

// An engine that reads nothing: what the worker holds stays below the water mark and
// one frame, and each inbox within its bound. When it reads on, nothing is lost.
func TestEngineReadsNothing(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		cfg := worker.Config{Sessions: session.Config{InboxBytes: unreadInbox, Channel: channel.Config{HighWaterBytes: unreadMark}}}
		l := connect(t, d, options{cfg: cfg, mute: true}, func(w *worker.Worker) { w.HandleFunc("pour", pourOnLoop) })
		l.hold()
		time.Sleep(6 * time.Second) // the read that was under way ends with a heartbeat
		before := heap()
		go l.writeUnread(d) // which comes to a stop, too
		most := int64(0)
		for range 8 {
			time.Sleep(500 * time.Millisecond)
			synctest.Wait()
			most = max(most, l.w.Stats().Channel.QueuedBytes)
		}
		if most < unreadMark || most > unreadMark+unreadPiece+200 {
			t.Errorf("the output held up to %d bytes, want %d and at most one frame more", most, unreadMark)
		}
		if grown := heap() - before; grown > 4*unreadMark+unreadActive*(2*unreadInbox+2*unreadPiece) {
			t.Errorf("the heap has grown by %d bytes while the engine read nothing", grown)
		}
		l.resume()
		time.Sleep(time.Second)
		l.wantUnread(d)
		l.wantEmpty()
	})
}

// pourOnLoop sends all pieces as fast as there is room for them.
func pourOnLoop(s *worker.Session) session.Handler {
	left := unreadPieces
	pour := func(s *worker.Session) {
		for ; left > 0; left-- {
			if s.SendChunk(make([]byte, unreadPiece)) != nil {
				return
			}
		}
		_ = s.SendChoke()
	}
	pour(s)
	return onLoop{writable: pour}
}

// pours says whether session i, from 0 on, pours.
func pours(i int) bool { return i%4 == 3 }

// unreadChunk is piece j of session i.
func unreadChunk(i, j int) []byte { return bytes.Repeat([]byte{byte(i), byte(j)}, unreadPiece/2) }

// writeUnread opens all sessions and sends what they echo.
func (l *link) writeUnread(d codec.Dialect) {
	write := func(f codec.Frame) { _, _ = l.conn.Write(encode(d, f)) }
	for i := range unreadActive {
		event := "echo"
		if pours(i) {
			event = "pour"
		}
		write(codec.Frame{Kind: codec.KindInvoke, Session: l.id(i + 1), Text: event})
	}
	for j := range unreadPieces {
		for i := range unreadActive {
			if !pours(i) {
				write(codec.Frame{Kind: codec.KindChunk, Session: l.id(i + 1), Payload: unreadChunk(i, j)})
			}
		}
	}
	for i := range unreadActive {
		write(codec.Frame{Kind: codec.KindChoke, Session: l.id(i + 1)})
	}
}

// wantUnread wants all pieces of all sessions, in order, and the end of each.
func (l *link) wantUnread(d codec.Dialect) {
	l.t.Helper()
	var got [unreadActive]int
	var ends int
	for f := l.take(); f != nil; f = l.take() {
		var m codec.Message
		if _, err := codec.NewScanner(d, codec.Limits{}).Next(f, &m); err != nil {
			l.t.Fatal(err)
		}
		i := int(m.Session) - int(l.id(1))
		switch {
		case i < 0: // a heartbeat
		case m.Payload == nil:
			if ends++; m.NumArgs > 0 {
				l.t.Errorf("session %d ended with %s", i+1, show(f))
			}
		case !pours(i) && !bytes.Equal(m.Payload, unreadChunk(i, got[i])):
			l.t.Fatalf("session %d: chunk %d is not what was sent", i+1, got[i])
		default:
			got[i]++
		}
	}
	for i, n := range got {
		if n != unreadPieces {
			l.t.Errorf("session %d: %d chunks came, want %d", i+1, n, unreadPieces)
		}
	}
	if ends != unreadActive {
		l.t.Errorf("%d sessions ended, want %d", ends, unreadActive)
	}
}

// A handler that reads slowly is fed by a paused socket: all comes, in order, and the
// worker never holds much of it.
func TestSlowHandler(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		const pieces, size = 300, 16 << 10
		var read atomic.Int32
		l := connect(t, d, options{cfg: worker.Config{Sessions: session.Config{InboxBytes: 64 << 10}}}, func(w *worker.Worker) {
			w.Handle("slow", func(ctx context.Context, s *worker.Session) error {
				for chunk, err := range s.Chunks(ctx) {
					if err != nil {
						return err
					}
					if n := read.Add(1) - 1; len(chunk) != size || binary.LittleEndian.Uint32(chunk) != uint32(n) {
						return worker.Errorf(1, "chunk %d is %d", n, binary.LittleEndian.Uint32(chunk))
					}
					time.Sleep(200 * time.Millisecond)
				}
				return nil
			})
		})
		l.steps("> invoke 1 slow")
		var written atomic.Int32
		go func() {
			for j := range pieces {
				p := binary.LittleEndian.AppendUint32(make([]byte, 0, size), uint32(j))
				_, _ = l.conn.Write(encode(d, codec.Frame{Kind: codec.KindChunk, Session: l.id(1), Payload: p[:size]}))
				written.Add(1)
			}
			_, _ = l.conn.Write(encode(d, codec.Frame{Kind: codec.KindChoke, Session: l.id(1)}))
		}()
		most := int32(0)
		for read.Load() < pieces {
			time.Sleep(time.Second)
			synctest.Wait()
			most = max(most, written.Load()-read.Load())
		}
		time.Sleep(time.Second)
		l.play("< choke 1")
		// Twice the inbox, the read buffer of the loop, and what the link itself holds.
		if limit := int32((2*(64<<10)+size+320<<10+64<<10)/size + 2); most > limit {
			t.Errorf("up to %d chunks were under way, want at most %d", most, limit)
		}
		if got := l.w.Stats().Sessions; got.Parked < 10 || got.Failed != 0 {
			t.Errorf("Stats().Sessions = %+v, want many pauses and no failure", got)
		}
		l.wantRunning()
	})
}
