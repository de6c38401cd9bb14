package service

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// logService is what a Logger needs of the logging service. Only its sender calls it, one
// method at a time.
type logService interface {
	// emit sends one record, without waiting for an answer. args is borrowed.
	emit(ctx context.Context, args []byte) error
	// verbosity asks for it.
	verbosity(ctx context.Context) (int, error)
	// connection returns a number that changes with each new connection.
	connection() uint64
}

// logCore is what Loggers that differ in their source share.
type logCore struct {
	// immutable
	cfg     LoggerConfig
	dialect codec.Dialect
	service logService
	ctx     context.Context // of the sender's exchanges
	cancel  context.CancelFunc
	closing chan struct{} // closed by Close
	done    chan struct{} // closed by the sender's end
	wake    chan struct{} // for the sender: the queue is not empty any more

	start, stop sync.Once
	threshold   atomic.Int64 // the verbosity; unknownVerbosity
	encoders    sync.Pool    // of *attrEncoder

	mu     sync.Mutex // no other lock is taken and nothing is called under it
	queue  logQueue
	closed bool
	stats  LoggerStats // but for what is asked elsewhere
}

// unknownVerbosity is none that a service can say and that is told from another one.
const unknownVerbosity = math.MinInt64

func newLogCore(s logService, d codec.Dialect, cfg LoggerConfig) *logCore {
	l := &logCore{
		cfg: cfg, dialect: d, service: s,
		closing: make(chan struct{}), done: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.threshold.Store(unknownVerbosity)
	l.encoders.New = func() any { return new(attrEncoder) }
	return l
}

// enabled starts the sender at its first call, so that the verbosity gets known.
func (l *logCore) enabled(level slog.Level) bool {
	l.start.Do(l.run)
	v := l.threshold.Load()
	if v == unknownVerbosity {
		return level >= l.cfg.Level
	}
	return Wanted(l.dialect, Severity(l.dialect, level), int(v))
}

func (l *logCore) verbosity() (int, bool) {
	v := l.threshold.Load()
	if v == unknownVerbosity {
		return 0, false
	}
	return int(v), true
}

func (l *logCore) snapshot() LoggerStats {
	l.mu.Lock()
	s := l.stats
	s.Queued += l.queue.len()
	s.QueuedBytes += l.queue.bytes()
	l.mu.Unlock()
	s.Verbosity, s.Known = l.verbosity()
	return s
}

// encoder returns an encoder of a record, for put or release.
func (l *logCore) encoder(message string, base logAttrs, prefix string) *attrEncoder {
	e := l.encoders.Get().(*attrEncoder)
	e.reset(l.dialect, l.cfg.MaxRecordBytes, message, base, prefix)
	return e
}

// release takes an encoder back.
func (l *logCore) release(e *attrEncoder) {
	if e.keeps() <= keepLogBytes {
		l.encoders.Put(e)
	}
}

// put queues a record, and takes its encoder back.
func (l *logCore) put(at time.Time, level slog.Level, source string, e *attrEncoder) {
	l.start.Do(l.run)
	r := e.record(level, source)
	entry := logEntry{at: at, queued: time.Now(), level: level}
	l.mu.Lock()
	first := l.putLocked(entry, &r)
	if e.cut {
		l.stats.Cut++
	}
	l.mu.Unlock()
	l.release(e)
	if first {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// putLocked queues a record at the expense of the oldest, and reports whether there was
// none.
func (l *logCore) putLocked(entry logEntry, r *logRecord) (first bool) {
	if l.closed {
		l.stats.Dropped++
		return false
	}
	for l.queue.len() > 0 && (l.queue.len() >= l.cfg.MaxQueued || l.queue.bytes() > l.cfg.MaxQueuedBytes-r.size()) {
		l.queue.pop()
		l.stats.Dropped++
	}
	l.queue.push(entry, r)
	return l.queue.len() == 1
}

func (l *logCore) close(ctx context.Context) error {
	l.start.Do(func() { close(l.done) }) // never used: nothing to end
	l.stop.Do(func() {
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		close(l.closing)
	})
	defer l.cancel()
	select {
	case <-l.done:
		return nil
	default:
	}
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		l.cancel()
		<-l.done
		return ctx.Err()
	}
}
