package worker

import (
	"fmt"
	"log/slog"
	"math"
	"net"
	"syscall"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// Config sets up a Worker. FromArgs fills in what the engine says; everything else
// has a default. A zero field means its default, a negative one none or no limit.
type Config struct {
	App      string   // name of the application
	Endpoint string   // path of the engine's unix socket, or host:port
	UUID     string   // what the engine knows this process by
	Locators []string // host:port of the locators
	Token    Token
	Dialect  codec.Dialect

	// Conn, if set, is used instead of dialling Endpoint.
	Conn net.Conn
	// ConnectTimeout bounds the dial. If zero, 5 s.
	ConnectTimeout time.Duration
	// Heartbeat is the period of ours. If zero, 5 s; engines give up after 30 s.
	Heartbeat time.Duration
	// Disown is how long the engine may be silent after a heartbeat of ours. The
	// deadline is set by a heartbeat sent while none is pending, is not moved by later
	// ones, and any byte received clears it. When it has passed the socket is looked at
	// once more. If zero, 30 s. If negative, never.
	Disown time.Duration
	// StrictDisown has only a heartbeat of the engine clear the deadline.
	StrictDisown bool
	// Grace is how long running sessions have to finish after a terminate. If zero,
	// 4 s in v0 and 8 s in v1: engines kill after 5 s and 10 s.
	Grace time.Duration
	// Watchdog is how long a handler on the loop may take before it is named in the
	// log. If zero, 1 s.
	Watchdog time.Duration
	// Concurrency bounds the handlers that run in goroutines; further sessions wait. If
	// zero, as many as there may be sessions.
	Concurrency int
	// Sessions passes on limits of the session table; Role, Owner, OnSettled and
	// Channel.Dialect are set.
	Sessions session.Config
	// Observer is told of the worker's life.
	Observer Observer
	// Logger. If nil, slog.Default().
	Logger *slog.Logger

	err error // of FromArgs
}

// Observer is told of the worker's life. Each function may be nil; they are called on
// the loop (OnError of a connection that never came by Run) and must not block.
type Observer struct {
	OnConnect   func()                          // the engine is there, the handshake is sent
	OnError     func(err error)                 // the connection failed; err is what Run returns
	OnTerminate func(code int64, reason string) // the engine asked to end
	OnDisown    func()                          // the engine fell silent
}

func (c *Config) setDefaults() error {
	if c.err != nil {
		return c.err
	}
	if err := c.checkEndpoint(); err != nil {
		return err
	}
	if c.UUID == "" {
		return fmt.Errorf("worker: no --uuid: the engine would not know this worker")
	}
	if !c.Dialect.Valid() {
		return fmt.Errorf("worker: Config.Dialect is %d, want codec.V0 or codec.V1", c.Dialect)
	}
	grace := 8 * time.Second
	if c.Dialect == codec.V0 {
		grace = 4 * time.Second
	}
	for _, d := range []struct {
		p   *time.Duration
		def time.Duration
	}{
		{&c.ConnectTimeout, 5 * time.Second}, {&c.Heartbeat, 5 * time.Second}, {&c.Disown, 30 * time.Second},
		{&c.Grace, grace}, {&c.Watchdog, time.Second},
	} {
		switch {
		case *d.p == 0:
			*d.p = d.def
		case *d.p < 0:
			*d.p = math.MaxInt64
		}
	}
	if c.Concurrency <= 0 {
		c.Concurrency = math.MaxInt
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Logger = c.Logger.With("app", c.App)
	return nil
}

// maxSocketPath is the longest path of a unix socket here, without the zero behind it.
const maxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// checkEndpoint refuses what cannot be dialled, ever.
func (c *Config) checkEndpoint() error {
	switch n := len(c.Endpoint); {
	case c.Conn != nil:
	case n == 0:
		return ErrNoEndpoint
	case n > maxSocketPath && network(c.Endpoint) == "unix":
		return fmt.Errorf("worker: --endpoint has %d bytes, and the path of a unix socket at most %d: "+
			"have the engine listen in a directory with a shorter name", n, maxSocketPath)
	}
	return nil
}

func (c *Config) sessions(owner session.Owner, settled func(*session.Session)) session.Config {
	sc := c.Sessions
	sc.Role, sc.Owner, sc.OnSettled = session.Worker, owner, settled
	sc.Channel.Dialect = c.Dialect
	if sc.Logger == nil {
		sc.Logger = c.Logger
	}
	return sc
}
