package session

import (
	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
)

// The receiving half of credit: what came is held against our windows, and what was read
// is granted again.

// received notes what a frame of the peer has used of our windows. It reports false if
// the session, or the channel, has failed for it.
func (t *Table) received(s *Session, m *codec.Message) bool {
	l := &t.ext.credit
	if m.Type != codec.V1Write || m.Payload == nil {
		return true
	}
	n := int64(len(m.Payload))
	switch {
	case s == nil || s.rx == nil || s.ignored:
		t.dropped(s, n)
		return true
	case !s.streamed: // it counts as read at once, and the last one was sent without credit
		l.free += n
		s.handed(n)
		return true
	}
	return t.receivedChunk(s, n)
}

// handedOver is received for a chunk that the loop hands over at once, and notes that it
// was read; see keepsLater. Far from both ends of the windows that is all there is to do.
func (t *Table) handedOver(s *Session, n int64) bool {
	a, l := &s.credit, &t.ext.credit
	one, all := a.handed+n, l.handed+n
	if one+max(a.received, 0) >= t.ext.ours.session/2 || all+max(l.received, 0) >= t.ext.ours.channel/2 {
		if !t.receivedChunk(s, n) {
			return false
		}
		s.readHere(n)
		return true
	}
	a.handed, l.handed = one, all
	a.largest, l.largest = max(a.largest, n), max(l.largest, n)
	return true
}

// receivedChunk is received for n bytes that wait to be read, on a stream.
func (t *Table) receivedChunk(s *Session, n int64) bool {
	l := &t.ext.credit
	overdrawn := use(&l.received, &l.largest, n, t.ext.ours.channel+l.free-l.handed)
	overdrawn = use(&s.credit.received, &s.credit.largest, n, t.ext.ours.session-s.credit.handed) || overdrawn
	if overdrawn && t.ext.confirmed {
		l.read(t, n)
		t.overdrawn(s)
		return false
	}
	return true
}

// dropped notes n bytes that nobody keeps. The peer of a session that is ignored may not
// know yet that it may go on: it was given up before there was credit.
func (t *Table) dropped(s *Session, n int64) {
	if s != nil && s.ignored {
		t.waive(s)
	}
	l := &t.ext.credit
	l.received += n
	l.free += n
	l.read(t, n)
}

// use takes n off what is left of a window and reports whether it is overdrawn. Chunks are
// sent in another order than they are paid for, so the one that passed the window is any of
// those that are under way.
func use(received, largest *int64, n, left int64) (overdrawn bool) {
	*received += n
	*largest = max(*largest, n)
	return *received >= left+*largest
}

// giveBack takes off what was read of it and is granted.
func giveBack(received, largest *int64, n int64) {
	if *received -= n; *received <= 0 {
		*largest = 0
	}
}

// overdrawn fails a session whose peer sends more than it may, and the second time the
// channel. A peer that has had the end of ours may take it for an error that ended the
// session, and is forgiven.
func (t *Table) overdrawn(s *Session) {
	l := &t.ext.credit
	if !s.tx.Closed() {
		l.strikes++
	}
	if l.strikes > 1 {
		t.bad(channel.CodeBadCredit, "more chunks than there was credit for, again")
		return
	}
	t.failSession(s, CodeOverflow, "more was sent than there was credit for")
}

// bounded reports whether credit bounds what the peer sends on s. Until it has confirmed
// it is bounded as a plain one is.
func (t *Table) bounded(s *Session) bool {
	return t.ext.credit.on && t.ext.confirmed && s.streamed
}

// keptBytes notes that n bytes of chunks wait for who will read them.
func (s *Session) keptBytes(n int) {
	if s.streamed && s.t.ext.credit.on {
		s.credit.unread.Add(int64(n))
	}
}

// readHere notes that the loop itself hands over n bytes of what was received.
func (s *Session) readHere(n int64) {
	s.credit.received -= n
	s.t.ext.credit.received -= n
	s.handed(n)
}

// handed adds n to what the loop has handed over and is to grant.
func (s *Session) handed(n int64) {
	a, l := &s.credit, &s.t.ext.credit
	a.handed += n
	l.handed += n
	if a.handed+a.used.Load() >= s.t.ext.ours.session/2 || l.handed+l.used.Load() >= s.t.ext.ours.channel/2 {
		l.grant(s.t, s)
	}
}

// keepsLater notes that the handler keeps a chunk which counts as read: a leg does so, for
// the one who will read it.
func (s *Session) keepsLater(n int) {
	s.later = false
	a, l := &s.credit, &s.t.ext.credit
	a.handed -= int64(n)
	l.handed -= int64(n)
	a.received += int64(n)
	l.received += int64(n)
	s.keptBytes(n)
}

// readShare: who reads off the loop gives back three eighths of a window, for it does not
// see the half that the loop may have read. Both leave more than what is in pockets.
const readShare = 8

// read notes that n bytes of what was kept were read. Any goroutine.
func (s *Session) read(n int) {
	l := &s.t.ext.credit
	if !s.streamed || !l.open.Load() || s.credit.unread.Add(int64(-n)) < over/2 {
		return
	}
	if s.credit.used.Add(int64(n)) >= s.t.ext.ours.session/readShare*3 {
		l.grant(s.t, s)
	}
	l.read(s.t, int64(n))
}

// read is the channel's share of it.
func (l *ledger) read(t *Table, n int64) {
	if l.used.Add(n) >= t.ext.ours.channel/readShare*3 {
		l.grant(t, nil)
	}
}

// grant has the next turn of the loop give credit, to the session too if there is one.
func (l *ledger) grant(t *Table, s *Session) {
	l.mu.Lock()
	if s != nil && !s.credit.due {
		s.credit.due = true
		l.due = append(l.due, s)
	}
	first := !l.posted
	l.posted = true
	l.mu.Unlock()
	if first {
		t.ch.Post(t.sendGrants)
	}
}

// maxGrants in one frame.
const maxGrants = 256

// sendGrants gives all credit that is due.
func (t *Table) sendGrants() {
	l := &t.ext.credit
	l.mu.Lock()
	due := l.due
	l.due, l.posted = nil, false
	for _, s := range due {
		s.credit.due = false
	}
	l.mu.Unlock()
	if !l.open.Load() {
		return
	}
	var pairs []byte
	count := 0
	put := func(id uint64, n int64) {
		if n > 0 {
			pairs = codec.AppendInt(codec.AppendUint(pairs, id), n)
			count++
		}
	}
	n := l.used.Swap(0)
	giveBack(&l.received, &l.largest, n)
	n += l.handed
	l.handed, l.free = 0, 0 // what is free was read at once
	put(extensionSession, n)
	for _, s := range due {
		n := s.credit.used.Swap(0)
		giveBack(&s.credit.received, &s.credit.largest, n)
		n += s.credit.handed
		s.credit.handed = 0
		switch {
		case s.credit.waive:
			s.credit.waive = false
			if s.openedAt >= t.ch.Written() { // it means nothing ahead of what opens the session
				t.inOrder(codec.Frame{Type: extCredit, Args: codec.Args(s.id, int64(maxWindow)).Bytes()})
				t.counts.grants.inc()
				continue
			}
			put(s.id, maxWindow)
		case s.rx != nil && !s.credit.waived:
			put(s.id, n)
		}
		if count >= maxGrants {
			t.sendPairs(pairs, count)
			pairs, count = pairs[:0], 0
		}
	}
	t.sendPairs(pairs, count)
}

func (t *Table) sendPairs(pairs []byte, count int) {
	if count > 0 {
		args := append(codec.AppendArrayHeader(nil, 2*count), pairs...)
		t.urgent(codec.Frame{Type: extCredit, Args: args})
		t.counts.grants.inc()
	}
}

// closeAccount gives back to the channel what a session that is over was sent and nobody
// has read.
func (t *Table) closeAccount(s *Session) {
	l := &t.ext.credit
	if !l.open.Load() {
		return
	}
	if n := s.credit.unread.Swap(over); n > 0 {
		l.read(t, n)
	}
}

// waive lets the peer send as much as it likes on a session that nobody reads any more,
// and of whose end it may not know: else it would wait for good. On the channel's account
// it still counts. A single answer waits for nothing.
func (t *Table) waive(s *Session) {
	if s.rx != nil && s.rx != Primitive {
		t.waiveAny(s)
	}
}

// waiveLate is waive for a session that was cut, whose error a last frame of another
// goroutine has forestalled: the peer is not told of the cut.
func (t *Table) waiveLate(s *Session) {
	if cut := s.Err(); cut != nil && !cut.Remote {
		t.waiveAny(s)
	}
}

func (t *Table) waiveAny(s *Session) {
	l := &t.ext.credit
	if !l.on || s.credit.waived {
		return
	}
	s.credit.waive, s.credit.waived = true, true
	t.closeAccount(s)
	l.grant(t, s)
}
