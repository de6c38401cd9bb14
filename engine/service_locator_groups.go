package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// groupCollection is where the store has routing groups, with groupTags on each, as the
// live runtime has it.
const groupCollection = "groups"

func groupTags() []string { return []string{"group", "active"} }

// groupTable is the routing groups of a locator. Those who ask it never wait for the store.
type groupTable struct {
	max     int   // immutable, with the rest
	store   Store // may be nil
	changes bell

	refreshes, failures atomic.Uint64

	reading sync.Mutex                   // held by the one who changes the groups
	fixed   map[string]map[string]uint32 // of the configuration, guarded by reading
	now     atomic.Pointer[map[string]*service.Ring]
}

// rings returns all groups. The map is shared and is not changed any more.
func (g *groupTable) rings() map[string]*service.Ring {
	if list := g.now.Load(); list != nil {
		return *list
	}
	return nil
}

// ring returns a group, nil if there is none of that name.
func (g *groupTable) ring(name string) *service.Ring { return g.rings()[name] }

// configure replaces the groups of the configuration; those of the store are to be
// refreshed after it.
func (g *groupTable) configure(fixed map[string]map[string]uint32) error {
	g.reading.Lock()
	defer g.reading.Unlock()
	next := maps.Clone(g.rings())
	if next == nil {
		next = make(map[string]*service.Ring)
	}
	for name := range g.fixed {
		delete(next, name)
	}
	for name, weights := range fixed {
		ring, err := service.NewRing(weights)
		if err != nil {
			return fmt.Errorf("engine: routing group %q: %w", name, err)
		}
		next[name] = ring
	}
	if len(next) > g.max {
		return fmt.Errorf("engine: %d routing groups, limit LocatorConfig.MaxGroups %d", len(next), g.max)
	}
	g.fixed = fixed
	g.now.Store(&next)
	g.changes.ring()
	return nil
}

// refresh reads groups from the store; one that is not there, or not active, is no group
// any more. All of them change together, or none (protocol: locator, refresh).
func (g *groupTable) refresh(ctx context.Context, groups []string) error {
	g.reading.Lock()
	defer g.reading.Unlock()
	next, err := g.read(ctx, groups)
	if err != nil {
		g.failures.Add(1)
		return err
	}
	g.now.Store(&next)
	g.refreshes.Add(1)
	g.changes.ring()
	return nil
}

func (g *groupTable) read(ctx context.Context, groups []string) (map[string]*service.Ring, error) {
	active, err := g.active(ctx)
	if err != nil {
		return nil, err
	}
	isActive := make(map[string]bool, len(active))
	for _, name := range active {
		isActive[name] = true
	}
	next := maps.Clone(g.rings())
	for _, name := range groups {
		if _, fixed := g.fixed[name]; fixed {
			continue
		}
		delete(next, name)
		if !isActive[name] {
			continue
		}
		blob, err := g.store.Read(ctx, groupCollection, name)
		if err != nil {
			return nil, fmt.Errorf("routing group %q: %w", name, err)
		}
		ring, err := decodeGroup(blob)
		if err != nil {
			return nil, fmt.Errorf("routing group %q: %w", name, err)
		}
		if next[name] = ring; len(next) > g.max {
			return nil, fmt.Errorf("more than %d routing groups", g.max)
		}
	}
	return next, nil
}

// active returns the names of the groups in the store.
func (g *groupTable) active(ctx context.Context) ([]string, error) {
	if g.store == nil {
		return nil, nil
	}
	return g.store.Find(ctx, groupCollection, groupTags())
}

// decodeGroup returns the ring of a group as the store has it: a map of service to weight,
// in msgpack or in JSON, which begins like no map in msgpack.
func decodeGroup(blob []byte) (*service.Ring, error) {
	weights := make(map[string]uint32)
	if trimmed := bytes.TrimLeft(blob, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '{' {
		d := json.NewDecoder(bytes.NewReader(trimmed))
		if err := d.Decode(&weights); err != nil {
			return nil, fmt.Errorf("want {service: weight}: %w", err)
		}
		if _, err := d.Token(); err != io.EOF {
			return nil, errors.New("something follows the JSON of the group")
		}
		return service.NewRing(weights)
	}
	r := codec.NewValueReader(blob)
	n := r.MapLen()
	if n > service.MaxRingMembers {
		return nil, fmt.Errorf("%d services, limit %d", n, service.MaxRingMembers)
	}
	for range n {
		name := r.String()
		weights[name] = uint32(min(r.Uint64(), 1<<32-1))
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("want a map of service to weight, in msgpack or JSON: %w", err)
	}
	if len(r.Rest()) > 0 {
		return nil, errors.New("something follows the msgpack of the group")
	}
	return service.NewRing(weights)
}

// Groups returns the routing groups by name. The map is shared and must not be changed.
func (l *LocatorService) Groups() map[string]*service.Ring { return l.groups.rings() }

// Refresh reads the named routing groups anew, if none are named all that are or were in
// the store. What was not there when it was named is no group any more. If one of them
// cannot be read nothing changes; but if none were named, those that can be read count,
// and the error tells of the others.
func (l *LocatorService) Refresh(ctx context.Context, groups ...string) error {
	if len(groups) > 0 {
		if err := l.groups.refresh(ctx, groups); err != nil {
			return fmt.Errorf("engine: refresh: %w", err)
		}
		return nil
	}
	active, err := l.groups.active(ctx)
	if err != nil {
		return fmt.Errorf("engine: refresh: %w", err)
	}
	var failed []error
	all := make(map[string]bool)
	for name := range l.groups.rings() {
		all[name] = true
	}
	for _, name := range active {
		all[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := l.groups.refresh(ctx, []string{name}); err != nil {
			failed = append(failed, fmt.Errorf("engine: refresh: %w", err))
		}
	}
	return errors.Join(failed...)
}

// SetGroups replaces LocatorConfig.Groups, and reads those of the store anew; see Refresh.
func (l *LocatorService) SetGroups(ctx context.Context, groups map[string]map[string]uint32) error {
	if err := l.groups.configure(groups); err != nil {
		return err
	}
	return l.Refresh(ctx)
}

// serveRefresh is the method refresh: a list of groups in v1, one in v0.
func (l *LocatorService) serveRefresh(ctx context.Context, c *service.Call) error {
	r := c.Reader()
	n := 1
	if c.Dialect() == codec.V1 {
		n = r.ArrayLen()
	}
	groups := make([]string, n)
	for i := range groups {
		groups[i] = r.String()
	}
	if n > l.cfg.MaxGroups {
		return &session.Error{Category: service.CategoryLocator, Code: service.LocatorRoutingStorage,
			Message: fmt.Sprintf("refresh of %d groups, limit %d", n, l.cfg.MaxGroups)}
	}
	if n == 0 {
		return nil
	}
	if err := l.groups.refresh(ctx, groups); err != nil {
		l.cfg.Logger.Warn("engine: locator: groups stay as they were", "groups", groups, "err", err)
		code := int64(service.LocatorRoutingStorage)
		if c.Dialect() == codec.V0 {
			code = service.V0Invocation
		}
		return &session.Error{Category: service.CategoryLocator, Code: code, Message: err.Error()}
	}
	return nil
}
