package session

import "math"

// Cut fails the session for both sides: the peer gets the error if our direction is open,
// and who reads here the same one, as a local error. If it is joined to another by
// Forward, that one's peer is told by Splice.Translate. On the loop, once.
func (s *Session) Cut(category, code int64, message string) {
	if s.installed {
		s.t.counts.failed.inc()
		s.t.endSession(s, &Error{Category: category, Code: code, Message: message})
	}
}

// Preload has p, which is copied, come first, as a chunk of the peer with the end of its
// stream behind it, and pauses the session. It is for a call that carries all that a stream
// would among its arguments (protocol: app service, v0), and whose peer has nothing more to
// say. On the loop, in OnCall.
func (s *Session) Preload(p []byte) {
	s.Pause()
	s.kept++
	s.in.put(p, s.keptSlot(), math.MaxInt)
	s.t.wait(s, len(p)+chunkCost)
	s.keptEnd = true
}

// Drop gives the session up without a word: from now on nothing is sent on it, and what
// still comes is dropped. It is for a call that the peer has failed, which v1 runtimes take
// no further message of (protocol: channels). On the loop.
func (s *Session) Drop() {
	s.tx.Close()
	s.txDone, s.hungry = true, false
	s.t.payQueue()
	s.Ignore()
}
