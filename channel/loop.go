package channel

import (
	"sync"
	"time"
)

// loop is the serial executor that owns channels: one goroutine at a time runs a
// turn of it, which is posted functions, then input, then one flush.
//
// On the event loop that goroutine is the poller's, and many channels share it.
// Channels over a net.Conn or a local pair have a loop of their own, whose turns are
// run by whichever of the transport's goroutines holds the turn.
type loop struct {
	wake func() // has somebody run a turn soon; any goroutine

	mu     sync.Mutex // guards the following; no user code runs under it
	posts  []post
	dirty  []*Channel // channels with output of other goroutines
	armed  bool       // wake was called and the turn has not begun
	closed bool

	buffers buffers // any goroutine

	// owned by the turn
	sparePosts []post
	spareDirty []*Channel
	flush      []*Channel // channels that want endTurn
	scratch    []byte     // what the transport reads into, see inbound.go
	tenant     *Channel   // whose unfinished input lies at the start of scratch
	delivering bool       // OnMessage runs; what it was given lies in scratch
}

type post struct {
	c *Channel // whose function it is; nil: the loop's own
	f func()
}

// post has f run on the loop soon, after what was posted before. Any goroutine. It
// reports false, and drops f, if the loop has ended.
func (l *loop) post(c *Channel, f func()) bool {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return false
	}
	l.posts = append(l.posts, post{c, f})
	l.unlockAndWake()
	return true
}

// markDirty has the output that other goroutines gave to c taken over. Any goroutine.
func (l *loop) markDirty(c *Channel) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.dirty = append(l.dirty, c)
	l.unlockAndWake()
}

// unlockAndWake wakes the loop unless somebody has: many senders, one wake-up.
func (l *loop) unlockAndWake() {
	first := !l.armed
	l.armed = true
	l.mu.Unlock()
	if first {
		l.wake()
	}
}

// runPosts takes over what other goroutines sent and runs what was posted: whoever
// opens a session and then posts finds it installed.
func (l *loop) runPosts() {
	l.mu.Lock()
	posts, dirty := l.posts, l.dirty
	l.posts, l.dirty = l.sparePosts[:0], l.spareDirty[:0]
	l.armed = false
	l.mu.Unlock()
	for i, c := range dirty {
		dirty[i] = nil
		c.takeOver()
	}
	for i := 0; i < len(posts); i++ {
		i = runGuarded(posts, i)
	}
	clear(posts)
	l.sparePosts, l.spareDirty = keepSmall(posts), keepSmall(dirty)
}

// runGuarded runs posts from the i-th on. If one panics its channel ends, and the
// index of it is returned.
func runGuarded(posts []post, i int) (at int) {
	defer func() {
		if v := recover(); v != nil {
			posts[at].c.panicked(v)
		}
	}()
	for at = i; at < len(posts); at++ {
		if c := posts[at].c; c == nil || c.State() != Closed {
			posts[at].f()
		}
	}
	return at
}

// endTurn writes what the turn produced, once per channel.
func (l *loop) endTurn() {
	for i := 0; i < len(l.flush); i++ { // OnWritable and OnClose may add to it
		c := l.flush[i]
		l.flush[i] = nil
		c.endTurn()
	}
	l.flush = keepSmall(l.flush)
}

// close makes later posts fail.
func (l *loop) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
}

// keepSmall empties a slice for its next use, and lets go of what a burst made large.
func keepSmall[T any](s []T) []T {
	if cap(s) > 1024 {
		return nil
	}
	return s[:0]
}

// Timer runs a function on a channel's loop after a while. Its methods are for the
// loop.
type Timer struct {
	c      *Channel
	f      func()
	fire   func()      // posted when the time is over
	t      *time.Timer // made by the first Reset
	active bool
	due    time.Time // tells a late firing apart
}

// NewTimer returns a stopped timer whose f will run on the loop, never after OnClose.
func (c *Channel) NewTimer(f func()) *Timer {
	t := &Timer{c: c, f: f}
	t.fire = t.fired
	return t
}

// Reset has f run once, d from now, instead of any earlier Reset.
func (t *Timer) Reset(d time.Duration) {
	t.active, t.due = true, time.Now().Add(d)
	if t.t == nil {
		t.t = time.AfterFunc(d, func() { t.c.Post(t.fire) })
		return
	}
	t.t.Reset(d)
}

func (t *Timer) fired() {
	if t.active && !time.Now().Before(t.due) {
		t.active = false
		t.f()
	}
}

// Active reports whether a Reset is pending.
func (t *Timer) Active() bool { return t.active }

// Stop keeps f from running.
func (t *Timer) Stop() {
	if t.active {
		t.active = false
		t.t.Stop()
	}
}
