package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/fsm"
	"github.com/sluice-rpc/sluice/service"
)

const (
	// closeTimeout bounds how long a service may take to write out its last answers, once
	// its applications are gone.
	closeTimeout = 2 * time.Second
	// maxLaunches is how many applications are unpacked at the same time when the engine
	// starts.
	maxLaunches = 8
)

// Engine is a node: it runs applications and the stock services (protocol: the life of
// a worker link; locator). All its methods are safe from any goroutine but a loop. It is made by New and does everything within Run.
type Engine struct {
	// immutable
	cfg   Config
	log   *slog.Logger
	ready chan struct{}
	hard  context.Context // ends with Kill
	kill  context.CancelFunc

	// set by Run while it starts, and then immutable until it ends
	place    *place
	lib      *library
	loops    *channel.Loops
	registry *Registry
	logging  *LoggingService
	storage  *StorageService
	locator  *LocatorService
	servers  []*service.Server // of the stock services, the locator first
	endpoint service.Endpoint

	tasks   sync.WaitGroup // starts and ends of applications
	runlist sync.Mutex     // a change of the list of what is to run; disk below it
	reload  sync.Mutex     // one Reload at a time; disk below it

	mu       sync.Mutex // guards the following; held for moments
	state    fsm.Machine[NodeState, engineEvent]
	begun    time.Time
	tenants  map[string]*tenant
	profiles map[string]Profile // of the configuration; replaced, never written
}

// New returns an Engine. It checks the configuration, and touches nothing yet.
func New(cfg Config) (*Engine, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	hard, kill := context.WithCancel(context.Background())
	return &Engine{
		hard: hard, kill: kill, cfg: cfg, log: cfg.Logger, ready: make(chan struct{}), state: engineTable.Machine(),
		tenants: make(map[string]*tenant), profiles: cfg.Profiles,
	}, nil
}

// Run runs the engine until ctx ends, once. It returns nil if all ended well, also if
// applications had to be ended by force, and leaves no socket, process, goroutine or file
// behind but those of Config.Dir. An application that cannot be started does not keep the
// others, or the engine, from running: it is broken, and the log and the node service's
// info say why.
func (e *Engine) Run(ctx context.Context) error {
	if !e.fire(engRun) {
		return errors.New("engine: Run was called before; make another Engine")
	}
	err := e.start(ctx)
	if err == nil && e.fire(engStarted) {
		close(e.ready)
		e.log.Info("engine: running", "locator", e.endpoint.String(), "dir", e.place.dir)
		<-ctx.Done()
		e.log.Info("engine: stopping", "grace", e.cfg.Grace)
	}
	e.fire(engStop)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil // it was told to end before it ran
	}
	err = errors.Join(err, e.stop())
	e.fire(engGone)
	return err
}

// Kill gives applications that stop no more time, now or when they will: what Config.Grace
// does when it is over. Run still ends by its own ctx, and leaves nothing behind. Any
// goroutine, any number of times.
func (e *Engine) Kill() { e.kill() }

// fire moves the engine, and reports whether the move is legal.
func (e *Engine) fire(ev engineEvent) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, _, ok := e.state.Fire(ev)
	if ev == engRun && ok {
		e.begun = time.Now()
	}
	return ok
}

// start makes everything, from the bottom up; stop takes down what it made.
func (e *Engine) start(ctx context.Context) error {
	var err error
	if e.place, err = openPlace(&e.cfg); err != nil {
		return err
	}
	e.lib = &library{store: e.place.store}
	if e.loops, err = channel.NewLoops(channel.LoopsConfig{N: 1, Logger: e.log}); err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	declared, err := e.stock()
	if err != nil {
		return err
	}
	// The locator listens last, so that whoever finds it finds the others.
	for _, d := range append(declared[1:], declared[0]) {
		s, err := e.serve(ctx, d)
		if err != nil {
			return err
		}
		if d.Name == "locator" {
			e.servers = slices.Insert(e.servers, 0, s)
		} else {
			e.servers = append(e.servers, s)
		}
		if err := e.publish(s, true); err != nil {
			return err
		}
	}
	e.endpoint = e.servers[0].Endpoints()[0]
	e.launchAll(ctx)
	return nil
}

// stock makes the stock services; the locator is the first.
func (e *Engine) stock() ([]service.Declaration, error) {
	e.registry = NewRegistry(RegistryConfig{})
	var err error
	if e.logging, err = NewLoggingService(e.cfg.Logging); err != nil {
		return nil, err
	}
	if e.storage, err = NewStorageService(StorageConfig{Store: e.place.store}); err != nil {
		return nil, err
	}
	e.locator, err = NewLocatorService(LocatorConfig{
		Registry: e.registry, Store: e.place.store, Groups: e.cfg.Groups, Connections: e.connections, Logger: e.log,
		ResolvePublished: e.cfg.ResolvePublished,
	})
	if err != nil {
		return nil, err
	}
	d := e.dialect()
	return []service.Declaration{
		e.locator.Declaration(d), e.storage.Declaration(), e.logging.Declaration(d), e.logging.TailDeclaration(), e.nodeService(),
	}, nil
}

// dialect that the services speak.
func (e *Engine) dialect() codec.Dialect {
	if e.cfg.V0 {
		return codec.V0
	}
	return codec.V1
}

// launchAll starts the applications of the configuration, and those that were running when
// the last Engine ended. It returns when each runs or is broken, or ctx ends.
func (e *Engine) launchAll(ctx context.Context) {
	list, err := e.lib.runlist(ctx)
	if err != nil {
		e.log.Error("engine: applications that were running are not started again", "err", err)
		list = nil
	}
	places := make(chan struct{}, maxLaunches)
	var all sync.WaitGroup
	launch := func(t *tenant) {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			if err := e.launch(ctx, t); err != nil && t.spooled == nil { // else it was logged
				e.log.Error("engine: an application is not started", "app", t.name, "err", err)
			}
		})
	}
	for i := range e.cfg.Apps {
		s := &e.cfg.Apps[i]
		delete(list, s.Name)
		launch(&tenant{name: s.Name, profile: s.Profile, source: s, kept: true})
	}
	for _, name := range slices.Sorted(maps.Keys(list)) {
		launch(&tenant{name: name, profile: list[name], kept: true})
	}
	all.Wait()
}

// stop takes down what start made: applications while the stock services are still there
// for them, then these.
func (e *Engine) stop() error {
	if e.registry != nil {
		e.registry.Remove("node")
	}
	e.mu.Lock()
	list := slices.Collect(maps.Values(e.tenants))
	e.mu.Unlock()
	for _, t := range list {
		e.pause(t)
	}
	e.tasks.Wait()
	for _, s := range e.servers {
		_ = e.publish(s, false)
	}
	var closing sync.WaitGroup
	for _, s := range e.servers {
		closing.Go(func() { e.closeServer(s) })
	}
	closing.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var errs []error
	if e.storage != nil {
		errs = append(errs, e.storage.Close(ctx))
	}
	if e.logging != nil {
		errs = append(errs, e.logging.Close(ctx))
	}
	if e.loops != nil {
		errs = append(errs, e.loops.Close(ctx))
	}
	if e.place != nil {
		errs = append(errs, e.place.close())
	}
	return errors.Join(errs...)
}

// closeServer closes a service whose work is done: calls that are left get little time.
func (e *Engine) closeServer(s *service.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		e.log.Warn("engine: a service had calls that did not end", "service", s.Name(), "err", err)
	}
}

// connections returns how many clients a service has.
func (e *Engine) connections(name string) int {
	if t := e.tenant(name); t != nil {
		if s := t.server.Load(); s != nil {
			return s.Stats().Conns
		}
	}
	select {
	case <-e.ready: // servers is immutable
	default:
		return 0
	}
	for _, s := range e.servers {
		if s.Name() == name {
			return s.Stats().Conns
		}
	}
	return 0
}

// Ready is closed when all services are published and the applications were started, which
// is not to say that their workers run. If Run fails before that, it never is.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Endpoint returns where the locator listens. It is for after Ready.
func (e *Engine) Endpoint() service.Endpoint { return e.endpoint }

// State returns what the engine does.
func (e *Engine) State() NodeState {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state.State()
}

var errNotRunning = errors.New("engine: it is not running")

func (e *Engine) isRunning() error {
	if e.State() != NodeRunning {
		return errNotRunning
	}
	return nil
}

// Deploy puts a package into the storage under a name. An application of that name that
// runs goes on as it is until it is started anew. It is for a running Engine.
func (e *Engine) Deploy(ctx context.Context, name string, p *Package) error {
	if err := e.isRunning(); err != nil {
		return err
	}
	if err := CheckAppName(name); err != nil {
		return fmt.Errorf("engine: deploy: %w", err)
	}
	return e.lib.put(ctx, name, p)
}

// Reload calls Config.Reread, and reads routing groups and the profiles of the running
// applications anew, those of the storage too. If one of them is bad nothing changes, and
// the error says which. Workers that run keep the time-outs that they have. The file of
// the log, if there is one, is opened anew, for who has moved it away. It is for a running
// Engine; everything else of what Reread returns counts at the next start.
func (e *Engine) Reload(ctx context.Context) error {
	e.reload.Lock()
	defer e.reload.Unlock()
	if err := e.isRunning(); err != nil {
		return err
	}
	e.mu.Lock()
	cfg := Config{Profiles: e.profiles, Groups: e.cfg.Groups}
	tenants := maps.Clone(e.tenants)
	e.mu.Unlock()
	if e.cfg.Reread != nil {
		var err error
		if cfg, err = e.cfg.Reread(); err == nil {
			err = cfg.setDefaults()
		}
		if err != nil {
			return fmt.Errorf("engine: reload: %w", err)
		}
	}
	found := make(map[*App]Profile)
	for _, name := range slices.Sorted(maps.Keys(tenants)) {
		t := tenants[name]
		app := t.app.Load()
		if app == nil {
			continue
		}
		p, err := e.profileFrom(ctx, t, cfg.Profiles)
		if err != nil {
			return fmt.Errorf("engine: reload: app %s: %w", name, err)
		}
		found[app] = p
	}
	if err := e.logging.Reopen(); err != nil {
		return fmt.Errorf("engine: reload: the log: %w", err)
	}
	if err := e.locator.SetGroups(ctx, cfg.Groups); err != nil {
		return fmt.Errorf("engine: reload: %w", err)
	}
	e.mu.Lock()
	e.profiles = cfg.Profiles
	e.mu.Unlock()
	for app, p := range found {
		if err := app.SetProfile(p); err != nil {
			return fmt.Errorf("engine: reload: app %s: %w", app.Name(), err)
		}
	}
	e.log.Info("engine: profiles and groups were read anew", "apps", len(found))
	return nil
}
