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

// CloseRead says that nobody here reads any more: from the loop's next turn on Recv and its
// kin give io.EOF, and what the peer still sends is dropped, as after Ignore. A peer of ours
// is not held back by it. Our own direction stays as it is. Any goroutine, and more than
// once.
func (s *Session) CloseRead() {
	s.t.ch.Post(func() {
		s.Ignore()
		s.in.close()
	})
}

// Drop gives the session up without a word: from now on nothing is sent on it, and what
// still comes is dropped. It is for a call that the peer has failed, which v1 runtimes take
// no further message of (protocol: channels). On the loop.
func (s *Session) Drop() {
	s.tx.Close()
	s.hungry = false
	s.sentAll()
	s.t.payQueue()
	s.flushAtEnd()
	s.Ignore()
}
