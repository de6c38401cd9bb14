package channel

import (
	"io"
	"math"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Pair returns the two ends of an in-process link: ordered bytes both ways, like a
// connected TCP socket, late, sliced, stalled and cut as s says.
//
// The link has no goroutine. Its timers end when both ends are closed, so a pair may
// live in a testing/synctest bubble, where its times are virtual.
func Pair(s Script) (a, b *End) {
	k := &pairLink{start: time.Now(), armed: pairForever}
	for i, p := range []Path{s.AtoB, s.BtoA} {
		k.lane[i].init(p)
		k.timed = k.timed || p.Latency > 0 || len(p.Stalls) > 0
		k.end[i].link, k.end[i].side = k, i
		k.end[i].cond.L = k
	}
	k.settle(0) // a stall or a cut at 0 is on
	return &k.end[0], &k.end[1]
}

// An End is one end of a Pair: a [net.Conn] with CloseWrite. Any goroutine may call
// its methods; Writes of several goroutines do not mix.
//
// Errors are those of a TCP socket: io.EOF bare, everything else a *net.OpError around
// net.ErrClosed (this end is closed), os.ErrDeadlineExceeded, syscall.EPIPE (the other
// end is closed, or CloseWrite was called) or syscall.ECONNRESET (the script cut the
// link). News of a close takes the latency of its path and does not pass a stall; room
// made by a reader is known to the writer at once.
type End struct {
	link *pairLink // immutable
	side int       // immutable; 0 is a, 1 is b

	// guarded by link
	cond    sync.Cond // this end's Reads and Writes wait here
	notify  func()
	closed  bool
	writing bool // a Write is under way and others wait for their turn
	readBy  pairDeadline
	writeBy pairDeadline
}

var _ net.Conn = (*End)(nil)

func (e *End) in() *pairLane  { return &e.link.lane[1-e.side] }
func (e *End) out() *pairLane { return &e.link.lane[e.side] }
func (e *End) peer() *End     { return &e.link.end[1-e.side] }

// Read waits for bytes and copies what is there, at most what the script allows in
// one read.
func (e *End) Read(p []byte) (int, error) {
	e.link.Lock()
	defer e.link.Unlock()
	for {
		if e.readBy.expired {
			return 0, e.opError("read", os.ErrDeadlineExceeded)
		}
		n, err := e.readLocked(p)
		switch {
		case err == io.EOF:
			return 0, io.EOF
		case err != nil:
			return 0, e.opError("read", err)
		case n > 0 || len(p) == 0:
			return n, nil
		}
		e.cond.Wait()
	}
}

// Write copies p into the path and waits while the path is full. On an error it
// returns how many bytes the path has taken; those are delivered.
func (e *End) Write(p []byte) (n int, err error) {
	e.link.Lock()
	defer e.link.Unlock()
	for e.writing {
		e.cond.Wait()
	}
	e.writing = true
	defer func() {
		e.writing = false
		e.cond.Broadcast()
	}()
	for {
		if e.writeBy.expired {
			return n, e.opError("write", os.ErrDeadlineExceeded)
		}
		m, err := e.writeLocked(p[n:])
		if n += m; err != nil {
			return n, e.opError("write", err)
		}
		if n == len(p) {
			return n, nil
		}
		e.cond.Wait()
	}
}

// tryRead copies what is readable now into p. 0 and no error: nothing is. After a
// short read there may be more: only 0 says that notify will come. Errors are bare:
// io.EOF, net.ErrClosed or an errno.
func (e *End) tryRead(p []byte) (n int, err error) {
	e.link.Lock()
	defer e.link.Unlock()
	return e.readLocked(p)
}

// tryWrite copies into the path what it has room for. A short count, or 0 and no
// error, says that the path is full and that notify comes when it has room again.
func (e *End) tryWrite(p []byte) (n int, err error) {
	e.link.Lock()
	defer e.link.Unlock()
	return e.writeLocked(p)
}

// readable counts the bytes that could be read now.
func (e *End) readable() int {
	k := e.link
	k.Lock()
	defer k.Unlock()
	if k.settle(k.now()); e.closed || k.reset {
		return 0
	}
	return e.in().readable()
}

// setNotify has f called whenever this end may have become readable (bytes, EOF,
// reset) or writable again after a short tryWrite. f runs without locks, on any
// goroutine, possibly for nothing, and once more at most after Close. It is not called
// for what happened before setNotify: try once after it.
func (e *End) setNotify(f func()) {
	e.link.Lock()
	defer e.link.Unlock()
	e.notify = f
}

func (e *End) readLocked(p []byte) (int, error) {
	k, in := e.link, e.in()
	now := k.now()
	k.settle(now)
	switch {
	case e.closed:
		return 0, net.ErrClosed
	case k.reset:
		return 0, syscall.ECONNRESET
	case in.ended:
		return 0, io.EOF
	}
	n := in.read(p)
	if n > 0 {
		if in.short {
			in.short = false
			k.wake(1 - e.side)
		}
		k.settle(now) // this read may have come to a stall, a cut or the end
	}
	return n, nil
}

func (e *End) writeLocked(p []byte) (int, error) {
	k, out := e.link, e.out()
	now := k.now()
	k.settle(now)
	switch {
	case e.closed:
		return 0, net.ErrClosed
	case k.reset:
		return 0, syscall.ECONNRESET
	case out.fin, e.in().left:
		return 0, syscall.EPIPE
	}
	n := out.write(p, now)
	if n < len(p) {
		out.short = true
	}
	if n > 0 {
		k.settle(now)
		if out.latency == 0 {
			k.wake(1 - e.side)
		}
	}
	return n, nil
}

// CloseWrite ends what this end writes: the other end reads io.EOF after the bytes
// that are under way. Reading goes on.
func (e *End) CloseWrite() error {
	k := e.link
	k.Lock()
	defer k.Unlock()
	if e.closed {
		return e.opError("close", net.ErrClosed)
	}
	now := k.now()
	e.out().finish(now, false)
	k.settle(now)
	e.cond.Broadcast() // a Write that waits gets EPIPE
	return nil
}

// Close drops what was not read here and ends both directions. Bytes that are under
// way still arrive at the other end, then io.EOF; its writes fail. Reads and Writes
// that wait here return net.ErrClosed. A second Close does nothing.
func (e *End) Close() error {
	k := e.link
	k.Lock()
	defer k.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	e.readBy.set(e, time.Time{})
	e.writeBy.set(e, time.Time{})
	now := k.now()
	e.out().finish(now, true)
	k.settle(now)
	e.cond.Broadcast()
	if e.peer().closed {
		k.drop()
	}
	return nil
}

// SetDeadline sets both deadlines. The zero time means none.
func (e *End) SetDeadline(t time.Time) error {
	return e.setDeadlines(t, &e.readBy, &e.writeBy)
}

// SetReadDeadline has Reads fail with os.ErrDeadlineExceeded from t on.
func (e *End) SetReadDeadline(t time.Time) error { return e.setDeadlines(t, &e.readBy) }

// SetWriteDeadline has Writes fail with os.ErrDeadlineExceeded from t on.
func (e *End) SetWriteDeadline(t time.Time) error { return e.setDeadlines(t, &e.writeBy) }

func (e *End) setDeadlines(t time.Time, ds ...*pairDeadline) error {
	e.link.Lock()
	defer e.link.Unlock()
	if e.closed {
		return e.opError("set", net.ErrClosed)
	}
	for _, d := range ds {
		d.set(e, t)
	}
	return nil
}

// LocalAddr returns an address of network "pair", named "a" or "b".
func (e *End) LocalAddr() net.Addr { return pairAddr(e.side) }

// RemoteAddr returns the other end's LocalAddr.
func (e *End) RemoteAddr() net.Addr { return pairAddr(1 - e.side) }

func (e *End) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "pair", Source: e.LocalAddr(), Addr: e.RemoteAddr(), Err: err}
}

type pairAddr int

func (pairAddr) Network() string  { return "pair" }
func (a pairAddr) String() string { return string(rune('a' + a)) }

// A pairDeadline is one deadline of an End, guarded by its link.
type pairDeadline struct {
	timer   *time.Timer
	expired bool
}

func (d *pairDeadline) set(e *End, t time.Time) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	wait := time.Until(t)
	d.expired = !t.IsZero() && wait <= 0
	switch {
	case d.expired:
		e.cond.Broadcast()
	case !t.IsZero():
		var timer *time.Timer
		timer = time.AfterFunc(wait, func() {
			e.link.Lock()
			defer e.link.Unlock()
			if d.timer == timer { // else it was set anew while this one fired
				d.expired = true
				e.cond.Broadcast()
			}
		})
		d.timer = timer
	}
}

// pairForever is the time of what never happens.
const pairForever = time.Duration(math.MaxInt64)

// pairLink is what two ends share. It is the Locker of their conditions, so that a
// Wait, too, calls the notify functions that are due.
type pairLink struct {
	start time.Time // immutable; the link counts time from here
	timed bool      // immutable; some path has latency or stalls

	mu    sync.Mutex // guards the following
	end   [2]End
	lane  [2]pairLane // lane[i] is written by end[i]
	calls [2]bool     // ends whose notify is called by the next Unlock
	reset bool
	timer *time.Timer
	armed time.Duration // when timer fires; pairForever if it does not
}

// Lock takes the link's lock.
func (k *pairLink) Lock() { k.mu.Lock() }

// Unlock releases the link's lock and then calls the notify functions that are due.
func (k *pairLink) Unlock() {
	var calls [2]func()
	for i, due := range k.calls {
		if due {
			calls[i] = k.end[i].notify
		}
	}
	k.calls = [2]bool{}
	k.mu.Unlock()
	for _, f := range calls {
		if f != nil {
			f()
		}
	}
}

// now is the time since start. A link on which time changes nothing does not ask.
func (k *pairLink) now() time.Duration {
	if !k.timed {
		return 0
	}
	return time.Since(k.start)
}

// wake tells end i that it may be readable or writable.
func (k *pairLink) wake(i int) {
	k.end[i].cond.Broadcast()
	k.calls[i] = !k.end[i].closed
}

// settle does what was due up to now and sets the timer for what comes next.
func (k *pairLink) settle(now time.Duration) {
	if k.reset || k.end[0].closed && k.end[1].closed {
		return
	}
	next := pairForever
	for i := range k.lane {
		l := &k.lane[i]
		if !l.advance(now) {
			next = min(next, l.next(now))
			continue
		}
		k.wake(1 - i)
		if l.left {
			k.lane[1-i].drop() // nobody will read it
		}
		if l.ended && l.cut.Kind == CutRST && l.atCut() {
			k.reset = true
			k.wake(i)
			k.drop()
			return
		}
		next = min(next, l.next(now))
	}
	k.arm(now, next)
}

// arm has settle called at next, or earlier.
func (k *pairLink) arm(now, next time.Duration) {
	if next >= k.armed {
		return
	}
	k.armed = next
	if k.timer == nil {
		k.timer = time.AfterFunc(next-now, k.tick)
		return
	}
	k.timer.Reset(next - now)
}

func (k *pairLink) tick() {
	k.Lock()
	defer k.Unlock()
	k.armed = pairForever
	k.settle(k.now())
}

// drop ends the link: no byte is left and no timer runs.
func (k *pairLink) drop() {
	if k.timer != nil {
		k.timer.Stop()
	}
	for i := range k.lane {
		k.lane[i].drop()
	}
}
