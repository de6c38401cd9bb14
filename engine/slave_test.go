package engine_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/fsm/fsmtest"
	"github.com/sluice-rpc/sluice/session"
)

var _ = flag.Bool("rewrite", false, "rewrite the files in testdata")

func TestStates(t *testing.T) { fsmtest.Walk(t, engine.Table, "testdata/slave") }

// bubbles runs a test in a bubble for each dialect.
func bubbles(t *testing.T, test func(t *testing.T, d codec.Dialect)) {
	dialects(t, func(t *testing.T, d codec.Dialect) {
		synctest.Test(t, func(t *testing.T) { test(t, d) })
	})
}

// wantSlaveError fails the test unless err is a *SlaveError of the code.
func wantSlaveError(t *testing.T, err error, code engine.SlaveCode) *engine.SlaveError {
	t.Helper()
	var se *engine.SlaveError
	if !errors.As(err, &se) || se.Code != code {
		t.Fatalf("error %v, want a *SlaveError of %v", err, code)
	}
	return se
}

func wantState(t *testing.T, s interface{ State() engine.State }, want engine.State) {
	t.Helper()
	synctest.Wait()
	if got := s.State(); got != want {
		t.Fatalf("State() = %v, want %v", got, want)
	}
}

func wantSignals(t *testing.T, f *fake, want ...string) {
	t.Helper()
	if got := f.proc.Signals(); !slices.Equal(got, want) {
		t.Fatalf("the process got %q, want %q", got, want)
	}
}

// wantGone waits for the end and returns Err.
func wantGone(t *testing.T, f *fake) error {
	t.Helper()
	<-f.Done()
	wantState(t, f, engine.Gone)
	return f.Err()
}

// A v1 worker is active by its handshake, a v0 worker by its first heartbeat.
func TestReady(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		f := spawnFake(t, engine.SlaveConfig{Dialect: d})
		wantState(t, f, engine.Handshaking)
		w := f.connect()
		if err := w.send(handshake(f.UUID())); err != nil {
			t.Fatal(err)
		}
		if d == codec.V1 {
			wantState(t, f, engine.Active)
		} else {
			wantState(t, f, engine.Handshaking)
		}
		if err := w.send(heartbeat); err != nil {
			t.Fatal(err)
		}
		w.want(t, heartbeat)
		wantState(t, f, engine.Active)
		if err := f.Ready(t.Context()); err != nil {
			t.Errorf("Ready() = %v, want nil", err)
		}
	})
}

// The engine never beats by itself, and answers each heartbeat once.
func TestHeartbeats(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		f := spawnFake(t, engine.SlaveConfig{Dialect: d})
		w := f.worker()
		for range 10 {
			time.Sleep(29 * time.Second)
			if err := w.send(heartbeat); err != nil {
				t.Fatal(err)
			}
			w.want(t, heartbeat)
		}
		wantState(t, f, engine.Active)
		if got := f.Stats().Channel.FramesOut; got != 11 {
			t.Errorf("the engine sent %d frames, want 11", got)
		}
		wantSignals(t, f)
	})
}

func TestNoHandshake(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		f := spawnFake(t, engine.SlaveConfig{Dialect: d})
		silent := f.connect() // does not count, and is cut at the same time
		f.proc.Write("one\ntwo\nthree")
		se := wantSlaveError(t, f.Ready(t.Context()), engine.SlaveActivateTimeout)
		wantSignals(t, f, "terminated at 5s", "killed at 7s")
		if se.Status != "signal: killed" || fmt.Sprint(se.Output) != "[one two three]" {
			t.Errorf("status %q, output %q, want those of the process", se.Status, se.Output)
		}
		if !strings.Contains(se.Error(), "three") {
			t.Errorf("Error() = %q, want the last line in it", se)
		}
		silent.wantEnd(t)
		if err := f.Err(); err != error(se) {
			t.Errorf("Err() = %v, want what Ready returned", err)
		}
	})
}

// A v0 worker that shakes hands and does not beat is not active.
func TestNoFirstHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := spawnFake(t, engine.SlaveConfig{Dialect: codec.V0})
		w := f.connect()
		if err := w.send(handshake(f.UUID())); err != nil {
			t.Fatal(err)
		}
		wantSlaveError(t, f.Ready(t.Context()), engine.SlaveActivateTimeout)
		wantSignals(t, f, "terminated at 5s", "killed at 7s")
	})
}

// Connections that begin otherwise than with the slave's handshake are closed without a
// word and counted, and the slave waits on (catalogue B10).
func TestStrangers(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		f, begin := spawnFake(t, engine.SlaveConfig{Dialect: d}), time.Now()
		bad := map[string]codec.Frame{
			"foreign uuid": handshake("0d9d1ae1-6b44-4d61-9a3e-8d7a0e9a0001"),
			"empty uuid":   handshake(""),
			"upper case":   handshake(strings.ToUpper(f.UUID())),
			"oversized":    handshake(strings.Repeat("x", 100_000)),
			"heartbeat":    heartbeat,
			"terminate":    terminate(1, "x"),
			"chunk":        {Kind: codec.KindChunk, Session: 2, Payload: []byte("x")},
			"invoke":       {Kind: codec.KindInvoke, Session: 2, Text: "x"},
		}
		for name, frame := range bad {
			w := f.connect()
			_ = w.send(frame) // the oversized one is cut in the middle
			if got, _, err := w.next(); err == nil {
				t.Errorf("%s: the engine answered %x, want an end", name, got)
			}
		}
		for _, raw := range []string{
			"GET / HTTP/1.1\r\n\r\n",
			"\x94\x01\x00\x91\xdb\x00\x10\x00\x00", // a uuid of 1 MiB, of which nothing comes
		} {
			w := f.connect()
			_, _ = w.Write([]byte(raw))
			w.wantEnd(t)
		}
		_ = f.connect().Close()
		if took := time.Since(begin); took != 0 {
			t.Errorf("the strangers were cut after %v, want at once", took)
		}

		w := f.worker()
		again := f.connect()
		if err := again.send(handshake(f.UUID())); err != nil {
			t.Fatal(err)
		}
		again.wantEnd(t)
		synctest.Wait()
		if got, want := f.Stats().Strangers, uint64(len(bad)+4); got != want {
			t.Errorf("Stats().Strangers = %d, want %d", got, want)
		}
		wantState(t, f, engine.Active)
		if err := w.send(heartbeat); err != nil {
			t.Fatal(err)
		}
		w.want(t, heartbeat)
	})
}

// A worker that stops beating is found out after HeartbeatTimeout, and gets no terminate.
func TestSilentWorker(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		f := spawnFake(t, engine.SlaveConfig{Dialect: d})
		w := f.worker()
		call := f.invoke()
		_, err := call.Recv(t.Context())
		var ce *channel.CloseError
		if !errors.As(err, &ce) || ce.Code != channel.CodeDisowned {
			t.Errorf("Recv() = %v, want the channel's error", err)
		}
		w.want(t, codec.Frame{Kind: codec.KindInvoke, Session: call.ID(), Text: "event"})
		w.wantEnd(t)
		wantSlaveError(t, wantGone(t, f), engine.SlaveHeartbeatTimeout)
		wantSignals(t, f, "terminated at 30s", "killed at 32s")
	})
}

// Any byte counts as life: a worker busy with sending is not dead.
func TestBytesAreLife(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		f := spawnFake(t, engine.SlaveConfig{Dialect: d})
		w := f.worker()
		call := f.invoke()
		for range 10 {
			time.Sleep(20 * time.Second)
			if err := w.send(codec.Frame{Kind: codec.KindChunk, Session: call.ID(), Payload: []byte("x")}); err != nil {
				t.Fatal(err)
			}
		}
		wantState(t, f, engine.Active)
		begin := time.Now()
		wantSlaveError(t, wantGone(t, f), engine.SlaveHeartbeatTimeout)
		if d := time.Since(begin); d < 30*time.Second || d > 62*time.Second {
			t.Errorf("found silent after %v, want 30 s to 60 s, and 2 s more to be killed", d)
		}
	})
}

// Invoke waits for a worker; what that answers comes to the session, its error too.
func TestInvoke(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		f := spawnFake(t, engine.SlaveConfig{Dialect: d})
		soon, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := f.Invoke(soon, "event", nil); !errors.Is(err, context.DeadlineExceeded) || !notSent(err) {
			t.Errorf("Invoke() = %v, want the context's error", err)
		}
		w := f.worker()
		var headers []codec.Header
		if d == codec.V1 {
			headers = []codec.Header{{Name: []byte("name"), Value: []byte("value")}}
		}
		call, err := f.Invoke(t.Context(), "event", headers)
		if err != nil {
			t.Fatal(err)
		}
		first := map[codec.Dialect]uint64{codec.V0: 1, codec.V1: 2}[d]
		w.want(t, codec.Frame{Kind: codec.KindInvoke, Session: first, Text: "event", Headers: headers})
		if err := w.send(
			codec.Frame{Kind: codec.KindChunk, Session: first, Payload: []byte("answer")},
			codec.Frame{Kind: codec.KindError, Session: first, Category: 42, Code: 7, Text: "told to fail"},
		); err != nil {
			t.Fatal(err)
		}
		if p, err := call.Recv(t.Context()); string(p) != "answer" || err != nil {
			t.Errorf("Recv() = %q, %v", p, err)
		}
		_, err = call.Recv(t.Context())
		var se *session.Error
		if !errors.As(err, &se) || !se.Remote || se.Code != 7 || se.Message != "told to fail" {
			t.Errorf("Recv() = %v, want the worker's error", err)
		}
		if st := f.Stats(); st.Invoked != 1 || st.Load != 1 || st.State != engine.Active {
			t.Errorf("Stats() = %+v, want one session, half open", st)
		}
		if err := call.Close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if st := f.Stats(); st.Load != 0 {
			t.Errorf("Stats().Load = %d, want 0", st.Load)
		}
	})
}

type panicking struct{}

func (panicking) Write([]byte) (int, error) { panic("writer") }

// What the user's functions do wrong does not keep a slave from its end.
func TestUserPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		f := spawnFake(t, engine.SlaveConfig{
			Output: panicking{}, OnGone: func(error) { panic("gone") },
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		f.proc.Write("one\n")
		f.proc.Write("two\n")
		f.proc.Exit("exit status 1", true)
		se := wantSlaveError(t, wantGone(t, f), engine.SlaveExited)
		if fmt.Sprint(se.Output) != "[one two]" {
			t.Errorf("Output = %q, want both lines", se.Output)
		}
		if !strings.Contains(log.String(), "Output panicked") || !strings.Contains(log.String(), "OnGone panicked") {
			t.Errorf("the log says %q, want both panics", &log)
		}
	})
}

func TestSlaveCodes(t *testing.T) {
	for code, want := range map[engine.SlaveCode]string{
		engine.SlaveHeartbeatTimeout: "heartbeat_timeout", engine.SlaveExited: "exited", 77: "SlaveCode(77)",
	} {
		if got := code.String(); got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
	}
}

func TestBadConfig(t *testing.T) {
	for name, cfg := range map[string]engine.SlaveConfig{
		"no command": {},
		"no program": {Command: []string{""}},
		"dialect":    {Command: []string{"x"}, Dialect: 2},
		"sessions": {Command: []string{"x"}, Sessions: session.Config{
			Channel: channel.Config{HighWaterBytes: 1, LowWaterBytes: 2},
		}},
	} {
		if s, err := engine.Spawn(t.Context(), cfg); err == nil {
			s.Kill()
			t.Errorf("%s: Spawn() = nil, want an error", name)
		}
	}
}
