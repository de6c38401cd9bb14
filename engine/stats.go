package engine

import (
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/session"
)

// SlaveStats is a snapshot of what a slave has done.
type SlaveStats struct {
	State     State
	PID       int
	Uptime    time.Duration // since the process was started
	Status    string        // how the process ended, e.g. "exit status 0"; empty before the slave is gone
	Load      int           // sessions that are open or being opened
	Invoked   uint64        // sessions that were opened
	Strangers uint64        // connections that were closed: too many, or without the right handshake
	Sessions  session.Stats // of the worker's channel; zero before its handshake
	Channel   channel.Stats
}

// halves counts the directions that have not ended: to the worker, and from it.
func (s *Slave) halves() (to, from int) {
	if k := s.link.Load(); k != nil {
		st := k.table.Stats()
		return st.Sending, st.Receiving
	}
	return 0, 0
}

// Stats returns a snapshot. It waits for the channel's loop; any goroutine but that.
func (s *Slave) Stats() SlaveStats {
	st := SlaveStats{
		State: s.State(), PID: s.PID(), Uptime: time.Since(s.began),
		Load: int(s.load.Load()), Invoked: s.invoked.Load(), Strangers: s.lobby.refused(),
	}
	select {
	case <-s.done:
		st.Status, st.Load = s.status, 0 // what was open was cut
	default:
	}
	if k := s.link.Load(); k != nil {
		st.Sessions, st.Channel = k.table.Stats(), k.ch.Stats()
	}
	return st
}
