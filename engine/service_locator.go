package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// LocatorConfig sets up a [LocatorService]. A zero field means its default, a negative
// limit none.
type LocatorConfig struct {
	// UUID of this node. If empty, a random one.
	UUID string
	// Registry of the services of this node, required. A locator that is to be found is in
	// it like any other.
	Registry *Registry
	// Store has routing groups in its collection "groups": under the name of each the
	// weights of its services, in msgpack as the runtime's tools write it or in JSON, with
	// the tags "group" and "active". If nil, there are none but Groups.
	Store Store
	// Groups are routing groups by name. They come before those of the same name in Store.
	Groups map[string]map[string]uint32
	// Cluster, if set, makes this node a member of a cluster: connect tells the services of
	// this node to others, and cluster answers what Cluster returns, the locators of the
	// other nodes by uuid. It is called on loops and must not wait. If nil, connect ends at
	// once and cluster is empty, as in the live runtime.
	Cluster func() map[string]service.Endpoint
	// Private are services that are not told to other nodes. The locator never is.
	Private []string
	// ResolvePublished has resolve find the services that clients publish. The live runtime
	// only announces them to the cluster.
	ResolvePublished bool
	// Connections, if set, returns how many clients a service has, for the method reports
	// of v0. It is called on loops and must not wait.
	Connections func(name string) int

	// MaxPublished services of clients. If zero, 1024.
	MaxPublished int
	// MaxStreams of connect and routing. If zero, 1024.
	MaxStreams int
	// MaxGroups of routing. If zero, 4096, which is also the most that a peer of ours reads.
	MaxGroups int
	// Logger. If nil, slog.Default().
	Logger *slog.Logger
}

func (c *LocatorConfig) setDefaults() error {
	if c.Registry == nil {
		return errors.New("engine: LocatorConfig.Registry is required")
	}
	if c.UUID == "" {
		c.UUID = newUUID()
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Private = append(slices.Clone(c.Private), "locator")
	c.MaxPublished = orLimit(c.MaxPublished, 1024)
	c.MaxStreams = orLimit(c.MaxStreams, 1024)
	c.MaxGroups = orLimit(c.MaxGroups, service.MaxEntries)
	return nil
}

// LocatorService tells clients where services are. All methods are for any goroutine.
type LocatorService struct {
	cfg    LocatorConfig // immutable
	groups groupTable

	resolved, unknown, refused atomic.Uint64
	published                  atomic.Int64 // now

	mu      sync.Mutex
	streams map[streamKey]*stream // guarded by mu
}

// NewLocatorService returns a service that is not served yet. Its groups are those of the
// configuration until Refresh reads those of the store.
func NewLocatorService(cfg LocatorConfig) (*LocatorService, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	l := &LocatorService{cfg: cfg, streams: make(map[streamKey]*stream)}
	l.groups.max, l.groups.store = cfg.MaxGroups, cfg.Store
	l.groups.changes.max = cfg.MaxStreams
	if err := l.groups.configure(cfg.Groups); err != nil {
		return nil, err
	}
	return l, nil
}

// UUID returns the id of this node.
func (l *LocatorService) UUID() string { return l.cfg.UUID }

// Declaration returns the service "locator" of a dialect, with the methods of the live
// runtimes (protocol: locator). What v0 calls synchronize is listed and
// closed to clients, as it is in a runtime without a cluster.
func (l *LocatorService) Declaration(d codec.Dialect) service.Declaration {
	if d == codec.V0 {
		return l.declarationV0()
	}
	text := func(name string) service.Arg { return service.Arg{Name: name, Kind: service.StringArg} }
	seed := service.Arg{Name: "seed", Kind: service.StringArg, Optional: true}
	connect := service.Handled{
		Method: service.Method{ID: 1, Name: "connect", Rx: service.Values},
		Args:   []service.Arg{text("uuid")},
		OnLoop: func(c *service.Call) { _ = c.Close() },
	}
	if l.cfg.Cluster != nil {
		connect.OnLoop, connect.Serve, connect.Endless = nil, l.serveConnect, true
	}
	value := func(id uint64, name string, f func(c *service.Call), args ...service.Arg) service.Handled {
		return service.Handled{Method: service.Method{ID: id, Name: name, Rx: session.Primitive}, Args: args, OnLoop: f}
	}
	return service.Declaration{Name: "locator", Version: 3, Methods: []service.Handled{
		value(0, "resolve", l.onResolve, text("name"), seed),
		connect,
		{
			Method: service.Method{ID: 2, Name: "refresh", Rx: session.Primitive},
			Args:   []service.Arg{{Name: "groups", Kind: service.StringsArg}},
			Serve:  l.serveRefresh,
		},
		value(3, "cluster", l.onCluster),
		{
			Method: service.Method{ID: 4, Name: "publish", Tx: discarding(), Rx: session.Primitive},
			Args: []service.Arg{text("name"), {Name: "endpoints", Kind: service.ListArg},
				{Name: "metadata", Kind: service.ListArg, Optional: true}},
			OnLoop: l.onPublish,
		},
		{
			Method:  service.Method{ID: 5, Name: "routing", Tx: discarding(), Rx: service.Values},
			Args:    []service.Arg{text("router")},
			Serve:   l.serveRouting,
			Endless: true,
		},
		value(6, "uuid", func(c *service.Call) { _ = c.Reply(codec.Args(l.cfg.UUID)) }),
	}}
}

func (l *LocatorService) declarationV0() service.Declaration {
	text := func(name string) []service.Arg { return []service.Arg{{Name: name, Kind: service.StringArg}} }
	return service.Declaration{Name: "locator", Version: 1, Methods: []service.Handled{
		{Method: service.Method{ID: 0, Name: "resolve", Rx: session.Primitive}, Args: text("name"), OnLoop: l.onResolve},
		{Method: service.Method{ID: 1, Name: "synchronize", Rx: session.Primitive}, Unbound: true},
		{Method: service.Method{ID: 2, Name: "reports", Rx: session.Primitive}, Args: []service.Arg{}, OnLoop: l.onReports},
		{Method: service.Method{ID: 3, Name: "refresh", Rx: session.Primitive}, Args: text("group"), Serve: l.serveRefresh},
	}}
}

// find returns the service that is meant by a name, which may be that of a routing group.
// With a seed the group chooses the same service every time.
func (l *LocatorService) find(name, seed string) (registered, bool) {
	if ring := l.groups.ring(name); ring != nil {
		if seed != "" {
			name = ring.Choose(seed)
		} else {
			name = ring.At(rand.Uint32())
		}
	}
	s, ok := l.cfg.Registry.lookup(name)
	return s, ok && (!s.published || l.cfg.ResolvePublished)
}

// Resolve returns the service that is meant by a name: a service of this node, or one that
// a routing group of that name chooses by the seed, at random if it is empty. Endpoints
// are shared and must not be changed.
func (l *LocatorService) Resolve(name, seed string) (service.Resolved, bool) {
	s, ok := l.find(name, seed)
	return s.Resolved, ok
}

func (l *LocatorService) onResolve(c *service.Call) {
	r := c.Reader()
	name, seed := r.String(), ""
	if c.Dialect() == codec.V1 && r.Len() > 0 {
		seed = r.String()
	}
	s, ok := l.find(name, seed)
	answer := s.answer
	if ok && c.Dialect() == codec.V0 {
		var err error
		answer, err = service.AppendResolvedV0(codec.AppendArrayHeader(nil, 1), s.Resolved)
		ok = err == nil
	}
	if !ok {
		l.unknown.Add(1)
		if c.Dialect() == codec.V0 {
			_ = c.Fail(service.CategoryV0, service.V0Invocation, fmt.Sprintf("service %s is not available", name))
			return
		}
		_ = c.Fail(service.CategoryLocator, service.LocatorNotAvailable, "service is not available")
		return
	}
	l.resolved.Add(1)
	_ = c.ReplyBytes(answer)
}

func (l *LocatorService) onCluster(c *service.Call) {
	var nodes map[string]service.Endpoint
	if l.cfg.Cluster != nil {
		nodes = l.cfg.Cluster()
	}
	_ = c.ReplyBytes(service.AppendCluster(nil, nodes))
}

// onReports answers v0's {name: [clients, {}]}; the map is that of the memory which each
// client's connection takes, and nobody asks for it.
func (l *LocatorService) onReports(c *service.Call) {
	list := l.cfg.Registry.Services()
	names := make([]string, 0, len(list))
	for name := range list {
		if !l.private(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	dst := codec.AppendArrayHeader(nil, 1)
	dst = codec.AppendMapHeader(dst, len(names))
	for _, name := range names {
		clients := 0
		if l.cfg.Connections != nil {
			clients = l.cfg.Connections(name)
		}
		dst = codec.AppendString(dst, name)
		dst = codec.AppendArrayHeader(dst, 2)
		dst = codec.AppendInt(dst, int64(clients))
		dst = codec.AppendMapHeader(dst, 0)
	}
	_ = c.ReplyBytes(dst)
}

func (l *LocatorService) private(name string) bool { return slices.Contains(l.cfg.Private, name) }

// LocatorStats is a snapshot of a LocatorService.
type LocatorStats struct {
	Resolved  uint64 // answers to resolve
	Unknown   uint64 // resolves of what is not there
	Refused   uint64 // streams and publishes beyond a limit, or of what is there
	Refreshes uint64 // of groups, that ended well
	Failures  uint64 // of refreshes

	Services  int // now, with the published ones
	Published int // by clients
	Groups    int
	Streams   int // of connect and routing
}

// Stats returns a snapshot.
func (l *LocatorService) Stats() LocatorStats {
	l.mu.Lock()
	streams := len(l.streams)
	l.mu.Unlock()
	return LocatorStats{
		Resolved: l.resolved.Load(), Unknown: l.unknown.Load(), Refused: l.refused.Load(),
		Refreshes: l.groups.refreshes.Load(), Failures: l.groups.failures.Load(),
		Services: l.cfg.Registry.Len(), Published: int(l.published.Load()),
		Groups: len(l.groups.rings()), Streams: streams,
	}
}
