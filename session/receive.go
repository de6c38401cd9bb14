package session

import (
	"io"
	"math"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/internal/invariants"
)

// receive takes one message of the peer.
func (s *Session) receive(m *codec.Message) {
	if s.rx == nil {
		s.t.repeated()
		return
	}
	slot := s.rx.Slot(m.Type)
	if slot == nil {
		s.t.misplaced(s)
		return
	}
	s.slot = slot
	s.peerAt(slot.Next)
	switch slot.Kind {
	case Chunk:
		s.gotChunk(m)
	case Value:
		s.gotData(m.Args)
	case Choke:
		s.peerAt(nil)
	case Fault:
		s.gotError(m)
	}
	if s.rx == nil {
		s.peerEnded()
		s.t.settle(s)
	}
}

// direct reports that the handler is told at once of what comes.
func (s *Session) direct() bool {
	return s.handler != nil && !s.ignored && !s.keeping()
}

func (s *Session) gotChunk(m *codec.Message) {
	if m.Payload == nil {
		s.t.malformed(s)
		return
	}
	if len(m.Payload) > 0 {
		s.empty = 0
	} else if s.empty++; s.empty > maxEmptyChunks {
		s.t.flood("chunks without payload")
		return
	}
	s.gotData(m.Payload)
}

func (s *Session) gotData(p []byte) {
	switch {
	case s.ignored:
	case s.keeping():
		s.kept++
		s.keptBytes(len(p))
		s.in.put(p, s.keptSlot(), math.MaxInt)
		s.t.wait(s, len(p)+chunkCost)
	case s.handler == nil:
		s.keptBytes(len(p))
		if s.in.put(p, s.keptSlot(), s.t.cfg.InboxBytes) && s.rx != nil { // else nothing more will come
			s.t.park(s)
		}
	default:
		t := s.t
		if t.ext.credit.on && s.streamed {
			s.readHere(int64(len(p)))
		}
		t.told = told{s, s.handler, len(p)}
		s.handler.OnChunk(s, p)
		t.told = told{}
		if s.later {
			s.keepsLater(len(p))
		}
	}
}

// survivor is a Handler that takes a panic in its OnChunk on itself, instead of a guard
// around each call: the table has one for all that was read together.
type survivor interface {
	// Survive is called with what OnChunk panicked with, on top of its stack; false has it
	// go on.
	Survive(s *Session, v any) bool
}

// told is a chunk that a handler is being told of within OnMessage.
type told struct {
	s *Session // nil: there is none
	h Handler
	n int // bytes
}

// tellKept is OnChunk for a chunk that was kept, which may happen within the OnMessage of
// another session.
func (s *Session) tellKept(p []byte) {
	h := s.handler
	defer func() {
		if v := recover(); v != nil {
			if h, ok := h.(survivor); !ok || !h.Survive(s, v) {
				panic(v)
			}
		}
	}()
	h.OnChunk(s, p)
}

// keeping reports that the handler is told later.
func (s *Session) keeping() bool { return s.held != 0 || s.kept > 0 || s.hungry && !s.duplex }

// gaveKept notes that the handler has been told of a chunk that was kept. A leg that keeps
// it again does so for the one who will read it.
func (s *Session) gaveKept(n int) {
	if s.later {
		s.later = false
		return
	}
	s.read(n)
}

// keptSlot returns the message's place in the graph if that cannot be known otherwise.
func (s *Session) keptSlot() *Slot {
	if s.mixed {
		return s.slot
	}
	return nil
}

func (s *Session) dropKept() {
	s.kept, s.keptEnd, s.refused = 0, false, 0
	s.t.wait(s, -s.waiting)
}

// Slot returns the message of the graph that OnChunk is being called for. On the loop,
// within OnChunk.
func (s *Session) Slot() *Slot { return s.slot }

// Pause keeps what comes from the peer until Resume. A session without a Handler must
// have one by then. What all sessions keep is bounded by Config.InboxBytes: beyond it the
// channel stands still, and after Config.MaxPause the paused session that keeps most
// fails. An error of the peer, or the loss of the channel, is told at once. On the loop.
func (s *Session) Pause() { s.held |= heldByReader }

// Resume hands over what was kept, until the handler pauses again or fills the output. On
// the loop.
func (s *Session) Resume() { s.release(heldByReader) }

// holds is who has paused a session. What comes is kept until all of them have let go.
type holds uint8

const (
	heldByReader holds = 1 << iota // by Pause
	heldByLeg                      // the leg of a Forward keeps a chunk that found no room
)

// release takes back one pause. On the loop.
func (s *Session) release(by holds) {
	if s.held&by != 0 {
		s.held &^= by
		s.handOver()
	}
}

// tellWritable tells the handler of room, unless it has ended meanwhile, and hands over
// what was kept for it until it fills the output again.
func (s *Session) tellWritable() {
	if b := s.overflow.Load(); b != nil && b.waits() {
		if s.flush(); s.hungry && b.waits() {
			return // it is in line again
		}
	}
	hungry := s.hungry
	s.hungry = false
	if !s.duplex {
		s.t.wait(s, -s.refused)
		s.refused = 0
	}
	if w, ok := s.handler.(Writable); hungry && ok {
		w.OnWritable(s)
	}
	s.handOver()
}

// handOver gives the handler what was kept for it, unless that is under way.
func (s *Session) handOver() {
	if s.handing {
		return
	}
	s.handing = true
	for s.kept > 0 && s.held == 0 && (s.duplex || !s.hungry) {
		s.kept--
		p, _, _ := s.in.take()
		s.t.wait(s, -len(p)-chunkCost)
		if s.mixed {
			s.slot = s.in.slot()
		}
		s.tellKept(p)
		s.gaveKept(len(p))
		invariants.Poison(p)
	}
	s.handing = false
	if s.keptEnd && !s.keeping() {
		s.keptEnd = false
		s.peerEnded() // or keeps it again
		s.t.settle(s)
	}
}

// peerEnded is the good end of the peer's direction. If the last message was an error, or
// the session was cut while it was handed over, both faces know already.
func (s *Session) peerEnded() {
	switch {
	case s.ignored || s.Err() != nil:
	case s.keeping():
		s.keptEnd = true
	case s.handler != nil:
		s.handler.OnChoke(s)
	default:
		s.in.end(io.EOF)
	}
}

// malformedError is the text of an error whose arguments make no sense; it has no numbers.
var malformedError = []byte("malformed")

func (s *Session) gotError(m *codec.Message) {
	category, code, message, ok := codec.DecodeError(m)
	if !ok {
		message = malformedError
	}
	e := s.t.faults.remote(category, code, message)
	s.peerAt(nil)
	s.t.cancelled(s)
	s.cutOff(e)
}

// cutOff ends both faces of a session, once.
func (s *Session) cutOff(e *Error) {
	if s.markCut(e) {
		s.tellCut(e)
	}
}

// markCut notes why the session will not go on; false if it was cut before.
func (s *Session) markCut(e *Error) bool {
	s.end.Lock()
	defer s.end.Unlock()
	if s.end.cut != nil {
		return false
	}
	s.end.cut = e
	return true
}

// tellCut tells both faces that the session will not go on. A handler that waited for
// room is told of nothing else any more.
func (s *Session) tellCut(e *Error) {
	s.end.Lock()
	cancel := s.end.cancel
	s.end.Unlock()
	if cancel != nil {
		cancel(e)
	}
	s.in.end(e)
	s.t.unpark(s)
	s.t.freeAccount(s)
	s.flushAtEnd()
	s.hungry = false
	s.dropKept()
	if s.handler != nil {
		s.t.closeAccount(s)
		s.handler.OnError(s, e)
	}
}

// PauseOffLoop is Pause from any goroutine; it holds a turn of the loop later. A peer of
// ours stops when its window is used up; a plain one is bounded as for Pause. A session
// without a Handler is paused by not reading it: there it does nothing.
func (s *Session) PauseOffLoop() {
	s.t.ch.Post(func() {
		if s.handler != nil {
			s.Pause()
		}
	})
}

// ResumeOffLoop is Resume from any goroutine, behind the PauseOffLoop of the same one.
func (s *Session) ResumeOffLoop() { s.t.ch.Post(s.Resume) }

// unpark has the table go on reading; posted by the reader of a full inbox.
func (s *Session) unpark() { s.t.unpark(s) }

// tellEnded tells who asked by onEnded, once.
func (s *Session) tellEnded() {
	if f := s.ended; f != nil {
		s.ended = nil
		f()
	}
}

// onEnded has f called on the loop when the session has left the table: both directions
// have ended, or the channel is lost.
func (s *Session) onEnded(f func()) { s.ended = f }
