package engine_test

import (
	"testing"
	"testing/synctest"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
)

// A worker that has died is not taken for one that ended as it was asked to, however soon
// it was asked: who has lost a session to it wants to know why.
func TestTerminateOfTheDead(t *testing.T) {
	for range 100 { // what comes first is a matter of luck
		bubbles(t, func(t *testing.T, d codec.Dialect) {
			f := spawnFake(t, engine.SlaveConfig{Dialect: d})
			w := f.worker()
			call := f.invoke()
			w.want(t, codec.Frame{Kind: codec.KindInvoke, Session: call.ID(), Text: "event"})
			ended := make(chan error, 1)
			go func() {
				_, _ = call.Recv(t.Context()) // the session is lost
				ended <- f.Terminate(t.Context(), 1, "bye")
			}()
			_ = w.Close()
			synctest.Wait()
			f.proc.Exit("exit status 5", true)
			wantSlaveError(t, <-ended, engine.SlaveExited)
		})
	}
}
