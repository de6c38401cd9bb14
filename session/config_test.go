package session_test

import (
	"math"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

func TestConfig(t *testing.T) {
	if _, err := session.New(session.Config{}); err == nil {
		t.Error("New() without an Owner = nil, want an error")
	}
	o := &owner{closed: make(chan *channel.CloseError, 1)}
	if _, err := session.New(session.Config{Owner: o, Channel: channel.Config{Dialect: 7}}); err == nil {
		t.Error("New() with a dialect of no protocol = nil, want an error")
	}
	table, err := session.New(session.Config{Owner: o})
	if err != nil {
		t.Fatal(err)
	}
	if table.Channel().State() != channel.Idle || table.Stats() != (session.Stats{}) || table.Len() != 0 {
		t.Errorf("a new table is %v with %+v, want it idle and empty", table.Channel().State(), table.Stats())
	}
}

// TestNoLimits: negative fields are no limits, and durations of any size do no harm.
func TestNoLimits(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRig(t, d, session.Worker, func(c *session.Config) {
			c.MaxSessions, c.MaxNameBytes, c.InboxBytes, c.MaxCancels, c.MaxStrays, c.MaxHeartbeats = -1, -1, -1, -1, -1, -1
			c.MaxPause = -1
		})
		r.dropOutput()
		var list []*session.Session
		r.owner.invoke = func(s *session.Session) { list = append(list, s) }
		r.flood(5000, func(i uint64) []byte { return r.frame(str("invoke %d %0*d", 2+i, 10+2000*(int(i)&1), 0)) })
		r.flood(5000, func(i uint64) []byte { return r.frame(str("error %d 1 1 no", 2+i)) })
		r.flood(1000, func(uint64) []byte { return r.frame("heartbeat") })
		r.flood(5, func(uint64) []byte { return r.frame(str("chunk 2 %01000000d", 0)) })
		if len(list) != 5000 || r.Channel().State() != channel.Open {
			t.Errorf("%d sessions, the channel is %v, want 5000 and open", len(list), r.Channel().State())
		}
	})
	for _, pause := range []time.Duration{1, math.MaxInt64, math.MinInt64} {
		sub(t, func(t *testing.T, d codec.Dialect) {
			r := newRig(t, d, session.Worker, func(c *session.Config) { c.MaxPause, c.InboxBytes = pause, 1 })
			var s *session.Session
			r.owner.invoke = func(got *session.Session) { s = got }
			r.send("invoke 2 e", "chunk 2 x")
			pass(time.Hour)
			if got := s.Err() != nil; got != (pause == 1) {
				t.Errorf("MaxPause %v: Err() = %v", pause, s.Err())
			}
		})
	}
}

// TestNames: the event's bytes are the owner's business, up to the limit.
func TestNames(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRig(t, d, session.Worker)
		r.send("invoke 2 \xff\xfe", "invoke 3 ")
		r.told("invoke 2 \xff\xfe", "invoke 3 ")
		r.send(str("invoke 4 %01024d", 0), str("invoke 5 %01025d", 0))
		if got := r.owner.take(); len(got) != 1 {
			t.Errorf("told %d times, want the name of 1024 bytes alone", len(got))
		}
		r.wantError(5, session.CategoryWorker, session.CodeNameTooLong, "1025 bytes")
		if d == codec.V0 {
			r.send(r.typed(6, codec.V0Invoke), r.typed(7, codec.V0Invoke, 5))
			r.wantError(6, session.CategoryWorker, session.CodeMalformed, "no name")
			r.wantError(7, session.CategoryWorker, session.CodeMalformed, "a number")
		}
		r.wantAlive("odd names")
	})
}

// TestStatsAnywhere: a snapshot needs no loop, and can be taken on it.
func TestStatsAnywhere(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRig(t, d, session.Worker)
		r.send("invoke 2 e", "heartbeat")
		r.loop(func() {
			if st := r.Stats(); st.Open != 1 || st.Opened != 1 || st.Heartbeats != 1 || r.Len() != 1 {
				t.Errorf("Stats() on the loop = %+v, Len() = %d", st, r.Len())
			}
		})
		closeNow(r.Table)
		if st := r.Stats(); st.Open != 0 || st.Opened != 1 || st.Heartbeats != 1 {
			t.Errorf("Stats() after the end = %+v", st)
		}
	})
}
