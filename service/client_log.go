package service

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/sluice-rpc/sluice/codec"
)

// loggingService is the name of the logging service (protocol: logging).
const loggingService = "logging"

// maxLoggers that a Client makes.
const maxLoggers = 1000

// Log returns a Logger of the logging service for records of that source, for example
// "app/echo". The Client closes it. If it cannot be made, a source that is too long, the
// records go to the Client's own logger.
func (c *Client) Log(source string) *Logger {
	l, err := c.NewLogger(LoggerConfig{Source: source})
	if err != nil {
		c.cfg.Logger.Error("service: a logger without a service", "error", err)
		l, _ = newLogger(loggingCalls{failing(&c.cfg, loggingService, err)}, dialectOf(c.cfg.V0), LoggerConfig{})
	}
	return l
}

// LogHandler returns a slog.Handler that logs to the logging service.
func (c *Client) LogHandler(source string) slog.Handler { return c.Log(source).Handler() }

// NewLogger returns a Logger that is set up in detail. The Client closes it.
func (c *Client) NewLogger(cfg LoggerConfig) (*Logger, error) {
	l, err := newLogger(loggingCalls{c.Service(loggingService)}, dialectOf(c.cfg.V0), cfg)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, fmt.Errorf("service: a logger of a closed client: %w", ErrClosed)
	case len(c.loggers) >= maxLoggers:
		return nil, fmt.Errorf("service: %d loggers are there: share them", maxLoggers)
	}
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
