package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// The behaviour of a channel is one thing, whatever it stands on: each test of the
// files behaviour*_test.go runs over all media. This one is about open and close.

// calls records the callbacks of a side in order.
func calls(s *side) *tally[string] {
	l := new(tally[string])
	s.onOpen = func() { l.add("open") }
	s.onMessage = func(m *codec.Message, _ []codec.Header) { l.add(fmt.Sprintf("message %d", m.Session)) }
	s.onWritable = func() { l.add("writable") }
	s.onClose = func(err *CloseError) { l.add("close " + err.Code.String()) }
	return l
}

func TestCallbacksInOrder(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		for _, d := range []codec.Dialect{codec.V0, codec.V1} {
			a, b := newSide(t, m, Config{Dialect: d}), newSide(t, m, Config{Dialect: d})
			callsA, callsB := calls(a), calls(b)
			if a.State() != Idle || a.Err() != nil {
				t.Errorf("new: State() = %v, Err() = %v", a.State(), a.Err())
			}
			m.connect(t, a, b)
			if a.State() != Open || a.Dialect() != d {
				t.Errorf("open: State() = %v, Dialect() = %v, want %v", a.State(), a.Dialect(), d)
			}
			a.do(func() {
				for id := range uint64(3) {
					if err := a.Send(chunk(id, 0, 100)); err != nil {
						t.Errorf("Send() = %v", err)
					}
				}
				if n := b.messages.Load(); n != 0 {
					t.Errorf("%d messages came inside the turn that sent them", n)
				}
			})
			eventually(t, "three messages", func() bool { return b.messages.Load() == 3 })
			if err := a.Close(context.Background()); err != nil {
				t.Errorf("Close() = %v", err)
			}
			b.wantOver(CodeEOF)
			a.wantOver(CodeClosed)
			if a.State() != Closed || a.Post(func() {}) {
				t.Errorf("closed: State() = %v, Post works: %v", a.State(), a.Post(func() {}))
			}
			if got, want := callsA.all(), []string{"open", "close closed"}; !slices.Equal(got, want) {
				t.Errorf("calls of the closing end: %q, want %q", got, want)
			}
			want := []string{"open", "message 0", "message 1", "message 2", "close eof"}
			if got := callsB.all(); !slices.Equal(got, want) {
				t.Errorf("calls of the other end: %q, want %q", got, want)
			}
			if !b.Err().Remote || a.Err().Remote {
				t.Errorf("Remote is %v at the closing end and %v at the other", a.Err().Remote, b.Err().Remote)
			}
			b.end()
		}
	})
}

// TestClosedRefuses: after the end every way to send says why the channel ended.
func TestClosedRefuses(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		a, b := m.pair(t, Config{})
		a.end()
		b.over()
		if m.virtual {
			synctest.Wait()
		}
		for what, err := range map[string]error{
			"SendOffLoop":   b.SendOffLoop(context.Background(), chunk(1, 0, 8)),
			"SendOfOffLoop": b.SendOfOffLoop(NoWait, &party{}, chunk(1, 0, 8), First),
			"Send":          b.Send(chunk(1, 0, 8)),
			"SendHeartbeat": b.SendHeartbeat(),
		} {
			var ce *CloseError
			if !errors.As(err, &ce) || ce.Code != CodeEOF {
				t.Errorf("%s after the end = %v, want the CloseError", what, err)
			}
		}
		b.end()
		b.end()
	})
}

// TestNotOpen: before it is open a channel refuses everything and starts nothing.
func TestNotOpen(t *testing.T) {
	s := newSide(t, media[0], Config{})
	for what, err := range map[string]error{
		"SendOffLoop":   s.SendOffLoop(context.Background(), chunk(1, 0, 8)),
		"Send":          s.Send(chunk(1, 0, 8)),
		"SendHeartbeat": s.SendHeartbeat(),
	} {
		if !errors.Is(err, ErrNotOpen) {
			t.Errorf("%s() = %v, want ErrNotOpen", what, err)
		}
	}
	if s.Post(func() { t.Error("a function ran") }) {
		t.Error("Post() = true")
	}
	if err := s.Close(context.Background()); err != nil {
		t.Errorf("Close() = %v", err)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Errorf("the second Close() = %v", err)
	}
	if s.State() != Closed || s.opens.Load()+s.closes.Load() != 0 {
		t.Errorf("State() = %v after %d OnOpen and %d OnClose", s.State(), s.opens.Load(), s.closes.Load())
	}
	var ce *CloseError
	if err := s.SendOffLoop(context.Background(), chunk(1, 0, 8)); !errors.As(err, &ce) {
		t.Errorf("SendOffLoop() = %v, want the CloseError", err)
	}
	if err := s.Connect(context.Background(), "tcp", "127.0.0.1:1"); !errors.Is(err, ErrUsed) {
		t.Errorf("Connect() = %v, want ErrUsed", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for what, try := range map[string]func() (*Channel, error){
		"no handler":  func() (*Channel, error) { return New(Config{}, nil) },
		"dialect":     func() (*Channel, error) { return New(Config{Dialect: 2}, &side{}) },
		"water marks": func() (*Channel, error) { return New(Config{HighWaterBytes: 10, LowWaterBytes: 11}, &side{}) },
	} {
		if c, err := try(); c != nil || err == nil {
			t.Errorf("%s: New() = %v, %v, want an error", what, c, err)
		}
	}
}

func TestUsedTwice(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		a, b := m.pair(t, Config{})
		x, y := m.join(t)
		if err := a.Attach(x); !errors.Is(err, ErrUsed) {
			t.Errorf("the second Attach() = %v, want ErrUsed", err)
		}
		if n, err := y.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("what was refused is not closed: Read() = %d, %v", n, err)
		}
		_ = y.Close()
		if err := a.Connect(context.Background(), "tcp", "127.0.0.1:1"); !errors.Is(err, ErrUsed) {
			t.Errorf("Connect() = %v, want ErrUsed", err)
		}
		if a.State() != Open {
			t.Errorf("State() = %v, want open", a.State())
		}
		a.end()
		b.end()
	})
}

// TestUsedAtOnce attaches one channel from many goroutines: one of them wins, the
// others' streams are closed.
func TestUsedAtOnce(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		for range 20 {
			a := newSide(t, m, Config{})
			var won atomic.Int32
			var peers []net.Conn
			var wg sync.WaitGroup
			start := make(chan struct{})
			for range 4 {
				x, y := m.join(t)
				peers = append(peers, y)
				wg.Go(func() {
					<-start
					switch err := a.Attach(x); {
					case err == nil:
						won.Add(1)
					case !errors.Is(err, ErrUsed):
						t.Errorf("Attach() = %v, want ErrUsed", err)
					}
				})
			}
			close(start)
			wg.Wait()
			if won.Load() != 1 {
				t.Errorf("%d Attach calls won, want 1", won.Load())
			}
			a.end()
			for _, y := range peers {
				if _, err := io.ReadAll(y); err != nil {
					t.Errorf("the peer of a stream: %v", err)
				}
				_ = y.Close()
			}
		}
	})
}

// TestCloseManyTimes: from many goroutines, at any time, twice.
func TestCloseManyTimes(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		for i := range 20 {
			a, b := newSide(t, m, Config{}), newSide(t, m, Config{})
			x, y := m.join(t)
			b.open(y)
			var wg sync.WaitGroup
			closing := func() {
				if err := a.Close(context.Background()); err != nil {
					t.Errorf("Close() = %v", err)
				}
				if a.State() != Closed {
					t.Errorf("State() after Close = %v", a.State())
				}
			}
			if i%2 == 0 { // while it attaches
				wg.Go(closing)
				wg.Go(closing)
			}
			err := a.Attach(x)
			for range 4 {
				wg.Go(closing)
			}
			wg.Wait()
			closing()
			if err == nil && (a.opens.Load() != 1 || a.closes.Load() != 1) || err != nil && a.opens.Load()+a.closes.Load() != 0 {
				t.Errorf("Attach() = %v: %d OnOpen and %d OnClose", err, a.opens.Load(), a.closes.Load())
			}
			b.wantOver(CodeEOF)
			b.end()
		}
	})
}

// TestCallbackEnds: a channel may be ended from within each of its callbacks.
func TestCallbackEnds(t *testing.T) {
	mine := &CloseError{Code: CodeFlood, Reason: "enough"}
	ends := map[string]func(s *side){
		"fail":  func(s *side) { s.Fail(mine); s.Fail(&CloseError{Code: CodeIO}) },
		"drain": func(s *side) { s.Drain(mine, true, time.Second); s.Drain(&CloseError{Code: CodeIO}, false, 0) },
	}
	over(t, func(t *testing.T, m medium) {
		for how, end := range ends {
			for _, where := range []string{"open", "message", "writable"} {
				a, b := newSide(t, m, Config{HighWaterBytes: 1, LowWaterBytes: 1}), newSide(t, m, Config{})
				switch where {
				case "open":
					a.onOpen = func() { end(a) }
				case "message":
					a.onMessage = func(*codec.Message, []codec.Header) { end(a) }
				case "writable":
					a.onMessage = func(*codec.Message, []codec.Header) {
						for a.Send(chunk(1, 0, 100)) == nil {
						}
					}
					a.onWritable = func() { end(a) }
				}
				m.connect(t, a, b)
				_ = b.SendOffLoop(context.Background(), chunk(1, 0, 8))
				_ = b.SendOffLoop(context.Background(), chunk(1, 0, 8))
				if err := a.wantOver(CodeFlood); err.Reason != "enough" {
					t.Errorf("%s in %s: %v, want the first reason", how, where, err)
				}
				if n := a.messages.Load(); where == "message" && n != 1 && how == "fail" {
					t.Errorf("%s: %d messages after the end", how, n)
				}
				a.end()
				b.end()
			}
		}
	})
}

// TestClassification: how the peer's end is told.
func TestClassification(t *testing.T) {
	whole := codec.AppendFrame(nil, codec.V0, chunk(7, 1, 100))
	for _, tt := range []struct {
		what   string
		bytes  []byte
		reset  bool
		want   Code
		errno  syscall.Errno
		offset int64
	}{
		{"nothing", nil, false, CodeEOF, 0, 0},
		{"a frame", whole, false, CodeEOF, 0, 0},
		{"half a frame", whole[:50], false, CodeTruncated, 0, 0},
		{"one and a half", append(slices.Clone(whole), whole[:1]...), false, CodeTruncated, 0, int64(len(whole))},
		{"reset", whole, true, CodeReset, syscall.ECONNRESET, 0},
	} {
		t.Run(tt.what, func(t *testing.T) {
			over(t, func(t *testing.T, m medium) {
				if tt.reset && m.virtual {
					m = m.scripted(t, fmt.Sprintf("b>a cut=%d:rst", len(whole)))
				}
				s, w := m.faced(t, Config{})
				if tt.reset && !m.virtual { // closed with bytes unread: both kinds of socket answer so
					if err := s.SendOffLoop(context.Background(), chunk(1, 0, 100)); err != nil {
						t.Fatal(err)
					}
					eventually(t, "bytes on the wire", func() bool { return s.Stats().BytesOut > 0 })
				}
				w.put(tt.bytes)
				if !tt.reset || !m.virtual {
					_ = w.Close()
				}
				err := s.wantOver(tt.want)
				if err.Errno != tt.errno || !err.Remote || err.Offset != tt.offset {
					t.Errorf("%+v, want errno %v at byte %d, remote", err, tt.errno, tt.offset)
				}
				if want := min(1, len(tt.bytes)/len(whole)); !tt.reset && int(s.messages.Load()) != want {
					t.Errorf("%d messages, want %d", s.messages.Load(), want)
				}
				s.end()
			})
		})
	}
}

// TestEndBesideSend: a channel that ends before it was open refuses its senders, at
// whatever moment they come.
func TestEndBesideSend(t *testing.T) {
	for range 2000 {
		s := newSide(t, media[0], Config{})
		start := make(chan struct{})
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				<-start
				var ce *CloseError
				for !errors.As(s.SendOffLoop(context.Background(), chunk(1, 0, 8)), &ce) {
				}
			})
		}
		close(start)
		s.end()
		wg.Wait()
	}
}

// TestWritten: when a channel is lost, a session whose opening frame the transport may
// have taken is not one that was never sent.
func TestWritten(t *testing.T) {
	overVirtual(t, func(t *testing.T, m medium) {
		m = m.scripted(t, "a>b capacity=100")
		s := newSide(t, m, Config{})
		begun, behind := new(party), new(party)
		s.onClose = func(err *CloseError) {
			if s.Written() <= begun.at {
				t.Errorf("Written() = %d, and the frame at %d has begun", s.Written(), begun.at)
			}
			if s.Written() > behind.at {
				t.Errorf("Written() = %d, and the frame at %d was never given away", s.Written(), behind.at)
			}
			if err.Undelivered == 0 {
				t.Error("nothing is undelivered")
			}
		}
		w := m.face(t, s)
		err := s.SendOfOffLoop(t.Context(), begun, &codec.Frame{Kind: codec.KindInvoke, Text: string(make([]byte, 1000))}, First)
		for i := range 20 {
			err = errors.Join(err, s.SendOffLoop(t.Context(), chunk(1, i, 10_000)))
		}
		err = errors.Join(err, s.SendOfOffLoop(t.Context(), behind, &codec.Frame{Kind: codec.KindInvoke}, First))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		s.do(func() { s.Fail(&CloseError{Code: CodeClosed}) }) // while the first write is under way
		s.over()
		s.end()
		_ = w.Close()
	})
}

// TestStats: what a channel has done is seen from outside when the turn is over, whether
// it sent anything or not.
func TestStats(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		s, w := m.faced(t, Config{})
		p := w.frames(chunk(1, 0, 100), chunk(1, 1, 100), chunk(1, 2, 100))
		w.put(append(p, p[:10]...))
		eventually(t, "counters of input", func() bool {
			st := s.Stats()
			return st.FramesIn == 3 && st.BytesIn == uint64(len(p)+10)
		})
		if err := s.SendOffLoop(t.Context(), chunk(1, 0, 100)); err != nil {
			t.Fatal(err)
		}
		w.mustNext()
		eventually(t, "counters of output", func() bool {
			st := s.Stats()
			return st.FramesOut == 1 && st.BytesOut == uint64(len(p)/3) && st.Writes == 1 && st.QueuedBytes == 0
		})
		s.do(s.Pause)
		eventually(t, "the pause", func() bool { st := s.Stats(); return st.PausedNow && st.Pauses == 1 })
		s.end()
		if st := s.Stats(); st.State != Closed || st.FramesIn != 3 {
			t.Errorf("at the end: %+v", st)
		}
	})
}
