package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// AppConfig sets up an App. Name and Command are required; of the rest a zero field means
// its default and a negative one none or no limit.
type AppConfig struct {
	// Name of the application, the flag --app. Required.
	Name string
	// Command, Dir and Env are those of SlaveConfig. Command is required.
	Command []string
	Dir     string
	Env     []string
	// Dialect that the workers speak. Clients may speak either.
	Dialect codec.Dialect
	// Profile of the pool; the zero Profile has every default of the dialect.
	Profile Profile
	// Locator is the flag --locator. If empty, localhost:10053.
	Locator string
	// RuntimeDir is where a directory for the workers' socket is made. If empty, or too
	// long for the path of a socket, os.TempDir.
	RuntimeDir string
	// KillTimeout is that of SlaveConfig.
	KillTimeout time.Duration

	// Loops of the workers' channels. A request costs least if its client's channel is on
	// the same loop. If nil, each channel has its own.
	Loops *channel.Loops
	// Sessions has the limits of the workers' session tables.
	Sessions session.Config
	// MaxCrashes that Crashes keeps. If zero, 50. If negative, none.
	MaxCrashes int
	// OnCrash, if set, is told of each worker that ended other than it was asked to, after
	// it is gone. The Crash is the callee's. Calls come from several goroutines, and Stop
	// waits for them.
	OnCrash func(Crash)
	// OnPublish, if set, is told when there are enough active slaves for the application
	// to be found by clients, and when not any more (Profile.PublishOn, UnpublishUnder).
	// Calls come one after the other, true and false in turn, false at last if true was
	// told. Stop waits for them.
	OnPublish func(bool)
	// Logger. If nil, slog.Default().
	Logger *slog.Logger
}

func (c *AppConfig) setDefaults() error {
	if c.Name == "" {
		return errors.New("engine: AppConfig.Name is required")
	}
	if len(c.Command) == 0 || c.Command[0] == "" {
		return errors.New("engine: AppConfig.Command is required")
	}
	if !c.Dialect.Valid() {
		return fmt.Errorf("engine: AppConfig.Dialect is %d, want codec.V0 or codec.V1", c.Dialect)
	}
	if err := c.Profile.Validate(); err != nil {
		return err
	}
	c.Profile = c.Profile.withDefaults(c.Dialect)
	if c.MaxCrashes == 0 {
		c.MaxCrashes = maxCrashes
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

// App is one application: a queue of requests and a pool of slaves that serve them, which
// grows and shrinks with them (protocol: queue, choice of slave, growth). Its methods are
// for any goroutine unless they say otherwise.
type App struct {
	// immutable
	cfg       AppConfig
	log       *slog.Logger
	lobby     *lobby
	began     time.Time
	spawn     func(home, SlaveConfig) (*Slave, error)
	translate [2]func(bool, *session.Error) (category, code int64, message string) // by the client's dialect

	timer *time.Timer   // wakes the keeper
	poke  chan struct{} // likewise
	quit  chan struct{} // closed to end it
	kept  chan struct{} // closed when it has ended
	empty chan struct{} // closed when the App is stopping and no request is left
	stop  sync.Once
	ended error // of Stop

	workers sync.WaitGroup // their lives; added to under mu, while the pool is not closed
	drained sync.Once      // of empty

	mu      sync.Mutex // guards the following; never held while anything else is called
	pool    pool
	armed   time.Time // when timer fires; zero: it need not
	killed  bool      // the slaves are to be killed, not asked
	crashes crashes
	meter   meter
}

// NewApp opens the socket at which the application's workers come in; ctx bounds that only.
// Workers are spawned when the first request comes, or when Control asks for some. The App
// keeps a goroutine until Stop, which is needed.
func NewApp(ctx context.Context, cfg AppConfig) (*App, error) {
	a, err := newApp(cfg)
	if err != nil {
		return nil, err
	}
	a.lobby.parent = a.cfg.RuntimeDir
	if err := a.lobby.open(ctx, channel.ListenConfig{Logger: a.cfg.Logger}); err != nil {
		return nil, fmt.Errorf("engine: socket for the workers of %q: %w", cfg.Name, err)
	}
	a.run()
	return a, nil
}

// newApp returns an App whose lobby has no socket, and that does not run.
func newApp(cfg AppConfig) (*App, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	a := &App{
		cfg: cfg, log: cfg.Logger.With("app", cfg.Name), began: time.Now(), spawn: spawnAt,
		timer: time.NewTimer(forever), poke: make(chan struct{}, 1),
		quit: make(chan struct{}), kept: make(chan struct{}), empty: make(chan struct{}),
		pool: pool{profile: cfg.Profile}, crashes: crashes{limit: cfg.MaxCrashes},
	}
	a.meter.start(a.began)
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		a.translate[d] = translator(d, cfg.Dialect)
	}
	a.lobby = newLobby(a.table)
	a.lobby.maxConns = 2*MaxPoolLimit + maxStrangers
	if _, err := a.table(&link{lobby: a.lobby}); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	return a, nil
}

func (a *App) run() {
	go a.keep()
	a.turn() // it may be to be published
}

// table returns the session table of a new link.
func (a *App) table(k *link) (*session.Table, error) {
	cfg := a.slaveConfig()
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	return session.New(cfg.sessions(k, k.settled))
}

// Control says how many slaves there should be (protocol: app and node). They are spawned now,
// and kept; surplus ones are sealed. With 0 or less the queue decides.
func (a *App) Control(population int) {
	a.mu.Lock()
	a.pool.population = max(population, 0)
	a.mu.Unlock()
	a.turn()
}

// SetProfile replaces the profile. Slaves that run keep their timeouts; their number and
// what they are given follow the new one. An error says what is wrong, and nothing changes.
func (a *App) SetProfile(p Profile) error {
	if err := p.Validate(); err != nil {
		return err
	}
	a.mu.Lock()
	a.pool.profile = p.withDefaults(a.cfg.Dialect)
	a.mu.Unlock()
	a.turn()
	return nil
}

// Profile returns the profile in force, with its defaults.
func (a *App) Profile() Profile {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pool.profile
}

// Name returns the application's name.
func (a *App) Name() string { return a.cfg.Name }

// Dialect returns what the workers speak.
func (a *App) Dialect() codec.Dialect { return a.cfg.Dialect }

// Crashes returns the last ends of workers that nobody asked for, the oldest first. The
// list is the caller's.
func (a *App) Crashes() []Crash {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.crashes.all()
}

// Stop ends the application: no request is taken any more (error [20991, 6]); those in the
// queue and those that run have until Profile.SealTimeout or the end of ctx; then slaves
// get a terminate, and in the end nothing of them is left. Once ctx has ended they are
// killed. The error is that of clearing away the socket. Any goroutine but a loop; a second
// call waits for the first.
func (a *App) Stop(ctx context.Context) error {
	a.stop.Do(func() { a.ended = a.end(ctx) })
	return a.ended
}

func (a *App) end(ctx context.Context) error {
	a.mu.Lock()
	a.pool.stop()
	limit := a.pool.profile.SealTimeout
	a.mu.Unlock()
	a.turn()
	patience := time.NewTimer(limit)
	defer patience.Stop()
	select {
	case <-a.empty:
	case <-patience.C:
	case <-ctx.Done():
	}
	a.mu.Lock()
	left := a.pool.close()
	slaves := a.slavesLocked()
	a.mu.Unlock()
	for _, r := range left {
		r.refuse(answerNotRunning)
	}
	for _, s := range slaves {
		a.endSlave(s, false)
	}
	a.awaitWorkers(ctx)
	close(a.quit)
	<-a.kept
	a.timer.Stop()
	return a.lobby.close()
}

// awaitWorkers waits for the lives of all slaves, and kills them once ctx has ended.
func (a *App) awaitWorkers(ctx context.Context) {
	over := make(chan struct{})
	go func() {
		a.workers.Wait()
		close(over)
	}()
	select {
	case <-over:
		return
	case <-ctx.Done():
	}
	a.mu.Lock()
	a.killed = true
	slaves := a.slavesLocked()
	a.mu.Unlock()
	for _, s := range slaves {
		s.Kill()
	}
	<-over
}

// slavesLocked returns the slaves whose processes run.
func (a *App) slavesLocked() []*Slave {
	list := make([]*Slave, 0, len(a.pool.members))
	for _, m := range a.pool.members {
		if m.slave != nil {
			list = append(list, m.slave)
		}
	}
	return list
}

// endSlave ends a slave because the application is ended.
func (a *App) endSlave(s *Slave, kill bool) {
	if kill {
		s.Kill()
		return
	}
	reason := "overseer is shutting down"
	if a.cfg.Dialect == codec.V0 {
		reason = "the engine is shutting down"
	}
	s.askTerminate(a.code(SlaveShutdown), reason)
}
