package session

import (
	"context"
	"fmt"
)

// Held is what a session keeps for its reader, as InboxBytes counts it. Only while
// nobody reads.
func Held(s *Session) int {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	n := 0
	for _, b := range []*batch{&s.in.fill, &s.in.drain} {
		n += len(b.data) + chunkCost*len(b.ends)
	}
	return n
}

// Waiting is what the handlers that wait for room keep back. On the loop.
func Waiting(t *Table) int { return t.pause.waiting }

// Owed counts the last frames that wait for room. On the loop.
func Owed(t *Table) int { return len(t.pause.owed) }

// SessionOf returns an open session. On the loop.
func SessionOf(t *Table, id uint64) *Session { return t.ids.get(id) }

// Accounts returns what is left to t of its peer's window for the channel, and what t has
// received, and read, of its own and not granted again. On the loop.
func Accounts(t *Table) (left, received, read int64) {
	l := &t.ext.credit
	return l.left.Load() + l.pocket, l.received + l.handed, l.used.Load() + l.handed
}

// AccountOf is the same for one session.
func AccountOf(s *Session) (left, received, read int64) {
	a := &s.credit
	return a.left.Load() + a.pocket, a.received + a.handed, a.used.Load() + a.handed
}

// Short counts the sessions whose handlers wait for credit. On the loop.
func Short(t *Table) int { return len(t.ext.credit.short) }

// Describe says what the open sessions wait for. Only while the table is idle.
func Describe(t *Table) (text string) {
	for _, s := range t.ids.all() {
		text += fmt.Sprintf("[%d: rx %v tx %v done %v owing %v held %v hungry %v kept %d end %v ignored %v left %d used %d unread %d later %v] ", s.id, s.rx != nil,
			!s.tx.Closed(), s.txDone, s.owing.Load(), s.held, s.hungry, s.kept, s.keptEnd, s.ignored, s.credit.left.Load(), s.credit.used.Load()+s.credit.handed, s.credit.unread.Load(), s.later)
	}
	return text + fmt.Sprintf("confirmed %v left %d used %d reasons %d full %v owed %d", t.ext.confirmed, t.ext.credit.left.Load(), t.ext.credit.used.Load()+t.ext.credit.handed, t.pause.reasons, t.pause.full, len(t.pause.owed))
}

// Backlog counts what Overflow has queued for a session.
func Backlog(s *Session) int { return int(s.overflow.Load().held.Load()) }

// Confirmed reports whether the peer knows that an agreement is in force. On the loop.
func Confirmed(t *Table) bool { return t.ext.confirmed }

// PrepareCall is the first half of CallOffLoop; open is the second.
func PrepareCall(t *Table, c *Call) (open func(context.Context) (*Session, error), err error) {
	s, f, part, err := t.prepareCall(c, nil)
	return func(ctx context.Context) (*Session, error) { return s, t.ch.SendOfOffLoop(ctx, s, &f, part) }, err
}

// BacklogCap counts the bytes of memory that what Overflow has queued takes.
func BacklogCap(s *Session) (n int) {
	for _, p := range s.overflow.Load().chunks {
		n += cap(p)
	}
	return n
}

// TakeLongWay has every message take the way that is for all of them. On the loop.
func TakeLongWay(t *Table) { t.chunk = noChunk }
