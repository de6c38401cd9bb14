package engine_test

import (
	"errors"
	"io"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
)

// A worker that wants to end is let go, with the time to do it.
func TestWorkerTerminates(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		f := spawnFake(t, engine.SlaveConfig{Dialect: d})
		w := f.worker()
		if err := w.send(terminate(2, "broken"), terminate(1, "again")); err != nil {
			t.Fatal(err)
		}
		w.wantEnd(t)
		time.Sleep(4 * time.Second)
		f.proc.Exit("exit status 3", true)
		se := wantSlaveError(t, wantGone(t, f), engine.SlaveSuicide)
		if se.WorkerCode != 2 || se.Reason != "broken" || se.Status != "exit status 3" {
			t.Errorf("Err() = %+v, want the worker's code and reason", se)
		}
		wantSignals(t, f)
	})
}

// A worker that closes its channel has two seconds to end, then it is made to.
func TestWorkerHangsUp(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		for _, exits := range []bool{true, false} {
			f := spawnFake(t, engine.SlaveConfig{Dialect: d})
			w := f.worker()
			call := f.invoke()
			if err := w.send(codec.Frame{Kind: codec.KindChunk, Session: call.ID(), Payload: []byte("last words")}); err != nil {
				t.Fatal(err)
			}
			_ = w.Close()
			if p, err := call.Recv(t.Context()); string(p) != "last words" || err != nil {
				t.Errorf("Recv() = %q, %v, want what was sent before", p, err)
			}
			if _, err := call.Recv(t.Context()); err == nil || err == io.EOF {
				t.Errorf("Recv() = %v, want the channel's error", err)
			}
			wantState(t, f, engine.Terminating)
			if exits {
				f.proc.Exit("signal: killed", true)
				wantSlaveError(t, wantGone(t, f), engine.SlaveExited)
				wantSignals(t, f)
				continue
			}
			wantSlaveError(t, wantGone(t, f), engine.SlaveControlIPC)
			wantSignals(t, f, "terminated at 2s", "killed at 4s")
		}
	})
}

// A worker that breaks the protocol is ended, and the error says what it did.
func TestWorkerBreaksProtocol(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		f := spawnFake(t, engine.SlaveConfig{Dialect: d})
		f.proc.OnSignal = func(syscall.Signal) { f.proc.Exit("signal: terminated", true) }
		w := f.worker()
		if _, err := w.Write([]byte{0xc1}); err != nil {
			t.Fatal(err)
		}
		se := wantSlaveError(t, wantGone(t, f), engine.SlaveControlIPC)
		var ce *channel.CloseError
		if !errors.As(se, &ce) || ce.Code != channel.CodeBadFrame {
			t.Errorf("Err() = %v, want the channel's error in it", se)
		}
		wantSignals(t, f, "terminated at 0s")
	})
}

// The process ends while it serves: its sessions do too.
func TestProcessExits(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		f := spawnFake(t, engine.SlaveConfig{Dialect: d})
		w := f.worker()
		call := f.invoke()
		f.proc.Exit("signal: segmentation fault", false) // whose output a child still has
		synctest.Wait()
		_ = w.Close() // as the kernel does
		if _, err := call.Recv(t.Context()); err == nil {
			t.Error("Recv() = nil, want the channel's error")
		}
		se := wantSlaveError(t, wantGone(t, f), engine.SlaveExited)
		if se.Status != "signal: segmentation fault" {
			t.Errorf("Status = %q, want that of the process", se.Status)
		}
	})
}

// What a worker sent before it died is read, even if it comes after the news of its end.
func TestLastWords(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		f := spawnFake(t, engine.SlaveConfig{Dialect: d})
		ours, theirs := channel.Pair(channel.Script{BtoA: channel.Path{Latency: 2 * time.Second}})
		f.Admit(ours)
		w := newRaw(theirs, d)
		if err := w.send(handshake(f.UUID()), heartbeat); err != nil {
			t.Fatal(err)
		}
		call := f.invoke()
		if err := w.send(codec.Frame{Kind: codec.KindChunk, Session: call.ID(), Payload: []byte("last words")}); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		f.proc.Exit("exit status 1", true)
		if p, err := call.Recv(t.Context()); string(p) != "last words" || err != nil {
			t.Errorf("Recv() = %q, %v, want what was sent before", p, err)
		}
		wantSlaveError(t, wantGone(t, f), engine.SlaveExited)
	})
}

// A leader that ends at SIGTERM leaves the rest of its group the time to end too.
func TestGroupHasTime(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		for rest, want := range map[time.Duration]time.Duration{
			time.Second: time.Second, time.Hour: 2 * time.Second,
		} {
			f := spawnFake(t, engine.SlaveConfig{Dialect: d})
			f.proc.OnSignal = func(syscall.Signal) {
				f.proc.Exit("signal: terminated", false)
				time.AfterFunc(rest, func() { f.proc.Exit("", true) })
			}
			begin := time.Now()
			_ = f.Terminate(t.Context(), 1, "bye")
			if got := time.Since(begin); got != want {
				t.Errorf("gone after %v, want %v", got, want)
			}
			time.Sleep(time.Hour) // for the timer
		}
	})
}
