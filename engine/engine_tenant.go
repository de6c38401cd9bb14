package engine

import (
	"cmp"
	"context"
	"maps"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sluice-rpc/sluice/fsm"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// tenant is an application in the engine, from its start until it is forgotten.
type tenant struct {
	// immutable
	name     string
	source   *Source         // nil: it is in the storage
	profile  string          // name of the profile that was asked for; empty: none
	kept     bool            // it is to run in any case: if it is broken, that is told
	begun    time.Time       //
	spooling context.Context // ends if it is to stop before it runs
	cancel   context.CancelFunc
	spooled  chan struct{} // closed when it runs, or is broken, or was stopped before
	gone     chan struct{} // closed when it is forgotten

	app    atomic.Pointer[App] // nil unless it runs, or stops
	server atomic.Pointer[service.Server]

	// owned by spool, then by retire; manifest is immutable once app is there
	dir      string
	manifest Manifest

	// guarded by Engine.mu
	state fsm.Machine[AppState, appEvent]
	cause error // why it is broken
}

// StartApp starts the application of that name in Config.Apps or the storage, with the
// profile of that name or, if profile is empty, its own or the default one. It returns when
// the application is published or has failed. Errors are *session.Error as the node service
// answers them: already started, or what is wrong with manifest, profile or package (protocol:
// node). ctx bounds the wait only. The application is started again by every Engine of the
// same Config.Dir until PauseApp. It is for a running Engine.
func (e *Engine) StartApp(ctx context.Context, name, profile string) error {
	if s := e.State(); s != NodeRunning { // launchAll comes first
		return nodeError(service.NodeNotRunning, "the engine is %s", s)
	}
	t := &tenant{name: name, profile: profile}
	if i := slices.IndexFunc(e.cfg.Apps, func(s Source) bool { return s.Name == name }); i >= 0 {
		t.source = &e.cfg.Apps[i]
		t.profile = cmp.Or(profile, t.source.Profile)
	}
	return e.launch(ctx, t)
}

// launch starts an application, once the one of that name that is stopping has gone.
func (e *Engine) launch(ctx context.Context, t *tenant) error {
	for {
		before, err := e.admit(t)
		if err != nil {
			return err
		}
		if before == nil {
			break
		}
		select {
		case <-before.gone:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	e.tasks.Go(func() { e.spool(t) })
	select {
	case <-t.spooled:
		return e.causeOf(t)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// admit gives a tenant its place, if need be that of a broken one; or returns the one
// before it that is still stopping.
func (e *Engine) admit(t *tenant) (before *tenant, err error) {
	if err := CheckAppName(t.name); err != nil { // also from the storage, where anybody writes
		return nil, nodeError(service.NodeUncaughtSpool, "%v", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.state.State(); s != NodeStarting && s != NodeRunning {
		return nil, nodeError(service.NodeNotRunning, "the engine is %s", s)
	}
	if slices.Contains(stockNames, t.name) {
		return nil, nodeError(service.NodeUncaughtSpool, "app '%s' has the name of a stock service; choose another", t.name)
	}
	if old := e.tenants[t.name]; old != nil {
		switch old.state.State() {
		case AppStopping:
			return old, nil
		case AppBroken:
			t.kept = old.kept
			e.forgetLocked(old, appPause)
		default:
			return nil, nodeError(service.NodeAlreadyStarted, "app '%s' is already started", t.name)
		}
	}
	if len(e.tenants) >= e.cfg.MaxApps {
		return nil, nodeError(service.NodeResource, "app '%s' cannot be started: there are %d apps, limit Config.MaxApps", t.name, len(e.tenants))
	}
	t.begun, t.state, t.dir = time.Now(), appTable.Machine(), e.place.spool(t.name)
	t.spooled, t.gone = make(chan struct{}), make(chan struct{})
	t.spooling, t.cancel = context.WithCancel(context.Background())
	e.tenants[t.name] = t
	return nil, nil
}

// forgetLocked ends a tenant of which nothing is left.
func (e *Engine) forgetLocked(t *tenant, ev appEvent) {
	t.state.Fire(ev)
	t.cancel()
	delete(e.tenants, t.name)
	close(t.gone)
}

func (e *Engine) causeOf(t *tenant) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return t.cause
}

// publish puts a service into the registry, or takes it out.
func (e *Engine) publish(s *service.Server, there bool) error {
	if !there {
		e.registry.Remove(s.Name())
		return nil
	}
	err := e.registry.Update(s.Name(), s.Resolved())
	if err != nil {
		e.log.Error("engine: a service cannot be published", "service", s.Name(), "err", err)
	}
	return err
}

// PauseApp stops an application and returns when nothing of it is left: its service
// leaves, then its workers have Config.Grace to finish what they do. It is not started
// again. If it does not run, that is an *session.Error (protocol: node). ctx bounds the
// wait only.
func (e *Engine) PauseApp(ctx context.Context, name string) error {
	t := e.tenant(name)
	if t == nil {
		return notRunning(name)
	}
	e.pause(t)
	if t.source == nil {
		if err := e.unwant(name); err != nil {
			return spoolError(name, err)
		}
	}
	select {
	case <-t.gone:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (e *Engine) tenant(name string) *tenant {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.tenants[name]
}

// pause begins the end of a tenant, once.
func (e *Engine) pause(t *tenant) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.state.State() == AppBroken {
		e.forgetLocked(t, appPause)
		return
	}
	if _, _, ok := t.state.Fire(appPause); !ok {
		return
	}
	t.cancel()
	e.tasks.Go(func() { e.retire(t) })
}

// retire clears a tenant away. Its own goroutine.
func (e *Engine) retire(t *tenant) {
	<-t.spooled
	ctx, cancel := e.graceful()
	defer cancel()
	e.clear(ctx, t)
	e.mu.Lock()
	e.forgetLocked(t, appGone)
	e.mu.Unlock()
	e.log.Info("engine: an application has stopped", "app", t.name)
}

// graceful returns a context that ends after Config.Grace, or with Kill.
func (e *Engine) graceful() (context.Context, context.CancelFunc) {
	return context.WithTimeout(e.hard, e.cfg.Grace)
}

// clear stops what open made. The service's name goes first; the service itself last, so
// that clients hear how their calls ended.
func (e *Engine) clear(ctx context.Context, t *tenant) {
	s := t.server.Load()
	if s != nil {
		e.registry.Remove(t.name)
	}
	if app := t.app.Load(); app != nil {
		if err := app.Stop(ctx); err != nil {
			e.log.Warn("engine: an application did not stop as it should", "app", t.name, "err", err)
		}
	}
	if s != nil {
		e.closeServer(s)
	}
	if t.source == nil || len(t.source.Command) == 0 {
		if err := os.RemoveAll(t.dir); err != nil {
			e.log.Warn("engine: a directory is left", "app", t.name, "err", err)
		}
	}
}

// running returns a tenant that takes requests.
func (e *Engine) running(name string) (*tenant, *session.Error) {
	t := e.tenant(name)
	if t == nil || t.app.Load() == nil {
		return nil, notRunning(name)
	}
	return t, nil
}

// List returns the names of the applications, in order: those that run, and those that are
// being started or stopped, or are broken.
func (e *Engine) List() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(maps.Keys(e.tenants))
}
