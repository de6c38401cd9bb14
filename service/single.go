package service

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxMoved bounds the connections that a single has left and that still have calls. While
// there are so many it stays where it is.
const maxMoved = 8

// single is the route over one connection. When the routing group that it leads to changes,
// it moves to another line; the one before ends behind its last call.
type single struct {
	// immutable
	name    string
	cfg     *Config
	onState func(Change)
	source  func(context.Context) (Resolved, error)
	ctx     context.Context // of moves
	cancel  context.CancelCauseFunc
	wg      sync.WaitGroup // the move, and lines that are left

	line atomic.Pointer[line] // set under mu

	mu     sync.Mutex // guards the following; no user code runs under it
	left   []*line    // lines that still have calls
	gone   ServiceStats
	moves  uint64
	moving bool // somebody is at it
	again  bool // and has to look once more
	full   bool // there was no room in left
	closed bool
	random rand.PCG
}

func newSingle(name string, cfg *Config, onState func(Change), source func(context.Context) (Resolved, error)) *single {
	p := &single{name: name, cfg: cfg, onState: onState, source: source}
	p.random.Seed(rand.Uint64(), rand.Uint64())
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	l := newLine(name, cfg, onState, source)
	l.stays = true
	p.line.Store(l)
	return p
}

func (p *single) acquire(ctx context.Context, _ string, _ []*Instance) (lease, error) {
	for {
		l := p.line.Load()
		c, err := l.acquire(ctx, !p.cfg.FailFast)
		if err == nil {
			if c.use() {
				return lease{link: c}, nil
			}
			continue // it was left meanwhile
		}
		if p.line.Load() == l || ctx.Err() != nil {
			return lease{}, err
		} // there is another line to wait for
	}
}

func (p *single) release(l lease, _ Outcome) { l.unuse() }
func (p *single) another([]*Instance) bool   { return false }

func (p *single) fill(s *ServiceStats) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.line.Load()
	s.State, s.Stage, s.Endpoint = l.base.State(), l.base.Stage(), l.base.Endpoint()
	s.Refused, s.Resolves, s.Connects, s.Losses = p.gone.Refused, p.gone.Resolves, p.gone.Connects, p.gone.Losses
	s.Moves = p.moves
	l.add(s)
	for _, old := range p.left {
		old.add(s)
	}
}

func (p *single) close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel(ErrClosed)
	p.wg.Wait()
	errs := []error{p.line.Load().close(ctx)}
	for _, l := range p.left { // nobody adds any more
		errs = append(errs, l.close(ctx))
	}
	return errors.Join(errs...)
}

// look has the locator asked, soon, whether the service is elsewhere now.
func (p *single) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lookLocked()
}

func (p *single) lookLocked() {
	switch {
	case p.closed:
	case p.moving:
		p.again = true
	default:
		p.moving = true
		p.wg.Go(p.move)
	}
}

// move looks, and moves, as often as it was asked to meanwhile.
func (p *single) move() {
	for {
		for n := 0; !p.settled(n); n++ {
		}
		p.mu.Lock()
		if p.moving = p.again && !p.closed; !p.moving {
			p.mu.Unlock()
			return
		}
		p.again = false
		p.mu.Unlock()
	}
}

// settled asks the locator, behind failure n or if it has just told many at the same time,
// and moves if need be. It reports false if that is worth another try.
func (p *single) settled(n int) bool {
	p.mu.Lock()
	wait := p.cfg.Backoff.Delay(n, &p.random)
	p.mu.Unlock()
	if !pause(p.ctx, wait) {
		return true
	}
	c := p.line.Load().base.link.Load()
	if c == nil {
		return true // it is asked before the next connection anyway
	}
	r, err := p.source(p.ctx)
	switch {
	case err != nil:
		return definite(err)
	case r.Gone() || slices.Contains(r.Endpoints, c.endpoint):
		return true
	}
	return p.moveTo(r)
}

// pause waits, and reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// moveTo connects to r. It reports false if nothing there takes the connection: the one that
// there is stays.
func (p *single) moveTo(r Resolved) bool {
	old := p.line.Load()
	p.mu.Lock()
	p.full = len(p.left) >= maxMoved
	full := p.full
	p.mu.Unlock()
	if full {
		p.cfg.Logger.Warn("service: stays where it is: calls go on on all connections that it has left", "service", p.name, "connections", maxMoved)
		return true
	}
	var first atomic.Pointer[Resolved]
	first.Store(&r)
	l := newLine(p.name, p.cfg, p.onState, func(ctx context.Context) (Resolved, error) {
		if r := first.Swap(nil); r != nil {
			return *r, nil
		}
		return p.source(ctx)
	})
	l.stays = true
	if _, err := l.acquire(p.ctx, false); err != nil {
		_ = l.close(p.ctx) // there is nothing to drain
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line.Store(l)
	p.moves++
	p.left = append(p.left, old)
	p.wg.Go(func() { p.leave(old) })
	return true
}

// leave ends a line behind its last call.
func (p *single) leave(l *line) {
	l.leave(p.ctx)
	if p.ctx.Err() != nil {
		return // close ends it
	}
	_ = l.close(p.ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = slices.DeleteFunc(p.left, func(o *line) bool { return o == l })
	l.add(&p.gone)
	if p.full {
		p.full = false
		p.lookLocked()
	}
}
