package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
)

// LogFormat is the form of the lines of a log.
type LogFormat uint8

// The forms, both of log/slog: one line per record, with time, level, msg, source, and the
// attributes of the record in a group "attrs".
const (
	LogJSON LogFormat = iota // {"time":…,"level":"INFO","msg":…,"source":"app/echo","attrs":{…}}
	LogText                  // time=… level=INFO msg=… source=app/echo attrs.key=…
)

// String returns "json" or "text".
func (f LogFormat) String() string {
	switch f {
	case LogJSON:
		return "json"
	case LogText:
		return "text"
	}
	return fmt.Sprintf("LogFormat(%d)", uint8(f))
}

// LoggingConfig sets up a [LoggingService]. A zero field means its default, a negative
// limit none.
type LoggingConfig struct {
	// Verbosity is the least severity that is kept: 0 debug, 1 info, 2 warning, 3 error, 4
	// none. Zero is what the live runtime starts with. Clients may change it.
	Verbosity int
	// Output gets the lines. It is used by one goroutine. If nil, os.Stderr.
	Output io.Writer
	// File gets them instead of Output: a path; lines are appended. See Reopen.
	File string
	// Handler gets the records instead of both. It is used by one goroutine.
	Handler slog.Handler
	// Format of the lines.
	Format LogFormat

	// MaxQueue is how many records wait to be written. If zero, 8192. More are dropped,
	// and the log says how many.
	MaxQueue int
	// MaxQueueBytes is what these hold. If zero, 16 MiB.
	MaxQueueBytes int
	// MaxRecordBytes is the longest record. If zero, 64 KiB. A longer one is cut short: its
	// attributes are lost, and one says how long it was.
	MaxRecordBytes int
	// MaxRecent is how many of the last records are kept for the method tail. If zero, 1000.
	MaxRecent int
	// MaxRecentBytes is what these hold. If zero, 4 MiB.
	MaxRecentBytes int
	// MaxTails is how many clients may follow the records. If zero, 64.
	MaxTails int

	// Now returns the time of a record. If nil, time.Now.
	Now func() time.Time
}

func (c *LoggingConfig) setDefaults() error {
	if c.Format > LogText {
		return fmt.Errorf("engine: LoggingConfig.Format is %d, want LogJSON or LogText", c.Format)
	}
	if c.Output == nil {
		c.Output = os.Stderr
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.MaxQueue = orLimit(c.MaxQueue, 8192)
	c.MaxQueueBytes = orLimit(c.MaxQueueBytes, 16<<20)
	c.MaxRecordBytes = orLimit(c.MaxRecordBytes, 64<<10)
	c.MaxRecent = orLimit(c.MaxRecent, 1000)
	c.MaxRecentBytes = orLimit(c.MaxRecentBytes, 4<<20)
	c.MaxTails = orLimit(c.MaxTails, 64)
	return nil
}

// LoggingService takes the records of workers and clients, writes them down, and shows the
// last ones to whoever asks. It is two services: "logging", which is that of the live
// runtime, and "tail", which is ours. Nothing that sends records ever waits for the log.
// All methods are for any goroutine.
type LoggingService struct {
	cfg       LoggingConfig // immutable
	out       *logOutput
	recent    logRing
	verbosity atomic.Int64 // see LoggingConfig.Verbosity

	emitted, filtered, refused, shortened, missed atomic.Uint64
}

// NewLoggingService returns a service that is not served yet, and opens its file. It is to
// be closed.
func NewLoggingService(cfg LoggingConfig) (*LoggingService, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	l := &LoggingService{cfg: cfg}
	if err := l.SetVerbosity(cfg.Verbosity); err != nil {
		return nil, err
	}
	out, err := newLogOutput(&cfg)
	if err != nil {
		return nil, err
	}
	l.out = out
	l.recent.maxRecords, l.recent.maxBytes = cfg.MaxRecent, cfg.MaxRecentBytes
	l.recent.news.max = cfg.MaxTails
	return l, nil
}

// The verbosities of v1, which are the severities and one for no records at all (protocol:
// logging).
const minVerbosity, maxVerbosity = 0, 4

// SetVerbosity sets the least severity that is kept, see LoggingConfig.Verbosity. The error
// says that there is no such severity.
func (l *LoggingService) SetVerbosity(severity int) error {
	if severity < minVerbosity || severity > maxVerbosity {
		return fmt.Errorf("engine: verbosity %d, want 0 debug, 1 info, 2 warning, 3 error or 4 none", severity)
	}
	l.verbosity.Store(int64(severity))
	return nil
}

// Verbosity returns the least severity that is kept.
func (l *LoggingService) Verbosity() int { return int(l.verbosity.Load()) }

// Emit takes a record of this process, as if it had come from a client. It never waits.
func (l *LoggingService) Emit(level slog.Level, source, message string, attrs ...slog.Attr) {
	severity := int64(service.Severity(codec.V1, level))
	if !l.wants(severity) {
		return
	}
	args := appendEmitHead(nil, severity, source, message, len(attrs))
	for _, a := range attrs {
		args = appendAttribute(args, a)
	}
	l.take(severity, args)
}

// emit takes the arguments of an emit, which are borrowed. The error says what is wrong
// with them.
func (l *LoggingService) emit(d codec.Dialect, args []byte) error {
	severity, err := checkEmit(d, args)
	if err != nil {
		l.refused.Add(1)
		return err
	}
	if !l.wants(severity) {
		return nil
	}
	if d == codec.V0 { // what is behind the message means nothing
		r := codec.NewReader(args)
		r.Skip()
		args = appendEmitHead(nil, severity, r.String(), r.String(), 0)
	} else {
		args = bytes.Clone(args)
	}
	l.take(severity, args)
	return nil
}

func (l *LoggingService) wants(severity int64) bool {
	if severity < l.verbosity.Load() {
		l.filtered.Add(1)
		return false
	}
	return true
}

// take keeps args.
func (l *LoggingService) take(severity int64, args []byte) {
	if len(args) > l.cfg.MaxRecordBytes {
		args = shortened(args, l.cfg.MaxRecordBytes)
		l.shortened.Add(1)
	}
	record := logRecord{l.cfg.Now(), severity, args}
	l.emitted.Add(1)
	l.recent.add(record)
	l.out.offer(record)
}

// Reopen opens the file anew by its name, after a rotation has moved the old one away. It
// waits for what is being written. If there is no file of ours, it does nothing.
func (l *LoggingService) Reopen() error { return l.out.reopen() }

// Flush waits until the records that were taken so far are written.
func (l *LoggingService) Flush(ctx context.Context) error { return l.out.flush(ctx) }

// Close writes what is queued and closes the file. Records that still come are dropped.
// If ctx ends first, the error says how many are not written.
func (l *LoggingService) Close(ctx context.Context) error { return l.out.close(ctx) }

// LoggingStats is a snapshot of a LoggingService.
type LoggingStats struct {
	Emitted   uint64 // records taken
	Filtered  uint64 // below the verbosity
	Refused   uint64 // emits whose arguments make no sense
	Shortened uint64 // longer than MaxRecordBytes
	Written   uint64
	Dropped   uint64 // for want of room in the queue
	Failures  uint64 // writes that failed, each of any number of records
	LastError error  // of these; nil if there was none

	Queued int    // now
	Recent int    // kept for tail
	Tails  int    // clients that follow
	Missed uint64 // records that were too fast for one of them
}

// Stats returns a snapshot.
func (l *LoggingService) Stats() LoggingStats {
	o := l.out
	o.mu.Lock()
	queued, lastErr := len(o.queue)+o.taken, o.lastErr
	o.mu.Unlock()
	return LoggingStats{
		Emitted: l.emitted.Load(), Filtered: l.filtered.Load(), Refused: l.refused.Load(),
		Shortened: l.shortened.Load(), Written: o.written.Load(), Dropped: o.dropped.Load(),
		Failures: o.failures.Load(), LastError: lastErr,
		Queued: queued, Recent: l.recent.len(), Tails: l.recent.news.watchers(), Missed: l.missed.Load(),
	}
}
