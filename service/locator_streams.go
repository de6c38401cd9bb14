package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/sluice-rpc/sluice/codec"
)

// openStream is Open for what v0 does not have, and what goes on behind the end of ctx.
func (l *Locator) openStream(ctx context.Context, method string, args codec.Arguments) (*Stream, error) {
	if l.service.dialect == codec.V0 {
		return nil, fmt.Errorf("%w: the locator of v0 has no %q", ErrDialect, method)
	}
	return l.service.openFor(context.WithoutCancel(ctx), ctx, method, args)
}

// Watch is the stream of what changes among the services of a node: see
// [Locator.Connect]. One goroutine reads it.
type Watch struct{ stream *Stream }

// Connect asks the locator to tell of its services, now and as they change, under the
// UUID of our own node. A locator that is part of no cluster ends the stream at once
// (protocol: locator). It ends with the connection, too: then connect again. Close it if it is not read to its end.
func (l *Locator) Connect(ctx context.Context, uuid string) (*Watch, error) {
	s, err := l.openStream(ctx, "connect", codec.Args(uuid))
	if err != nil {
		return nil, err
	}
	return &Watch{s}, nil
}

// Next waits for the next change. A service that is Gone has left. The error is io.EOF
// when the locator ended the stream; else see Stream.Recv.
func (w *Watch) Next(ctx context.Context) (Update, error) {
	args, err := w.stream.Recv(ctx)
	if err != nil {
		return Update{}, err
	}
	return DecodeUpdate(args)
}

// Close gives the stream up. It must not be called while Next waits.
func (w *Watch) Close() { w.stream.Discard() }

// Routes is the stream of routing groups: see [Locator.Routing]. One goroutine reads it.
type Routes struct {
	stream *Stream
	groups map[string]*Ring
}

// Routing asks the locator to tell of its routing groups, now and as they change, under
// an id of our own, which must be unique among its routers. The stream ends with the
// connection. Close it if it is not read to its end.
func (l *Locator) Routing(ctx context.Context, id string) (*Routes, error) {
	s, err := l.openStream(ctx, "routing", codec.Args(id))
	if err != nil {
		return nil, err
	}
	return &Routes{stream: s, groups: map[string]*Ring{}}, nil
}

// Next waits for the next change and returns all groups that there are then: those that
// are told of anew replace what was known of them, and without members are forgotten. The
// map is the caller's; rings are shared. For the errors see Watch.Next; an update that
// would make more than MaxEntries groups is one, too.
func (r *Routes) Next(ctx context.Context) (map[string]*Ring, error) {
	args, err := r.stream.Recv(ctx)
	if err != nil {
		return nil, err
	}
	update, err := DecodeRouting(args)
	if err != nil {
		return nil, err
	}
	for name, ring := range update {
		if ring.Len() == 0 {
			delete(r.groups, name)
			continue
		}
		if r.groups[name] = ring; len(r.groups) > MaxEntries {
			delete(r.groups, name)
			return nil, fmt.Errorf("service: more than %d routing groups", MaxEntries)
		}
	}
	return maps.Clone(r.groups), nil
}

// Close gives the stream up: the locator is told to discard it. It must not be called
// while Next waits.
func (r *Routes) Close() { r.stream.Discard() }

// Publication is a service that a locator tells others of, for as long as it is held:
// see [Locator.Publish].
type Publication struct{ stream *Stream }

// Publish has the locator tell others of a service of ours, until the Publication is
// closed or the connection lost, which Lost tells: then publish again. An API of nil is
// published without. Others are other nodes: that the same locator resolves the name for
// its own clients is not said, and those of the live runtime and of an engine.Engine do
// not (protocol: locator). Such clients are given ServiceConfig.Endpoints and API.
func (l *Locator) Publish(ctx context.Context, name string, r Resolved) (*Publication, error) {
	if err := checkName("name of a service", len(name)); err != nil {
		return nil, fmt.Errorf("service: %w", err)
	}
	ctx, cancel := l.service.bound(ctx)
	defer cancel()
	s, err := l.openStream(ctx, "publish", publishArgs(name, r))
	if err != nil {
		return nil, err
	}
	if _, err := s.Recv(ctx); err != nil {
		s.Discard()
		if err == io.EOF {
			err = errors.New("no answer")
		}
		return nil, fmt.Errorf("service: publish %q: %w", name, err)
	}
	return &Publication{s}, nil
}

// publishArgs returns [name, endpoints, [version, graph]], the last of them only with an
// API.
func publishArgs(name string, r Resolved) codec.Arguments {
	endpoints := encoded(AppendEndpoints(nil, r.Endpoints))
	if r.API == nil {
		return codec.Args(name, endpoints)
	}
	info := codec.AppendUint(codec.AppendArrayHeader(nil, 2), uint64(r.Version))
	return codec.Args(name, endpoints, encoded(AppendAPI(info, r.API)))
}

// encoded is one value that is encoded already.
type encoded []byte

// MarshalMsg appends it.
func (e encoded) MarshalMsg(dst []byte) ([]byte, error) { return append(dst, e...), nil }

// Lost is closed when the connection is, and the service no longer published.
func (p *Publication) Lost() <-chan struct{} { return p.stream.session.Channel().Done() }

// Close withdraws the service: the locator is told to discard it.
func (p *Publication) Close() { p.stream.Discard() }
