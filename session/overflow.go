package session

import (
	"context"
	"strconv"
	"sync/atomic"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
)

// Policy says what becomes of a chunk of ours for which there is no room: the output is
// above its high water mark, or there is no credit. Chunks are what SendChunk, Send and
// Write send. A message that is sent by its number is waited for, or refused, whatever the
// policy: others may build on it. A last frame is never lost.
type Policy uint8

// The policies.
const (
	// Park waits: a goroutine does, in Send. The loop cannot, there it is Refuse.
	Park Policy = iota
	// Refuse gives channel.ErrFull at once. A Handler that is [Writable] is told when
	// there is room.
	Refuse
	// DropNewest drops this chunk, and counts it. The send returns nil.
	DropNewest
	// DropOldest takes the chunk into a queue of the session, and drops the oldest ones
	// that wait there beyond its bounds. The send returns nil. The queue is sent in order,
	// as there is room and credit, and before the session's choke or its value; an error
	// overtakes it, and drops it.
	DropOldest
	// Cut gives the session up, as Session.Cancel does, with [42, 209]. The send returns
	// that as a local error.
	Cut
)

// Overflow is the policy of one session. The zero value is what every session begins with.
type Overflow struct {
	Policy Policy
	// MaxBytes and MaxChunks bound the queue of DropOldest; each chunk counts for 16 bytes
	// beside its own. If zero, 256 KiB and 256 chunks. If negative, no limit. One chunk is
	// queued whatever its size.
	MaxBytes, MaxChunks int
}

// outcome is what is done with one chunk.
type outcome uint8

const (
	toWait outcome = iota
	toRefuse
	toDrop
	toQueue
	toCut
)

// policies is what each policy does for who sends: the loop or another goroutine.
var policies = [...]struct {
	name            string
	loop, goroutine outcome
}{
	Park:       {"park", toRefuse, toWait},
	Refuse:     {"refuse", toRefuse, toRefuse},
	DropNewest: {"drop_newest", toDrop, toDrop},
	DropOldest: {"drop_oldest", toQueue, toQueue},
	Cut:        {"cut", toCut, toCut},
}

// String returns the policy's name, e.g. "drop_oldest".
func (p Policy) String() string {
	if int(p) < len(policies) {
		return policies[p].name
	}
	return "policy " + strconv.Itoa(int(p))
}

// SetOverflow says what becomes of chunks that find no room from now on. What DropOldest
// has queued is sent nevertheless. It holds for what Forward passes on to this session,
// too. It panics if there is no such policy. Any goroutine, at any time.
func (s *Session) SetOverflow(o Overflow) {
	if int(o.Policy) >= len(policies) {
		panic("session: there is no overflow " + o.Policy.String())
	}
	b := s.overflow.Load()
	if b == nil {
		if o.Policy == Park {
			return
		}
		if b = new(backlog); !s.overflow.CompareAndSwap(nil, b) {
			b = s.overflow.Load()
		}
	}
	b.set(o)
}

// Dropped counts the chunks of ours that were dropped because there was no room for them.
// Any goroutine.
func (s *Session) Dropped() uint64 {
	if b := s.overflow.Load(); b != nil {
		return b.dropped.Load()
	}
	return 0
}

// lack is what a chunk did not find.
type lack uint8

const (
	lacksNothing lack = iota
	lacksRoom
	lacksCredit
	lacksTurn // others of its session wait
)

// chunkHere sends a chunk under a policy. On the loop.
func (s *Session) chunkHere(b *backlog, f *codec.Frame) error {
	if s.owing.Load() || s.tx.Closed() {
		return s.finished()
	}
	short := lacksTurn
	if !b.waits() {
		var err error
		if short, err = s.try(f); short == lacksNothing {
			return err
		}
	}
	switch b.outcome(true) {
	case toDrop:
		s.lose(b, &s.t.counts.droppedNewest, 1)
	case toQueue:
		return s.enqueue(b, f.Payload, short)
	case toCut:
		return s.overrun(b)
	default:
		s.want(short, len(f.Payload)+chunkCost)
		return channel.ErrFull
	}
	return nil
}

// sendUnder is sendOffLoop for a session with a policy. What is no chunk waits until
// those that are queued have their place.
func (s *Session) sendUnder(ctx context.Context, b *backlog, f codec.Frame, part channel.Part) error {
	if s.tx.Closed() {
		return s.finished()
	}
	todo := toWait
	switch f.Kind {
	case codec.KindError:
		s.lose(b, &s.t.counts.droppedOldest, b.discard())
		return s.putOffLoop(ctx, f, part)
	case codec.KindChunk:
		todo = b.outcome(false)
	}
	if todo == toWait {
		if err := b.await(ctx); err != nil {
			return err
		}
		if s.owing.Load() {
			return s.finished()
		}
		return s.putOffLoop(ctx, f, part)
	}
	if !b.waits() {
		if err := s.putOffLoop(channel.NoWait, f, part); err != channel.ErrFull {
			return err
		}
	}
	switch todo {
	case toDrop:
		s.lose(b, &s.t.counts.droppedNewest, 1)
		return nil
	case toQueue:
		return s.enqueue(b, f.Payload, lacksTurn)
	case toCut:
		return s.overrun(b)
	}
	return channel.ErrFull
}

// enqueue takes a copy of a chunk into the queue, and has that sent in time. On the loop
// it is known what for: room or credit. Else the loop is to see.
func (s *Session) enqueue(b *backlog, p []byte, short lack) error {
	if len(p) > s.t.ch.MaxPayloadBytes() {
		return channel.ErrTooLarge
	}
	dropped, first := b.keep(p)
	s.lose(b, &s.t.counts.droppedOldest, dropped)
	switch {
	case !first:
	case short != lacksTurn:
		s.line(short)
	case !s.t.ch.Post(s.flushPosted):
		s.lose(b, &s.t.counts.droppedOldest, b.discard())
		return &Error{Message: "the channel is closing"}
	}
	return nil
}

// overrun gives the session up. Nothing is taken from now on; that it is over is told by
// the loop, later: no callback runs inside a send.
func (s *Session) overrun(b *backlog) error {
	e := &Error{Category: CategoryWorker, Code: CodeNoRoom, Message: "the peer does not read what is sent to it"}
	if !b.cut.CompareAndSwap(nil, e) {
		return s.finished()
	}
	s.owing.Store(true)
	s.t.counts.overruns.Add(1)
	s.t.ch.Post(func() {
		s.forsaken = true
		s.Cancel(e.Category, e.Code, e.Message)
	})
	return e
}

// lose counts chunks that were dropped. Any goroutine.
func (s *Session) lose(b *backlog, reason *atomic.Uint64, n int) {
	if n > 0 {
		b.dropped.Add(uint64(n))
		reason.Add(uint64(n))
	}
}

// flush sends what is queued, as far as there is room and credit, and then the last frame
// that waits behind it. On the loop.
func (s *Session) flush() {
	b := s.overflow.Load()
	if b.flushing { // a callback of the send below has come back here
		return
	}
	b.flushing = true
	for f, ok := b.next(); ok; f, ok = b.next() {
		f.Session = s.id
		if f.Kind != codec.KindChunk {
			_ = s.putLast(f) // or the direction has ended otherwise
			b.placed()
			continue
		}
		short, err := s.try(&f)
		if short != lacksNothing && !s.tx.Closed() {
			s.lose(b, &s.t.counts.droppedOldest, b.putBack(f.Payload))
			s.line(short)
			break
		}
		if short != lacksNothing || err != nil { // nobody will take it
			s.lose(b, &s.t.counts.droppedOldest, 1)
		}
		b.placed()
	}
	b.flushing = false
}

// flushPosted is flush for what other goroutines have queued. Whoever was refused behind
// that is told here if it is all sent: it stands in no line.
func (s *Session) flushPosted() {
	if s.flush(); s.hungry && !s.overflow.Load().waits() {
		s.tellWritable()
	}
}

// flushAtEnd sends what is queued, or drops it, when the session was cut. On the loop.
func (s *Session) flushAtEnd() {
	if s.overflow.Load() != nil {
		s.flush()
	}
}

// Lists that a session is in for what it has queued.
const (
	linedForRoom uint8 = 1 << iota
	linedForCredit
)

// line has the queue sent when there is room, or credit: in turn with the handlers that
// wait for it.
func (s *Session) line(short lack) {
	p := &s.t.pause
	if short == lacksCredit {
		s.t.counts.shortages.Add(1)
		if s.lined&linedForCredit == 0 {
			s.lined |= linedForCredit
			s.t.lineShort(s)
		}
		return
	}
	p.full = true
	if s.lined&linedForRoom == 0 {
		s.lined |= linedForRoom
		p.hungry = append(p.hungry, s)
	}
}
