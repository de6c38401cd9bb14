package worker_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/worker"
)

// An end that is asked for before there is a connection is not lost: Run ends at once,
// without an error.
func TestEndBeforeRun(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, f := range map[string]func(w *worker.Worker) (ctx context.Context){
		"terminate": func(w *worker.Worker) context.Context { w.Terminate(false, "no"); return t.Context() },
		"close":     func(w *worker.Worker) context.Context { w.Close(); w.Close(); return t.Context() },
		"context":   func(w *worker.Worker) context.Context { return ended },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told := false
				observer := worker.Observer{OnError: func(error) { told = true }}
				a, b := channel.Pair(channel.Script{})
				for _, cfg := range []worker.Config{{Conn: a}, {Endpoint: "/no/such"}} {
					cfg.UUID, cfg.Observer = uuid, observer
					w, err := worker.New(cfg)
					if err != nil {
						t.Fatal(err)
					}
					if err := w.Run(f(w)); err != nil || told {
						t.Errorf("Run() = %v, told %v, want nil", err, told)
					}
					if s := w.State(); s != worker.Closed {
						t.Errorf("State() = %v, want closed", s)
					}
				}
				if n, err := b.Read(make([]byte, 1)); n != 0 || err == nil {
					t.Errorf("the engine read %d bytes, %v: want the connection closed", n, err)
				}
				_ = b.Close()
			})
		})
	}
}

// An end that was asked for from a callback of the worker itself.
func TestEndFromCallback(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		var w *worker.Worker
		cfg := worker.Config{Observer: worker.Observer{OnConnect: func() { w.Terminate(false, "changed my mind") }}}
		l := connect(t, d, options{cfg: cfg}, func(made *worker.Worker) { w = made })
		l.play("< terminate 1 \"changed my mind\"\n > terminate 1 ok")
		l.wantResult(nil)

		cfg = worker.Config{Observer: worker.Observer{OnConnect: func() { w.Close() }}}
		l = connect(t, d, options{cfg: cfg, raw: true}, func(made *worker.Worker) { w = made })
		l.wantResult(nil)
	})
}
