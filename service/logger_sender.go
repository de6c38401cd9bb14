package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/sluice-rpc/sluice/session"
)

// How much the sender takes from the queue at a time, in which it may not be dropped any
// more.
const (
	maxLogBatch      = 128
	maxLogBatchBytes = 64 << 10
)

const droppedMessage = "log records were dropped: too many at a time"

// logSender is the goroutine of a logCore.
type logSender struct {
	*logCore
	batch    logQueue // taken from the queue, and not done with
	fallback logFallback
	random   rand.PCG
	timer    *time.Timer

	conn     uint64    // on which the verbosity was fetched
	fetched  bool      // whether it was
	fetchAt  time.Time // when it is due again
	away     bool      // the last exchange failed
	failures int       // in a row
	retryAt  time.Time // away: when to try again
	reported uint64    // of stats.Dropped
}

// run starts the sender.
func (l *logCore) run() {
	s := &logSender{logCore: l, timer: time.NewTimer(0)}
	s.fallback.init(l.cfg.Fallback, l.cfg.FallbackRate)
	s.random.Seed(rand.Uint64(), rand.Uint64())
	go func() {
		defer close(l.done)
		defer s.timer.Stop()
		for s.turn() {
		}
		s.spill(time.Time{})
		s.fallback.finish(time.Now())
	}()
}

// turn does what is due and waits for more; false if there is none to come.
func (s *logSender) turn() bool {
	last := isClosed(s.closing) // asked first: what was queued before is sent
	if last && !s.pending() {
		return false
	}
	if last || !s.away || !time.Now().Before(s.retryAt) {
		s.exchanged(s.exchange())
	}
	if last {
		return false
	}
	if s.away {
		s.spill(time.Now().Add(-s.cfg.Patience))
	}
	s.wait()
	return true
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// wait waits until something is due.
func (s *logSender) wait() {
	due := s.fetchAt
	if s.away {
		due = s.retryAt
		if oldest, ok := s.oldest(); ok {
			if spill := oldest.Add(s.cfg.Patience); spill.Before(due) {
				due = spill
			}
		}
	}
	s.timer.Reset(time.Until(due))
	select {
	case <-s.timer.C:
	case <-s.wake:
	case <-s.closing:
	}
}

// oldest returns since when the oldest record waits.
func (s *logSender) oldest() (time.Time, bool) {
	if s.take(1); s.batch.len() == 0 {
		return time.Time{}, false
	}
	e, _ := s.batch.head()
	return e.queued, true
}

// take fills an empty batch with at most that many records.
func (s *logSender) take(records int) {
	if s.batch.len() > 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue.moveTo(&s.batch, records, maxLogBatchBytes)
	s.stats.Queued, s.stats.QueuedBytes = s.batch.len(), s.batch.bytes()
}

// pending reports whether there is anything to send.
func (s *logSender) pending() bool {
	s.take(maxLogBatch)
	return s.batch.len() > 0 || s.dropped() != s.reported
}

// dropped returns how many records were lost so far.
func (s *logSender) dropped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats.Dropped
}

// drop forgets the first record of the batch and counts it.
func (s *logSender) drop(counter *uint64) {
	s.batch.pop()
	s.mu.Lock()
	defer s.mu.Unlock()
	*counter++
	s.stats.Queued, s.stats.QueuedBytes = s.batch.len(), s.batch.bytes()
}

// exchange brings the verbosity up to date and sends what waits.
func (s *logSender) exchange() error {
	for {
		ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Timeout)
		err := s.refresh(ctx)
		if err == nil {
			s.take(maxLogBatch)
			err = s.send(ctx)
		}
		if err == nil {
			err = s.reportDrops(ctx)
		}
		cancel()
		if err != nil {
			return err
		}
		if s.take(maxLogBatch); s.batch.len() == 0 {
			return nil
		}
	}
}

// exchanged notes how an exchange went.
func (s *logSender) exchanged(err error) {
	now := time.Now()
	if err == nil {
		s.away, s.failures = false, 0
	} else {
		if !s.away && s.fallback.token(now) {
			s.fallback.line(now, "the logging service is away", slog.String("error", err.Error()))
		}
		s.mu.Lock()
		if !s.away {
			s.stats.Outages++
		}
		s.mu.Unlock()
		s.away = true
		s.retryAt = now.Add(s.cfg.Retry.Delay(s.failures, &s.random))
		s.failures++
	}
	s.mu.Lock()
	s.stats.Away = s.away
	s.mu.Unlock()
}

// refresh asks for the verbosity if it is not known on this connection, or not any more.
// A service that does not say it counts as one of the configured level.
func (s *logSender) refresh(ctx context.Context) error {
	if s.fetched && s.conn == s.service.connection() && time.Now().Before(s.fetchAt) {
		return nil
	}
	v, err := s.service.verbosity(ctx)
	var refusal *session.Error
	switch {
	case err == nil:
		s.threshold.Store(int64(v))
	case errors.As(err, &refusal) && refusal.Remote:
		s.threshold.CompareAndSwap(unknownVerbosity, int64(Severity(s.dialect, s.cfg.Level)))
	default:
		s.fetched = false
		return fmt.Errorf("service: verbosity of the logging service: %w", err)
	}
	s.fetched, s.conn = true, s.service.connection()
	s.fetchAt = later(time.Now(), s.cfg.Refresh)
	return nil
}

// later adds a duration that may be for ever.
func later(now time.Time, d time.Duration) time.Time {
	const longest = 100 * 365 * 24 * time.Hour
	return now.Add(min(d, longest))
}

// send sends the batch, but for what the service does not keep. A record of which it is
// unknown whether it was sent is not sent again.
func (s *logSender) send(ctx context.Context) error {
	for s.batch.len() > 0 {
		e, args := s.batch.head()
		if !s.enabled(e.level) {
			s.drop(&s.stats.Filtered)
			continue
		}
		err := s.service.emit(ctx, args)
		var cut *session.Error
		if err == nil || errors.As(err, &cut) && (cut.Remote || cut.Delivery == session.Unknown) {
			s.drop(&s.stats.Sent)
		}
		if err != nil {
			return fmt.Errorf("service: logging: %w", err)
		}
	}
	return nil
}

// reportDrops logs how many records were lost since it did so last.
func (s *logSender) reportDrops(ctx context.Context) error {
	dropped := s.dropped()
	if dropped == s.reported || s.batch.len() > 0 {
		return nil
	}
	if s.enabled(slog.LevelWarn) {
		e := s.encoder(droppedMessage, logAttrs{}, "")
		e.attr(slog.Uint64("dropped", dropped-s.reported), 0)
		r := e.record(slog.LevelWarn, s.cfg.Source)
		if err := s.service.emit(ctx, r.appendArgs(nil)); err != nil {
			return fmt.Errorf("service: logging: %w", err)
		}
	}
	s.reported = dropped
	return nil
}

// spill writes records to the fallback that were queued until then; all, if it is zero.
func (s *logSender) spill(until time.Time) {
	for {
		if s.take(maxLogBatch); s.batch.len() == 0 {
			break
		}
		e, args := s.batch.head()
		if !until.IsZero() && e.queued.After(until) {
			break
		}
		switch {
		case !s.enabled(e.level):
			s.drop(&s.stats.Filtered)
		case s.fallback.write(time.Now(), e, args):
			s.drop(&s.stats.Fallback)
		default:
			s.drop(&s.stats.Suppressed)
		}
	}
	now, dropped := time.Now(), s.dropped()
	if dropped != s.reported && (until.IsZero() || s.fallback.token(now)) {
		s.fallback.line(now, droppedMessage, slog.Uint64("dropped", dropped-s.reported))
		s.reported = dropped
	}
}

// programName returns the name of a program from its arguments.
func programName(args []string) string {
	if len(args) == 0 {
		return "unknown"
	}
	return filepath.Base(args[0])
}
