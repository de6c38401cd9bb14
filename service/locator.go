package service

import (
	"context"
	"fmt"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// discardGraph is what a caller of publish and routing may send (protocol: locator).
var discardGraph = session.NewGraph(
	session.Slot{Type: 0, Name: "discard", Kind: session.Choke, Next: nil},
)

// Locator asks the locator. It keeps one connection for everything, to the first of its
// endpoints that takes it, and comes back as a Service does. Of v0 it has only Resolve;
// the error of everything else is then an ErrDialect. All methods may be called by any
// goroutine but a loop.
type Locator struct{ service *Service }

// newLocator returns a Locator that is not connected yet.
func newLocator(cfg *Config, endpoints []Endpoint) (*Locator, error) {
	methods := []Method{{ID: 0, Name: "resolve", Rx: session.StreamingV0}}
	if !cfg.V0 {
		methods = []Method{
			{ID: 0, Name: "resolve", Rx: session.Primitive},
			{ID: 1, Name: "connect", Rx: Values},
			{ID: 2, Name: "refresh", Rx: session.Primitive},
			{ID: 3, Name: "cluster", Rx: session.Primitive},
			{ID: 4, Name: "publish", Tx: discardGraph, Rx: session.Primitive},
			{ID: 5, Name: "routing", Tx: discardGraph, Rx: Values},
			{ID: 6, Name: "uuid", Rx: session.Primitive},
		}
	}
	api, err := NewAPI(methods...)
	if err != nil {
		return nil, err
	}
	own := *cfg
	own.pace = nil // services wait for it: it does not wait among them
	s, err := newService(&own, ServiceConfig{
		Name: "locator", Endpoints: endpoints, API: api,
		Idempotent: []string{"resolve", "connect", "refresh", "cluster", "uuid"},
	}, nil)
	if err != nil {
		return nil, err
	}
	return &Locator{s}, nil
}

// Resolve asks where a service is and what it is. For a routing group it is one of the
// group's services, at random by their weights. That there is none is an error for which
// Is(err, CategoryLocator, LocatorNotAvailable) in v1; v0 says V0Invocation.
func (l *Locator) Resolve(ctx context.Context, name string) (Resolved, error) {
	return l.ResolveSeed(ctx, name, "")
}

// ResolveSeed is Resolve with a seed that chooses among the services of a routing group,
// the same one for the same seed. v0 has no seeds and ignores it.
func (l *Locator) ResolveSeed(ctx context.Context, name, seed string) (Resolved, error) {
	if err := checkName("name of a service", len(name)); err != nil {
		return Resolved{}, fmt.Errorf("service: %w", err)
	}
	args := codec.Args(name)
	if seed != "" && l.service.dialect == codec.V1 {
		args = codec.Args(name, seed)
	}
	reply, err := l.service.Call(ctx, "resolve", args)
	if err != nil {
		return Resolved{}, err
	}
	if l.service.dialect == codec.V1 {
		return DecodeResolved(reply.Args())
	}
	r := reply.Reader()
	value := r.Raw()
	if err := r.Err(); err != nil {
		return Resolved{}, &ReplyError{Service: "locator", Method: "resolve", Err: err}
	}
	return DecodeResolvedV0(value)
}

// call is Call for what v0 does not have.
func (l *Locator) call(ctx context.Context, method string, args codec.Arguments) (*Reply, error) {
	if l.service.dialect == codec.V0 {
		return nil, fmt.Errorf("%w: the locator of v0 has no %q", ErrDialect, method)
	}
	return l.service.Call(ctx, method, args)
}

// Refresh has the locator read its routing groups anew: those, or all of them.
func (l *Locator) Refresh(ctx context.Context, groups ...string) error {
	_, err := l.call(ctx, "refresh", codec.Args(groups))
	return err
}

// Cluster returns the nodes that the locator knows, by UUID, with where the locator of
// each is.
func (l *Locator) Cluster(ctx context.Context) (map[string]Endpoint, error) {
	reply, err := l.call(ctx, "cluster", codec.Arguments{})
	if err != nil {
		return nil, err
	}
	return DecodeCluster(reply.Args())
}

// UUID returns the UUID of the locator's node.
func (l *Locator) UUID(ctx context.Context) (string, error) {
	reply, err := l.call(ctx, "uuid", codec.Arguments{})
	if err != nil {
		return "", err
	}
	var uuid string
	if err := reply.Decode(&uuid); err != nil {
		return "", &ReplyError{Service: "locator", Method: "uuid", Err: err}
	}
	return uuid, nil
}

// Ping asks the locator for a sign of life: see Service.Ping.
func (l *Locator) Ping(ctx context.Context) error {
	_, err := l.service.Ping(ctx)
	return err
}

// State returns the present state.
func (l *Locator) State() State { return l.service.State() }

// Stats returns a snapshot.
func (l *Locator) Stats() ServiceStats { return l.service.Stats() }

// Close ends the connection, and with it every Watch, Routes and Publication.
func (l *Locator) Close(ctx context.Context) error { return l.service.Close(ctx) }
