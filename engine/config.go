package engine

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// EnvEngine is an environment variable that every worker of this engine gets. Its value
// is the worker's own --uuid: it tells the worker that the peer is sluice, so that it may
// offer what plain Cocaine lacks. A worker compares the two, since the variable is
// inherited by whatever the worker starts, another vendor's engine included.
const EnvEngine = "SLUICE_ENGINE"

// SlaveConfig sets up a Slave. Command is required; of the rest a zero field means its
// default and a negative one none or no limit.
type SlaveConfig struct {
	// Command is the program and its first arguments; the engine's flags follow. [Shell]
	// makes one of a command line. Required.
	Command []string
	// Dir is the process's working directory. If empty, ours.
	Dir string
	// Env is added to our environment, as NAME=value. The last one of a name counts.
	Env []string
	// App is the application's name, the flag --app. If empty, "app".
	App string
	// Locator is the flag --locator: host:port, in v1 also a comma list of them. If
	// empty, localhost:10053, the protocol's port.
	Locator string
	// Dialect that the worker is to speak; v1 is told by --protocol 1.
	Dialect codec.Dialect

	// HandshakeTimeout bounds the time from the start of the process until the slave is
	// active. If zero, 5 s. It also bounds the wait for a connection's first frame.
	HandshakeTimeout time.Duration
	// HeartbeatTimeout is how long an active worker may be silent. Each heartbeat begins
	// it anew; if it passes, any byte received since the last one counts as life. If
	// zero, 30 s.
	HeartbeatTimeout time.Duration
	// SealTimeout bounds how long open sessions may hold up Seal. If zero, 60 s.
	SealTimeout time.Duration
	// TerminateTimeout is how long the process may run on after a terminate, ours or its
	// own, before it gets SIGTERM. If zero, 5 s in v0 and 10 s in v1.
	TerminateTimeout time.Duration
	// KillTimeout lies between SIGTERM and SIGKILL. It is also how long a process whose
	// channel ended has to end by itself before it gets SIGTERM. If zero, 2 s.
	KillTimeout time.Duration

	// Output gets what the process writes to stdout and stderr, as it comes. The process
	// waits while a Write does. It is used by one goroutine, and no more once the slave
	// is gone, unless a Write does not return. If nil, only the last lines are kept.
	Output io.Writer
	// MaxOutputLines is how many of the last lines are kept (crashlog-limit). If zero,
	// 50. Each is cut at 4 KiB. If negative, none.
	MaxOutputLines int
	// OnGone, if set, is called once, when the slave is gone, with what Err will return.
	// Done is closed after it, so it must not wait for that.
	OnGone func(err error)

	// Sessions passes on loops and limits of the session table; Role, Owner, OnSettled
	// and the channel's dialect and first-frame limits are set.
	Sessions session.Config
	// Logger. If nil, slog.Default().
	Logger *slog.Logger
}

// Shell returns a Command that runs a command line by /bin/sh, which then is
// replaced by the program, so that the process is the worker itself. line is one simple
// command, with the shell's quoting, variables and redirections; the engine's flags are
// appended. To set a variable write "env NAME=value program".
func Shell(line string) []string {
	return []string{"/bin/sh", "-c", "exec " + line + ` "$@"`, "sh"}
}

func (c *SlaveConfig) setDefaults() error {
	if len(c.Command) == 0 || c.Command[0] == "" {
		return errors.New("engine: SlaveConfig.Command is required")
	}
	if !c.Dialect.Valid() {
		return fmt.Errorf("engine: SlaveConfig.Dialect is %d, want codec.V0 or codec.V1", c.Dialect)
	}
	terminate := 10 * time.Second
	if c.Dialect == codec.V0 {
		terminate = 5 * time.Second
	}
	orDuration(&c.HandshakeTimeout, 5*time.Second)
	orDuration(&c.HeartbeatTimeout, 30*time.Second)
	orDuration(&c.SealTimeout, 60*time.Second)
	orDuration(&c.TerminateTimeout, terminate)
	orDuration(&c.KillTimeout, 2*time.Second)
	if c.MaxOutputLines == 0 {
		c.MaxOutputLines = 50
	}
	c.MaxOutputLines = max(c.MaxOutputLines, 0)
	if c.App == "" {
		c.App = "app"
	}
	if c.Locator == "" {
		c.Locator = "localhost:10053"
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

func orDuration(p *time.Duration, def time.Duration) {
	switch {
	case *p == 0:
		*p = def
	case *p < 0:
		*p = forever
	}
}

// args returns the flags in the order of the live runtime (protocol: command line).
func (c *SlaveConfig) args(endpoint, uuid string) []string {
	list := []string{"--app", c.App, "--endpoint", endpoint, "--locator", c.Locator}
	if c.Dialect == codec.V1 {
		list = append(list, "--protocol", "1")
	}
	return append(list, "--uuid", uuid)
}

// env returns the environment of the process.
func (c *SlaveConfig) env(uuid string) []string {
	return append(append(os.Environ(), c.Env...), EnvEngine+"="+uuid)
}

// sessions returns the configuration of the table of one connection.
func (c *SlaveConfig) sessions(owner session.Owner, settled func(*session.Session)) session.Config {
	sc := c.Sessions
	sc.Role, sc.Owner, sc.OnSettled = session.Engine, owner, settled
	sc.Channel.Dialect = c.Dialect
	sc.Channel.FirstFrameBytes = maxHandshakeBytes
	sc.Channel.FirstFrameTimeout = c.HandshakeTimeout
	if sc.Logger == nil {
		sc.Logger = c.Logger
	}
	return sc
}

// forever is a time that does not pass.
const forever = time.Duration(math.MaxInt64)
