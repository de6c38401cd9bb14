package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	cfg AppConfig
}

// NewApp opens the socket at which the application's workers come in; ctx bounds that only.
// Workers are spawned when the first request comes, or Control asks for some. The App is
// ended by Stop, which it needs.
func NewApp(ctx context.Context, cfg AppConfig) (*App, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	return &App{cfg: cfg}, nil
}

// Enqueue takes over s, a client's session that was just opened and that nothing was read
// from: it is joined to a new session of a worker, at once if a slave has a free slot, else
// when its turn in the queue comes. headers are those of the client's call; they are copied
// and go to the worker's invoke, and request_timeout among them bounds the request. The
// client is always answered: by the worker, or by an error that says why not (protocol:
// error texts, error categories). Enqueue does not block. On the loop of s.
func (a *App) Enqueue(s *session.Session, event string, headers []codec.Header) {
	_ = s.SendError(CategoryNode, int64(NodeNotRunning), "application is not running")
}

// Invoke opens a session on a worker for a caller in this process, whose session it is: it
// reads by Recv, writes by Send, and ends both directions. It waits in the queue for its
// turn until ctx ends, or the time of the request_timeout header or the profile is over;
// after that the caller bounds it. An error before the session was open is a
// *session.Error with Delivery NotSent. Any goroutine but a loop.
func (a *App) Invoke(ctx context.Context, event string, headers []codec.Header) (*session.Session, error) {
	return nil, errors.ErrUnsupported
}

// Control says how many slaves there should be (protocol: control). They are spawned now,
// and kept; surplus ones are sealed. With 0 or less the queue decides.
func (a *App) Control(population int) {}

// SetProfile replaces the profile; slaves that run keep their timeouts.
func (a *App) SetProfile(p Profile) error { return nil }

// Profile returns the profile in force, with its defaults.
func (a *App) Profile() Profile { return a.cfg.Profile }

// Name returns the application's name.
func (a *App) Name() string { return a.cfg.Name }

// Crashes returns the last ends of workers that nobody asked for, the oldest first. The
// list is the caller's.
func (a *App) Crashes() []Crash { return nil }

// Info returns what the info method of an application's service tells.
func (a *App) Info() AppInfo { return AppInfo{} }

// Stop ends the application: no request is taken any more (error [20991, 6]); those in the
// queue and those that run have until Profile.SealTimeout or the end of ctx; then slaves
// get a terminate, and in the end nothing of them is left. Once ctx has ended they are
// killed. The error is that of the socket. Any goroutine but a loop; a second call waits
// for the first.
func (a *App) Stop(ctx context.Context) error { return nil }
