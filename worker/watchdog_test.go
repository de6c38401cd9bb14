package worker_test

import (
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

func TestWatchdog(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		l := connect(t, d, options{mute: true}, func(w *worker.Worker) {
			w.HandleFunc("block", func(*worker.Session) session.Handler { time.Sleep(10 * time.Second); return nil })
		})
		l.play("< heartbeat\n > heartbeat\n sleep 1s\n > invoke 1 block")
		time.Sleep(1300 * time.Millisecond)
		l.wantLog("level=ERROR", "blocks the loop", "event=block")
		l.play("sleep 8s\n < nothing") // the beat at 5 s waits
		time.Sleep(2 * time.Second)
		l.play("< heartbeat")
		if got := l.w.Stats().Blocked; got != 1 {
			t.Errorf("Stats().Blocked = %d, want 1", got)
		}
	})
}
