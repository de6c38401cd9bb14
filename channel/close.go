package channel

import (
	"context"
	"fmt"
	"io"
	"time"
)

const (
	// lingerTimeout bounds how long Close, after its last byte left, waits for the peer
	// to close too: a socket closed with unread input would reset what is still under way.
	lingerTimeout = time.Second
	// lastWords bounds how long a channel that cannot write any more is still read.
	lastWords = time.Second
)

// drain is the state of a channel that ends with what it accepted delivered.
type drain struct {
	halfClose bool
	linger    time.Duration
	written   bool // all output left
	timer     *Timer
}

// Close ends the channel: nothing more is accepted, what was is written within
// Config.DrainTimeout, then our direction is closed and the peer's end awaited for a
// second. It returns when the channel and its goroutines are gone; when ctx ends
// first it does not wait for the rest of the output, and only for a second for a
// callback that does not return: then the error is ctx's. Else the error, a
// *CloseError, says how much was not delivered; it is nil if everything was. Any
// goroutine but the loop; more than once.
func (c *Channel) Close(ctx context.Context) error {
	if c.fail(Idle, &CloseError{Code: CodeClosed}) || c.fail(Connecting, &CloseError{Code: CodeClosed}) {
		return nil
	}
	c.Post(func() { c.Drain(&CloseError{Code: CodeClosed}, true, lingerTimeout) })
	select {
	case <-c.done:
		return c.closed()
	case <-ctx.Done():
	}
	c.Post(func() { c.Fail(c.ending) }) // or what it ended for already
	stuck := time.NewTimer(lingerTimeout)
	defer stuck.Stop()
	select {
	case <-c.done:
		return c.closed()
	case <-stuck.C:
		return fmt.Errorf("channel: close: a callback does not return: %w", context.Cause(ctx))
	}
}

// closed waits for the goroutines of a closed channel and says what was lost.
func (c *Channel) closed() error {
	if c.wasOpen { // else whoever attaches it cleans up
		c.wait()
	}
	if c.closeErr.Undelivered > 0 {
		return c.closeErr
	}
	return nil
}

// Err returns what OnClose was told, nil before. Any goroutine.
func (c *Channel) Err() *CloseError {
	select {
	case <-c.done:
		return c.closeErr
	default:
		return nil
	}
}

// Fail ends the channel for the given reason at the end of this turn; output that
// has not left by then is dropped and counted. Only the first reason stands. err is the
// channel's from now on: within OnMessage, a Remote one without an Offset gets that of the
// frame.
func (c *Channel) Fail(err *CloseError) {
	if c.broken == nil && c.State() != Closed {
		if n := c.in.telling; n > 0 && err.Remote && err.Offset == 0 {
			err.Offset = c.in.scan.Offset() - int64(n)
		}
		c.broken = err
		c.seal(err)
		c.schedule()
	}
}

// Drain ends the channel with err after everything accepted so far has left, or
// after Config.DrainTimeout. Then, with halfClose, our direction is closed; and input
// is read until the peer closes or linger passes.
func (c *Channel) Drain(err *CloseError, halfClose bool, linger time.Duration) {
	if !c.fire(Open, evDrain) {
		return
	}
	c.seal(err)
	c.takeOver()
	c.ending = err
	c.drain = drain{halfClose: halfClose, linger: linger, timer: c.NewTimer(func() { c.Fail(c.ending) })}
	c.drain.timer.Reset(c.cfg.DrainTimeout)
	c.schedule()
}

// seal refuses every later Send.
func (c *Channel) seal(err *CloseError) {
	c.o.mu.Lock()
	if c.o.sealed == nil {
		c.o.sealed = err
	}
	c.o.refuseWaitersLocked()
	c.o.mu.Unlock()
}

func (c *Channel) sealedError() error {
	c.o.mu.Lock()
	defer c.o.mu.Unlock()
	if c.o.sealed == nil {
		return ErrNotOpen
	}
	return c.o.sealed
}

// endTurn writes, tells those who wait for space, and ends the channel if it is time.
func (c *Channel) endTurn() {
	c.o.scheduled = false
	if c.State() == Closed {
		return
	}
	if c.broken == nil {
		c.flush()
	}
	if c.broken == nil && c.State() == Closing {
		c.drained()
	}
	if c.broken != nil {
		c.finish(c.broken)
		return
	}
	c.watchStall()
	c.publish()
	c.tellWritable()
}

// drained goes on with the end once all output has left.
func (c *Channel) drained() {
	d := &c.drain
	switch {
	case c.o.failed != nil:
		c.broken = c.o.failed
		return
	case d.written || c.o.held() > 0 || len(c.o.urgent) > 0:
		return
	}
	d.written = true
	if d.halfClose {
		c.stream.closeWrite()
	}
	if d.linger <= 0 || c.in.ended {
		c.broken = c.ending
		return
	}
	if c.in.paused {
		c.Resume()
	}
	d.timer.Reset(d.linger)
}

// inputEnded is called by the transport when there is no more input: err is io.EOF
// or what broke.
func (c *Channel) inputEnded(err error) {
	c.in.ended = true
	switch {
	case c.o.failed != nil:
		c.Fail(c.o.failed)
	case c.State() != Closing:
		c.breakWith(err)
	case c.drain.written || c.o.held() == 0:
		c.Fail(c.ending)
	case err == io.EOF: // it drains too, and may still read
		c.schedule()
	default:
		c.breakWith(err)
	}
}

// breakWith ends the channel because the transport failed.
func (c *Channel) breakWith(err error) {
	c.Fail(ioError(err, len(c.in.held) > 0, c.in.scan.Offset()))
}

// finish is the end: it gives everything back and makes the last callback.
func (c *Channel) finish(err *CloseError) {
	c.takeOver()
	told := *err // which others may hold already
	told.Undelivered = int64(c.o.held())
	err = &told
	c.fire(c.State(), evFail)
	c.stopTimers()
	c.stream.close()
	c.in.release(c.loop)
	c.o.release(c.loop)
	c.publish()
	c.closeErr = err
	if c.private != nil {
		c.private.stop()
	}
	defer func() {
		if v := recover(); v != nil {
			c.log.Error("channel: OnClose panicked", "panic", v)
		}
		close(c.done)
	}()
	c.h.OnClose(err)
}
