package worker

import (
	"sync/atomic"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/session"
)

// Stats is a snapshot of a worker's counters.
type Stats struct {
	State      State
	Invoked    uint64 // sessions that the engine opened
	Refused    uint64 // those that came while the worker was ending
	NoHandler  uint64 // those that nobody handles
	Running    int    // handlers in goroutines now, also those whose session is over
	Waiting    int    // sessions that wait for one of Config.Concurrency
	Panics     uint64
	Blocked    uint64 // times that handlers blocked the loop for Config.Watchdog without a break
	Heartbeats uint64 // of ours; Channel.HeartbeatsMerged of them were not needed
	Sessions   session.Stats
	Channel    channel.Stats
}

// counts are owned by the loop but for the atomic ones.
type counts struct {
	invoked, refused, noHandler, heartbeats uint64
	panics, blocked                         atomic.Uint64
	running                                 atomic.Int64
}

// Stats returns a snapshot. Any goroutine but the loop; after the end it is the last one.
func (w *Worker) Stats() Stats {
	s := Stats{State: w.State()}
	c := &w.counts
	read := func() {
		s.Invoked, s.Refused, s.NoHandler, s.Heartbeats = c.invoked, c.refused, c.noHandler, c.heartbeats
		s.Waiting = len(w.waiting)
	}
	done := make(chan struct{})
	posted := w.ch.Post(func() {
		defer close(done)
		read()
	})
	if posted {
		select {
		case <-done:
		case <-w.ch.Done():
		}
	}
	if w.ch.State() == channel.Closed {
		<-w.ch.Done() // the loop has left them
		read()
	}
	s.Running = int(c.running.Load())
	s.Panics, s.Blocked = c.panics.Load(), c.blocked.Load()
	s.Sessions, s.Channel = w.t.Stats(), w.ch.Stats()
	return s
}
