package service

import (
	"context"
	"io"
	"log/slog"
	"math"
	"os"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// LoggerConfig configures a Logger. The zero value works.
type LoggerConfig struct {
	// Source of the records, "app/<name>" for an application (protocol: logging); see
	// Logger.WithSource. If empty, "app/" and the name of the program.
	Source string
	// Level is the least level of records that are taken as long as the service has not
	// said its verbosity. If zero, slog.LevelInfo.
	Level slog.Level
	// MaxQueued is how many records wait for the service, besides the few that are being
	// sent. One more takes the place of the oldest. If zero, 10000. If negative, no limit.
	MaxQueued int
	// MaxQueuedBytes is how many bytes they have. If zero, 8 MiB. If negative, no limit.
	MaxQueuedBytes int
	// MaxRecordBytes of the message and the attributes of one record. What is beyond is cut
	// off. If zero, 60 KiB. If negative, 16 MiB, which is what peers accept by default.
	MaxRecordBytes int
	// Refresh is how long a verbosity counts before it is asked for again. If zero, 60 s.
	// If negative, until the next connection.
	Refresh time.Duration
	// Timeout of one exchange with the service. If zero, 5 s.
	Timeout time.Duration
	// Patience is how long a record waits for a service that is away before it goes to
	// Fallback. If zero, 2 s. If negative, none waits.
	Patience time.Duration
	// Retry says when a service that is away is tried again.
	Retry Backoff
	// Fallback gets, as lines of text, the records that the service does not. A Write that
	// does not return holds up Close, but nobody who logs. If nil, os.Stderr.
	Fallback io.Writer
	// FallbackRate is how many lines a second Fallback gets; those beyond are counted, and
	// their number is written. If zero, 100. If negative, no limit.
	FallbackRate int
}

func (c *LoggerConfig) setDefaults() {
	orElse(&c.MaxQueued, 10000, math.MaxInt)
	orElse(&c.MaxQueuedBytes, 8<<20, math.MaxInt)
	orElse(&c.MaxRecordBytes, 60<<10, codec.DefaultMaxPayloadBytes-MaxNameBytes)
	orElse(&c.Refresh, time.Minute, math.MaxInt64)
	orElse(&c.Timeout, 5*time.Second, 5*time.Second)
	orElse(&c.Patience, 2*time.Second, 0)
	orElse(&c.FallbackRate, 100, math.MaxInt)
	if c.Source == "" {
		c.Source = "app/" + programName(os.Args)
	}
	if c.Fallback == nil {
		c.Fallback = os.Stderr
	}
}

// orElse replaces a value of zero, and one that is negative.
func orElse[T int | time.Duration](v *T, zero, negative T) {
	switch {
	case *v == 0:
		*v = zero
	case *v < 0:
		*v = negative
	}
}

// Logger sends records to the logging service: only those that the service keeps, by the
// verbosity that it says (protocol: logging). Its methods but Close never wait, may be
// called by any goroutine, loops included, and do not allocate for a record of plain
// attributes. Records wait in a bounded queue for one goroutine, which the first use
// starts and Close ends; while the service is away they go to Fallback. A record goes to
// one of the two; where neither can take it, it is counted in Stats, and its loss is
// logged.
type Logger struct {
	// immutable
	core   *logCore
	source string
}

// LoggerStats is what a Logger counts. A record is counted in one of Sent, Filtered,
// Fallback, Suppressed and Dropped, or waits.
type LoggerStats struct {
	Queued      int    // records that wait
	QueuedBytes int    // and their bytes
	Sent        uint64 // handed to the connection
	Filtered    uint64 // not sent: the service has said that it does not keep them
	Fallback    uint64 // written to Fallback
	Suppressed  uint64 // not written there: too many
	Dropped     uint64 // the oldest of a full queue, and those that came behind Close
	Cut         uint64 // lost a part that was too large, besides being counted elsewhere
	Verbosity   int    // of the service; 0 if it has not said it
	Known       bool   // whether it has said it
	Away        bool   // whether the last exchange failed
	Outages     uint64 // how often one was the first to fail
}

// newLogger returns a Logger on what it needs of a service. It starts no goroutine.
func newLogger(s logService, d codec.Dialect, cfg LoggerConfig) *Logger {
	cfg.setDefaults()
	return (&Logger{core: newLogCore(s, d, cfg)}).WithSource(cfg.Source)
}

// WithSource returns a Logger whose records have another source; of more than
// MaxNameBytes the rest is cut off. It shares all else with l: the queue, the Stats, and
// the end by Close of any of the two.
func (l *Logger) WithSource(source string) *Logger {
	return &Logger{core: l.core, source: source[:min(len(source), MaxNameBytes)]}
}

// Source returns the source of the records.
func (l *Logger) Source() string { return l.source }

// Enabled reports whether a record of that level is worth making: whether the service
// keeps it. It is cheap.
func (l *Logger) Enabled(level slog.Level) bool { return l.core.enabled(level) }

// Log logs a message with attributes, if the level is Enabled. Values that the protocol
// does not have, such as times, durations and errors, become text; groups become keys with
// dots; in v0 all attributes become text behind the message.
func (l *Logger) Log(level slog.Level, message string, attrs ...slog.Attr) {
	if !l.Enabled(level) {
		return
	}
	e := l.core.encoder(message, logAttrs{}, "")
	for _, a := range attrs {
		e.attr(a, 0)
	}
	l.core.put(time.Now(), level, l.source, e)
}

// Debug logs at slog.LevelDebug: see Log.
func (l *Logger) Debug(message string, attrs ...slog.Attr) {
	l.Log(slog.LevelDebug, message, attrs...)
}

// Info logs at slog.LevelInfo: see Log.
func (l *Logger) Info(message string, attrs ...slog.Attr) {
	l.Log(slog.LevelInfo, message, attrs...)
}

// Warning logs at slog.LevelWarn: see Log.
func (l *Logger) Warning(message string, attrs ...slog.Attr) {
	l.Log(slog.LevelWarn, message, attrs...)
}

// Error logs at slog.LevelError: see Log.
func (l *Logger) Error(message string, attrs ...slog.Attr) {
	l.Log(slog.LevelError, message, attrs...)
}

// Verbosity returns what the service said last, in the order of its version; false if it
// has not said it yet.
func (l *Logger) Verbosity() (int, bool) { return l.core.verbosity() }

// Stats returns the counts.
func (l *Logger) Stats() LoggerStats { return l.core.snapshot() }

// Close sends what waits and ends the Logger. What the service does not take until ctx
// ends, or while it is away, goes to Fallback. What is logged from now on is dropped. A
// second Close waits for the first; its context counts, too.
func (l *Logger) Close(ctx context.Context) error { return l.core.close(ctx) }
