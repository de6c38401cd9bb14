package worker

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// OnInvoke gives a new session to its handler.
func (e events) OnInvoke(s *Session) {
	w := e.w
	w.counts.invoked++
	if w.State() != Connected {
		w.counts.refused++
		w.answer(s, workerError(session.CodeTerminating, "the worker is terminating"))
		return
	}
	h, onLoop := w.mux.find(s.Event())
	switch {
	case onLoop != nil && tooLate(s):
		w.answer(s, sessionError(context.DeadlineExceeded))
	case onLoop != nil:
		w.serveOnLoop(s, onLoop)
	case h == nil:
		w.counts.noHandler++
		w.answer(s, workerError(session.CodeNoHandler, "there is no handler for the event %q", s.Event()))
	default:
		w.begin(w.newInvocation(s, h))
	}
}

// begin serves an invocation now, or when a goroutine is free; or not at all if it came
// too late.
func (w *Worker) begin(v *invocation) {
	switch {
	case v.ctx.Err() != nil:
		v.drop()
	case w.active < w.cfg.Concurrency:
		w.serve(v)
	default:
		w.wait(v)
	}
}

// answer ends our direction, if it has not ended: nil is a choke. The session ends with
// it, since nobody reads any more.
func (w *Worker) answer(s *Session, e *session.Error) {
	switch {
	case s.Direction().Closed():
	case e == nil:
		_ = s.SendChoke()
	default:
		_ = s.SendError(e.Category, e.Code, e.Message)
	}
	s.Ignore()
}

// invocation is a session with its handler, which runs in a goroutine or waits for one.
type invocation struct {
	w       *Worker
	s       *Session
	h       Handler
	ctx     context.Context    // bound to s
	cancel  context.CancelFunc // of ctx
	expire  context.CancelFunc // of its deadline; nil if it has none
	proceed func() bool        // ends the wait; false if it was cut short

	// owned by the goroutine, and by the loop after it
	returned bool
	result   *session.Error // what the peer is told; nil is a choke
}

// newInvocation binds the session to a context, with a deadline from now if the
// opening frame carries one.
func (w *Worker) newInvocation(s *Session, h Handler) *invocation {
	v := &invocation{w: w, s: s, h: h}
	parent := w.base
	if timeout, ok := codec.TimeoutOf(s.Headers()); ok {
		parent, v.expire = context.WithTimeout(parent, timeout)
	}
	v.ctx, v.cancel = s.Bind(parent)
	return v
}

// release gives back what the context holds.
func (v *invocation) release() {
	v.cancel()
	if v.expire != nil {
		v.expire()
	}
}

// serve runs the handler in a goroutine. However it ends, the loop answers.
func (w *Worker) serve(v *invocation) {
	w.active++
	w.counts.running.Add(1)
	w.running.Go(v.run)
}

func (v *invocation) run() {
	defer v.end()
	v.result = sessionError(v.h(v.ctx, v.s)) // an error's methods may panic too
	v.returned = true
}

// end is deferred by run: the handler returned, panicked or called runtime.Goexit.
func (v *invocation) end() {
	if !v.returned {
		v.result = v.w.panicked(v.s, recover())
	}
	v.release()
	v.w.counts.running.Add(-1)
	v.w.ch.Post(v.served)
}

// panicked logs the stack and returns what the peer is told. A nil v is the end of the
// goroutine by runtime.Goexit.
func (w *Worker) panicked(s *Session, v any) *session.Error {
	text := "runtime.Goexit"
	if v != nil {
		text = fmt.Sprint(v)
	}
	w.counts.panics.Add(1)
	w.log.Error("worker: a handler panicked", "event", s.Event(), "panic", text, "stack", string(debug.Stack()))
	return workerError(session.CodePanic, "the handler of %q panicked: %s", s.Event(), text)
}

// served is the end of a handler, on the loop.
func (v *invocation) served() {
	w := v.w
	w.answer(v.s, v.result)
	if w.active > 0 { // 0 after the grace: it was given up
		w.active--
	}
	for len(w.waiting) > 0 && w.active < w.cfg.Concurrency {
		next := w.waiting[0]
		w.waiting = slices.Delete(w.waiting, 0, 1)
		if next.proceed() {
			w.serve(next)
		} else {
			next.drop()
		}
	}
	w.finishIfIdle()
}

// wait has the invocation served when a goroutine is free, or answered as soon as it
// is cut: by the peer, its deadline or the end of the grace.
func (w *Worker) wait(v *invocation) {
	w.waiting = append(w.waiting, v) // as many as there may be sessions
	v.proceed = context.AfterFunc(v.ctx, func() {
		w.ch.Post(func() {
			if i := slices.Index(w.waiting, v); i >= 0 {
				w.waiting = slices.Delete(w.waiting, i, i+1)
				v.drop()
			}
		})
	})
}

// drop answers an invocation that was cut before its handler began.
func (v *invocation) drop() {
	v.w.answer(v.s, sessionError(context.Cause(v.ctx)))
	v.release()
}

// tooLate reports whether no time is left for a request.
func tooLate(s *Session) bool {
	left, ok := codec.TimeoutOf(s.Headers())
	return ok && left <= 0
}

// serveOnLoop begins e here and now.
func (w *Worker) serveOnLoop(s *Session, e *loopEvent) {
	l := &loopHandler{w: w, e: e}
	s.SetHandler(l)
	l.guarded(s, func() { l.h = e.begin(s) })
	if l.h == nil {
		s.Ignore()
	}
}

// loopHandler stands between a session and a handler on the loop: it tells the
// watchdog, and ends the session if the handler panics.
type loopHandler struct {
	w *Worker
	e *loopEvent
	h session.Handler // nil when nothing is to be told any more: the session ignores its peer
}

func (l *loopHandler) guarded(s *Session, f func()) {
	l.w.watch.enter(l.e)
	defer l.leave(s)
	f()
}

func (l *loopHandler) leave(s *Session) {
	if v := recover(); v != nil {
		l.Survive(s, v)
	}
}

// Survive is for the session: what to do about a panic of the handler.
func (l *loopHandler) Survive(s *Session, v any) bool {
	l.h = nil
	l.w.answer(s, l.w.panicked(s, v))
	return true
}

// OnChunk is for the session, which guards it: a guard for each chunk would cost more than
// all else here.
func (l *loopHandler) OnChunk(s *Session, p []byte) {
	l.w.watch.enter(l.e)
	l.h.OnChunk(s, p)
}

// OnChoke is for the session.
func (l *loopHandler) OnChoke(s *Session) { l.guarded(s, func() { l.h.OnChoke(s) }) }

// OnError is for the session. Whatever the handler does, our direction ends.
func (l *loopHandler) OnError(s *Session, err *session.Error) {
	if h := l.h; h != nil {
		l.h = nil // nothing follows
		l.guarded(s, func() { h.OnError(s, err) })
	}
	l.w.answer(s, sessionError(err))
}

// OnWritable is for the session.
func (l *loopHandler) OnWritable(s *Session) {
	if h, ok := l.h.(session.Writable); ok && !s.Direction().Closed() {
		l.guarded(s, func() { h.OnWritable(s) })
	}
}
