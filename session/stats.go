package session

import (
	"sync/atomic"

	"github.com/sluice-rpc/sluice/internal/invariants"
)

// Stats is a snapshot of a table's counters.
type Stats struct {
	Open       int    // sessions now
	Sending    int    // of these, those in which our direction has not ended
	Receiving  int    // likewise, the peer's
	Opened     uint64 // by either side
	Completed  uint64 // both directions ended without an error of the peer or a cut here
	Cancelled  uint64 // the peer sent an error
	Failed     uint64 // we failed the session because of what the peer did
	Refused    uint64 // invokes that were answered with an error at once
	Parked     uint64 // times that reading stopped for a full inbox
	Heartbeats uint64 // received
	Shortages  uint64 // times that a send waited, or was refused, for want of credit
	Grants     uint64 // frames that gave the peer credit

	// What of ours found no room, see Overflow. How often a goroutine waited for room in the
	// output is in channel.Stats, as Waits.
	Refusals      uint64 // sends that were given channel.ErrFull, those of Forward included
	DroppedNewest uint64 // chunks that were dropped at once
	DroppedOldest uint64 // chunks that were dropped after they had waited
	Overruns      uint64 // sessions that were cut for one

	// Chunks that went compressed, see Extensions.
	Compressed   uint64 // sent
	Saved        uint64 // bytes that were not sent for it
	Decompressed uint64 // received

	// Dropped frames, by reason.
	Late     uint64 // their session is over
	Repeated uint64 // their direction had ended
	Unknown  uint64 // no such session ever was, or no message of the protocol
}

// counter is written on the loop and read anywhere.
type counter struct{ n atomic.Uint64 }

func (c *counter) inc() { c.n.Store(c.n.Load() + 1) }

// gauge likewise goes up and down.
type gauge struct{ n atomic.Int64 }

func (g *gauge) add(by int64) {
	n := g.n.Load() + by
	invariants.Check(n >= 0, "more directions have ended than were open")
	g.n.Store(n)
}

// counters are what Stats is a snapshot of.
type counters struct {
	open                                                  atomic.Int64
	sending, receiving                                    gauge
	opened, completed, cancelled, failed, refused, parked counter
	heartbeats, late, repeated, unknown, grants           counter
	decompressed                                          counter
	shortages, droppedNewest, droppedOldest, overruns     atomic.Uint64
	refusals                                              atomic.Uint64
	compressed, saved                                     atomic.Uint64
}

// Stats returns a snapshot. Any goroutine, at any time.
func (t *Table) Stats() Stats {
	c := &t.counts
	return Stats{
		Open: int(c.open.Load()), Sending: int(c.sending.n.Load()), Receiving: int(c.receiving.n.Load()),
		Opened: c.opened.n.Load(), Completed: c.completed.n.Load(),
		Cancelled: c.cancelled.n.Load(), Failed: c.failed.n.Load(), Refused: c.refused.n.Load(),
		Parked: c.parked.n.Load(), Heartbeats: c.heartbeats.n.Load(),
		Shortages: c.shortages.Load(), Grants: c.grants.n.Load(),
		Refusals: c.refusals.Load(), DroppedNewest: c.droppedNewest.Load(), DroppedOldest: c.droppedOldest.Load(), Overruns: c.overruns.Load(),
		Compressed: c.compressed.Load(), Saved: c.saved.Load(), Decompressed: c.decompressed.n.Load(),
		Late: c.late.n.Load(), Repeated: c.repeated.n.Load(), Unknown: c.unknown.n.Load(),
	}
}
