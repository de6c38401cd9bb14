package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine/storage"
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

// StartApp starts the application of that name in the storage, with the profile of that
// name or, if profile is empty, its own or the default one. It returns when the
// application is published or has failed. Errors are *session.Error as the node service
// answers them: already started, or what is wrong with manifest, profile or package (protocol:
// node). ctx bounds the wait only. The application is started again by every Engine of the
// same Config.Dir until PauseApp.
func (e *Engine) StartApp(ctx context.Context, name, profile string) error {
	if err := checkAppName(name); err != nil {
		return nodeError(service.NodeUncaughtSpool, "%v", err)
	}
	return e.launch(ctx, name, profile, nil)
}

// launch starts an application, once the one of that name that is stopping has gone.
func (e *Engine) launch(ctx context.Context, name, profile string, source *Source) error {
	for {
		t, before, err := e.admit(name, profile, source)
		if err != nil {
			return err
		}
		if t == nil {
			select {
			case <-before.gone:
				continue
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
}

// admit makes a tenant, in place of a broken one; or returns the one before it that is
// still stopping.
func (e *Engine) admit(name, profile string, source *Source) (t, before *tenant, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.state.State(); s != EngineStarting && s != EngineRunning {
		return nil, nil, nodeError(service.NodeNotRunning, "the engine is %s", s)
	}
	if slices.Contains(stockNames, name) {
		return nil, nil, nodeError(service.NodeUncaughtSpool, "app '%s' has the name of a stock service; choose another", name)
	}
	if old := e.tenants[name]; old != nil {
		switch old.state.State() {
		case AppStopping:
			return nil, old, nil
		case AppBroken:
			e.forgetLocked(old, appPause)
		default:
			return nil, nil, nodeError(service.NodeAlreadyStarted, "app '%s' is already started", name)
		}
	}
	if len(e.tenants) >= e.cfg.MaxApps {
		return nil, nil, nodeError(service.NodeResource, "app '%s' cannot be started: there are %d apps, limit Config.MaxApps", name, len(e.tenants))
	}
	t = &tenant{
		name: name, source: source, profile: profile, begun: time.Now(), state: appTable.Machine(),
		spooled: make(chan struct{}), gone: make(chan struct{}), dir: e.place.spool(name),
	}
	t.spooling, t.cancel = context.WithCancel(context.Background())
	e.tenants[name] = t
	return t, nil, nil
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

// spool starts an application. Its own goroutine.
func (e *Engine) spool(t *tenant) {
	err := e.open(t)
	if err == nil && t.source == nil {
		err = e.want(t)
	}
	ev := appSpooled
	if err != nil {
		e.clear(context.Background(), t)
		t.app.Store(nil)
		ev = appFailed
	}
	e.mu.Lock()
	if _, _, ok := t.state.Fire(ev); !ok { // it was paused meanwhile
		t.cause = notRunning(t.name)
	} else if err != nil {
		t.cause = spoolError(t.name, err)
	}
	e.mu.Unlock()
	close(t.spooled)
	if err != nil {
		e.log.Error("engine: an application cannot be started", "app", t.name, "err", err)
		return
	}
	e.log.Info("engine: an application runs", "app", t.name, "endpoints", t.server.Load().Endpoints())
}

// open makes everything that an application needs. What it made before an error is
// cleared away by clear.
func (e *Engine) open(t *tenant) error {
	ctx := t.spooling
	command, err := e.unpack(ctx, t)
	if err != nil {
		return err
	}
	cfg := AppConfig{
		Name: t.name, Command: command, Dir: t.dir, Env: t.manifest.env(), Dialect: t.manifest.dialect(),
		Locator: service.JoinEndpoints([]service.Endpoint{e.Endpoint()}), Loops: e.loops, Sessions: e.cfg.Sessions,
		Logger: e.log, RuntimeDir: e.place.run, OnCrash: e.keepCrash,
	}
	if t.source != nil {
		cfg.Env = append(cfg.Env, t.source.Env...)
	}
	if cfg.Profile, err = e.profileOf(ctx, t); err != nil {
		return err
	}
	s, err := e.serve(ctx, appService(t))
	if err != nil {
		return err
	}
	t.server.Store(s)
	cfg.OnPublish = func(there bool) { e.publish(s, there) }
	app, err := NewApp(ctx, cfg)
	if err != nil {
		return err
	}
	t.app.Store(app)
	return ctx.Err()
}

// unpack fills the application's directory, and returns what its workers are started by.
func (e *Engine) unpack(ctx context.Context, t *tenant) ([]string, error) {
	if t.source != nil && len(t.source.Command) > 0 {
		t.dir, t.manifest = t.source.Dir, Manifest{V0: t.source.V0}
		return t.source.Command, nil
	}
	if t.source != nil {
		p, err := ReadPackage(t.source.Path, e.cfg.Package)
		if err != nil {
			return nil, err
		}
		if err := e.lib.put(ctx, t.name, p); err != nil {
			return nil, err
		}
	}
	var err error
	if t.manifest, err = e.lib.manifest(ctx, t.name); err != nil {
		return nil, err
	}
	if len(t.manifest.Unknown) > 0 {
		e.log.Warn("engine: a manifest has keys that mean nothing here", "app", t.name, "keys", t.manifest.Unknown)
	}
	archive, err := e.lib.archive(ctx, t.name)
	if err != nil {
		return nil, err
	}
	if archive == nil {
		err = os.Mkdir(t.dir, 0o755)
	} else {
		err = unpack(bytes.NewReader(archive), int64(len(archive)), t.dir, e.cfg.Package)
	}
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w", collApps, t.name, err)
	}
	return e.program(t)
}

// program finds what the manifest names.
func (e *Engine) program(t *tenant) ([]string, error) {
	file := filepath.FromSlash(t.manifest.Slave)
	if !filepath.IsAbs(file) {
		file = filepath.Join(t.dir, file)
	}
	info, err := os.Stat(file)
	switch {
	case err != nil:
		err = fmt.Errorf("%q is neither in the package nor on this machine: %w", t.manifest.Slave, err)
	case info.IsDir() || info.Mode()&0o111 == 0:
		err = fmt.Errorf("%q cannot be executed; set its mode before packing", t.manifest.Slave)
	default:
		return []string{file}, nil
	}
	return nil, &FieldError{collManifests + "/" + t.name, "slave", err}
}

// profileOf returns the profile that counts for an application: the one that was asked
// for, else its own, else "default", else DefaultProfile. Of each the configuration's
// comes before the storage's.
func (e *Engine) profileOf(ctx context.Context, t *tenant) (Profile, error) {
	e.mu.Lock()
	profiles := e.profiles // replaced, never written
	e.mu.Unlock()
	return e.profileFrom(ctx, t, profiles)
}

func (e *Engine) profileFrom(ctx context.Context, t *tenant, profiles map[string]Profile) (Profile, error) {
	names := []string{t.profile}
	if t.profile == "" {
		names = []string{t.name, defaultProfile}
	}
	for _, name := range names {
		if p, ok := profiles[name]; ok {
			p.Name = name
			return p, nil
		}
		p, err := e.lib.profile(ctx, name)
		if !errors.Is(err, storage.ErrNotFound) {
			return p, err
		}
		if t.profile != "" && name != defaultProfile {
			return Profile{}, err
		}
	}
	p := Profile{Name: defaultProfile}
	if t.source != nil && len(t.source.Command) > 0 {
		p.HandshakeTimeout = DevelopmentHandshake
	}
	return p, nil
}

// publish puts a service into the registry, or takes it out.
func (e *Engine) publish(s *service.Server, there bool) {
	if !there {
		e.registry.Remove(s.Name())
		return
	}
	if err := e.registry.Update(s.Name(), s.Resolved()); err != nil {
		e.log.Error("engine: a service cannot be published", "service", s.Name(), "err", err)
	}
}

// keepCrash stores the last lines of a worker.
func (e *Engine) keepCrash(c Crash) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	if err := e.lib.crash(ctx, &c); err != nil {
		e.log.Error("engine: a crash log cannot be stored", "app", c.Name, "slave", c.UUID, "err", err)
	}
}

// want writes down that an application is to run, so that the next Engine starts it;
// unless it was paused meanwhile, since unwant comes after pause.
func (e *Engine) want(t *tenant) error {
	e.runlist.Lock()
	defer e.runlist.Unlock()
	if err := t.spooling.Err(); err != nil {
		return err
	}
	return e.rewrite(func(list map[string]string) bool {
		was, ok := list[t.name]
		list[t.name] = t.profile
		return !ok || was != t.profile
	})
}

// unwant writes down that an application is not to run.
func (e *Engine) unwant(name string) error {
	e.runlist.Lock()
	defer e.runlist.Unlock()
	return e.rewrite(func(list map[string]string) bool {
		_, ok := list[name]
		delete(list, name)
		return ok
	})
}

// rewrite changes the list if change says that it did. The lock runlist is held.
func (e *Engine) rewrite(change func(list map[string]string) bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	list, err := e.lib.runlist(ctx)
	if err != nil || !change(list) {
		return err
	}
	return e.lib.putRunlist(ctx, list)
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

// graceful returns a context that ends after Config.Grace.
func (e *Engine) graceful() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), e.cfg.Grace)
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

// appendInfo appends what the node service tells of an application: a map.
func (e *Engine) appendInfo(dst []byte, name string, flags InfoFlags) ([]byte, error) {
	t := e.tenant(name)
	if t == nil {
		return nil, notRunning(name)
	}
	e.mu.Lock()
	state, cause := t.state.State(), t.cause
	e.mu.Unlock()
	list := []field{
		{"state", codec.AppendString(nil, state.String())},
		{"uptime", codec.AppendInt(nil, int64(time.Since(t.begun)/time.Second))},
	}
	if cause != nil {
		list = append(list, field{"cause", codec.AppendString(nil, cause.Error())})
	}
	if state == AppRunning && flags&InfoManifest != 0 {
		list = append(list, field{"manifest", t.manifest.append(nil)})
	}
	if app := t.app.Load(); app != nil && state == AppRunning {
		list = append(list, profileField(app.Profile(), flags))
		if flags&InfoReport != 0 {
			list = append(list, fieldsOf(app.Info().AppendInfo(nil))...)
		}
	}
	return appendFields(dst, list), nil
}
