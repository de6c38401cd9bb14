package service

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// serve runs c's method in a goroutine; args are the call's own from now on.
func (c *Call) serve() {
	parent := c.k.server.base
	if c.m.Endless {
		parent = c.k.server.endless
	}
	expire := func() {}
	if timeout, ok := codec.TimeoutOf(c.s.Headers()); ok {
		var cancel context.CancelFunc
		parent, cancel = context.WithTimeout(parent, timeout)
		stop := context.AfterFunc(parent, c.expired(parent))
		expire = func() { stop(); cancel() }
	}
	ctx, cancel := c.s.Bind(parent)
	go func() {
		defer c.k.leave()
		defer expire()
		defer cancel()
		c.run(ctx)
	}()
}

// expired answers a method that has not returned at its deadline.
func (c *Call) expired(ctx context.Context) func() {
	return func() {
		if !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			return
		}
		c.k.table.Channel().Post(func() {
			if !c.s.Direction().Closed() {
				c.m.failed.Add(1)
				_ = c.ended(c.s.SendError(c.k.translate(context.DeadlineExceeded)))
			}
		})
	}
}

// limit has an OnLoop call that goes on end at the deadline that its client has set.
func (c *Call) limit() {
	timeout, ok := codec.TimeoutOf(c.s.Headers())
	if ok && !c.isAnswered() && c.s.ServedBy((*callEvents)(c)) {
		c.expiry = c.k.table.Channel().NewTimer(c.expire)
		c.expiry.Reset(timeout)
	}
}

// expire ends an OnLoop call that was not answered by its deadline: the client gets an
// error, the method its OnEnd. Whoever has taken the session over sees to it himself.
func (c *Call) expire() {
	if !c.isAnswered() && c.s.ServedBy((*callEvents)(c)) {
		c.m.failed.Add(1)
		c.s.Cut(c.k.translate(context.DeadlineExceeded))
	}
}

// isAnswered reports whether the client has all of the answer, or is to get it. A mute
// method is never answered. On the loop.
func (c *Call) isAnswered() bool {
	return c.k.answers(c.m) && (c.answered.Load() || c.s.Direction().Closed())
}

// run calls the method and answers, however it ends: it returns, panics, or calls
// runtime.Goexit.
func (c *Call) run(ctx context.Context) {
	returned := false
	defer func() {
		if !returned {
			c.fail(c.panicked(recover()))
		}
		c.ignore()
		if !c.kept {
			c.markOver()
		}
	}()
	err := context.Cause(ctx)
	if err != context.DeadlineExceeded { // which came too late: it is not begun
		err = c.m.Serve(ctx, c)
	}
	if c.m.Endless && c.m.value == nil && errors.Is(context.Cause(ctx), ErrServerClosed) {
		err = nil // the stream ended because it was told to
	}
	if err != nil {
		c.fail(err)
	} else if err := c.complete(); err != nil && errors.Is(err, session.ErrGraph) {
		c.fail(fmt.Errorf("%s has not finished its answer: %w", c.m.Name, err))
	}
	returned = true
}

// ignore drops what the client still sends behind a call whose method has returned.
func (c *Call) ignore() {
	if c.m.Tx != nil {
		c.k.table.Channel().Post(c.s.Ignore)
	}
}

// panicked logs that the method panicked with v, nil for runtime.Goexit, and returns what
// its client is told.
func (c *Call) panicked(v any) error {
	text := "runtime.Goexit"
	if v != nil {
		text = fmt.Sprint(v)
	}
	s := c.k.server
	s.counts.panics.Add(1)
	s.log.Error("service: a method panicked", "service", s.Name(), "method", c.m.Name, "panic", text, "stack", string(debug.Stack()))
	return fmt.Errorf("%s panicked: %s", c.m.Name, text)
}

// callEvents keeps the session's callbacks of an OnLoop call out of Call's method set.
type callEvents Call

// guarded calls f, which belongs to the method, on the loop.
func (c *Call) guarded(f func()) {
	defer c.caught()
	f()
}

// caught is deferred around the method's functions: a panic is answered.
func (c *Call) caught() {
	v := recover()
	if v == nil {
		return
	}
	err := c.panicked(v)
	if !c.answered.Load() && c.k.answers(c.m) { // the call may be OffLoop
		c.m.failed.Add(1)
		_ = c.ended(c.s.SendError(c.k.translate(err)))
	}
}

// OnChunk is for the session.
func (e *callEvents) OnChunk(s *session.Session, p []byte) {
	c := (*Call)(e)
	if c.onMessage != nil {
		defer c.caught()
		c.onMessage(s.Slot().Name, p)
	}
}

// OnChoke is for the session: the client has ended its direction.
func (e *callEvents) OnChoke(*session.Session) {
	if c := (*Call)(e); c.m.Endless && c.onLoop && !c.answered.Load() {
		c.guarded(func() { _ = c.complete() })
	}
}

// OnError is for the session: the client gave the call up, or is gone. Our direction ends
// too, so that nothing is left of the call.
func (e *callEvents) OnError(s *session.Session, err *session.Error) {
	c := (*Call)(e)
	c.k.end(c)
	if !s.Direction().Closed() && err.Err == nil {
		_ = c.ended(s.SendError(c.k.translate(err)))
	}
}

// OnWritable is for the session.
func (e *callEvents) OnWritable(s *session.Session) {
	c := (*Call)(e)
	if c.waiting == nil {
		if c.onWritable != nil {
			c.guarded(c.onWritable)
		}
		return
	}
	if s.SendChunk(c.waiting) == nil {
		c.waiting = nil
		_ = s.SendChoke()
	}
}
