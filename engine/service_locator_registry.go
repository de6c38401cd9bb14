package engine

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/sluice-rpc/sluice/service"
)

var (
	// ErrTaken says that a [Registry] has another service of that name.
	ErrTaken = errors.New("engine: the name is taken by another service")
	// ErrRegistryFull says that a [Registry] has no room for one more service or watch.
	ErrRegistryFull = errors.New("engine: the registry is full")
)

// RegistryConfig bounds a [Registry]. A zero field means its default, a negative one no
// limit.
type RegistryConfig struct {
	// MaxServices of a node. If zero, 4096, which is also the most that a peer of ours reads
	// in one update (service.MaxEntries).
	MaxServices int
	// MaxWatches at a time. If zero, 1024.
	MaxWatches int
}

// Registry is the list of the services of one node: the stock services, the applications
// that run, and what clients have published. The locator answers from it. Any goroutine
// may use it; none of its methods waits.
type Registry struct {
	maxServices int // immutable
	changes     bell

	mu       sync.RWMutex
	entries  map[string]registered // guarded by mu
	revision uint64                // of the last change, guarded by mu
}

// registered is one service of a Registry.
type registered struct {
	service.Resolved
	revision  uint64 // of the change that made it what it is
	answer    []byte // to resolve, in v1
	published bool   // by a client of the locator, which only announces it
}

// NewRegistry returns an empty registry.
func NewRegistry(cfg RegistryConfig) *Registry {
	r := &Registry{
		maxServices: orLimit(cfg.MaxServices, service.MaxEntries),
		entries:     make(map[string]registered),
	}
	r.changes.max = orLimit(cfg.MaxWatches, 1024)
	return r
}

// orLimit returns the limit that a field of a configuration stands for.
func orLimit(v, def int) int {
	switch {
	case v == 0:
		return def
	case v < 0:
		return math.MaxInt
	}
	return v
}

// Add puts a service into the list. It takes the place of one of that name which a client
// has published. The error is [ErrTaken] if there is another one of that name,
// [ErrRegistryFull], or says what is wrong with the name or that there is no endpoint. s
// is copied, but for its API, which is immutable.
func (r *Registry) Add(name string, s service.Resolved) error {
	_, err := r.put(name, s, false, false)
	return err
}

// Update is Add, but takes the place of a service of that name, so that watchers see one
// change.
func (r *Registry) Update(name string, s service.Resolved) error {
	_, err := r.put(name, s, false, true)
	return err
}

// put returns the revision that the service has.
func (r *Registry) put(name string, s service.Resolved, published, replace bool) (uint64, error) {
	switch {
	case name == "" || len(name) > service.MaxNameBytes:
		return 0, fmt.Errorf("engine: a service's name has %d bytes, want 1 to %d", len(name), service.MaxNameBytes)
	case len(s.Endpoints) == 0 || len(s.Endpoints) > service.MaxEndpoints:
		return 0, fmt.Errorf("engine: service %q has %d endpoints, want 1 to %d", name, len(s.Endpoints), service.MaxEndpoints)
	}
	s.Endpoints = slices.Clone(s.Endpoints)
	answer := service.AppendResolved(nil, s)
	r.mu.Lock()
	old, taken := r.entries[name]
	switch {
	case taken && !replace && (published || !old.published): // ours come before those of clients
		r.mu.Unlock()
		return 0, fmt.Errorf("%w: %q", ErrTaken, name)
	case !taken && len(r.entries) >= r.maxServices:
		r.mu.Unlock()
		return 0, fmt.Errorf("%w: it has %d services", ErrRegistryFull, r.maxServices)
	}
	r.revision++
	revision := r.revision
	r.entries[name] = registered{s, revision, answer, published}
	r.mu.Unlock()
	r.changes.ring()
	return revision, nil
}

// Remove takes a service out of the list and reports whether it was there.
func (r *Registry) Remove(name string) bool { return r.remove(name, 0) }

// remove is Remove; if a revision is given, of no other.
func (r *Registry) remove(name string, revision uint64) bool {
	r.mu.Lock()
	e, there := r.entries[name]
	if there = there && (revision == 0 || e.revision == revision); there {
		r.revision++
		delete(r.entries, name)
	}
	r.mu.Unlock()
	if there {
		r.changes.ring()
	}
	return there
}

// Lookup returns a service of this node, not one that a client has published. Its
// endpoints are shared and must not be changed.
func (r *Registry) Lookup(name string) (service.Resolved, bool) {
	e, ok := r.lookup(name)
	return e.Resolved, ok && !e.published
}

func (r *Registry) lookup(name string) (registered, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e, ok := r.entries[name]
	return e, ok
}

// Services returns the list by name, with what clients have published. Endpoints are
// shared and must not be changed.
func (r *Registry) Services() map[string]service.Resolved {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make(map[string]service.Resolved, len(r.entries))
	for name, e := range r.entries {
		list[name] = e.Resolved
	}
	return list
}

// Len counts the services.
func (r *Registry) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.entries)
}

// Watch returns a Watch that has been told nothing yet. The error is [ErrRegistryFull].
func (r *Registry) Watch() (*Watch, error) {
	ear, ok := r.changes.listen()
	if !ok {
		return nil, fmt.Errorf("%w: it has %d watches", ErrRegistryFull, r.changes.max)
	}
	return &Watch{registry: r, ear: ear, told: make(map[string]registered)}, nil
}

// Watch tells one reader how a [Registry] changes. It is for one goroutine. What changes
// and changes back between two calls of Next was never there for its reader, so a slow
// reader holds nothing up and costs no more than the list.
type Watch struct {
	registry *Registry
	ear      chan struct{}
	told     map[string]registered // what the reader knows
}

// Changed returns a channel that gets a value when Next has something to tell, and one at
// the beginning. It is never closed.
func (w *Watch) Changed() <-chan struct{} { return w.ear }

// Next returns what has changed since the last Next; at first that is the whole list.
// What has left has no endpoints, and the version and API that it had. It is empty if
// nothing has changed. It never waits.
func (w *Watch) Next() map[string]service.Resolved {
	changed := make(map[string]service.Resolved)
	w.registry.mu.RLock()
	defer w.registry.mu.RUnlock()
	for name, e := range w.registry.entries {
		if w.told[name].revision != e.revision {
			changed[name], w.told[name] = e.Resolved, e
		}
	}
	for name, e := range w.told {
		if _, there := w.registry.entries[name]; !there {
			delete(w.told, name)
			changed[name] = service.Resolved{Version: e.Version, API: e.API}
		}
	}
	return changed
}

// Close ends the watch.
func (w *Watch) Close() { w.registry.changes.leave(w.ear) }
