package session

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
)

// Splice sets up Session.Forward. The zero value works.
type Splice struct {
	// Translate says what one side is told when the other ended other than by an error of
	// its peer, which passes as it is: its channel was lost, or it was failed here. If
	// nil, that is [42, 208] and the error's message. On the loop of the side that ended.
	Translate func(fromCallee bool, e *Error) (category, code int64, message string)
	// OnAnswered, if set, is called once, when the callee has ended its direction, was
	// lost, or is given up because nobody wants its answer. On the loop of the callee.
	OnAnswered func()
	// OnEnd, if set, is called once, when both sessions are over. On the loop of either.
	OnEnd func()
	// Linger is how long a caller may be silent behind the callee's choke before its own
	// is taken as sent: many never send one, and the callee would wait for it for good.
	// Likewise a callee whose caller has failed the call, and that never ends it. If zero,
	// 30 s. If negative, no limit.
	Linger time.Duration
}

// Forward opens event at the peer of to, a table of role Engine, on a new session, and
// joins s with it: chunks, chokes and errors pass both ways. Of a frame only the head is
// written anew; the payload is copied once and not looked at. If both channels lie on one
// loop that is all there is; else frames are handed from loop to loop.
//
// s is a stream that the peer opened and of which nothing was handed over; usually it is
// paused. Each direction stands still while the other side's output is full, the other
// sessions go on. An error says that nothing was opened, and s is left as it was:
// errors.Is channel.ErrFull is worth another try. On the loop of s.
func (s *Session) Forward(to *Table, event string, headers []codec.Header, cfg Splice) error {
	if e := s.Err(); e != nil || !s.installed {
		return notSent(s.finished())
	}
	j := &joint{cfg: cfg, near: s.t.ch.SameLoop(to.ch)}
	j.left.Store(2)
	callee, f, err := to.prepare(event, headers, &j.callee)
	if err != nil {
		return notSent(err)
	}
	j.caller = leg{j: j, from: s, to: callee}
	j.callee = leg{j: j, from: callee, to: s}
	callee.duplex = true
	callee.onEnded(j.callee.over)
	if j.near {
		_, err = to.open(callee, &f, channel.First)
	} else if err = to.ch.SendOfOffLoop(channel.NoWait, callee, &f, channel.First); err != nil {
		err = notSent(err)
	}
	if err != nil {
		return err
	}
	s.duplex = true
	s.onEnded(j.caller.over)
	s.SetHandler(&j.caller)
	s.Resume()
	return nil
}

// joint is two sessions that were joined. Each leg is owned by the loop of its from, but
// for rest, which goes to the loop of to and back.
type joint struct {
	cfg            Splice
	near           bool // both on one loop
	left           atomic.Int32
	caller, callee leg
}

// leg is the Handler of one of the two, and takes what comes there to the other.
type leg struct {
	j        *joint
	from, to *Session
	rest     []byte // a chunk that to had no room for
	passed   int    // chunks
	choked   bool
	told     bool           // OnAnswered was called
	waits    bool           // rest waits for to to have room; owned by the loop of to
	linger   *channel.Timer // owned by the loop of from
}

// OnChunk passes a chunk on. One that finds no room is kept, and its session paused.
func (l *leg) OnChunk(_ *Session, p []byte) {
	l.passed++
	var err error
	if l.j.near {
		err = l.to.SendChunk(p)
	} else {
		err = l.to.sendOffLoop(channel.NoWait, codec.Frame{Kind: codec.KindChunk, Payload: p}, 0)
	}
	switch {
	case err == nil:
	case errors.Is(err, channel.ErrFull):
		l.keep(p)
	case errors.Is(err, channel.ErrTooLarge):
		l.from.t.failSession(l.from, CodeOverflow, "a chunk is larger than the other side takes")
	} // else nobody is there to want it
}

func (l *leg) keep(p []byte) {
	s := l.from
	l.rest = append(l.rest[:0], p...)
	s.held |= heldByLeg
	s.later = s.streamed && s.t.ext.credit.on
	s.refused = len(p) + chunkCost
	s.t.wait(s, s.refused)
	if l.j.near {
		l.waits = true
	} else {
		l.to.t.ch.Post(l.retry)
	}
}

// retry sends what is kept. On the loop of to, which tells when it is worth another try.
func (l *leg) retry() {
	if l.waits = l.to.SendChunk(l.rest) == channel.ErrFull; l.waits {
		return
	}
	l.on(l.from, l.goOn)
}

// goOn lets more come. On the loop of from.
func (l *leg) goOn() {
	s := l.from
	s.read(len(l.rest))
	if cap(l.rest) > keepBatch {
		l.rest = nil
	}
	s.t.wait(s, -s.refused)
	s.refused = 0
	s.release(heldByLeg)
}

// OnWritable says that the session which this leg reads has room for what the other leg
// keeps for it.
func (l *leg) OnWritable(*Session) { l.other().retry() }

func (l *leg) other() *leg {
	if l == &l.j.caller {
		return &l.j.callee
	}
	return &l.j.caller
}

// OnChoke passes the end of the stream on.
func (l *leg) OnChoke(*Session) {
	l.choked = true
	l.end(codec.Frame{Kind: codec.KindChoke})
	if l == &l.j.callee {
		l.answered()
		l.on(l.to, l.other().await)
	}
}

// OnError passes an error on, or says in its place that the session was lost. When the
// callee has failed nobody wants what the caller still sends, and when the caller is lost
// nobody gets what the callee does.
func (l *leg) OnError(_ *Session, e *Error) {
	fromCallee := l == &l.j.callee
	f := l.frameOf(e, fromCallee)
	if !fromCallee && (!e.Remote || l.from.tx.Closed()) { // lost, or cancelled in both directions
		l.giveUp(f)
		return
	}
	l.end(f)
	if !fromCallee {
		if l.other().waits { // after an error nobody is told of room
			l.other().retry()
		}
		l.on(l.to, l.other().await)
		return
	}
	l.answered()
	if e.Remote {
		_ = l.from.SendChoke() // or it was sent
	}
	l.on(l.to, l.to.Ignore)
}

func (l *leg) frameOf(e *Error, fromCallee bool) codec.Frame {
	category, code, message := e.Category, e.Code, e.Message
	switch {
	case e.Remote && l.from.Dialect() == codec.V0:
		category = CategoryWorker
	case e.Remote:
	case l.j.cfg.Translate != nil:
		category, code, message = l.j.cfg.Translate(fromCallee, e)
	default:
		category, code = CategoryWorker, CodeFailed
	}
	return l.to.errorFrame(category, code, message)
}

// giveUp ends the callee's session because nobody gets its answer any more: by a cancel,
// which overtakes what lies before it, where that was agreed on.
func (l *leg) giveUp(f codec.Frame) {
	if l.to.Cancels() {
		l.on(l.to, func() { l.to.Cancel(f.Category, f.Code, f.Text) })
		return
	}
	l.end(f)
	l.on(l.to, l.to.Ignore)
}

// end sends the last frame of the direction.
func (l *leg) end(f codec.Frame) {
	if l.j.near {
		_ = l.to.sendLast(f) // or it has ended
		return
	}
	if l.to.sendOffLoop(channel.NoWait, f, channel.Last) == channel.ErrFull {
		l.to.t.ch.Post(func() { _ = l.to.sendLast(f) })
	}
}

// answered tells that of the callee, whose leg this is.
func (l *leg) answered() {
	if f := l.j.cfg.OnAnswered; f != nil && !l.told {
		l.told = true
		f()
	}
}

// on runs f on the loop of s, at once if this is it.
func (l *leg) on(s *Session, f func()) {
	if l.j.near {
		f()
		return
	}
	s.t.ch.Post(f)
}

// await gives a side whose other side has ended its time to end, too. On its loop.
func (l *leg) await() {
	s, wait := l.from, l.j.cfg.Linger
	if wait == 0 {
		wait = defaultLinger
	}
	if wait < 0 || l.choked || !s.installed || s.Err() != nil {
		return
	}
	passed := l.passed
	l.linger = s.t.ch.NewTimer(func() {
		if passed != l.passed || s.held != 0 { // it is not silent, or not heard
			passed = l.passed
			l.linger.Reset(wait)
			return
		}
		l.end(codec.Frame{Kind: codec.KindChoke})
		s.Ignore()
	})
	l.linger.Reset(wait)
}

const defaultLinger = 30 * time.Second

// over is the end of the session that the leg reads.
func (l *leg) over() {
	if l.linger != nil {
		l.linger.Stop()
	}
	if l == &l.j.callee {
		l.answered()
	}
	l.j.ended()
}

func (j *joint) ended() {
	if j.left.Add(-1) == 0 && j.cfg.OnEnd != nil {
		j.cfg.OnEnd()
	}
}
