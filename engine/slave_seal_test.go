package engine_test

import (
	"syscall"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
)

// A sealed slave takes no more, finishes what it has, and then ends in order.
func TestSeal(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		code := map[codec.Dialect]int64{codec.V0: 1, codec.V1: 14}[d]
		for _, busy := range []bool{false, true} {
			f := spawnFake(t, engine.SlaveConfig{Dialect: d})
			w := f.worker()
			end := make(chan error, 1)
			if busy {
				call := f.invoke()
				w.want(t, codec.Frame{Kind: codec.KindInvoke, Session: call.ID(), Text: "event"})
				go func() { end <- f.Seal(t.Context()) }()
				wantState(t, f, engine.Sealing)
				if _, err := f.Invoke(t.Context(), "event", nil); !notSent(err) {
					t.Errorf("Invoke() = %v, want an error of what was not sent", err)
				}
				if err := call.Close(); err != nil {
					t.Fatal(err)
				}
				w.want(t, codec.Frame{Kind: codec.KindChoke, Session: call.ID()})
				wantState(t, f, engine.Sealing)
				if err := w.send(codec.Frame{Kind: codec.KindChoke, Session: call.ID()}); err != nil {
					t.Fatal(err)
				}
			} else {
				go func() { end <- f.Seal(t.Context()) }()
			}
			w.want(t, terminate(code, "slave is sealing"))
			if err := w.send(terminate(code, "slave is sealing")); err != nil {
				t.Fatal(err)
			}
			f.proc.Exit("exit status 0", true)
			if err := <-end; err != nil {
				t.Errorf("Seal() = %v, want nil", err)
			}
			if load := f.Stats().Load; load != 0 {
				t.Errorf("Stats().Load = %d, want 0", load)
			}
		}
	})
}

func TestSealTimeout(t *testing.T) {
	bubbles(t, func(t *testing.T, d codec.Dialect) {
		f := spawnFake(t, engine.SlaveConfig{Dialect: d, HeartbeatTimeout: -1})
		f.proc.OnSignal = func(syscall.Signal) { f.proc.Exit("signal: terminated", true) }
		f.worker()
		f.invoke()
		wantSlaveError(t, f.Seal(t.Context()), engine.SlaveSealTimeout)
		wantSignals(t, f, map[codec.Dialect]string{codec.V0: "terminated at 1m5s", codec.V1: "terminated at 1m10s"}[d])
	})
}
