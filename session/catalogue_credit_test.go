package session_test

import (
	"context"
	"encoding/hex"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// creditRows are about credit, which v0 does not have: there, and with a peer that has
// agreed on nothing, the same bytes are frames of plain Cocaine.
var creditRows = []row{
	{"B21", "credit of no number, or of too much", testB21},
	{"B23", "a peer that sends more than it has credit for", testB23},
}

// grantOf is a frame of credit, of pairs of session and bytes.
func grantOf(pairs ...any) string {
	f := codec.Frame{Kind: codec.KindCall, Type: 1, Args: codec.Args(pairs...).Bytes()}
	return "raw " + hex.EncodeToString(codec.AppendFrame(nil, codec.V1, &f))
}

// newAgreedRig is an engine whose raw worker has agreed on windows of 1,000 bytes a session
// and 4,000 a channel, with two sessions, 2 and 3.
func newAgreedRig(t *testing.T, opts ...option) (r *rig, sessions [2]*session.Session) {
	t.Helper()
	r = newQuietRig(t, channel.Script{}, codec.V1, session.Engine, append([]option{windows(1000, 4000)}, opts...)...)
	r.send(offering(codec.Frame{Kind: codec.KindHandshake, Text: "u"}, offerText))
	if m := r.nextMessage(time.Second); m == nil || m.Session != 0 {
		t.Fatal("the engine has not answered the offer")
	}
	r.send(r.typed(0, 0, offerText)) // and it knows that the engine has
	for i := range sessions {
		s, err := r.OpenOffLoop(t.Context(), "e", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		sessions[i] = s
		r.next(time.Second)
	}
	r.owner.take()
	return r, sessions
}

// notAgreed checks that frames which would be credit are strays to who has agreed on none.
// In v0 a message of type 1 on session 0 is a heartbeat.
func notAgreed(t *testing.T, d codec.Dialect, pairs ...any) {
	t.Helper()
	r := newRig(t, d, session.Engine)
	r.send(r.typed(0, 1, pairs...))
	if d == codec.V0 {
		r.told("heartbeat")
	} else if got := r.Stats().Unknown; got != 1 {
		t.Errorf("Stats().Unknown = %d, want 1", got)
	}
	r.wantIdle("no credit was agreed on")
	r.wantAlive("no credit was agreed on")
}

func testB21(t *testing.T, d codec.Dialect) {
	bad := [][]any{
		{2, 0}, {2, -1}, {2, math.MinInt64}, {2, uint64(1) << 63}, {2, uint64(math.MaxUint64)}, {2, int64(1)<<40 + 1},
		{0, 0}, {0, -1}, {0, math.MaxInt64}, {2, "x"}, {2}, {"x", 1}, {3, 5, 2, 0},
	}
	for _, pairs := range bad {
		notAgreed(t, d, pairs...)
		if d == codec.V0 {
			continue
		}
		r, _ := newAgreedRig(t)
		r.send(grantOf(pairs...))
		if err := r.wantClosed(channel.CodeBadCredit); !err.Remote {
			t.Errorf("credit %v: the channel ended with %v, want it to be the peer's fault", pairs, err)
		}
	}
	if d == codec.V0 {
		return
	}
	// The sum is what counts, however it comes together.
	for _, id := range []int{0, 2} {
		r, _ := newAgreedRig(t)
		r.send(grantOf(id, int64(1)<<39), grantOf(id, int64(1)<<38))
		r.wantAlive("less than 2^40")
		r.send(grantOf(id, int64(1)<<38))
		r.wantClosed(channel.CodeBadCredit)
	}
	// None is no mistake.
	r, _ := newAgreedRig(t)
	r.send(grantOf())
	r.wantAlive("a frame that gives nothing")
}

// creditB20 is row B20 between peers of ours: nobody is paused, the peer stops by itself.
func creditB20(t *testing.T) {
	c := creditCouple(t, channel.Script{}, 1000, 100_000)
	var deaf *session.Session
	c.wo.invoke = func(s *session.Session) {
		if s.Event() == "deaf" {
			deaf = s // never read
			return
		}
		go echoGo(s)
	}
	s := c.open("deaf")
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	sent := 0
	for ; s.Send(ctx, make([]byte, 300)) == nil; sent++ {
	}
	synctest.Wait()
	if sent != 4 { // the fourth passes the window
		t.Errorf("%d chunks of 300 bytes went into a window of 1,000 in an hour, want 4", sent)
	}
	if e := s.Err(); e != nil {
		t.Errorf("Err() = %v, want that it lives", e)
	}
	if held := session.Held(deaf); held < 1200 || held > 2000 {
		t.Errorf("%d bytes are kept, want the four chunks", held)
	}
	echo := c.open("echo")
	_, _ = echo.Write([]byte("on"))
	if p, err := echo.Recv(t.Context()); string(p) != "on" || err != nil {
		t.Errorf("Recv() = %q, %v, want that the other session goes on", p, err)
	}
	if got := c.worker.Stats(); got.Parked != 0 || got.Failed != 0 {
		t.Errorf("Stats() = %+v, want no pause and no failure", got)
	}
}

// creditB22 is credit for sessions that are over, never were, or are mute.
func creditB22(t *testing.T) {
	r, sessions := newAgreedRig(t)
	r.send("choke 2")
	if err := sessions[0].Close(); err != nil {
		t.Fatal(err)
	}
	r.want("choke 2", "the end of a session")
	r.send(grantOf(2, 100), grantOf(77, 5), grantOf(uint64(math.MaxUint64), 5), grantOf(2, 5, 77, 5, 3, 7))
	r.wantIdle("credit is not answered")
	r.wantAlive("credit for unknown sessions")
	r.loop(func() {
		if left, _, _ := session.AccountOf(sessions[1]); left != 1007 {
			t.Errorf("%d bytes are left of the session's credit, want 1007: the pair behind the unknown ones counts", left)
		}
		if left, _, _ := session.Accounts(r.Table); left != 4000 {
			t.Errorf("%d bytes are left of the channel's credit, want 4000", left)
		}
	})
}

func testB23(t *testing.T, d codec.Dialect) {
	big := string(make([]byte, 999))
	if d == codec.V0 {
		// Without credit the inbox and the pause are the bound: row B20.
		r := newRig(t, d, session.Engine)
		s, err := r.OpenOffLoop(t.Context(), "e", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.want("invoke 1 e", "an open")
		for range 50 {
			r.send("chunk 1 " + big)
		}
		if e := s.Err(); e != nil {
			t.Errorf("Err() = %v, want none in a dialect without credit", e)
		}
		r.wantAlive("chunks within the inbox")
		return
	}
	for _, reader := range []string{"nobody", "a goroutine"} {
		r, sessions := newAgreedRig(t)
		// Up to the window and one chunk beyond is what a peer may do.
		r.send("chunk 2 "+big, "chunk 2 "+big)
		r.wantAlive("a window is passed by one chunk")
		if reader != "nobody" { // what was read before it was sent is another's
			for range 2 {
				if _, err := sessions[0].Recv(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			for m := r.nextMessage(time.Second); m != nil; m = r.nextMessage(time.Second) {
				if m.Session != 0 || m.Type != 1 {
					t.Fatalf("got frame %d of session %d, want grants", m.Type, m.Session)
				}
			}
			r.send("chunk 2 "+big, "chunk 2 "+big)
			r.wantAlive("a window that was given back")
		}
		r.send("chunk 2 " + big)
		r.wantError(2, session.CategoryWorker, session.CodeOverflow, "more than there is credit for")
		if e := sessions[0].Err(); e == nil || e.Remote || e.Code != session.CodeOverflow {
			t.Errorf("Err() = %v, want a local overflow", e)
		}
		r.wantAlive("one session that was overdrawn")
		r.send("chunk 2 "+big, "choke 2") // which is on its way and forgiven
		r.wantAlive("what comes late")
		r.send("chunk 3 "+big, "chunk 3 "+big)
		r.wantAlive("another session within its window")
		r.send("chunk 3 " + big)
		if err := r.wantClosed(channel.CodeBadCredit); !err.Remote {
			t.Errorf("the channel ended with %v, want it to be the peer's fault", err)
		}
	}
}

// FuzzCredit gives an engine whatever a worker of our kind may send as credit, cancel and
// terms: the channel lives or ends for a reason that names the peer, and no account leaves
// its bounds.
func FuzzCredit(f *testing.F) {
	for typ, args := range [][]any{{offerText}, {2, 100, 0, 100}, {2, 42, 7, "never mind"}, {2, uint64(1) << 63}, {}} {
		f.Add(uint8(typ), codec.Args(args...).Bytes(), []byte("chunk"))
	}
	f.Fuzz(func(t *testing.T, typ uint8, args, data []byte) {
		frame := codec.AppendFrame(nil, codec.V1, &codec.Frame{Kind: codec.KindCall, Type: uint64(typ) % 5, Args: args})
		n, err := codec.NewScanner(codec.V1, codec.Limits{}).Next(frame, new(codec.Message))
		if n != len(frame) || err != nil || len(data) > 4096 {
			return // no frame
		}
		synctest.Test(t, func(t *testing.T) {
			r, sessions := newAgreedRig(t, quiet)
			for range 3 {
				_, _ = r.conn.Write(append(frame[:n:n], r.frame("chunk 2 "+string(data))...)) // or the channel has ended
				synctest.Wait()
			}
			if err := r.Channel().Err(); err != nil {
				if !err.Remote || err.Code == 0 {
					t.Fatalf("the channel ended with %v, want a fault of the peer", err)
				}
				return
			}
			r.loop(func() {
				for _, s := range sessions {
					left, received, read := session.AccountOf(s)
					if s.Err() == nil && (left > 1<<40 || received < 0 || read < 0 || received > 1000+int64(len(data))) {
						t.Errorf("session %d: %d left, %d received, %d read", s.ID(), left, received, read)
					}
				}
				if left, received, read := session.Accounts(r.Table); left > 1<<40 || received < 0 || read < 0 {
					t.Errorf("the channel: %d left, %d received, %d read", left, received, read)
				}
			})
		})
	})
}
