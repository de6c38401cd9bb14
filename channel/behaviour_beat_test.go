package channel

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// Heartbeats overtake what is queued, at the boundary of a frame. Nothing else does.

// positions reads frames up to the chunk with the last number and returns the numbers
// of those before which a heartbeat came.
func (w *wire) positions(last int) (list []int) { return w.between(0, last) }

// between is positions from the chunk with the given number on.
func (w *wire) between(next, last int) (list []int) {
	w.t.Helper()
	for next <= last {
		m := w.mustNext()
		switch {
		case beat(m, w.dialect):
			list = append(list, next)
		case number(m.Payload) != next || !whole(m.Payload):
			w.t.Fatalf("chunk %d came, want %d", number(m.Payload), next)
		default:
			next++
		}
	}
	return list
}

// TestHeartbeatOvertakes: it goes ahead of all that the transport was not given.
func TestHeartbeatOvertakes(t *testing.T) {
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		for _, tt := range []struct {
			size, conn, local int // where it comes behind a peer that reads nothing
		}{
			{100_000, 1, 1}, // larger than what a transport is given ahead
			{20_000, 3, 1},
			{1000, 82, 18}, // boundaries are remembered every 16 KiB
		} {
			t.Run(fmt.Sprintf("%v %d", d, tt.size), func(t *testing.T) {
				overVirtual(t, func(t *testing.T, m medium) {
					m = m.scripted(t, "a>b capacity=500")
					s, w := m.faced(t, Config{Dialect: d})
					const n = 100
					for i := range n {
						if err := s.SendOffLoop(t.Context(), chunk(1<<20, i, min(tt.size, 10_000_000/n))); err != nil {
							t.Fatal(err)
						}
						if s.Stats().QueuedBytes > 900_000 {
							break
						}
					}
					synctest.Wait()
					s.do(func() {
						for range 10 {
							if err := s.SendHeartbeat(); err != nil {
								t.Errorf("SendHeartbeat() = %v", err)
							}
						}
					})
					want := tt.local
					if m.noLoop {
						want = tt.conn
					}
					got := w.positions(want)
					if len(got) != 1 || got[0] > want || got[0] == 0 {
						t.Errorf("heartbeats before chunks %v, want one, before %d at the latest", got, want)
					}
					if st := s.Stats(); st.HeartbeatsMerged != 9 {
						t.Errorf("HeartbeatsMerged = %d, want 9", st.HeartbeatsMerged)
					}
					s.end()
				})
			})
		}
	}
}

// TestHeartbeatAtBoundary: a transport that takes nothing at a boundary leaves the
// heartbeat its place there.
func TestHeartbeatAtBoundary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := codec.AppendFrame(nil, codec.V0, chunk(1, 0, 100))
		m := media[len(media)-1].scripted(t, fmt.Sprintf("a>b capacity=%d", len(first)))
		s, w := m.faced(t, Config{})
		s.do(func() { _ = s.Send(chunk(1, 0, 100)) })
		s.do(func() { _ = s.Send(chunk(1, 1, 800_000)) })
		synctest.Wait()
		s.do(func() { _ = s.SendHeartbeat() })
		if got := w.positions(1); !slices.Equal(got, []int{1}) {
			t.Errorf("heartbeats before chunks %v, want before 1", got)
		}
		s.end()
	})
}

// TestHeartbeatNeverFirst: nothing overtakes the first frame, whoever sends it.
func TestHeartbeatNeverFirst(t *testing.T) {
	hello := &codec.Frame{Kind: codec.KindHandshake, Text: "uuid"}
	over(t, func(t *testing.T, m medium) {
		for how, send := range map[string]func(s *side) error{
			"on the loop": func(s *side) (err error) {
				s.do(func() { err = errors.Join(s.Send(hello), s.SendHeartbeat()) })
				return err
			},
			"off the loop": func(s *side) (err error) {
				s.do(func() { // the frame of another goroutine, whose turn has not come
					sent := make(chan error)
					go func() { sent <- s.SendOffLoop(t.Context(), hello) }()
					err = errors.Join(<-sent, s.SendHeartbeat())
				})
				return err
			},
			"large": func(s *side) (err error) {
				hello := &codec.Frame{Kind: codec.KindHandshake, Text: string(make([]byte, 1<<20))}
				s.do(func() { err = errors.Join(s.Send(hello), s.SendHeartbeat()) })
				return err
			},
		} {
			s, w := m.faced(t, Config{})
			if err := send(s); err != nil {
				t.Fatalf("%s: %v", how, err)
			}
			if m := w.mustNext(); m.Type != codec.V0Handshake {
				t.Errorf("%s: type %d came first", how, m.Type)
			}
			if m := w.mustNext(); !beat(m, codec.V0) {
				t.Errorf("%s: type %d came second", how, m.Type)
			}
			s.end()
		}
	})
}

// TestHeartbeatRandom: frames of all sizes and heartbeats at all times, over links that
// take a little now and then. What comes is a stream of whole frames in their order.
func TestHeartbeatRandom(t *testing.T) {
	overVirtual(t, func(t *testing.T, m medium) {
		for seed := range uint64(20) {
			r := rand.New(rand.NewPCG(seed, 0))
			m := m.scripted(t, fmt.Sprintf("a>b capacity=%d slice=%d,%d", 1+r.IntN(16<<r.IntN(12)), 1+r.IntN(100), 50+r.IntN(1<<r.IntN(16))))
			s, w := m.faced(t, Config{Dialect: codec.Dialect(seed % 2), HighWaterBytes: 1 + r.IntN(1<<20)})
			const n = 60
			sizes := make([]int, n)
			for i := range sizes {
				sizes[i] = r.IntN(1 << (3 + r.IntN(12)))
			}
			gap := r.IntN(3)
			ticks := r.IntN(5)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				for i := range n {
					if err := s.SendOffLoop(t.Context(), chunk(9, i, sizes[i])); err != nil {
						t.Errorf("seed %d: SendOffLoop() = %v", seed, err)
					}
					for range ticks {
						s.Post(func() { _ = s.SendHeartbeat() })
					}
					elapse(time.Duration(gap) * time.Millisecond)
				}
			}()
			beats := w.positions(n - 1)
			<-sent
			for {
				s.do(func() {})
				if uint64(len(beats))+s.Stats().HeartbeatsMerged == uint64(n*ticks) {
					break
				}
				if !beat(w.mustNext(), w.dialect) {
					t.Fatalf("seed %d: a chunk too many", seed)
				}
				beats = append(beats, n)
			}
			s.end()
			_ = w.Close()
		}
	})
}

// TestKeepOrder: handshake, terminate and every session's frames stay where they are,
// and a handshake or terminate of the loop is never refused.
func TestKeepOrder(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		s, w := m.tight().faced(t, Config{HighWaterBytes: 50_000})
		n := s.fill(1000)
		s.do(func() {
			if err := s.Send(&codec.Frame{Kind: codec.KindTerminate, Code: 1, Text: "bye"}); err != nil {
				t.Errorf("Send() of a terminate = %v", err)
			}
			if err := s.Send(chunk(1, 0, 8)); err != ErrFull {
				t.Errorf("Send() = %v, want ErrFull", err)
			}
		})
		if got := w.positions(n - 1); len(got) != 0 {
			t.Errorf("heartbeats before %v", got)
		}
		if m := w.mustNext(); m.Type != codec.V0Terminate {
			t.Errorf("type %d came behind the chunks, want the terminate", m.Type)
		}
		s.end()
	})
}

// TestHeartbeatBeyondMarks: a heartbeat takes no room and is not counted as held.
func TestHeartbeatBeyondMarks(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		s, w := m.tight().faced(t, Config{HighWaterBytes: 50_000})
		s.fill(1000)
		held := s.Stats().QueuedBytes
		s.do(func() {
			if err := s.SendHeartbeat(); err != nil {
				t.Errorf("SendHeartbeat() = %v", err)
			}
		})
		if got := s.Stats().QueuedBytes; got != held {
			t.Errorf("%d bytes are queued, want %d as before", got, held)
		}
		s.do(func() { s.Drain(&CloseError{Code: CodeClosed}, true, 0) })
		s.Post(func() {
			if err := s.SendHeartbeat(); err == nil {
				t.Error("a heartbeat was taken behind the end")
			}
		})
		list, err := w.rest()
		if err != io.EOF || !slices.ContainsFunc(list, func(m *codec.Message) bool { return beat(m, codec.V0) }) {
			t.Errorf("%d frames and %v, want a heartbeat among them", len(list), err)
		}
		s.over()
		s.end()
	})
}

// TestDrainLeavesNoHalfHeartbeat: the last frame before our end is whole.
func TestDrainLeavesNoHalfHeartbeat(t *testing.T) {
	overVirtual(t, func(t *testing.T, m medium) {
		m = m.scripted(t, "a>b capacity=2")
		s, w := m.faced(t, Config{})
		s.do(func() {
			_ = s.SendHeartbeat()
			s.Drain(&CloseError{Code: CodeClosed}, true, time.Second)
		})
		if list, err := w.rest(); len(list) != 1 || err != io.EOF {
			t.Errorf("%d frames and %v, want one and EOF", len(list), err)
		}
		_ = w.Close()
		s.wantOver(CodeClosed)
		s.end()
	})
}
