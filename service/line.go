package service

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// line keeps one connection to a service: it resolves, connects, and comes back when the
// connection is lost. Nobody but callers, and the loss of a connection that was there,
// sets it in motion.
type line struct {
	// immutable
	name   string
	cfg    *Config
	base   *BaseService
	source func(ctx context.Context) (Resolved, error)
	ctx    context.Context // of all flights
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // flights
	stays  bool           // a connection that was there is tried for until Close; set by who makes the line

	mu       sync.Mutex // guards the following; no user code runs under it
	flight   *flight    // nil if nobody tries to connect
	pending  int        // callers that wait
	failures int        // tries and short connections in a row
	last     lastAnswer // of source
	closed   bool
	closeErr error // closed: why, if not ErrClosed
	leaving  bool  // there is another line by now: nobody waits for this one any more
	was      bool  // there was a connection
	random   rand.PCG
	counts   lineCounts
}

// lineCounts are what a line adds to ServiceStats.
type lineCounts struct {
	resolves, connects, losses, refused uint64
}

// flight is a series of tries to connect, shared by all who wait.
type flight struct {
	// guarded by line.mu
	wake     chan struct{} // closed and replaced behind each try
	tries    []Try         // how they failed
	attempts int           // how many have ended
	over     bool          // there will be no more
	err      error         // over: why, nil if it connected
	hurry    chan struct{} // nil unless nobody asked for it yet: then there is one try, and a caller who closes it has that made at once, and more behind it
}

func newLine(name string, cfg *Config, onState func(Change), source func(context.Context) (Resolved, error)) *line {
	l := &line{name: name, cfg: cfg, source: source, base: NewBaseService(cfg.base(onState))}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.random.Seed(rand.Uint64(), rand.Uint64())
	return l
}

// acquire returns the connection, and waits for it as the Config says: through back-offs
// if patient, else only for the try that is under way. Its errors are *ResolveError.
func (l *line) acquire(ctx context.Context, patient bool) (*link, error) {
	if c := l.base.link.Load(); c != nil {
		return c, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := l.joinLocked(patient)
	if err != nil {
		return nil, err
	}
	defer func() { l.pending-- }()
	l.pending++
	for first := f.attempts; ; {
		if c := l.base.link.Load(); c != nil {
			return c, nil
		}
		if f.over && f.err != nil || f.attempts > first && !patient {
			return nil, l.failedLocked(f, nil)
		}
		if f.over { // connected, and lost again before we saw it
			l.pending-- // we are the one that may wait
			f, err = l.joinLocked(patient)
			l.pending++
			if err != nil {
				return nil, err
			}
			first = f.attempts
		}
		wake := f.wake
		l.mu.Unlock()
		over := false
		select {
		case <-wake:
		case <-ctx.Done():
			over = true
		}
		l.mu.Lock()
		if c := l.base.link.Load(); over && c == nil {
			return nil, l.failedLocked(f, context.Cause(ctx))
		}
	}
}

// joinLocked returns the flight to wait for, a new one if there is none.
func (l *line) joinLocked(patient bool) (*flight, error) {
	switch f := l.flight; {
	case l.closed || l.leaving:
		return nil, &ResolveError{Name: l.name, Err: cmp.Or(l.closeErr, ErrClosed)}
	case f != nil && f.hurry == nil && !patient && l.base.Stage() == StageWait:
		return nil, l.putOffLocked(f)
	case l.pending >= l.cfg.MaxPending:
		l.counts.refused++
		return nil, l.failedLocked(f, ErrTooManyPending)
	case f == nil:
		l.startLocked(0)
	case f.hurry != nil:
		close(f.hurry)
		f.hurry = nil
	}
	return l.flight, nil
}

// failedLocked is the error of a caller that waited for f.
func (l *line) failedLocked(f *flight, cause error) *ResolveError {
	e := &ResolveError{Name: l.name, Err: cause}
	if f == nil {
		return e
	}
	e.Tries = f.tries[:len(f.tries):len(f.tries)]
	if cause == nil && errors.Is(f.err, ErrClosed) {
		e.Err = ErrClosed
	}
	return e
}

// putOffLocked is the error of a caller that does not wait for the next try of f: how the
// last ones failed, or else the loss that it is put off for.
func (l *line) putOffLocked(f *flight) *ResolveError {
	e := l.failedLocked(f, nil)
	if lost := l.base.Err(); len(e.Tries) == 0 && lost != nil {
		e.Tries = []Try{{Stage: StageWait, Err: lost}}
	}
	return e
}

// startLocked begins to connect after a while.
func (l *line) startLocked(wait time.Duration) {
	f := &flight{wake: make(chan struct{})}
	l.flight = f
	if wait > 0 {
		l.base.setStage(StageWait)
	}
	l.wg.Go(func() { l.fly(f, wait, nil) })
}

// startIdleLocked begins to connect after a while, or when the next caller comes.
func (l *line) startIdleLocked(wait time.Duration) {
	hurry := make(chan struct{})
	f := &flight{wake: make(chan struct{}), hurry: hurry}
	l.flight = f
	if wait > 0 {
		l.base.setStage(StageWait)
	}
	l.wg.Go(func() { l.fly(f, wait, hurry) })
}

// fly tries until there is a connection, or it makes no sense any more. The first wait
// ends with hurry.
func (l *line) fly(f *flight, wait time.Duration, hurry <-chan struct{}) {
	for {
		err := l.wait(wait, hurry)
		hurry = nil
		if err == nil {
			err = l.attempt()
		}
		var more bool
		if wait, more = l.landed(f, err); !more {
			return
		}
	}
}

// wait puts the next try off.
func (l *line) wait(d time.Duration, hurry <-chan struct{}) error {
	if d > 0 {
		l.base.setStage(StageWait)
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-hurry:
		case <-l.ctx.Done():
		}
	}
	if l.ctx.Err() != nil {
		return context.Cause(l.ctx)
	}
	return nil
}

// attempt resolves and connects once.
func (l *line) attempt() error {
	l.base.setStage(StageResolve)
	l.mu.Lock()
	l.counts.resolves++
	l.mu.Unlock()
	r, err := l.last.ask(l.ctx, &l.mu, l.source)
	if err != nil {
		l.base.setStage(StageNone)
		failed := &ResolveError{Tries: []Try{{Stage: StageResolve, Err: err}}}
		if l.ctx.Err() == nil {
			l.base.refuse(failed)
		}
		return failed
	}
	_, err = l.base.connect(l.ctx, r, l.lostOnLoop)
	return err
}

// landed takes the outcome of a try, tells those who wait, and says whether and when
// there is to be another.
func (l *line) landed(f *flight, err error) (wait time.Duration, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.attempts++
	var failed *ResolveError
	if errors.As(err, &failed) {
		f.tries = keepTries(f.tries, failed.Tries)
	}
	switch {
	case err == nil:
		l.counts.connects++
		l.last.works()
		f.over, l.was = true, true
	case l.closed || l.leaving || definite(err) || f.attempts >= l.cfg.MaxConnects || f.hurry != nil:
		f.over, f.err = true, err
		if l.closed {
			f.err = ErrClosed
		}
	default:
		wait, more = l.cfg.Backoff.Delay(l.failures, &l.random), true
		l.failures++
		if wait > 0 {
			l.base.setStage(StageWait)
		}
	}
	if f.over {
		l.base.setStage(StageNone)
		l.flight = nil
		switch {
		case l.closed || l.leaving:
		case err == nil && l.base.link.Load() == nil:
			l.restartLocked() // lost before the flight had ended
		case err != nil && l.stays && l.was: // its callers have the error; it may be there again later
			l.startIdleLocked(l.cfg.Backoff.Delay(l.failures, &l.random))
			l.failures++
		}
	}
	close(f.wake)
	f.wake = make(chan struct{})
	return wait, more
}

// lostOnLoop comes back from the loss of a connection.
func (l *line) lostOnLoop(c *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.losses++
	if time.Since(c.since) > l.cfg.Backoff.bound(l.failures) {
		l.failures = 0
	}
	if l.closed || l.leaving || l.flight != nil { // a flight that has just connected restarts itself
		return
	}
	l.restartLocked()
}

func (l *line) restartLocked() {
	l.startLocked(l.cfg.Backoff.Delay(l.failures, &l.random))
	l.failures++
}

// leave waits until the calls on the connection have ended, or for the end of ctx. There is
// another line for whoever has no connection yet: he gets an error.
func (l *line) leave(ctx context.Context) {
	l.mu.Lock()
	l.leaving = true
	l.mu.Unlock()
	l.cancel(ErrClosed)
	l.wg.Wait()
	if c := l.base.link.Load(); c != nil {
		c.leave(ctx)
	}
}

// close ends the connection and whoever waits for one. It returns what the channel's
// Close does.
func (l *line) close(ctx context.Context) error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cancel(ErrClosed)
	l.wg.Wait()
	return l.base.Close(ctx)
}
