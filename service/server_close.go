package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// closeGrace is how long Close waits, after its ctx, for methods to notice theirs.
const closeGrace = time.Second

// tally counts what Close waits for: Serve methods that run, and OnLoop calls that were
// not answered at once.
type tally struct {
	closed atomic.Bool // set under mu

	mu      sync.Mutex // guards the following; never held across a call
	n       int
	serving int           // of n, the Serve methods
	empty   chan struct{} // made by wait, closed when n is 0
}

// enter counts one more OnLoop call, unless closing has begun.
func (t *tally) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed.Load() {
		return false
	}
	t.n++
	return true
}

// enterServe counts one more Serve method, unless limit of them run (a negative one is
// none) or closing has begun.
func (t *tally) enterServe(limit int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed.Load() || limit >= 0 && t.serving >= limit {
		return false
	}
	t.n++
	t.serving++
	return true
}

// leave is the end of an OnLoop call.
func (t *tally) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leaveLocked()
}

// leaveServe is the end of a Serve method.
func (t *tally) leaveServe() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.serving--
	t.leaveLocked()
}

func (t *tally) leaveLocked() {
	if t.n--; t.n == 0 && t.empty != nil {
		close(t.empty)
		t.empty = nil
	}
}

func (t *tally) closing() bool { return t.closed.Load() }

func (t *tally) close() {
	t.mu.Lock()
	t.closed.Store(true)
	t.mu.Unlock()
}

func (t *tally) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

// wait returns when nothing is counted, or ctx is done. It is called once at a time, after
// close.
func (t *tally) wait(ctx context.Context) error {
	t.mu.Lock()
	if t.n == 0 {
		t.mu.Unlock()
		return nil
	}
	empty := make(chan struct{})
	t.empty = empty
	t.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close stops listening, refuses new calls, ends the Endless ones, and lets the others
// end until ctx does; then it cuts what is left. What was answered is written out before
// the connections are closed. It returns when everything that the server started is gone,
// or soon after ctx: a second for methods to notice theirs, and one for the connections.
// The error is that of ctx if calls had to be cut. Methods that ignore their context, or
// block the loop, are left behind, and the error says so. Later calls wait for the first
// one and return its error.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	first := !s.closing
	s.closing = true
	s.mu.Unlock()
	if first {
		s.closeErr = s.close(ctx)
		close(s.closed)
		return s.closeErr
	}
	select {
	case <-s.closed:
		return s.closeErr
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Server) close(ctx context.Context) error {
	s.calls.close()
	s.mu.Lock()
	listeners := s.listeners
	s.mu.Unlock()
	var errs []error
	for _, l := range listeners {
		errs = append(errs, l.Close())
	}
	s.cutFirst(ErrServerClosed)
	s.each(func(k *Callee) { k.post(k.endEndless) })
	if err := s.calls.wait(ctx); err != nil {
		errs = append(errs, fmt.Errorf("service: close %s: %d calls were cut: %w", s.Name(), s.calls.len(), err))
	}
	s.cut(ErrServerClosed)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeGrace)
	defer cancel()
	_ = s.calls.wait(grace) // methods answer that they were cut
	if ctx.Err() == nil {
		s.closeChannels(ctx)
	} else {
		s.closeChannels(grace)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeGrace)
	defer cancel()
	if s.calls.wait(last) != nil { // those who wait for their session went on
		errs = append(errs, fmt.Errorf("service: close %s: %d methods ignore their context", s.Name(), s.calls.len()))
	}
	return errors.Join(append(errs, s.closeRest(last))...)
}

// closeRest waits for the goroutines of the connections and listeners, and ends the loops
// that are the server's own.
func (s *Server) closeRest(ctx context.Context) error {
	gone := make(chan struct{})
	go func() {
		s.waiting.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-ctx.Done():
		return fmt.Errorf("service: close %s: a method on the loop does not return", s.Name())
	}
	s.mu.Lock()
	own := s.own
	s.mu.Unlock()
	if own == nil {
		return nil
	}
	return own.Close(ctx)
}

// each calls f for every channel that is served.
func (s *Server) each(f func(k *Callee)) {
	s.mu.Lock()
	list := make([]*Callee, 0, len(s.callees))
	for k := range s.callees {
		list = append(list, k)
	}
	s.mu.Unlock()
	for _, k := range list {
		f(k)
	}
}

// closeChannels closes the connections at once, and takes the calls of other channels
// back.
func (s *Server) closeChannels(ctx context.Context) {
	var all sync.WaitGroup
	s.each(func(k *Callee) {
		if k.owned {
			all.Go(func() { _ = k.table.Channel().Close(ctx) }) // its own end is the client's business
		} else {
			k.post(k.failAll)
			s.drop(k)
		}
	})
	all.Wait()
}

func (k *Callee) post(f func()) { k.table.Channel().Post(f) }

// Stats returns a snapshot of the counters.
func (s *Server) Stats() ServerStats {
	s.mu.Lock()
	st := ServerStats{Conns: s.conns}
	var refused uint64
	for _, l := range s.listeners {
		refused += l.Stats().Refused
	}
	for k := range s.callees {
		if k.owned { // the others' sessions are their owner's to count
			st.Sessions += k.table.Stats().Open
		}
	}
	s.mu.Unlock()
	c := &s.counts
	st.Accepted, st.RefusedConns = c.accepted.Load(), c.refusedConns.Load()+refused
	st.Pending = s.calls.len()
	st.Unknown, st.BadArgs, st.Busy = c.unknown.Load(), c.badArgs.Load(), c.busy.Load()
	st.Closing, st.Panics = c.closing.Load(), c.panics.Load()
	for _, m := range s.api.methods {
		of := s.methods[m.ID]
		st.Methods = append(st.Methods, MethodStats{Name: m.Name, Calls: of.calls.Load(), Failed: of.failed.Load()})
	}
	return st
}
