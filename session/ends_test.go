package session_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// TestEnds: who may end a direction how often, and what the others are told.
func TestEnds(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRig(t, d, session.Worker)
		var s *session.Session
		r.owner.invoke = func(got *session.Session) { s = got }
		is := func(what string, err, want error) {
			t.Helper()
			if err != want {
				t.Errorf("%s = %v, want %v", what, err, want)
			}
		}
		r.send("invoke 2 e")
		is("Close", s.Close(), nil)
		is("Close again", s.Close(), nil)
		is("Fail after Close", s.Fail(1, 2, "no"), session.ErrClosed)
		_, err := s.Write([]byte("x"))
		is("Write after Close", err, session.ErrClosed)
		r.loop(func() {
			is("SendChunk after Close", s.SendChunk([]byte("x")), session.ErrClosed)
			is("SendChoke after Close", s.SendChoke(), session.ErrClosed)
			is("SendError after Close", s.SendError(1, 2, "no"), session.ErrClosed)
		})
		r.want("choke 2", "Close")
		r.wantIdle("one end")

		r.send("invoke 3 e")
		is("Fail", s.Fail(1, 2, "no"), nil)
		is("Fail again", s.Fail(1, 2, "no"), session.ErrClosed)
		is("Close after Fail", s.Close(), nil)
		r.wantError(3, 1, 2, "Fail")
		r.wantIdle("one end")

		// The peer's error does not end our direction, and is not what a second end gets.
		r.send("invoke 4 e", "error 4 1 7 no")
		_, err = s.Write([]byte("still"))
		is("Write after the peer's error", err, nil)
		is("Close after the peer's error", s.Close(), nil)
		is("Close again", s.Close(), nil)
		is("Fail after it", s.Fail(1, 1, "no"), session.ErrClosed)
		r.want("chunk 4 still", "Write after the peer's error")
		r.want("choke 4", "Close after the peer's error")

		// A failure here is, since nothing of what the user does reaches the peer.
		r.send("invoke 5 e", r.typed(5, 9))
		is("Close after a failure here", s.Close(), s.Err())
		is("Fail after a failure here", s.Fail(1, 2, "no"), s.Err())
		r.wantError(5, session.CategoryWorker, session.CodeUnknownType, "the failure")

		r.send("invoke 6 e")
		closeNow(r.Table)
		_, err = s.Write([]byte("x"))
		is("Write after the channel", err, s.Err())
		is("Close after the channel", s.Close(), s.Err())
		if e := s.Err(); e == nil || !errors.As(e, new(*channel.CloseError)) {
			t.Errorf("Err() = %v, want the CloseError in it", e)
		}
	})
}

// TestEndRace: whoever ends a direction, and whoever writes meanwhile, nothing follows
// the last frame.
func TestEndRace(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRig(t, d, session.Worker, func(c *session.Config) { c.Channel.HighWaterBytes = 1 << 10 })
		var s *session.Session
		r.owner.invoke = func(got *session.Session) { s = got }
		for n := uint64(2); n < 152; n++ {
			r.send(str("invoke %d e", n))
			var wg sync.WaitGroup
			ends := make(chan error, 16)
			for g := range 8 {
				wg.Go(func() {
					for range 5 {
						if _, err := s.Write([]byte("a chunk")); err != nil && err != session.ErrClosed {
							t.Errorf("Write() = %v", err)
						}
					}
					if g%2 == 0 {
						ends <- s.Fail(1, int64(g), "no")
					} else if s.Close() != nil {
						t.Error("Close() failed")
					}
				})
			}
			wg.Go(func() {
				r.loop(func() {
					_ = s.SendChunk([]byte("on the loop"))
					if n%3 == 0 {
						ends <- s.SendError(1, 9, "no")
					}
				})
			})
			var frames []string
			for {
				text := r.next(time.Second)
				if text == "" {
					break
				}
				if !strings.HasPrefix(text, "chunk") {
					frames = append(frames, strings.Fields(text)[0])
				} else if len(frames) > 0 {
					t.Fatalf("%q behind %q", text, frames)
				}
			}
			wg.Wait()
			close(ends)
			failed := 0
			for err := range ends {
				if err == nil {
					failed++
				} else if err != session.ErrClosed {
					t.Errorf("Fail() = %v", err)
				}
			}
			want := []string{"choke"}
			if failed == 1 {
				want = []string{"error"}
				if d == codec.V0 {
					want = append(want, "choke")
				}
			}
			if failed > 1 || !slices.Equal(frames, want) {
				t.Fatalf("session %d: the last frames are %q after %d successful failures, want %q", n, frames, failed, want)
			}
			r.send(str("choke %d", n))
		}
		if st := r.Stats(); st.Open != 0 || st.Completed != 150 {
			t.Errorf("Stats() = %+v, want none open, 150 completed", st)
		}
	})
}

// TestHandlerTold: a Handler hears of the end of the peer's direction once, and later
// only of a cut before our own has ended.
func TestHandlerTold(t *testing.T) {
	for name, c := range map[string]struct {
		ours   string // how we end our direction, before
		frames []string
		cut    bool
		want   []string
	}{
		"choke, lost":              {"", []string{"choke 2"}, true, []string{"2 choke", "2 error local 0", "close eof"}},
		"choke, ended, lost":       {"choke", []string{"choke 2"}, true, []string{"2 choke", "close eof"}},
		"choke, failed, lost":      {"error", []string{"choke 2"}, true, []string{"2 choke", "close eof"}},
		"error, lost":              {"", []string{"error 2 1 7 no"}, true, []string{"2 error remote 7", "close eof"}},
		"error, ended, lost":       {"choke", []string{"error 2 1 7 no"}, true, []string{"2 error remote 7", "close eof"}},
		"lost":                     {"", nil, true, []string{"2 error local 0", "close eof"}},
		"ended, lost":              {"choke", nil, true, []string{"2 error local 0", "close eof"}},
		"error and more":           {"", []string{"error 2 1 7 no", "choke 2", "chunk 2 x", "error 2 1 8 no"}, false, []string{"2 error remote 7"}},
		"choke and more":           {"", []string{"choke 2", "error 2 1 7 no", "choke 2"}, false, []string{"2 choke"}},
		"chunks, failed here":      {"", []string{"chunk 2 a", "raw", "choke 2", "error 2 1 1 no"}, true, []string{"2 chunk a", "2 error local 204", "close eof"}},
		"ended, failed here, lost": {"choke", []string{"raw", "choke 2"}, true, []string{"2 error local 204", "close eof"}},
		"choke, unknown type":      {"", []string{"choke 2", "raw"}, false, []string{"2 choke"}},
	} {
		t.Run(name, func(t *testing.T) {
			sub(t, func(t *testing.T, d codec.Dialect) {
				r := newRig(t, d, session.Worker)
				var s *session.Session
				r.owner.invoke = func(got *session.Session) { s = got; s.SetHandler(tracer{&r.owner.trace}) }
				r.send("invoke 2 e")
				r.loop(func() {
					switch c.ours {
					case "choke":
						_ = s.SendChoke()
					case "error":
						_ = s.SendError(1, 2, "no")
					}
				})
				for _, f := range c.frames {
					if f == "raw" {
						f = r.typed(2, 99)
					}
					r.send(f)
				}
				if c.cut {
					_ = r.conn.Close()
				}
				r.told(c.want...)
			})
		})
	}
}

// meddler ends its session, and others, while it is told something.
type meddler struct {
	trace *trace
	do    func(s *session.Session)
}

func (h *meddler) OnChunk(s *session.Session, p []byte) { h.trace.add("%d chunk", s.ID()); h.do(s) }
func (h *meddler) OnChoke(s *session.Session)           { h.trace.add("%d choke", s.ID()); h.do(s) }
func (h *meddler) OnError(s *session.Session, e *session.Error) {
	h.trace.add("%d error %s", s.ID(), errText(e))
	h.do(s)
}

// TestMeddling: a handler may do anything to any session from within any call.
func TestMeddling(t *testing.T) {
	all := map[uint64]*session.Session{}
	acts := map[string]func(r *rig, s *session.Session){
		"choke":  func(_ *rig, s *session.Session) { _ = s.SendChoke() },
		"error":  func(_ *rig, s *session.Session) { _ = s.SendError(1, 2, "no") },
		"ignore": func(_ *rig, s *session.Session) { s.Ignore() },
		"over":   func(_ *rig, s *session.Session) { _ = s.SendChoke(); s.Ignore() },
		"all over": func(*rig, *session.Session) {
			for _, s := range all {
				_ = s.SendChoke()
				s.Ignore()
			}
		},
		"end":  func(r *rig, _ *session.Session) { r.End(9, "end") },
		"fail": func(r *rig, _ *session.Session) { r.Channel().Fail(&channel.CloseError{}) },
	}
	for name, act := range acts {
		for _, frames := range [][]string{
			{"chunk 2 a", "chunk 2 b", "choke 2"}, {"choke 2"}, {"error 2 1 7 no"}, {"unknown"}, {"lost"}, {"end"},
		} {
			t.Run(name+" at "+frames[0], func(t *testing.T) {
				sub(t, func(t *testing.T, d codec.Dialect) {
					clear(all)
					var r *rig
					r = newRig(t, d, session.Worker, func(c *session.Config) {
						c.OnSettled = func(s *session.Session) { r.owner.add("%d settled", s.ID()) }
					})
					r.dropOutput()
					r.owner.invoke = func(s *session.Session) {
						all[s.ID()] = s
						s.SetHandler(&meddler{&r.owner.trace, func(s *session.Session) { act(r, s) }})
					}
					r.send("invoke 2 e", "invoke 3 e", "invoke 4 e")
					for _, f := range frames {
						switch f {
						case "unknown":
							r.send(r.typed(2, 77))
						case "lost":
							_ = r.conn.Close()
						case "end":
							r.loop(func() { r.End(1, "end") })
						default:
							_, _ = r.conn.Write(r.frame(f))
							synctest.Wait()
						}
					}
					closeNow(r.Table)
					checkTold(t, r.owner.take(), int(r.Stats().Completed))
					if n := r.Stats().Open; n != 0 {
						t.Errorf("Stats().Open = %d, want 0", n)
					}
				})
			})
		}
	}
}

// checkTold: at most one end of the peer's direction, at most one cut behind it, nothing
// behind the settlement, which comes once.
func checkTold(t testing.TB, lines []string, completed int) {
	t.Helper()
	ends, settled := map[string]string{}, map[string]bool{}
	for _, line := range lines {
		n, what, _ := strings.Cut(line, " ")
		what, _, _ = strings.Cut(what, " ")
		if settled[n] {
			t.Errorf("%q after session %s has settled", line, n)
		}
		switch what {
		case "settled":
			settled[n] = true
			completed--
		case "chunk":
			if ends[n] != "" {
				t.Errorf("%q after the end of the peer's direction", line)
			}
		default:
			if before := ends[n]; before != "" && (before != "choke" || what == "choke") {
				t.Errorf("%q after %q", line, before)
			}
			ends[n] = what
		}
	}
	if completed > 0 {
		t.Errorf("%d sessions completed that have not settled", completed)
	}
}

// TestIgnore: a session whose input is ignored ends with our own end.
func TestIgnore(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		settled := 0
		r := newRig(t, d, session.Worker, func(c *session.Config) { c.OnSettled = func(*session.Session) { settled++ } })
		var s *session.Session
		r.owner.invoke = func(got *session.Session) { s = got; s.SetHandler(tracer{&r.owner.trace}) }
		r.send("invoke 2 e", "chunk 2 a")
		r.loop(func() { s.Ignore() })
		r.send("chunk 2 b")
		r.told("2 chunk a")
		if err := s.Close(); err != nil { // off the loop: our end is enough
			t.Fatal(err)
		}
		synctest.Wait()
		if st := r.Stats(); st.Open != 0 || settled != 1 {
			t.Errorf("Stats() = %+v, settled %d, want none open, 1 settled", st, settled)
		}
		r.send("chunk 2 c", "choke 2")
		r.told()
		if st := r.Stats(); st.Late != 2 {
			t.Errorf("Stats().Late = %d, want 2", st.Late)
		}
		// The other way round.
		r.send("invoke 3 e")
		r.loop(func() { _ = s.SendError(1, 1, "no"); s.Ignore(); s.Ignore() })
		if st := r.Stats(); st.Open != 0 || settled != 2 {
			t.Errorf("Stats() = %+v, settled %d, want none open, 2 settled", st, settled)
		}
		// With a full inbox: the channel reads on.
		r.owner.invoke = func(got *session.Session) { s = got }
		r.send("invoke 4 e")
		go func() {
			_, _ = r.conn.Write(append(r.frame("chunk 4 "+string(make([]byte, 300<<10))), r.frame("heartbeat")...))
		}()
		synctest.Wait()
		r.told()
		r.loop(func() { s.Ignore() })
		r.told("heartbeat")
	})
}

// TestEnd fails all sessions at once: each direction that is open is told, no other.
func TestEnd(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRig(t, d, session.Worker)
		var list []*session.Session
		r.owner.invoke = func(s *session.Session) { list = append(list, s) }
		r.send("invoke 2 e", "invoke 3 e", "choke 3", "invoke 4 e")
		_ = list[2].Close()
		r.want("choke 4", "our own end")
		ctx, cancel := list[0].Bind(t.Context())
		defer cancel()
		r.loop(func() { r.End(session.CodeTerminating, "over") })
		got := []string{r.next(time.Second), r.next(time.Second)}
		if d == codec.V0 {
			got = append(got, r.next(time.Second), r.next(time.Second))
		}
		for _, n := range []int{2, 3} {
			if !slices.ContainsFunc(got, func(f string) bool {
				return strings.HasPrefix(f, str("error %d ", n)) && strings.HasSuffix(f, " 205 over")
			}) {
				t.Errorf("session %d was not failed at the peer: %q", n, got)
			}
		}
		r.wantIdle("a direction that had ended stays so")
		for i, s := range list {
			if e := s.Err(); e == nil || e.Code != session.CodeTerminating || e.Remote {
				t.Errorf("session %d: Err() = %v, want 205", s.ID(), e)
			}
			want := error(s.Err())
			if i == 1 {
				want = io.EOF // the peer had ended
			}
			if _, err := s.Recv(t.Context()); err != want {
				t.Errorf("session %d: Recv() = %v, want %v", s.ID(), err, want)
			}
		}
		if context.Cause(ctx) != error(list[0].Err()) {
			t.Errorf("Cause() = %v, want Err()", context.Cause(ctx))
		}
		if st := r.Stats(); st.Open != 0 || st.Completed != 0 {
			t.Errorf("Stats() = %+v, want none open, none completed", st)
		}
		r.wantAlive("End ends sessions, not the channel")
	})
}

// TestPanics: a handler that panics ends its channel, and everybody is told.
func TestPanics(t *testing.T) {
	for _, at := range []string{"chunk 2 a", "choke 2", "error 2 1 1 no", "lost"} {
		t.Run(at, func(t *testing.T) {
			sub(t, func(t *testing.T, d codec.Dialect) {
				r := newRig(t, d, session.Worker, quiet)
				var list []*session.Session
				r.owner.invoke = func(s *session.Session) {
					list = append(list, s)
					if s.ID()%2 == 0 {
						s.SetHandler(&meddler{&r.owner.trace, func(*session.Session) { panic("handler") }})
					}
				}
				for n := range 20 {
					r.send(str("invoke %d e", n+2))
				}
				var wg sync.WaitGroup
				for _, s := range list[1:] {
					if s.ID()%2 == 1 {
						wg.Go(func() {
							if _, err := s.Recv(t.Context()); err != error(s.Err()) || s.Err() == nil {
								t.Errorf("session %d: Recv() = %v, want the cut", s.ID(), err)
							}
						})
					}
				}
				if at == "lost" {
					_ = r.conn.Close()
				} else {
					r.send(at)
				}
				wg.Wait()
				for _, s := range list {
					if s.Err() == nil {
						t.Errorf("session %d was not cut", s.ID())
					}
				}
				want := channel.CodePanic
				if at == "lost" {
					want = channel.CodeEOF
				}
				r.wantClosed(want)
			})
		})
	}
}
