package worker

import (
	"context"
	"fmt"

	"github.com/sluice-rpc/sluice/session"
)

// Handler serves one session in a goroutine. ctx ends when the session is cut (its
// cause says why), at its deadline (the header request_timeout, from its arrival) and
// at the end of a terminate's grace.
// The returned error ends our direction: nil a choke; a *session.Error its category
// (0 means 42) and code; any other error [42, 208]. Nothing is sent if the handler
// ended the direction itself.
type Handler func(ctx context.Context, s *Session) error

// LoopHandler begins to serve a session on the channel's loop. It must not block, nor
// call runtime.Goexit: the loop would be gone. The session.Handler that it returns takes
// what the peer sends; nil says that nothing of it is wanted. It ends our direction by
// SendChoke or SendError, now or later. The deadline of a request is not kept here: the
// engine cuts the session then, and the handler's OnError is told.
type LoopHandler func(s *Session) session.Handler

// Middleware wraps a Handler.
type Middleware func(next Handler) Handler

// loopEvent is an event that is served on the loop.
type loopEvent struct {
	name  string
	begin LoopHandler
}

// mux finds the handler of an event. It is filled before Run and read-only after.
type mux struct {
	goroutine map[string]Handler
	loop      map[string]*loopEvent
	fallback  Handler
	wrap      []Middleware
	frozen    bool
}

func (m *mux) init() {
	m.goroutine, m.loop = make(map[string]Handler), make(map[string]*loopEvent)
}

// Handle has h serve the event, each session in a goroutine. Before Run; a second
// handler for an event panics, as in net/http.
func (w *Worker) Handle(event string, h Handler) {
	w.mux.check(event, h == nil)
	w.mux.goroutine[event] = h
}

// HandleFunc has f serve the event on the channel's loop: no goroutine, no copy, and
// no blocking. Otherwise as Handle; middleware does not apply.
func (w *Worker) HandleFunc(event string, f LoopHandler) {
	w.mux.check(event, f == nil)
	w.mux.loop[event] = &loopEvent{event, f}
}

// check panics if a handler cannot be added.
func (m *mux) check(event string, missing bool) {
	m.open()
	_, a := m.goroutine[event]
	_, b := m.loop[event]
	switch {
	case missing:
		panic(fmt.Sprintf("worker: the handler of %q is nil", event))
	case a || b:
		panic(fmt.Sprintf("worker: two handlers for %q", event))
	}
}

func (m *mux) open() {
	if m.frozen {
		panic("worker: handlers are registered before Run")
	}
}

// Fallback has h serve every event without a handler; s.Event tells which. Without
// one, or with nil, they are answered with [42, 200]. Before Run.
func (w *Worker) Fallback(h Handler) {
	w.mux.open()
	w.mux.fallback = h
}

// Use wraps every Handler, the fallback too: the first middleware is the outermost.
// Before Run.
func (w *Worker) Use(m ...Middleware) {
	w.mux.open()
	w.mux.wrap = append(w.mux.wrap, m...)
}

// freeze applies the middleware.
func (m *mux) freeze() {
	m.frozen = true
	for i := len(m.wrap) - 1; i >= 0; i-- {
		for event, h := range m.goroutine {
			m.goroutine[event] = m.wrap[i](h)
		}
		if m.fallback != nil {
			m.fallback = m.wrap[i](m.fallback)
		}
	}
}

// find returns the handler of an event in one of its two forms.
func (m *mux) find(event string) (Handler, *loopEvent) {
	if e := m.loop[event]; e != nil {
		return nil, e
	}
	if h := m.goroutine[event]; h != nil {
		return h, nil
	}
	return m.fallback, nil
}
