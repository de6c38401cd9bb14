package worker_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

// onLoop is a handler on the loop made of functions.
type onLoop struct {
	chunk    func(s *worker.Session, p []byte)
	choke    func(s *worker.Session)
	err      func(s *worker.Session, err *session.Error)
	writable func(s *worker.Session)
}

func (h onLoop) OnChunk(s *worker.Session, p []byte) {
	if h.chunk != nil {
		h.chunk(s, p)
	}
}

func (h onLoop) OnChoke(s *worker.Session) {
	if h.choke != nil {
		h.choke(s)
	}
}

func (h onLoop) OnError(s *worker.Session, err *session.Error) {
	if h.err != nil {
		h.err(s, err)
	}
}

func (h onLoop) OnWritable(s *worker.Session) {
	if h.writable != nil {
		h.writable(s)
	}
}

// A panic on the loop fails its session wherever it happens, and nothing else.
func TestPanicsOnLoop(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		l := connect(t, d, options{}, func(w *worker.Worker) {
			w.HandleFunc("begin", func(s *worker.Session) session.Handler {
				_ = s.SendChunk([]byte("first"))
				panic("a")
			})
			w.HandleFunc("chunk", func(*worker.Session) session.Handler {
				return onLoop{chunk: func(*worker.Session, []byte) { panic("b") }}
			})
			w.HandleFunc("choke", func(*worker.Session) session.Handler {
				return onLoop{choke: func(*worker.Session) { panic("c") }}
			})
			w.HandleFunc("error", func(*worker.Session) session.Handler {
				return onLoop{err: func(*worker.Session, *session.Error) { panic("d") }}
			})
			w.HandleFunc("ended", func(s *worker.Session) session.Handler { _ = s.SendChoke(); panic("e") })
		})
		l.play(`
			> invoke 1 begin
			< chunk 1 first
			< fail 1 100 "the handler of \"begin\" panicked: a"
			> chunk 1 more
			> choke 1

			> invoke 2 chunk
			> chunk 2 x
			< fail 2 100 "the handler of \"chunk\" panicked: b"
			> chunk 2 more
			> error 2 7 late

			> invoke 3 choke
			> choke 3
			< fail 3 100 "the handler of \"choke\" panicked: c"

			> invoke 4 error
			> error 4 7 gone
			< fail 4 100 "the handler of \"error\" panicked: d"

			> invoke 5 ended
			< choke 5

			> invoke 6 loop
			> chunk 6 alive
			< chunk 6 alive
			> choke 6
			< choke 6
		`)
		l.wantEmpty()
		if got := l.w.Stats().Panics; got != 5 {
			t.Errorf("Stats().Panics = %d, want 5", got)
		}
		l.wantLog("level=ERROR", "handler panicked", "panic=b", "event=chunk", "serve_loop_test.go")
		if strings.Contains(l.log.String(), "blocks the loop") {
			t.Error("the watchdog took a panic for a handler that blocks")
		}
	})
}

// A cut on the loop ends both directions whatever the handler does, and nothing is told
// to it afterwards.
func TestErrorOnLoop(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		var told []string
		l := connect(t, d, options{}, func(w *worker.Worker) {
			w.HandleFunc("quiet", func(*worker.Session) session.Handler {
				return onLoop{
					chunk: func(*worker.Session, []byte) { told = append(told, "chunk") },
					choke: func(*worker.Session) { told = append(told, "choke") },
					err: func(_ *worker.Session, err *session.Error) {
						told = append(told, fmt.Sprint("error ", err.Code, err.Remote))
					},
				}
			})
			w.HandleFunc("answers", func(*worker.Session) session.Handler {
				return onLoop{err: func(s *worker.Session, err *session.Error) { _ = s.SendError(42, err.Code+1, "mine") }}
			})
			w.HandleFunc("chokes", func(*worker.Session) session.Handler {
				return onLoop{err: func(s *worker.Session, err *session.Error) { _ = s.SendChoke() }}
			})
			w.HandleFunc("nothing", func(*worker.Session) session.Handler { return nil })
		})
		l.play(`
			> invoke 1 quiet
			> error 1 17 gone
			< fail 1 17 gone
			> chunk 1 more
			> choke 1
			> invoke 2 answers
			> error 2 17 gone
			< fail 2 18 mine
			> invoke 3 chokes
			> error 3 17 gone
			< choke 3
			> invoke 4 nothing
			> chunk 4 x
			> error 4 17 gone
			< fail 4 17 gone
		`)
		l.wantEmpty()
		if want := []string{"error 17 true"}; !slices.Equal(told, want) {
			t.Errorf("the handler was told %q, want %q", told, want)
		}
	})
}

// Output that is full on the loop: the handler is told when there is room, the last
// frame is always taken, and nothing follows it.
func TestWritableOnLoop(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		cfg := worker.Config{Sessions: session.Config{Channel: channel.Config{HighWaterBytes: 8 << 10, StallTimeout: time.Hour}}}
		var told atomic.Int32
		left := 100
		piece := make([]byte, 4<<10)
		pour := func(s *worker.Session) {
			for ; left > 0; left-- {
				if err := s.SendChunk(piece); err != nil {
					if err != channel.ErrFull {
						t.Errorf("SendChunk() = %v, want ErrFull", err)
					}
					return
				}
			}
			_ = s.SendChoke()
		}
		l := connect(t, d, options{cfg: cfg, mute: true}, func(w *worker.Worker) {
			w.HandleFunc("pour", func(s *worker.Session) session.Handler {
				pour(s)
				return onLoop{writable: pour}
			})
			w.HandleFunc("fill", func(s *worker.Session) session.Handler {
				for s.SendChunk(piece) == nil {
				}
				_ = s.SendError(42, 1, "full")
				return onLoop{writable: func(*worker.Session) { told.Add(1) }}
			})
		})
		l.play("< heartbeat")
		l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(1), Text: "pour"})
		for range 100 {
			l.want(codec.Frame{Kind: codec.KindChunk, Session: l.id(1), Payload: piece})
		}
		l.play("< choke 1\n > choke 1")
		l.hold()
		l.send(codec.Frame{Kind: codec.KindInvoke, Session: l.id(2), Text: "fill"})
		time.Sleep(time.Second)
		l.resume()
		n := 0
		for f := l.take(); f != nil; f = l.take() {
			n++
			if len(f) < 1000 && !slices.Contains([]string{string(l.parse("error 2 1 full")[0]), string(l.parse("choke 2")[0])}, string(f)) {
				t.Errorf("the worker sent %s", show(f))
			}
		}
		if n == 0 || told.Load() != 0 {
			t.Errorf("%d frames; after its last one the handler was told %d times that there is room", n, told.Load())
		}
		l.play("> choke 2")
		l.wantEmpty()
	})
}
