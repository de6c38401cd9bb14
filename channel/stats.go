package channel

import "sync/atomic"

// Stats is a snapshot of what a channel has done.
type Stats struct {
	State                 State
	FramesIn, FramesOut   uint64
	BytesIn, BytesOut     uint64
	Writes                uint64 // calls of the transport's write; FramesOut/Writes is the batching
	Pauses                uint64 // times reading was paused
	HeartbeatsMerged      uint64 // heartbeats not sent because one was still waiting
	Waits                 uint64 // sends of other goroutines that waited for room
	QueuedBytes           int64  // accepted and not taken by the transport
	UrgentBytes           int64  // of urgent frames, which QueuedBytes does not have: likewise, at most 1 MiB and one frame
	PausedNow, BlockedNow bool
}

// counters are owned by the loop and copied out at the end of each turn.
type counters struct {
	framesIn, framesOut uint64
	bytesOut            uint64
	writes              uint64
	pauses              uint64
	merged              uint64

	shared [9]atomic.Uint64
}

// publish makes the counters visible to Stats; only what changed is written.
func (c *Channel) publish() {
	s := &c.stats
	var flags uint64
	if c.in.paused {
		flags |= 1
	}
	if c.o.blocked || c.o.inFlight {
		flags |= 2
	}
	for i, v := range [...]uint64{s.framesIn, s.framesOut, c.in.bytes, s.bytesOut, s.writes, s.pauses, s.merged, flags, uint64(c.o.urgentHeld())} {
		if s.shared[i].Load() != v {
			s.shared[i].Store(v)
		}
	}
}

// Stats returns a snapshot, as of the end of the channel's last turn. Any goroutine.
func (c *Channel) Stats() Stats {
	v := &c.stats.shared
	return Stats{
		State:    c.State(),
		FramesIn: v[0].Load(), FramesOut: v[1].Load(),
		BytesIn: v[2].Load(), BytesOut: v[3].Load(),
		Writes: v[4].Load(), Pauses: v[5].Load(), HeartbeatsMerged: v[6].Load(),
		Waits: c.o.waits.Load(), QueuedBytes: c.o.queued.Load(), UrgentBytes: int64(v[8].Load()),
		PausedNow: v[7].Load()&1 != 0, BlockedNow: v[7].Load()&2 != 0,
	}
}
