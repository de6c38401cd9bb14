package service

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/internal/invariants"
	"github.com/sluice-rpc/sluice/session"
)

// The arguments as the runtimes read them (protocol: logging).
func TestLoggerBytes(t *testing.T) {
	for _, row := range []struct {
		d    codec.Dialect
		log  func(l *Logger)
		want string
	}{
		{codec.V1, func(l *Logger) { l.Error("bad") }, "93 03 a161 a3626164"},
		{codec.V1, func(l *Logger) { l.Warning("bad", slog.Int("k", -1)) }, "94 02 a161 a3626164 91 92 a16b ff"},
		{codec.V1, func(l *Logger) { l.Info("", slog.Bool("k", true), slog.String("s", "é")) },
			"94 01 a161 a0 92 92a16bc3 92a173a2c3a9"},
		{codec.V1, func(l *Logger) { l.Debug("x", slog.Group("g", slog.Float64("f", 1))) },
			"94 00 a161 a178 91 92 a3672e66 cb3ff0000000000000"},
		{codec.V1, func(l *Logger) { l.Error("x", slog.Attr{}, slog.Group("g")) }, "93 03 a161 a178"},
		{codec.V0, func(l *Logger) { l.Error("bad") }, "93 01 a161 a3626164"},
		{codec.V0, func(l *Logger) { l.Debug("x", slog.Int("k", 1), slog.String("s", "a b")) },
			"93 04 a161 ad" + hex.EncodeToString([]byte(`x k=1 s="a b"`))},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeLogging{level: map[codec.Dialect]int{codec.V0: 4, codec.V1: 0}[row.d]}
			l, _ := loggerOn(t, f, row.d, LoggerConfig{Source: "a", Level: slog.LevelDebug})
			row.log(l)
			synctest.Wait()
			want := strings.ReplaceAll(row.want, " ", "")
			if len(f.got) != 1 || hex.EncodeToString(f.got[0]) != want {
				t.Errorf("%v: emit(%x), want %s", row.d, f.got, want)
			}
		})
	}
}

func TestLoggerVerbosity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLogging{level: 2, hold: make(chan struct{})}
		l, _ := loggerOn(t, f, codec.V1, LoggerConfig{})
		if v, ok := l.Verbosity(); ok || l.Enabled(slog.LevelDebug) || !l.Enabled(slog.LevelInfo) {
			t.Errorf("before: Verbosity() = %d, %v; want unknown, and from info on", v, ok)
		}
		l.Info("not wanted, but nobody knew")
		l.Warning("first")
		close(f.hold)
		synctest.Wait()
		wantText(t, "sent", f.lines(t), "first")
		if v, ok := l.Verbosity(); !ok || v != 2 || l.Enabled(slog.LevelInfo) || !l.Enabled(slog.LevelWarn) {
			t.Errorf("Verbosity() = %d, %v, want 2, and from warnings on", v, ok)
		}
		if s := l.Stats(); s.Sent != 1 || s.Filtered != 1 || s.Verbosity != 2 || !s.Known {
			t.Errorf("Stats() = %+v, want 1 sent, 1 filtered", s)
		}

		f.set(func() { f.level = 0 })
		time.Sleep(time.Minute - time.Nanosecond)
		if synctest.Wait(); f.asks() != 1 {
			t.Errorf("asked %d times within a minute, want once", f.asks())
		}
		time.Sleep(time.Nanosecond)
		if synctest.Wait(); f.asks() != 2 || !l.Enabled(slog.LevelDebug) {
			t.Errorf("asked %d times in a minute, want twice, and everything is kept", f.asks())
		}
		f.set(func() { f.level, f.conn = 3, 7 }) // a restart
		l.Debug("any record shows it")
		synctest.Wait()
		if f.asks() != 3 || l.Enabled(slog.LevelWarn) {
			t.Errorf("asked %d times behind a reconnect, want 3, and only errors are kept", f.asks())
		}
		wantText(t, "sent", f.lines(t), "")
	})
}

// The service of another make refuses the question, but takes records.
func TestLoggerVerbosityRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLogging{mute: &session.Error{Remote: true, Category: 42, Code: 1}}
		l, out := loggerOn(t, f, codec.V1, LoggerConfig{Level: slog.LevelWarn})
		l.Info("no")
		l.Warning("yes")
		synctest.Wait()
		wantText(t, "sent", f.lines(t), "yes")
		if v, ok := l.Verbosity(); !ok || v != 2 || out.take() != "" {
			t.Errorf("Verbosity() = %d, %v, want that of Level", v, ok)
		}
	})
}

func TestLoggerDropsOldest(t *testing.T) {
	for _, row := range []struct {
		name string
		cfg  LoggerConfig
		most int // records
	}{
		{"records", LoggerConfig{MaxQueued: 10}, 10},
		{"bytes", LoggerConfig{MaxQueuedBytes: 1000}, 25},
		{"one too large", LoggerConfig{MaxQueuedBytes: 1}, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeLogging{stall: make(chan struct{})}
			l, out := loggerOn(t, f, codec.V1, row.cfg)
			l.Info("first")
			synctest.Wait() // the sender has it, and is stuck
			for k := range 1000 {
				l.Info(fmt.Sprintf("a record with the number %d", k))
			}
			s := l.Stats()
			if s.Queued < 2 || s.Queued > row.most+1 || int(s.Dropped) != 1001-s.Queued {
				t.Errorf("%s: Stats() = %+v, want up to %d queued, the others dropped", row.name, s, row.most)
			}
			close(f.stall)
			synctest.Wait()
			lines := strings.Split(f.lines(t), ";")
			last := lines[len(lines)-1]
			want := fmt.Sprintf("log records were dropped: too many at a time dropped=%d", s.Dropped)
			if len(lines) != s.Queued+1 || lines[0] != "first" || last != "a record with the number 999" || lines[1] != want {
				t.Errorf("%s: sent %q, want first, %q, and the last %d", row.name, lines, want, s.Queued-1)
			}
			wantText(t, "fallback", out.take(), "")
		})
	}
}

func TestLoggerAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLogging{away: errAway}
		l, out := loggerOn(t, f, codec.V1, LoggerConfig{Retry: Backoff{Base: 10 * time.Second, Max: 10 * time.Second}})
		l.Info("one", slog.Int("n", 1), slog.Any("err", errAway))
		synctest.Wait()
		if got := out.take(); !strings.Contains(got, "logging service is away") || !strings.Contains(got, "nobody there") {
			t.Errorf("fallback = %q, want that the service is away", got)
		}
		time.Sleep(2*time.Second - time.Nanosecond)
		synctest.Wait()
		wantText(t, "fallback within the patience", out.take(), "")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		wantText(t, "fallback", out.take(),
			`time=2000-01-01T00:00:00.000Z level=INFO msg=one logger=app/test n=1 err="nobody there"`+"\n")
		if s := l.Stats(); !s.Away || s.Outages != 1 || s.Fallback != 1 || s.Sent != 0 || s.Queued != 0 {
			t.Errorf("Stats() = %+v, want away, 1 in the fallback", s)
		}
		time.Sleep(time.Minute)
		wantText(t, "fallback of an outage that goes on", out.take(), "")

		f.set(func() { f.away, f.conn = nil, 1 })
		l.Info("two")
		time.Sleep(time.Second) // within the patience
		f.set(func() { f.away = nil })
		time.Sleep(11 * time.Second)
		l.Info("three")
		synctest.Wait()
		sent, written := f.lines(t), out.take()
		if !strings.HasSuffix(sent, "three") || strings.Contains(sent, "two") == strings.Contains(written, "two") {
			t.Errorf("sent %q, written %q; want two in one of them, three sent", sent, written)
		}
		if s := l.Stats(); s.Away || s.Sent+s.Fallback != 3 {
			t.Errorf("Stats() = %+v, want not away, 3 records", s)
		}
	})
}

// A service that comes back within the patience gets everything, once and in order.
func TestLoggerShortOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fakeLogging)
		l, out := loggerOn(t, f, codec.V1, LoggerConfig{Retry: Backoff{Base: 100 * time.Millisecond, Max: 100 * time.Millisecond}})
		l.Info("before")
		synctest.Wait()
		f.set(func() { f.cut = errAway })
		for k := range 300 {
			l.Info(fmt.Sprint(k))
		}
		time.Sleep(time.Second)
		f.set(func() { f.cut, f.conn = nil, 1 })
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		want := "before"
		for k := range 300 {
			want += ";" + fmt.Sprint(k)
		}
		wantText(t, "sent", f.lines(t), want)
		if got := out.take(); strings.Count(got, "\n") != 1 {
			t.Errorf("fallback = %q, want one line", got)
		}
	})
}

// Nobody knows whether the record got through: it is not sent twice.
func TestLoggerUnknownDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLogging{cut: &session.Error{Err: errAway, Delivery: session.Unknown}}
		l, _ := loggerOn(t, f, codec.V1, LoggerConfig{})
		l.Info("perhaps")
		synctest.Wait()
		f.set(func() { f.cut = nil })
		time.Sleep(time.Minute)
		l.Info("surely")
		synctest.Wait()
		wantText(t, "sent", f.lines(t), "surely")
	})
}

func TestLoggerFallbackRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLogging{away: errAway}
		l, out := loggerOn(t, f, codec.V1, LoggerConfig{FallbackRate: 10, Patience: -1})
		l.Info("x")
		synctest.Wait()
		out.take()
		time.Sleep(time.Second)
		for range 100 {
			l.Info("many")
		}
		synctest.Wait()
		if got := strings.Count(out.take(), "msg=many"); got != 10 {
			t.Errorf("%d lines at once, want 10", got)
		}
		time.Sleep(500 * time.Millisecond)
		for range 100 {
			l.Info("more")
		}
		synctest.Wait()
		got := out.take()
		if strings.Count(got, "msg=more") != 5 || !strings.Contains(got, "suppressed=90") {
			t.Errorf("fallback = %q, want 5 lines, and that 90 are missing", got)
		}
		l.Close(t.Context())
		if got := out.take(); !strings.Contains(got, "suppressed=95") {
			t.Errorf("fallback at the end = %q, want that 95 are missing", got)
		}
		if s := l.Stats(); s.Fallback != 16 || s.Suppressed != 185 {
			t.Errorf("Stats() = %+v, want 16 written, 185 suppressed", s)
		}
	})
}

// TestLoggerClose: Close sends what waits, or hands it to the fallback by its deadline.
func TestLoggerClose(t *testing.T) {
	t.Run("sends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := new(fakeLogging)
			l, _ := loggerOn(t, f, codec.V1, LoggerConfig{})
			for range 500 {
				l.Info("x")
			}
			if err := l.Close(t.Context()); err != nil || len(f.got) != 500 {
				t.Errorf("Close() = %v, %d sent, want 500", err, len(f.got))
			}
			l.Info("late")
			if s := l.Stats(); s.Dropped != 1 || s.Queued != 0 || s.Sent != 500 {
				t.Errorf("Stats() = %+v, want 500 sent, 1 dropped", s)
			}
			if err := l.Close(t.Context()); err != nil {
				t.Errorf("second Close() = %v, want nil", err)
			}
		})
	})
	t.Run("away", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l, out := loggerOn(t, &fakeLogging{away: errAway}, codec.V1, LoggerConfig{})
			l.Info("last words")
			if err := l.Close(t.Context()); err != nil || !strings.Contains(out.take(), "last words") {
				t.Errorf("Close() = %v, want nil, and the record in the fallback", err)
			}
		})
	})
	t.Run("stuck", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l, out := loggerOn(t, &fakeLogging{stall: make(chan struct{})}, codec.V1, LoggerConfig{})
			l.Info("last words")
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := l.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(out.take(), "last words") {
				t.Errorf("Close() = %v, want its deadline, and the record in the fallback", err)
			}
		})
	})
	t.Run("unused", func(t *testing.T) {
		f := &fakeLogging{away: errAway}
		l, out := loggerOn(t, f, codec.V1, LoggerConfig{})
		if err := l.Close(t.Context()); err != nil || f.asks() != 0 || out.take() != "" {
			t.Errorf("Close() = %v, asked %d times, want nil, never", err, f.asks())
		}
	})
	t.Run("idle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeLogging{away: errAway}
			l, _ := loggerOn(t, f, codec.V1, LoggerConfig{})
			l.Enabled(slog.LevelInfo)
			synctest.Wait()
			if err := l.Close(t.Context()); err != nil || f.asks() != 1 {
				t.Errorf("Close() = %v, asked %d times, want nil, once", err, f.asks())
			}
		})
	})
}

// Many log while the service comes and goes: each record ends in one place.
func TestLoggerConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fakeLogging)
		l, _ := loggerOn(t, f, codec.V1, LoggerConfig{MaxQueued: 50, FallbackRate: 5, Retry: Backoff{Base: 50 * time.Millisecond}})
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for k := range 500 {
					l.Info("x", slog.Int("k", k))
					if k%50 == 0 {
						time.Sleep(10 * time.Millisecond)
					}
				}
			})
		}
		all.Go(func() {
			for k := range 10 {
				time.Sleep(10 * time.Millisecond)
				f.set(func() { f.cut = []error{nil, errAway}[k%2] })
			}
		})
		all.Wait()
		l.Close(t.Context())
		s := l.Stats()
		if sum := s.Sent + s.Filtered + s.Fallback + s.Suppressed + s.Dropped; sum != 4000 || s.Queued != 0 || s.QueuedBytes != 0 {
			t.Errorf("Stats() = %+v: %d records, want 4000", s, sum)
		}
	})
}

func TestLoggerDoesNotAllocate(t *testing.T) {
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		f := &fakeLogging{stall: make(chan struct{}), level: map[codec.Dialect]int{codec.V0: 4}[d]}
		l, _ := loggerOn(t, f, d, LoggerConfig{MaxQueued: 64, Timeout: time.Hour})
		handler := l.Handler().WithAttrs([]slog.Attr{slog.String("app", "test")})
		r := slog.NewRecord(time.Unix(1, 0), slog.LevelInfo, "a message", 0)
		r.AddAttrs(slog.String("user", "alice"), slog.Int("n", 1))
		log := func() {
			l.Info("a message", slog.String("user", "alice"), slog.Int("n", 1), slog.Float64("f", 0.5))
			if err := handler.Handle(context.Background(), r); err != nil {
				t.Errorf("Handle() = %v", err)
			}
			l.Debug("not wanted, perhaps")
		}
		for range 200 {
			log()
		}
		if n := testing.AllocsPerRun(500, log); n >= 1 && !invariants.Race { // a garbage collection may empty the pool
			t.Errorf("%v: %v allocations, want 0", d, n)
		}
		close(f.stall)
	}
}

func TestLoggerWithSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fakeLogging)
		l, _ := loggerOn(t, f, codec.V1, LoggerConfig{})
		other := l.WithSource(strings.Repeat("x", MaxNameBytes+1))
		if l.Source() != "app/test" || len(other.Source()) != MaxNameBytes {
			t.Errorf("Source() = %q, %d bytes, want app/test, %d", l.Source(), len(other.Source()), MaxNameBytes)
		}
		other.Info("x")
		if err := l.Close(t.Context()); err != nil || other.Stats().Sent != 1 {
			t.Errorf("Close() = %v, %d sent, want 1", err, other.Stats().Sent)
		}
		if source, _, _, err := decodeLog(f.got[0]); err != nil || source != other.Source() {
			t.Errorf("source on the wire %q, %v", source, err)
		}
	})
}

// Without a name the program's own is used.
func TestLoggerDefaultSource(t *testing.T) {
	l := newLogger(new(fakeLogging), codec.V1, LoggerConfig{})
	if got := l.Source(); !strings.HasPrefix(got, "app/") || len(got) < 5 {
		t.Errorf("Source() = %q, want app/ and a name", got)
	}
}

func BenchmarkLogger(b *testing.B) {
	f := &fakeLogging{stall: make(chan struct{})}
	l, _ := loggerOn(b, f, codec.V1, LoggerConfig{Timeout: time.Hour})
	defer close(f.stall)
	b.ReportAllocs()
	for b.Loop() {
		l.Info("a message", slog.String("user", "alice"), slog.Int("n", 1))
	}
}
