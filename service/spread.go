package service

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// spread is the route over all endpoints of a service, by a Balancer: a line to each,
// which is there from the first call that the Balancer chooses it for.
type spread struct {
	// immutable
	name    string
	cfg     *Config
	onState func(Change)
	refresh time.Duration
	source  func(context.Context) (Resolved, error)
	ctx     context.Context // of asking
	cancel  context.CancelCauseFunc
	wg      sync.WaitGroup // what asks, and lines that are being closed

	mu       sync.Mutex // guards the following; no user code runs under it
	balancer *Balancer
	lines    map[Endpoint]*line // of the instances that the balancer has
	last     lastAnswer         // of source
	resolved Resolved
	known    bool      // resolved is worth using
	at       time.Time // when resolved was asked for
	asking   *asking   // nil if nobody asks
	pending  int       // callers in acquire
	refused  uint64
	resolves uint64
	gone     ServiceStats // the counts of lines that are closed
	closed   bool
	random   rand.PCG
}

// asking is one question to the locator, shared by all who wait for the answer.
type asking struct {
	done chan struct{}
	err  error // set before done
}

func newSpread(s *Service, source func(context.Context) (Resolved, error)) (*spread, error) {
	b, err := NewBalancer(*s.cfg.Balance)
	if err != nil {
		return nil, err
	}
	p := &spread{
		name: s.cfg.Name, cfg: s.client, onState: s.cfg.OnState, refresh: s.cfg.Refresh,
		source: source, balancer: b, lines: map[Endpoint]*line{},
	}
	p.random.Seed(rand.Uint64(), rand.Uint64())
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	return p, nil
}

// acquire passes over the instances until one is connected; a patient caller does so
// several times, with back-offs in between.
func (p *spread) acquire(ctx context.Context, key string, tried []*Instance) (lease, error) {
	if err := p.enter(); err != nil {
		return lease{}, err
	}
	defer p.leave()
	for n := 0; ; n++ {
		l, err := p.pass(ctx, key, tried)
		if err == nil {
			return l, nil
		}
		if p.cfg.FailFast || n+1 >= p.cfg.MaxConnects || definite(err) || errors.Is(err, ErrClosed) || ctx.Err() != nil {
			return lease{}, err
		}
		if cause := p.pause(ctx, n); cause != nil {
			var e *ResolveError
			if errors.As(err, &e) {
				e.Err = cause
			}
			return lease{}, err
		}
	}
}

func (p *spread) enter() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pending >= p.cfg.MaxPending {
		p.refused++
		return &ResolveError{Name: p.name, Err: ErrTooManyPending}
	}
	p.pending++
	return nil
}

func (p *spread) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending--
}

// pause waits behind failure n, and returns what ended the wait early.
func (p *spread) pause(ctx context.Context, n int) error {
	p.mu.Lock()
	d := p.cfg.Backoff.Delay(n, &p.random)
	p.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.ctx.Done():
		return ErrClosed
	}
}

// pass tries one instance after the other, in the order in which the balancer chooses
// them.
func (p *spread) pass(ctx context.Context, key string, tried []*Instance) (lease, error) {
	if err := p.ask(ctx); err != nil {
		return lease{}, err
	}
	failed := &ResolveError{Name: p.name}
	except := slices.Clone(tried)
	for range 2 * MaxEndpoints {
		i, l := p.pick(key, except, len(except) == len(tried))
		if i == nil {
			break
		}
		c, err := l.acquire(ctx, false)
		if err == nil {
			return lease{link: c, instance: i}, nil
		}
		outcome := Failed
		if ctx.Err() != nil {
			outcome = Neutral
		}
		p.release(lease{instance: i}, outcome)
		var e *ResolveError
		if errors.As(err, &e) {
			failed.Tries, failed.Err = keepTries(failed.Tries, e.Tries), e.Err
		}
		if except = append(except, i); ctx.Err() != nil {
			return lease{}, failed
		}
	}
	if len(failed.Tries) == 0 {
		failed.Tries = []Try{{Stage: StageDial, Err: errors.New("no endpoint may be tried now")}}
	}
	p.mu.Lock()
	p.known = false // the next pass asks where they are by now
	if p.closed {
		failed.Err = ErrClosed
	}
	p.mu.Unlock()
	return lease{}, failed
}

// pick chooses an instance and returns the line to it. If there is no other than those
// that the call was tried on, it may be one of these again.
func (p *spread) pick(key string, except []*Instance, again bool) (*Instance, *line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil
	}
	now := time.Now()
	i := p.balancer.Pick(now, key, except...)
	if i == nil && again {
		i = p.balancer.Pick(now, key)
	}
	if i == nil {
		return nil, nil
	}
	l := p.lines[i.Endpoint]
	if l == nil {
		e := i.Endpoint
		l = newLine(p.name, p.cfg, p.onState, func(context.Context) (Resolved, error) { return p.only(e), nil })
		l.stays = true // until the locator does not list it any more
		p.lines[e] = l
	}
	return i, l
}

// only is what was resolved, at one of the endpoints. A line asks for it before each try,
// with or without callers: that has the locator asked now and then whether the endpoint is
// listed still.
func (p *spread) only(e Endpoint) Resolved {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lookLocked()
	r := p.resolved
	r.Endpoints = []Endpoint{e}
	return r
}

func (p *spread) release(l lease, o Outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.balancer.Done(l.instance, time.Now(), o)
	if o == Succeeded {
		p.last.works()
	}
	if l.instance.State() == InstanceGone {
		p.pruneLocked()
	}
}

func (p *spread) another(tried []*Instance) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range p.balancer.list {
		if i.State() == InstanceReady && !slices.Contains(tried, i) {
			return true
		}
	}
	return false
}

// ask sees to it that it is known where the service is: it asks the locator, together
// with all others who want to know, and waits only if nothing is known.
func (p *spread) ask(ctx context.Context) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return &ResolveError{Name: p.name, Err: ErrClosed}
	}
	p.lookLocked()
	a, known := p.asking, p.known
	p.mu.Unlock()
	if known {
		return nil
	}
	select {
	case <-a.done:
	case <-ctx.Done():
		if !isClosed(a.done) {
			return &ResolveError{Name: p.name, Err: context.Cause(ctx)}
		}
	}
	if a.err != nil {
		return &ResolveError{Name: p.name, Tries: []Try{{Stage: StageResolve, Err: a.err}}}
	}
	return nil
}

// lookLocked asks the locator, if nobody does, when what it said last is of no use or old.
func (p *spread) lookLocked() {
	old := p.refresh > 0 && time.Since(p.at) >= p.refresh
	if p.asking != nil || p.known && !old || p.closed {
		return
	}
	a := &asking{done: make(chan struct{})}
	p.asking, p.at = a, time.Now()
	p.resolves++
	p.wg.Go(func() { p.question(a) })
}

// look has the locator asked now.
func (p *spread) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = time.Time{}
	p.lookLocked()
}

func (p *spread) question(a *asking) {
	r, err := p.last.ask(p.ctx, &p.mu, p.source)
	if err == nil && r.Gone() {
		err = errors.New("there is no endpoint")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asking, a.err = nil, err
	if err == nil {
		p.resolved, p.known = r, true
		p.balancer.Update(r.Endpoints)
		p.pruneLocked()
	}
	close(a.done)
}

// pruneLocked closes the lines of instances that the balancer has forgotten.
func (p *spread) pruneLocked() {
	for e, l := range p.lines {
		if indexOf(p.balancer.list, e) >= 0 || p.closed {
			continue
		}
		delete(p.lines, e)
		l.add(&p.gone)
		p.wg.Go(func() { _ = l.close(p.ctx) })
	}
}

func (p *spread) fill(s *ServiceStats) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rank := [...]int{Closed: 0, Errored: 1, Connecting: 2, Connected: 3}
	s.Instances = p.balancer.AppendStats(nil, time.Now())
	s.Resolves, s.Refused = p.resolves, p.refused+p.gone.Refused
	s.Connects, s.Losses = p.gone.Connects, p.gone.Losses
	for _, l := range p.lines {
		if state := l.base.State(); rank[state] > rank[s.State] {
			s.State, s.Stage, s.Endpoint = state, l.base.Stage(), l.base.Endpoint()
		}
		resolves := s.Resolves
		l.add(s)
		s.Resolves = resolves
	}
	if s.Pending = p.pending; p.asking != nil {
		s.Stage = cmp.Or(s.Stage, StageResolve)
	}
}

func (p *spread) close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel(ErrClosed)
	p.wg.Wait()
	var errs []error
	for _, l := range p.lines { // nobody adds any more
		errs = append(errs, l.close(ctx))
	}
	return errors.Join(errs...)
}
