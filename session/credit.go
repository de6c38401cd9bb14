package session

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
)

// Credit (PROTOCOL.md: extensions) bounds what is under way by what the other side has
// read. What counts is the data of frames of type 0 whose first argument is a string:
// chunks, and whatever looks like one, so that both sides count alike without a graph. A
// sender may send while both accounts, the session's and the channel's, are above zero,
// and so passes each by at most one chunk. The receiver gives back what was read when it
// is about half a window.

// maxCredit bounds windows and grants, far from any overflow.
const maxCredit = 1 << 40

// maxWindow leaves room for the grant that waives a window, see Table.waive.
const maxWindow = maxCredit / 2

// over marks the account of a session that is over, see account.unread.
const over = math.MinInt64 / 2

// ledger is the channel's part of credit.
type ledger struct {
	counting atomic.Bool // what is sent is taken off the accounts
	open     atomic.Bool // and nothing is sent without
	left     atomic.Int64
	used     atomic.Int64 // read here, and not granted yet
	early    atomic.Int64 // sends of other goroutines that began while nothing was held back

	// owned by the loop
	on       bool       // as open
	pocket   int64      // taken off left ahead, for what the loop sends
	handed   int64      // read here too, by the loop itself, and not granted
	received int64      // the rest of what came and is not granted
	free     int64      // part of both that no window bounds: last messages, and late ones
	largest  int64      // chunk, since both were 0
	strikes  int        // sessions that the peer has overdrawn
	short    []*Session // handlers that were refused for want of credit

	mu      sync.Mutex // guards the following; no user code runs under it
	queue   []*payer   // senders that wait, in turn
	due     []*Session // to be granted
	posted  bool
	waiting atomic.Int64 // length of queue
	refused atomic.Bool  // short is not empty
}

// account is a session's part.
type account struct {
	// owned by the loop, once the session is installed
	handed   int64 // read here too, by the loop itself, and not granted
	received int64 // the rest of what came and is not granted
	largest  int64 // chunk, since both were 0
	pocket   int64 // taken off left ahead, for what the loop sends

	used   atomic.Int64 // read here, and not granted yet
	left   atomic.Int64
	unread atomic.Int64 // kept, and not read; below over/2 once the session is over

	// owned by the loop, likewise
	opened bool // left began at the peer's window
	waive  bool // the peer is to be told that it may send all it wants
	waived bool // nobody reads it: only the channel's account counts
	due    bool // guarded by the ledger's mu
}

// payer is a goroutine that waits for credit.
type payer struct {
	s     *Session
	n     int64
	ready chan struct{} // closed when it has paid, or need not any more
	paid  bool
}

// begin counts what is sent before the peer has answered.
func (l *ledger) begin(on bool) { l.counting.Store(on) }

// end lets everybody send without credit. On the loop.
func (l *ledger) end() {
	l.on = false
	l.open.Store(false)
	l.counting.Store(false)
	l.mu.Lock()
	for _, p := range l.queue {
		p.paid = true // the channel knows why it takes nothing
		close(p.ready)
	}
	l.queue = nil
	l.waiting.Store(0)
	l.mu.Unlock()
}

// openLedger puts credit into force. What was sent before has been counted, if we had
// offered; else the peer's offer was the first that came.
func (t *Table) openLedger() {
	l := &t.ext.credit
	l.left.Add(t.ext.peer.channel)
	for _, s := range t.ids.all() {
		t.openAccount(s)
	}
	l.on = true
	l.counting.Store(true)
	l.open.Store(true)
}

// openAccount gives a session its window, once.
func (t *Table) openAccount(s *Session) {
	if !s.credit.opened {
		s.credit.opened = true
		s.credit.left.Add(t.ext.peer.session)
	}
}

// --- sending ---

// counted returns how many bytes of a frame count.
func counted(f *codec.Frame) int64 {
	switch {
	case f.Kind == codec.KindChunk:
		return int64(len(f.Payload))
	case f.Kind == codec.KindCall && f.Type == codec.V1Write && len(f.Args) > 0:
		if r := codec.NewReader(f.Args); r.Peek() == codec.RawValue {
			return int64(len(r.Bytes()))
		}
	}
	return 0
}

// pay takes n off both accounts. Without must it does so only if both are above zero.
func (s *Session) pay(n int64, must bool) bool {
	l := &s.t.ext.credit
	switch {
	case must || !l.open.Load():
		s.credit.left.Add(-n)
		l.left.Add(-n)
	case l.left.Load() <= 0 || !take(&s.credit.left, n):
		return false
	case !take(&l.left, n):
		s.credit.left.Add(n)
		s.t.retryShort()
		return false
	}
	return true
}

// payHere is pay for the loop, which takes credit ahead in pieces: its chunks cost no
// locked operation each. What is in the pockets is so small a part of the windows that
// the peer, having read all the rest, grants more.
func (s *Session) payHere(n int64) bool {
	a, l := &s.credit, &s.t.ext.credit
	if a.pocket < n || l.pocket < n {
		if !l.on {
			return s.pay(n, false)
		}
		refill(&a.pocket, &a.left, s.t.ext.peer.session)
		refill(&l.pocket, &l.left, s.t.ext.peer.channel)
		if a.pocket < n || l.pocket < n {
			return s.pay(n, false)
		}
	}
	a.pocket -= n
	l.pocket -= n
	return true
}

// refill takes a sixteenth of the window, if that leaves something.
func refill(pocket *int64, left *atomic.Int64, window int64) {
	n := window/16 - *pocket
	if had := left.Load(); n > 0 && had > n && left.CompareAndSwap(had, had-n) {
		*pocket += n
	}
}

// take takes n off an account above zero. One that is not stays as it is, so that nobody
// else finds it lower than it should be.
func take(left *atomic.Int64, n int64) bool {
	for {
		have := left.Load()
		if have <= 0 {
			return false
		}
		if left.CompareAndSwap(have, have-n) {
			return true
		}
	}
}

// refund gives back what was paid for a frame that was not taken, and lets go those who
// were kept back by it. Any goroutine.
func (s *Session) refund(n int64) {
	if n == 0 {
		return
	}
	s.credit.left.Add(n)
	s.t.ext.credit.left.Add(n)
	s.t.payQueue()
	s.t.retryShort()
}

// placedEarly is the end of a send that may have been paid for without a look at what is
// left: its frame has its place. The last of them lets our word go that we keep to the terms.
func (t *Table) placedEarly() {
	if l := &t.ext.credit; l.early.Add(-1) == 0 && l.open.Load() {
		t.ch.Post(t.greet)
	}
}

// payLast takes off what a last frame costs, and returns it: it never waits.
func (s *Session) payLast(f *codec.Frame) (cost int64) {
	if f.Kind == codec.KindCall && s.t.ext.credit.counting.Load() {
		cost = counted(f)
		s.pay(cost, true)
	}
	return cost
}

// payOffLoop waits until n is paid, in turn with the other goroutines.
func (s *Session) payOffLoop(ctx context.Context, n int64, last bool) error {
	l := &s.t.ext.credit
	noWait := ctx == channel.NoWait
	if n == 0 && last || (last || noWait || l.waiting.Load() == 0) && s.pay(n, last) {
		return nil
	}
	if noWait {
		s.t.payQueue() // who may have been kept back while we tried
		return channel.ErrFull
	}
	p := &payer{s: s, n: n, ready: make(chan struct{})}
	l.mu.Lock()
	l.queue = append(l.queue, p)
	l.waiting.Store(int64(len(l.queue)))
	l.payQueueLocked() // it may have come just now
	l.mu.Unlock()
	s.t.counts.shortages.Add(1)
	select {
	case <-p.ready:
	case <-ctx.Done():
		if l.leave(p) {
			return context.Cause(ctx)
		}
	}
	if !p.paid {
		return s.finished()
	}
	return nil
}

// payQueueLocked lets go those who can pay now, in turn. One whose session is out of
// credit does not keep back the others.
func (l *ledger) payQueueLocked() {
	rest := l.queue[:0]
	for _, p := range l.queue {
		over := p.s.tx.Closed() || !l.open.Load()
		if !over && !p.s.pay(p.n, false) {
			rest = append(rest, p)
			continue
		}
		p.paid = !over || !p.s.tx.Closed()
		close(p.ready)
	}
	clear(l.queue[len(rest):])
	l.queue = rest
	l.waiting.Store(int64(len(rest)))
}

// leave takes a goroutine out whose context ended; false if it has paid: a result that
// is there beats a context that is done.
func (l *ledger) leave(p *payer) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, q := range l.queue {
		if q == p {
			l.queue = append(l.queue[:i], l.queue[i+1:]...)
			l.waiting.Store(int64(len(l.queue)))
			return true
		}
	}
	return false
}

// wantCredit has the session's handler told when its peer has read.
func (t *Table) wantCredit(s *Session, refused int) {
	t.counts.shortages.Add(1)
	if t.starve(s, refused) {
		t.lineShort(s)
	}
}

// lineShort puts a session behind those who wait for credit on the loop.
func (t *Table) lineShort(s *Session) {
	l := &t.ext.credit
	if n := len(l.short); n >= minShort && n >= 2*t.ids.count {
		l.short = slices.DeleteFunc(l.short, func(s *Session) bool { return !s.hungry && s.lined&linedForCredit == 0 }) // they have ended
	}
	l.short = append(l.short, s)
	l.refused.Store(true) // then look again: credit may just have been given back
	if l.left.Load() > 0 && s.credit.left.Load() > 0 {
		t.retryShort()
	}
}

// minShort is how long the list of those who are short may be without a look whether all
// of them live.
const minShort = 64

// retryShort has those told who were refused, if credit has come back other than by a
// grant. Any goroutine.
func (t *Table) retryShort() {
	if t.ext.credit.refused.Load() {
		t.ch.Post(t.tellShort)
	}
}

// granted takes what the peer gives.
func (t *Table) granted(r *codec.Reader) {
	l := &t.ext.credit
	for r.Len() > 0 {
		id, n := r.Uint64(), r.Int64()
		left := &l.left
		if id != extensionSession {
			s := t.ids.get(id)
			if s == nil || s.Err() != nil {
				continue // it is over
			}
			left = &s.credit.left
		}
		if r.Err() != nil || n <= 0 || n > maxCredit || left.Load()+n > maxCredit {
			t.bad(channel.CodeBadCredit, "a grant that is no number of bytes, or makes no sense")
			return
		}
		left.Add(n)
	}
	t.payQueue()
	t.tellShort()
}

// tellShort tells the handlers that were refused, those whose accounts have filled.
func (t *Table) tellShort() {
	l := &t.ext.credit
	list := l.short
	l.short = nil
	defer func() { l.refused.Store(len(l.short) > 0) }()
	for i, s := range list {
		switch {
		case !s.hungry && s.lined&linedForCredit == 0: // it has ended
		case l.left.Load() <= 0:
			l.short = append(l.short, list[i:]...)
			return
		case s.credit.left.Load() <= 0:
			l.short = append(l.short, s)
		default:
			s.lined &^= linedForCredit
			s.tellWritable()
		}
	}
}

// freeAccount lets everybody send on a session that was cut: nobody at the other end reads
// it, so nobody gives credit.
func (t *Table) freeAccount(s *Session) {
	if t.ext.credit.on {
		s.credit.left.Add(maxCredit)
		t.payQueue()
	}
}

// payQueue lets go whoever waited to send on a session that takes nothing more.
func (t *Table) payQueue() {
	l := &t.ext.credit
	if l.waiting.Load() > 0 {
		l.mu.Lock()
		l.payQueueLocked()
		l.mu.Unlock()
	}
}
