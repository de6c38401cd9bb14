package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-rpc/sluice/engine/storage"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// The defaults of Config.
const (
	// DefaultGrace of Config.Grace.
	DefaultGrace = 10 * time.Second
	// DefaultMaxApps of Config.MaxApps.
	DefaultMaxApps = 256
	// DevelopmentHandshake is the handshake timeout of a Source that is a bare command
	// without a profile: long enough to compile it, or to start it under a debugger.
	DevelopmentHandshake = 120 * time.Second
)

// Config sets up an Engine. The zero value works: a locator on 127.0.0.1:10053, the other
// services on the ports above it, no applications, and all state in a temporary directory
// that goes with the Engine.
type Config struct {
	// Listen is host:port of the locator. If empty, 127.0.0.1:10053. The other services
	// are on the same host, each on the next port above that is free; if the port is 0,
	// on any free ones. Whoever can connect can do everything: the protocol has no say
	// in who is who.
	Listen string
	// Dir keeps the state: "storage" with everything that is stored, "spool" with what
	// applications are unpacked to, "run" with sockets. It is made if missing, and
	// belongs to one Engine at a time. If empty, a directory in os.TempDir that Run
	// removes at its end: nothing survives. See StateDir.
	Dir string
	// RuntimeDir is where a directory for the workers' sockets is made. It is made if
	// missing. If empty, Dir.
	// If the paths would be too long for sockets, they are in os.TempDir.
	RuntimeDir string
	// Apps are started by Run, besides those that were running when the Engine of the
	// same Dir ended. One of the same name counts instead of what is in the storage.
	Apps []Source
	// Profiles by name. They come before those of the same name in the storage.
	Profiles map[string]Profile
	// Groups are routing groups by name, each of services with their weights. They come
	// before those of the same name in the storage.
	Groups map[string]map[string]uint32
	// ResolvePublished has the locator resolve what clients publish there. The live runtime
	// tells only other nodes of it.
	ResolvePublished bool
	// V0 has the services speak v0. If false, they speak v1.
	V0 bool
	// Grace bounds how long applications may finish what they do when Run ends. After it
	// their workers are ended. If zero, 10 s. If negative, no limit.
	Grace time.Duration
	// Reread is called by Reload for a Config whose Profiles and Groups are to count
	// from now on, for example by reading a file anew. If nil, they stay.
	Reread func() (Config, error)

	// MaxApps bounds the applications that run, or are broken. If zero, 256. If
	// negative, no limit.
	MaxApps int
	// Package bounds the packages of applications.
	Package PackageLimits
	// MaxConns bounds the connections to each service. If zero, the default of
	// service.ServerConfig. If negative, no limit.
	MaxConns int
	// Storage sets up the store; the zero value works. Blobs may be as large as
	// Package.MaxPackedBytes at least.
	Storage storage.Config
	// Logging sets up the logging service. If it names no Output, File or Handler, the
	// records go to Logger.
	Logging LoggingConfig
	// Sessions passes on the limits of the session tables, of clients and of workers.
	// Loops, Role and Owner are set.
	Sessions session.Config
	// Logger. If nil, slog.Default().
	Logger *slog.Logger
}

// Source is an application that an Engine is to run from its start: a bare command, for
// development, or a package.
type Source struct {
	// Name of the application and of its service: letters, digits, '.', '_' and '-'.
	Name string
	// Command is the program and its first arguments; the engine's flags follow. See
	// [Shell]. Either this or Path.
	Command []string
	// Dir is the working directory of Command. If empty, ours.
	Dir string
	// V0 has Command speak v0. A package says so in its manifest.
	V0 bool
	// Path of a package: a directory, or an archive of one. See [ReadPackage]. It is put
	// into the storage when the Engine starts.
	Path string
	// Env is added to the environment, as NAME=value.
	Env []string
	// Profile names one of Config.Profiles or of the storage. If empty, that of the
	// package, or else "default", or else DefaultProfile; Command then has
	// DevelopmentHandshake to connect.
	Profile string
}

// StateDir returns where the state of an Engine of this user belongs: $XDG_STATE_HOME/sluice,
// or .local/state/sluice in the home directory. It is not made.
func StateDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sluice"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("engine: no place for the state: %w", err)
	}
	return filepath.Join(home, ".local", "state", "sluice"), nil
}

func (c *Config) setDefaults() error {
	if c.Listen == "" {
		c.Listen = net.JoinHostPort("127.0.0.1", strconv.Itoa(service.LocatorPort))
	}
	if c.Grace == 0 {
		c.Grace = DefaultGrace
	}
	orDuration(&c.Grace, DefaultGrace)
	orCount(&c.MaxApps, DefaultMaxApps)
	c.Package.setDefaults()
	if c.Storage.MaxBlobBytes == 0 {
		c.Storage.MaxBlobBytes = int(min(c.Package.MaxPackedBytes, math.MaxInt))
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Storage.Logger == nil {
		c.Storage.Logger = c.Logger
	}
	if l := &c.Logging; l.Output == nil && l.File == "" && l.Handler == nil {
		l.Handler = c.Logger.Handler()
	}
	return c.check()
}

func orCount(p *int, def int) {
	switch {
	case *p == 0:
		*p = def
	case *p < 0:
		*p = math.MaxInt
	}
}

func (c *Config) check() error {
	host, port, err := net.SplitHostPort(c.Listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return &configFault{"Listen", "listen", fmt.Errorf("is %q, want host:port, e.g. 127.0.0.1:10053: %w", c.Listen, err)}
	}
	if host == "" {
		return &configFault{"Listen", "listen", fmt.Errorf("is %q: name a host, the locator tells it to clients; 127.0.0.1 or an address of this machine", c.Listen)}
	}
	if len(c.Apps) > c.MaxApps {
		return &configFault{"Apps", "apps", fmt.Errorf("has %d, limit MaxApps %d", len(c.Apps), c.MaxApps)}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Profiles)) {
		if err := c.Profiles[name].Validate(); err != nil {
			return &configFault{fmt.Sprintf("Profiles[%q]:", name), "profiles." + name, err}
		}
	}
	for i := range c.Apps {
		if err := c.checkSource(i); err != nil {
			return &configFault{fmt.Sprintf("Apps[%d]:", i), "apps." + c.Apps[i].Name, err}
		}
	}
	return nil
}

// configFault is what is wrong with one field of a Config, which has two names.
type configFault struct {
	name string // in the Config
	key  string // in a file
	err  error
}

// Error names the field of the Config.
func (f *configFault) Error() string { return "engine: Config." + f.name + " " + f.err.Error() }

// Unwrap returns the cause.
func (f *configFault) Unwrap() error { return f.err }

func (c *Config) checkSource(i int) error {
	s := &c.Apps[i]
	if err := CheckAppName(s.Name); err != nil {
		return err
	}
	if slices.ContainsFunc(c.Apps[:i], func(o Source) bool { return o.Name == s.Name }) {
		return fmt.Errorf("%q is there twice", s.Name)
	}
	if slices.Contains(stockNames, s.Name) {
		return fmt.Errorf("%q is the name of a stock service; choose another", s.Name)
	}
	if (len(s.Command) == 0) == (s.Path == "") {
		return errors.New("give it either a Command or a Path")
	}
	return nil
}

// stockNames are the services that the Engine brings itself.
var stockNames = []string{"locator", "node", "storage", "logging", "tail"}
