package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"testing/slogtest"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// queued returns the records that wait in a logger, as a map for each, with groups within
// groups again.
func queued(t testing.TB, l *Logger) (list []map[string]any) {
	t.Helper()
	l.core.mu.Lock()
	defer l.core.mu.Unlock()
	for l.core.queue.len() > 0 {
		e, args := l.core.queue.head()
		_, message, attrs, err := decodeLog(args)
		if err != nil {
			t.Fatalf("record %x: %v", args, err)
		}
		m := map[string]any{slog.LevelKey: e.level, slog.MessageKey: message}
		if !e.at.IsZero() {
			m[slog.TimeKey] = e.at
		}
		for _, a := range attrs {
			put(m, a.Key, a.Value.Any())
		}
		list = append(list, m)
		l.core.queue.pop()
	}
	return list
}

// put sets what a key with dots stands for, a value in groups within m.
func put(m map[string]any, key string, value any) {
	path := strings.Split(key, ".")
	last := len(path) - 1
	for _, name := range path[:last] {
		if m[name] == nil {
			m[name] = make(map[string]any)
		}
		m = m[name].(map[string]any)
	}
	m[path[last]] = value
}

// unsent returns a logger that keeps all records.
func unsent(t testing.TB, d codec.Dialect, cfg LoggerConfig) *Logger {
	t.Helper()
	cfg.Level = math.MinInt
	l, _ := loggerOn(t, new(fakeLogging), d, cfg)
	l.core.start.Do(func() { close(l.core.done) }) // no sender
	return l
}

func TestHandlerSlogtest(t *testing.T) {
	var l *Logger
	slogtest.Run(t, func(t *testing.T) slog.Handler {
		l = unsent(t, codec.V1, LoggerConfig{})
		return l.Handler()
	}, func(t *testing.T) map[string]any { return queued(t, l)[0] })
}

// The whole way: through the queue, and what the fallback makes of it.
func TestHandlerSlogtestFallback(t *testing.T) {
	var out bytes.Buffer
	l, _ := loggerOn(t, &fakeLogging{away: errAway}, codec.V1, LoggerConfig{})
	l.core.cfg.Fallback = &out
	results := func() (list []map[string]any) {
		l.Close(t.Context())
		for line := range strings.Lines(out.String()) {
			if m := parseText(t, line); m["logger"] != nil {
				list = append(list, m)
			}
		}
		return list
	}
	if err := slogtest.TestHandler(l.Handler(), results); err != nil {
		t.Error(err)
	}
}

// parseText reads what slog's text handler wrote; keys with dots are groups.
func parseText(t testing.TB, line string) map[string]any {
	t.Helper()
	m := make(map[string]any)
	for rest := strings.TrimSpace(line); rest != ""; rest = strings.TrimSpace(rest) {
		key, behind, _ := strings.Cut(rest, "=")
		value := behind
		if strings.HasPrefix(behind, `"`) {
			d := json.NewDecoder(strings.NewReader(behind))
			if err := d.Decode(&value); err != nil {
				t.Fatalf("line %q: %v", line, err)
			}
			rest = behind[d.InputOffset():]
		} else {
			value, rest, _ = strings.Cut(behind, " ")
		}
		put(m, key, value)
	}
	return m
}

type panics struct{}

func (panics) MarshalText() ([]byte, error) { panic("oh") }

type fails struct{}

func (fails) MarshalText() ([]byte, error) { return nil, errAway }

type nilError struct{ text string }

func (e *nilError) Error() string { return e.text }

type badValuer struct{}

func (badValuer) LogValue() slog.Value { panic("oh") }

type valuer struct{ v slog.Value }

func (v valuer) LogValue() slog.Value { return v.v }

type endless struct{}

func (endless) LogValue() slog.Value { return slog.AnyValue(endless{}) }

type nested struct{}

func (nested) LogValue() slog.Value {
	return slog.GroupValue(slog.Any("n", nested{}), slog.Any("m", nested{}))
}

type number int

// TestHandlerValues: values of every kind come as text or number, panics too.
func TestHandlerValues(t *testing.T) {
	for _, row := range []struct {
		attr slog.Attr
		want string // contained in key=value ...
	}{
		{slog.Any("k", nil), "k=<nil>"},
		{slog.Any("k", errAway), "k=nobody there"},
		{slog.Any("k", (*nilError)(nil)), "k=<nil>"},
		{slog.Any("k", []byte("raw\xff")), "k=raw\xff"},
		{slog.Any("k", number(3)), "k=3"},
		{slog.Any("k", map[string]int{"a": 1}), "k=map[a:1]"},
		{slog.Any("k", struct{ A, b any }{1, "x"}), "k={A:1 b:x}"},
		{slog.Any("k", func() {}), "k=0x"},
		{slog.Any("k", make(chan int)), "k=0x"},
		{slog.Any("k", panics{}), "k=!PANIC: oh"},
		{slog.Any("k", fails{}), "k=!ERROR: nobody there"},
		{slog.Any("k", badValuer{}), "k=LogValue panicked"},
		{slog.Any("k", endless{}), "k=LogValue called too many times"},
		{slog.Any("k", valuer{slog.GroupValue(slog.Int("a", 1), slog.Int("b", 2))}), "k.a=1 k.b=2"},
		{slog.Any("k", valuer{slog.AnyValue(valuer{slog.IntValue(4)})}), "k=4"},
		{slog.Any("", valuer{slog.GroupValue(slog.Int("a", 1))}), "a=1"},
		{slog.Any("k", nested{}), strings.Repeat(".n", MaxLogGroups) + "=!nested deeper than 16"},
		{slog.Duration("k", 1500*time.Millisecond), "k=1.5s"},
		{slog.Time("k", time.Date(2020, 1, 2, 3, 4, 5, 6, time.UTC)), "k=2020-01-02T03:04:05.000000006Z"},
		{slog.Time("k", time.Date(12020, 1, 2, 3, 4, 5, 0, time.UTC)), "k=12020-01-02T03:04:05Z"},
		{slog.Time("k", time.Time{}), "k=0001-01-01T00:00:00Z"},
		{slog.Uint64("k", math.MaxUint64), "k=18446744073709551615"},
		{slog.Int64("k", math.MinInt64), "k=-9223372036854775808"},
		{slog.Float64("k", math.Inf(-1)), "k=-Inf"},
		{slog.Float64("k", math.NaN()), "k=NaN"},
		{slog.String("", "no key"), "=no key"},
		{slog.String("k", strings.Repeat("é", MaxLogValueBytes)), "éé" + cutMark},
	} {
		for _, d := range []codec.Dialect{codec.V1, codec.V0} {
			l := unsent(t, d, LoggerConfig{})
			slog.New(l.Handler()).Info("m", row.attr)
			_, args := l.core.queue.head()
			_, got, attrs, err := decodeLog(args)
			for _, a := range attrs {
				got += " " + a.String()
			}
			got = strings.ReplaceAll(got, `"`, "")
			want := row.want
			if d == codec.V0 {
				want = strings.ReplaceAll(want, "\xff", `\xff`)
			}
			if err != nil || !strings.Contains(got, want) {
				t.Errorf("%v: %v logged as %q, %v, want %q", d, row.attr.Key, got, err, want)
			}
		}
	}
}

// Handlers with a common origin do not write over each other's attributes.
func TestHandlerBranches(t *testing.T) {
	l := unsent(t, codec.V1, LoggerConfig{})
	root := slog.New(l.Handler()).With("a", 1).WithGroup("g").With("b", 2)
	x, y := root.With("x", 1), root.WithGroup("h").With("y", 1)
	x.Info("", "end", 1)
	y.Info("", "end", 1)
	root.Info("", "end", 1)
	slog.New(l.Handler().WithGroup("").WithAttrs(nil)).Info("", "end", 1)
	got := fmt.Sprint(queued(t, l))
	for _, want := range []string{
		"map[a:1 g:map[b:2 end:1 x:1] ", "map[a:1 g:map[b:2 h:map[end:1 y:1]] ", "map[a:1 g:map[b:2 end:1] ", "map[end:1 ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("logged %v, want %q in it", got, want)
		}
	}
}

func TestHandlerTrace(t *testing.T) {
	l := unsent(t, codec.V1, LoggerConfig{})
	ctx := WithTrace(t.Context(), Trace{ID: 0xbeef, Span: 1})
	slog.New(l.Handler()).WithGroup("g").InfoContext(ctx, "m", "k", 1)
	m := queued(t, l)[0]
	if m["trace_id"] != "000000000000beef" || fmt.Sprint(m["g"]) != "map[k:1]" {
		t.Errorf("logged %v, want trace_id 000000000000beef, g.k 1", m)
	}
}

func TestHandlerEnabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := loggerOn(t, &fakeLogging{level: 1}, codec.V0, LoggerConfig{})
		h := l.Handler()
		h.Enabled(t.Context(), slog.LevelError) // asks for the verbosity
		synctest.Wait()
		if h.Enabled(t.Context(), slog.LevelWarn) || !h.Enabled(t.Context(), slog.LevelError) {
			t.Errorf("Enabled(warn), Enabled(error) = %v, %v, want false, true",
				h.Enabled(t.Context(), slog.LevelWarn), h.Enabled(t.Context(), slog.LevelError))
		}
	})
}

func TestLoggerCutsRecords(t *testing.T) {
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		const limit = 1000
		for _, log := range []func(l *Logger){
			func(l *Logger) { l.Info(strings.Repeat("é", limit)) },
			func(l *Logger) { l.Info("m", slog.String("k", strings.Repeat("x", limit))) },
			func(l *Logger) { l.Info("m", slog.String(strings.Repeat("k", 2*limit), "")) },
			func(l *Logger) {
				h := slog.New(l.Handler())
				for range 100 {
					h = h.With("key", "a value").WithGroup("group")
				}
				h.Info("m")
			},
			func(l *Logger) { l.Info("m", make([]slog.Attr, 10*MaxLogAttrs)...); l.Info("m", many(10*limit)...) },
		} {
			l := unsent(t, d, LoggerConfig{MaxRecordBytes: limit})
			log(l)
			if s := l.Stats(); s.Cut != 1 || s.QueuedBytes > 2*limit {
				t.Errorf("%v: Stats() = %+v, want 1 cut, %d bytes", d, s, limit)
			}
			queued(t, l)
		}
	}
	l := unsent(t, codec.V1, LoggerConfig{})
	l.Info("m", many(MaxLogAttrs+1)...)
	if m := queued(t, l)[0]; len(m) != 3+MaxLogAttrs || l.Stats().Cut != 1 {
		t.Errorf("%d attributes, want %d", len(m)-3, MaxLogAttrs)
	}
}

func many(n int) []slog.Attr {
	attrs := make([]slog.Attr, n)
	for i := range attrs {
		attrs[i] = slog.Int(fmt.Sprint("k", i), i)
	}
	return attrs
}

// Whatever is logged, the service can read it: three or four arguments, and attributes of
// the kinds that it knows.
func FuzzLogAttrs(f *testing.F) {
	f.Add("message", "group", "key", "value", int64(-1), uint64(1), 0.5, []byte{0xff}, true, 200)
	f.Add("", "", "", "", int64(0), uint64(0), 0.0, []byte(nil), false, 0)
	f.Fuzz(func(t *testing.T, message, group, key, text string, i int64, u uint64, x float64, raw []byte, v0 bool, limit int) {
		d := codec.V1
		if v0 {
			d = codec.V0
		}
		l := unsent(t, d, LoggerConfig{MaxRecordBytes: max(limit, 0) % 1000, Source: "s" + key[:min(len(key), 50)]})
		h := slog.New(l.Handler())
		h = h.With(slog.Group(group, slog.String(key, text), slog.Int64(text, i)), "raw", raw).WithGroup(group)
		h.Info(message, key, u, slog.Float64(text, x), group, errors.New(text), text, slog.GroupValue(slog.Any(key, raw)))
		_, args := l.core.queue.head()
		r := codec.NewReader(args)
		n := r.Len()
		severity, source, got := r.Int(), r.String(), r.String()
		if r.Err() != nil || n < 3 || n > 4 || severity != Severity(d, slog.LevelInfo) || source != l.Source() {
			t.Fatalf("record %x: %v", args, r.Err())
		}
		if l.Stats().Cut == 0 && !strings.HasPrefix(got, message) {
			t.Errorf("message %q, want %q", got, message)
		}
		if n == 4 {
			for pairs := r.ArrayLen(); pairs > 0; pairs-- {
				if r.ArrayLen() != 2 || r.Bytes() == nil {
					t.Fatalf("record %x: attribute is no pair", args)
				}
				switch r.Peek() {
				case codec.RawValue, codec.FloatValue, codec.UintValue, codec.IntValue, codec.BoolValue:
					r.Skip()
				default:
					t.Fatalf("record %x: attribute of %v", args, r.Peek())
				}
			}
		}
		if r.Err() != nil || len(r.Rest()) != 0 {
			t.Fatalf("record %x: %v, %d bytes behind it", args, r.Err(), len(r.Rest()))
		}
		l.Close(context.Background())
	})
}
