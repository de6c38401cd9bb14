package engine_test

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/session"
)

// The orderly end: terminate, its answer, the end of the channel, the process's own end.
func TestTerminate(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		var told []error
		f := spawnFake(t, engine.SlaveConfig{Dialect: d, OnGone: func(err error) { told = append(told, err) }})
		w := f.worker()
		go func() {
			w.want(t, terminate(1, "bye"))
			_ = w.send(terminate(1, "bye"))
			w.wantEnd(t)
			_ = w.Close()
			time.Sleep(time.Second)
			f.proc.Exit("exit status 0", true)
		}()
		for range 2 { // the second one waits for nothing
			if err := f.Terminate(t.Context(), 1, "bye"); err != nil {
				t.Errorf("Terminate() = %v, want nil", err)
			}
		}
		wantSignals(t, f)
		if st := f.Stats(); st.Status != "exit status 0" || st.State != engine.Gone {
			t.Errorf("Stats() = %+v, want how the process ended", st)
		}
		if len(told) != 1 || told[0] != nil {
			t.Errorf("OnGone was told %v, want nil once", told)
		}
		wantSlaveError(t, f.Ready(t.Context()), engine.SlaveInvalidState)
		if _, err := f.Invoke(t.Context(), "event", nil); !notSent(err) {
			t.Errorf("Invoke() = %v, want an error of what was not sent", err)
		}
	})
}

func notSent(err error) bool {
	var se *session.Error
	return errors.As(err, &se) && se.Delivery == session.NotSent
}

// What the worker does not finish before it answers a terminate is cut (catalogue B12).
func TestTerminateCutsSessions(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		f := spawnFake(t, engine.SlaveConfig{Dialect: d})
		w := f.worker()
		call := f.invoke()
		go func() { _ = f.Terminate(t.Context(), 1, "bye") }()
		w.want(t, codec.Frame{Kind: codec.KindInvoke, Session: call.ID(), Text: "event"})
		w.want(t, terminate(1, "bye"))
		wantState(t, f, engine.Terminating)
		if _, err := f.Invoke(t.Context(), "event", nil); !notSent(err) {
			t.Errorf("Invoke() = %v, want an error of what was not sent", err)
		}
		if err := w.send(
			codec.Frame{Kind: codec.KindChunk, Session: call.ID(), Payload: []byte("half")},
			terminate(1, "bye"),
		); err != nil {
			t.Fatal(err)
		}
		w.wantEnd(t)
		if p, err := call.Recv(t.Context()); string(p) != "half" || err != nil {
			t.Errorf("Recv() = %q, %v, want what came before the end", p, err)
		}
		_, err := call.Recv(t.Context())
		var ce *channel.CloseError
		if !errors.As(err, &ce) || ce.Code != channel.CodeTerminated {
			t.Errorf("Recv() = %v, want the channel's error", err)
		}
		f.proc.Exit("exit status 0", true)
		if err := wantGone(t, f); err != nil {
			t.Errorf("Err() = %v, want nil", err)
		}
	})
}

// Both sides ask at the same time: both end clean, once (catalogue B13).
func TestTerminateFromBothSides(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		for _, first := range []string{"engine", "worker"} {
			f := spawnFake(t, engine.SlaveConfig{Dialect: d})
			w := f.worker()
			end := make(chan error, 1)
			ask := func() { end <- f.Terminate(t.Context(), 1, "bye") }
			if first == "engine" {
				go ask()
				synctest.Wait()
			}
			if err := w.send(terminate(1, "had enough")); err != nil {
				t.Fatal(err)
			}
			if first == "worker" {
				synctest.Wait()
				go ask()
			} else {
				w.want(t, terminate(1, "bye"))
			}
			w.wantEnd(t)
			f.proc.Exit("exit status 0", true)
			err := <-end
			if first == "engine" && err != nil {
				t.Errorf("Terminate() = %v, want nil", err)
			}
			if first == "worker" {
				wantSlaveError(t, err, engine.SlaveSuicide)
			}
			wantSignals(t, f)
		}
	})
}

// A worker that ignores a terminate gets SIGTERM, and one that ignores that SIGKILL.
func TestTerminateIgnored(t *testing.T) {
	timeouts := map[codec.Dialect]string{codec.V0: "5s", codec.V1: "10s"}
	kills := map[codec.Dialect]string{codec.V0: "7s", codec.V1: "12s"}
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		for _, stubborn := range []bool{false, true} {
			f := spawnFake(t, engine.SlaveConfig{Dialect: d})
			want := []string{"terminated at " + timeouts[d], "killed at " + kills[d]}
			if !stubborn {
				f.proc.OnSignal = func(syscall.Signal) { f.proc.Exit("signal: terminated", true) }
				want = want[:1]
			}
			f.worker()
			se := wantSlaveError(t, f.Terminate(t.Context(), 1, "bye"), engine.SlaveTerminateTimeout)
			if wantStatus := []string{"signal: terminated", "signal: killed"}[len(want)-1]; se.Status != wantStatus {
				t.Errorf("Status = %q, want %q", se.Status, wantStatus)
			}
			wantSignals(t, f, want...)
		}
	})
}

// Nobody hears a terminate before the handshake.
func TestTerminateBeforeHandshake(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		f := spawnFake(t, engine.SlaveConfig{Dialect: d})
		f.proc.OnSignal = func(syscall.Signal) { f.proc.Exit("signal: terminated", true) }
		ready := make(chan error, 1)
		go func() { ready <- f.Ready(t.Context()) }()
		time.Sleep(time.Second)
		if err := f.Terminate(t.Context(), 1, "bye"); err != nil {
			t.Errorf("Terminate() = %v, want nil", err)
		}
		wantSlaveError(t, <-ready, engine.SlaveInvalidState)
		wantSignals(t, f, "terminated at 1s")
	})
}

// A handshake that comes when the slave is asked to end comes too late.
func TestHandshakeTooLate(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		f := spawnFake(t, engine.SlaveConfig{Dialect: d})
		go func() { _ = f.Terminate(t.Context(), 1, "bye") }()
		wantState(t, f, engine.Terminating)
		w := f.connect()
		if err := w.send(handshake(f.UUID())); err != nil {
			t.Fatal(err)
		}
		w.wantEnd(t)
		wantState(t, f, engine.Terminating)
		if n := f.Stats().Strangers; n != 1 {
			t.Errorf("Stats().Strangers = %d, want 1", n)
		}
	})
}

// A context that ends before the worker does ends it by force.
func TestTerminateContext(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		f := spawnFake(t, engine.SlaveConfig{Dialect: d})
		f.worker()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantSlaveError(t, f.Terminate(ctx, 1, "bye"), engine.SlaveKilled)
		wantSignals(t, f, "killed at 1s")
	})
}

func TestKill(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		for _, ready := range []bool{false, true} {
			f := spawnFake(t, engine.SlaveConfig{Dialect: d})
			if ready {
				f.worker()
			}
			f.Kill()
			f.Kill()
			wantSlaveError(t, wantGone(t, f), engine.SlaveKilled)
			wantSignals(t, f, "killed at 0s")
			f.Kill()
		}
	})
}
