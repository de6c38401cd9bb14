package session

import (
	"slices"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
)

// pauses is what a table stops reading for, and who waits for room; owned by the loop.
type pauses struct {
	reasons uint8
	timer   *channel.Timer
	parked  []*Session // their inboxes are full
	owed    []owed     // last frames that found the output full
	owing   int        // their bytes

	hungry   []*Session // were refused by ErrFull and are to be told, in turn; nil is the Owner
	owner    bool       // the Owner is among them
	full     bool       // the output was full since they were last told: others queue behind
	waiting  int        // bytes that were refused, or came meanwhile
	streamed int        // part of it of sessions whose peers need credit
	since    time.Time  // when waiting last reached its limit
	accepted uint64     // frames that found room
}

// owed is a last frame that has to go out as soon as there is room. s is nil for the answer
// to a session that was refused, or to a call of a control method, and for a frame of the
// extension session.
type owed struct {
	s    *Session
	f    codec.Frame
	cost int64 // paid for it
}

// Reasons to pause reading.
const (
	pauseInbox   uint8 = 1 << iota
	pauseOwed          // last frames
	pauseWaiting       // too much is kept for handlers that wait for room
)

// setPause adds or removes a reason to pause reading.
func (t *Table) setPause(reason uint8, on bool) {
	before := t.pause.reasons
	if on {
		t.pause.reasons |= reason
	} else {
		t.pause.reasons &^= reason
	}
	switch after := t.pause.reasons; {
	case after != 0:
		t.ch.Pause()
	case before != 0:
		t.ch.Resume()
	}
}

// park stops reading for a session whose inbox is full. It may be parked already: a
// channel that drains its output reads on.
func (t *Table) park(s *Session) {
	if t.bounded(s) {
		return
	}
	if !s.parked {
		t.counts.parked.inc()
		s.parked, s.parkedAt, s.parkLeft = true, time.Now(), s.in.left.Load()
		t.pause.parked = append(t.pause.parked, s)
	}
	t.setPause(pauseInbox, true)
	if !t.pause.timer.Active() {
		t.pause.timer.Reset(t.cfg.MaxPause)
	}
}

func (t *Table) unpark(s *Session) {
	if !s.parked {
		return
	}
	s.parked = false
	i := slices.Index(t.pause.parked, s)
	t.pause.parked = slices.Delete(t.pause.parked, i, i+1)
	if len(t.pause.parked) == 0 {
		if t.pause.reasons&pauseWaiting == 0 {
			t.pause.timer.Stop()
		}
		t.setPause(pauseInbox, false)
	}
}

// pausedLong fails the sessions whose readers did not read at all for MaxPause, and those
// that were paused and keep too much.
func (t *Table) pausedLong() {
	now, next := time.Now(), t.cfg.MaxPause
	for _, s := range slices.Clone(t.pause.parked) {
		if left := s.in.left.Load(); left != s.parkLeft {
			s.parkLeft, s.parkedAt = left, now
			continue
		}
		if wait := t.cfg.MaxPause - now.Sub(s.parkedAt); wait > 0 {
			next = min(next, wait)
			continue
		}
		if s.parked { // the failure of another may have ended it
			t.failSession(s, CodeOverflow, "the handler does not read what was sent to it")
		}
	}
	held := t.heldLong(now)
	if held > 0 {
		next = min(next, held)
	}
	if held > 0 || len(t.pause.parked) > 0 {
		t.pause.timer.Reset(next)
	}
}

// wantRoom has the session's handler told when there is room for what was refused. What
// comes for it until then is kept, so that answers cannot outgrow the water mark.
func (t *Table) wantRoom(s *Session, refused int) {
	t.pause.full = true
	if t.starve(s, refused) {
		t.pause.hungry = append(t.pause.hungry, s)
	}
}

// starve marks a session whose handler was refused and is to be told; false if it is
// already, or there is none.
func (t *Table) starve(s *Session, refused int) bool {
	if s.handler == nil || s.hungry {
		return false
	}
	s.hungry = true
	if !s.duplex { // else it is counted where it came from
		s.refused = refused
		t.wait(s, refused)
	}
	return true
}

// want has the session's handler told when there is what a frame of it lacked.
func (s *Session) want(short lack, refused int) {
	s.t.counts.refusals.Add(1)
	switch short {
	case lacksRoom:
		s.t.wantRoom(s, refused)
	case lacksCredit:
		s.t.wantCredit(s, refused)
	default: // the flush of what stands before it tells
		s.t.starve(s, refused)
	}
}

// wantOpen has the Owner told when there is room for an opening frame.
func (t *Table) wantOpen() {
	t.pause.full = true
	if _, ok := t.cfg.Owner.(Writable); ok && !t.pause.owner {
		t.pause.owner = true
		t.pause.hungry = append(t.pause.hungry, nil)
	}
}

// wait counts n bytes that wait with a session for room. Above InboxBytes in all the
// channel stands still. What credit bounds is left out: then what gives credit is read on.
func (t *Table) wait(s *Session, n int) {
	s.waiting += n
	t.pause.waiting += n
	if s.streamed {
		t.pause.streamed += n
	}
	unbounded := t.pause.waiting
	if t.ext.credit.on && t.ext.confirmed {
		unbounded -= t.pause.streamed
	}
	still := unbounded >= t.cfg.InboxBytes
	if still && t.pause.reasons&pauseWaiting == 0 {
		t.pause.since = time.Now()
		if !t.pause.timer.Active() {
			t.pause.timer.Reset(t.cfg.MaxPause)
		}
	}
	t.setPause(pauseWaiting, still)
}

// heldLong fails the paused session that keeps most, if the channel has stood still for
// MaxPause. It returns how long to wait before the next look, 0 if there is no need.
func (t *Table) heldLong(now time.Time) time.Duration {
	if t.pause.reasons&pauseWaiting == 0 {
		return 0
	}
	if wait := t.cfg.MaxPause - now.Sub(t.pause.since); wait > 0 {
		return wait
	}
	var most *Session
	for _, s := range t.ids.all() {
		if s.held != 0 && (most == nil || s.waiting > most.waiting) {
			most = s
		}
	}
	if most != nil {
		t.failSession(most, CodeOverflow, "more was sent than can be kept for it")
	}
	t.pause.since = now
	return t.cfg.MaxPause
}

// owe keeps a last frame, or one of ours, until there is room for it. From InboxBytes on, or
// with an answer to what comes from the peer, nothing is read, so that what is owed cannot
// grow; below that reading goes on, for the peer may owe, too.
func (t *Table) owe(o owed) {
	t.pause.owed = append(t.pause.owed, o)
	t.pause.owing += o.size()
	if o.s == nil && o.f.Session != extensionSession || t.pause.owing >= t.cfg.InboxBytes {
		t.setPause(pauseOwed, true)
	}
}

func (o *owed) size() int { return len(o.f.Args) + len(o.f.Text) + owedCost }

const owedCost = 128 // of a last frame beside its bytes

// writable pays what is owed and tells who waits.
func (t *Table) writable() {
	p := &t.pause
	for ; len(p.owed) > 0; p.owed = p.owed[1:] {
		o := &p.owed[0]
		switch err := t.ch.SendOf(o.party(), &o.f, channel.Last); {
		case err == channel.ErrFull:
			return
		case err != nil && o.s != nil: // it was ended otherwise
			o.s.refund(o.cost)
			t.waiveLate(o.s)
		}
		p.owing -= o.size()
		*o = owed{}
	}
	p.owed = nil
	t.setPause(pauseOwed, false)
	for p.full = false; len(p.hungry) > 0 && !p.full; {
		t.tellFirst()
	}
	if len(p.hungry) == 0 {
		p.hungry = nil
	}
}

// tellFirst tells the first of the hungry. One that fills the output again goes to the
// back, unless nothing of it was accepted.
func (t *Table) tellFirst() {
	p := &t.pause
	s, accepted := p.hungry[0], p.accepted
	p.hungry[0] = nil
	p.hungry = p.hungry[1:]
	if s != nil {
		s.lined &^= linedForRoom
		s.tellWritable()
	} else {
		p.owner = false
		t.cfg.Owner.(Writable).OnWritable(nil)
	}
	again := p.full && (s == nil && p.owner || s != nil && (s.hungry || s.lined&linedForRoom != 0))
	if n := len(p.hungry); again && n > 0 && p.accepted == accepted && p.hungry[n-1] == s {
		copy(p.hungry[1:], p.hungry[:n-1])
		p.hungry[0] = s
	}
}

// party avoids an interface that holds a nil *Session.
func (o *owed) party() channel.Party {
	if o.s == nil {
		return nil
	}
	return o.s
}
