package session_test

import (
	"runtime"
	"testing"
	"weak"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// large is a tracer with memory of its own.
type large struct {
	tracer
	_ [1 << 16]byte
}

// TestLetGo: a channel that is idle keeps nothing of a session that is over.
func TestLetGo(t *testing.T) {
	sub(t, func(t *testing.T, d codec.Dialect) {
		r := newRig(t, d, session.Worker)
		var h weak.Pointer[large]
		r.owner.invoke = func(s *session.Session) {
			l := &large{tracer: tracer{&r.owner.trace}}
			h = weak.Make(l)
			s.SetHandler(l)
			_ = s.SendChoke()
		}
		r.send("invoke 2 e", "chunk 2 a", "choke 2")
		r.told("2 chunk a", "2 choke")
		for range 10 {
			if runtime.GC(); h.Value() == nil {
				return
			}
		}
		t.Error("the handler of a session that is over is kept")
	})
}
