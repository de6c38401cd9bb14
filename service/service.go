package service

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// Service calls a service by name. It connects at the first call: it asks the locator,
// tries every endpoint in order, checks the version, and knows the methods from what the
// locator said. When the connection is lost it comes back by itself, after a Backoff and
// with a new answer of the locator; calls wait meanwhile, or fail fast, as Config says.
//
// What was on its way when a connection is lost ends with a *session.Error whose Delivery
// says whether a byte of it had left. Calls that had not, and those of methods that are
// declared idempotent, are repeated within their deadline.
//
// A method set of one's own is a struct around a Service; see Invoke. All methods may be
// called by any goroutine but a loop.
type Service struct {
	// immutable
	cfg        ServiceConfig
	client     *Config
	dialect    codec.Dialect
	idempotent map[string]bool
	values     map[string]bool
	route      route

	closing  sync.Once
	closeErr error
	closed   atomic.Bool
	counts   serviceCounts
}

// route finds the connection for a call.
type route interface {
	// acquire returns a connection, on none of the tried instances. It is given back once.
	acquire(ctx context.Context, key string, tried []*Instance) (lease, error)
	// release says how the call on the connection ended.
	release(l lease, o Outcome)
	// another reports whether there is an instance that was not tried.
	another(tried []*Instance) bool
	// look has the locator asked soon, without callers; calls under way go on.
	look()
	// fill adds to the snapshot.
	fill(s *ServiceStats)
	close(ctx context.Context) error
}

// lease is a connection during one call.
type lease struct {
	*link
	instance *Instance // nil unless balanced
}

type serviceCounts struct {
	calls, answered, failed, retried, lost, abandoned atomic.Uint64
}

// ServiceStats is a snapshot of a Service.
type ServiceStats struct {
	Name      string
	State     State
	Stage     Stage // what is being done to get connected
	Endpoint  Endpoint
	Calls     uint64 // Call, Open, Notify and Ping
	Answered  uint64 // a value, or the opening of a stream; errors of the service too
	Failed    uint64 // ended without either
	Retried   uint64 // repeats of calls
	Lost      uint64 // tries of a call that were cut by a lost connection
	Abandoned uint64 // calls whose caller gave up before the answer
	Pending   int    // callers that wait for a connection
	Refused   uint64 // callers beyond MaxPending
	Resolves  uint64 // times that the locator was asked
	Connects  uint64 // connections made
	Losses    uint64 // connections lost
	Moves     uint64 // connections that were left for another one, see Config.FollowGroups; not of a balanced Service
	Instances []InstanceStats
}

// newService returns a Service that asks source where it is.
func newService(client *Config, cfg ServiceConfig, source func(context.Context) (Resolved, error)) (*Service, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Service{
		cfg: cfg, client: client, dialect: dialectOf(client.V0),
		idempotent: set(cfg.Idempotent), values: set(cfg.Values),
	}
	if len(cfg.Endpoints) > 0 {
		known := Resolved{Endpoints: cfg.Endpoints, Version: cfg.Version, API: cfg.API}
		source = func(context.Context) (Resolved, error) { return known, nil }
	}
	checked := func(ctx context.Context) (Resolved, error) {
		r, err := source(ctx)
		if err == nil && cfg.Version != 0 && r.Version != cfg.Version {
			return Resolved{}, &VersionError{Name: cfg.Name, Have: r.Version, Want: cfg.Version}
		}
		if err == nil && r.API == nil {
			r.API = new(API)
		}
		return r, err
	}
	if cfg.Balance == nil {
		s.route = newSingle(cfg.Name, client, cfg.OnState, checked)
		return s, nil
	}
	var err error
	s.route, err = newSpread(s, checked)
	return s, err
}

func set(names []string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

// add adds the counts of a line.
func (l *line) add(s *ServiceStats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Pending += l.pending
	s.Refused += l.counts.refused
	s.Resolves += l.counts.resolves
	s.Connects += l.counts.connects
	s.Losses += l.counts.losses
}

// Name returns the name that the service was asked for by.
func (s *Service) Name() string { return s.cfg.Name }

// Dialect returns the version of the protocol that is spoken.
func (s *Service) Dialect() codec.Dialect { return s.dialect }

// State returns the present state; of a balanced Service the best of its connections'.
func (s *Service) State() State { return s.snapshot().State }

// Stage returns what is being done to get connected.
func (s *Service) Stage() Stage { return s.snapshot().Stage }

func (s *Service) snapshot() ServiceStats {
	var st ServiceStats
	s.route.fill(&st)
	return st
}

// Connect waits for a connection as a call does, so that the first call need not.
func (s *Service) Connect(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	l, err := s.acquire(ctx, "", nil)
	if err == nil {
		s.route.release(l, Neutral)
	}
	return err
}

// resolved returns what is at the other end, and connects if need be.
func (s *Service) resolved(ctx context.Context) (Resolved, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	l, err := s.acquire(ctx, "", nil)
	if err != nil {
		return Resolved{}, err
	}
	defer s.route.release(l, Neutral)
	return l.resolved, nil
}

// API returns the methods of the service. It connects if need be.
func (s *Service) API(ctx context.Context) (*API, error) {
	r, err := s.resolved(ctx)
	return r.API, err
}

// Version returns the version of the service. It connects if need be.
func (s *Service) Version(ctx context.Context) (uint32, error) {
	r, err := s.resolved(ctx)
	return r.Version, err
}

// Endpoints returns where the service is, in the order of preference. It connects if need
// be. The slice is shared.
func (s *Service) Endpoints(ctx context.Context) ([]Endpoint, error) {
	r, err := s.resolved(ctx)
	return r.Endpoints, err
}

// Stats returns a snapshot.
func (s *Service) Stats() ServiceStats {
	st := s.snapshot()
	c := &s.counts
	st.Name = s.cfg.Name
	st.Calls, st.Answered, st.Failed = c.calls.Load(), c.answered.Load(), c.failed.Load()
	st.Retried, st.Lost, st.Abandoned = c.retried.Load(), c.lost.Load(), c.abandoned.Load()
	return st
}

// Close ends the connections, once what was sent has left or ctx ends. Calls that are open
// or wait fail, with ErrClosed or a *session.Error.
func (s *Service) Close(ctx context.Context) error {
	s.closing.Do(func() {
		s.closed.Store(true)
		s.closeErr = s.route.close(ctx)
	})
	return s.closeErr
}

func (s *Service) isClosed() bool { return s.closed.Load() }

// connection returns the number of the connection, 0 if there is none or calls are
// balanced.
func (s *Service) connection() uint64 {
	if p, ok := s.route.(*single); ok {
		if l := p.line.Load().base.link.Load(); l != nil {
			return l.number
		}
	}
	return 0
}

// failing returns a Service all of whose calls fail.
func failing(client *Config, name string, err error) *Service {
	source := func(context.Context) (Resolved, error) { return Resolved{}, err }
	s := &Service{cfg: ServiceConfig{Name: name}, client: client, dialect: dialectOf(client.V0)}
	p := newSingle(name, client, nil, source)
	l := p.line.Load()
	l.closed, l.closeErr = true, err
	s.route = p
	return s
}

// bound returns a context with a deadline.
func (s *Service) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok || s.client.CallTimeout == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.client.CallTimeout)
}

// acquire returns a connection for a call of method.
func (s *Service) acquire(ctx context.Context, method string, tried []*Instance) (lease, error) {
	var key string
	if s.cfg.Key != nil {
		key = s.cfg.Key(ctx, method)
	}
	return s.route.acquire(ctx, key, tried)
}

// method returns the method of that name at the other end of a connection.
func (s *Service) method(l *link, name string) (Method, error) {
	m, ok := l.resolved.API.ByName(name)
	if !ok {
		return m, s.noMethod(l.resolved.API, name)
	}
	if s.values[name] && m.Rx == session.Streaming {
		m.Rx = Values
	}
	return m, nil
}

func (s *Service) noMethod(a *API, name string) error {
	e := &MethodError{Service: s.cfg.Name, Method: name}
	for _, m := range a.Methods() {
		e.Names = append(e.Names, m.Name)
	}
	return e
}

// Ping asks the connection for a sign of life by the control message of that name, and
// returns how long it took. v0, and services that do not list it, do not have it:
// ErrDialect (protocol: dispatch graphs).
func (s *Service) Ping(ctx context.Context) (time.Duration, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	began := time.Now()
	err := s.attempt(ctx, "", func(l lease) (Outcome, error) {
		m, ok := l.resolved.API.Control("ping")
		if !ok || s.dialect == codec.V0 {
			return Neutral, fmt.Errorf("%w: service %q has no ping", ErrDialect, s.cfg.Name)
		}
		began = time.Now()
		_, err := s.exchange(ctx, l, &session.Call{Name: m.Name, Type: m.ID, Rx: session.Primitive})
		return outcomeOf(err), err
	})
	return time.Since(began), err
}
