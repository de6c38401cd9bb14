package channel

import (
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/internal/invariants"
)

const (
	readBytes = 256 << 10 // asked of a transport in one read
	// A begun frame of up to tenantBytes stays in the loop's read buffer, or is copied
	// back to its front; a longer one gets a buffer of its own that grows with what
	// was received, never with what was declared.
	tenantBytes  = 64 << 10
	scratchBytes = tenantBytes + readBytes
)

// inbound is the receiving half of a channel, owned by the loop.
type inbound struct {
	scan    codec.Scanner
	headers codec.HeaderDecoder
	list    []codec.Header
	msg     codec.Message

	held    []byte // received and not delivered: a begun frame, or whole ones while paused
	used    int    // delivered of it by the present parse
	telling int    // length of the frame that OnMessage is told of; 0 outside
	own     bool   // held is a buffer of its own; else it lies in loop.scratch
	paused  bool
	due     bool   // resumed, and what is held was not delivered yet
	ended   bool   // the transport has no more input
	first   bool   // a whole frame came
	bytes   uint64 // received

	frame      *Timer // watches a begun frame
	frameStart int64  // offset of it
	frameSince time.Time
	frameHad   uint64 // bytes received when the timer was set
	firstFrame *Timer
}

func (in *inbound) init(cfg *Config) {
	limits := cfg.Limits
	if n := cfg.FirstFrameBytes; n > 0 {
		limits.MaxPayloadBytes, limits.MaxFrameBytes = min(n, limits.MaxPayloadBytes), n
	}
	in.scan.Init(cfg.Dialect, limits)
	in.headers.Init(cfg.Limits)
}

// readSpace returns where the transport's next read goes: behind the begun frame.
func (c *Channel) readSpace() []byte {
	in, l := &c.in, c.loop
	if in.own && len(in.held) > tenantBytes {
		return c.growHeld()
	}
	if l.tenant != c {
		l.moveIn(c)
	}
	if l.scratch == nil {
		l.scratch = make([]byte, scratchBytes)
	}
	if in.own || in.held == nil {
		in.held = l.scratch[:copy(l.scratch, in.held)]
		in.own = false
	}
	return l.scratch[len(in.held):]
}

// moveIn gives the read buffer to c. What the last tenant has there moves out.
func (l *loop) moveIn(c *Channel) {
	if t := l.tenant; t != nil && !t.in.own {
		if len(t.in.held) > 0 {
			t.in.held = append([]byte(nil), t.in.held...)
			t.in.own = true
		} else {
			t.in.held = nil
		}
	}
	l.tenant = c
}

// growHeld makes room behind a long frame. The buffer doubles, so it is at most twice
// what was received and the copies add up to less than the frame.
func (c *Channel) growHeld() []byte {
	in := &c.in
	n := len(in.held)
	if cap(in.held)-n < max(min(in.scan.Need(), 4<<10), 1) {
		bigger := make([]byte, n, 2*n+4<<10)
		copy(bigger, in.held)
		in.held = bigger
	}
	return in.held[n:cap(in.held)]
}

// gotInput takes n bytes that were read into readSpace.
func (c *Channel) gotInput(n int) {
	in := &c.in
	in.bytes += uint64(n)
	in.held = in.held[:len(in.held)+n]
	if c.State() == Closed || c.broken != nil {
		return
	}
	c.schedule() // what was counted is published
	c.deliver()
}

// deliver hands out the whole frames in held, and keeps what is left.
func (c *Channel) deliver() {
	in := &c.in
	if in.paused {
		return
	}
	in.due = false
	c.loop.delivering = true
	used := c.parse(in.held)
	c.loop.delivering = false
	rest := in.held[used:]
	switch {
	case used == 0 && (in.own || len(rest) <= tenantBytes):
	case len(rest) == 0 && in.own:
		in.held, in.own = nil, false
		in.forget()
	case in.own || len(rest) <= tenantBytes:
		in.held = in.held[:copy(in.held, rest)]
		if in.own && cap(in.held) > scratchBytes && len(rest) <= tenantBytes {
			in.held = append([]byte(nil), in.held...) // let go of the long frame's buffer
			in.forget()
		}
	default:
		in.held, in.own = append([]byte(nil), rest...), true
	}
	if len(in.held) > 0 && !in.paused && (in.frame == nil || !in.frame.Active()) {
		c.watchFrame()
	}
}

// forget lets go of the last message, which lies in a buffer that is no longer needed.
func (in *inbound) forget() {
	in.msg = codec.Message{}
	clear(in.list[:cap(in.list)])
}

// survivor is a Handler that may take a panic in OnMessage on itself: one guard serves all
// frames of a read, and the channel goes on behind the one that failed.
type survivor interface {
	// Survive is called with what OnMessage panicked with, on top of its stack; false ends
	// the channel.
	Survive(v any) bool
}

// parse delivers the whole frames at the beginning of p and returns their length. It
// stops early when the owner pauses or the channel ends.
func (c *Channel) parse(p []byte) int {
	c.in.used = 0
	for c.parseOn(p) {
	}
	return c.in.used
}

// parseOn is parse behind what was used; true if it was ended by a panic that was survived.
func (c *Channel) parseOn(p []byte) (again bool) {
	defer func() {
		c.in.telling = 0
		if v := recover(); v != nil {
			if h, ok := c.h.(survivor); ok && h.Survive(v) {
				again = true
				return
			}
			c.panicked(v)
		}
	}()
	in, rest := &c.in, p[c.in.used:]
	for len(rest) > 0 && !in.paused && c.broken == nil {
		n, err := in.scan.Next(rest, &in.msg)
		if n == 0 {
			if err != nil {
				c.Fail(frameError(err, in.scan.Offset()))
			}
			break
		}
		if !in.first {
			c.gotFirstFrame()
		}
		c.stats.framesIn++
		var headers []codec.Header
		if in.msg.Headers != nil {
			if headers, err = c.decodeHeaders(); err != nil {
				c.Fail(frameError(err, in.scan.Offset()-int64(n)))
				break
			}
		}
		in.used += n
		in.telling = n
		c.h.OnMessage(&in.msg, headers)
		if invariants.Enabled {
			poison(rest[:n], headers)
		}
		rest = rest[n:]
	}
	return false
}

// poison overwrites what OnMessage was lent.
func poison(frame []byte, headers []codec.Header) {
	invariants.Poison(frame)
	for _, h := range headers { // some lie in the decoder's memory
		invariants.Poison(h.Name)
		invariants.Poison(h.Value)
	}
}

// decodeHeaders keeps the header tables right for every frame, whoever it is for.
func (c *Channel) decodeHeaders() ([]codec.Header, error) {
	in := &c.in
	list, err := in.headers.Decode(in.msg.Headers, in.list[:0])
	if err != nil {
		return nil, err
	}
	in.list = list
	return list, nil
}

// Pause stops reading: what the peer sends stays in the socket, and at most one more
// read that was under way is held. No message is delivered until Resume.
func (c *Channel) Pause() {
	if c.in.paused || c.State() == Closed {
		return
	}
	c.in.paused = true
	c.stats.pauses++
	c.stream.setPaused(true)
	c.schedule()
}

// Resume starts reading again; what is held is delivered first, later in this turn or
// in the next.
func (c *Channel) Resume() {
	if !c.in.paused || c.State() == Closed {
		return
	}
	c.in.paused, c.in.due = false, true
	c.stream.setPaused(false)
	c.schedule()
}

// mayRead reports whether the transport should read now. What a pause held back is
// delivered before: the read may find the end of the stream.
func (c *Channel) mayRead() bool {
	if c.in.due && !c.in.paused {
		c.deliver()
	}
	return !c.in.paused && c.broken == nil
}

// Paused reports whether reading is paused.
func (c *Channel) Paused() bool { return c.in.paused }

// Received counts the bytes read so far; any of them proves that the peer lives.
func (c *Channel) Received() uint64 { return c.in.bytes }

// Unread reports whether bytes of the peer wait: behind a Pause, or because nobody has come
// to read them yet. They prove life too.
func (c *Channel) Unread() bool {
	if c.in.paused && len(c.in.held) > 0 {
		return true
	}
	state := c.State()
	return (state == Open || state == Closing) && c.stream.unread()
}

// Poll reads once if that needs no waiting: the last look before a peer is called
// dead. What it finds is delivered before Poll returns. Within an OnMessage, of whatever
// channel on the loop, it does nothing: what that was lent lies where the read would go.
func (c *Channel) Poll() {
	if !c.in.paused && c.State() != Closed && !c.loop.delivering {
		c.stream.poll()
	}
}

// release gives the input's buffers back.
func (in *inbound) release(l *loop) {
	if l.tenant != nil && &l.tenant.in == in {
		l.tenant = nil
	}
	in.held, in.list, in.own = nil, nil, false
}

func (c *Channel) watchFirstFrame() {
	if d := c.cfg.FirstFrameTimeout; d < 1<<62 {
		c.in.firstFrame = c.NewTimer(func() {
			c.Fail(&CloseError{Code: CodeHandshakeTimeout, Remote: true, Reason: "no whole frame within " + d.String()})
		})
		c.in.firstFrame.Reset(d)
	}
}

func (c *Channel) gotFirstFrame() {
	c.in.first = true
	if c.in.firstFrame != nil {
		c.in.firstFrame.Stop()
	}
	if c.cfg.FirstFrameBytes > 0 {
		c.in.scan.SetLimits(c.cfg.Limits)
	}
}

// watchFrame cuts a peer that begins a frame and does not go on with it. The timer
// runs on while frames come; it looks at the present one when it fires.
func (c *Channel) watchFrame() {
	in := &c.in
	if in.frame == nil {
		in.frame = c.NewTimer(c.checkFrame)
	}
	in.frameStart, in.frameSince, in.frameHad = in.scan.Offset(), time.Now(), in.bytes
	in.frame.Reset(c.cfg.FrameTimeout)
}

func (c *Channel) checkFrame() {
	in := &c.in
	switch {
	case len(in.held) == 0 || in.paused:
		return // watched again when a frame is begun
	case in.scan.Offset() != in.frameStart:
		c.watchFrame()
		return
	case in.bytes-in.frameHad >= progressBytes || len(in.held) < progressBytes && time.Since(in.frameSince) < 3*c.cfg.FrameTimeout:
		in.frameHad = in.bytes
		in.frame.Reset(c.cfg.FrameTimeout)
		return
	}
	c.Fail(&CloseError{Code: CodeSlowFrame, Offset: in.frameStart, Remote: true,
		Reason: "a frame was begun and does not go on"})
}

func (c *Channel) stopTimers() {
	for _, t := range []*Timer{c.in.frame, c.in.firstFrame, c.o.stall, c.o.lastWords, c.drain.timer} {
		if t != nil {
			t.Stop()
		}
	}
}
