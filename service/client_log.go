package service

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/sluice-rpc/sluice/codec"
)

// loggingService is the name of the logging service (protocol: logging).
const loggingService = "logging"

// maxLoggers that a Client makes by NewLogger.
const maxLoggers = 1000

// Log returns a Logger of the logging service for records of that source, for example
// "app/echo"; if it is empty, that of LoggerConfig. All of a Client's share one queue, and
// Client.Close ends them.
func (c *Client) Log(source string) *Logger {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.logger == nil {
		c.logger = newLogger(loggingCalls{c.serviceLocked(loggingService)}, dialectOf(c.cfg.V0), LoggerConfig{})
		if c.closed {
			_ = c.logger.Close(context.Background()) // which does not wait: nobody has used it
		}
	}
	if source == "" {
		return c.logger
	}
	return c.logger.WithSource(source)
}

// LogHandler returns a slog.Handler that logs to the logging service: see Log.
func (c *Client) LogHandler(source string) slog.Handler { return c.Log(source).Handler() }

// NewLogger returns a Logger with a queue of its own. Close it, or the Client.
func (c *Client) NewLogger(cfg LoggerConfig) (*Logger, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loggers = slices.DeleteFunc(c.loggers, func(l *Logger) bool { return isClosed(l.core.closing) })
	switch {
	case c.closed:
		return nil, fmt.Errorf("service: a logger of a closed client: %w", ErrClosed)
	case len(c.loggers) >= maxLoggers:
		return nil, fmt.Errorf("service: %d loggers are there: use WithSource", maxLoggers)
	}
	l := newLogger(loggingCalls{c.serviceLocked(loggingService)}, dialectOf(c.cfg.V0), cfg)
	c.loggers = append(c.loggers, l)
	return l, nil
}

// loggingCalls is what a Logger needs of the logging service.
type loggingCalls struct{ s *Service }

func (l loggingCalls) emit(ctx context.Context, args []byte) error {
	return l.s.notify(ctx, "emit", args)
}

func (l loggingCalls) verbosity(ctx context.Context) (int, error) {
	return InvokeArgs[int](ctx, l.s, "verbosity", codec.Arguments{})
}

func (l loggingCalls) connection() uint64 { return l.s.connection() }
