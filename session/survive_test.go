package session_test

import (
	"testing"
	"testing/synctest"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// brave is a tracer that panics at a chunk "boom", and takes that on itself.
type brave struct {
	tracer
	then func(s *session.Session) // before each chunk
}

func (h brave) OnChunk(s *session.Session, p []byte) {
	h.tracer.OnChunk(s, p)
	if h.then != nil {
		h.then(s)
	}
	if string(p) == "boom" {
		panic("boom")
	}
}

func (h brave) Survive(s *session.Session, v any) bool {
	h.t.add("%d survives %v", s.ID(), v)
	return true
}

// TestSurvive: a panic in OnChunk is the handler's own if it says so, whether the chunk came
// the short way or was kept, and whoever had it handed over.
func TestSurvive(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRig(t, d, session.Worker)
		list := map[uint64]*session.Session{}
		r.owner.invoke = func(s *session.Session) {
			list[s.ID()] = s
			h := brave{tracer: tracer{&r.owner.trace}}
			switch s.Event() {
			case "resumes":
				h.then = func(s *session.Session) { list[s.ID()-1].Resume() }
			case "changes":
				h.then = func(s *session.Session) { s.SetHandler(timid{h.tracer}) }
			}
			s.SetHandler(h)
		}
		r.send("invoke 5 plain", "invoke 6 plain", "chunk 5 boom", "chunk 6 a", "chunk 5 b", "choke 5")
		r.told("5 chunk boom", "5 survives boom", "6 chunk a", "5 chunk b", "5 choke")

		r.loop(list[6].Pause)
		r.send("invoke 7 resumes", "chunk 6 boom", "chunk 6 c", "chunk 7 d", "chunk 6 e", "chunk 7 boom")
		r.told("7 chunk d", "6 chunk boom", "6 survives boom", "6 chunk c", "6 chunk e", "7 chunk boom", "7 survives boom")

		r.send("invoke 8 changes", "chunk 8 boom")
		r.told("8 chunk boom", "8 survives boom")
		r.wantAlive("handlers survived")
	})
}

// timid panics at every chunk, and takes nothing on itself.
type timid struct{ tracer }

func (timid) OnChunk(*session.Session, []byte) { panic("timid") }

// loud takes on itself what it panics with at a chunk, and panics at the choke.
type loud struct{ brave }

func (loud) OnChoke(*session.Session) { panic("loud") }

// TestSurviveOnlyOwn: what is no survivor's own chunk ends the channel, also behind one.
func TestSurviveOnlyOwn(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		for _, frame := range []string{"chunk 6 a", "choke 5", "invoke 7 bad", "heartbeat"} {
			r := newRig(t, d, session.Worker, quiet)
			r.owner.heartbeat = func() { panic("heartbeat") }
			r.owner.invoke = func(s *session.Session) {
				switch s.Event() {
				case "loud":
					s.SetHandler(loud{brave{tracer: tracer{&r.owner.trace}}})
				case "timid":
					s.SetHandler(timid{tracer{&r.owner.trace}})
				default:
					panic("invoke")
				}
			}
			r.send("invoke 5 loud", "invoke 6 timid", "chunk 5 boom", frame)
			if err := r.wantClosed(channel.CodePanic); err != nil && err.Reason == "boom" {
				t.Errorf("%q: Reason = %q, want the panic behind it", frame, err.Reason)
			}
		}
	})
}

// TestSurviveCredit: a chunk whose handler panicked is read.
func TestSurviveCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newQuietRig(t, channel.Script{}, codec.V1, session.Engine)
		r.send(offering(codec.Frame{Kind: codec.KindHandshake, Text: "u"}, offerText), r.typed(0, 0, offerText))
		var s *session.Session
		r.loop(func() {
			var err error
			if s, err = r.Open("e", nil, brave{tracer: tracer{&r.owner.trace}}); err != nil {
				t.Error(err)
			}
		})
		r.send("chunk 2 boom", "chunk 2 more")
		r.told("handshake u", "2 chunk boom", "2 survives boom", "2 chunk more")
		r.loop(func() {
			if _, received, read := session.AccountOf(s); received != 8 || read != 8 {
				t.Errorf("session: received %d, read %d, want 8 and 8", received, read)
			}
			if _, received, read := session.Accounts(r.Table); received != 8 || read != 8 {
				t.Errorf("channel: received %d, read %d, want 8 and 8", received, read)
			}
		})
	})
}
