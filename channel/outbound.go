package channel

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/valyala/bytebufferpool"
)

const (
	markEvery = 16 << 10 // distance of the frame boundaries that are remembered
)

// Party is a session as its channel sees it.
type Party interface {
	// Direction returns the session's sending direction.
	Direction() *Direction
	// Assigned runs under a lock on the opener's goroutine; it may only store the number.
	Assigned(id uint64)
	// Opened runs on the loop before any byte of the opening frame is written, in the
	// order of the numbers; it may only install the session. at is the frame's offset
	// in the outbound stream, to be compared with [Channel.Written].
	Opened(at int64)
	// Finished runs on the loop when the direction's last frame has its place in the
	// outbound order. It may send.
	Finished()
}

// Direction is one session's sending direction. Whoever sends, nothing is accepted
// behind its last frame: v1 runtimes drop the whole connection for that.
type Direction struct {
	closed atomic.Bool // set under the channel's lock
}

// Closed reports whether the last frame was accepted. Any goroutine.
func (d *Direction) Closed() bool { return d.closed.Load() }

// Close closes the direction of a session that never sends; the channel does not know it
// yet. Any goroutine.
func (d *Direction) Close() { d.closed.Store(true) }

// Part says which part of its session a frame is.
type Part uint8

// The parts of a session. First gives it the next number; Last closes its direction,
// and in v0 puts a choke behind an error.
const (
	First Part = 1 << iota
	Last
)

// milestone is a first or last frame in the batch of other goroutines.
type milestone struct {
	p    Party
	part Part
	at   int // of the frame in pend
}

// outbound is the sending half of a channel. There is one order: frames are written
// in the order in which they were accepted, from whatever goroutine.
type outbound struct {
	queued  atomic.Int64  // bytes accepted and not taken by the transport
	waiting atomic.Bool   // a sender waits for space
	waits   atomic.Uint64 // how many ever did
	wasFull atomic.Bool   // OnWritable is owed; set by the loop
	pending atomic.Bool   // pend is not empty

	mu      sync.Mutex  // guards the following; no user code runs under it
	sealed  *CloseError // why nothing more is accepted
	nextID  uint64
	pend    *bytebufferpool.ByteBuffer // frames of other goroutines
	ends    []int                      // ends of the frames in pend
	stones  []milestone
	waiters []*waiter // in turn

	// owned by the loop
	spareEnds   []int
	spareStones []milestone
	out         *bytebufferpool.ByteBuffer // frames; out.B[off:] is not taken yet
	off         int
	base        int64   // offset of out.B[0] in the stream
	bounds      []int64 // remembered frame boundaries behind base+off, ascending
	mid         bool    // the transport took a part of a frame
	urgent      []byte  // control frames, to go at the next boundary
	beating     bool    // a heartbeat is among them
	urgentOff   int     // taken of it
	urgentNow   bool    // the last nextWrite was of urgent
	scheduled   bool    // in loop.flush
	blocked     bool    // the transport takes no more for now
	inFlight    bool    // bytes are lent to the transport; the buffer must not move
	lent        int64   // how many of them, heartbeats aside
	telling     bool    // and posted
	stall       *Timer
	stallMark   int64
	written     int64       // frame bytes taken by the transport, heartbeats aside
	failed      *CloseError // nothing is written any more; the peer's last words are read
	lastWords   *Timer
}

// Written returns how many bytes of the outbound stream the transport has taken, or may
// have taken. A session whose opening frame lies behind it was not sent at all.
func (c *Channel) Written() int64 { return c.o.written + c.o.lent }

// held counts the accepted bytes that have not left.
func (o *outbound) held() int { return int(o.queued.Load()) }

// check refuses what the peer could not take. size bounds the frame. A frame that
// cannot be encoded panics here, where no lock is held.
func (c *Channel) check(f *codec.Frame, size int) error {
	if f.Kind == 0 || f.Kind > codec.KindCall {
		panic("channel: no frame of " + f.Kind.String())
	}
	l := &c.cfg.Limits
	if m := l.MaxPayloadBytes; len(f.Payload) > m || len(f.Text) > m || len(f.Args) > m && !argsFit(f.Args, m) {
		return ErrTooLarge
	}
	if size > l.MaxFrameBytes || len(f.Headers) > l.MaxHeaders {
		return ErrTooLarge
	}
	headerBytes := 0
	for i := range f.Headers {
		headerBytes += len(f.Headers[i].Name) + len(f.Headers[i].Value)
	}
	if headerBytes > l.MaxHeaderBytes {
		return ErrTooLarge
	}
	return nil
}

// argsFit reports whether each value of a large argument array has at most limit bytes; how
// large all of it may be is for the frame's limit to say.
func argsFit(args []byte, limit int) bool {
	r := codec.NewReader(args)
	for r.Len() > 0 {
		size := 0
		if r.Peek() == codec.RawValue {
			size = len(r.Bytes())
		} else {
			size = len(r.Raw())
		}
		if size > limit {
			return false
		}
	}
	return r.Err() == nil
}

// refusal is why the loop's frames are not taken at all; nil if they may be.
func (c *Channel) refusal() error {
	if c.State() != Open || c.broken != nil || c.o.failed != nil {
		return c.sealedError()
	}
	return nil
}

// Send copies one frame that belongs to no session into the output. It never waits:
// above the high water mark it returns ErrFull, and OnWritable follows. Once the
// channel ends it returns the *CloseError.
func (c *Channel) Send(f *codec.Frame) error { return c.SendOf(nil, f, 0) }

// SendOf is Send for a frame of the session p. With First, f.Session is set.
func (c *Channel) SendOf(p Party, f *codec.Frame, part Part) error {
	size := maxSize(f, part)
	if err := c.check(f, size); err != nil {
		return err
	}
	if err := c.refusal(); err != nil {
		return err
	}
	once := f.Kind == codec.KindHandshake || f.Kind == codec.KindTerminate
	if part == 0 && !once {
		return c.sendPart(p, f, size)
	}
	if once {
		c.o.queued.Add(int64(size)) // once in a channel's life; there is always room for it
	} else if !c.reserve(size) {
		return c.noRoom()
	}
	if err := c.admit(p, f, part); err != nil {
		c.unreserve(size)
		return err
	}
	if part&First != 0 {
		p.Opened(c.outEnd())
	}
	c.append(f, size, part)
	if part&Last != 0 && p != nil {
		p.Finished()
	}
	return nil
}

// sendPart sends a frame that is neither first nor last. Its size is reserved when it is
// known, which takes one locked operation in the place of two; whoever filled the output
// meanwhile has it taken back.
func (c *Channel) sendPart(p Party, f *codec.Frame, size int) error {
	o := &c.o
	if o.queued.Load() >= int64(c.cfg.HighWaterBytes) {
		return c.noRoom()
	}
	if err := c.admit(p, f, 0); err != nil {
		return err
	}
	n := c.encodeOut(f, size, 0)
	if !c.reserve(n) {
		o.out.B = o.out.B[:len(o.out.B)-n]
		return c.noRoom()
	}
	c.appended()
	return nil
}

// admit checks a frame of the loop against its session's direction, at a moment when
// the loop has taken over all that others sent: what passes has its place behind
// everything accepted so far. First and last frames pass under the lock, so that no
// number and no frame of the direction can slip in between.
func (c *Channel) admit(p Party, f *codec.Frame, part Part) error {
	for {
		if c.o.pending.Load() {
			c.takeOver()
		}
		if part == 0 {
			if p != nil && p.Direction().Closed() {
				return ErrFinished
			}
			return nil
		}
		c.o.mu.Lock()
		if !c.o.pending.Load() {
			err := c.admitLocked(p, f, part)
			c.o.mu.Unlock()
			return err
		}
		c.o.mu.Unlock()
	}
}

func (c *Channel) admitLocked(p Party, f *codec.Frame, part Part) error {
	if p == nil {
		return nil
	}
	if p.Direction().Closed() {
		return ErrFinished
	}
	if part&First != 0 {
		if c.o.nextID >= maxSessionID {
			return ErrExhausted
		}
		f.Session = c.o.nextID
		c.o.nextID++
		p.Assigned(f.Session)
	}
	if part&Last != 0 {
		p.Direction().closed.Store(true)
	}
	return nil
}

// maxSize bounds the bytes of f, and of the choke that may follow it.
func maxSize(f *codec.Frame, part Part) int {
	n := f.MaxSize()
	if part&Last != 0 && f.Kind == codec.KindError {
		n += 16
	}
	return n
}

// encode appends f to dst.
func (c *Channel) encode(dst []byte, f *codec.Frame, part Part) []byte {
	dst = codec.AppendFrame(dst, c.cfg.Dialect, f)
	if part&Last != 0 && f.Kind == codec.KindError && c.cfg.Dialect == codec.V0 {
		dst = codec.AppendFrame(dst, codec.V0, &codec.Frame{Kind: codec.KindChoke, Session: f.Session})
	}
	return dst
}

// append encodes f behind everything accepted; size was reserved for it.
func (c *Channel) append(f *codec.Frame, size int, part Part) {
	if n := c.encodeOut(f, size, part); n != size {
		c.o.queued.Add(int64(n - size))
	}
	c.appended()
}

// encodeOut encodes f, of size bytes at most, behind everything accepted, and returns how
// many it has taken.
func (c *Channel) encodeOut(f *codec.Frame, size int, part Part) (n int) {
	o := &c.o
	if o.out == nil {
		o.out = c.loop.buffers.get()
	}
	before := len(o.out.B)
	o.out.B = c.encode(room(o.out.B, size), f, part)
	return len(o.out.B) - before
}

// appended counts the frame that was encoded last, and has it written.
func (c *Channel) appended() {
	c.mark(c.outEnd())
	c.schedule()
	if o := &c.o; len(o.out.B)-o.off >= writeAhead {
		c.flush()
	}
}

// outEnd is the offset in the stream of the byte after the last accepted one.
func (c *Channel) outEnd() int64 {
	if c.o.out == nil {
		return c.o.base
	}
	return c.o.base + int64(len(c.o.out.B))
}

// mark counts a frame and remembers its end if the last remembered one is far enough
// off. The end of the first frame is always remembered: nothing overtakes a handshake.
func (c *Channel) mark(end int64) {
	c.stats.framesOut++
	last := c.o.base
	if n := len(c.o.bounds); n > 0 {
		last = c.o.bounds[n-1]
	}
	if end-last >= markEvery || last == 0 {
		c.o.bounds = append(c.o.bounds, end)
	}
}

// NoWait, as the context of a send, has it return ErrFull instead of waiting.
var NoWait context.Context = noWait{context.Background()}

type noWait struct{ context.Context }

// SendOffLoop is Send for every other goroutine. It waits for the output to fall
// below the water mark until ctx ends; with NoWait it returns ErrFull instead.
func (c *Channel) SendOffLoop(ctx context.Context, f *codec.Frame) error {
	return c.SendOfOffLoop(ctx, nil, f, 0)
}

// SendOfOffLoop is SendOf for every other goroutine; it waits as SendOffLoop does.
// Number, session and frame go into one batch under one lock, so that numbers grow on
// the wire whoever opens.
func (c *Channel) SendOfOffLoop(ctx context.Context, p Party, f *codec.Frame, part Part) error {
	size := maxSize(f, part)
	if err := c.check(f, size); err != nil {
		return err
	}
	if s := c.State(); s == Idle || s == Connecting {
		return ErrNotOpen
	}
	c.o.mu.Lock()
	if err := c.o.sealed; err != nil {
		c.o.mu.Unlock()
		return err // written once
	}
	if len(c.o.waiters) == 0 && c.reserve(size) {
		return c.appendAndUnlock(p, f, part, size)
	}
	if ctx == NoWait {
		c.o.mu.Unlock()
		return ErrFull
	}
	w := &waiter{p: p, f: *f, part: part, size: size, ready: make(chan struct{})}
	c.o.waiters = append(c.o.waiters, w)
	c.o.waits.Add(1)
	c.o.waiting.Store(true) // then look again: the loop may just have made room
	low := c.o.queued.Load() <= int64(c.cfg.LowWaterBytes)
	c.o.mu.Unlock()
	if low {
		c.Post(c.tellWritable)
	}
	select {
	case <-w.ready:
	case <-ctx.Done():
		if c.giveUp(w) {
			return context.Cause(ctx)
		}
	}
	return w.err
}

// appendAndUnlock encodes f into the batch of other goroutines, releases the lock and
// wakes the loop if the batch was empty.
func (c *Channel) appendAndUnlock(p Party, f *codec.Frame, part Part, size int) error {
	first := !c.o.pending.Load()
	err := c.appendLocked(p, f, part, size)
	c.o.mu.Unlock()
	switch {
	case err != nil:
		c.unreserve(size)
	case first:
		c.loop.markDirty(c)
	}
	return err
}

// appendLocked encodes f, for which size is reserved, into the batch of other goroutines.
// If it refuses f, the caller gives that back.
func (c *Channel) appendLocked(p Party, f *codec.Frame, part Part, size int) error {
	o := &c.o
	if err := c.admitLocked(p, f, part); err != nil {
		return err
	}
	if o.pend == nil {
		o.pend = c.loop.buffers.get()
	}
	before := len(o.pend.B)
	if part != 0 && p != nil {
		o.stones = append(o.stones, milestone{p, part, before})
	}
	o.pend.B = c.encode(room(o.pend.B, size), f, part)
	end := len(o.pend.B)
	if n := end - before; n != size {
		o.queued.Add(int64(n - size))
	}
	o.ends = append(o.ends, end)
	o.pending.Store(true)
	return nil
}

// takeOver puts the batch of other goroutines behind what the loop has accepted, and
// installs the sessions that it opens.
func (c *Channel) takeOver() {
	o := &c.o
	if !o.pending.Load() || c.State() == Closed {
		return
	}
	o.mu.Lock()
	pend, ends, stones := o.pend, o.ends, o.stones
	o.pend, o.ends, o.stones = nil, o.spareEnds[:0], o.spareStones[:0]
	o.spareEnds, o.spareStones = nil, nil // Finished may send, and come back here
	o.pending.Store(false)
	o.mu.Unlock()
	at := c.outEnd()
	if o.out == nil {
		o.out = pend
	} else {
		o.out.B = append(room(o.out.B, len(pend.B)), pend.B...)
		c.loop.buffers.put(pend)
	}
	for _, end := range ends {
		c.mark(at + int64(end))
	}
	c.schedule()
	for _, m := range stones {
		if m.part&First != 0 {
			c.opened(m, at)
		}
	}
	for _, m := range stones {
		if m.part&Last != 0 {
			c.finished(m)
		}
	}
	clear(stones)
	o.spareEnds, o.spareStones = keepSmall(ends), keepSmall(stones)
}

// opened tells a session that its first frame has its place, in a batch that begins at
// the given offset. One that panics does not keep it from the others.
func (c *Channel) opened(m milestone, at int64) {
	defer c.guard()
	m.p.Opened(at + int64(m.at))
}

// finished tells a session that its last frame has its place.
func (c *Channel) finished(m milestone) {
	defer c.guard()
	m.p.Finished()
}

// release gives the buffers back; nothing is sent any more.
func (o *outbound) release(l *loop) {
	if !o.inFlight { // lent bytes stay where they are
		l.buffers.put(o.out)
	}
	o.out, o.urgent, o.urgentOff, o.bounds = nil, nil, 0, nil
}
