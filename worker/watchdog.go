package worker

import (
	"math"
	"sync/atomic"
	"time"
)

// watchdog names handlers that block the loop. The loop only stores what it runs; a
// goroutine of its own looks at it a few times in Config.Watchdog.
type watchdog struct {
	current atomic.Pointer[Session] // whose handler runs; nil between handlers
	turn    atomic.Uint64
}

func (d *watchdog) enter(s *Session) {
	d.current.Store(s)
	d.turn.Add(1)
}

func (d *watchdog) leave() { d.current.Store(nil) }

// start begins to look, if any handler runs on the loop. The returned function ends it.
func (d *watchdog) start(w *Worker) (stop func()) {
	if len(w.mux.loop) == 0 || w.cfg.Watchdog == math.MaxInt64 {
		return func() {}
	}
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		d.look(w, done)
	}()
	return func() {
		close(done)
		<-gone
	}
}

const looksPerWatchdog = 4

func (d *watchdog) look(w *Worker, done chan struct{}) {
	tick := time.NewTicker(max(w.cfg.Watchdog/looksPerWatchdog, time.Millisecond))
	defer tick.Stop()
	var last uint64
	same := 0
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		s, turn := d.current.Load(), d.turn.Load()
		if s == nil || turn != last {
			last, same = turn, 0
			continue
		}
		if same++; same == looksPerWatchdog {
			w.counts.blocked.Add(1)
			w.log.Error("worker: a handler blocks the loop; heartbeats wait for it", "event", s.Event())
		}
	}
}
