package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/service"
)

const (
	emit = iota
	verbosity
	setVerbosity
)

// logLines returns what was written without the time in front.
func logLines(text string) string {
	var b strings.Builder
	for l := range strings.Lines(text) {
		_, rest, _ := strings.Cut(l, "Z")
		b.WriteString(strings.TrimLeft(rest, `", `))
	}
	return b.String()
}

func TestLoggingLines(t *testing.T) {
	attrs := []any{[]any{"n", 7}, []any{"level", "no"}, []any{"b", true}, []any{"i", -5}, []any{"f", 1.5}, []any{"raw", []byte("a\nb")}}
	for _, test := range []struct {
		format engine.LogFormat
		want   string
	}{
		{engine.LogJSON, `level":"WARN","msg":"two\nlines","source":"app/x","attrs":{"n":7,"level":"no","b":true,"i":-5,"f":1.5,"raw":"a\nb"}}` + "\n" +
			`level":"ERROR","msg":"nine","source":"app/x","severity":9}` + "\n"},
		{engine.LogText, `level=WARN msg="two\nlines" source=app/x attrs.n=7 attrs.level=no attrs.b=true attrs.i=-5 attrs.f=1.5 attrs.raw="a\nb"` + "\n" +
			`level=ERROR msg=nine source=app/x severity=9` + "\n"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			l := newLogging(t, engine.LoggingConfig{Output: &out, Format: test.format})
			w := dial(t, l.Declaration(codec.V1), codec.V1)
			w.call(t, 1, emit, 2, "app/x", "two\nlines", attrs)
			w.call(t, 2, emit, 9, "app/x", "nine", []any{})
			w.wantSilence(t)
			synctest.Wait()
			if got := logLines(out.String()); got != test.want {
				t.Errorf("%v: the log is\n%s, want\n%s", test.format, got, test.want)
			}
		})
	}
}

func TestVerbosity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := newLogging(t, engine.LoggingConfig{Output: &out, Format: engine.LogText})
		server := serve(t, service.ServerConfig{Declaration: l.Declaration(codec.V1)})
		w := attach(t, server, codec.V1)
		w.call(t, 1, setVerbosity, 2)
		w.call(t, 2, verbosity)
		w.call(t, 3, emit, 1, "s", "info")
		w.call(t, 4, emit, 2, "s", "warning")
		w.call(t, 5, setVerbosity, 5)
		w.call(t, 6, setVerbosity, -1)
		w.call(t, 7, setVerbosity, 4)
		w.call(t, 8, emit, 3, "s", "error")
		w.wantAnswers(t, `1 0 []`, `2 0 [2]`,
			`5 1 [[7,2],"set_verbosity: want 0 debug, 1 info, 2 warning, 3 error or 4 none"]`,
			`6 1 [[7,2],"set_verbosity: want 0 debug, 1 info, 2 warning, 3 error or 4 none"]`,
			`7 0 []`)
		v0 := dial(t, l.Declaration(codec.V0), codec.V0)
		v0.call(t, 1, verbosity)
		v0.wantAnswers(t, `1 4 ["\u0000"]`, `1 6 []`)
		if err := l.SetVerbosity(1); err != nil {
			t.Fatal(err)
		}
		v0.call(t, 2, emit, 4, "s", "debug")
		v0.call(t, 3, emit, 3, "s", "info")
		v0.wantAnswers(t, `2 6 []`, `3 6 []`)
		v0.call(t, 4, emit, "x", "s", "info")
		v0.wantAnswers(t, `4 5 [1,"argument type mismatch"]`, `4 6 []`)
		w.call(t, 9, setVerbosity, "x")
		w.wantEnd(t)
		synctest.Wait()
		if got, want := logLines(out.String()), "level=WARN msg=warning source=s\nlevel=INFO msg=info source=s\n"; got != want {
			t.Errorf("the log is %s, want %s", got, want)
		}
		got := l.Stats()
		if want := (engine.LoggingStats{Emitted: 2, Filtered: 3, Refused: 1, Written: 2, Recent: 2}); got != want {
			t.Errorf("Stats() = %+v, want %+v", got, want)
		}
		if err := l.SetVerbosity(5); err == nil {
			t.Errorf("SetVerbosity(5) = %v, want an error", err)
		}
	})
}

// TestEmitAttributes has a record of this process look like one of a client.
func TestEmitAttributes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := newLogging(t, engine.LoggingConfig{Output: &out, Format: engine.LogText})
		l.Emit(slog.LevelWarn+1, "engine", "m", slog.Bool("b", true), slog.Int("i", -1), slog.Uint64("u", 1<<63),
			slog.Float64("f", 1.5), slog.Any("e", errors.New("why")))
		synctest.Wait()
		if got, want := logLines(out.String()), "level=WARN msg=m source=engine attrs.b=true attrs.i=-1 attrs.u=9223372036854775808 attrs.f=1.5 attrs.e=why\n"; got != want {
			t.Errorf("the log is %s, want %s", got, want)
		}
		if l.Verbosity() != 0 || engine.LogText.String() != "text" || engine.LogJSON.String() != "json" || engine.LogFormat(9).String() != "LogFormat(9)" {
			t.Errorf("Verbosity() = %d, the forms are %v, %v, %v", l.Verbosity(), engine.LogText, engine.LogJSON, engine.LogFormat(9))
		}
	})
}

// gate is an output that waits until it is opened, and fails when told so.
type gate struct {
	open chan struct{}
	mu   sync.Mutex
	out  bytes.Buffer
	fail error
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fail != nil {
		return 0, g.fail
	}
	return g.out.Write(p)
}

// TestLoggingOverflow: a log that cannot be written keeps nobody waiting, and says
// afterwards what it dropped.
func TestLoggingOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		l := newLogging(t, engine.LoggingConfig{Output: g, Format: engine.LogText, MaxQueue: 3, MaxRecordBytes: 100})
		w := dial(t, l.Declaration(codec.V1), codec.V1)
		for i := range uint64(10) {
			w.call(t, 1+i, emit, 1, "s", fmt.Sprint("m", i))
			synctest.Wait()
		}
		w.call(t, 11, ping)
		w.wantAnswers(t, `11 0 []`) // nothing waits for the log
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.Flush(ctx); err == nil || !strings.Contains(err.Error(), "3 records") {
			t.Errorf("Flush() = %v, want that 3 records are not written", err)
		}
		close(g.open)
		if err := l.Flush(t.Context()); err != nil {
			t.Errorf("Flush() = %v", err)
		}
		w.call(t, 12, emit, 1, "s", strings.Repeat("long", 100))
		synctest.Wait()
		want := "level=INFO msg=m0 source=s\nlevel=INFO msg=m1 source=s\nlevel=INFO msg=m2 source=s\n" +
			`level=WARN msg="records were dropped: the log cannot be written as fast as they come" source=logging dropped=7` + "\n" +
			`level=INFO msg=` + strings.Repeat("long", 100)[:50] + " source=s attrs.shortened_from_bytes=407\n"
		if got := logLines(g.out.String()); got != want {
			t.Errorf("the log is\n%s, want\n%s", got, want)
		}
		got := l.Stats()
		if want := (engine.LoggingStats{Emitted: 11, Shortened: 1, Written: 4, Dropped: 7, Recent: 11}); got != want {
			t.Errorf("Stats() = %+v, want %+v", got, want)
		}

		full := errors.New("no space left")
		g.fail = full
		l.Emit(slog.LevelError, "engine", "lost", slog.Int("n", 1))
		synctest.Wait()
		g.fail = nil
		l.Emit(slog.LevelError, "engine", "after", slog.Duration("d", time.Second))
		synctest.Wait()
		if got := logLines(g.out.String()); !strings.HasSuffix(got, "=407\nlevel=ERROR msg=after source=engine attrs.d=1s\n") {
			t.Errorf("the log is\n%s, want a record after a failure", got)
		}
		if got := l.Stats(); got.Failures != 1 || !errors.Is(got.LastError, full) {
			t.Errorf("Stats() = %+v, want one failure, %v", got, full)
		}
	})
}

// TestLoggingFile: a file that was moved away is opened anew.
func TestLoggingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := engine.NewLoggingService(engine.LoggingConfig{File: path, Format: engine.LogText})
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []func() error{
		func() error { return os.Rename(path, path+".1") },
		l.Reopen,
		func() error { return nil },
	} {
		l.Emit(slog.LevelInfo, "s", fmt.Sprint("m", i))
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := l.Close(t.Context()); err != nil {
			t.Errorf("Close() = %v", err)
		}
	}
	l.Emit(slog.LevelInfo, "s", "late")
	if err := l.Reopen(); err != nil {
		t.Errorf("Reopen() behind Close = %v", err)
	}
	for name, want := range map[string]int{path + ".1": 2, path: 1} {
		text, err := os.ReadFile(name)
		if got := bytes.Count(text, []byte("\n")); err != nil || got != want {
			t.Errorf("%s has %d lines, %v, want %d", name, got, err, want)
		}
	}
	if got := l.Stats(); got.Written != 3 || got.Dropped != 1 {
		t.Errorf("Stats() = %+v, want 3 written and one dropped", got)
	}
	if _, err := engine.NewLoggingService(engine.LoggingConfig{File: path + "/no/such"}); err == nil {
		t.Error("NewLoggingService() = nil, want an error for a file that cannot be opened")
	}
	for _, cfg := range []engine.LoggingConfig{{Format: 9}, {Verbosity: -1}} {
		if _, err := engine.NewLoggingService(cfg); err == nil {
			t.Errorf("NewLoggingService(%+v) = nil, want an error", cfg)
		}
	}
}

// TestLoggingHandler has the records go to a handler of the caller, which wants no debug.
func TestLoggingHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := newLogging(t, engine.LoggingConfig{Handler: slog.NewTextHandler(&out, nil)})
		l.Emit(slog.LevelDebug, "s", "debug")
		l.Emit(slog.LevelInfo, "s", "info")
		synctest.Wait()
		if got := out.String(); strings.Contains(got, "debug") || !strings.HasSuffix(got, "level=INFO msg=info source=s\n") {
			t.Errorf("the handler wrote %q", got)
		}
	})
}

// TestTail: clients follow the log from its last records on, each from its own severity.
func TestTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogging(t, engine.LoggingConfig{Output: new(bytes.Buffer), MaxRecent: 4, MaxTails: 2})
		for i := range 6 {
			l.Emit(slog.LevelInfo, "app/x", fmt.Sprint("m", i))
		}
		server := serve(t, service.ServerConfig{Declaration: l.TailDeclaration()})
		all := attach(t, server, codec.V1)
		all.call(t, 1, 0)
		for i := 2; i < 6; i++ {
			all.wantAnswers(t, fmt.Sprintf(`1 0 [%d,946684800000000,1,"app/x","m%d",[],0]`, i, i))
		}
		some := attach(t, server, codec.V1)
		some.call(t, 1, 0, "app", 2, 0)
		synctest.Wait()
		some.call(t, 2, 0, "", 0, 1)
		some.wantAnswers(t, `2 1 [[12,11],"2 clients follow the log already, limit LoggingConfig.MaxTails"]`)
		l.Emit(slog.LevelInfo, "app/x", "too low")
		l.Emit(slog.LevelWarn, "application", "of another")
		l.Emit(slog.LevelWarn, "app", "warning", slog.String("k", "v"), slog.Int("n", -1))
		some.wantAnswers(t, `1 0 [8,946684800000000,2,"app","warning",[["k","v"],["n",-1]],0]`)
		if got := l.Stats().Tails; got != 2 {
			t.Errorf("Stats().Tails = %d, want 2", got)
		}
		some.call(t, 1, 0) // discard
		some.wantAnswers(t, `1 2 []`)
		some.call(t, 3, 0, "application", 0, 10, false)
		some.wantAnswers(t, `3 0 [7,946684800000000,2,"application","of another",[],0]`, `3 2 []`)
		some.call(t, 4, 0, "nobody", 0, 10, false)
		some.wantAnswers(t, `4 2 []`)
		if err := all.Close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := l.Stats().Tails; got != 0 {
			t.Errorf("Stats().Tails = %d, want none behind discard and a lost client", got)
		}
	})
}

// TestTailSlow has a client that reads nothing while more records come than are kept.
func TestTailSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogging(t, engine.LoggingConfig{Output: new(bytes.Buffer), MaxRecent: 100, MaxRecentBytes: 1 << 20})
		w := dial(t, l.TailDeclaration(), codec.V1)
		w.call(t, 1, 0)
		synctest.Wait()
		const n = 2000
		for i := range n {
			l.Emit(slog.LevelInfo, "s", fmt.Sprint(i, strings.Repeat("x", 10_000)))
			if i%50 == 0 {
				synctest.Wait() // so that the output fills
			}
		}
		var seen, missed, last int
		for last != n-1 {
			_, m, err := w.next()
			if err != nil {
				t.Fatal(err)
			}
			r := m.Reader()
			number := r.Int()
			for range 5 {
				r.Skip()
			}
			gap := r.Int()
			if seen > 0 && number != last+1+gap {
				t.Fatalf("record %d follows %d with %d missed", number, last, gap)
			}
			seen, missed, last = seen+1, missed+gap, number
		}
		if missed == 0 || seen+missed != n {
			t.Errorf("the client saw %d and missed %d, want some missed and %d together", seen, missed, n)
		}
		synctest.Wait()
		if got := l.Stats().Missed; got != uint64(missed) {
			t.Errorf("Stats().Missed = %d, want %d", got, missed)
		}
	})
}

// FuzzEmit gives the service any arguments: it takes them and writes one line, or refuses
// them.
func FuzzEmit(f *testing.F) {
	for _, args := range []codec.Arguments{
		codec.Args(1, "app/x", "text"),
		codec.Args(-1, "app/x", "text", []any{[]any{"k", "v"}, []any{"n", -1}, []any{"f", 0.5}, []any{"b", true}}),
		codec.Args(1, "app/x", "text", []any{[]any{"k", nil}}),
		codec.Args(1, "app/x", "text", []any{[]any{"k", []any{}}}),
		codec.Args(1, "app/x", "text", []any{[]any{"k"}}),
		codec.Args(uint64(1)<<63, "", ""),
	} {
		f.Add(args.Bytes(), true)
		f.Add(args.Bytes(), false)
	}
	f.Add([]byte("\x94\x01\xa1x\xa1y\x91\x91\x81\x01\x90"), true) // an attribute of one item, which is a map
	f.Fuzz(func(t *testing.T, args []byte, v1 bool) {
		var m codec.Message
		frame := append(append([]byte{0x93, 0, 0}, args...), 0x90)
		if n, _ := codec.NewScanner(codec.V0, codec.Limits{}).Next(frame, &m); n == 0 || n > len(frame) {
			return // the channel has refused it
		}
		d := codec.V0
		if v1 {
			d = codec.V1
		}
		var out bytes.Buffer
		l, err := engine.NewLoggingService(engine.LoggingConfig{Output: &out, MaxRecordBytes: 40})
		if err != nil {
			t.Fatal(err)
		}
		refused := l.EmitArgs(d, m.Args)
		if err := l.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		stats := l.Stats()
		if lines := bytes.Count(out.Bytes(), []byte("\n")); uint64(lines) != stats.Written || stats.Written+stats.Filtered+stats.Refused != 1 {
			t.Fatalf("emit of %x = %v: %d lines, %+v", args, refused, lines, stats)
		}
		for _, message := range l.Tailed() {
			if n, err := codec.NewScanner(codec.V0, codec.Limits{}).Next(append([]byte{0x93, 0, 0}, message...), &m); n != len(message)+3 || m.NumArgs != 7 {
				t.Fatalf("tail sends %x, %v", message, err)
			}
		}
	})
}

func TestEmitAllocs(t *testing.T) {
	l := newLogging(t, engine.LoggingConfig{Handler: slog.DiscardHandler, MaxQueue: 1})
	args := codec.Args(1, "app/x", "text", []any{[]any{"k", "v"}}).Bytes()
	if got := testing.AllocsPerRun(1000, func() { _ = l.EmitArgs(codec.V1, args) }); got > 4 {
		t.Errorf("an emit allocates %v times, want at most 4: the record, and its writer", got)
	}
	if err := l.SetVerbosity(4); err != nil {
		t.Fatal(err)
	}
	if got := testing.AllocsPerRun(1000, func() { _ = l.EmitArgs(codec.V1, args) }); got > 0 {
		t.Errorf("an emit that nobody wants allocates %v times", got)
	}
}
