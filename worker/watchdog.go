package worker

import (
	"math"
	"sync/atomic"
	"time"
)

// watchdog names handlers that block the loop. A goroutine of its own asks the loop for a
// sign of life a few times in Config.Watchdog; the loop only stores whose handler runs,
// when that is another one than before.
type watchdog struct {
	running *loopEvent                // whose handler ran last; owned by the loop
	named   atomic.Pointer[loopEvent] // the same
}

func (d *watchdog) enter(e *loopEvent) {
	if d.running != e {
		d.running = e
		d.named.Store(e)
	}
}

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
	alive := make(chan struct{}, 1)
	asked, missed := false, 0
	for {
		select {
		case <-done:
			return
		case <-alive:
			asked = false
			continue
		case <-tick.C:
		}
		if !asked {
			missed = 0
			asked = w.ch.Post(func() { alive <- struct{}{} })
			continue
		}
		if missed++; missed != looksPerWatchdog {
			continue
		}
		if e := d.named.Load(); e != nil {
			w.counts.blocked.Add(1)
			w.log.Error("worker: a handler blocks the loop; heartbeats wait for it", "event", e.name)
		}
	}
}
