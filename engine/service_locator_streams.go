package engine

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// maxUpdateBytes of one message of connect, if it has more than one service. It keeps the
// elements of a message within the limit of our own peers, too.
const maxUpdateBytes = 32 << 10

// streamKey is what there is one stream for: a node that follows our services, or a
// router that follows our groups.
type streamKey struct {
	method string
	peer   string
}

// stream is a call of connect or routing that goes on.
type stream struct {
	end  context.CancelCauseFunc
	over chan struct{} // closed when it watches nothing any more
}

// errReplaced ends a stream whose peer has asked for another one.
var errReplaced = errors.New("the peer has asked for another stream")

// open returns a context for the one stream of a peer; one that it has already is ended
// first (protocol: locator). stop is to be called in the end.
func (l *LocatorService) open(ctx context.Context, key streamKey) (_ context.Context, stop func(), err error) {
	if len(key.peer) > service.MaxNameBytes {
		return nil, nil, refuse("%s: an id of %d bytes, limit %d", key.method, len(key.peer), service.MaxNameBytes)
	}
	ctx, end := context.WithCancelCause(ctx)
	s := &stream{end, make(chan struct{})}
	l.mu.Lock()
	old := l.streams[key]
	if old == nil && len(l.streams) >= l.cfg.MaxStreams {
		l.mu.Unlock()
		end(nil)
		l.refused.Add(1)
		return nil, nil, refuse("%s: there are %d streams, limit LocatorConfig.MaxStreams", key.method, l.cfg.MaxStreams)
	}
	l.streams[key] = s
	l.mu.Unlock()
	if old != nil {
		old.end(errReplaced)
		<-old.over
	}
	return ctx, func() {
		end(nil)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.streams[key] == s {
			delete(l.streams, key)
		}
		close(s.over)
	}, nil
}

// refuse returns an error that says that there is no room.
func refuse(format string, args ...any) error {
	return &session.Error{Category: service.CategoryGeneric, Code: int64(syscall.EAGAIN), Message: fmt.Sprintf(format, args...)}
}

// serveConnect tells another node the services of this one, and what changes, until it
// goes or connects anew.
func (l *LocatorService) serveConnect(ctx context.Context, c *service.Call) error {
	r := c.Reader()
	ctx, stop, err := l.open(ctx, streamKey{"connect", r.String()})
	if err != nil {
		return err
	}
	defer stop()
	watch, err := l.cfg.Registry.Watch()
	if err != nil {
		l.refused.Add(1)
		return refuse("connect: %v", err)
	}
	defer watch.Close()
	for first := true; ; first = false {
		select {
		case <-ctx.Done():
			return ended(ctx)
		case <-watch.Changed():
		}
		changed := watch.Next()
		for _, name := range l.cfg.Private {
			delete(changed, name)
		}
		if err := l.sendUpdate(ctx, c, changed, first); err != nil {
			return endedBy(ctx, err)
		}
	}
}

// sendUpdate sends what has changed in as many messages as it takes; nothing if nothing
// has, unless always.
func (l *LocatorService) sendUpdate(ctx context.Context, c *service.Call, changed map[string]service.Resolved, always bool) error {
	part := make(map[string]service.Resolved)
	size := 0
	send := func() error {
		args := service.AppendUpdate(nil, service.Update{UUID: l.cfg.UUID, Services: part})
		clear(part)
		size = 0
		return sendValues(ctx, c, args)
	}
	for name, s := range changed {
		n := len(name) + len(service.AppendResolved(nil, s))
		if len(part) > 0 && size+n > maxUpdateBytes {
			if err := send(); err != nil {
				return err
			}
			always = false
		}
		part[name] = s
		size += n
	}
	if len(part) == 0 && !always {
		return nil
	}
	return send()
}

// serveRouting tells a router all groups, and again whenever one of them changes, until it
// sends discard, goes, or asks anew.
func (l *LocatorService) serveRouting(ctx context.Context, c *service.Call) error {
	r := c.Reader()
	ctx, stop, err := l.open(ctx, streamKey{"routing", r.String()})
	if err != nil {
		return err
	}
	defer stop()
	ctx, done := untilDiscard(ctx, c)
	defer done()
	ear, ok := l.groups.changes.listen()
	if !ok {
		return refuse("routing: too many streams")
	}
	defer l.groups.changes.leave(ear)
	for {
		select {
		case <-ctx.Done():
			return ended(ctx)
		case <-ear:
		}
		if err := sendValues(ctx, c, service.AppendRouting(nil, l.groups.rings())); err != nil {
			return endedBy(ctx, err)
		}
	}
}

// onPublish announces a service of the client, [name, endpoints, ([version, graph])],
// until it sends discard or goes (protocol: locator).
func (l *LocatorService) onPublish(c *service.Call) {
	r := c.Reader()
	name := r.String()
	s, err := readPublished(&r)
	var missing missingVersion
	if errors.As(err, &missing) {
		_ = c.Fail(service.CategoryLocator, service.LocatorMissingVersion, err.Error())
		return
	}
	if err != nil {
		c.BadArgs(err)
		return
	}
	if l.published.Add(1) > int64(l.cfg.MaxPublished) {
		l.published.Add(-1)
		l.refused.Add(1)
		_ = c.Fail(service.CategoryGeneric, int64(syscall.EAGAIN),
			fmt.Sprintf("publish: clients have published %d services, limit LocatorConfig.MaxPublished", l.cfg.MaxPublished))
		return
	}
	revision, err := l.cfg.Registry.put(name, s, true, false)
	if err != nil {
		l.published.Add(-1)
		l.refused.Add(1)
		category, code := int64(service.CategoryDispatch), int64(service.DispatchInvalidArgument)
		if errors.Is(err, ErrTaken) {
			category, code = service.CategoryLocator, service.LocatorGatewayDuplicate
		}
		_ = c.Fail(category, code, err.Error())
		return
	}
	c.OnEnd(func() {
		l.cfg.Registry.remove(name, revision)
		l.published.Add(-1)
	})
	_ = c.ReplyBytes(nil)
}

// missingVersion says that a service with methods was published without a version.
type missingVersion struct{}

func (missingVersion) Error() string {
	return "publish: a service with a graph needs a version above 0"
}

// readPublished reads the arguments of a publish behind the name.
func readPublished(r *codec.Reader) (service.Resolved, error) {
	var s service.Resolved
	var err error
	if s.Endpoints, err = service.DecodeEndpoints(r.Raw()); err != nil {
		return s, err
	}
	if r.Len() == 0 {
		return s, r.Err()
	}
	items := codec.NewReader(r.Raw())
	version, graph := items.Uint64(), items.Raw()
	if items.Err() != nil {
		return s, items.Err()
	}
	if s.API, err = service.DecodeAPI(graph); err != nil {
		return s, err
	}
	if version == 0 && len(s.API.Methods()) > 0 {
		return s, missingVersion{}
	}
	if version > 1<<32-1 {
		return s, fmt.Errorf("version %d is no uint32", version)
	}
	s.Version = uint32(version)
	return s, nil
}
